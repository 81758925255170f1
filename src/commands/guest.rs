//! What `kdbg shell` and `kdbg debug` begin with: a recipe's guest, for a person.

use super::run::{ensure_host, find};
use crate::cli::GuestArgs;
use crate::error::Result;
use crate::event::Cancel;
use crate::server::Address;
use crate::session::Order;
use crate::store::{Cache, RunDir};
use crate::ui::Ui;
use crate::{recipe, ui};

/// Has `attend` attend to a guest, which is not there yet; of several kernels' the first. An `early` one waits for a
/// debugger before its first instruction, and debuggers find it at `listen`; `run_dir` makes the place for its logs, for a recipe
/// of this name.
///
/// # Errors
/// Those of `attend` and `run_dir`; or the recipe is wrong, or the host lacks something.
pub(super) fn with_guest<T>(
    args: &GuestArgs,
    (early, listen): (bool, Address),
    run_dir: impl FnOnce(&str) -> Result<RunDir>,
    cancel: &Cancel,
    attend: impl FnOnce(&Order<'_>, Ui) -> Result<T>,
) -> Result<T> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    let named: Vec<String> = args.kernel.iter().cloned().collect();
    let mut recipes = loaded.for_each_kernel(&named)?;
    recipes.truncate(1);
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let cache = Cache::open()?;
    ensure_host(args.install, &recipes, &resolved, &cache, &events, cancel)?;
    let order = Order {
        loaded: recipes.first().unwrap_or(&loaded),
        resolved: &resolved,
        acceleration: args.accel.into(),
        cold: args.cold,
        early,
        breakpoints: false,
        record: false,
        hold: None,
        listen,
        qemu: find("qemu-system-x86_64")?,
        gdb: find("gdb")?,
        run_dir: &run_dir(&loaded.recipe.name)?,
        cache: &cache,
        events: &events,
        cancel,
    };
    attend(&order, screen)
}
