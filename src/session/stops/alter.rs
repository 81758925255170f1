//! What a recipe has kdbg change in the guest at a hit.

use super::Stops;
use crate::error::{Error, Result};
use crate::gdb::alter;
use crate::gdb::client::Stop;
use crate::report::model::Altered;

impl Stops<'_, '_, '_, '_> {
    /// Changes what the probe wants changed, now that its hit is collected. What cannot be changed ends the run: nobody
    /// should believe that it was.
    pub(super) fn alter(&mut self, index: usize, stop: &Stop, altered: &mut Vec<Altered>) -> Result<()> {
        let spec = self.armed.probes[index].spec;
        for (what, value) in &spec.set {
            let done = alter::set(&mut self.armed.gdb, what, value, stop, self.order.cancel)?;
            altered
                .push(done.map_err(|why| self.cannot(index, &format!("set.{what}"), &format!("set `{what}`"), why))?);
        }
        if let Some(value) = &spec.force_return {
            let program = &self.armed.collector.program;
            let done = alter::force_return(&mut self.armed.gdb, value, program, stop, self.order.cancel)?;
            altered.push(done.map_err(|why| self.cannot(index, "force_return", "have its function return", why))?);
            self.returned_early = true;
        }
        if !altered.is_empty() {
            let name = &spec.name;
            self.journal.warn_once(format!(
                "probe `{name}` changes the guest: what comes after its first hit is not what the kernel does by itself"
            ));
        }
        Ok(())
    }

    fn cannot(&self, index: usize, key: &str, what: &str, why: String) -> Error {
        let name = &self.armed.probes[index].spec.name;
        self.order.loaded.diagnose(
            &format!("probes[{index}].{key}"),
            format!("probe `{name}` could not {what}"),
            why,
            &["it is done in the innermost frame, with the arguments and locals of the place where the probe stops"
                .into()],
        )
    }
}
