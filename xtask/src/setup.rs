//! `cargo xtask setup`: from a fresh clone to a machine on which every test can run.
//!
//! Knows no package: what is needed is kdbg's own table ([`kdbg::host::needs`]), and what the tests' [`adapter`] and [`openers`] want.
//! Running this is the consent to install.

mod adapter;
mod openers;

use std::path::Path;
use std::process::Command;

use kdbg::error::{IoContext, Result};
use kdbg::event::Cancel;
use kdbg::host::check;
use kdbg::host::needs::{Purpose, needs_for};
use kdbg::host::system::System;
use kdbg::store::Cache;
use kdbg::{recipe, ui};

use crate::process::{cargo, run};

/// The recipe whose kernel the tests boot.
const RECIPE: &str = "recipes/tcp-reset.yaml";

/// Installs what is missing, builds kdbg, gets the tests' debug adapter, builds the kernel of [`RECIPE`]. Does nothing that
/// is already done.
///
/// # Errors
/// kdbg does not compile, a package cannot be installed, or the kernel does not build.
pub(crate) fn setup(root: &Path, cancel: &Cancel) -> Result<()> {
    // Only the debug build: it is what the tests use, and it shares its dependencies with this program.
    run(cargo(root, &["build", "--package", "kdbg"]))?;
    let kdbg = std::env::current_exe().or_host("find this program")?.with_file_name("kdbg");
    kdbg::process::set_supervisor(kdbg.clone());
    install(root, &kdbg, cancel)?;
    if let Some(target) = kdbg.parent().and_then(Path::parent) {
        adapter::install(root, target)?;
    }
    // As a program of its own, so that what CI sees is what a user sees.
    let mut build = Command::new(kdbg);
    build.args(["build", RECIPE]).current_dir(root);
    run(build)
}

fn install(root: &Path, kdbg: &Path, cancel: &Cancel) -> Result<()> {
    let loaded = recipe::load(&root.join(RECIPE))?;
    let mut needs = needs_for(&Purpose::ALL, &loaded.recipe.kernel.version);
    needs.extend(adapter::needs());
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let system = System::here(Cache::place()?);
    let installed = check::ensure(&needs, true, &system, &events, cancel);
    // Beside the folder of the profile.
    let target = kdbg.parent().and_then(Path::parent).unwrap_or(root);
    let installed = installed.and_then(|()| openers::install(root, target, &system, &events, cancel));
    screen.finish();
    installed
}
