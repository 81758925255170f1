//! The debug adapter of the tests: Eclipse's CDT GDB, from npm, of the versions and hashes in `tests/adapter/package-lock.json`.
//!
//! Nothing of kdbg needs it, or node. Its packages' own scripts are not run: what they build is a terminal that no test opens.

use std::fs;
use std::path::Path;
use std::process::Command;

use kdbg::error::{IoContext, Result};
use kdbg::host::needs::{Need, Purpose};

use crate::process::run;

/// The folder in the repository that says which packages.
const WANTED: &str = "tests/adapter";
/// The folder for them beside the build's output; `tests/support/dap.rs` looks there.
const FOLDER: &str = "adapter";
/// What npm reads, the last one with the hash of each package.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];
/// What npm writes when all is there.
const WHOLE: &str = "node_modules/.package-lock.json";

/// What the host must have for it.
pub(super) fn needs() -> [Need; 2] {
    let need = |name: &'static str, why| Need::program(name, Purpose::Debug, why);
    [
        need("node", "runs the tests' debug adapter").in_packages(["nodejs", "nodejs", "nodejs", "nodejs-default"]),
        need("npm", "installs the tests' debug adapter").in_packages(["npm", "nodejs-npm", "npm", "npm-default"]),
    ]
}

/// Installs it below `target`, if it is not there already.
///
/// # Errors
/// npm fails, as without a registry, or the folder cannot be written.
pub(super) fn install(root: &Path, target: &Path) -> Result<()> {
    let (wanted, folder) = (root.join(WANTED), target.join(FOLDER));
    if is_there(&wanted, &folder) {
        return Ok(());
    }
    let doing = format!("install the tests' debug adapter in {}", folder.display());
    // npm would take what is half there for whole.
    if folder.is_dir() {
        fs::remove_dir_all(&folder).or_host(&doing)?;
    }
    fs::create_dir_all(&folder).or_host(&doing)?;
    for file in FILES {
        fs::copy(wanted.join(file), folder.join(file)).or_host(&doing)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
    run(npm)
}

fn is_there(wanted: &Path, folder: &Path) -> bool {
    let same = |file: &str| {
        let read = |folder: &Path| fs::read(folder.join(file)).ok();
        read(wanted).is_some() && read(wanted) == read(folder)
    };
    folder.join(WHOLE).is_file() && FILES.into_iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_when_all_of_it_and_just_that_is_there() {
        let place = tempfile::tempdir().unwrap();
        let (wanted, folder) = (place.path().join("wanted"), place.path().join("folder"));
        fs::create_dir_all(&wanted).unwrap();
        fs::create_dir_all(folder.join("node_modules")).unwrap();
        for file in FILES {
            fs::write(wanted.join(file), "1").unwrap();
            fs::write(folder.join(file), "1").unwrap();
        }
        assert!(!is_there(&wanted, &folder), "npm has not finished");
        fs::write(folder.join(WHOLE), "").unwrap();
        assert!(is_there(&wanted, &folder));
        fs::write(wanted.join(FILES[1]), "2").unwrap();
        assert!(!is_there(&wanted, &folder), "another version is wanted");
    }
}
