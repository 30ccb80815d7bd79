//! What the engine and its parts take, in memory: no rings of a kernel, no kernel. Wall time.
//!
//! `cargo bench --bench engine`; a filter behind `--` chooses. Times are for one batch of 64 frames,
//! for 1,024 operations of a part, or for 4,096 frames of each worker; rates are for frames and
//! operations. `cargo bench --bench cost` has the figures that matter in one table.

mod common;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};

use common::BATCH;
use common::bare::{self, Bare, Dash, Std};
use common::load::{self, Load, Order, Source};
use common::parts::{Flows, Keys, Lines, OPERATIONS, Parse, Part, Rules, Tracker};
use common::timing;
use common::traffic::Protocol::{Tcp, Udp};

/// As in lotus itself: what a flow costs is the allocator's matter, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// In the first level of the cache, in the second, in the third, beyond.
const FLOWS: [u32; 4] = [1, 1024, 102_400, 1_024_000];

/// Flows of the workers that run side by side, together.
const SHARED_FLOWS: u32 = 102_400;
const WORKERS: [u32; 2] = [1, 2];

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("part");
    group.throughput(Throughput::Elements(OPERATIONS.into()));
    again(&mut group, "parse/udp", Parse::udp);
    again(&mut group, "parse/tcp", Parse::tcp);
    again(&mut group, "parse/ipv6", Parse::ipv6);
    again(&mut group, "parse/vlan", Parse::vlan);
    again(&mut group, "key/ipv4", Keys::ipv4);
    again(&mut group, "key/ipv6", Keys::ipv6);
    again(&mut group, "table/look_up", Flows::look_up);
    again(&mut group, "table/sweep", Flows::sweep);
    once(&mut group, "table/insert", Flows::insert);
    once(&mut group, "table/remove", Flows::remove);
    once(&mut group, "tcp/update", Tracker::new);
    again(&mut group, "rules/accept", Rules::accepting);
    again(&mut group, "rules/drop", Rules::dropping);
    once(&mut group, "ftp/command", Lines::command);
    once(&mut group, "ftp/reply", Lines::reply);
    group.finish();
}

/// A part that can do the same again and again.
fn again<P: Part>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, new: impl Fn() -> P) {
    group.bench_function(name, |b| {
        let mut part = new();
        b.iter(|| part.run());
    });
}

/// A part that is another one afterwards.
fn once<P: Part>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, new: impl Fn() -> P) {
    group.bench_function(name, |b| {
        let run = |mut part: P| {
            part.run();
            part
        };
        b.iter_batched(&new, run, BatchSize::PerIteration);
    });
}

fn established(c: &mut Criterion) {
    for (name, protocol, order) in [
        ("established_udp_shuffled", Udp, Order::Shuffled),
        ("established_tcp_shuffled", Tcp, Order::Shuffled),
        ("established_tcp_in_turn", Tcp, Order::InTurn),
    ] {
        let mut group = c.benchmark_group(name);
        for flows in FLOWS {
            batches(&mut group, &flows.to_string(), || {
                Load::established(protocol, flows, order)
            });
        }
        group.finish();
    }
}

fn bare(c: &mut Criterion) {
    probe::<Dash>(c, "bare_dashmap_shuffled");
    probe::<Std>(c, "bare_hashmap_shuffled");
}

fn probe<B: Bare>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in FLOWS {
        let keys = bare::keys(flows);
        let mut table = B::of(&keys);
        let in_order = bare::in_no_order(&keys);
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(flows), |b| {
            b.iter_custom(|batches| timing::bare(&mut table, &in_order, &mut at, batches));
        });
    }
    group.finish();
}

fn others(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    batches(&mut group, "new/udp", || Load::beginning(Udp));
    batches(&mut group, "new/tcp", || Load::beginning(Tcp));
    batches(&mut group, "drop/udp", || Load::unwanted(Udp));
    batches(&mut group, "drop/tcp", || Load::unwanted(Tcp));
    batches(&mut group, "ftp/noop", load::noop);
    batches(&mut group, "ftp/pasv", load::pasv);
    group.finish();
}

fn batches<S: Source>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    new: impl Fn() -> Load<S>,
) {
    group.throughput(Throughput::Elements(BATCH as u64));
    // Criterion comes twice, and making a million flows takes longer than measuring them.
    let mut load = None;
    group.bench_function(name, |b| {
        let load = load.get_or_insert_with(&new);
        b.iter_custom(|batches| timing::one_by_one(load, batches));
    });
}

/// Workers that share one table.
fn workers(c: &mut Criterion) {
    side_by_side(c, "workers_established_udp", |workers| {
        load::established_for(workers, Udp, SHARED_FLOWS)
    });
    side_by_side(c, "workers_established_tcp", |workers| {
        load::established_for(workers, Tcp, SHARED_FLOWS)
    });
    side_by_side(c, "workers_new_tcp", |workers| {
        load::beginning_for(workers, Tcp)
    });
}

fn side_by_side<S: Source + Send>(
    c: &mut Criterion,
    name: &str,
    new: impl Fn(u32) -> Vec<Load<S>>,
) {
    let mut group = c.benchmark_group(name);
    for workers in WORKERS {
        let frames = workers as usize * timing::FRAMES_SIDE_BY_SIDE;
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::from_parameter(workers), |b| {
            let mut loads = new(workers);
            b.iter_custom(|times| (0..times).map(|_| timing::side_by_side(&mut loads)).sum());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30)
        .warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = parts, established, bare, others, workers
}
criterion_main!(benches);
