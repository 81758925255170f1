//! One-shot tools, by duct: run, watch the output go by, end with a status.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use rustix::process::Signal;

use super::{GRACE, kill_group, supervised};
use crate::error::{Error, Result};
use crate::event::Cancel;

/// How often a running tool looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);
/// How long to wait for the rest of the output of a tool that has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
        let handle = Arc::new(self.expression().reader().map_err(cannot)?);
        let lines = read_lines(Arc::clone(&handle));
        let mut text = String::new();
        let mut take = |line: &str, text: &mut String| {
            each_line(line.trim_end_matches(['\n', '\r']));
            text.push_str(line);
        };
        let deadline = Instant::now() + self.deadline;
        let status = loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => take(&line, &mut text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK / 10),
            }
            if let Some(output) = handle.try_wait().map_err(cannot)? {
                break output.status;
            }
            if cancel.is_set() || Instant::now() >= deadline {
                end(&handle);
                cancel.check()?;
                return Err(self.overdue(&text));
            }
        };
        // Something that it left behind in another session may hold its output open for ever.
        let deadline = Instant::now() + LAST_WORDS;
        while let Ok(line) = lines.recv_deadline(deadline) {
            take(&line, &mut text);
        }
        Ok(ToolOutput { status, text })
    }

    fn overdue(&self, text: &str) -> Error {
        let patience = humantime::format_duration(self.deadline);
        let last = text.lines().next_back().unwrap_or("nothing");
        Error::host(format!("`{}` did not end within {patience}; its last line: {last}", self.line()))
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
}

/// Ends a tool with everything in its group.
fn end(handle: &duct::ReaderHandle) {
    handle.pids().into_iter().for_each(|pid| kill_group(pid, Signal::TERM));
    let deadline = Instant::now() + GRACE / 4;
    while Instant::now() < deadline && matches!(handle.try_wait(), Ok(None)) {
        std::thread::sleep(TICK / 4);
    }
    handle.pids().into_iter().for_each(|pid| kill_group(pid, Signal::KILL));
    let _ = handle.kill();
}

/// A thread that reads lines until the output is closed; what is not UTF-8 is shown with replacement characters.
fn read_lines(handle: Arc<duct::ReaderHandle>) -> Receiver<String> {
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(&*handle);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        Tool::new("sh").args(["-c", script])
    }

    #[test]
    fn both_streams_come_as_lines_and_the_status_is_told() {
        let mut lines = Vec::new();
        let tool = shell("echo out; echo err >&2; printf 'no end'; exit 3");
        let output = tool.run(&Cancel::default(), |line| lines.push(line.to_string())).unwrap();
        assert_eq!((lines.join("|").as_str(), output.status.code()), ("out|err|no end", Some(3)));
        assert_eq!(output.tail(1), "no end");
    }

    #[test]
    fn a_tool_that_takes_too_long_is_ended_and_its_last_line_quoted() {
        let start = Instant::now();
        let error = shell("echo busy; sleep 60").deadline(Duration::from_millis(200)).output(&Cancel::default());
        assert!(error.unwrap_err().message.contains("its last line: busy"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_a_tool_leaves_behind_in_another_session_is_not_waited_for() {
        let start = Instant::now();
        let output = shell("setsid sleep 30 & echo done").output(&Cancel::default()).unwrap();
        assert_eq!(output.text, "done\n");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
