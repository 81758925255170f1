//! kdbg at a terminal: what a person types goes in, what is shown is there to be waited for.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{Ended, LIMIT, Place, Running, wait_until};

/// A terminal with kdbg at it.
pub(crate) struct Terminal {
    /// The side of whoever looks at it.
    outside: File,
    /// The side of who is at it, so that it outlives kdbg.
    inside: File,
    running: Running,
}

impl Place {
    /// Starts kdbg at a terminal of this many rows and columns, which is its controlling one.
    pub(crate) fn kdbg_at_terminal(&self, args: &[&str], rows: u16, columns: u16) -> Terminal {
        let outside: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let name = ptsname(&outside, Vec::new()).unwrap().into_string().unwrap();
        // Without becoming this process's own.
        let inside = File::from(
            rustix::fs::open(name, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY, rustix::fs::Mode::empty())
                .unwrap(),
        );
        resize(&outside, rows, columns);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_kdbg")]).args(args).env("TERM", "dumb");
        let mut command = self.surround(command);
        command.stdin(Stdio::from(inside.try_clone().unwrap())).stdout(Stdio::from(inside.try_clone().unwrap()));
        let outside = File::from(outside);
        let running = Running::watch(command, outside.try_clone().unwrap(), self.out());
        Terminal { outside, inside, running }
    }
}

fn resize(terminal: &impl std::os::fd::AsFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Terminal {
    /// Types this.
    pub(crate) fn types(&mut self, keys: &str) {
        self.outside.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this is a line on the screen.
    pub(crate) fn shows(&self, line: &str) {
        wait_until(LIMIT, line, || self.running.stdout.text().lines().any(|shown| shown == line).then_some(()));
    }

    pub(crate) fn becomes(&self, rows: u16, columns: u16) {
        resize(&self.outside, rows, columns);
    }

    /// Whether keys go to whoever reads them as they are.
    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(&self.inside).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits for the end of kdbg, which has to leave the terminal as it found it.
    pub(crate) fn wait(mut self) -> Ended {
        wait_until(LIMIT, "kdbg to end", || self.running.child.try_wait().unwrap());
        assert!(!self.is_raw());
        let Terminal { outside, inside, running } = self;
        drop((outside, inside));
        running.wait()
    }
}
