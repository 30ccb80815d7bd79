//! The FTP helper against a second reading of the same dialogues (`reference`): which ports are
//! opened, which one is open after each turn and lets a SYN through at the end, and which bytes the
//! server gets. Dialogues are drawn by a grammar: honest ones, and those of clients and servers
//! that lie, stutter, or speak as nobody does.
//!
//! `LOTUS_DIFF_SEED=n` runs one of them again, `LOTUS_DIFF_DIALOGUES=n` more or fewer.
#![allow(unreachable_pub, reason = "pub is for the modules beside")]

#[path = "differential/driver.rs"]
mod driver;
#[path = "differential/grammar.rs"]
mod grammar;
#[path = "sim/packet.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod packet;
#[path = "reference/mod.rs"]
mod reference;
#[path = "sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use driver::{Compared, compare};

const DIALOGUES: u64 = 20_000;
const FIRST_SEED: u64 = 1;
const MAX_SHRINKS: u32 = 20_000;

fn runner_of(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        max_shrink_iters: MAX_SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Compares the dialogue of a seed; a difference comes with the smallest dialogue that has one.
fn check(seed: u64) -> Result<Compared, String> {
    let mut runner = runner_of(seed);
    let tree = grammar::dialogue().new_tree(&mut runner).expect("a tree");
    let first = match compare(&tree.current()) {
        Ok(compared) => return Ok(compared),
        Err(why) => why,
    };
    let outcome = runner.run_one(tree, |dialogue| {
        compare(&dialogue).map(drop).map_err(TestCaseError::fail)
    });
    Err(match outcome {
        Err(TestError::Fail(why, dialogue)) => format!("{why}\n{}", dialogue.script()),
        _ => first,
    })
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[test]
fn the_helper_reads_dialogues_as_the_reference_does() {
    let begin = Instant::now();
    let seeds = match number("LOTUS_DIFF_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let count = number("LOTUS_DIFF_DIALOGUES").unwrap_or(DIALOGUES);
            FIRST_SEED..FIRST_SEED + count
        }
    };
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let totals = Mutex::new(Compared::default());
    let difference = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !failed.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match check(seed) {
                        Ok(compared) => totals.lock().expect("no panic").add(compared),
                        Err(why) => {
                            failed.store(true, Relaxed);
                            *difference.lock().expect("no panic") = Some((seed, why));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, why)) = difference.into_inner().expect("no panic") {
        panic!("{why}\nrun it again: LOTUS_DIFF_SEED={seed} cargo test --test differential");
    }
    let totals = totals.into_inner().expect("no panic");
    let dialogues = seeds.end - seeds.start;
    // Not by println: it is to be seen even of a test that passes.
    let shown = writeln!(
        std::io::stderr(),
        "{dialogues} dialogues, 0 differences: {} bytes of clients, {} ports opened, \
         {} bytes overwritten, {} s",
        totals.client_bytes,
        totals.opened,
        totals.overwritten,
        begin.elapsed().as_secs()
    );
    shown.expect("a place to write to");
    // Dialogues in which nothing happens would agree, too.
    if dialogues >= 1_000 {
        assert!(totals.opened > dialogues, "{} ports opened", totals.opened);
        assert!(totals.overwritten > dialogues, "{}", totals.overwritten);
        assert!(totals.open_at_end * 8 > dialogues, "{}", totals.open_at_end);
    }
}

/// The check can fail: another reading is noticed.
#[test]
fn another_reading_is_noticed() {
    let mut noticed = 0;
    for seed in 1..50 {
        let tree = grammar::dialogue().new_tree(&mut runner_of(seed));
        let mut dialogue = tree.expect("a tree").current();
        if compare(&dialogue).is_ok_and(|compared| compared.open_at_end == 1) {
            dialogue.reference_hears_no_server = true;
            noticed += u32::from(compare(&dialogue).is_err());
        }
    }
    assert!(noticed > 3, "{noticed}");
}
