//! What the engine's clock means on the wall.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::worker::clock;
use crate::conntrack::Time;

const SECONDS_A_DAY: u64 = 86_400;

/// A moment as people and logs write it, in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WallTime {
    unix_ms: u64,
}

impl WallTime {
    /// Now.
    #[must_use]
    pub(super) fn now() -> WallTime {
        WallTime::from_unix(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    /// When the engine's clock showed `at`. Both clocks are read each time, so that a wall clock
    /// that is set while lotus runs moves only what comes after.
    #[must_use]
    pub(super) fn of(at: Time) -> WallTime {
        let ago = clock().since(at).as_millis();
        let ago = u64::try_from(ago).unwrap_or_default();
        WallTime {
            unix_ms: WallTime::now().unix_ms.saturating_sub(ago),
        }
    }

    fn from_unix(since_epoch: Duration) -> WallTime {
        WallTime {
            unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or_default(),
        }
    }

    /// `HH:MM:SS.mmm`, for a line on a screen.
    #[must_use]
    pub(super) fn time_of_day(self) -> impl fmt::Display {
        let seconds = self.unix_ms / 1000 % SECONDS_A_DAY;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!(
            "{hour:02}:{minute:02}:{second:02}.{:03}",
            self.unix_ms % 1000
        )
    }
}

/// RFC 3339, for a log that other programs read.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.unix_ms / 1000 / SECONDS_A_DAY);
        write!(f, "{year:04}-{month:02}-{day:02}T{}Z", self.time_of_day())
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut left = days;
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_across_leap_years() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(
                WallTime::from_unix(Duration::from_secs(seconds)).to_string(),
                text
            );
        }
        let moment = WallTime::from_unix(Duration::from_millis(45_296_789));
        assert_eq!(moment.time_of_day().to_string(), "12:34:56.789");
    }

    #[test]
    fn an_older_moment_is_earlier_on_the_wall_too() {
        let reference = WallTime::now();
        let five_seconds_ago = WallTime::of(clock() - Duration::from_secs(5));
        let ago = reference.unix_ms.abs_diff(five_seconds_ago.unix_ms);
        assert!((4900..=5100).contains(&ago), "{ago} ms");
    }
}
