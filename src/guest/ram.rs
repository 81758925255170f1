//! Where the guest's memory can be read without asking anybody.

use rustix::net::sockopt::socket_peercred;

use super::Guest;
use super::machine::Memory;
use crate::memory::Ram;

impl Guest {
    /// The guest's memory in QEMU's process. None where the memory is no file, or that process may not be
    /// [looked into](Ram::open).
    pub fn ram(&self) -> Option<Ram> {
        let (Memory::Kept(file) | Memory::Forked(file)) = &self.memory else { return None };
        // Between kdbg and QEMU may stand others: it is QEMU who has connected this port (unix(7), SO_PEERCRED).
        let process = socket_peercred(&self.control).ok()?.pid;
        Ram::open(process.as_raw_nonzero().get(), file, u64::from(self.memory_mib) << 20)
    }
}
