//! What the benchmarks and the test of allocations share: frames in a ring, the engine and its
//! rules, loads of all kinds, the parts of the engine one by one, and a bare hash table to compare
//! with.

// Each program uses a part of it, and none exports anything.
#![allow(dead_code, unreachable_pub)]

pub mod allocations;
pub mod bare;
pub mod lab;
pub mod load;
pub mod parts;
pub mod ring;
pub mod timing;
pub mod traffic;

#[path = "../../tests/common/frame.rs"]
pub mod frame;

/// Frames in a batch, as a worker takes them out of a ring at most.
pub const BATCH: usize = lotus::io::BATCH_FRAMES;

/// Numbers in an order that no cache foresees, the same one each time.
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..numbers.len()).rev() {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        numbers.swap(last, (random % (last as u64 + 1)) as usize);
    }
    numbers
}
