//! `kdbg run`: a recipe, from an empty machine to a report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{matrix, purposes_of};
use crate::cli::RunArgs;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Event, Events};
use crate::host::check;
use crate::host::needs::{Purpose, needs_with_image};
use crate::host::system::System;
use crate::recipe::{Loaded, Resolved};
use crate::report::markdown::{self, NoSources, Sources};
use crate::report::model::{Outcome, Report};
use crate::report::sources::KernelTree;
use crate::report::volatile;
use crate::server::{Address, Server};
use crate::session::{self, Ended, Hold, Order};
use crate::store::{Cache, RunDir};
use crate::{kernel, recipe, recording, ui};

/// Runs the recipe on its kernel, or on each of several; writes the reports and shows the result.
///
/// # Errors
/// What kept the run from starting, or the report from being written. What ended a run early is in its report, and
/// decides the exit code.
pub fn run(args: &RunArgs, cancel: &Cancel) -> Result<ExitCode> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    if let Some(hold) = &args.hold {
        hold.check(&loaded.recipe.probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>())?;
    }
    if args.hold.is_none() && (args.listen.listen.is_some() || args.listen.socket.is_some()) {
        return Err(Error::usage("--listen and --socket say where a debugger finds a guest that is held, and none is")
            .hint("say where with --hold HIT"));
    }
    let recipes = loaded.for_each_kernel(&args.kernel)?;
    let mode = ui::Mode::detect(args.json);
    let (events, screen) = ui::start(mode);
    let cache = Cache::open()?;
    ensure_host(args.install, &recipes, &resolved, &cache, &events, cancel)?;
    let run_dir = RunDir::create(&loaded.recipe.name, args.out.as_deref())?;
    if args.hold.is_some() {
        // One that is taken is told now, and not when there is a hit.
        Server::listen(&args.listen.address()).inspect_err(|_| drop(std::fs::remove_dir(run_dir.path())))?;
    }
    let bench = Bench {
        resolved: &resolved,
        acceleration: args.accel.into(),
        cold: args.cold,
        breakpoints: args.breakpoints,
        record: args.record,
        hold: args.hold.as_ref(),
        listen: args.listen.address(),
        qemu: find("qemu-system-x86_64")?,
        gdb: find("gdb")?,
        cache: &cache,
        events: &events,
        cancel,
    };
    if let [one] = &recipes[..] {
        let (report, path) = bench.run(one, &run_dir)?;
        events.send(Event::Finished { report: Box::new(report.clone()), path: path.clone() });
        screen.finish();
        ui::print_result(mode, &report, &path).or_host("write to standard output")?;
        return Ok(ExitCode::from(exit_code(&report)));
    }
    let (matrix, code) = matrix::run(&bench, &recipes, &run_dir)?;
    screen.finish();
    matrix::show(mode, &matrix, &run_dir)?;
    Ok(ExitCode::from(code))
}

/// Makes sure that the host has what these recipes need; a kernel that is filed needs no compiler.
pub(super) fn ensure_host(
    install: bool,
    recipes: &[Loaded],
    resolved: &Resolved,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<()> {
    let requests =
        recipes.iter().map(|recipe| session::kernel_request(recipe, resolved)).collect::<Result<Vec<_>>>()?;
    let missing: Vec<_> = requests.iter().filter(|request| !kernel::is_filed(request, cache, cancel)).collect();
    let versions: Vec<&str> = missing.iter().filter_map(|request| request.choice.version()).collect();
    let purposes = [&Purpose::GUEST[..], &purposes_of(&missing)].concat();
    let programs: Vec<&str> = resolved.image.programs().iter().map(|item| item.name).collect();
    let needs = needs_with_image(&purposes, &versions, &programs);
    check::ensure(&needs, install, &System::here(&Cache::place()?), events, cancel)
}

/// Everything that the runs of one command share.
pub(super) struct Bench<'a> {
    resolved: &'a Resolved,
    acceleration: session::Acceleration,
    cold: bool,
    breakpoints: bool,
    record: bool,
    hold: Option<&'a Hold>,
    listen: Address,
    qemu: PathBuf,
    gdb: PathBuf,
    cache: &'a Cache,
    events: &'a Events,
    cancel: &'a Cancel,
}

impl Bench<'_> {
    /// Says which of several kernels comes now; what follows belongs to its run.
    pub(super) fn announce(&self, version: &str) {
        self.events.fact("run", format!("kernel {version}"));
    }

    /// Runs a recipe and writes its report; gives the report and the path to show.
    pub(super) fn run(&self, loaded: &Loaded, run_dir: &RunDir) -> Result<(Report, String)> {
        let ended = session::run(&Order {
            loaded,
            resolved: self.resolved,
            acceleration: self.acceleration,
            cold: self.cold,
            early: false,
            breakpoints: self.breakpoints,
            record: self.record,
            hold: self.hold,
            listen: self.listen.clone(),
            qemu: self.qemu.clone(),
            gdb: self.gdb.clone(),
            run_dir,
            cache: self.cache,
            events: self.events,
            cancel: self.cancel,
        });
        write_report(ended, run_dir, self.events)
    }
}

pub(super) fn find(program: &str) -> Result<PathBuf> {
    which::which(program).map_err(|_| {
        Error::host(format!("{program} is not on this host"))
            .hint("`kdbg doctor --install` installs it, or run again with --install")
    })
}

/// The exit code of a run.
pub(super) fn exit_code(report: &Report) -> u8 {
    match (&report.outcome, &report.error) {
        (Outcome::Passed, _) => 0,
        (_, Some(error)) => error.kind.exit_code(),
        (_, None) => 1,
    }
}

/// Writes report.json and report.md; returns the report and the path to show.
fn write_report(ended: Ended, run_dir: &RunDir, events: &Events) -> Result<(Report, String)> {
    use crate::event::Phase;
    let Ended { mut report, kernel } = ended;
    events.phase(Phase::Report, run_dir.path().display().to_string(), || {
        report.files = files(run_dir);
        report.volatile = volatile::pointers(&report);
        let json = serde_json::to_string_pretty(&report).map_err(|error| Error::host(error.to_string()))?;
        run_dir.write("report.json", &(json + "\n"))?;
        let tree = kernel.and_then(|kernel| kernel.source_tree).map(KernelTree::new);
        let sources: &dyn Sources = tree.as_ref().map_or(&NoSources, |tree| tree as &dyn Sources);
        run_dir.write("report.md", &markdown::render(&report, sources))?;
        session::forget_journal(run_dir);
        run_dir.mark_latest()?;
        Ok(((report, run_dir.shown().join("report.md").display().to_string()), "written".into()))
    })
}

/// The files of the run that are there, by the name that the report gives them.
fn files(run_dir: &RunDir) -> BTreeMap<String, String> {
    let always = ["report.json", "report.md"];
    let sometimes = [
        "console.log",
        "qemu.log",
        "gdb-mi.log",
        "gdb-modules-mi.log",
        "build.log",
        "packets.pcapng",
        recording::FILE,
        "kdbg.lock.yaml",
        "recipe.yaml",
    ];
    let fetched = std::fs::read_dir(run_dir.file("files")).into_iter().flatten().flatten();
    let fetched = fetched.map(|entry| format!("files/{}", entry.file_name().to_string_lossy()));
    let there = sometimes.into_iter().filter(|name| run_dir.file(name).is_file());
    always
        .into_iter()
        .chain(there)
        .map(|name| {
            let key = name.split('.').next().unwrap_or(name).replace('-', "_");
            let key = if name == "report.md" { "markdown".into() } else { key };
            (key, name.to_string())
        })
        .chain(fetched.map(|path| (path.clone(), path)))
        .collect()
}
