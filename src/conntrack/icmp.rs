//! What an ICMP message is to connection tracking (RFC 792, RFC 950, RFC 4443, RFC 4861).

use crate::wire::proto;

/// The part that an ICMP or ICMPv6 message plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A query or its answer: a flow of its own, told apart by class and identifier.
    Query,
    /// An answer, which cannot begin a flow.
    Answer,
    /// An error about a packet that it quotes.
    Error,
    /// Neighbour discovery and multicast listener messages: not tracked, as in the kernel.
    Untracked,
    /// Anything else.
    Unknown,
}

/// The part that a type plays.
#[must_use]
pub fn role(protocol: u8, kind: u8) -> Role {
    match (protocol, kind) {
        (proto::ICMP, 8 | 13 | 15 | 17) | (proto::ICMPV6, 128) => Role::Query,
        (proto::ICMP, 0 | 14 | 16 | 18) | (proto::ICMPV6, 129) => Role::Answer,
        (proto::ICMP, 3 | 4 | 5 | 11 | 12) | (proto::ICMPV6, 1..=4) => Role::Error,
        (proto::ICMPV6, 130..=137 | 143) => Role::Untracked,
        _ => Role::Unknown,
    }
}

/// One number for a query and its answer; `None` for every other type.
#[must_use]
pub fn query_class(protocol: u8, kind: u8) -> Option<u16> {
    match (protocol, kind) {
        (proto::ICMP, 8 | 0) => Some(8),
        (proto::ICMP, 13 | 14) => Some(13),
        (proto::ICMP, 15 | 16) => Some(15),
        (proto::ICMP, 17 | 18) => Some(17),
        (proto::ICMPV6, 128 | 129) => Some(128),
        _ => None,
    }
}
