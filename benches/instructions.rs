//! How many instructions the engine and its parts take, counted by Callgrind. Unlike times, counts
//! are the same on a busy machine. `./scripts/instructions` runs this and compares the counts with
//! `benches/instructions.tsv`.
//!
//! Everything here does [`OPERATIONS`] operations, so that counts are comparable.

// The macros write functions and modules.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;

use gungraun::Callgrind;
use gungraun::prelude::*;

use common::BATCH;
use common::load::{self, Beginning, Control, Established, Load, Order, Source, Unwanted};
use common::parts::{Flows, Keys, Lines, OPERATIONS, Parse, Part, Rules, Tracker};
use common::traffic::Protocol::{Tcp, Udp};

/// As in lotus itself: what a flow costs is the allocator's matter, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: usize = OPERATIONS as usize / BATCH;

#[library_benchmark]
#[bench::udp(Parse::udp())]
#[bench::tcp(Parse::tcp())]
#[bench::ipv6(Parse::ipv6())]
#[bench::vlan(Parse::vlan())]
fn parse(part: Parse) -> Parse {
    done(part)
}

#[library_benchmark]
#[bench::ipv4(Keys::ipv4())]
#[bench::ipv6(Keys::ipv6())]
fn key(part: Keys) -> Keys {
    done(part)
}

#[library_benchmark]
#[bench::look_up(Flows::look_up())]
#[bench::insert(Flows::insert())]
#[bench::remove(Flows::remove())]
#[bench::sweep(Flows::sweep())]
fn table(part: Flows) -> Flows {
    done(part)
}

#[library_benchmark]
#[bench::update(Tracker::new())]
fn tcp(part: Tracker) -> Tracker {
    done(part)
}

#[library_benchmark]
#[bench::accept(Rules::accepting())]
#[bench::drop(Rules::dropping())]
fn rules(part: Rules) -> Rules {
    done(part)
}

#[library_benchmark]
#[bench::command(Lines::command())]
#[bench::reply(Lines::reply())]
fn ftp(part: Lines) -> Lines {
    done(part)
}

#[library_benchmark]
#[bench::udp_1(filled(Load::established(Udp, 1, Order::InTurn)))]
#[bench::udp_1k(filled(Load::established(Udp, 1024, Order::Shuffled)))]
#[bench::tcp_1(filled(Load::established(Tcp, 1, Order::InTurn)))]
#[bench::tcp_1k(filled(Load::established(Tcp, 1024, Order::Shuffled)))]
fn engine_established(load: Load<Established>) -> Load<Established> {
    judged(load)
}

#[library_benchmark]
#[bench::udp(filled(beginning_again(Load::beginning(Udp))))]
#[bench::tcp(filled(beginning_again(Load::beginning(Tcp))))]
fn engine_new(load: Load<Beginning>) -> Load<Beginning> {
    judged(load)
}

#[library_benchmark]
#[bench::udp(filled(Load::unwanted(Udp)))]
#[bench::tcp(filled(Load::unwanted(Tcp)))]
fn engine_drop(load: Load<Unwanted>) -> Load<Unwanted> {
    judged(load)
}

#[library_benchmark]
#[bench::noop(filled(load::noop()))]
#[bench::pasv(filled(load::pasv()))]
fn engine_ftp(load: Load<Control>) -> Load<Control> {
    judged(load)
}

/// The whole loop is counted; what comes back is taken apart outside.
fn done<P: Part>(mut part: P) -> P {
    black_box(&mut part).run();
    part
}

fn judged<S: Source>(mut load: Load<S>) -> Load<S> {
    black_box(&mut load).run();
    load
}

fn filled<S: Source>(mut load: Load<S>) -> Load<S> {
    load.fill(BATCHES);
    load
}

/// The table has been in use: its maps have grown.
fn beginning_again(mut load: Load<Beginning>) -> Load<Beginning> {
    for _ in 0..BATCHES {
        load.fill(1);
        load.run();
    }
    load.lab.forget();
    load
}

library_benchmark_group!(
    name = all;
    benchmarks =
        parse,
        key,
        table,
        tcp,
        rules,
        ftp,
        engine_established,
        engine_new,
        engine_drop,
        engine_ftp
);

/// The C library chooses its memcpy by the processor; here it has no choice, so that counts are the
/// same everywhere (glibc manual, "Hardware Capability Tunables").
const PLAIN_MEMCPY: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-ERMS,-FSRM";

main!(
    // Not the caches and branches that Callgrind can simulate: instructions are what is counted.
    config = LibraryBenchmarkConfig::default()
        .env("GLIBC_TUNABLES", PLAIN_MEMCPY)
        .tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = all
);
