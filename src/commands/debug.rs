//! `kdbg debug`: a recipe's guest, for debuggers, with a shell in the terminal.

use std::fs;
use std::process::ExitCode;

use super::run::{ensure_host, find};
use super::terminal::{left_there, sit_at, size, term};
use crate::cli::DebugArgs;
use crate::error::{ErrorKind, Result};
use crate::event::Cancel;
use crate::recipe;
use crate::session::{Order, debug};
use crate::store::{Cache, RunDir};
use crate::ui::{self, Ui};

/// Opens the guest, serves debuggers while it attends to the person in it, and ends it when that leaves. The exit code is the
/// shell's.
///
/// # Errors
/// As `kdbg shell`; or the address is taken. The run directory is left behind then, with the guest's logs.
pub fn debug(args: &DebugArgs, cancel: &Cancel) -> Result<ExitCode> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    let named: Vec<String> = args.kernel.iter().cloned().collect();
    let recipes = loaded.for_each_kernel(&named)?;
    // Of several kernels the first.
    let recipes = &recipes[..recipes.len().min(1)];
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let cache = Cache::open()?;
    ensure_host(args.install, recipes, &resolved, &cache, &events, cancel)?;
    let run_dir = RunDir::create(&loaded.recipe.name, None)?;
    let order = Order {
        loaded: recipes.first().unwrap_or(&loaded),
        resolved: &resolved,
        acceleration: args.accel.into(),
        cold: args.cold,
        early: args.early,
        breakpoints: false,
        record: false,
        hold: None,
        listen: args.listen.address(),
        qemu: find("qemu-system-x86_64")?,
        gdb: find("gdb")?,
        run_dir: &run_dir,
        cache: &cache,
        events: &events,
        cancel,
    };
    let ended = attend(&order, screen);
    let failed = ended.as_ref().is_err_and(|error| error.kind != ErrorKind::Interrupted);
    if !failed {
        // There is no report, and the person has seen all there was to see.
        let _ = fs::remove_dir_all(run_dir.path());
        return ended;
    }
    debug::end(&order);
    ended.map_err(|error| left_there(run_dir.path(), error))
}

/// Opens the guest to debuggers, and attends to the person in it.
fn attend(order: &Order<'_>, screen: Ui) -> Result<ExitCode> {
    let (shell, _debuggers) = debug::open(order, size(), &term())?;
    order.events.fact("shell", "exit or Ctrl-] ends the guest, and whatever debugger is there");
    screen.finish();
    sit_at(shell, order)
}
