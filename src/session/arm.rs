//! Probes on their way to breakpoints: before the guest runs, and again whenever a module comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Order;
use super::journal::Journal;
use super::modules::Chosen;
use crate::error::{Error, Result};
use crate::event::Phase;
use crate::gdb::breakpoints::{self, Breakpoint, Unresolved};
use crate::gdb::client::{Asked, Gdb, Stop};
use crate::gdb::collect::Collector;
use crate::gdb::modules::{Change, Found, Watch};
use crate::gdb::program::Program;
use crate::gdb::returns::Returns;
use crate::gdb::symbols::{self, Symbols};
use crate::kernel::KernelBuild;
use crate::layout::Layouts;
use crate::recipe::ProbePoint;
use crate::report::text::plural;
use crate::spelling::nearest;

/// GDB with all probes resolved that can be, ready to be connected.
pub(crate) struct Armed<'a> {
    pub(crate) gdb: Gdb,
    pub(crate) collector: Collector<'a>,
    /// One for each probe of the recipe, in its order; none while it is pending and once it is disarmed.
    pub(crate) breakpoints: Vec<Option<Breakpoint>>,
    pub(crate) watch: Watch,
    pub(crate) returns: Returns,
    /// How often each probe has passed its place without a hit, as its `skip` wants.
    pub(crate) skipped: Vec<u32>,
    /// Probes whose place is in a module that is not loaded.
    pending: BTreeSet<usize>,
    /// Of probes that are not in vmlinux, the module that has the place.
    homes: BTreeMap<usize, &'a str>,
    order: &'a Order<'a>,
    kernel: &'a KernelBuild,
    chosen: &'a Chosen,
}

/// Starts GDB, which begins to read the kernel's symbols.
pub(super) fn start_gdb(order: &Order<'_>, kernel: &KernelBuild) -> Result<(Gdb, Asked)> {
    let mut gdb = Gdb::start(&order.gdb, &order.run_dir.file("gdb-mi.log"))?;
    let loading = breakpoints::begin_to_load(&mut gdb, &kernel.vmlinux)?;
    Ok((gdb, loading))
}

pub(super) fn load_gdb<'a>(
    order: &'a Order<'a>,
    (mut gdb, loading): (Gdb, Asked),
    kernel: &'a KernelBuild,
    symbols: Symbols,
    chosen: &'a Chosen,
    journal: &mut Journal<'_>,
) -> Result<Armed<'a>> {
    let (events, cancel) = (order.events, order.cancel);
    let probes = plural(order.loaded.recipe.probes.len() as u64, "probe");
    events.phase(Phase::Arm, probes.clone(), || {
        breakpoints::end_to_load(&mut gdb, &loading, cancel)?;
        let layouts = kernel.layouts().unwrap_or_else(|error| {
            journal.warn(format!("what variables point to is not decoded: {}", error.message));
            Layouts::default()
        });
        let program = Program { symbols, tree: kernel.source_tree.as_deref(), objects: kernel.objects.as_deref() };
        let watch = Watch::set(&mut gdb, chosen.debug.iter().cloned().collect(), cancel)?;
        let collector = Collector::new(program, layouts, kernel.debuggable.as_ref().is_some_and(|it| it.marks_unset));
        let breakpoints = Vec::new();
        let (pending, homes) = (BTreeSet::new(), BTreeMap::new());
        let mut armed = Armed {
            gdb,
            collector,
            breakpoints,
            watch,
            returns: Returns::default(),
            skipped: vec![0; order.loaded.recipe.probes.len()],
            pending,
            homes,
            order,
            kernel,
            chosen,
        };
        armed.resolve_probes(journal)?;
        armed.prepare()?;
        let pending = match armed.pending.len() {
            0 => String::new(),
            count => format!(", {count} in modules that are still to be loaded"),
        };
        Ok((armed, format!("{probes} resolved{pending}")))
    })
}

impl<'a> Armed<'a> {
    /// Resolves all probes. One that is not in vmlinux waits for its module, if one of the guest's has its place.
    fn resolve_probes(&mut self, journal: &mut Journal<'_>) -> Result<()> {
        for index in 0..self.order.loaded.recipe.probes.len() {
            let (point, set) = self.set(index)?;
            let breakpoint = match set {
                Ok(breakpoint) => Some(breakpoint),
                Err(Unresolved::NoSuchPlace { near, next_line }) => {
                    let Some(module) = self.home(&point)? else {
                        return Err(self.explain(index, &point, Unresolved::NoSuchPlace { near, next_line }));
                    };
                    self.pending.insert(index);
                    self.homes.insert(index, module);
                    let probe = &self.order.loaded.recipe.probes[index];
                    self.order.events.fact("probe", format!("{} at {}  in module {module}", probe.name, probe.at));
                    None
                }
                Err(unresolved) => return Err(self.explain(index, &point, unresolved)),
            };
            if let Some(breakpoint) = &breakpoint {
                journal.probe_resolved(index, &breakpoint.locations);
                if breakpoint.without_return > 0 {
                    let places = plural(breakpoint.without_return as u64, "place");
                    let name = &self.order.loaded.recipe.probes[index].name;
                    journal.warn_once(format!(
                        "probe `{name}`: its function is inlined at {places} more, where it has no return"
                    ));
                }
            }
            self.breakpoints.push(breakpoint);
        }
        Ok(())
    }

    /// Has the collector find what it needs, near the first probe's place.
    fn prepare(&mut self) -> Result<()> {
        let first = self.breakpoints.iter().flatten().find_map(|breakpoint| breakpoint.locations.first());
        self.collector.prepare(&mut self.gdb, first.map(|place| place.address.as_str()), self.order.cancel)
    }

    /// The module that a probe waits for, if it is not in vmlinux.
    pub(super) fn home_of(&self, index: usize) -> Option<&str> {
        self.homes.get(&index).copied()
    }

    /// Sets a probe's breakpoint, with the symbols that GDB has now.
    fn set(&mut self, index: usize) -> Result<(ProbePoint, Result<Breakpoint, Unresolved>)> {
        let probe = &self.order.loaded.recipe.probes[index];
        let wrong =
            || self.order.loaded.diagnose(&format!("probes[{index}].at"), "this probe does not parse", "here", &[]);
        let point: ProbePoint = probe.at.parse().map_err(|_| wrong())?;
        let (program, cancel) = (&self.collector.program, self.order.cancel);
        let set = breakpoints::set(&mut self.gdb, &point, probe.when.as_deref(), program, cancel);
        Ok((point, set))
    }

    /// The module of the guest that has this place. A GDB of its own looks: in the one that will be connected, modules that
    /// are not loaded would lie on top of each other.
    fn home(&self, point: &ProbePoint) -> Result<Option<&'a str>> {
        if self.chosen.debug.is_empty() || matches!(point, ProbePoint::Address(_)) {
            return Ok(None);
        }
        let (order, cancel) = (self.order, self.order.cancel);
        let mut gdb = Gdb::start(&order.gdb, &order.run_dir.file("gdb-modules-mi.log"))?;
        let program = Program { symbols: Symbols::default(), ..self.collector.program };
        let mut home = None;
        let chosen: &'a Chosen = self.chosen;
        for (name, debug) in &chosen.debug {
            breakpoints::load(&mut gdb, debug, cancel)?;
            if breakpoints::set(&mut gdb, point, None, &program, cancel).is_ok() {
                home = Some(name.as_str());
                break;
            }
        }
        gdb.stop();
        Ok(home)
    }

    /// The guest was just connected: the modules that it has loaded get their symbols, the probes in them their places.
    pub(super) fn take_loaded(&mut self, journal: &mut Journal<'_>) -> Result<()> {
        let loaded = self.watch.loaded_now(&mut self.gdb, self.order.cancel)?;
        self.change(Change::Loaded, &loaded, journal)
    }

    /// The guest stands where a module was loaded or is about to go.
    pub(super) fn module_changed(&mut self, change: Change, stop: &Stop, journal: &mut Journal<'_>) -> Result<()> {
        let found = self.watch.module_at(&mut self.gdb, stop, self.order.cancel)?;
        self.change(change, found.as_slice(), journal)
    }

    /// Tells GDB about modules, and resolves all probes that are not disarmed anew: a function may be in several modules,
    /// inlined too.
    fn change(&mut self, change: Change, modules: &[Found], journal: &mut Journal<'_>) -> Result<()> {
        if modules.is_empty() {
            return Ok(());
        }
        let cancel = self.order.cancel;
        for (index, slot) in self.breakpoints.iter_mut().enumerate() {
            if let Some(breakpoint) = slot.take() {
                breakpoints::delete(&mut self.gdb, breakpoint.number, cancel)?;
                self.pending.insert(index);
            }
        }
        let symbols = &mut self.collector.program.symbols;
        self.watch.forget_init(&mut self.gdb, symbols, cancel)?;
        for module in modules {
            match change {
                Change::Loaded => self.watch.add(&mut self.gdb, module, symbols, cancel)?,
                Change::Unloading => self.watch.remove(&mut self.gdb, module, symbols, cancel)?,
            }
        }
        for index in self.pending.clone() {
            match self.set(index)? {
                (_, Ok(breakpoint)) => {
                    journal.probe_resolved(index, &breakpoint.locations);
                    self.breakpoints[index] = Some(breakpoint);
                    self.pending.remove(&index);
                }
                (_, Err(Unresolved::NoSuchPlace { .. })) => {}
                (point, Err(unresolved)) => return Err(self.explain(index, &point, unresolved)),
            }
        }
        Ok(())
    }

    /// Says which probes never had a place to stop at.
    pub(super) fn tell_pending(&self, journal: &mut Journal<'_>) {
        for (index, probe) in self.order.loaded.recipe.probes.iter().enumerate() {
            match self.returns.waiting(index) {
                0 => {}
                1 => journal.warn(format!("probe `{}`: one call had not returned when the trigger ended", probe.name)),
                calls => {
                    journal
                        .warn(format!("probe `{}`: {calls} calls had not returned when the trigger ended", probe.name));
                }
            }
            let Some(module) = self.homes.get(&index).filter(|_| !journal.was_resolved(index)) else { continue };
            let (name, at) = (&probe.name, &probe.at);
            let why = match self.watch.unplaced.contains(*module) {
                true => "was loaded, but this kernel keeps no addresses of modules: that takes KALLSYMS and SYSFS",
                false => "was not loaded",
            };
            journal.warn(format!("probe `{name}` could not stop at `{at}`: the module {module} {why}"));
        }
    }

    /// The modules that have this function and are not in the guest.
    fn elsewhere(&self, function: &str) -> Vec<String> {
        let modules = &self.kernel.modules;
        let absent =
            modules.index.modules().filter(|(name, _)| self.chosen.debug.iter().all(|(there, _)| there != name));
        let with = absent.filter(|(_, module)| {
            modules.debug_file(module).is_some_and(|file| symbols::functions(&file).iter().any(|name| name == function))
        });
        with.map(|(name, _)| name.to_string()).collect()
    }

    /// Function names of the kernel and of the guest's modules that look like `wrong`, closest first.
    fn close_to(&self, wrong: &str, near: &[String]) -> Vec<String> {
        let files: Vec<&PathBuf> = self.chosen.debug.iter().map(|(_, file)| file).collect();
        let more: Vec<String> = files.into_iter().flat_map(|file| symbols::functions(file)).collect();
        nearest(wrong, near.iter().chain(&more).map(String::as_str)).into_iter().map(String::from).collect()
    }

    /// A probe that did not resolve, shown at its line of the recipe.
    fn explain(&self, index: usize, point: &ProbePoint, unresolved: Unresolved) -> Error {
        let (order, kernel, path) = (self.order, self.kernel, format!("probes[{index}]"));
        let probe = order.loaded.recipe.probes.get(index).map_or("", |probe| probe.name.as_str());
        let label = format!("vmlinux {} ({})", kernel.release, kernel.key);
        match unresolved {
            Unresolved::Failed(error) => error,
            Unresolved::BadCondition(why) => order.loaded.diagnose(
                &format!("{path}.when"),
                format!("probe `{probe}`: GDB cannot use this condition at {point}"),
                why,
                &["a condition is a C expression over the arguments and locals of the place where the probe stops"
                    .into()],
            ),
            Unresolved::NoReturn(name) => order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: `{name}` is inlined wherever it is called"),
                "it has no return",
                &[format!("stop where it begins: `at: {name}`, or at a line behind the call: `at: file:line`")],
            ),
            Unresolved::NoSuchPlace { near, next_line } => {
                let what = match point {
                    ProbePoint::Function(name) | ProbePoint::Return(name) => {
                        format!("no function `{name}` in this kernel")
                    }
                    ProbePoint::FunctionLine { function, offset } if near.is_empty() => {
                        format!("no code of its own {offset} lines below the name of `{function}` in this kernel")
                    }
                    ProbePoint::FunctionLine { function, .. } => format!("no function `{function}` in this kernel"),
                    ProbePoint::FileLine { file, line } => format!("no code at line {line} of {file} in this kernel"),
                    ProbePoint::Address(address) => format!("no code at {address:#x} in this kernel"),
                };
                let mut helps = Vec::new();
                let (mut near, mut elsewhere) = (near, Vec::new());
                if let Some(name) = point.function() {
                    elsewhere = self.elsewhere(name);
                    near = self.close_to(name, &near);
                }
                if !elsewhere.is_empty() {
                    helps.push(format!("it is in a module: add `kernel.modules: [{}]`", elsewhere.join(", ")));
                } else if !near.is_empty() {
                    helps.push(format!("close by: {}", near.join(", ")));
                }
                if let Some(line) = next_line {
                    helps.push(format!("the next line with code is {line}"));
                }
                if point.function().is_some() && elsewhere.is_empty() {
                    let advice = match kernel.is_packaged() {
                        true => {
                            "this kernel is as its distribution configured it; for a function that it leaves out, have one built: `version` and `options` instead of `package`"
                        }
                        false => {
                            "a function that this kernel's configuration leaves out needs its option in `kernel.options`"
                        }
                    };
                    helps.push(advice.into());
                }
                order.loaded.diagnose(
                    &format!("{path}.at"),
                    format!("probe `{probe}`: {what}"),
                    format!(
                        "not in {label}{}",
                        if self.chosen.debug.is_empty() { "" } else { " or a module of the guest" }
                    ),
                    &helps,
                )
            }
        }
    }
}
