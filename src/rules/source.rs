//! The text of a rule file with all that it includes, and which byte came from which file.

use super::diagnostic::{Problem, line_starts};
use super::lexer::{Kind, Span, Token, tokens};

/// As nft (MAX_INCLUDE_DEPTH of its `include/nftables.h`): a file that includes itself ends here.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Most bytes of all files together. A set of 100,000 addresses has some two million.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// Most files that may be included, each as often as it is.
const MAX_FILES: usize = 10_000;

/// A file that an `include` named: its name for messages, and its text.
pub type Included = (String, String);

/// Finds the files that an `include` in the file `from` means. A pattern may mean none.
pub type Find<'f> = &'f mut dyn FnMut(&str, &str) -> Result<Vec<Included>, String>;

/// A rule file and what it includes, cut into tokens.
#[derive(Debug)]
pub struct Source {
    /// The texts of all files, one behind the other.
    text: String,
    /// The name of each file, and where its text begins.
    files: Vec<(usize, String)>,
    /// In the order in which they are to be read.
    tokens: Vec<Token>,
    problems: Vec<Problem>,
}

impl Source {
    /// Reads a file; `find` is asked for each `include`.
    #[must_use]
    pub fn read(file: &str, text: &str, find: Find<'_>) -> Source {
        let mut source = Source {
            text: String::with_capacity(text.len()),
            files: Vec::new(),
            tokens: Vec::new(),
            problems: Vec::new(),
        };
        source.add(file, text, find, 0);
        // In the file itself, also if the texts of others stand behind it.
        let mut end = text.len();
        if source.files.len() > 1 {
            end = text.floor_char_boundary(end.saturating_sub(1));
        }
        source.tokens.push(Token {
            kind: Kind::End,
            span: Span { start: end, end },
        });
        source
    }

    fn add(&mut self, file: &str, text: &str, find: Find<'_>, depth: usize) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let base = self.text.len();
        self.files.push((base, file.to_owned()));
        self.text.push_str(text);
        let mut problems = Vec::new();
        let mut tokens = tokens(text, &mut problems);
        if let Some(end) = tokens.last_mut() {
            // A statement ends with its file.
            end.kind = Kind::Newline;
        }
        for token in &mut tokens {
            token.span = token.span.moved(base);
        }
        self.problems
            .extend(problems.into_iter().map(|problem| problem.moved(base)));
        let mut at_start = true;
        let mut at = 0;
        while let Some(&token) = tokens.get(at) {
            let named = tokens.get(at + 1).filter(|next| next.kind == Kind::Quoted);
            if at_start
                && token.kind == Kind::Word
                && token.span.of(&self.text) == "include"
                && let Some(named) = named
            {
                self.include(file, token.span.to(named.span), named.span, find, depth);
                at += 2;
                at_start = false;
                continue;
            }
            at_start = matches!(
                token.kind,
                Kind::Newline | Kind::Semicolon | Kind::OpenBrace | Kind::CloseBrace
            );
            self.tokens.push(token);
            at += 1;
        }
    }

    fn include(&mut self, from: &str, span: Span, name: Span, find: Find<'_>, depth: usize) {
        let pattern = name.of(&self.text).trim_matches('"').to_owned();
        if depth >= MAX_INCLUDE_DEPTH {
            let message = format!("files include each other more than {MAX_INCLUDE_DEPTH} deep");
            let problem = Problem::new(span, message, "");
            return self
                .problems
                .push(problem.hint("does a file include itself?"));
        }
        let found = match find(from, &pattern) {
            Ok(found) => found,
            Err(why) => {
                let message = format!("cannot include \"{}\"", pattern.escape_debug());
                return self
                    .problems
                    .push(Problem::new(span, message, "").hint(why));
            }
        };
        for (file, text) in found {
            if self.files.len() >= MAX_FILES {
                let message = format!("more than {MAX_FILES} files");
                return self.problems.push(Problem::new(span, message, ""));
            }
            if self.text.len() + text.len() > MAX_TEXT_BYTES {
                let message = format!("more than {MAX_TEXT_BYTES} bytes in all files");
                return self.problems.push(Problem::new(span, message, ""));
            }
            self.add(&file, &text, find, depth + 1);
        }
    }

    /// The texts of all files.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// What is wrong so far.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// The name and the first byte of the file in which a byte stands, and where that file ends.
    pub(super) fn file_at(&self, at: usize) -> (&str, usize, usize) {
        let after = self.files.partition_point(|&(start, _)| start <= at);
        let end = self
            .files
            .get(after)
            .map_or(self.text.len(), |&(start, _)| start);
        match after.checked_sub(1).and_then(|index| self.files.get(index)) {
            Some((start, name)) => (name, *start, end),
            None => ("", 0, end),
        }
    }

    /// Where the lines of all files begin.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines {
            source: self,
            starts: line_starts(&self.text),
        }
    }

    /// The name of the first file.
    pub(super) fn name(&self) -> &str {
        self.files.first().map_or("", |(_, name)| name)
    }
}

/// Where lines begin.
#[derive(Debug)]
pub(super) struct Lines<'s> {
    source: &'s Source,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    /// The file and the line in it, from 1, in which a byte stands.
    pub(super) fn at(&self, at: usize) -> (&'s str, u32) {
        let (file, start, _) = self.source.file_at(at);
        let before = |at| self.starts.partition_point(|&line| line <= at);
        let line = before(at) - before(start).min(before(at)) + 1;
        (file, u32::try_from(line).unwrap_or(u32::MAX))
    }
}
