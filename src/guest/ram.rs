//! Where the guest's memory can be read without asking anybody.

use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use super::Guest;
use super::machine::Memory;
use crate::memory::Ram;

impl Guest {
    /// The file of the memory that the guest was forked from, if it was: what it has not written to is as it is there.
    pub fn forked_from(&self) -> Option<&Path> {
        match &self.memory {
            Memory::Forked(file) => Some(file),
            Memory::Kept(_) | Memory::Own => None,
        }
    }

    /// The guest's memory in QEMU's process. None where the memory is no file, or that process may not be
    /// [looked into](Ram::open).
    pub fn ram(&self) -> Option<Ram> {
        let (Memory::Kept(file) | Memory::Forked(file)) = &self.memory else { return None };
        // Between kdbg and QEMU may stand others: it is QEMU who has connected this port (unix(7), SO_PEERCRED).
        let process = socket_peercred(&self.control).ok()?.pid;
        Ram::open(process.as_raw_nonzero().get(), file, u64::from(self.memory_mib) << 20)
    }
}
