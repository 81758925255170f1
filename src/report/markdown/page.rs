//! Writes the blocks of a page: headings, paragraphs, tables, fences, folds.
//!
//! Pure. Takes Markdown that is already escaped ([`super::escape`]), except for [`Page::fence`], which takes any text.

use super::escape;
use crate::report::text::printable_block;

/// A page under construction; every block is followed by an empty line.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// The finished page.
    pub(super) fn finish(self) -> String {
        let mut text = self.0;
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// A heading of `level` 1 to 6.
    pub(super) fn heading(&mut self, level: usize, markdown: &str) {
        self.block(&format!("{} {markdown}", "#".repeat(level)));
    }

    /// A paragraph.
    pub(super) fn paragraph(&mut self, markdown: &str) {
        self.block(markdown);
    }

    /// A quoted paragraph.
    pub(super) fn quote(&mut self, markdown: &str) {
        self.block(&format!("> {markdown}"));
    }

    /// A list; nothing when there are no items.
    pub(super) fn list(&mut self, items: &[String]) {
        if !items.is_empty() {
            self.block(&items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n"));
        }
    }

    /// A table; nothing when there are no rows.
    pub(super) fn table<const N: usize>(&mut self, header: [&str; N], rows: &[[String; N]]) {
        if rows.is_empty() {
            return;
        }
        let line = |cells: &[String; N]| format!("| {} |", cells.join(" | "));
        let head = [line(&header.map(str::to_owned)), line(&header.map(|_| "---".to_owned()))];
        self.block(&head.into_iter().chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n"));
    }

    /// Any text, as it is but for control characters, in a fenced block of `language`.
    pub(super) fn fence(&mut self, language: &str, any: &str) {
        let text = printable_block(any);
        let fence = escape::fence(&text);
        self.block(&format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n')));
    }

    /// What `inside` writes, folded away under `summary` (HTML).
    pub(super) fn details(&mut self, summary: &str, inside: impl FnOnce(&mut Page)) {
        self.block(&format!("<details>\n<summary>{summary}</summary>"));
        inside(self);
        self.block("</details>");
    }

    fn block(&mut self, block: &str) {
        self.0.push_str(block);
        self.0.push_str("\n\n");
    }
}
