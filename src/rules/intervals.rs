use std::fmt::Debug;

/// Whole numbers that interval sets are made of.
pub(super) trait Number: Copy + Ord + Debug {
    /// The smallest value.
    const MIN: Self;
    /// The largest value.
    const MAX: Self;
    /// The next larger value, none after [`Number::MAX`].
    fn next(self) -> Option<Self>;
    /// The next smaller value, none before [`Number::MIN`].
    fn previous(self) -> Option<Self>;
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Number for $kind {
            const MIN: Self = <$kind>::MIN;
            const MAX: Self = <$kind>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )*};
}

// Ports, types and protocol numbers; IPv4 addresses; MAC addresses; IPv6 addresses.
numbers!(u16 u32 u64 u128);

/// A set of numbers as sorted closed intervals that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IntervalSet<T>(Box<[(T, T)]>);

impl<T: Number> IntervalSet<T> {
    /// Every number.
    pub(super) fn full() -> IntervalSet<T> {
        IntervalSet(Box::new([(T::MIN, T::MAX)]))
    }

    /// The union of closed intervals in any order; each has its smaller end first.
    pub(super) fn of(mut intervals: Vec<(T, T)>) -> IntervalSet<T> {
        intervals.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(intervals.len());
        for (low, high) in intervals {
            match merged.last_mut() {
                Some(last) if last.1.next().is_none_or(|next| low <= next) => {
                    last.1 = last.1.max(high);
                }
                _ => merged.push((low, high)),
            }
        }
        IntervalSet(merged.into())
    }

    /// Whether `value` is in the set. One comparison for a single interval, a binary search for
    /// more.
    pub(super) fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|&(low, _)| low <= value);
        after
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .is_some_and(|&(_, high)| value <= high)
    }

    /// Whether nothing is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is in both sets.
    pub(super) fn intersection(&self, other: &IntervalSet<T>) -> IntervalSet<T> {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&a), Some(&&b)) = (left.peek(), right.peek()) {
            let (low, high) = (a.0.max(b.0), a.1.min(b.1));
            if low <= high {
                both.push((low, high));
            }
            if a.1 < b.1 {
                left.next();
            } else {
                right.next();
            }
        }
        IntervalSet(both.into())
    }

    /// What is not in the set.
    pub(super) fn complement(&self) -> IntervalSet<T> {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(T::MIN);
        for &(low, high) in &self.0 {
            if let (Some(start), Some(end)) = (from, low.previous())
                && start <= end
            {
                gaps.push((start, end));
            }
            from = high.next();
        }
        if let Some(start) = from {
            gaps.push((start, T::MAX));
        }
        IntervalSet(gaps.into())
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::rules::tests::Random;

    /// A set over 0..=255 and both ends of u16, as one flag for each value.
    fn model(intervals: &[(u16, u16)]) -> Vec<bool> {
        let mut flags = vec![false; 65536];
        for &(low, high) in intervals {
            flags[usize::from(low)..=usize::from(high)].fill(true);
        }
        flags
    }

    fn flags(set: &IntervalSet<u16>) -> Vec<bool> {
        (0..=u16::MAX).map(|value| set.contains(value)).collect()
    }

    fn random_intervals(random: &mut Random) -> Vec<(u16, u16)> {
        (0..random.below(9))
            .map(|_| {
                let base = [0, 0, 300, 65_536 - 64][random.below(4) as usize];
                let (a, b) = (base + random.below(64), base + random.below(64));
                (a.min(b) as u16, a.max(b) as u16)
            })
            .collect()
    }

    #[test]
    fn sets_agree_with_a_flag_for_each_value() {
        let mut random = Random(0x10_705);
        for _ in 0..60 {
            let (a, b) = (random_intervals(&mut random), random_intervals(&mut random));
            let (set_a, set_b) = (IntervalSet::of(a.clone()), IntervalSet::of(b.clone()));
            let (model_a, model_b) = (model(&a), model(&b));
            assert_eq!(flags(&set_a), model_a, "{a:?}");
            let both: Vec<bool> = model_a
                .iter()
                .zip(&model_b)
                .map(|(a, b)| *a && *b)
                .collect();
            assert_eq!(flags(&set_a.intersection(&set_b)), both, "{a:?} {b:?}");
            let not: Vec<bool> = model_a.iter().map(|a| !a).collect();
            assert_eq!(flags(&set_a.complement()), not, "{a:?}");
            assert_eq!(set_a.complement().complement(), set_a);
            for pair in set_a.0.windows(2) {
                assert!(
                    u32::from(pair[0].1) + 1 < u32::from(pair[1].0),
                    "touching: {set_a:?}"
                );
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_no_special_case() {
        assert!(IntervalSet::<u128>::full().complement().is_empty());
        assert_eq!(
            IntervalSet::of(vec![]).complement(),
            IntervalSet::<u64>::full()
        );
        let set = IntervalSet::of(vec![(u32::MAX, u32::MAX), (0, u32::MAX - 1)]);
        assert_eq!(set, IntervalSet::full());
    }
}
