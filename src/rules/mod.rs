//! Rules in nftables syntax: text -> tree -> checked tree -> program -> verdict.
//!
//! [`Source::read`] cuts a file and what it includes into tokens (`lexer`); [`Ruleset::load`] takes
//! them through the rooms of this module: `parser` makes the tree of `ast`; `check` resolves names
//! (`define`), reads values (`field`, `datatype`, `values`, `names`), refuses what cannot be meant
//! (`layers`) and makes the tree of `checked`, of which `program` makes steps with sets (`lookup`)
//! and limits (`limit`), `print` a listing, and `lint` warnings. Errors of all of them are collected
//! in [`Diagnostics`]; nothing is ever skipped in silence. [`Ruleset::evaluate`] runs the program
//! over one packet and allocates nothing.
//!
//! # The language
//!
//! A subset of nft(8):
//!
//! ```text
//! define NAME = value                         a value, a range, or { a set }; used as $NAME
//! include "FILE"                              patterns too; from the directory of the file it is in
//! flush ruleset                               (and flush|delete table) what loading does anyway
//! table bridge|inet|ip|ip6 NAME {             bridge sees every frame, inet IPv4 and IPv6
//!   ct helper NAME {
//!     type "ftp" protocol tcp;  [l3proto ip|ip6|inet;]  [comment "lotus:PROFILE";]
//!   }
//!   counter NAME { [packets N bytes N] }
//!   set NAME { type|typeof KIND [. KIND ...]; [flags interval;] [auto-merge;] elements = { ... } }
//!   map NAME { type|typeof KIND [. KIND ...] : verdict; [...] elements = { KEY : VERDICT, ... } }
//!   chain NAME {
//!     [type filter hook forward priority N|NAME[+|-N]; [policy accept|drop;]]
//!     MATCH ... STATEMENT ... [VERDICT] [comment "..."]
//!   }
//! }
//!
//! MATCH:     FIELD [== | != | < | > | <= | >=] VALUE
//!            FIELD [. FIELD ...] [!=] { VALUE [. VALUE ...], ... } | @SET
//!            tcp flags [&] (FLAG | FLAG) [==|!=] FLAG ...
//! VALUE:     a value, low-high, prefix/length
//! FIELD:     [meta] iif|iifname|oif|oifname    meta l4proto|nfproto|protocol|length
//!            ether type|saddr|daddr    vlan id|pcp|type
//!            arp operation|saddr ip|daddr ip|saddr ether|daddr ether
//!            ip saddr|daddr|protocol|ttl|dscp|length
//!            ip6 saddr|daddr|nexthdr|hoplimit|dscp|length
//!            tcp|udp|sctp|th sport|dport    tcp flags    icmp|icmpv6 type|code
//!            ct state|direction|helper
//! STATEMENT: counter [packets N bytes N | name NAME]    ct helper set "NAME"
//!            limit rate [over] N[ kbytes| mbytes]/second|minute|hour|day|week [burst N packets]
//!            log [prefix "..."] [level LEVEL]
//! VERDICT:   accept    drop    continue    return    jump CHAIN    goto CHAIN
//!            reject [with tcp reset | icmp|icmpv6|icmpx type KIND]
//!            FIELD [. FIELD ...] vmap { VALUE : VERDICT, ... } | @MAP
//! ```
//!
//! A rule ends with its line or with `;`; `\` continues a line, `#` begins a comment. All matches
//! of a rule must hold. Bridge chains run before the others, then by priority (`filter` is -200 in
//! bridge tables and 0 elsewhere); of equal ones the last of the file runs first. `accept` ends a
//! base chain only, `drop` and `reject` end all. A match implies the protocol it speaks of, also
//! when it is negated: `tcp dport != 21` matches TCP only.
//!
//! Everything means what it means in the kernel, except:
//!
//! * `ether type` is the type behind all VLAN tags; `ether type vlan` matches any tagged frame. `vlan id`
//!   is that of an 802.1Q tag, as in the kernel; those of service tags (802.1ad) cannot be named.
//! * `ip6 nexthdr` is the protocol behind all extension headers, as `meta l4proto`.
//! * `th` matches TCP, UDP and SCTP only.
//! * `ct` matches and helpers, and `reject`, work in bridge tables too.
//! * Datagrams are judged whole, so no rule sees a fragment.
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
mod checked;
mod datatype;
mod define;
mod diagnostic;
mod explain;
mod field;
mod intervals;
mod layers;
mod lexer;
mod limit;
mod lint;
mod lookup;
mod names;
mod parser;
mod print;
mod program;
mod source;
mod unsupported;
mod values;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use builtin::{Builtin, FlagError, FtpServer};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use explain::{Explained, Explanation, Met};
pub use source::{Find, Included, MAX_TEXT_BYTES, Source};

use crate::conntrack::{CtState, Direction, Time};
use crate::observe::DropReason;
use crate::wire::{Packet, Side};

/// A packet as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The parsed packet.
    pub packet: &'a Packet,
    /// Its frame.
    pub frame: &'a [u8],
    /// The port at which it came in (`iifname`); it leaves at the other (`oifname`).
    pub side: Side,
    /// Its connection tracking state.
    pub state: CtState,
    /// Its direction within its flow.
    pub direction: Direction,
    /// Its flow is a data connection that an FTP session announced (`ct helper "ftp"`).
    pub is_expected: bool,
    /// The time, for limits.
    pub now: Time,
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

/// A `log` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The prefix; it may be empty.
    pub prefix: String,
    /// From 0, `emerg`, to 7, `debug` (syslog(3)).
    pub level: u8,
}

impl Log {
    /// The level's name.
    #[must_use]
    pub fn level_name(&self) -> &'static str {
        names::name_of(names::LOG_LEVELS, self.level.into()).unwrap_or("warn")
    }
}

/// A checked, immutable program.
#[derive(Debug)]
pub struct Ruleset {
    program: program::Program,
    helpers: Box<[HelperObject]>,
    counters: Box<[Counter]>,
    logs: Box<[Log]>,
    rules: Box<[RuleText]>,
    /// As `inet lotus forward`, by number.
    chains: Box<[String]>,
    listing: print::Listing,
    ports: PortNames,
    summary: String,
    warnings: Diagnostics,
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

/// A rule for a person.
#[derive(Debug)]
struct RuleText {
    file: String,
    line: u32,
    /// Its statements.
    parts: Box<[String]>,
}

impl RuleText {
    fn whole(&self) -> String {
        let parts = self.parts.iter().filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl Ruleset {
    /// Parses and checks a text that includes nothing; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str, ports: &PortNames) -> Result<Ruleset, Diagnostics> {
        let mut none = |_: &str, _: &str| Err("no files are read here".to_owned());
        Ruleset::load(Source::read(file, text, &mut none), ports)
    }

    /// Parses and checks a file with all that it includes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load(source: Source, ports: &PortNames) -> Result<Ruleset, Diagnostics> {
        let mut problems = source.problems();
        let tree = parser::parse(&source, &mut problems);
        let checked = check::check(&tree, &source, ports, &mut problems);
        drop(tree);
        if problems.iter().any(diagnostic::Problem::is_error) {
            problems.retain(diagnostic::Problem::is_error);
            return Err(Diagnostics::new(source, problems));
        }
        problems.extend(lint::warnings(&checked));
        let rules: Box<[RuleText]> = rule_texts(&checked, &source, ports);
        let lines = source.lines();
        let counter = |start: &checked::CounterStart| {
            let rule = start.rule.and_then(|number| rules.get(number));
            Counter {
                line: lines.at(start.span.start).1,
                rule: match (&start.name, rule) {
                    (Some(name), _) => format!("counter {name}"),
                    (None, rule) => rule.map_or_else(String::new, RuleText::whole),
                },
                packets: start.packets.into(),
                bytes: start.bytes.into(),
            }
        };
        let counters = checked.counters.iter().map(counter).collect();
        Ok(Ruleset {
            summary: summary(&checked),
            counters,
            listing: print::Listing::of(&checked, ports),
            chains: chain_names(&checked),
            helpers: checked.helpers.clone().into(),
            logs: checked.logs.clone().into(),
            program: program::Program::of(checked),
            rules,
            ports: ports.clone(),
            warnings: Diagnostics::new(source, problems),
        })
    }

    /// Runs the rules over one packet and moves the counters on its way.
    #[must_use]
    pub fn evaluate(&self, query: &Query<'_>) -> Outcome {
        self.evaluate_and_log(query, |_| {})
    }

    /// The same; `log` is called for each `log` statement on the way.
    #[must_use]
    pub fn evaluate_and_log(&self, query: &Query<'_>, log: impl FnMut(&Log)) -> Outcome {
        let mut quiet = Quiet {
            ruleset: self,
            bytes: query.frame.len(),
            log,
        };
        self.program.run(query, &mut quiet)
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

    /// What is odd about the file and no error.
    #[must_use]
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// The ruleset as `nft list ruleset` prints it, with the counters' present numbers.
    #[must_use]
    pub fn list(&self) -> String {
        let mut text = String::new();
        for piece in &self.listing.pieces {
            match piece {
                print::Piece::Text(piece) => text.push_str(piece),
                print::Piece::Counter(id) => {
                    let counter = self.counters.get(usize::from(id.0.get()) - 1);
                    let (packets, bytes) = counter.map_or((0, 0), |counter| {
                        (counter.packets.load(Relaxed), counter.bytes.load(Relaxed))
                    });
                    let _ = write!(text, "packets {packets} bytes {bytes}");
                }
            }
        }
        text
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

/// An evaluation that only counts and logs.
struct Quiet<'r, L> {
    ruleset: &'r Ruleset,
    bytes: usize,
    log: L,
}

impl<L: FnMut(&Log)> program::Watch for Quiet<'_, L> {
    fn count(&mut self, id: CounterId) {
        self.ruleset.count_one(id, self.bytes);
    }

    fn log(&mut self, id: u16) {
        if let Some(log) = self.ruleset.logs.get(usize::from(id)) {
            (self.log)(log);
        }
    }
}

fn rule_texts(checked: &checked::Checked, source: &Source, ports: &PortNames) -> Box<[RuleText]> {
    let mut rules: Vec<&checked::Rule> = checked
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .collect();
    rules.sort_by_key(|rule| rule.number);
    let lines = source.lines();
    let text = |rule: &&checked::Rule| {
        let (file, line) = lines.at(rule.span.start);
        RuleText {
            file: file.to_owned(),
            line,
            parts: print::statements(rule, checked, ports).into(),
        }
    };
    rules.iter().map(text).collect()
}

fn chain_names(checked: &checked::Checked) -> Box<[String]> {
    let mut names = vec![String::new(); checked.chains.len()];
    for table in &checked.tables {
        for &number in &table.chains {
            let chain = checked.chains.get(number).map_or("", |chain| &chain.name);
            if let Some(name) = names.get_mut(number) {
                *name = format!("{} {} {chain}", table.family.name(), table.name);
            }
        }
    }
    names.into()
}

fn summary(checked: &checked::Checked) -> String {
    let table = |table: &checked::Table| {
        let chains = table.chains.iter();
        let chains: Vec<_> = chains
            .filter_map(|&number| checked.chains.get(number))
            .collect();
        let count: usize = chains.iter().map(|chain| chain.rules.len()).sum();
        let rules = if count == 1 { "rule" } else { "rules" };
        let policies: Vec<_> = chains
            .iter()
            .filter_map(|chain| chain.base)
            .map(|base| if base.accept { "accept" } else { "drop" })
            .collect();
        let policy = match policies.as_slice() {
            [] => "on no hook".to_owned(),
            [policy] => format!("policy {policy}"),
            several => format!("policies {}", several.join(" and ")),
        };
        let (family, name) = (table.family.name(), &table.name);
        format!("table {family} {name}: {count} {rules}, {policy}")
    };
    // In the order in which they run.
    let order = |table: &&checked::Table| {
        let bases = table
            .chains
            .iter()
            .filter_map(|&number| checked.chains.get(number)?.base);
        let first = bases.map(|base| base.priority).min();
        (
            first.is_none(),
            table.family != checked::TableFamily::Bridge,
            first,
        )
    };
    let mut all: Vec<_> = checked.tables.iter().rev().collect();
    all.retain(|table| !table.chains.is_empty());
    all.sort_by_key(order);
    if all.is_empty() {
        return "no chains: everything passes".to_owned();
    }
    all.into_iter().map(table).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
