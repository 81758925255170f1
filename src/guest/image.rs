//! Writes the initramfs: the programs of an image and its init, as a newc archive, cached by content.
//!
//! The same input gives the same bytes: no times, no owners, inodes counted in order.

pub mod modules;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cpio::newc;
use object::Object;
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{Error, IoContext, Result};
use crate::event::{Events, Phase};
use crate::store::Cache;

/// What goes into an initramfs.
#[derive(Debug, Clone)]
pub struct Contents<'a> {
    /// The image's name, for messages.
    pub name: &'a str,
    /// The text of `/init`.
    pub init: &'a str,
    /// Static programs of the host, copied to `/bin`.
    pub programs: &'a [String],
    /// Kernel modules.
    pub modules: &'a modules::Modules,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// The initramfs with `contents`, written if it is not in the cache.
///
/// # Errors
/// A program is missing or needs libraries; the cache cannot be written.
pub fn build(contents: &Contents<'_>, cache: &Cache, events: &Events) -> Result<PathBuf> {
    events.phase(Phase::Image, contents.name, || {
        let mut files = Vec::new();
        for program in contents.programs {
            files.push((format!("bin/{program}"), static_program(program)?));
        }
        files.push(("init".into(), contents.init.as_bytes().to_vec()));
        files.extend(contents.modules.files());
        let archive = write_archive(&files).or_host("write the initramfs")?;
        let digest = hex(&Sha256::digest(&archive)[..10]);
        let path = cache.path("images").join(format!("{}-{digest}.cpio", contents.name));
        // Not by its size alone: what is there may be damaged.
        if fs::read(&path).is_ok_and(|filed| filed == archive) && cache.hold(&path) {
            return Ok((path, format!("{} cached", contents.name)));
        }
        publish(&path, &archive, cache)?;
        let summary = format!("{} ({} KB)", contents.name, archive.len() / 1000);
        Ok((path, summary))
    })
}

fn publish(path: &Path, archive: &[u8], cache: &Cache) -> Result<()> {
    let stage = cache.stage()?;
    fs::write(stage.path().join("image"), archive).or_host(format!("write {}", path.display()))?;
    stage.publish_inner("image", path)
}

/// A program of the host that runs without libraries.
fn static_program(name: &str) -> Result<Vec<u8>> {
    let install = how_to_get(name);
    let path = which::which(name)
        .map_err(|_| Error::host(format!("the image needs {name}, which is not on this host")).hint(&install))?;
    let data = fs::read(&path).or_host(format!("read {}", path.display()))?;
    match is_static(&data) {
        Some(true) => Ok(data),
        Some(false) => {
            Err(Error::host(format!("{} needs shared libraries; the image needs a static {name}", path.display()))
                .hint(install))
        }
        None => Err(Error::host(format!("{} is not an ELF program", path.display())).hint(install)),
    }
}

/// What brings a static program: kdbg knows a package for busybox alone.
fn how_to_get(name: &str) -> String {
    match name {
        "busybox" => "`kdbg doctor --install` installs a static busybox".into(),
        _ => format!("put a statically linked {name} on PATH, or take it out of the image's `programs`"),
    }
}

/// Whether an ELF program has no interpreter; `None` if it is not one.
fn is_static(data: &[u8]) -> Option<bool> {
    let object::File::Elf64(elf) = object::File::parse(data).ok()? else { return None };
    let endian = elf.endian();
    let headers = elf.elf_header().program_headers(endian, data).ok()?;
    let interpreted = headers.iter().any(|header| header.p_type(endian) == object::elf::PT_INTERP);
    Some(!interpreted && elf.kind() != object::ObjectKind::Relocatable)
}

fn write_archive(files: &[(String, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut inode = 0;
    let mut entry = |name: &str, mode: u32, device: Option<(u32, u32)>, data: &[u8]| {
        inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let mut builder = newc::Builder::new(name).ino(inode).mode(mode).nlink(links);
        if let Some((major, minor)) = device {
            builder = builder.rdev_major(major).rdev_minor(minor);
        }
        let size = u32::try_from(data.len()).map_err(std::io::Error::other)?;
        let mut writer = builder.write(&mut archive, size);
        writer.write_all(data)?;
        writer.finish().map(drop)
    };
    let mut directories = BTreeSet::from(["bin", "dev", "proc", "root", "run", "sys", "tmp"]);
    for (name, _) in files {
        // Each folder before what is in it.
        directories.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
    }
    for directory in directories {
        entry(directory, DIRECTORY, None, &[])?;
    }
    // The kernel opens it for /init before devtmpfs is mounted.
    entry("dev/console", CONSOLE, Some((5, 1)), &[])?;
    for (name, data) in files {
        entry(name, PROGRAM, None, data)?;
    }
    newc::trailer(&mut archive)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_reads_back_and_is_the_same_twice() {
        let files =
            vec![("bin/busybox".to_string(), vec![1, 2, 3]), ("init".to_string(), b"#!/bin/busybox sh\n".to_vec())];
        let archive = write_archive(&files).unwrap();
        assert_eq!(archive, write_archive(&files).unwrap());
        let mut rest: Box<dyn std::io::Read> = Box::new(std::io::Cursor::new(archive));
        let mut names = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let entry = reader.entry();
            names.push((entry.name().to_string(), entry.mode(), entry.mtime()));
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut data).unwrap();
            if names.last().is_some_and(|(name, ..)| name == "bin/busybox") {
                assert_eq!(data, [1, 2, 3]);
            }
            rest = reader.finish().unwrap();
        }
        assert!(names.contains(&("dev/console".into(), CONSOLE, 0)));
        assert_eq!(names.last(), Some(&("init".into(), PROGRAM, 0)));
    }

    #[test]
    fn only_what_can_be_installed_is_promised() {
        let hint = |name| static_program(name).unwrap_err().hint.unwrap();
        let expected = "put a statically linked kdbg-no-such on PATH, or take it out of the image's `programs`";
        assert_eq!(hint("kdbg-no-such"), expected);
        assert!(how_to_get("busybox").contains("kdbg doctor --install"));
    }

    #[test]
    fn a_script_is_no_program() {
        assert_eq!(is_static(b"#!/bin/sh\n"), None);
    }
}
