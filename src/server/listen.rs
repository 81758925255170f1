//! Where clients connect: the loopback, or a Unix socket that nobody else may use.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use super::session::{self, Left};
use super::{Behind, packets};
use crate::error::{IoContext, Result};
use crate::event::Cancel;

/// How long one wait for a client is.
const TICK: Duration = Duration::from_millis(100);
/// How long a client may take to read what it is sent.
const SEND: Duration = Duration::from_secs(10);
/// How long a client may take to say a first word. gdb does at once; what only looks whether a port is open never does. Less than gdb waits for an answer (2 s).
const FIRST_WORD: Duration = Duration::from_secs(1);
/// How long one that is turned away is listened to.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port of the loopback; 0 is one that the system chooses.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A port of the loopback that the system chooses.
    pub const ANY: Address = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
}

impl std::str::FromStr for Address {
    type Err = String;

    /// `PORT`, `:PORT` or `ADDRESS:PORT`, where the address is one of the loopback's.
    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.strip_prefix(':').unwrap_or(text);
        let address = match port.parse::<u16>() {
            Ok(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            Err(_) => text
                .replace("localhost:", "127.0.0.1:")
                .parse()
                .map_err(|_| format!("`{text}` is no address: write it as `1234` or `127.0.0.1:1234`"))?,
        };
        if !address.ip().is_loopback() {
            return Err(format!(
                "`{}` is no address of the loopback: who reaches a debugger's port owns what is debugged; from elsewhere, use ssh -L",
                address.ip()
            ));
        }
        Ok(Address::Tcp(address))
    }
}

/// As GDB's `target remote` takes it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Something that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: Address,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A client that is attended to.
#[derive(Debug)]
pub struct Client<'s> {
    pub(super) stream: Stream,
    server: &'s Server,
}

/// What a wait has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The client has sent something, or is gone.
    Bytes,
    Nothing,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// The port, or the path, is taken.
    pub fn listen(address: &Address) -> Result<Server> {
        let doing = || format!("listen on {address}");
        let (listener, address) = match address {
            Address::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).or_host(doing()).map_err(|error| {
                    error.hint("choose another port, or leave it out: the system chooses a free one then")
                })?;
                let address = listener.local_addr().or_host(doing())?;
                (Listener::Tcp(listener), Address::Tcp(address))
            }
            Address::Unix(path) => {
                let listener = bind(path).or_host(doing()).map_err(|error| {
                    error.hint("choose a path where nothing is yet, of no more than 107 bytes, in a folder of your own")
                })?;
                // Until then it is as the umask has it, and whoever connects is asked who they are.
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).or_host("close a socket to others")?;
                (Listener::Unix(listener), Address::Unix(path.clone()))
            }
        };
        // From here on its socket is deleted whatever happens.
        let server = Server { listener, address };
        let set = match &server.listener {
            Listener::Tcp(listener) => listener.set_nonblocking(true),
            Listener::Unix(listener) => listener.set_nonblocking(true),
        };
        set.or_host(doing())?;
        Ok(server)
    }

    /// Where it listens: a port that the system chose is in it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// kdbg was asked to stop.
    pub fn client(&self, cancel: &Cancel) -> Result<Client<'_>> {
        loop {
            cancel.check()?;
            if wait([self.as_fd()], TICK)?[0]
                && let Some(client) = self.one_that_speaks()?
            {
                return Ok(client);
            }
        }
    }

    /// Waits for a client, for no longer than this.
    ///
    /// # Errors
    /// kdbg was asked to stop.
    pub fn client_within(&self, patience: Duration, cancel: &Cancel) -> Result<Option<Client<'_>>> {
        cancel.check()?;
        if !wait([self.as_fd()], patience)?[0] {
            return Ok(None);
        }
        self.one_that_speaks()
    }

    /// A client that has something to say.
    fn one_that_speaks(&self) -> Result<Option<Client<'_>>> {
        let Some(stream) = self.accept() else { return Ok(None) };
        let speaks = wait([stream.as_fd()], FIRST_WORD)?[0];
        Ok(speaks.then_some(Client { stream, server: self }))
    }

    /// A client that may come in. One that is gone already is no matter.
    fn accept(&self) -> Option<Stream> {
        let stream = match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().ok()?;
                stream.set_nodelay(true).ok()?;
                peer.ip().is_loopback().then_some(Stream::Tcp(stream))?
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().ok()?;
                let peer = socket_peercred(&stream).ok()?.uid;
                let (own, root) = (rustix::process::geteuid(), rustix::process::Uid::ROOT);
                (peer == own || peer == root).then_some(Stream::Unix(stream))?
            }
        };
        stream.prepare().ok()?;
        Some(stream)
    }

    /// Tells one that came while there is another, and leaves it.
    fn turn_away(&self) {
        let Some(mut stream) = self.accept() else { return };
        let words = packets::packet("E.kdbg serves another debugger; one at a time");
        if stream.write_all(b"+").and_then(|()| stream.write_all(&words)).is_ok() {
            // What was not read when the socket is closed would take these words with it.
            let _ =
                wait([stream.as_fd()], LAST_WORD).is_ok_and(|ready| ready[0]) && stream.read(&mut [0; 4096]).is_ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            remove(path);
        }
    }
}

/// Binds a Unix socket. One that a kdbg that was killed has left there is taken out of the way: nobody listens to it.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            // Of two that find the same one, the second finds the first one's. Nobody waits: that one may be at it for long.
            let lock = fs::File::open(folder)?;
            if lock.try_lock().is_err() || !is_left(path) {
                return Err(error);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// Whether nobody has this socket of one's own any more. A datagram's socket cannot connect to one that somebody has, and he hears
/// nothing of it.
fn is_left(path: &Path) -> bool {
    let is_own = fs::symlink_metadata(path)
        .is_ok_and(|found| found.file_type().is_socket() && found.uid() == rustix::process::geteuid().as_raw());
    let connected = UnixDatagram::unbound().and_then(|probe| probe.connect(path));
    is_own && connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn remove(path: &Path) {
    // Whoever has deleted it already was right.
    let _ = fs::remove_file(path);
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Client<'_> {
    /// Serves it until it is gone.
    ///
    /// # Errors
    /// What stands behind failed, or kdbg was asked to stop. What the client does wrong is how it has [left](Left).
    pub fn serve(mut self, behind: &mut dyn Behind, cancel: &Cancel) -> Result<Left> {
        session::serve(&mut self, behind, cancel)
    }

    /// Waits until the client has sent something; meanwhile others are turned away.
    pub(super) fn wait(&self, patience: Duration) -> Result<Awaited> {
        let [bytes, other] = wait([self.stream.as_fd(), self.server.as_fd()], patience)?;
        if other {
            self.server.turn_away();
        }
        Ok(if bytes { Awaited::Bytes } else { Awaited::Nothing })
    }
}

/// Waits until one of these can be read; which ones can.
fn wait<const N: usize>(of: [BorrowedFd<'_>; N], patience: Duration) -> Result<[bool; N]> {
    let mut polled = of.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let patience = Timespec::try_from(patience).unwrap_or_default();
    match poll(&mut polled, Some(&patience)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(io::Error::from(error)).or_host("wait for a debugger"),
    }
    Ok(polled.map(|polled| !polled.revents().is_empty()))
}

impl Stream {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(SEND))
            }
            Stream::Unix(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(SEND))
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
