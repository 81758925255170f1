//! Where the members of a kernel's structures are, read from its vmlinux once and kept beside it.

use std::fs;
use std::io::Write;

use sha2::{Digest, Sha256};

use super::KernelBuild;
use crate::decode::{ENUMS, UNITS, WANTED};
use crate::digest::hex;
use crate::error::Result;
use crate::layout::Layouts;

/// Another way to write them makes other files.
const FORMAT: u32 = 1;

impl KernelBuild {
    /// What this kernel has of the structures that kdbg can [decode](crate::decode).
    ///
    /// # Errors
    /// Its debug information cannot be read.
    pub fn layouts(&self) -> Result<Layouts> {
        let wanted = Sha256::digest(format!("{FORMAT} {} {UNITS:?} {WANTED:?} {ENUMS:?}", self.build_id));
        let path = self.vmlinux.with_file_name(format!("layouts-{}.json", hex(&wanted[..8])));
        if let Some(layouts) = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(layouts);
        }
        let layouts = Layouts::read(&self.vmlinux, &UNITS, WANTED, &ENUMS)?;
        // A cache that cannot be written costs the time again.
        let keep = || {
            let mut file = tempfile::NamedTempFile::new_in(path.parent()?).ok()?;
            file.write_all(&serde_json::to_vec(&layouts).ok()?).ok()?;
            file.persist(&path).ok()
        };
        let _ = keep();
        Ok(layouts)
    }
}
