//! QMP, QEMU's control channel: the few commands kdbg gives, each with a deadline.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use qapi::{Qmp as Wire, Stream, qmp};

use crate::error::{Error, IoContext, Result};

/// How long QEMU may take to answer; it answers in milliseconds unless it hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where QEMU's own words are.
const SEE_LOG: &str = "see qemu.log in the run directory";

/// A connection to QEMU's monitor.
pub struct Qmp {
    wire: Wire<Stream<BufReader<UnixStream>, UnixStream>>,
    version: String,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Qmp {
    /// Greets QEMU over a fresh connection.
    ///
    /// # Errors
    /// QEMU does not answer in time, or not in QMP.
    pub fn greet(socket: UnixStream) -> Result<Qmp> {
        socket.set_read_timeout(Some(DEADLINE)).or_host("set a deadline for QMP")?;
        socket.set_write_timeout(Some(DEADLINE)).or_host("set a deadline for QMP")?;
        let mut reader = BufReader::new(socket.try_clone().or_host("share the QMP socket")?);
        // The library panics when QEMU dies before it has said a word.
        if reader.fill_buf().map_err(|error| failed("greet", &error))?.is_empty() {
            return Err(Error::guest("QEMU closed its QMP connection at once").hint(SEE_LOG));
        }
        let mut wire = Wire::new(Stream::new(reader, socket));
        let greeting = wire.handshake().map_err(|error| failed("greet", &error))?;
        let version = greeting.version.qemu;
        let version = format!("{}.{}.{}", version.major, version.minor, version.micro);
        Ok(Qmp { wire, version })
    }

    /// QEMU's version, like `7.2.22`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks QEMU to end; an answer is not needed, its end is waited for elsewhere.
    pub fn quit(&mut self) {
        let _ = self.wire.write_command(&qmp::quit {});
    }

    /// Whether KVM executes the guest: what QEMU says, not what it was asked for.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn uses_kvm(&mut self) -> Result<bool> {
        let info = self.wire.execute(&qmp::query_kvm {}).map_err(|error| failed("query-kvm", &error))?;
        Ok(info.enabled)
    }
}

fn failed(command: &str, error: &dyn std::fmt::Display) -> Error {
    Error::guest(format!("QEMU did not answer `{command}` over QMP within {}s: {error}", DEADLINE.as_secs()))
        .hint(SEE_LOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_that_is_gone_before_it_greets_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = Qmp::greet(ours).unwrap_err();
        assert!(error.message.contains("closed its QMP connection"), "{error}");
    }
}
