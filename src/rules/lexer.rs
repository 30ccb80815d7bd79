use super::diagnostic::Problem;

/// A range of bytes of the text, on character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// First byte.
    pub(super) start: usize,
    /// One past the last byte.
    pub(super) end: usize,
}

impl Span {
    /// From the beginning of this one to the end of the other one.
    pub(super) fn to(self, end: Span) -> Span {
        Span {
            start: self.start,
            end: end.end.max(self.start),
        }
    }

    /// The same within a text that stands behind `base` bytes.
    pub(super) fn moved(self, base: usize) -> Span {
        Span {
            start: self.start + base,
            end: self.end + base,
        }
    }

    /// The text between.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, name, number, address or prefix.
    Word,
    /// A string between quotes; the span includes them.
    Quoted,
    /// `$name`; the span includes the sign.
    Variable,
    /// `@name`, a named set or map; the span includes the sign.
    SetName,
    OpenBrace,
    CloseBrace,
    Comma,
    Semicolon,
    Newline,
    OpenParen,
    CloseParen,
    Dash,
    Plus,
    /// `:` that belongs to no address.
    Colon,
    /// `.`, between blanks: within a word it belongs to an address.
    Dot,
    /// `/`, between blanks: within a word it begins a prefix length.
    Slash,
    /// `&`
    And,
    /// `|`
    Or,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `=`
    Assign,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// A character that the language has no use for here.
    Stray,
    End,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// Cuts a text into tokens; the last one is [`Kind::End`].
pub(super) fn tokens(text: &str, problems: &mut Vec<Problem>) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        problems,
    };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        let token = lexer.next();
        tokens.push(token);
        if token.kind == Kind::End {
            return tokens;
        }
    }
}

struct Lexer<'t, 'p> {
    text: &'t str,
    at: usize,
    problems: &'p mut Vec<Problem>,
}

impl Lexer<'_, '_> {
    fn next(&mut self) -> Token {
        self.blanks();
        let start = self.at;
        let Some(first) = self.peek() else {
            return self.token(Kind::End, start);
        };
        let kind = match first {
            '\n' => self.single(Kind::Newline),
            ';' => self.single(Kind::Semicolon),
            '{' => self.single(Kind::OpenBrace),
            '}' => self.single(Kind::CloseBrace),
            '(' => self.single(Kind::OpenParen),
            ')' => self.single(Kind::CloseParen),
            ',' => self.single(Kind::Comma),
            '&' => self.single(Kind::And),
            '|' => self.single(Kind::Or),
            '<' if self.rest().starts_with("<=") => self.double(Kind::LessOrEqual),
            '<' => self.single(Kind::Less),
            '>' if self.rest().starts_with(">=") => self.double(Kind::GreaterOrEqual),
            '>' => self.single(Kind::Greater),
            // No address begins so.
            ':' if !self.rest().starts_with("::") => self.single(Kind::Colon),
            '-' => self.single(Kind::Dash),
            '+' => self.single(Kind::Plus),
            '=' if self.rest().starts_with("==") => self.double(Kind::Equal),
            '=' => self.single(Kind::Assign),
            '!' if self.rest().starts_with("!=") => self.double(Kind::NotEqual),
            '"' => self.quoted(),
            '$' => self.sign(Kind::Variable),
            '@' => self.sign(Kind::SetName),
            _ if is_word(first) => self.word(),
            _ => self.stray(first),
        };
        self.token(kind, start)
    }

    /// Blanks, comments, and line ends behind a backslash.
    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let skip = match rest.chars().next() {
                Some(' ' | '\t' | '\r') => 1,
                Some('#') => rest.find('\n').unwrap_or(rest.len()),
                Some('\\') if rest.starts_with("\\\n") => 2,
                Some('\\') if rest.starts_with("\\\r\n") => 3,
                _ => return,
            };
            self.at += skip;
        }
    }

    /// A name may hold dashes (`echo-request`, `ftp-std`); behind a number or an address a dash
    /// makes a range (`10-20`, `fe80::1-fe80::9`).
    fn word(&mut self) -> Kind {
        let start = self.at;
        let named = self.peek().is_some_and(is_name_start);
        let mut colon = false;
        while let Some(c) = self.peek() {
            colon |= c == ':';
            let dash_in_name = c == '-' && named && !colon;
            if !is_word(c) && !dash_in_name {
                break;
            }
            self.at += 1;
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        // `22: accept` and `22:accept` in a map; no address ends so.
        if let Some((key, behind)) = word.rsplit_once(':')
            && (VERDICTS.contains(&behind) || (behind.is_empty() && !key.ends_with(':')))
        {
            self.at = start + key.len();
        }
        match word {
            "." => Kind::Dot,
            "/" => Kind::Slash,
            _ => Kind::Word,
        }
    }

    fn quoted(&mut self) -> Kind {
        let (start, rest) = (self.at, self.rest());
        let inner = rest.get(1..).unwrap_or_default();
        match inner.find(['"', '\n']) {
            Some(end) if inner.get(end..).is_some_and(|rest| rest.starts_with('"')) => {
                self.at += end + 2;
            }
            end => {
                self.at += 1 + end.unwrap_or(inner.len());
                let span = Span {
                    start,
                    end: self.at,
                };
                self.problems.push(
                    Problem::new(span, "a string without its closing quote", "starts here")
                        .hint("strings end on the line on which they begin"),
                );
            }
        }
        Kind::Quoted
    }

    /// A name behind `$` or `@`.
    fn sign(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        if !self.peek().is_some_and(is_name_start) {
            return Kind::Stray;
        }
        // The dash in `$low-$high` makes a range; sets have the names that nft gives everything.
        let more = if kind == Kind::SetName { "_-./" } else { "_" };
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || more.contains(c))
        {
            self.at += 1;
        }
        kind
    }

    fn stray(&mut self, first: char) -> Kind {
        self.at += first.len_utf8();
        Kind::Stray
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    fn double(&mut self, kind: Kind) -> Kind {
        self.at += 2;
        kind
    }

    fn token(&self, kind: Kind, start: usize) -> Token {
        Token {
            kind,
            span: Span {
                start,
                end: self.at,
            },
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
}

const VERDICTS: [&str; 6] = ["accept", "drop", "jump", "goto", "return", "continue"];

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '*')
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let mut problems = Vec::new();
        let tokens = tokens(text, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        tokens
            .iter()
            .map(|token| (token.kind, token.span.of(text)))
            .collect()
    }

    #[test]
    fn names_keep_their_dashes_and_ranges_do_not() {
        use Kind::{Dash, End, Word};
        assert_eq!(
            kinds("echo-request 10-20 fe80::1-fe80::9 10.0.0.0/8"),
            [
                (Word, "echo-request"),
                (Word, "10"),
                (Dash, "-"),
                (Word, "20"),
                (Word, "fe80::1"),
                (Dash, "-"),
                (Word, "fe80::9"),
                (Word, "10.0.0.0/8"),
                (End, ""),
            ]
        );
    }

    #[test]
    fn comments_and_continued_lines_are_blank() {
        use Kind::{End, Newline, Quoted, Variable, Word};
        assert_eq!(
            kinds("a # b { \" \\\nc \\\n d \"x # y\" $z\r\n"),
            [
                (Word, "a"),
                (Newline, "\n"),
                (Word, "c"),
                (Word, "d"),
                (Quoted, "\"x # y\""),
                (Variable, "$z"),
                (Newline, "\n"),
                (End, ""),
            ]
        );
    }

    #[test]
    fn a_string_ends_on_its_line() {
        let mut problems = Vec::new();
        let text = "comment \"open\naccept";
        let tokens = tokens(text, &mut problems);
        assert_eq!(tokens[1].span.of(text), "\"open");
        assert_eq!(tokens[2].kind, Kind::Newline);
        assert_eq!(problems.len(), 1);
    }
}
