//! `kdbg debug`: a recipe's guest, for debuggers, with a shell in the terminal.

use std::fs;
use std::process::ExitCode;

use super::guest::with_guest;
use super::terminal::{LOG, has_logs, left_there, sit_at, size, term};
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
/// As `kdbg shell`; or the address is taken. The run directory is left behind then, with the guest's logs; and where the guest's
/// kernel has complained.
pub fn debug(args: &DebugArgs, cancel: &Cancel) -> Result<ExitCode> {
    let debuggers = (args.early, args.listen.address());
    with_guest(
        &args.guest,
        debuggers,
        |recipe| RunDir::create(recipe, None),
        cancel,
        |order, screen| {
            let folder = order.run_dir.path();
            let (ended, has_complained) = attend(order, screen);
            debug::end(order);
            match ended {
                Err(error) if error.kind != ErrorKind::Interrupted && has_logs(folder) => {
                    return Err(left_there(folder, error));
                }
                // The person has seen the first lines of it.
                _ if has_complained => eprintln!("the guest's kernel has complained: {}", folder.join(LOG).display()),
                // There is no report, and nothing else to be seen.
                _ => drop(fs::remove_dir_all(folder)),
            }
            ended
        },
    )
}

/// Opens the guest to debuggers, and attends to the person in it. Gives whether its kernel has complained, too.
fn attend(order: &Order<'_>, screen: Ui) -> (Result<ExitCode>, bool) {
    let (mut shell, _debuggers) = match debug::open(order, size(), &term()) {
        Ok(opened) => opened,
        Err(error) => return (Err(error), false),
    };
    order.events.fact("shell", "exit or Ctrl-] ends the guest, and whatever debugger is there");
    screen.finish();
    let ended = sit_at(&mut shell, order);
    (ended, shell.close())
}
