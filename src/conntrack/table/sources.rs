use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::wire::Side;

/// How many half-open flows each source has: an array of counters, two for each source, chosen by
/// a keyed hash. A source that shares one of its counters with a busy one is judged by the other.
///
/// An IPv6 source is its /64: whoever has one address of it has them all. The same source counts for
/// each side on its own, as whoever speaks for it from the other side is somebody else.
#[derive(Debug)]
pub(super) struct Sources {
    rows: [Box<[AtomicU32]>; 2],
    hasher: ahash::RandomState,
}

/// The counters of one source, one in each row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells([usize; 2]);

/// One counter for this many flows. A table full of flows of as many sources then makes about four
/// in each counter, far below any useful limit.
const FLOWS_PER_CELL: usize = 4;
const CELLS: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 20;

impl Sources {
    pub(super) fn new(capacity: usize) -> Sources {
        let cells = (capacity / FLOWS_PER_CELL)
            .clamp(*CELLS.start(), *CELLS.end())
            .next_power_of_two();
        let row = || (0..cells).map(|_| AtomicU32::new(0)).collect();
        Sources {
            rows: [row(), row()],
            hasher: ahash::RandomState::new(),
        }
    }

    /// The counters of a source.
    pub(super) fn cells(&self, side: Side, source: IpAddr) -> Cells {
        let source = match source {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // An IPv6 prefix below 2^32 would be ::/32, where no host is.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        let hash = self.hasher.hash_one((side, source));
        Cells([hash as u32 as usize, (hash >> 32) as usize])
    }

    /// No fewer than the half-open flows of a source, and seldom more.
    pub(super) fn count(&self, source: Cells) -> usize {
        let counts = self.counters(source).map(|cell| cell.load(Relaxed));
        counts.min().unwrap_or(0) as usize
    }

    pub(super) fn add(&self, source: Cells) {
        for cell in self.counters(source) {
            cell.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sub(&self, source: Cells) {
        for cell in self.counters(source) {
            cell.fetch_sub(1, Relaxed);
        }
    }

    fn counters(&self, Cells(at): Cells) -> impl Iterator<Item = &AtomicU32> {
        self.rows.iter().zip(at).filter_map(|(row, at)| {
            let cell = at & (row.len() - 1); // a power of two
            row.get(cell)
        })
    }

    /// The sum of all counters, each flow counted once.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        let [row, _] = &self.rows;
        row.iter().map(|cell| u64::from(cell.load(Relaxed))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(host: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + host).into())
    }

    #[test]
    fn a_source_is_counted_exactly_however_many_others_there_are() {
        let sources = Sources::new(100_000);
        let cells = sources.cells(Side::Outside, v4(7));
        (0..300).for_each(|_| sources.add(cells));
        for host in 100..100_000 {
            sources.add(sources.cells(Side::Outside, v4(host)));
        }
        let count = sources.count(cells);
        assert!((300..330).contains(&count), "{count}");
        (0..300).for_each(|_| sources.sub(cells));
        assert!(sources.count(cells) < 30);
        for host in 100..100_000 {
            sources.sub(sources.cells(Side::Outside, v4(host)));
        }
        assert_eq!((sources.total(), sources.count(cells)), (0, 0));
    }

    #[test]
    fn a_source_is_an_ipv6_prefix_and_belongs_to_its_side() {
        let sources = Sources::new(100_000);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        sources.add(sources.cells(Side::Outside, v6("2001:db8::1")));
        let count = |side, text| sources.count(sources.cells(side, v6(text)));
        assert_eq!(count(Side::Outside, "2001:db8::ffff:1"), 1);
        assert_eq!(count(Side::Outside, "2001:db8:0:1::1"), 0);
        assert_eq!(count(Side::Inside, "2001:db8::1"), 0);
    }
}
