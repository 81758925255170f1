//! The package manager: which one this host has, and which commands would bring what is missing.
//!
//! Looks at `PATH`, `/etc/os-release` and apt's lists; runs nothing. [`super::install`] does the running.

use std::fmt;

use serde::Serialize;

use super::facts::os_release;
use super::needs::Find;
use super::probe::{Finding, Verdict};
use super::system::System;

/// A package manager kdbg knows the words of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Debian, Ubuntu and their kin.
    Apt,
    /// Fedora, RHEL and their kin.
    Dnf,
    /// Arch and its kin.
    Pacman,
    /// openSUSE, SLES.
    Zypper,
}

impl Manager {
    /// All of them, in the order they are tried.
    pub const ALL: [Manager; 4] = [Manager::Apt, Manager::Dnf, Manager::Pacman, Manager::Zypper];

    /// The package manager of this host.
    ///
    /// The distribution decides (a Fedora may have apt-get on it as well); where it says nothing that helps, `PATH` does.
    pub fn of(system: &System) -> Option<Manager> {
        let ids = ["ID", "ID_LIKE"].map(|key| os_release(system, key).unwrap_or_default()).join(" ");
        let by_name = ids.split_whitespace().find_map(|id| match id {
            "debian" | "ubuntu" => Some(Manager::Apt),
            "fedora" | "rhel" | "centos" => Some(Manager::Dnf),
            "arch" => Some(Manager::Pacman),
            "suse" | "opensuse" | "sles" => Some(Manager::Zypper),
            _ => None,
        });
        let is_here = |manager: &Manager| system.which(manager.program()).is_some();
        by_name.filter(is_here).or_else(|| Manager::ALL.into_iter().find(is_here))
    }

    /// The program that is run.
    pub fn program(self) -> &'static str {
        match self {
            Manager::Apt => "apt-get",
            Manager::Dnf => "dnf",
            Manager::Pacman => "pacman",
            Manager::Zypper => "zypper",
        }
    }

    /// The arguments that install without a question and without more than is needed.
    fn install(self) -> &'static [&'static str] {
        match self {
            Manager::Apt => &["install", "-y", "--no-install-recommends"],
            Manager::Dnf => &["install", "-y", "--setopt=install_weak_deps=False"],
            Manager::Pacman => &["-S", "--needed", "--noconfirm"],
            Manager::Zypper => &["--non-interactive", "install", "--no-recommends"],
        }
    }

    /// The arguments that bring the lists of packages up to date, where that is a step of its own.
    fn update(self) -> Option<&'static [&'static str]> {
        match self {
            Manager::Apt => Some(&["update"]),
            // dnf and zypper refresh by themselves; pacman must not refresh without upgrading everything.
            Manager::Dnf | Manager::Pacman | Manager::Zypper => None,
        }
    }

    /// Whether its complaint means that the lists of packages are missing or too old.
    pub(super) fn lists_are_stale(self, complaint: &str) -> bool {
        let signs = ["Unable to locate package", "has no installation candidate", "404  Not Found", "Unable to fetch"];
        self.update().is_some() && signs.iter().any(|sign| complaint.contains(sign))
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.program())
    }
}

/// A command line of a [`Plan`], without what makes it root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The program and its arguments; `sudo` first, where it is needed.
    pub(super) words: Vec<String>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// What would bring that which is missing. Shows as one line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The package manager.
    pub manager: Manager,
    /// Whether its lists have to be brought up to date first.
    pub update: bool,
    /// The packages, each once, sorted.
    pub packages: Vec<String>,
    sudo: bool,
}

impl Plan {
    /// The plan for what `findings` lack; none when no package manager can help.
    pub fn of(findings: &[Finding], system: &System) -> Option<Plan> {
        let manager = Manager::of(system)?;
        let lacking = || findings.iter().filter(|finding| !finding.verdict.is_ok());
        let mut packages: Vec<String> =
            lacking().filter_map(|finding| finding.need.packages.of(manager)).map(str::to_owned).collect();
        packages.sort_unstable();
        packages.dedup();
        // A source that apt does not know of: perhaps it has never been asked.
        let unknown_source =
            lacking().any(|f| matches!(f.need.find, Find::Source { .. }) && f.verdict == Verdict::Missing);
        let update = manager == Manager::Apt && (unknown_source || (!packages.is_empty() && !has_lists(system)));
        let sudo = !system.superuser() && system.which("sudo").is_some();
        (update || !packages.is_empty()).then_some(Plan { manager, update, packages, sudo })
    }

    /// Whether the commands go through `sudo`.
    pub fn sudo(&self) -> bool {
        self.sudo
    }

    /// The command that brings the lists up to date, where there is one.
    pub(super) fn update_command(&self) -> Option<Command> {
        self.manager.update().map(|arguments| self.command(arguments, &[]))
    }

    /// The command that installs; none when there is nothing to install.
    pub(super) fn install_command(&self) -> Option<Command> {
        (!self.packages.is_empty()).then(|| self.command(self.manager.install(), &self.packages))
    }

    fn command(&self, arguments: &[&str], packages: &[String]) -> Command {
        let sudo = self.sudo.then_some("sudo").into_iter();
        let words = sudo.chain([self.manager.program()]).chain(arguments.iter().copied()).map(str::to_owned);
        Command { words: words.chain(packages.iter().cloned()).collect() }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let update = self.update.then(|| self.update_command()).flatten();
        let line: Vec<String> = update.into_iter().chain(self.install_command()).map(|c| c.to_string()).collect();
        f.write_str(&line.join(" && "))
    }
}

/// Whether apt has a list of packages at all. Container images come without.
fn has_lists(system: &System) -> bool {
    let lists = std::fs::read_dir(system.file("/var/lib/apt/lists"));
    lists.is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::needs::{Purpose, needs_for};
    use super::*;

    fn plan(fake: &Fake, superuser: bool) -> String {
        let findings = fake.probe(&needs_for(&[Purpose::Image, Purpose::Boot], &["6.1"]));
        Plan::of(&findings, &fake.system_as(superuser)).map_or("none".into(), |plan| plan.to_string())
    }

    #[test]
    fn each_manager_gets_its_own_words() {
        let lines: Vec<String> = Manager::ALL
            .into_iter()
            .map(|manager| {
                let fake = Fake::new();
                fake.file("var/lib/apt/lists/some_Packages.lz4", "");
                fake.program(manager.program(), "true");
                plan(&fake, true)
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        apt-get install -y --no-install-recommends busybox-static qemu-system-x86
        dnf install -y --setopt=install_weak_deps=False busybox qemu-system-x86-core
        pacman -S --needed --noconfirm busybox qemu-system-x86
        zypper --non-interactive install --no-recommends busybox-static qemu-x86
        ");
    }

    #[test]
    fn sudo_and_update_only_where_they_are_needed() {
        let fake = Fake::new();
        assert_eq!(plan(&fake, true), "none");
        fake.program("apt-get", "true");
        insta::assert_snapshot!(plan(&fake, false), @"apt-get update && apt-get install -y --no-install-recommends busybox-static qemu-system-x86");
        fake.program("sudo", "true");
        insta::assert_snapshot!(plan(&fake, false), @"sudo apt-get update && sudo apt-get install -y --no-install-recommends busybox-static qemu-system-x86");
        fake.file("var/lib/apt/lists/some_Packages", "");
        insta::assert_snapshot!(plan(&fake, true), @"apt-get install -y --no-install-recommends busybox-static qemu-system-x86");
    }

    #[test]
    fn the_distribution_decides_between_two_managers() {
        let fake = Fake::new();
        fake.program("apt-get", "true");
        fake.program("dnf", "true");
        assert_eq!(Manager::of(&fake.system()), Some(Manager::Apt));
        fake.file("etc/os-release", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!(Manager::of(&fake.system()), Some(Manager::Dnf));
    }
}
