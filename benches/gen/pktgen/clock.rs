//! The clock that all network namespaces of a machine share.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

pub(crate) const NS_IN_SEC: u64 = 1_000_000_000;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// What to add to a time of CLOCK_REALTIME, which the kernel stamps frames with, to have it in
/// CLOCK_MONOTONIC. It changes when somebody sets the clock.
pub(crate) fn from_realtime_ns() -> i64 {
    let realtime = clock_gettime(ClockId::Realtime);
    now_ns() as i64 - nanoseconds(realtime) as i64
}

/// Returns early if a signal comes.
pub(crate) fn sleep_until(ns: u64) {
    let at = Timespec {
        tv_sec: (ns / NS_IN_SEC) as i64,
        tv_nsec: (ns % NS_IN_SEC) as _,
    };
    // An interrupted sleep is a short one: the caller looks at the clock anyway.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * NS_IN_SEC + time.tv_nsec as u64
}
