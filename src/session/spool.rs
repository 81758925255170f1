//! What comes through a port of its own, written to a file as it comes: packets, and files of the guest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use crate::error::{Error, IoContext, Result};
use crate::guest::capture;

/// How long what the guest has sent may take to arrive.
pub(super) const ARRIVAL: Duration = Duration::from_secs(5);

/// A file that is being written.
pub(super) struct Spool {
    /// How long the file is once the mark has come, or that it cannot be written; disconnected when nothing more can come.
    news: Receiver<io::Result<u64>>,
}

impl Spool {
    /// Starts to write what comes through `port` to a new file, until this [mark](capture::mark) comes.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn fill(path: &Path, mut port: UnixStream, mark: &str) -> Result<Spool> {
        let mut file = File::create(path).or_host(format!("make {}", path.display()))?;
        let (sender, news) = unbounded();
        let mark = capture::mark(mark);
        std::thread::spawn(move || match spool(&mut port, &mut file, &mark) {
            Ok(None) => {}
            Ok(Some(length)) => drop(sender.send(Ok(length))),
            Err(error) => {
                let _ = sender.send(Err(error));
                // Or the guest would wait for ever for what it sends to be taken.
                let _ = io::copy(&mut port, &mut io::sink());
            }
        });
        Ok(Spool { news })
    }

    /// Waits for the mark, which the guest has sent. Gives the length of the file.
    ///
    /// # Errors
    /// It does not come, or the file could not be written.
    pub(super) fn wait(&self) -> Result<u64> {
        match self.news.recv_timeout(ARRIVAL) {
            Ok(length) => length.or_host("write what came"),
            Err(_) => Err(Error::guest("the end did not arrive")),
        }
    }

    /// Waits until nothing more can come.
    pub(super) fn wait_for_all(&self, deadline: Instant) {
        while self.news.recv_deadline(deadline).is_ok() {}
    }
}

/// Writes all that comes through `port` to the file until the mark comes, which it leaves out. Gives the length then; none
/// where the mark did not come.
fn spool(port: &mut impl Read, file: &mut File, mark: &[u8]) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; 1 << 16];
    let (mut length, mut tail) = (0, Vec::new());
    while let Ok(count @ 1..) = port.read(&mut buffer) {
        file.write_all(&buffer[..count])?;
        length += count as u64;
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(mark.len()));
        if tail == mark {
            length -= mark.len() as u64;
            return file.set_len(length).map(|()| Some(length));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that gives these pieces.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn the_mark_is_noticed_and_left_out_however_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mark = capture::mark("kdbg end 1");
        let stream = [b"packets", &mark[..]].concat();
        let spooled = |pieces| spool(&mut Pieces(pieces), &mut File::create(&path).unwrap(), &mark).unwrap();
        for size in 1..=stream.len() {
            assert_eq!(spooled(stream.chunks(size).map(Vec::from).collect()), Some(7), "in pieces of {size}");
            assert_eq!(std::fs::read(&path).unwrap(), b"packets");
        }
        assert_eq!(spooled(vec![stream[..stream.len() - 1].to_vec()]), None);
    }
}
