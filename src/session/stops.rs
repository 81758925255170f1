//! What a stop comes to: the probes that it belongs to, their conditions, and the hits that are collected.

mod alter;
mod budget;

use std::time::{Duration, Instant};

pub(crate) use budget::Spent;

use super::arm::Armed;
use super::journal::Journal;
use super::record::record;
use super::{Order, hold};
use crate::error::{Error, Result};
use crate::gdb::client::Stop;
use crate::gdb::collect::{Probed, Returned};
use crate::gdb::hooks::Entry;
use crate::gdb::target;
use crate::guest::Guest;
use crate::recipe::ProbePoint;
use crate::report::model::Location;

/// How long a stop was.
pub(super) struct Stopped {
    pub(super) whole: Duration,
    /// How much of it does not count as the step's.
    pub(super) not_the_steps: Duration,
}

/// What serves stops.
pub(super) struct Stops<'w, 'o, 'a, 'j> {
    pub(super) order: &'w Order<'o>,
    pub(super) armed: &'w mut Armed<'a>,
    pub(super) journal: &'w mut Journal<'j>,
    /// That a function was made to return: the guest stands elsewhere than it has stopped.
    returned_early: bool,
    /// The probes that the stop is about, hits or not.
    charged: Vec<usize>,
    /// The hit that the guest is to be held at.
    to_hold: Option<u64>,
    /// How long it was held.
    held: Duration,
}

impl<'w, 'o, 'a, 'j> Stops<'w, 'o, 'a, 'j> {
    pub(super) fn new(order: &'w Order<'o>, armed: &'w mut Armed<'a>, journal: &'w mut Journal<'j>) -> Self {
        Stops { order, armed, journal, returned_early: false, charged: Vec::new(), to_hold: None, held: Duration::ZERO }
    }
}

impl Stops<'_, '_, '_, '_> {
    /// A stop: collects a hit for every probe that it belongs to, then lets the guest run. A stop whose conditions are
    /// false counts as the step's time, or a hot probe would put off the timeout for ever.
    pub(super) fn serve(&mut self, first: &Stop, guest: &mut Guest) -> Result<Stopped> {
        let mut stop = Some(first.clone());
        let (mut hits, mut changes) = (0, 0);
        while let Some(here) = stop.take() {
            let Armed { gdb, hooks, .. } = &mut *self.armed;
            match hooks.enter(gdb, &here, self.order.cancel)? {
                Entry::Hooked(entered) => {
                    hits += self.hits_at(&entered.stop)?;
                    self.hold(&entered.stop, guest)?;
                    let Armed { gdb, hooks, .. } = &mut *self.armed;
                    hooks.leave(gdb, &entered, self.order.cancel)?;
                    self.returned_early = false;
                }
                Entry::Unhooked { back_to } => self.armed.counters.missed(back_to),
                // Of a stop at a breakpoint QEMU says that it is their watchpoint's, if that had a stop of this CPU which was not told.
                Entry::None if hooks.is_theirs(&here) && !self.is_breakpoint(&here) => {}
                Entry::None => {
                    hits += self.hits_at(&here)?;
                    changes += self.changes_at(&here)?;
                    let moved = self.hold(&here, guest)?;
                    let elsewhere = std::mem::take(&mut self.returned_early) || moved;
                    if !elsewhere && self.is_breakpoint(&here) {
                        stop = target::step_off(&mut self.armed.gdb, &here, self.order.cancel)?;
                    }
                }
            }
            if stop.is_none() {
                stop = self.armed.untold(&here)?;
            }
        }
        let held = std::mem::take(&mut self.held);
        self.charge(first, first.at.elapsed().saturating_sub(held))?;
        target::resume(&mut self.armed.gdb, self.order.cancel)?;
        let stood_still = first.at.elapsed();
        self.journal.stood_still(hits, stood_still.saturating_sub(held));
        let not_the_steps = if hits + changes > 0 { stood_still } else { Duration::ZERO };
        Ok(Stopped { whole: stood_still, not_the_steps })
    }

    /// Holds the guest for a debugger, if it is to be held here. Gives whether it has moved.
    fn hold(&mut self, stop: &Stop, guest: &mut Guest) -> Result<bool> {
        let Some(hit) = self.to_hold.take() else { return Ok(false) };
        let start = Instant::now();
        self.armed.was_held = true;
        let moved = hold::hold(self.order, guest, self.armed, self.journal, (stop, hit))?;
        self.held += start.elapsed();
        if moved {
            self.forget_calls()?;
        }
        Ok(moved)
    }

    /// Calls that were on their way may have returned while somebody else had the guest: they are waited for no more.
    fn forget_calls(&mut self) -> Result<()> {
        for index in 0..self.armed.probes.len() {
            if self.armed.returns.waiting(index) == 0 {
                continue;
            }
            let Armed { gdb, returns, probes, .. } = &mut *self.armed;
            returns.forget(gdb, index, self.order.cancel)?;
            let name = &probes[index].spec.name;
            self.journal
                .warn(format!("probe `{name}`: calls that were on their way when the guest was held are no hits"));
        }
        Ok(())
    }

    /// Collects the hits of a stop. Gives how many there were.
    fn hits_at(&mut self, stop: &Stop) -> Result<usize> {
        let mut hits = 0;
        for index in self.probes_at(stop)? {
            hits += self.hit(index, stop)?;
            if self.returned_early {
                // The guest stands where the call returns to.
                let address = target::place(&mut self.armed.gdb, stop, self.order.cancel)?;
                return Ok(hits + self.returned(&Stop { address, own: None, hooked: false, ..stop.clone() })?);
            }
        }
        Ok(hits + self.returned(stop)?)
    }

    /// Takes in what a stop says of the guest's modules and of its tracer. Gives how much that is.
    fn changes_at(&mut self, stop: &Stop) -> Result<usize> {
        let change = self.armed.watch.change_at(stop);
        if let Some(change) = change {
            self.armed.module_changed(change, stop, self.journal)?;
        }
        let traces = self.armed.tracer.is_at(stop);
        if traces {
            self.armed.give_up_entries(self.journal)?;
        }
        Ok(usize::from(change.is_some()) + usize::from(traces))
    }

    /// Whether the guest stands at a breakpoint, one of kdbg's own included.
    fn is_breakpoint(&self, stop: &Stop) -> bool {
        self.armed.probes.iter().any(|probe| probe.at(stop).is_some()) || self.armed.is_own(stop)
    }

    /// The probes that a stop belongs to: GDB names one, others may share its address.
    fn probes_at(&mut self, stop: &Stop) -> Result<Vec<usize>> {
        let named = stop.breakpoint.and_then(|number| self.index_of(number));
        if named.is_none() && !stop.hooked && !self.armed.is_own(stop) && !self.armed.returns.is_watched(stop) {
            let reason = stop.reason.as_deref().unwrap_or("no reason given");
            self.journal.warn(format!("the guest stopped where no probe is ({reason}); it was let run on"));
            return Ok(Vec::new());
        }
        let here: Vec<usize> = (0..self.armed.probes.len())
            .filter(|index| Some(*index) == named || self.armed.probes[*index].is_about(stop))
            .filter(|index| !self.armed.probes[*index].dormancy.is_dormant())
            .collect();
        self.charged.extend(&here);
        let mut probes = Vec::new();
        for index in here {
            if self.condition_holds(index, stop)? {
                probes.push(index);
            }
        }
        // Who changes the guest comes last, so that the others see it as it was.
        probes.sort_by_key(|index| {
            let spec = self.armed.probes[*index].spec;
            (spec.force_return.is_some(), !spec.set.is_empty())
        });
        Ok(probes)
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.armed.probes.iter().position(|probe| probe.numbered(Some(number)).is_some())
    }

    fn condition_holds(&mut self, index: usize, stop: &Stop) -> Result<bool> {
        let Some(condition) = &self.armed.probes[index].spec.when else { return Ok(true) };
        match self.armed.collector.holds(&mut self.armed.gdb, condition, stop, self.order.cancel)? {
            Ok(holds) => Ok(holds),
            // A pointer that leads nowhere here is one that leads somewhere at another stop.
            Err(why) if self.armed.probes[index].places() > 1 || why.contains("Cannot access memory") => {
                self.skip(index, stop, &why);
                Ok(false)
            }
            Err(why) => Err(self.bad_condition(index, &why)),
        }
    }

    /// In one copy of an inlined function a variable may be lost that others have: said once, and no hit.
    fn skip(&mut self, index: usize, stop: &Stop, why: &str) {
        let address = stop.address.as_deref().unwrap_or_default();
        let name = &self.armed.probes[index].spec.name;
        let text =
            format!("probe `{name}`: its condition cannot be evaluated at {address} ({why}); stops there are no hits");
        self.journal.warn_once(text);
    }

    /// A condition that parsed but cannot be evaluated: that shows only at a stop.
    fn bad_condition(&self, index: usize, why: &str) -> Error {
        let name = &self.armed.probes[index].spec.name;
        self.order.loaded.diagnose(
            &format!("probes[{index}].when"),
            format!("probe `{name}`: this condition cannot be evaluated where the probe stops"),
            why,
            &["it is evaluated with the arguments and locals of the innermost frame".into()],
        )
    }

    /// GDB stands where a probe is. One on a return waits for that; otherwise it is a hit. Gives how many hits there were.
    fn hit(&mut self, index: usize, stop: &Stop) -> Result<usize> {
        if !matches!(self.armed.probes[index].point, ProbePoint::Return(_)) {
            return self.collect(index, None, stop);
        }
        let dear = self.armed.dear && !self.has_several_cpus();
        let Armed { gdb, collector, returns, .. } = &mut *self.armed;
        let arguments = collector.arguments(gdb, stop, self.order.cancel)?;
        returns.entered(gdb, index, arguments, dear, stop, self.order.cancel)?;
        Ok(0)
    }

    /// QEMU 7.2 aborts if a CPU is interrupted on a stack that is watched, after a stop that came together with another's
    /// (`cpu_check_watchpoint` takes a lock that is taken).
    fn has_several_cpus(&self) -> bool {
        self.order.loaded.recipe.guest.cpus > 1
    }

    /// The calls that have returned to where GDB stands become hits. Gives how many there were.
    fn returned(&mut self, stop: &Stop) -> Result<usize> {
        let Armed { gdb, returns, .. } = &mut *self.armed;
        let calls = returns.returned(gdb, stop, self.order.cancel)?;
        let mut hits = 0;
        for call in &calls {
            let value = self.armed.returns.value(&mut self.armed.gdb, call.probe, stop, self.order.cancel)?;
            self.charged.push(call.probe);
            let returned = Returned { value: value.as_ref(), arguments: &call.arguments };
            hits += self.collect(call.probe, Some(returned), stop)?;
        }
        Ok(hits)
    }

    /// Makes a hit of a stop, unless the probe wants to skip it. Gives how many hits that is.
    fn collect(&mut self, index: usize, call: Option<Returned<'_>>, stop: &Stop) -> Result<usize> {
        let number = self.journal.next_hit();
        let Armed { gdb, collector, probes, .. } = &mut *self.armed;
        let probe = &mut probes[index];
        let spec = probe.spec;
        if probe.skipped < spec.skip {
            probe.skipped += 1;
            return Ok(0);
        }
        let entered = probe.at(stop).filter(|_| call.is_none());
        let entry = entered.and_then(|breakpoint| breakpoint.entry.as_ref());
        let changed = probe.changed(stop);
        let probed = Probed { spec, entry, call, changed: changed.as_ref() };
        let mut hit = match &probe.log {
            Some(message) => collector.log(gdb, probed, message, number, stop, self.order.cancel)?,
            None => collector.collect(gdb, probed, number, stop, self.order.cancel)?,
        };
        for complaint in collector.complaints() {
            self.journal.warn(complaint);
        }
        if hit.frames.is_empty() && hit.message.is_none() {
            return Err(Error::debugger(format!(
                "GDB could not read the stack at hit {number} of probe `{}`",
                spec.name
            ))
            .hint("gdb-mi.log in the run directory has everything that was said"));
        }
        if let Some(cut) = &hit.cut {
            self.journal.warn_once(format!("probe `{}`: a stack is {cut}; what is below it is not known", spec.name));
        }
        // As it is collected: before anything is changed.
        record(&mut self.armed.recorder, &mut self.armed.gdb, &hit, stop, self.order, self.journal)?;
        let altered = self.alter(index, stop, &mut hit.altered);
        self.journal.armed(index, &self.armed.probes[index]);
        self.journal.hit(index, hit)?;
        // What was collected is kept, whatever could not be changed.
        altered?;
        if !self.armed.was_held && self.order.hold.is_some_and(|hold| hold.is(number, &spec.name)) {
            self.to_hold = Some(number);
        }
        self.armed.release(index)?;
        self.armed.watch_from(index, stop, self.journal)?;
        if self.journal.hits_of(index) >= u64::from(spec.limit) {
            // The limit is what the recipe wants: that what is beyond it is not counted is worth no warning.
            let _ = self.disarm(index, stop)?;
        }
        Ok(1)
    }

    /// Takes a probe out that has had its hits. What comes after this stop is counted, where that can be; otherwise gives why not.
    fn disarm(&mut self, index: usize, stop: &Stop) -> Result<std::result::Result<(), String>> {
        let breakpoints = std::mem::take(&mut self.armed.probes[index].breakpoints);
        for breakpoint in &breakpoints {
            self.armed.take_out(breakpoint)?;
        }
        self.armed.probes[index].disarmed = true;
        let Armed { gdb, returns, .. } = &mut *self.armed;
        returns.forget(gdb, index, self.order.cancel)?;
        self.journal.disarmed(index);
        let places: Vec<Location> = breakpoints.into_iter().flat_map(|breakpoint| breakpoint.locations).collect();
        self.armed.count(index, &places, stop)
    }
}
