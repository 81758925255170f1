//! A person's terminal, at a guest's shell: `kdbg shell` and `kdbg debug`.

use std::io::{IsTerminal, Read, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use crate::error::{Error, IoContext, Result};
use crate::session::Order;
use crate::session::shell::{Left, Shell, Size, Typed};

/// What the guest's kernel has said, in a run directory.
pub(super) const LOG: &str = "console.log";

/// Attends to the person at the shell until it is left. The exit code is the shell's.
///
/// # Errors
/// The guest died or halted, the terminal cannot be used, or kdbg was asked to stop.
pub(super) fn sit_at(shell: &mut Shell, order: &Order<'_>) -> Result<ExitCode> {
    let raw = Raw::set()?;
    let left = shell.attend(&typed()?, &mut stdout(), order);
    drop(raw);
    match left? {
        Left::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        Left::Escaped => {
            eprintln!();
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Whether a guest has left logs there.
pub(super) fn has_logs(folder: &Path) -> bool {
    folder.join(LOG).exists()
}

/// An error of a guest whose logs stay where they are.
pub(super) fn left_there(folder: &Path, error: Error) -> Error {
    let kept = format!("the run directory is {}, and is left there", folder.display());
    let hint = error.hint.as_ref().map_or(kept.clone(), |hint| format!("{hint}; {kept}"));
    Error { hint: Some(hint), ..error }
}

/// What the person's terminal is called.
pub(super) fn term() -> String {
    std::env::var("TERM").unwrap_or_default()
}

/// The terminal's size, if standard input is one.
pub(super) fn size() -> Option<Size> {
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
