//! kdbg's own client: connects to a forwarded port of the guest, sends and awaits what a recipe says.
//!
//! It works in a thread, and what it hears comes on the guest's channel, so that stops are served meanwhile. QEMU accepts the
//! connection before the guest has seen anything of it: that it stands says nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::{GuestEvent, Stream};
use crate::error::{Error, Result};
use crate::recipe::types::Exchange;

/// How long QEMU may take to accept; its listener is on this host.
const ACCEPT: Duration = Duration::from_secs(10);

/// A client at work, or one that is done.
#[derive(Debug)]
pub(super) struct Client {
    id: String,
    /// The thread has the socket, and closes it at its end.
    socket: Weak<TcpStream>,
}

impl Client {
    /// Connects to this port of the host's loopback and goes to work as step `id`.
    ///
    /// # Errors
    /// Nobody listens there: QEMU is gone.
    pub(super) fn start(id: &str, port: u16, exchanges: Vec<Exchange>, events: Sender<GuestEvent>) -> Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, ACCEPT)
            .map_err(|error| Error::guest(format!("QEMU does not accept connections to its port {port}: {error}")))?;
        let socket = Arc::new(socket);
        let client = Client { id: id.into(), socket: Arc::downgrade(&socket) };
        let id = id.to_owned();
        std::thread::spawn(move || {
            let heard = |bytes: &[u8]| drop(events.send(GuestEvent::Received(bytes.to_vec())));
            let ended = talk(&socket, &exchanges, heard);
            drop(socket);
            if let Err(why) = &ended {
                let _ = events.send(GuestEvent::Output(Stream::Stderr, format!("kdbg: {why}\n").into()));
            }
            let _ = events.send(GuestEvent::Exit(id, i32::from(ended.is_err())));
        });
        Ok(client)
    }

    /// Ends it, if it works on step `id`; says whether it does.
    pub(super) fn kill(&self, id: &str) -> bool {
        let is_mine = self.id == id;
        if let Some(socket) = self.socket.upgrade().filter(|_| is_mine) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        is_mine
    }
}

/// Sends and awaits, in turn. Where nothing more is expected in the end, it sends no more and hears until the guest's side
/// closes, so that the guest has seen all of it.
///
/// # Errors
/// The connection ended before something that was expected came.
fn talk(mut socket: &TcpStream, exchanges: &[Exchange], mut heard: impl FnMut(&[u8])) -> Result<(), String> {
    let (mut unread, mut buffer) = (Vec::new(), [0; 4096]);
    for Exchange { send, expect } in exchanges {
        // A connection that takes no more is noticed below, where it is read.
        let _ = socket.write_all(send.as_deref().unwrap_or_default().as_bytes());
        let Some(expected) = expect.as_deref().map(str::as_bytes).filter(|text| !text.is_empty()) else { continue };
        loop {
            if let Some(at) = unread.windows(expected.len()).position(|part| part == expected) {
                unread.drain(..at + expected.len());
                break;
            }
            // The beginning of what is expected may have come.
            unread.drain(..unread.len().saturating_sub(expected.len() - 1));
            match socket.read(&mut buffer) {
                Ok(count @ 1..) => {
                    heard(&buffer[..count]);
                    unread.extend_from_slice(&buffer[..count]);
                }
                ended => {
                    let how = ended.err().map_or("was closed".into(), |error| format!("ended ({error})"));
                    return Err(format!("the connection {how} before {:?} came", String::from_utf8_lossy(expected)));
                }
            }
        }
    }
    if exchanges.last().is_none_or(|last| last.expect.is_none()) {
        let _ = socket.shutdown(Shutdown::Write);
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            heard(&buffer[..count]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What comes of a talk with a server that sends `says` byte by byte, takes `takes` bytes and closes.
    fn talk_with(exchanges: &[(&str, &str)], takes: usize, says: &str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let says = says.to_owned();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            says.bytes().for_each(|byte| drop(socket.write(&[byte])));
            socket.read_exact(&mut vec![0; takes]).unwrap();
        });
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let exchanges: Vec<Exchange> =
            exchanges.iter().map(|(send, expect)| Exchange { send: some(send), expect: some(expect) }).collect();
        let mut heard = Vec::new();
        let ended = talk(&socket, &exchanges, |bytes| heard.extend_from_slice(bytes));
        drop(socket);
        server.join().unwrap();
        (ended, String::from_utf8(heard).unwrap())
    }

    #[test]
    fn what_is_expected_is_found_however_it_comes() {
        let (ended, heard) = talk_with(&[("", "220 "), ("hi\n", "250 "), ("", "bye")], 3, "220 here\n250 hi\nbye");
        assert_eq!((ended, heard.as_str()), (Ok(()), "220 here\n250 hi\nbye"));
    }

    #[test]
    fn what_was_found_is_not_found_again() {
        let (ended, heard) = talk_with(&[("", "ok"), ("", "ok")], 0, "ok");
        assert_eq!((ended, heard.as_str()), (Err("the connection was closed before \"ok\" came".into()), "ok"));
    }

    #[test]
    fn where_nothing_is_expected_all_is_heard() {
        assert_eq!(talk_with(&[("a", "")], 1, "b").1, "b");
        assert_eq!(talk_with(&[("", "")], 0, "").0, Ok(()));
    }
}
