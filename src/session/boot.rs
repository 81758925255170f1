//! Which accelerator the guest gets, and its boot.

use std::path::Path;
use std::time::Instant;

use super::journal::Journal;
use super::{Order, inputs};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::event::{Phase, millis};
use crate::guest::accelerator::{self, PROOF, Verdict};
use crate::guest::machine::{Accelerator, Machine};
use crate::guest::{BOOT, Guest, Logs};
use crate::kernel::KernelBuild;
use crate::report::model::MachineInfo;

/// What the user wants of the accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// KVM where a boot under it has passed, else TCG.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

/// A guest on its way up.
pub(super) struct Starting {
    guest: Guest,
    accelerator: Accelerator,
    /// The boot is KVM's proof: failing it means TCG, not an error.
    is_proof: bool,
    /// What KVM was refused for in this run; remembered once the same machine has booted under TCG, for then it was
    /// KVM's fault and not the guest's.
    refused: Option<Verdict>,
    started: Instant,
}

/// Starts QEMU under the accelerator of choice.
pub(super) fn start(
    order: &Order<'_>,
    kernel: &KernelBuild,
    initramfs: &Path,
    journal: &mut Journal<'_>,
) -> Result<Starting> {
    let detail = format!("Linux {} on q35", kernel.release);
    order.events.send(Event::PhaseStarted { phase: Phase::Boot, detail });
    let (accelerator, is_proof) = match order.acceleration {
        Acceleration::Kvm => (Accelerator::Kvm, false),
        Acceleration::Tcg => (Accelerator::Tcg, false),
        Acceleration::Auto => match accelerator::known(&order.qemu, order.cache) {
            Verdict::Proved => (Accelerator::Kvm, false),
            Verdict::Untried => (Accelerator::Kvm, true),
            Verdict::Refused { why } => {
                journal.note_accelerator(format!("KVM refused: {why}"));
                (Accelerator::Tcg, false)
            }
        },
    };
    let started = Instant::now();
    match launch(order, kernel, initramfs, accelerator) {
        Ok(guest) => Ok(Starting { guest, accelerator, is_proof, refused: None, started }),
        Err(error) if is_proof => fall_back(order, kernel, initramfs, journal, &error),
        Err(error) => Err(advise(order, error)),
    }
}

/// Waits until the guest can take scripts.
pub(super) fn finish(
    order: &Order<'_>,
    mut starting: Starting,
    kernel: &KernelBuild,
    initramfs: &Path,
    journal: &mut Journal<'_>,
) -> Result<Guest> {
    if starting.is_proof {
        match starting.guest.wait_ready(PROOF, order.cancel) {
            Ok(()) => accelerator::remember(&Verdict::Proved, &order.qemu, order.cache),
            Err(error) => {
                // Gone before its successor writes the same logs.
                drop(starting.guest);
                starting = fall_back(order, kernel, initramfs, journal, &error)?;
            }
        }
    }
    if !starting.is_proof {
        starting.guest.wait_ready(BOOT, order.cancel).map_err(|error| advise(order, error))?;
    }
    if let Some(verdict) = &starting.refused {
        accelerator::remember(verdict, &order.qemu, order.cache);
    }
    announce(order, &mut starting, kernel, journal)?;
    Ok(starting.guest)
}

/// KVM did not pass: says why, and starts under TCG.
fn fall_back(
    order: &Order<'_>,
    kernel: &KernelBuild,
    initramfs: &Path,
    journal: &mut Journal<'_>,
    error: &Error,
) -> Result<Starting> {
    order.cancel.check()?;
    let verdict = Verdict::refused(error);
    if let Verdict::Refused { why } = &verdict {
        journal.note_accelerator(format!("KVM refused: {why}"));
    }
    let started = Instant::now();
    let guest = launch(order, kernel, initramfs, Accelerator::Tcg)?;
    Ok(Starting { guest, accelerator: Accelerator::Tcg, is_proof: false, refused: Some(verdict), started })
}

fn launch(order: &Order<'_>, kernel: &KernelBuild, initramfs: &Path, accelerator: Accelerator) -> Result<Guest> {
    let spec = &order.loaded.recipe.guest;
    let machine = Machine {
        accelerator,
        cpus: spec.cpus,
        memory_mib: spec.memory.mebibytes,
        boot_image: kernel.boot_image.clone(),
        initramfs: initramfs.into(),
    };
    let logs = Logs { console: order.run_dir.file("console.log"), qemu: order.run_dir.file("qemu.log") };
    Guest::start(&machine, &order.qemu, &logs, order.cancel)
}

fn advise(order: &Order<'_>, error: Error) -> Error {
    match order.acceleration {
        Acceleration::Kvm => error.hint("KVM was forced; leave --accel out and kdbg falls back to TCG"),
        Acceleration::Auto | Acceleration::Tcg => error,
    }
}

fn announce(order: &Order<'_>, starting: &mut Starting, kernel: &KernelBuild, journal: &mut Journal<'_>) -> Result<()> {
    let spec = &order.loaded.recipe.guest;
    let really = if starting.guest.uses_kvm()? { Accelerator::Kvm } else { Accelerator::Tcg };
    if really != starting.accelerator {
        journal.note_accelerator(format!("QEMU runs under {} instead", really.as_str()));
    }
    let machine = MachineInfo {
        accelerator: really.as_str().into(),
        qemu: starting.guest.qemu_version().into(),
        cpus: spec.cpus,
        memory: spec.memory.to_string(),
        forked: false,
    };
    inputs::write(order, kernel, &machine)?;
    journal.machine(machine);
    let duration_ms = millis(starting.started.elapsed());
    let note = if journal.accelerator_noted() { " (KVM refused, see kdbg doctor)" } else { "" };
    let name = really.as_str().to_uppercase();
    order.events.fact("guest", format!("q35, {name}{note}  booted in {duration_ms} ms"));
    let summary = format!("the agent answers under {name}");
    order.events.send(Event::PhaseDone { phase: Phase::Boot, summary, duration_ms });
    Ok(())
}
