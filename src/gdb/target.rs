//! The guest as GDB has it: connected, run, stepped, halted and left.

use std::path::Path;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::mi::number;
use crate::error::{Error, Result};
use crate::event::Cancel;

/// Connects to QEMU's stub; the guest stands still from then on.
///
/// # Errors
/// GDB cannot connect.
pub fn connect(gdb: &mut Gdb, socket: &Path, cancel: &Cancel) -> Result<()> {
    gdb.must(&format!("-target-select remote {}", socket.display()), cancel)?;
    // Connecting reports a stop that belongs to no probe.
    while gdb.next_stop().is_some() {}
    Ok(())
}

/// Lets the guest run.
///
/// # Errors
/// GDB cannot.
pub fn resume(gdb: &mut Gdb, cancel: &Cancel) -> Result<()> {
    gdb.must("-exec-continue", cancel).map(drop)
}

/// Whether the guest runs, as far as GDB knows.
///
/// # Errors
/// GDB failed.
pub fn is_running(gdb: &mut Gdb, cancel: &Cancel) -> Result<bool> {
    // Of a remote target that runs GDB lists no threads: it would have to ask its stub.
    match gdb.ask("-thread-info", cancel)? {
        Answer::Done(..) => Ok(false),
        Answer::Refused(why) if why.contains("while the target is running") => Ok(true),
        Answer::Refused(why) => Err(Error::debugger(format!("GDB does not tell whether the guest runs: {why}"))),
    }
}

/// The program counter of every CPU, in their order.
///
/// # Errors
/// GDB failed.
pub fn places(gdb: &mut Gdb, cpus: u64, cancel: &Cancel) -> Result<Vec<u64>> {
    let commands: Vec<String> = (1..=cpus).map(|cpu| command::evaluate_at(cpu, 0, "(unsigned long)$pc")).collect();
    let answers = gdb.batch(&commands, cancel)?;
    Ok(answers.iter().map(|answer| answer.value().and_then(number).unwrap_or_default()).collect())
}

/// Where the CPU of a stop stands now.
///
/// # Errors
/// GDB failed.
pub fn place(gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Option<String>> {
    let answer = gdb.ask(&command::evaluate_at(stop.thread.unwrap_or(1), 0, "(unsigned long)$pc"), cancel)?;
    Ok(answer.value().and_then(number).map(|at| format!("{at:#x}")))
}

/// A step that executes nothing is tried again this often. A `rep` instruction, whose every round leaves the program
/// counter where it is, is left to GDB after that.
const STEPS: u32 = 16;

/// Steps off the breakpoint at which the guest stands. Gives the stop that this ran into, if there was one: the guest
/// stands there then.
///
/// Left to itself, GDB steps over a breakpoint when it continues. QEMU 7.2 (TCG) sometimes reports such a step as done
/// without having executed anything; GDB then takes the breakpoint it still stands at for a new hit.
///
/// # Errors
/// GDB cannot.
pub fn step_off(gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Option<Stop>> {
    let thread = stop.thread.unwrap_or(1);
    for _ in 0..STEPS {
        let command = format!("-exec-step-instruction --thread {thread}");
        gdb.must(&command, cancel)?;
        let next = gdb.wait_stop(&command, cancel)?;
        let moved = next.thread != stop.thread || next.address != stop.address;
        if moved {
            return Ok((next.breakpoint.is_some() || next.own.is_some()).then_some(next));
        }
    }
    Ok(None)
}

/// Has the guest stand still: where `pause`, which has QEMU pause it, or a breakpoint stops it. Gives that stop.
///
/// # Errors
/// GDB did not hear of a stop in time. Or `pause` fails.
pub fn pause(gdb: &mut Gdb, mut pause: impl FnMut() -> Result<()>, cancel: &Cancel) -> Result<Stop> {
    let deadline = Instant::now() + LEAVE;
    while Instant::now() < deadline {
        if let Some(stop) = gdb.next_stop() {
            return Ok(stop);
        }
        // One that QEMU gets at a stop which GDB takes for none comes to nothing.
        pause()?;
        if let Some(stop) = gdb.stop_within(PAUSE, "the pause", cancel)? {
            return Ok(stop);
        }
    }
    Err(no_pause())
}

fn no_pause() -> Error {
    Error::debugger(format!("GDB did not hear of the guest's pause within {}s", LEAVE.as_secs()))
        .hint("gdb-mi.log in the run directory has everything that was said")
}

/// How long leaving the guest may take; it takes milliseconds, or a stop's time where a probe is hit all the time.
const LEAVE: Duration = Duration::from_secs(10);
/// How long one pause is waited for.
const PAUSE: Duration = Duration::from_millis(200);

/// Leaves the guest, which was [halted](halt) and runs on without breakpoints; GDB sees it no more.
///
/// # Errors
/// GDB cannot leave.
pub fn leave(gdb: &mut Gdb, cancel: &Cancel) -> Result<()> {
    gdb.must("-target-detach", cancel).map(drop)
}

/// Stops the guest until GDB [leaves](leave) it, which it cannot while the guest runs. `pause` has QEMU pause it, which GDB takes for a
/// stop.
///
/// # Errors
/// GDB did not hear of a pause in time. Or `pause` fails.
pub fn halt(gdb: &mut Gdb, mut pause: impl FnMut() -> Result<()>, cancel: &Cancel) -> Result<()> {
    // Of a watched value that was written to and has not changed GDB does not tell, and while the guest stands there QEMU has
    // nothing to pause: a pause that may have come to nothing is repeated.
    let deadline = Instant::now() + LEAVE;
    while Instant::now() < deadline {
        pause()?;
        if gdb.stop_within(PAUSE, "the pause", cancel)?.is_some() {
            return Ok(());
        }
    }
    Err(no_pause())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::IoContext;
    use crate::gdb::client::tests::fake;

    #[test]
    fn a_guest_whose_first_pauses_come_to_nothing_is_left_all_the_same() {
        // It tells of a stop once there is a file `paused`.
        let (folder, mut gdb) = fake(
            "(until [ -e paused ]; do sleep 0.01; done; echo '*stopped') &\n\
             while read -r command; do echo \"${command%%-*}^done\"; done",
        );
        let mut pauses = 0;
        let pause = || {
            pauses += 1;
            if pauses == 3 { std::fs::write(folder.path().join("paused"), "").or_host("pause") } else { Ok(()) }
        };
        halt(&mut gdb, pause, &Cancel::default()).and_then(|()| leave(&mut gdb, &Cancel::default())).unwrap();
        assert_eq!(pauses, 3);
        let log = std::fs::read_to_string(folder.path().join("gdb-mi.log")).unwrap();
        let asked: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        assert_eq!(asked, ["1-target-detach"]);
    }
}
