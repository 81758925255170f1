//! What a recipe says, as plain data: the YAML keys of docs/recipe.md, one to one.
//!
//! Pure. [`mod@super::load`] reads and checks it; nothing here knows a file.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kernel::KernelSpec;
use super::network::NetworkSpec;
pub use super::probe::ProbeSpec;

/// A whole recipe, as written, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run directory; lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// The question the recipe answers, in one line.
    #[serde(default)]
    pub about: String,
    /// Which kernel to build.
    pub kernel: KernelSpec,
    /// Which guest to boot.
    #[serde(default)]
    pub guest: GuestSpec,
    /// Where to stop and what to capture.
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
    /// What runs in the guest while the probes are armed.
    #[serde(default)]
    pub trigger: Vec<StepSpec>,
    /// Whether the guest's registers and memory are kept at each hit.
    #[serde(default)]
    pub record: bool,
    /// What must be seen for the run to pass.
    #[serde(default)]
    pub expect: Vec<ExpectSpec>,
}

/// The value of a Kconfig symbol: `y`, `n`, `m`, a number or a string, kept as Kconfig spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OptionValue(pub String);

/// The most CPUs that a guest can have.
pub const MOST_CPUS: u32 = 64;

/// Which guest: what is in it and how big it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestSpec {
    /// The image: `images/<name>.yaml`.
    pub image: String,
    /// Virtual CPUs, 1 to [`MOST_CPUS`].
    pub cpus: u32,
    /// Memory, like `256M`.
    pub memory: MemorySize,
    /// The network beside `lo`.
    pub network: NetworkSpec,
}

impl Default for GuestSpec {
    fn default() -> Self {
        GuestSpec {
            image: "base".into(),
            cpus: 1,
            memory: MemorySize { mebibytes: 256 },
            network: NetworkSpec::default(),
        }
    }
}

/// An amount of guest memory. Written `256M` or `1G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize {
    /// The amount in MiB.
    pub mebibytes: u32,
}

impl std::str::FromStr for MemorySize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of memory: write it as `256M` or `1G`");
        let (digits, factor) = match text.strip_suffix('G') {
            Some(digits) => (digits, 1024),
            None => (text.strip_suffix('M').ok_or_else(wrong)?, 1),
        };
        let mebibytes = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
        Ok(MemorySize { mebibytes })
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}

/// One step of the trigger: a shell script that runs in the guest, or a connection from the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Unique in the recipe; shown on the screen and in the report.
    pub name: String,
    /// The script.
    #[serde(default)]
    pub run: Option<String>,
    /// In place of a script: the forwarded port that kdbg connects to.
    #[serde(default)]
    pub to: Option<String>,
    /// What is sent there first.
    #[serde(default)]
    pub send: Option<String>,
    /// What must come back then.
    #[serde(default)]
    pub expect: Option<String>,
    /// What is sent and must come back after that.
    #[serde(default)]
    pub then: Vec<Exchange>,
    /// The host of the topology that it runs on.
    #[serde(default)]
    pub on: Option<String>,
    /// Files of the guest that are brought into the run directory when the trigger is over.
    #[serde(default)]
    pub fetch: Vec<String>,
    /// The exit code it must end with.
    #[serde(default)]
    pub exit: i32,
    /// How long it may take, counted only while the guest runs (not while it is stopped at a hit).
    #[serde(default = "StepSpec::default_timeout", deserialize_with = "duration", serialize_with = "write_duration")]
    pub timeout: Duration,
}

/// Something that is sent, and something that must come back, over a connection from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exchange {
    /// What is sent.
    pub send: Option<String>,
    /// A text that must be in what comes back, after what the exchange before has found.
    pub expect: Option<String>,
}

/// What a path of the guest is called in the run directory.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl StepSpec {
    /// What goes over the connection of a step that has one, in order.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let first = Exchange { send: self.send.clone(), expect: self.expect.clone() };
        std::iter::once(first).chain(self.then.iter().cloned()).collect()
    }

    fn default_timeout() -> Duration {
        Duration::from_secs(10)
    }
}

/// Something that must be seen of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// The probe's name.
    pub probe: String,
    /// How many hits: `3`, `">= 1"`, `0`. Default: at least one.
    #[serde(default)]
    pub hits: HitCount,
    /// Callers that must be on the stack of every hit, in this order from the probe outwards; gaps are fine.
    #[serde(default)]
    pub through: Vec<String>,
    /// Arguments, locals of the probe's frame, or `show` values, and what each must be in every hit.
    #[serde(default, rename = "where")]
    pub values: BTreeMap<String, ExpectedValue>,
}

/// A bound on the number of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HitCount {
    /// How to compare.
    pub comparison: Comparison,
    /// With what.
    pub count: u32,
}

/// How a number of hits is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Exactly that many.
    Equal,
    /// At least that many.
    AtLeast,
    /// At most that many.
    AtMost,
}

impl HitCount {
    /// Whether `hits` satisfies the bound.
    pub fn holds(self, hits: u64) -> bool {
        let count = u64::from(self.count);
        match self.comparison {
            Comparison::Equal => hits == count,
            Comparison::AtLeast => hits >= count,
            Comparison::AtMost => hits <= count,
        }
    }
}

impl Default for HitCount {
    fn default() -> Self {
        HitCount { comparison: Comparison::AtLeast, count: 1 }
    }
}

impl fmt::Display for HitCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.comparison {
            Comparison::Equal => write!(f, "{}", self.count),
            Comparison::AtLeast => write!(f, ">= {}", self.count),
            Comparison::AtMost => write!(f, "<= {}", self.count),
        }
    }
}

impl std::str::FromStr for HitCount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (comparison, digits) = if let Some(rest) = text.strip_prefix(">=") {
            (Comparison::AtLeast, rest)
        } else if let Some(rest) = text.strip_prefix("<=") {
            (Comparison::AtMost, rest)
        } else {
            (Comparison::Equal, text)
        };
        let count = digits
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a number of hits: write `1`, `\">= 1\"`, `\"<= 3\"` or `0`"))?;
        Ok(HitCount { comparison, count })
    }
}

/// What a value must be: compared as a number where both sides are numbers, else as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ExpectedValue(pub String);

/// What a sysctl is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SysctlValue(pub String);

/// Reads a scalar (string, integer or boolean) as its text, then parses that.
macro_rules! from_scalar {
    ($type:ty, $expecting:literal, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        $parse(text).map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<$type, E> {
                        self.visit_str(if value { "true" } else { "false" })
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

from_scalar!(OptionValue, "`y`, `n`, `m`, a whole number or text", |text: &str| {
    Ok::<_, String>(OptionValue(match text {
        "true" => "y".into(),
        "false" => "n".into(),
        other => other.into(),
    }))
});
from_scalar!(SysctlValue, "a whole number or text", |text: &str| Ok::<_, String>(SysctlValue(text.into())));
from_scalar!(MemorySize, "an amount of memory like `256M`", str::parse::<MemorySize>);
from_scalar!(HitCount, "a number of hits like `1` or `\">= 1\"`", str::parse::<HitCount>);
from_scalar!(ExpectedValue, "a whole number or text", |text: &str| Ok::<_, String>(ExpectedValue(text.into())));

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for HitCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a duration like `10s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like `10s`, `500ms` or `2m`")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::custom(format!("`{text}` is not a duration: write it as `10s`, `500ms` or `2m`")))
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// Writes it back.
pub(super) fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
