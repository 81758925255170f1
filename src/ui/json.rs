//! Events as JSON, one object a line, on standard output.
//!
//! Writes to one stream and nothing else. The `finished` event is the result: it is kept back so that it is the last
//! line, whatever else was still on its way.

use std::io::Write;
use std::time::Instant;

use super::Screen;
use crate::event::Event;

/// Writes every event as a line.
#[derive(Debug)]
pub(super) struct Json<W> {
    out: W,
    result: Option<String>,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub(super) fn new(out: W) -> Self {
        Json { out, result: None }
    }

    /// A reader that is gone is not an error: the run goes on and its report is in the run directory.
    fn write(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

impl<W: Write> Screen for Json<W> {
    fn show(&mut self, event: &Event, _now: Instant) {
        let Ok(line) = serde_json::to_string(event) else { return };
        match event {
            Event::Finished { .. } => self.result = Some(line),
            _ => self.write(&line),
        }
    }

    fn finish(&mut self) {
        if let Some(line) = self.result.take() {
            self.write(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Phase;
    use crate::report::sample::{hit, sample};

    #[test]
    fn every_line_is_an_object_and_the_result_comes_last() {
        let mut json = Json::new(Vec::new());
        let finished = Event::Finished { report: Box::new(sample()), path: "runs/x/report.md".into() };
        let events = [
            Event::PhaseStarted { phase: Phase::Build, detail: "6.1".into() },
            Event::HitCollected { hit: Box::new(hit(1)) },
            finished,
            Event::Warning { text: "late\nnews".into() },
        ];
        events.iter().for_each(|event| json.show(event, Instant::now()));
        json.finish();
        let text = String::from_utf8(json.out).unwrap();
        let kinds: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["phase_started", "hit_collected", "warning", "finished"]);
    }

    #[test]
    fn a_broken_pipe_is_not_an_error() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut json = Json::new(Broken);
        json.show(&Event::Warning { text: "x".into() }, Instant::now());
        json.finish();
    }
}
