//! `define` and `$name`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::PortNames;
use super::ast::{Atom, AtomKind, Define, Expr};
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
    span: Span,
    /// Where the value itself stands, if it came by a name.
    defined: Option<Span>,
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
    pieces: Option<Rc<[Piece<'t>]>>,
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
                pieces: Some(Rc::new([piece])),
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
    ) -> Option<Vec<Piece<'t>>> {
        let mut pieces = Vec::with_capacity(expr.elements.len());
        let mut whole = true;
        for element in &expr.elements {
            let found = match element.high {
                None => self.pieces(&element.low, problems),
                Some(high) => match (
                    self.single(&element.low, problems),
                    self.single(&high, problems),
                ) {
                    (Some(low), Some(high)) => {
                        let defined = low.defined.or(high.defined);
                        let span = element.span();
                        Some(vec![Piece {
                            low: low.low,
                            high: Some(high.low),
                            span,
                            defined,
                        }])
                    }
                    _ => None,
                },
            };
            let Some(found) = found else {
                whole = false;
                continue;
            };
            let Some(left) = self.values_left.checked_sub(found.len()) else {
                let message = format!("more than {MAX_VALUES} values");
                problems.push(Problem::new(
                    element.span(),
                    message,
                    "too many from here on",
                ));
                return None;
            };
            self.values_left = left;
            pieces.extend(found);
        }
        whole.then_some(pieces)
    }

    /// A value that must be one value.
    pub(super) fn single(&self, atom: &Atom<'t>, problems: &mut Vec<Problem>) -> Option<Piece<'t>> {
        match self.pieces(atom, problems)?.as_slice() {
            [piece] if piece.high.is_none() => Some(*piece),
            _ => {
                let message = format!("`${}` is not a single value", atom.text);
                problems.push(Problem::new(atom.span, message, ""));
                None
            }
        }
    }

    fn pieces(&self, atom: &Atom<'t>, problems: &mut Vec<Problem>) -> Option<Vec<Piece<'t>>> {
        if atom.kind != AtomKind::Variable {
            let piece = Piece {
                low: atom.text,
                high: None,
                span: atom.span,
                defined: None,
            };
            return Some(vec![piece]);
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
        found
            .pieces
            .as_ref()
            .map(|pieces| pieces.iter().map(here).collect())
    }
}
