use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the engine's clock. The engine never reads a clock: whoever calls it says what
/// time it is, so that tests move time by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    nanos: u64,
}

impl Time {
    /// A moment this many nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Time {
        Time { nanos }
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    #[inline]
    fn add(self, duration: Duration) -> Time {
        Time {
            nanos: self.nanos.saturating_add(nanos(duration)),
        }
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    #[inline]
    fn sub(self, duration: Duration) -> Time {
        Time {
            nanos: self.nanos.saturating_sub(nanos(duration)),
        }
    }
}

/// In 64 bits, which end after 584 years.
#[inline]
fn nanos(duration: Duration) -> u64 {
    const NANOS_PER_SECOND: u64 = 1_000_000_000;
    let seconds = duration.as_secs().saturating_mul(NANOS_PER_SECOND);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
