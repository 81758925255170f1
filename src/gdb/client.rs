//! GDB as a child that is spoken to in MI: commands with tokens, answers with deadlines, stops as they come.
//!
//! Commands may be pipelined: [`Gdb::batch`] sends many before it reads the first answer. Everything both sides say goes
//! into gdb-mi.log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::answer::Answer;
use super::mi::{self, Record, Values};
pub use super::stop::Stop;
use crate::error::{Error, IoContext, Result};
use crate::event::Cancel;
use crate::process::{Child, describe};

/// How long one command may take. The slowest, the first look at an unindexed vmlinux, takes five seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a wait looks whether kdbg should stop.
const TICK: Duration = Duration::from_millis(50);

/// What the reader thread passes on.
#[derive(Debug)]
pub struct Incoming(Heard);

#[derive(Debug)]
enum Heard {
    Record(Record, Instant),
    /// A line that is not MI.
    Garbage(String),
    Closed,
}

/// Commands that GDB was sent.
#[derive(Debug)]
pub struct Asked {
    first: u64,
    commands: Vec<String>,
}

/// A running GDB.
#[derive(Debug)]
pub struct Gdb {
    stdin: ChildStdin,
    child: Child,
    incoming: Receiver<Incoming>,
    log: SharedLog,
    next_token: u64,
    /// The last token whose answer nobody needs.
    posted: u64,
    stops: VecDeque<Stop>,
    console: String,
    garbage: Vec<String>,
    /// [`PATIENCE`]; less in tests.
    patience: Duration,
}

type SharedLog = Arc<Mutex<File>>;

impl Gdb {
    /// Starts GDB; it has not been asked anything yet.
    ///
    /// # Errors
    /// GDB is missing or cannot be executed.
    pub fn start(program: &Path, log: &Path) -> Result<Gdb> {
        let log = Arc::new(Mutex::new(File::create(log).or_host(format!("make {}", log.display()))?));
        // No file of the user's or of the kernel tree's may run commands here.
        let args =
            ["-nx", "-q", "--interpreter=mi3", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"];
        let args: Vec<_> = args.iter().map(Into::into).collect();
        let (child, pipes) = Child::spawn("GDB", program, &args, None)
            .map_err(|error| Error { kind: crate::error::ErrorKind::Debugger, ..error })?;
        let (sender, incoming) = unbounded();
        read_lines(pipes.stdout, sender, Arc::clone(&log));
        log_errors(pipes.stderr, Arc::clone(&log));
        Ok(Gdb {
            stdin: pipes.stdin,
            child,
            incoming,
            log,
            next_token: 1,
            posted: 0,
            stops: VecDeque::new(),
            console: String::new(),
            garbage: Vec::new(),
            patience: PATIENCE,
        })
    }

    /// Sends one command, waits for its answer.
    ///
    /// # Errors
    /// GDB died, hung, or talks nonsense. A refusal is an [`Answer`].
    pub fn ask(&mut self, command: &str, cancel: &Cancel) -> Result<Answer> {
        let mut answers = self.batch(std::slice::from_ref(&command), cancel)?;
        answers.pop().ok_or_else(|| Error::debugger("GDB gave no answer"))
    }

    /// Sends one command that must not be refused.
    ///
    /// # Errors
    /// As [`Gdb::ask`], or GDB refused.
    pub fn must(&mut self, command: &str, cancel: &Cancel) -> Result<Values> {
        let answer = self.ask(command, cancel)?;
        answer.ok().map_err(|why| Error::debugger(format!("GDB refused `{command}`: {why}")))
    }

    /// Sends all commands at once, waits for all answers, in order.
    ///
    /// # Errors
    /// As [`Gdb::ask`].
    pub fn batch<S: AsRef<str>>(&mut self, commands: &[S], cancel: &Cancel) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(commands.len());
        // In bites, so that neither pipe can fill up while the other side waits.
        for bite in commands.chunks(64) {
            let asked = self.begin(bite.iter().map(|command| command.as_ref().to_string()).collect())?;
            answers.extend(self.answers(&asked, cancel)?);
        }
        Ok(answers)
    }

    /// Sends commands; their answers are waited for [later](Gdb::answers). They must be few enough for a pipe.
    ///
    /// # Errors
    /// GDB died.
    pub fn begin(&mut self, commands: Vec<String>) -> Result<Asked> {
        let first = self.send(&commands)?;
        Ok(Asked { first, commands })
    }

    /// Waits for the answers to commands that were sent before, in order.
    ///
    /// # Errors
    /// As [`Gdb::ask`].
    pub fn answers(&mut self, asked: &Asked, cancel: &Cancel) -> Result<Vec<Answer>> {
        (asked.first..).zip(&asked.commands).map(|(token, command)| self.answer(token, command, cancel)).collect()
    }

    /// Sends commands whose answers nobody needs. GDB takes them up when it has nothing else to do.
    ///
    /// # Errors
    /// GDB died.
    pub fn post<S: AsRef<str>>(&mut self, commands: &[S]) -> Result<()> {
        self.send(commands)?;
        self.posted = self.next_token - 1;
        Ok(())
    }

    fn send<S: AsRef<str>>(&mut self, commands: &[S]) -> Result<u64> {
        let first = self.next_token;
        let mut text = String::new();
        for command in commands {
            text.push_str(&format!("{}{}\n", self.next_token, command.as_ref()));
            self.next_token += 1;
        }
        note(&self.log, "> ", &text);
        match self.stdin.write_all(text.as_bytes()) {
            Ok(()) => Ok(first),
            Err(_) => Err(self.post_mortem()),
        }
    }

    fn answer(&mut self, token: u64, command: &str, cancel: &Cancel) -> Result<Answer> {
        let deadline = Instant::now() + self.patience;
        loop {
            cancel.check()?;
            let wait = TICK.min(deadline.saturating_duration_since(Instant::now()));
            match self.incoming.recv_timeout(wait) {
                Ok(Incoming(Heard::Record(Record::Result { token: Some(found), class, values }, _)))
                    if found == token =>
                {
                    let said = std::mem::take(&mut self.console);
                    return Ok(match class.as_str() {
                        "error" => Answer::Refused(values.text("msg").unwrap_or("no reason given").into()),
                        _ => Answer::Done(values, said),
                    });
                }
                Ok(other) => self.take(other)?,
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.hung(command)),
                Err(RecvTimeoutError::Disconnected) => return Err(self.post_mortem()),
            }
        }
    }

    fn hung(&self, command: &str) -> Error {
        let last = self.garbage.last().map(|line| format!("; it last said `{line}`")).unwrap_or_default();
        let patience = humantime::format_duration(self.patience);
        Error::debugger(format!("GDB did not answer `{command}` within {patience}{last}"))
            .hint("gdb-mi.log in the run directory has everything that was said")
    }

    /// What GDB says by itself; to be waited for together with other channels and given to [`Gdb::take`].
    pub fn incoming(&self) -> &Receiver<Incoming> {
        &self.incoming
    }

    /// Takes in what GDB said by itself. Stops are queued for [`Gdb::next_stop`].
    ///
    /// # Errors
    /// GDB has died, or what it says is no MI at all.
    pub fn take(&mut self, incoming: Incoming) -> Result<()> {
        match incoming.0 {
            Heard::Record(Record::Async { kind: '*', class, values }, at) if class == "stopped" => {
                self.console.clear();
                self.stops.push_back(Stop::read(&values, at));
            }
            Heard::Record(Record::Stream { kind: '~' | '&', text }, _) => self.console.push_str(&text),
            Heard::Record(..) => {}
            Heard::Garbage(line) => {
                self.garbage.push(line);
                if self.garbage.len() > 100 {
                    let first = self.garbage.first().cloned().unwrap_or_default();
                    return Err(Error::debugger(format!("GDB does not speak MI; it said `{first}`"))
                        .hint("is `gdb` on PATH really GDB? `kdbg doctor` shows which one is used"));
                }
            }
            Heard::Closed => return Err(self.post_mortem()),
        }
        Ok(())
    }

    /// Waits for the stop that must come: the target was just told to do a bounded thing.
    ///
    /// # Errors
    /// As [`Gdb::ask`].
    pub fn wait_stop(&mut self, doing: &str, cancel: &Cancel) -> Result<Stop> {
        self.stop_within(self.patience, doing, cancel)?.ok_or_else(|| self.hung(doing))
    }

    /// Waits for a stop that may come, for this long.
    ///
    /// # Errors
    /// As [`Gdb::ask`], but that it hung.
    pub fn stop_within(&mut self, patience: Duration, doing: &str, cancel: &Cancel) -> Result<Option<Stop>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(stop) = self.stops.pop_front() {
                return Ok(Some(stop));
            }
            cancel.check()?;
            match self.incoming.recv_timeout(TICK) {
                // The command was answered with `^running`; an error that follows means that no stop will.
                Ok(Incoming(Heard::Record(Record::Result { token, class, values }, _)))
                    if class == "error" && token.is_none_or(|token| token > self.posted) =>
                {
                    let why = values.text("msg").unwrap_or("no reason given");
                    return Err(Error::debugger(format!("GDB gave up `{doing}`: {why}")));
                }
                Ok(incoming) => self.take(incoming)?,
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(self.post_mortem()),
            }
        }
    }

    /// The next stop that came in.
    pub fn next_stop(&mut self) -> Option<Stop> {
        self.stops.pop_front()
    }

    fn post_mortem(&mut self) -> Error {
        // Its last words may still be on their way.
        while let Ok(Incoming(heard)) = self.incoming.recv_timeout(4 * TICK) {
            match heard {
                Heard::Garbage(line) => self.garbage.push(line),
                Heard::Record(Record::Stream { text, .. }, _) => self.console.push_str(&text),
                Heard::Record(..) => {}
                Heard::Closed => break,
            }
        }
        let how = self.child.wait(Duration::from_secs(2)).map_or("it closed its output".into(), describe);
        let last = self.garbage.last().cloned().or_else(|| self.console.lines().next_back().map(String::from));
        let words = last.map(|line| format!("; its last words: {line}")).unwrap_or_default();
        Error::debugger(format!("GDB ended before its time ({how}){words}"))
            .hint("gdb-mi.log in the run directory has everything that was said")
    }

    /// Ends GDB. The guest is not told: it is ended by its owner.
    pub fn stop(mut self) {
        self.child.kill();
    }
}

fn note(log: &SharedLog, mark: &str, text: &str) {
    if let Ok(mut file) = log.lock() {
        let lines: String = text.lines().map(|line| format!("{mark}{line}\n")).collect();
        let _ = file.write_all(lines.as_bytes());
    }
}

fn read_lines(stdout: std::process::ChildStdout, sender: Sender<Incoming>, log: SharedLog) {
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 16, stdout);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&line);
            note(&log, "< ", &text);
            let heard = match mi::parse(&text) {
                Ok(record) => Heard::Record(record, Instant::now()),
                Err(_) => Heard::Garbage(text.trim_end().into()),
            };
            if sender.send(Incoming(heard)).is_err() {
                return;
            }
            line.clear();
        }
        let _ = sender.send(Incoming(Heard::Closed));
    });
}

fn log_errors(stderr: std::process::ChildStderr, log: SharedLog) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(std::io::Result::ok) {
            note(&log, "! ", &String::from_utf8_lossy(&line));
        }
    });
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::ErrorKind;

    /// A GDB that is this script, in a folder that has the log too.
    pub(in crate::gdb) fn fake(script: &str) -> (tempfile::TempDir, Gdb) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("gdb");
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut gdb = Gdb::start(&program, &folder.path().join("gdb-mi.log")).unwrap();
        gdb.patience = Duration::from_secs(1);
        (folder, gdb)
    }

    #[test]
    fn a_gdb_that_never_answers_is_given_up_with_its_last_words() {
        let (_folder, mut gdb) = fake("echo 'I am busy'\nexec sleep 1000");
        let error = gdb.ask("-gdb-version", &Cancel::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Debugger);
        assert_eq!(error.message, "GDB did not answer `-gdb-version` within 1s; it last said `I am busy`");
    }

    #[test]
    fn a_step_whose_target_is_gone_is_no_wait_for_a_stop() {
        let (_folder, mut gdb) =
            fake("read line\necho '1^running'\necho '1^error,msg=\"Command aborted.\"'\nexec sleep 1000");
        gdb.must("-exec-step-instruction", &Cancel::default()).unwrap();
        let error = gdb.wait_stop("-exec-step-instruction", &Cancel::default()).unwrap_err();
        assert_eq!(error.message, "GDB gave up `-exec-step-instruction`: Command aborted.");
    }
}
