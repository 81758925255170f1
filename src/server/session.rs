//! A client, from its first packet until it leaves.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::time::Duration;

use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, GdbStubError};

use super::listen::{Awaited, Client};
use super::packets::{self, LONGEST, Reader, Sent};
use super::target::{Machine, reason};
use super::{Behind, Halt};
use crate::error::{Error, Result};
use crate::event::Cancel;

/// How long one wait for the client, or for a stop, is.
const TICK: Duration = Duration::from_millis(20);
/// No such packet (GDB's manual, "Standard Replies").
const UNKNOWN: &str = "";
/// EINVAL (errno(3)).
const INVALID: &str = "E16";

/// How a client ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It has left, or wanted to kill what it debugged, which is taken for the same.
    Detached,
    /// What it debugged is gone.
    Gone,
    /// It is gone, or spoke so that nobody could go on: why.
    Lost(String),
}

/// What gdbstub has to say, until it is sent.
#[derive(Debug, Default)]
struct Output(Vec<u8>);

impl Connection for Output {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> std::result::Result<(), Infallible> {
        self.0.push(byte);
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::result::Result<(), Infallible> {
        self.0.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::result::Result<(), Infallible> {
        Ok(())
    }
}

type Stub<'b> = GdbStubStateMachine<'static, Machine<'b>, Output>;
type Step<'b> = std::result::Result<Stub<'b>, Left>;

/// A session with a client.
struct Session<'c, 's, 'b> {
    client: &'c mut Client<'s>,
    machine: Machine<'b>,
    reader: Reader,
    /// Whether packets are acknowledged; a client that trusts its connection ends that.
    acknowledges: bool,
    /// Whether the client wants the number of a process in front of a thread's.
    names_processes: bool,
}

/// Serves a client until it is gone. Whatever stands behind is told then.
pub(super) fn serve(client: &mut Client<'_>, behind: &mut dyn Behind, cancel: &Cancel) -> Result<Left> {
    let (machine, reader) = (Machine::new(behind), Reader::default());
    let mut session = Session { client, machine, reader, acknowledges: true, names_processes: false };
    let left = session.run(cancel);
    session.machine.behind.left()?;
    left
}

impl<'b> Session<'_, '_, 'b> {
    fn run(&mut self, cancel: &Cancel) -> Result<Left> {
        let stub = GdbStubBuilder::new(Output::default()).packet_buffer_size(LONGEST + 4).build();
        let started = stub.map_err(|error| Error::host(error.to_string()))?.run_state_machine(&mut self.machine);
        let mut stub = match ended(started)? {
            Ok(stub) => stub,
            Err(left) => return Ok(left),
        };
        loop {
            cancel.check()?;
            let next = match stub {
                GdbStubStateMachine::Disconnected(stub) => return Ok(why_left(stub.get_reason())),
                GdbStubStateMachine::CtrlCInterrupt(stub) => {
                    self.machine.behind.interrupt()?;
                    ended(stub.interrupt_handled(&mut self.machine, None::<gdbstub::stub::MultiThreadStopReason<u64>>))?
                }
                GdbStubStateMachine::Running(running) => match self.machine.behind.wait(TICK)? {
                    Some(halt) => {
                        let mut running = running;
                        tell(&halt, running.borrow_conn());
                        ended(running.report_stop(&mut self.machine, reason(&halt)))?
                    }
                    None => self.listen(running.into(), Duration::ZERO)?,
                },
                idle @ GdbStubStateMachine::Idle(_) => self.listen(idle, TICK)?,
            };
            stub = match next {
                Ok(stub) => stub,
                Err(left) => return Ok(left),
            };
            if let Err(left) = self.send(&mut stub) {
                return Ok(left);
            }
        }
    }

    /// Takes in what the client has sent, if it has by then.
    fn listen(&mut self, mut stub: Stub<'b>, patience: Duration) -> Result<Step<'b>> {
        if self.client.wait(patience)? == Awaited::Nothing {
            return Ok(Ok(stub));
        }
        let mut buffer = [0; 4096];
        let count = match self.client.stream.read(&mut buffer) {
            Ok(0) => return Ok(Err(Left::Lost("it closed the connection".into()))),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Ok(Err(Left::Lost(error.to_string()))),
        };
        for byte in &buffer[..count] {
            let Some(sent) = self.reader.push(*byte) else { continue };
            stub = match self.take(stub, sent)? {
                Ok(stub) => stub,
                Err(left) => return Ok(Err(left)),
            };
        }
        Ok(Ok(stub))
    }

    fn take(&mut self, mut stub: Stub<'b>, sent: Sent) -> Result<Step<'b>> {
        match sent {
            Sent::Interrupt => self.feed(stub, &[3]),
            Sent::Broken => {
                if self.acknowledges
                    && let Some(output) = output(&mut stub)
                {
                    output.0.push(b'-');
                }
                Ok(Ok(stub))
            }
            Sent::Packet(body) => {
                if body == b"?" {
                    return self.tell_where(stub);
                }
                if let Some(answer) = self.own(&body) {
                    self.answer(&mut stub, &answer);
                    return Ok(Ok(stub));
                }
                let stub = self.feed(stub, &packets::frame(&body));
                // It is acknowledged itself.
                self.acknowledges &= body != b"QStartNoAckMode";
                stub
            }
        }
    }

    /// Answers where it stands. gdbstub would say the first thread of all; and it goes on with the thread that was chosen last,
    /// where GDB takes for chosen what it is answered.
    fn tell_where(&mut self, mut stub: Stub<'b>) -> Result<Step<'b>> {
        let thread = self.machine.behind.halted().cpu + 1;
        let said = output(&mut stub).map_or(0, |output| output.0.len());
        let mut stub = match self.feed(stub, &packets::packet(&format!("Hg{thread:x}")))? {
            Ok(stub) => stub,
            Err(left) => return Ok(Err(left)),
        };
        if let Some(output) = output(&mut stub) {
            output.0.truncate(said);
        }
        let process = if self.names_processes { "p1." } else { "" };
        self.answer(&mut stub, &format!("T05thread:{process}{thread:x};"));
        Ok(Ok(stub))
    }

    fn answer(&self, stub: &mut Stub<'b>, answer: &str) {
        if let Some(output) = output(stub) {
            output.0.extend(self.acknowledges.then_some(b'+'));
            output.0.extend(packets::packet(answer));
        }
    }

    /// The answer to a packet that is none of gdbstub's business.
    fn own(&mut self, body: &[u8]) -> Option<String> {
        self.names_processes |= body.starts_with(b"qSupported") && contains(body, b"multiprocess+");
        let answer = match body {
            b"" => UNKNOWN,
            // As QEMU has it: whether addresses are physical.
            b"qqemu.PhyMemMode" if self.machine.physical => "1",
            b"qqemu.PhyMemMode" => "0",
            b"Qqemu.PhyMemMode:0" | b"Qqemu.PhyMemMode:1" => {
                self.machine.physical = body.ends_with(b"1");
                "OK"
            }
            // That all threads are meant: a machine runs with all its CPUs, whatever was chosen. gdbstub cannot step then, and
            // ends where that is said of registers.
            b"Hc-1" | b"Hcp1.-1" | b"Hcp-1.-1" | b"Hg-1" | b"Hgp1.-1" | b"Hgp-1.-1" => "OK",
            // It would wait for a machine that stands.
            _ if packets::read_length(body).is_some_and(|length| length > LONGEST as u64 / 2) => INVALID,
            _ => return None,
        };
        Some(answer.into())
    }

    /// Gives gdbstub bytes, which are a packet.
    fn feed(&mut self, mut stub: Stub<'b>, bytes: &[u8]) -> Result<Step<'b>> {
        for byte in bytes {
            let next = match stub {
                GdbStubStateMachine::Idle(idle) => idle.incoming_data(&mut self.machine, *byte),
                GdbStubStateMachine::Running(running) => running.incoming_data(&mut self.machine, *byte),
                other => return Ok(Ok(other)),
            };
            stub = match ended(next)? {
                Ok(stub) => stub,
                Err(left) => return Ok(Err(left)),
            };
        }
        // Before anything else is fed, a client's interrupt has to be attended to.
        if let GdbStubStateMachine::CtrlCInterrupt(interrupted) = stub {
            self.machine.behind.interrupt()?;
            let none = None::<gdbstub::stub::MultiThreadStopReason<u64>>;
            return ended(interrupted.interrupt_handled(&mut self.machine, none));
        }
        Ok(Ok(stub))
    }

    /// Sends the client what there is for it.
    fn send(&mut self, stub: &mut Stub<'b>) -> std::result::Result<(), Left> {
        let Some(output) = output(stub) else { return Ok(()) };
        let bytes = std::mem::take(&mut output.0);
        self.client.stream.write_all(&bytes).map_err(|error| Left::Lost(error.to_string()))
    }
}

fn contains(body: &[u8], words: &[u8]) -> bool {
    body.windows(words.len()).any(|part| part == words)
}

fn output<'a>(stub: &'a mut Stub<'_>) -> Option<&'a mut Output> {
    Some(match stub {
        GdbStubStateMachine::Idle(stub) => stub.borrow_conn(),
        GdbStubStateMachine::Running(stub) => stub.borrow_conn(),
        GdbStubStateMachine::CtrlCInterrupt(stub) => stub.borrow_conn(),
        GdbStubStateMachine::Disconnected(stub) => stub.borrow_conn(),
    })
}

/// What the person at the client is told of a stop comes before the client hears of it.
fn tell(halt: &Halt, output: &mut Output) {
    if let Some(note) = &halt.note {
        output.0.extend(packets::console(&format!("{note}\n")));
    }
}

/// Tells an error of what stands behind from one of the client's making.
fn ended<'b>(step: std::result::Result<Stub<'b>, GdbStubError<Error, Infallible>>) -> Result<Step<'b>> {
    match step {
        Ok(stub) => Ok(Ok(stub)),
        Err(error) => {
            let words = error.to_string();
            match error.into_target_error() {
                Some(error) => Err(error),
                None => Ok(Err(Left::Lost(words))),
            }
        }
    }
}

fn why_left(reason: DisconnectReason) -> Left {
    match reason {
        DisconnectReason::Disconnect | DisconnectReason::Kill => Left::Detached,
        DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => Left::Gone,
    }
}
