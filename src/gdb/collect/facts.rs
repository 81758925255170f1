//! What every hit says beside its stack: the current task, the context, the time. Read from memory where that can be had; GDB
//! takes a millisecond for it.

use super::super::answer::Answer;
use super::super::client::Gdb;
use super::super::command;
use super::super::mi::number;
use super::super::variables::unquote;
use super::evaluate;
use crate::decode::Memory;
use crate::error::Result;
use crate::event::Cancel;
use crate::layout::Layouts;
use crate::report::model::{Context, Depth, Task};

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
/// Where each CPU's variables are, from where their addresses count; and the time.
const OFFSETS: [&str; 1] = ["__per_cpu_offset"];
const JIFFIES: [&str; 1] = ["jiffies_64"];

/// A variable of the kernel: its name and its address.
type Named = Option<(&'static str, u64)>;

/// Where this kernel keeps its facts; the names moved between versions, so they are asked for once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    current_task: Named,
    preempt_count: Named,
    interrupt_stack: Named,
    offsets: Named,
    jiffies: Named,
    /// Whether this kernel counts how often preemption is off.
    counts_preemption: bool,
}

/// The facts of a hit, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) task: Task,
    pub(super) context: Option<Context>,
    pub(super) depth: Depth,
    pub(super) jiffies: Option<u64>,
}

impl Places {
    /// Finds them in the program that GDB has loaded. `near` is an address whose file GDB has read already.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn find(gdb: &mut Gdb, near: Option<&str>, counts_preemption: bool, cancel: &Cancel) -> Result<Places> {
        let near = near.map(|address| gdb.ask(&set_task_near(address), cancel)).transpose()?;
        if !matches!(near, Some(Answer::Done(..))) {
            gdb.ask(SET_TASK, cancel)?;
        }
        // One after the other: a name that GDB does not know it looks for everywhere.
        let mut first_known = |names: &[&'static str]| -> Result<Named> {
            for name in names {
                let answer = gdb.ask(&command::evaluate(&format!("(unsigned long)&{name}")), cancel)?;
                if let Some(address) = answer.value().and_then(number) {
                    return Ok(Some((*name, address)));
                }
            }
            Ok(None)
        };
        Ok(Places {
            current_task: first_known(&CURRENT_TASK)?,
            preempt_count: first_known(&PREEMPT_COUNT)?,
            interrupt_stack: first_known(&INTERRUPT_STACK)?,
            offsets: first_known(&OFFSETS)?,
            jiffies: first_known(&JIFFIES)?,
            counts_preemption,
        })
    }

    /// The name of the per-CPU pointer to the top of the interrupt stack.
    pub(super) fn interrupt_stack(&self) -> Option<&'static str> {
        self.interrupt_stack.map(|(name, _)| name)
    }

    /// Where a CPU has the pointer to the top of its interrupt stack.
    pub(super) fn interrupt_stack_of(&self, cpu: u32, memory: &mut dyn Memory) -> Option<u64> {
        Some(self.interrupt_stack?.1.wrapping_add(self.offset(cpu, memory)?))
    }

    /// From where a CPU's variables count.
    fn offset(&self, cpu: u32, memory: &mut dyn Memory) -> Option<u64> {
        number_at(memory, self.offsets?.1.checked_add(8 * u64::from(cpu))?, 8)
    }

    /// Asks GDB for the facts of a CPU: comm, pid, tgid, preemption count, jiffies.
    pub(super) fn commands(&self, cpu: u32, thread: u64) -> Vec<String> {
        let at = |name: &str| format!("((unsigned long)&{name} + __per_cpu_offset[{cpu}])");
        let task = self.current_task.map(|(name, _)| format!("((__typeof__({TASK}))*(unsigned long *){})", at(name)));
        let member = |name: &str| task.as_ref().map(|task| format!("{task}->{name}"));
        let preempt_count = self.preempt_count.map(|(name, _)| format!("*(int *){}", at(name)));
        let facts = [member("comm"), member("pid"), member("tgid"), preempt_count, Some(JIFFIES[0].into())];
        facts.iter().map(|fact| evaluate(thread, fact.as_deref().unwrap_or("0/0"))).collect()
    }

    /// The facts of a CPU that has stopped, from `memory` if all of them can be had there. Else from what GDB has answered to the
    /// [`commands`](Places::commands); if it was not asked, it is now.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn facts(
        &self,
        memory: Option<(&mut dyn Memory, &Layouts)>,
        (cpu, thread): (u32, u64),
        answers: Vec<Answer>,
        gdb: &mut Gdb,
        cancel: &Cancel,
    ) -> Result<Facts> {
        if let Some(facts) = memory.and_then(|(memory, layouts)| self.read(memory, layouts, cpu)) {
            return Ok(facts);
        }
        let answers = if answers.is_empty() { gdb.batch(&self.commands(cpu, thread), cancel)? } else { answers };
        Ok(self.of(&answers))
    }

    /// All facts of a CPU from memory.
    fn read(&self, memory: &mut dyn Memory, layouts: &Layouts, cpu: u32) -> Option<Facts> {
        let offset = self.offset(cpu, memory)?;
        let mut number = |address, size| number_at(memory, address, size);
        let task = number(self.current_task?.1.wrapping_add(offset), 8)?;
        let preempt_count = number(self.preempt_count?.1.wrapping_add(offset), 4)?;
        let jiffies = number(self.jiffies?.1, 8)?;
        let member = |name: &str| {
            let field = layouts.field("task_struct", name)?;
            Some((task.checked_add(field.offset)?, field.size))
        };
        // `pid_t` is an int.
        let mut id = |name: &str| {
            let (address, size) = member(name)?;
            Some(i64::from(u32::try_from(number(address, size)?).ok()?.cast_signed()))
        };
        let (pid, tgid) = (id("pid")?, id("tgid")?);
        let (address, size) = member("comm")?;
        let comm = plain(&memory.read(address, size)?)?;
        let count = |name: &str, memory: &mut dyn Memory| {
            let field = layouts.field("task_struct", name)?;
            number_at(memory, task.checked_add(field.offset)?, field.size)
        };
        let depth = Depth {
            rcu: count("rcu_read_lock_nesting", memory),
            locks: count("lockdep_depth", memory),
            ..self.depth(preempt_count)
        };
        let task = Task { comm: Some(comm), pid: Some(pid), tgid: Some(tgid) };
        Some(Facts { task, context: Some(context(preempt_count)), depth, jiffies: Some(jiffies) })
    }

    /// From GDB's answers to the [`commands`](Places::commands).
    fn of(&self, answers: &[Answer]) -> Facts {
        let [comm, pid, tgid, preempt_count, jiffies] = answers else { return Facts::default() };
        let signed = |answer: &Answer| answer.value().and_then(|value| value.parse().ok());
        let preempt_count = preempt_count.value().and_then(number_or_negative);
        Facts {
            task: Task { comm: comm.value().map(unquote), pid: signed(pid), tgid: signed(tgid) },
            context: preempt_count.map(context),
            depth: preempt_count.map_or_else(Depth::default, |count| self.depth(count)),
            jiffies: jiffies.value().and_then(number),
        }
    }

    /// What a preemption count says of depths; of softirqs, a level is two, and one that is being served is one
    /// (`include/linux/preempt.h`).
    fn depth(&self, preempt_count: u64) -> Depth {
        let preempt = self.counts_preemption.then_some(preempt_count & 0xff);
        Depth { preempt, softirqs: Some((preempt_count >> 9) & 0x7f), rcu: None, locks: None }
    }
}

/// A name up to its end; none if it has characters that GDB would escape.
fn plain(bytes: &[u8]) -> Option<String> {
    let name = bytes.split(|byte| *byte == 0).next()?;
    let is_plain = name.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic());
    is_plain.then(|| String::from_utf8(name.to_vec()).ok())?
}

/// A number of so many bytes.
fn number_at(memory: &mut dyn Memory, address: u64, size: u64) -> Option<u64> {
    let bytes = memory.read(address, size)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
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

/// The count's top bit ("no reschedule needed") makes it negative as an int.
fn number_or_negative(text: &str) -> Option<u64> {
    text.parse::<i32>().ok().map(|value| u64::from(value.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Field, Kind};

    /// Bytes at addresses.
    struct Bytes(Vec<(u64, Vec<u8>)>);

    impl Memory for Bytes {
        fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
            let (_, bytes) = self.0.iter().find(|(at, _)| *at == address)?;
            Some(bytes.get(..usize::try_from(size).ok()?)?.to_vec())
        }
    }

    fn facts(comm: &[u8]) -> Option<Facts> {
        let places = Places {
            current_task: Some(("current_task", 0x100)),
            preempt_count: Some(("__preempt_count", 0x108)),
            interrupt_stack: None,
            offsets: Some(("__per_cpu_offset", 0xffff_ffff_8100_0000)),
            jiffies: Some(("jiffies_64", 0xffff_ffff_8200_0000)),
            counts_preemption: true,
        };
        let mut layouts = Layouts::default();
        for (name, offset, size, kind) in [
            ("comm", 32, 16, Kind::Bytes),
            ("pid", 8, 4, Kind::Signed),
            ("tgid", 12, 4, Kind::Signed),
            ("lockdep_depth", 16, 4, Kind::Signed),
        ] {
            layouts.fields.insert(format!("task_struct.{name}"), Field { offset, size, bits: None, kind });
        }
        let (per_cpu, task) = (0xffff_8880_0f00_0000_u64, 0xffff_8880_0001_0000_u64);
        let mut memory = Bytes(vec![
            (0xffff_ffff_8100_0008, per_cpu.to_le_bytes().into()),
            (0xffff_ffff_8200_0000, 4_294_668_363_u64.to_le_bytes().into()),
            (per_cpu + 0x100, task.to_le_bytes().into()),
            (per_cpu + 0x108, 0x8000_0502_u32.to_le_bytes().into()),
            (task + 16, 3_i32.to_le_bytes().into()),
            (task + 8, 61_i32.to_le_bytes().into()),
            (task + 12, (-1_i32).to_le_bytes().into()),
            (task + 32, [comm, &[0; 16]].concat()),
        ]);
        places.read(&mut memory, &layouts, 1)
    }

    #[test]
    fn the_facts_of_a_cpu_are_read_from_memory() {
        let read = facts(b"nc -l").unwrap();
        assert_eq!(read.task, Task { comm: Some("nc -l".into()), pid: Some(61), tgid: Some(-1) });
        assert_eq!((read.context, read.jiffies), (Some(Context::Softirq), Some(4_294_668_363)));
        assert_eq!(read.depth, Depth { preempt: Some(2), softirqs: Some(2), rcu: None, locks: Some(3) });
        assert_eq!(facts(b"").unwrap().task.comm.as_deref(), Some(""));
        assert_eq!(facts("grün".as_bytes()), None, "GDB knows how it is shown");
    }

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
