//! Probes that are armed only after another one has had a hit, or only while some steps run. Their breakpoints are there and
//! disabled until then, which costs the guest nothing.

use super::arm::Armed;
use super::journal::Journal;
use super::probes::Probe;
use super::stops::Stops;
use crate::error::Result;
use crate::gdb::target;
use crate::guest::Guest;

/// What a probe waits for before it is armed.
#[derive(Debug, Default)]
pub(crate) struct Dormancy {
    /// The probe that has to have a hit first, by its place in the recipe.
    after: Option<usize>,
    /// That it has not had one yet.
    waits: bool,
    /// That no step runs in which it is armed.
    out_of_step: bool,
    /// That GDB has its breakpoints disabled, and there are no hooks.
    pub(super) disabled: bool,
    /// That it has been armed at some time.
    was_armed: bool,
}

impl Dormancy {
    /// That of a probe with this `after` and `during`, before the first of the steps.
    pub(crate) fn new(after: Option<usize>, during: &[String], first_step: Option<&str>) -> Self {
        let out_of_step = !during.is_empty() && !during.iter().any(|name| Some(name.as_str()) == first_step);
        Dormancy { after, waits: after.is_some(), out_of_step, ..Dormancy::default() }
    }

    /// The probe that has to have a hit first, by its place in the recipe.
    pub(crate) fn after(&self) -> Option<usize> {
        self.after
    }

    /// Whether a stop at its place is none of its.
    pub(crate) fn is_dormant(&self) -> bool {
        self.waits || self.out_of_step
    }
}

impl Probe<'_> {
    /// Why it was never armed, if it was not.
    fn never_armed(&self) -> Option<String> {
        let Dormancy { waits, was_armed, .. } = self.dormancy;
        match &self.spec.after {
            _ if was_armed => None,
            Some(first) if waits => Some(format!("`{first}` had no hit")),
            _ if self.dormancy.out_of_step => Some("none of its steps ran".into()),
            _ => self.unwatchable.clone(),
        }
    }
}

impl Armed<'_> {
    /// Enables and disables GDB's breakpoints as the probes want it now. The guest stands still.
    pub(super) fn settle(&mut self) -> Result<()> {
        for index in 0..self.probes.len() {
            let probe = &mut self.probes[index];
            let dormant = probe.dormancy.is_dormant();
            probe.dormancy.was_armed |= !dormant && !probe.breakpoints.is_empty();
            if probe.dormancy.disabled == dormant {
                continue;
            }
            probe.dormancy.disabled = dormant;
            self.make_dear(index)?;
            let verb = if dormant { "disable" } else { "enable" };
            for breakpoint in &self.probes[index].breakpoints {
                self.gdb.must(&format!("-break-{verb} {}", breakpoint.number), self.order.cancel)?;
            }
            self.cheapen(index)?;
        }
        Ok(())
    }

    /// The breakpoints of a probe are new: GDB has them enabled.
    pub(super) fn set_anew(&mut self, index: usize) {
        self.probes[index].dormancy.disabled = false;
    }

    /// A probe has had a hit: those that wait for it are armed.
    pub(super) fn release(&mut self, hit: usize) -> Result<()> {
        let waiting = self.probes.iter_mut().filter(|probe| probe.dormancy.after == Some(hit) && probe.dormancy.waits);
        if waiting.map(|probe| probe.dormancy.waits = false).count() > 0 {
            self.settle()?;
        }
        Ok(())
    }

    /// Whether the breakpoints have to change for a step of this name.
    fn turn_to(&mut self, step: &str) -> bool {
        for probe in self.probes.iter_mut().filter(|probe| !probe.spec.during.is_empty()) {
            probe.dormancy.out_of_step = !probe.spec.during.iter().any(|name| name == step);
        }
        self.probes.iter().any(|probe| probe.dormancy.is_dormant() != probe.dormancy.disabled)
    }

    /// Says which probes were never armed.
    pub(super) fn tell_never_armed(&self, journal: &mut Journal<'_>) {
        for (index, probe) in self.probes.iter().enumerate() {
            if let Some(why) = probe.never_armed() {
                journal.warn(format!("probe `{}` was never armed: {why}", probe.spec.name));
                journal.never_armed(index, why);
            }
        }
    }
}

impl Stops<'_, '_, '_, '_> {
    /// A step is about to begin: the probes of this step are armed, those of others no more. GDB takes no command while the
    /// guest runs, so QEMU pauses it, if there is something to change.
    pub(super) fn before_step(&mut self, step: &str, guest: &mut Guest) -> Result<()> {
        if !self.armed.turn_to(step) {
            return Ok(());
        }
        let stop = target::pause(&mut self.armed.gdb, || guest.pause(), self.order.cancel)?;
        self.armed.settle()?;
        match stop.breakpoint.or(stop.own) {
            Some(_) => self.serve(&stop, guest).map(drop),
            None => target::resume(&mut self.armed.gdb, self.order.cancel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_sleeps_until_the_other_is_hit_and_outside_its_steps() {
        let during = ["second".to_string()];
        let dormant = |after, during: &[String], step| Dormancy::new(after, during, step).is_dormant();
        assert!(!dormant(None, &[], Some("first")) && !dormant(None, &during, Some("second")));
        assert!(dormant(Some(0), &[], Some("first")) && dormant(None, &during, Some("first")));
        assert!(dormant(None, &during, None) && dormant(Some(0), &during, Some("second")));
    }
}
