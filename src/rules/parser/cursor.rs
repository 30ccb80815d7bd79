//! Moving over the tokens: what is expected, what is skipped after an error.

use super::{Failed, Parsed, Parser};
use crate::rules::ast::Name;
use crate::rules::diagnostic::Problem;
use crate::rules::lexer::{Kind, Span, Token};

/// What the kernel stores of a comment (NFTNL_UDATA_COMMENT_MAXLEN of libnftnl).
const MAX_COMMENT_BYTES: usize = 128;

impl<'t> Parser<'t, '_> {
    /// Everything between the brace just opened and the one that closes it, or up to a word that
    /// cannot stand inside: there the brace is missing.
    pub(super) fn block(
        &mut self,
        opened_for: Span,
        outside: &[&str],
        mut part: impl FnMut(&mut Self),
    ) {
        loop {
            self.skip_separators();
            let word = self.peek_text();
            if outside.contains(&word) && self.begins_block() {
                let span = self.peek().span;
                // Of several blocks that are open the innermost tells.
                if self
                    .problems
                    .last()
                    .is_none_or(|problem| problem.span != span)
                {
                    let message = format!("`{word}` cannot stand inside this block");
                    let problem = Problem::new(span, message, "")
                        .also(opened_for, "this block has no closing brace");
                    self.note(problem.hint("put `}` before it"));
                }
                return;
            }
            match self.peek().kind {
                Kind::CloseBrace => {
                    self.bump();
                    return;
                }
                Kind::End => {
                    let problem =
                        Problem::new(self.peek().span, "the file ends inside a block", "")
                            .also(opened_for, "this block has no closing brace");
                    return self.note(problem);
                }
                _ => {}
            }
            let before = self.at;
            part(self);
            if self.at == before {
                // Whatever it is, it must not be looked at for ever.
                self.bump();
            }
        }
    }

    /// Whether a brace is opened before the line ends.
    fn begins_block(&self) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let mut line = rest.iter().take_while(|token| token.kind != Kind::Newline);
        line.any(|token| token.kind == Kind::OpenBrace)
    }

    pub(super) fn word(&mut self, what: &str) -> Parsed<Name<'t>> {
        let token = self.peek();
        if token.kind != Kind::Word {
            let problem = self.unexpected(what);
            return self.fail(problem);
        }
        self.bump();
        Ok(Name {
            text: token.span.of(self.text),
            span: token.span,
        })
    }

    /// A word, or text in quotes.
    pub(super) fn string(&mut self, what: &str) -> Parsed<Name<'t>> {
        let token = self.peek();
        if token.kind == Kind::Quoted {
            self.bump();
            return Ok(Name {
                text: unquoted(token.span.of(self.text)),
                span: token.span,
            });
        }
        self.word(what)
    }

    pub(super) fn comment(&mut self) -> Parsed<Name<'t>> {
        let comment = self.string("the comment in quotes")?;
        if comment.text.len() > MAX_COMMENT_BYTES {
            let message = format!("a comment of more than {MAX_COMMENT_BYTES} bytes");
            return self.fail(Problem::new(comment.span, message, ""));
        }
        Ok(comment)
    }

    pub(super) fn keyword(&mut self, keyword: &str) -> Parsed<()> {
        if self.peek_text() == keyword {
            self.bump();
            return Ok(());
        }
        let problem = self.unexpected(&format!("`{keyword}`"));
        self.fail(problem)
    }

    pub(super) fn expect(&mut self, kind: Kind, what: &str) -> Parsed<Token> {
        if self.peek().kind == kind {
            return Ok(self.bump());
        }
        let problem = self.unexpected(what);
        self.fail(problem)
    }

    pub(super) fn end_of_statement(&mut self) {
        if !self.at_statement_end() {
            let problem = self.unexpected("the end of the line or `;`");
            self.note(problem);
            self.skip_statement();
        }
    }

    pub(super) fn unexpected(&self, expected: &str) -> Problem {
        let token = self.peek();
        let found = match token.kind {
            Kind::Newline => "the end of the line".to_owned(),
            Kind::End => "the end of the file".to_owned(),
            _ => format!("`{}`", token.span.of(self.text).escape_debug()),
        };
        Problem::new(
            token.span,
            format!("expected {expected}, found {found}"),
            "",
        )
    }

    pub(super) fn at_statement_end(&self) -> bool {
        matches!(
            self.peek().kind,
            Kind::Newline | Kind::Semicolon | Kind::CloseBrace | Kind::End
        )
    }

    /// Skips the rest of a rule.
    pub(super) fn skip_statement(&mut self) {
        self.skip_line(0);
    }

    /// Skips the rest of a set. One that was left open ends where its line ends.
    pub(super) fn skip_set(&mut self) {
        self.skip_line(1);
    }

    /// Skips to the end of the line, unless it plainly goes on, or of the statement; or, with a
    /// brace open, to behind the one that closes it.
    fn skip_line(&mut self, open: u32) {
        let mut depth = open;
        loop {
            match self.peek().kind {
                Kind::End => return,
                Kind::OpenBrace => depth += 1,
                Kind::CloseBrace | Kind::Semicolon if depth == 0 => return,
                Kind::CloseBrace if depth == 1 && open == 1 => {
                    self.bump();
                    return;
                }
                Kind::CloseBrace => depth -= 1,
                Kind::Newline => {
                    let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
                    let goes_on = before.is_some_and(|token| match token.kind {
                        Kind::Comma => true,
                        Kind::OpenBrace => depth > 0,
                        _ => false,
                    });
                    if !goes_on {
                        return;
                    }
                }
                _ => {}
            }
            self.bump();
        }
    }

    /// Skips the rest of something that may hold a block of its own.
    pub(super) fn skip_item(&mut self) {
        let mut depth = 0u32;
        loop {
            match self.peek().kind {
                Kind::End => return,
                Kind::OpenBrace => depth += 1,
                Kind::CloseBrace if depth == 0 => return,
                Kind::CloseBrace => {
                    depth -= 1;
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                Kind::Newline | Kind::Semicolon if depth == 0 => return,
                _ => {}
            }
            self.bump();
        }
    }

    pub(super) fn skip_separators(&mut self) {
        while matches!(self.peek().kind, Kind::Newline | Kind::Semicolon) {
            self.bump();
        }
    }

    pub(super) fn skip_newlines(&mut self) {
        while self.peek().kind == Kind::Newline {
            self.bump();
        }
    }

    pub(super) fn peek(&self) -> Token {
        let end = Span {
            start: self.text.len(),
            end: self.text.len(),
        };
        self.tokens.get(self.at).copied().unwrap_or(Token {
            kind: Kind::End,
            span: end,
        })
    }

    /// The next token's text if it is a word, and nothing otherwise.
    pub(super) fn peek_text(&self) -> &'t str {
        let token = self.peek();
        if token.kind == Kind::Word {
            token.span.of(self.text)
        } else {
            ""
        }
    }

    /// The text of the token after the next one, if it is a word.
    pub(super) fn second_text(&self) -> &'t str {
        match self.tokens.get(self.at + 1) {
            Some(token) if token.kind == Kind::Word => token.span.of(self.text),
            _ => "",
        }
    }

    pub(super) fn bump(&mut self) -> Token {
        let token = self.peek();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    /// Where the token before this one stands.
    pub(super) fn last_span(&self) -> Span {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        last.map_or(Span { start: 0, end: 0 }, |token| token.span)
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn fail<T>(&mut self, problem: Problem) -> Parsed<T> {
        self.note(problem);
        Err(Failed)
    }
}

pub(super) fn unquoted(text: &str) -> &str {
    text.strip_prefix('"')
        .map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner))
}
