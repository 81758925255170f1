//! The process that stands between kdbg and a child, so that no child outlives kdbg.
//!
//! `kdbg supervise --parent PID [--scrub DIR] -- PROGRAM ARGS` runs PROGRAM with its own standard streams and waits for
//! two things at once, on pidfds: the end of PROGRAM (passed on as exit code, a signal as 128 + its number) and the end
//! of process PID (the whole process group is ended, DIR deleted). A parent-death signal would not do: it fires when the
//! *thread* that started the child ends, and it does not reach the child's own children, such as the compilers of make.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, kill_current_process_group, pidfd_open};

use super::GRACE;

/// The hidden verb of the command line.
pub const VERB: &str = "supervise";

/// What the hidden verb is given.
#[derive(Debug, Clone)]
pub struct Order {
    /// kdbg's process id.
    pub parent: i32,
    /// A directory to delete when kdbg is gone.
    pub scrub: Option<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Runs the order; the result is the exit code to end with.
pub fn supervise(order: &Order) -> u8 {
    match run(order) {
        Ok(status) => code_of(status),
        Err(error) => {
            let program = order.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            eprintln!("kdbg: cannot run {program}: {error}");
            127
        }
    }
}

fn run(order: &Order) -> io::Result<ExitStatus> {
    // The group's TERM is for the child; this process has to outlast it. A handler, unlike "ignore", is not inherited.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let parent = Pid::from_raw(order.parent).ok_or_else(|| io::Error::other("no parent process id"))?;
    let parent_fd = pidfd_open(parent, PidfdFlags::empty());
    let (Ok(parent_fd), true) = (parent_fd, getppid() == Some(parent)) else {
        scrub(order);
        return Err(io::Error::other("the parent is gone"));
    };
    let (program, args) = order.command.split_first().ok_or_else(|| io::Error::other("no program"))?;
    let mut child = Command::new(program).args(args).spawn()?;
    let child_pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let child_fd = pidfd_open(child_pid.ok_or_else(|| io::Error::other("no child process id"))?, PidfdFlags::empty())?;
    wait_for_either(&child_fd, &parent_fd)?;
    match (ended(&child_fd), ended(&parent_fd)) {
        (false, _) => end_group(&mut child, &child_fd, order),
        // Both at once.
        (true, true) => scrub(order),
        (true, false) => {}
    }
    child.wait()
}

/// kdbg is gone: ends everything in this group, itself at the very last.
fn end_group(child: &mut Child, child_fd: &OwnedFd, order: &Order) {
    let _ = kill_current_process_group(Signal::TERM);
    let _ = wait(&[child_fd.as_fd()], Some(GRACE));
    // Reaped here: where process 1 is not an init, nobody else would.
    let _ = child.kill();
    let _ = child.wait();
    scrub(order);
    let _ = kill_current_process_group(Signal::KILL);
}

/// Deletes what only kdbg would have deleted.
fn scrub(order: &Order) {
    if let Some(directory) = &order.scrub {
        let _ = std::fs::remove_dir_all(directory);
    }
}

fn wait_for_either(child: &OwnedFd, parent: &OwnedFd) -> io::Result<()> {
    wait(&[child.as_fd(), parent.as_fd()], None)
}

fn ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1))
}

/// Waits until one of the processes has ended, or `patience` is over.
fn wait(processes: &[BorrowedFd<'_>], patience: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = processes.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = patience.and_then(|duration| Timespec::try_from(duration).ok());
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
