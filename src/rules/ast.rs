//! The tree of a rule file, as it was written: names not yet resolved, values not yet read.

use super::field::Field;
use super::lexer::Span;

/// A piece of text that stands for something, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'t> {
    pub(super) text: &'t str,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtomKind {
    Plain,
    /// Between quotes; the text is without them.
    Quoted,
    /// `$name`; the text is without the sign.
    Variable,
}

/// A single value; of bit masks also several with `|` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom<'t> {
    pub(super) kind: AtomKind,
    pub(super) text: &'t str,
    pub(super) span: Span,
}

/// A value, or a range `low-high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'t> {
    pub(super) low: Atom<'t>,
    pub(super) high: Option<Atom<'t>>,
}

impl Part<'_> {
    pub(super) fn span(&self) -> Span {
        self.low.span.to(self.high.unwrap_or(self.low).span)
    }
}

/// `a`, or a concatenation `a . b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element<'t> {
    pub(super) first: Part<'t>,
    pub(super) rest: Vec<Part<'t>>,
}

impl Element<'_> {
    pub(super) fn span(&self) -> Span {
        let last = self.rest.last().unwrap_or(&self.first);
        self.first.span().to(last.span())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value or range.
    Single,
    /// `a,b` without braces: only bit masks such as `ct state` take it.
    List,
    /// `{ a, b }`
    Set,
}

/// Values to the right of a match, of a definition, or in a named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expr<'t> {
    pub(super) shape: Shape,
    pub(super) elements: Vec<Element<'t>>,
    pub(super) span: Span,
}

/// What stands to the right of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Right<'t> {
    Values(Expr<'t>),
    /// `@name`
    Set(Name<'t>),
}

/// What stands between both sides of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Nothing: equal, or for bit masks any of the bits.
    Implied,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The left side of a match: a field, or a concatenation of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) fields: Vec<Field>,
    pub(super) span: Span,
}

/// One of the answers of `reject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With<'t> {
    /// Without `with`.
    Default,
    TcpReset(Span),
    /// `icmp type NAME`, `icmpv6 type NAME`, `icmpx type NAME`
    Icmp {
        family: Name<'t>,
        kind: Name<'t>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'t> {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(Name<'t>),
    Goto(Name<'t>),
    Reject(With<'t>),
}

/// `{ key : verdict, ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mappings<'t> {
    pub(super) entries: Vec<(Element<'t>, Verdict<'t>)>,
    pub(super) span: Span,
}

/// `limit rate [over] N/unit [burst N packets]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) over: bool,
    /// Packets, or bytes, in `per_secs`.
    pub(super) rate: u64,
    pub(super) bytes: bool,
    pub(super) per_secs: u64,
    pub(super) burst: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement<'t> {
    Match {
        key: Key,
        /// Only these bits of the field.
        mask: Option<Expr<'t>>,
        relation: Relation,
        right: Right<'t>,
        span: Span,
    },
    /// `KEY vmap { ... }`
    Vmap {
        key: Key,
        mappings: Mappings<'t>,
        span: Span,
    },
    /// `KEY vmap @name`
    VmapNamed {
        key: Key,
        name: Name<'t>,
        span: Span,
    },
    /// With the numbers to begin with, which `nft list` prints.
    Counter {
        packets: u64,
        bytes: u64,
    },
    /// `counter name "..."`
    CounterNamed(Name<'t>),
    Limit(Limit, Span),
    Log {
        prefix: Option<Name<'t>>,
        level: Option<Name<'t>>,
    },
    SetHelper(Atom<'t>),
    Verdict(Verdict<'t>, Span),
    Comment(Name<'t>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule<'t> {
    pub(super) statements: Vec<Statement<'t>>,
    pub(super) span: Span,
}

/// `type filter hook forward priority N;`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook<'t> {
    pub(super) kind: Name<'t>,
    pub(super) hook: Name<'t>,
    /// `filter`, if the priority is counted from it.
    pub(super) base: Option<Name<'t>>,
    pub(super) offset: i32,
    pub(super) span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain<'t> {
    pub(super) name: Name<'t>,
    pub(super) hook: Option<Hook<'t>>,
    /// `accept` or `drop`; nft's default is accept.
    pub(super) policy: Option<(bool, Span)>,
    pub(super) rules: Vec<Rule<'t>>,
    /// Something in the chain could not be read, so that what is missing may stand there.
    pub(super) damaged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Helper<'t> {
    pub(super) name: Name<'t>,
    pub(super) kind: Option<Name<'t>>,
    pub(super) protocol: Option<Name<'t>>,
    pub(super) l3proto: Option<Name<'t>>,
    pub(super) comment: Option<Name<'t>>,
    pub(super) damaged: bool,
}

/// What a named set's elements are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetType<'t> {
    /// `type ipv4_addr . inet_service`
    Names(Vec<Name<'t>>),
    /// `typeof ip saddr . tcp dport`
    Fields(Key),
}

/// What a named set or map holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents<'t> {
    Set(Vec<Expr<'t>>),
    Map(Vec<Mappings<'t>>),
}

/// A `set` or a `map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set<'t> {
    pub(super) name: Name<'t>,
    pub(super) kind: Option<SetType<'t>>,
    pub(super) interval: bool,
    pub(super) auto_merge: bool,
    pub(super) contents: Contents<'t>,
    pub(super) damaged: bool,
}

/// `counter NAME { packets N bytes N }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CounterObject<'t> {
    pub(super) name: Name<'t>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// `define NAME = value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Define<'t> {
    pub(super) name: Name<'t>,
    /// Absent if it could not be read: the name is known all the same.
    pub(super) value: Option<Expr<'t>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TableItem<'t> {
    Define(Define<'t>),
    Helper(Helper<'t>),
    Counter(CounterObject<'t>),
    Set(Set<'t>),
    Chain(Chain<'t>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table<'t> {
    pub(super) family: Name<'t>,
    pub(super) name: Name<'t>,
    pub(super) items: Vec<TableItem<'t>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'t> {
    Define(Define<'t>),
    Table(Table<'t>),
    /// `flush ruleset` and the like: before any table they say what loading does here anyway.
    Flush(Span),
    /// `table inet x` without a block.
    Nothing,
}
