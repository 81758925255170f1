//! `kdbg debug`: a guest that is set up as a recipe says, with a person at its terminal, to which debuggers come and go.
//!
//! No probe is set and no step runs. The guest runs while no debugger has it; one that attaches has it stand still, and
//! whichever way it leaves, the guest runs on. There is no GDB of kdbg's: QEMU's stub is free for kdbg's server.

use std::path::PathBuf;
use std::thread::JoinHandle;

use super::Order;
use super::handover::{self, Handover};
use super::journal::Journal;
use super::shell::{Shell, Size};
use crate::error::Result;
use crate::event::{Cancel, Events};
use crate::guest::Guest;
use crate::guest::stub::Stub;
use crate::kernel::KernelBuild;
use crate::server::{Address, Client, Halt, Left, Server, Why};

/// Forks or boots the guest of the order, lets debuggers in at `listen`, and opens a shell in it.
///
/// # Errors
/// As [`Shell::open`]; or the address is taken.
pub fn open(order: &Order<'_>, listen: &Address, size: Option<Size>, term: &str) -> Result<(Shell, Debuggers)> {
    // Before the guest boots: an address that is taken is told at once.
    let server = Server::listen(listen)?;
    let admit = |guest: &mut Guest, kernel: &KernelBuild, journal: &mut Journal<'_>| {
        Debuggers::admit(order, server, guest, kernel, journal)
    };
    let (mut shell, debuggers) = Shell::open_to(order, size, term, admit)?;
    shell.stays = true;
    Ok((shell, debuggers))
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
}

impl Debuggers {
    fn admit(
        order: &Order<'_>,
        server: Server,
        guest: &mut Guest,
        kernel: &KernelBuild,
        journal: &mut Journal<'_>,
    ) -> Result<Debuggers> {
        let at = if order.early { "it stands before its first instruction" } else { "it runs" };
        let address = server.address().to_string();
        order.events.fact("debug", format!("{at}; debuggers may come and go at {address}"));
        let hardware = guest.uses_kvm()?;
        handover::write(order, &Handover { address, at, hit: None, kernel, hardware }, journal)?;
        let end = Cancel::default();
        let host = Host {
            server,
            socket: guest.gdb_socket(),
            cpus: order.loaded.recipe.guest.cpus,
            events: order.events.clone(),
            end: end.clone(),
        };
        // What ends it is the end of the session, or of the guest, which whoever attends to that notices.
        let thread = std::thread::spawn(move || drop(host.serve()));
        Ok(Debuggers { end, thread: Some(thread) })
    }
}

impl Drop for Debuggers {
    fn drop(&mut self) {
        self.end.flag().store(true, std::sync::atomic::Ordering::Relaxed);
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
    end: Cancel,
}

impl Host {
    /// Until the end, or until the guest is gone.
    fn serve(&self) -> Result<()> {
        loop {
            let client = self.server.client(&self.end)?;
            match self.attend(client) {
                Ok(Left::Gone) => return Ok(()),
                Ok(_) => self.events.fact("debug", "the debugger has left; the guest runs"),
                Err(error) => {
                    self.end.check()?;
                    self.events.warn(format!("a debugger could not be served: {error}"));
                }
            }
        }
    }

    /// One debugger, from when it comes until the guest runs again.
    fn attend(&self, client: Client<'_>) -> Result<Left> {
        // To connect is to have the guest stand still.
        let halt = Halt { cpu: 0, why: Why::Trap, note: None };
        let mut stub = Stub::connect(&self.socket, self.cpus, halt, &self.end)?;
        self.events.fact("debug", "a debugger has come; the guest stands still");
        let left = client.serve(&mut stub, &self.end)?;
        if left != Left::Gone {
            stub.release()?;
        }
        Ok(left)
    }
}
