//! Statements of a rule: what is done with a packet that matched.

use super::{Parsed, Parser};
use crate::rules::ast::{Key, Limit, Mappings, Name, Statement, Verdict, With};
use crate::rules::diagnostic::Problem;
use crate::rules::lexer::{Kind, Span};
use crate::rules::names;

/// Words that begin a statement or match.
const WORDS: &[&str] = &[
    "accept", "drop", "reject", "jump", "goto", "return", "continue", "counter", "limit", "log",
    "comment", "iifname", "oifname", "ether", "vlan", "arp", "ip", "ip6", "icmp", "icmpv6", "tcp",
    "udp", "sctp", "th", "meta", "ct",
];

/// The word that was meant, most likely.
pub(super) fn nearest_word(word: &str) -> Option<&'static str> {
    names::nearest(WORDS.iter().copied(), word).filter(|_| word.len() > 2)
}

/// Units of `limit rate`, in seconds.
const UNITS: &[(&str, u64)] = &[
    ("second", 1),
    ("minute", 60),
    ("hour", 60 * 60),
    ("day", 24 * 60 * 60),
    ("week", 7 * 24 * 60 * 60),
];

const BYTE_UNITS: &[(&str, u64)] = &[("bytes", 1), ("kbytes", 1 << 10), ("mbytes", 1 << 20)];

impl<'t> Parser<'t, '_> {
    pub(super) fn statement(&mut self) -> Parsed<Statement<'t>> {
        let token = self.peek();
        if self.peek_text() == "comment" {
            return self.last_comment().map(Statement::Comment);
        }
        let name = self.word("a match or a statement")?;
        if let Some(verdict) = self.verdict(name)? {
            let span = token.span.to(self.last_span());
            return Ok(Statement::Verdict(verdict, span));
        }
        match name.text {
            "counter" => self.counter(),
            "limit" => {
                let limit = self.limit()?;
                Ok(Statement::Limit(limit, token.span.to(self.last_span())))
            }
            "log" => self.log(),
            "ct" if self.peek_text() == "helper" && self.second_text() == "set" => {
                self.bump();
                self.bump();
                self.atom("the helper object's name")
                    .map(Statement::SetHelper)
            }
            _ => {
                let key = self.key(name)?;
                self.matching(key)
            }
        }
    }

    /// `comment "..."`, behind which nothing may stand.
    pub(super) fn last_comment(&mut self) -> Parsed<Name<'t>> {
        let start = self.bump().span;
        let comment = self.comment()?;
        if !self.at_statement_end() {
            let span = self.peek().span;
            let problem = Problem::new(span, "a comment must be the rule's last word", "");
            return self.fail(problem.also(start, "the comment"));
        }
        Ok(comment)
    }

    /// A verdict that begins with this word, if it is one's.
    fn verdict(&mut self, name: Name<'t>) -> Parsed<Option<Verdict<'t>>> {
        Ok(Some(match name.text {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "continue" => Verdict::Continue,
            "return" => Verdict::Return,
            "jump" => Verdict::Jump(self.chain_name()?),
            "goto" => Verdict::Goto(self.chain_name()?),
            "reject" => Verdict::Reject(self.reject_with()?),
            _ => return Ok(None),
        }))
    }

    fn chain_name(&mut self) -> Parsed<Name<'t>> {
        if self.peek().kind != Kind::OpenBrace {
            return self.word("the name of a chain");
        }
        let problem = Problem::new(
            self.peek().span,
            "chains without a name are not supported",
            "",
        );
        // Its braces belong together, whatever is in them.
        self.skip_item();
        self.fail(problem.hint("write the rules into a chain of their own, and jump there"))
    }

    fn reject_with(&mut self) -> Parsed<With<'t>> {
        if self.peek_text() != "with" {
            return Ok(With::Default);
        }
        self.bump();
        let family = self.word("`tcp reset`, `icmp`, `icmpv6` or `icmpx`")?;
        match family.text {
            "tcp" => {
                self.keyword("reset")?;
                Ok(With::TcpReset(family.span.to(self.last_span())))
            }
            "icmp" | "icmpv6" | "icmpx" => {
                if self.peek_text() == "type" {
                    self.bump();
                }
                let kind = self.word("what to answer, as `port-unreachable`")?;
                Ok(With::Icmp { family, kind })
            }
            other => {
                let message = format!("`reject with {other}` is not supported");
                let problem = Problem::new(family.span, message, "");
                self.fail(problem.hint(
                    "write `tcp reset`, `icmp type port-unreachable`, `icmpv6 type \
                     admin-prohibited` or `icmpx type port-unreachable`",
                ))
            }
        }
    }

    /// What stands behind `vmap`.
    pub(super) fn vmap(&mut self, key: Key) -> Parsed<Statement<'t>> {
        if self.peek().kind == Kind::SetName {
            let name = self.set_name()?;
            let span = key.span.to(name.span);
            return Ok(Statement::VmapNamed { key, name, span });
        }
        let mappings = self.mappings()?;
        Ok(Statement::Vmap {
            span: key.span.to(mappings.span),
            key,
            mappings,
        })
    }

    /// `{ key : verdict, ... }`
    pub(super) fn mappings(&mut self) -> Parsed<Mappings<'t>> {
        let open = self.expect(Kind::OpenBrace, "`{` or `@name`")?.span;
        let entries = self.in_braces(open, |parser| {
            let element = parser.element()?;
            if parser.peek().kind != Kind::Colon {
                let problem = parser.unexpected("`:` and a verdict");
                return parser.fail(
                    problem.hint("a map of verdicts is written `{ 21 : accept, 22 : drop }`"),
                );
            }
            parser.bump();
            let word = parser.word("a verdict")?;
            match parser.verdict(word)? {
                Some(verdict) => Ok((element, verdict)),
                None => {
                    let message = format!("`{}` is not a verdict", word.text);
                    let problem = Problem::new(word.span, message, "");
                    parser.fail(problem.hint(
                        "the verdicts: accept, drop, jump CHAIN, goto CHAIN, return, continue",
                    ))
                }
            }
        })?;
        Ok(Mappings {
            entries,
            span: open.to(self.last_span()),
        })
    }

    fn counter(&mut self) -> Parsed<Statement<'t>> {
        let (mut packets, mut bytes) = (0, 0);
        if self.peek_text() == "packets" {
            self.bump();
            packets = self.number("a number of packets")?;
            self.keyword("bytes")?;
            bytes = self.number("a number of bytes")?;
        } else if self.peek_text() == "name" {
            self.bump();
            let name = self.string("the counter's name")?;
            return Ok(Statement::CounterNamed(name));
        }
        Ok(Statement::Counter { packets, bytes })
    }

    pub(super) fn number(&mut self, what: &str) -> Parsed<u64> {
        let word = self.word(what)?;
        word.text.parse().or_else(|_| {
            self.fail(Problem::new(
                word.span,
                format!("`{}` is not a number", word.text),
                "",
            ))
        })
    }

    /// `rate [over] N/unit [burst N packets]`; the lexer takes `10/second` for one word.
    fn limit(&mut self) -> Parsed<Limit> {
        const FORM: &str = "for example `limit rate 10/second burst 5 packets`, or `limit rate over \
                            1 mbytes/second`";
        if self.peek_text() != "rate" {
            let problem = self.unexpected("`rate`");
            return self.fail(problem.hint(FORM));
        }
        self.bump();
        let over = match self.peek_text() {
            "over" => true,
            "until" => false,
            _ => {
                return self.rate(false, FORM);
            }
        };
        self.bump();
        self.rate(over, FORM)
    }

    fn rate(&mut self, over: bool, form: &str) -> Parsed<Limit> {
        let start = self.peek().span;
        let mut words: Vec<&str> = Vec::new();
        // As `10/second`, `10 / second`, `1 mbytes/second` or `1 mbytes / second`.
        while matches!(self.peek().kind, Kind::Word | Kind::Slash)
            && words.last().is_none_or(|last| unit(last).is_none())
            && words.len() < 5
        {
            let text = self.bump().span.of(self.text);
            words.extend(text.split('/').filter(|word| !word.is_empty()));
        }
        let span = start.to(self.last_span());
        let (rate, bytes, per_secs) = match words.as_slice() {
            [number, time] => (number.parse::<u64>().ok(), None, unit(time)),
            [number, size, time] => {
                let factor = BYTE_UNITS.iter().find(|(name, _)| name == size);
                let factor = factor.map(|&(_, factor)| factor);
                let number = number.parse::<u64>().ok();
                let rate = number.zip(factor).and_then(|(n, f)| n.checked_mul(f));
                (rate, factor, unit(time))
            }
            _ => (None, None, None),
        };
        let (Some(rate @ 1..), Some(per_secs)) = (rate, per_secs) else {
            let problem = Problem::new(span, "this is not a rate", "");
            return self.fail(problem.hint(form));
        };
        let is_bytes = bytes.is_some();
        let burst = if self.peek_text() == "burst" {
            self.bump();
            Some(self.burst(is_bytes)?)
        } else {
            None
        };
        Ok(Limit {
            over,
            rate,
            bytes: is_bytes,
            per_secs,
            burst,
        })
    }

    fn burst(&mut self, is_bytes: bool) -> Parsed<u64> {
        let number = self.number("a number")?;
        let what = self.word(if is_bytes { "`bytes`" } else { "`packets`" })?;
        let factor = match (is_bytes, what.text) {
            (false, "packets") => Some(1),
            (true, size) => {
                let found = BYTE_UNITS.iter().find(|(name, _)| *name == size);
                found.map(|&(_, factor)| factor)
            }
            (false, _) => None,
        };
        match factor.and_then(|factor| number.checked_mul(factor)) {
            Some(burst) => Ok(burst),
            None => {
                let expected = if is_bytes {
                    "a burst of bytes, kbytes or mbytes"
                } else {
                    "`packets`, as the rate is one of packets"
                };
                let message = format!("expected {expected}, found `{}`", what.text);
                self.fail(Problem::new(what.span, message, ""))
            }
        }
    }

    fn log(&mut self) -> Parsed<Statement<'t>> {
        let (mut prefix, mut level) = (None, None);
        loop {
            match self.peek_text() {
                "prefix" => {
                    self.bump();
                    prefix = Some(self.string("the prefix in quotes")?);
                }
                "level" => {
                    self.bump();
                    level = Some(self.word("a level, as `info`")?);
                }
                word @ ("group" | "snaplen" | "queue-threshold" | "flags") => {
                    let span: Span = self.peek().span;
                    let problem = Problem::new(span, format!("`log {word}` is not supported"), "");
                    return self.fail(problem.hint(
                        "lotus logs as events: `log prefix \"...\" level info`; `lotus events \
                         --follow` shows them",
                    ));
                }
                _ => return Ok(Statement::Log { prefix, level }),
            }
        }
    }
}

fn unit(word: &str) -> Option<u64> {
    let found = UNITS.iter().find(|(name, _)| *name == word);
    found.map(|&(_, secs)| secs)
}
