//! Wall time of judging alone: what fills the ring is left out.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::utils::Backoff;

use super::BATCH;
use super::bare::Bare;
use super::load::{Load, Source};
use super::ring::BATCHES;

/// So many batches, each put into the ring right before it is judged.
pub fn one_by_one<S: Source>(load: &mut Load<S>, batches: u64) -> Duration {
    let one = |_| {
        load.fill(1);
        let begun = Instant::now();
        load.run();
        begun.elapsed()
    };
    (0..batches).map(one).sum()
}

/// Frames that each worker judges in one go of [`side_by_side`].
pub const FRAMES_SIDE_BY_SIDE: usize = BATCHES * BATCH;

/// A whole ring for each load, all at once, a thread each; the time until the last is done.
pub fn side_by_side<S: Source + Send>(loads: &mut [Load<S>]) -> Duration {
    loads.iter_mut().for_each(|load| load.fill(BATCHES));
    let (waiting, all) = (AtomicUsize::new(0), loads.len());
    let work = |load: &mut Load<S>| {
        waiting.fetch_add(1, AcqRel);
        let backoff = Backoff::new();
        while waiting.load(Acquire) < all {
            backoff.snooze();
        }
        let begun = Instant::now();
        load.run();
        begun.elapsed()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = loads
            .iter_mut()
            .map(|load| scope.spawn(|| work(load)))
            .collect();
        let times = threads.into_iter().map(|thread| thread.join());
        times
            .map(|time| time.expect("no worker panics"))
            .max()
            .unwrap_or_default()
    })
}

/// Look-ups in a bare table, in batches as well, of the keys from `at` on, again and again.
pub fn bare<B: Bare>(table: &mut B, keys: &[u64], at: &mut usize, batches: u64) -> Duration {
    let mut batch = [0; BATCH];
    let one = |_| {
        for key in &mut batch {
            *key = keys[*at];
            *at = (*at + 1) % keys.len();
        }
        let begun = Instant::now();
        let found = batch.iter().filter(|&&key| table.touch(key)).count();
        let spent = begun.elapsed();
        assert_eq!(found, BATCH, "all of them are there");
        spent
    };
    (0..batches).map(one).sum()
}
