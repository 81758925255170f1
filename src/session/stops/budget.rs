//! What a probe may cost: a probe for which the guest has stood still too long is disarmed, or the session would crawl.

use std::time::Duration;

use super::Stops;
use crate::error::Result;
use crate::gdb::client::Stop;
use crate::report::text::plural;
use crate::session::probes::Probe;

/// What a probe has cost so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spent {
    /// How long the guest stood still for it.
    time: Duration,
    /// At how many stops, hits or not.
    stops: u64,
}

impl Spent {
    /// At how many stops, hits or not.
    pub(crate) fn stops(&self) -> u64 {
        self.stops
    }
}

impl Stops<'_, '_, '_, '_> {
    /// Charges a stop, from when it was told until now, to the probes that it was about, hits or not.
    pub(super) fn charge(&mut self, stop: &Stop, length: Duration) -> Result<()> {
        let mut charged = std::mem::take(&mut self.charged);
        charged.sort_unstable();
        charged.dedup();
        for index in charged {
            let probe = &mut self.armed.probes[index];
            probe.spent.time += length;
            probe.spent.stops += 1;
            if !probe.disarmed && probe.spent.time > probe.spec.budget {
                self.disarm_as_too_dear(index, stop)?;
            }
        }
        Ok(())
    }

    fn disarm_as_too_dear(&mut self, index: usize, stop: &Stop) -> Result<()> {
        let counted = self.disarm(index, stop)?;
        let Probe { spec, spent, .. } = &self.armed.probes[index];
        let hits = plural(self.journal.hits_of(index), "hit");
        let after = match counted {
            Ok(()) => "from then on entries were only counted".into(),
            Err(why) => format!("what came after that was not counted: {why}"),
        };
        self.journal.warn(format!(
            "probe `{}` was disarmed after {hits} at {}: the guest had stood still for it longer than its `budget` of {}; {after}",
            spec.name,
            plural(spent.stops, "stop"),
            humantime::format_duration(spec.budget),
        ));
        self.journal.over_budget(index);
        Ok(())
    }
}
