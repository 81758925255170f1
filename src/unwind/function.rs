//! What is in scope at a place in a function: its blocks, and the functions that are inlined there.

use std::sync::Arc;

use gimli::{AttributeValue, EntriesTreeNode, Operation, UnitOffset, ValueType};

use super::image::{Entry, Slice, Unit};
use super::place::{Call, Expression, Kept, Level, Place, Target, Variable};
use super::rows::Row;
use super::types::Types;

impl Place {
    /// A place in assembler code.
    pub(super) fn without_source(row: Option<Row>) -> Place {
        Place { row, levels: Vec::new(), entry: 0, base: None, call: None }
    }
}

/// Reads the function at `at` for a place: its address, and where the call there returns to. `symbol` says where functions of
/// other units are.
pub(super) fn read(
    unit: &Unit<'_>,
    at: UnitOffset,
    (address, returns): (u64, u64),
    types: &mut Types,
    symbol: &dyn Fn(&str) -> Option<u64>,
) -> gimli::Result<Option<Place>> {
    let function = unit.unit.entry(at)?;
    let Some((entry, _)) = unit.ranges(&function)?.first().copied() else { return Ok(None) };
    let base = match function.attr_value(gimli::DW_AT_frame_base) {
        Some(AttributeValue::Exprloc(code)) => Some(expression(unit, code)?),
        _ => None,
    };
    let name = unit.text(&function, gimli::DW_AT_name);
    let mut reading =
        Reading { unit, types, symbol, address, returns, entry, levels: vec![(name, vec![Vec::new()])], call: None };
    let mut tree = unit.unit.entries_tree(Some(at))?;
    reading.scope(tree.root()?, Some((0, 0)), 0)?;
    let Reading { levels, call, .. } = reading;
    let level = |(function, blocks): (String, Vec<Vec<Variable>>)| Level {
        function,
        variables: blocks.into_iter().rev().flatten().collect(),
    };
    let levels = levels.into_iter().rev().map(level).collect();
    Ok(Some(Place { row: None, levels, entry, base, call }))
}

/// How deep blocks are in each other at most, and expressions.
const DEEP: u32 = 200;

struct Reading<'u, 'a> {
    unit: &'u Unit<'a>,
    types: &'u mut Types,
    symbol: &'u dyn Fn(&str) -> Option<u64>,
    address: u64,
    returns: u64,
    entry: u64,
    /// The function and what is inlined in it, with their blocks: outermost first.
    levels: Vec<(String, Vec<Vec<Variable>>)>,
    call: Option<Call>,
}

impl<'a> Reading<'_, 'a> {
    /// Takes in what is below an entry; `inside` says in which level and block the place is, if it is there.
    fn scope(
        &mut self,
        node: EntriesTreeNode<'_, '_, Slice<'a>>,
        inside: Option<(usize, usize)>,
        depth: u32,
    ) -> gimli::Result<()> {
        if depth == DEEP {
            return Err(gimli::Error::UnsupportedEvaluation);
        }
        let mut children = node.children();
        while let Some(child) = children.next()? {
            let entry = child.entry().clone();
            match entry.tag() {
                gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable => {
                    if let Some((level, block)) = inside {
                        let variable = self.variable(&entry)?;
                        self.levels[level].1[block].push(variable);
                    }
                }
                gimli::DW_TAG_lexical_block => {
                    let ranges = self.unit.ranges(&entry)?;
                    // One without code is none; what is in it is of the block around it.
                    let within = inside.filter(|_| ranges.is_empty() || self.contains(&ranges));
                    let within = within.map(|(level, block)| match ranges.is_empty() {
                        true => (level, block),
                        false => {
                            let blocks = &mut self.levels[level].1;
                            blocks.push(Vec::new());
                            (level, blocks.len() - 1)
                        }
                    });
                    self.scope(child, within, depth + 1)?;
                }
                gimli::DW_TAG_inlined_subroutine => {
                    let ranges = self.unit.ranges(&entry)?;
                    let within = inside.filter(|_| self.contains(&ranges)).map(|_| {
                        self.levels.push((self.unit.text(&entry, gimli::DW_AT_name), vec![Vec::new()]));
                        (self.levels.len() - 1, 0)
                    });
                    self.scope(child, within, depth + 1)?;
                }
                gimli::DW_TAG_call_site => {
                    let returns = entry.attr_value(gimli::DW_AT_call_return_pc);
                    if matches!(returns, Some(AttributeValue::Addr(at)) if at == self.returns) {
                        self.call = Some(self.call(&entry)?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn contains(&self, ranges: &[(u64, u64)]) -> bool {
        ranges.iter().any(|(start, end)| (*start..*end).contains(&self.address))
    }

    fn variable(&mut self, entry: &Entry<'a>) -> gimli::Result<Variable> {
        let unit = self.unit;
        let location = unit.attribute(entry, gimli::DW_AT_location);
        let is_elsewhere = entry.attr(gimli::DW_AT_declaration).is_some();
        let is_constant = unit.attribute(entry, gimli::DW_AT_const_value).is_some();
        let is_nowhere = match location {
            None => true,
            Some(AttributeValue::Exprloc(code)) => code.0.is_empty(),
            Some(_) => false,
        };
        let kept = match (is_constant, is_nowhere || is_elsewhere) {
            (true, _) => Kept::Constant,
            (false, true) => Kept::Nothing,
            (false, false) => Kept::Located,
        };
        let typed = unit.holder(entry, gimli::DW_AT_type);
        let of = match typed {
            Some(typed) => self.types.of(unit, &typed)?,
            None => Arc::new(super::types::Type::Unknown),
        };
        let at_entry = match entry.tag() {
            gimli::DW_TAG_formal_parameter => self.location(location, self.entry)?,
            _ => None,
        };
        Ok(Variable {
            name: unit.text(entry, gimli::DW_AT_name),
            is_argument: entry.tag() == gimli::DW_TAG_formal_parameter,
            of,
            at: self.location(location, self.address)?,
            passed: at_entry.and_then(|at| register(&at)),
            kept,
        })
    }

    /// A location where the program counter is `at`.
    fn location(&self, location: Option<AttributeValue<Slice<'a>>>, at: u64) -> gimli::Result<Option<Expression>> {
        let Some(location) = location else { return Ok(None) };
        if let AttributeValue::Exprloc(code) = location {
            return expression(self.unit, code).map(Some);
        }
        let Some(mut list) = self.unit.dwarf.attr_locations(&self.unit.unit, location)? else { return Ok(None) };
        while let Some(entry) = list.next()? {
            if (entry.range.begin..entry.range.end).contains(&at) {
                return expression(self.unit, entry.data).map(Some);
            }
        }
        Ok(None)
    }

    fn call(&self, entry: &Entry<'a>) -> gimli::Result<Call> {
        let target = match (entry.attr_value(gimli::DW_AT_call_origin), entry.attr_value(gimli::DW_AT_call_target)) {
            (Some(AttributeValue::UnitRef(at)), _) => self.target(at)?,
            (None, Some(AttributeValue::Exprloc(code))) => Target::Computed(expression(self.unit, code)?),
            _ => Target::Unknown,
        };
        let mut parameters = Vec::new();
        for child in self.unit.children(entry.offset())? {
            let place = child.attr_value(gimli::DW_AT_location);
            let value = child.attr_value(gimli::DW_AT_call_value);
            if let (Some(AttributeValue::Exprloc(place)), Some(AttributeValue::Exprloc(value))) = (place, value)
                && let Some(register) = register(&expression(self.unit, place)?)
            {
                parameters.push((register, expression(self.unit, value)?));
            }
        }
        Ok(Call { target, parameters })
    }

    /// Where a function that is called begins, as far as GDB knows: of one that is declared here, it looks up the name.
    fn target(&self, at: UnitOffset) -> gimli::Result<Target> {
        let function = self.unit.unit.entry(at)?;
        let address = if function.attr(gimli::DW_AT_declaration).is_some() {
            (self.symbol)(&self.unit.text(&function, gimli::DW_AT_name))
        } else {
            self.unit.ranges(&function)?.first().map(|(start, _)| *start)
        };
        Ok(address.map_or(Target::Unknown, Target::Address))
    }
}

/// The register that is all of an expression.
pub(super) fn register(expression: &Expression) -> Option<u16> {
    match expression.code[..] {
        [code @ 0x50..=0x6f] => Some(u16::from(code - 0x50)),
        _ => None,
    }
}

/// An expression of its own.
fn expression(unit: &Unit<'_>, code: gimli::Expression<Slice<'_>>) -> gimli::Result<Expression> {
    let encoding = unit.unit.encoding();
    let mut types = Vec::new();
    base_types(unit, code, &mut types, 0)?;
    Ok(Expression { code: code.0.to_vec(), encoding, types })
}

/// The base types that an expression names.
fn base_types(
    unit: &Unit<'_>,
    code: gimli::Expression<Slice<'_>>,
    types: &mut Vec<(usize, ValueType)>,
    depth: u32,
) -> gimli::Result<()> {
    if depth == DEEP {
        return Err(gimli::Error::UnsupportedEvaluation);
    }
    let mut operations = code.operations(unit.unit.encoding());
    while let Some(operation) = operations.next()? {
        let named = match operation {
            Operation::Deref { base_type, .. }
            | Operation::RegisterOffset { base_type, .. }
            | Operation::TypedLiteral { base_type, .. }
            | Operation::Convert { base_type }
            | Operation::Reinterpret { base_type } => base_type,
            Operation::EntryValue { expression } => {
                base_types(unit, gimli::Expression(expression), types, depth + 1)?;
                continue;
            }
            _ => continue,
        };
        if named.0 != 0
            && let Some(known) = ValueType::from_entry(&unit.unit.entry(named)?)?
        {
            types.push((named.0, known));
        }
    }
    Ok(())
}
