//! The Unix sockets between kdbg and QEMU: where they are, and who connects.

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

/// The connection that QEMU is about to make, or has made.
pub(super) fn accept(listener: &UnixListener, what: &str) -> Result<UnixStream> {
    let deadline = Instant::now() + CONNECT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).or_host("use a socket")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).or_host(format!("wait for {what}")),
        }
    }
}
