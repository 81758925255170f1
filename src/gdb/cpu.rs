//! A virtual CPU's registers, all that matter in one command.

use super::client::Gdb;
use super::mi::{Value, Values, number};
use super::registers::{self, RSP, names};
use crate::error::Result;
use crate::event::Cancel;
use crate::unwind;

/// How many general registers there are, the program counter included.
pub(super) const GENERAL: usize = 17;
/// The control registers that say where the page tables are, as QEMU's stub calls them.
const CONTROL: [&str; 2] = ["cr3", "cr4"];

/// A virtual CPU's registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cpu {
    /// In the order of [`names`].
    pub(super) general: [u64; GENERAL],
    /// Where the page tables are, and whether there are [five levels](crate::memory::paging::Tables::of) of them.
    pub(super) cr3: u64,
    pub(super) cr4: u64,
}

impl Cpu {
    /// The stack pointer.
    pub(super) fn rsp(&self) -> u64 {
        self.general[RSP]
    }

    /// The general registers by their numbers in the debug information.
    pub(super) fn dwarf(&self) -> unwind::Registers {
        registers::dwarf(&self.general.map(Some))
    }
}

/// GDB's numbers of these registers, in the same order. They stay as they are while GDB is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers([u64; GENERAL + CONTROL.len()]);

impl Numbers {
    /// Asks GDB, which is connected; none where the guest's stub does not have them all.
    ///
    /// # Errors
    /// GDB failed.
    pub(super) fn find(gdb: &mut Gdb, cancel: &Cancel) -> Result<Option<Numbers>> {
        let values = gdb.ask("-data-list-register-names", cancel)?.ok().unwrap_or_default();
        Ok(Numbers::of(&values))
    }

    /// From GDB's list of names, in which a register's place is its number.
    fn of(values: &Values) -> Option<Numbers> {
        let Some(Value::List(known)) = values.get("register-names") else { return None };
        let is = |known: &Value, name: &str| matches!(known, Value::Text(known) if known == name);
        let number = |name: &str| known.iter().position(|known| is(known, name)).map(|at| at as u64);
        let numbers: Vec<u64> = names().into_iter().chain(CONTROL).map(number).collect::<Option<_>>()?;
        Some(Numbers(numbers.try_into().ok()?))
    }

    /// Asks for the registers of a CPU.
    pub(super) fn command(&self, thread: u64) -> String {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        format!("-data-list-register-values --thread {thread} --frame 0 x {}", numbers.join(" "))
    }

    /// What GDB has answered to the [`command`](Numbers::command); none if a register is missing.
    pub(super) fn cpu(&self, values: &Values) -> Option<Cpu> {
        let answered = values.tuples("register-values");
        let value = |wanted: u64| {
            let one = answered.iter().find(|register| register.number("number") == Some(wanted))?;
            number(one.text("value")?)
        };
        let mut all = [0; GENERAL + CONTROL.len()];
        for (place, wanted) in all.iter_mut().zip(self.0) {
            *place = value(wanted)?;
        }
        let [general @ .., cr3, cr4] = all;
        Some(Cpu { general, cr3, cr4 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gdb::mi::{Record, parse};

    fn answer(line: &str) -> Values {
        match parse(line) {
            Ok(Record::Result { values, .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    /// As GDB 13 lists them, and QEMU 7.2 has them; shortened.
    const NAMES: &str = r#"1^done,register-names=["rax","rbx","rcx","rdx","rsi","rdi","rbp","rsp","r8","r9","r10","r11","r12","r13","r14","r15","rip","eflags","","","cr0","cr2","cr3","cr4","cr8","efer"]"#;

    #[test]
    fn registers_are_asked_for_by_number_and_come_in_the_order_of_kdbg() {
        let numbers = Numbers::of(&answer(NAMES)).unwrap();
        let wanted = "0 1 2 3 4 5 6 8 9 10 11 12 13 14 15 7 16 22 23";
        assert_eq!(numbers.command(2), format!("-data-list-register-values --thread 2 --frame 0 x {wanted}"));
        let values: Vec<String> = (0..24).map(|n| format!(r#"{{number="{n}",value="{:#x}"}}"#, n * 16)).collect();
        let line = format!("2^done,register-values=[{}]", values.join(","));
        let cpu = numbers.cpu(&answer(&line)).unwrap();
        assert_eq!((cpu.cr3, cpu.cr4), (0x160, 0x170));
        let at = |name: &str| cpu.general[names().iter().position(|known| *known == name).unwrap()];
        assert_eq!([at("rax"), at("r8"), at("rsp"), at("rip")], [0, 0x80, 0x70, 0x100]);
    }

    #[test]
    fn without_one_of_them_there_are_none() {
        assert_eq!(Numbers::of(&answer(&NAMES.replace("cr3", ""))), None);
        assert_eq!(Numbers::of(&answer("1^done")), None);
        let numbers = Numbers::of(&answer(NAMES)).unwrap();
        assert_eq!(numbers.cpu(&answer(r#"2^done,register-values=[{number="0",value="<unavailable>"}]"#)), None);
    }
}
