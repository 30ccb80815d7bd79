//! A hint to the processor.
#![allow(unsafe_code)]

/// Has cache lines fetched, from an address on. It is a hint: the address may be any.
#[inline]
pub fn prefetch<T>(from: *const T, lines: usize) {
    const LINE_BYTES: usize = 64;
    for line in 0..lines {
        fetch_line(from.cast::<u8>().wrapping_add(line * LINE_BYTES));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that a program could see and can't fault; SSE is part of
    // x86_64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn fetch_line(_address: *const u8) {}
