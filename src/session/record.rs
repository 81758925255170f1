//! The recording of a run: begun when GDB is connected, and at each hit written before the guest runs on.

use std::fs::File;
use std::time::Instant;

use super::Order;
use super::journal::Journal;
use crate::error::{ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::gdb::client::{Gdb, Stop as GdbStop};
use crate::gdb::packets;
use crate::guest::Guest;
use crate::kernel::KernelBuild;
use crate::memory::Ram;
use crate::recording::{self, Head, KernelOf, Stop, Writer};
use crate::report::model::Hit;

/// What records a run.
#[derive(Debug)]
pub(super) struct Recorder {
    writer: Writer,
    ram: Ram,
    cpus: u32,
    /// How many hits are in the recording.
    hits: u64,
}

impl Recorder {
    /// Begins the recording, if one is wanted; the guest stands still. Where it cannot be, that is said, and the run goes on.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn begin(
        order: &Order<'_>,
        kernel: &KernelBuild,
        guest: &Guest,
        gdb: &mut Gdb,
        journal: &mut Journal<'_>,
    ) -> Result<Option<Recorder>> {
        if !(order.record || order.loaded.recipe.record) {
            return Ok(None);
        }
        let Some(base) = guest.forked_from() else {
            journal.warn("nothing is recorded: this guest was booted, and only the memory of one that is forked from a template can be told apart from it; run without --cold");
            return Ok(None);
        };
        let Some(ram) = guest.ram() else {
            journal.warn("nothing is recorded: kdbg may not look into QEMU's process; see `sysctl kernel.yama.ptrace_scope`, which may be 0 or 1, and whether QEMU has rights that kdbg has not");
            return Ok(None);
        };
        let spec = &order.loaded.recipe.guest;
        let cpus = spec.cpus;
        let head = Head {
            recipe: order.loaded.recipe.name.clone(),
            kernel: KernelOf {
                release: kernel.release.clone(),
                build_id: kernel.build_id.clone(),
                vmlinux: kernel.vmlinux.to_string_lossy().into_owned(),
                source: kernel.source_tree.as_ref().map(|tree| tree.to_string_lossy().into_owned()),
            },
            memory: u64::from(spec.memory.mebibytes) << 20,
            cpus,
            description: packets::description(gdb, order.cancel)?,
        };
        let path = order.run_dir.file(recording::FILE);
        let base = File::open(base).or_host(format!("open {}", base.display()));
        match base.and_then(|base| Writer::create(&path, &head, &base)) {
            Ok(writer) => Ok(Some(Recorder { writer, ram, cpus, hits: 0 })),
            Err(error) => {
                journal.warn(format!("nothing is recorded: {}", error.message));
                // What there is of it is of no use.
                let _ = std::fs::remove_file(path);
                Ok(None)
            }
        }
    }

    /// Records a hit at which the guest stands.
    fn hit(&mut self, gdb: &mut Gdb, hit: &Hit, stop: &GdbStop, cancel: &Cancel) -> Result<()> {
        let stopped = u32::try_from(stop.thread.unwrap_or(1).saturating_sub(1)).unwrap_or(0);
        let registers = packets::registers(gdb, self.cpus, stopped, cancel)?;
        let recorded = Stop { index: hit.index, probe: hit.probe.clone(), cpu: stopped, registers };
        self.writer.hit(recorded, &self.ram).or_host("record a hit")?;
        self.hits += 1;
        Ok(())
    }
}

/// Records a hit at which the guest stands, if the run is recorded. Where that fails for the host's sake, the recording ends
/// there, and the run goes on.
///
/// # Errors
/// GDB failed.
pub(super) fn record(
    recorder: &mut Option<Recorder>,
    gdb: &mut Gdb,
    hit: &Hit,
    stop: &GdbStop,
    order: &Order<'_>,
    journal: &mut Journal<'_>,
) -> Result<()> {
    let Some(recording) = recorder else { return Ok(()) };
    let begun = Instant::now();
    let recorded = recording.hit(gdb, hit, stop, order.cancel);
    journal.time("record_ms", begun.elapsed());
    match recorded {
        Err(error) if error.kind == ErrorKind::Host => {
            journal.warn(format!("the recording ends with {} of the hits: {}", recording.hits, error.message));
            *recorder = None;
            Ok(())
        }
        recorded => recorded,
    }
}
