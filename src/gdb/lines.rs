//! Which lines of the source an address is of, by vmlinux's debug information alone: for what is left when there is no
//! guest any more that GDB could ask.

use std::path::Path;

use addr2line::Loader;

/// The debug information of a kernel.
pub struct Lines(Loader);

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// A function that an address is in, and its line there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The function's name in the source.
    pub function: Option<String>,
    /// The file, as the compiler was given it.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

impl Lines {
    /// Opens a vmlinux; none if it has no debug information that can be read.
    pub fn open(vmlinux: &Path) -> Option<Lines> {
        Loader::new(vmlinux).ok().map(Lines)
    }

    /// The functions that `address` is in: what is inlined there first, then what it was inlined into.
    pub fn at(&self, address: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        let Ok(mut frames) = self.0.find_frames(address) else { return lines };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.and_then(|name| name.raw_name().ok().map(|name| name.into_owned()));
            let (file, line) = frame.location.map_or((None, None), |place| (place.file.map(String::from), place.line));
            lines.push(Line { function, file, line });
        }
        lines
    }
}
