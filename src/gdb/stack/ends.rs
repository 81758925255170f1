//! Where stacks end: the kernel's entries, and what was before them. Pure.

use super::super::mi::Values;
use super::super::program::Program;
use super::super::registers::Registers;
use super::super::variables::KERNEL_HALF;
use crate::report::model::Interrupted;

/// How the names of functions begin that nothing in the kernel has called: entries from user space, and where tasks and
/// CPUs begin.
pub(super) const OUTERMOST: [&str; 8] = [
    "entry_",
    "ret_from_fork",
    "secondary_startup_64",
    "common_startup_64",
    "startup_64",
    "start_kernel",
    "x86_64_start_",
    "xen_start_kernel",
];
/// The entry of a 64-bit program's system call.
pub(super) const SYSTEM_CALL: &str = "entry_SYSCALL_64";
/// How the names of the entries of interrupts and exceptions begin. They may have interrupted the kernel.
pub(super) const INTERRUPT: &str = "asm_";

/// Whether a function of this name is an entry of the kernel.
pub(super) fn is_entry(name: &str) -> bool {
    name.starts_with(INTERRUPT) || OUTERMOST.iter().any(|entry| name.starts_with(entry))
}

/// What was interrupted.
pub(super) fn said(program: &Program<'_>, entry: &str, registers: &Registers) -> Interrupted {
    let function = program.symbols.containing(registers.rip()).filter(|_| !registers.is_user());
    Interrupted {
        entry: entry.into(),
        user: registers.is_user(),
        address: format!("{:#x}", registers.rip()),
        symbol: function.map(|function| function.name().to_string()),
    }
}

/// Without what GDB makes up past the kernel's entry: assembler code has no debug information to unwind by.
pub(super) fn within_kernel(mut raw: Vec<&Values>) -> Vec<&Values> {
    let names_entry = |frame: &&Values| is_entry(frame.text("func").unwrap_or_default());
    if let Some(entry) = raw.iter().position(names_entry) {
        raw.truncate(entry + 1);
    }
    while raw.last().is_some_and(|frame| frame.number("addr").is_none_or(|address| address < KERNEL_HALF)) {
        raw.pop();
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::super::super::mi;
    use super::*;

    fn kept(frames: &[(&str, u64)]) -> usize {
        let frame = |(name, address): &(&str, u64)| format!("frame={{addr=\"{address:#x}\",func=\"{name}\"}}");
        let list = frames.iter().map(frame).collect::<Vec<_>>().join(",");
        match mi::parse(&format!("^done,stack=[{list}]")).unwrap() {
            mi::Record::Result { values, .. } => within_kernel(values.tuples("stack")).len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_gdb_makes_up_past_an_entry_is_no_frame() {
        let high = KERNEL_HALF + 0x1000;
        assert_eq!(kept(&[("do_syscall_64", high), ("entry_SYSCALL_64", high), ("init_net", high)]), 2);
        assert_eq!(kept(&[("common_interrupt", high), ("asm_common_interrupt", high), ("??", high)]), 2);
        assert_eq!(kept(&[("start_kernel", high), ("??", 0)]), 1);
        assert_eq!(kept(&[("do_softirq", high), ("__local_bh_enable_ip", high)]), 2);
    }
}
