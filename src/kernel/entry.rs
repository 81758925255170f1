//! A kernel's entry in the cache, the folder `kernels/<key>/`: filed whole, and read only if it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::modules::Modules;
use crate::digest::hex;
use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::process::{Tool, ToolOutput};
use crate::report::debuggable::Debuggable;
use crate::store::{Cache, seal, space};

/// The full vmlinux, indexed for GDB.
pub(super) const VMLINUX: &str = "vmlinux";
/// The stripped vmlinux, for QEMU.
pub(super) const BOOT_IMAGE: &str = "boot.elf";
/// What loads the kernel's own commands into gdb, where they were built. The name under which gdb looks for it by itself.
pub const SCRIPTS: &str = "vmlinux-gdb.py";
/// The finished `.config`.
pub(super) const CONFIG: &str = "config";
/// What is known of them: an [`Entry`].
const FACTS: &str = "kernel.json";

/// What is wrong where `modules.json` is.
pub(super) const NO_MODULES: &str = "its list of modules is not understood";

/// `kernel.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) source_id: String,
    pub(super) release: String,
    pub(super) build_id: String,
    pub(super) compiler: String,
    /// What became of what was to be debuggable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) debuggable: Option<Debuggable>,
    /// What was asked for when it was built, for people; entries of distributions' kernels have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<String>,
}

/// What a build has made, before it is filed.
pub(super) struct Made<'a> {
    /// vmlinux, as linked.
    pub(super) vmlinux: &'a Path,
    pub(super) modules: MadeModules<'a>,
    /// The finished `.config`.
    pub(super) config: &'a Path,
    pub(super) source_id: &'a str,
    pub(super) release: String,
    pub(super) compiler: &'a str,
    pub(super) debuggable: Option<Debuggable>,
    pub(super) asked: Option<String>,
    /// The kernel's own commands for gdb: files, by where they belong beside vmlinux.
    pub(super) scripts: Vec<(PathBuf, PathBuf)>,
}

/// A kernel's modules, before they are filed.
pub(super) enum MadeModules<'a> {
    /// As they were linked: paths below the object folder.
    Built { objects: &'a Path, paths: Vec<String> },
    /// Folders as [`Modules`] wants them, by their names in the entry. They are moved.
    Packed(Vec<(&'static str, PathBuf)>),
}

/// Where the entry called `key` is.
pub(super) fn folder(cache: &Cache, key: &str) -> PathBuf {
    cache.path("kernels").join(key)
}

/// Why there is no entry to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// It was never filed, or is gone.
    Absent,
    /// It is there and not what was filed; what is wrong with it, for people.
    Damaged(String),
}

impl Entry {
    /// The entry in `folder` of the cache, if it is whole; kdbg holds it then.
    pub(super) fn open(folder: &Path, cache: &Cache) -> Result<Entry, Missing> {
        if !cache.hold(folder) {
            return Err(Missing::Absent);
        }
        seal::damage(folder).map_or(Ok(()), |what| Err(Missing::Damaged(what)))?;
        Self::read(folder).map_err(Missing::Damaged)
    }

    /// What an entry says of itself, whole or not.
    pub(super) fn read(folder: &Path) -> Result<Entry, String> {
        let text =
            fs::read_to_string(folder.join(FACTS)).map_err(|error| format!("{FACTS} cannot be read: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{FACTS} is not understood: {error}"))
    }
}

/// What a kernel's cache entry holds, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// `uname -r`, if that can be told.
    pub release: Option<String>,
    /// What its source is called, likewise.
    pub source_id: Option<String>,
    /// What was asked for when it was built, where that is known.
    pub asked: Option<String>,
    /// How many modules it has.
    pub modules: usize,
    /// What is wrong with it.
    pub damage: Option<String>,
}

/// Looks at a kernel's entry without using it.
pub fn look(folder: &Path) -> Filed {
    let (entry, modules) = (Entry::read(folder), Modules::filed(folder));
    let damage = seal::damage_seen(folder).or_else(|| entry.as_ref().err().cloned());
    let damage = damage.or_else(|| modules.is_none().then(|| NO_MODULES.into()));
    let modules = modules.map_or(0, |modules| modules.index.modules().count());
    let entry = entry.ok();
    let asked = entry.as_ref().and_then(|entry| entry.asked.clone());
    let (release, source_id) = entry.map(|entry| (entry.release, entry.source_id)).unzip();
    Filed { release, source_id, asked, modules, damage }
}

/// The boot image of some kernel in the cache that is whole, for what any kernel will do that can talk to kdbg without a
/// module.
pub fn any_filed(cache: &Cache) -> Option<PathBuf> {
    let talks = |folder: &PathBuf| {
        let config = fs::read_to_string(folder.join(CONFIG)).unwrap_or_default();
        ["CONFIG_VIRTIO_PCI=y", "CONFIG_VIRTIO_CONSOLE=y"]
            .iter()
            .all(|option| config.lines().any(|line| line == *option))
    };
    let mut folders = fs::read_dir(cache.path("kernels")).ok()?.flatten().map(|entry| entry.path()).filter(talks);
    folders.find(|folder| Entry::open(folder, cache).is_ok()).map(|folder| folder.join(BOOT_IMAGE))
}

/// Forgets the requests that led to kernels which are gone.
pub fn forget_gone(cache: &Cache) {
    for input in fs::read_dir(cache.path("kernels/inputs")).into_iter().flatten().flatten() {
        // One that is being written is empty.
        let key = fs::read_to_string(input.path()).unwrap_or_default();
        if !key.trim().is_empty() && !folder(cache, key.trim()).exists() {
            let _ = fs::remove_file(input.path());
        }
    }
}

/// Files what was made as the entry called `key`, replacing what may be there.
///
/// # Errors
/// A tool failed, or the cache cannot be written; nothing is filed then.
pub(super) fn file(made: &Made<'_>, key: &str, cache: &Cache, cancel: &Cancel) -> Result<()> {
    let stage = cache.stage()?;
    let place = |name: &str| stage.path().join(name);
    let copy = |from: &Path, to: &Path| fs::copy(from, to).or_host(format!("copy {}", from.display()));
    copy(made.vmlinux, &place(VMLINUX))?;
    copy(made.config, &place(CONFIG))?;
    let strip = Tool::new("strip").args(["-g", "-o"]).arg(place(BOOT_IMAGE)).arg(made.vmlinux);
    let index = Tool::new("gdb-add-index").arg(place(VMLINUX)).deadline(Duration::from_secs(300));
    for tool in [strip, index] {
        let output = tool.output(cancel)?;
        if !output.status.success() {
            return Err(failed(&tool, &output));
        }
    }
    match &made.modules {
        MadeModules::Built { objects, paths } => file_modules(objects, paths, stage.path(), cancel)?,
        MadeModules::Packed(folders) => {
            for (name, folder) in folders {
                fs::rename(folder, place(name)).or_host(format!("move {}", folder.display()))?;
            }
        }
    }
    file_scripts(&made.scripts, stage.path())?;
    Modules::scan(stage.path())?.save()?;
    let entry = Entry {
        source_id: made.source_id.into(),
        release: made.release.clone(),
        build_id: build_id(&place(VMLINUX))?,
        compiler: made.compiler.into(),
        debuggable: made.debuggable.clone(),
        asked: made.asked.clone(),
    };
    let text = serde_json::to_string_pretty(&entry).map_err(|error| Error::kernel(error.to_string()))?;
    fs::write(place(FACTS), text).or_host("write the kernel's cache entry")?;
    seal::seal(stage.path())?;
    stage.publish(&folder(cache, key))
}

fn failed(tool: &Tool, output: &ToolOutput) -> Error {
    let other = || Error::kernel(format!("`{}` failed: {}", tool.line(), output.tail(3)));
    space::full(&output.text, "filing the kernel").unwrap_or_else(other)
}

/// Puts the kernel's commands for gdb beside vmlinux, where they look for each other.
fn file_scripts(scripts: &[(PathBuf, PathBuf)], entry: &Path) -> Result<()> {
    for (place, from) in scripts {
        let to = entry.join(place);
        fs::create_dir_all(to.parent().unwrap_or(entry)).or_host("file the scripts for gdb")?;
        fs::copy(from, &to).or_host(format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// Puts the modules into an entry, as [`Modules`] wants them: as they were linked, and without debug information.
fn file_modules(objects: &Path, modules: &[String], entry: &Path, cancel: &Cancel) -> Result<()> {
    let guest = entry.join("modules");
    let builtin = objects.join("modules.builtin");
    if builtin.is_file() {
        fs::create_dir_all(&guest).or_host("file the modules")?;
        fs::copy(&builtin, guest.join("modules.builtin")).or_host(format!("copy {}", builtin.display()))?;
    }
    for module in modules {
        let path = Path::new("kernel").join(module);
        let (full, stripped) = (entry.join("debug").join(&path), guest.join(&path));
        for file in [&full, &stripped] {
            fs::create_dir_all(file.parent().unwrap_or(entry)).or_host("file the modules")?;
        }
        let from = objects.join(module);
        fs::copy(&from, &full).or_host(format!("copy {}", from.display()))?;
        // Not `-s`: a module's symbols are what it is linked by when it is loaded.
        let strip = Tool::new("strip").args(["--strip-debug", "-o"]).arg(&stripped).arg(&full);
        let output = strip.output(cancel)?;
        if !output.status.success() {
            return Err(failed(&strip, &output));
        }
    }
    Ok(())
}

/// The key that a request, by its own key, led to before.
pub(super) fn remembered(cache: &Cache, request: &str) -> Option<String> {
    let key = fs::read_to_string(cache.path("kernels/inputs").join(request)).ok()?;
    Some(key.trim().to_string()).filter(|key| !key.is_empty())
}

/// Remembers the key that a request led to.
///
/// # Errors
/// The cache cannot be written.
pub(super) fn remember(cache: &Cache, request: &str, key: &str) -> Result<()> {
    let folder = cache.path("kernels/inputs");
    fs::create_dir_all(&folder).or_host("write into the cache")?;
    let path = folder.join(request);
    fs::write(&path, key).or_host(format!("write {}", path.display()))
}

/// The GNU build-id of an ELF file, in hexadecimal.
///
/// # Errors
/// It cannot be read, is no ELF file or has none.
pub fn build_id(path: &Path) -> Result<String> {
    use object::Object;
    let data = fs::read(path).or_host(format!("read {}", path.display()))?;
    let file =
        object::File::parse(&*data).map_err(|error| Error::kernel(format!("vmlinux is not an ELF file: {error}")))?;
    let id = file.build_id().ok().flatten().ok_or_else(|| Error::kernel("vmlinux has no build-id"))?;
    Ok(hex(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_kernel_is_one_that_is_whole_and_needs_no_module_to_talk() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().into()).unwrap();
        let talks = "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_CONSOLE=y\n";
        for (name, config, is_damaged) in [
            ("damaged", talks, true),
            ("mute", "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_CONSOLE=m\n", false),
            ("whole", talks, false),
        ] {
            assert_eq!(any_filed(&cache), None, "before {name}");
            let entry = cache.path("kernels").join(name);
            fs::create_dir_all(&entry).unwrap();
            // As kernels were filed before it was noted what had been asked for.
            let json = r#"{"source_id":"s","release":"9.9.1","build_id":"","compiler":""}"#;
            for (file, text) in [("kernel.json", json), ("boot.elf", "xx"), ("config", config)] {
                fs::write(entry.join(file), text).unwrap();
            }
            seal::seal(&entry).unwrap();
            if is_damaged {
                fs::write(entry.join("boot.elf"), "x").unwrap();
            }
        }
        assert_eq!(any_filed(&cache), Some(cache.path("kernels/whole/boot.elf")));
    }
}
