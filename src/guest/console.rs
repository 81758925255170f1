//! The guest's serial console: kept whole in console.log, its last lines at hand, a panic recognised as it scrolls by.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{IoContext, Result};

/// How many lines are at hand for messages.
const KEPT: usize = 30;

/// A log that a thread writes and anybody may ask for its last lines.
#[derive(Debug, Clone)]
pub struct Log(Arc<Mutex<Tail>>);

#[derive(Debug)]
struct Tail {
    file: File,
    lines: VecDeque<String>,
    open: Vec<u8>,
    panic: Option<String>,
    complaint: Option<String>,
}

impl Log {
    /// Starts the file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Log> {
        let file = File::create(path).or_host(format!("make {}", path.display()))?;
        let (lines, open) = (VecDeque::new(), Vec::new());
        Ok(Log(Arc::new(Mutex::new(Tail { file, lines, open, panic: None, complaint: None }))))
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies everything from `reader` until it ends.
    pub fn drain(&self, mut reader: impl Read) {
        let mut buffer = [0; 4096];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.append(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Adds bytes. A full disk loses them from the file, not from the lines at hand.
    pub fn append(&self, bytes: &[u8]) {
        let mut tail = self.tail();
        let _ = tail.file.write_all(bytes);
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut tail.open);
                    tail.line(String::from_utf8_lossy(&line).trim_end_matches('\r').to_string());
                }
                byte => tail.open.push(*byte),
            }
        }
    }

    /// The last `count` lines, the unfinished one included.
    pub fn last(&self, count: usize) -> Vec<String> {
        let tail = self.tail();
        let mut lines: Vec<String> = tail.lines.iter().cloned().collect();
        if !tail.open.is_empty() {
            lines.push(String::from_utf8_lossy(&tail.open).into_owned());
        }
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// The line with which the guest's kernel panicked, if it did.
    pub fn panic(&self) -> Option<String> {
        self.tail().panic.clone()
    }

    /// What `images/init` could not do, if it said so.
    pub fn complaint(&self) -> Option<String> {
        self.tail().complaint.clone()
    }
}

impl Tail {
    fn line(&mut self, line: String) {
        if self.panic.is_none() && line.contains("Kernel panic - not syncing") {
            self.panic = Some(without_time(&line).into());
        }
        if let (None, Some(complaint)) = (&self.complaint, without_time(&line).strip_prefix("kdbg: ")) {
            self.complaint = Some(complaint.into());
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// A console line without its `[    0.123456] `.
fn without_time(line: &str) -> &str {
    line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_the_last_lines_are_at_hand() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("console.log")).unwrap();
        log.append(b"[    0.0] kdbg: module x does not load: no\r\n");
        assert_eq!(log.complaint().as_deref(), Some("module x does not load: no"));
        log.drain(&b"[    0.1] a\r\n[    0.2] Kernel panic - not syncing: Attempted to kill init!\r\nlast"[..]);
        assert_eq!(log.panic().as_deref(), Some("Kernel panic - not syncing: Attempted to kill init!"));
        assert_eq!(log.last(2), ["[    0.2] Kernel panic - not syncing: Attempted to kill init!", "last"]);
        assert!(std::fs::read_to_string(folder.path().join("console.log")).unwrap().ends_with("last"));
    }
}
