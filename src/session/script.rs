//! A script of kdbg's own, which the agent runs in the guest beside the steps.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::boot::FOREVER;
use super::step::Output;
use super::{Order, nonce};
use crate::error::{Error, Result};
use crate::guest::{Guest, GuestEvent, Stream};

/// How long one may take; a dozen pieces of a topology take a second under TCG on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the wait for a script was over.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It ended with this code, and had written this to standard error.
    Exited(i32, String),
    /// The guest is gone.
    Gone,
    /// It did not end in time.
    Late,
}

/// Runs a script to its end; gives its exit code and what it wrote to standard error. `failed` says what did not happen
/// if it does not end.
///
/// # Errors
/// It does not end in time, the guest dies, or the user interrupts.
pub(super) fn run(order: &Order<'_>, guest: &mut Guest, script: &str, failed: &str) -> Result<(i32, String)> {
    let id = format!("setup-{:08x}", nonce());
    guest.run(&id, script, None)?;
    let events = guest.events().clone();
    let check = || order.cancel.check().and_then(|()| guest.check());
    let patience = if order.early { FOREVER } else { PATIENCE };
    match await_end(&events, &id, Instant::now() + patience, check)? {
        End::Exited(code, stderr) => Ok((code, stderr)),
        End::Gone => Err(guest.post_mortem()),
        End::Late => {
            let patience = humantime::format_duration(PATIENCE);
            let message = format!("{failed} within {patience}{}", guest.console_tail());
            Err(Error::guest(message).hint("console.log in the run directory has more"))
        }
    }
}

fn await_end(
    events: &Receiver<GuestEvent>,
    id: &str,
    deadline: Instant,
    mut check: impl FnMut() -> Result<()>,
) -> Result<End> {
    let (mut stderr, mut exit, mut open_streams) = (Output::default(), None, 2);
    loop {
        if let (Some(code), 0) = (exit, open_streams) {
            return Ok(End::Exited(code, stderr.text()));
        }
        check()?;
        // However much comes: what an earlier step has left in the background may write without end.
        if Instant::now() >= deadline {
            return Ok(End::Late);
        }
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(GuestEvent::Gone) => return Ok(End::Gone),
            Ok(GuestEvent::Output(Stream::Stderr, bytes)) => stderr.take(&bytes),
            Ok(GuestEvent::OutputEnd(_, ended)) if ended == id => open_streams -= 1,
            Ok(GuestEvent::Exit(ended, code)) if ended == id => exit = Some(code),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::OUTPUT_LIMIT;
    use super::*;

    /// How a wait ends that has so much time, and hears this.
    fn ends(patience: Duration, heard: impl IntoIterator<Item = GuestEvent>) -> End {
        let (sender, events) = crossbeam_channel::unbounded();
        heard.into_iter().for_each(|event| sender.send(event).unwrap());
        await_end(&events, "mine", Instant::now() + patience, || Ok(())).unwrap()
    }

    fn noise(bytes: usize) -> GuestEvent {
        GuestEvent::Output(Stream::Stderr, vec![b'x'; bytes])
    }

    fn ending(id: &str) -> [GuestEvent; 3] {
        let end = |stream| GuestEvent::OutputEnd(stream, id.into());
        [end(Stream::Stdout), GuestEvent::Exit(id.into(), 3), end(Stream::Stderr)]
    }

    #[test]
    fn a_script_ends_with_its_own_exit_and_both_its_streams() {
        let heard = [noise(2)].into_iter().chain(ending("another")).chain(ending("mine"));
        assert_eq!(ends(PATIENCE, heard), End::Exited(3, "xx".into()));
        assert_eq!(ends(PATIENCE, [noise(2), GuestEvent::Gone]), End::Gone);
    }

    #[test]
    fn the_time_is_over_whatever_still_comes() {
        assert_eq!(ends(Duration::ZERO, [noise(1)].into_iter().chain(ending("mine"))), End::Late);
    }

    #[test]
    fn of_what_is_written_without_end_the_beginning_is_kept() {
        let End::Exited(_, stderr) = ends(PATIENCE, [noise(OUTPUT_LIMIT), noise(7)].into_iter().chain(ending("mine")))
        else {
            panic!("it has ended");
        };
        assert_eq!(stderr.trim_start_matches('x'), "\n[kdbg: 7 more bytes were not kept]\n");
    }
}
