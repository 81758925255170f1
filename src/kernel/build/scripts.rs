//! The kernel's own commands for gdb (`lx-ps`, `lx-dmesg` and so on): Python in its tree, and constants that make takes from
//! its headers. What loads them, `vmlinux-gdb.py`, looks for the rest in `scripts/gdb` beside itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::Workshop;
use crate::error::{IoContext, Result};
use crate::kernel::entry;
use crate::kernel::kconfig::Options;

/// Where the rest is, from what loads it.
const FOLDER: &str = "scripts/gdb/linux";

impl Workshop<'_> {
    /// Makes them where the configuration has them: files, by where they belong beside vmlinux. Without them a kernel is
    /// as good for all else, so make's failure is a warning.
    ///
    /// # Errors
    /// kdbg was interrupted, or what make made cannot be listed.
    pub fn scripts(&self, config: &Options) -> Result<Vec<(PathBuf, PathBuf)>> {
        if config.0.get("GDB_SCRIPTS").is_none_or(|value| value != "y") {
            return Ok(Vec::new());
        }
        let output = self.drive(&self.make(&["scripts_gdb"]), |_| {})?;
        if !output.status.success() {
            self.events.warn(format!("the kernel's own commands for gdb could not be made: {}", output.tail(1)));
            return Ok(Vec::new());
        }
        let mut scripts = vec![(PathBuf::from(entry::SCRIPTS), self.objects.join(entry::SCRIPTS))];
        let entries = fs::read_dir(self.objects.join(FOLDER)).or_host("list the kernel's commands for gdb")?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_python = path.extension().is_some_and(|extension| extension == "py");
            if let Some(name) = path.file_name().filter(|_| is_python) {
                scripts.push((Path::new(FOLDER).join(name), path.clone()));
            }
        }
        Ok(scripts)
    }
}
