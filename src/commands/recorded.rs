//! What the verbs that read a recording begin with: the recording of a run or of a pack, and its kernel.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::kernel::vmlinux::{by_build_id, has_build_id};
use crate::pack::{self, SOURCE, VMLINUX, is_pack, unpack};
use crate::recording::{FILE, KernelOf, Recording};
use crate::store::{Cache, Staging};

/// A recording with what belongs to it.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The recording; its kernel's `vmlinux` is where that is now.
    pub(super) recording: Recording,
    /// Why there is no vmlinux, as a warning says it.
    pub(super) without: Option<String>,
    /// What gdb has to be told so that it finds the source; nothing of it runs anything.
    pub(super) commands: Vec<String>,
    /// That vmlinux was beside the recording, and so is somebody else's, if this was a pack.
    pub(super) is_foreign: bool,
    /// The folder of a pack, which is there as long as this is.
    pub(super) unpacked: Option<Staging>,
}

/// Opens the recording of a run directory, of a pack, or the file itself.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn open(run: &Path) -> Result<Recorded> {
    if run.is_file() && is_pack(run) {
        return open_pack(run);
    }
    let file = file_of(run)?;
    let beside = file.with_file_name(VMLINUX);
    with_kernel(Recording::open(&file)?, &beside, Cache::place().ok().map(Cache::unproved).as_ref())
}

/// Unpacks it beside what the cache has in the making: what a kdbg that was killed leaves there the next one sweeps.
fn open_pack(pack: &Path) -> Result<Recorded> {
    let cache = Cache::open()?;
    let stage = cache.stage()?;
    let about = unpack(pack, stage.path())?;
    let recording = Recording::open(&stage.path().join(FILE))
        .map_err(|error| Error::usage(format!("{} cannot be replayed: {}", pack.display(), error.message)))?;
    if recording.head.kernel.build_id != about.build_id {
        return Err(Error::usage(format!("{} has the recording of another kernel than it says", pack.display())));
    }
    let recorded = with_kernel(recording, &stage.path().join(VMLINUX), Some(&cache))?;
    let sources = stage.path().join(SOURCE);
    let tree = about.tree.filter(|tree| sources.is_dir() && is_plain(tree));
    let commands = tree.map(|tree| format!("set substitute-path {tree} {}", sources.display()));
    Ok(Recorded { commands: commands.into_iter().collect(), unpacked: Some(stage), ..recorded })
}

/// Finds the kernel: where it was when the run was recorded, beside the recording, or wherever there is one with its build-id.
fn with_kernel(mut recording: Recording, beside: &Path, cache: Option<&Cache>) -> Result<Recorded> {
    let KernelOf { release, build_id, vmlinux, .. } = &recording.head.kernel;
    let places = [Path::new(vmlinux), beside];
    let found = places.into_iter().find(|path| has_build_id(path, build_id)).map(Path::to_path_buf);
    let found = found.or_else(|| by_build_id(build_id, release, cache));
    let without = found.is_none().then(|| {
        format!(
            "there is no vmlinux with the build-id {build_id}, neither where it was ({vmlinux}) nor in the cache nor where \
             distributions put one: `kdbg build RECIPE` builds it again"
        )
    });
    let is_foreign = found.as_deref() == Some(beside);
    let kernel = &mut recording.head.kernel;
    kernel.source = kernel.source.take().filter(|source| is_plain(source));
    match found {
        Some(found) => kernel.vmlinux = found.to_string_lossy().into_owned(),
        None if is_plain(&kernel.vmlinux) => {}
        None => kernel.vmlinux = VMLINUX.into(),
    }
    Ok(Recorded { recording, without, commands: Vec::new(), is_foreign, unpacked: None })
}

/// Whether a text of somebody else's can stand in a command that people copy, or that gdb gets.
fn is_plain(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "'\"\\`$".contains(letter))
}

/// The recording of a run: in its directory, or the file itself.
pub(super) fn file_of(run: &Path) -> Result<PathBuf> {
    if run.join("matrix.json").is_file() {
        let several = Error::usage(format!("{} holds the runs of several kernels", run.display()));
        return Err(several.hint(format!("name one of them, like {}/6.1", run.display())));
    }
    let file = if run.is_dir() { run.join(FILE) } else { run.into() };
    match file.is_file() {
        true => Ok(file),
        false if run.is_dir() => Err(Error::usage(format!("{} has no recording: there is no {FILE}", run.display()))
            .hint("a run is recorded with `kdbg run RECIPE --record`, or with `record: true` in its recipe")),
        false => {
            Err(Error::usage(format!("{} is neither a run directory nor a recording", run.display())).hint(format!(
                "name a run directory, like runs/tcp-reset/latest, a {FILE}, or a .{} that `kdbg pack RUN` has written",
                pack::ENDING
            )))
        }
    }
}
