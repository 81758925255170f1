//! `kdbg shell`: a guest that is set up as a recipe says, with nobody in it but a person at a terminal.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use super::boot::{self, Boot, Parts};
use super::debug::Visited;
use super::journal::Journal;
use super::{Order, image, modules, nonce, obtain_kernel, setup};
use crate::error::{Error, IoContext, Result};
use crate::guest::console::incident::Seen;
use crate::guest::{Guest, GuestEvent};
use crate::kernel::KernelBuild;

/// What a person types to leave the guest: Ctrl-].
pub const ESCAPE: u8 = 0x1d;
/// What a terminal sends when the input ends.
const END_OF_INPUT: u8 = 0x04;

/// How often the end of the input is told to whoever reads it in the guest.
const INSIST: Duration = Duration::from_millis(500);

/// A terminal's size in rows and columns.
pub type Size = (u16, u16);

/// What comes from the person.
#[derive(Debug)]
pub enum Typed {
    /// Bytes.
    Bytes(Vec<u8>),
    /// There will be no more.
    End,
    /// The terminal has another size now.
    Resized(Size),
}

/// A guest with a shell at its terminal.
#[derive(Debug)]
pub struct Shell {
    guest: Guest,
    terminal: UnixStream,
    id: String,
    /// Debuggers come to this guest: it goes on when there is no more input, and whatever its kernel complains about.
    pub(super) visited: Option<Visited>,
    /// It was told that the guest has shut down.
    is_over: bool,
    /// It was told what the guest's kernel complains of.
    has_complained: bool,
}

/// How it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The shell ended, with this exit code.
    Exited(i32),
    /// By the escape.
    Escaped,
}

impl Shell {
    /// Forks or boots the guest of the order, sets up its topology and starts a shell in it.
    ///
    /// # Errors
    /// As those of a run before its first step.
    pub fn open(order: &Order<'_>, size: Option<Size>, term: &str) -> Result<Shell> {
        Self::open_to(order, size, term, |_, _, _| Ok(())).map(|(shell, ())| shell)
    }

    /// The same, with a guest that is open to others too: `admit` lets them in before its first instruction if the order wants
    /// that, else when it is set up.
    pub(super) fn open_to<T>(
        order: &Order<'_>,
        size: Option<Size>,
        term: &str,
        admit: impl FnOnce(&mut Guest, &KernelBuild, &mut Journal<'_>) -> Result<T>,
    ) -> Result<(Shell, T)> {
        let mut journal = Journal::new(order);
        let packages = image::obtain_packages(order)?;
        let kernel = obtain_kernel(order)?;
        let modules = modules::choose(order, &kernel)?;
        let initramfs = image::build(order, packages.as_ref(), &modules)?;
        let parts = Parts { kernel: &kernel, initramfs: &initramfs, terminal: true };
        let mut boot = boot::start(order, parts, &mut journal)?;
        let up = |boot: &mut Boot, journal: &mut Journal<'_>| {
            boot.finish(order, parts, journal)?;
            setup::run(order, &kernel, &mut boot.guest, journal)
        };
        let admitted = if order.early {
            let admitted = admit(&mut boot.guest, &kernel, &mut journal)?;
            up(&mut boot, &mut journal)?;
            admitted
        } else {
            up(&mut boot, &mut journal)?;
            admit(&mut boot.guest, &kernel, &mut journal)?
        };
        let mut guest = boot.guest;
        let terminal = guest.take_terminal().ok_or_else(|| Error::guest("the guest has no terminal"))?;
        let id = format!("shell-{:08x}", nonce());
        guest.run(&id, &script(size, term), None)?;
        Ok((Shell { guest, terminal, id, visited: None, is_over: false, has_complained: false }, admitted))
    }

    /// Carries bytes between the person and the shell until one of them has enough.
    ///
    /// # Errors
    /// The guest died or halted, or `output` cannot be written.
    pub fn attend(&mut self, input: &Receiver<Typed>, output: &mut impl Write, order: &Order<'_>) -> Result<Left> {
        let shown = read_all(self.terminal.try_clone().or_host("share the terminal")?);
        let mut input = input.clone();
        let (mut exited, mut ended): (_, Option<Instant>) = (None, None);
        // What was told before there was a terminal.
        self.visited.iter().for_each(|visited| visited.notices.try_iter().for_each(drop));
        loop {
            order.cancel.check()?;
            self.look(output)?;
            // Again and again: a shell that only just begins to edit its line drops what was typed before.
            if ended.is_some_and(|at| at.elapsed() > INSIST) {
                self.send(&[END_OF_INPUT])?;
                ended = Some(Instant::now());
            }
            select! {
                recv(shown) -> bytes => match bytes {
                    Ok(bytes) => show(output, &bytes)?,
                    Err(_) => return Err(self.guest.post_mortem()),
                },
                recv(input) -> typed => match typed {
                    Ok(Typed::Bytes(bytes)) => match bytes.iter().position(|byte| *byte == ESCAPE) {
                        Some(at) => {
                            self.send(&bytes[..at])?;
                            return Ok(Left::Escaped);
                        }
                        None => self.send(&bytes)?,
                    },
                    Ok(Typed::Resized(size)) => {
                        let id = format!("resize-{:08x}", nonce());
                        self.guest.run(&id, &resize(size), None)?;
                    }
                    Ok(Typed::End) | Err(_) if self.visited.is_some() => input = never(),
                    Ok(Typed::End) | Err(_) => {
                        self.send(&[END_OF_INPUT])?;
                        ended = Some(Instant::now());
                        input = never();
                    }
                },
                recv(self.guest.events()) -> event => match event {
                    Ok(GuestEvent::Exit(id, code)) if id == self.id => exited = Some(code),
                    Ok(GuestEvent::Gone) | Err(_) => return Err(self.guest.post_mortem()),
                    Ok(_) => {}
                },
                default(Duration::from_millis(50)) => if let Some(code) = exited {
                    return Ok(Left::Exited(code));
                },
            }
        }
    }

    /// Looks whether the guest is still of use. One that debuggers come to is for as long as it is there: what there is to
    /// be told is shown then.
    fn look(&mut self, output: &mut impl Write) -> Result<()> {
        let Some(visited) = &self.visited else { return self.guest.check() };
        for notice in visited.notices.try_iter() {
            show(output, told(&notice).as_bytes())?;
        }
        for Seen { kind, text, .. } in self.guest.news() {
            self.has_complained = true;
            show(output, told(&format!("{}: {text}", kind.said())).as_bytes())?;
        }
        // It shuts down a moment after it has said why.
        if !self.is_over && self.guest.has_panicked() && self.guest.is_over()? {
            // A debugger that was there has heard of it, and whoever serves it.
            visited.over.store(true, Ordering::Relaxed);
            self.is_over = true;
            show(output, told("it stands still now; a debugger can look at it, Ctrl-] ends it").as_bytes())?;
        }
        if self.guest.has_ended_itself() { Err(self.guest.post_mortem()) } else { Ok(()) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.terminal.write_all(bytes).map_err(|_| self.guest.post_mortem())
    }

    /// Ends the guest. Gives whether its kernel has complained, told or not.
    pub fn close(mut self) -> bool {
        !self.guest.stop().is_empty() || self.has_complained
    }
}

/// What kdbg says on a terminal that is the guest's.
fn told(text: &str) -> String {
    format!("\r\n[kdbg] {text}\r\n")
}

fn show(output: &mut impl Write, bytes: &[u8]) -> Result<()> {
    output.write_all(bytes).and_then(|()| output.flush()).or_host("write to the terminal")
}

/// A channel of everything that can be read.
fn read_all(mut from: UnixStream) -> Receiver<Vec<u8>> {
    let (sender, receiver): (Sender<Vec<u8>>, _) = unbounded();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the agent runs: a shell whose controlling terminal is /dev/hvc0, because the step leads a session of its own.
/// bash where the image has it: dash edits no lines, and busybox's shell takes its own `ip` and `tc` for the real ones.
fn script(size: Option<Size>, term: &str) -> String {
    let plain = !term.is_empty() && term.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+'));
    let term = if plain { term } else { "dumb" };
    // Once it is open: a terminal that nobody has open forgets its size.
    let size = size.map(resize).unwrap_or_default();
    format!(
        "exec </dev/hvc0 >/dev/hvc0 2>&1\n{size}export TERM={term} PS1='guest:\\w# '\ncd /root\n\
         [ ! -x /bin/bash ] || exec /bin/bash --norc -i\nexec /bin/sh -i\n"
    )
}

fn resize((rows, columns): Size) -> String {
    format!("stty -F /dev/hvc0 rows {rows} columns {columns}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_hosts_terminal_is_more_than_a_name() {
        let usual = script(Some((24, 80)), "xterm-256color");
        assert!(usual.contains("\nstty -F /dev/hvc0 rows 24 columns 80\nexport TERM=xterm-256color PS1="), "{usual}");
        assert!(script(None, "x; reboot").contains("\nexport TERM=dumb PS1="));
    }
}
