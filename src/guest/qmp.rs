//! QMP, QEMU's control channel: the few commands kdbg gives, each with a deadline.

use std::io::{BufRead, BufReader, BufWriter};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use qapi::qmp::{MigrationCapability, MigrationCapabilityStatus, MigrationStatus, QmpCommand};
use qapi::{ExecuteError, Qmp as Wire, Stream, qmp};

use super::machine::NETDEV;
use super::sockets::timed_out;
use crate::error::{Error, IoContext, Result};

/// How long QEMU may take to answer; it answers in milliseconds unless it hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where QEMU's own words are.
const SEE_LOG: &str = "see qemu.log in the run directory";

/// A connection to QEMU's monitor.
pub struct Qmp {
    wire: Wire<Stream<BufReader<UnixStream>, BufWriter<UnixStream>>>,
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
        if reader.fill_buf().map_err(|error| failed("greet", &error.into()))?.is_empty() {
            return Err(Error::guest("QEMU closed its QMP connection at once").hint(SEE_LOG));
        }
        let mut wire = Wire::new(Stream::new(reader, BufWriter::new(socket)));
        let greeting = wire.handshake().map_err(|error| failed("greet", &error))?;
        let version = greeting.version.qemu;
        let version = format!("{}.{}.{}", version.major, version.minor, version.micro);
        Ok(Qmp { wire, version })
    }

    /// QEMU's version, like `7.2.22`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Stops the machine's CPUs.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn pause(&mut self) -> Result<()> {
        self.execute("stop", &qmp::stop {}).map(drop)
    }

    /// Has QEMU keep a machine that shuts itself down, as it stands then.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn keep(&mut self) -> Result<()> {
        let action =
            qmp::set_action { panic: None, reboot: None, shutdown: Some(qmp::ShutdownAction::pause), watchdog: None };
        self.execute("set-action", &action).map(drop)
    }

    /// Whether the machine was shut down, and is [kept](Qmp::keep).
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.execute("query-status", &qmp::query_status {})?.status == qmp::RunState::shutdown)
    }

    /// Lets the machine's CPUs run.
    ///
    /// # Errors
    /// QEMU does not answer, or the machine cannot run.
    pub fn resume(&mut self) -> Result<()> {
        self.execute("cont", &qmp::cont {}).map(drop)
    }

    /// Has QEMU write the devices' state, without the memory that is in a file, to whoever listens at `socket`.
    ///
    /// # Errors
    /// QEMU refuses: a device cannot be saved.
    pub fn save(&mut self, socket: &Path) -> Result<()> {
        self.leave_memory_out()?;
        let uri = Some(uri(socket));
        self.execute("migrate", &qmp::migrate { channels: None, detach: None, resume: None, uri }).map(drop)
    }

    /// Has QEMU listen at `socket` for what [`save`](Qmp::save) wrote.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn restore(&mut self, socket: &Path) -> Result<()> {
        self.leave_memory_out()?;
        let uri = Some(uri(socket));
        self.execute("migrate-incoming", &qmp::migrate_incoming { channels: None, exit_on_error: None, uri }).map(drop)
    }

    fn leave_memory_out(&mut self) -> Result<()> {
        let leave_out = MigrationCapabilityStatus { capability: MigrationCapability::x_ignore_shared, state: true };
        let capabilities = qmp::migrate_set_capabilities { capabilities: vec![leave_out] };
        self.execute("migrate-set-capabilities", &capabilities).map(drop)
    }

    /// Waits until the state is out, or in.
    ///
    /// # Errors
    /// QEMU failed, died, or did not get there in time.
    pub fn wait_migrated(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let info = self.execute("query-migrate", &qmp::query_migrate {})?;
            match info.status {
                Some(MigrationStatus::completed) => return Ok(()),
                Some(MigrationStatus::failed | MigrationStatus::cancelled) => {
                    let why = info.error_desc.unwrap_or_else(|| "no reason given".into());
                    return Err(Error::guest(format!("QEMU could not move the machine's state: {why}")).hint(SEE_LOG));
                }
                _ if Instant::now() >= deadline => {
                    let message = format!("QEMU did not move the machine's state within {}s", DEADLINE.as_secs());
                    return Err(Error::guest(message).hint(SEE_LOG));
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Adds a virtio-serial port to the running machine, and connects it to whoever listens at `socket`.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn add_port(&mut self, name: &str, socket: &Path, number: u32) -> Result<()> {
        let base = qmp::ChardevCommon { logappend: None, logfile: None };
        let path = socket.display().to_string();
        let addr = qmp::UnixSocketAddress { abstract_: None, tight: None, path };
        let addr = qmp::SocketAddressLegacy::unix(qmp::UnixSocketAddressWrapper { data: addr });
        let data = qmp::ChardevSocket {
            base,
            nodelay: None,
            reconnect: None,
            server: Some(false),
            telnet: None,
            tls_authz: None,
            tls_creds: None,
            tn3270: None,
            wait: None,
            websocket: None,
            addr,
        };
        let backend = qmp::ChardevBackend::socket(qmp::ChardevSocketWrapper { data });
        self.execute("chardev-add", &qmp::chardev_add { backend, id: name.into() })?;
        let properties = [("chardev", name.into()), ("nr", number.into()), ("name", format!("kdbg.{name}").into())];
        let arguments = properties.into_iter().map(|(key, value): (_, qapi::Any)| (key.to_owned(), value)).collect();
        let device = qmp::device_add { bus: None, id: Some(name.into()), driver: "virtserialport".into(), arguments };
        self.execute("device_add", &device).map(drop)
    }

    /// Has QEMU listen at `host` of the host's loopback (0: at a port that the system chooses) and pass what connects on
    /// to the port `guest` of the guest. Gives the port, or why that cannot be, in QEMU's words.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn forward(&mut self, host: u16, guest: u16) -> Result<Result<u16, String>> {
        let before = forwarded(&self.monitor("info usernet")?);
        let said = self.monitor(&format!("hostfwd_add {NETDEV} tcp:127.0.0.1:{host}-:{guest}"))?;
        let after = forwarded(&self.monitor("info usernet")?);
        let new = after.into_iter().find(|port| !before.contains(port));
        Ok(new.ok_or_else(|| said.trim().to_owned()))
    }

    /// What the monitor for people answers: not everything is in QMP.
    fn monitor(&mut self, line: &str) -> Result<String> {
        self.execute(line, &qmp::human_monitor_command { cpu_index: None, command_line: line.into() })
    }

    fn execute<C: QmpCommand>(&mut self, name: &str, command: &C) -> Result<C::Ok> {
        self.wire.execute(command).map_err(|error| failed(name, &error))
    }

    /// Whether KVM executes the guest: what QEMU says, not what it was asked for.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn uses_kvm(&mut self) -> Result<bool> {
        Ok(self.execute("query-kvm", &qmp::query_kvm {})?.enabled)
    }
}

/// The host's ports of all forwards, from what `info usernet` says.
fn forwarded(said: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "TCP[HOST_FORWARD]");
        words.nth(3)?.parse().ok()
    };
    said.lines().filter_map(port).collect()
}

fn uri(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

fn failed(command: &str, error: &ExecuteError) -> Error {
    let message = match error {
        ExecuteError::Io(error) if timed_out(error) => {
            format!("QEMU did not answer `{command}` over QMP within {}s", DEADLINE.as_secs())
        }
        ExecuteError::Io(error) => format!("QEMU did not answer `{command}` over QMP: {error}"),
        ExecuteError::Qapi(error) => format!("QEMU refused `{command}`: {}", error.desc),
    };
    Error::guest(message).hint(SEE_LOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_forwards_are_told_from_connections() {
        let said = "Hub -1 (user):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[ESTABLISHED]   17       127.0.0.1 40001       10.0.2.15  8080     0     0\r\n  \
                    TCP[HOST_FORWARD]  14       127.0.0.1 34567       10.0.2.15  8080     0     0\r\n";
        assert_eq!(forwarded(said), [34567]);
        assert_eq!(forwarded(""), [0; 0]);
    }

    #[test]
    fn a_qemu_that_is_gone_before_it_greets_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = Qmp::greet(ours).unwrap_err();
        assert!(error.message.contains("closed its QMP connection"), "{error}");
    }
}
