//! Stops that cost little, where they can be had and pay: [hooks](crate::gdb::hooks) in place of breakpoints.

use super::arm::Armed;
use super::journal::Journal;
use super::probes::Probe;
use crate::error::Result;
use crate::gdb::breakpoints::{self, Breakpoint};
use crate::gdb::client::Stop;
use crate::gdb::target;
use crate::guest::Guest;
use crate::host::version::Version;
use crate::recipe::point::ProbePoint;

/// From this QEMU on a stop at a breakpoint leaves the translated code alone.
const CHEAP_BREAKPOINTS: &str = "10.2";

/// So many dear stops take longer than the build of a kernel that has cheap ones is worth thinking about.
const MANY: u64 = 100;

/// Whether a stop at a breakpoint is dear.
fn are_breakpoints_dear(guest: &mut Guest) -> Result<bool> {
    let cheap = Version::parse(CHEAP_BREAKPOINTS);
    Ok(!guest.uses_kvm()? && Version::parse(guest.qemu_version()) < cheap)
}

impl Armed<'_> {
    /// Makes stops cheap, those of the probes that get their places later too. The guest stands still.
    pub(super) fn make_cheap(&mut self, guest: &mut Guest, journal: &mut Journal<'_>) -> Result<()> {
        self.dear = !self.order.breakpoints && are_breakpoints_dear(guest)?;
        for index in 0..self.probes.len() {
            self.cheapen(index)?;
            journal.armed(index, &self.probes[index]);
        }
        Ok(())
    }

    /// Puts hooks in the place of what can be hooked of a probe.
    pub(super) fn cheapen(&mut self, index: usize) -> Result<()> {
        let probe = &mut self.probes[index];
        let pays = self.dear && !probe.dormancy.disabled;
        for breakpoint in probe.breakpoints.iter_mut().filter(|_| pays) {
            let number = breakpoint.number;
            let (program, cancel) = (&self.collector.program, self.order.cancel);
            for location in breakpoint.locations.iter_mut().filter(|location| !location.inlined) {
                let Some(function) = program.entry(&location.address) else { continue };
                location.cheap = self.hooks.hook(&mut self.gdb, &mut self.tracer, function, number, cancel)?;
            }
            breakpoints::disable_hooked(&mut self.gdb, breakpoint, cancel)?;
        }
        Ok(())
    }

    /// Puts breakpoints in the place of a probe's hooks.
    pub(super) fn make_dear(&mut self, index: usize) -> Result<()> {
        for breakpoint in &mut self.probes[index].breakpoints {
            self.hooks.unhook(&mut self.gdb, breakpoint.number, self.order.cancel)?;
            breakpoints::enable_hooked(&mut self.gdb, breakpoint, self.order.cancel)?;
            breakpoint.locations.iter_mut().for_each(|location| location.cheap = false);
        }
        Ok(())
    }

    /// A stop that GDB has not told of, if there is one: where the watchpoints of several CPUs are reached together, it tells of
    /// one only.
    pub(super) fn untold(&mut self, told: &Stop) -> Result<Option<Stop>> {
        let cpus = u64::from(self.order.loaded.recipe.guest.cpus);
        if cpus == 1 || !self.dear {
            return Ok(None);
        }
        for (thread, at) in (1..).zip(target::places(&mut self.gdb, cpus, self.order.cancel)?) {
            let own = self.hooks.watchpoint_at(at);
            if own.is_some() {
                let (address, thread) = (Some(format!("{at:#x}")), Some(thread));
                return Ok(Some(Stop { own, breakpoint: None, address, thread, written: Vec::new(), ..told.clone() }));
            }
        }
        Ok(None)
    }

    /// Says what would have made stops cheap, if there were many that could have been.
    pub(super) fn tell_dear(&self, journal: &mut Journal<'_>) {
        if !self.dear || self.hooks.are_there() || self.kernel.source_tree.is_none() {
            return;
        }
        let is_at_entry = |probe: &&Probe<'_>| matches!(probe.point, ProbePoint::Function(_) | ProbePoint::Pattern(_));
        let at_entries = self.probes.iter().filter(is_at_entry);
        let stops: u64 = at_entries.map(|probe| probe.spent.stops()).sum();
        if stops >= MANY {
            journal.warn(format!(
                "the guest was stopped {stops} times at the entries of functions, and each time QEMU threw its translated code away; \
                 in a kernel that can trace functions such a stop takes 3 ms: add the fragment `trace` to `kernel.config`"
            ));
        }
    }

    /// Takes a breakpoint out, and the hooks in its place.
    pub(super) fn take_out(&mut self, breakpoint: &Breakpoint) -> Result<()> {
        self.hooks.unhook(&mut self.gdb, breakpoint.number, self.order.cancel)?;
        breakpoints::delete(&mut self.gdb, breakpoint.number, self.order.cancel)
    }

    /// The guest is about to trace functions by itself: breakpoints take over from the hooks, and nothing from the counters.
    pub(super) fn give_up_entries(&mut self, journal: &mut Journal<'_>) -> Result<()> {
        const BEGAN: &str = "the guest began to trace functions itself: from then on";
        self.tracer.begins(&mut self.gdb, self.order.cancel)?;
        if self.stop_counting(journal)? {
            journal.warn(format!("{BEGAN} what probes that had been disarmed would have seen was not counted"));
        }
        let stopped_cheaply = self.hooks.are_in_use();
        self.dear = false;
        self.hooks.give_up(&mut self.gdb, self.order.cancel)?;
        for index in 0..self.probes.len() {
            self.make_dear(index)?;
            journal.armed(index, &self.probes[index]);
        }
        if stopped_cheaply {
            journal.warn(format!("{BEGAN} it stopped at breakpoints, which is slower"));
        }
        Ok(())
    }
}
