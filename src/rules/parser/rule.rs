//! Rules: matches, statements and the values to the right of a match.

use super::cursor::unquoted;
use super::{Failed, Parsed, Parser};
use crate::rules::ast::{
    Atom, AtomKind, Element, End, Expr, Field, Name, Ports, Rule, Shape, Statement,
};
use crate::rules::diagnostic::Problem;
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

    fn statement(&mut self) -> Parsed<Statement<'t>> {
        let token = self.peek();
        let name = self.word("a match or a statement")?;
        match name.text {
            "accept" | "drop" => Ok(Statement::Verdict {
                accept: name.text == "accept",
            }),
            "counter" => self.counter(),
            "comment" => {
                self.comment()?;
                if !self.at_statement_end() {
                    let problem = Problem::new(
                        self.peek().span,
                        "a comment must be the rule's last word",
                        "",
                    )
                    .also(token.span, "the comment");
                    return self.fail(problem);
                }
                Ok(Statement::Comment)
            }
            "ct" if self.peek_text() == "helper" => {
                self.bump();
                if self.peek_text() != "set" {
                    let problem = Problem::new(
                        self.peek().span,
                        "expected `set` after `ct helper`",
                        "matching on a helper is not supported",
                    );
                    return self.fail(problem.hint(
                        "`ct helper set \"NAME\"` gives new connections a helper; the data \
                         connections that it opens match `ct state related`",
                    ));
                }
                self.bump();
                self.atom("the helper object's name")
                    .map(Statement::SetHelper)
            }
            _ => {
                let field = self.field(name)?;
                self.matching(field, name.span)
            }
        }
    }

    fn counter(&mut self) -> Parsed<Statement<'t>> {
        let (mut packets, mut bytes) = (0, 0);
        if self.peek_text() == "packets" {
            self.bump();
            packets = self.number()?;
            self.keyword("bytes")?;
            bytes = self.number()?;
        } else if self.peek_text() == "name" || self.peek().kind == Kind::Quoted {
            let problem = Problem::new(self.peek().span, "named counters are not supported", "");
            return self.fail(problem.hint("write `counter` in each rule that is to be counted"));
        }
        Ok(Statement::Counter { packets, bytes })
    }

    fn number(&mut self) -> Parsed<u64> {
        let word = self.word("a number")?;
        word.text.parse().or_else(|_| {
            self.fail(Problem::new(
                word.span,
                format!("`{}` is not a number", word.text),
                "",
            ))
        })
    }

    fn field(&mut self, first: Name<'t>) -> Parsed<Field> {
        let single = match first.text {
            "iifname" => Some(Field::IifName),
            "oifname" => Some(Field::OifName),
            _ => None,
        };
        if let Some(field) = single {
            return Ok(field);
        }
        let Some(known) = known_fields(first.text) else {
            let problem =
                Problem::new(first.span, format!("`{}` is not supported", first.text), "");
            let hint = unsupported::in_rule(first.text).unwrap_or(
                "a rule holds matches (iifname, oifname, ether, ip, ip6, meta l4proto, tcp, udp, \
                 th, icmp, icmpv6, ct state), `counter`, `ct helper set`, `accept`, `drop`, \
                 `comment`",
            );
            return self.fail(problem.hint(hint));
        };
        let hint = || {
            let names: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            format!("after `{}` lotus knows: {}", first.text, names.join(", "))
        };
        if self.peek().kind != Kind::Word {
            let problem = self.unexpected(&format!("a field of `{}`", first.text));
            return self.fail(problem.hint(hint()));
        }
        let second = self.word("a field")?;
        match known.iter().find(|(word, _)| *word == second.text) {
            Some(&(_, field)) => Ok(field),
            None => {
                let message = format!("`{} {}` is not supported", first.text, second.text);
                self.fail(Problem::new(first.span.to(second.span), message, "").hint(hint()))
            }
        }
    }

    fn matching(&mut self, field: Field, start: Span) -> Parsed<Statement<'t>> {
        let negated = match self.peek().kind {
            Kind::NotEqual => {
                self.bump();
                true
            }
            Kind::Equal => {
                self.bump();
                false
            }
            _ => false,
        };
        let operator = self.peek();
        if operator.kind == Kind::Stray {
            let found = operator.span.of(self.text);
            let hint = match found {
                "<" | ">" => "write a range: `1024-65535` for `>= 1024`, `0-1023` for `< 1024`",
                "@" => "named sets are not supported: write the values in braces, `{ a, b }`",
                "&" | "|" | "^" | "(" => "masks are not supported: write values, ranges or a set",
                _ => "a match is `FIELD [!=] value|range|prefix|{ set }`",
            };
            let message = format!("unexpected `{}` in a match", found.escape_debug());
            return self.fail(Problem::new(operator.span, message, "").hint(hint));
        }
        if self.peek_text() == "." {
            let problem = Problem::new(self.peek().span, "concatenations are not supported", "");
            return self
                .fail(problem.hint("write one match after the other: all of them must hold"));
        }
        if matches!(self.peek_text(), "vmap" | "map") {
            let problem = Problem::new(self.peek().span, "maps are not supported", "");
            return self.fail(problem.hint("write one rule for each verdict"));
        }
        if self.peek_text() == "set" {
            let name = field.name();
            let problem = Problem::new(self.peek().span, format!("`{name}` cannot be set"), "");
            return self.fail(problem.hint("lotus judges packets and does not change them"));
        }
        let value = self.expr()?;
        let span = start.to(value.span);
        Ok(Statement::Match {
            field,
            negated,
            value,
            span,
        })
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr<'t>> {
        if self.peek().kind == Kind::OpenBrace {
            return self.set();
        }
        let first = self.element()?;
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
            span: first.span().to(self.last_span()),
        })
    }

    fn set(&mut self) -> Parsed<Expr<'t>> {
        let open = self.bump().span;
        match self.elements(open) {
            Ok(elements) => {
                let span = open.to(self.last_span());
                Ok(Expr {
                    shape: Shape::Set,
                    elements,
                    span,
                })
            }
            Err(Failed) => {
                self.skip_set();
                Err(Failed)
            }
        }
    }

    /// The elements and the closing brace.
    fn elements(&mut self, open: Span) -> Parsed<Vec<Element<'t>>> {
        let mut elements = Vec::new();
        loop {
            self.skip_newlines();
            match self.peek().kind {
                Kind::CloseBrace if elements.is_empty() => {
                    let span = open.to(self.peek().span);
                    let problem = Problem::new(span, "an empty set matches nothing", "");
                    return self.fail(problem.hint("leave the rule out, or name some values"));
                }
                Kind::CloseBrace => {
                    self.bump();
                    return Ok(elements);
                }
                Kind::OpenBrace => {
                    let problem = Problem::new(self.peek().span, "a set inside a set", "");
                    return self.fail(problem.hint("write all values in one pair of braces"));
                }
                _ => elements.push(self.element()?),
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
                    let problem = self.unexpected("`,` or `}`").also(open, "in this set");
                    return self.fail(problem);
                }
            }
        }
    }

    fn element(&mut self) -> Parsed<Element<'t>> {
        let low = self.atom("a value")?;
        if self.peek().kind != Kind::Dash {
            return Ok(Element { low, high: None });
        }
        self.bump();
        let high = self.atom("the end of the range")?;
        Ok(Element {
            low,
            high: Some(high),
        })
    }

    pub(super) fn atom(&mut self, what: &str) -> Parsed<Atom<'t>> {
        let token = self.peek();
        let whole = token.span.of(self.text);
        let (kind, text) = match token.kind {
            Kind::Word => (AtomKind::Plain, whole),
            Kind::Quoted => (AtomKind::Quoted, unquoted(whole)),
            Kind::Variable => (AtomKind::Variable, whole.trim_start_matches('$')),
            _ => {
                let mut problem = self.unexpected(what);
                if whole == "@" {
                    problem = problem.hint(
                        "named sets are not supported: write the values in braces, `{ a, b }`",
                    );
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
}

/// The fields that begin with this word.
fn known_fields(first: &str) -> Option<&'static [(&'static str, Field)]> {
    use End::{Destination, Source};
    Some(match first {
        "meta" => &[
            ("iifname", Field::IifName),
            ("oifname", Field::OifName),
            ("l4proto", Field::L4Proto),
        ],
        "ether" => &[
            ("type", Field::EtherType),
            ("saddr", Field::EtherAddr(Source)),
            ("daddr", Field::EtherAddr(Destination)),
        ],
        "ip" => &[
            ("saddr", Field::IpAddr(Source)),
            ("daddr", Field::IpAddr(Destination)),
            ("protocol", Field::IpProtocol),
        ],
        "ip6" => &[
            ("saddr", Field::Ip6Addr(Source)),
            ("daddr", Field::Ip6Addr(Destination)),
            ("nexthdr", Field::Ip6NextHeader),
            ("hoplimit", Field::Ip6HopLimit),
        ],
        "tcp" => &[
            ("sport", Field::Port(Ports::Tcp, Source)),
            ("dport", Field::Port(Ports::Tcp, Destination)),
        ],
        "udp" => &[
            ("sport", Field::Port(Ports::Udp, Source)),
            ("dport", Field::Port(Ports::Udp, Destination)),
        ],
        "th" => &[
            ("sport", Field::Port(Ports::Any, Source)),
            ("dport", Field::Port(Ports::Any, Destination)),
        ],
        "icmp" => &[("type", Field::IcmpType)],
        "icmpv6" => &[("type", Field::Icmpv6Type)],
        "ct" => &[("state", Field::CtState)],
        _ => return None,
    })
}
