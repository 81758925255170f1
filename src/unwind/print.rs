//! Values as GDB prints them with the settings of [`crate::gdb`]: at most 64 elements, runs of more than 16 as one, four
//! structures deep, text up to its end (gdb/c-valprint.c, gdb/cp-valprint.c and gdb/valprint.c of GDB 13).

use std::fmt::Write;

use super::frames::Value;
use super::place::Variable;
use super::types::{Member, Type};
use crate::decode::Memory;

/// `print elements`.
const ELEMENTS: usize = 64;
/// `print repeats`.
const REPEATS: usize = 16;
/// `print max-depth`.
const DEPTH: u32 = 4;
/// Where the kernel's image and its modules begin: below, no address has a symbol.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// What a value is when the compiler keeps it nowhere.
const LOST: &str = "<optimized out>";

/// What GDB prints behind an address of the kernel's image: ` <tcp_prot+8>`, or nothing.
pub trait Names {
    /// That of `address`; none where it is not known yet.
    fn behind(&mut self, address: u64) -> Option<String>;
}

/// The text of a value; none where it is not known how GDB prints it.
pub fn print(variable: &Variable, value: &Value, memory: &mut dyn Memory, names: &mut dyn Names) -> Option<String> {
    let mut printer = Printer { value, memory, names, text: String::new() };
    printer.any(&variable.of, 0, None, 0, DEPTH)?;
    Some(printer.text)
}

struct Printer<'a> {
    value: &'a Value,
    memory: &'a mut dyn Memory,
    names: &'a mut dyn Names,
    text: String,
}

impl Printer<'_> {
    fn bytes(&self, at: usize, size: u64) -> Option<&[u8]> {
        self.value.bytes.get(at..at.checked_add(usize::try_from(size).ok()?)?)
    }

    fn is_lost(&self, at: usize, size: u64) -> bool {
        let end = at.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        self.value.lost.iter().skip(at).take(end - at).any(|lost| *lost)
    }

    /// The number at `at`, or that of a bit field.
    fn number(&self, at: usize, size: u64, bits: Option<(u64, u64)>, signed: bool) -> Option<i64> {
        let (bytes, shift, width) = match bits {
            None => (self.bytes(at, size)?, 0, size * 8),
            Some((first, count)) => {
                let start = usize::try_from(first / 8).ok()?;
                (self.bytes(start, bits_end(first, count)?)?, first % 8, count)
            }
        };
        let mut word = [0; 16];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let value = u128::from_le_bytes(word) >> shift;
        let unused = 64_u64.checked_sub(width)?;
        let value = u64::try_from(value & u128::from(u64::MAX)).ok()? << unused;
        Some(if signed { value.cast_signed() >> unused } else { (value >> unused).cast_signed() })
    }

    /// A value at `at`, or of the bits of a bit field; `depth` structures deep, of `limit`.
    fn any(&mut self, of: &Type, at: usize, bits: Option<(u64, u64)>, depth: u32, limit: u32) -> Option<()> {
        let is_scalar = !matches!(of, Type::Structure { .. } | Type::Array { .. });
        if is_scalar {
            let (at, size) = match bits {
                Some((first, count)) => (usize::try_from(first / 8).ok()?, bits_end(first, count)?),
                None => (at, of.size()),
            };
            if self.is_lost(at, size) {
                self.text.push_str(LOST);
                return Some(());
            }
        }
        let is_text = matches!(of, Type::Array { element, .. } if element.is_character());
        if !is_scalar && !is_text && depth >= limit {
            self.text.push_str("{...}");
            return Some(());
        }
        match of {
            Type::Integer { size, signed } => {
                let value = self.number(at, *size, bits, *signed)?;
                match signed {
                    true => write!(self.text, "{value}").ok()?,
                    false => write!(self.text, "{}", value.cast_unsigned()).ok()?,
                }
                if of.is_character() {
                    self.text.push_str(" '");
                    character(&mut self.text, value.to_le_bytes()[0], '\'');
                    self.text.push('\'');
                }
            }
            Type::Boolean => match self.number(at, 1, bits, false)? {
                0 => self.text.push_str("false"),
                1 => self.text.push_str("true"),
                other => write!(self.text, "{other}").ok()?,
            },
            Type::Enumeration { size, values } => {
                let signed = values.iter().any(|(value, _)| *value < 0);
                let value = self.number(at, *size, bits, signed)?;
                self.text.push_str(&enumerator(values, value));
            }
            Type::Pointer { text } => {
                let address = self.number(at, 8, bits, false)?.cast_unsigned();
                self.address(address, *text)?;
            }
            Type::Structure { members, .. } => self.structure(members, at, depth, limit)?,
            Type::Array { element, count } => self.array(element, *count, at, depth, limit)?,
            Type::Unknown => return None,
        }
        Some(())
    }

    fn address(&mut self, address: u64, text: bool) -> Option<()> {
        write!(self.text, "{address:#x}").ok()?;
        if address >= IMAGE {
            let behind = self.names.behind(address)?;
            self.text.push_str(&behind);
        }
        if text && address != 0 {
            self.text.push(' ');
            self.pointed(address)?;
        }
        Some(())
    }

    /// The text that a pointer points to.
    fn pointed(&mut self, address: u64) -> Option<()> {
        let mut bytes = Vec::new();
        let mut readable = true;
        while bytes.len() < ELEMENTS && bytes.last() != Some(&0) {
            match self.memory.read(address.checked_add(bytes.len() as u64)?, 1) {
                Some(read) => bytes.extend(read),
                None => {
                    readable = false;
                    break;
                }
            }
        }
        let next = address.checked_add(bytes.len() as u64)?;
        let ends = bytes.last() == Some(&0);
        let more = readable && !ends && self.memory.read(next, 1).is_some_and(|next| next != [0]);
        // As GDB has it, what could not be looked at is no more of it.
        let more = more && !ends;
        if ends {
            bytes.pop();
        }
        if readable || !bytes.is_empty() {
            string(&mut self.text, &bytes, more);
        }
        if !readable {
            write!(self.text, "<error: Cannot access memory at address {next:#x}>").ok()?;
        }
        Some(())
    }

    fn structure(&mut self, members: &[Member], at: usize, depth: u32, limit: u32) -> Option<()> {
        self.text.push('{');
        if members.is_empty() {
            self.text.push_str("<No data fields>");
        }
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            // One without a name is as deep as what it is in.
            let mut limit = limit;
            if member.name.is_empty() {
                limit += 1;
            } else {
                self.text.push_str(&member.name);
                self.text.push_str(" = ");
            }
            let bits = member.bits.map(|(first, count)| (at as u64 * 8 + first, count));
            let at = at.checked_add(usize::try_from(member.offset).ok()?)?;
            self.any(&member.of, at, bits, depth + 1, limit)?;
        }
        self.text.push('}');
        Some(())
    }

    fn array(&mut self, element: &Type, count: u64, at: usize, depth: u32, limit: u32) -> Option<()> {
        let (size, count) = (usize::try_from(element.size()).ok()?, usize::try_from(count).ok()?);
        if size == 0 || count == 0 {
            // Of no length: its address.
            let address = self.value.address?.checked_add(at as u64)?;
            return self.address(address, element.is_character());
        }
        let all = size.checked_mul(count)? as u64;
        self.bytes(at, all)?;
        if element.is_character() && !self.is_lost(at, all) {
            let bytes = self.value.bytes.get(at..)?.get(..usize::try_from(all).ok()?)?;
            let length = bytes.iter().take(ELEMENTS).position(|byte| *byte == 0).unwrap_or(count.min(ELEMENTS));
            let more = length == ELEMENTS && bytes.get(length).is_some_and(|next| *next != 0);
            string(&mut self.text, &bytes[..length], more);
            return Some(());
        }
        self.text.push('{');
        let (mut index, mut printed) = (0, 0);
        while index < count && printed < ELEMENTS {
            if index > 0 {
                self.text.push_str(", ");
            }
            let same = self.alike(at, size, index, count);
            self.any(element, at + index * size, None, depth + 1, limit)?;
            if same > REPEATS {
                write!(self.text, " <repeats {same} times>").ok()?;
                index += same;
                printed += REPEATS;
            } else {
                index += 1;
                printed += 1;
            }
        }
        self.text.push_str(if index < count { "...}" } else { "}" });
        Some(())
    }

    /// How many elements, from this one on, are the same.
    fn alike(&self, at: usize, size: usize, index: usize, count: usize) -> usize {
        let element = |index: usize| {
            let range = at + index * size..at + (index + 1) * size;
            (self.value.bytes.get(range.clone()), self.value.lost.get(range))
        };
        (index..count).take_while(|other| element(*other) == element(index)).count()
    }
}

/// How many bytes a bit field is in; none of one that no register holds, or of nothing.
fn bits_end(first: u64, count: u64) -> Option<u64> {
    (1..=64).contains(&count).then(|| (first % 8 + count).div_ceil(8))
}

/// The name of a value of an enumeration; of one of flags, all of them.
fn enumerator(values: &[(i64, String)], value: i64) -> String {
    if let Some((_, name)) = values.iter().find(|(other, _)| *other == value) {
        return name.clone();
    }
    let are_flags = values.iter().all(|(other, _)| *other >= 0 && other.count_ones() < 2);
    if !are_flags {
        return value.to_string();
    }
    let mut left = value;
    let mut names = Vec::new();
    for (flag, name) in values {
        if left & flag != 0 {
            left &= !flag;
            names.push(name.clone());
        }
    }
    if left != 0 {
        names.push(format!("unknown: {left:#x}"));
    }
    if names.is_empty() { "0".into() } else { format!("({})", names.join(" | ")) }
}

/// Text in quotes; runs of one character stand apart.
fn string(text: &mut String, bytes: &[u8], more: bool) {
    if bytes.is_empty() {
        text.push_str("\"\"");
    }
    let mut quoted = false;
    for (index, run) in bytes.chunk_by(|one, other| one == other).enumerate() {
        let is_long = run.len() > REPEATS;
        if quoted && is_long {
            text.push('"');
        }
        if index > 0 && (is_long || !quoted) {
            text.push_str(", ");
        }
        if is_long {
            text.push('\'');
            character(text, run[0], '"');
            let _ = write!(text, "' <repeats {} times>", run.len());
        } else {
            if !quoted {
                text.push('"');
            }
            run.iter().for_each(|byte| character(text, *byte, '"'));
        }
        quoted = !is_long;
    }
    if quoted {
        text.push('"');
    }
    if more {
        text.push_str("...");
    }
}

/// A character of the C language.
fn character(text: &mut String, byte: u8, quote: char) {
    match byte {
        7 => text.push_str("\\a"),
        8 => text.push_str("\\b"),
        9 => text.push_str("\\t"),
        10 => text.push_str("\\n"),
        11 => text.push_str("\\v"),
        12 => text.push_str("\\f"),
        13 => text.push_str("\\r"),
        0x20..=0x7e => {
            let printed = char::from(byte);
            if printed == quote || printed == '\\' {
                text.push('\\');
            }
            text.push(printed);
        }
        _ => {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
}
