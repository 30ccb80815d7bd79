//! Sets and maps, named and anonymous.

use super::{Checker, Scope, SetUse, empty_set, find, known_names};
use crate::rules::ast::{self, Contents, Expr, Key, Mappings, Name, SetType, Verdict as Wanted};
use crate::rules::checked::{Set, Verdict};
use crate::rules::datatype::{self, Datatype};
use crate::rules::define::{Piece, Written};
use crate::rules::diagnostic::Problem;
use crate::rules::field::Field;
use crate::rules::lexer::Span;
use crate::rules::lookup::{Interval, Lookup, Row};
use crate::rules::names::{ETHERTYPE_SERVICE_TAG, ETHERTYPE_VLAN};
use crate::rules::program::MAX_PARTS;

/// Comparisons that the search for elements that overlap may take: for sets whose ranges are all
/// over each other it gives up, and they are searched as they are.
const MAX_COMPARISONS: usize = 4_000_000;

/// Shadowed elements that are shown of one set.
const MAX_SHADOWED: usize = 3;

impl<'t> Checker<'t, '_> {
    /// What can be known of a set before its elements are read.
    pub(super) fn declare_set(&mut self, set: &'t ast::Set<'t>) -> Set {
        let types = match &set.kind {
            Some(SetType::Names(names)) => {
                let mut types = Vec::new();
                for name in names {
                    match datatype::named(name.text) {
                        Ok(datatype) => types.push(datatype),
                        Err(fault) => {
                            let problem = Problem::new(name.span, fault.message, "");
                            self.note(problem.hint(fault.hint));
                        }
                    }
                }
                if types.len() == names.len() {
                    types
                } else {
                    Vec::new()
                }
            }
            Some(SetType::Fields(key)) => key.fields.iter().map(|field| field.datatype()).collect(),
            None => {
                if !set.damaged {
                    let what = if matches!(set.contents, Contents::Map(_)) {
                        "map"
                    } else {
                        "set"
                    };
                    let message = format!("{what} `{}` has no type", set.name.text);
                    let problem = Problem::new(set.name.span, message, "");
                    self.note(problem.hint("write for example `type ipv4_addr;` into it"));
                }
                Vec::new()
            }
        };
        if types.len() > MAX_PARTS {
            let message = format!("more than {MAX_PARTS} parts in an element");
            self.note(Problem::new(set.name.span, message, ""));
        }
        Set {
            types,
            fields: match &set.kind {
                Some(SetType::Fields(key)) => Some(key.fields.clone()),
                _ => None,
            },
            interval: set.interval,
            auto_merge: set.auto_merge,
            verdicts: matches!(set.contents, Contents::Map(_)).then(Vec::new),
            ..empty_set(Some(set.name.text.to_owned()), set.name.span)
        }
    }

    /// Reads the elements of a set that was declared.
    pub(super) fn fill_set(&mut self, set: &'t ast::Set<'t>, number: usize, scope: &Scope<'t>) {
        let Some(declared) = self.checked.sets.get(number) else {
            return;
        };
        let (types, interval, auto_merge) = (
            declared.types.clone(),
            declared.interval,
            declared.auto_merge,
        );
        if types.is_empty() || types.len() > MAX_PARTS {
            return;
        }
        let before = self.problems.len();
        let (mut rows, mut spans, mut verdicts) = (Vec::new(), Vec::new(), None);
        match &set.contents {
            Contents::Set(all) => {
                for values in all {
                    let Some(written) = self.names.resolve(values, self.problems) else {
                        continue;
                    };
                    for element in &written {
                        if let Some(row) = self.row(element, &types) {
                            rows.push(row);
                            spans.push(element.span());
                        }
                    }
                }
            }
            Contents::Map(all) => {
                let mut known = Vec::new();
                for mappings in all {
                    self.mapped(mappings, &types, scope, &mut rows, &mut spans, &mut known);
                }
                verdicts = Some(known);
            }
        }
        if self.problems.len() > before {
            return;
        }
        let is_range = |row: &Row| row.parts().any(|(low, high)| low != high);
        if !interval && let Some(at) = rows.iter().position(is_range) {
            let span = spans.get(at).copied().unwrap_or(set.name.span);
            let problem = Problem::new(span, "a range or prefix in a set of single values", "")
                .also(set.name.span, "this set");
            return self.note(problem.hint("add `flags interval;` to the set"));
        }
        let overlaps = if auto_merge {
            Overlaps::Merged
        } else {
            Overlaps::Refused
        };
        let lookup = self.lookup(
            &rows,
            &spans,
            verdicts.as_deref(),
            types.len(),
            overlaps,
            set.name.span,
        );
        if let (Some(lookup), Some(slot)) = (lookup, self.checked.sets.get_mut(number)) {
            slot.rows = rows;
            slot.verdicts = verdicts;
            slot.lookup = lookup;
        }
    }

    /// A set between braces, or a single concatenation.
    pub(super) fn anonymous_set(
        &mut self,
        values: &Expr<'t>,
        types: Vec<Datatype>,
    ) -> Option<usize> {
        if !self.is_possible(&types, values.span) {
            return None;
        }
        let written = self.names.resolve(values, self.problems)?;
        let (mut rows, mut spans) = (Vec::new(), Vec::new());
        for element in &written {
            if let Some(row) = self.row(element, &types) {
                rows.push(row);
                spans.push(element.span());
            }
        }
        if rows.len() != written.len() {
            return None;
        }
        let parts = types.len();
        let lookup = self.lookup(&rows, &spans, None, parts, Overlaps::Shadowed, values.span)?;
        self.checked.sets.push(Set {
            types,
            rows,
            lookup,
            ..empty_set(None, values.span)
        });
        Some(self.checked.sets.len() - 1)
    }

    pub(super) fn anonymous_map(
        &mut self,
        mappings: &Mappings<'t>,
        types: Vec<Datatype>,
        scope: &Scope<'t>,
    ) -> Option<usize> {
        if !self.is_possible(&types, mappings.span) {
            return None;
        }
        let before = self.problems.len();
        let (mut rows, mut spans, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        self.mapped(
            mappings,
            &types,
            scope,
            &mut rows,
            &mut spans,
            &mut verdicts,
        );
        if self.problems.len() > before {
            return None;
        }
        let (parts, span) = (types.len(), mappings.span);
        let lookup = self.lookup(
            &rows,
            &spans,
            Some(&verdicts),
            parts,
            Overlaps::Refused,
            span,
        )?;
        self.checked.sets.push(Set {
            types,
            rows,
            verdicts: Some(verdicts),
            lookup,
            ..empty_set(None, span)
        });
        Some(self.checked.sets.len() - 1)
    }

    fn is_possible(&mut self, types: &[Datatype], span: Span) -> bool {
        if types.len() > MAX_PARTS {
            let message = format!("more than {MAX_PARTS} parts in an element");
            self.note(Problem::new(span, message, ""));
        }
        types.len() <= MAX_PARTS
    }

    /// The entries of a map; equal verdicts are kept once.
    fn mapped(
        &mut self,
        mappings: &Mappings<'t>,
        types: &[Datatype],
        scope: &Scope<'t>,
        rows: &mut Vec<Row>,
        spans: &mut Vec<Span>,
        verdicts: &mut Vec<Verdict>,
    ) {
        for (key, verdict) in &mappings.entries {
            if let Wanted::Reject(_) = verdict {
                let problem = Problem::new(key.span(), "a map cannot reject", "");
                self.note(problem.hint("jump to a chain that does"));
                continue;
            }
            let verdict = self.verdict(*verdict, scope);
            let Some(written) = self.names.element(key, self.problems) else {
                continue;
            };
            let Some(verdict) = verdict else { continue };
            let value = match verdicts.iter().position(|known| *known == verdict) {
                Some(at) => at,
                None => {
                    verdicts.push(verdict);
                    verdicts.len() - 1
                }
            };
            for element in &written {
                if let Some(row) = self.row(element, types) {
                    rows.push(Row {
                        value: u32::try_from(value).unwrap_or(u32::MAX),
                        ..row
                    });
                    spans.push(element.span());
                }
            }
        }
    }

    /// One element, each part read as its type says.
    pub(super) fn row(&mut self, written: &Written<'t>, types: &[Datatype]) -> Option<Row> {
        let count = 1 + written.rest.len();
        if count != types.len() {
            let name = |datatype: &Datatype| datatype.name();
            let expected: Vec<_> = types.iter().map(name).collect();
            let message = if types.len() == 1 {
                "a concatenation where one value is expected".to_owned()
            } else {
                format!("{count} parts where {} are expected", types.len())
            };
            let hint = format!("an element is of the form `{}`", expected.join(" . "));
            self.note(Problem::new(written.span(), message, "").hint(hint));
            return None;
        }
        let mut parts = written.pieces().zip(types);
        let (piece, datatype) = parts.next()?;
        let first = self.interval(piece, *datatype);
        let rest: Vec<_> = parts
            .map(|(piece, datatype)| self.interval(piece, *datatype))
            .collect();
        Some(Row {
            first: first?,
            rest: rest.into_iter().collect::<Option<_>>()?,
            value: 0,
        })
    }

    fn interval(&mut self, piece: &Piece<'t>, datatype: Datatype) -> Option<Interval> {
        let ports = self.ports;
        let mut read = |word: &'t str| match datatype.value(word, ports) {
            Ok(interval) => Some(interval),
            Err(_) if datatype == Datatype::IfName && !self.unknown_ports.insert(word) => None,
            Err(fault) => {
                let problem = piece.problem(fault.message).hint(fault.hint);
                self.problems.push(problem);
                None
            }
        };
        let low = read(piece.low);
        let Some(high) = piece.high else { return low };
        let (low, high) = (low?, read(high)?);
        let problem = if !datatype.is_ordered() {
            piece
                .problem("a range of what has no order")
                .hint("write the values in braces")
        } else if low.0 != low.1 || high.0 != high.1 {
            piece
                .problem("a range from or to a prefix")
                .hint("write the two addresses")
        } else if low > high {
            piece
                .problem("the range ends before it begins")
                .hint("the smaller end comes first")
        } else {
            return Some((low.0, high.1));
        };
        self.note(problem);
        None
    }

    /// Makes the elements ready to be searched, and tells of those that overlap.
    fn lookup(
        &mut self,
        rows: &[Row],
        spans: &[Span],
        verdicts: Option<&[Verdict]>,
        parts: usize,
        overlaps: Overlaps,
        span: Span,
    ) -> Option<Lookup> {
        if overlaps != Overlaps::Merged {
            for (shown, (first, second)) in overlapping(rows).into_iter().enumerate() {
                let place = |at: usize| spans.get(at).copied().unwrap_or(span);
                let (one, other) = (place(first), place(second));
                let same = rows.get(first).zip(rows.get(second));
                let is_same = same.is_some_and(|(a, b)| a.first == b.first && a.rest == b.rest);
                let differ = same.is_some_and(|(a, b)| a.value != b.value);
                let is_error = if verdicts.is_some() {
                    differ || !is_same
                } else {
                    overlaps == Overlaps::Refused && !is_same && parts == 1
                };
                if is_error {
                    let problem = Problem::new(other, "elements that overlap", "")
                        .also(one, "this one has it, too");
                    self.note(match verdicts {
                        Some(_) => problem.hint("which verdict is meant? each value must have one"),
                        None => problem.hint("add `auto-merge;` to the set, or leave one out"),
                    });
                    return None;
                }
                if shown < MAX_SHADOWED {
                    let problem =
                        Problem::warning(other, "an element that is in the set already", "");
                    self.note(problem.also(one, "here"));
                }
            }
        }
        match Lookup::new(rows, parts, &mut self.lookup_left) {
            Ok(lookup) => Some(lookup),
            Err(_) => {
                let problem = Problem::new(span, "a set whose ranges overlap too much", "");
                self.note(problem.hint(
                    "put the part with single values first: each range is kept once for every \
                     range that it overlaps with",
                ));
                None
            }
        }
    }

    /// The set or map that `@name` means, if its elements are of the kind that the fields are.
    pub(super) fn set_named(
        &mut self,
        name: Name<'t>,
        key: &Key,
        wants_map: bool,
        scope: &Scope<'t>,
    ) -> Option<usize> {
        let what = if wants_map { "map" } else { "set" };
        let Some((declared, number)) = find(&scope.sets, name.text) else {
            let message = format!("the table has no {what} `{}`", name.text);
            let all = scope.sets.iter().map(|(name, _)| name.text);
            let hint = known_names(what, all, name.text);
            self.note(Problem::new(name.span, message, "").hint(hint));
            return None;
        };
        let set = self.checked.sets.get(number)?;
        let is_map = set.verdicts.is_some();
        let types = set.types.clone();
        if is_map != wants_map {
            let (is, hint) = if is_map {
                ("a map", "write `vmap @name`")
            } else {
                (
                    "a set",
                    "a `vmap` needs a map: `map NAME { type ... : verdict; }`",
                )
            };
            let message = format!("`{}` is {is}", name.text);
            let problem = Problem::new(name.span, message, "").also(declared.span, "declared here");
            self.note(problem.hint(hint));
            return None;
        }
        if types.is_empty() {
            // What is wrong with it was noted.
            return None;
        }
        let wanted: Vec<Datatype> = key.fields.iter().map(|field| field.datatype()).collect();
        if types != wanted {
            let list = |types: &[Datatype]| {
                let names: Vec<_> = types.iter().map(|datatype| datatype.name()).collect();
                names.join(" . ")
            };
            let fields: Vec<_> = key.fields.iter().map(|field| field.name()).collect();
            let message = format!(
                "`{}` is of the type {}, the {what} of {}",
                fields.join(" . "),
                list(&wanted),
                list(&types)
            );
            let problem = Problem::new(name.span, message, "");
            self.note(problem.also(declared.span, "declared here"));
            return None;
        }
        Some(number)
    }
}

impl Checker<'_, '_> {
    /// Elements that no packet has, or that are something else where there are tags: an element
    /// that a single value may not be must not be in a set either.
    pub(super) fn check_set_uses(&mut self) {
        for SetUse {
            fields,
            set,
            span,
            is_match,
        } in std::mem::take(&mut self.set_uses)
        {
            let Some(set) = self.checked.sets.get(set) else {
                continue;
            };
            let alone = is_match && fields.len() == 1;
            let odd = set.rows.iter().find_map(|row| {
                let mut parts = row.parts().zip(&fields);
                parts.find_map(|(&part, &field)| never(field, part, alone))
            });
            if let Some(hint) = odd {
                let message = "an element that can never match here";
                self.note(Problem::new(span, message, "").hint(hint));
            }
        }
    }
}

/// Why a packet never has such a value, if it has not.
pub(super) fn never(field: Field, (low, high): Interval, alone: bool) -> Option<&'static str> {
    /// Hop-by-hop, routing, fragment, authentication, destination options (RFC 8200 section 4).
    const WALKED: [u128; 5] = [0, 43, 44, 51, 60];
    let is = |value: u16| (low, high) == (value.into(), value.into());
    let has = |value: u16| low <= value.into() && high >= value.into();
    match field {
        Field::EtherType if is(ETHERTYPE_SERVICE_TAG) => {
            Some("lotus does not tell kinds of outer tags apart: write `vlan`")
        }
        Field::EtherType if !alone && has(ETHERTYPE_VLAN) => {
            Some("write a rule with `ether type vlan` before it: only alone it asks for the tag")
        }
        Field::Protocol if is(ETHERTYPE_SERVICE_TAG) || is(ETHERTYPE_VLAN) => {
            Some("`meta protocol` is what is behind the tag: write `ether type vlan`")
        }
        Field::Ip6NextHeader if low == high && WALKED.contains(&low) => {
            Some("lotus looks behind extension headers, as `meta l4proto` does")
        }
        _ => None,
    }
}

/// What elements that overlap are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlaps {
    /// One is worth a warning.
    Shadowed,
    /// An error, as in nft.
    Refused,
    /// Wanted so.
    Merged,
}

/// Pairs of elements that have something in common, the earlier one first.
fn overlapping(rows: &[Row]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let interval = |row: usize| rows.get(row).map_or((0, 0), |row| row.first);
    order.sort_by_key(|&row| (interval(row).0, row));
    let mut found = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut left = MAX_COMPARISONS;
    for row in order {
        let Some(less) = left.checked_sub(open.len()) else {
            return found;
        };
        left = less;
        open.retain(|&other| interval(other).1 >= interval(row).0);
        for &other in &open {
            let Some(less) = left.checked_sub(1) else {
                return found;
            };
            left = less;
            if let (Some(a), Some(b)) = (rows.get(other), rows.get(row))
                && a.overlaps(b)
            {
                found.push((other.min(row), other.max(row)));
                break;
            }
        }
        open.push(row);
    }
    found.sort_unstable();
    found
}
