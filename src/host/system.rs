//! The seam of the host room: where tools and files are looked for, and the one function that runs a tool.
//!
//! Everything this room learns from outside comes through a [`System`]; a test gives it a `PATH` and a root folder of
//! its own. Knows no need and no package manager.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::event::Cancel;
use crate::process::supervised;

/// How long a tool that was told to stop may take to tidy up (a package manager has a database to close).
const GRACE: Duration = Duration::from_secs(5);
/// How long the wait for a tool goes without a look at the cancel flag.
const GLANCE: Duration = Duration::from_millis(50);

/// The machine, as this room sees it.
#[derive(Debug, Clone)]
pub struct System {
    path: OsString,
    root: PathBuf,
    cache: PathBuf,
    superuser: bool,
    remembers: bool,
}

impl System {
    /// This machine, with kdbg's cache folder (which need not exist yet).
    pub fn here(cache: impl Into<PathBuf>) -> Self {
        System {
            path: std::env::var_os("PATH").unwrap_or_default(),
            root: PathBuf::from("/"),
            cache: cache.into(),
            superuser: rustix::process::geteuid().is_root(),
            remembers: false,
        }
    }

    /// A machine of its own in `root`: its programs in `root/bin` and `path`, its files below `root`.
    #[cfg(test)]
    pub(super) fn in_folder(root: &Path, path: &OsStr, superuser: bool) -> Self {
        let mut joined = root.join("bin").into_os_string();
        if !path.is_empty() {
            joined.push(":");
            joined.push(path);
        }
        System { path: joined, root: root.to_owned(), cache: root.join("cache"), superuser, remembers: false }
    }

    /// The same, but a tool that has said its version before is not asked again.
    #[must_use]
    pub fn remembering(self) -> Self {
        System { remembers: true, ..self }
    }

    /// Whether answers of before will do.
    pub(super) fn remembers(&self) -> bool {
        self.remembers
    }

    /// kdbg's cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Whether kdbg runs as root.
    pub fn superuser(&self) -> bool {
        self.superuser
    }

    /// Where `absolute` is on this machine.
    pub fn file(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Finds a program on `PATH`.
    pub fn which(&self, program: impl AsRef<OsStr>) -> Option<PathBuf> {
        which::which_in(program.as_ref(), Some(&self.path), &self.root).ok()
    }

    /// Runs a tool to its end, its deadline or the user's Ctrl-C, whichever comes first.
    ///
    /// Standard input is empty; messages are in English. A tool that is cut short goes with all its children.
    pub fn run(&self, call: &Call<'_>, cancel: &Cancel) -> io::Result<Ran> {
        let arguments: Vec<_> = call.arguments.iter().map(Into::into).collect();
        let (program, arguments) = match call.log {
            // What changes the host must not go on alone; a question for a version ends by itself.
            Some(_) if !call.asks_for_password => supervised(call.program, &arguments, None),
            _ => (call.program.to_owned(), arguments),
        };
        let command = duct::cmd(program, arguments)
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin_null()
            .stderr_to_stdout()
            .unchecked();
        let command = match call.log {
            Some(log) => command.stdout_file(File::options().create(true).append(true).open(log)?),
            None => command.stdout_capture(),
        };
        // In a group of its own a tool can be ended with its children. One that may ask for a password has to stay in
        // the terminal's foreground group instead, where Ctrl-C reaches it without kdbg.
        let command = match call.asks_for_password {
            true => command,
            false => command.before_spawn(|command| {
                command.process_group(0);
                Ok(())
            }),
        };
        let handle = command.start()?;
        let deadline = Instant::now() + call.deadline;
        loop {
            if let Some(output) = handle.wait_timeout(GLANCE)? {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                return Ok(Ran { end: End::Exited(output.status.code()), text });
            }
            let end = match (cancel.is_set(), Instant::now() >= deadline) {
                (true, _) => End::Cancelled,
                (_, true) => End::TimedOut,
                _ => continue,
            };
            stop(&handle, !call.asks_for_password);
            return Ok(Ran { end, text: String::new() });
        }
    }
}

/// Ends a tool: asks, waits, insists.
fn stop(handle: &duct::Handle, own_group: bool) {
    let signal = |signal| {
        for pid in handle.pids().into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // An error means that it is gone already, or root's: then the terminal's Ctrl-C has told it.
            let _ = match own_group {
                true => kill_process_group(pid, signal),
                false => rustix::process::kill_process(pid, signal),
            };
        }
    };
    signal(Signal::TERM);
    if matches!(handle.wait_timeout(GRACE), Ok(None)) {
        signal(Signal::KILL);
        let _ = handle.wait_timeout(GRACE);
    }
}

/// One run of one tool.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The program.
    pub program: &'a OsStr,
    /// Its arguments.
    pub arguments: &'a [String],
    /// How long it may take.
    pub deadline: Duration,
    /// Where its output is appended; captured when there is none.
    pub log: Option<&'a Path>,
    /// Whether it may turn to the terminal for a password (`sudo`).
    pub asks_for_password: bool,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// Standard output and error, where they were captured.
    pub text: String,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code; none when a signal ended it.
    Exited(Option<i32>),
    /// Its deadline passed.
    TimedOut,
    /// The user asked kdbg to stop.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration, cancel: &Cancel) -> Ran {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let call = Call {
            program: OsStr::new("/bin/sh"),
            arguments: &arguments,
            deadline,
            log: None,
            asks_for_password: false,
        };
        System::here("/nonexistent").run(&call, cancel).unwrap()
    }

    #[test]
    fn output_and_exit_code_come_back() {
        let ran = shell("echo out; echo err >&2; exit 3", Duration::from_secs(5), &Cancel::default());
        assert_eq!((ran.end, ran.text.as_str()), (End::Exited(Some(3)), "out\nerr\n"));
    }

    #[test]
    fn a_deadline_ends_the_tool_and_its_children() {
        let start = Instant::now();
        let ran = shell("sleep 60 & sleep 60", Duration::from_millis(60), &Cancel::default());
        assert_eq!(ran.end, End::TimedOut);
        assert!(start.elapsed() < GRACE, "the children kept the pipe open");
    }

    #[test]
    fn a_set_cancel_ends_it_too() {
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(shell("sleep 60", Duration::from_secs(60), &cancel).end, End::Cancelled);
    }
}
