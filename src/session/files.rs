//! Files of the guest that steps name, brought into the run directory once the trigger is over and no probe stops it.

use std::fs::{self, File};
use std::path::Path;

use super::arm::Armed;
use super::journal::Journal;
use super::{Order, setup};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::gdb::breakpoints;
use crate::guest::Guest;
use crate::recipe::types::StepSpec;

/// The folder in the run directory.
pub(crate) const FOLDER: &str = "files";
/// The largest file that is brought back, in bytes.
const LARGEST: u64 = 256 << 20;

/// Brings back what the steps that ran have named. A file that cannot be is a warning: the run has what it is for.
/// `let_go` says whether GDB has left the guest already.
///
/// # Errors
/// The user interrupts, or the guest dies.
pub(super) fn bring_back(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    let_go: bool,
    journal: &mut Journal<'_>,
) -> Result<()> {
    let ran = order.loaded.recipe.trigger.iter().take(journal.steps());
    let wanted: Vec<(&StepSpec, &str)> =
        ran.flat_map(|step| step.fetch.iter().map(move |path| (step, path.as_str()))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    if !let_go {
        guest.pause()?;
        breakpoints::let_go(&mut armed.gdb, order.cancel)?;
    }
    let folder = order.run_dir.file(FOLDER);
    fs::create_dir(&folder).or_host(format!("make {}", folder.display()))?;
    for (step, path) in wanted {
        let name = crate::recipe::types::file_name(path);
        match fetch(order, guest, path, &folder.join(name)) {
            Ok(()) => order.events.fact("file", format!("{FOLDER}/{name}  from step `{}`", step.name)),
            Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let _ = fs::remove_file(folder.join(name));
                journal.warn(format!("{path} of step `{}` was not brought back: {}", step.name, error.message));
                guest.check()?;
            }
        }
    }
    Ok(())
}

fn fetch(order: &Order<'_>, guest: &mut Guest, path: &str, to: &Path) -> Result<()> {
    let mut file = File::create(to).or_host(format!("make {}", to.display()))?;
    let (code, said) = setup::run_script_into(order, guest, &script(path), "it did not arrive", &mut file)?;
    let said = said.trim().lines().last().unwrap_or_default();
    if code != 0 {
        return Err(Error::guest(if said.is_empty() { "it cannot be read" } else { said }));
    }
    // What runs on in the background may write to the same port.
    let came = file.metadata().or_host(format!("look at {}", to.display()))?.len();
    match said.parse::<u64>() {
        Ok(size) if size == came => Ok(()),
        _ => Err(Error::guest(format!("{came} bytes came and it has {said}: a program in the background wrote too"))),
    }
}

/// Writes the file to standard output, unless it is none or too large.
fn script(path: &str) -> String {
    let quoted = format!("'{}'", path.replace('\'', r"'\''"));
    format!(
        "file={quoted}\n[ -e \"$file\" ] || {{ echo 'there is no such file' >&2; exit 1; }}\n\
         [ -f \"$file\" ] || {{ echo 'it is not a regular file' >&2; exit 1; }}\n\
         [ $(wc -c <\"$file\") -le {LARGEST} ] || {{ echo 'it is larger than {} MiB' >&2; exit 1; }}\n\
         cat <\"$file\" && wc -c <\"$file\" >&2\n",
        LARGEST >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_script() {
        assert!(script("/tmp/it's $(here)").starts_with("file='/tmp/it'\\''s $(here)'\n"));
    }
}
