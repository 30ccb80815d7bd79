//! The tree of a rule file, as it was written: names not yet resolved, values not yet read.

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

/// A single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom<'t> {
    pub(super) kind: AtomKind,
    pub(super) text: &'t str,
    pub(super) span: Span,
}

/// A value, or a range `low-high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'t> {
    pub(super) low: Atom<'t>,
    pub(super) high: Option<Atom<'t>>,
}

impl Element<'_> {
    pub(super) fn span(&self) -> Span {
        self.low.span.to(self.high.unwrap_or(self.low).span)
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

/// What stands to the right of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expr<'t> {
    pub(super) shape: Shape,
    pub(super) elements: Vec<Element<'t>>,
    pub(super) span: Span,
}

/// Which end of a packet's way a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Protocols whose headers begin with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    Tcp,
    Udp,
    /// `th`: whichever of the two the packet has.
    Any,
}

/// What a match looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    IifName,
    OifName,
    EtherType,
    EtherAddr(End),
    IpAddr(End),
    IpProtocol,
    Ip6Addr(End),
    Ip6NextHeader,
    Ip6HopLimit,
    L4Proto,
    Port(Ports, End),
    IcmpType,
    Icmpv6Type,
    CtState,
}

impl Field {
    /// As nft spells it.
    pub(super) fn name(self) -> &'static str {
        use End::{Destination, Source};
        match self {
            Field::IifName => "iifname",
            Field::OifName => "oifname",
            Field::EtherType => "ether type",
            Field::EtherAddr(Source) => "ether saddr",
            Field::EtherAddr(Destination) => "ether daddr",
            Field::IpAddr(Source) => "ip saddr",
            Field::IpAddr(Destination) => "ip daddr",
            Field::IpProtocol => "ip protocol",
            Field::Ip6Addr(Source) => "ip6 saddr",
            Field::Ip6Addr(Destination) => "ip6 daddr",
            Field::Ip6NextHeader => "ip6 nexthdr",
            Field::Ip6HopLimit => "ip6 hoplimit",
            Field::L4Proto => "meta l4proto",
            Field::Port(Ports::Tcp, Source) => "tcp sport",
            Field::Port(Ports::Tcp, Destination) => "tcp dport",
            Field::Port(Ports::Udp, Source) => "udp sport",
            Field::Port(Ports::Udp, Destination) => "udp dport",
            Field::Port(Ports::Any, Source) => "th sport",
            Field::Port(Ports::Any, Destination) => "th dport",
            Field::IcmpType => "icmp type",
            Field::Icmpv6Type => "icmpv6 type",
            Field::CtState => "ct state",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement<'t> {
    Match {
        field: Field,
        negated: bool,
        value: Expr<'t>,
        span: Span,
    },
    /// With the numbers to begin with, which `nft list` prints.
    Counter {
        packets: u64,
        bytes: u64,
    },
    SetHelper(Atom<'t>),
    Verdict {
        accept: bool,
    },
    Comment,
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
}
