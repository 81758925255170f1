//! What the debug information says of a place in the code.

use std::sync::Arc;

use gimli::{Encoding, ValueType};

use super::rows::Row;
use super::types::Type;

/// A place in the code: an address, and the one behind it where a call returns to.
#[derive(Debug)]
pub struct Place {
    /// How its frame is left; none in assembler code.
    pub(super) row: Option<Row>,
    /// The functions that it is in: what is inlined there first, the function itself last; none in assembler code.
    pub levels: Vec<Level>,
    /// The first address of that function.
    pub(super) entry: u64,
    /// Where that function's frame begins.
    pub(super) base: Option<Expression>,
    /// The call that returns here.
    pub(super) call: Option<Call>,
}

/// A function at a place, or a copy of one that is inlined there.
#[derive(Debug)]
pub struct Level {
    /// Its name in the source.
    pub function: String,
    /// What is in scope, the innermost block's first.
    pub variables: Vec<Variable>,
}

/// An argument or a local.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether it is an argument.
    pub is_argument: bool,
    /// Its type.
    pub(super) of: Arc<Type>,
    /// Where it is at the place; none where it is not.
    pub(super) at: Option<Expression>,
    /// The register that an argument is in where the function begins.
    pub(super) passed: Option<u16>,
    /// What there is of it anywhere.
    pub kept: Kept,
}

/// What the compiler has kept of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It has a location, though perhaps not everywhere.
    Located,
    /// It is always the same.
    Constant,
    /// Nothing.
    Nothing,
}

/// What is known of a call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) target: Target,
    /// The values of the registers that it passes arguments in.
    pub(super) parameters: Vec<(u16, Expression)>,
}

/// What is called.
#[derive(Debug)]
pub(super) enum Target {
    Address(u64),
    Computed(Expression),
    Unknown,
}

/// A DWARF expression of its own, with the base types that it names by their offsets.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) code: Vec<u8>,
    pub(super) encoding: Encoding,
    pub(super) types: Vec<(usize, ValueType)>,
}
