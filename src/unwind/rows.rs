//! How frames are left: the call frame information of every function, as rows.

use gimli::{BaseAddresses, CfaRule, CieOrFde, RegisterRule, UnwindContext, UnwindSection};

use super::image::Slice;
use super::place::Expression;

/// How the frame at a place is left.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) frame: Start,
    /// By register; one that is not listed is as it was.
    pub(super) rules: Vec<(u16, Rule)>,
}

/// Where a frame starts: the stack pointer before the call.
#[derive(Debug)]
pub(super) enum Start {
    Register(u16, i64),
    Computed(Expression),
}

/// What a register was before the call.
#[derive(Debug)]
pub(super) enum Rule {
    Lost,
    Same,
    /// In memory, at this distance from the frame's start.
    Saved(i64),
    /// The frame's start and this.
    Start(i64),
    Register(u16),
    /// In memory, at a computed address.
    SavedAt(Expression),
    Computed(Expression),
}

/// Where the rows of all functions are: first address, the one past the last, offset in the section.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<(u64, u64, usize)>);

type Section<'a> = gimli::DebugFrame<Slice<'a>>;

impl Rows {
    /// Finds them in `.debug_frame`.
    pub(super) fn index(section: &Section<'_>) -> gimli::Result<Rows> {
        let bases = BaseAddresses::default();
        let mut entries = section.entries(&bases);
        let mut rows = Vec::new();
        while let Some(entry) = entries.next()? {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde = partial.parse(|section, bases, offset| section.cie_from_offset(bases, offset))?;
            rows.push((fde.initial_address(), fde.end_address(), fde.offset()));
        }
        rows.sort_unstable();
        Ok(Rows(rows))
    }

    /// The row of an address; none if there is none, or it has a rule of another machine.
    pub(super) fn at(&self, section: &Section<'_>, address: u64) -> gimli::Result<Option<Row>> {
        let after = self.0.partition_point(|(start, ..)| *start <= address);
        let Some((_, end, offset)) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return Ok(None) };
        if address >= *end {
            return Ok(None);
        }
        let bases = BaseAddresses::default();
        let at = gimli::DebugFrameOffset(*offset);
        let fde =
            section.fde_from_offset(&bases, at, |section, bases, offset| section.cie_from_offset(bases, offset))?;
        let encoding = fde.cie().encoding();
        let mut context = UnwindContext::new();
        let row = fde.unwind_info_for_address(section, &bases, &mut context, address)?;
        let expression = |code: gimli::UnwindExpression<usize>| -> gimli::Result<Expression> {
            Ok(Expression { code: code.get(section)?.0.to_vec(), encoding, types: Vec::new() })
        };
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Start::Register(register.0, *offset),
            CfaRule::Expression(code) => Start::Computed(expression(*code)?),
        };
        let mut rules = Vec::new();
        for (register, rule) in row.registers() {
            let rule = match rule {
                RegisterRule::Undefined => Rule::Lost,
                RegisterRule::SameValue => Rule::Same,
                RegisterRule::Offset(at) => Rule::Saved(*at),
                RegisterRule::ValOffset(at) => Rule::Start(*at),
                RegisterRule::Register(other) => Rule::Register(other.0),
                RegisterRule::Expression(code) => Rule::SavedAt(expression(*code)?),
                RegisterRule::ValExpression(code) => Rule::Computed(expression(*code)?),
                _ => return Ok(None),
            };
            rules.push((register.0, rule));
        }
        Ok(Some(Row { frame, rules }))
    }
}
