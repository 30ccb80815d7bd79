//! Where lotus is to differ from the kernel, and why. The one list: what is not here is a mistake.
//!
//! Most of it never comes up in drawn sequences ([`Avoid`]). The rest is recognised by the packet,
//! which was made with that defect, together with lotus's reason for dropping it. Each entry has an
//! example, so that a difference that is none any more is noticed.

mod list;

use lotus::conntrack::CtState;
use lotus::observe::DropReason;
use lotus::wire::Side;

use crate::bed::Arrangement;
use crate::lotus_side::Passed;
use crate::rules::{Family, Rules};
pub use list::*;

pub struct Intended {
    pub name: &'static str,
    pub why: &'static str,
    pub kind: Kind,
    pub example: Example,
}

/// What is special about lotus's side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It drops such a packet for this reason, whatever the rules say.
    Drops(DropReason),
    /// Its state is `invalid`, and the kernel's is another one.
    Invalid,
    /// Sequences are drawn so that it does not come up.
    Avoided,
}

/// Rules and packets for which the two differ.
pub struct Example {
    pub arrangement: Arrangement,
    /// In a chain of a bridge table, or of an inet table.
    pub rules: &'static str,
    pub packets: fn() -> Vec<(Side, Vec<u8>)>,
    /// Which packets come out.
    pub lotus: &'static [bool],
    pub kernel: &'static [bool],
}

/// What a sequence must not have, given the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Avoid {
    pub tags: bool,
    pub extensions: bool,
    pub fragments: bool,
}

impl Avoid {
    pub fn of(rules: &Rules, arrangement: Arrangement) -> Avoid {
        let mut avoid = Avoid {
            fragments: arrangement == Arrangement::Bridge,
            ..Avoid::default()
        };
        for table in &rules.tables {
            let chains = table.chains.iter().flat_map(|chain| &chain.rules);
            let text: Vec<_> = chains.map(crate::rules::Rule::text).collect();
            let text = text.join("\n") + &table.objects.join("\n");
            let has = |word: &str| text.contains(word);
            // nft puts `ether type` before these by itself, in bridge tables.
            let hidden = ["icmp ", "icmpv6 ", "arp "].into_iter().any(has);
            avoid.tags |= match table.family {
                Family::Bridge => has("ether type") || hidden,
                _ => has("ether "),
            };
            avoid.extensions |= has("ip6 nexthdr");
        }
        avoid
    }
}

/// The intended difference that explains why a packet came out at one side only.
pub fn excuse(defect: Option<&str>, lotus: &Passed) -> Option<&'static Intended> {
    let intended = LIST.iter().find(|intended| defect == Some(intended.name))?;
    let is_it = match intended.kind {
        Kind::Drops(reason) => lotus.reason == Some(reason),
        Kind::Invalid => lotus.state == Some(CtState::Invalid),
        Kind::Avoided => false,
    };
    is_it.then_some(intended)
}

/// Rules that only one side takes: what its message says, and why.
pub struct IntendedRefusal {
    pub message: &'static str,
    pub why: &'static str,
}

/// What lotus takes and nft 1.0.6 does not is not drawn: `meta l4proto { tcp, icmpv6 } tcp dport 80`
/// (nft calls that a conflict, though TCP is left), `meta l4proto tcp-udp` (nft reads one word), tags
/// behind what they carry, and `ct state` in bridge tables where the kernel tracks nothing there.
///
/// What lotus refuses. The rule stays in the kernel's ruleset, where it must make no difference.
pub const NEVER_MATCHES: IntendedRefusal = IntendedRefusal {
    message: "can never match here",
    why: "a rule that no packet can match is a mistake of who wrote it; nft takes it in silence",
};
