//! The room of the recipe: from a YAML file to a checked [`Recipe`] and everything it names.
//!
//! Three steps, each usable alone:
//!
//! 1. [`load()`] reads the file. What is wrong with it is shown at its line ([`diagnostic`], [`locate`]):
//!    YAML that is no YAML, keys and types that a recipe does not have (`shape`), and values that make no
//!    sense (`check`).
//! 2. [`point`], [`expression`] and [`message`] say what `at`, `when`, `show` and `log` may hold. They are the gate of the rule that
//!    recipes are data: nothing in a recipe becomes a GDB command or runs on the host.
//! 3. [`resolve()`] finds the files a recipe names: fragments, the image and its `init`.
//!
//! Nothing in here starts a process, opens a socket or knows a terminal. Only `load` and `resolve` read files.

pub mod capture;
mod check;
pub mod diagnostic;
pub mod expression;
pub mod image;
pub mod kernel;
pub mod load;
pub mod locate;
pub mod message;
pub mod modules;
pub mod network;
pub mod point;
pub mod probe;
pub mod resolve;
mod shape;
pub mod topology;
pub mod types;

pub use image::ImageSpec;
pub use kernel::{KernelChoice, Source};
pub use load::{Loaded, load};
pub use point::ProbePoint;
pub use resolve::{Fragment, Image, Patch, Resolved, resolve};
pub use types::Recipe;
