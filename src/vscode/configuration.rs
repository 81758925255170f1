//! How each extension is told to attach. Pure.
//!
//! The keys are those of the extensions' own schemas: Microsoft's C/C++ (`cppdbg`), Native Debug 0.27 (`gdb`), and Eclipse's CDT GDB
//! (`gdbtarget`; `run` since 2.9).

use serde_json::{Value, json};

/// What a debugger attaches to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What the configurations are called; those for other extensions than Microsoft's have the extension's name behind it.
    pub name: &'static str,
    /// Where the server is, as GDB's `target remote` takes it.
    pub address: String,
    /// The file with the symbols.
    pub vmlinux: String,
    /// Commands of GDB's that find the source, and whatever else is wanted before it attaches. No quotation marks and no
    /// backslashes: extensions differ in what they make of them.
    pub commands: Vec<String>,
    /// Whether a breakpoint has to be one in a register of the CPU.
    pub hardware: bool,
}

/// How many breakpoints an x86-64 CPU has registers for.
const REGISTERS: u32 = 4;

/// Has GDB say that it leaves before it disconnects. CDT GDB's way to stop is `disconnect`, of which the other side only hears
/// that a connection has ended, as it does when a debugger has crashed.
const SAY_THAT_IT_LEAVES: &str =
    "python gdb.execute(chr(10).join(('define hook-disconnect', 'maintenance packet D', 'end')))";

/// The configurations, with their names.
pub(super) fn all(served: &Served) -> [(String, Value); 3] {
    [microsoft(served), native_debug(served), cdt(served)].map(|configuration| {
        let name = configuration["name"].as_str().unwrap_or_default().to_string();
        (name, configuration)
    })
}

/// Microsoft's C/C++. Its way to stop is a kill, which the server takes for a farewell. It loads the symbols after the
/// `setupCommands`, some of which want them.
fn microsoft(served: &Served) -> Value {
    let symbols = format!("file {}", served.vmlinux);
    let setup = std::iter::once(&symbols).chain(&served.commands);
    let setup = setup.map(|command| json!({ "text": command, "ignoreFailures": true }));
    let mut configuration = json!({
        "name": served.name,
        "type": "cppdbg",
        "request": "launch",
        "program": served.vmlinux,
        "cwd": "${workspaceFolder}",
        "MIMode": "gdb",
        "miDebuggerServerAddress": served.address,
        "stopAtConnect": true,
        "externalConsole": false,
        "additionalSOLibSearchPath": "",
        "setupCommands": setup.collect::<Value>()
    });
    if served.hardware {
        configuration["hardwareBreakpoints"] = json!({ "require": true, "limit": REGISTERS });
    }
    configuration
}

/// Native Debug. It runs `autorun` when it has attached, and knows nothing of breakpoints in registers.
fn native_debug(served: &Served) -> Value {
    json!({
        "name": format!("{} (Native Debug)", served.name),
        "type": "gdb",
        "request": "attach",
        "executable": served.vmlinux,
        "target": served.address,
        "remote": true,
        "cwd": "${workspaceFolder}",
        "stopAtConnect": true,
        "valuesFormatting": "parseText",
        "autorun": served.commands
    })
}

/// Eclipse's CDT GDB. Without `run` it lets go on what it has attached to.
fn cdt(served: &Served) -> Value {
    let mut before = served.commands.clone();
    before.push(SAY_THAT_IT_LEAVES.into());
    let mut configuration = json!({
        "name": format!("{} (CDT GDB)", served.name),
        "type": "gdbtarget",
        "request": "attach",
        "program": served.vmlinux,
        "cwd": "${workspaceFolder}",
        "run": "preserve",
        "preConnectCommands": before,
        "target": { "type": "remote", "parameters": [served.address] }
    });
    if served.hardware {
        configuration["hardwareBreakpoint"] = json!(true);
    }
    configuration
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(hardware: bool) -> Served {
        Served {
            name: "kdbg: this",
            address: "127.0.0.1:1234".into(),
            vmlinux: "/k/vmlinux".into(),
            commands: vec!["set pagination off".into(), "directory /k/source".into()],
            hardware,
        }
    }

    #[test]
    fn each_extension_has_its_own_words() {
        let text = |(_, configuration): (String, Value)| serde_json::to_string_pretty(&configuration).unwrap();
        insta::assert_snapshot!(all(&served(false)).map(text).join("\n"));
    }

    #[test]
    fn breakpoints_are_in_registers_only_where_they_have_to_be() {
        let [plain, registers] =
            [false, true].map(|hardware| all(&served(hardware)).map(|(_, configuration)| configuration));
        assert_eq!(
            (&registers[0]["hardwareBreakpoints"]["require"], &plain[0]["hardwareBreakpoints"]),
            (&true.into(), &Value::Null)
        );
        assert_eq!(
            (&registers[2]["hardwareBreakpoint"], &plain[2]["hardwareBreakpoint"]),
            (&true.into(), &Value::Null)
        );
    }

    #[test]
    fn no_command_has_what_extensions_disagree_about() {
        let all = all(&served(false));
        let commands = all[2].1["preConnectCommands"].as_array().unwrap();
        assert!(commands.iter().all(|command| !command.as_str().unwrap().contains(['"', '\\'])), "{commands:?}");
    }
}
