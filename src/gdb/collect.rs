//! What a hit shows: asks GDB for the stack, every frame's variables, the task and the context, in few round trips.

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::answer::Answer;
use super::client::{Gdb, Stop};
use super::command;
use super::memory::{Direct, Still};
use super::mi::number;
use super::objects;
use super::program::{Place, Program};
use super::stack::{Piece, Reader, Stack};
use super::syscall;
use super::types::Types;
use super::variables;
use crate::decode::Follower;
use crate::error::Result;
use crate::event::{Cancel, millis};
use crate::layout::Layouts;
use crate::memory::Ram;
use crate::recipe::types::ProbeSpec;
use crate::report::model::{Changed, Context, Cost, Frame, Hit, Task, Var};

/// Where this kernel keeps its per-CPU facts; the names moved between versions, so they are asked for once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PerCpu {
    current_task: Option<&'static str>,
    preempt_count: Option<&'static str>,
    interrupt_stack: Option<&'static str>,
}

/// A variable of GDB's that points to a task. Whenever an expression names a structure, GDB looks for it again, which takes
/// ten times as long as all the rest of a hit's facts.
const TASK: &str = "$kdbg_task";
const SET_TASK: &str = "-gdb-set var $kdbg_task = (struct task_struct *)0";

/// The same, with the structure as the file of a probe has it: GDB has read that, and need not read another.
fn set_task_near(address: &str) -> String {
    let python = format!(
        "python task = gdb.lookup_type('struct task_struct', gdb.block_for_pc({address})); assert task.fields(); \
         gdb.set_convenience_variable('kdbg_task', gdb.Value(0).cast(task.pointer()))"
    );
    command::console(&python)
}

/// Names of the current task's per-CPU variable: up to 6.1 and from 6.15, and in between.
const CURRENT_TASK: [&str; 2] = ["current_task", "pcpu_hot.current_task"];
/// Names of the preemption count's per-CPU variable.
const PREEMPT_COUNT: [&str; 2] = ["__preempt_count", "pcpu_hot.preempt_count"];
/// Names of the per-CPU pointer to the top of the interrupt stack.
const INTERRUPT_STACK: [&str; 2] = ["hardirq_stack_ptr", "pcpu_hot.hardirq_stack_ptr"];

impl PerCpu {
    /// Finds the names in the program that GDB has loaded.
    fn find(gdb: &mut Gdb, cancel: &Cancel) -> Result<PerCpu> {
        // One after the other: a name that GDB does not know it looks for everywhere.
        let mut first_known = |names: [&'static str; 2]| -> Result<Option<&'static str>> {
            for name in names {
                if gdb.ask(&command::evaluate(&format!("&{name}")), cancel)?.value().is_some() {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        };
        Ok(PerCpu {
            current_task: first_known(CURRENT_TASK)?,
            preempt_count: first_known(PREEMPT_COUNT)?,
            interrupt_stack: first_known(INTERRUPT_STACK)?,
        })
    }

    /// An expression for the current task of `cpu`.
    fn task(&self, cpu: u32) -> Option<String> {
        let name = self.current_task?;
        Some(format!("((__typeof__({TASK}))*(unsigned long *)((unsigned long)&{name} + __per_cpu_offset[{cpu}]))"))
    }

    fn preempt_count(&self, cpu: u32) -> Option<String> {
        let name = self.preempt_count?;
        Some(format!("*(int *)((unsigned long)&{name} + __per_cpu_offset[{cpu}])"))
    }
}

/// The context that a preemption count tells; the bits are those of `include/linux/preempt.h`.
fn context(preempt_count: u64) -> Context {
    const NMI: u64 = 0x00f0_0000;
    const HARDIRQ: u64 = 0x000f_0000;
    const SERVING_SOFTIRQ: u64 = 0x0000_0100;
    if preempt_count & NMI != 0 {
        Context::Nmi
    } else if preempt_count & HARDIRQ != 0 {
        Context::Hardirq
    } else if preempt_count & SERVING_SOFTIRQ != 0 {
        Context::Softirq
    } else {
        Context::Process
    }
}

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

/// Collects hits. Remembers what does not change between them.
#[derive(Debug)]
pub struct Collector<'a> {
    /// Where names and files are looked up.
    pub program: Program<'a>,
    layouts: Layouts,
    per_cpu: PerCpu,
    stacks: Reader,
    direct: Direct,
    /// Which packets are the same one.
    packets: Follower,
    complained: BTreeSet<(String, String)>,
    complaints: Vec<String>,
}

impl<'a> Collector<'a> {
    /// A collector for the program that GDB has loaded; `patterned` if some of it is
    /// [debuggable](crate::recipe::kernel::KernelSpec::debuggable).
    pub fn new(program: Program<'a>, layouts: Layouts, patterned: bool) -> Self {
        let stacks = Reader { interrupt_stack: None, patterned, storage: BTreeMap::new(), types: Types::default() };
        Collector {
            program,
            layouts,
            per_cpu: PerCpu::default(),
            stacks,
            direct: Direct::default(),
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
        let near = address.map(|address| gdb.ask(&set_task_near(address), cancel)).transpose()?;
        if !matches!(near, Some(Answer::Done(..))) {
            gdb.ask(SET_TASK, cancel)?;
        }
        self.per_cpu = PerCpu::find(gdb, cancel)?;
        self.stacks.interrupt_stack = self.per_cpu.interrupt_stack;
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
        let facts = self.fact_expressions(cpu);
        let mut commands = vec![innermost.list()];
        commands.extend(facts.iter().map(|fact| evaluate(thread, fact.as_deref().unwrap_or("0/0"))));
        let registers = self.direct.command(thread);
        let asks_registers = registers.is_some();
        commands.extend(registers);
        commands.extend(probe.show.values().map(|expression| evaluate(thread, expression)));
        let mut answers = gdb.batch(&commands, cancel)?.into_iter();
        let list = answers.next().map(Answer::ok).and_then(std::result::Result::ok).unwrap_or_default();
        let facts: Vec<Answer> = answers.by_ref().take(facts.len()).collect();
        let registers = answers.by_ref().take(usize::from(asks_registers)).next().and_then(|answer| answer.ok().ok());
        let registers = registers.and_then(|values| self.direct.cpu(&values));
        let answers: Vec<(&String, Answer)> = probe.show.keys().zip(answers).collect();
        answers.iter().for_each(|(name, answer)| self.complain(&probe.name, "show", name, answer));
        let shown = answers.into_iter().map(|(name, answer)| shown(name, answer)).collect();
        let Stack { mut frames, cut, called, interrupted } =
            self.stacks.read(gdb, &self.program, innermost, &list, cancel)?;
        if let (Some(place), Some(frame)) = (entry, frames.first_mut().filter(|frame| frame.offset == Some(0))) {
            (frame.file, frame.line) = (Some(place.file.clone()), Some(place.line));
        }
        let function = |address| self.program.symbols.containing(address).map(|holder| holder.name().to_string());
        let returned = call.and_then(|call| call.value);
        let arguments = call.map_or(&[][..], |call| call.arguments);
        let of_call = returned.into_iter().chain(arguments).map(|var| (var.name.clone(), var));
        let variables = of_call.chain(objects::variables(&frames));
        let seen = registers.map(|registers| self.direct.seen_by(&registers, gdb, cancel)).transpose()?.flatten();
        let mut memory = Still::new(seen, gdb, cancel);
        let decoded = objects::decode(&mut memory, &self.layouts, &mut self.packets, &function, variables);
        let syscall = called.and_then(|called| syscall::read(&mut memory, &frames, &called));
        memory.end()?;
        Ok(Hit {
            index,
            probe: probe.name.clone(),
            cpu,
            task: task(&facts),
            context: facts[3].value().and_then(number_or_negative).map(context),
            jiffies: facts[4].value().and_then(number),
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
            cost: Cost { stop_us: 0, collect_us: micros(start) },
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

    /// comm, pid, tgid, preemption count, jiffies.
    fn fact_expressions(&self, cpu: u32) -> [Option<String>; 5] {
        let task = self.per_cpu.task(cpu);
        let member = |name: &str| task.as_ref().map(|task| format!("{task}->{name}"));
        [member("comm"), member("pid"), member("tgid"), self.per_cpu.preempt_count(cpu), Some("jiffies_64".into())]
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

fn task(facts: &[Answer]) -> Task {
    let signed = |answer: &Answer| answer.value().and_then(|value| value.parse().ok());
    Task { comm: facts[0].value().map(variables::unquote), pid: signed(&facts[1]), tgid: signed(&facts[2]) }
}

/// The count's top bit ("no reschedule needed") makes it negative as an int.
fn number_or_negative(text: &str) -> Option<u64> {
    text.parse::<i32>().ok().map(|value| u64::from(value.cast_unsigned()))
}

fn micros(since: Instant) -> u64 {
    let elapsed = since.elapsed();
    u64::try_from(elapsed.as_micros()).unwrap_or_else(|_| millis(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preemption_count_tells_the_context() {
        let cases = [
            (0x8000_0000, Context::Process),
            (0x8000_0200, Context::Process), // softirqs disabled, not served
            (0x8000_0101, Context::Softirq),
            (0x8001_0101, Context::Hardirq),
            (0x8011_0000, Context::Nmi),
        ];
        for (count, expected) in cases {
            assert_eq!(context(count), expected, "{count:#x}");
        }
        assert_eq!(number_or_negative("-2147483391"), Some(0x8000_0101));
    }
}
