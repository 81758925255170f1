//! What probes logged, on the page: a line each.
//!
//! Pure.

use super::page::Page;
use crate::report::model::{Context, Hit};
use crate::report::text::{plural, printable};

/// So many lines are on the page; `report.json` has all.
const LINES: usize = 1000;

/// All logged lines, if there are any.
pub(super) fn write(page: &mut Page, hits: &[Hit]) {
    let logged: Vec<(&Hit, &str)> = hits.iter().filter_map(|hit| Some((hit, hit.message.as_deref()?))).collect();
    if logged.is_empty() {
        return;
    }
    page.heading(2, "Log");
    let lines: Vec<String> = logged.iter().take(LINES).map(|(hit, message)| line(hit, message)).collect();
    page.fence("text", &lines.join("\n"));
    if let Some(more) = logged.len().checked_sub(LINES).filter(|more| *more > 0) {
        page.paragraph(&format!("{} more: all are in report.json.", plural(more as u64, "line")));
    }
}

/// `   1  rst  cpu 0  nc[61]  softirq  40 bytes for NULL`.
fn line(hit: &Hit, message: &str) -> String {
    let comm = hit.task.comm.as_deref().unwrap_or("?");
    let pid = hit.task.pid.map_or_else(|| "?".into(), |pid| pid.to_string());
    let context = hit.context.map_or("?", Context::as_str);
    let altered: String = hit.altered.iter().map(|altered| format!("  ⚠ kdbg changed {altered}")).collect();
    printable(&format!(
        "{:>5}  {}  cpu {}  {comm}[{pid}]  {context}  {message}{altered}",
        hit.index, hit.probe, hit.cpu
    ))
}
