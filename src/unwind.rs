//! Stacks without a debugger: the debug information says of every place in the code how its frame is left and where its
//! variables are, registers and memory say the rest.
//!
//! What the debug information says of a place ([`Place`]) is owned, and found once, by [`Image`]. From there on a frame costs
//! microseconds: [`Frame::caller`] unwinds it, [`Frames::value`] evaluates a variable's location, and [`print`] writes the
//! value as GDB does.
//!
//! Pure but for [`Image`], which reads a vmlinux. It knows the x86-64 ABI and C, no kernel. What it does not understand it
//! leaves: whoever uses it has GDB to ask.

mod evaluate;
mod frames;
mod function;
mod image;
mod place;
mod print;
mod rows;
mod types;

pub use frames::{Frame, Frames, Registers, Value, word};
pub use image::Image;
pub use place::{Kept, Level, Place, Variable};
pub use print::{Names, print};
pub use types::{Member, Type};

#[cfg(test)]
mod tests;
