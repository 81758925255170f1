//! The room of the host: what the machine kdbg runs on has and lacks, and how what it lacks is installed.
//!
//! - [`needs`]: the table of what kdbg needs, for what, from which version on, and in which package (pure).
//! - [`version`]: version numbers, as tools print them (pure).
//! - [`system`]: the one seam to the outside: `PATH`, the root folder, and the function that runs a tool.
//! - [`probe`]: looks for each need and says what it found.
//! - `answers`: what tools said of their versions, remembered until they change.
//! - [`facts`]: disk, memory, CPUs, the state of `/dev/kvm`.
//! - [`packages`]: the package manager: which commands would bring what is missing.
//! - [`install`]: runs those commands, with consent.
//! - [`check`]: all of it in one call, for verbs that are about to work.
//!
//! Nothing here knows a recipe, a guest or GDB. Another room that needs a tool adds a [`needs::Need`].

mod answers;
pub mod check;
pub mod facts;
pub mod install;
pub mod needs;
pub mod packages;
pub mod probe;
pub mod system;
pub mod version;

#[cfg(test)]
mod fake;
