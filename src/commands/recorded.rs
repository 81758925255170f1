//! What the verbs that read a recording begin with: the recording of a run or of a pack, and its kernel.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::kernel::vmlinux::{by_build_id, has_build_id};
use crate::pack::{self, About, SOURCE, VMLINUX, is_pack, unpack};
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
    /// Who has put vmlinux where it is.
    pub(super) origin: Origin,
    /// What is packed, where this is a pack, or the folder that somebody has made of one.
    pub(super) about: Option<About>,
    /// The folder of a pack, which is there as long as this is.
    pub(super) unpacked: Option<Staging>,
    /// A kernel of the cache is held as long as this is there.
    pub(super) cache: Option<Cache>,
}

/// Who has put a vmlinux where it is, and so what gdb may run of what lies beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// kdbg, in its cache: the kernel's own commands for gdb are there.
    Cache,
    /// The host: where distributions put debug information.
    Host,
    /// Whoever has sent the recording, as far as anybody knows: nothing of it is run.
    Foreign,
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
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // gdb and VS Code are started elsewhere.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
    let cache = Cache::place().ok().map(Cache::unproved);
    let recorded = with_kernel(Recording::open(&file)?, &folder.join(VMLINUX), cache)?;
    let about = pack::about(&folder).filter(|about| about.build_id == recorded.recording.head.kernel.build_id);
    Ok(with_sources(recorded, about, &folder))
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
    let recorded = with_kernel(recording, &stage.path().join(VMLINUX), Some(cache))?;
    let recorded = with_sources(recorded, Some(about), stage.path());
    Ok(Recorded { unpacked: Some(stage), ..recorded })
}

/// Has gdb find the source that was packed, in this folder.
fn with_sources(recorded: Recorded, about: Option<About>, folder: &Path) -> Recorded {
    let sources = folder.join(SOURCE);
    let tree = about.as_ref().and_then(|about| about.tree.as_deref()).filter(|tree| is_plain(tree));
    let place = sources.to_str().filter(|place| is_plain(place) && sources.is_dir());
    let commands = tree.zip(place).map(|(tree, place)| format!("set substitute-path {tree} {place}"));
    Recorded { commands: commands.into_iter().collect(), about, ..recorded }
}

/// Finds the kernel: where it was when the run was recorded, beside the recording, or wherever there is one with its build-id.
///
/// Whoever has sent the recording says where it was, and may mean something that lies beside it: only a whole path counts.
fn with_kernel(mut recording: Recording, beside: &Path, cache: Option<Cache>) -> Result<Recorded> {
    let KernelOf { release, build_id, vmlinux, .. } = &recording.head.kernel;
    let was = Some(Path::new(vmlinux)).filter(|path| path.is_absolute() && is_plain(vmlinux)).map(Path::to_path_buf);
    let named = was.iter().map(PathBuf::as_path).chain([beside]).find(|path| has_build_id(path, build_id));
    let named = named.map(Path::to_path_buf);
    let searched = if named.is_none() { by_build_id(build_id, release, cache.as_ref()) } else { None };
    let is_searched = searched.is_some();
    let found = named.or(searched);
    // Beside a link to it there may be anything.
    let cached = found.as_deref().zip(cache.as_ref()).and_then(|(found, cache)| held(found, cache));
    // What somebody deletes from the cache meanwhile is not there.
    let found = cached.clone().or(found).filter(|found| has_build_id(found, build_id));
    let without = found.is_none().then(|| {
        format!(
            "there is no vmlinux with the build-id {build_id}, neither where it was ({vmlinux}) nor in the cache nor where \
             distributions put one: `kdbg build RECIPE` builds it again"
        )
    });
    let origin = match &cached {
        Some(_) if found.is_some() => Origin::Cache,
        _ if is_searched => Origin::Host,
        _ => Origin::Foreign,
    };
    let kernel = &mut recording.head.kernel;
    kernel.source = kernel.source.take().filter(|source| is_plain(source));
    // What begins otherwise than a whole path gdb may take for an option.
    let shown = found.or(was).unwrap_or_else(|| VMLINUX.into());
    kernel.vmlinux = shown.to_string_lossy().into_owned();
    Ok(Recorded { recording, without, commands: Vec::new(), origin, about: None, unpacked: None, cache })
}

/// Where a file really is, if that is among the cache's kernels: its kernel is held then.
fn held(file: &Path, cache: &Cache) -> Option<PathBuf> {
    let kernels = fs::canonicalize(cache.path("kernels")).ok()?;
    let file = fs::canonicalize(file).ok()?;
    let key = file.strip_prefix(&kernels).ok()?.components().next()?;
    cache.hold(&kernels.join(key)).then_some(file)
}

/// Whether a text of somebody else's can stand in a command that people copy, or that gdb gets.
pub(super) fn is_plain(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "'\"\\`$".contains(letter))
}

/// A word as a shell takes it, whatever is in it.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
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
