use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::lexer::Span;
use super::source::Source;

/// What is wrong with a rule file, or odd about it, ready to print.
#[derive(Debug)]
pub struct Diagnostics {
    source: Box<Source>,
    problems: Vec<Problem>,
    /// Where each line of all texts begins.
    lines: Vec<usize>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can; but maybe its writer meant something else.
    Warning,
}

/// One error or warning as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic<'d> {
    /// The file's name as it was given.
    pub file: &'d str,
    /// Line, from 1.
    pub line: usize,
    /// First column in characters, from 1.
    pub column: usize,
    /// One past the last column, on the same line.
    pub end_column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: &'d str,
    /// What to write instead.
    pub hint: Option<&'d str>,
}

impl Diagnostics {
    pub(super) fn new(source: Source, mut problems: Vec<Problem>) -> Diagnostics {
        problems.sort_by_key(|problem| problem.span);
        // Of several at one place the first one found is the cause of the others.
        problems.dedup_by_key(|problem| problem.span);
        let lines = line_starts(source.text());
        Diagnostics {
            source: Box::new(source),
            problems,
            lines,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there is none. A failed parse always has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All of them in the order of the file, as data.
    pub fn iter(&self) -> impl Iterator<Item = Diagnostic<'_>> + '_ {
        self.problems.iter().map(|problem| {
            let (line, span) = self.on_one_line(problem.span);
            let start = self.line_start(line);
            let column = |at: usize| {
                let text = self.source.text().get(start..at);
                text.unwrap_or_default().chars().count() + 1
            };
            let (file, number) = self.place(line);
            Diagnostic {
                file,
                line: number,
                column: column(span.start),
                end_column: column(span.end),
                severity: problem.severity,
                message: &problem.message,
                hint: problem.hint.as_deref(),
            }
        })
    }

    /// All of them as a compiler would show them, with the line, a caret and a hint.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut output = String::new();
        for problem in &self.problems {
            let line = self.on_one_line(problem.span).0;
            let mut snippet = self.snippet(line).annotation(self.annotation(
                AnnotationKind::Primary,
                problem.span,
                &problem.label,
            ));
            let mut other_line = None;
            if let Some((span, label)) = &problem.also {
                let annotation = self.annotation(AnnotationKind::Context, *span, label);
                let also_line = self.on_one_line(*span).0;
                if also_line == line {
                    snippet = snippet.annotation(annotation);
                } else {
                    other_line = Some(self.snippet(also_line).annotation(annotation));
                }
            }
            let level = match problem.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let mut group = level.primary_title(&problem.message).element(snippet);
            if let Some(snippet) = other_line {
                group = group.element(snippet);
            }
            if let Some(hint) = &problem.hint {
                group = group.element(Level::HELP.message(hint));
            }
            output.push_str(&renderer.render(&[group]));
            output.push_str("\n\n");
        }
        output.push_str(&format!("{}: {}", self.source.name(), self.count()));
        output
    }

    /// As `2 errors, 1 warning`.
    fn count(&self) -> String {
        let of = |severity| {
            let all = self.problems.iter();
            all.filter(|problem| problem.severity == severity).count()
        };
        let counts = [
            (of(Severity::Error), "error"),
            (of(Severity::Warning), "warning"),
        ];
        let words: Vec<_> = counts
            .into_iter()
            .filter(|&(count, _)| count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        words.join(", ")
    }

    /// Only the line is given to the renderer, so that many errors in a long file stay cheap.
    fn snippet(&self, line: usize) -> Snippet<'_, Annotation<'_>> {
        let (file, number) = self.place(line);
        Snippet::source(self.line_text(line))
            .line_start(number)
            .path(file)
    }

    /// The file in which a line of all texts stands, and its number in it, from 1.
    fn place(&self, line: usize) -> (&str, usize) {
        let (file, start, _) = self.source.file_at(self.line_start(line));
        let before = self.lines.partition_point(|&other| other < start);
        (file, line + 1 - before.min(line))
    }

    fn annotation<'d>(&self, kind: AnnotationKind, span: Span, label: &'d str) -> Annotation<'d> {
        let (line, span) = self.on_one_line(span);
        let start = self.line_start(line);
        let annotation = kind.span(span.start - start..span.end - start);
        if label.is_empty() {
            annotation
        } else {
            annotation.label(label)
        }
    }

    /// The number of the line, from 0, on which a span begins, and the span cut to that line.
    fn on_one_line(&self, span: Span) -> (usize, Span) {
        let line = self
            .lines
            .partition_point(|&start| start <= span.start)
            .saturating_sub(1);
        let text = self.line_text(line);
        let end = self.line_start(line) + text.find(['\n', '\r']).unwrap_or(text.len());
        (
            line,
            Span {
                start: span.start,
                end: span.end.min(end).max(span.start),
            },
        )
    }

    fn line_start(&self, line: usize) -> usize {
        self.lines.get(line).copied().unwrap_or_default()
    }

    /// A line with its end.
    fn line_text(&self, line: usize) -> &str {
        let start = self.line_start(line);
        let (_, _, file_end) = self.source.file_at(start);
        let end = self
            .lines
            .get(line + 1)
            .map_or(file_end, |&next| next.min(file_end));
        self.source.text().get(start..end).unwrap_or_default()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Where each line of a text begins.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
    std::iter::once(0)
        .chain(ends.map(|(at, _)| at + 1))
        .collect()
}

/// One error or warning while it is being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) span: Span,
    severity: Severity,
    pub(super) message: String,
    label: String,
    hint: Option<String>,
    also: Option<(Span, String)>,
}

impl Problem {
    /// `label` stands at the caret and may be empty.
    pub(super) fn new(span: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Problem {
            span,
            severity: Severity::Error,
            message: message.into(),
            label: label.into(),
            hint: None,
            also: None,
        }
    }

    /// Something odd that is no error.
    pub(super) fn warning(
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Problem {
            severity: Severity::Warning,
            ..Problem::new(span, message, label)
        }
    }

    /// The same within a text that stands behind `base` bytes.
    pub(super) fn moved(mut self, base: usize) -> Problem {
        self.span = self.span.moved(base);
        self.also = self.also.map(|(span, label)| (span.moved(base), label));
        self
    }

    /// The same with other words.
    pub(super) fn renamed(mut self, message: impl Into<String>) -> Problem {
        self.message = message.into();
        self
    }

    /// Whether the file cannot be used.
    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// What to write instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// A second place that explains the first.
    pub(super) fn also(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.also = Some((span, label.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "a\nüü bad\n";
        let problems = vec![
            Problem::new(Span { start: 7, end: 10 }, "second", ""),
            Problem::new(Span { start: 0, end: 1 }, "first", "here").hint("do this"),
            Problem::new(Span { start: 11, end: 11 }, "at the end", ""),
        ];
        let source = Source::read("f.nft", text, &mut |_, _| Ok(Vec::new()));
        let diagnostics = Diagnostics::new(source, problems);
        let places: Vec<_> = diagnostics
            .iter()
            .map(|d| (d.line, d.column, d.end_column, d.message))
            .collect();
        assert_eq!(
            places,
            [
                (1, 1, 2, "first"),
                (2, 4, 7, "second"),
                (3, 1, 1, "at the end")
            ]
        );
        let shown = diagnostics.to_string();
        assert!(shown.contains("--> f.nft:2:4"), "{shown}");
        assert!(shown.contains("help: do this"), "{shown}");
        assert!(shown.ends_with("f.nft: 3 errors"), "{shown}");
        assert!(!shown.contains('\u{1b}') && diagnostics.render(true).contains('\u{1b}'));
    }
}
