//! The story of a run: kernel → guest and GDB → arm → trigger → collect → close.
//!
//! [`run`] always ends with a [`Report`]: what goes wrong on the way becomes its `error`, what was collected until then
//! stays in it. Every hit is on disk before the guest runs on ([`journal`]).

mod boot;
mod inputs;
mod journal;
mod modules;
mod request;
mod trigger;

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::event::{Cancel, Events, Phase};
use crate::gdb::breakpoints::{self, Breakpoint, Program, Unresolved};
use crate::gdb::client::Gdb;
use crate::gdb::collect::{Collector, PerCpu};
use crate::gdb::symbols::Symbols;
use crate::guest::image::{self, Contents};
use crate::kernel::{self, KernelBuild};
use crate::recipe::{Loaded, ProbePoint, Resolved};
use crate::report::model::Report;
use crate::report::text::plural;
use crate::store::{Cache, RunDir};
pub use boot::Acceleration;
use journal::Journal;
use modules::Chosen;
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
    let kernel = journal.timed("kernel_ms", |_| obtain_kernel(order))?;
    journal.kernel(&kernel);
    let modules = modules::choose(order, &kernel)?;
    let initramfs = journal.timed("image_ms", |_| build_image(order, &modules))?;
    let symbols = Symbols::read(&kernel.boot_image)?;
    let boot_started = Instant::now();
    let starting = boot::start(order, &kernel, &initramfs, journal)?;
    // While the guest boots, GDB reads its symbols and resolves the probes: a wrong probe ends the run at once.
    let mut armed = journal.timed("symbols_ms", |journal| load_gdb(order, &kernel, &symbols, journal))?;
    let mut guest = boot::finish(order, starting, &kernel, &initramfs, journal)?;
    journal.time("boot_ms", boot_started.elapsed());
    let ended = journal
        .timed("arm_ms", |_| {
            breakpoints::connect(&mut armed.gdb, &guest.gdb_socket(), order.cancel)?;
            breakpoints::resume(&mut armed.gdb, order.cancel)
        })
        .and_then(|()| journal.timed("trigger_ms", |journal| trigger::run(order, &mut guest, &mut armed, journal)));
    let ended = ended.map_err(|error| guest.cause_of(error));
    armed.gdb.stop();
    guest.stop();
    ended
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
    let state = if build.cached { "cached" } else { "built" };
    order.events.fact("kernel", format!("{} {}  {state} {}", build.release, request.label, build.key));
    Ok(build)
}

fn build_image(order: &Order<'_>, modules: &Chosen) -> Result<PathBuf> {
    let image = &order.resolved.image;
    let contents =
        Contents { name: &image.spec.name, init: &image.init, programs: &image.spec.programs, modules: &modules.guest };
    image::build(&contents, order.cache, order.events)
}

/// GDB with all probes resolved, ready to be connected.
pub(crate) struct Armed<'a> {
    pub(crate) gdb: Gdb,
    pub(crate) collector: Collector<'a>,
    /// One for each probe of the recipe, in its order; none once it is disarmed.
    pub(crate) breakpoints: Vec<Option<Breakpoint>>,
}

fn load_gdb<'a>(
    order: &Order<'a>,
    kernel: &'a KernelBuild,
    symbols: &'a Symbols,
    journal: &mut Journal<'_>,
) -> Result<Armed<'a>> {
    let (events, cancel) = (order.events, order.cancel);
    let probes = plural(order.loaded.recipe.probes.len() as u64, "probe");
    events.phase(Phase::Arm, probes.clone(), || {
        let mut gdb = Gdb::start(&order.gdb, &order.run_dir.file("gdb-mi.log"))?;
        breakpoints::load(&mut gdb, &kernel.vmlinux, cancel)?;
        let program = Program { symbols, tree: &kernel.source_tree, objects: &kernel.objects };
        let breakpoints = resolve_probes(order, kernel, &program, &mut gdb, journal)?;
        let per_cpu = PerCpu::find(&mut gdb, cancel)?;
        let collector = Collector::new(program, per_cpu);
        Ok((Armed { gdb, collector, breakpoints }, format!("{probes} resolved")))
    })
}

fn resolve_probes(
    order: &Order<'_>,
    kernel: &KernelBuild,
    program: &Program<'_>,
    gdb: &mut Gdb,
    journal: &mut Journal<'_>,
) -> Result<Vec<Option<Breakpoint>>> {
    let mut breakpoints = Vec::new();
    for (index, probe) in order.loaded.recipe.probes.iter().enumerate() {
        let path = format!("probes[{index}]");
        let point: ProbePoint = probe
            .at
            .parse()
            .map_err(|_| order.loaded.diagnose(&format!("{path}.at"), "this probe does not parse", "here", &[]))?;
        let set = breakpoints::set(gdb, &point, probe.when.as_deref(), program, order.cancel);
        let breakpoint = set.map_err(|unresolved| explain(order, kernel, &path, &probe.name, &point, unresolved))?;
        journal.probe_resolved(index, &breakpoint.locations);
        breakpoints.push(Some(breakpoint));
    }
    Ok(breakpoints)
}

/// A probe that did not resolve, shown at its line of the recipe.
fn explain(
    order: &Order<'_>,
    kernel: &KernelBuild,
    path: &str,
    probe: &str,
    point: &ProbePoint,
    unresolved: Unresolved,
) -> Error {
    let kernel = format!("vmlinux {} ({})", kernel.release, kernel.key);
    match unresolved {
        Unresolved::Failed(error) => error,
        Unresolved::BadCondition(why) => order.loaded.diagnose(
            &format!("{path}.when"),
            format!("probe `{probe}`: GDB cannot use this condition at {point}"),
            why,
            &["a condition is a C expression over the arguments and locals of the place where the probe stops".into()],
        ),
        Unresolved::NoSuchPlace { near, next_line } => {
            let what = match point {
                ProbePoint::Function(name) => format!("no function `{name}` in this kernel"),
                ProbePoint::FileLine { file, line } => format!("no code at line {line} of {file} in this kernel"),
                ProbePoint::Address(address) => format!("no code at {address:#x} in this kernel"),
            };
            let mut helps = Vec::new();
            if !near.is_empty() {
                helps.push(format!("close by: {}", near.join(", ")));
            }
            if let Some(line) = next_line {
                helps.push(format!("the next line with code is {line}"));
            }
            if matches!(point, ProbePoint::Function(_)) {
                helps.push(
                    "a function that this kernel's configuration leaves out needs its option in `kernel.options`"
                        .into(),
                );
            }
            order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: {what}"),
                format!("not in {kernel}"),
                &helps,
            )
        }
    }
}
