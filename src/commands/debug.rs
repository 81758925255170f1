//! `kdbg debug`: a recipe's guest, for debuggers, with a shell in the terminal.

use std::fs;
use std::process::ExitCode;

use super::guest::with_guest;
use super::terminal::{left_there, sit_at, size, term};
use crate::cli::DebugArgs;
use crate::error::{ErrorKind, Result};
use crate::event::Cancel;
use crate::session::{Order, debug};
use crate::store::RunDir;
use crate::ui::Ui;

/// Opens the guest, serves debuggers while it attends to the person in it, and ends it when that leaves. The exit code is the
/// shell's.
///
/// # Errors
/// As `kdbg shell`; or the address is taken. The run directory is left behind then, with the guest's logs.
pub fn debug(args: &DebugArgs, cancel: &Cancel) -> Result<ExitCode> {
    let debuggers = (args.early, args.listen.address());
    with_guest(
        &args.guest,
        debuggers,
        |recipe| RunDir::create(recipe, None),
        cancel,
        |order, screen| {
            let folder = order.run_dir.path();
            let ended = attend(order, screen);
            if ended.as_ref().is_err_and(|error| error.kind != ErrorKind::Interrupted) {
                debug::end(order);
                return ended.map_err(|error| left_there(folder, error));
            }
            // There is no report, and the person has seen all there was to see.
            let _ = fs::remove_dir_all(folder);
            ended
        },
    )
}

/// Opens the guest to debuggers, and attends to the person in it.
fn attend(order: &Order<'_>, screen: Ui) -> Result<ExitCode> {
    let (shell, _debuggers) = debug::open(order, size(), &term())?;
    order.events.fact("shell", "exit or Ctrl-] ends the guest, and whatever debugger is there");
    screen.finish();
    sit_at(shell, order)
}
