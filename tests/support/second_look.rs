//! A second look at every stop of a run: a plain GDB that is shown the stopped guest before it runs on.
//!
//! QEMU's stub has one client. kdbg's GDB is given this for the stub, and this is the stub's client: what either says goes
//! on. When kdbg's GDB is about to let the guest run on from a stop, it waits here, unknowing, while the plain one is told
//! of the same stop and reads what it likes. That one's breakpoints are said to be set, and its "go on" means that it has
//! seen enough. It may not write.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use super::Place;

/// One end of a connection in GDB's remote protocol.
struct Wire {
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Wire {
    fn new(stream: UnixStream) -> Wire {
        Wire { from: BufReader::new(stream.try_clone().unwrap()), to: stream }
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    /// What the next packet holds, which is acknowledged; none when the other end is gone.
    fn receive(&mut self) -> Option<Vec<u8>> {
        while self.byte()? != b'$' {}
        self.rest()
    }

    /// What a packet holds that has begun.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let mut held = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => held.push(byte),
            }
        }
        let _checksum = [self.byte()?, self.byte()?];
        self.to.write_all(b"+").ok()?;
        Some(held)
    }

    fn send(&mut self, held: &[u8]) {
        let sum = held.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let packet = [b"$", held, format!("#{sum:02x}").as_bytes()].concat();
        // Who is gone is noticed by the next `receive`.
        let _ = self.to.write_all(&packet);
    }

    fn ask(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.send(packet);
        // What comes before the acknowledgement is no answer: QEMU tells of the stop when it is connected to.
        loop {
            match self.byte()? {
                b'+' => return self.receive(),
                b'$' => drop(self.rest()?),
                _ => {}
            }
        }
    }
}

/// Whether a packet lets the guest run, by one instruction or on.
fn is_resume(packet: &[u8]) -> bool {
    packet.starts_with(b"vCont;") || matches!(packet.first(), Some(b'c' | b'C' | b's' | b'S'))
}

/// Whether it is one instruction.
fn is_step(packet: &[u8]) -> bool {
    packet.starts_with(b"vCont;s") || packet.starts_with(b"vCont;S") || matches!(packet.first(), Some(b's' | b'S'))
}

/// The plain GDB, from its first look on.
struct Plain {
    place: PathBuf,
    start: Option<Box<dyn FnOnce() -> JoinHandle<String> + Send>>,
    gdb: Option<(Wire, JoinHandle<String>)>,
    looks: usize,
}

impl Plain {
    /// Shows it the guest at this stop, until it has seen enough.
    fn look(&mut self, stop: &[u8], qemu: &mut Wire) {
        if let Some(start) = self.start.take() {
            let listener = UnixListener::bind(self.place.join(PLAIN)).unwrap();
            let gdb = start();
            self.gdb = Some((Wire::new(listener.accept().unwrap().0), gdb));
        } else if let Some((wire, _)) = &mut self.gdb {
            wire.send(stop);
        }
        let Some((wire, _)) = &mut self.gdb else { return };
        self.looks += 1;
        while let Some(packet) = wire.receive() {
            if is_resume(&packet) {
                return;
            }
            let answer = match packet.first() {
                // QEMU takes this for the sign of a new client and forgets all breakpoints.
                Some(b'?') => stop.to_vec(),
                Some(b'Z' | b'z' | b'D') => b"OK".to_vec(),
                Some(b'M' | b'X' | b'G' | b'P') => b"E01".to_vec(),
                _ if packet == b"QStartNoAckMode" => Vec::new(),
                _ => qemu.ask(&packet).unwrap_or_default(),
            };
            wire.send(&answer);
        }
        panic!("the plain GDB has ended before its time");
    }

    /// What it has printed, once it is told that there is nothing left to see.
    fn end(self) -> (String, usize) {
        let Some((mut wire, gdb)) = self.gdb else { return (String::new(), 0) };
        wire.send(b"W00");
        (gdb.join().unwrap(), self.looks)
    }
}

/// Where kdbg's GDB connects, where the plain one does, and what kdbg's was told to connect to.
const KDBG: &str = "kdbg.sock";
const PLAIN: &str = "plain.sock";
const ASKED: &str = "asked";

/// Has runs in this place show their stops to `gdb -batch` with this script, in which `SOCKET` is where it connects. Gives
/// what that printed and how many stops it saw, once kdbg's GDB is gone.
pub(crate) fn attend(place: &Place, vmlinux: &Path, script: &str) -> JoinHandle<(String, usize)> {
    let folder = place.path().to_path_buf();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (kdbg, asked) = (path(KDBG), path(ASKED));
    place.fake(
        "gdb",
        &format!(
            "sed -u -e '/-target-select remote/w {asked}' -e 's|-target-select remote .*|-target-select remote {kdbg}|' | \
             \"$real\" \"$@\""
        ),
    );
    let script = place.file("plain.gdb", &script.replace("SOCKET", &path(PLAIN)));
    let mut command = Command::new(which::which("gdb").unwrap());
    command.args(["-nx", "-q", "-batch", "-iex", "set auto-load no", "-iex", "set debuginfod enabled off"]);
    command.arg(vmlinux).arg("-x").arg(script).stdin(Stdio::null());
    let start = move || {
        std::thread::spawn(move || {
            let output = command.output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            text(&output.stdout) + &text(&output.stderr)
        })
    };
    let listener = UnixListener::bind(&kdbg).unwrap();
    let plain = Plain { place: folder.clone(), start: Some(Box::new(start)), gdb: None, looks: 0 };
    std::thread::spawn(move || {
        let kdbg = Wire::new(listener.accept().unwrap().0);
        let asked = fs::read_to_string(folder.join(ASKED)).unwrap();
        let qemu = asked.trim_end().rsplit(' ').next().unwrap();
        serve(kdbg, Wire::new(UnixStream::connect(qemu).unwrap()), plain)
    })
}

/// Passes on what kdbg's GDB and QEMU say, and shows the plain GDB where the guest stops when it ran.
fn serve(mut kdbg: Wire, mut qemu: Wire, mut plain: Plain) -> (String, usize) {
    let mut unseen: Option<Vec<u8>> = None;
    let mut thread = b"Hgp0.0".to_vec();
    while let Some(packet) = kdbg.receive() {
        if packet == b"QStartNoAckMode" {
            kdbg.send(b"");
            continue;
        }
        if packet.starts_with(b"Hg") {
            thread.clone_from(&packet);
        }
        if is_resume(&packet)
            && let Some(stop) = unseen.take()
        {
            plain.look(&stop, &mut qemu);
            // As kdbg's GDB has it, and knows it.
            qemu.ask(&thread);
        }
        let Some(answer) = qemu.ask(&packet) else { break };
        if is_resume(&packet) && !is_step(&packet) {
            unseen = Some(answer.clone());
        }
        kdbg.send(&answer);
    }
    plain.end()
}
