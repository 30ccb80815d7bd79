//! `limit rate`: a token bucket, as net/netfilter/nft_limit.c keeps it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::conntrack::Time;

/// What nft takes for packets without `burst` (NFT_LIMIT_PKT_BURST_DEFAULT).
const DEFAULT_BURST_PACKETS: u64 = 5;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// So many packets or bytes in a time; all workers share it.
#[derive(Debug)]
pub(super) struct Limit {
    /// Matches what is over the rate instead of what is within it.
    over: bool,
    bytes: bool,
    rate: u64,
    /// The time of `rate`.
    nanos: u64,
    /// The bucket's size, as the time in which it fills.
    full_nanos: u64,
    /// When the bucket will be full again, in nanoseconds. In the past: it is full.
    full_at: AtomicU64,
}

impl Limit {
    /// `rate` packets, or bytes, in `per_secs`.
    pub(super) fn new(over: bool, rate: u64, bytes: bool, per_secs: u64, burst: u64) -> Limit {
        let nanos = per_secs.saturating_mul(NANOS_PER_SEC);
        let rate = rate.max(1);
        let full = match (bytes, burst) {
            (false, 0) => u128::from(DEFAULT_BURST_PACKETS),
            (false, burst) => burst.into(),
            (true, burst) => u128::from(rate) + u128::from(burst),
        };
        let full_nanos = u128::from(nanos) * full / u128::from(rate);
        Limit {
            over,
            bytes,
            rate,
            nanos,
            full_nanos: u64::try_from(full_nanos).unwrap_or(u64::MAX),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes a packet into account, and says whether the statement matches it.
    pub(super) fn matches(&self, now: Time, bytes: usize) -> bool {
        let units = if self.bytes { bytes as u128 } else { 1 };
        let cost = u128::from(self.nanos) * units / u128::from(self.rate);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let now = now.as_nanos();
        let within = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let after = full_at.max(now).saturating_add(cost);
            (after - now <= self.full_nanos).then_some(after)
        });
        within.is_ok() != self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(limit: &Limit, now: Time, packets: usize) -> usize {
        (0..packets).filter(|_| limit.matches(now, 100)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let second = Time::from_nanos(NANOS_PER_SEC);
        let limit = Limit::new(false, 10, false, 1, 0);
        assert_eq!(passed(&limit, second, 100), 5);
        let later = Time::from_nanos(NANOS_PER_SEC + NANOS_PER_SEC / 5);
        assert_eq!(passed(&limit, later, 100), 2);
        let over = Limit::new(true, 10, false, 1, 3);
        assert_eq!(passed(&over, second, 100), 97);
        // A day's rest fills the bucket and no more.
        let day = Time::from_nanos(86_400 * NANOS_PER_SEC);
        assert_eq!(passed(&limit, day, 100), 5);
    }

    #[test]
    fn bytes_count_when_the_rate_is_of_bytes() {
        let second = Time::from_nanos(NANOS_PER_SEC);
        let limit = Limit::new(false, 1000, true, 1, 500);
        assert_eq!(passed(&limit, second, 100), 15);
        let minute = Limit::new(false, 60, false, 60, 1);
        assert_eq!(passed(&minute, second, 100), 1);
        assert_eq!(passed(&minute, Time::from_nanos(2 * NANOS_PER_SEC), 100), 1);
    }
}
