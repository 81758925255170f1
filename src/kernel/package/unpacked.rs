//! What is in the packages of a kernel: where Debian puts the kernel's files, and what kdbg makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::kconfig::Options;
use super::banner;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::process::Tool;
use crate::store::space;

/// Where kernels have their modules, before and since Debian moved `/lib` into `/usr`.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];
/// Where their debug information is.
const DEBUG: [&str; 2] = ["usr/lib/debug/lib/modules", "usr/lib/debug/usr/lib/modules"];

/// The packages of one kernel, unpacked into one tree.
#[derive(Debug)]
pub(super) struct Unpacked {
    tree: PathBuf,
    /// `uname -r`.
    pub(super) release: String,
}

impl Unpacked {
    /// Unpacks the packages that are in the folder `packages`.
    ///
    /// # Errors
    /// A package is damaged, or together they are no kernel with its debug information that QEMU can boot.
    pub(super) fn unpack(packages: &Path, tree: &Path, events: &Events, cancel: &Cancel) -> Result<Unpacked> {
        let packages: Vec<_> = fs::read_dir(packages).or_host("read the packages")?.flatten().collect();
        let size = |package: &fs::DirEntry| package.metadata().map_or(0, |metadata| metadata.len());
        let total = packages.iter().map(size).sum();
        let mut done = 0;
        for entry in packages {
            let progress = Event::PhaseProgress { phase: Phase::Unpack, done, total: Some(total), unit: Unit::Bytes };
            events.send(progress);
            done += size(&entry);
            let package = entry.path();
            let unpack = Tool::new("dpkg-deb").arg("-x").arg(&package).arg(tree).deadline(Duration::from_secs(600));
            let output = unpack.output(cancel)?;
            if !output.status.success() {
                let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if let Some(full) = space::full(&output.text, format!("unpacking {name}")) {
                    return Err(full);
                }
                return Err(Error::kernel(format!("the package {name} cannot be unpacked: {}", output.tail(2))));
            }
        }
        let unpacked = Unpacked { tree: tree.into(), release: release(tree)? };
        // A link to vmlinux among the modules' debug information leads out of the cache entry.
        for place in DEBUG {
            let _ = fs::remove_file(tree.join(place).join(&unpacked.release).join("vmlinux"));
        }
        unpacked.check()?;
        Ok(unpacked)
    }

    fn check(&self) -> Result<()> {
        let vmlinux = self.vmlinux();
        if !vmlinux.is_file() {
            let place = vmlinux.strip_prefix(&self.tree).unwrap_or(&vmlinux).display();
            return Err(Error::kernel(format!(
                "the packages hold no {place}, which would be the kernel with its symbols"
            )));
        }
        let banners = banner::of_image(&self.image()).zip(banner::of_vmlinux(&vmlinux));
        if let Some((image, debug)) = banners.filter(|(image, debug)| !banner::match_each_other(image, debug)) {
            let message = format!(
                "the kernel's package and its debug information are of two builds:\n  the kernel is {image}\n  \
                 the debug information is of {debug}"
            );
            let hint = "both have to be of one build: run `apt-get update`, and look at `apt-cache policy` of the two";
            return Err(Error::kernel(message).hint(hint));
        }
        if self.config()?.value("PVH") != "y" {
            let message = format!("Linux {} has CONFIG_PVH off: QEMU cannot boot its vmlinux", self.release);
            return Err(Error::kernel(message).hint("take another package, or build a kernel with `version`"));
        }
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.tree.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    fn vmlinux(&self) -> PathBuf {
        self.tree.join("usr/lib/debug/boot").join(format!("vmlinux-{}", self.release))
    }

    /// The kernel's configuration.
    pub(super) fn config_file(&self) -> PathBuf {
        self.tree.join("boot").join(format!("config-{}", self.release))
    }

    /// The kernel's configuration, read.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn config(&self) -> Result<Options> {
        read_config(&self.config_file())
    }

    /// vmlinux without the relocations that Debian leaves in it, which are half of it and serve nobody here.
    ///
    /// # Errors
    /// objcopy failed.
    pub(super) fn vmlinux_without_relocations(&self, cancel: &Cancel) -> Result<PathBuf> {
        let small = self.tree.join("vmlinux");
        let objcopy = Tool::new("objcopy").arg("--remove-relocations=*").arg(self.vmlinux()).arg(&small);
        let output = objcopy.deadline(Duration::from_secs(300)).output(cancel)?;
        if !output.status.success() {
            return Err(Error::kernel(format!("objcopy cannot read the package's vmlinux: {}", output.tail(2))));
        }
        Ok(small)
    }

    /// The folders of the kernel's modules, by the names that they get there.
    pub(super) fn modules(&self) -> Vec<(&'static str, PathBuf)> {
        let first = |places: [&str; 2]| {
            let folders = places.map(|place| self.tree.join(place).join(&self.release));
            folders.into_iter().find(|folder| folder.is_dir())
        };
        [("modules", MODULES), ("debug", DEBUG)]
            .into_iter()
            .filter_map(|(name, places)| Some((name, first(places)?)))
            .collect()
    }
}

/// A kernel's finished configuration.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_config(path: &Path) -> Result<Options> {
    let text = fs::read_to_string(path).or_host(format!("read {}", path.display()))?;
    Options::parse(&text)
        .map_err(|bad| Error::kernel(format!("{} line {} is not understood: {}", path.display(), bad.line, bad.text)))
}

/// The release of the one kernel in `tree`.
fn release(tree: &Path) -> Result<String> {
    let entries = fs::read_dir(tree.join("boot")).into_iter().flatten().flatten();
    let name = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut releases = name.filter_map(|name| name.strip_prefix("config-").map(str::to_string));
    releases.next().ok_or_else(|| Error::kernel("the package holds no boot/config-…: it is not a kernel"))
}
