//! Tokens to tree, by recursive descent. An error ends its statement and no more: the next one is
//! read as if nothing had happened, so that one run shows everything that is wrong.

mod cursor;
mod rule;
mod set;
mod statement;

use super::ast::{Chain, CounterObject, Define, Helper, Hook, Item, Name, Rule, Table, TableItem};
use super::diagnostic::Problem;
use super::lexer::{Kind, Span, Token};
use super::source::Source;
use super::unsupported;

/// Reads a whole file and what it includes.
pub(super) fn parse<'t>(source: &'t Source, problems: &mut Vec<Problem>) -> Vec<Item<'t>> {
    Parser::new(source, problems).file()
}

/// Reads a text that holds matches alone.
pub(super) fn parse_rule<'t>(source: &'t Source, problems: &mut Vec<Problem>) -> Rule<'t> {
    let mut parser = Parser::new(source, problems);
    let rule = parser.rule();
    parser.skip_separators();
    if parser.peek().kind != Kind::End {
        let problem = parser.unexpected("the end");
        parser.note(problem);
    }
    rule
}

/// A statement that could not be read; what is wrong was already noted.
struct Failed;

type Parsed<T> = Result<T, Failed>;

struct Parser<'t, 'p> {
    text: &'t str,
    tokens: &'t [Token],
    at: usize,
    problems: &'p mut Vec<Problem>,
}

impl<'t, 'p> Parser<'t, 'p> {
    fn new(source: &'t Source, problems: &'p mut Vec<Problem>) -> Parser<'t, 'p> {
        Parser {
            text: source.text(),
            tokens: source.tokens(),
            at: 0,
            problems,
        }
    }
}

impl<'t> Parser<'t, '_> {
    fn file(&mut self) -> Vec<Item<'t>> {
        let mut items = Vec::new();
        loop {
            self.skip_separators();
            match self.peek().kind {
                Kind::End => return items,
                // A brace that closes nothing must not stop the reading.
                Kind::CloseBrace => {
                    let token = self.bump();
                    self.note(Problem::new(token.span, "this brace closes nothing", ""));
                }
                _ => match self.item() {
                    Ok(item) => items.push(item),
                    Err(Failed) => self.skip_item(),
                },
            }
        }
    }

    fn item(&mut self) -> Parsed<Item<'t>> {
        let name = self.word("`table` or `define`")?;
        match name.text {
            "define" => self.define().map(Item::Define),
            "table" => self.table(),
            "add" if self.peek_text() == "table" => {
                self.bump();
                self.table()
            }
            "flush" | "delete" | "destroy" if matches!(self.peek_text(), "ruleset" | "table") => {
                self.flush()
            }
            _ => {
                let problem = Problem::new(
                    name.span,
                    format!("expected `table` or `define`, found `{}`", name.text),
                    "",
                );
                let hint = unsupported::top_level(name.text).unwrap_or(
                    "a file holds `define NAME = ...` and `table bridge|inet|ip|ip6 NAME { }`",
                );
                self.fail(problem.hint(hint))
            }
        }
    }

    fn define(&mut self) -> Parsed<Define<'t>> {
        let name = self.word("the name to define")?;
        if !is_plain_name(name.text) {
            let problem = Problem::new(
                name.span,
                format!("`{}` cannot be used as `$name`", name.text),
                "letters, digits and _ only",
            );
            self.note(problem);
        }
        let value = match self.expect(Kind::Assign, "`=`") {
            Ok(_) => self.expr(),
            Err(Failed) => Err(Failed),
        };
        match value {
            Ok(value) => {
                self.end_of_statement();
                Ok(Define {
                    name,
                    value: Some(value),
                })
            }
            Err(Failed) => {
                self.skip_statement();
                Ok(Define { name, value: None })
            }
        }
    }

    /// `flush ruleset`, `delete table FAMILY NAME`: loading replaces all rules anyway.
    fn flush(&mut self) -> Parsed<Item<'t>> {
        let start = self.last_span();
        if self.bump().span.of(self.text) == "table" {
            self.word("the table's name")?;
            if !self.at_statement_end() {
                // That was the family.
                self.word("the table's name")?;
            }
        }
        let span = start.to(self.last_span());
        self.end_of_statement();
        Ok(Item::Flush(span))
    }

    fn table(&mut self) -> Parsed<Item<'t>> {
        let mut family = self.word("the table's family, `inet` or `bridge`")?;
        let mut name = family;
        if self.peek().kind == Kind::OpenBrace {
            // As nft takes it.
            family.text = "ip";
        } else {
            name = self.word("the table's name")?;
        }
        if self.at_statement_end() {
            // `table inet x` alone: so that `delete table inet x` behind it finds one.
            return Ok(Item::Nothing);
        }
        self.expect(Kind::OpenBrace, "`{`")?;
        let mut table = Table {
            family,
            name,
            items: Vec::new(),
        };
        self.block(name.span, &["table"], |parser| match parser.table_item() {
            Ok(item) => table.items.push(item),
            Err(Failed) => parser.skip_item(),
        });
        Ok(Item::Table(table))
    }

    fn table_item(&mut self) -> Parsed<TableItem<'t>> {
        let name = self.word("`chain`, `set`, `map`, `counter`, `ct helper` or `define`")?;
        match name.text {
            "define" => self.define().map(TableItem::Define),
            "chain" => self.chain().map(TableItem::Chain),
            "set" => self.named_set(false).map(TableItem::Set),
            "map" => self.named_set(true).map(TableItem::Set),
            "counter" => self.counter_object().map(TableItem::Counter),
            "ct" if self.peek_text() == "helper" => {
                self.bump();
                self.helper().map(TableItem::Helper)
            }
            _ => {
                let problem = Problem::new(
                    name.span,
                    format!("`{}` is not supported in a table", name.text),
                    "",
                );
                let hint = unsupported::in_table(name.text).unwrap_or(
                    "a table holds `chain`, `set`, `map`, `counter`, `ct helper` and `define`",
                );
                self.fail(problem.hint(hint))
            }
        }
    }

    /// `counter NAME { packets 0 bytes 0 }`
    fn counter_object(&mut self) -> Parsed<CounterObject<'t>> {
        let name = self.string("the counter's name")?;
        let (mut packets, mut bytes) = (0, 0);
        self.expect(Kind::OpenBrace, "`{`")?;
        self.skip_separators();
        if self.peek_text() == "packets" {
            self.bump();
            packets = self.number("a number of packets")?;
            self.keyword("bytes")?;
            bytes = self.number("a number of bytes")?;
        }
        self.skip_separators();
        if self.peek_text() == "comment" {
            self.bump();
            self.comment()?;
            self.skip_separators();
        }
        self.expect(Kind::CloseBrace, "`}`")?;
        Ok(CounterObject {
            name,
            packets,
            bytes,
        })
    }

    fn helper(&mut self) -> Parsed<Helper<'t>> {
        let name = self.string("the helper object's name")?;
        self.expect(Kind::OpenBrace, "`{`")?;
        let mut helper = Helper {
            name,
            kind: None,
            protocol: None,
            l3proto: None,
            comment: None,
            damaged: false,
        };
        self.block(name.span, &["table", "chain"], |parser| {
            if parser.helper_part(&mut helper).is_err() {
                helper.damaged = true;
                parser.skip_statement();
            }
        });
        Ok(helper)
    }

    fn helper_part(&mut self, helper: &mut Helper<'t>) -> Parsed<()> {
        let word = self.word("`type`, `l3proto` or `comment`")?;
        match word.text {
            "type" => {
                helper.kind = Some(self.string("the helper's type, \"ftp\"")?);
                self.keyword("protocol")?;
                helper.protocol = Some(self.word("`tcp`")?);
            }
            "l3proto" => helper.l3proto = Some(self.word("`ip`, `ip6` or `inet`")?),
            "comment" => helper.comment = Some(self.comment()?),
            other => {
                let problem = Problem::new(
                    word.span,
                    format!("`{other}` is not supported in a helper object"),
                    "",
                );
                return self.fail(problem.hint(
                    "it takes `type \"ftp\" protocol tcp;`, `l3proto ip|ip6|inet;` and \
                     `comment \"...\"`",
                ));
            }
        }
        self.end_of_statement();
        Ok(())
    }

    fn chain(&mut self) -> Parsed<Chain<'t>> {
        let name = self.word("the chain's name")?;
        self.expect(Kind::OpenBrace, "`{`")?;
        let mut chain = Chain {
            name,
            hook: None,
            policy: None,
            rules: Vec::new(),
            damaged: false,
        };
        let before = self.problems.len();
        let outside = ["table", "chain", "set", "map"];
        self.block(name.span, &outside, |parser| match parser.peek_text() {
            "type" => parser.hook(&mut chain),
            "policy" => parser.policy(&mut chain),
            // Of the chain, not of a rule: it has no use here.
            "comment" => {
                if parser.last_comment().is_err() {
                    parser.skip_statement();
                }
            }
            _ => {
                let rule = parser.rule();
                if !rule.statements.is_empty() {
                    chain.rules.push(rule);
                }
            }
        });
        let is_forward =
            |hook: &Hook<'_>| hook.kind.text == "filter" && hook.hook.text == "forward";
        if !chain.hook.as_ref().is_none_or(is_forward) {
            // One message for the chain: what it says of another hook is no matter.
            self.problems.truncate(before);
            chain.rules.clear();
        }
        Ok(chain)
    }

    fn hook(&mut self, chain: &mut Chain<'t>) {
        let start = self.bump().span;
        match self.hook_parts(start) {
            Ok(hook) => {
                if let Some(first) = &chain.hook {
                    let problem = Problem::new(hook.span, "a second `type` line in a chain", "")
                        .also(first.span, "the first one");
                    self.note(problem);
                }
                chain.hook.get_or_insert(hook);
                self.end_of_statement();
            }
            Err(Failed) => {
                chain.damaged = true;
                self.skip_statement();
            }
        }
    }

    fn hook_parts(&mut self, start: Span) -> Parsed<Hook<'t>> {
        let kind = self.word("`filter`")?;
        self.keyword("hook")?;
        let hook = self.word("`forward`")?;
        if self.peek_text() != "priority" {
            let problem = self.unexpected("`priority`");
            return self.fail(problem.hint("for example `priority filter;`"));
        }
        self.bump();
        let (base, offset) = self.priority()?;
        Ok(Hook {
            kind,
            hook,
            base,
            offset,
            span: start.to(self.last_span()),
        })
    }

    /// `0`, `-200`, `filter`, `filter + 10`, `filter-10`.
    fn priority(&mut self) -> Parsed<(Option<Name<'t>>, i32)> {
        let sign = |parser: &mut Self| match parser.peek().kind {
            kind @ (Kind::Dash | Kind::Plus) => {
                parser.bump();
                Some(kind == Kind::Dash)
            }
            _ => None,
        };
        let mut negative = sign(self);
        let mut word = self.word("a priority: a number, or `filter`")?;
        let mut base = None;
        if negative.is_none() && word.text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            // The lexer takes `filter-10` for one name.
            let (name, number) = match word.text.split_once('-') {
                Some((name, number)) => (name, Some(number)),
                None => (word.text, None),
            };
            let split = word.span.start + name.len();
            base = Some(Name {
                text: name,
                span: Span {
                    end: split,
                    ..word.span
                },
            });
            match number {
                Some(number) => {
                    negative = Some(true);
                    word = Name {
                        text: number,
                        span: Span {
                            start: split + 1,
                            ..word.span
                        },
                    };
                }
                None => {
                    negative = sign(self);
                    if negative.is_none() {
                        return Ok((base, 0));
                    }
                    word = self.word("a number")?;
                }
            }
        }
        let number = if word.text.bytes().all(|b| b.is_ascii_digit()) {
            word.text.parse::<i32>().ok()
        } else {
            None
        };
        match number {
            Some(number) => Ok((
                base,
                if negative == Some(true) {
                    -number
                } else {
                    number
                },
            )),
            None => {
                let problem = Problem::new(
                    word.span,
                    format!("`{}` is not a priority", word.text),
                    "expected a whole number",
                );
                self.fail(problem.hint("for example `priority 0`, or `priority filter - 10`"))
            }
        }
    }

    fn policy(&mut self, chain: &mut Chain<'t>) {
        let start = self.bump().span;
        let Ok(word) = self.word("`accept` or `drop`") else {
            chain.damaged = true;
            return self.skip_statement();
        };
        let span = start.to(word.span);
        let accept = match word.text {
            "accept" => true,
            "drop" => false,
            other => {
                let message = format!("`{other}` is not a policy");
                let problem = Problem::new(word.span, message, "expected `accept` or `drop`");
                self.note(problem);
                return self.skip_statement();
            }
        };
        if let Some((_, first)) = chain.policy {
            let problem = Problem::new(span, "a second policy in a chain", "");
            self.note(problem.also(first, "the first one"));
        }
        chain.policy.get_or_insert((accept, span));
        self.end_of_statement();
    }
}

fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
