//! DWARF expressions, evaluated in a frame.

use gimli::{EndianSlice, Evaluation, EvaluationResult, LittleEndian, Location, Piece, ValueType};

use super::frames::{At, Value};
use super::function::register;
use super::place::Expression;
use crate::decode::Memory;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Where a variable is, or what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// In memory.
    Address(u64),
    /// In a register, whose value may be lost.
    Register(Option<u64>),
    /// Computed.
    Word(u64),
    Bytes(Vec<u8>),
    Pieces(Vec<(usize, Outcome)>),
    /// Nowhere.
    Lost,
}

/// How many operations an expression may take.
const OPERATIONS: u32 = 1000;

/// What an expression comes to; none where it is not understood, or needs memory that cannot be read.
pub(super) fn evaluate(
    code: &Expression,
    initial: Option<u64>,
    at: At<'_>,
    memory: &mut dyn Memory,
) -> Option<Outcome> {
    deep(code, initial, at, memory, 0)
}

/// Likewise; `depth` says how many callers' values are being looked for.
pub(super) fn deep(
    code: &Expression,
    initial: Option<u64>,
    at: At<'_>,
    memory: &mut dyn Memory,
    depth: u32,
) -> Option<Outcome> {
    if code.code.is_empty() {
        return Some(Outcome::Lost);
    }
    let mut evaluation = Evaluation::new(EndianSlice::new(&code.code, LittleEndian), code.encoding);
    evaluation.set_max_iterations(OPERATIONS);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size, base_type, space: None } => {
                let bytes = memory.read(address, u64::from(size))?;
                evaluation.resume_with_memory(typed(code, base_type.0, little(&bytes)?)?)
            }
            EvaluationResult::RequiresRegister { register, base_type } => {
                let value = at.frame()?.registers.get(register.0)?;
                evaluation.resume_with_register(typed(code, base_type.0, value)?)
            }
            EvaluationResult::RequiresFrameBase => evaluation.resume_with_frame_base(at.base(memory)?),
            EvaluationResult::RequiresCallFrameCfa => evaluation.resume_with_call_frame_cfa(at.start()?),
            EvaluationResult::RequiresEntryValue(inner) => {
                let inner = Expression { code: inner.0.to_vec(), encoding: code.encoding, types: Vec::new() };
                match at.passed(register(&inner)?, memory, depth)? {
                    Some(value) => evaluation.resume_with_entry_value(gimli::Value::Generic(value)),
                    None => return Some(Outcome::Lost),
                }
            }
            EvaluationResult::RequiresRelocatedAddress(address) => evaluation.resume_with_relocated_address(address),
            EvaluationResult::RequiresBaseType(at) => evaluation.resume_with_base_type(value_type(code, at.0)?),
            _ => return None,
        }
        .ok()?;
    }
    let pieces = evaluation.result();
    match &pieces[..] {
        [] => Some(Outcome::Lost),
        [Piece { size_in_bits: None, bit_offset: None, location }] => outcome(location, at),
        pieces => pieces.iter().map(|piece| part(piece, at)).collect::<Option<Vec<_>>>().map(Outcome::Pieces),
    }
}

/// A piece of whole bytes, from the first of where it is.
fn part(piece: &Piece<Slice<'_>>, at: At<'_>) -> Option<(usize, Outcome)> {
    let bits = piece.size_in_bits?;
    let whole = bits.is_multiple_of(8) && piece.bit_offset.unwrap_or(0) == 0;
    whole.then_some(())?;
    Some((usize::try_from(bits / 8).ok()?, outcome(&piece.location, at)?))
}

fn outcome(location: &Location<Slice<'_>>, at: At<'_>) -> Option<Outcome> {
    Some(match location {
        Location::Empty => Outcome::Lost,
        Location::Register { register } => Outcome::Register(at.frame()?.registers.get(register.0)),
        Location::Address { address } => Outcome::Address(*address),
        Location::Value { value } => Outcome::Word(value.to_u64(!0).ok()?),
        Location::Bytes { value } => Outcome::Bytes(value.to_vec()),
        // What it points to is nowhere.
        Location::ImplicitPointer { .. } => return None,
    })
}

fn typed(code: &Expression, base_type: usize, value: u64) -> Option<gimli::Value> {
    let of = if base_type == 0 { ValueType::Generic } else { value_type(code, base_type)? };
    gimli::Value::from_u64(of, value).ok()
}

fn value_type(code: &Expression, at: usize) -> Option<ValueType> {
    if at == 0 {
        return Some(ValueType::Generic);
    }
    code.types.iter().find(|(other, _)| *other == at).map(|(_, known)| *known)
}

/// A number of up to eight bytes.
fn little(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

impl Outcome {
    /// The value of a variable of so many bytes.
    pub(super) fn value(self, size: u64, memory: &mut dyn Memory) -> Option<Value> {
        /// GDB's `max-value-size`.
        const LARGEST: u64 = 65_536;
        let size = usize::try_from(size).ok().filter(|size| *size as u64 <= LARGEST)?;
        let bare = |bytes: Vec<u8>| Value { bytes, lost: Vec::new(), address: None };
        let gone = || Value { bytes: vec![0; size], lost: vec![true; size], address: None };
        match self {
            Outcome::Lost | Outcome::Register(None) => Some(gone()),
            Outcome::Word(value) | Outcome::Register(Some(value)) => {
                value.to_le_bytes().get(..size).map(|bytes| bare(bytes.to_vec()))
            }
            Outcome::Bytes(bytes) => bytes.get(..size).map(|bytes| bare(bytes.to_vec())),
            Outcome::Address(address) => {
                let bytes = if size == 0 { Vec::new() } else { memory.read(address, size as u64)? };
                Some(Value { bytes, lost: Vec::new(), address: Some(address) })
            }
            Outcome::Pieces(pieces) => {
                let mut value = Value { bytes: Vec::new(), lost: Vec::new(), address: None };
                for (count, piece) in pieces {
                    let part = piece.value(count as u64, memory)?;
                    let lost = if part.lost.is_empty() { vec![false; count] } else { part.lost };
                    value.bytes.extend(part.bytes);
                    value.lost.extend(lost);
                }
                // What no piece tells of is nowhere.
                value.lost.resize(size.max(value.lost.len()), true);
                value.bytes.resize(value.lost.len(), 0);
                (value.bytes.len() == size).then_some(value)
            }
        }
    }
}
