//! The story of a run: kernel → guest and GDB → arm → trigger → collect → close.
//!
//! [`run`] always ends with a [`Report`]: what goes wrong on the way becomes its `error`, what was collected until then
//! stays in it. Every hit is on disk before the guest runs on ([`journal`]).

mod arm;
mod boot;
mod capture;
mod cheap;
mod counting;
pub mod debug;
mod dormant;
mod files;
mod handover;
mod hang;
mod heartbeat;
mod hold;
mod image;
mod incidents;
mod inputs;
mod journal;
mod modules;
mod probes;
mod record;
mod request;
mod script;
mod setup;
pub mod shell;
mod spool;
mod step;
mod stops;
pub mod symbols;
mod trigger;
mod unresolved;
mod watches;

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{ErrorKind, Result};
use crate::event::{Cancel, Events};
use crate::gdb::read_ahead::read_ahead;
use crate::gdb::symbols::Symbols;
use crate::gdb::target;
use crate::guest::Guest;
use crate::kernel::{self, KernelBuild};
use crate::recipe::{Loaded, Resolved};
use crate::report::model::Report;
use crate::server::Address;
use crate::store::{Cache, RunDir};
use arm::Armed;
pub use boot::Acceleration;
use boot::{Boot, Parts};
use capture::Capture;
pub use handover::{ATTACH, HELD, Held};
pub use hold::Hold;
use journal::Journal;
use record::Recorder;
pub use request::kernel_request;

/// Everything a run is given.
#[derive(Debug)]
pub struct Order<'a> {
    /// The recipe.
    pub loaded: &'a Loaded,
    /// The files that it names.
    pub resolved: &'a Resolved,
    /// Which accelerator to use.
    pub acceleration: Acceleration,
    /// Whether the guest boots even where one is saved.
    pub cold: bool,
    /// Whether the guest boots and waits for a debugger before its first instruction.
    pub early: bool,
    /// Whether the guest stops at breakpoints even where there is a way that costs less.
    pub breakpoints: bool,
    /// Whether the run is recorded even where the recipe does not say so.
    pub record: bool,
    /// Where the guest is held for a debugger.
    pub hold: Option<&'a Hold>,
    /// Where debuggers find it then.
    pub listen: Address,
    /// QEMU.
    pub qemu: PathBuf,
    /// GDB.
    pub gdb: PathBuf,
    /// Where results go.
    pub run_dir: &'a RunDir,
    /// The cache.
    pub cache: &'a Cache,
    /// Where progress goes.
    pub events: &'a Events,
    /// Whether to stop.
    pub cancel: &'a Cancel,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Ended {
    /// The result.
    pub report: Report,
    /// The kernel that ran, if it got that far.
    pub kernel: Option<KernelBuild>,
}

/// Runs the recipe.
pub fn run(order: &Order<'_>) -> Ended {
    let mut journal = Journal::new(order);
    let result = story(order, &mut journal);
    journal.close(result)
}

fn story(order: &Order<'_>, journal: &mut Journal<'_>) -> Result<()> {
    // Before the kernel is built, which takes minutes: what the image lacks is said at once.
    let packages = journal.timed("packages_ms", |_| image::obtain_packages(order))?;
    let kernel = journal.timed("kernel_ms", |_| obtain_kernel(order))?;
    journal.kernel(&kernel);
    // GDB reads its symbols while the image is made and QEMU starts, and resolves the probes while the guest boots: a wrong
    // probe ends the run at once.
    let gdb = arm::start_gdb(order, &kernel)?;
    let modules = modules::choose(order, &kernel)?;
    let initramfs = journal.timed("image_ms", |_| image::build(order, packages.as_ref(), &modules))?;
    let symbols = Symbols::read(&kernel.boot_image)?;
    let parts = Parts { kernel: &kernel, initramfs: &initramfs, terminal: false };
    let started = Instant::now();
    let mut boot = boot::start(order, parts, journal)?;
    let mut armed =
        journal.timed("symbols_ms", |journal| arm::load_gdb(order, gdb, &kernel, symbols, &modules, journal));
    let mut capture = Capture::new(order);
    let ended = match &mut armed {
        Ok(armed) => play(order, parts, started, &mut boot, armed, &mut capture, journal),
        Err(error) => Err(error.clone()),
    };
    // However it ended: what the guest's kernel said is in the report, with its stacks.
    let ended = ended.map_err(|error| boot.guest.cause_of(error));
    journal.note_incidents(boot.guest.stop());
    capture.close(journal);
    if let Ok(mut armed) = armed {
        // GDB without a guest still knows where modules were.
        incidents::decode(journal, &mut armed, &kernel.vmlinux, order.cancel);
        armed.gdb.stop();
    }
    incidents::verdict(ended, journal.incidents())
}

/// What happens while there is a guest and a GDB.
fn play(
    order: &Order<'_>,
    parts: Parts<'_>,
    started: Instant,
    boot: &mut Boot,
    armed: &mut Armed<'_>,
    capture: &mut Capture<'_>,
    journal: &mut Journal<'_>,
) -> Result<()> {
    boot.finish(order, parts, journal)?;
    let guest = &mut boot.guest;
    journal.timed("setup_ms", |journal| setup::run(order, parts.kernel, guest, journal))?;
    journal.timed("capture_ms", |_| capture.begin(guest))?;
    journal.timed("arm_ms", |journal| {
        target::connect(&mut armed.gdb, &guest.gdb_socket(), order.cancel)?;
        armed.collector.connected(&mut armed.gdb, guest.ram(), order.cancel)?;
        armed.take_loaded(journal)?;
        armed.watch_globals(journal)?;
        armed.make_cheap(guest, journal)?;
        if order.hold == Some(&Hold::Fail) {
            guest.keep()?;
        }
        armed.recorder = Recorder::begin(order, parts.kernel, guest, &mut armed.gdb, journal)?;
        target::resume(&mut armed.gdb, order.cancel)?;
        read_ahead(&mut armed.gdb)
    })?;
    journal.time("ready_ms", started.elapsed());
    let ran = journal.timed("trigger_ms", |journal| trigger::run(order, guest, armed, journal));
    armed.tell_pending(journal);
    armed.tell_dear(journal);
    armed.tell_never_armed(journal);
    hold::tell_not_held(order, armed, journal);
    // What a kernel says of an oops may still be on its way.
    let ran = ran.and_then(|()| guest.check_at_the_end());
    hold::failure::hold(order, guest, armed, journal, ran)?;
    bring_out(order, guest, armed, capture, journal)?;
    guest.check_at_the_end()
}

/// Takes in what was counted, and has the guest end the captures and send the files that are wanted, once GDB has left it. A GDB
/// that does not halt or leave it is a warning: the run has what it is for.
fn bring_out(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    capture: &Capture<'_>,
    journal: &mut Journal<'_>,
) -> Result<()> {
    let files = files::wanted(order, journal);
    let goes_on = !files.is_empty() || capture.is_on();
    if !goes_on && !armed.counters.are_in_use() {
        return Ok(());
    }
    let halted = target::halt(&mut armed.gdb, || guest.pause(), order.cancel);
    let counted = halted.and_then(|()| armed.stop_counting(journal).map(drop));
    let left = counted.and_then(|()| if goes_on { target::leave(&mut armed.gdb, order.cancel) } else { Ok(()) });
    match left.map_err(|error| guest.cause_of(error)) {
        Err(error) if error.kind == ErrorKind::Debugger => {
            let why = error.message.lines().next().unwrap_or_default();
            journal.warn(format!(
                "the last packets, files that steps name, and counts of disarmed probes were not brought back: {why}"
            ));
            return Ok(());
        }
        left => left?,
    }
    if !goes_on {
        return Ok(());
    }
    journal.timed("capture_ms", |journal| capture.end(guest, journal))?;
    files::bring_back(order, &files, guest, journal)
}

/// Deletes the journal of a run whose report is written.
pub fn forget_journal(run_dir: &RunDir) {
    let _ = std::fs::remove_file(run_dir.file(journal::HITS));
}

/// The kernel that the recipe asks for.
///
/// # Errors
/// As [`kernel::obtain`].
pub fn obtain_kernel(order: &Order<'_>) -> Result<KernelBuild> {
    let request = kernel_request(order.loaded, order.resolved)?;
    let log = order.run_dir.file("build.log");
    let build = kernel::obtain(&request, Some(&log), order.cache, order.events, order.cancel)?;
    let label = if build.is_packaged() { &build.source_id } else { &request.label };
    order.events.fact("kernel", format!("{} {label}  {}", build.release, build.state()));
    Ok(build)
}

/// Bits that a script cannot guess, so that its output is not taken for an end mark.
fn nonce() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}
