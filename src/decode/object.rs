//! An object's bytes, and the numbers in them.

use crate::layout::{Kind, Layouts};

/// An object of the kernel, copied.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it is.
    pub structure: &'static str,
    /// Where it is.
    pub address: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Object {
    /// The bytes of a member.
    pub(super) fn bytes_of(&self, layouts: &Layouts, path: &str) -> Option<&[u8]> {
        let field = layouts.field(self.structure, path)?;
        let start = usize::try_from(field.offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(field.size).ok()?)?)
    }

    /// A member of up to eight bytes as a number; a negative one as its two's complement.
    pub(super) fn number(&self, layouts: &Layouts, path: &str) -> Option<u64> {
        let field = layouts.field(self.structure, path)?;
        let bytes = self.bytes_of(layouts, path)?;
        if bytes.is_empty() || bytes.len() > 8 {
            return None;
        }
        let word = bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Some(match (field.bits, &field.kind) {
            (Some((first, count)), _) => {
                (word >> first) & (1_u64.checked_shl(u32::try_from(count).ok()?)?).wrapping_sub(1)
            }
            (None, Kind::Signed) => {
                let unused = 64 - 8 * u32::try_from(bytes.len()).ok()?;
                ((word << unused).cast_signed() >> unused).cast_unsigned()
            }
            _ => word,
        })
    }
}
