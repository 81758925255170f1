//! A file that a verb writes where the user wants it.

use std::fs::File;
use std::path::Path;

use crate::error::{IoContext, Result};

/// What mends a file that cannot be written.
pub(super) const ELSEWHERE: &str = "write it elsewhere with `--output FILE`, or free some space";

/// The folder that a file is in.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Has `write` write it whole or not at all.
///
/// # Errors
/// Those of `write`, or it cannot be made; what was there before stays.
pub(super) fn write_whole<T>(file: &Path, write: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let doing = || format!("write {}", file.display());
    let written = tempfile::NamedTempFile::new_in(folder_of(file)).or_host(doing()).and_then(|fresh| {
        let written = write(fresh.as_file())?;
        fresh.persist(file).map_err(|error| error.error).or_host(doing())?;
        Ok(written)
    });
    written.map_err(|error| error.hint(ELSEWHERE))
}
