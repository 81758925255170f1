//! What a debugger needs to find a guest that is held: a script for gdb, a configuration for VS Code, a file for `kdbg attach`.

use std::fs;
use std::path::{Path, PathBuf};

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use jsonc_parser::json;
use serde::{Deserialize, Serialize};

use super::Order;
use super::journal::Journal;
use crate::error::{Error, IoContext, Result};
use crate::kernel::KernelBuild;

/// The script, in the run directory.
const SCRIPT: &str = "attach.gdb";
/// What `kdbg attach` reads there; it is there for as long as the guest is held.
pub const HELD: &str = "held.json";
/// Where VS Code looks, from the folder that it has open.
const LAUNCH: &str = ".vscode/launch.json";
/// The name of kdbg's configuration in it.
const NAME: &str = "kdbg: the held guest";

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

/// Writes all three and says how to attach.
pub(super) fn write(order: &Order<'_>, handover: &Handover<'_>, journal: &mut Journal<'_>) -> Result<()> {
    let script = absolute(&order.run_dir.file(SCRIPT));
    order.run_dir.write(SCRIPT, &handover.script())?;
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
    order.run_dir.write(HELD, &serde_json::to_string(&held).map_err(|error| Error::host(error.to_string()))?)
}

/// The guest is held no more.
pub(super) fn end(order: &Order<'_>) {
    for name in [HELD, SCRIPT] {
        // Nobody finds anything there any more, whether it is deleted or not.
        let _ = fs::remove_file(order.run_dir.file(name));
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

impl Handover<'_> {
    /// Commands that have gdb load the symbols, find the source, and attach.
    fn script(&self) -> String {
        let vmlinux = self.kernel.vmlinux.display();
        let mut text = format!("# Attaches gdb to kdbg's guest ({}).\nset pagination off\nfile {vmlinux}\n", self.at);
        if let Some(tree) = &self.kernel.source_tree {
            let tree = tree.display();
            text.push_str(&format!("directory {tree}\n"));
        }
        if let Some(scripts) = self.kernel.gdb_scripts() {
            // The kernel's own commands: lx-ps, lx-dmesg and so on. What is compiled of them must not get into the cache.
            text.push_str("python import sys; sys.dont_write_bytecode = True\n");
            text.push_str(&format!("source {}\n", scripts.display()));
        }
        text.push_str(&format!("target remote {}\n", self.address));
        text
    }

    /// Puts kdbg's configuration into the folder's `launch.json`, beside what is the user's.
    fn launch(&self) -> Result<()> {
        let path = Path::new(LAUNCH);
        let existing = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).or_host(format!("read {LAUNCH}")),
        };
        let merged = merged(existing.as_deref(), self.configuration())?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).or_host(format!("make {}", folder.display()))?;
        }
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))
            .or_host(format!("write {LAUNCH}"))?;
        std::io::Write::write_all(&mut file, merged.as_bytes()).or_host(format!("write {LAUNCH}"))?;
        file.persist(path).map_err(|error| error.error).or_host(format!("write {LAUNCH}"))?;
        Ok(())
    }

    /// For Microsoft's C/C++ extension. Leaving it does not end the guest: the server takes a kill for a farewell.
    fn configuration(&self) -> CstInputValue {
        let vmlinux = self.kernel.vmlinux.display().to_string();
        let tree = self.kernel.source_tree.as_ref().map(|tree| tree.display().to_string()).unwrap_or_default();
        json!({
            "name": NAME,
            "type": "cppdbg",
            "request": "launch",
            "program": vmlinux,
            "cwd": "${workspaceFolder}",
            "MIMode": "gdb",
            "miDebuggerServerAddress": (self.address.clone()),
            "stopAtConnect": true,
            "externalConsole": false,
            "additionalSOLibSearchPath": "",
            "setupCommands": [
                { "text": "set pagination off", "ignoreFailures": true },
                { "text": (format!("directory {tree}")), "ignoreFailures": true }
            ]
        })
    }
}

/// A `launch.json` with this configuration in place of one of the same name; comments and all else stay as they are.
fn merged(existing: Option<&str>, configuration: CstInputValue) -> Result<String> {
    let text = existing.filter(|text| !text.trim().is_empty()).unwrap_or("{\n    \"version\": \"0.2.0\"\n}\n");
    let wrong = |why: String| Error::usage(format!("it is no JSON that VS Code would read: {why}"));
    let root = CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| wrong(error.to_string()))?;
    let object = root.object_value().ok_or_else(|| wrong("it is no object".into()))?;
    let list =
        object.array_value_or_create("configurations").ok_or_else(|| wrong("`configurations` is no list".into()))?;
    let ours = list.elements().into_iter().find(|element| {
        let name = element.as_object().and_then(|object| object.get("name")?.value()?.as_string_lit());
        name.and_then(|name| name.decoded_value().ok()).as_deref() == Some(NAME)
    });
    if let Some(ours) = ours {
        ours.remove();
    }
    list.ensure_multiline();
    list.append(configuration);
    Ok(root.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_users_stays_as_it_is() {
        let ours = || json!({ "name": NAME, "type": "cppdbg" });
        let made = merged(None, ours()).unwrap();
        assert!(made.contains("\"version\": \"0.2.0\"") && made.contains(NAME), "{made}");
        assert_eq!(merged(Some(&made), ours()).unwrap(), made, "once more changes nothing");
        let theirs = "{\n  // mine\n  \"version\": \"0.2.0\",\n  \"configurations\": [\n    { \"name\": \"mine\", \"type\": \"x\" }, // keep\n  ]\n}\n";
        let both = merged(Some(theirs), ours()).unwrap();
        for kept in ["// mine", "// keep", "\"name\": \"mine\"", NAME] {
            assert!(both.contains(kept), "{kept}: {both}");
        }
        for broken in ["[]", "{", "{ \"configurations\": 1 }"] {
            assert!(merged(Some(broken), ours()).is_err(), "{broken}");
        }
    }
}
