//! Types of C as far as values of them are printed. Owned, and without names.

use std::collections::HashMap;
use std::sync::Arc;

use gimli::{AttributeValue, UnitOffset};

use super::image::{Entry, Unit, signed, string, unsigned};

/// A type, without the names and qualifiers that it goes by.
#[derive(Debug, PartialEq, Eq)]
pub enum Type {
    /// A number; of one byte, a character too.
    Integer {
        /// In bytes.
        size: u64,
        /// Whether it can be below zero.
        signed: bool,
    },
    /// `bool`.
    Boolean,
    /// An enumeration.
    Enumeration {
        /// In bytes.
        size: u64,
        /// In the order of their declaration.
        values: Vec<(i64, String)>,
    },
    /// A pointer.
    Pointer {
        /// Whether to characters.
        text: bool,
    },
    /// A structure or union.
    Structure {
        /// In bytes.
        size: u64,
        /// In their order.
        members: Vec<Member>,
    },
    /// An array; of one that has no length, zero elements.
    Array {
        /// What of.
        element: Arc<Type>,
        /// How many.
        count: u64,
    },
    /// Something that no value is printed of here.
    Unknown,
}

/// A member of a structure.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty for a structure or union without one.
    pub name: String,
    /// Its first byte.
    pub offset: u64,
    /// Of a bit field, its first bit in the structure, and how many.
    pub bits: Option<(u64, u64)>,
    /// Its type.
    pub of: Arc<Type>,
}

impl Type {
    /// In bytes.
    pub fn size(&self) -> u64 {
        match self {
            Type::Integer { size, .. } | Type::Enumeration { size, .. } | Type::Structure { size, .. } => *size,
            Type::Boolean => 1,
            Type::Pointer { .. } => 8,
            Type::Array { element, count } => element.size().saturating_mul(*count),
            Type::Unknown => 0,
        }
    }

    /// Whether GDB takes it for a character.
    pub(super) fn is_character(&self) -> bool {
        matches!(self, Type::Integer { size: 1, .. })
    }
}

/// The types of a unit that were wanted so far.
#[derive(Debug, Default)]
pub(super) struct Types {
    known: HashMap<UnitOffset, Arc<Type>>,
}

/// How deep types are in each other at most.
const DEEP: u32 = 32;

impl Types {
    /// What an entry's `DW_AT_type` says.
    pub(super) fn of<'a>(&mut self, unit: &Unit<'a>, entry: &Entry<'a>) -> gimli::Result<Arc<Type>> {
        self.below(unit, entry, 0)
    }

    fn below<'a>(&mut self, unit: &Unit<'a>, entry: &Entry<'a>, depth: u32) -> gimli::Result<Arc<Type>> {
        match entry.attr_value(gimli::DW_AT_type) {
            Some(AttributeValue::UnitRef(at)) if depth < DEEP => self.at(unit, at, depth + 1),
            _ => Ok(Arc::new(Type::Unknown)),
        }
    }

    fn at<'a>(&mut self, unit: &Unit<'a>, at: UnitOffset, depth: u32) -> gimli::Result<Arc<Type>> {
        if let Some(known) = self.known.get(&at) {
            return Ok(Arc::clone(known));
        }
        let entry = unit.unit.entry(at)?;
        let read = self.read(unit, &entry, depth)?;
        self.known.insert(at, Arc::clone(&read));
        Ok(read)
    }

    fn read<'a>(&mut self, unit: &Unit<'a>, entry: &Entry<'a>, depth: u32) -> gimli::Result<Arc<Type>> {
        let size = unsigned(entry, gimli::DW_AT_byte_size);
        let known = match entry.tag() {
            // GDB takes these for wide characters by their name.
            gimli::DW_TAG_typedef if is_wide(&string(unit, entry, gimli::DW_AT_name)) => Type::Unknown,
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type => return self.below(unit, entry, depth),
            gimli::DW_TAG_base_type => base(entry, size.unwrap_or(0)),
            gimli::DW_TAG_pointer_type => {
                Type::Pointer { text: entry.attr_value(gimli::DW_AT_type).is_some() && self.is_text(unit, entry)? }
            }
            gimli::DW_TAG_enumeration_type => enumeration(unit, entry, size)?,
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => match size {
                Some(size) => Type::Structure { size, members: self.members(unit, entry, depth)? },
                None => Type::Unknown,
            },
            gimli::DW_TAG_array_type => return self.array(unit, entry, depth),
            _ => Type::Unknown,
        };
        Ok(Arc::new(known))
    }

    /// Whether what a pointer points to is a character. A structure there is not looked at: it may be around the pointer.
    fn is_text<'a>(&mut self, unit: &Unit<'a>, pointer: &Entry<'a>) -> gimli::Result<bool> {
        let mut entry = pointer.clone();
        for _ in 0..DEEP {
            let Some(AttributeValue::UnitRef(at)) = entry.attr_value(gimli::DW_AT_type) else { return Ok(false) };
            entry = unit.unit.entry(at)?;
            match entry.tag() {
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_restrict_type
                | gimli::DW_TAG_atomic_type => {}
                gimli::DW_TAG_base_type => return Ok(self.at(unit, at, 0)?.is_character()),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn members<'a>(&mut self, unit: &Unit<'a>, structure: &Entry<'a>, depth: u32) -> gimli::Result<Vec<Member>> {
        let mut members = Vec::new();
        for entry in unit.children(structure.offset())?.iter().filter(|entry| entry.tag() == gimli::DW_TAG_member) {
            let number = |name| unsigned(entry, name);
            // Before DWARF 5, bits were counted in another way.
            let bits = number(gimli::DW_AT_bit_size).map(|count| number(gimli::DW_AT_data_bit_offset).zip(Some(count)));
            let of = match bits {
                Some(None) => Arc::new(Type::Unknown),
                _ => self.below(unit, entry, depth)?,
            };
            members.push(Member {
                name: string(unit, entry, gimli::DW_AT_name),
                offset: number(gimli::DW_AT_data_member_location).unwrap_or(0),
                bits: bits.flatten(),
                of,
            });
        }
        Ok(members)
    }

    fn array<'a>(&mut self, unit: &Unit<'a>, array: &Entry<'a>, depth: u32) -> gimli::Result<Arc<Type>> {
        let mut of = self.below(unit, array, depth)?;
        let ranges = unit.children(array.offset())?;
        // Of `a[2][3]`, the last is the innermost.
        for range in ranges.iter().rev().filter(|range| range.tag() == gimli::DW_TAG_subrange_type) {
            let last = unsigned(range, gimli::DW_AT_upper_bound).map(|last| last.wrapping_add(1));
            // Where the length is only known while the program runs, there is an expression.
            let is_fixed = [gimli::DW_AT_count, gimli::DW_AT_upper_bound]
                .iter()
                .all(|name| range.attr(*name).is_none_or(|bound| bound.udata_value().is_some()));
            let count = unsigned(range, gimli::DW_AT_count).or(last).unwrap_or(0);
            of = Arc::new(if is_fixed { Type::Array { element: of, count } } else { Type::Unknown });
        }
        Ok(of)
    }
}

fn is_wide(name: &str) -> bool {
    ["wchar_t", "char16_t", "char32_t"].contains(&name)
}

fn base(entry: &Entry<'_>, size: u64) -> Type {
    let Some(AttributeValue::Encoding(encoding)) = entry.attr_value(gimli::DW_AT_encoding) else {
        return Type::Unknown;
    };
    match (encoding, size) {
        (gimli::DW_ATE_boolean, 1) => Type::Boolean,
        (gimli::DW_ATE_signed | gimli::DW_ATE_signed_char, 1..=8) => Type::Integer { size, signed: true },
        (gimli::DW_ATE_unsigned | gimli::DW_ATE_unsigned_char, 1..=8) => Type::Integer { size, signed: false },
        _ => Type::Unknown,
    }
}

fn enumeration<'a>(unit: &Unit<'a>, entry: &Entry<'a>, size: Option<u64>) -> gimli::Result<Type> {
    let Some(size @ 1..=8) = size else { return Ok(Type::Unknown) };
    let children = unit.children(entry.offset())?;
    let value =
        |entry: &Entry<'a>| Some((signed(entry, gimli::DW_AT_const_value)?, string(unit, entry, gimli::DW_AT_name)));
    Ok(Type::Enumeration { size, values: children.iter().filter_map(value).collect() })
}
