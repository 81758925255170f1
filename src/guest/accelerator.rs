//! Which accelerator: KVM where a real boot under it has passed, else TCG, and why.
//!
//! `/dev/kvm` may open and still be useless (shared machines, nested virtualisation), so only a boot is a proof. The
//! verdict is remembered per QEMU, host kernel and CPU.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::machine::{Accelerator, Machine, Memory};
use super::{BOOT, Guest, Logs};
use crate::digest::hex;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::store::Cache;

/// Whether KVM boots a guest here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// A guest has booted under it.
    Proved,
    /// It cannot be used, and why.
    Refused {
        /// One line.
        why: String,
    },
    /// The device opens; no boot was tried yet.
    Untried,
}

/// Whether `/dev/kvm` can be opened; if not, why, for people.
///
/// # Errors
/// The reason.
pub fn device_opens() -> std::result::Result<(), String> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            std::io::ErrorKind::NotFound => "this host has no /dev/kvm".into(),
            std::io::ErrorKind::PermissionDenied => "no permission to open /dev/kvm (join the group `kvm`)".into(),
            _ => format!("/dev/kvm does not open: {error}"),
        }),
    }
}

/// What is known about KVM on this host: the device, then the remembered verdict.
pub fn known(qemu: &Path, cache: &Cache) -> Verdict {
    if let Err(why) = device_opens() {
        return Verdict::Refused { why };
    }
    let remembered = fs::read_to_string(memory(qemu, &host(), cache)).ok();
    remembered.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Verdict::Untried)
}

/// Remembers what a boot under KVM came to. A cache that cannot be written only means another try next time.
pub fn remember(verdict: &Verdict, qemu: &Path, cache: &Cache) {
    if let Ok(text) = serde_json::to_string(verdict) {
        let _ = fs::write(memory(qemu, &host(), cache), text);
    }
}

/// How long the boot that is to prove KVM may take; a working one takes under a second.
pub const PROOF: Duration = Duration::from_secs(15);

/// Boots a guest under KVM and remembers what that came to. A guest that does not boot under TCG either proves nothing.
///
/// # Errors
/// kdbg was interrupted, or the host could not do its part, such as write the logs: nothing was proved.
pub fn prove(qemu: &Path, boot_image: &Path, initramfs: &Path, cache: &Cache, cancel: &Cancel) -> Result<Verdict> {
    let folder = tempfile::tempdir().or_host("make a temporary folder")?;
    let logs = Logs { console: folder.path().join("console.log"), qemu: folder.path().join("qemu.log") };
    let boot = |accelerator, patience| {
        let machine = Machine {
            frozen: false,
            accelerator,
            cpus: 1,
            memory_mib: 256,
            memory: Memory::Own,
            nic: false,
            terminal: false,
            boot_image: boot_image.into(),
            initramfs: initramfs.into(),
        };
        Guest::start(&machine, qemu, &logs, cancel).and_then(|mut guest| guest.wait_ready(patience, cancel))
    };
    let under_kvm = boot(Accelerator::Kvm, PROOF);
    cancel.check()?;
    let verdict = match under_kvm {
        Ok(_) => Verdict::Proved,
        // It was not KVM that failed, but the host.
        Err(error) if error.kind != ErrorKind::Guest => return Err(error),
        Err(error) => {
            boot(Accelerator::Tcg, BOOT)?;
            Verdict::refused(&error)
        }
    };
    remember(&verdict, qemu, cache);
    Ok(verdict)
}

impl Verdict {
    /// The verdict that a failed boot is.
    pub fn refused(error: &Error) -> Verdict {
        let why = error.message.lines().next().unwrap_or_default();
        Verdict::Refused { why: why.trim_end_matches([';', ':']).into() }
    }
}

/// The file that holds the verdict for this QEMU on this [host](host()).
fn memory(qemu: &Path, host: &str, cache: &Cache) -> PathBuf {
    let digest = Sha256::digest(format!("{}{host}", identity(qemu)));
    let name = hex(&digest[..8]);
    cache.path(format!("kvm-{name}.json"))
}

/// What tells this QEMU from another one.
pub(super) fn identity(qemu: &Path) -> String {
    let qemu_is = fs::metadata(qemu).ok().map(|file| (file.len(), file.modified().ok()));
    format!("{}{qemu_is:?}", qemu.display())
}

/// The host's kernel and CPU.
pub(super) fn host() -> String {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    format!("{kernel}{cpu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_of_one_qemu_on_one_host() {
        let cache = Cache::unproved("/cache".into());
        let of = |qemu: &str, host| memory(Path::new(qemu), host, &cache);
        assert_eq!(of("/bin/true", "host"), of("/bin/true", "host"));
        assert_ne!(of("/bin/true", "host"), of("/bin/sh", "host"));
        assert_ne!(of("/bin/true", "host"), of("/bin/true", "another"));
        let kernel = rustix::system::uname();
        assert!(host().starts_with(&*kernel.release().to_string_lossy()), "{}", host());
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
        let model = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
        assert!(host().ends_with(model), "{}", host());
    }
}
