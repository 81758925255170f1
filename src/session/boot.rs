//! Which accelerator the guest gets, and how it comes up: forked from a template, or booted.

use std::path::Path;
use std::time::{Duration, Instant};

use super::journal::Journal;
use super::{Order, inputs};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::event::{Phase, millis};
use crate::guest::accelerator::{self, PROOF, Verdict};
use crate::guest::machine::{Accelerator, Machine, Memory};
use crate::guest::template::{self, About, Making, Template};
use crate::guest::{BOOT, Guest, Logs};
use crate::kernel::KernelBuild;
use crate::recipe::network::NetworkMode;
use crate::report::model::MachineInfo;
use crate::store::Lock;

/// As long as nobody waits: a year.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

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

/// What a guest is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) kernel: &'a KernelBuild,
    pub(super) initramfs: &'a Path,
    /// Whether a person will sit at it.
    pub(super) terminal: bool,
}

/// A guest on its way up, and then the guest.
pub(super) struct Boot {
    pub(super) guest: Guest,
    accelerator: Accelerator,
    /// The template that it will be saved as, when it has booted.
    making: Option<Making>,
    /// It went on from a template.
    forked: bool,
    /// The boot is KVM's proof: failing it means TCG, not an error.
    is_proof: bool,
    /// What KVM was refused for in this run; remembered once the same machine has booted under TCG, for then it was
    /// KVM's fault and not the guest's.
    refused: Option<Verdict>,
    started: Instant,
    /// How long it took until the agent answered, once it has.
    took: Option<Duration>,
}

/// Starts QEMU under the accelerator of choice. A guest that goes on from a template is ready then.
pub(super) fn start(order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<Boot> {
    let detail = format!("Linux {} on q35", parts.kernel.release);
    order.events.send(Event::PhaseStarted { phase: Phase::Boot, detail });
    let (accelerator, is_proof) = match order.acceleration {
        Acceleration::Kvm => (Accelerator::Kvm, false),
        Acceleration::Tcg => (Accelerator::Tcg, false),
        Acceleration::Auto => match accelerator::known(&order.qemu, order.cache) {
            Verdict::Proved => (Accelerator::Kvm, false),
            Verdict::Untried if order.early => {
                journal.note_accelerator("KVM was not tried: a boot that a debugger may halt proves nothing".into());
                (Accelerator::Tcg, false)
            }
            Verdict::Untried => (Accelerator::Kvm, true),
            Verdict::Refused { why } => {
                journal.note_accelerator(format!("KVM refused: {why}"));
                (Accelerator::Tcg, false)
            }
        },
    };
    match launch(order, parts, accelerator, journal) {
        Ok(boot) => Ok(Boot { is_proof, ..boot }),
        Err(error) if is_proof => fall_back(order, parts, journal, error),
        Err(error) => Err(advise(order, error)),
    }
}

impl Boot {
    /// Waits until the guest can take scripts. After an error the guest is the one that it is about.
    pub(super) fn finish(&mut self, order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<()> {
        if self.is_proof {
            match self.wait_ready(PROOF, order, parts, journal) {
                Ok(()) => accelerator::remember(&Verdict::Proved, &order.qemu, order.cache),
                Err(error) => {
                    // Gone before its successor writes the same logs. What its kernel said is not this run's.
                    self.guest.stop();
                    *self = fall_back(order, parts, journal, error)?;
                }
            }
        }
        // While a debugger has it, a guest takes as long as the debugger does.
        let patience = if order.early { FOREVER } else { BOOT };
        self.wait_ready(patience, order, parts, journal).map_err(|error| advise(order, error))?;
        if let Some(verdict) = &self.refused {
            accelerator::remember(verdict, &order.qemu, order.cache);
        }
        self.settle(order, parts, journal)?;
        self.announce(order, parts, journal)
    }

    /// Waits until the agent answers. Where QEMU crashes under a guest whose memory is a template's file, the disk may be
    /// full, and another guest boots without one.
    fn wait_ready(
        &mut self,
        patience: Duration,
        order: &Order<'_>,
        parts: Parts<'_>,
        journal: &mut Journal<'_>,
    ) -> Result<()> {
        if self.took.is_some() {
            return Ok(());
        }
        let ready = match self.guest.wait_ready(patience, order.cancel) {
            Err(error) if self.guest.is_crashed() && self.making.take().is_some() => {
                let machine = machine(order, parts, self.accelerator);
                let why = unsaved(order, &machine, error);
                self.guest = boot(order, &machine)?;
                let ready = self.guest.wait_ready(patience, order.cancel)?;
                journal.warn(why);
                ready
            }
            ready => ready?,
        };
        self.took = Some(ready.duration_since(self.started));
        Ok(())
    }

    /// A guest that booted to be saved is, and gives way to a fork of it; to one that boots, if that fails.
    fn settle(&mut self, order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<()> {
        let Some(making) = self.making.take() else { return Ok(()) };
        let started = Instant::now();
        let machine = machine(order, parts, self.accelerator);
        let about = About::new(&parts.kernel.release, &order.resolved.image.name, &machine);
        let saved = making.save(&mut self.guest, &about, &logs(order).console, order.cache);
        self.guest.stop();
        let fork = match saved {
            Ok(template) => {
                journal.time("template_ms", started.elapsed());
                fork(order, template, &machine, journal)?
            }
            Err(error) => {
                order.cancel.check()?;
                journal.warn(unsaved(order, &machine, error));
                None
            }
        };
        if let Some(guest) = fork {
            (self.guest, self.forked) = (guest, true);
        } else {
            self.guest = boot(order, &machine)?;
            self.guest.wait_ready(BOOT, order.cancel)?;
        }
        self.took = self.took.map(|took| took + started.elapsed());
        Ok(())
    }

    fn announce(&mut self, order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<()> {
        let spec = &order.loaded.recipe.guest;
        let forked = self.forked;
        let really = if self.guest.uses_kvm()? { Accelerator::Kvm } else { Accelerator::Tcg };
        if really != self.accelerator {
            journal.note_accelerator(format!("QEMU runs under {} instead", really.as_str()));
        }
        let machine = MachineInfo {
            accelerator: really.as_str().into(),
            qemu: self.guest.qemu_version().into(),
            cpus: spec.cpus,
            memory: spec.memory.to_string(),
            forked,
            forwards: Vec::new(),
        };
        inputs::write(order, parts, &machine)?;
        journal.machine(machine);
        let duration = self.took.unwrap_or_default();
        journal.time("boot_ms", duration);
        let duration_ms = millis(duration);
        let note = if journal.accelerator_noted() { " (KVM refused, see kdbg doctor)" } else { "" };
        let name = really.as_str().to_uppercase();
        order.events.fact(
            "guest",
            format!("q35, {name}{note}  {} in {duration_ms} ms", if forked { "forked" } else { "booted" }),
        );
        let summary = format!("the agent answers under {name}");
        order.events.send(Event::PhaseDone { phase: Phase::Boot, summary, duration_ms });
        Ok(())
    }
}

/// Says that this run's guest is no template, and why. That the disk is full does not show in what QEMU dies of.
fn unsaved(order: &Order<'_>, machine: &Machine, error: Error) -> String {
    let why = template::room(machine, order.cache).err().unwrap_or(error);
    let first = why.message.lines().next().unwrap_or_default().trim_end_matches([';', ':']);
    let hint = why.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("the guest was not saved for later runs: {first}{hint}")
}

/// KVM did not pass: says why, and starts under TCG.
///
/// # Errors
/// It was not KVM that failed but the host, or TCG fails too.
fn fall_back(order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>, error: Error) -> Result<Boot> {
    order.cancel.check()?;
    if error.kind != ErrorKind::Guest {
        return Err(error);
    }
    let verdict = Verdict::refused(&error);
    if let Verdict::Refused { why } = &verdict {
        journal.note_accelerator(format!("KVM refused: {why}"));
    }
    let boot = launch(order, parts, Accelerator::Tcg, journal)?;
    Ok(Boot { refused: Some(verdict), ..boot })
}

/// Starts a guest: a fork where there is a template, else one that boots.
fn launch(order: &Order<'_>, parts: Parts<'_>, accelerator: Accelerator, journal: &mut Journal<'_>) -> Result<Boot> {
    let started = Instant::now();
    let machine = &machine(order, parts, accelerator);
    let booting = |guest, making| Boot {
        guest,
        accelerator,
        making,
        forked: false,
        is_proof: false,
        refused: None,
        started,
        took: None,
    };
    if order.cold || order.early {
        return Ok(booting(boot(order, machine)?, None));
    }
    let key = template::key(machine, &format!("{} {}", parts.kernel.key, parts.kernel.build_id), &order.qemu);
    let template = match Template::find(&key, order.cache) {
        Some(template) => Ok(template),
        None => {
            let wait = || order.events.fact("guest", "waiting for another kdbg that boots the same guest");
            let lock = order.cache.lock(&format!("template-{key}"), order.cancel, wait)?;
            Template::find(&key, order.cache).ok_or(lock)
        }
    };
    match template {
        Ok(template) => match fork(order, template, machine, journal)? {
            Some(guest) => Ok(Boot { forked: true, took: Some(started.elapsed()), ..booting(guest, None) }),
            None => Ok(booting(boot(order, machine)?, None)),
        },
        Err(lock) => {
            let (guest, making) = boot_to_save(order, &key, machine, lock, journal)?;
            Ok(booting(guest, making))
        }
    }
}

/// Starts a guest that boots and will be saved; one that will not, where that cannot be.
fn boot_to_save(
    order: &Order<'_>,
    key: &str,
    machine: &Machine,
    lock: Lock,
    journal: &mut Journal<'_>,
) -> Result<(Guest, Option<Making>)> {
    let saved = Making::new(key, machine, lock, order.cache)
        .and_then(|making| Ok((boot(order, &making.machine(machine))?, Some(making))));
    saved.or_else(|error| {
        order.cancel.check()?;
        let why = unsaved(order, machine, error);
        let guest = boot(order, machine)?;
        journal.warn(why);
        Ok((guest, None))
    })
}

/// Starts a guest that boots.
fn boot(order: &Order<'_>, machine: &Machine) -> Result<Guest> {
    Guest::start(machine, &order.qemu, &logs(order), order.cancel)
}

/// A fork of the template; none if the template is of no use, which is said, and it is thrown away.
fn fork(order: &Order<'_>, template: Template, machine: &Machine, journal: &mut Journal<'_>) -> Result<Option<Guest>> {
    let started = Instant::now();
    match template.fork(machine, &order.qemu, &logs(order), order.cancel) {
        Ok(guest) => {
            journal.time("fork_ms", started.elapsed());
            Ok(Some(guest))
        }
        Err(error) if error.kind == ErrorKind::Host => Err(error),
        Err(error) => {
            order.cancel.check()?;
            template.discard(order.cache);
            let why = error.message.lines().next().unwrap_or_default();
            journal.warn(format!("the saved guest did not go on, so it was thrown away and one was booted: {why}"));
            Ok(None)
        }
    }
}

fn machine(order: &Order<'_>, parts: Parts<'_>, accelerator: Accelerator) -> Machine {
    let spec = &order.loaded.recipe.guest;
    Machine {
        accelerator,
        cpus: spec.cpus,
        memory_mib: spec.memory.mebibytes,
        memory: Memory::Own,
        nic: spec.network.mode == NetworkMode::User,
        terminal: parts.terminal,
        frozen: order.early,
        boot_image: parts.kernel.boot_image.clone(),
        initramfs: parts.initramfs.into(),
    }
}

fn logs(order: &Order<'_>) -> Logs {
    Logs { console: order.run_dir.file("console.log"), qemu: order.run_dir.file("qemu.log") }
}

fn advise(order: &Order<'_>, error: Error) -> Error {
    match order.acceleration {
        Acceleration::Kvm => error.hint("KVM was forced; leave --accel out and kdbg falls back to TCG"),
        Acceleration::Auto | Acceleration::Tcg => error,
    }
}
