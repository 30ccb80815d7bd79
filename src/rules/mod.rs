//! Rules in nftables syntax: text -> tree -> checked program -> verdict.
//!
//! [`Ruleset::parse`] takes a whole file through the rooms of this module: `lexer` and `parser`
//! make the tree of `ast`, `check` resolves names (`define`), reads values (`values`, `names`),
//! refuses what cannot be meant (`layers`) and writes the `program`. Errors of all of them are
//! collected in [`Diagnostics`]; nothing is ever skipped in silence. [`Ruleset::evaluate`] runs the
//! program over one packet and allocates nothing.
//!
//! # The language
//!
//! A subset of nft(8):
//!
//! ```text
//! define NAME = value                         a value, a range, or { a set }; used as $NAME
//! table bridge|inet NAME {                    bridge sees every frame, inet IPv4 and IPv6
//!   ct helper NAME {
//!     type "ftp" protocol tcp;  [l3proto ip|ip6|inet;]  [comment "lotus:PROFILE";]
//!   }
//!   chain NAME {                              one for each table
//!     type filter hook forward priority N|filter[+|-N]; [policy accept|drop;]
//!     MATCH ... [counter] [ct helper set "NAME"] [accept|drop] [comment "..."]
//!   }
//! }
//!
//! MATCH:  [meta] iifname|oifname    meta l4proto    ct state
//!         ether type|saddr|daddr    ip saddr|daddr|protocol    ip6 saddr|daddr|nexthdr|hoplimit
//!         tcp|udp|th sport|dport    icmp|icmpv6 type
//!         each with [==|!=] and a value, low-high, prefix/length or { set of these }
//! ```
//!
//! A rule ends with its line or with `;`; `\` continues a line, `#` begins a comment. All matches
//! of a rule must hold. Bridge chains run before inet chains, then by priority (`filter` is -200
//! in bridge tables and 0 in inet tables); of equal ones the last of the file runs first. `accept`
//! ends a chain only, `drop` ends all. A match implies the protocol it speaks of, also when it is negated:
//! `tcp dport != 21` matches TCP only.
//!
//! Everything means what it means in the kernel, except:
//!
//! * `ether type` is the type behind all VLAN tags; `ether type vlan` matches any tagged frame.
//! * `ip6 nexthdr` is the protocol behind all extension headers, as `meta l4proto`.
//! * `th` matches TCP and UDP only.
//! * `ct state` and `ct helper` work in bridge tables too.
//! * `$inside` and `$outside` are defined as the names of the two ports; a file that is to load in
//!   `nft` too may define them itself.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod ast;
mod builtin;
mod check;
mod define;
mod diagnostic;
mod intervals;
mod layers;
mod lexer;
mod names;
mod parser;
mod program;
mod unsupported;
mod values;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use builtin::{Builtin, FlagError, FtpServer};
pub use diagnostic::{Diagnostic, Diagnostics};

use crate::conntrack::{CtState, Direction};
use crate::observe::DropReason;
use crate::wire::{Packet, Side};

/// A packet as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The parsed packet.
    pub packet: &'a Packet,
    /// The port at which it came in (`iifname`); it leaves at the other (`oifname`).
    pub side: Side,
    /// Its connection tracking state.
    pub state: CtState,
    /// Its direction within its flow.
    pub direction: Direction,
}

/// What the rules say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None`: accepted. A drop by a rule and one by a chain's policy have different reasons.
    pub drop: Option<DropReason>,
    /// What the sender is told of the drop, if anything. Such an outcome is never cacheable.
    pub reject: Option<Reject>,
    /// The helper object that `ct helper set` named on the way, if any.
    pub helper: Option<HelperId>,
    /// The evaluation looked only at what cannot change within a flow for the same direction and
    /// state, so that the outcome may be kept in the flow.
    pub cacheable: bool,
    /// Rule counters that this packet moved; a cached outcome moves them again with
    /// [`Ruleset::count`].
    pub hits: Hits,
}

/// How a `reject` answers, for the family of the packet at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// A TCP reset; nothing for a packet that is no TCP.
    TcpReset,
    /// "Destination unreachable" of ICMP (type 3) with this code.
    Icmp(u8),
    /// "Destination unreachable" of ICMPv6 (type 1) with this code.
    Icmpv6(u8),
}

/// Up to two rule counters. An evaluation that moves more is not cacheable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits(pub [Option<CounterId>; 2]);

/// A `counter` statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterId(pub std::num::NonZeroU16);

/// A `ct helper` object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperId(pub u8);

/// The names of the two ports, as `iifname` and `oifname` compare them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNames {
    /// Name of the inside interface.
    pub inside: String,
    /// Name of the outside interface.
    pub outside: String,
}

/// A checked, immutable program.
#[derive(Debug)]
pub struct Ruleset {
    program: program::Program,
    helpers: Box<[HelperObject]>,
    counters: Box<[Counter]>,
    summary: String,
}

/// A `ct helper NAME { ... }` object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperObject {
    /// The name that rules use.
    pub name: String,
    /// The settings profile that its comment `"lotus:NAME"` names.
    pub profile: Option<String>,
}

/// What a rule's counter shows at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCounter<'r> {
    /// The line of the file on which the rule begins, from 1.
    pub line: u32,
    /// The rule as it was written, in one line.
    pub rule: &'r str,
    /// Packets.
    pub packets: u64,
    /// Bytes of those packets' frames.
    pub bytes: u64,
}

#[derive(Debug)]
struct Counter {
    line: u32,
    rule: String,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Ruleset {
    /// Parses and checks a whole file; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str, ports: &PortNames) -> Result<Ruleset, Diagnostics> {
        let mut problems = Vec::new();
        let tree = parser::parse(text, &mut problems);
        let checked = check::check(&tree, text, ports, &mut problems);
        if !problems.is_empty() {
            return Err(Diagnostics::new(file, text, problems));
        }
        let counter = |start: check::CounterStart| Counter {
            line: start.line,
            rule: start.rule,
            packets: start.packets.into(),
            bytes: start.bytes.into(),
        };
        Ok(Ruleset {
            summary: summary(&checked.chains),
            program: checked.program,
            helpers: checked.helpers.into(),
            counters: checked.counters.into_iter().map(counter).collect(),
        })
    }

    /// Runs the rules over one packet and moves the counters on its way by one packet of
    /// `bytes`.
    #[must_use]
    pub fn evaluate(&self, query: &Query<'_>, bytes: usize) -> Outcome {
        self.program.run(query, |id| self.count_one(id, bytes))
    }

    /// Moves counters for a packet whose outcome was cached.
    pub fn count(&self, hits: Hits, bytes: usize) {
        for id in hits.0.into_iter().flatten() {
            self.count_one(id, bytes);
        }
    }

    /// The object that an outcome's helper names.
    #[must_use]
    pub fn helper(&self, id: HelperId) -> &HelperObject {
        // An id of an older ruleset may have no object here: it then has no profile either.
        static NONE: HelperObject = HelperObject {
            name: String::new(),
            profile: None,
        };
        self.helpers.get(usize::from(id.0)).unwrap_or(&NONE)
    }

    /// All helper objects; their ids count them from 0.
    #[must_use]
    pub fn helpers(&self) -> &[HelperObject] {
        &self.helpers
    }

    /// One line for a person: tables, number of rules, policies.
    #[must_use]
    pub fn summary(&self) -> String {
        self.summary.clone()
    }

    /// The counters of the rules, in the order of the file.
    pub fn counters(&self) -> impl Iterator<Item = RuleCounter<'_>> + '_ {
        self.counters.iter().map(|counter| RuleCounter {
            line: counter.line,
            rule: &counter.rule,
            packets: counter.packets.load(Relaxed),
            bytes: counter.bytes.load(Relaxed),
        })
    }

    fn count_one(&self, id: CounterId, bytes: usize) {
        if let Some(counter) = self.counters.get(usize::from(id.0.get()) - 1) {
            counter.packets.fetch_add(1, Relaxed);
            counter.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

fn summary(chains: &[check::ChainSummary]) -> String {
    if chains.is_empty() {
        return "no chains: everything passes".to_owned();
    }
    let chain = |chain: &check::ChainSummary| {
        let rules = if chain.rules == 1 { "rule" } else { "rules" };
        let policy = if chain.accept { "accept" } else { "drop" };
        format!(
            "table {}: {} {rules}, policy {policy}",
            chain.table, chain.rules
        )
    };
    chains.iter().map(chain).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
