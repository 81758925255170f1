//! Probes that watch an expression: set when there is a guest to watch, those with `after` in the frame of that probe's hit.

use super::arm::Armed;
use super::journal::Journal;
use super::probes::Probe;
use crate::error::Result;
use crate::gdb::breakpoints::Unresolved;
use crate::gdb::client::Stop;
use crate::gdb::watch;
use crate::recipe::ProbePoint;
use crate::report::path::plain_symbol;

impl Armed<'_> {
    /// Whether the expression of a probe can be watched at all.
    pub(super) fn check_watch(&mut self, index: usize, expression: &str) -> std::result::Result<(), Unresolved> {
        let after = self.probes[index].dormancy.after().map(|after| &self.probes[after].point);
        let function = after.and_then(ProbePoint::function).map(|name| plain_symbol(name).to_string());
        let later = after.is_some();
        watch::check(&mut self.gdb, expression, function.as_deref(), later, self.order.cancel)
    }

    /// The guest was just connected: what needs no frame is watched from now on.
    pub(super) fn watch_globals(&mut self, journal: &mut Journal<'_>) -> Result<()> {
        for index in 0..self.probes.len() {
            if self.probes[index].dormancy.after().is_none()
                && let Some(Err(why)) = self.watch(index, None, journal)?
            {
                return Err(self.explain(index, Unresolved::BadWatch(why)));
            }
        }
        self.settle()
    }

    /// A probe has a hit at `stop`: what those watch that wait for it is looked up there. One that cannot be watched there waits
    /// for the next hit.
    pub(super) fn watch_from(&mut self, hit: usize, stop: &Stop, journal: &mut Journal<'_>) -> Result<()> {
        for index in 0..self.probes.len() {
            if self.probes[index].dormancy.after() != Some(hit) {
                continue;
            }
            if let Some(Err(why)) = self.watch(index, Some(stop), journal)? {
                let Probe { spec, .. } = &self.probes[index];
                let first = &self.probes[hit].spec.name;
                let why = format!("it could not be watched at a hit of `{first}`: {why}");
                journal.warn_once(format!("probe `{}`: {why}", spec.name));
                self.probes[index].unwatchable = Some(why);
            }
        }
        self.settle()
    }

    /// Watches what a probe wants watched, unless it does already or is done with it.
    fn watch(
        &mut self,
        index: usize,
        stop: Option<&Stop>,
        journal: &mut Journal<'_>,
    ) -> Result<Option<std::result::Result<(), String>>> {
        let probe = &self.probes[index];
        let ProbePoint::Watch(expression) = &probe.point else { return Ok(None) };
        if probe.disarmed || !probe.breakpoints.is_empty() {
            return Ok(None);
        }
        let made = watch::set(&mut self.gdb, expression, stop, self.order.cancel)?;
        let breakpoint = match made {
            Ok(breakpoint) => breakpoint,
            Err(why) => return Ok(Some(Err(why))),
        };
        journal.probe_resolved(index, &breakpoint.locations, "");
        self.set_anew(index);
        self.probes[index].breakpoints.push(breakpoint);
        Ok(Some(Ok(())))
    }
}
