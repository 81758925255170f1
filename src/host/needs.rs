//! The table of needs: what kdbg wants to find on the host, for what, from which version on, in which package.
//!
//! Pure: touches no file and starts no process; [`super::probe`] does the looking.
//!
//! What is *not* in the table, and why. `cpio`: kdbg writes the initramfs itself. `xz`, `tar`: unpacked in kdbg.
//! `rsync`, `kmod`, `lz4`: they serve headers, modules and compressed images, and kdbg makes `vmlinux` alone. OpenSSL:
//! only module signing and certificates use it. `python3`: `GDB_SCRIPTS` preprocesses its constants with the C
//! compiler; Python runs inside GDB, and kdbg's probes do without. `pahole`: only BTF.

mod package;

use std::borrow::Cow;

use serde::Serialize;

use super::packages::Manager;
use super::version::Version;

/// What something on the host is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Getting the kernel's source.
    Source,
    /// Getting it from a git repository.
    Git,
    /// Applying a recipe's patches to it.
    Patch,
    /// Building the kernel, and filing what was built.
    Build,
    /// Getting a distribution's kernel, and filing it.
    Package,
    /// Making the guest's initramfs.
    Image,
    /// Booting the guest.
    Boot,
    /// Stopping the guest's kernel and reading it.
    Debug,
}

impl Purpose {
    /// All that the usual `kdbg run` works through, from nothing, with a source of the distribution.
    pub const ALL: [Purpose; 5] = [Purpose::Source, Purpose::Build, Purpose::Image, Purpose::Boot, Purpose::Debug];
    /// What `kdbg run` works through once it has a source, which it looks for itself: there is more than one place.
    pub const RUN: [Purpose; 4] = [Purpose::Build, Purpose::Image, Purpose::Boot, Purpose::Debug];
    /// What `kdbg run` still works through when the kernel is filed.
    pub const GUEST: [Purpose; 3] = [Purpose::Image, Purpose::Boot, Purpose::Debug];
    /// What `kdbg build` works through, likewise.
    pub const BUILD: [Purpose; 1] = [Purpose::Build];
}

/// How a need is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// A program on `PATH`.
    Program {
        /// Its name.
        name: Cow<'static, str>,
        /// The option that makes it print its version, if it has one.
        version: Option<&'static str>,
    },
    /// Like [`Find::Program`], but an ELF file without an interpreter, so that it also runs where no library is.
    StaticProgram {
        /// Its name.
        name: Cow<'static, str>,
        /// The option that makes it print its version, if it has one.
        version: Option<&'static str>,
    },
    /// A C header the compiler finds, and the library that goes with it.
    Header {
        /// As in `#include <header>`.
        header: &'static str,
        /// As in `-llibrary`; none for the C library, which every link has.
        library: Option<&'static str>,
    },
    /// The source of a kernel series: unpacked in the cache, or Debian's `linux-source-SERIES`, lying there or offered.
    Source {
        /// Like `6.1`.
        series: String,
    },
}

/// The oldest version that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minimum {
    /// That version.
    pub version: Version,
    /// What older ones lack.
    pub because: &'static str,
}

/// The package that brings a need, in each package manager's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages {
    /// Debian, Ubuntu.
    pub apt: Option<Cow<'static, str>>,
    /// Fedora, RHEL.
    pub dnf: Option<Cow<'static, str>>,
    /// Arch.
    pub pacman: Option<Cow<'static, str>>,
    /// openSUSE.
    pub zypper: Option<Cow<'static, str>>,
}

impl Packages {
    /// A package that has the same name everywhere.
    pub fn same(name: impl Into<Cow<'static, str>>) -> Self {
        let name = Some(name.into());
        Packages { apt: name.clone(), dnf: name.clone(), pacman: name.clone(), zypper: name }
    }

    /// Names in the order apt, dnf, pacman, zypper.
    pub const fn named(names: [&'static str; 4]) -> Self {
        let [apt, dnf, pacman, zypper] = names;
        Packages {
            apt: Some(Cow::Borrowed(apt)),
            dnf: Some(Cow::Borrowed(dnf)),
            pacman: Some(Cow::Borrowed(pacman)),
            zypper: Some(Cow::Borrowed(zypper)),
        }
    }

    /// The name in `manager`'s words.
    pub fn of(&self, manager: Manager) -> Option<&str> {
        match manager {
            Manager::Apt => self.apt.as_deref(),
            Manager::Dnf => self.dnf.as_deref(),
            Manager::Pacman => self.pacman.as_deref(),
            Manager::Zypper => self.zypper.as_deref(),
        }
    }
}

/// One thing that kdbg wants to find on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its name in tables and errors; unique.
    pub id: Cow<'static, str>,
    /// How it is found.
    pub find: Find,
    /// The purposes that ask for it.
    pub purposes: Vec<Purpose>,
    /// What it does for kdbg, for people.
    pub why: Cow<'static, str>,
    /// The oldest version that will do, where that matters.
    pub minimum: Option<Minimum>,
    /// What brings it.
    pub packages: Packages,
}

impl Need {
    /// A program on `PATH` that answers `--version`.
    pub fn program(name: impl Into<Cow<'static, str>>, purpose: Purpose, why: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        Need {
            find: Find::Program { name: name.clone(), version: Some("--version") },
            packages: Packages::same(name.clone()),
            id: name,
            purposes: vec![purpose],
            why: why.into(),
            minimum: None,
        }
    }

    /// A header (and the library that goes with it), for programs the kernel's build compiles for itself.
    fn header(id: &'static str, header: &'static str, library: Option<&'static str>, why: &'static str) -> Self {
        Need { find: Find::Header { header, library }, ..Need::program(id, Purpose::Build, why) }
    }

    /// The source of a kernel series.
    fn source(series: &str) -> Self {
        Need {
            find: Find::Source { series: series.to_owned() },
            packages: Packages::default(),
            ..Need::program(format!("linux-source-{series}"), Purpose::Source, format!("the source of Linux {series}"))
        }
    }

    /// Asked for by another purpose as well.
    #[must_use]
    fn also_for(mut self, purpose: Purpose) -> Self {
        self.purposes.push(purpose);
        self
    }

    /// From this version on. `version` is a literal of this file; a test checks that each one parses.
    #[must_use]
    fn from(mut self, version: &'static str, because: &'static str) -> Self {
        self.minimum = Version::parse(version).map(|version| Minimum { version, because });
        self
    }

    /// Found in packages of these names; see [`Packages::named`].
    #[must_use]
    pub fn in_packages(mut self, names: [&'static str; 4]) -> Self {
        self.packages = Packages::named(names);
        self
    }

    /// Asked for its version with another option than `--version`, or not at all: each question is a process.
    #[must_use]
    fn version_by(mut self, option: Option<&'static str>) -> Self {
        if let Find::Program { version, .. } | Find::StaticProgram { version, .. } = &mut self.find {
            *version = option;
        }
        self
    }

    /// Only a statically linked one will do.
    #[must_use]
    fn statically_linked(mut self) -> Self {
        if let Find::Program { name, version } = self.find {
            self.find = Find::StaticProgram { name, version };
        }
        self
    }
}

/// What the host must have to do `purposes` for kernels of these versions (`6.1` or `6.1.192`).
///
/// In the order of the work: source, build, image, boot, debug. Each need appears once. The image is the default one.
pub fn needs_for(purposes: &[Purpose], kernels: &[impl AsRef<str>]) -> Vec<Need> {
    let mut series: Vec<String> = kernels.iter().map(|version| series_of(version.as_ref())).collect();
    series.sort_by_key(|text| Version::parse(text));
    series.dedup();
    let sources = series.iter().map(|series| Need::source(series));
    let newest = series.last().and_then(|text| Version::parse(text));
    sources
        .chain(source_needs())
        .chain(build_needs(newest.as_ref()))
        .chain(package::needs())
        .chain(guest_needs())
        .filter(|need| need.purposes.iter().any(|purpose| purposes.contains(purpose)))
        .collect()
}

/// [`needs_for`], for an image that takes `programs` from the host: what is in the table for images, if it is among them.
/// The others are the image's business, which knows the line that names them.
pub fn needs_with_image(purposes: &[Purpose], kernels: &[impl AsRef<str>], programs: &[&str]) -> Vec<Need> {
    let mut needs = needs_for(purposes, kernels);
    needs.retain(|need| need.purposes != [Purpose::Image] || programs.contains(&need.id.as_ref()));
    needs
}

/// `6.1` of `6.1.192`.
fn series_of(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// What only some sources take.
fn source_needs() -> Vec<Need> {
    vec![
        Need::program("git", Purpose::Git, "fetches or exports the revision"),
        Need::program("patch", Purpose::Patch, "applies the recipe's patches"),
    ]
}

/// What building and filing a kernel takes; minimum versions are those of Documentation/process/changes.rst, unless
/// kdbg's own configuration asks for more.
fn build_needs(newest: Option<&Version>) -> Vec<Need> {
    use Purpose::{Build, Debug, Package};
    // Linux 6.1 still builds with 3.82; later kernels of the series raised it.
    let make = if newest > Version::parse("6.1").as_ref() { "4.0" } else { "3.82" };
    vec![
        Need::program("gcc", Build, "compiles the kernel").from("7.1", "whole DWARF 5"),
        Need::program("make", Build, "drives the kernel's build").from(make, "the kernel's own minimum"),
        Need::program("ld", Build, "links the kernel").in_packages(["binutils"; 4]).from("2.35", "DWARF 5 line tables"),
        Need::program("strip", Build, "makes the boot image small")
            .also_for(Package)
            .version_by(None)
            .in_packages(["binutils"; 4]),
        Need::program("objcopy", Build, "writes the debug index into vmlinux")
            .also_for(Package)
            .version_by(None)
            .in_packages(["binutils"; 4]),
        Need::program("flex", Build, "generates Kconfig's lexer").from("2.5.35", "the kernel's own minimum"),
        Need::program("bison", Build, "generates Kconfig's parser").from("2.0", "the kernel's own minimum"),
        Need::program("bc", Build, "computes the kernel's time constants").from("1.06.95", "the kernel's own minimum"),
        Need::program("perl", Build, "generates tables of the kernel").in_packages([
            "perl",
            "perl-interpreter",
            "perl",
            "perl",
        ]),
        // Always there on a full installation, but minimal container images of Fedora and openSUSE lack them.
        Need::program("awk", Build, "generates tables of the kernel")
            .version_by(None)
            .in_packages(["mawk", "gawk", "gawk", "gawk"]),
        Need::program("cmp", Build, "tells make what changed").version_by(None).in_packages(["diffutils"; 4]),
        Need::program("find", Build, "lists files for make").version_by(None).in_packages(["findutils"; 4]),
        Need::header("libc headers", "stdio.h", None, "compiles the build's own tools").in_packages([
            "libc6-dev",
            "glibc-devel",
            "glibc",
            "glibc-devel",
        ]),
        Need::header("libelf headers", "gelf.h", Some("elf"), "compiles objtool").in_packages([
            "libelf-dev",
            "elfutils-libelf-devel",
            "libelf",
            "libelf-devel",
        ]),
        Need::program("gdb", Debug, "stops the kernel and reads it")
            .also_for(Build)
            .also_for(Package)
            .from("12.1", "`set debuginfod enabled`"),
        Need::program("gdb-add-index", Build, "makes vmlinux load quickly")
            .also_for(Package)
            .version_by(None)
            .in_packages(["gdb", "gdb-headless", "gdb", "gdb"]),
    ]
}

/// What the guest is made of and runs on.
fn guest_needs() -> Vec<Need> {
    vec![
        Need::program("busybox", Purpose::Image, "the guest's user space")
            .version_by(Some("--help"))
            .statically_linked()
            .in_packages(["busybox-static", "busybox", "busybox", "busybox-static"]),
        // All that kdbg asks for exists since 5.0. 6.2 is the oldest in a distribution that still gets fixes and has
        // a GDB that will do; kdbg's numbers were measured with 7.2.
        Need::program("qemu-system-x86_64", Purpose::Boot, "boots the guest")
            .from("6.2", "older ones are not tried")
            .in_packages(["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86", "qemu-x86"]),
    ]
}

#[cfg(test)]
mod tests;
