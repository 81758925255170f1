//! What the tests open cores with, besides gdb: `crash`, and drgn from PyPI, of the version and hashes in
//! `tests/drgn/requirements.txt`.
//!
//! Nothing of kdbg needs either, or Python. Not every distribution has `crash`, nor every Python a wheel of drgn: where one
//! cannot be had that is said, and the tests say that they are skipped. Where there is a wheel, they fail without drgn.

use std::fs;
use std::path::Path;
use std::process::Command;

use kdbg::error::{IoContext, Result};
use kdbg::event::{Cancel, Events};
use kdbg::host::check;
use kdbg::host::needs::{Need, Packages, Purpose};
use kdbg::host::system::System;

use crate::process::run;

/// The file in the repository that says which drgn.
const WANTED: &str = "tests/drgn/requirements.txt";
/// The folder for it beside the build's output; `tests/support/offline.rs` looks there.
const FOLDER: &str = "drgn";
/// A copy of [`WANTED`] there: what is installed, once all of it is.
const WHOLE: &str = "requirements.txt";

/// Installs what is not there already, drgn below `target`.
///
/// # Errors
/// kdbg was interrupted, or the folder cannot be written.
pub(super) fn install(root: &Path, target: &Path, system: &System, events: &Events, cancel: &Cancel) -> Result<()> {
    let tried = [
        ("crash", check::ensure(&[crash()], true, system, events, cancel)),
        ("drgn", check::ensure(&python(), true, system, events, cancel).and_then(|()| drgn(root, target))),
    ];
    cancel.check()?;
    for (name, tried) in tried {
        if let Err(error) = tried {
            events.warn(format!("there is no {name} to open cores with in the tests: {error}"));
        }
    }
    Ok(())
}

fn crash() -> Need {
    let crash = Need::program("crash", Purpose::Debug, "opens cores in the tests");
    Need { packages: Packages { pacman: None, ..crash.packages }, ..crash }
}

/// Python, and what brings its pip where it has none: this is how that is started.
fn python() -> Vec<Need> {
    let need = |name: &'static str, why| Need::program(name, Purpose::Debug, why);
    let python = need("python3", "runs drgn in the tests").in_packages(["python3", "python3", "python", "python3"]);
    let pip = need("pip3", "installs drgn for the tests").in_packages([
        "python3-pip",
        "python3-pip",
        "python-pip",
        "python3-pip",
    ]);
    let has_pip = pip_of_python().arg("--version").output().is_ok_and(|output| output.status.success());
    if has_pip { vec![python] } else { vec![python, pip] }
}

fn pip_of_python() -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip"]);
    pip
}

fn drgn(root: &Path, target: &Path) -> Result<()> {
    let (wanted, folder) = (root.join(WANTED), target.join(FOLDER));
    let read = |file: &Path| fs::read(file).ok();
    if read(&wanted).is_some() && read(&wanted) == read(&folder.join(WHOLE)) {
        return Ok(());
    }
    let doing = format!("install drgn in {}", folder.display());
    // pip would leave what is there of another version.
    if folder.is_dir() {
        fs::remove_dir_all(&folder).or_host(&doing)?;
    }
    let mut pip = pip_of_python();
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.args(["--require-hashes", "--requirement"]).arg(&wanted).arg("--target").arg(&folder);
    run(pip)?;
    fs::copy(&wanted, folder.join(WHOLE)).or_host(&doing).map(drop)
}
