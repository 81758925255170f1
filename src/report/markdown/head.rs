//! The top of the page: outcome, question, what went wrong, a summary, facts, probes.
//!
//! Pure. Says what the report says, adds nothing.

use super::escape::{code, red, sentence, text};
use super::page::Page;
use crate::report::model::{ErrorInfo, Hit, Outcome, ProbeResult, Report};
use crate::report::packets;
use crate::report::path::{altering, first_of_path, place};
use crate::report::text::{counted, duration, list, plural};

/// Writes everything above the expectations.
pub(super) fn write(page: &mut Page, report: &Report) {
    page.heading(1, &title(report));
    if !report.recipe.about.trim().is_empty() {
        page.quote(&format!("**{}**", text(&report.recipe.about)));
    }
    if let Some(error) = &report.error {
        write_error(page, error);
    }
    if let Some(probes) = altering(&report.hits) {
        page.paragraph(&red(&format!("⚠ The guest was changed by {probes}: what came after that is a what-if.")));
    }
    page.paragraph(&summary(report));
    page.table(["", ""], &facts(report));
    if !report.probes.is_empty() {
        page.heading(2, "Probes");
        page.table(["probe", "at", "hits", "locations"], &report.probes.iter().map(probe).collect::<Vec<_>>());
    }
}

fn title(report: &Report) -> String {
    let outcome = match report.outcome {
        Outcome::Passed => "✓ passed",
        Outcome::Failed => "✗ failed",
        Outcome::Error => "✗ ended in an error",
        Outcome::Interrupted => "interrupted",
    };
    format!("{}: {outcome}", text(&report.recipe.name))
}

fn write_error(page: &mut Page, error: &ErrorInfo) {
    let (first, rest) = error.message.split_once('\n').unwrap_or((&error.message, ""));
    page.paragraph(&format!("**Error:** {}", sentence(first)));
    if !rest.trim().is_empty() {
        page.fence("text", rest);
    }
    if let Some(hint) = &error.hint {
        page.paragraph(&format!("**Help:** {}", sentence(hint)));
    }
}

/// The run in one paragraph.
fn summary(report: &Report) -> String {
    let mut sentences = vec![outcome(report)];
    sentences.extend(report.probes.iter().map(|probe| hits_of(probe, &report.hits)));
    if let Some(total) = report.timings.get("total_ms") {
        sentences.push(format!("The run took {}.", duration(*total)));
    }
    if !report.warnings.is_empty() {
        sentences.push(format!(
            "There {} below.",
            match report.warnings.len() {
                1 => "is a warning".to_owned(),
                n => format!("are {n} warnings"),
            }
        ));
    }
    sentences.join(" ")
}

fn outcome(report: &Report) -> String {
    let all = report.expectations.len();
    let held = report.expectations.iter().filter(|expectation| expectation.passed).count();
    match (report.outcome, all) {
        (Outcome::Error, _) => "The run ended early; what had been collected until then is here.".into(),
        (Outcome::Interrupted, _) => "The run was interrupted; what had been collected until then is here.".into(),
        (_, 0) => "The recipe expects nothing.".into(),
        (_, 1) if held == 1 => "The one expectation held.".into(),
        _ if held == all => format!("All {all} expectations held."),
        _ => format!("{held} of {all} expectations held."),
    }
}

/// Who ran into a probe, how often, on how many paths.
fn hits_of(probe: &ProbeResult, hits: &[Hit]) -> String {
    let seen: Vec<&Hit> = hits.iter().filter(|hit| hit.probe == probe.name).collect();
    let name = code(&probe.name);
    let firsts = first_of_path(&seen);
    let paths = firsts.iter().enumerate().filter(|(at, first)| at == *first).count();
    let mut tasks: Vec<String> = seen.iter().filter_map(|hit| hit.task.comm.as_deref()).map(code).collect();
    tasks.sort();
    tasks.dedup();
    if tasks.len() > 4 {
        let more = tasks.len() - 3;
        tasks.truncate(3);
        tasks.push(format!("{more} other tasks"));
    }
    let by = if tasks.is_empty() { String::new() } else { format!(" while {} ran", list(&tasks)) };
    let disarmed = match (probe.disarmed, probe.over_budget) {
        (_, true) => "; then it had cost more than its budget and was disarmed",
        (true, _) => "; then it reached its limit and was disarmed",
        (false, false) => "",
    };
    let disarmed = format!("{disarmed}{}", counted(probe.counted));
    match seen.len() {
        n if n > 0 && seen.iter().all(|hit| hit.message.is_some()) => {
            format!("Probe {name} logged {}{by}{disarmed}.", plural(n as u64, "line"))
        }
        0 => format!("Probe {name} was never hit."),
        1 => format!("Probe {name} was hit once{by}{disarmed}."),
        n if paths == 1 => format!("Probe {name} was hit {n} times, always by the same path,{by}{disarmed}."),
        n => format!("Probe {name} was hit {n} times, by {paths} different paths,{by}{disarmed}."),
    }
    .replace(",.", ".")
}

fn facts(report: &Report) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut row = |label: &str, value: String| rows.push([format!("**{label}**"), value]);
    if let Some(kernel) = &report.kernel {
        row(
            "kernel",
            format!("{} (recipe: {}), key {}", text(&kernel.release), text(&kernel.version), code(&kernel.key)),
        );
        row("build-id", code(&kernel.build_id));
    }
    if let Some(machine) = &report.machine {
        let start = if machine.forked { "forked from a template" } else { "booted" };
        let accelerator = text(&machine.accelerator.to_uppercase());
        row(
            "machine",
            format!(
                "{} with {} of memory, QEMU {}, {accelerator}, {start}",
                plural(u64::from(machine.cpus), "CPU"),
                text(&machine.memory),
                text(&machine.qemu)
            ),
        );
        machine.forwards.iter().for_each(|forward| row("forward", text(&forward.to_string())));
    }
    if let Some(packets) = packets::said(&report.captured) {
        row("packets", text(&packets));
    }
    row("recipe", format!("{} (sha256 {})", text(&report.recipe.name), code(&report.recipe.sha256)));
    rows
}

fn probe(probe: &ProbeResult) -> [String; 4] {
    let disarmed = if probe.disarmed { ", then disarmed" } else { "" };
    let hits = format!("{}{disarmed}{}", probe.hits, counted(probe.counted));
    let locations: Vec<String> = probe
        .locations
        .iter()
        .map(|location| {
            let place = place(location.file.as_deref(), location.line).map(|place| format!(" {}", text(&place)));
            let inlined = if location.inlined { " (inlined copy)" } else { "" };
            let cheap = if location.cheap { ", a cheap stop" } else { "" };
            format!(
                "{}{} at {}{inlined}{cheap}",
                code(&location.symbol),
                place.unwrap_or_default(),
                code(&location.address)
            )
        })
        .collect();
    let locations = if locations.is_empty() { "none".to_owned() } else { locations.join("<br>") };
    [code(&probe.name), code(&probe.at), hits, locations]
}
