//! A probe, as a recipe has it.
//!
//! Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::{duration, write_duration};

/// One place to stop, and what a stop there comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Unique in the recipe.
    pub name: String,
    /// `function`, a pattern of functions, `function:+line`, `return:function`, `file:line`, `*address` or
    /// `watch:expression`.
    pub at: String,
    /// A C condition, evaluated in the frame of the stop; only stops where it holds become hits.
    #[serde(default)]
    pub when: Option<String>,
    /// Expressions to evaluate at every hit, by name.
    #[serde(default)]
    pub show: BTreeMap<String, String>,
    /// A line of text with `{expressions}`: a hit is this line then, without stack and variables.
    #[serde(default)]
    pub log: Option<String>,
    /// How many frames to collect at most.
    #[serde(default = "ProbeSpec::default_stack")]
    pub stack: u32,
    /// How many times the place is passed before the first hit; of a probe on a return, how many returns.
    #[serde(default)]
    pub skip: u32,
    /// Hits after which the probe is disarmed.
    #[serde(default = "ProbeSpec::default_limit")]
    pub limit: u32,
    /// Another probe: this one is armed once that has had a hit.
    #[serde(default)]
    pub after: Option<String>,
    /// Steps of the trigger: the probe is armed only while they run. Empty: all the time.
    #[serde(default)]
    pub during: Vec<String>,
    /// What is changed at each hit: an expression, and its new value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// What the function returns at once, without having run.
    #[serde(default)]
    pub force_return: Option<String>,
    /// How long the guest may stand still for this probe, in all; then it is disarmed.
    #[serde(default = "ProbeSpec::default_budget", deserialize_with = "duration", serialize_with = "write_duration")]
    pub budget: Duration,
}

impl ProbeSpec {
    fn default_stack() -> u32 {
        64
    }
    fn default_limit() -> u32 {
        100
    }

    /// As much as a run of a minute or two can stand.
    fn default_budget() -> Duration {
        Duration::from_secs(60)
    }
}
