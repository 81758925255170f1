//! A run that fails is held where it does, before its guest is ended: `--hold fail`.

use std::time::{Duration, Instant};

use super::super::Order;
use super::super::arm::Armed;
use super::super::hang::IDLE;
use super::super::journal::Journal;
use super::{Hold, Place, lend};
use crate::error::{Error, ErrorKind, Result};
use crate::gdb::target;
use crate::guest::{Guest, without_console};

/// How long a kernel that panics may take until it has shut down.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// What ends a kernel.
const PANIC: &str = "panic";
/// Where the other CPUs stand then.
const STOPPED: &str = "stop_this_cpu";

/// Holds the guest of a run that has come to `ran`, if that is to be held and fails. Gives what the run has come to.
///
/// # Errors
/// What the run has come to. Or, of one that would go on, as [`super::hold`].
pub(in super::super) fn hold(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
    ran: Result<()>,
) -> Result<()> {
    if order.hold != Some(&Hold::Fail) {
        return ran;
    }
    let why = match &ran {
        Err(error) if error.kind == ErrorKind::Interrupted => return ran,
        Err(error) => without_console(&error.message).to_owned(),
        Ok(()) => match journal.unmet() {
            Some(unmet) => format!("{}: {}", unmet.text, unmet.detail),
            None => return ran,
        },
    };
    let held = stand(order, guest, armed, journal, &why);
    match (ran, held) {
        // Whatever became of holding it: the run has its own error, unless the user has had enough.
        (Err(_), Err(error)) if error.kind == ErrorKind::Interrupted => Err(error),
        (Err(error), held) => {
            if let Err(not_held) = held {
                journal.warn(format!("the guest could not be held where the run failed: {}", first(&not_held)));
            }
            Err(error)
        }
        (Ok(()), held) => held.and_then(|()| target::resume(&mut armed.gdb, order.cancel)),
    }
}

/// Has the guest stand still, wherever it is, and lends it to a debugger.
fn stand(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
    why: &str,
) -> Result<()> {
    // One that panics shuts down a moment after it has said so, and is paused on its way there otherwise.
    let deadline = Instant::now() + SHUTDOWN;
    while guest.has_panicked() && !guest.is_over()? && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    if target::is_running(&mut armed.gdb, order.cancel)? {
        target::pause(&mut armed.gdb, || guest.pause(), order.cancel)?;
    }
    let cpu = cpu(order, armed)?;
    order.events.fact("held", "where the run fails, until a debugger has come and left");
    order.events.fact("because", why);
    lend(order, guest, armed, journal, Place { cpu, at: "where the run failed", hit: None })?;
    order.events.fact("held", "the debugger has left");
    Ok(())
}

/// The CPU to look at first: one that panics, else one that does something.
fn cpu(order: &Order<'_>, armed: &mut Armed<'_>) -> Result<u32> {
    let mut best = (usize::MAX, 0);
    for cpu in 0..order.loaded.recipe.guest.cpus {
        let frames = armed.collector.stack(&mut armed.gdb, cpu, order.cancel)?;
        let calls = |names: &[&str]| frames.iter().any(|frame| names.contains(&frame.symbol.as_str()));
        let rank = match () {
            () if calls(&[PANIC]) => 0,
            () if !frames.is_empty() && !calls(&[IDLE, STOPPED]) => 1,
            () => 2,
        };
        best = best.min((rank, cpu));
    }
    Ok(best.1)
}

fn first(error: &Error) -> &str {
    error.message.lines().next().unwrap_or_default()
}
