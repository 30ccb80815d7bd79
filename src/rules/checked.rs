//! The tree after checking: every name is resolved, every value read, and all of it can be meant.
//! Only `check` makes one; the program, the listing and the warnings are made of it.

use super::datatype::Datatype;
use super::field::{Family, Field};
use super::lexer::Span;
use super::limit::Limit;
use super::lookup::{Interval, Lookup, Row};
use super::{CounterId, HelperId, HelperObject, Log};

/// All tables of a file, in its order.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) tables: Vec<Table>,
    /// Of all tables; jumps name them by number.
    pub(super) chains: Vec<Chain>,
    /// Named and anonymous, of all tables.
    pub(super) sets: Vec<Set>,
    pub(super) helpers: Vec<HelperObject>,
    pub(super) counters: Vec<CounterStart>,
    pub(super) limits: Vec<LimitStart>,
    pub(super) logs: Vec<Log>,
}

/// A table's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFamily {
    /// Sees every frame.
    Bridge,
    /// IPv4 and IPv6.
    Inet,
    Ip,
    Ip6,
}

impl TableFamily {
    pub(super) fn name(self) -> &'static str {
        match self {
            TableFamily::Bridge => "bridge",
            TableFamily::Inet => "inet",
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
        }
    }

    /// What `ct helper` objects of such a table are for if they do not say.
    pub(super) fn l3proto(self) -> &'static str {
        match self {
            TableFamily::Bridge | TableFamily::Inet => "inet",
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
        }
    }

    /// The families of the packets that it sees.
    pub(super) fn sees(self, packet: Option<Family>) -> bool {
        match self {
            TableFamily::Bridge => true,
            TableFamily::Inet => packet.is_some(),
            TableFamily::Ip => packet == Some(Family::V4),
            TableFamily::Ip6 => packet == Some(Family::V6),
        }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) span: Span,
    pub(super) family: TableFamily,
    pub(super) name: String,
    pub(super) helpers: Vec<HelperRef>,
    pub(super) counters: Vec<(String, CounterId)>,
    /// Named ones, as numbers in [`Checked::sets`].
    pub(super) sets: Vec<usize>,
    /// As numbers in [`Checked::chains`].
    pub(super) chains: Vec<usize>,
}

/// A `ct helper` object of a table.
#[derive(Clone, Debug)]
pub(super) struct HelperRef {
    pub(super) name: String,
    pub(super) id: HelperId,
    pub(super) family: Option<Family>,
    pub(super) comment: Option<String>,
    pub(super) span: Span,
}

/// A counter as it begins.
#[derive(Debug)]
pub(super) struct CounterStart {
    /// The rule's number; none for a named counter.
    pub(super) rule: Option<usize>,
    pub(super) name: Option<String>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) span: Span,
}

/// A `limit` statement, and how it was written.
#[derive(Debug)]
pub(super) struct LimitStart {
    pub(super) limit: Limit,
    pub(super) text: String,
}

/// A set or a map.
#[derive(Debug)]
pub(super) struct Set {
    /// None for an anonymous one.
    pub(super) name: Option<String>,
    pub(super) types: Vec<Datatype>,
    /// What `typeof` named them by.
    pub(super) fields: Option<Vec<Field>>,
    pub(super) interval: bool,
    pub(super) auto_merge: bool,
    pub(super) rows: Vec<Row>,
    /// A map's verdicts, which the rows' values number.
    pub(super) verdicts: Option<Vec<Verdict>>,
    pub(super) lookup: Lookup,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// What a base chain hangs on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    pub(super) priority: i32,
    /// The policy.
    pub(super) accept: bool,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// Its number among the rules of all tables.
    pub(super) number: usize,
    pub(super) span: Span,
    pub(super) statements: Vec<Statement>,
    pub(super) comment: Option<String>,
}

#[derive(Debug)]
pub(super) enum Statement {
    Match {
        fields: Vec<Field>,
        test: Test,
        span: Span,
        /// It was not written: another statement needs it.
        implied: bool,
    },
    /// The verdict that a map of verdicts has for these fields, if it has one.
    Vmap {
        fields: Vec<Field>,
        set: usize,
    },
    Count {
        id: CounterId,
        name: Option<String>,
    },
    Limit(usize),
    Log(usize),
    /// Takes effect for TCP, and for one family only if it names one.
    SetHelper {
        id: HelperId,
        name: String,
        family: Option<Family>,
    },
    Verdict(Verdict),
}

/// What a match asks of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// One value or range.
    Range {
        interval: Interval,
        negated: bool,
    },
    Set {
        set: usize,
        negated: bool,
    },
    /// Of the bits of `mask` just those of `value` are set.
    Bits {
        mask: u128,
        value: u128,
        negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    /// To a chain, by its number.
    Jump(usize),
    Goto(usize),
    Reject(RejectWith),
}

impl Verdict {
    /// Whether the rules behind it are not looked at.
    pub(super) fn ends_chain(self) -> bool {
        !matches!(self, Verdict::Continue | Verdict::Jump(_))
    }
}

/// How a `reject` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectWith {
    TcpReset,
    Icmp(u8),
    Icmpv6(u8),
    /// An ICMP code that is translated for the packet's family.
    Icmpx(u8),
}

impl Test {
    pub(super) fn negated(self) -> bool {
        match self {
            Test::Range { negated, .. }
            | Test::Set { negated, .. }
            | Test::Bits { negated, .. } => negated,
        }
    }
}
