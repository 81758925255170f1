//! The guest: a machine that runs, and everything kdbg holds of it.
//!
//! [`Guest::start`] brings QEMU up with its sockets, [`Guest::wait_ready`] waits for the agent, [`Guest::run`] sends it
//! scripts; what the guest says comes as [`GuestEvent`]s on one channel. kdbg listens on the sockets and QEMU connects,
//! so that there is nothing to poll for; only GDB's stub listens itself.

pub mod accelerator;
pub mod agent;
pub mod capture;
mod client;
pub mod console;
pub mod image;
pub mod machine;
pub mod qmp;
mod ram;
mod sockets;
pub mod stub;
mod supervise;
pub mod template;
pub mod topology;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::process::{Child, describe};
use crate::recipe::types::Exchange;
use agent::{Demux, Piece, Said};
use client::Client;
use console::Log;
use console::incident::Seen;
use machine::{Machine, Memory, Port, Sockets};
use qmp::Qmp;
use sockets::{accept, listen, socket_folder, timed_out};
pub use supervise::without_console;

/// How long QEMU may take from exec to the last of its connections.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the guest may take to read a script that is sent to it.
const TELL: Duration = Duration::from_secs(30);
/// How long reading what a guest had written may take once it is gone.
const LAST_READ: Duration = Duration::from_secs(1);
/// How long a guest may take to boot: a second on a quiet machine under TCG, more on a busy one.
pub const BOOT: Duration = Duration::from_secs(90);

/// Something the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// The agent waits for scripts, since then: when it has started, and whenever it is pinged.
    Ready(Instant),
    /// A step wrote something.
    Output(Stream, Vec<u8>),
    /// kdbg's client, as a step, was sent something.
    Received(Vec<u8>),
    /// A step will write no more to this stream.
    OutputEnd(Stream, String),
    /// A step ended.
    Exit(String, i32),
    /// QEMU closed the console: the guest is gone.
    Gone,
}

/// One of a step's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A running machine.
#[derive(Debug)]
pub struct Guest {
    // In the order of dropping: QEMU ends before its sockets' folder goes.
    qemu: Child,
    qmp: Qmp,
    control: UnixStream,
    terminal: Option<UnixStream>,
    events: Receiver<GuestEvent>,
    sender: Sender<GuestEvent>,
    client: Option<Client>,
    console: Log,
    messages: Log,
    sockets: tempfile::TempDir,
    memory: Memory,
    memory_mib: u32,
    /// The number of the next port that the guest can be given.
    free_port: u32,
}

/// The files that a guest writes.
#[derive(Debug, Clone)]
pub struct Logs {
    /// The serial console.
    pub console: PathBuf,
    /// QEMU's command line and what it says.
    pub qemu: PathBuf,
}

impl Guest {
    /// Starts QEMU; returns when it answers on QMP and all ports are connected.
    ///
    /// # Errors
    /// QEMU is missing, refuses the machine, or does not connect in time.
    pub fn start(machine: &Machine, qemu: &Path, logs: &Logs, cancel: &Cancel) -> Result<Guest> {
        let folder = socket_folder()?;
        let sockets = Sockets(folder.path());
        let qmp = listen(&sockets.qmp())?;
        let ports = [listen(&sockets.port(Port::Control))?, listen(&sockets.port(Port::Stdout))?];
        let [control, stdout] = ports;
        let stderr = listen(&sockets.port(Port::Stderr))?;
        let terminal = machine.terminal.then(|| listen(&sockets.terminal())).transpose()?;
        let console = Log::create(&logs.console)?;
        let messages = Log::create(&logs.qemu)?;
        let args = machine.args(&sockets);
        messages.append(command_line(qemu, &args).as_bytes());
        let (child, pipes) = Child::spawn("QEMU", qemu, &args, Some(folder.path()))?;
        let (sender, events) = unbounded();
        drain(messages.clone(), pipes.stderr, None);
        drain(console.clone(), pipes.stdout, Some(sender.clone()));
        let mut starting = Starting { child, messages: &messages, deadline: Instant::now() + CONNECT, cancel };
        let qmp = Qmp::greet(starting.accept(&qmp, "QMP")?).map_err(|error| starting.cause_of(error))?;
        let control = starting.accept(&control, "the agent's control port")?;
        let stdout = starting.accept(&stdout, "the agent's standard output")?;
        let stderr = starting.accept(&stderr, "the agent's standard error")?;
        let terminal = match terminal {
            Some(terminal) => Some(starting.accept(&terminal, "the terminal")?),
            None => None,
        };
        control.set_write_timeout(Some(TELL)).or_host("set a deadline for the agent's port")?;
        read_control(control.try_clone().or_host("share the agent's port")?, sender.clone());
        read_output(stdout, Stream::Stdout, sender.clone());
        read_output(stderr, Stream::Stderr, sender.clone());
        let qemu = starting.child;
        Ok(Guest {
            qemu,
            qmp,
            control,
            terminal,
            events,
            sender,
            client: None,
            console,
            messages,
            sockets: folder,
            memory: machine.memory.clone(),
            memory_mib: machine.memory_mib,
            free_port: Port::FREE,
        })
    }

    /// Waits until the agent waits for scripts. Gives since when it does.
    ///
    /// # Errors
    /// The guest died, panicked or did not get there in time; the message has the console's last lines.
    pub fn wait_ready(&mut self, patience: Duration, cancel: &Cancel) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            cancel.check()?;
            match self.events.recv_timeout(Duration::from_millis(20)) {
                // A kernel that has had an oops on the way is of no use, and would be saved with it.
                Ok(GuestEvent::Ready(since)) => return self.check_at_the_end().map(|()| since),
                Ok(GuestEvent::Gone) => return Err(self.post_mortem()),
                _ if self.is_lost() => return Err(self.post_mortem()),
                _ if Instant::now() >= deadline => {
                    let patience = humantime::format_duration(patience);
                    return Err(Error::guest(format!(
                        "the guest did not boot within {patience}: its agent never answered{}",
                        self.console_tail()
                    ))
                    .hint("console.log in the run directory has the whole boot"));
                }
                _ => {}
            }
        }
    }

    /// What the guest does from now on.
    pub fn events(&self) -> &Receiver<GuestEvent> {
        &self.events
    }

    /// Has the agent run `script` as step `id`, on a host of the topology if one is named.
    ///
    /// # Errors
    /// The port is closed: the guest is gone. Or the agent does not read: it hangs.
    pub fn run(&mut self, id: &str, script: &str, host: Option<&str>) -> Result<()> {
        self.tell(&agent::run(id, script, host))
    }

    /// Connects to a [forwarded](Guest::forward) port of the host as step `id`, and sends and awaits these.
    ///
    /// # Errors
    /// QEMU does not accept the connection.
    pub fn connect(&mut self, id: &str, port: u16, exchanges: Vec<Exchange>) -> Result<()> {
        self.client = Some(Client::start(id, port, exchanges, self.sender.clone())?);
        Ok(())
    }

    /// Has the agent kill step `id`, or ends the connection that this step is.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn kill(&mut self, id: &str) -> Result<()> {
        if self.client.as_ref().is_some_and(|client| client.kill(id)) {
            return Ok(());
        }
        self.tell(&agent::kill(id))
    }

    /// Asks the agent for a sign of life, which comes as [`GuestEvent::Ready`].
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn ping(&mut self) -> Result<()> {
        self.tell(&agent::ping())
    }

    fn tell(&mut self, bytes: &[u8]) -> Result<()> {
        let told = self.control.write_all(bytes);
        told.map_err(|error| if timed_out(&error) { self.hung() } else { self.post_mortem() })
    }

    /// Lets the machine's CPUs stand still. GDB, if it is connected, hears of it as of a stop.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp.pause()
    }

    /// Gives the running guest one more port: its number N, and kdbg's end. `/dev/vport0pN` appears in the guest soon.
    ///
    /// # Errors
    /// QEMU refuses, or does not connect it.
    pub fn add_port(&mut self, name: &str) -> Result<(u32, UnixStream)> {
        let number = self.free_port;
        self.free_port += 1;
        let name = format!("{name}{number}");
        let path = self.sockets.path().join(&name);
        let listener = listen(&path)?;
        self.qmp.add_port(&name, &path, number)?;
        Ok((number, accept(&listener, "QEMU to connect a port")?))
    }

    /// The other end of /dev/hvc0, if the machine has it; for whoever asks first.
    pub fn take_terminal(&mut self) -> Option<UnixStream> {
        self.terminal.take()
    }

    /// Where GDB connects.
    pub fn gdb_socket(&self) -> PathBuf {
        Sockets(self.sockets.path()).gdb()
    }

    /// QEMU's version.
    pub fn qemu_version(&self) -> &str {
        self.qmp.version()
    }

    /// Whether KVM executes the guest.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn uses_kvm(&mut self) -> Result<bool> {
        self.qmp.uses_kvm().map_err(|error| self.death_or(error))
    }

    /// Has a port of the host's loopback lead to the port `guest` of a guest with a network card: `host`, or one that the
    /// system chooses. Gives the host's port, or why that cannot be.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn forward(&mut self, host: Option<u16>, guest: u16) -> Result<Result<u16, String>> {
        self.qmp.forward(host.unwrap_or(0), guest)
    }

    /// Ends the guest and waits until it is gone; it has no disk that something would have to be written to. Gives what its kernel
    /// had complained about since [`Guest::news`].
    pub fn stop(&mut self) -> Vec<Seen> {
        self.qemu.kill();
        // What it had written is read to its end.
        let deadline = Instant::now() + LAST_READ;
        while !matches!(self.events.recv_deadline(deadline), Ok(GuestEvent::Gone) | Err(_)) {}
        self.console.news(true)
    }
}

/// QEMU between exec and its last connection.
struct Starting<'a> {
    child: Child,
    messages: &'a Log,
    deadline: Instant,
    cancel: &'a Cancel,
}

impl Starting<'_> {
    fn accept(&mut self, listener: &UnixListener, what: &str) -> Result<UnixStream> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).or_host("use a socket")?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).or_host("accept QEMU's connection"),
            }
            self.cancel.check()?;
            if let Some(error) = self.death() {
                return Err(error);
            }
            if Instant::now() >= self.deadline {
                let message = format!("QEMU did not connect {what} within {}s", CONNECT.as_secs());
                return Err(Error::guest(message).hint("see qemu.log in the run directory"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A connection that fails because QEMU is dying is QEMU's death.
    fn cause_of(&mut self, error: Error) -> Error {
        self.child.wait(Duration::from_millis(500));
        self.death().unwrap_or(error)
    }

    fn death(&mut self) -> Option<Error> {
        let status = self.child.exited()?;
        // Its last words may still be on their way through the pipe.
        std::thread::sleep(Duration::from_millis(20));
        let words = self.messages.last(3).into_iter().filter(|line| !line.starts_with("$ ")).collect::<Vec<_>>();
        let words = if words.is_empty() { "it said nothing".into() } else { words.join("\n  ") };
        Some(
            Error::guest(format!("QEMU did not start ({}): {words}", describe(status)))
                .hint("qemu.log in the run directory has its command line; `kdbg doctor` checks QEMU"),
        )
    }
}

fn command_line(program: &Path, args: &[std::ffi::OsString]) -> String {
    let mut line = format!("$ {}", program.display());
    for arg in args {
        let arg = arg.to_string_lossy();
        let quote = arg.contains(' ');
        line.push_str(&if quote { format!(" '{arg}'") } else { format!(" {arg}") });
    }
    line.push('\n');
    line
}

fn drain(log: Log, pipe: impl Read + Send + 'static, then_gone: Option<Sender<GuestEvent>>) {
    std::thread::spawn(move || {
        log.drain(pipe);
        if let Some(sender) = then_gone {
            let _ = sender.send(GuestEvent::Gone);
        }
    });
}

fn read_control(socket: UnixStream, sender: Sender<GuestEvent>) {
    std::thread::spawn(move || {
        for line in BufReader::new(socket).split(b'\n').map_while(std::io::Result::ok) {
            let event = match Said::parse(&String::from_utf8_lossy(&line)) {
                Said::Ready => GuestEvent::Ready(Instant::now()),
                Said::Exit(id, code) => GuestEvent::Exit(id, code),
                Said::Unknown(_) => continue,
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
}

fn read_output(mut socket: UnixStream, stream: Stream, sender: Sender<GuestEvent>) {
    std::thread::spawn(move || {
        let mut demux = Demux::default();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            for piece in demux.feed(&buffer[..count]) {
                let event = match piece {
                    Piece::Bytes(bytes) => GuestEvent::Output(stream, bytes),
                    Piece::End(id) => GuestEvent::OutputEnd(stream, id),
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
        }
    });
}
