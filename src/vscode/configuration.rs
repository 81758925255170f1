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
    /// Whether vmlinux is somebody else's: [`NO_AUTO_LOAD`].
    pub is_foreign: bool,
    /// Whether a breakpoint has to be one in a register of the CPU.
    pub hardware: bool,
}

/// Has GDB run nothing of what lies beside vmlinux or is in it. It is too late for that once GDB has read the symbols, which each
/// extension has it do early; so this is an argument of GDB's.
pub const NO_AUTO_LOAD: &str = "set auto-load off";

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
    let guard = served.is_foreign.then_some(NO_AUTO_LOAD);
    let setup = guard.into_iter().chain([symbols.as_str()]).chain(served.commands.iter().map(String::as_str));
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
    if served.is_foreign {
        // One text, of which only double quotation marks hold words together.
        configuration["miDebuggerArgs"] = json!(format!("-iex \"{}\"", NO_AUTO_LOAD));
    }
    if served.hardware {
        configuration["hardwareBreakpoints"] = json!({ "require": true, "limit": REGISTERS });
    }
    configuration
}

/// Native Debug. It runs `autorun` when it has attached, and knows nothing of breakpoints in registers.
fn native_debug(served: &Served) -> Value {
    let mut configuration = json!({
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
    });
    if served.is_foreign {
        configuration["debugger_args"] = json!(["-iex", NO_AUTO_LOAD]);
    }
    configuration
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
    if served.is_foreign {
        configuration["gdbArguments"] = json!(["-iex", NO_AUTO_LOAD]);
    }
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
            is_foreign: false,
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
    fn a_foreign_vmlinux_is_read_by_a_gdb_that_runs_nothing_of_it() {
        let foreign = Served { is_foreign: true, ..served(false) };
        let keys = ["miDebuggerArgs", "debugger_args", "gdbArguments"];
        let guards = |served: &Served| {
            let all = all(served);
            [0, 1, 2].map(|at| all[at].1[keys[at]].clone())
        };
        let words = json!(["-iex", "set auto-load off"]);
        assert_eq!(guards(&foreign), ["-iex \"set auto-load off\"".into(), words.clone(), words]);
        assert_eq!(guards(&served(false)), [Value::Null, Value::Null, Value::Null]);
        let first = |served: &Served| all(served)[0].1["setupCommands"][0]["text"].clone();
        assert_eq!([first(&foreign), first(&served(false))], ["set auto-load off", "file /k/vmlinux"]);
    }

    #[test]
    fn no_command_has_what_extensions_disagree_about() {
        let all = all(&served(false));
        let commands = all[2].1["preConnectCommands"].as_array().unwrap();
        assert!(commands.iter().all(|command| !command.as_str().unwrap().contains(['"', '\\'])), "{commands:?}");
    }
}
