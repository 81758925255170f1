//! The rest of the page: expectations, the trigger's steps, warnings, timings, files.
//!
//! Pure.

use super::escape::{html, link, sentence, text};
use super::page::Page;
use crate::report::model::{ExpectationResult, Report, StepResult};
use crate::report::text::{duration, plural};

/// How many lines of a step's output stand open on the page.
const OPEN_LINES: usize = 20;

/// The table of expectations.
pub(super) fn expectations(page: &mut Page, report: &Report) {
    if report.expectations.is_empty() {
        return;
    }
    page.heading(2, "Expectations");
    page.table(["", "expected", "seen"], &report.expectations.iter().map(expectation).collect::<Vec<_>>());
}

fn expectation(result: &ExpectationResult) -> [String; 3] {
    let mark = if result.passed { "✓" } else { "✗" };
    [mark.into(), sentence(&result.text), sentence(&result.detail)]
}

/// Every step that started, with what it wrote.
pub(super) fn trigger(page: &mut Page, report: &Report) {
    if report.trigger.is_empty() {
        return;
    }
    page.heading(2, "Trigger");
    for step in &report.trigger {
        write_step(page, step);
    }
}

fn write_step(page: &mut Page, step: &StepResult) {
    let took = duration(step.duration_ms);
    let end = match step.exit_code {
        _ if step.timed_out => format!("timed out and was killed after {took}"),
        Some(code) => format!("exit {code} after {took}"),
        None => format!("did not end by itself; {took}"),
    };
    page.paragraph(&format!("**{}**: {end}.", text(&step.name)));
    output(page, "standard output", &step.stdout);
    output(page, "standard error", &step.stderr);
}

fn output(page: &mut Page, name: &str, content: &str) {
    let lines = content.lines().count();
    match lines {
        0 => {}
        1..=OPEN_LINES => {
            page.paragraph(&format!("{name}:"));
            page.fence("text", content);
        }
        _ => page
            .details(&html(&format!("{name}, {}", plural(lines as u64, "line"))), |page| page.fence("text", content)),
    }
}

/// Warnings, timings and files.
pub(super) fn notes(page: &mut Page, report: &Report) {
    if !report.warnings.is_empty() {
        page.heading(2, "Warnings");
        page.list(&report.warnings.iter().map(|warning| sentence(warning)).collect::<Vec<_>>());
    }
    if !report.timings.is_empty() {
        page.heading(2, "Timings");
        let row = |(name, ms): (&String, &u64)| [text(name.strip_suffix("_ms").unwrap_or(name)), duration(*ms)];
        page.table(["what", "time"], &report.timings.iter().map(row).collect::<Vec<_>>());
    }
    if !report.files.is_empty() {
        page.heading(2, "Files");
        page.list(
            &report.files.iter().map(|(name, path)| format!("{}: {}", text(name), link(path))).collect::<Vec<_>>(),
        );
    }
}
