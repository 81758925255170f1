//! Kernels: a source, a configuration, and the build of the two, filed in the cache.
//!
//! [`obtain`] is the door: it gives a [`KernelBuild`] from the cache, or makes one. An entry `kernels/<key>/` holds
//! `vmlinux` (all debug information, indexed for GDB), `boot.elf` (stripped, for QEMU), `config`, `kernel.json`, the kernel's
//! own commands for gdb (`vmlinux-gdb.py`) and what [`modules`] says; the key is a hash of source, finished configuration and compiler. `kernels/inputs/` remembers which
//! key the same request led to before, so that a second run does not even start make.

pub mod build;
mod compiler;
mod debuggable;
mod diagnosis;
mod dwarf;
mod entry;
pub mod explain;
pub mod kconfig;
mod key;
mod layouts;
pub mod modules;
mod package;
pub mod request;
mod shown;
pub mod source;
pub mod vmlinux;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::event::{Cancel, Events, Phase};
use crate::recipe::KernelChoice;
use crate::report::debuggable::Debuggable;
use crate::report::text::plural;
use crate::store::Cache;
use build::unfinished::{self, Left};
use build::{Compiled, Workshop};
use entry::{Entry, MadeModules, Missing};
pub use entry::{Filed, SCRIPTS, any_filed, build_id, forget_gone, look};
use explain::Explained;
use kconfig::Options;
use kconfig::tree::Tree;
use modules::Modules;
pub use request::Request;
pub use shown::gdb_commands;
use source::KernelSource;

/// What the objects of a small configuration (base+net) take, in bytes. Measured: 487 MiB of 6.1, 558 MiB of 6.12.
const OBJECTS: u64 = 560 << 20;
/// What a kernel takes that is filed of them, likewise. Measured: 94 to 100 MiB.
const FILED: u64 = 100 << 20;

/// A kernel that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBuild {
    /// What was asked for.
    pub version: String,
    /// What its source is called; for a distribution's kernel its package and the package's version.
    pub source_id: String,
    /// The source tree, where there is one.
    pub source_tree: Option<PathBuf>,
    /// The object folder it was built in; none where kdbg did not build it.
    pub objects: Option<PathBuf>,
    /// `uname -r`.
    pub release: String,
    /// GNU build-id of vmlinux, in hexadecimal.
    pub build_id: String,
    /// The cache key.
    pub key: String,
    /// The compiler.
    pub compiler: String,
    /// The full vmlinux, indexed for GDB.
    pub vmlinux: PathBuf,
    /// The stripped vmlinux, for QEMU.
    pub boot_image: PathBuf,
    /// The finished `.config`.
    pub config: PathBuf,
    /// What can be loaded into it.
    pub modules: Modules,
    /// What became of what was to be debuggable; none where nothing was.
    pub debuggable: Option<Debuggable>,
    /// Whether it was in the cache.
    pub cached: bool,
}

impl KernelBuild {
    /// Whether a distribution built it.
    pub fn is_packaged(&self) -> bool {
        self.objects.is_none()
    }

    /// What of the request this kernel does not have, a line each.
    pub fn complaints(&self) -> Vec<String> {
        self.debuggable.as_ref().map_or(Vec::new(), Debuggable::complaints)
    }

    /// What became of the request, like `cached 3f9c21d07b64`.
    pub fn state(&self) -> String {
        let how = match (self.cached, self.is_packaged()) {
            (true, _) => "cached",
            (false, true) => "fetched",
            (false, false) => "built",
        };
        format!("{how} {}", self.key)
    }

    /// The kernel in this cache entry, if its modules can be read.
    fn of_entry(
        entry: Entry,
        folder: &Path,
        key: &str,
        request: &Request,
        source_tree: Option<PathBuf>,
    ) -> Result<KernelBuild, Missing> {
        Ok(KernelBuild {
            version: request.choice.to_string(),
            source_id: entry.source_id,
            source_tree,
            objects: None,
            release: entry.release,
            build_id: entry.build_id,
            key: key.into(),
            compiler: entry.compiler,
            vmlinux: folder.join(entry::VMLINUX),
            boot_image: folder.join(entry::BOOT_IMAGE),
            config: folder.join(entry::CONFIG),
            debuggable: entry.debuggable,
            modules: Modules::filed(folder).ok_or_else(|| Missing::Damaged(entry::NO_MODULES.into()))?,
            cached: true,
        })
    }
}

/// The kernel for `request`: cached, or fetched, configured, checked, built and filed. What make says goes into `log`,
/// or into `build.log` of the object folder.
///
/// # Errors
/// Anything on that way: no such source, a lost option, a file that does not compile, a full disk.
pub fn obtain(
    request: &Request,
    log: Option<&Path>,
    cache: &Cache,
    events: &Events,
    cancel: &Cancel,
) -> Result<KernelBuild> {
    if let KernelChoice::Package(name) = &request.choice {
        return package::obtain(request, name, cache, events, cancel);
    }
    let compiler = compiler::version(cancel)?;
    let source = source::obtain(request, cache, events, cancel)?;
    let order = Order { request, source: &source, compiler: &compiler, log, cache, events, cancel };
    match order.known() {
        Ok(build) => return Ok(build),
        Err(missing) => order.tell_damage(&missing),
    }
    let lock = format!("objects-{}-{}", source.workplace, key::ARCH);
    let _lock = cache.lock(&lock, cancel, || {
        events.warn("another kdbg is building this kernel source; waiting for it");
    })?;
    // What the other one built may be just what is wanted.
    order.known().or_else(|_| order.make())
}

/// Whether [`obtain`] would answer `request` from the cache, without a source to fetch or make to run. Without gcc it
/// would not: the compiler is part of a kernel's name.
pub fn is_filed(request: &Request, cache: &Cache, cancel: &Cancel) -> bool {
    if let KernelChoice::Package(name) = &request.choice {
        return package::filed(request, name, cache).is_ok();
    }
    let Some(source) = source::cached(request, cache, cancel) else { return false };
    compiler::version(cancel).is_ok_and(|compiler| {
        let events = &Events::none();
        Order { request, source: &source, compiler: &compiler, log: None, cache, events, cancel }.known().is_ok()
    })
}

/// What `request` comes to, option by option. Kconfig is run in a folder of its own and nothing is compiled, so that no
/// build is disturbed or waited for. Options that are dropped are in it; [`Explained::check`] makes them an error.
///
/// # Errors
/// There is no such source, or Kconfig could not be run.
pub fn explain(request: &Request, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<Explained> {
    let source = source::obtain(request, cache, events, cancel)?;
    let stage = cache.stage()?;
    let (objects, log) = (stage.path().join("objects"), stage.path().join("build.log"));
    let workshop = Workshop { source: &source, objects, debuggable: &request.debuggable, log, events, cancel };
    let detail = format!("{} for Linux {}", request.label, source.version);
    events.phase(Phase::Configure, detail, || {
        let tree = explain::tree_of(&source);
        let settled = request.wanted.settle(&tree);
        let config = workshop.configure(&settled.options)?;
        let explained = explain::explain(&settled, &config, &tree, &source.version, &request.label);
        Ok((explained, plural(settled.options.0.len() as u64, "option")))
    })
}

/// One request on its way to a build.
struct Order<'a> {
    request: &'a Request,
    source: &'a KernelSource,
    compiler: &'a str,
    log: Option<&'a Path>,
    cache: &'a Cache,
    events: &'a Events,
    cancel: &'a Cancel,
}

impl Order<'_> {
    fn objects(&self) -> PathBuf {
        self.cache.path(format!(
            "objects/{}-{}{}",
            self.source.workplace,
            key::ARCH,
            debuggable::suffix(&self.request.debuggable)
        ))
    }

    /// The compiler and how it is driven, as they enter the key.
    fn how(&self) -> String {
        self.compiler.to_string() + &debuggable::suffix(&self.request.debuggable)
    }

    fn inputs(&self) -> String {
        key::of_inputs(&self.source.id, &self.request.wanted, &self.how())
    }

    /// The build that the same request led to before.
    fn known(&self) -> Result<KernelBuild, Missing> {
        self.filed(&entry::remembered(self.cache, &self.inputs()).ok_or(Missing::Absent)?)
    }

    /// The cache entry called `key`, if it is whole.
    fn filed(&self, key: &str) -> Result<KernelBuild, Missing> {
        let folder = entry::folder(self.cache, key);
        let entry = Entry::open(&folder, self.cache)?;
        let build = KernelBuild::of_entry(entry, &folder, key, self.request, Some(self.source.tree.clone()))?;
        Ok(KernelBuild { objects: Some(self.objects()), ..build })
    }

    fn make(&self) -> Result<KernelBuild> {
        self.check_debuggable()?;
        self.source.check(self.cache)?;
        let objects = self.objects();
        self.cache.hold_folder(&objects)?;
        self.repair(&objects)?;
        let log = self.log.map_or_else(|| objects.join("build.log"), Path::to_path_buf);
        let paths = &self.request.debuggable;
        let workshop =
            Workshop { source: self.source, objects, debuggable: paths, log, events: self.events, cancel: self.cancel };
        let detail = format!("{} for Linux {}", self.request.label, self.source.version);
        let config = self.events.phase(Phase::Configure, detail, || {
            let config = self.configure(&workshop)?;
            let summary = format!("{}, all as asked", plural(self.request.wanted.options.0.len() as u64, "option"));
            Ok((config, summary))
        })?;
        let key = key::of_build(&self.source.id, &config, &self.how());
        let build = match self.filed(&key) {
            Ok(build) => build,
            Err(missing) => {
                self.tell_damage(&missing);
                KernelBuild { cached: false, ..self.compile_and_file(&workshop, &config, &key)? }
            }
        };
        entry::remember(self.cache, &self.inputs(), &key)?;
        Ok(build)
    }

    fn tell_damage(&self, missing: &Missing) {
        if let Missing::Damaged(what) = missing {
            self.events.warn(format!("the kernel in the cache is damaged ({what}); it is built again"));
        }
    }

    /// Sees to what an earlier build that was killed has left in the object folder.
    fn repair(&self, objects: &Path) -> Result<()> {
        match unfinished::repair(objects)? {
            Left::Nothing => {}
            Left::Halves(count) => self.events.warn(format!(
                "an earlier build of this source was killed; what it may have left half-written is made again ({})",
                plural(count as u64, "file")
            )),
            Left::Crash => self.events.warn(
                "the machine went down in the middle of an earlier build of this source; all of it is compiled again",
            ),
        }
        Ok(())
    }

    /// The finished configuration, in which every request survived.
    fn configure(&self, workshop: &Workshop<'_>) -> Result<Options> {
        let wanted = &self.request.wanted;
        // Reading the tree takes longer than Kconfig itself: only where something depends on it.
        let tree = if wanted.alternatives.is_empty() { Tree::default() } else { explain::tree_of(self.source) };
        let settled = wanted.settle(&tree);
        let config = workshop.configure(&settled.options)?;
        let lost = kconfig::lost(&settled.options, &config);
        if lost.is_empty() {
            return Ok(config);
        }
        let tree = explain::tree_of(self.source);
        Err(explain::error(&explain::dropped(&lost, &settled, &config, &tree, &self.source.version)))
    }

    /// Whether the tree has all that is to be debuggable.
    fn check_debuggable(&self) -> Result<()> {
        for (index, path) in self.request.debuggable.iter().enumerate() {
            if !self.source.tree.join(path).exists() {
                let message = format!("Linux {} has no `{path}`", self.source.version);
                let at = format!("kernel.debuggable[{index}]");
                return Err(self.request.recipe.diagnose(&at, message, "not in this kernel's tree", &[]));
            }
        }
        Ok(())
    }

    fn compile_and_file(&self, workshop: &Workshop<'_>, config: &Options, key: &str) -> Result<KernelBuild> {
        let needed = OBJECTS.saturating_sub(self.cache.taken(&workshop.objects)) + FILED;
        self.cache.needs_room(needed, format!("building Linux {}", self.source.version))?;
        let detail = format!("Linux {} with {}", self.source.version, self.request.label);
        let vmlinux = self.events.phase(Phase::Build, detail.clone(), || {
            let Compiled { vmlinux, ccache } = workshop.compile(config)?;
            let debuggable = workshop.debuggable(&vmlinux, config)?;
            let debuggable = debuggable.map(|outcome| format!("debuggable: {}", outcome.summary()));
            let summary = std::iter::once(detail).chain(debuggable).chain(ccache).collect::<Vec<_>>().join("; ");
            Ok((vmlinux, summary))
        })?;
        self.events.phase(Phase::File, "index for GDB, strip for boot", || {
            self.file(workshop, &vmlinux, config, key)?;
            let build = self.filed(key).map_err(|_| Error::kernel("the cache entry just written cannot be read"))?;
            Ok((build, key.to_string()))
        })
    }

    fn file(&self, workshop: &Workshop<'_>, vmlinux: &Path, config: &Options, key: &str) -> Result<()> {
        let made = entry::Made {
            vmlinux,
            modules: MadeModules::Built { objects: &workshop.objects, paths: workshop.modules(config)? },
            config: &workshop.objects.join(".config"),
            source_id: &self.source.id,
            release: workshop.release()?,
            compiler: self.compiler,
            debuggable: workshop.debuggable(vmlinux, config)?,
            asked: Some(self.request.in_words()),
            scripts: workshop.scripts(config)?,
        };
        entry::file(&made, key, self.cache, self.cancel)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::kconfig::alternative::Wanted;
    use super::*;

    #[test]
    fn a_kernel_is_filed_when_the_same_request_led_to_a_whole_entry() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, cancel) = (Cache::at(folder.path().into()).unwrap(), Cancel::default());
        let request = Request {
            choice: KernelChoice::Version("9.9".into()),
            patches: Vec::new(),
            recipe: crate::recipe::load::parse("a.yaml", "name: a\nkernel: { version: '9.9' }\n").unwrap(),
            wanted: Wanted { options: Options::parse("CONFIG_A=y\n").unwrap(), ..Wanted::default() },
            debuggable: Vec::new(),
            label: "a".into(),
        };
        assert!(!is_filed(&request, &cache, &cancel), "no source");
        let tree = cache.path("sources/linux-source-9.9_9.9.1-1");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("Makefile"), "VERSION = 9\nPATCHLEVEL = 9\nSUBLEVEL = 1\n").unwrap();
        fs::write(tree.join("Kconfig"), "").unwrap();
        let Ok(compiler) = compiler::version(&cancel) else { return };
        assert!(!is_filed(&request, &cache, &cancel), "never built");

        let source = source::cached(&request, &cache, &cancel).unwrap();
        let events = &Events::none();
        let order = Order {
            request: &request,
            source: &source,
            compiler: &compiler,
            log: None,
            cache: &cache,
            events,
            cancel: &cancel,
        };
        entry::remember(&cache, &order.inputs(), "k").unwrap();
        let entry = cache.path("kernels/k");
        fs::create_dir_all(&entry).unwrap();
        let json = r#"{"source_id":"s","release":"9.9.1","build_id":"","compiler":""}"#;
        for (name, text) in [("kernel.json", json), ("vmlinux", "xx"), ("boot.elf", "x"), ("config", "")] {
            fs::write(entry.join(name), text).unwrap();
        }
        crate::store::seal::seal(&entry).unwrap();
        assert!(is_filed(&request, &cache, &cancel));
        fs::write(entry.join("vmlinux"), "x").unwrap();
        assert!(!is_filed(&request, &cache, &cancel), "cut short");
    }
}
