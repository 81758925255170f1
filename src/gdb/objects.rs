//! The kernel's objects that the variables of a hit point to, read and decoded.

use std::collections::BTreeSet;

use super::mi::number;
use super::returns::RETURNED;
use super::variables::KERNEL_HALF;
use crate::decode::{self, Decoder, Follower, Memory, Sight};
use crate::layout::Layouts;
use crate::report::model::{Decoded, Frame, Var};

/// How many objects of a hit are decoded at most; the innermost frames' first.
const MANY: usize = 24;

/// The kernel's half of the memory: no object of the kernel is anywhere else.
struct Kernel<'a>(&'a mut dyn Memory);

impl Memory for Kernel<'_> {
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
        if address < KERNEL_HALF { None } else { self.0.read(address, size) }
    }
}

/// Decodes what variables point to, each object once, under the names that are given with them; packets get their numbers.
/// An object that cannot be read says so.
pub(super) fn decode<'a>(
    memory: &mut dyn Memory,
    layouts: &Layouts,
    follower: &mut Follower,
    function: &dyn Fn(u64) -> Option<String>,
    variables: impl Iterator<Item = (String, &'a Var)>,
) -> Vec<Decoded> {
    let mut memory = Kernel(memory);
    let mut seen = BTreeSet::new();
    let mut decoded = Vec::new();
    let mut sights: Vec<Option<Sight>> = Vec::new();
    for (expression, var) in variables {
        let Some((kind, address)) = pointer(var).filter(|object| seen.insert(*object)) else { continue };
        if decoded.len() == MANY {
            break;
        }
        let said = match kind {
            ERROR => decode::error_of(address).map(decode::Said::new),
            kind => Decoder { layouts, memory: &mut memory, function }.decode(kind, address),
        };
        let Some(said) = said else { continue };
        sights.push(said.sight);
        let (summary, fields) = (said.summary, said.fields);
        decoded.push(Decoded { expression, kind: kind.into(), summary, fields, packet: None });
    }
    let packets = decoded.iter_mut().zip(&sights).filter_map(|(object, sight)| sight.as_ref().map(|_| object));
    let numbers = follower.numbers(&sights.iter().flatten().cloned().collect::<Vec<_>>());
    packets.zip(numbers).for_each(|(object, number)| object.packet = Some(number));
    decoded
}

/// The arguments and locals of all frames, innermost first, named as C or GDB names them: one that is not of the innermost
/// frame after its function.
pub(super) fn variables(frames: &[Frame]) -> impl Iterator<Item = (String, &Var)> {
    let name = |frame: &Frame, var: &Var| match frame.level {
        0 => var.name.clone(),
        _ => format!("{}::{}", frame.symbol, var.name),
    };
    let all = frames.iter().flat_map(|frame| frame.args.iter().chain(&frame.locals).map(move |var| (frame, var)));
    all.map(move |(frame, var)| (name(frame, var), var))
}

/// What an error number in a pointer is called.
const ERROR: &str = "error";

/// What a variable points to, and where.
fn pointer(var: &Var) -> Option<(&'static str, u64)> {
    let (type_name, value) = (var.type_name.as_deref()?, var.value.as_deref()?);
    let word = value.split_whitespace().next()?;
    // What a function returns as a number below zero is an error, whatever its type.
    let returned = || (var.name == RETURNED).then(|| word.parse::<i64>().ok().filter(|value| *value < 0)).flatten();
    let address = number(word).or_else(|| returned().map(i64::cast_unsigned))?;
    match decode::kind_of(type_name) {
        Some(kind) => Some((kind, address)),
        None if (type_name.ends_with('*') || var.name == RETURNED) && decode::error_of(address).is_some() => {
            Some((ERROR, address))
        }
        None => None,
    }
}
