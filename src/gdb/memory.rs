//! The guest's memory, read and written through GDB while the guest stands still.

use std::fmt::Write;

use super::client::Gdb;
use super::variables::KERNEL_HALF;
use crate::error::Result;
use crate::event::Cancel;

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

/// Bytes as GDB writes them.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
