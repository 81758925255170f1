//! The captures of a run: begun when the topology is there, ended before the guest is, and then one packets.pcapng.
//!
//! Until then each interface has a file of its own in the run directory, a pcap that grows packet by packet: what a guest
//! that died or a kdbg that was killed has captured is there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::journal::Journal;
use super::spool::{ARRIVAL, Spool};
use super::{Order, nonce, script};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::guest::capture::{self, Tap};
use crate::guest::{Guest, topology, without_console};
use crate::recipe::capture::CaptureSpec;
use crate::report::model::Captured;
use crate::report::packets;
use crate::report::text::plural;

/// All that is captured. Dropping it keeps what came.
pub(super) struct Capture<'a> {
    order: &'a Order<'a>,
    /// What the guest is to write behind the last packets.
    mark: String,
    taps: Vec<Tap>,
    tapped: Vec<Tapped>,
}

/// What comes from one interface.
struct Tapped {
    interface: String,
    path: PathBuf,
    packets: Spool,
}

impl<'a> Capture<'a> {
    /// Of nothing yet.
    pub(super) fn new(order: &'a Order<'a>) -> Self {
        Capture { order, mark: format!("kdbg end {:08x}", nonce()), taps: Vec::new(), tapped: Vec::new() }
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
        for interface in interfaces {
            let (port, stream) = guest.add_port("capture")?;
            let path = order.run_dir.file(&format!("packets.{interface}.pcap"));
            let packets = Spool::fill(&path, stream, &self.mark)?;
            self.tapped.push(Tapped { interface: interface.to_string(), path, packets });
            self.taps.push(Tap { interface, port });
        }
        let (code, said) = script::run(order, guest, &capture::start(&self.taps), "the capture did not begin")?;
        if code != 0 {
            return Err(explain(order, &self.taps, &said));
        }
        let names: Vec<&str> = self.tapped.iter().map(|tapped| tapped.interface.as_str()).collect();
        order.events.fact("packets", format!("captured on {}", names.join(", ")));
        Ok(())
    }

    /// Whether anything is captured.
    pub(super) fn is_on(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Ends the captures in the guest, which no probe stops any more. What goes wrong is a warning: the run has what it is
    /// for.
    ///
    /// # Errors
    /// The user interrupts.
    pub(super) fn end(&self, guest: &mut Guest, journal: &mut Journal<'_>) -> Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        let end = capture::end(&self.taps, &self.mark);
        match script::run(self.order, guest, &end, "the capture did not end") {
            Ok((_, said)) => {
                self.tell_lost(&said, journal);
                self.await_marks(journal);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                journal.warn(format!("the last packets may be missing: {}", without_console(&error.message)));
                Ok(())
            }
        }
    }

    fn tell_lost(&self, said: &str, journal: &mut Journal<'_>) {
        for (tapped, ended) in self.tapped.iter().zip(capture::ended(self.taps.len(), said)) {
            let interface = &tapped.interface;
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
        for tapped in &self.tapped {
            if let Err(error) = tapped.packets.wait() {
                journal.warn(format!("packets of {} are missing: {}", tapped.interface, error.message));
            }
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
        let tapped = std::mem::take(&mut self.tapped);
        if tapped.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + patience;
        let mut streams = Vec::new();
        for Tapped { interface, path, packets } in &tapped {
            packets.wait_for_all(deadline);
            let file = File::open(path).or_host(format!("open {}", path.display()))?;
            streams.push((interface.clone(), file));
        }
        let counts = self.order.run_dir.write_with(packets::FILE, |file| {
            let mut file = BufWriter::new(file);
            let counts = packets::merge(streams, &mut file).map_err(io::Error::other)?;
            file.flush().map(|()| counts)
        })?;
        for tapped in &tapped {
            // It has done its duty; one that stays does no harm.
            let _ = fs::remove_file(&tapped.path);
        }
        let captured = |(tapped, packets): (Tapped, u64)| Captured { interface: tapped.interface, packets };
        Ok(tapped.into_iter().zip(counts).map(captured).collect())
    }
}

impl Drop for Capture<'_> {
    /// Where a run does not come to [`Capture::close`]. Nobody is there to be told of an error; the spools stay then.
    fn drop(&mut self) {
        let _ = self.merge(Duration::ZERO);
    }
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
