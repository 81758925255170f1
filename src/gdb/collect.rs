//! What a hit shows: asks GDB for the stack, every frame's variables, the task and the context, in few round trips.

mod facts;
mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::memory::{Direct, Still};
use super::objects;
use super::program::{Place, Program};
use super::stack::known::{Known, Stopped};
use super::stack::{Piece, Reader, Stack};
use super::syscall;
use super::types::Types;
use super::variables;
use crate::decode::{Follower, Memory};
use crate::error::Result;
use crate::event::{Cancel, millis};
use crate::layout::Layouts;
use crate::memory::Ram;
use crate::recipe::types::ProbeSpec;
use crate::report::model::{Changed, Cost, Frame, Hit, StackReader, Var};
use facts::{Facts, Places};

/// How many frames of a stack are wanted where no recipe says how many.
const DEEP: usize = 64;

/// The probe that a hit belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Probed<'a> {
    /// As the recipe has it.
    pub spec: &'a ProbeSpec,
    /// Where the probed function is declared, if that is known and GDB stands at its entry.
    pub entry: Option<&'a Place>,
    /// The call that has returned, for a probe on a return.
    pub call: Option<Returned<'a>>,
    /// What was written to, for a probe that watches.
    pub changed: Option<&'a Changed>,
}

/// What is known of a call that has returned.
#[derive(Debug, Clone, Copy)]
pub struct Returned<'a> {
    /// What it returned, if it does return something.
    pub value: Option<&'a Var>,
    /// Its arguments, as they were at the entry.
    pub arguments: &'a [Var],
}

/// What a collector has to know of how a kernel was made.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// Whether some of it is [debuggable](crate::recipe::kernel::KernelSpec::debuggable).
    pub patterned: bool,
    /// Whether it counts how often preemption is off.
    pub counts_preemption: bool,
}

/// Collects hits. Remembers what does not change between them.
#[derive(Debug)]
pub struct Collector<'a> {
    /// Where names and files are looked up.
    pub program: Program<'a>,
    layouts: Layouts,
    places: Places,
    stacks: Reader,
    direct: Direct,
    counts_preemption: bool,
    /// What can be read of stacks without GDB; none where a variable that is not set holds a pattern, which GDB's values are
    /// searched for.
    known: Option<Known>,
    /// Which packets are the same one.
    packets: Follower,
    complained: BTreeSet<(String, String)>,
    complaints: Vec<String>,
}

impl<'a> Collector<'a> {
    /// A collector for the program that GDB has loaded from `vmlinux`.
    pub fn new(
        program: Program<'a>,
        vmlinux: &Path,
        layouts: Layouts,
        Traits { patterned, counts_preemption }: Traits,
    ) -> Self {
        let stacks = Reader { interrupt_stack: None, patterned, storage: BTreeMap::new(), types: Types::default() };
        Collector {
            program,
            layouts,
            places: Places::default(),
            stacks,
            direct: Direct::default(),
            counts_preemption,
            known: (!patterned).then(|| Known::new(vmlinux)),
            packets: Follower::default(),
            complained: BTreeSet::new(),
            complaints: Vec::new(),
        }
    }

    /// Finds where the kernel keeps what every hit shows. `address` is one whose file GDB has read already.
    ///
    /// # Errors
    /// GDB failed.
    pub fn prepare(&mut self, gdb: &mut Gdb, address: Option<&str>, cancel: &Cancel) -> Result<()> {
        self.places = Places::find(gdb, address, self.counts_preemption, cancel)?;
        self.stacks.interrupt_stack = self.places.interrupt_stack();
        Ok(())
    }

    /// GDB is connected to a guest, whose memory this is, if it can be read without GDB.
    ///
    /// # Errors
    /// GDB failed.
    pub fn connected(&mut self, gdb: &mut Gdb, ram: Option<Ram>, cancel: &Cancel) -> Result<()> {
        self.direct = Direct::new(gdb, ram, cancel)?;
        Ok(())
    }

    /// GDB has other symbols than before.
    pub fn symbols_changed(&mut self) {
        if let Some(known) = &mut self.known {
            known.forget_names();
        }
    }

    /// What GDB is asked for a CPU's facts at a stop: nothing, where they can be read without it.
    fn facts_to_ask(&self, cpu: u32, thread: u64) -> Vec<String> {
        if self.direct.is_proved() { Vec::new() } else { self.places.commands(cpu, thread) }
    }

    /// Whether `condition` holds at a stop; GDB's words if that cannot be told.
    ///
    /// # Errors
    /// GDB failed.
    pub fn holds(
        &self,
        gdb: &mut Gdb,
        condition: &str,
        stop: &Stop,
        cancel: &Cancel,
    ) -> Result<std::result::Result<bool, String>> {
        let expression = format!("({condition}) ? 1 : 0");
        let answer = gdb.ask(&evaluate(stop.thread.unwrap_or(1), &expression), cancel)?;
        Ok(answer.ok().map(|values| values.text("value") == Some("1")))
    }

    /// What could not be evaluated since the last time, said once for each expression.
    pub fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// `key` is the recipe's: `show`, whose entries have names, or `log`.
    fn complain(&mut self, probe: &str, key: &str, name: &str, answer: &Answer) {
        if let Answer::Refused(why) = answer
            && self.complained.insert((format!("{probe} {key}"), name.into()))
        {
            let entry = if key == "show" { " entry" } else { ":" };
            self.complaints.push(format!("probe `{probe}`: `{key}`{entry} `{name}` cannot be evaluated: {why}"));
        }
    }

    /// The arguments of the function at whose entry GDB stands.
    ///
    /// # Errors
    /// GDB failed.
    pub fn arguments(&mut self, gdb: &mut Gdb, stop: &Stop, cancel: &Cancel) -> Result<Vec<Var>> {
        let thread = stop.thread.unwrap_or(1);
        let cpu = u32::try_from(thread.saturating_sub(1)).unwrap_or(0);
        let innermost = Piece { cpu, thread, base: 0, function: true, limit: 1 };
        let list = gdb.ask(&innermost.list(), cancel)?.ok().unwrap_or_default();
        let stack = self.stacks.read(gdb, &self.program, innermost, &list, cancel)?;
        Ok(stack.frames.into_iter().next().map(|frame| frame.args).unwrap_or_default())
    }

    /// Collects the hit `index` of `probe`, at which GDB stands.
    ///
    /// # Errors
    /// GDB failed. What cannot be read is part of the hit instead.
    pub fn collect(
        &mut self,
        gdb: &mut Gdb,
        probe: Probed<'_>,
        index: u64,
        stop: &Stop,
        cancel: &Cancel,
    ) -> Result<Hit> {
        let Probed { spec: probe, entry, call, changed } = probe;
        let start = Instant::now();
        let thread = stop.thread.unwrap_or(1);
        let cpu = u32::try_from(thread.saturating_sub(1)).unwrap_or(0);
        let limit = usize::try_from(probe.stack).unwrap_or(usize::MAX);
        let innermost = Piece { cpu, thread, base: 0, function: entry.is_some(), limit };
        let asked = Asked {
            facts: self.facts_to_ask(cpu, thread),
            registers: self.direct.command(thread),
            // A stack that is known already need not be listed.
            list: (!self.known.as_ref().is_some_and(|known| known.remembers(&probe.name))).then(|| innermost.list()),
        };
        let mut answers = gdb.batch(&asked.commands(thread, &probe.show), cancel)?.into_iter();
        let facts: Vec<Answer> = answers.by_ref().take(asked.facts.len()).collect();
        let registers = asked.registers.as_ref().and_then(|_| answers.next()?.ok().ok());
        let registers = registers.and_then(|values| self.direct.cpu(&values));
        let list = asked.list.as_ref().and_then(|_| answers.next()?.ok().ok());
        let answers: Vec<(&String, Answer)> = probe.show.keys().zip(answers).collect();
        answers.iter().for_each(|(name, answer)| self.complain(&probe.name, "show", name, answer));
        let shown = answers.into_iter().map(|(name, answer)| shown(name, answer)).collect();
        let mut seen = registers.map(|registers| self.direct.seen_by(&registers, gdb, cancel)).transpose()?.flatten();
        let memory = seen.as_mut().map(|seen| (seen as &mut dyn Memory, &self.layouts));
        let Facts { task, context, depth, jiffies } = self.places.facts(memory, (cpu, thread), facts, gdb, cancel)?;
        let (stacks, program) = (&mut self.stacks, &self.program);
        let read = |gdb: &mut Gdb| {
            let list = match list {
                Some(list) => list,
                None => gdb.ask(&innermost.list(), cancel)?.ok().unwrap_or_default(),
            };
            stacks.read(gdb, program, innermost, &list, cancel)
        };
        let (stack, reader) = match (&mut self.known, &registers, &mut seen) {
            (Some(known), Some(registers), Some(memory)) => {
                let top = self.places.interrupt_stack_of(cpu, memory);
                let stop = Stopped { probe: &probe.name, registers, limit, top, program };
                known.stack(gdb, stop, memory, read, cancel)?
            }
            _ => (read(gdb)?, StackReader::Gdb),
        };
        let Stack { mut frames, cut, called, interrupted } = stack;
        if let (Some(place), Some(frame)) = (entry, frames.first_mut().filter(|frame| frame.offset == Some(0))) {
            (frame.file, frame.line) = (Some(place.file.clone()), Some(place.line));
        }
        let function = |address| self.program.symbols.containing(address).map(|holder| holder.name().to_string());
        let returned = call.and_then(|call| call.value);
        let arguments = call.map_or(&[][..], |call| call.arguments);
        let of_call = returned.into_iter().chain(arguments).map(|var| (var.name.clone(), var));
        let variables = of_call.chain(objects::variables(&frames));
        let mut memory = Still::new(seen, gdb, cancel);
        let decoded = objects::decode(&mut memory, &self.layouts, &mut self.packets, &function, variables);
        let syscall = called.and_then(|called| syscall::read(&mut memory, &frames, &called));
        memory.end()?;
        Ok(Hit {
            index,
            probe: probe.name.clone(),
            cpu,
            task,
            context,
            depth,
            jiffies,
            syscall,
            interrupted,
            frames,
            cut,
            shown,
            decoded,
            returned: returned.cloned(),
            arguments: arguments.to_vec(),
            message: None,
            changed: changed.cloned(),
            altered: Vec::new(),
            cost: Cost { stop_us: 0, collect_us: micros(start), stack: Some(reader) },
        })
    }

    /// The stack of a CPU, wherever it stands.
    ///
    /// # Errors
    /// GDB failed.
    pub fn stack(&mut self, gdb: &mut Gdb, cpu: u32, cancel: &Cancel) -> Result<Vec<Frame>> {
        let innermost = Piece { cpu, thread: u64::from(cpu) + 1, base: 0, function: false, limit: DEEP };
        let list = gdb.ask(&innermost.list(), cancel)?.ok().unwrap_or_default();
        Ok(self.stacks.read(gdb, &self.program, innermost, &list, cancel)?.frames)
    }
}

/// What GDB is asked at a stop before anything else.
struct Asked {
    facts: Vec<String>,
    registers: Option<String>,
    list: Option<String>,
}

impl Asked {
    /// In the order of the answers: facts, registers and frames, as far as they are asked for, and what the recipe shows.
    fn commands(&self, thread: u64, show: &BTreeMap<String, String>) -> Vec<String> {
        let all = self.facts.iter().chain(&self.registers).chain(&self.list).cloned();
        all.chain(show.values().map(|expression| evaluate(thread, expression))).collect()
    }
}

fn evaluate(thread: u64, expression: &str) -> String {
    command::evaluate_at(thread, 0, expression)
}

fn shown(name: &str, answer: Answer) -> Var {
    let raw = match answer {
        Answer::Done(values, _) => values.text("value").unwrap_or_default().to_string(),
        Answer::Refused(why) => format!("<error: {why}>"),
    };
    variables::var(name, None, Some(&raw))
}

fn micros(since: Instant) -> u64 {
    let elapsed = since.elapsed();
    u64::try_from(elapsed.as_micros()).unwrap_or_else(|_| millis(elapsed))
}
