//! `kdbg replay`: a debugger at the hits of a run that is long over.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::ReplayArgs;
use crate::commands::recorded::{self, Recorded};
use crate::error::{IoContext, Result};
use crate::event::Cancel;
use crate::kernel::gdb_commands;
use crate::recording::{Head, Replay};
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
    let recorded = recorded::open(&args.run)?;
    let address = args.listen.address();
    let server = Server::listen(&address)?;
    say(&recorded);
    offer(&recorded, server.address());
    let Recorded { recording, commands, .. } = &recorded;
    let commands: String = commands.iter().map(|command| format!(" -ex '{command}'")).collect();
    let line = format!("gdb '{}'{commands} -ex 'target remote {}'\n", recording.head.kernel.vmlinux, server.address());
    ui::print(&line).or_host("write to standard output")?;
    // The folder of a pack stays for as long as this does.
    let Recorded { recording, unpacked: _folder, .. } = recorded;
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

/// Has VS Code find it. Who has no use for that, or a folder that cannot be written to, attaches gdb all the same.
fn offer(Recorded { recording, commands, is_foreign, .. }: &Recorded, address: &Address) {
    let kernel = &recording.head.kernel;
    let vmlinux = Path::new(&kernel.vmlinux);
    // Beside a vmlinux that somebody else has sent there may be scripts, which nobody has looked at.
    let usual = if *is_foreign { Vec::new() } else { gdb_commands(vmlinux, kernel.source.as_deref().map(Path::new)) };
    let offered = vscode::offer(&Served {
        name: NAME,
        address: address.to_string(),
        vmlinux: kernel.vmlinux.clone(),
        commands: usual.into_iter().chain(commands.iter().cloned()).collect(),
        // Nothing is written where a breakpoint is.
        hardware: false,
    });
    match offered {
        Ok(()) => eprintln!("VS Code: run \"{NAME}\" ({LAUNCH})"),
        Err(error) => eprintln!("warning: {LAUNCH} was left as it is: {}", error.message),
    }
}
