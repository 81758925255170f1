//! Events on a terminal: one live line a phase, quiet lines for what is settled.
//!
//! Draws on standard error through indicatif and nothing else. What is drawn live is gone at the end; what was printed
//! stays.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::Styles;
use super::{Screen, line};
use crate::event::{Event, Phase, Unit};
use crate::report::model::Hit;
use crate::report::text::{duration, printable, shorten};

/// A finished phase that took less leaves no line.
const WORTH_A_LINE: u64 = 100;

/// How many hits get a line of their own; the rest is counted.
const HITS_SHOWN: u64 = 20;

/// How often live lines move.
const TICK: Duration = Duration::from_millis(120);

const SPINNER: &str = "{spinner:.dim} {prefix:8.dim} {wide_msg}";
const BAR: &str = "{spinner:.dim} {prefix:8.dim} {bar:24.dim} {wide_msg}";

/// The live screen.
pub(super) struct Bars {
    multi: MultiProgress,
    styles: Styles,
    phases: HashMap<Phase, Live>,
    step: Option<ProgressBar>,
    hits: Hits,
    result_follows: bool,
}

/// A phase that is running.
struct Live {
    bar: ProgressBar,
    detail: String,
    started: Instant,
}

/// The hits so far, by probe, and the counter that stands for them once there are many.
#[derive(Default)]
struct Hits {
    by_probe: BTreeMap<String, u64>,
    counter: Option<ProgressBar>,
}

impl Bars {
    /// A screen on standard error.
    pub(super) fn new() -> Self {
        Bars::on(ProgressDrawTarget::term(Term::buffered_stderr(), 10), Styles::stderr())
    }

    fn on(target: ProgressDrawTarget, styles: Styles) -> Self {
        Bars {
            multi: MultiProgress::with_draw_target(target),
            styles,
            phases: HashMap::new(),
            step: None,
            hits: Hits::default(),
            result_follows: false,
        }
    }

    /// Prints a line above the live ones. A terminal that is gone is not an error.
    fn print(&self, line: &str) {
        let _ = self.multi.println(line);
    }

    fn live(&self, label: &str, message: &str) -> ProgressBar {
        let bar = self.multi.add(ProgressBar::new_spinner().with_style(template(SPINNER)));
        bar.set_prefix(label.to_owned());
        bar.set_message(printable(message));
        bar.enable_steady_tick(TICK);
        bar
    }

    fn start(&mut self, phase: Phase, detail: &str, now: Instant) {
        let bar = self.live(line::phase(phase), detail);
        if let Some(earlier) = self.phases.insert(phase, Live { bar, detail: printable(detail), started: now }) {
            earlier.bar.finish_and_clear();
        }
    }

    fn progress(&mut self, phase: Phase, done: u64, total: Option<u64>, unit: Unit, now: Instant) {
        if !self.phases.contains_key(&phase) {
            self.start(phase, "", now);
        }
        let Some(live) = self.phases.get(&phase) else { return };
        if let Some(total) = total.filter(|total| live.bar.length() != Some(*total)) {
            live.bar.set_length(total);
            live.bar.set_style(template(BAR));
        }
        live.bar.set_position(done);
        let progress = line::progress(done, total, unit, now.duration_since(live.started));
        live.bar.set_message(format!("{progress}  {}", live.detail));
    }

    fn end(&mut self, phase: Phase, summary: &str, duration_ms: u64) {
        if let Some(live) = self.phases.remove(&phase) {
            live.bar.finish_and_clear();
        }
        if duration_ms >= WORTH_A_LINE {
            let text = format!("{}  {}", printable(summary), duration(duration_ms));
            let line = line::labelled(&Styles::new(false), line::phase(phase), text.trim_start());
            self.print(&self.styles.quiet.apply_to(line).to_string());
        }
    }

    fn hit(&mut self, hit: &Hit) {
        *self.hits.by_probe.entry(hit.probe.clone()).or_default() += 1;
        let count: u64 = self.hits.by_probe.values().sum();
        if count <= HITS_SHOWN {
            self.print(&line::hit(&self.styles, hit));
            return;
        }
        let text = format!("{count} so far: {}", self.hits.describe());
        match &self.hits.counter {
            Some(counter) => counter.set_message(text),
            None => self.hits.counter = Some(self.live("hits", &text)),
        }
    }

    fn end_step(&mut self) {
        if let Some(bar) = self.step.take() {
            bar.finish_and_clear();
        }
    }
}

impl Hits {
    /// `rst 57, drop 3`.
    fn describe(&self) -> String {
        let probes: Vec<String> =
            self.by_probe.iter().map(|(probe, count)| format!("{} {count}", printable(probe))).collect();
        shorten(&probes.join(", "), 200)
    }
}

/// A style of ours; a template that indicatif refuses, which the tests rule out, costs looks only.
fn template(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Screen for Bars {
    fn show(&mut self, event: &Event, now: Instant) {
        match event {
            Event::PhaseStarted { phase, detail } => self.start(*phase, detail, now),
            Event::PhaseProgress { phase, done, total, unit } => self.progress(*phase, *done, *total, *unit, now),
            Event::PhaseDone { phase, summary, duration_ms } => self.end(*phase, summary, *duration_ms),
            Event::Warning { text } => self.print(&line::warning(&self.styles, text)),
            Event::Fact { label, text } => self.print(&line::labelled(&self.styles, label, text)),
            Event::StepStarted { name } => {
                self.end_step();
                self.step = Some(self.live("trigger", name));
            }
            Event::StepDone { name, exit_code, as_expected, duration_ms } => {
                self.end_step();
                self.print(&line::step(&self.styles, name, *exit_code, *as_expected, *duration_ms));
            }
            Event::HitCollected { hit } => self.hit(hit),
            Event::Finished { .. } => self.result_follows = true,
        }
    }

    fn finish(&mut self) {
        self.end_step();
        self.phases.drain().for_each(|(_, live)| live.bar.finish_and_clear());
        if let Some(counter) = self.hits.counter.take() {
            counter.finish_and_clear();
            // The summary counts them too.
            if !self.result_follows {
                self.print(&line::labelled(&self.styles, "hits", &self.hits.describe()));
            }
        }
        if self.result_follows {
            self.print("");
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::report::sample;

    fn screen() -> (InMemoryTerm, Bars) {
        let term = InMemoryTerm::new(40, 120);
        let bars = Bars::on(ProgressDrawTarget::term_like(Box::new(term.clone())), Styles::new(false));
        (term, bars)
    }

    #[test]
    fn templates_are_templates() {
        assert!([SPINNER, BAR].iter().all(|text| ProgressStyle::with_template(text).is_ok()));
    }

    #[test]
    fn what_is_settled_stays_and_what_was_live_goes() {
        let (term, mut bars) = screen();
        let now = Instant::now();
        bars.show(&Event::PhaseStarted { phase: Phase::Build, detail: "6.1.192 base+net".into() }, now);
        let (done, total, unit) = (412, Some(1130), Unit::Objects);
        let later = now + Duration::from_secs(75);
        bars.show(&Event::PhaseProgress { phase: Phase::Build, done, total, unit }, later);
        bars.phases[&Phase::Build].bar.tick();
        assert!(term.contents().contains("CC 412/1130 objects, 2m10s left  6.1.192 base+net"), "{}", term.contents());
        bars.show(&Event::PhaseDone { phase: Phase::Build, summary: "vmlinux".into(), duration_ms: 75_000 }, later);
        bars.show(&Event::PhaseStarted { phase: Phase::Boot, detail: "forking".into() }, later);
        bars.show(&Event::PhaseDone { phase: Phase::Boot, summary: "forked".into(), duration_ms: 46 }, later);
        bars.show(&Event::Fact { label: "guest", text: "q35, TCG".into() }, later);
        bars.finish();
        assert_eq!(term.contents(), "  build    vmlinux  1m15s\n  guest    q35, TCG");
    }

    #[test]
    fn a_result_that_follows_counts_the_hits_itself() {
        let (term, mut bars) = screen();
        (1..=21).for_each(|n| bars.show(&Event::HitCollected { hit: Box::new(sample::hit(n)) }, Instant::now()));
        let (report, path) = (Box::new(sample::sample()), "runs/x/report.md".into());
        bars.show(&Event::Finished { report, path }, Instant::now());
        bars.finish();
        assert!(!term.contents().contains("  hits "), "{}", term.contents());
    }

    #[test]
    fn many_hits_become_a_count() {
        let (term, mut bars) = screen();
        (1..=57).for_each(|n| bars.show(&Event::HitCollected { hit: Box::new(sample::hit(n)) }, Instant::now()));
        bars.finish();
        let contents = term.contents();
        assert_eq!(contents.lines().filter(|line| line.starts_with("  hit ")).count(), 20, "{contents}");
        assert!(contents.ends_with("  hits     rst 57"), "{contents}");
    }
}
