//! What a frame costs the engine, in one table: `cargo bench --bench cost`. It takes some 1.5 GiB of
//! memory and a minute.
//!
//! Every case has its turn in each round, so that what else the machine does falls on all of them.
//! Figures are medians of the rounds; half of the rounds lie within what stands behind `±`. Between
//! machines, compare ratios only.

mod common;

use std::time::Duration;

use common::allocations::{self, Counting};
use common::bare::{self, Bare, Dash, Std};
use common::load::{self, Load, Order, Source};
use common::ring;
use common::traffic::Protocol::{Tcp, Udp};
use common::{BATCH, timing};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 9;
/// Of each case in each round: enough to see the far end of a large table.
const BATCHES: u64 = 2048;
/// Before that, not measured: the other cases had the caches.
const WARM_UP_BATCHES: usize = ring::BATCHES;
/// Rings that workers side by side judge in each round.
const RINGS: usize = 16;

/// Flows of which the caches hold all, most, some.
const FLOWS: [u32; 4] = [1, 1024, 102_400, 1_024_000];
/// Flows of all workers side by side.
const SHARED_FLOWS: u32 = 102_400;
const WORKERS: [u32; 2] = [1, 2];

struct Row {
    name: &'static str,
    cases: Vec<Case>,
}

struct Case {
    sample: Box<dyn FnMut() -> Sample>,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    /// Time for a frame.
    ns: f64,
    /// What a frame asks the allocator for.
    allocations: f64,
}

fn main() {
    // Cargo says --bench.
    if let Some(argument) = std::env::args().skip(1).find(|word| word != "--bench") {
        eprintln!("error: there is nothing to choose here, and no {argument:?}");
        eprintln!("usage: cargo bench --bench cost");
        std::process::exit(2);
    }
    eprintln!("making the flows");
    let (mut sizes, mut single, mut workers) = (by_size(), single(), by_workers());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        let rows = [&mut sizes, &mut single, &mut workers];
        let cases = rows.into_iter().flatten().flat_map(|row| &mut row.cases);
        cases.for_each(|case| case.samples.push((case.sample)()));
    }
    println!("\nns a frame, by flows ({ROUNDS} rounds, batches of {BATCH})");
    heading(FLOWS.iter().map(u32::to_string), "allocations");
    sizes.iter().for_each(Row::print);
    let [udp, tcp, _, dash, std] = sizes.as_slice() else {
        unreachable!("five rows");
    };
    print_ratios("UDP / DashMap alone", udp, dash);
    print_ratios("TCP / DashMap alone", tcp, dash);
    print_ratios("TCP / HashMap alone", tcp, std);
    println!("\nns a frame, whatever the flows");
    heading([String::new()].into_iter(), "allocations");
    single.iter().for_each(Row::print);
    println!("\nmillion frames a second, all workers together");
    heading(WORKERS.iter().map(u32::to_string), "ratio");
    workers.iter().for_each(Row::print_rates);
}

fn by_size() -> Vec<Row> {
    let row = |name, case: fn(u32) -> Case| Row {
        name,
        cases: FLOWS.into_iter().map(case).collect(),
    };
    vec![
        row("UDP, in no order", |flows| {
            judging(Load::established(Udp, flows, Order::Shuffled))
        }),
        row("TCP, in no order", |flows| {
            judging(Load::established(Tcp, flows, Order::Shuffled))
        }),
        row("TCP, flows in turn", |flows| {
            judging(Load::established(Tcp, flows, Order::InTurn))
        }),
        row("DashMap alone, in no order", probing::<Dash>),
        row("HashMap alone, in no order", probing::<Std>),
    ]
}

fn single() -> Vec<Row> {
    let row = |name, case| Row {
        name,
        cases: vec![case],
    };
    vec![
        row("UDP, first of a flow", judging(Load::beginning(Udp))),
        row("TCP, SYN of a flow", judging(Load::beginning(Tcp))),
        row("UDP, dropped by policy", judging(Load::unwanted(Udp))),
        row("TCP SYN, dropped by policy", judging(Load::unwanted(Tcp))),
        row("FTP control, NOOP and 200", judging(load::noop())),
        row("FTP control, PASV and 227", judging(load::pasv())),
    ]
}

fn by_workers() -> Vec<Row> {
    fn row<S: Source + Send + 'static>(name: &'static str, new: fn(u32) -> Vec<Load<S>>) -> Row {
        let cases = WORKERS.map(|workers| side_by_side(new(workers)));
        Row {
            name,
            cases: cases.into(),
        }
    }
    vec![
        row("UDP, established", |workers| {
            load::established_for(workers, Udp, SHARED_FLOWS)
        }),
        row("TCP, established", |workers| {
            load::established_for(workers, Tcp, SHARED_FLOWS)
        }),
        row("UDP, a direction each", |workers| {
            load::directions_for(workers, SHARED_FLOWS)
        }),
        row("TCP, SYNs of new flows", |workers| {
            load::beginning_for(workers, Tcp)
        }),
    ]
}

/// The engine.
fn judging<S: Source + 'static>(mut load: Load<S>) -> Case {
    Case::new(move || {
        load.fill(WARM_UP_BATCHES);
        let asked = allocations::during(|| load.run());
        let spent = timing::one_by_one(&mut load, BATCHES);
        Sample {
            ns: spent.as_nanos() as f64 / (BATCHES as f64 * BATCH as f64),
            allocations: asked as f64 / (WARM_UP_BATCHES * BATCH) as f64,
        }
    })
}

/// A table alone.
fn probing<B: Bare + 'static>(flows: u32) -> Case {
    let keys = bare::keys(flows);
    let mut table = B::of(&keys);
    let in_order = bare::in_no_order(&keys);
    let mut at = 0;
    Case::new(move || {
        timing::bare(&mut table, &in_order, &mut at, WARM_UP_BATCHES as u64);
        let spent = timing::bare(&mut table, &in_order, &mut at, BATCHES);
        Sample {
            ns: spent.as_nanos() as f64 / (BATCHES as f64 * BATCH as f64),
            allocations: 0.0,
        }
    })
}

/// Workers that share a table.
fn side_by_side<S: Source + Send + 'static>(mut loads: Vec<Load<S>>) -> Case {
    let frames = RINGS * loads.len() * timing::FRAMES_SIDE_BY_SIDE;
    Case::new(move || {
        timing::side_by_side(&mut loads);
        let spent: Duration = (0..RINGS).map(|_| timing::side_by_side(&mut loads)).sum();
        Sample {
            ns: spent.as_nanos() as f64 / frames as f64,
            allocations: 0.0,
        }
    })
}

impl Case {
    fn new(sample: impl FnMut() -> Sample + 'static) -> Case {
        Case {
            sample: Box::new(sample),
            samples: Vec::new(),
        }
    }

    fn ns(&self) -> [f64; 3] {
        quartiles(self.samples.iter().map(|sample| sample.ns))
    }

    fn time(&self) -> String {
        let [low, median, high] = self.ns();
        format!("{median:.0} ±{:.0}", (high - low) / 2.0)
    }

    /// A table that grows asks for more, now and then: the median leaves that out.
    fn allocations(&self) -> f64 {
        let [_, median, _] = quartiles(self.samples.iter().map(|sample| sample.allocations));
        median
    }

    /// Compared round by round, as both had the same weather.
    fn ratio_to(&self, other: &Case) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        let [_, median, _] = quartiles(pairs.map(|(own, other)| own.ns / other.ns));
        median
    }
}

impl Row {
    fn print(&self) {
        let most = self.cases.iter().map(Case::allocations).fold(0.0, f64::max);
        line(
            self.name,
            self.cases.iter().map(Case::time),
            &format!("{most:.2}"),
        );
    }

    fn print_rates(&self) {
        let rate = |case: &Case| format!("{:.2}", 1e3 / case.ns()[1]);
        let ratio = match self.cases.as_slice() {
            [one, .., most] => one.ratio_to(most),
            _ => 1.0,
        };
        line(
            self.name,
            self.cases.iter().map(rate),
            &format!("{ratio:.2}"),
        );
    }
}

fn print_ratios(name: &str, above: &Row, below: &Row) {
    let pairs = above.cases.iter().zip(&below.cases);
    line(
        name,
        pairs.map(|(above, below)| format!("{:.1}", above.ratio_to(below))),
        "",
    );
}

fn heading(columns: impl Iterator<Item = String>, last: &str) {
    line("", columns, last);
}

fn line(name: &str, columns: impl Iterator<Item = String>, last: &str) {
    let columns: String = columns.map(|column| format!("{column:>13}")).collect();
    println!("{name:27}{columns}{last:>13}");
}

/// The lower quartile, the median, the upper quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
