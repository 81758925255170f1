//! The Unix sockets between kdbg and QEMU: where they are, and who connects.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::CONNECT;
use crate::error::{IoContext, Result};

/// A new folder for sockets that only its owner can enter. Not the run directory: a socket's path may have 107 bytes.
pub(super) fn socket_folder() -> Result<tempfile::TempDir> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let parent =
        runtime.into_iter().chain([std::env::temp_dir(), "/tmp".into()]).find(|path| path.as_os_str().len() < 80);
    let parent = parent.unwrap_or_else(|| "/tmp".into());
    // tempfile makes the folder with mode 0700.
    tempfile::Builder::new()
        .prefix("kdbg-")
        .tempdir_in(&parent)
        .or_host(format!("make a folder for sockets in {}", parent.display()))
}

pub(super) fn listen(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path).or_host(format!("listen on {}", path.display()))?;
    listener.set_nonblocking(true).or_host("use a socket")?;
    Ok(listener)
}

/// Whether it was for a socket's deadline that reading or writing failed, and not because the other end is gone.
pub(super) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The connection that QEMU is about to make, or has made.
pub(super) fn accept(listener: &UnixListener, what: &str) -> Result<UnixStream> {
    let deadline = Instant::now() + CONNECT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).or_host("use a socket")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).or_host(format!("wait for {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_end_that_does_not_read_is_told_from_one_that_is_gone() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut failure = || ours.write_all(&[0; 1 << 20]).unwrap_err();
        assert!(timed_out(&failure()));
        drop(theirs);
        assert!(!timed_out(&failure()));
    }
}
