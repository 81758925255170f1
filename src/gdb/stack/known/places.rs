//! Places in the code, looked up by a thread while the guest runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use crate::gdb::mi::number;
use crate::gdb::stack::ends::is_entry;
use crate::report::model::Frame;
use crate::unwind::{Image, Place};

/// A place: an address in the code, and where a call there returns to.
pub(super) type Key = (u64, u64);

type Found = Arc<Mutex<HashMap<Key, Option<Arc<Place>>>>>;

/// The places that were looked up so far.
#[derive(Debug)]
pub(super) struct Places {
    vmlinux: PathBuf,
    found: Found,
    /// The kernel's entries on the stacks so far, by the address there. The symbols of vmlinux do not tell them from what is
    /// in front of them.
    entries: HashMap<u64, String>,
    /// Takes what is to be looked up, once something was.
    wanted: Option<Sender<Vec<Key>>>,
}

impl Places {
    /// None yet, of a vmlinux.
    pub(super) fn of(vmlinux: &Path) -> Places {
        Places { vmlinux: vmlinux.into(), found: Found::default(), entries: HashMap::new(), wanted: None }
    }

    /// A place; none if it was not looked up, or is not understood.
    pub(super) fn get(&self, key: Key) -> Option<Arc<Place>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned().flatten()
    }

    /// The entry that this address is in; empty if it is in none that has been on a stack.
    pub(super) fn entry(&self, address: u64) -> &str {
        self.entries.get(&address).map_or("", String::as_str)
    }

    /// Has the places of these frames looked up.
    pub(super) fn look_up(&mut self, frames: &[Frame]) {
        let entries = frames.iter().filter(|frame| is_entry(&frame.symbol));
        self.entries.extend(entries.filter_map(|frame| Some((number(&frame.address)?, frame.symbol.clone()))));
        let addresses = frames.iter().filter_map(|frame| number(&frame.address));
        // A caller stands before the address it is returned to, what was interrupted at its own.
        let mut keys: Vec<Key> =
            addresses.flat_map(|address| [(address.wrapping_sub(1), address), (address, address)]).collect();
        keys.dedup();
        let wanted = self.wanted.get_or_insert_with(|| begin(self.vmlinux.clone(), Arc::clone(&self.found)));
        // A thread that is gone has had no debug information to read.
        let _ = wanted.send(keys);
    }
}

/// Starts the thread. It ends with the sender.
fn begin(vmlinux: PathBuf, found: Found) -> Sender<Vec<Key>> {
    let (sender, receiver) = unbounded::<Vec<Key>>();
    thread::spawn(move || {
        let Some(mut image) = Image::open(&vmlinux) else { return };
        for keys in receiver {
            for key in keys {
                let place = image.place(key.0, key.1);
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, place);
            }
        }
    });
    sender
}
