//! What GDB prints behind addresses of the kernel's image, asked for once.

use std::collections::{BTreeSet, HashMap};

use crate::error::Result;
use crate::event::Cancel;
use crate::gdb::client::Gdb;
use crate::gdb::command;
use crate::unwind::Names;

/// What is known of addresses so far.
#[derive(Debug, Default)]
pub(super) struct Cached {
    known: HashMap<u64, String>,
    wanted: BTreeSet<u64>,
}

/// How often something may want names that it did not want before.
const ROUNDS: usize = 4;

impl Cached {
    /// What `attempt` comes to when it has all names that it wants; it is made again with those that it has asked for.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn settle<T>(
        &mut self,
        gdb: &mut Gdb,
        cancel: &Cancel,
        attempt: &mut dyn FnMut(&mut dyn Names) -> Option<T>,
    ) -> Result<Option<T>> {
        for _ in 0..ROUNDS {
            let result = attempt(self);
            if self.wanted.is_empty() {
                return Ok(result);
            }
            self.ask(gdb, cancel)?;
        }
        Ok(None)
    }

    fn ask(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<()> {
        let wanted: Vec<u64> = std::mem::take(&mut self.wanted).into_iter().collect();
        let commands: Vec<String> =
            wanted.iter().map(|address| command::evaluate(&format!("(void *){address:#x}"))).collect();
        for (address, answer) in wanted.into_iter().zip(gdb.batch(&commands, cancel)?) {
            let behind = answer.value().and_then(|value| value.strip_prefix(&format!("{address:#x}")));
            self.known.insert(address, behind.unwrap_or_default().into());
        }
        Ok(())
    }
}

impl Names for Cached {
    fn behind(&mut self, address: u64) -> Option<String> {
        let known = self.known.get(&address).cloned();
        if known.is_none() {
            self.wanted.insert(address);
        }
        known
    }
}
