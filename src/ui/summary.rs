//! The end of a run on a terminal: facts, hits, what was expected and how it ended.
//!
//! Pure: a report becomes text with styles. Nothing is printed in here.

use std::path::Path;

use super::line;
use super::style::Styles;
use crate::report::model::{
    Decoded, ErrorInfo, Frame, Hit, KernelInfo, MachineInfo, Outcome, ProbeResult, Report, StepResult, StopKind, Var,
};
use crate::report::packets;
use crate::report::path::{altering, in_a_line, place, system_call};
use crate::report::text::{counted, duration, plural, printable, seconds, shorten};
use crate::report::value;

/// How many frames of the first hit are shown.
const FRAMES: usize = 5;

/// How many hits are shown; the rest is counted.
const HITS: usize = 6;

/// How many logged lines.
const LOGGED: usize = 12;

/// How much room the values of a frame have.
const VALUES: usize = 64;

/// How a summary looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// With colours.
    pub colours: bool,
    /// With kernel, guest, probes, trigger, warnings and a line for the next hits, for who did not see them go by.
    pub facts: bool,
}

impl Look {
    /// Everything, with colours where standard output takes them.
    pub fn detect() -> Self {
        Look { colours: console::colors_enabled(), facts: true }
    }
}

/// The whole summary of `report`, as standard output takes it. `path` is the report for people.
pub fn render(report: &Report, path: &str) -> String {
    render_as(report, path, Look::detect())
}

/// The summary of `report` in a given look.
pub fn render_as(report: &Report, path: &str, look: Look) -> String {
    let styles = Styles::new(look.colours);
    let facts = if look.facts { facts(&styles, report) } else { vec![] };
    let blocks = [facts, hits(&styles, &report.hits, look), failures(&styles, report), end(&styles, report, path)];
    let blocks: Vec<String> = blocks.into_iter().filter(|block| !block.is_empty()).map(|b| b.join("\n")).collect();
    blocks.join("\n\n") + "\n"
}

fn facts(styles: &Styles, report: &Report) -> Vec<String> {
    let kernel = report.kernel.as_ref().map(|kernel| line::labelled(styles, "kernel", &kernel_fact(kernel)));
    let machine = report.machine.as_ref().map(|machine| line::labelled(styles, "guest", &machine_fact(machine)));
    let forwards = report.machine.iter().flat_map(|machine| &machine.forwards);
    let forwards = forwards.map(|forward| line::labelled(styles, "forward", &forward.to_string()));
    let probes = report.probes.iter().map(|probe| line::labelled(styles, "probe", &probe_fact(probe)));
    let steps = report.trigger.iter().map(|step| line::labelled(styles, "trigger", &step_fact(step)));
    let packets = packets::said(&report.captured).map(|text| line::labelled(styles, "packets", &text));
    let warnings = report.warnings.iter().map(|text| line::warning(styles, text));
    let facts = kernel.into_iter().chain(machine).chain(forwards).chain(probes);
    facts.chain(steps).chain(packets).chain(warnings).collect()
}

fn kernel_fact(kernel: &KernelInfo) -> String {
    format!("{}  {}", kernel.release, kernel.key)
}

fn machine_fact(machine: &MachineInfo) -> String {
    let start = if machine.forked { "forked" } else { "booted" };
    let cpus = plural(u64::from(machine.cpus), "CPU");
    format!("QEMU {}, {}, {cpus}, {}  {start}", machine.qemu, machine.accelerator.to_uppercase(), machine.memory)
}

fn probe_fact(probe: &ProbeResult) -> String {
    let first = probe.locations.first().and_then(|location| place(location.file.as_deref(), location.line));
    let first = first.map_or(String::new(), |place| format!("  {place}"));
    let disarmed = if probe.disarmed { ", then disarmed" } else { "" };
    let hits = format!("{}{}", plural(probe.hits, "hit"), counted(probe.counted));
    let locations = plural(probe.locations.len() as u64, "location");
    let cheap = if probe.kind == Some(StopKind::Cheap) { ", cheap stop" } else { "" };
    format!("{} at {}{first}  {locations}{cheap}, {hits}{disarmed}", probe.name, probe.at)
}

fn step_fact(step: &StepResult) -> String {
    let end = match step.exit_code {
        _ if step.timed_out => "timed out".to_owned(),
        Some(code) => format!("exit {code}"),
        None => "did not end by itself".to_owned(),
    };
    format!("{}  {end}  {}", step.name, duration(step.duration_ms))
}

/// The first hit with its stack, the next ones in a line each, and how many there were.
fn hits(styles: &Styles, hits: &[Hit], look: Look) -> Vec<String> {
    let (logged, stacks): (Vec<&Hit>, Vec<&Hit>) = hits.iter().partition(|hit| hit.message.is_some());
    let mut lines = Vec::new();
    if let Some((first, others)) = stacks.split_first() {
        lines = first_hit(styles, first);
        lines.extend(some(styles, others, HITS - 1).filter(|_| look.facts));
    }
    lines.extend(some(styles, &logged, LOGGED).filter(|_| look.facts));
    lines.extend((hits.len() > 1).then(|| line::labelled(styles, "hits", &by_probe(hits))));
    lines
}

/// The first hits in a line each, and how many there are more.
fn some<'a>(styles: &'a Styles, hits: &'a [&'a Hit], limit: usize) -> impl Iterator<Item = String> + 'a {
    let more = hits.len().checked_sub(limit).filter(|more| *more > 0);
    let more = more.map(|more| format!("  …  {more} more in the report"));
    hits.iter().take(limit).map(|hit| line::hit(styles, hit)).chain(more)
}

/// `rst 57, drop 3`, in the order in which they were first hit.
fn by_probe(hits: &[Hit]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for hit in hits {
        match counts.iter_mut().find(|(probe, _)| *probe == hit.probe) {
            Some((_, count)) => *count += 1,
            None => counts.push((&hit.probe, 1)),
        }
    }
    counts.iter().map(|(probe, count)| format!("{probe} {count}")).collect::<Vec<_>>().join(", ")
}

/// The decoded objects that say what the hit is about; the report has all of them.
const TELLING: [&str; 4] = ["sk_buff", "sock", "nf_conn", "error"];
/// How many of them are shown.
const OBJECTS: usize = 3;

/// `skb: IPv4 …  packet 1`.
fn decoded(object: &Decoded) -> String {
    let packet = object.packet.map_or(String::new(), |number| format!("  packet {number}"));
    format!("{}: {}{packet}", object.expression, object.summary)
}

/// The first hit with the top of its stack.
fn first_hit(styles: &Styles, hit: &Hit) -> Vec<String> {
    let jiffies = hit.jiffies.map_or(String::new(), |jiffies| format!("  jiffies {jiffies}"));
    let (head, changed) = (line::hit_head(styles, hit), line::changed(styles, hit));
    let mut lines = vec![format!("{head}{}{changed}", styles.quiet.apply_to(jiffies))];
    let telling = hit.decoded.iter().filter(|object| TELLING.contains(&object.kind.as_str()));
    // Of a packet without headers there is nothing to be told in one line.
    let telling = telling.filter(|object| object.kind != "sk_buff" || object.fields.contains_key("from"));
    lines.extend(telling.take(OBJECTS).map(|object| aside(&decoded(object))));
    lines.extend(hit.returned.iter().map(|returned| aside(&shown_value(returned))));
    let shown: Vec<String> = hit.shown.iter().map(shown_value).collect();
    if !shown.is_empty() {
        lines.push(aside(&shown.join("  ")));
    }
    let top = &hit.frames[..hit.frames.len().min(FRAMES)];
    let functions = top.iter().map(|frame| function(frame).chars().count()).max().unwrap_or(0);
    let places = top.iter().map(|frame| line::frame_place(frame).chars().count()).max().unwrap_or(0);
    lines.extend(top.iter().map(|frame| stack_line(styles, frame, functions, places)));
    lines.extend(rest_of_stack(styles, hit));
    lines
}

/// `source port = 47918`, or why it is not there.
fn shown_value(var: &Var) -> String {
    let why = || format!("({})", var.why.map_or("not available", |why| why.as_str()));
    format!("{} = {}", var.name, value::short(var).map_or_else(why, |value| shorten(&value, VALUES)))
}

fn aside(text: &str) -> String {
    format!("         {}", printable(text))
}

fn function(frame: &Frame) -> String {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    format!("{}{inlined}", printable(&frame.symbol))
}

fn stack_line(styles: &Styles, frame: &Frame, functions: usize, places: usize) -> String {
    let (function, place, values) = (function(frame), line::frame_place(frame), values(frame));
    let places = if values.is_empty() { 0 } else { places };
    let function = styles.strong.apply_to(format!("{function:<functions$}"));
    let place = styles.quiet.apply_to(format!("{place:<places$}"));
    let gap = if values.is_empty() { "" } else { "  " };
    format!("    {:>3}  {function}  {place}{gap}{values}", frame.level)
}

/// Arguments, then locals, as many as there is room for; structures are for the report.
fn values(frame: &Frame) -> String {
    let simple = |text: &String| !value::is_compound(text);
    let all = frame.args.iter().chain(&frame.locals);
    let assignments = all
        .filter_map(|var| Some(format!("{}={}", printable(&var.name), printable(&value::short(var).filter(simple)?))));
    let mut line = String::new();
    for assignment in assignments {
        if !line.is_empty() && line.chars().count() + assignment.chars().count() + 2 > VALUES {
            break;
        }
        line.push_str(if line.is_empty() { "" } else { "  " });
        line.push_str(&shorten(&assignment, VALUES));
    }
    line
}

/// `…  19 more: ip_rcv ← … ← __x64_sys_connect`, and the system call it began with.
fn rest_of_stack(styles: &Styles, hit: &Hit) -> Vec<String> {
    let frames = &hit.frames;
    let Some(rest) = frames.get(FRAMES..).filter(|rest| !rest.is_empty()) else { return vec![] };
    let path = printable(&in_a_line(rest, 6));
    let call = hit.syscall.as_ref().map(|call| call.text.as_str()).or_else(|| system_call(frames));
    let call = call.map(|call| aside(&format!("inside the system call {call}")));
    let more = format!("      …  {} more: {path}", rest.len());
    std::iter::once(styles.quiet.apply_to(more).to_string()).chain(call).collect()
}

/// The expectations that did not hold.
fn failures(styles: &Styles, report: &Report) -> Vec<String> {
    let failed = report.expectations.iter().filter(|expectation| !expectation.passed);
    failed
        .flat_map(|expectation| {
            [
                format!("  {} {}", styles.bad.apply_to("✗"), printable(&expectation.text)),
                format!("    {}", styles.quiet.apply_to(printable(&expectation.detail))),
            ]
        })
        .collect()
}

/// What went wrong, how it ended, where the report is.
fn end(styles: &Styles, report: &Report, path: &str) -> Vec<String> {
    let error = report.error.iter().flat_map(|error| error_lines(styles, error));
    error
        .chain(altered(styles, report))
        .chain([outcome(styles, report), line::labelled(styles, "report", path)])
        .chain(replay(report, path).map(|command| line::labelled(styles, "replay", &command)))
        .collect()
}

/// The command that serves the run's recording, if there is one.
fn replay(report: &Report, path: &str) -> Option<String> {
    let folder = Path::new(path).parent().filter(|_| report.files.contains_key("recording"))?;
    Some(format!("kdbg replay {}", folder.display()))
}

/// In red: that this is not what the kernel does by itself.
fn altered(styles: &Styles, report: &Report) -> Option<String> {
    let probes = altering(&report.hits);
    let text = format!("{:<width$} by {}: what came after that is a what-if", "changed", probes?, width = line::LABEL);
    Some(format!("  {}", styles.bad.apply_to(printable(&text))))
}

fn error_lines(styles: &Styles, error: &ErrorInfo) -> Vec<String> {
    let label = format!("{:<width$}", "error", width = line::LABEL);
    let mut lines: Vec<String> = error.message.lines().map(|line| format!("           {}", printable(line))).collect();
    if let Some(first) = lines.first_mut() {
        *first = format!("  {} {}", styles.bad.apply_to(label), first.trim_start());
    }
    lines.extend(error.hint.iter().map(|hint| line::labelled(styles, "help", hint)));
    lines
}

fn outcome(styles: &Styles, report: &Report) -> String {
    let (word, style) = match report.outcome {
        Outcome::Passed => ("passed", &styles.good),
        Outcome::Failed => ("failed", &styles.bad),
        Outcome::Error => ("ended early", &styles.bad),
        Outcome::Interrupted => ("interrupted", &styles.warn),
    };
    let held = report.expectations.iter().filter(|expectation| expectation.passed).count();
    let ran = matches!(report.outcome, Outcome::Passed | Outcome::Failed);
    let expectations = match report.expectations.len() {
        0 if ran => "no expectations".to_owned(),
        0 => "before the expectations could be checked".to_owned(),
        1 => format!("{held} of 1 expectation"),
        all => format!("{held} of {all} expectations"),
    };
    let word = style.apply_to(format!("{word:<width$}", width = line::LABEL - 1));
    format!("  {word}  {expectations}{}", time(report))
}

/// `  in 0.9 s (stops 0.1, collecting 0.1)`.
fn time(report: &Report) -> String {
    let Some(total) = report.timings.get("total_ms") else { return String::new() };
    let stopped: u64 = report.hits.iter().map(|hit| hit.cost.stop_us).sum();
    let collecting: u64 = report.hits.iter().map(|hit| hit.cost.collect_us).sum();
    let parts = match report.hits.len() {
        0 => String::new(),
        _ => format!(" (guest stopped {}, collecting {})", seconds(stopped / 1000), seconds(collecting / 1000)),
    };
    format!("  in {}{parts}", duration(*total))
}

#[cfg(test)]
mod tests;
