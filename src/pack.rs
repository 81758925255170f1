//! A run in one file, which replays on another machine: a tar archive compressed with zstd, as `tar` opens it too.
//!
//! All entries are in one folder, and the first one is [`MANIFEST`], which lists the others with their sizes and hashes.
//! [`write`] makes a pack of files, wherever they are; [`unpack`] makes a folder of one. A pack comes from somebody else:
//! whatever is not as the manifest says, is no plain file, or would be elsewhere than in the folder is refused, and nothing
//! is bigger than there is room for.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
pub use read::{about, is_pack, unpack};
pub use write::{Content, write};

/// How the name of a pack ends.
pub const ENDING: &str = "kdbgpack";
/// The entry that lists the others.
pub const MANIFEST: &str = "pack.json";
/// The kernel with its debug information, unless the pack is thin.
pub const VMLINUX: &str = "vmlinux";
/// The folder of the source files that the stacks are in.
pub const SOURCE: &str = "source";

/// The version of what is in a pack.
const FORMAT: u32 = 1;
/// The longest manifest that is believed, in bytes, and the most files.
const LONGEST: u64 = 16 << 20;
const MOST: usize = 100_000;

/// What is packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of the kdbg that packed it.
    pub kdbg: String,
    /// The recipe's name.
    pub recipe: String,
    /// The kernel's release.
    pub release: String,
    /// The GNU build-id of its vmlinux, in hexadecimal.
    pub build_id: String,
    /// What vmlinux calls the folder of the files that are in [`SOURCE`]; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// [`MANIFEST`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Always [`FORMAT`].
    pack: u32,
    #[serde(flatten)]
    about: About,
    /// The other entries by their paths.
    files: BTreeMap<String, Listed>,
}

/// What the manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    /// In bytes.
    size: u64,
    /// In hexadecimal.
    sha256: String,
}

/// Reads on, and knows what all that was read comes to.
struct Hashing<R> {
    from: R,
    hasher: Sha256,
    size: u64,
}

impl<R: Read> Hashing<R> {
    fn new(from: R) -> Self {
        Hashing { from, hasher: Sha256::new(), size: 0 }
    }

    fn listed(self) -> Listed {
        Listed { size: self.size, sha256: hex(self.hasher.finalize()) }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.hasher.update(&into[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
