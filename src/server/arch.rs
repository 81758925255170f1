//! x86-64 with whatever registers the target's description has: their bytes go through as they are.

use gdbstub::arch::{Arch, Registers};

/// The architecture.
#[derive(Debug)]
pub(super) enum X86 {}

/// All registers of a CPU, as in the packet `g`.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl Registers for Raw {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        super::packets::program_counter(&self.0).unwrap_or_default()
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

impl Arch for X86 {
    type Usize = u64;
    type Registers = Raw;
    type BreakpointKind = usize;
    type RegId = ();
}
