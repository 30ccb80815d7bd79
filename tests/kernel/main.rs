//! lotus's rules against the kernel's nftables: the same rulesets and the same packets must give
//! the same verdicts. Rulesets are drawn by a grammar within the language that both have
//! ([`grammar`]), packets as sequences of conversations and of what does not belong ([`traffic`]).
//! lotus's engine runs in process, the kernel judges in a network namespace ([`bed`]). Where they
//! are to differ, and why, is written down in one place ([`intended`]).
//!
//! `scripts/differential` runs more of it. `LOTUS_KERNEL_RULESETS`, `LOTUS_KERNEL_PACKETS` and
//! `LOTUS_KERNEL_SEED` say how many, of how many packets, and which seed is the first; each ruleset
//! has a seed of its own. A difference is made small and printed with its seed.
#![allow(unreachable_pub, reason = "one binary: pub is for the modules beside")]

mod bed;
mod compare;
mod frame;
mod grammar;
mod intended;
mod lotus_side;
#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;
mod rules;
mod shrink;
#[path = "../../benches/gen/pktgen/socket.rs"]
#[allow(dead_code, reason = "pktgen needs more of it")]
mod socket;
mod traffic;
mod values;

use std::io::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bed::{Arrangement, Bed};
use compare::{Case, Totals, arrangement_of, describe};
use grammar::Language;
use intended::Kind;
use rules::{Reader, Rules};

const RULESETS: u64 = 3000;
const PACKETS: u64 = 100;
const FIRST_SEED: u64 = 1;
/// A few may well drop all, or nothing.
const ENOUGH_RULESETS: u64 = 100;
/// Then it is clear that something is wrong.
const MOST_DIFFERENCES: usize = 5;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Whether this can run here. Says so if not.
fn possible(test: &str) -> bool {
    let Some(why) = bed::missing() else {
        return true;
    };
    assert!(
        std::env::var_os("LOTUS_REQUIRE_ROOT").is_none(),
        "{test}: {why}"
    );
    say(&format!("SKIP {test}: {why}"));
    false
}

/// Past the capture of the test harness, which shows nothing of a test that passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

fn make_bed(arrangement: Arrangement) -> Bed {
    Bed::new(arrangement).unwrap_or_else(|impossible| panic!("{}", impossible.0))
}

#[test]
fn rules_judge_as_the_kernel_does() {
    if !possible("rules_judge_as_the_kernel_does") {
        return;
    }
    let begun = Instant::now();
    let language = Language::of_lotus();
    say(&language.describe());
    let first = number("LOTUS_KERNEL_SEED", FIRST_SEED);
    let seeds = first..first + number("LOTUS_KERNEL_RULESETS", RULESETS);
    let packets = number("LOTUS_KERNEL_PACKETS", PACKETS) as usize;
    let totals = Mutex::new(Totals::default());
    let found = Mutex::new(Vec::new());
    // A thread is in one namespace.
    thread::scope(|scope| {
        for arrangement in [Arrangement::Bridge, Arrangement::BridgeAndIp] {
            let (language, totals, found, seeds) = (&language, &totals, &found, seeds.clone());
            let mine = move |seed: &u64| arrangement_of(*seed) == arrangement;
            scope.spawn(move || {
                let seeds: Vec<u64> = seeds.filter(mine).collect();
                if seeds.is_empty() {
                    return;
                }
                let mut bed = make_bed(arrangement);
                let mut shown = Instant::now();
                for (at, &seed) in seeds.iter().enumerate() {
                    if found.lock().expect("no panic").len() >= MOST_DIFFERENCES {
                        return;
                    }
                    if bed.is_worn() {
                        bed = make_bed(arrangement);
                    }
                    let case = Case::drawn(seed, arrangement, language, packets);
                    let mut own = Totals::default();
                    if let Err(difference) = case.compare(&mut bed, &mut own, None) {
                        let (case, difference) = shrink::shrink(&mut bed, &case, difference);
                        let text = format!("seed {seed}, {}", describe(&case, &difference));
                        say(&text);
                        found.lock().expect("no panic").push(text);
                    }
                    totals.lock().expect("no panic").add(&own);
                    if shown.elapsed() > PROGRESS_EVERY {
                        shown = Instant::now();
                        say(&format!(
                            "{arrangement:?}: {} of {} rulesets",
                            at + 1,
                            seeds.len()
                        ));
                    }
                }
            });
        }
    });
    let (totals, found) = (
        totals.into_inner().expect("no panic"),
        found.into_inner().expect("no panic"),
    );
    let seconds = begun.elapsed().as_secs();
    say(&format!("{totals}{} differences; {seconds} s", found.len()));
    assert!(
        found.is_empty(),
        "{} differences; run one again: scripts/differential --rulesets 1 --packets {packets} --seed N",
        found.len()
    );
    // Rulesets that drop all, or let all through, would agree, too.
    let share = totals.through * 100 / totals.packets.max(1);
    assert!(
        totals.rulesets < ENOUGH_RULESETS || (20..=90).contains(&share),
        "{share} % of the packets went through"
    );
}

/// All that can be drawn is nft's language, also what lotus does not know yet.
#[test]
fn nft_takes_all_that_is_drawn() {
    if !possible("nft_takes_all_that_is_drawn") {
        return;
    }
    let language = Language::whole();
    thread::scope(|scope| {
        for arrangement in [Arrangement::Bridge, Arrangement::BridgeAndIp] {
            let language = &language;
            scope.spawn(move || {
                let mut bed = make_bed(arrangement);
                for seed in 0..50 {
                    let rules = Case::drawn(seed, arrangement, language, 0).rules;
                    let text = rules.text(Reader::Kernel).text;
                    if let Err(said) = bed.load(&text) {
                        panic!("{said}\n{text}");
                    }
                }
            });
        }
    });
}

/// What is intended is still so: an entry that is none any more must go.
#[test]
fn intended_differences_are_there() {
    if !possible("intended_differences_are_there") {
        return;
    }
    for arrangement in [Arrangement::Bridge, Arrangement::BridgeAndIp] {
        let check = move || {
            let mut bed = make_bed(arrangement);
            for intended in intended::LIST {
                let example = &intended.example;
                if example.arrangement != arrangement {
                    continue;
                }
                let family = match arrangement {
                    Arrangement::Bridge => "bridge",
                    Arrangement::BridgeAndIp => "inet",
                };
                let sentinel = format!("ether type {:#x} accept", bed::SENTINEL);
                let first = if family == "bridge" { &sentinel } else { "" };
                let text = format!(
                    "table {family} t {{\n chain c {{\n  type filter hook forward priority 0; policy drop;\n  {first}\n  {}\n }}\n}}\n",
                    example.rules
                );
                bed.load(&text).expect("nft takes it");
                let mut lotus = lotus_side::Lotus::new(&text).expect("lotus takes it");
                let packets = (example.packets)();
                let both = packets.iter().map(|(side, frame)| {
                    let passed = lotus.pass(*side, frame);
                    (passed, !bed.pass(*side, frame).through.is_empty())
                });
                let (by_lotus, by_kernel): (Vec<_>, Vec<_>) = both.unzip();
                let through: Vec<_> = by_lotus.iter().map(|passed| passed.through).collect();
                assert_eq!(through, example.lotus, "lotus: {}", intended.name);
                assert_eq!(by_kernel, example.kernel, "the kernel: {}", intended.name);
                let last = by_lotus.last().expect("packets");
                let is_excused = intended::excuse(Some(intended.name), last).is_some();
                assert_eq!(
                    is_excused,
                    intended.kind != Kind::Avoided,
                    "{}",
                    intended.name
                );
            }
        };
        thread::spawn(check).join().expect("as intended");
    }
}

/// The check can fail: with one verdict turned around, most rulesets show it.
#[test]
fn a_verdict_turned_around_is_noticed() {
    if !possible("a_verdict_turned_around_is_noticed") {
        return;
    }
    let language = Language::of_lotus();
    let turn = |rules: &mut Rules| {
        let decides = |end: &str| end.ends_with("accept") || end.ends_with("drop");
        let place = rules.places().into_iter().find(|&place| {
            let rule = rules.rule(place);
            decides(&rule.end) && !rule.kernel_only
        });
        if let Some(place) = place {
            let rule = rules.rule_mut(place);
            rule.end = match rule.end.strip_suffix("accept") {
                Some(before) => format!("{before}drop"),
                None => rule.end.replace("drop", "accept"),
            };
        }
    };
    let noticed = thread::spawn(move || {
        let mut bed = make_bed(Arrangement::Bridge);
        let notices = |seed: &u64| {
            let case = Case::drawn(*seed, Arrangement::Bridge, &language, 100);
            case.compare(&mut bed, &mut Totals::default(), Some(turn))
                .is_err()
        };
        (1..=20).filter(notices).count()
    });
    let noticed = noticed.join().expect("compared");
    assert!(noticed >= 5, "noticed in {noticed} of 20");
}
