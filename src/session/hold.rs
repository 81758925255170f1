//! A guest that is held at a hit, and handed to a debugger until that leaves.
//!
//! QEMU's stub has one connection. So kdbg's GDB gives it up, and kdbg serves the debugger itself, in front of that stub
//! ([`crate::server`]): nothing that a debugger says can end the guest, and what it has set is taken out when it leaves.
//! Then GDB connects again, and the run goes on. What passes the probes in between are no hits.

pub(super) mod failure;

use std::sync::Arc;
use std::time::Duration;

use super::Order;
use super::arm::Armed;
use super::handover::{self, Handover};
use super::journal::Journal;
use crate::error::{Error, Result};
use crate::gdb::client::Stop;
use crate::gdb::target;
use crate::guest::Guest;
use crate::guest::stub::Stub;
use crate::kernel::KernelBuild;
use crate::server::{Halt, Left, Server, Why};

/// At which hit the guest is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The one with this number.
    Hit(u64),
    /// The first of the probe with this name.
    Probe(String),
    /// None, but where the run fails.
    Fail,
}

/// How [`Hold::Fail`] is written.
const FAIL: &str = "fail";

impl std::str::FromStr for Hold {
    type Err = std::convert::Infallible;

    /// A number, `fail`, or the name of a probe.
    fn from_str(text: &str) -> std::result::Result<Hold, Self::Err> {
        if text == FAIL {
            return Ok(Hold::Fail);
        }
        Ok(text.parse().map_or_else(|_| Hold::Probe(text.into()), Hold::Hit))
    }
}

impl Hold {
    /// Whether it is at this hit.
    pub(super) fn is(&self, hit: u64, probe: &str) -> bool {
        match self {
            Hold::Hit(number) => *number == hit,
            Hold::Probe(name) => name == probe,
            Hold::Fail => false,
        }
    }

    /// Refuses a probe that the recipe does not have, and a name that means two things.
    ///
    /// # Errors
    /// That.
    pub fn check(&self, probes: &[&str]) -> Result<()> {
        match self {
            Hold::Hit(0) => Err(Error::usage("--hold 0: hits count from 1")),
            Hold::Probe(name) if !probes.contains(&name.as_str()) => {
                Err(Error::usage(format!("--hold {name}: the recipe has no probe of that name"))
                    .hint(format!("its probes are: {}; or give the number of a hit, or `{FAIL}`", probes.join(", "))))
            }
            Hold::Fail if probes.contains(&FAIL) => Err(Error::usage(format!(
                "--hold {FAIL}: the recipe has a probe of this name, which stands for a run that fails"
            ))
            .hint("give the number of its hit, or rename the probe")),
            _ => Ok(()),
        }
    }
}

/// How often it is looked whether the guest is still there.
const TICK: Duration = Duration::from_millis(500);

/// Hands the guest, which stands at `stop` with hit `hit`, to a debugger, until that leaves. Gives whether the guest has moved.
///
/// # Errors
/// The guest is gone, GDB cannot take it back, or kdbg was asked to stop.
pub(super) fn hold(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
    (stop, hit): (&Stop, u64),
) -> Result<bool> {
    let cpu = stop.thread.and_then(|thread| u32::try_from(thread.saturating_sub(1)).ok()).unwrap_or(0);
    let at = format!("hit {hit}");
    order.events.fact("held", format!("at {at}, until a debugger has come and left"));
    guest.pause()?;
    let moved = lend(order, guest, armed, journal, Place { cpu, at: &at, hit: Some(hit) })?;
    order.events.fact("held", if moved { "the debugger has left, elsewhere" } else { "the debugger has left" });
    Ok(moved)
}

/// Warns where the guest was to be held at a hit that there was not.
pub(super) fn tell_not_held(order: &Order<'_>, armed: &Armed<'_>, journal: &mut Journal<'_>) {
    let what = match order.hold {
        Some(Hold::Hit(number)) => format!("hit {number}"),
        Some(Hold::Probe(name)) => format!("hit of `{name}`"),
        Some(Hold::Fail) | None => return,
    };
    if !armed.was_held {
        journal.warn(format!("the guest was not held: there was no {what}"));
    }
}

/// Where a guest that is held stands.
struct Place<'a> {
    /// The CPU that it is about.
    cpu: u32,
    /// In words.
    at: &'a str,
    /// The hit, if it is one.
    hit: Option<u64>,
}

/// Has GDB leave the guest, which stands still, to a debugger, and take it back when that has left. Gives whether the guest has
/// moved.
fn lend(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
    place: Place<'_>,
) -> Result<bool> {
    let cpus = order.loaded.recipe.guest.cpus;
    let before = target::places(&mut armed.gdb, u64::from(cpus), order.cancel)?;
    armed.gdb.must("-target-disconnect", order.cancel)?;
    let left = serve(order, guest, armed.kernel, journal, place);
    handover::end(order);
    if left.is_err() {
        guest.check()?;
    }
    let has_run = left?;
    target::connect(&mut armed.gdb, &guest.gdb_socket(), order.cancel)?;
    // What has run may be where it was again, and what has not may be put elsewhere.
    Ok(has_run || target::places(&mut armed.gdb, u64::from(cpus), order.cancel)? != before)
}

/// Serves debuggers until one leaves of its own accord. Gives whether one has had the guest run.
fn serve(
    order: &Order<'_>,
    guest: &mut Guest,
    kernel: &KernelBuild,
    journal: &mut Journal<'_>,
    Place { cpu, at, hit }: Place<'_>,
) -> Result<bool> {
    let halt = Halt { cpu, why: Why::Trap, note: None };
    let mut stub = Stub::connect(&guest.gdb_socket(), order.loaded.recipe.guest.cpus, halt, order.cancel)?;
    if guest.is_over()? {
        stub.stand_still_once(Arc::new(true.into()));
    }
    let server = Server::listen(&order.listen)?;
    // Under KVM one in code that is not mapped yet is refused.
    let hardware = guest.uses_kvm()?;
    let _found = handover::write(
        order,
        &Handover { address: server.address().to_string(), at, hit, kernel, hardware },
        journal,
    )?;
    loop {
        let Some(client) = server.client_within(TICK, order.cancel)? else {
            if stub.check().is_err() {
                return Err(guest.post_mortem());
            }
            continue;
        };
        match client.serve(&mut stub, order.cancel)? {
            Left::Detached => return Ok(stub.has_run()),
            Left::Gone => return Err(guest.post_mortem()),
            Left::Lost(why) => {
                order.events.fact("held", format!("a debugger is gone ({why}); the guest still waits for one"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_held_by_its_number_or_its_probe() {
        let parse = |text: &str| text.parse::<Hold>().unwrap();
        assert!(parse("2").is(2, "rst") && !parse("2").is(1, "rst"));
        assert!(parse("rst").is(7, "rst") && !parse("rst").is(7, "other"));
        assert!(parse("rst").check(&["rst"]).is_ok() && parse("9").check(&[]).is_ok());
        let error = parse("rts").check(&["rst", "syn"]).unwrap_err();
        assert!(error.hint.unwrap().contains("rst, syn"));
        assert!(parse("0").check(&["rst"]).is_err());
        assert!(!parse("fail").is(1, "fail") && parse("fail").check(&["rst"]).is_ok());
        assert!(parse("fail").check(&["fail"]).is_err(), "which of the two");
    }
}
