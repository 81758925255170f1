//! `kdbg symbols`: where a recipe's probes will stop, and what can be read there.

use std::path::PathBuf;

use super::run::{ensure_host, find};
use crate::cli::SymbolsArgs;
use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::gdb::scope::{Foreseen, State};
use crate::report::text::plural;
use crate::server::Address;
use crate::session::symbols::{Foreseeable, Foresight, Place, foresee};
use crate::session::{Acceleration, Order};
use crate::store::{Cache, RunDir};
use crate::{recipe, ui};

/// Resolves the recipe's probes in each of its kernels, and prints what comes of it.
///
/// # Errors
/// As `kdbg run` before it boots.
pub fn symbols(args: &SymbolsArgs, cancel: &Cancel) -> Result<()> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    let recipes = loaded.for_each_kernel(&args.kernel)?;
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let cache = Cache::open()?;
    ensure_host(args.install, &recipes, &resolved, &cache, &events, cancel)?;
    for loaded in &recipes {
        let folder = tempfile::tempdir().or_host("make a folder for logs")?;
        let order = Order {
            loaded,
            resolved: &resolved,
            acceleration: Acceleration::Tcg,
            early: false,
            cold: true,
            breakpoints: false,
            record: false,
            hold: None,
            listen: Address::ANY,
            // Nothing boots.
            qemu: PathBuf::new(),
            gdb: find("gdb")?,
            run_dir: &RunDir::create(&loaded.recipe.name, Some(folder.path()))?,
            cache: &cache,
            events: &events,
            cancel,
        };
        let foresight = foresee(&order)?;
        let text = match args.json {
            true => serde_json::to_string(&foresight).map_err(|error| Error::host(error.to_string()))? + "\n",
            false => as_text(&foresight),
        };
        ui::print(&text).or_host("write to standard output")?;
    }
    screen.finish();
    Ok(())
}

fn as_text(foresight: &Foresight) -> String {
    let mut text = format!("Linux {}\n", foresight.release);
    for probe in &foresight.probes {
        text += &of_probe(probe);
    }
    if foresight.probes.is_empty() {
        text += "\n  the recipe has no probes\n";
    }
    text
}

fn of_probe(probe: &Foreseeable) -> String {
    let Foreseeable { name, at, module, places } = probe;
    let mut text = match module {
        Some(module) => format!("\n  {name}  at {at}  in module {module}, resolved when it is loaded\n"),
        None if at.starts_with("watch:") => format!("\n  {name}  at {at}  looked up in the guest\n"),
        None => format!("\n  {name}  at {at}  {}\n", plural(places.len() as u64, "location")),
    };
    for place in places {
        text += &of_place(place);
    }
    text
}

fn of_place(place: &Place) -> String {
    let Place { location, variables } = place;
    let line = location.line.map_or(String::new(), |line| format!(":{line}"));
    let file = location.file.as_ref().map_or(String::new(), |file| format!("  {file}{line}"));
    let into = if location.inlined { "inlined into " } else { "" };
    let mut text = format!("    {}  {into}{}{file}\n", location.address, location.symbol);
    let of = |argument: bool, state: State| {
        let is = |var: &&Foreseen| var.argument.unwrap_or(false) == argument && var.state == state;
        variables.iter().filter(is).map(|var| var.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    for (what, names) in [
        ("arguments", of(true, State::Readable)),
        ("locals", of(false, State::Readable)),
        ("not set yet", joined(&of(true, State::NotSetYet), &of(false, State::NotSetYet))),
        ("optimized out", joined(&of(true, State::OptimizedOut), &of(false, State::OptimizedOut))),
    ] {
        if !names.is_empty() {
            text += &format!("      {what:<14}{names}\n");
        }
    }
    text
}

fn joined(first: &str, second: &str) -> String {
    [first, second].into_iter().filter(|names| !names.is_empty()).collect::<Vec<_>>().join(", ")
}
