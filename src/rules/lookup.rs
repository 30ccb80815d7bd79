//! Sets and maps that are searched: of single values, or of concatenations, each part a value or a
//! range. A look-up is one binary search for each part.

/// A closed interval.
pub(super) type Interval = (u128, u128);

/// What all levels of all sets of a file may come to. Ranges in the first part that overlap share the
/// elements behind them; sets made to multiply them must not eat all memory.
pub(super) const MAX_ENTRIES: usize = 8_000_000;

/// One element: the intervals of its parts, and what a map gives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) first: Interval,
    pub(super) rest: Box<[Interval]>,
    pub(super) value: u32,
}

impl Row {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Interval> {
        std::iter::once(&self.first).chain(self.rest.iter())
    }

    fn part(&self, depth: usize) -> Interval {
        self.parts().nth(depth).copied().unwrap_or((0, 0))
    }

    /// Whether there is something that both mean.
    pub(super) fn overlaps(&self, other: &Row) -> bool {
        let mut pairs = self.parts().zip(other.parts());
        pairs.all(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
    }
}

/// A set is too large, or rather: becomes so by how its ranges overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Elements in the order in which they are searched.
#[derive(Debug)]
pub(super) struct Lookup(Level);

/// The intervals of one part do not overlap, and are sorted.
#[derive(Debug)]
enum Level {
    Last(Box<[(Interval, u32)]>),
    More(Box<[(Interval, Level)]>),
}

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup(Level::Last(Box::default()))
    }
}

impl Lookup {
    /// Elements of `parts` parts. Of elements that overlap, the first one counts. What it takes is
    /// taken from `left`.
    pub(super) fn new(rows: &[Row], parts: usize, left: &mut usize) -> Result<Lookup, TooLarge> {
        let all: Vec<usize> = (0..rows.len()).collect();
        level(rows, all, 0, parts, left).map(Lookup)
    }

    /// What the map gives for a value; a set gives whatever its rows had.
    #[inline]
    pub(super) fn find(&self, values: &[u128]) -> Option<u32> {
        let mut level = &self.0;
        let mut values = values.iter();
        loop {
            let &value = values.next()?;
            match level {
                Level::Last(entries) => return search(entries, value).copied(),
                Level::More(entries) => level = search(entries, value)?,
            }
        }
    }
}

#[inline]
fn search<T>(entries: &[(Interval, T)], value: u128) -> Option<&T> {
    let after = entries.partition_point(|&((low, _), _)| low <= value);
    let ((_, high), found) = entries.get(after.checked_sub(1)?)?;
    (value <= *high).then_some(found)
}

/// Cuts the rows' intervals of one part into pieces that do not overlap; behind each piece stand
/// the rows that cover it.
fn level(
    rows: &[Row],
    mut members: Vec<usize>,
    depth: usize,
    parts: usize,
    left: &mut usize,
) -> Result<Level, TooLarge> {
    *left = left.checked_sub(members.len()).ok_or(TooLarge)?;
    let interval = |&row: &usize| rows.get(row).map_or((0, 0), |row| row.part(depth));
    members.sort_by_key(|row| (interval(row).0, *row));
    let is_last = depth + 1 >= parts;
    let mut pieces: Vec<(Interval, Vec<usize>)> = Vec::with_capacity(members.len());
    // The rows that cover the present place, and where the piece begins that they cover.
    let mut open: Vec<usize> = Vec::new();
    let mut from = 0;
    let mut members = members.into_iter().peekable();
    loop {
        let next = members.peek().map(interval);
        let end = open.iter().map(|row| interval(row).1).min();
        match (next, end) {
            (None, None) => break,
            // Nothing ends before the next one begins.
            (Some((low, _)), end) if end.is_none_or(|end| low <= end) => {
                if !open.is_empty() && low > from {
                    *left = left.checked_sub(open.len()).ok_or(TooLarge)?;
                    pieces.push(((from, low - 1), open.clone()));
                }
                from = low;
                while let Some(row) = members.next_if(|row| interval(row).0 == low) {
                    open.push(row);
                }
            }
            (_, Some(end)) => {
                *left = left.checked_sub(open.len()).ok_or(TooLarge)?;
                pieces.push(((from, end), open.clone()));
                open.retain(|row| interval(row).1 > end);
                from = end.saturating_add(1);
            }
            (Some(_), None) => break,
        }
    }
    if is_last {
        let mut entries: Vec<(Interval, u32)> = Vec::with_capacity(pieces.len());
        for ((low, high), covering) in pieces {
            let first = covering.iter().min().and_then(|&row| rows.get(row));
            let value = first.map_or(0, |row| row.value);
            match entries.last_mut() {
                Some((last, same)) if *same == value && last.1.checked_add(1) == Some(low) => {
                    last.1 = high;
                }
                _ => entries.push(((low, high), value)),
            }
        }
        return Ok(Level::Last(entries.into()));
    }
    let entries: Result<Vec<_>, TooLarge> = pieces
        .into_iter()
        .map(|(piece, covering)| Ok((piece, level(rows, covering, depth + 1, parts, left)?)))
        .collect();
    Ok(Level::More(entries?.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::rules::tests::Random;

    fn interval(random: &mut Random) -> Interval {
        let base = [0, u128::MAX - 15][random.below(2) as usize];
        let (a, b) = (random.below(16), random.below(16));
        (base + u128::from(a.min(b)), base + u128::from(a.max(b)))
    }

    #[test]
    fn a_search_finds_what_reading_all_rows_finds() {
        let mut random = Random(0x10_706);
        for _ in 0..300 {
            let parts = 1 + random.below(3) as usize;
            let rows: Vec<Row> = (0..random.below(12) as u32)
                .map(|value| Row {
                    first: interval(&mut random),
                    rest: (1..parts).map(|_| interval(&mut random)).collect(),
                    value,
                })
                .collect();
            let lookup = Lookup::new(&rows, parts, &mut { MAX_ENTRIES }).unwrap();
            for _ in 0..200 {
                let values: Vec<u128> = (0..parts).map(|_| interval(&mut random).0).collect();
                let read = rows.iter().find(|row| {
                    let mut parts = row.parts().zip(&values);
                    parts.all(|(part, value)| part.0 <= *value && *value <= part.1)
                });
                let found = lookup.find(&values);
                assert_eq!(found, read.map(|row| row.value), "{rows:?} {values:?}");
            }
        }
    }

    #[test]
    fn ranges_that_multiply_are_refused() {
        // Each covers all, so each value of the first part has all the others behind it.
        let rows: Vec<Row> = (0..4000)
            .map(|number| Row {
                first: (number, u128::MAX - number),
                rest: Box::new([(number, number)]),
                value: 0,
            })
            .collect();
        assert_eq!(
            Lookup::new(&rows, 2, &mut { MAX_ENTRIES }).err(),
            Some(TooLarge)
        );
    }
}
