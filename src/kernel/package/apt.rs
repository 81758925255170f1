//! What apt knows of a kernel's packages, and how they are fetched: no root is needed, and apt checks every hash.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::control::{self, Stanza};
use crate::error::{Error, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::package::download::{Download, downloads};
use crate::process::Tool;
use crate::store::space;

/// How long a download may take, in all.
const DOWNLOAD: Duration = Duration::from_secs(3600);
/// How often a download's progress is told.
const TICK: Duration = Duration::from_millis(100);

/// The two packages of a kernel, of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// The version of both.
    pub(super) version: String,
    /// The kernel and its modules.
    pub(super) image: Deb,
    /// Their debug information.
    pub(super) debug: Deb,
}

/// A package, and the file that apt would download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deb {
    /// The package.
    pub(super) package: String,
    /// The file.
    pub(super) file: Download,
}

/// Why a name does not lead to a kernel.
#[derive(Debug)]
pub(super) enum Unfound {
    /// apt knows no such package.
    NoPackage,
    /// The kernel is there, its debug information is not.
    NoDebug {
        /// What it would be called.
        wanted: String,
    },
    /// apt failed.
    Failed(Error),
}

impl From<Error> for Unfound {
    fn from(error: Error) -> Self {
        Unfound::Failed(error)
    }
}

/// The packages of the kernel called `name`: a package with a kernel, or one that only depends on the newest of those.
///
/// # Errors
/// apt has no such kernel, or no debug information of it.
pub(super) fn find(name: &str, cancel: &Cancel) -> Result<Pair, Unfound> {
    let image = candidate(name, cancel)?.ok_or(Unfound::NoPackage)?;
    let image = match image.depends_on_kernel() {
        Some(kernel) => candidate(kernel, cancel)?.ok_or(Unfound::NoPackage)?,
        None => image,
    };
    let wanted = control::debug_package(&image.package);
    let versions = [&image.package, &wanted].map(|package| format!("{package}={}", image.version));
    // In a folder without them: what lies there already would not be named.
    let empty = tempfile::tempdir().map_err(|error| Error::host(format!("cannot make a temporary folder: {error}")))?;
    let ask = apt("apt-get").args(["--print-uris", "download"]).args(versions).directory(empty.path());
    let output = ask.output(cancel)?;
    if !output.status.success() {
        return Err(Unfound::NoDebug { wanted });
    }
    let files = downloads(&output.text);
    let deb = |package: &str| {
        let file = files.iter().find(|file| file.name.starts_with(&format!("{package}_"))).cloned();
        let file = file
            .ok_or_else(|| Error::kernel(format!("`{}` names no file of {package}: {}", ask.line(), output.tail(3))))?;
        Ok::<_, Error>(Deb { package: package.into(), file })
    };
    Ok(Pair { image: deb(&image.package)?, debug: deb(&wanted)?, version: image.version })
}

/// The version of `package` that apt would install.
fn candidate(package: &str, cancel: &Cancel) -> Result<Option<Stanza>> {
    let output = apt("apt-cache").args(["show", "--no-all-versions", package]).output(cancel)?;
    Ok(Some(output).filter(|output| output.status.success()).and_then(|output| control::stanza(&output.text)))
}

/// The kernels that apt has with their debug information, oldest first.
///
/// # Errors
/// apt cannot be run.
pub(super) fn kernels(cancel: &Cancel) -> Result<Vec<String>> {
    let output = apt("apt-cache").args(["pkgnames", "linux-image-"]).output(cancel)?;
    Ok(control::with_debug_packages(output.text.lines()))
}

/// Downloads both packages into `folder`.
///
/// # Errors
/// A download failed, or what came has another hash.
pub(super) fn download(pair: &Pair, folder: &Path, events: &Events, cancel: &Cancel) -> Result<()> {
    let debs = [&pair.image, &pair.debug];
    let versions = debs.map(|deb| format!("{}={}", deb.package, pair.version));
    let fetch = apt("apt-get").arg("download").args(versions).directory(folder).deadline(DOWNLOAD);
    let total = debs.iter().map(|deb| deb.file.size).sum();
    let output = while_watching(folder, total, events, || fetch.output(cancel))?;
    if output.status.success() {
        return Ok(());
    }
    if let Some(full) = space::full(&output.text, format!("fetching {}", pair.image.package)) {
        return Err(full);
    }
    let error = Error::kernel(format!("`{}` failed: {}", fetch.line(), output.tail(2)));
    Err(error.hint("if the package has left the server since, `apt-get update` tells apt what there is now"))
}

/// Does `work` and tells meanwhile how many of `total` bytes are in `folder`.
fn while_watching<T>(folder: &Path, total: u64, events: &Events, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let done = bytes_in(folder).min(total);
                events.send(Event::PhaseProgress { phase: Phase::Fetch, done, total: Some(total), unit: Unit::Bytes });
                std::thread::park_timeout(TICK);
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

/// One of apt's tools, talking in English.
fn apt(tool: &str) -> Tool {
    Tool::new(tool).env("LC_ALL", "C")
}
