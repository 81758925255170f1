//! `kdbg attach`: gdb on a guest that is held.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use crate::cli::AttachArgs;
use crate::error::{Error, IoContext, Result};
use crate::session::{HELD, Held};

/// Becomes gdb, attached to the guest that a run holds: the one that is named, else the last one below `runs/`.
///
/// # Errors
/// No run holds a guest, or there is no gdb.
pub fn attach(args: &AttachArgs) -> Result<ExitCode> {
    let file = match &args.run {
        Some(run) => last([run.clone()]).unwrap_or_else(|| run.join(HELD)),
        None => last_held(Path::new("runs")).ok_or_else(|| nothing_held("no run below runs/ holds a guest"))?,
    };
    if !file.is_file() {
        return Err(nothing_held(&format!("there is no {}", file.display())));
    }
    let held = Held::read(&file)?
        .ok_or_else(|| nothing_held(&format!("the kdbg that wrote {} is gone, and its guest too", file.display())))?;
    let gdb =
        which::which("gdb").map_err(|_| Error::host("there is no gdb").hint("`kdbg doctor --install` installs it"))?;
    // No file of the kernel tree's may run commands here; the script loads what it needs.
    let error = Command::new(gdb).args(["-q", "-iex", "set auto-load off", "-x"]).arg(&held.script).exec();
    Err(error).or_host("start gdb")
}

fn nothing_held(why: &str) -> Error {
    Error::usage(why)
        .hint("`kdbg run RECIPE --hold HIT` holds the guest at that hit until a debugger has come and left, `kdbg debug RECIPE` has one for debuggers that come and go")
}

/// The file of the run below this folder that holds a guest; of several, the last one that began to.
fn last_held(runs: &Path) -> Option<PathBuf> {
    // `latest` is a link to one of the others.
    let runs = below(runs).flat_map(|recipe| below(&recipe).filter(|run| !run.is_symlink()).collect::<Vec<_>>());
    last(runs)
}

/// Of these runs.
fn last(runs: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    // A run over several kernels has one below it for each.
    let all = runs
        .into_iter()
        .flat_map(|run| below(&run).filter(|below| below.is_dir()).chain([run.clone()]).collect::<Vec<_>>());
    let held = all.map(|run| run.join(HELD));
    let written = |file: &Path| -> Option<SystemTime> { fs::metadata(file).ok()?.modified().ok() };
    let held = held.filter(|file| Held::read(file).is_ok_and(|held| held.is_some()));
    held.filter_map(|file| Some((written(&file)?, file))).max().map(|(_, file)| file)
}

fn below(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_that_holds_a_guest_is_found_and_not_one_whose_kdbg_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_held(folder.path()), None);
        let run = |name: &str| folder.path().join("tcp-reset").join(name);
        let text = r#"{"address":"127.0.0.1:1","hit":1,"script":"/s"}"#;
        let mut held = Vec::new();
        for name in ["1", "2", "several/6.1"] {
            fs::create_dir_all(run(name)).unwrap();
            fs::write(run(name).join(HELD), text).unwrap();
            held.push(fs::File::options().write(true).open(run(name).join(HELD)).unwrap());
            held.last().unwrap().lock().unwrap();
        }
        held[0].set_modified(SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
        std::os::unix::fs::symlink("1", run("latest")).unwrap();
        assert_eq!(last_held(folder.path()), Some(run("1").join(HELD)));
        drop(held.remove(0));
        held[0].set_modified(SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
        assert_eq!(last_held(folder.path()), Some(run("2").join(HELD)));
        drop(held.remove(0));
        assert_eq!(last_held(folder.path()), Some(run("several/6.1").join(HELD)));
        assert_eq!(last([run("several")]), Some(run("several/6.1").join(HELD)));
        let error = attach(&AttachArgs { run: Some(run("1")) }).unwrap_err();
        assert!(error.message.contains("is gone"), "{error}");
    }

    #[test]
    fn a_run_that_holds_nothing_says_what_would() {
        let folder = tempfile::tempdir().unwrap();
        let error = attach(&AttachArgs { run: Some(folder.path().into()) }).unwrap_err();
        assert!(error.hint.unwrap().contains("--hold"));
    }
}
