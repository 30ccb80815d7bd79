use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;

struct Item {
    hash: u64,
    value: u64,
    /// Counts those that are gone.
    gone: Arc<AtomicUsize>,
}

impl Hashed for Item {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Relaxed);
    }
}

fn item(hash: u64, gone: &Arc<AtomicUsize>) -> Box<Item> {
    Box::new(Item {
        hash,
        value: 0,
        gone: Arc::clone(gone),
    })
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 20
}

/// Hashes of which many meet in a bucket, and some have the same tag there.
fn crowded(state: &mut u64) -> u64 {
    let number = random(state) % 64;
    (number % 7) << 56 | number << 32 | number
}

#[test]
fn it_agrees_with_a_map_under_random_operations_however_crowded() {
    for capacity in [1, 10, 1000] {
        let gone = Arc::default();
        let buckets = Buckets::new(capacity);
        let (mut model, mut state, mut made) = (HashMap::new(), 11, 0);
        for step in 0..30_000 {
            let hash = crowded(&mut state);
            let mut held = buckets.hold(hash);
            match random(&mut state) % 4 {
                0 | 1 if held.find(hash).is_none() => {
                    held.insert(item(hash, &gone));
                    made += 1;
                    assert_eq!(model.insert(hash, 0), None);
                }
                2 => {
                    let is_even = |value: u64| value.is_multiple_of(2);
                    let taken = held.take_if(hash, |item| is_even(item.value));
                    let expected = model.get(&hash).copied().filter(|&value| is_even(value));
                    assert_eq!(taken.map(|item| item.value), expected);
                    if expected.is_some() {
                        model.remove(&hash);
                    }
                }
                _ => {
                    let found = held.into_entry(hash).map(|mut item| {
                        assert_eq!(item.hash, hash);
                        std::mem::replace(&mut item.value, step)
                    });
                    let expected = model.get_mut(&hash);
                    assert_eq!(found, expected.map(|value| std::mem::replace(value, step)));
                }
            }
            buckets.fetch_bucket(hash);
            buckets.fetch_entry(hash);
            assert_eq!(made - gone.load(Relaxed), model.len());
        }
        let mut seen: Vec<_> = (0..buckets.count())
            .filter_map(|number| buckets.hold_number(number))
            .flat_map(|held| held.iter().map(|item| item.hash).collect::<Vec<_>>())
            .collect();
        let mut expected: Vec<_> = model.keys().copied().collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
        drop(buckets);
        assert_eq!(gone.load(Relaxed), made, "what is left goes with the table");
    }
}

#[test]
fn a_place_that_becomes_free_is_taken_by_one_that_had_none() {
    let gone = Arc::default();
    let buckets = Buckets::new(1);
    let hash = |number: u64| number << 56 | number;
    for number in 1..=9 {
        buckets.hold(0).insert(item(hash(2 * number), &gone));
    }
    for number in 1..=5 {
        assert!(
            buckets
                .hold(0)
                .take_if(hash(2 * number), |_| true)
                .is_some()
        );
    }
    // Four are left, and none of them lies beside.
    assert!(buckets.hold(0).beside_mut().is_none());
    assert_eq!(buckets.hold(0).iter().count(), 4);
}

#[test]
fn who_holds_a_bucket_holds_it_alone() {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 20_000;
    let gone = Arc::default();
    let buckets: Buckets<Item> = Buckets::new(40);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (buckets, gone) = (&buckets, &gone);
            scope.spawn(move || {
                let mut state = thread;
                for _ in 0..ROUNDS {
                    let hash = crowded(&mut state);
                    buckets.fetch_entry(hash);
                    let mut held = buckets.hold(hash);
                    match held.find(hash) {
                        // Two steps that another thread could come between.
                        Some(item) => {
                            let before = std::hint::black_box(item.value);
                            item.value = before + 1;
                        }
                        None => {
                            held.insert(item(hash, gone));
                            held.find(hash).unwrap().value = 1;
                        }
                    }
                    if random(&mut state).is_multiple_of(16) {
                        let taken = held.take_if(hash, |_| true).unwrap();
                        // Its rounds go to another one.
                        drop(held);
                        let mut held = buckets.hold(u64::MAX);
                        if held.find(u64::MAX).is_none() {
                            held.insert(item(u64::MAX, gone));
                        }
                        held.find(u64::MAX).unwrap().value += taken.value;
                    }
                }
            });
        }
    });
    let rounds: u64 = (0..buckets.count())
        .filter_map(|number| buckets.hold_number(number))
        .map(|held| held.iter().map(|item| item.value).sum::<u64>())
        .sum();
    assert_eq!(rounds, THREADS as u64 * ROUNDS);
}
