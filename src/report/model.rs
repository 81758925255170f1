//! `report.json`, as types: the names here are read by programs outside this repository (docs/report.md).
//!
//! Pure: no file, no process. Every other format is rendered from a [`Report`].

mod change;
mod hit;
mod incident;
mod probe;
mod var;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::debuggable::Debuggable;
use crate::error::ErrorKind;
pub use change::{Altered, Changed};
pub use hit::{Context, Cost, Decoded, Depth, Frame, Hit, Interrupted, StackReader, Syscall, Task};
pub use incident::{Call, Incident, IncidentKind};
pub use probe::{Location, ProbeResult, StopKind};
pub use var::{Lost, Var, Why};

/// The version of the schema that [`Report::schema`] carries.
pub const SCHEMA: u32 = 1;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The recipe that ran.
    pub recipe: RecipeInfo,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended early, if it did.
    pub error: Option<ErrorInfo>,
    /// The kernel that ran; none when the run ended before there was one.
    pub kernel: Option<KernelInfo>,
    /// The machine it ran on; none when the run ended before there was one.
    pub machine: Option<MachineInfo>,
    /// Every probe of the recipe, in its order.
    pub probes: Vec<ProbeResult>,
    /// Every hit, in the order of time.
    pub hits: Vec<Hit>,
    /// Every step of the trigger that started, in order.
    pub trigger: Vec<StepResult>,
    /// Every interface that was captured, in the order of packets.pcapng.
    #[serde(default)]
    pub captured: Vec<Captured>,
    /// What the guest's kernel complained about, in the order of time.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// Every expectation, those of the steps' exit codes included.
    pub expectations: Vec<ExpectationResult>,
    /// What took how long, in milliseconds; the keys end in `_ms`. Volatile.
    pub timings: BTreeMap<String, u64>,
    /// What the user should know: nothing is decided silently.
    pub warnings: Vec<String>,
    /// The other files of the run, by name, relative to this one.
    pub files: BTreeMap<String, String>,
    /// The places of this report that differ from run to run, as JSON pointers.
    #[serde(default)]
    pub volatile: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every expectation held.
    Passed,
    /// The run went through; an expectation did not hold.
    Failed,
    /// The run ended early; `error` says why.
    Error,
    /// The user stopped it.
    Interrupted,
}

impl Outcome {
    /// The word used in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Error => "error",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// Which recipe ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeInfo {
    /// Its name.
    pub name: String,
    /// Its question.
    pub about: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Why a run ended early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// Which part failed; decides the exit code.
    pub kind: ErrorKind,
    /// What happened.
    pub message: String,
    /// What mends it.
    pub hint: Option<String>,
}

/// Which kernel ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// The version that the recipe asked for.
    pub version: String,
    /// `uname -r` of the build.
    pub release: String,
    /// GNU build-id of vmlinux, in hexadecimal.
    pub build_id: String,
    /// The cache key.
    pub key: String,
    /// The full vmlinux, with debug information. Volatile: a path of the host.
    pub vmlinux: String,
    /// How what the recipe wants debuggable was compiled; none where nothing was to be.
    #[serde(default)]
    pub debuggable: Option<Debuggable>,
}

/// Which machine the kernel ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// QEMU's version.
    pub qemu: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory, like `256M`.
    pub memory: String,
    /// Whether the guest was forked from a template instead of booted.
    pub forked: bool,
    /// The guest's ports that could be reached from the host; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ForwardInfo>,
}

/// A TCP port of the guest that a port of the host's loopback leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardInfo {
    /// Its name.
    pub name: String,
    /// The guest's port.
    pub guest: u16,
    /// The host's port. Volatile, unless the recipe names it.
    pub host: u16,
}

impl std::fmt::Display for ForwardInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: 127.0.0.1:{} → port {} of the guest", self.name, self.host, self.guest)
    }
}

/// How a step of the trigger went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its name.
    pub name: String,
    /// Its exit code (128 + signal when a signal ended it); none when it did not end by itself.
    pub exit_code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took, hits included. Volatile.
    pub duration_ms: u64,
    /// Whether it was killed for exceeding its timeout.
    pub timed_out: bool,
}

/// What was captured on an interface of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Its host and its name, like `client:eth0`.
    pub interface: String,
    /// How many packets of it are in packets.pcapng.
    pub packets: u64,
}

/// Whether something that must be seen was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// What was asked, as a sentence.
    pub text: String,
    /// Whether it held.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn a_report_survives_being_written_and_read() {
        let report = sample();
        let text = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_report_from_before_probes_were_counted_on_can_be_read() {
        let mut json = serde_json::to_value(sample()).unwrap();
        json["probes"][0].as_object_mut().unwrap().remove("counted");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), sample());
    }

    #[test]
    fn the_keys_of_report_json_and_their_order() {
        let json = serde_json::to_value(sample()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let hit = &json["hits"][0];
        let frame = &hit["frames"][0];
        let wanted = [
            (
                &json,
                "schema recipe outcome error kernel machine probes hits trigger captured incidents expectations timings warnings files volatile",
            ),
            (&json["recipe"], "name about sha256"),
            (&json["kernel"], "version release build_id key vmlinux debuggable"),
            (&json["machine"], "accelerator qemu cpus memory forked"),
            (&json["probes"][0], "name at locations kind hits disarmed counted"),
            (&json["probes"][0]["locations"][0], "address symbol file line inlined cheap"),
            (
                hit,
                "index probe cpu task context depth jiffies syscall frames cut shown decoded returned arguments cost",
            ),
            (&hit["task"], "comm pid tgid"),
            (frame, "level address symbol offset file line inlined args locals hidden"),
            (&frame["args"][0], "name type value available why lost"),
            (&hit["decoded"][0], "expression kind summary fields packet"),
            (&hit["depth"], "preempt softirqs rcu locks"),
            (&hit["cost"], "stop_us collect_us stack"),
            (&json["trigger"][0], "name exit_code stdout stderr duration_ms timed_out"),
            (&json["captured"][0], "interface packets"),
            (&json["expectations"][0], "text passed detail"),
        ];
        for (value, names) in wanted {
            assert_eq!(keys(value), names);
        }
        assert_eq!((&json["schema"], &json["outcome"]), (&1.into(), &"passed".into()));
        assert_eq!(frame["locals"][1]["why"], "not set yet");
    }
}
