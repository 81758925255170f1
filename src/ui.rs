//! The room of the screen: events in, lines out.
//!
//! Progress goes to standard error, results to standard output. A thread receives every [`Event`] and hands it to one
//! of three screens: `bars` for a terminal, `plain` for a log, `json` for a program. [`summary`] is what a run
//! leaves on the terminal; [`line`](mod@line) words the lines that all of them share, and [`style`] colours them.
//!
//! Nothing in here decides anything about a run, reads a file or knows a guest. Text that a guest chose is escaped
//! before it is written ([`crate::report::text::printable`]).

mod bars;
mod json;
pub mod line;
mod plain;
pub mod style;
pub mod summary;

use std::io::{self, Write};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::error::Error;
use crate::event::{Event, Events};
use crate::report::model::Report;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Live bars and lines, for a person at a terminal.
    Bars,
    /// Lines without control characters, for a log.
    Plain,
    /// One JSON object a line on standard output, for a program.
    Json,
}

impl Mode {
    /// JSON where it is asked for, else bars on a terminal and plain lines elsewhere.
    pub fn detect(json: bool) -> Self {
        match json {
            true => Mode::Json,
            false if console::user_attended_stderr() => Mode::Bars,
            false => Mode::Plain,
        }
    }
}

/// What every screen can do.
trait Screen {
    /// Shows one event, received at `now`.
    fn show(&mut self, event: &Event, now: Instant);

    /// Leaves the screen tidy; called once, after the last event.
    fn finish(&mut self);
}

/// The thread that shows events. Ends, with everything shown, on [`Ui::finish`] or when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the display"]
pub struct Ui {
    worker: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Starts showing events as `mode` says: where the engine sends them, and what ends the display.
pub fn start(mode: Mode) -> (Events, Ui) {
    start_with(move || match mode {
        Mode::Bars => Box::new(bars::Bars::new()) as Box<dyn Screen>,
        Mode::Plain => Box::new(plain::Plain::new(io::stderr())),
        Mode::Json => Box::new(json::Json::new(io::stdout())),
    })
}

fn start_with(screen: impl FnOnce() -> Box<dyn Screen> + Send + 'static) -> (Events, Ui) {
    let (sender, events) = unbounded();
    let (stop, stopped) = bounded(1);
    let run = move || show_all(screen().as_mut(), &events, &stopped);
    // A host that cannot start a thread fails at the first child process, with an error; it needs no screen for that.
    match thread::Builder::new().name("ui".into()).spawn(run) {
        Ok(handle) => (Events::new(sender), Ui { worker: Some((stop, handle)) }),
        Err(_) => (Events::none(), Ui { worker: None }),
    }
}

/// Shows events until all senders are gone or `stopped` says that no more will matter; those already sent are shown.
fn show_all(screen: &mut dyn Screen, events: &Receiver<Event>, stopped: &Receiver<()>) {
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(event) => screen.show(&event, Instant::now()),
                Err(_) => break,
            },
            recv(stopped) -> _ => {
                events.try_iter().for_each(|event| screen.show(&event, Instant::now()));
                break;
            }
        }
    }
    screen.finish();
}

impl Ui {
    /// Shows what was sent until now, tidies the screen and waits for that.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        if let Some((stop, handle)) = self.worker.take() {
            drop(stop);
            // A screen that panicked has said so; the run goes on without it.
            let _ = handle.join();
        }
    }
}

/// Writes the result of a run to standard output: the summary, or in [`Mode::Json`] nothing, since the `finished` event,
/// which is the result, was the last line. `path` is the report for people.
///
/// # Errors
/// When standard output cannot be written, except that its reader is gone.
pub fn print_result(mode: Mode, report: &Report, path: &str) -> io::Result<()> {
    let seen = mode == Mode::Bars && console::user_attended();
    match mode {
        Mode::Json => Ok(()),
        // Who watched the facts go by on the same terminal does not need them twice.
        _ if seen => {
            print(&summary::render_as(report, path, summary::Look { facts: false, ..summary::Look::detect() }))
        }
        _ => print(&summary::render(report, path)),
    }
}

/// Writes an error and its hint to standard error; the result is the exit code that goes with it.
pub fn print_error(error: &Error) -> std::process::ExitCode {
    let styles = style::Styles::stderr();
    eprintln!("{} {}", styles.bad.apply_to("error:"), error.message);
    if let Some(hint) = &error.hint {
        eprintln!("{} {hint}", styles.good.apply_to("help:"));
    }
    std::process::ExitCode::from(error.kind.exit_code())
}

/// Writes `text` to standard output. A reader that is gone (`kdbg … | head`) is not an error.
///
/// # Errors
/// When standard output cannot be written for any other reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Recorder(Sender<String>);

    impl Screen for Recorder {
        fn show(&mut self, event: &Event, _now: Instant) {
            if let Event::Warning { text } = event {
                let _ = self.0.send(text.clone());
            }
        }
        fn finish(&mut self) {
            let _ = self.0.send("end".into());
        }
    }

    #[test]
    fn everything_sent_is_shown_and_a_sender_that_lives_on_does_not_hold_the_end_up() {
        let (seen, shown) = unbounded();
        let (events, ui) = start_with(move || Box::new(Recorder(seen)));
        (0..50).for_each(|n| events.warn(n.to_string()));
        ui.finish();
        let shown: Vec<String> = shown.try_iter().collect();
        assert_eq!(shown.len(), 51);
        assert_eq!((shown[0].as_str(), shown[49].as_str(), shown[50].as_str()), ("0", "49", "end"));
        events.warn("after the end");
    }

    #[test]
    fn all_senders_gone_is_an_end_too() {
        let (seen, shown) = unbounded();
        let (events, ui) = start_with(move || Box::new(Recorder(seen)));
        drop(events);
        assert_eq!(shown.recv().ok().as_deref(), Some("end"));
        ui.finish();
    }
}
