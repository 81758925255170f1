//! Facts of the machine that are no tools: disk, memory, CPUs, and what the KVM device says for itself.
//!
//! Reads `/proc`, file system statistics and device permissions; changes nothing. Whether KVM really boots a guest is
//! not decided here: that takes a boot.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::system::System;
use crate::store::space;

/// What the machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// kdbg's cache folder.
    pub cache: PathBuf,
    /// Bytes free for this user on the cache folder's file system; none when it does not tell.
    pub free_disk: Option<u64>,
    /// Bytes of memory a new program can have without swapping; none when `/proc/meminfo` does not tell.
    pub available_memory: Option<u64>,
    /// CPUs this process may use.
    pub cpus: usize,
    /// The KVM device.
    pub kvm: KvmDevice,
    /// The distribution's name for itself.
    pub distribution: Option<String>,
}

/// The state of `/dev/kvm`.
///
/// [`KvmDevice::Openable`] is necessary, not sufficient: a device that opens, and even makes a VM and a vCPU, may still
/// be of no use (nested virtualization without the needed MSRs). The proof is a real boot with a deadline, made and
/// remembered elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum KvmDevice {
    /// There is no `/dev/kvm`: no hardware virtualization, or its module is not loaded.
    Absent,
    /// It is there, but this user may not open it.
    NoPermission {
        /// The group that may, by name where `/etc/group` has one, else by number.
        group: String,
    },
    /// It cannot be opened for another reason.
    Refused {
        /// The reason.
        why: String,
    },
    /// It opens for reading and writing.
    Openable,
}

impl Facts {
    /// Gathers all facts.
    pub fn gather(system: &System) -> Facts {
        Facts {
            cache: system.cache().to_owned(),
            free_disk: space::free(system.cache()).ok(),
            available_memory: fs::read_to_string(system.file("/proc/meminfo")).ok().and_then(|text| available(&text)),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kvm: KvmDevice::look(system),
            distribution: os_release(system, "PRETTY_NAME"),
        }
    }
}

impl KvmDevice {
    /// Looks at the device without making a VM.
    pub fn look(system: &System) -> KvmDevice {
        let device = system.file("/dev/kvm");
        match File::options().read(true).write(true).open(&device) {
            Ok(_) => KvmDevice::Openable,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => KvmDevice::Absent,
                ErrorKind::PermissionDenied => KvmDevice::NoPermission { group: group_of(system, &device) },
                _ => KvmDevice::Refused { why: error.to_string() },
            },
        }
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The group that owns a file.
fn group_of(system: &System, path: &Path) -> String {
    let Ok(gid) = fs::metadata(path).map(|metadata| metadata.gid().to_string()) else { return "unknown".into() };
    let groups = fs::read_to_string(system.file("/etc/group")).unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid).then(|| name.to_owned())
    });
    name.unwrap_or(gid)
}

/// A value of `/etc/os-release`, without its quotes.
pub(super) fn os_release(system: &System, key: &str) -> Option<String> {
    let text = fs::read_to_string(system.file("/etc/os-release")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|value| !OsStr::new(value).is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn facts_are_read_from_the_machine() {
        let fake = Fake::new();
        fake.file("proc/meminfo", "MemTotal:       16 kB\nMemAvailable:    8 kB\n");
        fake.file("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        let facts = Facts::gather(&fake.system());
        assert_eq!(facts.available_memory, Some(8192));
        assert_eq!(facts.distribution.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(facts.kvm, KvmDevice::Absent);
        assert!(facts.free_disk.is_some_and(|bytes| bytes > 0), "of the nearest folder that exists");
        assert!(facts.cpus > 0);
        fake.file("dev/kvm", "");
        assert_eq!(KvmDevice::look(&fake.system()), KvmDevice::Openable);
    }

    #[test]
    fn the_owning_group_is_named_where_it_has_a_name() {
        let fake = Fake::new();
        let device = fake.file("dev/kvm", "");
        let gid = fs::metadata(&device).unwrap().gid();
        assert_eq!(group_of(&fake.system(), &device), gid.to_string());
        fake.file("etc/group", &format!("other:x:99999:\nkvm:x:{gid}:someone\n"));
        assert_eq!(group_of(&fake.system(), &device), "kvm");
    }
}
