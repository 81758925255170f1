//! While the guest runs to its first hit GDB has nothing to do: it reads the debug information of the files that are on most
//! stacks then, ten milliseconds each, which it would read while the guest stands still.

use super::client::Gdb;
use super::command::evaluate;
use crate::error::Result;

/// A function of each, those first that are on the most stacks. A kernel that does not have one loses nothing.
const FILES: [&str; 10] = [
    "do_syscall_64",
    "__sys_connect",
    "__do_softirq",
    "net_rx_action",
    "ip_rcv",
    "inet_stream_connect",
    "ip_output",
    "tcp_connect",
    "neigh_resolve_output",
    "sys_call_table",
];

/// Has GDB read them, one after the other; a stop that comes meanwhile waits for the one that it is at.
///
/// # Errors
/// GDB died.
pub fn read_ahead(gdb: &mut Gdb) -> Result<()> {
    gdb.post(&FILES.map(|function| evaluate(&format!("&{function}"))))
}
