//! `kdbg debug`: a guest that is set up as a recipe says, with a person at its terminal, to which debuggers come and go.
//!
//! No probe is set and no step runs. The guest runs while no debugger has it; one that attaches has it stand still, and
//! whichever way it leaves, the guest runs on. There is no GDB of kdbg's: QEMU's stub is free for kdbg's server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Order;
use super::handover::{self, Found, Handover};
use super::journal::Journal;
use super::shell::{Shell, Size};
use crate::error::Result;
use crate::event::{Cancel, Events};
use crate::guest::Guest;
use crate::guest::stub::Stub;
use crate::kernel::KernelBuild;
use crate::server::{Client, Halt, Left, Server, Why};

/// Forks or boots the guest of the order, lets debuggers in, and opens a shell in it.
///
/// # Errors
/// As [`Shell::open`]; or the address is taken.
pub fn open(order: &Order<'_>, size: Option<Size>, term: &str) -> Result<(Shell, Debuggers)> {
    // Before the guest boots: an address that is taken is told at once.
    let server = Server::listen(&order.listen)?;
    let admit = |guest: &mut Guest, kernel: &KernelBuild, journal: &mut Journal<'_>| {
        Debuggers::admit(order, server, guest, kernel, journal)
    };
    let (mut shell, (debuggers, visited)) = Shell::open_to(order, size, term, admit)?;
    shell.visited = Some(visited);
    Ok((shell, debuggers))
}

/// What whoever is at the guest's terminal shares with those who serve debuggers.
#[derive(Debug)]
pub(super) struct Visited {
    /// What the person at the terminal is told of them.
    pub(super) notices: Receiver<String>,
    /// That the guest has shut itself down: it can only be looked at.
    pub(super) over: Arc<AtomicBool>,
}

/// Nobody is to find the guest any more.
pub fn end(order: &Order<'_>) {
    handover::end(order);
}

/// Who serves the debuggers of a guest, until it is dropped.
#[derive(Debug)]
pub struct Debuggers {
    /// Ends the thread, and whoever it serves.
    end: Cancel,
    thread: Option<JoinHandle<()>>,
    _found: Found,
}

impl Debuggers {
    fn admit(
        order: &Order<'_>,
        server: Server,
        guest: &mut Guest,
        kernel: &KernelBuild,
        journal: &mut Journal<'_>,
    ) -> Result<(Debuggers, Visited)> {
        let at = if order.early { "it stands before its first instruction" } else { "it runs" };
        let address = server.address().to_string();
        order.events.fact("debug", format!("{at}; debuggers may come and go at {address}"));
        let hardware = guest.uses_kvm()?;
        // One that panics is what a debugger is for.
        guest.keep()?;
        let found = handover::write(order, &Handover { address, at, hit: None, kernel, hardware }, journal)?;
        let (sender, notices) = unbounded();
        let (end, over) = (Cancel::default(), Arc::new(AtomicBool::new(false)));
        let host = Host {
            server,
            socket: guest.gdb_socket(),
            cpus: order.loaded.recipe.guest.cpus,
            events: order.events.clone(),
            notices: sender,
            over: Arc::clone(&over),
            end: end.clone(),
        };
        let thread = std::thread::spawn(move || host.serve());
        Ok((Debuggers { end, thread: Some(thread), _found: found }, Visited { notices, over }))
    }
}

impl Drop for Debuggers {
    fn drop(&mut self) {
        self.end.flag().store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What serves debuggers, one after the other.
struct Host {
    server: Server,
    socket: PathBuf,
    cpus: u32,
    events: Events,
    notices: Sender<String>,
    over: Arc<AtomicBool>,
    end: Cancel,
}

impl Host {
    /// Until the end.
    fn serve(&self) {
        while !self.end.is_set() {
            let left = self.server.client(&self.end).and_then(|client| self.attend(client));
            match left {
                // Whoever attends to the guest notices that it is gone.
                _ if self.end.is_set() => return,
                Ok(Left::Gone) => return,
                Ok(_) => self.tell("the debugger has left; the guest runs on"),
                Err(error) => self.tell(&format!("a debugger could not be served: {error}")),
            }
        }
    }

    /// One debugger, from when it comes until the guest runs again.
    fn attend(&self, client: Client<'_>) -> Result<Left> {
        // To connect is to have the guest stand still.
        let mut stub = self.connect().inspect_err(|_| {
            // Nothing of what went wrong may leave it so.
            let _ = self.connect().and_then(Stub::release);
        })?;
        stub.stand_still_once(Arc::clone(&self.over));
        self.tell("a debugger has come; the guest stands still");
        let left = client.serve(&mut stub, &self.end);
        if !matches!(left, Ok(Left::Gone)) {
            stub.release()?;
        }
        left
    }

    fn connect(&self) -> Result<Stub> {
        let halt = Halt { cpu: 0, why: Why::Trap, note: None };
        Stub::connect(&self.socket, self.cpus, halt, &self.end)
    }

    /// Tells the person, wherever that looks.
    fn tell(&self, text: &str) {
        self.events.fact("debug", text);
        let _ = self.notices.send(text.to_owned());
    }
}
