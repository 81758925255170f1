//! Runs cargo and kdbg as children whose output is seen as it comes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kdbg::error::{Error, IoContext, Result};

/// The cargo that runs this program.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root);
    command
}

/// Runs it with this program's streams.
///
/// # Errors
/// It cannot be started, or ends with a failure.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let line = line(&command);
    let status = command.status().or_host(format!("run `{line}`"))?;
    if status.success() { Ok(()) } else { Err(Error::host(format!("`{line}` failed ({status})"))) }
}

/// Whether it ends well when run in silence.
pub(crate) fn works(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs it, shows every line of its standard output and hands it to `each_line`. Returns whether it ended well.
///
/// # Errors
/// It cannot be started or waited for.
pub(crate) fn watch(mut command: Command, mut each_line: impl FnMut(&str)) -> Result<bool> {
    let doing = format!("run `{}`", line(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().or_host(&doing)?;
    if let Some(output) = child.stdout.take() {
        for bytes in BufReader::new(output).split(b'\n') {
            let bytes = bytes.or_host(&doing)?;
            let text = String::from_utf8_lossy(&bytes);
            // A closed standard output is no reason to leave the tests alone.
            let _ = writeln!(std::io::stdout(), "{text}");
            each_line(&text);
        }
    }
    Ok(child.wait().or_host(&doing)?.success())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
