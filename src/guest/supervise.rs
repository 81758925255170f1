//! Whether a guest still makes sense: what its kernel complains about, how it ended itself, what it died of.

use std::time::Duration;

use super::console::incident::{Ending, Seen};
use super::{Guest, TELL};
use crate::error::{Error, ErrorKind, Result};
use crate::process::describe;

/// What leads from a message to the console's last lines.
const TAIL: &str = "; the last lines of its console:";
/// How long the kernel may take to print the rest of what is fatal.
const LAST_WORDS: Duration = Duration::from_secs(2);
const SEE_LOGS: &str = "console.log and qemu.log in the run directory have the whole story";

impl Guest {
    /// Looks whether the guest can still do what it is here for.
    ///
    /// # Errors
    /// Its kernel said something after which it cannot (a panic, an oops, a lockup, a hung task), or it halted.
    pub fn check(&mut self) -> Result<()> {
        if self.is_lost() { Err(self.post_mortem()) } else { Ok(()) }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.console.is_lost(LAST_WORDS)
    }

    /// [`Guest::check`] when all is done: waits for the rest of what is fatal.
    ///
    /// # Errors
    /// As [`Guest::check`].
    pub fn check_at_the_end(&mut self) -> Result<()> {
        while self.console.fatal().is_some() && !self.is_lost() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.check()
    }

    /// What the kernel complained about since this was asked last, and said all of.
    pub fn news(&self) -> Vec<Seen> {
        self.console.news(false)
    }

    /// Has a guest that panics, or ends itself, stand still instead of being gone.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn keep(&mut self) -> Result<()> {
        self.qmp.keep()
    }

    /// Whether its kernel has panicked, after which it shuts down.
    pub fn has_panicked(&self) -> bool {
        self.console.has_panicked()
    }

    /// Whether it was halted, switched off or restarted, and not by what its kernel complains about.
    pub fn has_ended_itself(&self) -> bool {
        self.console.fatal().is_none() && self.console.ending().is_some()
    }

    /// Whether it has ended itself, and is [kept](Guest::keep).
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn is_over(&mut self) -> Result<bool> {
        self.qmp.is_over()
    }

    /// The better explanation of `error`: when the guest is dead, that is why GDB or a socket failed.
    pub fn cause_of(&mut self, error: Error) -> Error {
        let technical = matches!(error.kind, ErrorKind::Debugger | ErrorKind::Host);
        match technical {
            true if self.console.fatal().is_some() => self.post_mortem(),
            true => self.death_or(error),
            false => error,
        }
    }

    /// What QEMU died of, if it did.
    pub(super) fn death_or(&mut self, error: Error) -> Error {
        if self.qemu.wait(Duration::from_millis(200)).is_some() { self.post_mortem() } else { error }
    }

    /// Whether QEMU has crashed: it is gone, and the guest neither ended itself nor gave up.
    pub fn is_crashed(&mut self) -> bool {
        let explained =
            self.console.fatal().is_some() || self.console.complaint().is_some() || self.console.ending().is_some();
        !explained && self.qemu.exited().is_some_and(|status| !status.success())
    }

    /// What the guest died of, from what it left: its kernel's complaint, how it ended itself, QEMU's last words, or its
    /// exit status.
    pub fn post_mortem(&mut self) -> Error {
        if !self.is_lost() {
            self.qemu.wait(Duration::from_secs(2));
        }
        if let Some(fatal) = self.console.fatal() {
            return Error::guest(format!("{}: {}{}", fatal.kind.said(), fatal.text, self.console_tail()))
                .hint(SEE_LOGS);
        }
        if let Some(complaint) = self.console.complaint() {
            return Error::guest(format!("the guest gave up: {complaint}{}", self.console_tail())).hint(SEE_LOGS);
        }
        if let Some(ending) = self.console.ending() {
            let how = match ending {
                Ending::Halted => "it was halted",
                Ending::PoweredOff => "it was switched off",
                Ending::Restarted => "it restarted, and kdbg's guests do not come back",
            };
            return Error::guest(format!("the guest ended itself: {how}{}", self.console_tail()))
                .hint("kdbg ends its guests itself: leave out `halt`, `poweroff` and `reboot`");
        }
        let words = self.messages.last(1).pop().filter(|line| line.starts_with("qemu")).map(|line| format!(": {line}"));
        let how = self.qemu.exited().map_or("it closed its console".into(), describe);
        let words = words.unwrap_or_default();
        Error::guest(format!("the guest ended before its time: QEMU {how}{words}{}", self.console_tail()))
            .hint(SEE_LOGS)
    }

    /// The agent did not read what it was sent.
    pub(super) fn hung(&self) -> Error {
        let patience = TELL.as_secs();
        let message =
            format!("the guest hangs: its agent did not read a script within {patience}s{}", self.console_tail());
        Error::guest(message).hint(SEE_LOGS)
    }

    /// The console's last lines, ready to follow a message.
    pub fn console_tail(&self) -> String {
        let lines = self.console.last(8);
        if lines.is_empty() {
            return "; its console is empty".into();
        }
        format!("{TAIL}\n  {}", lines.join("\n  "))
    }
}

/// The first line of a message, without the [console's last lines](Guest::console_tail) that it leads to.
pub fn without_console(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    first.strip_suffix(TAIL).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_message_that_leads_to_the_console_what_comes_before_is_left() {
        let led = format!("it did not arrive within 1m{TAIL}\n  [1.0] random: crng init done\n  [1.1] up");
        assert_eq!(without_console(&led), "it did not arrive within 1m");
        assert_eq!(without_console("ip: no such device\nusage: ip"), "ip: no such device");
    }
}
