//! Stacks that GDB has read before, read again without it.
//!
//! Asking GDB for the variables of fifty frames takes some ten milliseconds. What is the same at every hit of a probe on one
//! path through the kernel, the frames with their names, lines and variables, GDB tells once; what changes, the values, kdbg
//! then reads itself, from registers, memory and the debug information ([`crate::unwind`]).
//!
//! GDB has the last word: a stack is read like this from its third hit on, and only if at the second all values were those that
//! GDB had, to the letter. And wherever something turns out not to be as it was, a value that is lost now or cannot be read,
//! GDB is asked as before.

mod names;
mod places;
mod skeleton;
mod walk;

use std::collections::HashMap;
use std::path::Path;

use super::Stack;
use crate::decode::Memory;
use crate::error::Result;
use crate::event::Cancel;
use crate::gdb::client::Gdb;
use crate::gdb::cpu::Cpu;
use crate::gdb::program::Program;
use crate::report::model::StackReader;
use names::Cached;
use places::Places;
use skeleton::Skeleton;
use walk::{Chain, Walk, Walker};

/// The stacks that were seen so far.
#[derive(Debug)]
pub(in crate::gdb) struct Known {
    places: Places,
    names: Cached,
    stacks: HashMap<(String, Chain), Seen>,
}

/// How many stacks are remembered at most, some hundred kilobytes each.
const MANY: usize = 512;

/// What is known of a stack.
#[derive(Debug)]
enum Seen {
    /// Its values are read as GDB reads them.
    Same(Box<Skeleton>),
    /// GDB has other ones, or something about it is not understood.
    Other,
}

/// A stop.
#[derive(Debug, Clone, Copy)]
pub(in crate::gdb) struct Stopped<'a> {
    pub(in crate::gdb) probe: &'a str,
    pub(in crate::gdb) registers: &'a Cpu,
    /// How many frames are wanted at most.
    pub(in crate::gdb) limit: usize,
    /// Where the CPU has the pointer to the top of its interrupt stack.
    pub(in crate::gdb) top: Option<u64>,
    pub(in crate::gdb) program: &'a Program<'a>,
}

impl Known {
    /// For a vmlinux whose debug information is read when the first stack is to be remembered.
    pub(in crate::gdb) fn new(vmlinux: &Path) -> Known {
        let places = Places::of(vmlinux);
        Known { places, names: Cached::default(), stacks: HashMap::new() }
    }

    /// A module has come or gone: addresses may have other names, and code may be other code.
    pub(in crate::gdb) fn forget_names(&mut self) {
        self.names = Cached::default();
        self.stacks.clear();
    }

    /// Whether a stack of this probe can be read without GDB.
    pub(in crate::gdb) fn remembers(&self, probe: &str) -> bool {
        self.stacks.iter().any(|((other, _), seen)| other == probe && matches!(seen, Seen::Same(_)))
    }

    /// The stack of a stop, and who has read it; `read` has GDB do that, where it is needed.
    ///
    /// # Errors
    /// GDB failed.
    pub(in crate::gdb) fn stack(
        &mut self,
        gdb: &mut Gdb,
        stop: Stopped<'_>,
        memory: &mut dyn Memory,
        read: impl FnOnce(&mut Gdb) -> Result<Stack>,
        cancel: &Cancel,
    ) -> Result<(Stack, StackReader)> {
        let walker = Walker { places: &self.places, program: stop.program, top: stop.top, limit: stop.limit };
        let walk = walker.walk(stop.registers, memory);
        let key = walk.as_ref().map(|walk| (stop.probe.to_string(), walk.chain.clone()));
        let seen = key.as_ref().and_then(|key| self.stacks.get(key));
        if let (Some(walk), Some(Seen::Same(skeleton))) = (&walk, seen)
            && let Some(stack) = self.names.settle(gdb, cancel, &mut |names| skeleton.stack(walk, memory, names))?
        {
            return Ok((stack, StackReader::Kdbg));
        }
        let is_new = seen.is_none() && self.stacks.len() < MANY;
        let stack = read(gdb)?;
        if is_new {
            match (walk, key) {
                (Some(walk), Some(key)) => self.compare(gdb, (&walk, key), &stack, memory, cancel)?,
                _ => self.places.look_up(&stack.frames),
            }
        }
        Ok((stack, StackReader::Gdb))
    }

    /// Compares what is read without GDB with what GDB has read.
    fn compare(
        &mut self,
        gdb: &mut Gdb,
        (walk, key): (&Walk, (String, Chain)),
        stack: &Stack,
        memory: &mut dyn Memory,
        cancel: &Cancel,
    ) -> Result<()> {
        let seen = match Skeleton::of(walk, stack) {
            None => Seen::Other,
            Some(skeleton) => {
                let read = self.names.settle(gdb, cancel, &mut |names| skeleton.stack(walk, memory, names))?;
                if read.as_ref() == Some(stack) { Seen::Same(Box::new(skeleton)) } else { Seen::Other }
            }
        };
        self.stacks.insert(key, seen);
        Ok(())
    }
}
