//! `kdbg shell`: a person's terminal, in a recipe's guest.

use std::io::{IsTerminal, Read, stdin, stdout};
use std::process::ExitCode;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::run::{ensure_host, find};
use crate::cli::ShellArgs;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::session::Order;
use crate::session::shell::{Left, Shell, Size, Typed};
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
        breakpoints: false,
        record: false,
        hold: None,
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
    let mut shell = Shell::open(order, size(), &std::env::var("TERM").unwrap_or_default())?;
    order.events.fact("shell", "exit or Ctrl-] leaves; what was not brought out is lost then");
    screen.finish();
    let raw = Raw::set()?;
    let left = shell.attend(&typed()?, &mut stdout(), order);
    drop(raw);
    shell.close();
    match left? {
        Left::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        Left::Escaped => {
            eprintln!();
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Leaves the logs behind where there are any, and says where.
fn keep_logs(folder: TempDir, error: Error) -> Error {
    if error.kind == ErrorKind::Interrupted || !folder.path().join("console.log").exists() {
        return error;
    }
    let kept = format!("the run directory is {}, and is left there", folder.keep().display());
    let hint = error.hint.as_ref().map_or(kept.clone(), |hint| format!("{hint}; {kept}"));
    Error { hint: Some(hint), ..error }
}

/// The terminal's size, if standard input is one.
fn size() -> Option<Size> {
    let size = tcgetwinsize(stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Everything that comes from the person, as it comes.
fn typed() -> Result<Receiver<Typed>> {
    let (sender, receiver) = unbounded();
    let mut resizes = Signals::new([SIGWINCH]).or_host("handle signals")?;
    let resized: Sender<Typed> = sender.clone();
    std::thread::spawn(move || {
        for _ in resizes.forever() {
            if size().is_some_and(|size| resized.send(Typed::Resized(size)).is_err()) {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stdin().lock().read(&mut buffer) {
            if sender.send(Typed::Bytes(buffer[..count].to_vec())).is_err() {
                return;
            }
        }
        let _ = sender.send(Typed::End);
    });
    Ok(receiver)
}

/// A terminal that hands every key to the guest; it is as it was when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn set() -> Result<Raw> {
        if !stdin().is_terminal() {
            return Ok(Raw(None));
        }
        let before = tcgetattr(stdin()).map_err(std::io::Error::from).or_host("ask how the terminal is set")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(std::io::Error::from).or_host("set the terminal")?;
        Ok(Raw(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
