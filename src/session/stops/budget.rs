//! What a probe may cost: a probe for which the guest has stood still too long is disarmed, or the session would crawl.

use std::time::Duration;

use super::Stops;
use crate::error::Result;
use crate::report::text::plural;

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
    /// Charges a stop of this length to the probes that it was about, hits or not.
    pub(super) fn charge(&mut self, length: Duration) -> Result<()> {
        let mut charged = std::mem::take(&mut self.charged);
        charged.sort_unstable();
        charged.dedup();
        for index in charged {
            let probe = &mut self.armed.probes[index];
            probe.spent.time += length;
            probe.spent.stops += 1;
            let (Spent { time, stops }, spec) = (probe.spent, probe.spec);
            if probe.disarmed || time <= spec.budget {
                continue;
            }
            let hits = plural(self.journal.hits_of(index), "hit");
            self.journal.warn(format!(
                "probe `{}` was disarmed after {hits} at {}: the guest had stood still for it longer than its `budget` of {}; \
                 what came after that was not counted",
                spec.name,
                plural(stops, "stop"),
                humantime::format_duration(spec.budget),
            ));
            self.disarm(index)?;
            self.journal.over_budget(index);
        }
        Ok(())
    }
}
