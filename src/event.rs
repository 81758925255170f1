//! Everything that screen, log and `--json` may learn while kdbg works: one enum, one channel.
//!
//! The engine sends, [`crate::ui`] receives. Nothing in here knows how an event looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::report::model::{Hit, Report};

/// The phases a user can watch, in the order of a run from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Host packages are being installed.
    Install,
    /// A kernel source is being fetched.
    Fetch,
    /// A kernel source is being unpacked.
    Unpack,
    /// Kconfig is merged and checked.
    Configure,
    /// make runs.
    Build,
    /// vmlinux is indexed, stripped and filed.
    File,
    /// The initramfs is written.
    Image,
    /// QEMU starts, the kernel boots, the agent answers.
    Boot,
    /// GDB loads symbols and the probes are set.
    Arm,
    /// The trigger runs and hits come in.
    Trigger,
    /// The report is written.
    Report,
}

/// What the number of a progress bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes read or written.
    Bytes,
    /// Object files compiled.
    Objects,
}

/// One thing that happened. With `--json`, one line each, tagged by `event`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A phase began.
    PhaseStarted {
        /// Which.
        phase: Phase,
        /// What it works on, for people.
        detail: String,
    },
    /// A phase got further.
    PhaseProgress {
        /// Which.
        phase: Phase,
        /// How many units are done.
        done: u64,
        /// How many there will be, where that is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// A phase ended well. A phase that fails ends in the error of the whole command instead.
    PhaseDone {
        /// Which.
        phase: Phase,
        /// What came of it, for people.
        summary: String,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// Something the user should know that does not stop the work. Also in the report's `warnings`.
    Warning {
        /// The sentence.
        text: String,
    },
    /// A settled fact of the run, shown as a labelled line (`kernel`, `guest`, `probes`).
    Fact {
        /// The label.
        label: &'static str,
        /// The line.
        text: String,
    },
    /// A step of the trigger began.
    StepStarted {
        /// The step's name.
        name: String,
    },
    /// A step of the trigger ended.
    StepDone {
        /// The step's name.
        name: String,
        /// Its exit code; none when it did not end by itself.
        exit_code: Option<i32>,
        /// Whether that is what the recipe asked for.
        as_expected: bool,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// A hit was collected and is on disk.
    HitCollected {
        /// The whole hit.
        hit: Box<Hit>,
    },
    /// The run is over; last event of a run.
    Finished {
        /// The whole report.
        report: Box<Report>,
        /// Where the human-readable report is.
        path: String,
    },
}

/// Where the engine sends its events. Cheap to clone; sending never blocks and never fails.
#[derive(Debug, Clone)]
pub struct Events(Option<Sender<Event>>);

impl Events {
    /// Sends into `channel`.
    pub fn new(channel: Sender<Event>) -> Self {
        Events(Some(channel))
    }

    /// Sends nowhere: for tests and for commands without a screen.
    pub fn none() -> Self {
        Events(None)
    }

    /// Sends one event. A screen that is gone is not the engine's business.
    pub fn send(&self, event: Event) {
        if let Some(channel) = &self.0 {
            let _ = channel.send(event);
        }
    }

    /// Sends a [`Event::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning { text: text.into() });
    }

    /// Sends a [`Event::Fact`].
    pub fn fact(&self, label: &'static str, text: impl Into<String>) {
        self.send(Event::Fact { label, text: text.into() });
    }

    /// Runs `work` as `phase`: says that it started and, when it went well, what came of it.
    pub fn phase<T>(
        &self,
        phase: Phase,
        detail: impl Into<String>,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        self.send(Event::PhaseStarted { phase, detail: detail.into() });
        let start = std::time::Instant::now();
        let (value, summary) = work()?;
        self.send(Event::PhaseDone { phase, summary, duration_ms: millis(start.elapsed()) });
        Ok(value)
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Set once, by the first Ctrl-C or SIGTERM; every wait in the crate looks at it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The flag itself, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether kdbg was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`Error::interrupted`] once kdbg was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::interrupted()) } else { Ok(()) }
    }
}
