//! A machine that is none: for tests of the server.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Behind, Breakpoint, Halt, Move, Why};
use crate::error::Result;

/// Where its memory is, and how much there is.
pub(super) const BASE: u64 = 0xffff_ffff_8100_0000;
pub(super) const SIZE: usize = 0x4000;
/// How many bytes of registers there are: 16 and RIP of eight, seven of four, eight of ten, eight of four.
const REGISTERS: usize = 17 * 8 + 7 * 4 + 8 * 10 + 8 * 4;

/// Two CPUs that execute instructions of one byte; the memory is the same for both, and its physical addresses begin at 0.
pub(super) struct Fake {
    description: [(String, String); 2],
    registers: [Vec<u8>; 2],
    memory: Vec<u8>,
    pub(super) breakpoints: BTreeSet<u64>,
    halt: Halt,
    /// What is being done.
    running: Option<Move>,
    interrupted: bool,
    /// How often a client has left.
    pub(super) left: u32,
}

impl Fake {
    pub(super) fn new() -> Fake {
        let target = r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target><architecture>i386:x86-64</architecture><xi:include href="core.xml"/></target>"#;
        let memory = (0..SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut fake = Fake {
            description: [("target.xml".into(), target.into()), ("core.xml".into(), core())],
            registers: [vec![0; REGISTERS], vec![0; REGISTERS]],
            memory,
            breakpoints: BTreeSet::new(),
            halt: Halt { cpu: 0, why: Why::Trap, note: None },
            running: None,
            interrupted: false,
            left: 0,
        };
        fake.go(0, BASE + 0x100);
        fake.go(1, BASE + 0x200);
        fake
    }

    pub(super) fn at(&self, cpu: usize) -> u64 {
        super::packets::program_counter(&self.registers[cpu]).unwrap()
    }

    fn go(&mut self, cpu: usize, to: u64) {
        self.registers[cpu][128..136].copy_from_slice(&to.to_le_bytes());
    }

    fn offset(cpu: Option<u32>, address: u64) -> Option<usize> {
        let offset = cpu.map_or(Some(address), |_| address.checked_sub(BASE))?;
        usize::try_from(offset).ok().filter(|offset| *offset < SIZE)
    }
}

/// The features that GDB wants of an x86-64.
fn core() -> String {
    let mut text = String::from(
        r#"<?xml version="1.0"?><!DOCTYPE feature SYSTEM "gdb-target.dtd"><feature name="org.gnu.gdb.i386.core">"#,
    );
    let mut add = |name: &str, bits: u32, kind: &str| {
        text.push_str(&format!(r#"<reg name="{name}" bitsize="{bits}" type="{kind}"/>"#));
    };
    for name in "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split(' ') {
        add(name, 64, "int64");
    }
    add("rip", 64, "code_ptr");
    "eflags cs ss ds es fs gs".split(' ').for_each(|name| add(name, 32, "int32"));
    (0..8).for_each(|n| add(&format!("st{n}"), 80, "i387_ext"));
    "fctrl fstat ftag fiseg fioff foseg fooff fop".split(' ').for_each(|name| add(name, 32, "int"));
    text + "</feature>"
}

impl Behind for Fake {
    fn cpus(&self) -> u32 {
        2
    }

    fn description(&self, annex: &str) -> Option<&str> {
        self.description.iter().find(|(name, _)| name == annex).map(|(_, text)| text.as_str())
    }

    fn halted(&self) -> Halt {
        self.halt.clone()
    }

    fn registers(&mut self, cpu: u32) -> Result<Vec<u8>> {
        Ok(self.registers[cpu as usize].clone())
    }

    fn set_registers(&mut self, cpu: u32, bytes: &[u8]) -> Result<bool> {
        let fits = bytes.len() == REGISTERS;
        if fits {
            self.registers[cpu as usize] = bytes.to_vec();
        }
        Ok(fits)
    }

    fn read(&mut self, cpu: Option<u32>, address: u64, into: &mut [u8]) -> Result<usize> {
        let Some(offset) = Fake::offset(cpu, address) else { return Ok(0) };
        let count = into.len().min(SIZE - offset);
        into[..count].copy_from_slice(&self.memory[offset..offset + count]);
        Ok(count)
    }

    fn write(&mut self, cpu: Option<u32>, address: u64, bytes: &[u8]) -> Result<bool> {
        let place = Fake::offset(cpu, address).and_then(|offset| self.memory.get_mut(offset..offset + bytes.len()));
        Ok(place.map(|place| place.copy_from_slice(bytes)).is_some())
    }

    fn set(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        let Breakpoint::Software(at) = breakpoint else { return Ok(false) };
        self.breakpoints.insert(at);
        Ok(true)
    }

    fn clear(&mut self, breakpoint: Breakpoint) -> Result<bool> {
        Ok(matches!(breakpoint, Breakpoint::Software(at) if self.breakpoints.remove(&at)))
    }

    fn goes_back(&self) -> bool {
        true
    }

    fn resume(&mut self, how: Move) -> Result<()> {
        self.running = Some(how);
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> Result<Option<Halt>> {
        let (here, cpu, why) = match (self.running, std::mem::take(&mut self.interrupted)) {
            (None, _) => return Ok(None),
            (Some(_), true) => (self.at(0), 0, Why::Interrupted),
            (Some(Move::Step(cpu)), _) => (self.at(cpu as usize) + 1, cpu, Why::Trap),
            (Some(Move::ReverseStep(cpu)), _) => (self.at(cpu as usize) - 1, cpu, Why::Trap),
            (Some(Move::Continue), _) => match self.breakpoints.range(self.at(0) + 1..).next() {
                Some(at) => (*at, 0, Why::Breakpoint),
                None => {
                    std::thread::sleep(patience);
                    return Ok(None);
                }
            },
            (Some(Move::ReverseContinue), _) => match self.breakpoints.range(..self.at(0)).next_back() {
                Some(at) => (*at, 0, Why::Breakpoint),
                None => (BASE, 0, Why::Beginning),
            },
        };
        self.go(cpu as usize, here);
        self.running = None;
        self.halt = Halt { cpu, why, note: (why == Why::Breakpoint).then(|| format!("fake at {here:#x}")) };
        Ok(Some(self.halt.clone()))
    }

    fn interrupt(&mut self) -> Result<()> {
        self.interrupted = self.running.is_some();
        Ok(())
    }

    fn monitor(&mut self, command: &str) -> Option<String> {
        (command == "info version").then(|| "1.2.3fake\n".into())
    }

    fn left(&mut self) -> Result<()> {
        self.left += 1;
        self.breakpoints.clear();
        self.running = None;
        Ok(())
    }
}
