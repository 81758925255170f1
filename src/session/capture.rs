//! The captures of a run: begun when the topology is there, ended before the guest is, and then one packets.pcapng.
//!
//! Until then each interface has a file of its own in the run directory, a pcap that grows packet by packet: what a guest
//! that died or a kdbg that was killed has captured is there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::arm::Armed;
use super::journal::Journal;
use super::{Order, nonce, setup};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::gdb::breakpoints;
use crate::guest::capture::{self, Tap};
use crate::guest::machine::Port;
use crate::guest::{Guest, topology};
use crate::recipe::capture::CaptureSpec;
use crate::report::model::Captured;
use crate::report::packets;
use crate::report::text::plural;

/// How long what the guest has sent may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// All that is captured. Dropping it keeps what came.
pub(super) struct Capture<'a> {
    order: &'a Order<'a>,
    /// What the guest is to write behind the last packets.
    mark: String,
    taps: Vec<Tap>,
    spools: Vec<Spool>,
}

/// What comes from one interface.
struct Spool {
    interface: String,
    path: PathBuf,
    /// That the mark has come, or that the file cannot be written; disconnected when nothing more can come.
    news: Receiver<io::Result<()>>,
}

impl<'a> Capture<'a> {
    /// Of nothing yet.
    pub(super) fn new(order: &'a Order<'a>) -> Self {
        Capture { order, mark: format!("kdbg end {:08x}", nonce()), taps: Vec::new(), spools: Vec::new() }
    }

    /// Begins to capture what the recipe names, if it names anything.
    ///
    /// # Errors
    /// An interface cannot be captured: the error is at its place in the recipe. Or the guest dies.
    pub(super) fn begin(&mut self, guest: &mut Guest) -> Result<()> {
        let order = self.order;
        let interfaces = order.loaded.recipe.guest.network.captured();
        if interfaces.is_empty() {
            return Ok(());
        }
        for (port, interface) in (Port::FREE..).zip(interfaces) {
            let stream = guest.add_port(&format!("capture{port}"), port)?;
            self.spools.push(Spool::fill(order, interface.to_string(), stream, &self.mark)?);
            self.taps.push(Tap { interface, port });
        }
        let script = capture::start(&self.taps);
        let (code, said) = setup::run_script(order, guest, &script, "the capture did not begin")?;
        if code != 0 {
            return Err(explain(order, &self.taps, &said));
        }
        let names: Vec<&str> = self.spools.iter().map(|spool| spool.interface.as_str()).collect();
        order.events.fact("packets", format!("captured on {}", names.join(", ")));
        Ok(())
    }

    /// Whether [`end`](Capture::end) lets go of the guest.
    pub(super) fn has_let_go(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Lets go of the guest, so that no probe stops it, and ends the captures in it. What goes wrong is a warning: the
    /// run has what it is for.
    ///
    /// # Errors
    /// The user interrupts.
    pub(super) fn end(&self, guest: &mut Guest, armed: &mut Armed<'_>, journal: &mut Journal<'_>) -> Result<()> {
        if self.taps.is_empty() {
            return Ok(());
        }
        match self.end_in_guest(guest, armed) {
            Ok(said) => {
                self.tell_lost(&said, journal);
                self.await_marks(journal);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let why = error.message.lines().next().unwrap_or_default();
                journal.warn(format!("the last packets may be missing: {why}"));
                Ok(())
            }
        }
    }

    fn end_in_guest(&self, guest: &mut Guest, armed: &mut Armed<'_>) -> Result<String> {
        guest.pause()?;
        breakpoints::let_go(&mut armed.gdb, self.order.cancel)?;
        let script = capture::end(&self.taps, &self.mark);
        let (_, said) = setup::run_script(self.order, guest, &script, "the capture did not end")?;
        Ok(said)
    }

    fn tell_lost(&self, said: &str, journal: &mut Journal<'_>) {
        for (spool, ended) in self.spools.iter().zip(capture::ended(self.taps.len(), said)) {
            let interface = &spool.interface;
            if ended.early {
                journal.warn(format!("the capture on {interface} ended before the trigger did: its tcpdump is gone"));
            }
            if ended.dropped > 0 {
                let packets = plural(ended.dropped, "packet");
                journal.warn(format!("the capture on {interface} lacks {packets}: too many came at once"));
            }
        }
    }

    fn await_marks(&self, journal: &mut Journal<'_>) {
        for spool in &self.spools {
            let why = match spool.news.recv_timeout(ARRIVAL) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => format!("{} cannot be written: {error}", spool.path.display()),
                Err(_) => "their end did not arrive".into(),
            };
            journal.warn(format!("packets of {} are missing: {why}", spool.interface));
        }
    }

    /// Makes packets.pcapng, once the guest is gone.
    pub(super) fn close(mut self, journal: &mut Journal<'_>) {
        match self.merge(ARRIVAL) {
            Ok(captured) => journal.captured(captured),
            Err(error) => {
                let message = format!("{}; the packets are in packets.*.pcap in the run directory", error.message);
                journal.warn(message);
            }
        }
    }

    /// Merges what came, after waiting so long for what is on its way.
    fn merge(&mut self, patience: Duration) -> Result<Vec<Captured>> {
        let spools = std::mem::take(&mut self.spools);
        if spools.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + patience;
        let mut streams = Vec::new();
        for spool in &spools {
            while spool.news.recv_deadline(deadline).is_ok() {}
            let file = File::open(&spool.path).or_host(format!("open {}", spool.path.display()))?;
            streams.push((spool.interface.clone(), file));
        }
        let counts = self.order.run_dir.write_with(packets::FILE, |file| {
            let mut file = BufWriter::new(file);
            let counts = packets::merge(streams, &mut file).map_err(io::Error::other)?;
            file.flush().map(|()| counts)
        })?;
        for spool in &spools {
            // It has done its duty; one that stays does no harm.
            let _ = fs::remove_file(&spool.path);
        }
        let captured = |(spool, packets): (Spool, u64)| Captured { interface: spool.interface, packets };
        Ok(spools.into_iter().zip(counts).map(captured).collect())
    }
}

impl Drop for Capture<'_> {
    /// Where a run does not come to [`Capture::close`]. Nobody is there to be told of an error; the spools stay then.
    fn drop(&mut self) {
        let _ = self.merge(Duration::ZERO);
    }
}

impl Spool {
    /// Starts to write what comes through `port` to a file.
    fn fill(order: &Order<'_>, interface: String, mut port: UnixStream, mark: &str) -> Result<Spool> {
        let path = order.run_dir.file(&format!("packets.{interface}.pcap"));
        let file = File::create(&path).or_host(format!("make {}", path.display()))?;
        let (sender, news) = unbounded();
        let mark = capture::mark(mark);
        std::thread::spawn(move || {
            if let Err(error) = spool(&mut port, file, &mark, &sender) {
                let _ = sender.send(Err(error));
                // Or the guest would wait for ever for what it sends to be taken.
                let _ = io::copy(&mut port, &mut io::sink());
            }
        });
        Ok(Spool { interface, path, news })
    }
}

/// Writes all that comes through `port` to the file but the mark, whose coming it says.
fn spool(port: &mut impl Read, mut file: File, mark: &[u8], news: &Sender<io::Result<()>>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let (mut length, mut tail) = (0, Vec::new());
    while let Ok(count @ 1..) = port.read(&mut buffer) {
        file.write_all(&buffer[..count])?;
        length += count as u64;
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(mark.len()));
        if tail == mark {
            file.set_len(length - mark.len() as u64)?;
            let _ = news.send(Ok(()));
        }
    }
    Ok(())
}

/// The interface that cannot be captured, at its place in the recipe.
fn explain(order: &Order<'_>, taps: &[Tap], stderr: &str) -> Error {
    let failed = topology::failure(stderr).and_then(|(index, said)| Some((index, taps.get(index)?, said)));
    let Some((index, tap, said)) = failed else {
        return Error::guest(format!("the capture cannot begin: {}", stderr.trim()));
    };
    let at = match order.loaded.recipe.guest.network.capture {
        CaptureSpec::These(_) => format!("guest.network.capture[{index}]"),
        CaptureSpec::Everything | CaptureSpec::Nothing => "guest.network.capture".into(),
    };
    let help = if said.contains("tcpdump: not found") || said.contains("exec of") {
        Some("the image needs tcpdump: `guest.image: net` has it")
    } else if said.contains("family not supported") {
        Some("the kernel needs `kernel.options: { PACKET: y }`; the fragment net has it")
    } else {
        None
    };
    let helps: Vec<String> = help.into_iter().map(String::from).collect();
    let said = said.lines().next().unwrap_or("tcpdump gave no reason");
    let message = format!("{} cannot be captured", tap.interface);
    Error { kind: ErrorKind::Guest, ..order.loaded.diagnose(&at, message, said, &helps) }
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
        for size in 1..=stream.len() {
            let (sender, news) = unbounded();
            let mut pieces = Pieces(stream.chunks(size).map(Vec::from).collect());
            spool(&mut pieces, File::create(&path).unwrap(), &mark, &sender).unwrap();
            assert!(matches!(news.try_recv(), Ok(Ok(()))), "in pieces of {size}");
            assert_eq!(fs::read(&path).unwrap(), b"packets");
        }
        let (sender, news) = unbounded();
        let mut pieces = Pieces(vec![stream[..stream.len() - 1].to_vec()]);
        spool(&mut pieces, File::create(&path).unwrap(), &mark, &sender).unwrap();
        assert!(news.try_recv().is_err());
    }
}
