//! Where a file is mapped in a process, from what /proc/PID/maps says (proc_pid_maps(5)). Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A part of a file, where a process has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Where it begins in the process.
    pub(super) address: u64,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) size: u64,
}

/// What the kernel puts behind the name of a file that was deleted.
const DELETED: &[u8] = b" (deleted)";

/// Where the first `size` bytes of a file are, if they are in one piece: the kernel splits a mapping whose parts are not
/// treated alike, and they stay next to each other.
pub(super) fn find(maps: &[u8], file: &Path, size: u64) -> Option<Span> {
    // The one character that the kernel escapes.
    let name = file.as_os_str().as_bytes().split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\\012"[..]);
    let is_it = |found: &[u8]| found == name || found.strip_suffix(DELETED) == Some(&name);
    let lines = maps.split(|byte| *byte == b'\n');
    let mut spans = lines.filter_map(parse).filter(|(_, found)| is_it(found)).map(|(span, _)| span);
    let first = spans.next()?;
    let whole = spans.try_fold(first, |before, span| {
        let follows = span.address == before.address + before.size && span.offset == before.offset + before.size;
        follows.then_some(Span { size: before.size + span.size, ..before })
    })?;
    (whole.offset == 0 && whole.size >= size).then_some(whole)
}

/// A line: `START-END PERMISSIONS OFFSET DEVICE INODE NAME`, the numbers but for the inode hexadecimal.
fn parse(line: &[u8]) -> Option<(Span, &[u8])> {
    let (mut fields, mut rest) = ([&line[..0]; 5], line);
    for field in &mut fields {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        (*field, rest) = (&rest[..end], &rest[end + 1..]);
    }
    let number = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let dash = fields[0].iter().position(|byte| *byte == b'-')?;
    let (address, end) = (number(&fields[0][..dash])?, number(&fields[0][dash + 1..])?);
    let name = &rest[rest.iter().position(|byte| *byte != b' ')?..];
    Some((Span { address, offset: number(fields[2])?, size: end.checked_sub(address)? }, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
559b7d000000-559b7d400000 r--p 00000000 fe:01 1051                       /usr/bin/qemu-system-x86_64
7f1e30000000-7f1e30021000 rw-p 00000000 00:00 0 
7f1e40000000-7f1e48000000 rw-p 00000000 fe:01 77                         /c/templates/a b/memory
7f1e48000000-7f1e50000000 rw-p 08000000 fe:01 77                         /c/templates/a b/memory
7f1e50000000-7f1e60000000 rw-s 00000000 fe:01 78                         /c/staging/1/memory (deleted)
7f1e60000000-7f1e60001000 rw-p 00001000 fe:01 79                         /c/half
7f1e70000000-7f1e70001000 rw-p 00000000 fe:01 80                         /c/torn
7f1e70002000-7f1e70003000 rw-p 00001000 fe:01 80                         /c/torn
7f1e80000000-7f1e80001000 rw-p 00000000 fe:01 81                         /c/new\\012line
7ffd0a000000-7ffd0a021000 rw-p 00000000 00:00 0                          [stack]
";

    fn at(file: &str, size: u64) -> Option<(u64, u64)> {
        find(MAPS.as_bytes(), Path::new(file), size).map(|span| (span.address, span.size))
    }

    #[test]
    fn a_mapping_is_found_whole_or_not_at_all() {
        assert_eq!(at("/c/templates/a b/memory", 256 << 20), Some((0x7f1e_4000_0000, 256 << 20)), "in two parts");
        assert_eq!(at("/c/staging/1/memory", 256 << 20), Some((0x7f1e_5000_0000, 256 << 20)), "of a deleted file");
        assert_eq!(at("/c/new\nline", 4096), Some((0x7f1e_8000_0000, 4096)));
        assert_eq!(at("/c/templates/a b/memory", 512 << 20), None, "smaller than the memory");
        assert_eq!(at("/c/half", 4096), None, "without its beginning");
        assert_eq!(at("/c/torn", 8192), None, "not in one piece");
        assert_eq!(at("/c/templates", 4096), None);
        assert_eq!(find(b"nonsense\n\n1-2 3\n", Path::new("/c/half"), 1), None);
    }
}
