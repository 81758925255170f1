//! A step on its way: its clock, what it wrote, how it ended.

use std::time::{Duration, Instant};

use super::heartbeat::Heartbeat;
use crate::error::Error;
use crate::event::millis;
use crate::guest::{GuestEvent, Stream};
use crate::recipe::types::StepSpec;
use crate::report::model::StepResult;

/// How long the agent may take to carry out a kill, and the outputs to end after the exit, counted while the guest runs.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Output of one step or script and stream that is kept; the rest is counted.
pub(super) const OUTPUT_LIMIT: usize = 1 << 20;

/// What a step or script wrote to one stream, up to [`OUTPUT_LIMIT`].
#[derive(Default)]
pub(super) struct Output {
    kept: Vec<u8>,
    pub(super) dropped: usize,
}

impl Output {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = OUTPUT_LIMIT.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!("\n[kdbg: {} more bytes were not kept]\n", self.dropped));
        }
        text
    }
}

/// A step on its way.
pub(super) struct Running<'a> {
    pub(super) step: &'a StepSpec,
    pub(super) id: String,
    started: Instant,
    /// How long the guest stood still since the step began: time that is not the step's.
    pub(super) stood_still: Duration,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    exit_code: Option<i32>,
    open_streams: u8,
    /// How long the guest stood still for whatever reason: time that is not its own.
    pub(super) stopped: Duration,
    pub(super) heartbeat: Heartbeat,
    /// When, in the step's own time, it was killed or ended.
    pub(super) killed: Option<Duration>,
    /// When the agent was last told to kill it, likewise.
    pub(super) kill_sent: Duration,
    pub(super) exited: Option<Duration>,
}

impl<'a> Running<'a> {
    pub(super) fn new(step: &'a StepSpec, id: String) -> Self {
        Running {
            step,
            id,
            started: Instant::now(),
            stood_still: Duration::ZERO,
            stopped: Duration::ZERO,
            heartbeat: Heartbeat::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            exit_code: None,
            open_streams: if step.to.is_some() { 0 } else { 2 },
            killed: None,
            kill_sent: Duration::ZERO,
            exited: None,
        }
    }

    /// How long the guest has run for this step.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.stood_still)
    }

    /// How long the guest has run since the step began.
    pub(super) fn guest_time(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.stopped)
    }

    pub(super) fn is_over(&self) -> bool {
        let late = self.exited.is_some_and(|at| self.age() > at + ANSWER);
        self.exited.is_some() && (self.open_streams == 0 || late)
    }

    pub(super) fn hear(&mut self, event: GuestEvent) {
        self.heartbeat.hear(self.guest_time());
        match event {
            GuestEvent::Received(bytes) => self.stdout.take(&bytes),
            // What earlier steps have left running in the guest goes on writing while a client is at work.
            GuestEvent::Output(_, bytes) if self.step.to.is_some() => self.stderr.take(&bytes),
            GuestEvent::Output(Stream::Stdout, bytes) => self.stdout.take(&bytes),
            GuestEvent::Output(Stream::Stderr, bytes) => self.stderr.take(&bytes),
            GuestEvent::OutputEnd(_, id) if id == self.id => self.open_streams = self.open_streams.saturating_sub(1),
            GuestEvent::Exit(id, code) if id == self.id => {
                self.exit_code = Some(code);
                self.exited = Some(self.age());
            }
            // Marks and exits of a step that was given up.
            GuestEvent::OutputEnd(..) | GuestEvent::Exit(..) | GuestEvent::Ready(_) | GuestEvent::Gone => {}
        }
    }

    /// It could not be started.
    pub(super) fn fail(&mut self, error: &Error) {
        self.stderr.take(format!("kdbg: {}\n", error.message).as_bytes());
    }

    pub(super) fn result(&self) -> StepResult {
        let timed_out = self.killed.is_some();
        StepResult {
            name: self.step.name.clone(),
            exit_code: self.exit_code.filter(|_| !timed_out),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            duration_ms: millis(self.started.elapsed()),
            timed_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::heartbeat::Beat;

    #[test]
    fn a_guest_that_stood_still_has_not_been_silent() {
        let step: StepSpec = serde_yaml::from_str("{ name: wait, run: sleep 1 }").unwrap();
        let mut running = Running::new(&step, "1-0".into());
        let long = Duration::from_secs(40);
        running.started -= long;
        running.stopped = long;
        assert_eq!(running.heartbeat.beat(running.guest_time()), Beat::Fine);
        running.stopped = Duration::ZERO;
        assert_eq!(running.heartbeat.beat(running.guest_time()), Beat::Ask);
    }

    #[test]
    fn a_step_that_could_not_be_started_says_why() {
        let step: StepSpec = serde_yaml::from_str("{ name: call, to: web }").unwrap();
        let mut running = Running::new(&step, "1-0".into());
        running.fail(&Error::guest("nobody listens"));
        let result = running.result();
        assert_eq!((result.name.as_str(), result.exit_code, result.timed_out), ("call", None, false));
        assert_eq!(result.stderr, "kdbg: nobody listens\n");
    }
}
