//! `kdbg replay`: a debugger at the hits of a run that is long over.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::ReplayArgs;
use crate::commands::recorded::{self, Origin, Recorded, quoted};
use crate::error::{IoContext, Result};
use crate::event::Cancel;
use crate::kernel::{SCRIPTS, gdb_commands};
use crate::recording::{Head, Recording, Replay};
use crate::report::text::plural;
use crate::server::{Address, Left, Server};
use crate::ui;
use crate::vscode::{self, LAUNCH, NO_AUTO_LOAD, Served};

/// The name of its configurations in VS Code.
const NAME: &str = "kdbg: the replay";

/// Serves a recording to one debugger after the other, until kdbg is asked to stop.
///
/// # Errors
/// There is no recording, or it cannot be read; the address is taken; kdbg was asked to stop.
pub fn replay(args: &ReplayArgs, cancel: &Cancel) -> Result<ExitCode> {
    let recorded = recorded::open(&args.run)?;
    let address = args.listen.address();
    let server = Server::listen(&address)?;
    say(&recorded);
    offer(&recorded, server.address());
    let line = line(&recorded, server.address());
    ui::print(&line).or_host("write to standard output")?;
    // The folder of a pack, and a kernel of the cache, stay for as long as this does.
    let Recorded { recording, unpacked: _folder, cache: _held, .. } = recorded;
    let mut replay = Replay::new(recording);
    loop {
        let left = server.client(cancel)?.serve(&mut replay, cancel)?;
        if let Left::Lost(why) = left {
            eprintln!("a debugger is gone: {why}");
        }
    }
}

/// Says what there is to be seen, and what is missing.
fn say(Recorded { recording, without, .. }: &Recorded) {
    let Head { recipe, kernel, .. } = &recording.head;
    let hits = plural(recording.hits.len() as u64, "hit");
    eprintln!(
        "{hits} of {recipe} on Linux {}; continue and reverse-continue walk them, Ctrl-C ends this",
        kernel.release
    );
    if let Some(cut) = &recording.cut {
        eprintln!("warning: {cut}");
    }
    if let Some(why) = without {
        eprintln!("warning: {why}");
    }
}

/// The command that has gdb attach. gdb runs `-iex` before it reads the symbols, wherever it stands.
fn line(Recorded { recording, commands, origin, .. }: &Recorded, address: &Address) -> String {
    let kernel = &recording.head.kernel;
    let (vmlinux, target) = (Path::new(&kernel.vmlinux), format!("target remote {address}"));
    let words = |flag: &str, command: &str| format!(" {flag} {}", quoted(command));
    let (mut first, mut early) = (String::new(), String::new());
    match origin {
        Origin::Cache => early = own_commands(vmlinux).iter().map(|command| words("-iex", command)).collect(),
        Origin::Host => {}
        Origin::Foreign => first = words("-iex", NO_AUTO_LOAD),
    }
    let source = source(recording).map(find_source);
    let late: String = source.iter().chain(commands).chain([&target]).map(|command| words("-ex", command)).collect();
    format!("gdb{first} {}{early}{late}\n", quoted(&kernel.vmlinux))
}

/// Has gdb load the kernel's own commands (`lx-ps`, `lx-dmesg`) with this vmlinux, where they were built with it.
fn own_commands(vmlinux: &Path) -> Vec<String> {
    let folder = vmlinux.parent().filter(|folder| folder.join(SCRIPTS).is_file());
    let load = |folder: &Path| {
        // What is compiled of them must not get into the cache.
        [
            "python import sys; sys.dont_write_bytecode = True".into(),
            format!("add-auto-load-safe-path {}", folder.display()),
        ]
    };
    folder.map(load).into_iter().flatten().collect()
}

/// The source tree, where it is still there.
fn source(recording: &Recording) -> Option<&Path> {
    recording.head.kernel.source.as_deref().map(Path::new).filter(|tree| tree.is_absolute() && tree.is_dir())
}

/// What has gdb find the source in this tree.
fn find_source(tree: &Path) -> String {
    format!("directory {}", tree.display())
}

/// Has VS Code find it. Who has no use for that, or a folder that cannot be written to, attaches gdb all the same.
fn offer(Recorded { recording, commands, origin, .. }: &Recorded, address: &Address) {
    let kernel = &recording.head.kernel;
    let usual = match origin {
        Origin::Cache => gdb_commands(Path::new(&kernel.vmlinux), source(recording)),
        // Beside it there may be scripts, which nobody has looked at.
        Origin::Host | Origin::Foreign => source(recording).map(find_source).into_iter().collect(),
    };
    let offered = vscode::offer(&Served {
        name: NAME,
        address: address.to_string(),
        vmlinux: kernel.vmlinux.clone(),
        commands: usual.into_iter().chain(commands.iter().cloned()).collect(),
        is_foreign: *origin == Origin::Foreign,
        // Nothing is written where a breakpoint is.
        hardware: false,
    });
    match offered {
        Ok(()) => eprintln!("VS Code: run \"{NAME}\" ({LAUNCH})"),
        Err(error) => eprintln!("warning: {LAUNCH} was left as it is: {}", error.message),
    }
}
