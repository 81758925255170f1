//! `kdbg replay`: a debugger at the hits of a run that is long over.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::ReplayArgs;
use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::kernel::{build_id, gdb_commands};
use crate::recording::{FILE, Head, Recording, Replay};
use crate::report::text::plural;
use crate::server::{Address, Left, Server};
use crate::ui;
use crate::vscode::{self, LAUNCH, Served};

/// The name of its configurations in VS Code.
const NAME: &str = "kdbg: the replay";

/// Serves a recording to one debugger after the other, until kdbg is asked to stop.
///
/// # Errors
/// There is no recording, or it cannot be read; the address is taken; kdbg was asked to stop.
pub fn replay(args: &ReplayArgs, cancel: &Cancel) -> Result<ExitCode> {
    let file = file_of(&args.run)?;
    let recording = Recording::open(&file)?;
    let address = args.socket.clone().map(Address::Unix).or(args.listen.clone()).unwrap_or(Address::ANY);
    let server = Server::listen(&address)?;
    say(&recording);
    offer(&recording, server.address());
    let Head { kernel, .. } = &recording.head;
    let line = format!("gdb '{}' -ex 'target remote {}'\n", kernel.vmlinux, server.address());
    ui::print(&line).or_host("write to standard output")?;
    let mut replay = Replay::new(recording);
    loop {
        let left = server.client(cancel)?.serve(&mut replay, cancel)?;
        if let Left::Lost(why) = left {
            eprintln!("a debugger is gone: {why}");
        }
    }
}

/// The recording of a run: in its directory, or the file itself.
fn file_of(run: &Path) -> Result<PathBuf> {
    if run.join("matrix.json").is_file() {
        let several = Error::usage(format!("{} holds the runs of several kernels", run.display()));
        return Err(several.hint(format!("name one of them, like {}/6.1", run.display())));
    }
    let file = if run.is_dir() { run.join(FILE) } else { run.into() };
    match file.is_file() {
        true => Ok(file),
        false if run.is_dir() => Err(Error::usage(format!("{} has no recording: there is no {FILE}", run.display()))
            .hint("a run is recorded with `kdbg run RECIPE --record`, or with `record: true` in its recipe")),
        false => Err(Error::usage(format!("{} is neither a run directory nor a recording", run.display()))
            .hint("name a run directory, like runs/tcp-reset/latest, or a recording.kdbg")),
    }
}

/// Says what there is to be seen, and what is missing.
fn say(recording: &Recording) {
    let Head { recipe, kernel, .. } = &recording.head;
    let hits = plural(recording.hits.len() as u64, "hit");
    eprintln!(
        "{hits} of {recipe} on Linux {}; continue and reverse-continue walk them, Ctrl-C ends this",
        kernel.release
    );
    if let Some(cut) = &recording.cut {
        eprintln!("warning: {cut}");
    }
    if !build_id(Path::new(&kernel.vmlinux)).is_ok_and(|found| found == kernel.build_id) {
        eprintln!(
            "warning: {} is not the kernel of this recording any more: `kdbg build RECIPE` builds it again, with the build-id {}",
            kernel.vmlinux, kernel.build_id
        );
    }
}

/// Has VS Code find it. Who has no use for that, or a folder that cannot be written to, attaches gdb all the same.
fn offer(recording: &Recording, address: &Address) {
    let kernel = &recording.head.kernel;
    let offered = vscode::offer(&Served {
        name: NAME,
        address: address.to_string(),
        vmlinux: kernel.vmlinux.clone(),
        commands: gdb_commands(Path::new(&kernel.vmlinux), kernel.source.as_deref().map(Path::new)),
        // Nothing is written where a breakpoint is.
        hardware: false,
    });
    match offered {
        Ok(()) => eprintln!("VS Code: run \"{NAME}\" ({LAUNCH})"),
        Err(error) => eprintln!("warning: {LAUNCH} was left as it is: {}", error.message),
    }
}
