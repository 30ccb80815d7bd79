//! What rules cost, in one table: `cargo bench --bench rules`. It takes half a minute.
//!
//! Every case has its turn in each round, so that what else the machine does falls on all of them.
//! Figures are medians of the rounds; half of the rounds lie within what stands behind `±`. Between
//! machines, compare ratios only.

mod common;

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use common::frame::udp;
use common::load::{Load, Order};
use common::traffic::Protocol::Udp;
use common::{BATCH, timing};
use lotus::conntrack::{CtState, Direction, Time};
use lotus::engine::{Settings, Shared};
use lotus::rules::{PortNames, Query, Ruleset};
use lotus::wire::{self, Side};

const ROUNDS: usize = 9;
const FLOWS: u32 = 1024;
/// Of established frames in each round.
const BATCHES: u64 = 1024;
/// First packets in each round, with few rules; with many less of them.
const FIRST_PACKETS: usize = 100_000;

const RULES: [usize; 3] = [10, 1000, 10_000];
const ELEMENTS: u32 = 100_000;

struct Case {
    name: String,
    unit: &'static str,
    measure: Box<dyn FnMut() -> f64>,
    samples: Vec<f64>,
}

fn main() {
    eprintln!("making the rules");
    let mut cases = Vec::new();
    for rules in RULES {
        let text = many_rules(rules);
        cases.push(established(format!("established, {rules} rules"), &text));
    }
    for rules in RULES {
        let text = many_rules(rules);
        let packets = FIRST_PACKETS / rules;
        cases.push(first(
            format!("first packet, {rules} rules"),
            &text,
            packets,
        ));
    }
    let set = large_set();
    cases.push(first(
        format!("first packet, a set of {ELEMENTS}"),
        &set,
        FIRST_PACKETS,
    ));
    for (name, text) in [
        (format!("loading, {} rules", RULES[2]), many_rules(RULES[2])),
        (format!("loading, a set of {ELEMENTS}"), set),
    ] {
        cases.push(loading(name, text));
    }
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for case in &mut cases {
            let sample = (case.measure)();
            case.samples.push(sample);
        }
    }
    println!("{ROUNDS} rounds, UDP, {FLOWS} flows, batches of {BATCH}");
    for case in &cases {
        let mut sorted = case.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let [low, median, high] = [ROUNDS / 4, ROUNDS / 2, ROUNDS * 3 / 4].map(|at| sorted[at]);
        let spread = (high - low) / 2.0;
        println!(
            "{:<36} {median:>10.0} ±{spread:<6.0} {}",
            case.name, case.unit
        );
    }
    let [few, _, many, ..] = cases.as_slice() else {
        unreachable!("the established ones come first");
    };
    let mut ratios: Vec<f64> = few
        .samples
        .iter()
        .zip(&many.samples)
        .map(|(few, many)| many / few)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (from, to) = (RULES[0], RULES[2]);
    println!(
        "established, {to} rules / {from} rules: {:.3}",
        ratios[ROUNDS / 2]
    );
}

fn ports() -> PortNames {
    PortNames {
        inside: "in".into(),
        outside: "out".into(),
    }
}

fn parse(text: &str) -> Ruleset {
    Ruleset::parse("bench.nft", text, &ports()).expect("good rules")
}

/// A chain of so many rules, of which the last accepts what comes; none before matches it.
fn many_rules(count: usize) -> String {
    let mut rules = String::new();
    for number in 1..count {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        let _ = writeln!(rules, "ip saddr 10.1.{high}.{low} udp dport 53 drop");
    }
    table("", &(rules + "udp dport 1024-65535 accept\n"))
}

/// A set that holds nothing of what comes, and one rule that asks it.
fn large_set() -> String {
    let mut elements = String::new();
    for number in 0..ELEMENTS {
        let [_, b, c, d] = (number * 3).to_be_bytes();
        let _ = write!(elements, "10.{b}.{c}.{d}, ");
    }
    let set = format!("set many {{ type ipv4_addr; elements = {{ {elements} }}; }}");
    table(&set, "ip saddr @many drop\nudp dport 1024-65535 accept\n")
}

fn table(set: &str, rules: &str) -> String {
    format!(
        "table bridge bench {{ {set}\nchain c {{ type filter hook forward priority 0; policy \
         drop;\n{rules}}} }}\n"
    )
}

/// Frames of flows that both ends have spoken in, in ns.
fn established(name: String, text: &str) -> Case {
    let mut settings = Settings::default();
    settings.conntrack.max_flows = 10_000;
    let shared = Shared::new(parse(text), settings);
    let mut load = Load::established_in(shared, Udp, 0..FLOWS, Order::Shuffled);
    Case::new(name, "ns a frame", move || {
        timing::one_by_one(&mut load, BATCHES).as_nanos() as f64 / (BATCHES as f64 * BATCH as f64)
    })
}

/// The rules alone, asked about a packet that begins a flow, in ns.
fn first(name: String, text: &str, packets: usize) -> Case {
    let ruleset = parse(text);
    let socket = |text: &str| text.parse().expect("an address");
    let frame = udp(
        socket("198.51.100.7:40000"),
        socket("192.0.2.20:5000"),
        b"who?",
    );
    let packet = wire::parse(&frame).expect("a good frame");
    Case::new(name, "ns a packet", move || {
        let query = Query {
            packet: &packet,
            frame: &frame,
            side: Side::Outside,
            state: CtState::New,
            direction: Direction::Original,
            is_expected: false,
            now: Time::default(),
        };
        let begun = Instant::now();
        for _ in 0..packets {
            let outcome = black_box(ruleset.evaluate(black_box(&query)));
            assert!(outcome.drop.is_none(), "the last rule accepts it");
        }
        begun.elapsed().as_nanos() as f64 / packets as f64
    })
}

/// From text to a ruleset that is ready, in ms.
fn loading(name: String, text: String) -> Case {
    Case::new(name, "ms", move || {
        let begun = Instant::now();
        let ruleset = black_box(parse(&text));
        let spent = begun.elapsed().as_secs_f64() * 1e3;
        drop(ruleset);
        spent
    })
}

impl Case {
    fn new(name: String, unit: &'static str, measure: impl FnMut() -> f64 + 'static) -> Case {
        Case {
            name,
            unit,
            measure: Box::new(measure),
            samples: Vec::new(),
        }
    }
}
