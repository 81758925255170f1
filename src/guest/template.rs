//! Templates: guests that were booted once and saved when their agent was ready, in the cache; a run goes on from one.
//!
//! A template is the guest's memory, as a file, and the state of its devices, as QEMU's migration writes it. A fork maps
//! the file privately, so that nothing it does reaches the template. Both need the same machine, QEMU, kernel and image,
//! which is what the key is made of.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::accelerator::{host, identity};
use super::machine::{Accelerator, Machine, Memory, Sockets};
use super::{CONNECT, Guest, Logs, accept, listen};
use crate::digest::hex;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::report::text::plural;
use crate::store::{Cache, Lock, Staging, seal};

const MEMORY: &str = "memory";
const STATE: &str = "state";
const CONSOLE: &str = "console.log";
const ABOUT: &str = "template.json";
/// Part of every key: another way to save makes other templates.
const FORMAT: u32 = 1;
/// How long the agent of a fork may take to answer; it takes milliseconds, on a busy machine more.
const ANSWER: Duration = Duration::from_secs(60);
/// More than a template takes beside its memory, in bytes: the devices' state, the console.
const BESIDE_MEMORY: u64 = 8 << 20;

/// A guest that was booted and saved.
#[derive(Debug)]
pub struct Template {
    entry: PathBuf,
}

/// What a template is of, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// The kernel's release.
    pub release: String,
    /// The image's name.
    pub image: String,
    /// What else tells the machine from others: `256M, 1 CPU, tcg`.
    #[serde(default)]
    pub machine: String,
}

impl About {
    /// A guest with this image, on a kernel of this release.
    pub fn new(release: &str, image: &str, machine: &Machine) -> About {
        let Machine { memory_mib, cpus, accelerator, nic, terminal, .. } = machine;
        let parts = [
            (true, format!("{memory_mib}M")),
            (true, plural(u64::from(*cpus), "CPU")),
            (true, accelerator.as_str().into()),
            (*nic, "network card".into()),
            (*terminal, "terminal".into()),
        ];
        let machine: Vec<String> = parts.into_iter().filter_map(|(has, part)| has.then_some(part)).collect();
        About { release: release.into(), image: image.into(), machine: machine.join(", ") }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, image {}, {}", self.release, self.image, self.machine)
    }
}

/// What there is to say of the template in `entry`; else what is wrong with it.
///
/// # Errors
/// It is damaged.
pub fn about(entry: &Path) -> Result<String, String> {
    if let Some(damage) = seal::damage_seen(entry) {
        return Err(damage);
    }
    let about: Option<About> = fs::read(entry.join(ABOUT)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(about.map(|about| about.to_string()).unwrap_or_default())
}

/// The key of a machine's template: QEMU, what it is asked for, and `kernel`, which tells the kernel that the machine
/// boots. The image's name already has its content in it.
pub fn key(machine: &Machine, kernel: &str, qemu: &Path) -> String {
    let args = Machine { memory: Memory::Own, ..machine.clone() }.args(&Sockets(Path::new("/")));
    let host = if machine.accelerator == Accelerator::Kvm { host() } else { String::new() };
    let digest = Sha256::digest(format!("{FORMAT} {args:?} {kernel} {} {host}", identity(qemu)));
    hex(&digest[..10])
}

impl Template {
    /// The template with this key, if it is in the cache and whole.
    pub fn find(key: &str, cache: &Cache) -> Option<Template> {
        let entry = cache.path("templates").join(key);
        (cache.hold(&entry) && seal::damage(&entry).is_none()).then_some(Template { entry })
    }

    /// Starts a guest that goes on where the template was saved, and waits until its agent answers.
    ///
    /// # Errors
    /// The template is of no use: QEMU does not take it, or the agent does not answer. An error of the host says nothing
    /// about the template.
    pub fn fork(&self, machine: &Machine, qemu: &Path, logs: &Logs, cancel: &Cancel) -> Result<Guest> {
        let machine = Machine { memory: Memory::Forked(self.entry.join(MEMORY)), ..machine.clone() };
        let mut guest = Guest::start(&machine, qemu, logs, cancel)?;
        match self.revive(&mut guest, cancel) {
            Ok(()) => Ok(guest),
            // QEMU runs: a file that cannot be read and a socket that breaks are the template's doing too.
            Err(error) => Err(match guest.death_or(error) {
                error if error.kind == ErrorKind::Host => Error { kind: ErrorKind::Guest, ..error },
                error => error,
            }),
        }
    }

    fn revive(&self, guest: &mut Guest, cancel: &Cancel) -> Result<()> {
        guest.console.append(&fs::read(self.entry.join(CONSOLE)).or_host("read the template's console.log")?);
        guest.restore(&self.entry.join(STATE))?;
        guest.ping()?;
        guest.wait_ready(ANSWER, cancel).map(drop)
    }

    /// Nobody forks a template again that is of no use. It is deleted, unless another kdbg holds it, which may be starting
    /// a fork; then the next template of this machine, or `kdbg cache gc`, takes its place.
    pub fn discard(self, cache: &Cache) {
        // Where the cache cannot be written, there is nothing to be done about it.
        let _ = seal::remove(&self.entry);
        let _ = cache.discard(&self.entry);
    }
}

/// Makes sure that the cache has room for a template of `machine`. A guest whose memory is a file dies where it first
/// writes to a page that the disk has no room for.
///
/// # Errors
/// It has not.
pub fn room(machine: &Machine, cache: &Cache) -> Result<()> {
    let mebibytes = machine.memory_mib;
    let needed = (u64::from(mebibytes) << 20) + BESIDE_MEMORY;
    cache.needs_room(needed, format!("saving a guest that has {mebibytes}M of memory"))
}

/// A template in the making: the guest that will be saved boots.
#[derive(Debug)]
pub struct Making {
    stage: Staging,
    key: String,
    /// Others who want the same template wait.
    _lock: Lock,
}

impl Making {
    /// Makes room for the template of `machine`.
    ///
    /// # Errors
    /// As [`room`]; the cache cannot be written.
    pub fn new(key: &str, machine: &Machine, lock: Lock, cache: &Cache) -> Result<Making> {
        room(machine, cache)?;
        Ok(Making { stage: cache.stage()?, key: key.into(), _lock: lock })
    }

    /// Where the memory of `machine` must lie.
    pub fn machine(&self, machine: &Machine) -> Machine {
        Machine { memory: Memory::Kept(self.stage.path().join(MEMORY)), ..machine.clone() }
    }

    /// Saves a guest whose agent is ready. It stands still then, and only forks of it may run on: its memory is the
    /// template's.
    ///
    /// # Errors
    /// QEMU cannot save it, or the disk is full. The guest is of no use then.
    pub fn save(self, guest: &mut Guest, about: &About, console: &Path, cache: &Cache) -> Result<Template> {
        let at = |name| self.stage.path().join(name);
        guest.save(&at(STATE))?;
        fs::copy(console, at(CONSOLE)).or_host("copy the console's log")?;
        let about = serde_json::to_vec(about).map_err(|error| Error::host(error.to_string()))?;
        fs::write(at(ABOUT), about).or_host("write a template's description")?;
        seal::seal(self.stage.path())?;
        let entry = cache.path("templates").join(&self.key);
        self.stage.publish(&entry)?;
        Ok(Template { entry })
    }
}

impl Guest {
    /// Stops the machine and writes the state of its devices.
    fn save(&mut self, state: &Path) -> Result<()> {
        let socket = Sockets(self.sockets.path()).state();
        let listener = listen(&socket)?;
        self.qmp.pause()?;
        self.qmp.save(&socket)?;
        let mut stream = accept(&listener, "the machine's state")?;
        stream.set_read_timeout(Some(CONNECT)).or_host("set a deadline for the machine's state")?;
        let mut file = File::create(state).or_host(format!("make {}", state.display()))?;
        io::copy(&mut stream, &mut file).or_host("write the machine's state")?;
        self.qmp.wait_migrated()
    }

    /// Gives a machine that waits for it the state that was saved, and lets it run.
    fn restore(&mut self, state: &Path) -> Result<()> {
        let socket = Sockets(self.sockets.path()).state();
        let mut file = File::open(state).or_host(format!("open {}", state.display()))?;
        self.qmp.restore(&socket)?;
        let mut stream = UnixStream::connect(&socket).or_host("connect to QEMU with the machine's state")?;
        stream.set_write_timeout(Some(CONNECT)).or_host("set a deadline for the machine's state")?;
        io::copy(&mut file, &mut stream).or_host("send the machine's state")?;
        stream.shutdown(Shutdown::Write).or_host("send the machine's state")?;
        self.qmp.wait_migrated()?;
        // It stood still when it was saved, and does now.
        self.qmp.resume()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            frozen: false,
            accelerator: Accelerator::Tcg,
            cpus: 1,
            memory_mib: 256,
            memory: Memory::Own,
            nic: false,
            terminal: false,
            boot_image: "/k/boot.elf".into(),
            initramfs: "/i/base-1.cpio".into(),
        }
    }

    #[test]
    fn a_template_that_another_kdbg_holds_is_given_up_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] = [(); 2].map(|()| Cache::at(folder.path().into()).unwrap());
        let entry = own.path("templates/key");
        fs::create_dir(&entry).unwrap();
        fs::write(entry.join(STATE), "state").unwrap();
        seal::seal(&entry).unwrap();
        let find = |cache| Template::find("key", cache);
        let (first, second) = (find(&own).unwrap(), find(&other).unwrap());
        first.discard(&own);
        assert!(entry.join(STATE).exists(), "the other one may read it now");
        assert!(find(&own).is_none() && about(&entry).is_err());
        second.discard(&other);
        assert!(entry.exists(), "found, and held, by the first one");
        drop(own);
        Template { entry: entry.clone() }.discard(&other);
        assert!(!entry.exists());
    }

    #[test]
    fn whatever_a_machine_is_made_of_is_in_the_key() {
        let qemu = Path::new("/bin/true");
        let usual = key(&machine(), "kernel", qemu);
        assert_eq!(usual, key(&Machine { memory: Memory::Kept("/t".into()), ..machine() }, "kernel", qemu));
        for other in [
            key(&Machine { cpus: 2, ..machine() }, "kernel", qemu),
            key(&Machine { memory_mib: 512, ..machine() }, "kernel", qemu),
            key(&Machine { nic: true, ..machine() }, "kernel", qemu),
            key(&Machine { initramfs: "/i/base-2.cpio".into(), ..machine() }, "kernel", qemu),
            key(&Machine { accelerator: Accelerator::Kvm, ..machine() }, "kernel", qemu),
            key(&machine(), "another kernel", qemu),
            key(&machine(), "kernel", Path::new("/bin/sh")),
        ] {
            assert_ne!(usual, other);
        }
    }
}
