//! Which lines of the source an address is of, when there may be no guest any more. For the kernel's own code vmlinux's debug
//! information tells, functions that were inlined included; for a module's, GDB, which was told where the module is.

use std::path::Path;

use addr2line::Loader;

use super::answer::Answer;
use super::client::Gdb;
use super::command::console;
use crate::event::Cancel;

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

/// The line of a module's code, as GDB knows it; none if it does not, or is gone.
pub fn of_module(gdb: &mut Gdb, address: u64, cancel: &Cancel) -> Option<Line> {
    let command = console(&format!("info line *{address:#x}"));
    match gdb.ask(&command, cancel) {
        // What it had said of its own accord before may come with it.
        Ok(Answer::Done(_, said)) => said.lines().find_map(parse),
        Ok(Answer::Refused(_)) | Err(_) => None,
    }
}

/// `Line 12 of "net/x.c" starts at address …`
fn parse(said: &str) -> Option<Line> {
    let (line, rest) = said.strip_prefix("Line ")?.split_once(" of \"")?;
    let (file, _) = rest.split_once('"')?;
    Some(Line { function: None, file: Some(file.into()), line: line.parse().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gdb_says_of_a_line_is_read() {
        let line = Line { function: None, file: Some("net/x.c".into()), line: Some(12) };
        assert_eq!(parse("Line 12 of \"net/x.c\" starts at address 0x1 <x+1> and ends at 0x2.\n"), Some(line));
        assert_eq!(parse("No line number information available for address 0x1\n"), None);
    }
}
