//! One-shot tools, by duct: run, watch the output go by, end with a status.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{GRACE, kill_group, supervised};
use crate::error::{Error, Result};
use crate::event::Cancel;

/// How often a running tool looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

/// A program to run once, with its standard output and standard error as one stream of lines.
#[derive(Debug, Clone)]
pub struct Tool {
    program: OsString,
    args: Vec<OsString>,
    directory: Option<PathBuf>,
    env: Vec<(OsString, Option<OsString>)>,
    deadline: Duration,
}

/// What a tool left: its status and the last lines it wrote.
#[derive(Debug, Clone)]
pub struct ToolOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote, both streams in the order of arrival.
    pub text: String,
}

impl ToolOutput {
    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Tool {
    /// `program`, found on PATH unless it has a slash, with a deadline of a minute.
    pub fn new(program: impl Into<OsString>) -> Self {
        Tool {
            program: program.into(),
            args: Vec::new(),
            directory: None,
            env: Vec::new(),
            deadline: Duration::from_secs(60),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Keeps an environment variable of kdbg's from it.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command line, for messages.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }

    /// Runs it and hands `each_line` every line as it comes. Any exit status is a success of this function.
    ///
    /// # Errors
    /// It could not be started, exceeded its deadline, or kdbg was interrupted (the tool is ended then).
    pub fn run(&self, cancel: &Cancel, mut each_line: impl FnMut(&str)) -> Result<ToolOutput> {
        cancel.check()?;
        let cannot = |error: std::io::Error| Error::host(format!("cannot run `{}`: {error}", self.line()));
        let handle = self.expression().reader().map_err(cannot)?;
        let handle = Arc::new(handle);
        let overdue = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let watchdog = self.watch(handle.pids(), cancel.clone(), Arc::clone(&ended), Arc::clone(&overdue));
        let text = read_lines(&handle, &mut each_line);
        ended.store(true, Ordering::Relaxed);
        let _ = watchdog.join();
        cancel.check()?;
        if overdue.load(Ordering::Relaxed) {
            let patience = humantime::format_duration(self.deadline);
            let last = text.lines().next_back().unwrap_or("nothing");
            return Err(Error::host(format!("`{}` did not end within {patience}; its last line: {last}", self.line())));
        }
        match handle.try_wait() {
            Ok(Some(output)) => Ok(ToolOutput { status: output.status, text }),
            Ok(None) => Err(Error::host(format!("`{}` closed its output but did not end", self.line()))),
            Err(error) => Err(cannot(error)),
        }
    }

    /// Runs it quietly.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn output(&self, cancel: &Cancel) -> Result<ToolOutput> {
        self.run(cancel, |_| {})
    }

    fn expression(&self) -> duct::Expression {
        let (program, line) = supervised(&self.program, &self.args, None);
        let mut expression = duct::cmd(program, line).stdin_null().stderr_to_stdout().unchecked();
        if let Some(directory) = &self.directory {
            expression = expression.dir(directory);
        }
        for (name, value) in &self.env {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
        expression.before_spawn(|command| {
            command.process_group(0);
            Ok(())
        })
    }

    /// A thread that ends the tool's group on cancel or deadline.
    fn watch(
        &self,
        pids: Vec<u32>,
        cancel: Cancel,
        ended: Arc<AtomicBool>,
        overdue: Arc<AtomicBool>,
    ) -> std::thread::JoinHandle<()> {
        let deadline = Instant::now() + self.deadline;
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let late = Instant::now() >= deadline;
                if late || cancel.is_set() {
                    overdue.store(late, Ordering::Relaxed);
                    pids.iter().for_each(|pid| kill_group(*pid, Signal::TERM));
                    std::thread::sleep(GRACE / 4);
                    pids.iter().for_each(|pid| kill_group(*pid, Signal::KILL));
                    return;
                }
                std::thread::sleep(TICK);
            }
        })
    }
}

/// Reads until the tool has closed its output; a line that is not UTF-8 is shown with replacement characters.
fn read_lines(handle: &duct::ReaderHandle, each_line: &mut impl FnMut(&str)) -> String {
    let mut reader = BufReader::new(handle);
    let mut text = String::new();
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        let shown = String::from_utf8_lossy(&line);
        each_line(shown.trim_end_matches(['\n', '\r']));
        text.push_str(&shown);
        line.clear();
    }
    text
}
