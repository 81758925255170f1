//! A recording behind the server: each hit is a stop, and running goes from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::Recording;
use super::format::PAGE_SIZE;
use crate::error::{Error, Result};
use crate::memory::offset;
use crate::memory::paging::Tables;
use crate::server::{Behind, Breakpoint, Halt, Move, Why};

/// A page of a client's own.
type Page = Box<[u8; PAGE_SIZE]>;

/// A recording that is debugged. It stands at one of its hits.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    /// The hit, by its place in the recording.
    at: usize,
    halt: Halt,
    breakpoints: BTreeSet<u64>,
    /// Those that were taken out since it last ran freely: GDB takes all out while it steps off one, and knows them all the same.
    lifted: BTreeSet<u64>,
    /// What the client has written: pages by hit and number, registers by hit and CPU. The recording stays as it is.
    pages: BTreeMap<(usize, u32), Page>,
    registers: BTreeMap<(usize, u32), Vec<u8>>,
    /// Where it is about to stop.
    next: Option<Halt>,
    /// That the hit where it stands is still to be told, to whom goes on forwards, or backwards.
    untold: Option<bool>,
    /// The CPU of whose step's end GDB would make a hit of its own: it stands at a breakpoint, and the hit is another CPU's. Until it
    /// goes on, its program counter is given as one byte behind the breakpoint.
    beside: Option<u32>,
}

impl Replay {
    /// At the first hit.
    pub fn new(recording: Recording) -> Replay {
        let halt = Halt { cpu: 0, why: Why::Trap, note: None };
        let mut replay = Replay {
            recording,
            at: 0,
            halt,
            breakpoints: BTreeSet::new(),
            lifted: BTreeSet::new(),
            pages: BTreeMap::new(),
            registers: BTreeMap::new(),
            next: None,
            untold: None,
            beside: None,
        };
        replay.halt = replay.stand_at(0, Why::Trap);
        replay
    }

    /// Goes to a hit. Gives the stop there: at a breakpoint, or of this kind.
    fn stand_at(&mut self, hit: usize, otherwise: Why) -> Halt {
        self.at = hit;
        let Some(hit) = self.recording.hits.get(hit) else { return self.halt.clone() };
        let why = if self.is_at_breakpoint(hit.cpu) { Why::Breakpoint } else { otherwise };
        let note = format!("hit {} of {}: probe {}", self.at + 1, self.recording.hits.len(), hit.probe);
        Halt { cpu: hit.cpu, why, note: Some(note) }
    }

    /// Goes to the next hit, or to the one before. Gives the stop there, if there is one.
    fn go(&mut self, forwards: bool, otherwise: Why) -> Option<Halt> {
        let hit = if forwards { Some(self.at + 1) } else { self.at.checked_sub(1) };
        let hit = hit.filter(|hit| *hit < self.recording.hits.len())?;
        Some(self.stand_at(hit, otherwise))
    }

    /// Goes there by a step of a CPU. GDB does not take a stop of another CPU for the end of that. A trap of the same CPU it takes for
    /// no more than the end: it steps off a breakpoint where it stands before it continues, and has not said that there is one if it
    /// is new. So the hit is told once more to whom goes on without a look at it.
    fn step(&mut self, forwards: bool, cpu: u32) -> Halt {
        match self.go(forwards, Why::Interrupted) {
            Some(halt) if halt.cpu != cpu || (forwards && halt.why == Why::Interrupted) => {
                self.untold = Some(forwards);
                self.beside = Some(cpu).filter(|cpu| halt.cpu != *cpu && self.is_at_breakpoint(*cpu));
                Halt { cpu, why: Why::Trap, ..halt }
            }
            Some(halt) => halt,
            None => Halt { cpu, ..self.end(forwards) },
        }
    }

    /// The stop where there is nothing to go to. GDB 13 hangs when it is told that a recording is at its end.
    fn end(&self, forwards: bool) -> Halt {
        let (why, words) = if forwards { (Why::Interrupted, "last") } else { (Why::Beginning, "first") };
        let note = format!("hit {} is the {words} of this recording", self.at + 1);
        Halt { why, note: Some(note), ..self.halt.clone() }
    }

    /// Whether the hit where it stands is one of this CPU. GDB ends itself where a step over a breakpoint is answered by another one.
    fn is_at_hit_of(&self, cpu: u32) -> bool {
        self.recording.hits.get(self.at).is_some_and(|hit| hit.cpu == cpu)
    }

    fn is_at_breakpoint(&self, cpu: u32) -> bool {
        self.pc(cpu).is_some_and(|pc| self.breakpoints.contains(&pc) || self.lifted.contains(&pc))
    }

    fn all_registers(&self, cpu: u32) -> Option<&Vec<u8>> {
        let recorded = || self.recording.hits.get(self.at)?.registers.get(cpu as usize);
        self.registers.get(&(self.at, cpu)).or_else(recorded)
    }

    fn register(&self, cpu: u32, name: &str) -> Option<u64> {
        self.recording.layout.value(self.all_registers(cpu)?, name)
    }

    fn pc(&self, cpu: u32) -> Option<u64> {
        self.register(cpu, "rip")
    }

    /// Physical memory, with what the client has written.
    fn physical(&mut self, address: u64, into: &mut [u8]) -> bool {
        if !self.recording.read(self.at, address, into) {
            return false;
        }
        let Some(place) = self.place(address, into.len()) else { return true };
        if let Some(page) = self.pages.get(&(self.at, place.0)) {
            into.copy_from_slice(&page[place.1..place.1 + into.len()]);
        }
        true
    }

    /// The page, and where in it, that these bytes are in, if they are in one.
    fn place(&self, address: u64, length: usize) -> Option<(u32, usize)> {
        let at = offset(address, length as u64, self.recording.head.memory)?;
        let within = usize::try_from(at).ok()? % PAGE_SIZE;
        (within + length <= PAGE_SIZE).then_some(())?;
        Some((u32::try_from(at / PAGE_SIZE as u64).ok()?, within))
    }

    /// The physical address of one that a CPU uses, or that is one.
    fn translate(&mut self, cpu: Option<u32>, address: u64) -> Option<u64> {
        let Some(cpu) = cpu else { return Some(address) };
        let tables = Tables::of(self.register(cpu, "cr3")?, self.register(cpu, "cr4")?);
        tables.translate(address, &mut |address, into| self.physical(address, into))
    }

    fn write_in_page(&mut self, (number, within): (u32, usize), address: u64, bytes: &[u8]) -> Option<()> {
        let start = address - within as u64;
        let mut page = Box::new([0; PAGE_SIZE]);
        self.physical(start, &mut page[..]).then_some(())?;
        page[within..within + bytes.len()].copy_from_slice(bytes);
        self.pages.insert((self.at, number), page);
        Some(())
    }

    /// The hits, as `monitor hits` lists them.
    fn list(&self) -> String {
        let mut text = String::new();
        for (number, hit) in self.recording.hits.iter().enumerate() {
            let mark = if number == self.at { '*' } else { ' ' };
            let _ = writeln!(text, "{mark} hit {}  probe {}  CPU {}", number + 1, hit.probe, hit.cpu);
        }
        text
    }
}

/// Bytes at an address, cut where pages end.
fn by_page(address: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = address.checked_add(done as u64).filter(|_| done < length)?;
        let within = usize::try_from(at % PAGE_SIZE as u64).ok()?;
        let end = length.min(done + PAGE_SIZE - within);
        let part = (at, done..end);
        done = end;
        Some(part)
    })
}

impl Behind for Replay {
    fn cpus(&self) -> u32 {
        self.recording.head.cpus
    }

    fn description(&self, annex: &str) -> Option<&str> {
        self.recording.head.description.get(annex).map(String::as_str)
    }

    fn halted(&self) -> Halt {
        self.halt.clone()
    }

    fn registers(&mut self, cpu: u32) -> Result<Vec<u8>> {
        let registers = self.all_registers(cpu).cloned();
        let mut registers = registers.ok_or_else(|| Error::usage("the recording has no such CPU"))?;
        if let Some(pc) = self.pc(cpu).filter(|_| self.beside == Some(cpu)) {
            self.recording.layout.set(&mut registers, "rip", pc.wrapping_add(1));
        }
        Ok(registers)
    }

    fn set_registers(&mut self, cpu: u32, bytes: &[u8]) -> Result<bool> {
        let fits = self.all_registers(cpu).is_some_and(|registers| registers.len() == bytes.len());
        if !fits {
            return Ok(false);
        }
        let mut bytes = bytes.to_vec();
        if let Some(pc) = self.pc(cpu).filter(|_| self.beside == Some(cpu)) {
            let layout = &self.recording.layout;
            // GDB writes all of them, the one that it was told otherwise too.
            match layout.value(&bytes, "rip") == Some(pc.wrapping_add(1)) {
                true => drop(layout.set(&mut bytes, "rip", pc)),
                false => self.beside = None,
            }
        }
        self.registers.insert((self.at, cpu), bytes);
        Ok(true)
    }

    fn read(&mut self, cpu: Option<u32>, address: u64, into: &mut [u8]) -> Result<usize> {
        for (at, part) in by_page(address, into.len()) {
            let before = part.start;
            let from = self.translate(cpu, at);
            if !from.is_some_and(|from| self.physical(from, &mut into[part])) {
                return Ok(before);
            }
        }
        Ok(into.len())
    }

    /// Into pages of the client's own, which are those of this hit.
    fn write(&mut self, cpu: Option<u32>, address: u64, bytes: &[u8]) -> Result<bool> {
        let mut places = Vec::new();
        for (at, part) in by_page(address, bytes.len()) {
            let to = self.translate(cpu, at);
            let Some((to, place)) = to.and_then(|to| Some((to, self.place(to, part.len())?))) else { return Ok(false) };
            places.push((to, place, part));
        }
        for (to, place, part) in places {
            if self.write_in_page(place, to, &bytes[part]).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One stands only where a hit is, and tells the client that it is this breakpoint's.
    fn set(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        match breakpoint {
            Breakpoint::Software(at) | Breakpoint::Hardware(at) => {
                self.breakpoints.insert(at);
                Ok(true)
            }
            Breakpoint::Watch(..) => Ok(false),
        }
    }

    fn clear(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        let (Breakpoint::Software(at) | Breakpoint::Hardware(at)) = breakpoint else { return Ok(false) };
        let was_set = self.breakpoints.remove(&at);
        if was_set {
            self.lifted.insert(at);
        }
        Ok(was_set)
    }

    fn goes_back(&self) -> bool {
        true
    }

    /// A step is a way to the next hit too: GDB steps off a breakpoint before it continues, and would find itself where it was
    /// for ever.
    fn resume(&mut self, how: Move) -> Result<()> {
        let (forwards, stepped) = match how {
            Move::Continue => (true, None),
            Move::Step(cpu) => (true, Some(cpu)),
            Move::ReverseContinue => (false, None),
            Move::ReverseStep(cpu) => (false, Some(cpu)),
        };
        // Of a hit that is still to be told it was said already which one it is.
        let here = self.untold.take() == Some(forwards);
        let beside = self.beside.take();
        let halt = match stepped {
            // What GDB takes for an instruction behind a breakpoint is no step over one: another CPU may stop.
            Some(cpu) if here && (self.is_at_hit_of(cpu) || beside == Some(cpu)) => {
                self.stand_at(self.at, Why::Interrupted)
            }
            Some(cpu) => self.step(forwards, cpu),
            None => {
                self.lifted.clear();
                // A CPU stops there before it executes anything. GDB steps off one first.
                let here = here || forwards && self.pc(self.halt.cpu).is_some_and(|pc| self.breakpoints.contains(&pc));
                let halt = if here { Some(self.stand_at(self.at, Why::Trap)) } else { self.go(forwards, Why::Trap) };
                halt.unwrap_or_else(|| self.end(forwards))
            }
        };
        self.next = Some(Halt { note: halt.note.filter(|_| !here), ..halt });
        Ok(())
    }

    fn threads_listed(&mut self) {
        // It would have been told of another CPU.
        if self.is_at_hit_of(self.halt.cpu) {
            self.untold = None;
        }
    }

    fn wait(&mut self, _patience: Duration) -> Result<Option<Halt>> {
        let halt = self.next.take();
        if let Some(halt) = &halt {
            self.halt = halt.clone();
        }
        Ok(halt)
    }

    fn interrupt(&mut self) -> Result<()> {
        Ok(())
    }

    fn monitor(&mut self, command: &str) -> Option<String> {
        match command {
            // The kernel's scripts for GDB ask this, and take whatever answers for QEMU.
            "info version" => Some(format!("a recording of kdbg {}\n", env!("CARGO_PKG_VERSION"))),
            "hits" => Some(self.list()),
            "help" => {
                Some("hits: lists the hits of this recording; `continue` and `reverse-continue` walk them\n".into())
            }
            _ => None,
        }
    }

    /// The next client begins at the first hit, without what this one has set and written.
    fn left(&mut self) -> Result<()> {
        self.breakpoints.clear();
        self.lifted.clear();
        self.pages.clear();
        self.registers.clear();
        (self.next, self.untold, self.beside) = (None, None, None);
        self.halt = self.stand_at(0, Why::Trap);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
