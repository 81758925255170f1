//! `kdbg shell`: a person's terminal, in a recipe's guest.

use std::process::ExitCode;

use tempfile::TempDir;

use super::run::{ensure_host, find};
use super::terminal::{left_there, sit_at, size, term};
use crate::cli::ShellArgs;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::server::Address;
use crate::session::Order;
use crate::session::shell::Shell;
use crate::store::{Cache, RunDir};
use crate::ui::Ui;
use crate::{recipe, ui};

/// Opens the guest, attends to it until it is left, and ends it. The exit code is the shell's.
///
/// # Errors
/// As `kdbg run` before its first step; the guest died, or ended itself. The folder of its logs is left behind then.
pub fn shell(args: &ShellArgs, cancel: &Cancel) -> Result<ExitCode> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    let named: Vec<String> = args.kernel.iter().cloned().collect();
    let mut recipes = loaded.for_each_kernel(&named)?;
    // Of several kernels the first.
    recipes.truncate(1);
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let cache = Cache::open()?;
    ensure_host(args.install, &recipes, &resolved, &cache, &events, cancel)?;
    let folder = tempfile::Builder::new().prefix("kdbg-shell-").tempdir().or_host("make a folder for logs")?;
    let order = Order {
        loaded: recipes.first().unwrap_or(&loaded),
        resolved: &resolved,
        acceleration: args.accel.into(),
        cold: args.cold,
        early: false,
        breakpoints: false,
        record: false,
        hold: None,
        listen: Address::ANY,
        qemu: find("qemu-system-x86_64")?,
        gdb: find("gdb")?,
        run_dir: &RunDir::create(&loaded.recipe.name, Some(folder.path()))?,
        cache: &cache,
        events: &events,
        cancel,
    };
    attend(&order, screen).map_err(|error| keep_logs(folder, error))
}

/// Opens the guest and attends to the person in it.
fn attend(order: &Order<'_>, screen: Ui) -> Result<ExitCode> {
    let shell = Shell::open(order, size(), &term())?;
    order.events.fact("shell", "exit or Ctrl-] leaves; what was not brought out is lost then");
    screen.finish();
    sit_at(shell, order)
}

/// Leaves the logs behind where there are any, and says where.
fn keep_logs(folder: TempDir, error: Error) -> Error {
    if error.kind == ErrorKind::Interrupted || !folder.path().join("console.log").exists() {
        return error;
    }
    left_there(&folder.keep(), error)
}
