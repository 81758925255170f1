//! What a hit shows: asks GDB for the stack, every frame's variables, the task and the context, in few round trips.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::answer::Answer;
use super::breakpoints::{Place, Program};
use super::client::{Gdb, Stop};
use super::mi::{self, Values, number};
use super::variables::{self, KERNEL_HALF, RawVariable, Storage};
use crate::error::Result;
use crate::event::{Cancel, millis};
use crate::recipe::types::ProbeSpec;
use crate::report::model::{Context, Cost, Frame, Hit, Task, Var, Why};

/// Where this kernel keeps its per-CPU facts; the names moved between versions, so they are asked for once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerCpu {
    current_task: Option<&'static str>,
    preempt_count: Option<&'static str>,
}

/// Names of the current task's per-CPU variable: up to 6.1 and from 6.15, and in between.
const CURRENT_TASK: [&str; 2] = ["current_task", "pcpu_hot.current_task"];
/// Names of the preemption count's per-CPU variable.
const PREEMPT_COUNT: [&str; 2] = ["__preempt_count", "pcpu_hot.preempt_count"];

impl PerCpu {
    /// Finds the names in the program that GDB has loaded.
    ///
    /// # Errors
    /// GDB failed.
    pub fn find(gdb: &mut Gdb, cancel: &Cancel) -> Result<PerCpu> {
        let mut first_known = |names: [&'static str; 2]| -> Result<Option<&'static str>> {
            let commands = names.map(|name| format!("-data-evaluate-expression \"&{name}\""));
            let answers = gdb.batch(&commands, cancel)?;
            Ok(names.into_iter().zip(answers).find(|(_, answer)| answer.value().is_some()).map(|(name, _)| name))
        };
        Ok(PerCpu { current_task: first_known(CURRENT_TASK)?, preempt_count: first_known(PREEMPT_COUNT)? })
    }

    /// An expression for the current task of `cpu`.
    fn task(&self, cpu: u32) -> Option<String> {
        let name = self.current_task?;
        Some(format!("(*(struct task_struct **)((unsigned long)&{name} + __per_cpu_offset[{cpu}]))"))
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

/// The probe that a hit belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Probed<'a> {
    /// As the recipe has it.
    pub spec: &'a ProbeSpec,
    /// Where the probed function is declared, if that is known.
    pub entry: Option<&'a Place>,
}

/// Collects hits. Remembers what does not change between them.
#[derive(Debug)]
pub struct Collector<'a> {
    /// Where names and files are looked up.
    pub program: Program<'a>,
    per_cpu: PerCpu,
    /// Whether the kernel has files in which a variable that is not set holds a pattern.
    patterned: bool,
    /// What the compiler says of a local, by frame place and name.
    storage: BTreeMap<(String, String), Storage>,
    complained: BTreeSet<(String, String)>,
    complaints: Vec<String>,
}

impl<'a> Collector<'a> {
    /// A collector for the program that GDB has loaded; `patterned` if some of it is
    /// [debuggable](crate::recipe::KernelSpec::debuggable).
    pub fn new(program: Program<'a>, per_cpu: PerCpu, patterned: bool) -> Self {
        Collector {
            program,
            per_cpu,
            patterned,
            storage: BTreeMap::new(),
            complained: BTreeSet::new(),
            complaints: Vec::new(),
        }
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

    fn complain(&mut self, probe: &str, name: &str, answer: &Answer) {
        if let Answer::Refused(why) = answer
            && self.complained.insert((probe.into(), name.into()))
        {
            self.complaints.push(format!("probe `{probe}`: `show` entry `{name}` cannot be evaluated: {why}"));
        }
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
        let Probed { spec: probe, entry } = probe;
        let start = Instant::now();
        let thread = stop.thread.unwrap_or(1);
        let cpu = u32::try_from(thread.saturating_sub(1)).unwrap_or(0);
        let frames = format!("-stack-list-frames --thread {thread} 0 {}", probe.stack.saturating_sub(1));
        let facts = self.fact_expressions(cpu);
        let mut commands = vec![frames];
        commands.extend(facts.iter().map(|fact| evaluate(thread, fact.as_deref().unwrap_or("0/0"))));
        commands.extend(probe.show.values().map(|expression| evaluate(thread, expression)));
        let mut answers = gdb.batch(&commands, cancel)?.into_iter();
        let stack = answers.next().map(Answer::ok).and_then(std::result::Result::ok).unwrap_or_default();
        let facts: Vec<Answer> = answers.by_ref().take(facts.len()).collect();
        let answers: Vec<(&String, Answer)> = probe.show.keys().zip(answers).collect();
        answers.iter().for_each(|(name, answer)| self.complain(&probe.name, name, answer));
        let shown = answers.into_iter().map(|(name, answer)| shown(name, answer)).collect();
        let mut frames = self.frames(gdb, thread, &stack, entry.is_some(), cancel)?;
        if let (Some(place), Some(frame)) = (entry, frames.first_mut().filter(|frame| frame.offset == Some(0))) {
            (frame.file, frame.line) = (Some(place.file.clone()), Some(place.line));
        }
        Ok(Hit {
            index,
            probe: probe.name.clone(),
            cpu,
            task: task(&facts),
            context: facts[3].value().and_then(number_or_negative).map(context),
            jiffies: facts[4].value().and_then(number),
            frames,
            shown,
            decoded: Vec::new(),
            returned: None,
            cost: Cost { stop_us: 0, collect_us: micros(start) },
        })
    }

    /// comm, pid, tgid, preemption count, jiffies.
    fn fact_expressions(&self, cpu: u32) -> [Option<String>; 5] {
        let task = self.per_cpu.task(cpu);
        let member = |name: &str| task.as_ref().map(|task| format!("{task}->{name}"));
        [member("comm"), member("pid"), member("tgid"), self.per_cpu.preempt_count(cpu), Some("jiffies_64".into())]
    }

    fn frames(
        &mut self,
        gdb: &mut Gdb,
        thread: u64,
        stack: &Values,
        function: bool,
        cancel: &Cancel,
    ) -> Result<Vec<Frame>> {
        let mut raw = stack.tuples("stack");
        // The unwinder goes on past the kernel's entry, to addresses that are no kernel code.
        while raw.last().is_some_and(|frame| frame.number("addr").is_none_or(|address| address < KERNEL_HALF)) {
            raw.pop();
        }
        let doubtful = doubtful(&raw);
        let ask = |values: &str, level: usize| {
            format!("-stack-list-variables --thread {thread} --frame {level} --no-frame-filters {values}")
        };
        let commands: Vec<String> =
            (0..raw.len()).flat_map(|level| [ask("--simple-values", level), ask("--all-values", level)]).collect();
        let info = doubtful
            .iter()
            .map(|level| format!("-interpreter-exec --thread {thread} --frame {level} console \"info frame\""));
        let commands: Vec<String> = commands.into_iter().chain(info).collect();
        let mut answers = gdb.batch(&commands, cancel)?;
        let info = answers.split_off(2 * raw.len());
        let mut frames = Vec::with_capacity(raw.len());
        for (level, values) in raw.iter().enumerate() {
            let (typed, whole) = (&answers[2 * level], &answers[2 * level + 1]);
            let inlined = match doubtful.iter().position(|doubt| *doubt == level) {
                Some(doubt) => matches!(&info[doubt], Answer::Done(_, said) if said.contains("inlined into frame")),
                None => raw.get(level + 1).is_some_and(|next| same_address(values, next)),
            };
            frames.push(self.frame(level, values, inlined, &variables::merge(typed, whole)));
        }
        self.learn_storage(gdb, thread, &frames, function, cancel)?;
        self.mark_unset(&mut frames, function);
        Ok(frames)
    }

    fn frame(&self, level: usize, values: &Values, inlined: bool, variables: &[RawVariable]) -> Frame {
        let address = values.number("addr").unwrap_or_default();
        let symbol = values.text("func").unwrap_or("??").to_string();
        let (args, locals, hidden) = variables::sort(variables);
        Frame {
            level: u32::try_from(level).unwrap_or(u32::MAX),
            address: format!("{address:#x}"),
            symbol,
            offset: self.program.symbols.containing(address).map(|function| address - function.start),
            file: self.program.file(values),
            line: values.number("line").and_then(|line| u32::try_from(line).ok()),
            inlined,
            args,
            locals,
            hidden,
        }
    }

    /// Asks what the compiler says of the place of every local that has no value, or can have none yet.
    fn learn_storage(
        &mut self,
        gdb: &mut Gdb,
        thread: u64,
        frames: &[Frame],
        function: bool,
        cancel: &Cancel,
    ) -> Result<()> {
        let unknown: Vec<(u32, (String, String))> = frames
            .iter()
            .flat_map(|frame| {
                let entry = is_entry(frame, function);
                let asked = frame.locals.iter().filter(move |var| entry || var.why == Some(Why::OptimizedOut));
                asked.map(|var| (frame.level, (place(frame), var.name.clone())))
            })
            .filter(|(_, key)| !self.storage.contains_key(key))
            .collect();
        let ask = |(level, (_, name)): &(u32, (String, String))| {
            format!("-interpreter-exec --thread {thread} --frame {level} console \"info address {name}\"")
        };
        let commands: Vec<String> = unknown.iter().map(ask).collect();
        for ((_, key), answer) in unknown.into_iter().zip(gdb.batch(&commands, cancel)?) {
            let storage = match answer {
                Answer::Done(_, said) => Storage::parse(&said),
                Answer::Refused(_) => Storage::default(),
            };
            self.storage.insert(key, storage);
        }
        Ok(())
    }

    /// Tells what is not set yet from what is lost.
    fn mark_unset(&self, frames: &mut [Frame], function: bool) {
        for frame in frames {
            let (place, entry) = (place(frame), is_entry(frame, function));
            // The return address is one past the call; the call itself is what the frame is at.
            let at = number(&frame.address).unwrap_or_default().saturating_sub(u64::from(frame.level > 0));
            for var in &mut frame.locals {
                if self.patterned && var.value.as_deref().is_some_and(variables::is_unset_pattern) {
                    (var.value, var.available, var.why) = (None, false, Some(Why::NotSetYet));
                }
                let Some(storage) = self.storage.get(&(place.clone(), var.name.clone())) else { continue };
                let lost = var.why == Some(Why::OptimizedOut);
                if (lost && storage.begins_after(at)) || (entry && storage.on_stack) {
                    (var.value, var.available, var.why) = (None, false, Some(Why::NotSetYet));
                }
            }
        }
    }
}

/// Whether a frame stands at its function's entry, where no local can have been set: at the first instruction, or, with
/// a probe on a `function` that is not optimized, behind the prologue, which stores the arguments.
fn is_entry(frame: &Frame, function: bool) -> bool {
    frame.level == 0 && (frame.offset == Some(0) || function) && !frame.inlined
}

/// An inlined function shares its frame, and so its program counter, with the function it was inlined into.
fn same_address(frame: &Values, next: &Values) -> bool {
    frame.number("addr") == next.number("addr")
}

/// Frames that share address *and* name with the next: inlined into a part of itself, or a recursion? GDB is asked.
fn doubtful(raw: &[&Values]) -> Vec<usize> {
    let same = |pair: &[&Values]| same_address(pair[0], pair[1]) && pair[0].text("func") == pair[1].text("func");
    raw.windows(2).enumerate().filter(|(_, pair)| same(pair)).map(|(level, _)| level).collect()
}

/// What makes a frame's variables the same ones at another hit.
fn place(frame: &Frame) -> String {
    format!("{} {}", frame.address, frame.symbol)
}

fn evaluate(thread: u64, expression: &str) -> String {
    format!("-data-evaluate-expression --thread {thread} --frame 0 {}", mi::quote(expression))
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
