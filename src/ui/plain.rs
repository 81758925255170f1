//! Events as plain lines, for logs: no control characters, no colours, no line twice.
//!
//! Writes to one stream and nothing else; the time comes from the caller.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::style::Styles;
use super::{Screen, line};
use crate::event::{Event, Phase};
use crate::report::text::{duration, printable};

/// How long a phase stays silent between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Writes a line for everything that a reader of a log wants to know.
#[derive(Debug)]
pub(super) struct Plain<W> {
    out: W,
    styles: Styles,
    phases: HashMap<Phase, Times>,
    /// How many hits of probes that log were shown.
    logged: u64,
}

/// So many logged lines are shown; the report has all.
const LOGGED: u64 = 200;

/// When a phase began and when it was last heard of.
#[derive(Debug, Clone, Copy)]
struct Times {
    started: Instant,
    said: Instant,
}

impl<W: Write> Plain<W> {
    /// Writes to `out`.
    pub(super) fn new(out: W) -> Self {
        Plain { out, styles: Styles::new(false), phases: HashMap::new(), logged: 0 }
    }

    /// A reader that is gone is not an error.
    fn write(&mut self, line: &str) {
        let _ = writeln!(self.out, "{}", line.trim_end());
    }

    /// How long `phase` has run, if it is time to say something about it again.
    fn due(&mut self, phase: Phase, now: Instant) -> Option<Duration> {
        let times = self.phases.entry(phase).or_insert(Times { started: now, said: now });
        if now.duration_since(times.said) < PROGRESS_EVERY {
            return None;
        }
        times.said = now;
        Some(now.duration_since(times.started))
    }
}

impl<W: Write> Screen for Plain<W> {
    fn show(&mut self, event: &Event, now: Instant) {
        let text = match event {
            Event::PhaseStarted { phase, detail } => {
                self.phases.insert(*phase, Times { started: now, said: now });
                line::labelled(&self.styles, line::phase(*phase), &format!("{detail} ..."))
            }
            Event::PhaseProgress { phase, done, total, unit } => match self.due(*phase, now) {
                Some(elapsed) => {
                    let progress = line::progress(*done, *total, *unit, elapsed);
                    line::labelled(&self.styles, line::phase(*phase), &progress)
                }
                None => return,
            },
            Event::PhaseDone { phase, summary, duration_ms } => {
                let text = format!("{summary}  done in {}", duration(*duration_ms));
                line::labelled(&self.styles, line::phase(*phase), text.trim_start())
            }
            Event::Warning { text } => line::warning(&self.styles, text),
            Event::Fact { label, text } => line::labelled(&self.styles, label, text),
            Event::StepStarted { name } => line::labelled(&self.styles, "trigger", &format!("{} ...", printable(name))),
            Event::StepDone { name, exit_code, as_expected, duration_ms } => {
                line::step(&self.styles, name, *exit_code, *as_expected, *duration_ms)
            }
            Event::HitCollected { hit } if hit.message.is_some() => {
                self.logged += 1;
                match self.logged.cmp(&LOGGED) {
                    Ordering::Less => line::hit(&self.styles, hit),
                    Ordering::Equal => "  …  what is logged from here on is in the report".into(),
                    Ordering::Greater => return,
                }
            }
            Event::HitCollected { hit } => line::hit(&self.styles, hit),
            Event::Finished { .. } => return,
        };
        self.write(&text);
    }

    fn finish(&mut self) {
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Unit;
    use crate::report::sample::hit;

    #[test]
    fn a_log_has_one_line_for_each_thing_and_little_progress() {
        let mut plain = Plain::new(Vec::new());
        let start = Instant::now();
        let mut at = |second: u64, event: Event| plain.show(&event, start + Duration::from_secs(second));
        at(0, Event::PhaseStarted { phase: Phase::Build, detail: "6.1.192 base+net".into() });
        for second in 1..26 {
            let (done, total) = (second * 10, Some(1130));
            at(second, Event::PhaseProgress { phase: Phase::Build, done, total, unit: Unit::Objects });
        }
        at(26, Event::PhaseDone { phase: Phase::Build, summary: "vmlinux".into(), duration_ms: 26_000 });
        at(26, Event::Fact { label: "kernel", text: "6.1.192 base+net".into() });
        at(27, Event::Warning { text: "\x1b[31mred".into() });
        at(28, Event::HitCollected { hit: Box::new(hit(1)) });
        plain.finish();
        let text = String::from_utf8(plain.out).unwrap();
        assert!(!text.contains('\x1b'), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_flood_of_logged_lines_is_cut() {
        let mut plain = Plain::new(Vec::new());
        for index in 1..=1000 {
            let logged = crate::report::model::Hit { message: Some("x".into()), frames: Vec::new(), ..hit(index) };
            plain.show(&Event::HitCollected { hit: Box::new(logged) }, Instant::now());
        }
        let text = String::from_utf8(plain.out).unwrap();
        assert_eq!(
            (text.lines().count(), text.lines().last()),
            (200, Some("  …  what is logged from here on is in the report"))
        );
    }
}
