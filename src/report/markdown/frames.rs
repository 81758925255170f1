//! A stack on the page: the backtrace table, then every frame's source lines and values.
//!
//! Pure: source lines come from [`Sources`]. The innermost frames are open, the rest is folded away.

use super::Sources;
use super::escape::{code, html, text};
use super::hits::{CELL_LIMIT, in_full, is_long, type_cell, value_cell};
use super::page::Page;
use crate::report::model::{Frame, Var, Why};
use crate::report::path::place;
use crate::report::text::{plural, printable, shorten};
use crate::report::value;

/// How many frames show their source lines unfolded.
const OPEN_FRAMES: usize = 8;

/// How many frames show their values unfolded.
const OPEN_VALUES: usize = 3;

/// Source lines before the line of a frame.
const BEFORE: u32 = 3;

/// Source lines after the line of a frame.
const AFTER: u32 = 2;

/// How long a local may be to stand in the backtrace table.
const LOCAL_LIMIT: usize = 40;

/// The backtrace, one row a frame.
pub(super) fn table(page: &mut Page, frames: &[Frame]) {
    let rows: Vec<_> = frames
        .iter()
        .map(|frame| [frame.level.to_string(), function(frame), location(frame), what_was_there(frame)])
        .collect();
    page.table(["#", "function", "where", "what was there"], &rows);
}

/// Every frame's source lines and values.
pub(super) fn sources(page: &mut Page, frames: &[Frame], sources: &dyn Sources) {
    let (open, folded) = frames.split_at(frames.len().min(OPEN_FRAMES));
    for frame in open {
        write_frame(page, frame, sources);
    }
    if let (Some(first), Some(last)) = (folded.first(), folded.last()) {
        let summary = format!(
            "Frames {} to {}: <code>{}</code> … <code>{}</code>",
            first.level,
            last.level,
            html(&first.symbol),
            html(&last.symbol)
        );
        page.details(&summary, |page| folded.iter().for_each(|frame| write_frame(page, frame, sources)));
    }
}

fn function(frame: &Frame) -> String {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    format!("{}{inlined}", code(&frame.symbol))
}

fn location(frame: &Frame) -> String {
    match place(frame.file.as_deref(), frame.line) {
        Some(place) => text(&place),
        None => code(&frame.address),
    }
}

/// Arguments and short locals, then the names of what could not be had, grouped by why.
fn what_was_there(frame: &Frame) -> String {
    let args = frame.args.iter().filter_map(|var| assignment(var, CELL_LIMIT));
    let brief = |var: &&Var| value::short(var).is_some_and(|value| value.chars().count() <= LOCAL_LIMIT);
    let locals = frame.locals.iter().filter(brief).filter_map(|var| assignment(var, LOCAL_LIMIT));
    let there: Vec<String> = args.chain(locals).collect();
    let groups = [Why::NotSetYet, Why::OptimizedOut, Why::Unreadable].map(|why| missing(frame, why));
    let there = (!there.is_empty()).then(|| there.join(", "));
    there.into_iter().chain(groups.into_iter().flatten()).collect::<Vec<_>>().join("; ")
}

fn assignment(var: &Var, limit: usize) -> Option<String> {
    value::short(var).map(|value| code(&format!("{} = {}", var.name, shorten(&value, limit))))
}

fn missing(frame: &Frame, why: Why) -> Option<String> {
    let names: Vec<String> = variables(frame).filter(|var| var.why == Some(why)).map(|var| code(&var.name)).collect();
    (!names.is_empty()).then(|| format!("{}: {}", why.as_str(), names.join(", ")))
}

fn variables(frame: &Frame) -> impl Iterator<Item = &Var> {
    frame.args.iter().chain(&frame.locals)
}

fn write_frame(page: &mut Page, frame: &Frame, sources: &dyn Sources) {
    let excerpt = frame.file.as_deref().zip(frame.line).and_then(|(file, line)| {
        sources.excerpt(file, line, BEFORE).map(|lines| (line, lines)).filter(|(_, lines)| !lines.is_empty())
    });
    if excerpt.is_none() && variables(frame).next().is_none() && frame.hidden == 0 {
        return;
    }
    page.heading(4, &format!("{}. {}, {}", frame.level, function(frame), location(frame)));
    if let Some((line, lines)) = excerpt {
        page.fence("c", &marked(&lines, line));
    }
    if variables(frame).next().is_none() && frame.hidden == 0 {
        return;
    }
    if (frame.level as usize) < OPEN_VALUES {
        write_values(page, frame);
    } else {
        let count = variables(frame).count() as u64;
        let parts = [plural(count, "value"), hidden(frame)];
        let summary = parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(", ");
        page.details(&summary, |page| write_values(page, frame));
    }
}

fn write_values(page: &mut Page, frame: &Frame) {
    let row = |kind: &str, var: &Var| [code(&var.name), value_cell(var), type_cell(var), kind.to_owned()];
    let args = frame.args.iter().map(|var| row("argument", var));
    let rows: Vec<_> = args.chain(frame.locals.iter().map(|var| row("local", var))).collect();
    page.table(["name", "value", "type", ""], &rows);
    if frame.hidden > 0 && (frame.level as usize) < OPEN_VALUES {
        page.paragraph(&format!("{}.", hidden(frame)));
    }
    in_full(page, &variables(frame).filter(|var| is_long(var)).collect::<Vec<_>>());
}

fn hidden(frame: &Frame) -> String {
    match frame.hidden {
        0 => String::new(),
        1 => "1 macro temporary hidden".into(),
        n => format!("{n} macro temporaries hidden"),
    }
}

/// Numbered source lines, the one of the frame marked. Tabs become spaces: a marker in front would misalign them.
fn marked(lines: &[(u32, String)], at: u32) -> String {
    let width = lines.iter().map(|(number, _)| number.to_string().len()).max().unwrap_or(0);
    lines
        .iter()
        .filter(|(number, _)| *number <= at.saturating_add(AFTER))
        .map(|(number, line)| {
            let marker = if *number == at { '►' } else { ' ' };
            format!("{marker} {number:>width$}  {}", printable(&expand_tabs(line))).trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn expand_tabs(line: &str) -> String {
    const STOP: usize = 8;
    let mut column = 0;
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        let width = if c == '\t' { STOP - column % STOP } else { 1 };
        out.extend(std::iter::repeat_n(if c == '\t' { ' ' } else { c }, width));
        column += width;
    }
    out
}
