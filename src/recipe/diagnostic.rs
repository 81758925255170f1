//! Errors that point at a line: what is wrong, the line with carets below it, and what mends it.
//!
//! Pure: text in, text out. Knows neither YAML nor recipes, and must not read the file it quotes.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::Error;

/// A place in a text. Lines and columns count from 1; columns and lengths count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The line.
    pub line: usize,
    /// The column of the first character.
    pub column: usize,
    /// How many characters; a span never goes past the end of its line.
    pub len: usize,
}

/// One thing that is wrong, at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What is to be said beside the carets; may be empty.
    pub label: String,
    /// What mends it, one `help:` each. Further lines of a help are indented below its first.
    pub helps: Vec<String>,
}

impl Diagnostic {
    /// A diagnostic without help.
    pub fn new(message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Diagnostic { message: message.into(), span, label: label.into(), helps: Vec::new() }
    }

    /// Adds a help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }
}

/// What a pure parser has against a piece of text; becomes a [`Diagnostic`] once the text's place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// What is wrong, for the headline.
    pub message: String,
    /// What is to be said beside the carets.
    pub label: String,
    /// The offending characters of the text that was judged.
    pub at: Range<usize>,
    /// Why, and what mends it.
    pub help: String,
}

/// The diagnostics of one file as one recipe error. Its message starts without `error: `, which `main` prints.
pub fn error(name: &str, text: &str, diagnostics: &[Diagnostic]) -> Error {
    let rendered: Vec<String> = diagnostics.iter().map(|diagnostic| render(name, text, diagnostic)).collect();
    Error::recipe(rendered.join("\n\nerror: "))
}

/// One diagnostic as text without colour and without the leading `error: `.
pub fn render(name: &str, text: &str, diagnostic: &Diagnostic) -> String {
    let (source, line, range) = quoted_line(text, diagnostic.span);
    let label = (!diagnostic.label.is_empty()).then_some(diagnostic.label.as_str());
    let snippet = Snippet::source(source)
        .line_start(line)
        .path(name)
        .annotation(AnnotationKind::Primary.span(range).label(label));
    let helps = diagnostic.helps.iter().map(|help| Group::with_title(Level::HELP.secondary_title(help.as_str())));
    let report: Vec<Group<'_>> =
        std::iter::once(Level::ERROR.primary_title(diagnostic.message.as_str()).element(snippet))
            .chain(helps)
            .collect();
    let rendered = Renderer::plain().term_width(200).render(&report);
    let rendered: Vec<&str> = rendered.lines().map(str::trim_end).collect();
    let rendered = rendered.join("\n");
    rendered.strip_prefix("error: ").unwrap_or(&rendered).to_owned()
}

/// The line of the span, its number, and the span's bytes in it. A span outside the text ends up on its last line.
fn quoted_line(text: &str, span: Span) -> (&str, usize, Range<usize>) {
    let (index, line) = text.lines().enumerate().take(span.line.max(1)).last().unwrap_or((0, ""));
    let byte = |chars: usize| line.char_indices().nth(chars).map_or(line.len(), |(byte, _)| byte);
    let start = span.column.saturating_sub(1);
    (line, index + 1, byte(start)..byte(start + span.len.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "probes:\n  - name: rst\n    at: tcp_v4_send_rst\n";

    #[test]
    fn reads_like_the_compiler() {
        let span = Span { line: 3, column: 9, len: 15 };
        let wrong =
            Diagnostic::new("probe `rst`: no function `tcp_v4_send_rst` in this kernel", span, "not in vmlinux")
                .help("close by: tcp_v4_send_reset, tcp_v4_send_ack\n`kdbg recipe check recipes/mine.yaml` shows all");
        insta::assert_snapshot!(render("recipes/mine.yaml", TEXT, &wrong), @r"
        probe `rst`: no function `tcp_v4_send_rst` in this kernel
         --> recipes/mine.yaml:3:9
          |
        3 |     at: tcp_v4_send_rst
          |         ^^^^^^^^^^^^^^^ not in vmlinux
          |
        help: close by: tcp_v4_send_reset, tcp_v4_send_ack
              `kdbg recipe check recipes/mine.yaml` shows all
        ");
    }

    #[test]
    fn several_are_set_apart() {
        let first = Diagnostic::new("one", Span { line: 1, column: 1, len: 6 }, "here");
        let second = Diagnostic::new("two", Span { line: 2, column: 5, len: 4 }, "");
        insta::assert_snapshot!(error("a.yaml", TEXT, &[first, second]).message, @r"
        one
         --> a.yaml:1:1
          |
        1 | probes:
          | ^^^^^^ here

        error: two
         --> a.yaml:2:5
          |
        2 |   - name: rst
          |     ^^^^
        ");
    }

    #[test]
    fn columns_count_characters_and_a_span_outside_the_text_is_harmless() {
        let span = Span { line: 1, column: 4, len: 2 };
        insta::assert_snapshot!(render("a.yaml", "é: ß€ö\n", &Diagnostic::new("x", span, "")), @r"
        x
         --> a.yaml:1:4
          |
        1 | é: ß€ö
          |    ^^
        ");
        let span = Span { line: 9, column: 9, len: 9 };
        insta::assert_snapshot!(render("a.yaml", "", &Diagnostic::new("x", span, "the file is empty")), @r"
        x
         --> a.yaml:1:1
          |
        1 |
          | ^ the file is empty
        ");
    }
}
