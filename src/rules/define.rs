//! `define` and `$name`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::PortNames;
use super::ast::{Atom, AtomKind, Define, Element, Expr, Part};
use super::diagnostic::Problem;
use super::lexer::Span;

/// All values that a file's definitions and sets come to, after definitions within definitions
/// are written out. Ten lines could otherwise ask for all memory; a set of 100,000 has ten times
/// its room.
const MAX_VALUES: usize = 2_000_000;

/// A value or a range with its names resolved, and where to point if it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub(super) low: &'t str,
    pub(super) high: Option<&'t str>,
    pub(super) span: Span,
    /// Where the value itself stands, if it came by a name.
    defined: Option<Span>,
}

/// An element with its names resolved: a piece, or a concatenation of pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written<'t> {
    pub(super) first: Piece<'t>,
    pub(super) rest: Vec<Piece<'t>>,
}

impl<'t> Written<'t> {
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Piece<'t>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Where it stands.
    pub(super) fn span(&self) -> Span {
        let last = self.rest.last().unwrap_or(&self.first);
        self.first.span.to(last.span)
    }
}

impl Piece<'_> {
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        let problem = Problem::new(self.span, message, "");
        match self.defined {
            Some(defined) => problem.also(defined, "the value comes from here"),
            None => problem,
        }
    }
}

/// The names that are known at a place in the file.
#[derive(Debug)]
pub(super) struct Definitions<'t> {
    /// Of the file; then of the table, if inside one.
    scopes: Vec<HashMap<&'t str, Definition<'t>>>,
    values_left: usize,
}

#[derive(Clone, Debug)]
struct Definition<'t> {
    /// Absent for the names that lotus gives, which a file may give itself for `nft`.
    span: Option<Span>,
    /// Absent if the value could not be read: whoever uses it needs no second error.
    pieces: Option<Rc<[Written<'t>]>>,
}

impl<'t> Definitions<'t> {
    /// With `$inside` and `$outside`.
    pub(super) fn new(ports: &'t PortNames) -> Definitions<'t> {
        let given = |name: &'t str| {
            let span = Span { start: 0, end: 0 };
            let piece = Piece {
                low: name,
                high: None,
                span,
                defined: None,
            };
            Definition {
                span: None,
                pieces: Some(Rc::new([Written {
                    first: piece,
                    rest: Vec::new(),
                }])),
            }
        };
        let file = HashMap::from([
            ("inside", given(&ports.inside)),
            ("outside", given(&ports.outside)),
        ]);
        Definitions {
            scopes: vec![file],
            values_left: MAX_VALUES,
        }
    }

    /// Begins a table.
    pub(super) fn enter(&mut self) {
        self.scopes.push(HashMap::new());
    }

    /// Ends it: its names are forgotten.
    pub(super) fn leave(&mut self) {
        self.scopes.pop();
    }

    pub(super) fn define(&mut self, define: &Define<'t>, problems: &mut Vec<Problem>) {
        let pieces = define
            .value
            .as_ref()
            .and_then(|value| self.resolve(value, problems));
        let definition = Definition {
            span: Some(define.name.span),
            pieces: pieces.map(Rc::from),
        };
        let Some(scope) = self.scopes.last_mut() else {
            return;
        };
        match scope.entry(define.name.text) {
            Entry::Occupied(mut entry) => match entry.get().span {
                Some(first) => {
                    let message = format!("`{}` is defined twice", define.name.text);
                    let problem = Problem::new(define.name.span, message, "");
                    problems.push(problem.also(first, "first here"));
                }
                None => {
                    entry.insert(definition);
                }
            },
            Entry::Vacant(entry) => {
                entry.insert(definition);
            }
        }
    }

    /// Writes out the names in a value.
    pub(super) fn resolve(
        &mut self,
        expr: &Expr<'t>,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Written<'t>>> {
        let mut all = Vec::with_capacity(expr.elements.len());
        let mut whole = true;
        for element in &expr.elements {
            match self.element(element, problems) {
                Some(found) => all.extend(found),
                None => whole = false,
            }
            if self.values_left == 0 {
                return None;
            }
        }
        whole.then_some(all)
    }

    /// One element as it was written: a name may stand for many.
    pub(super) fn element(
        &mut self,
        element: &Element<'t>,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Written<'t>>> {
        let found = match (element.first.high, element.rest.as_slice()) {
            (None, []) => self.pieces(&element.first.low, problems)?,
            (_, rest) => {
                let first = self.part(&element.first, problems);
                let rest: Vec<_> = rest.iter().map(|part| self.part(part, problems)).collect();
                vec![Written {
                    first: first?,
                    rest: rest.into_iter().collect::<Option<_>>()?,
                }]
            }
        };
        match self.values_left.checked_sub(found.len()) {
            Some(left) if left > 0 => self.values_left = left,
            _ => {
                self.values_left = 0;
                let message = format!("more than {MAX_VALUES} values");
                let label = "too many from here on";
                problems.push(Problem::new(element.span(), message, label));
                return None;
            }
        }
        Some(found)
    }

    /// A part of a concatenation, or a range.
    fn part(&self, part: &Part<'t>, problems: &mut Vec<Problem>) -> Option<Piece<'t>> {
        let low = self.one(&part.low, problems);
        let Some(high) = part.high else { return low };
        let (low, high) = (low?, self.one(&high, problems)?);
        for (end, atom) in [(&low, &part.low), (&high, &high_atom(part))] {
            if end.high.is_some() {
                problems.push(not_single(atom));
                return None;
            }
        }
        Some(Piece {
            low: low.low,
            high: Some(high.low),
            span: part.span(),
            defined: low.defined.or(high.defined),
        })
    }

    /// A value or range that is one.
    fn one(&self, atom: &Atom<'t>, problems: &mut Vec<Problem>) -> Option<Piece<'t>> {
        match self.pieces(atom, problems)?.as_slice() {
            [Written { first, rest }] if rest.is_empty() => Some(*first),
            _ => {
                problems.push(not_single(atom));
                None
            }
        }
    }

    /// A value that must be one value.
    pub(super) fn single(&self, atom: &Atom<'t>, problems: &mut Vec<Problem>) -> Option<Piece<'t>> {
        let piece = self.one(atom, problems)?;
        if piece.high.is_some() {
            problems.push(not_single(atom));
            return None;
        }
        Some(piece)
    }

    fn pieces(&self, atom: &Atom<'t>, problems: &mut Vec<Problem>) -> Option<Vec<Written<'t>>> {
        if atom.kind != AtomKind::Variable {
            let piece = Piece {
                low: atom.text,
                high: None,
                span: atom.span,
                defined: None,
            };
            return Some(vec![Written {
                first: piece,
                rest: Vec::new(),
            }]);
        }
        let Some(found) = self
            .scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(atom.text))
        else {
            let known = self.scopes.iter().flat_map(|scope| scope.keys().copied());
            let hint = match super::names::nearest(known, atom.text) {
                Some(name) => format!("did you mean `${name}`?"),
                None => format!("write `define {} = ...` above", atom.text),
            };
            let message = format!("`${}` is not defined", atom.text);
            problems.push(Problem::new(atom.span, message, "").hint(hint));
            return None;
        };
        let here = |piece: &Piece<'t>| Piece {
            span: atom.span,
            defined: found.span.map(|_| piece.defined.unwrap_or(piece.span)),
            ..*piece
        };
        let written = |written: &Written<'t>| Written {
            first: here(&written.first),
            rest: written.rest.iter().map(here).collect(),
        };
        let found = found.pieces.as_ref()?;
        Some(found.iter().map(written).collect())
    }
}

fn high_atom<'t>(part: &Part<'t>) -> Atom<'t> {
    part.high.unwrap_or(part.low)
}

fn not_single(atom: &Atom<'_>) -> Problem {
    let message = format!("`${}` is not a single value", atom.text);
    Problem::new(atom.span, message, "")
}
