//! What a file's bytes come to, however they lie on the disk.
//!
//! A guest's memory is a file of gigabytes with a few megabytes in it. Of a file with holes only what is not zero counts,
//! with its place: holes are not read, and a copy that has no holes any more is still the same.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::digest::hex;

/// What the hash of a file with holes begins with; any other is the SHA-256 of the whole.
const SPARSE: &str = "sparse:";
/// What is zero as a whole does not count: a page, which is also what most file systems allocate.
const BLOCK: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// The hash of a file's content.
pub(super) fn hash(file: &File) -> io::Result<String> {
    if has_holes(file)? { sparse(file) } else { plain(file) }
}

/// Whether a file's content still has this hash.
pub(super) fn matches(file: &File, hash: &str) -> io::Result<bool> {
    let found = if hash.starts_with(SPARSE) { sparse(file)? } else { plain(file)? };
    Ok(found == hash)
}

fn has_holes(file: &File) -> io::Result<bool> {
    // Where a file system cannot tell, or the file is empty, there are none.
    let length = file.metadata()?.len();
    Ok(seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < length))
}

fn plain(mut file: &File) -> io::Result<String> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    seek(file, SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Over the length, and every block that is not zero behind its offset.
fn sparse(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let (mut hasher, mut buffer) = (Sha256::new_with_prefix(length.to_le_bytes()), vec![0; CHUNK]);
    let mut at = 0;
    while let Some(data) = next_data(file, at)? {
        let end = seek(file, SeekFrom::Hole(data))?;
        // Whole blocks, wherever the file system lets data begin.
        at = data - data % BLOCK as u64;
        while at < end {
            let left = usize::try_from(length - at).unwrap_or(CHUNK);
            let count = left.min(CHUNK);
            file.read_exact_at(&mut buffer[..count], at)?;
            for block in buffer[..count].chunks(BLOCK) {
                if block != &[0; BLOCK][..block.len()] {
                    hasher.update(at.to_le_bytes());
                    hasher.update(block);
                }
                at += block.len() as u64;
            }
        }
    }
    Ok(format!("{SPARSE}{}", hex(hasher.finalize())))
}

/// Where the next data is at `at` or behind it.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these pieces in it.
    fn file(length: u64, pieces: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        file
    }

    #[test]
    fn holes_are_not_read() {
        // Reading all of it would take minutes.
        let file = file(1 << 40, &[(5000, b"here"), (1 << 39, b"there")]);
        assert!(has_holes(&file).unwrap(), "this file system has no holes");
        let hash = hash(&file).unwrap();
        assert!(hash.starts_with(SPARSE) && matches(&file, &hash).unwrap());
    }

    #[test]
    fn bytes_their_places_and_the_length_count_and_holes_do_not() {
        const LENGTH: u64 = 10 << 20;
        let usual = file(LENGTH, &[(4096, b"here"), (7 << 20, b"there")]);
        let hash = hash(&usual).unwrap();
        let mut dense = vec![0; LENGTH as usize];
        dense[4096..4100].copy_from_slice(b"here");
        dense[7 << 20..(7 << 20) + 5].copy_from_slice(b"there");
        let dense = file(LENGTH, &[(0, &dense)]);
        assert!(has_holes(&usual).unwrap() && !has_holes(&dense).unwrap());
        assert!(matches(&dense, &hash).unwrap(), "a copy without holes");
        for (what, other) in [
            ("another byte", file(LENGTH, &[(4096, b"hers"), (7 << 20, b"there")])),
            ("another page", file(LENGTH, &[(8192, b"here"), (7 << 20, b"there")])),
            ("another place in the page", file(LENGTH, &[(4097, b"here"), (7 << 20, b"there")])),
            ("less", file(LENGTH, &[(4096, b"here")])),
            ("more", file(LENGTH, &[(4096, b"here"), (7 << 20, b"there"), (9 << 20, b"x")])),
            ("longer", file(LENGTH + 1, &[(4096, b"here"), (7 << 20, b"there")])),
        ] {
            assert!(!matches(&other, &hash).unwrap(), "{what}");
        }
    }

    #[test]
    fn a_file_without_holes_has_the_usual_hash() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let abc = file(3, &[(0, b"abc")]);
        assert_eq!(hash(&abc).unwrap(), expected);
        assert!(matches(&abc, expected).unwrap());
        assert!(!has_holes(&file(0, &[])).unwrap());
    }
}
