//! What a debugger needs to find a guest that is held: a script for gdb, configurations for VS Code, a file for `kdbg attach`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Order;
use super::journal::Journal;
use crate::error::{Error, IoContext, Result};
use crate::kernel::{KernelBuild, gdb_commands};
use crate::vscode::{self, LAUNCH, Served};

/// The script that has gdb attach, in the run directory.
pub const ATTACH: &str = "attach.gdb";
/// What `kdbg attach` reads there; it is there for as long as the guest is held.
pub const HELD: &str = "held.json";
/// The name of its configurations in VS Code.
const NAME: &str = "kdbg: the guest";

/// Where GDB attaches at the first instruction of a function, it shows the functions that are inlined there as frames; where it has
/// stopped at a breakpoint of its own, it does not. So it is given one there, and told to go on: it stops before anything runs.
const STOP_IN: &str = "python
if gdb.selected_frame().name() != 'FUNCTION':
    gdb.Breakpoint('*$pc', internal=True, temporary=True).silent = True
    gdb.execute('with confirm off -- jump *$pc', to_string=True)
    gdb.execute('frame')
end";

/// A guest that is held.
#[derive(Debug)]
pub(super) struct Handover<'a> {
    /// Where the server is.
    pub(super) address: String,
    /// Where it stands, like `hit 3`.
    pub(super) at: &'a str,
    /// The hit that it is held at, if it is one.
    pub(super) hit: Option<u64>,
    /// Its kernel.
    pub(super) kernel: &'a KernelBuild,
    /// Whether breakpoints have to be in registers of the CPU.
    pub(super) hardware: bool,
}

/// `held.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where the server is.
    pub address: String,
    /// The hit that the guest is held at, if it is one.
    pub hit: Option<u64>,
    /// The script that has gdb attach.
    pub script: PathBuf,
}

/// A guest that can be found, until this is dropped or kdbg dies: the lock on [`HELD`].
#[derive(Debug)]
pub(super) struct Found(#[expect(dead_code, reason = "what is locked is open")] File);

/// Writes all three and says how to attach.
pub(super) fn write(order: &Order<'_>, handover: &Handover<'_>, journal: &mut Journal<'_>) -> Result<Found> {
    let script = absolute(&order.run_dir.file(ATTACH));
    let function = handover.hit.and_then(|hit| journal.function_of(hit));
    order.run_dir.write(ATTACH, &handover.script(function))?;
    let launch = handover.launch();
    let events = order.events;
    events.fact("gdb", format!("gdb -x {}", script.display()));
    match launch {
        Ok(()) => events.fact("vscode", format!("run \"{NAME}\" ({LAUNCH})")),
        // It is the user's file: a debugger can attach without it.
        Err(error) => journal.warn(format!("{LAUNCH} was left as it is: {}", error.message)),
    }
    // Whoever waits for this file finds the rest.
    let held = Held { address: handover.address.clone(), hit: handover.hit, script };
    let text = serde_json::to_string(&held).map_err(|error| Error::host(error.to_string()))?;
    order.run_dir.write_with(HELD, |file| {
        // Before it has its name. Where there are no locks, that it is there has to do.
        let _ = file.try_lock();
        file.write_all(text.as_bytes())?;
        file.try_clone().map(Found)
    })
}

impl Held {
    /// What is in such a file; none where the kdbg that wrote it is gone.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn read(file: &Path) -> Result<Option<Held>> {
        let opened = File::open(file).or_host(format!("open {}", file.display()))?;
        if opened.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let text = std::io::read_to_string(opened).or_host(format!("read {}", file.display()))?;
        let held = serde_json::from_str(&text);
        held.map(Some).map_err(|error| Error::usage(format!("{} is not kdbg's: {error}", file.display())))
    }
}

/// The guest is held no more.
pub(super) fn end(order: &Order<'_>) {
    for name in [HELD, ATTACH] {
        // Nobody finds anything there any more, whether it is deleted or not.
        let _ = fs::remove_file(order.run_dir.file(name));
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

impl Handover<'_> {
    /// A script that has gdb load the symbols, find the source, and attach; and show the function of the hit.
    fn script(&self, function: Option<&str>) -> String {
        let head = format!("# Attaches gdb to kdbg's guest ({}).\n", self.at);
        let attach = [format!("file {}", self.kernel.vmlinux.display())];
        let target = format!("target remote {}", self.address);
        let shown = function.map(|function| STOP_IN.replace("FUNCTION", function));
        let lines = attach.into_iter().chain(self.commands()).chain([target]).chain(shown);
        lines.fold(head, |text, line| text + &line + "\n")
    }

    fn commands(&self) -> Vec<String> {
        gdb_commands(&self.kernel.vmlinux, self.kernel.source_tree.as_deref())
    }

    /// Puts kdbg's configurations into the folder's `launch.json`.
    fn launch(&self) -> Result<()> {
        vscode::offer(&Served {
            name: NAME,
            address: self.address.clone(),
            vmlinux: self.kernel.vmlinux.display().to_string(),
            commands: self.commands(),
            is_foreign: false,
            hardware: self.hardware,
        })
    }
}
