//! Which accelerator the guest gets, and how it comes up: forked from a template, or booted.

use std::path::Path;
use std::time::{Duration, Instant};

use super::journal::Journal;
use super::{Order, inputs};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::event::{Phase, millis};
use crate::guest::accelerator::{self, PROOF, Verdict};
use crate::guest::machine::{Accelerator, Machine, Memory};
use crate::guest::template::{self, About, Making, Template};
use crate::guest::{BOOT, Guest, Logs};
use crate::kernel::KernelBuild;
use crate::recipe::network::NetworkMode;
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

/// What a guest is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) kernel: &'a KernelBuild,
    pub(super) initramfs: &'a Path,
    /// Whether a person will sit at it.
    pub(super) terminal: bool,
}

/// A guest on its way up.
pub(super) struct Starting {
    guest: Guest,
    accelerator: Accelerator,
    way: Way,
    /// The boot is KVM's proof: failing it means TCG, not an error.
    is_proof: bool,
    /// What KVM was refused for in this run; remembered once the same machine has booted under TCG, for then it was
    /// KVM's fault and not the guest's.
    refused: Option<Verdict>,
    started: Instant,
    /// When the agent answered.
    ready: Option<Instant>,
}

/// How a guest comes up.
enum Way {
    /// It boots.
    Cold,
    /// It boots, and is saved as a template then.
    Saved(Making),
    /// It went on from a template, and its agent has answered.
    Forked,
}

/// Starts QEMU under the accelerator of choice. A guest that goes on from a template is ready then.
pub(super) fn start(order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<Starting> {
    let detail = format!("Linux {} on q35", parts.kernel.release);
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
    match launch(order, parts, accelerator, journal) {
        Ok(starting) => Ok(Starting { is_proof, ..starting }),
        Err(error) if is_proof => fall_back(order, parts, journal, &error),
        Err(error) => Err(advise(order, error)),
    }
}

/// Waits until the guest can take scripts.
pub(super) fn finish(
    order: &Order<'_>,
    mut starting: Starting,
    parts: Parts<'_>,
    journal: &mut Journal<'_>,
) -> Result<Guest> {
    if starting.is_proof {
        match starting.wait_ready(PROOF, order) {
            Ok(()) => accelerator::remember(&Verdict::Proved, &order.qemu, order.cache),
            Err(error) => {
                // Gone before its successor writes the same logs.
                drop(starting);
                starting = fall_back(order, parts, journal, &error)?;
            }
        }
    }
    if !starting.is_proof {
        starting.wait_ready(BOOT, order).map_err(|error| advise(order, error))?;
    }
    if let Some(verdict) = &starting.refused {
        accelerator::remember(verdict, &order.qemu, order.cache);
    }
    let mut starting = starting.settle(order, parts, journal)?;
    announce(order, &mut starting, parts.kernel, journal)?;
    Ok(starting.guest)
}

impl Starting {
    fn wait_ready(&mut self, patience: Duration, order: &Order<'_>) -> Result<()> {
        if self.ready.is_none() {
            self.guest.wait_ready(patience, order.cancel)?;
            self.ready = Some(Instant::now());
        }
        Ok(())
    }

    /// A guest that booted to be saved is, and gives way to a fork of it.
    fn settle(mut self, order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>) -> Result<Starting> {
        let making = match std::mem::replace(&mut self.way, Way::Cold) {
            Way::Saved(making) => making,
            way => return Ok(Starting { way, ..self }),
        };
        let started = Instant::now();
        let about = About { release: parts.kernel.release.clone(), image: order.resolved.image.name.clone() };
        match making.save(&mut self.guest, &about, &logs(order).console, order.cache) {
            Ok(template) => {
                self.guest.stop();
                journal.time("template_ms", started.elapsed());
                let machine = machine(order, parts, self.accelerator);
                let (guest, way) = match fork(order, template, &machine, journal)? {
                    Some(guest) => (guest, Way::Forked),
                    None => {
                        let mut guest = Guest::start(&machine, &order.qemu, &logs(order), order.cancel)?;
                        guest.wait_ready(BOOT, order.cancel)?;
                        (guest, Way::Cold)
                    }
                };
                Ok(Starting { guest, way, ready: Some(Instant::now()), ..self })
            }
            Err(error) => {
                order.cancel.check()?;
                journal.warn(format!("this guest was not saved for later runs: {}", error.message));
                self.guest.resume()?;
                Ok(self)
            }
        }
    }
}

/// KVM did not pass: says why, and starts under TCG.
fn fall_back(order: &Order<'_>, parts: Parts<'_>, journal: &mut Journal<'_>, error: &Error) -> Result<Starting> {
    order.cancel.check()?;
    let verdict = Verdict::refused(error);
    if let Verdict::Refused { why } = &verdict {
        journal.note_accelerator(format!("KVM refused: {why}"));
    }
    let starting = launch(order, parts, Accelerator::Tcg, journal)?;
    Ok(Starting { refused: Some(verdict), ..starting })
}

/// Starts a guest: a fork where there is a template, else one that boots.
fn launch(
    order: &Order<'_>,
    parts: Parts<'_>,
    accelerator: Accelerator,
    journal: &mut Journal<'_>,
) -> Result<Starting> {
    let started = Instant::now();
    let machine = machine(order, parts, accelerator);
    let (guest, way) = bring_up(order, parts, &machine, journal)?;
    let ready = matches!(way, Way::Forked).then(Instant::now);
    Ok(Starting { guest, accelerator, way, is_proof: false, refused: None, started, ready })
}

fn bring_up(order: &Order<'_>, parts: Parts<'_>, machine: &Machine, journal: &mut Journal<'_>) -> Result<(Guest, Way)> {
    let boot = |machine: &Machine| Guest::start(machine, &order.qemu, &logs(order), order.cancel);
    if order.cold {
        return Ok((boot(machine)?, Way::Cold));
    }
    let key = template::key(machine, &format!("{} {}", parts.kernel.key, parts.kernel.build_id), &order.qemu);
    let mut template = Template::find(&key, order.cache);
    let mut making = None;
    if template.is_none() {
        let wait = || order.events.fact("guest", "waiting for another kdbg that boots the same guest");
        let lock = order.cache.lock(&format!("template-{key}"), order.cancel, wait)?;
        template = Template::find(&key, order.cache);
        if template.is_none() {
            making = Some(Making::new(&key, lock, order.cache)?);
        }
    }
    if let Some(template) = template
        && let Some(guest) = fork(order, template, machine, journal)?
    {
        return Ok((guest, Way::Forked));
    }
    match making {
        Some(making) => Ok((boot(&making.machine(machine))?, Way::Saved(making))),
        None => Ok((boot(machine)?, Way::Cold)),
    }
}

/// A fork of the template; none if that fails, which is said, and the template is gone then.
fn fork(order: &Order<'_>, template: Template, machine: &Machine, journal: &mut Journal<'_>) -> Result<Option<Guest>> {
    let started = Instant::now();
    match template.fork(machine, &order.qemu, &logs(order), order.cancel) {
        Ok(guest) => {
            journal.time("fork_ms", started.elapsed());
            Ok(Some(guest))
        }
        Err(error) => {
            order.cancel.check()?;
            template.discard();
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

fn announce(order: &Order<'_>, starting: &mut Starting, kernel: &KernelBuild, journal: &mut Journal<'_>) -> Result<()> {
    let spec = &order.loaded.recipe.guest;
    let forked = matches!(starting.way, Way::Forked);
    let really = if starting.guest.uses_kvm()? { Accelerator::Kvm } else { Accelerator::Tcg };
    if really != starting.accelerator {
        journal.note_accelerator(format!("QEMU runs under {} instead", really.as_str()));
    }
    let machine = MachineInfo {
        accelerator: really.as_str().into(),
        qemu: starting.guest.qemu_version().into(),
        cpus: spec.cpus,
        memory: spec.memory.to_string(),
        forked,
        forwards: Vec::new(),
    };
    inputs::write(order, kernel, &machine)?;
    journal.machine(machine);
    let duration = starting.ready.unwrap_or_else(Instant::now).duration_since(starting.started);
    journal.time("boot_ms", duration);
    let duration_ms = millis(duration);
    let note = if journal.accelerator_noted() { " (KVM refused, see kdbg doctor)" } else { "" };
    let name = really.as_str().to_uppercase();
    order
        .events
        .fact("guest", format!("q35, {name}{note}  {} in {duration_ms} ms", if forked { "forked" } else { "booted" }));
    let summary = format!("the agent answers under {name}");
    order.events.send(Event::PhaseDone { phase: Phase::Boot, summary, duration_ms });
    Ok(())
}
