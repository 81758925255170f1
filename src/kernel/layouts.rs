//! Where the members of a kernel's structures are, read from its vmlinux once and kept beside it.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{KernelBuild, dwarf};
use crate::decode::{ENUMS, UNITS, WANTED};
use crate::digest::hex;
use crate::error::Result;
use crate::layout::Layouts;

/// The file beside vmlinux.
const FILE: &str = "layouts.json";
/// Another way to read them makes other layouts.
const FORMAT: u32 = 1;

/// What is kept: another kdbg may want other members.
#[derive(Serialize, Deserialize)]
struct Kept {
    wanted: String,
    layouts: Layouts,
}

impl KernelBuild {
    /// What this kernel has of the structures that kdbg can [decode](crate::decode).
    ///
    /// # Errors
    /// Its debug information cannot be read.
    pub fn layouts(&self) -> Result<Layouts> {
        let wanted = format!("{FORMAT} {} {UNITS:?} {WANTED:?} {ENUMS:?}", self.build_id);
        kept(&self.vmlinux, &hex(&Sha256::digest(wanted)[..8]), || dwarf::read(&self.vmlinux, &UNITS, WANTED, &ENUMS))
    }
}

/// The layouts that are kept beside `vmlinux`, if they are those that are wanted; else read, and kept.
fn kept(vmlinux: &Path, wanted: &str, read: impl FnOnce() -> Result<Layouts>) -> Result<Layouts> {
    let path = vmlinux.with_file_name(FILE);
    let known: Option<Kept> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(kept) = known.filter(|kept| kept.wanted == wanted) {
        return Ok(kept.layouts);
    }
    let kept = Kept { wanted: wanted.into(), layouts: read()? };
    // A cache that cannot be written costs the time again.
    let keep = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent()?).ok()?;
        file.write_all(&serde_json::to_vec(&kept).ok()?).ok()?;
        file.persist(&path).ok()
    };
    let _ = keep();
    Ok(kept.layouts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn layouts_are_read_once_and_again_when_others_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let vmlinux = folder.path().join("vmlinux");
        let mut reads = 0;
        let mut get = |wanted: &str| {
            kept(&vmlinux, wanted, || {
                reads += 1;
                Ok(Layouts::default())
            })
            .unwrap();
            reads
        };
        assert_eq!([get("a"), get("a"), get("b"), get("b"), get("a")], [1, 1, 2, 2, 3]);
        let failed = kept(&vmlinux, "c", || Err(Error::kernel("no debug information")));
        assert!(failed.is_err());
    }
}
