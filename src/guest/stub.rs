//! The GDB stub of QEMU, spoken to directly: what stands [`Behind`] the server while a debugger has the guest.
//!
//! It is the other end of the protocol that [`crate::server`] serves. A debugger that spoke to QEMU's stub itself could
//! quit QEMU with a `k`, would find one connection there, and leave breakpoints behind.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::server::packets::{Reader, Sent, packet, program_counter};
use crate::server::{Behind, Breakpoint, Halt, Move, Why};
use wire::{halt, hex, is_over, place, unescaped, unhex};

/// How long the stub may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much memory one packet reads at most: QEMU refuses more than 2,048 bytes.
const PIECE: usize = 2048;
/// How much of a description one packet reads, in hexadecimal.
const CHUNK: usize = 0xf00;
/// How often a step that has not gone anywhere is tried again.
const AGAIN: u32 = 4;

/// A connection to the stub. The guest stands still while nobody has it run.
#[derive(Debug)]
pub struct Stub {
    stream: UnixStream,
    reader: Reader,
    cpus: u32,
    description: BTreeMap<String, String>,
    halt: Halt,
    running: bool,
    /// What is being stepped.
    step: Option<Step>,
    physical: bool,
    has_run: bool,
    /// The machine was shut down, and can only be looked at.
    over: Arc<AtomicBool>,
    set: BTreeSet<(u8, u64, u64)>,
}

/// A step on its way.
#[derive(Debug, Clone, Copy)]
struct Step {
    cpu: u32,
    /// Where the CPU stood before.
    from: u64,
    /// How often it may be tried again.
    again: u32,
}

impl Stub {
    /// Connects to the stub at `socket`, where nobody else is connected; `halted` is where the guest stands.
    ///
    /// # Errors
    /// It cannot be connected to, or speaks another protocol.
    pub fn connect(socket: &Path, cpus: u32, halted: Halt, cancel: &Cancel) -> Result<Stub> {
        let stream = UnixStream::connect(socket).or_host("connect to QEMU's GDB stub")?;
        stream.set_read_timeout(Some(Duration::from_millis(50))).or_host("set a deadline for QEMU's GDB stub")?;
        stream.set_write_timeout(Some(PATIENCE)).or_host("set a deadline for QEMU's GDB stub")?;
        let mut stub = Stub {
            stream,
            reader: Reader::default(),
            cpus,
            description: BTreeMap::new(),
            halt: halted,
            running: false,
            step: None,
            physical: false,
            has_run: false,
            over: Arc::default(),
            set: BTreeSet::new(),
        };
        cancel.check()?;
        stub.greet()?;
        // It tells how CPUs can be resumed only once it has been asked.
        stub.ask("vCont?")?;
        stub.describe("target.xml")?;
        Ok(stub)
    }

    /// Begins the conversation. Of a guest that ran QEMU tells first that it stands still now: a connection pauses it.
    fn greet(&mut self) -> Result<()> {
        let mut answer = self.ask("qSupported:xmlRegisters=i386;swbreak+;hwbreak+;vContSupported+")?;
        while let Some(paused) = halt(&answer, self.halt.cpu) {
            self.halt.cpu = paused.cpu;
            answer = self.answer("qSupported")?;
        }
        Ok(())
    }

    /// Lets the guest run on, whatever a debugger has left behind.
    ///
    /// # Errors
    /// QEMU is gone, or does not let go.
    pub fn release(mut self) -> Result<()> {
        self.left()?;
        match self.ask("D")?.as_slice() {
            b"OK" => Ok(()),
            _ => Err(strange("D")),
        }
    }

    /// Nothing of it runs any more once this is set: QEMU takes a resume of a machine that was shut down, and never stops it again.
    pub fn stand_still_once(&mut self, over: Arc<AtomicBool>) {
        self.over = over;
    }

    /// Whether the guest was let run, as far as a step even.
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    fn is_over(&mut self) -> bool {
        let over = self.over.load(Ordering::Relaxed);
        if over {
            self.halt.note = Some("the guest is shut down: it can be looked at, and does not run on".into());
        }
        over
    }

    /// Whether QEMU is still there. Nothing is expected of it.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&mut self) -> Result<()> {
        self.hear().map(drop)
    }

    /// Reads a description, and those that it includes.
    fn describe(&mut self, annex: &str) -> Result<()> {
        let mut text = Vec::new();
        loop {
            let answer = self.ask(&format!("qXfer:features:read:{annex}:{:x},{CHUNK:x}", text.len()))?;
            let (more, part) = answer.split_first().ok_or_else(|| strange("qXfer"))?;
            text.extend(unescaped(part));
            match more {
                b'm' if !part.is_empty() => {}
                b'l' => break,
                _ => return Err(strange("qXfer")),
            }
        }
        let text = String::from_utf8(text).map_err(|_| strange("qXfer"))?;
        let included: Vec<String> =
            text.split("href=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.into())).collect();
        self.description.insert(annex.into(), text);
        for annex in included {
            if !self.description.contains_key(&annex) {
                self.describe(&annex)?;
            }
        }
        Ok(())
    }

    /// Sends a packet, and waits for the answer.
    fn ask(&mut self, body: &str) -> Result<Vec<u8>> {
        self.send(body)?;
        self.answer(body)
    }

    fn answer(&mut self, body: &str) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(answer) = self.hear()? {
                return Ok(answer);
            }
        }
        Err(Error::guest(format!("QEMU's GDB stub did not answer `{body}` within {}s", PATIENCE.as_secs())))
    }

    fn send(&mut self, body: &str) -> Result<()> {
        self.stream.write_all(&packet(body)).or_host("write to QEMU's GDB stub")
    }

    /// The next packet, if one comes in a moment.
    fn hear(&mut self) -> Result<Option<Vec<u8>>> {
        // A byte at a time: what is behind the packet stays in the socket.
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(Error::guest("QEMU closed its GDB stub: the guest is gone")),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).or_host("read from QEMU's GDB stub"),
            }
            if let Some(Sent::Packet(body)) = self.reader.push(byte[0]) {
                // QEMU 7.2 knows no `QStartNoAckMode`.
                self.stream.write_all(b"+").or_host("write to QEMU's GDB stub")?;
                return Ok(Some(body));
            }
        }
    }

    /// Chooses the CPU that registers and addresses are of.
    fn choose(&mut self, cpu: Option<u32>) -> Result<()> {
        let physical = cpu.is_none();
        if physical != self.physical {
            self.ask(&format!("Qqemu.PhyMemMode:{}", u8::from(physical)))?;
            self.physical = physical;
        }
        self.ask(&format!("Hg{:x}", cpu.unwrap_or(0) + 1)).map(drop)
    }

    /// Whether a breakpoint is set where the CPU stands. GDB steps off one before it continues, with that taken out.
    fn stands_at_a_breakpoint(&mut self) -> Result<bool> {
        let pc = self.pc(self.halt.cpu)?;
        Ok([Breakpoint::Software(pc), Breakpoint::Hardware(pc)].iter().any(|at| self.set.contains(&place(*at))))
    }

    /// Begins a step of a CPU.
    fn begin(&mut self, step: Step) -> Result<()> {
        self.send(&format!("vCont;s:{:x}", step.cpu + 1))?;
        self.step = Some(step);
        (self.running, self.has_run) = (true, true);
        Ok(())
    }

    fn pc(&mut self, cpu: u32) -> Result<u64> {
        let registers = self.registers(cpu)?;
        program_counter(&registers).ok_or_else(|| strange("g"))
    }

    /// The step to try again, where this stop is its end and it has not gone anywhere: QEMU 7.2 under TCG sometimes answers without
    /// having executed anything, and GDB takes the breakpoint that it still stands at for hit anew.
    fn has_not_moved(&mut self, halt: &Halt) -> Result<Option<Step>> {
        let Some(step) = self.step.take().filter(|step| step.again > 0 && step.cpu == halt.cpu) else {
            return Ok(None);
        };
        let ended = halt.why == Why::Trap && self.pc(step.cpu)? == step.from;
        Ok(ended.then_some(Step { again: step.again - 1, ..step }))
    }

    fn breakpoint(&mut self, what: char, (kind, address, size): (u8, u64, u64)) -> Result<bool> {
        Ok(self.ask(&format!("{what}{kind},{address:x},{size:x}"))? == b"OK")
    }
}

impl Behind for Stub {
    fn cpus(&self) -> u32 {
        self.cpus
    }

    fn description(&self, annex: &str) -> Option<&str> {
        self.description.get(annex).map(String::as_str)
    }

    fn halted(&self) -> Halt {
        self.halt.clone()
    }

    fn registers(&mut self, cpu: u32) -> Result<Vec<u8>> {
        self.choose(Some(cpu))?;
        let answer = self.ask("g")?;
        unhex(&answer).ok_or_else(|| strange("g"))
    }

    /// QEMU 7.2 does not answer to a packet of more than 4 KiB, and takes what is missing in one that is too short from anywhere.
    fn set_registers(&mut self, cpu: u32, bytes: &[u8]) -> Result<bool> {
        if self.registers(cpu)?.len() != bytes.len() {
            return Ok(false);
        }
        Ok(self.ask(&format!("G{}", hex(bytes)))? == b"OK")
    }

    fn read(&mut self, cpu: Option<u32>, address: u64, into: &mut [u8]) -> Result<usize> {
        self.choose(cpu)?;
        let mut done = 0;
        for piece in into.chunks_mut(PIECE) {
            let answer = self.ask(&format!("m{:x},{:x}", address.wrapping_add(done as u64), piece.len()))?;
            let Some(bytes) = unhex(&answer).filter(|bytes| bytes.len() <= piece.len()) else { break };
            piece[..bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
            if bytes.len() < piece.len() {
                break;
            }
        }
        Ok(done)
    }

    fn write(&mut self, cpu: Option<u32>, address: u64, bytes: &[u8]) -> Result<bool> {
        self.choose(cpu)?;
        let mut at = address;
        for piece in bytes.chunks(PIECE / 2) {
            if self.ask(&format!("M{at:x},{:x}:{}", piece.len(), hex(piece)))? != b"OK" {
                return Ok(false);
            }
            at = at.wrapping_add(piece.len() as u64);
        }
        Ok(true)
    }

    fn goes_back(&self) -> bool {
        false
    }

    fn set(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        let place = place(breakpoint);
        let done = self.breakpoint('Z', place)?;
        if done {
            self.set.insert(place);
        }
        Ok(done)
    }

    fn clear(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        let place = place(breakpoint);
        self.set.remove(&place);
        self.breakpoint('z', place)
    }

    fn resume(&mut self, how: Move) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
        match how {
            // A CPU stops there before it executes anything; the others, and time, would go on meanwhile.
            Move::Continue if self.stands_at_a_breakpoint()? => {
                self.halt.why = Why::Trap;
                return Ok(());
            }
            Move::Continue => self.send("vCont;c")?,
            Move::Step(cpu) => {
                let from = self.pc(cpu)?;
                return self.begin(Step { cpu, from, again: AGAIN });
            }
            // QEMU 7.2 aborts when it is asked to go back.
            Move::ReverseContinue | Move::ReverseStep(_) => return Ok(()),
        }
        (self.running, self.has_run) = (true, true);
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> Result<Option<Halt>> {
        let deadline = Instant::now() + patience;
        while self.running {
            let answer = self.hear()?;
            if answer.as_deref().is_some_and(is_over) {
                self.over.store(true, Ordering::Relaxed);
            } else if answer.is_none() && self.is_over() {
                // Of a stop that there was QEMU would have told by now.
                self.running = false;
                return Ok(Some(self.halt.clone()));
            }
            if let Some(halt) = answer.and_then(|answer| halt(&answer, self.halt.cpu)) {
                self.running = false;
                match self.has_not_moved(&halt)? {
                    Some(step) => self.begin(step)?,
                    None => {
                        self.halt = halt.clone();
                        return Ok(Some(halt));
                    }
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
        Ok(Some(self.halt.clone()))
    }

    fn interrupt(&mut self) -> Result<()> {
        self.stream.write_all(&[3]).or_host("write to QEMU's GDB stub")
    }

    fn monitor(&mut self, _: &str) -> Option<String> {
        None
    }

    fn left(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.running {
            self.interrupt()?;
            self.wait(Duration::from_millis(200))?;
            if Instant::now() >= deadline {
                return Err(Error::guest("QEMU's GDB stub did not stop the guest"));
            }
        }
        for place in std::mem::take(&mut self.set) {
            self.breakpoint('z', place)?;
        }
        Ok(())
    }
}

fn strange(packet: &str) -> Error {
    Error::guest(format!("QEMU's GDB stub answers `{packet}` in a way that kdbg does not know"))
        .hint("qemu.log in the run directory has QEMU's version")
}
