//! Which flow a packet belongs to, and whether it is valid there.
//!
//! * [`Tuple`] and [`FlowKey`]: who speaks to whom; one key for both directions.
//! * [`Flow`]: one tracked flow and its timeouts; [`Tcp`]: the tracker of a TCP connection.
//! * [`Table`]: all flows; [`Expectations`]: connections that a helper announced; [`Ranges`]:
//!   ports that are open while it can read no announcements.
//! * [`FragmentStore`]: fragments that wait for the rest of their datagram.
//!
//! Nothing here knows rules, helpers or I/O, and nothing reads a clock.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod expectation;
mod flow;
mod fragment;
pub mod icmp;
mod range;
mod settings;
mod table;
mod tcp;
mod time;
mod tuple;

pub use expectation::{
    Announcement, Claim, EXPECTATION_LIFETIME, ExpectError, Expectations, ExpectedTuple,
    MAX_ATTEMPTS, MAX_EXPECTATIONS, MAX_PER_CLIENT, Meeting,
};
pub use flow::{CachedVerdict, Flow, Link, STATE_CHANGING_FLAGS, TcpStep, Tracked, has_tcp_flags};
pub use fragment::{FragmentStore, Fragmented};
pub use range::{FIRST_DATA_PORT, Missed, Pair, Ranges};
pub use settings::Settings;
pub use table::{HeldFlow, InsertError, Removed, Table};
pub use tcp::{Judgement, Tcp, TcpState, after, before};
pub use time::Time;
pub use tuple::{FlowKey, ICMP_ANSWER, Tuple};

/// The state of a packet as rules see it (nft(8), "ct state").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum CtState {
    /// It belongs to no flow, or does not fit the one it names.
    Invalid,
    /// It begins a flow.
    New,
    /// Its flow was seen in both directions.
    Established,
    /// It begins a flow that another flow announced, or is an ICMP error about one.
    Related,
    /// It is not tracked (everything but IP; neighbour discovery).
    Untracked,
}

/// Which way a packet goes within its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the packet that began the flow.
    Original,
    /// Against it.
    Reply,
}

impl Direction {
    /// The opposite one.
    #[must_use]
    pub fn other(self) -> Direction {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }
}
