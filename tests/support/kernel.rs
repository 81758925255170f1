//! A mock of a kernel's source: a tree that "builds" in half a second.
//!
//! It is no kernel and boots nowhere. It is for faults that a real tree cannot be brought to quickly, or at all: a file
//! that does not compile, a make that hangs or is killed, an archive cut short. What a real tree does is tested with the
//! real one, in tests/vm.rs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its own program, small and whole.
const PROGRAM: &str = "int answer = 42;\nvoid _start(void) { for (;;); }\n";
/// Its symbols: `FOO` is lost unless `BAR` is on; everything else survives.
const KCONFIG: &str = "config FOO\n\tbool\n\tdepends on BAR\n\nconfig BAR\n\tbool \"bar\"\n";

/// The tree, as far as tests differ in it.
pub(crate) struct Tree {
    /// Its version, and what `uname -r` would say.
    pub(crate) version: &'static str,
    /// Its only C file, `a.c`.
    pub(crate) source: &'static str,
    /// What make does for `vmlinux` before it compiles, as lines for a shell (without `$`).
    pub(crate) steps: Vec<String>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { version: "6.1.999", source: PROGRAM, steps: Vec::new() }
    }
}

impl Tree {
    /// One that does this before it compiles.
    pub(crate) fn doing(step: impl Into<String>) -> Tree {
        Tree { steps: vec![step.into()], ..Tree::default() }
    }

    /// Writes it to `folder`, which kdbg takes for a kernel's source then.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in [("Makefile", self.makefile().as_str()), ("Kconfig", KCONFIG), ("a.c", self.source)] {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    fn makefile(&self) -> String {
        let mut steps = String::new();
        self.steps.iter().for_each(|step| writeln!(steps, "\t@{step}").unwrap());
        let release = self.version;
        let [version, patchlevel, sublevel] = release.split('.').collect::<Vec<_>>().try_into().unwrap();
        // `made` counts the builds. As in Kbuild, an object is whole if it is newer than its source and was compiled by the
        // same command line, which is noted after it. An echo behind `@` is what kdbg counts in the output of `make -n`.
        format!(
            "VERSION = {version}
PATCHLEVEL = {patchlevel}
SUBLEVEL = {sublevel}
CC = gcc
COMPILE = $(CC) -g -c a.c
.PHONY: allnoconfig olddefconfig prepare vmlinux
allnoconfig:
\t@cp '$(KCONFIG_ALLCONFIG)' '$(O)/.config'
olddefconfig:
\t@grep -q CONFIG_BAR=y '$(O)/.config' || sed -i /CONFIG_FOO/d '$(O)/.config'
prepare:
\t@mkdir -p '$(O)/include/config'
\t@echo {release} > '$(O)/include/config/kernel.release'
vmlinux:
\t@echo made >> '$(O)/made'
{steps}\t@if [ '$(O)/a.o' -nt a.c ] && grep -qxF '$(COMPILE)' '$(O)/.a.o.cmd'; then exit; fi; \\
\techo '  CC      a.o'; $(COMPILE) -o '$(O)/a.o' && echo '$(COMPILE)' > '$(O)/.a.o.cmd'
\t@$(CC) -nostdlib -static -Wl,--build-id -o '$(O)/vmlinux' '$(O)/a.o'
"
        )
    }

    /// Packs it as a source package's archive, with this top folder.
    pub(crate) fn pack(&self, top: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        // Does not compress: an archive that is cut in the middle is cut in here.
        let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 32).to_le_bytes();
        fs::write(folder.path().join("noise"), (0..50_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
        pack(folder.path(), top)
    }
}

/// What is in `folder`, as an archive of a source package.
pub(crate) fn pack(folder: &Path, top: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
    tar.append_dir_all(top, folder).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

/// Makes the Debian package `name`, with the file `archive` at this path in it, in `folder`; returns the package.
pub(crate) fn package(folder: &Path, name: &str, path: &str, archive: &[u8]) -> PathBuf {
    let root = folder.join("package");
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    fs::write(file, archive).unwrap();
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: kdbg <kdbg@localhost>\nDescription: mock\n"
    );
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    let deb = folder.join(format!("{name}_1_all.deb"));
    let said = Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(&root).arg(&deb).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    deb
}
