//! What became of a probe, and where it stopped.

use serde::{Deserialize, Serialize};

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Its name.
    pub name: String,
    /// Where the recipe put it.
    pub at: String,
    /// What that resolved to.
    pub locations: Vec<Location>,
    /// How it stops the guest; none where it never had a place.
    #[serde(default)]
    pub kind: Option<StopKind>,
    /// How many hits were collected.
    pub hits: u64,
    /// Whether it reached its limit or its budget and was disarmed: there may have been more.
    pub disarmed: bool,
    /// How often the functions that it stopped in were entered after it was disarmed; none where that was not counted.
    #[serde(default)]
    pub counted: Option<u64>,
    /// Why it was never armed, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_armed: Option<String>,
    /// Whether it was disarmed because the guest had stood still for it longer than its budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over_budget: bool,
}

/// One address a probe stops at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The address, in hexadecimal with `0x`.
    pub address: String,
    /// The function whose code is there (for an inlined copy: the function that it was inlined into).
    pub symbol: String,
    /// Source file, relative to the kernel tree.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Whether this is an inlined copy of the probed function.
    pub inlined: bool,
    /// Whether the guest stops here in the way that costs little.
    #[serde(default)]
    pub cheap: bool,
}

/// How a probe stops the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopKind {
    /// At breakpoints.
    Breakpoint,
    /// In the way that costs little: a watchpoint on what the function was made to read as it begins.
    Cheap,
    /// Some of its places are of one kind, some of the other.
    Mixed,
    /// At a watchpoint on what the recipe wants watched.
    Watchpoint,
}
