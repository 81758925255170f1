//! Debian's packages, without root: `apt-get download` into a folder, from what the host's apt offers, or from an apt
//! state of kdbg's own that also knows the distribution's backports.
//!
//! The state of its own (`apt/` in the cache: lists and a list of sources) takes the mirror from the host's apt and the
//! keys from the distribution, so that apt verifies everything as it would for the host. Nothing of the host's is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::download::{Download, downloads};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::{Cancel, Event, Events, Phase, Unit};
use crate::process::Tool;
use crate::store::{Cache, space};

/// Debian's own keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with one state: the host's, or kdbg's own.
#[derive(Debug)]
pub struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// The host's, as it is configured; none where there is no apt.
    pub fn host() -> Option<Apt> {
        let there = |program: &str| which::which(program).is_ok();
        (there("apt-get") && there("apt-cache") && there("dpkg-deb")).then(|| Apt { options: Vec::new() })
    }

    /// One of kdbg's own in the cache, brought up to date: the host's release and its backports. None on a host that is
    /// not Debian, or whose apt knows no mirror. The caller holds the lock `sources`.
    ///
    /// # Errors
    /// The cache cannot be written, or the mirror cannot be reached.
    pub fn with_backports(cache: &Cache, events: &Events, cancel: &Cancel) -> Result<Option<Apt>> {
        let Some(codename) = codename(&fs::read_to_string("/etc/os-release").unwrap_or_default()) else {
            return Ok(None);
        };
        let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
        let ask = Tool::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]);
        let Some(list) = sources_list(&ask.output(cancel)?.text, &codename, Path::new(KEYRING).is_file()) else {
            return Ok(None);
        };
        let root = cache.path("apt");
        cache.hold_folder(&root)?;
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(root.join(folder)).or_host("make a folder for apt in the cache")?;
        }
        fs::write(root.join("sources.list"), list).or_host("write apt's sources into the cache")?;
        let apt = Apt { options: private_options(&root) };
        events.phase(Phase::Fetch, format!("package lists of {codename} and its backports, for kdbg alone"), || {
            let said = apt.get(&["update", "-q"]).deadline(Duration::from_secs(300)).output(cancel)?;
            match said.status.success() {
                true => Ok(((), "up to date".into())),
                false => Err(Error::kernel(format!("apt-get cannot fetch package lists: {}", said.tail(2)))
                    .hint("check the network, or the mirror in /etc/apt")),
            }
        })?;
        Ok(Some(apt))
    }

    fn get(&self, words: &[&str]) -> Tool {
        Tool::new("apt-get")
            .args(self.options.iter().map(String::as_str))
            .args(words.iter().copied())
            .env("LC_ALL", "C")
    }

    fn cache(&self, words: &[&str]) -> Tool {
        Tool::new("apt-cache")
            .args(self.options.iter().map(String::as_str))
            .args(words.iter().copied())
            .env("LC_ALL", "C")
    }

    /// The version of a package that would be downloaded, if there is one.
    ///
    /// # Errors
    /// apt cannot be run.
    pub fn candidate(&self, package: &str, cancel: &Cancel) -> Result<Option<String>> {
        let said = self.cache(&["policy", package]).output(cancel)?;
        Ok(candidate(&said.text).map(str::to_owned))
    }

    /// The packages whose names match a regular expression.
    ///
    /// # Errors
    /// apt cannot be run.
    pub fn names(&self, pattern: &str, cancel: &Cancel) -> Result<Vec<String>> {
        let said = self.cache(&["search", "--names-only", pattern]).output(cancel)?;
        let names = said.text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
        Ok(if said.status.success() { names.collect() } else { Vec::new() })
    }

    /// The packages whose names begin like this.
    ///
    /// # Errors
    /// apt cannot be run.
    pub fn beginning(&self, start: &str, cancel: &Cancel) -> Result<Vec<String>> {
        let said = self.cache(&["pkgnames", start]).output(cancel)?;
        Ok(said.text.lines().map(str::to_owned).collect())
    }

    /// How large a package is, in bytes, if apt says so.
    ///
    /// # Errors
    /// apt cannot be run.
    pub fn size(&self, package: &str, cancel: &Cancel) -> Result<Option<u64>> {
        let said = self.get(&["--print-uris", "download", package]).output(cancel)?;
        Ok(downloads(&said.text).first().map(|file| file.size))
    }

    /// Downloads a package of `size` bytes into `folder` and returns the `.deb`. apt checks its hash; progress is in bytes,
    /// as part of [`Phase::Fetch`].
    ///
    /// # Errors
    /// apt does not know the package or cannot fetch it.
    pub fn download(
        &self,
        package: &str,
        size: Option<u64>,
        folder: &Path,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<PathBuf> {
        fetch(&self.get(&["download", package]).directory(folder), package, size, events, cancel)?;
        only_deb(folder)
    }

    /// What installing `packages` would download if nothing were installed: what they depend on, too.
    ///
    /// # Errors
    /// apt cannot be run. `Err` within: what apt has against it.
    pub fn closure(&self, packages: &[&str], cancel: &Cancel) -> Result<Result<Vec<Download>, String>> {
        let work = tempfile::tempdir().or_host("make a temporary folder")?;
        let said =
            self.as_if_bare(work.path())?.args(["--print-uris", "install"]).args(packages.to_vec()).output(cancel)?;
        Ok(if said.status.success() { Ok(downloads(&said.text)) } else { Err(said.tail(3)) })
    }

    /// Downloads what [`Apt::closure`] tells into `folder`; returns the folder with the `.deb` files.
    ///
    /// # Errors
    /// apt cannot fetch all of it.
    pub fn download_closure(
        &self,
        packages: &[&str],
        size: u64,
        folder: &Path,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<PathBuf> {
        let tool = self.as_if_bare(folder)?.args(["--download-only", "install"]).args(packages.to_vec());
        fetch(&tool, &packages.join(", "), Some(size), events, cancel).map_err(|error| match error.kind {
            // These are no kernel's.
            ErrorKind::Kernel => Error { kind: ErrorKind::Host, ..error },
            _ => error,
        })?;
        Ok(folder.join(ARCHIVES))
    }

    /// `apt-get` with a machine on which nothing is installed, and which is never changed: its state is in `work`.
    fn as_if_bare(&self, work: &Path) -> Result<Tool> {
        let (status, archives) = (work.join("status"), work.join(ARCHIVES));
        fs::write(&status, "").or_host("write a list of no packages")?;
        fs::create_dir_all(archives.join("partial")).or_host("make a folder for packages")?;
        let settings = [
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache::archives={}", archives.display()),
            // They would tell of no packages what is true of the host's.
            "Dir::Cache::pkgcache=".into(),
            "Dir::Cache::srcpkgcache=".into(),
            "Debug::NoLocking=true".into(),
            sandbox(),
        ];
        let settings = settings.into_iter().flat_map(|setting| ["-o".into(), setting]);
        Ok(self.get(&["--yes", "--no-install-recommends"]).args(settings))
    }
}

/// Where the packages of a closure are.
const ARCHIVES: &str = "archives";

/// Has apt fetch `what`, and tells how far it is, in bytes, as part of [`Phase::Fetch`].
fn fetch(tool: &Tool, what: &str, size: Option<u64>, events: &Events, cancel: &Cancel) -> Result<()> {
    // Each line of apt's status is `dlstatus:FILE:PERCENT:TEXT`.
    let tool = tool.clone().args(["-q", "-o", "APT::Status-Fd=1"]).deadline(Duration::from_secs(3600));
    let said = tool.run(cancel, |line| {
        let percent = line.strip_prefix("dlstatus:").and_then(|rest| rest.split(':').nth(1)?.parse::<f64>().ok());
        if let (Some(percent), Some(size)) = (percent, size) {
            let done = (size as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64;
            events.send(Event::PhaseProgress { phase: Phase::Fetch, done, total: Some(size), unit: Unit::Bytes });
        }
    })?;
    if said.status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.text.lines().filter(|line| !line.starts_with("dlstatus:")).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("\n");
    if let Some(full) = space::full(&said.text, format!("fetching {what}")) {
        return Err(full);
    }
    Err(Error::kernel(format!("apt-get cannot download {what}: {last}"))
        .hint("check the network; if the package is not there any more, `apt-get update` says what is"))
}

/// Root's apt would fetch as another user, who has no way into the cache.
fn sandbox() -> String {
    format!("APT::Sandbox::User={}", if rustix::process::geteuid().is_root() { "root" } else { "" })
}

fn private_options(root: &Path) -> Vec<String> {
    let place = |name: &str| root.join(name).display().to_string();
    let settings = [
        format!("Dir::State::lists={}", place("lists")),
        format!("Dir::Cache::archives={}", place("archives")),
        format!("Dir::Etc::sourcelist={}", place("sources.list")),
        "Dir::Etc::sourceparts=-".into(),
        "Dir::Cache::pkgcache=".into(),
        "Dir::Cache::srcpkgcache=".into(),
        "Acquire::Languages=none".into(),
        sandbox(),
    ];
    settings.into_iter().flat_map(|setting| ["-o".into(), setting]).collect()
}

/// `bookworm` of Debian's /etc/os-release.
fn codename(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_string())
    };
    if value("ID").as_deref() == Some("debian") { value("VERSION_CODENAME") } else { None }
}

/// Sources for apt: what the host has of its release (`URI RELEASE COMPONENT` a line), and the backports on the mirror of
/// the release itself.
fn sources_list(targets: &str, codename: &str, has_keyring: bool) -> Option<String> {
    let option = if has_keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let of_release = |release: &str| release == codename || release.starts_with(&format!("{codename}-"));
    let mut repositories: Vec<(&str, String)> = Vec::new();
    for line in targets.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[uri, release, "main"] = &words[..] else { continue };
        if of_release(release) {
            repositories.push((uri, release.into()));
        }
        if release == codename {
            repositories.push((uri, format!("{codename}-backports")));
        }
    }
    repositories.sort();
    repositories.dedup();
    let lines = repositories.iter().map(|(uri, release)| format!("deb {option}{uri} {release} main\n"));
    (!repositories.is_empty()).then(|| lines.collect())
}

/// The version that `apt-cache policy` calls the candidate.
fn candidate(policy: &str) -> Option<&str> {
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    Some(line.trim()).filter(|version| *version != "(none)" && !version.is_empty())
}

fn only_deb(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).or_host(format!("read {}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|found| found == "deb"))
        .ok_or_else(|| Error::kernel(format!("apt-get left no .deb in {}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_are_where_the_release_is() {
        let targets = "http://m/debian/ trixie main\nhttp://m/debian/ trixie-updates main\nhttp://s/ trixie-security main\n\
                       http://m/debian/ trixie contrib\nhttp://else/ nodistro main\n";
        let list = sources_list(targets, "trixie", false).unwrap();
        assert_eq!(
            list,
            "deb http://m/debian/ trixie main\ndeb http://m/debian/ trixie-backports main\n\
             deb http://m/debian/ trixie-updates main\ndeb http://s/ trixie-security main\n"
        );
        assert!(sources_list(targets, "trixie", true).unwrap().starts_with("deb [signed-by="));
        assert_eq!(sources_list("http://else/ nodistro main\n", "trixie", true), None);
    }

    #[test]
    fn answers_of_apt_are_read() {
        assert_eq!(candidate("x:\n  Installed: (none)\n  Candidate: 6.1.9-1\n"), Some("6.1.9-1"));
        assert_eq!(candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(), Some("trixie"));
        assert_eq!(codename("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"), None);
    }
}
