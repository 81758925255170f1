//! The guest's memory while it stands still: read in QEMU's process where that can be, else through GDB; written through GDB.

use std::fmt::Write;

use super::client::Gdb;
use super::cpu::{Cpu, Numbers};
use super::mi::{Value, Values, number};
use super::variables::KERNEL_HALF;
use crate::decode::Memory;
use crate::digest::unhex;
use crate::error::Result;
use crate::event::Cancel;
use crate::memory::{Ram, Stopped};

/// The guest's memory in QEMU's process, if it can be had.
#[derive(Debug, Default)]
pub(super) struct Direct {
    ram: Option<Ram>,
    numbers: Option<Numbers>,
    /// Whether it was found to be the memory that GDB reads.
    is_tried: bool,
}

impl Direct {
    /// That of the guest which GDB is connected to.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn new(gdb: &mut Gdb, ram: Option<Ram>, cancel: &Cancel) -> Result<Direct> {
        let numbers = Numbers::find(gdb, cancel)?;
        Ok(Direct { ram: ram.filter(|_| numbers.is_some()), numbers, is_tried: false })
    }

    /// Asks for the registers of the CPU of a stop, if they are of use.
    pub(super) fn command(&self, thread: u64) -> Option<String> {
        self.ram.as_ref().and(self.numbers).map(|numbers| numbers.command(thread))
    }

    /// What GDB has answered to the [`command`](Direct::command).
    pub(super) fn cpu(&self, values: &Values) -> Option<Cpu> {
        self.numbers?.cpu(values)
    }

    /// Whether it can be relied upon to be had.
    pub(super) fn is_proved(&self) -> bool {
        self.ram.is_some() && self.is_tried
    }

    /// What this CPU sees at a stop; none where GDB has to be asked. The first time it is compared with what GDB reads of the
    /// stack: where that is something else, it is never used.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn seen_by(&mut self, cpu: &Cpu, gdb: &mut Gdb, cancel: &Cancel) -> Result<Option<Stopped<'_>>> {
        const WORD: u64 = 8;
        if !self.is_tried
            && let Some(ram) = &self.ram
        {
            let Some(word) = read(gdb, cpu.rsp(), WORD, cancel)? else { return Ok(None) };
            if Stopped::new(ram, cpu.cr3, cpu.cr4).read(cpu.rsp(), WORD) != Some(word) {
                self.ram = None;
            }
            self.is_tried = true;
        }
        Ok(self.ram.as_ref().map(|ram| Stopped::new(ram, cpu.cr3, cpu.cr4)))
    }
}

/// The memory at a stop, that of the current task's program included. GDB is asked for what cannot be had without.
pub(super) struct Still<'a, 'r> {
    seen: Option<Stopped<'r>>,
    gdb: &'a mut Gdb,
    cancel: &'a Cancel,
    /// That GDB failed, which is no matter of an address.
    failed: Result<()>,
}

impl<'a, 'r> Still<'a, 'r> {
    pub(super) fn new(seen: Option<Stopped<'r>>, gdb: &'a mut Gdb, cancel: &'a Cancel) -> Self {
        Still { seen, gdb, cancel, failed: Ok(()) }
    }

    /// Whether what could not be read is not there.
    ///
    /// # Errors
    /// It is GDB that failed.
    pub(super) fn end(self) -> Result<()> {
        self.failed
    }
}

impl Memory for Still<'_, '_> {
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
        let seen = self.seen.as_mut().and_then(|seen| seen.read(address, size));
        seen.or_else(|| {
            let ask = if address < KERNEL_HALF { read_of_program } else { read };
            ask(self.gdb, address, size, self.cancel).unwrap_or_else(|error| {
                self.failed = Err(error);
                None
            })
        })
    }
}

/// So many bytes of the kernel's; none where they cannot be read, or are a program's: GDB 13 dies of this command there, since it
/// wants to allocate all that lies between two regions.
///
/// # Errors
/// GDB failed.
pub(super) fn read(gdb: &mut Gdb, address: u64, size: u64, cancel: &Cancel) -> Result<Option<Vec<u8>>> {
    if address < KERNEL_HALF {
        return Ok(None);
    }
    let answer = gdb.ask(&format!("-data-read-memory-bytes {address:#x} {size}"), cancel)?;
    let Ok(values) = answer.ok() else { return Ok(None) };
    let memory = values.tuples("memory");
    let bytes = memory.first().and_then(|memory| unhex(memory.text("contents")?));
    Ok(bytes.filter(|bytes| bytes.len() as u64 == size))
}

/// So many bytes of the current task's program, by a command that can be given any address.
///
/// # Errors
/// GDB failed.
fn read_of_program(gdb: &mut Gdb, address: u64, size: u64, cancel: &Cancel) -> Result<Option<Vec<u8>>> {
    let answer = gdb.ask(&format!("-data-read-memory {address:#x} x 1 1 {size}"), cancel)?;
    let Ok(values) = answer.ok() else { return Ok(None) };
    let memory = values.tuples("memory");
    let Some(Value::List(data)) = memory.first().and_then(|memory| memory.get("data")) else { return Ok(None) };
    let byte = |value: &Value| match value {
        Value::Text(text) => u8::try_from(number(text)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = data.iter().map(byte).collect();
    Ok(bytes.filter(|bytes| bytes.len() as u64 == size))
}

/// Writes bytes, code too.
///
/// # Errors
/// GDB failed, or cannot write there.
pub(super) fn write(gdb: &mut Gdb, address: u64, bytes: &[u8], cancel: &Cancel) -> Result<()> {
    let mut hex = String::new();
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    gdb.must(&format!("-data-write-memory-bytes {address:#x} {hex}"), cancel).map(drop)
}
