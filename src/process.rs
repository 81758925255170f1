//! Supervised children: every program that kdbg starts, it starts here.
//!
//! Three rules, kept for all of them:
//!
//! - each child leads a process group of its own, so that a Ctrl-C on the terminal reaches kdbg alone, and so that
//!   ending the child ends whatever it started;
//! - between kdbg and the child stands [`supervisor`], kdbg's own executable, which ends the group when kdbg dies,
//!   be it by SIGKILL;
//! - ending is TERM, a grace, then KILL, and is waited for.
//!
//! [`Child`] is for what lives beside kdbg (QEMU, GDB); [`Tool`] for what runs once and ends (make, apt-get, strip).

pub mod supervisor;
mod tool;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};

pub use tool::{Tool, ToolOutput};

/// How long a child may take to end after TERM before it is killed.
pub const GRACE: Duration = Duration::from_millis(1000);

static SUPERVISOR: OnceLock<PathBuf> = OnceLock::new();

/// Says which executable understands the hidden verb `supervise`; called once, first. Programs that use kdbg as a
/// library and do not call it have children without supervision: those survive a SIGKILL of the program.
pub fn set_supervisor(kdbg: PathBuf) {
    let _ = SUPERVISOR.set(kdbg);
}

/// The command line that runs `program` under the supervisor. `scrub` is a directory that the supervisor deletes
/// when it outlives kdbg.
pub(crate) fn supervised(program: &OsStr, args: &[OsString], scrub: Option<&Path>) -> (OsString, Vec<OsString>) {
    let Some(kdbg) = SUPERVISOR.get() else { return (program.into(), args.to_vec()) };
    let mut line: Vec<OsString> =
        vec![supervisor::VERB.into(), "--parent".into(), std::process::id().to_string().into()];
    if let Some(directory) = scrub {
        line.extend(["--scrub".into(), directory.into()]);
    }
    line.push("--".into());
    line.push(program.into());
    line.extend_from_slice(args);
    (kdbg.into(), line)
}

/// A program that lives beside kdbg until it is stopped. Dropping it stops it.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    status: Option<ExitStatus>,
}

/// The child's ends of its pipes, to be drained by threads.
#[derive(Debug)]
pub struct Pipes {
    /// Standard input.
    pub stdin: ChildStdin,
    /// Standard output.
    pub stdout: ChildStdout,
    /// Standard error.
    pub stderr: ChildStderr,
}

impl Child {
    /// Starts `program`. `name` is what messages call it; `scrub` a directory to delete should kdbg be killed.
    ///
    /// # Errors
    /// The program is not there or cannot be executed.
    pub fn spawn(name: &str, program: &Path, args: &[OsString], scrub: Option<&Path>) -> Result<(Child, Pipes)> {
        use std::os::unix::process::CommandExt;
        let (program, line) = supervised(program.as_os_str(), args, scrub);
        let cannot = |error: &dyn std::fmt::Display| Error::host(format!("cannot start {name}: {error}"));
        let mut child = Command::new(program)
            .args(line)
            // GDB's Python would take its word for all of GDB: standard output without a buffer, a write a character.
            .env_remove("PYTHONUNBUFFERED")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot(&error))?;
        let pipes = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Pipes { stdin, stdout, stderr },
            _ => return Err(cannot(&"it has no pipes")),
        };
        Ok((Child { name: name.into(), child, status: None }, pipes))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                // The supervisor is gone; what it may have left behind goes too.
                kill_group(self.child.id(), Signal::KILL);
            }
        }
        self.status
    }

    /// Waits up to `patience` for it to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.exited() {
                Some(status) => return Some(status),
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Ends it: TERM to its whole group, [`GRACE`], KILL. Returns when it is gone.
    pub fn stop(&mut self) {
        if self.exited().is_some() {
            return;
        }
        kill_group(self.child.id(), Signal::TERM);
        if self.wait(GRACE).is_none() {
            kill_group(self.child.id(), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }

    /// Ends it at once: KILL to its whole group, for a program that has nothing to tidy up. Returns when it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            kill_group(self.child.id(), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says how a child ended, for people: `exit code 1`, `killed by signal 9`.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        // The supervisor passes a signal on as 128 + its number, as a shell does.
        (Some(code @ 129..=192), _) => format!("killed by signal {}", code - 128),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// Sends `signal` to the group that process `leader` leads. A group that is gone is what was wanted.
fn kill_group(leader: u32, signal: Signal) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}
