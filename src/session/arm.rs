//! Probes on their way to breakpoints: before the guest runs, and again whenever a module comes or goes.

use std::fs;
use std::path::Path;

use super::Order;
use super::journal::Journal;
use super::modules::Chosen;
use super::probes::Probe;
use super::record::Recorder;
use crate::error::Result;
use crate::event::Phase;
use crate::gdb::breakpoints::{self, Breakpoint, Unresolved};
use crate::gdb::client::{Asked, Gdb, Stop};
use crate::gdb::collect::{Collector, Traits};
use crate::gdb::counters::Counters;
use crate::gdb::entry::Tracer;
use crate::gdb::group;
use crate::gdb::hooks::Hooks;
use crate::gdb::mi::number;
use crate::gdb::modules::{Change, Found, Watch};
use crate::gdb::program::Program;
use crate::gdb::returns::Returns;
use crate::gdb::scope::{self, State};
use crate::gdb::symbols::{self, Symbols};
use crate::kernel::KernelBuild;
use crate::layout::Layouts;
use crate::recipe::ProbePoint;
use crate::recipe::types::ProbeSpec;
use crate::report::model::Location;
use crate::report::path::plain_symbol;
use crate::report::text::plural;

/// How many variables are named that can be read at a probe.
const NAMED: usize = 6;

/// GDB with all probes resolved that can be, ready to be connected.
pub(crate) struct Armed<'a> {
    pub(crate) gdb: Gdb,
    pub(crate) collector: Collector<'a>,
    /// Those of the recipe, in its order.
    pub(crate) probes: Vec<Probe<'a>>,
    pub(crate) watch: Watch,
    pub(crate) returns: Returns,
    pub(crate) hooks: Hooks,
    pub(crate) counters: Counters,
    /// Whom the guest's entries of functions are left to.
    pub(crate) tracer: Tracer,
    /// What records the run, if it is recorded.
    pub(super) recorder: Option<Recorder>,
    /// Whether stops at breakpoints are dear.
    pub(super) dear: bool,
    /// Whether the guest was held for a debugger.
    pub(super) was_held: bool,
    pub(super) order: &'a Order<'a>,
    pub(super) kernel: &'a KernelBuild,
    pub(super) chosen: &'a Chosen,
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
    let count = plural(order.loaded.recipe.probes.len() as u64, "probe");
    events.phase(Phase::Arm, count.clone(), || {
        breakpoints::end_to_load(&mut gdb, &loading, cancel)?;
        let layouts = kernel.layouts().unwrap_or_else(|error| {
            journal.warn(format!("what variables point to is not decoded: {}", error.message));
            Layouts::default()
        });
        let program = Program { symbols, tree: kernel.source_tree.as_deref(), objects: kernel.objects.as_deref() };
        let watch = Watch::set(&mut gdb, chosen.debug.iter().cloned().collect(), cancel)?;
        let tracer = Tracer::of(&program.symbols);
        let (hooks, counters) = (Hooks::of(&program.symbols, &tracer), Counters::of(&program.symbols));
        let traits = Traits {
            patterned: kernel.debuggable.as_ref().is_some_and(|it| it.marks_unset),
            counts_preemption: fs::read_to_string(&kernel.config)
                .is_ok_and(|config| config.lines().any(|line| line == "CONFIG_PREEMPT_COUNT=y")),
        };
        let collector = Collector::new(program, &kernel.vmlinux, layouts, traits);
        let probes = Probe::all(order)?;
        let mut armed = Armed {
            gdb,
            collector,
            probes,
            watch,
            returns: Returns::default(),
            hooks,
            counters,
            tracer,
            recorder: None,
            dear: false,
            was_held: false,
            order,
            kernel,
            chosen,
        };
        armed.resolve_probes(journal)?;
        armed.prepare()?;
        let pending = match armed.probes.iter().filter(|probe| probe.pending).count() {
            0 => String::new(),
            count => format!(", {count} in modules that are still to be loaded"),
        };
        Ok((armed, format!("{count} resolved{pending}")))
    })
}

impl<'a> Armed<'a> {
    /// Resolves all probes. One that is not in vmlinux waits for its module, if one of the guest's has its place.
    fn resolve_probes(&mut self, journal: &mut Journal<'_>) -> Result<()> {
        for index in 0..self.probes.len() {
            if let ProbePoint::Watch(expression) = &self.probes[index].point {
                let expression = expression.clone();
                self.check_watch(index, &expression).map_err(|unresolved| self.explain(index, unresolved))?;
                continue;
            }
            let breakpoints = match self.set(index) {
                Ok(breakpoints) => breakpoints,
                Err(Unresolved::NoSuchPlace { near, next_line }) => {
                    let Some(module) = self.home(&self.probes[index].point)? else {
                        return Err(self.explain(index, Unresolved::NoSuchPlace { near, next_line }));
                    };
                    let probe = &mut self.probes[index];
                    (probe.pending, probe.home) = (true, Some(module));
                    let ProbeSpec { name, at, .. } = probe.spec;
                    self.order.events.fact("probe", format!("{name} at {at}  in module {module}"));
                    continue;
                }
                Err(unresolved) => return Err(self.explain(index, unresolved)),
            };
            let probe = &mut self.probes[index];
            probe.breakpoints = breakpoints;
            let locations = probe.locations();
            tell_left_out(probe, journal);
            let readable = self.readable(index)?;
            journal.probe_resolved(index, &locations, &readable);
        }
        self.settle()
    }

    /// Has the collector find what it needs, near the first probe's place.
    fn prepare(&mut self) -> Result<()> {
        let mut breakpoints = self.probes.iter().flat_map(|probe| &probe.breakpoints);
        let first = breakpoints.find_map(|breakpoint| breakpoint.locations.first());
        self.collector.prepare(&mut self.gdb, first.map(|place| place.address.as_str()), self.order.cancel)
    }

    /// Which arguments and locals can be read at the first place of a probe, in words; of a pattern's functions, or of calls that
    /// return, that is not said.
    fn readable(&mut self, index: usize) -> Result<String> {
        let Probe { point, breakpoints, .. } = &self.probes[index];
        if matches!(point, ProbePoint::Pattern(_) | ProbePoint::Return(_)) {
            return Ok(String::new());
        }
        let function = point.function().map(plain_symbol).map(String::from);
        let Some(location) = breakpoints.iter().flat_map(|breakpoint| &breakpoint.locations).next() else {
            return Ok(String::new());
        };
        let is_entry = !location.inlined && self.collector.program.is_entry(&location.address);
        let Some(address) = number(&location.address) else { return Ok(String::new()) };
        let cancel = self.order.cancel;
        let foreseen = scope::foresee(&mut self.gdb, address, function.as_deref(), is_entry, cancel)?;
        let names: Vec<&str> =
            foreseen.iter().filter(|one| one.state == State::Readable).map(|one| one.name.as_str()).collect();
        Ok(match names.len() {
            0 => String::new(),
            count if count > NAMED => format!("  reads {} and {} more", names[..NAMED].join(", "), count - NAMED),
            _ => format!("  reads {}", names.join(", ")),
        })
    }

    /// Sets a probe's breakpoints, with the symbols that GDB has now.
    fn set(&mut self, index: usize) -> std::result::Result<Vec<Breakpoint>, Unresolved> {
        self.set_anew(index);
        let Probe { spec, point, .. } = &self.probes[index];
        let (program, when, cancel) = (&self.collector.program, spec.when.as_deref(), self.order.cancel);
        match point {
            ProbePoint::Pattern(pattern) => group::set(&mut self.gdb, pattern, when, program, cancel),
            point => {
                let breakpoint = breakpoints::set(&mut self.gdb, point, when, program, cancel)?;
                let no_return = breakpoint.locations.iter().find_map(|location| no_return(location, program));
                match no_return.filter(|_| spec.force_return.is_some()) {
                    Some(why) => Err(Unresolved::NoForcedReturn(why)),
                    None => Ok(vec![breakpoint]),
                }
            }
        }
    }

    /// The module of the guest that has this place. A GDB of its own looks: in the one that will be connected, modules that
    /// are not loaded would lie on top of each other.
    fn home(&self, point: &ProbePoint) -> Result<Option<&'a str>> {
        if self.chosen.debug.is_empty() || matches!(point, ProbePoint::Address(_) | ProbePoint::Watch(_)) {
            return Ok(None);
        }
        if let ProbePoint::Pattern(pattern) = point {
            let has_one = |file: &Path| symbols::functions(file).iter().any(|name| symbols::is_match(pattern, name));
            return Ok(self.chosen.debug.iter().find(|(_, file)| has_one(file)).map(|(name, _)| name.as_str()));
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

    /// Whether the stop is at one of kdbg's own breakpoints.
    pub(super) fn is_own(&self, stop: &Stop) -> bool {
        self.watch.change_at(stop).is_some() || self.returns.is_at(stop) || self.tracer.is_at(stop)
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
        self.collector.symbols_changed();
        let cancel = self.order.cancel;
        for index in 0..self.probes.len() {
            let probe = &mut self.probes[index];
            if matches!(probe.point, ProbePoint::Watch(_)) {
                continue;
            }
            probe.pending |= !probe.breakpoints.is_empty();
            for breakpoint in std::mem::take(&mut probe.breakpoints) {
                self.take_out(&breakpoint)?;
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
        for index in 0..self.probes.len() {
            if !self.probes[index].pending {
                continue;
            }
            match self.set(index) {
                Ok(breakpoints) => {
                    let probe = &mut self.probes[index];
                    probe.breakpoints = breakpoints;
                    probe.pending = false;
                    journal.probe_resolved(index, &probe.locations(), "");
                    self.cheapen(index)?;
                    journal.armed(index, &self.probes[index]);
                }
                Err(Unresolved::NoSuchPlace { .. }) => {}
                Err(unresolved) => return Err(self.explain(index, unresolved)),
            }
        }
        self.settle()
    }

    /// Says which probes never had a place to stop at.
    pub(super) fn tell_pending(&self, journal: &mut Journal<'_>) {
        for (index, Probe { spec: probe, home, .. }) in self.probes.iter().enumerate() {
            match self.returns.waiting(index) {
                0 => {}
                1 => journal.warn(format!("probe `{}`: one call had not returned when the trigger ended", probe.name)),
                calls => {
                    journal
                        .warn(format!("probe `{}`: {calls} calls had not returned when the trigger ended", probe.name));
                }
            }
            let Some(module) = home.filter(|_| !journal.was_resolved(index)) else { continue };
            let (name, at) = (&probe.name, &probe.at);
            let why = match self.watch.unplaced.contains(module) {
                true => "was loaded, but this kernel keeps no addresses of modules: that takes KALLSYMS and SYSFS",
                false => "was not loaded",
            };
            journal.warn(format!("probe `{name}` could not stop at `{at}`: the module {module} {why}"));
        }
    }
}

/// Says which places of a probe are no places to stop.
fn tell_left_out(probe: &Probe<'_>, journal: &mut Journal<'_>) {
    let name = &probe.spec.name;
    let count = |of: fn(&Breakpoint) -> usize| probe.breakpoints.iter().map(of).sum::<usize>() as u64;
    let without_return = count(|breakpoint| breakpoint.without_return);
    if without_return > 0 {
        let places = plural(without_return, "place");
        journal.warn_once(format!("probe `{name}`: its function is inlined at {places} more, where it has no return"));
    }
    let freed = count(|breakpoint| breakpoint.freed);
    if freed > 0 {
        let places = plural(freed, "place");
        journal.warn_once(format!(
            "probe `{name}` does not stop at {places} in init code, which the kernel has freed by the time probes are armed"
        ));
    }
}

/// Why a function cannot be made to return where it stops.
fn no_return(location: &Location, program: &Program<'_>) -> Option<String> {
    let Location { address, symbol, inlined, .. } = location;
    match inlined {
        true => Some(format!("it is inlined into {symbol}, where it does not return")),
        false if !program.is_entry(address) => Some("it stops behind the first instructions".into()),
        false => None,
    }
}
