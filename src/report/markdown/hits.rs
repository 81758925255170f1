//! Every hit on the page: who was stopped where, what was shown, and its stack.
//!
//! Pure. A hit that came by the path of an earlier one says so and keeps its values only, so that a hundred hits stay
//! readable.

use std::collections::BTreeSet;

use super::Sources;
use super::escape::{code, html, red, text};
use super::frames;
use super::page::Page;
use super::story;
use crate::report::model::{Context, Decoded, Depth, Hit, Interrupted, Report, Var};
use crate::report::path::{first_of_path, in_a_line, system_call};
use crate::report::text::{plural, shorten};
use crate::report::value;

/// The longest value that stands in a table.
pub(super) const CELL_LIMIT: usize = 80;

/// From how many hits on the page begins with an overview of them.
const OVERVIEW_FROM: usize = 4;

/// How many functions of a path the overview names.
const LANDMARKS: usize = 6;

/// Writes all hits.
pub(super) fn write(page: &mut Page, report: &Report, sources: &dyn Sources) {
    if report.hits.is_empty() {
        page.heading(2, "Hits");
        page.paragraph("No probe was hit.");
        return;
    }
    let hits: Vec<&Hit> = report.hits.iter().filter(|hit| hit.message.is_none()).collect();
    if hits.is_empty() {
        return;
    }
    page.heading(2, "Hits");
    let firsts = first_of_path(&hits);
    if hits.len() >= OVERVIEW_FROM {
        story::write(page, report, &hits);
        page.paragraph("By the path through the kernel:");
        overview(page, &hits, &firsts);
    }
    for (at, (hit, &first)) in hits.iter().zip(&firsts).enumerate() {
        let same_as = (first != at).then(|| hits[first].index);
        write_hit(page, (report, hit), same_as, sources);
    }
}

/// One row a path: which hits came by it, who was running, and its landmarks.
fn overview(page: &mut Page, hits: &[&Hit], firsts: &[usize]) {
    let row = |first: usize| {
        let same: Vec<&Hit> = hits.iter().zip(firsts).filter(|(_, f)| **f == first).map(|(hit, _)| *hit).collect();
        let indices: Vec<u64> = same.iter().map(|hit| hit.index).collect();
        let probes = names(same.iter().map(|hit| hit.probe.as_str()));
        let tasks = names(same.iter().map(|hit| hit.task.comm.as_deref().unwrap_or("?")));
        [same.len().to_string(), ranges(&indices), probes, tasks, text(&in_a_line(&hits[first].frames, LANDMARKS))]
    };
    let rows: Vec<_> =
        firsts.iter().enumerate().filter(|(at, first)| at == *first).map(|(_, first)| row(*first)).collect();
    page.table(["hits", "which", "probe", "task", "path"], &rows);
}

/// The first few different names, as code.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let different: BTreeSet<&str> = all.collect();
    let more = different.len().saturating_sub(SHOWN);
    let shown: Vec<String> = different.into_iter().take(SHOWN).map(code).collect();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// `1–3, 7`.
fn ranges(indices: &[u64]) -> String {
    let runs = indices.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[u64]| match run {
        [first, .., last] => format!("{first}–{last}"),
        one => one.iter().map(u64::to_string).collect(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

fn write_hit(page: &mut Page, (report, hit): (&Report, &Hit), same_as: Option<u64>, sources: &dyn Sources) {
    page.heading(3, &format!("Hit {}: {}", hit.index, story::what(report, hit)));
    page.paragraph(&who(hit));
    if let Some(changed) = &hit.changed {
        let [old, new] = changed.values();
        page.paragraph(&format!("{} changed from {} to {}.", code(&changed.expression), code(old), code(new)));
    }
    hit.altered.iter().for_each(|altered| page.paragraph(&red(&format!("⚠ kdbg changed {altered}"))));
    page.list(&hit.decoded.iter().map(decoded).collect::<Vec<_>>());
    shown(page, hit);
    match same_as {
        Some(earlier) => page.details(&format!("Same path as hit {earlier}; its values"), |page| {
            frames::table(page, &hit.frames);
        }),
        None => {
            frames::table(page, &hit.frames);
            if let Some(cut) = &hit.cut {
                page.paragraph(&format!("**The stack is not whole:** {}.", text(cut)));
            }
            frames::sources(page, &hit.frames, sources);
        }
    }
}

/// The sentence about who was stopped.
fn who(hit: &Hit) -> String {
    let (task, cpu) = (task(hit), hit.cpu);
    let call = hit.syscall.as_ref().map(|call| call.text.as_str()).or_else(|| system_call(&hit.frames));
    let during = call.map_or(String::new(), |call| format!(", inside the system call **{}**", text(call)));
    let during = format!("{during}{}", hit.interrupted.as_ref().map_or(String::new(), interrupted));
    let doing = match hit.context {
        Some(Context::Process) => format!("{task} was running on CPU {cpu} in its own (process) context{during}"),
        Some(Context::Softirq) => format!("CPU {cpu} was serving a **softirq** on top of {task}{during}"),
        Some(Context::Hardirq) => {
            format!("CPU {cpu} was in an interrupt handler (**hardirq**) on top of {task}{during}")
        }
        Some(Context::Nmi) => format!("CPU {cpu} was in a non-maskable interrupt (**NMI**) on top of {task}{during}"),
        None => format!("CPU {cpu} was running {task}{during}; the context could not be read"),
    };
    let doing = format!("{doing}{}", depth(&hit.depth));
    let when = hit.jiffies.map_or(String::new(), |jiffies| format!(" at jiffies {jiffies}"));
    format!("Probe {} stopped the guest{when}: {doing}.", code(&hit.probe))
}

/// What keeps the CPU from doing something else, if anything does.
fn depth(depth: &Depth) -> String {
    let deep = [
        (depth.preempt, "preemption off"),
        (depth.softirqs, "softirqs off"),
        (depth.rcu, "in RCU read sections"),
        (depth.locks, "locks held"),
    ];
    let said = deep.iter().filter_map(|(count, what)| Some((count.filter(|count| *count > 0)?, what)));
    let said: Vec<String> = said.map(|(count, what)| format!("{what}: {count}")).collect();
    if said.is_empty() { String::new() } else { format!("; {}", said.join(", ")) }
}

/// What was interrupted, and by what.
fn interrupted(what: &Interrupted) -> String {
    let place = match (&what.symbol, what.user) {
        (Some(function), _) => code(function),
        (None, true) => format!("the program at {}", code(&what.address)),
        (None, false) => format!("the kernel at {}", code(&what.address)),
    };
    format!(", after {} had interrupted {place}", code(&what.entry))
}

/// `nc` (pid 61, thread of 60).
fn task(hit: &Hit) -> String {
    let comm = hit.task.comm.as_deref().map_or_else(|| "a task whose name could not be read".to_owned(), code);
    match (hit.task.pid, hit.task.tgid) {
        (Some(pid), Some(tgid)) if pid != tgid => format!("{comm} (pid {pid}, thread of {tgid})"),
        (Some(pid), _) => format!("{comm} (pid {pid})"),
        (None, _) => comm,
    }
}

fn decoded(object: &Decoded) -> String {
    let fields: Vec<String> =
        object.fields.iter().map(|(name, value)| code(&shorten(&format!("{name} = {value}"), CELL_LIMIT))).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
    let packet = object.packet.map_or(String::new(), |number| format!(" (**packet {number}**)"));
    format!("{} is a {}{packet}: {}{fields}", code(&object.expression), code(&object.kind), text(&object.summary))
}

/// What the recipe asked to see, and what the function returned.
fn shown(page: &mut Page, hit: &Hit) {
    let all = || hit.returned.iter().chain(&hit.arguments).chain(&hit.shown);
    let rows: Vec<_> = all().map(|var| [text(&var.name), value_cell(var), type_cell(var)]).collect();
    let head =
        if hit.returned.is_some() || !hit.arguments.is_empty() { "returned, entered with, shown" } else { "shown" };
    page.table([head, "value", "type"], &rows);
    let long: Vec<&Var> = all().filter(|var| is_long(var)).collect();
    in_full(page, &long);
}

/// The value of `var` for a table cell, or why there is none.
pub(super) fn value_cell(var: &Var) -> String {
    match value::short(var) {
        Some(value) => code(&shorten(&value, CELL_LIMIT)),
        None => format!("*{}*", var.why.map_or("not available", |why| why.as_str())),
    }
}

/// The type of `var` for a table cell.
pub(super) fn type_cell(var: &Var) -> String {
    var.type_name.as_deref().map_or_else(String::new, code)
}

/// Whether a table cell cannot hold the value.
pub(super) fn is_long(var: &Var) -> bool {
    value::short(var).is_some_and(|value| value.chars().count() > CELL_LIMIT)
}

/// The whole text of values that tables had to shorten, folded away.
pub(super) fn in_full(page: &mut Page, long: &[&Var]) {
    if long.is_empty() {
        return;
    }
    let names: Vec<String> = long.iter().map(|var| format!("<code>{}</code>", html(&var.name))).collect();
    page.details(&format!("{} in full: {}", plural(long.len() as u64, "long value"), names.join(", ")), |page| {
        for var in long {
            page.fence("c", &format!("{} = {}", var.name, var.value.as_deref().unwrap_or_default()));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_become_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1–3, 7, 9–10");
        assert_eq!(ranges(&[]), "");
    }
}
