//! Matches: fields, and the values to the right of them.

use super::cursor::unquoted;
use super::{Failed, Parsed, Parser};
use crate::rules::ast::{
    Atom, AtomKind, Element, Expr, Key, Name, Part, Relation, Right, Rule, Shape, Statement,
};
use crate::rules::diagnostic::Problem;
use crate::rules::field::{self, Field};
use crate::rules::lexer::{Kind, Span};
use crate::rules::unsupported;

impl<'t> Parser<'t, '_> {
    pub(super) fn rule(&mut self) -> Rule<'t> {
        let start = self.peek().span;
        let mut statements = Vec::new();
        while !self.at_statement_end() {
            match self.statement() {
                Ok(statement) => statements.push(statement),
                Err(Failed) => {
                    self.skip_statement();
                    break;
                }
            }
        }
        Rule {
            statements,
            span: start.to(self.last_span()),
        }
    }

    /// One field, or some with dots between them.
    pub(super) fn key(&mut self, first: Name<'t>) -> Parsed<Key> {
        let mut fields = vec![self.field(first)?];
        while self.peek().kind == Kind::Dot {
            self.bump();
            let next = self.word("a field")?;
            fields.push(self.field(next)?);
        }
        Ok(Key {
            fields,
            span: first.span.to(self.last_span()),
        })
    }

    fn field(&mut self, first: Name<'t>) -> Parsed<Field> {
        let mut words = vec![first.text];
        let mut span = first.span;
        loop {
            let after = field::words_after(&words);
            let spelt = words.join(" ");
            if after.is_empty() {
                return self.unknown_field(&words, span);
            }
            let next = self.peek_text();
            if !next.is_empty() && after.contains(&next) {
                span = span.to(self.bump().span);
                words.push(next);
                continue;
            }
            if let Some(field) = field::named(&words) {
                return Ok(field);
            }
            let hint = format!("after `{spelt}` lotus knows: {}", after.join(", "));
            if self.peek().kind != Kind::Word {
                let problem = self.unexpected(&format!("a field of `{spelt}`"));
                return self.fail(problem.hint(hint));
            }
            let second = self.word("a field")?;
            let message = format!("`{spelt} {}` is not supported", second.text);
            let hint = unsupported::field(first.text, second.text).map_or(hint, str::to_owned);
            return self.fail(Problem::new(span.to(second.span), message, "").hint(hint));
        }
    }

    fn unknown_field(&mut self, words: &[&str], span: Span) -> Parsed<Field> {
        let word = words.first().copied().unwrap_or_default();
        let hint = match unsupported::in_rule(word) {
            Some(hint) => hint.to_owned(),
            None => match super::statement::nearest_word(word) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a rule holds matches (iifname, oifname, ether, vlan, arp, ip, ip6, \
                         icmp, icmpv6, tcp, udp, sctp, th, meta, ct), statements (counter, \
                         limit, log, ct helper set, comment) and a verdict (accept, drop, \
                         reject, jump, goto, return, continue, or a vmap)"
                    .to_owned(),
            },
        };
        let message = format!("`{word}` is not supported");
        self.fail(Problem::new(span, message, "").hint(hint))
    }

    /// What follows a key.
    pub(super) fn matching(&mut self, key: Key) -> Parsed<Statement<'t>> {
        let start = key.span;
        if self.peek_text() == "vmap" {
            self.bump();
            return self.vmap(key);
        }
        if self.peek_text() == "map" {
            let problem = Problem::new(self.peek().span, "maps of values are not supported", "");
            return self.fail(problem.hint("only maps of verdicts are: `KEY vmap { ... }`"));
        }
        if self.peek_text() == "set" {
            let name = key.fields.first().map(|field| field.name());
            let name = name.unwrap_or_default();
            let problem = Problem::new(self.peek().span, format!("`{name}` cannot be set"), "");
            return self.fail(problem.hint("lotus judges packets and does not change them"));
        }
        let mut mask = None;
        if self.peek().kind == Kind::And {
            self.bump();
            mask = Some(self.mask()?);
        }
        let relation = match self.peek().kind {
            Kind::Equal => Relation::Equal,
            Kind::NotEqual => Relation::NotEqual,
            Kind::Less => Relation::Less,
            Kind::LessOrEqual => Relation::LessOrEqual,
            Kind::Greater => Relation::Greater,
            Kind::GreaterOrEqual => Relation::GreaterOrEqual,
            _ => Relation::Implied,
        };
        if relation != Relation::Implied {
            self.bump();
        } else if let Some(mask) = &mask {
            let span = key.span.to(mask.span);
            let problem = Problem::new(span, "a mask without a comparison", "");
            return self.fail(problem.hint("write `& (...) == ...`, or `!= ...`"));
        }
        if self.peek().kind == Kind::SetName {
            let name = self.set_name()?;
            return Ok(Statement::Match {
                key,
                mask,
                relation,
                right: Right::Set(name),
                span: start.to(name.span),
            });
        }
        let values = self.expr()?;
        if self.peek().kind == Kind::Slash {
            // `tcp flags syn / syn,ack`
            self.bump();
            mask = Some(self.mask()?);
        }
        Ok(Statement::Match {
            key,
            mask,
            relation,
            span: start.to(self.last_span()),
            right: Right::Values(values),
        })
    }

    /// Bits without braces: `syn`, `(syn | ack)`, `syn,ack`.
    fn mask(&mut self) -> Parsed<Expr<'t>> {
        let expr = self.expr()?;
        if expr.shape == Shape::Set {
            let problem = Problem::new(expr.span, "a mask is no set", "");
            return self.fail(problem.hint("write `(syn | ack)`"));
        }
        Ok(expr)
    }

    pub(super) fn set_name(&mut self) -> Parsed<Name<'t>> {
        let token = self.expect(Kind::SetName, "`@name`")?;
        Ok(Name {
            text: token.span.of(self.text).trim_start_matches('@'),
            span: token.span,
        })
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr<'t>> {
        if self.peek().kind == Kind::OpenBrace {
            return self.set();
        }
        let first = self.element()?;
        let start = first.span();
        let mut elements = vec![first];
        while self.peek().kind == Kind::Comma {
            self.bump();
            elements.push(self.element()?);
        }
        let shape = if elements.len() == 1 {
            Shape::Single
        } else {
            Shape::List
        };
        Ok(Expr {
            shape,
            elements,
            span: start.to(self.last_span()),
        })
    }

    fn set(&mut self) -> Parsed<Expr<'t>> {
        let open = self.bump().span;
        let elements = self.in_braces(open, |parser| parser.element())?;
        Ok(Expr {
            shape: Shape::Set,
            elements,
            span: open.to(self.last_span()),
        })
    }

    /// What stands between braces with commas, and the closing brace.
    pub(super) fn in_braces<T>(
        &mut self,
        open: Span,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let items = self.items(open, item);
        if items.is_err() {
            self.skip_set();
        }
        items
    }

    fn items<T>(
        &mut self,
        open: Span,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        loop {
            self.skip_newlines();
            match self.peek().kind {
                Kind::CloseBrace if items.is_empty() => {
                    let span = open.to(self.peek().span);
                    let problem = Problem::new(span, "an empty set matches nothing", "");
                    return self.fail(problem.hint("leave the rule out, or name some values"));
                }
                Kind::CloseBrace => {
                    self.bump();
                    return Ok(items);
                }
                Kind::OpenBrace => {
                    let problem = Problem::new(self.peek().span, "a set inside a set", "");
                    return self.fail(problem.hint("write all values in one pair of braces"));
                }
                _ => items.push(item(self)?),
            }
            let line_end = self.at;
            self.skip_newlines();
            match self.peek().kind {
                Kind::Comma => {
                    self.bump();
                }
                Kind::CloseBrace => {}
                _ => {
                    // Maybe the brace is missing and the next line is another statement.
                    self.at = line_end;
                    let mut problem = self.unexpected("`,` or `}`").also(open, "in this set");
                    if let Some(hint) = unsupported::in_set(self.peek_text()) {
                        problem = problem.hint(hint);
                    } else if self.peek().kind == Kind::Colon {
                        problem =
                            problem.hint("a map of verdicts is written `KEY vmap { a : accept }`");
                    }
                    return self.fail(problem);
                }
            }
        }
    }

    pub(super) fn element(&mut self) -> Parsed<Element<'t>> {
        let first = self.part()?;
        let mut rest = Vec::new();
        while self.peek().kind == Kind::Dot {
            self.bump();
            rest.push(self.part()?);
        }
        Ok(Element { first, rest })
    }

    fn part(&mut self) -> Parsed<Part<'t>> {
        let low = self.atom("a value")?;
        if self.peek().kind != Kind::Dash {
            return Ok(Part { low, high: None });
        }
        self.bump();
        let high = self.atom("the end of the range")?;
        Ok(Part {
            low,
            high: Some(high),
        })
    }

    /// A value, or a mask: `a | b`, `(a | b)`, `(a, b)`.
    pub(super) fn atom(&mut self, what: &str) -> Parsed<Atom<'t>> {
        let in_parens = self.peek().kind == Kind::OpenParen;
        if in_parens {
            self.bump();
        }
        let mut atom = self.single_atom(what)?;
        loop {
            match self.peek().kind {
                Kind::Or => {}
                Kind::Comma if in_parens => {}
                _ => break,
            }
            self.bump();
            let next = self.single_atom(what)?;
            atom = self.joined(atom, next);
        }
        if in_parens {
            self.expect(Kind::CloseParen, "`)`")?;
        }
        Ok(atom)
    }

    fn single_atom(&mut self, what: &str) -> Parsed<Atom<'t>> {
        let token = self.peek();
        let whole = token.span.of(self.text);
        let (kind, text) = match token.kind {
            Kind::Word => (AtomKind::Plain, whole),
            Kind::Quoted => (AtomKind::Quoted, unquoted(whole)),
            Kind::Variable => (AtomKind::Variable, whole.trim_start_matches('$')),
            _ => {
                let mut problem = self.unexpected(what);
                if token.kind == Kind::SetName {
                    problem = problem.hint("a named set stands alone: `KEY @name`, without braces");
                }
                return self.fail(problem);
            }
        };
        self.bump();
        Ok(Atom {
            kind,
            text,
            span: token.span,
        })
    }

    /// Two masks as they stand in the text: whoever reads the value takes it apart again.
    fn joined(&self, left: Atom<'t>, right: Atom<'t>) -> Atom<'t> {
        let span = left.span.to(right.span);
        Atom {
            kind: AtomKind::Plain,
            text: span.of(self.text),
            span,
        }
    }
}
