//! `kdbg doctor`: looks at the host, shows what is there and what is not, and installs that with `--install`.
//!
//! Results go to standard output, as a table or one JSON object; the looking is [`crate::host`]'s.

use std::path::{Path, PathBuf};

use console::Style;
use serde_json::json;

use super::table::aligned;
use crate::cli::DoctorArgs;
use crate::error::{IoContext, Result};
use crate::event::{Cancel, Events};
use crate::guest::accelerator;
use crate::guest::image::modules::Modules;
use crate::guest::image::{self, Contents};
use crate::host::check::{complaint, lacking, settle};
use crate::host::facts::{Facts, KvmDevice};
use crate::host::needs::{Purpose, needs_for};
use crate::host::packages::{Manager, Plan};
use crate::host::probe::{Finding, Verdict};
use crate::host::system::System;
use crate::recipe::Image;
use crate::report::text::size;
use crate::store::Cache;
use crate::{kernel, ui};

/// What is in the cache while a distribution's kernel is filed; a source, its objects and what is built of it take less.
const ENOUGH_DISK: u64 = 3 << 30;

/// The kernel whose source and build tools are looked for: that of the repository's recipes.
const DEFAULT_KERNEL: &str = "6.1";

/// What `kdbg doctor` was asked for.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// Install what is missing.
    pub install: bool,
    /// One JSON object instead of a table.
    pub json: bool,
    /// kdbg's cache folder.
    pub cache: PathBuf,
    /// The kernels whose needs are looked at, like `6.1`.
    pub kernels: Vec<String>,
}

/// `kdbg doctor` for the kernels that the repository's recipes are about.
///
/// # Errors
/// Something needed is not there, or what was found cannot be shown.
pub fn run(args: &DoctorArgs, cancel: &Cancel) -> Result<()> {
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let options = DoctorOptions {
        install: args.install,
        json: args.json,
        cache: Cache::place()?,
        kernels: vec![DEFAULT_KERNEL.into()],
    };
    let result = doctor(&options, kvm_verdict(&events, cancel), &events, cancel);
    screen.finish();
    result
}

/// What a boot under KVM comes to; none without a cache or a QEMU. A refusal is tried again: whatever it was may be mended.
fn kvm_verdict(events: &Events, cancel: &Cancel) -> Option<accelerator::Verdict> {
    let cache = Cache::open().ok()?;
    let qemu = which::which("qemu-system-x86_64").ok()?;
    Some(match accelerator::known(&qemu, &cache) {
        accelerator::Verdict::Proved => accelerator::Verdict::Proved,
        known => prove_kvm(&qemu, &cache, events, cancel).unwrap_or(known),
    })
}

/// None when there is no device, or no kernel to try it with.
fn prove_kvm(qemu: &Path, cache: &Cache, events: &Events, cancel: &Cancel) -> Option<accelerator::Verdict> {
    accelerator::device_opens().ok()?;
    let kernel = kernel::any_filed(cache)?;
    let image = Image::built_in("base")?;
    let contents = Contents { image: &image, packages: None, modules: &Modules::default() };
    events.fact("accelerator", "tries whether a guest boots under KVM");
    let initramfs = image::build(&contents, cache, &Events::none(), cancel).ok()?;
    accelerator::prove(qemu, &kernel, &initramfs, cache, cancel).ok()
}

/// Looks, installs if asked to, shows. Fails with an error of kind host when something needed is not there.
///
/// `kvm` is the verdict of a real boot under KVM, where one was made.
pub fn doctor(
    options: &DoctorOptions,
    kvm: Option<accelerator::Verdict>,
    events: &Events,
    cancel: &Cancel,
) -> Result<()> {
    let system = System::here(&options.cache);
    let needs = needs_for(&Purpose::ALL, &options.kernels);
    let findings = settle(&needs, options.install, &system, events, cancel)?;
    let checkup = Checkup {
        facts: Facts::gather(&system),
        manager: Manager::of(&system),
        plan: Plan::of(&findings, &system),
        kvm,
        findings,
    };
    let text = match options.json {
        true => format!("{}\n", checkup.json()),
        false => checkup.table(console::colors_enabled()),
    };
    ui::print(&text).or_host("write to standard output")?;
    lacking(&checkup.findings, &system, options.install)
}

/// All that was found out.
struct Checkup {
    findings: Vec<Finding>,
    facts: Facts,
    manager: Option<Manager>,
    plan: Option<Plan>,
    kvm: Option<accelerator::Verdict>,
}

impl Checkup {
    /// One object with everything in it.
    fn json(&self) -> serde_json::Value {
        let needs = self.findings.iter().map(|Finding { need, verdict }| {
            let minimum = need.minimum.as_ref().map(|minimum| &minimum.version);
            json!({ "id": need.id, "why": need.why, "purposes": need.purposes, "minimum": minimum, "found": verdict })
        });
        json!({
            "needs": needs.collect::<Vec<_>>(),
            "host": self.facts,
            "kvm": self.kvm,
            "package_manager": self.manager,
            "remedy": self.plan.as_ref().map(ToString::to_string),
            "ok": self.findings.iter().all(|finding| finding.verdict.is_ok()),
        })
    }

    /// The table for people.
    fn table(&self, colour: bool) -> String {
        let paint = |style: Style, text: &str| style.force_styling(colour).apply_to(text).to_string();
        let good = |text: &str| paint(Style::new().green(), text);
        let bad = |text: &str| paint(Style::new().red().bold(), text);
        let doubtful = |text: &str| paint(Style::new().yellow(), text);

        let head = ["tool", "found", "needed for", "verdict"].map(|title| paint(Style::new().bold(), title));
        let rows = self.findings.iter().map(|Finding { need, verdict }| {
            let judged = complaint(verdict).map_or_else(|| good("ok"), |complaint| bad(&complaint));
            [need.id.to_string(), found(verdict), need.why.to_string(), judged]
        });
        let table = aligned(&[head].into_iter().chain(rows).collect::<Vec<_>>());

        let disk = match self.facts.free_disk {
            Some(free) if free < ENOUGH_DISK => {
                doubtful(&format!("{} free (a kernel takes up to {})", size(free), size(ENOUGH_DISK)))
            }
            free => free.map_or("unknown".into(), |free| format!("{} free", size(free))),
        };
        let manager = self.manager.map_or_else(|| doubtful("none kdbg knows"), |manager| manager.to_string());
        let facts = aligned(&[
            ["accelerator".into(), accelerator(&self.facts.kvm, self.kvm.as_ref())],
            ["disk".into(), format!("{disk} at {}", self.facts.cache.display())],
            ["memory".into(), self.facts.available_memory.map_or("unknown".into(), |m| format!("{} free", size(m)))],
            ["CPUs".into(), self.facts.cpus.to_string()],
            ["packages".into(), self.facts.distribution.iter().fold(manager, |m, name| format!("{m} on {name}"))],
        ]);
        format!("{table}\n{facts}")
    }
}

/// The version found, or that something without a version was.
fn found(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ok { version: Some(version), .. } | Verdict::TooOld { found: version, .. } => version.to_string(),
        Verdict::Ok { version: None, .. } => "yes".into(),
        Verdict::Missing | Verdict::Unusable { .. } => "-".into(),
    }
}

/// What will execute guests, and why.
fn accelerator(device: &KvmDevice, kvm: Option<&accelerator::Verdict>) -> String {
    use accelerator::Verdict::{Proved, Refused, Untried};
    match (device, kvm) {
        (KvmDevice::Absent, _) => "TCG: this host has no /dev/kvm".into(),
        (KvmDevice::NoPermission { group }, _) => {
            format!("TCG: /dev/kvm is for the group `{group}` only; join it for KVM")
        }
        (KvmDevice::Refused { why }, _) => format!("TCG: /dev/kvm cannot be opened: {why}"),
        (KvmDevice::Openable, Some(Proved)) => "KVM: a guest has booted under it".into(),
        (KvmDevice::Openable, Some(Refused { why })) => {
            format!("TCG: KVM is refused, a guest does not boot under it: {why}")
        }
        (KvmDevice::Openable, Some(Untried) | None) => {
            "not known yet: /dev/kvm opens, and the first run finds out whether a guest boots under KVM".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::version::Version;

    fn checkup() -> Checkup {
        let verdict = |id: &str| match id {
            "gdb" => Verdict::Ok { version: Version::parse("13.1"), path: None },
            _ => Verdict::Missing,
        };
        let needs = needs_for(&[Purpose::Debug, Purpose::Boot], &["6.1"]);
        Checkup {
            findings: needs.into_iter().map(|need| Finding { verdict: verdict(&need.id), need }).collect(),
            facts: Facts {
                cache: "/cache".into(),
                free_disk: Some(2 << 30),
                available_memory: Some(512 << 20),
                cpus: 2,
                kvm: KvmDevice::NoPermission { group: "kvm".into() },
                distribution: Some("Debian GNU/Linux 12".into()),
            },
            manager: Some(Manager::Apt),
            plan: None,
            kvm: None,
        }
    }

    #[test]
    fn the_table_is_aligned_and_plain_without_a_terminal() {
        insta::assert_snapshot!(checkup().table(false), @r"
          tool                found  needed for                     verdict
          gdb                 13.1   stops the kernel and reads it  ok
          qemu-system-x86_64  -      boots the guest                missing

          accelerator  TCG: /dev/kvm is for the group `kvm` only; join it for KVM
          disk         2.0 GiB free (a kernel takes up to 3.0 GiB) at /cache
          memory       512 MiB free
          CPUs         2
          packages     apt-get on Debian GNU/Linux 12
        ");
    }

    #[test]
    fn json_says_the_same() {
        let json = checkup().json();
        assert_eq!(json["needs"][0]["found"]["version"], "13.1");
        assert_eq!(json["needs"][1]["found"]["verdict"], "missing");
        assert_eq!(json["host"]["kvm"]["group"], "kvm");
        assert_eq!(json["ok"], false);
    }

    #[test]
    fn the_accelerator_is_named_with_its_reason() {
        let refused = accelerator::Verdict::Refused { why: "QEMU did not start".into() };
        let checkup = |kvm| Checkup { kvm, ..checkup() };
        assert_eq!(checkup(Some(refused.clone())).json()["kvm"]["why"], "QEMU did not start");
        assert_eq!(checkup(Some(accelerator::Verdict::Proved)).json()["kvm"]["verdict"], "proved");
        let said = |kvm| accelerator(&KvmDevice::Openable, kvm);
        assert!(said(Some(&refused)).starts_with("TCG: KVM is refused") && said(Some(&refused)).ends_with("start"));
        assert!(said(Some(&accelerator::Verdict::Proved)).starts_with("KVM: "));
        assert!(said(None).starts_with("not known yet: "));
    }
}
