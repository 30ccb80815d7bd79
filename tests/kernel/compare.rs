//! A ruleset and a sequence of packets, on both sides.

use std::collections::BTreeMap;
use std::fmt;

use lotus::rules::Ruleset;
use lotus::wire::Side;

use crate::bed::{Arrangement, Bed};
use crate::frame::untagged;
use crate::grammar::{self, Language};
use crate::intended::{self, Avoid, Kind, LIST, NEVER_MATCHES};
use crate::lotus_side::{Lotus, Passed, ports};
use crate::rng::Rng;
use crate::rules::{Place, Reader, Rules};
use crate::traffic::{self, Packet};

/// What is compared.
#[derive(Clone)]
pub struct Case {
    pub arrangement: Arrangement,
    pub rules: Rules,
    pub packets: Vec<Packet>,
}

/// How much was compared.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub rulesets: u64,
    pub rules: u64,
    pub packets: u64,
    pub through: u64,
    /// Comparisons that an intended difference excused.
    pub excused: BTreeMap<&'static str, u64>,
    /// Rules that both refused, and rules that only lotus did, as intended.
    pub refused_by_both: u64,
    pub never_matching: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.rulesets += other.rulesets;
        self.rules += other.rules;
        self.packets += other.packets;
        self.through += other.through;
        self.refused_by_both += other.refused_by_both;
        self.never_matching += other.never_matching;
        for (name, count) in &other.excused {
            *self.excused.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rulesets of {} rules in all; {} packets, of which {} came out",
            self.rulesets, self.rules, self.packets, self.through
        )?;
        writeln!(
            f,
            "{} rules that both refuse were left out",
            self.refused_by_both
        )?;
        writeln!(f, "intended differences, and how often each was met:")?;
        writeln!(
            f,
            "{:8} {}: {}",
            self.never_matching, NEVER_MATCHES.message, NEVER_MATCHES.why
        )?;
        for intended in LIST {
            let met = match self.excused.get(intended.name) {
                _ if intended.kind == Kind::Avoided => "avoided".to_owned(),
                met => met.copied().unwrap_or_default().to_string(),
            };
            writeln!(f, "{met:>8} {}: {}", intended.name, intended.why)?;
        }
        Ok(())
    }
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// One takes the rules and the other one does not.
    Refused { by: &'static str, message: String },
    /// A packet came out at one side's only.
    Verdict {
        at: usize,
        lotus: Passed,
        kernel: bool,
    },
    /// The kernel let something else through than what was sent.
    Changed { at: usize },
}

impl Difference {
    /// Of the same kind, wherever it is: what making a case smaller must keep.
    pub fn is_like(&self, other: &Difference) -> bool {
        match (self, other) {
            (
                Difference::Refused { by: a, message: m },
                Difference::Refused { by: b, message: n },
            ) => a == b && kind_of(m) == kind_of(n),
            (
                Difference::Verdict {
                    kernel: a,
                    lotus: l,
                    ..
                },
                Difference::Verdict {
                    kernel: b,
                    lotus: m,
                    ..
                },
            ) => a == b && l.reason == m.reason,
            (Difference::Changed { .. }, Difference::Changed { .. }) => true,
            _ => false,
        }
    }
}

/// A message without what it quotes.
fn kind_of(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars()
        .filter(|c| c.is_alphabetic() || *c == ' ')
        .collect()
}

impl Case {
    /// The case of a number.
    pub fn drawn(seed: u64, arrangement: Arrangement, language: &Language, packets: usize) -> Case {
        let mut rng = Rng::new(seed);
        let rules = grammar::rules(&mut rng.fork(), arrangement, language);
        let avoid = Avoid::of(&rules, arrangement);
        let packets = traffic::packets(&mut rng.fork(), arrangement, avoid, packets);
        Case {
            arrangement,
            rules,
            packets,
        }
    }

    /// Runs it. `spoil` changes lotus's rules, to see that the difference is noticed.
    pub fn compare(
        &self,
        bed: &mut Bed,
        totals: &mut Totals,
        spoil: Option<fn(&mut Rules)>,
    ) -> Result<(), Difference> {
        let mut rules = self.rules.clone();
        settle(&mut rules, bed, totals)?;
        totals.rulesets += 1;
        totals.rules += rules.places().len() as u64;
        if let Some(spoil) = spoil {
            spoil(&mut rules);
        }
        let text = rules.text(Reader::Lotus).text;
        let mut lotus = Lotus::new(&text).expect("lotus took them before");
        for (at, packet) in self.packets.iter().enumerate() {
            let passed = lotus.pass(packet.side, &packet.frame);
            let arrived = bed.pass(packet.side, &packet.frame);
            let kernel = !arrived.through.is_empty();
            totals.packets += 1;
            totals.through += u64::from(kernel);
            if passed.through != kernel {
                match intended::excuse(packet.defect, &passed) {
                    Some(intended) => *totals.excused.entry(intended.name).or_default() += 1,
                    _ => {
                        return Err(Difference::Verdict {
                            at,
                            lotus: passed,
                            kernel,
                        });
                    }
                }
            }
            let is_same = |frame: &Vec<u8>| is_same(frame, &packet.frame);
            if kernel && !packet.is_fragment && !arrived.through.iter().all(is_same) {
                return Err(Difference::Changed { at });
            }
        }
        Ok(())
    }
}

/// The kernel may take padding away, and the outer tag comes apart from the bytes.
fn is_same(arrived: &[u8], sent: &[u8]) -> bool {
    let (arrived, sent) = (untagged(arrived), untagged(sent));
    sent.starts_with(&arrived) && sent[arrived.len()..].iter().all(|byte| *byte == 0)
}

/// Has both sides take the rules; what both refuse goes.
fn settle(rules: &mut Rules, bed: &mut Bed, totals: &mut Totals) -> Result<(), Difference> {
    for place in rules.places() {
        rules.rule_mut(place).kernel_only = false;
    }
    loop {
        let refused = by_lotus(rules, totals)?;
        let text = rules.text(Reader::Kernel);
        let Err(said) = bed.load(&text.text) else {
            return match refused {
                None => Ok(()),
                Some((_, message)) => Err(Difference::Refused {
                    by: "lotus",
                    message,
                }),
            };
        };
        let place = line_of(&said).and_then(|line| text.places.get(line - 1).copied().flatten());
        let refused_by_nft = || Difference::Refused {
            by: "nft",
            message: said.clone(),
        };
        let place = place.ok_or_else(refused_by_nft)?;
        let by_lotus_too = rules.rule(place).kernel_only
            || refused.is_some_and(|(refused, _)| refused == place)
            || takes_not(rules, place);
        if !by_lotus_too {
            return Err(refused_by_nft());
        }
        rules.remove_rule(place);
        totals.refused_by_both += 1;
    }
}

/// The first rule that lotus refuses, those apart that can never match, which it need not have.
fn by_lotus(rules: &mut Rules, totals: &mut Totals) -> Result<Option<(Place, String)>, Difference> {
    loop {
        let text = rules.text(Reader::Lotus);
        let Err(problems) = Ruleset::parse("rules", &text.text, &ports()) else {
            return Ok(None);
        };
        let message = problems.to_string();
        let mut is_settled = true;
        let mut refused = None;
        for problem in problems.iter() {
            let place = text.places.get(problem.line - 1).copied().flatten();
            let Some(place) = place else {
                return Err(Difference::Refused {
                    by: "lotus",
                    message,
                });
            };
            if problem.message.contains(NEVER_MATCHES.message) {
                rules.rule_mut(place).kernel_only = true;
                totals.never_matching += 1;
                is_settled = false;
            } else {
                refused.get_or_insert((place, message.clone()));
            }
        }
        if is_settled {
            return Ok(refused);
        }
    }
}

/// Whether lotus refuses this rule.
fn takes_not(rules: &Rules, place: Place) -> bool {
    let text = rules.text(Reader::Lotus);
    let Err(problems) = Ruleset::parse("rules", &text.text, &ports()) else {
        return false;
    };
    problems
        .iter()
        .any(|problem| text.places.get(problem.line - 1).copied().flatten() == Some(place))
}

/// The line of nft's first error: `/dev/stdin:LINE:...`
fn line_of(said: &str) -> Option<usize> {
    said.split(':').nth(1)?.parse().ok()
}

/// The arrangement of a seed.
pub fn arrangement_of(seed: u64) -> Arrangement {
    match seed % 2 {
        0 => Arrangement::Bridge,
        _ => Arrangement::BridgeAndIp,
    }
}

/// A case in words, with both verdicts.
pub fn describe(case: &Case, difference: &Difference) -> String {
    let mut text = format!(
        "{:?}\n{}",
        case.arrangement,
        case.rules.text(Reader::Lotus).text
    );
    for (number, packet) in case.packets.iter().enumerate() {
        let from = if packet.side == Side::Inside {
            "inside "
        } else {
            "outside"
        };
        text.push_str(&format!("{number:3} {from} {}\n", packet.words));
    }
    let word = |through| {
        if through {
            "lets it through"
        } else {
            "drops it"
        }
    };
    text.push_str(&match difference {
        Difference::Refused { by, message } => format!("{by} refuses the rules:\n{message}"),
        Difference::Verdict { at, lotus, kernel } => {
            let reason = lotus
                .reason
                .map_or("no reason", lotus::observe::DropReason::name);
            format!(
                "packet {at}: lotus {} ({reason}, state {:?}), the kernel {}",
                word(lotus.through),
                lotus.state,
                word(*kernel)
            )
        }
        Difference::Changed { at } => format!("packet {at}: the kernel let something else through"),
    });
    text
}
