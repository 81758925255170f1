//! `kdbg shell`: a person's terminal, in a recipe's guest.

use std::process::ExitCode;

use tempfile::TempDir;

use super::guest::with_guest;
use super::terminal::{has_logs, left_there, sit_at, size, term};
use crate::cli::ShellArgs;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::server::Address;
use crate::session::Order;
use crate::session::shell::Shell;
use crate::store::RunDir;
use crate::ui::Ui;

/// Opens the guest, attends to it until it is left, and ends it. The exit code is the shell's.
///
/// # Errors
/// As `kdbg run` before its first step; the guest died, or ended itself. The folder of its logs is left behind then.
pub fn shell(args: &ShellArgs, cancel: &Cancel) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("kdbg-shell-").tempdir().or_host("make a folder for logs")?;
    let run_dir = |recipe: &str| RunDir::create(recipe, Some(folder.path()));
    let ended = with_guest(&args.guest, (false, Address::ANY), run_dir, cancel, attend);
    ended.map_err(|error| keep_logs(folder, error))
}

/// Opens the guest and attends to the person in it.
fn attend(order: &Order<'_>, screen: Ui) -> Result<ExitCode> {
    let mut shell = Shell::open(order, size(), &term())?;
    order.events.fact("shell", "exit or Ctrl-] leaves; what was not brought out is lost then");
    screen.finish();
    let ended = sit_at(&mut shell, order);
    shell.close();
    ended
}

/// Leaves the logs behind where there are any, and says where.
fn keep_logs(folder: TempDir, error: Error) -> Error {
    if error.kind == ErrorKind::Interrupted || !has_logs(folder.path()) {
        return error;
    }
    left_there(&folder.keep(), error)
}
