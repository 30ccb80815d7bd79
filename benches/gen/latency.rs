//! Times of many frames or answers, and what is told of them. Shared by `pktgen` and `talk`.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer times count as this long: a minute, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// Digits that are kept of each time.
const DIGITS: u8 = 3;

const NS_IN_US: f64 = 1000.0;

/// How long things took.
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Times {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Times(histogram.expect("bounds that a histogram can have"))
    }

    pub(crate) fn add(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Nothing, if there are no times.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / NS_IN_US;
        (self.count() > 0).then(|| Latency {
            min: self.0.min() as f64 / NS_IN_US,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / NS_IN_US,
        })
    }
}

/// In microseconds.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}
