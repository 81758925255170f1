//! The story of a run: kernel → guest and GDB → arm → trigger → collect → close.
//!
//! [`run`] always ends with a [`Report`]: what goes wrong on the way becomes its `error`, what was collected until then
//! stays in it. Every hit is on disk before the guest runs on ([`journal`]).

mod boot;
mod inputs;
mod journal;
mod modules;
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
use crate::kernel::kconfig::{self, Options, Refusal, Setting};
use crate::kernel::{self, KernelBuild, Request};
use crate::recipe::kernel::KernelSpec;
use crate::recipe::{self, KernelChoice, Loaded, ProbePoint, Resolved};
use crate::report::model::Report;
use crate::report::text::plural;
use crate::store::{Cache, RunDir};
pub use boot::Acceleration;
use journal::Journal;
use modules::Chosen;

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
    let spec = &order.loaded.recipe.kernel;
    let request = kernel_request(order.loaded, order.resolved)?;
    let log = order.run_dir.file("build.log");
    let build = kernel::obtain(&request, Some(&log), order.cache, order.events, order.cancel)?;
    let state = if build.cached { "cached" } else { "built" };
    order.events.fact("kernel", format!("{} {}  {state} {}", build.release, label(spec), build.key));
    Ok(build)
}

/// What the recipe asks of a kernel: its fragments, then its options, the later winning. The gate on the way to make:
/// nothing gets by [`kconfig::check`].
///
/// # Errors
/// A fragment has a line that is no option, or something is asked for that may not be.
pub fn kernel_request(loaded: &Loaded, resolved: &Resolved) -> Result<Request> {
    let spec = &loaded.recipe.kernel;
    let mut options = Options::default();
    for fragment in &resolved.fragments {
        for setting in kconfig::settings(&fragment.text) {
            let Setting { line, symbol, value } = setting.map_err(|bad| {
                Error::recipe(format!("{} line {}: `{}` is not a Kconfig option", fragment.origin, bad.line, bad.text))
                    .hint("write `CONFIG_NAME=y`, `CONFIG_NAME=n`, `# CONFIG_NAME is not set` or a `#` comment")
            })?;
            kconfig::check(symbol, value).map_err(|Refusal { why, help }| {
                let place = format!("{} line {line}", fragment.origin);
                Error::recipe(format!("{place}: CONFIG_{symbol} cannot be asked for: {why}")).hint(help)
            })?;
            options.set(symbol, value);
        }
    }
    for (symbol, value) in &spec.options {
        let value = kconfig::quoted(&value.0);
        kconfig::check(symbol, &value).map_err(|Refusal { why, help }| {
            let at = format!("kernel.options.{symbol}");
            loaded.diagnose(&at, format!("`{symbol}` cannot be set to this"), why, &[help.into()])
        })?;
        options.set(symbol, &value);
    }
    let choice = recipe::resolve::kernel(loaded)?;
    if matches!(choice, KernelChoice::Package(_)) && !resolved.patches.is_empty() {
        let message = format!("--kernel {choice}: the recipe has patches, and a package cannot be patched");
        return Err(Error::usage(message).hint("name a version, or a recipe without `kernel.patches`"));
    }
    let patches = resolved.patches.clone();
    Ok(Request { choice, patches, recipe: loaded.clone(), options, label: label(spec) })
}

/// `base+net`, or `base+net, 2 patches`.
fn label(spec: &KernelSpec) -> String {
    let fragments = if spec.config.is_empty() { "no fragments".into() } else { spec.config.join("+") };
    match spec.patches.len() {
        0 => fragments,
        1 => format!("{fragments}, 1 patch"),
        count => format!("{fragments}, {count} patches"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked of a kernel by a recipe with these `options`, in a folder with that fragment `mine`.
    fn asked(options: &str, fragment: &str) -> Result<Request> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kconfigs")).unwrap();
        std::fs::write(folder.path().join("kconfigs/mine.config"), fragment).unwrap();
        let text = format!("name: a\nkernel:\n  version: \"6.1\"\n  config: [mine]\n  options: {options}\n");
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let loaded = recipe::load(&folder.path().join("a.yaml")).unwrap();
        kernel_request(&loaded, &recipe::resolve(&loaded).unwrap()).map_err(|error| {
            let message = error.message.replace(folder.path().to_str().unwrap(), "DIR");
            Error { message, ..error }
        })
    }

    #[test]
    fn options_and_fragments_are_merged() {
        let request = asked("{ B: y, LOCALVERSION: -mine }", "CONFIG_A=y\n# CONFIG_B is not set\n").unwrap();
        assert_eq!(request.options.to_fragment(), "CONFIG_A=y\nCONFIG_B=y\nCONFIG_LOCALVERSION=\"-mine\"\n");
    }

    #[test]
    fn nothing_that_make_would_run_gets_to_make() {
        let error = asked(r#"{ LOCALVERSION: "$(touch x)$(shell touch y)" }"#, "").unwrap_err();
        assert_eq!(error.kind, crate::error::ErrorKind::Recipe);
        for part in ["`LOCALVERSION` cannot be set to this", "DIR/a.yaml:5:", "the text holds `$`"] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
        let error = asked("{}", "CONFIG_A=y\nCONFIG_LOCALVERSION=\"$(shell id)\"\n").unwrap_err();
        let expected = "DIR/kconfigs/mine.config line 2: CONFIG_LOCALVERSION cannot be asked for: the text holds `$`";
        assert_eq!(error.message, expected);
        assert!(asked("{ INITRAMFS_SOURCE: shadow }", "").is_err());
    }
}
