//! Probes that are disarmed are counted on, where that can be had without stopping the guest: [counters](crate::gdb::counters).

use super::arm::Armed;
use super::journal::Journal;
use super::probes::Probe;
use crate::error::Result;
use crate::gdb::client::Stop;
use crate::gdb::entry;
use crate::gdb::mi::number;
use crate::gdb::target;
use crate::recipe::ProbePoint;
use crate::report::model::Location;

impl Armed<'_> {
    /// Counts from now on how often what a probe stopped at, these places, is entered, or says why that is not counted. The
    /// probe was just disarmed at this stop, and what stood in its places is taken out.
    pub(super) fn count(
        &mut self,
        index: usize,
        places: &[Location],
        stop: &Stop,
    ) -> Result<std::result::Result<(), String>> {
        let functions = match self.countable(index, places) {
            Ok(functions) => functions,
            Err(why) => return Ok(Err(why)),
        };
        // One that has come through a hook goes on behind the call.
        let at = match stop.hooked {
            true => None,
            false => target::place(&mut self.gdb, stop, self.order.cancel)?.as_deref().and_then(number),
        };
        let Armed { gdb, tracer, counters, order, .. } = self;
        let started = counters.start(gdb, tracer, (index, &functions), at, order.cancel)?;
        Ok(started.map_err(str::to_string))
    }

    /// The functions that begin at these places of a probe; or why their entries would not be what the probe stops at.
    fn countable(&self, index: usize, places: &[Location]) -> std::result::Result<Vec<u64>, String> {
        let Probe { spec, point, .. } = &self.probes[index];
        if spec.when.is_some() {
            return Err("a counter does not look at the probe's `when`".into());
        }
        if !spec.during.is_empty() {
            return Err("a counter does not look at the probe's `during`".into());
        }
        if matches!(point, ProbePoint::Return(_) | ProbePoint::Watch(_)) || places.is_empty() {
            return Err("only entries of functions can be counted".into());
        }
        let mut functions = Vec::new();
        for place in places {
            let Location { symbol, .. } = place;
            if place.inlined {
                return Err(format!("it stops where its function is inlined, in {symbol}"));
            }
            let address = number(&place.address).unwrap_or_default();
            let Some(start) = self.collector.program.symbols.start_in_kernel(address) else {
                return Err(format!("{symbol} is in a module"));
            };
            if start != address && !matches!(point, ProbePoint::Function(_) | ProbePoint::Pattern(_)) {
                return Err("only entries of functions can be counted".into());
            }
            if let Some(other) = self.probe_at_entry(start) {
                return Err(format!("probe `{other}` stops there as well"));
            }
            functions.push(start);
        }
        Ok(functions)
    }

    /// A probe that is still to stop at the first bytes of this function. Under KVM its breakpoint is an instruction there.
    fn probe_at_entry(&self, function: u64) -> Option<&str> {
        let entry = function..function + entry::REACH;
        let is_there = |place: &Location| number(&place.address).is_some_and(|address| entry.contains(&address));
        let is_about = |probe: &&Probe<'_>| {
            !probe.disarmed && probe.breakpoints.iter().flat_map(|breakpoint| &breakpoint.locations).any(is_there)
        };
        self.probes.iter().find(is_about).map(|probe| probe.spec.name.as_str())
    }

    /// Takes in what was counted; nothing is counted any more. Gives whether something was. The guest stands still.
    pub(super) fn stop_counting(&mut self, journal: &mut Journal<'_>) -> Result<bool> {
        let counts = self.counters.stop(&mut self.gdb, self.order.cancel)?;
        let some = !counts.is_empty();
        for (index, count) in counts {
            journal.counted(index, count);
        }
        Ok(some)
    }
}
