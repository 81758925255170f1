//! A report as a page a person likes to read: `report.md`.
//!
//! Pure: source lines come from whoever implements [`Sources`]. This file holds the order of the page; the parts are
//! `head` (outcome, question, facts, probes), `story` (all stops, a line each), `hits` and `frames` (every stop), `log` (what was logged), `tail` (trigger, expectations, timings,
//! files). `page` writes blocks and `escape` keeps foreign text from becoming Markdown.

pub(super) mod escape;
mod frames;
mod head;
mod hits;
mod incidents;
mod log;
mod page;
mod story;
mod tail;

use super::model::Report;
use page::Page;

/// Where source lines come from.
pub trait Sources {
    /// Lines of `file` (relative to the kernel tree) from `around` before `line` to `around` after it, with their
    /// numbers; none when the file or the line cannot be had.
    fn excerpt(&self, file: &str, line: u32, around: u32) -> Option<Vec<(u32, String)>>;
}

/// No sources at hand: a page without excerpts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn excerpt(&self, _file: &str, _line: u32, _around: u32) -> Option<Vec<(u32, String)>> {
        None
    }
}

/// Renders `report` as a page of GitHub-flavoured Markdown.
pub fn render(report: &Report, sources: &dyn Sources) -> String {
    let mut page = Page::default();
    head::write(&mut page, report);
    tail::expectations(&mut page, report);
    hits::write(&mut page, report, sources);
    log::write(&mut page, &report.hits);
    tail::trigger(&mut page, report);
    incidents::write(&mut page, report);
    tail::notes(&mut page, report);
    page.finish()
}

#[cfg(test)]
mod tests;
