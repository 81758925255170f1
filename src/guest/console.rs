//! The guest's serial console: kept whole in console.log, its last lines at hand, and what the kernel complains about
//! recognised as it scrolls by ([`incident`]).

pub mod incident;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{IoContext, Result};
use incident::{Ending, Seen, Watcher, plain};

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
    watcher: Watcher,
    /// When the first complaint was read after which the run cannot go on.
    fatal_since: Option<Instant>,
    /// How many complaints were handed out.
    told: usize,
    complaint: Option<String>,
}

impl Log {
    /// Starts the file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Log> {
        let file = File::create(path).or_host(format!("make {}", path.display()))?;
        Ok(Log(Arc::new(Mutex::new(Tail {
            file,
            lines: VecDeque::new(),
            open: Vec::new(),
            watcher: Watcher::default(),
            fatal_since: None,
            told: 0,
            complaint: None,
        }))))
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

    /// What the kernel has complained about since this was asked last. The newest is left for later while more of it may
    /// come, unless this `is_over`.
    pub fn news(&self, is_over: bool) -> Vec<Seen> {
        let mut tail = self.tail();
        let new = &tail.watcher.seen()[tail.told..];
        let new: Vec<Seen> = new.iter().take_while(|seen| seen.is_whole || is_over).cloned().collect();
        tail.told += new.len();
        new
    }

    /// The first complaint after which the run cannot go on.
    pub fn fatal(&self) -> Option<Seen> {
        self.tail().watcher.fatal().cloned()
    }

    /// Whether the guest's kernel has panicked.
    pub fn has_panicked(&self) -> bool {
        self.tail().watcher.has_panicked()
    }

    /// Whether the guest is lost, and has said why, or has had this long to do so.
    pub fn is_lost(&self, patience: Duration) -> bool {
        let tail = self.tail();
        let said = tail.watcher.fatal().is_some_and(|fatal| fatal.is_whole);
        let late = tail.fatal_since.is_some_and(|since| since.elapsed() > patience);
        // One that restarts ends QEMU, and there is nothing to wait for here.
        said || late || matches!(tail.watcher.ending(), Some(Ending::Halted | Ending::PoweredOff))
    }

    /// How the guest ended itself, if it did.
    pub fn ending(&self) -> Option<Ending> {
        self.tail().watcher.ending()
    }

    /// What `images/init` could not do, if it said so.
    pub fn complaint(&self) -> Option<String> {
        self.tail().complaint.clone()
    }
}

impl Tail {
    fn line(&mut self, line: String) {
        self.watcher.line(&line);
        if self.fatal_since.is_none() && self.watcher.fatal().is_some() {
            self.fatal_since = Some(Instant::now());
        }
        if let (None, Some(complaint)) = (&self.complaint, plain(&line).strip_prefix("kdbg: ")) {
            self.complaint = Some(complaint.into());
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn a_panic_is_found_and_the_last_lines_are_at_hand() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("console.log")).unwrap();
        log.append(b"[    0.0] kdbg: module x does not load: no\r\n");
        assert_eq!(log.complaint().as_deref(), Some("module x does not load: no"));
        log.drain(&b"[    0.1] a\r\n[    0.2] Kernel panic - not syncing: Attempted to kill init!\r\nlast"[..]);
        assert_eq!(log.fatal().unwrap().text, "Kernel panic - not syncing: Attempted to kill init!");
        assert_eq!(log.last(2), ["[    0.2] Kernel panic - not syncing: Attempted to kill init!", "last"]);
        assert!(std::fs::read_to_string(folder.path().join("console.log")).unwrap().ends_with("last"));
    }

    #[test]
    fn what_may_go_on_is_waited_for_and_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("console.log")).unwrap();
        log.append(b"[    0.2] Kernel panic - not syncing: x\n");
        assert!(log.news(false).is_empty() && !log.is_lost(LONG) && log.is_lost(Duration::ZERO));
        log.append(b"[    0.3] Kernel Offset: disabled\n");
        assert!(log.is_lost(LONG));
        assert_eq!((log.news(false).len(), log.news(true).len()), (1, 0));
    }
}
