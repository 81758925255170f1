//! What QEMU is asked for: pure data, and the command line that it becomes.
//!
//! Pure: no file, no process. Nothing in here comes from a recipe but numbers (rule 1 of the design).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What executes the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's CPU, through /dev/kvm.
    Kvm,
    /// QEMU's translator: slower, everywhere.
    Tcg,
}

impl Accelerator {
    /// As QEMU and the report call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// Where the guest's memory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// In QEMU.
    Own,
    /// In this file, which becomes a template's.
    Kept(PathBuf),
    /// In a template's file; what this guest writes stays out of it. The guest waits for the template's state.
    Forked(PathBuf),
}

/// The machine of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What executes it.
    pub accelerator: Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Where that lies.
    pub memory: Memory,
    /// Whether it has a network card, on a network of its own that leads nowhere.
    pub nic: bool,
    /// Whether it has a terminal for a person, /dev/hvc0 in the guest.
    pub terminal: bool,
    /// Whether it stands before its first instruction until somebody lets it run.
    pub frozen: bool,
    /// The stripped vmlinux.
    pub boot_image: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// The Unix sockets between kdbg, GDB and QEMU, all in one private folder.
#[derive(Debug, Clone)]
pub struct Sockets<'a>(pub &'a Path);

impl Sockets<'_> {
    /// Where kdbg listens for QMP.
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp")
    }

    /// Where the state of a template goes in or out.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Where QEMU's GDB stub listens.
    pub fn gdb(&self) -> PathBuf {
        self.0.join("gdb")
    }

    /// Where kdbg listens for the guest's terminal.
    pub fn terminal(&self) -> PathBuf {
        self.0.join("terminal")
    }

    /// Where kdbg listens for one of the agent's ports.
    pub fn port(&self, port: Port) -> PathBuf {
        self.0.join(port.name())
    }
}

/// The agent's virtio-serial ports; `images/init` opens them by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Lines both ways.
    Control,
    /// What steps write to standard output.
    Stdout,
    /// What steps write to standard error.
    Stderr,
}

impl Port {
    /// All of them.
    pub const ALL: [Port; 3] = [Port::Control, Port::Stdout, Port::Stderr];

    /// The number of the first port that a running guest can be given.
    pub const FREE: u32 = Port::ALL.len() as u32 + 1;

    /// Names the socket, the chardev and the port.
    pub fn name(self) -> &'static str {
        match self {
            Port::Control => "control",
            Port::Stdout => "stdout",
            Port::Stderr => "stderr",
        }
    }

    /// The `N` of `/dev/vport0pN`.
    fn number(self) -> u32 {
        match self {
            Port::Control => 1,
            Port::Stdout => 2,
            Port::Stderr => 3,
        }
    }
}

/// The kernel's command line: a serial console, addresses as in vmlinux, and a panic that ends the guest. The check of the
/// timer's interrupt is left out: it measures real time, and a busy host fails it ("IO-APIC + timer doesn't work!").
pub const COMMAND_LINE: &str = "console=ttyS0 nokaslr norandmaps no_timer_check panic=-1 reboot=t rdinit=/init";

/// What QEMU calls the network that its card is on.
pub const NETDEV: &str = "user";
/// The card's address, the same in every guest: no two are on one network.
const MAC: &str = "52:54:00:12:34:56";

impl Machine {
    /// QEMU's arguments. The console is QEMU's standard output.
    pub fn args(&self, sockets: &Sockets<'_>) -> Vec<OsString> {
        // One socket per CPU: without ACPI the kernel finds its CPUs in SeaBIOS's MP table, which lists sockets.
        let cpus = self.cpus;
        let mut args = Args::default();
        args.words(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        if self.frozen {
            args.words(&["-S"]);
        }
        args.option("-machine", if self.memory == Memory::Own { "q35" } else { "q35,memory-backend=memory" });
        args.option("-accel", self.accelerator.as_str());
        if self.accelerator == Accelerator::Tcg && cpus == 1 {
            // The guest's clock counts its instructions, 16 ns each: what interrupts what does not depend on how busy the
            // host is. Fewer ns make the boot's delay loops longer, more make the guest a slower machine. With a second
            // CPU QEMU 7.2 hangs while the kernel brings it up.
            args.option("-icount", "shift=4");
        }
        args.option("-cpu", "max");
        args.option("-smp", format!("cpus={cpus},sockets={cpus},cores=1,threads=1"));
        args.option("-m", format!("{}M", self.memory_mib));
        match &self.memory {
            Memory::Own => {}
            Memory::Kept(file) => args.memory(self.memory_mib, file, "on"),
            Memory::Forked(file) => {
                args.memory(self.memory_mib, file, "off");
                args.words(&["-incoming", "defer"]);
            }
        }
        // The same start for every guest: its date, and what it takes for random numbers of the hardware.
        args.option("-rtc", "base=2026-01-01T00:00:00,clock=vm");
        args.option("-seed", "1");
        args.option("-kernel", &self.boot_image);
        args.option("-initrd", &self.initramfs);
        args.option("-append", COMMAND_LINE);
        args.words(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        args.chardev("qmp", &sockets.qmp(), "server=off");
        args.option("-mon", "chardev=qmp,mode=control");
        args.chardev("gdb", &sockets.gdb(), "server=on,wait=off");
        args.option("-gdb", "chardev:gdb");
        args.option("-device", "virtio-serial-pci");
        for port in Port::ALL {
            let (name, number) = (port.name(), port.number());
            args.chardev(name, &sockets.port(port), "server=off");
            args.option("-device", format!("virtserialport,chardev={name},nr={number},name=kdbg.{name}"));
        }
        if self.nic {
            // Behind the agent's ports, which are of the first virtio device. Closed: the guest reaches nothing outside. No announcements after a fork: they would interrupt the guest. No
            // boot firmware on the card.
            args.option("-netdev", format!("user,id={NETDEV},restrict=on,ipv6=off"));
            args.option("-device", format!("virtio-net-pci,netdev={NETDEV},mac={MAC},romfile=,guest_announce=off"));
        }
        if self.terminal {
            args.chardev("terminal", &sockets.terminal(), "server=off");
            args.option("-device", "virtconsole,chardev=terminal");
        }
        args.0
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.extend([name.into(), value.into()]);
    }

    fn chardev(&mut self, id: &str, path: &Path, mode: &str) {
        self.with_path("-chardev", &format!("socket,id={id},{mode},path="), path);
    }

    fn memory(&mut self, mebibytes: u32, file: &Path, share: &str) {
        let head = format!("memory-backend-file,id=memory,size={mebibytes}M,share={share},mem-path=");
        self.with_path("-object", &head, file);
    }

    fn with_path(&mut self, name: &str, head: &str, path: &Path) {
        let mut value = OsString::from(head);
        // A comma ends a value of QEMU's options, two are one.
        let parts: Vec<&[u8]> = path.as_os_str().as_bytes().split(|byte| *byte == b',').collect();
        value.push(OsStr::from_bytes(&parts.join(&b",,"[..])));
        self.option(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> String {
        let args = machine.args(&Sockets(Path::new("/s")));
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn machine() -> Machine {
        Machine {
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory_mib: 256,
            memory: Memory::Own,
            nic: false,
            terminal: false,
            frozen: false,
            boot_image: "/k/boot.elf".into(),
            initramfs: "/i/base.cpio".into(),
        }
    }

    #[test]
    fn the_command_line_is_whole() {
        let line = line(&machine());
        for part in [
            "-machine q35 -accel tcg -cpu max -smp cpus=2,sockets=2,cores=1,threads=1 -m 256M",
            "-kernel /k/boot.elf -initrd /i/base.cpio -append console=ttyS0 nokaslr norandmaps no_timer_check",
            "-chardev socket,id=gdb,server=on,wait=off,path=/s/gdb -gdb chardev:gdb",
            "-device virtserialport,chardev=stderr,nr=3,name=kdbg.stderr",
        ] {
            assert!(line.contains(part), "{part}\nin {line}");
        }
    }

    #[test]
    fn the_clock_of_one_cpu_counts_instructions() {
        let with = |accelerator, cpus| line(&Machine { accelerator, cpus, ..machine() }).contains(" -icount shift=4 ");
        assert!(with(Accelerator::Tcg, 1));
        assert!(!with(Accelerator::Tcg, 2) && !with(Accelerator::Kvm, 1));
    }

    #[test]
    fn only_a_machine_that_is_to_be_frozen_waits_to_be_let_run() {
        let with = |frozen| line(&Machine { frozen, ..machine() }).contains(" -S ");
        assert!(with(true) && !with(false));
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        let args = machine().args(&Sockets(Path::new("/a,b/s")));
        assert!(args.contains(&"socket,id=qmp,server=off,path=/a,,b/s/qmp".into()), "{args:?}");
    }

    #[test]
    fn a_fork_has_the_devices_of_its_template_and_leaves_its_memory_alone() {
        let template = line(&Machine { memory: Memory::Kept("/t/m,1".into()), ..machine() });
        let fork = line(&Machine { memory: Memory::Forked("/t/m,1".into()), ..machine() });
        let object = "-object memory-backend-file,id=memory,size=256M,share=on,mem-path=/t/m,,1";
        assert!(template.contains("q35,memory-backend=memory") && template.contains(object), "{template}");
        assert_eq!(fork.replace(" -incoming defer", "").replace("share=off", "share=on"), template);
    }

    #[test]
    fn nothing_listens_outside_unix_sockets() {
        let without = line(&machine());
        assert!(without.contains("-nodefaults -no-user-config") && !without.contains("-netdev"));
        let with = line(&Machine { nic: true, ..machine() });
        assert!(
            with.contains("-netdev user,id=user,restrict=on,ipv6=off -device virtio-net-pci,netdev=user,"),
            "{with}"
        );
        for line in [without, with] {
            assert!(!line.contains("tcp:") && !line.contains("hostfwd") && !line.contains("host="), "{line}");
        }
    }
}
