//! Whether a kernel's image and its debug information are of one build: both have the kernel's banner in them.
//!
//! The image is compressed, so that its build-id cannot be read, but its boot header has the text that `uname` shows, with
//! the time and version of the build (Documentation/arch/x86/boot.rst, `kernel_version`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

/// Where the boot header has its mark, and where the place of the text, from [`BASE`].
const MARK: (usize, &[u8]) = (0x202, b"HdrS");
const PLACE: usize = 0x20e;
const BASE: usize = 0x200;
/// More than any of the texts has.
const LONG: usize = 1024;

/// What an image (bzImage) says of itself: `6.1.0-48-cloud-amd64 (who@where) #1 SMP … Debian 6.1.172-1 (2026-05-15)`.
pub(super) fn of_image(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut header = [0; PLACE + 2];
    file.read_exact(&mut header).ok()?;
    let is_image = header.get(MARK.0..MARK.0 + MARK.1.len()) == Some(MARK.1);
    let place = u16::from_le_bytes([header[PLACE], header[PLACE + 1]]);
    file.seek(SeekFrom::Start(BASE as u64 + u64::from(place))).ok()?;
    let mut text = Vec::new();
    file.take(LONG as u64).read_to_end(&mut text).ok()?;
    is_image.then(|| until_nul(&text)).flatten()
}

/// What a vmlinux says of itself: `Linux version 6.1.0-48-cloud-amd64 (who@where) (compiler) #1 SMP … (2026-05-15)`.
pub(super) fn of_vmlinux(path: &Path) -> Option<String> {
    let data = ReadCache::new(File::open(path).ok()?);
    let file: ElfFile64<'_, Endianness, _> = ElfFile64::parse(&data).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok("linux_banner"))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    until_nul(section.data_range(symbol.address(), symbol.size()).ok()??)
}

fn until_nul(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next()?);
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

/// Whether the banner of a vmlinux is that of an image: release, builder, and the version with its time.
pub(super) fn match_each_other(image: &str, vmlinux: &str) -> bool {
    let (builder, version) = image.split_once(") ").unwrap_or((image, ""));
    vmlinux.strip_prefix("Linux version ").is_some_and(|rest| rest.starts_with(builder)) && vmlinux.ends_with(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_told_by_release_and_version() {
        let image = "6.1.0-48-cloud-amd64 (kernel@debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.172-1 (2026-05-15)";
        let vmlinux = |release: &str, version: &str| {
            format!("Linux version {release} (kernel@debian.org) (gcc-12 (Debian 12.2.0) 12.2.0, GNU ld) {version}")
        };
        let version = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.172-1 (2026-05-15)";
        assert!(match_each_other(image, &vmlinux("6.1.0-48-cloud-amd64", version)));
        assert!(!match_each_other(image, &vmlinux("6.1.0-48-cloud-amd64", &version.replace("172", "170"))));
        assert!(!match_each_other(image, &vmlinux("6.1.0-47-cloud-amd64", version)));
    }

    #[test]
    fn an_image_says_what_it_is_and_other_files_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinuz");
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x30d].copy_from_slice(b"6.1.9 (a) #1\0");
        std::fs::write(&path, &image).unwrap();
        assert_eq!(of_image(&path).as_deref(), Some("6.1.9 (a) #1"));
        std::fs::write(&path, &image[..0x300]).unwrap();
        assert_eq!(of_image(&path), None, "cut");
        std::fs::write(&path, vec![b'x'; 0x400]).unwrap();
        assert_eq!((of_image(&path), of_vmlinux(&path)), (None, None));
    }
}
