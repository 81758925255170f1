//! Looks for each need on the host: is it there, which version, will it do.
//!
//! Reads files and asks tools for their version; changes nothing. Which needs there are is [`super::needs`]'s business.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object::read::elf::{ElfFile64, ProgramHeader};
use serde::Serialize;

use super::answers;
use super::needs::{Find, Minimum, Need};
use super::system::{Call, End, System};
use super::version::Version;
use crate::event::Cancel;

/// How long a tool may take to say its version.
const ANSWER: Duration = Duration::from_secs(5);

/// What came of looking for one need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is there and will do.
    Ok {
        /// Its version, where it has one.
        version: Option<Version>,
        /// Where it is; none for a package that is only offered.
        path: Option<PathBuf>,
    },
    /// It is there, but too old.
    TooOld {
        /// Its version.
        found: Version,
        /// The oldest that will do.
        wanted: Version,
        /// What older ones lack.
        because: &'static str,
    },
    /// It is not there.
    Missing,
    /// It is there, but cannot be used.
    Unusable {
        /// The reason.
        why: String,
    },
}

impl Verdict {
    /// Whether kdbg can work with it.
    pub fn is_ok(&self) -> bool {
        matches!(self, Verdict::Ok { .. })
    }
}

/// A need and what came of looking for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub need: Need,
    /// What was found.
    pub verdict: Verdict,
}

/// Looks for all of `needs` at once, each in a thread of its own; the findings come in the order of the needs.
pub fn probe(needs: &[Need], system: &System, cancel: &Cancel) -> Vec<Finding> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            needs.iter().map(|need| (need, scope.spawn(|| Prober { system, cancel }.verdict(need)))).collect();
        threads
            .into_iter()
            .map(|(need, thread)| {
                let verdict =
                    thread.join().unwrap_or_else(|_| Verdict::Unusable { why: "looking for it failed".into() });
                Finding { need: need.clone(), verdict }
            })
            .collect()
    })
}

/// Looks for one need.
struct Prober<'a> {
    system: &'a System,
    cancel: &'a Cancel,
}

impl Prober<'_> {
    fn verdict(&self, need: &Need) -> Verdict {
        match &need.find {
            Find::Program { name, version } => self.program(name, *version, need.minimum.as_ref(), false),
            Find::StaticProgram { name, version } => self.program(name, *version, need.minimum.as_ref(), true),
            Find::Header { header, library } => self.header(header, *library),
            Find::Source { series } => self.source(series),
        }
    }

    fn program(&self, name: &str, option: Option<&str>, minimum: Option<&Minimum>, must_be_static: bool) -> Verdict {
        let Some(path) = self.system.which(name) else { return Verdict::Missing };
        if must_be_static && let Err(why) = check_static(&path) {
            return Verdict::Unusable { why };
        }
        let version = match option.map(|option| self.ask_version(&path, option)) {
            None => None,
            Some(Ok(output)) => Version::find_in(&output),
            Some(Err(why)) => return Verdict::Unusable { why: format!("{}: {why}", path.display()) },
        };
        match (minimum, version) {
            (Some(minimum), Some(found)) if found < minimum.version => {
                Verdict::TooOld { found, wanted: minimum.version.clone(), because: minimum.because }
            }
            (Some(minimum), None) => {
                Verdict::Unusable { why: format!("does not tell its version; {} is wanted", minimum.version) }
            }
            (_, version) => Verdict::Ok { version, path: Some(path) },
        }
    }

    /// Asks the compiler, who alone knows where it looks; without one, looks in the usual folders.
    fn header(&self, header: &str, library: Option<&str>) -> Verdict {
        let Some(gcc) = self.system.which("gcc") else {
            let folders = ["/usr/include", "/usr/local/include"];
            let found = folders.map(|folder| self.system.file(folder).join(header)).into_iter().find(|p| p.exists());
            return found.map_or(Verdict::Missing, |path| Verdict::Ok { version: None, path: Some(path) });
        };
        let including = ["-E", "-M", "-x", "c", "-include", header, "/dev/null"];
        let Ok(rule) = self.ask(gcc.as_os_str(), &including) else { return Verdict::Missing };
        let path = rule.split_whitespace().find(|word| word.ends_with(&format!("/{header}"))).map(PathBuf::from);
        let Some(library) = library else { return Verdict::Ok { version: None, path } };
        // gcc echoes the bare name of a library that it does not find.
        let has = |file: String| {
            self.ask(gcc.as_os_str(), &[&format!("-print-file-name={file}")]).is_ok_and(|answer| answer.trim() != file)
        };
        match has(format!("lib{library}.so")) || has(format!("lib{library}.a")) {
            true => Verdict::Ok { version: None, path },
            false => Verdict::Unusable { why: format!("{header} is there, but not the library lib{library}") },
        }
    }

    fn source(&self, series: &str) -> Verdict {
        let package = format!("linux-source-{series}");
        let lying_there = unpacked(&self.system.cache().join("sources"), series)
            .or_else(|| Some(self.system.file("/usr/src").join(format!("{package}.tar.xz"))).filter(|p| p.is_file()));
        if let Some(path) = lying_there {
            return Verdict::Ok { version: None, path: Some(path) };
        }
        let (Some(apt_cache), Some(_)) = (self.system.which("apt-cache"), self.system.which("apt-get")) else {
            return Verdict::Missing;
        };
        let candidate = self.ask(apt_cache.as_os_str(), &["policy", &package]).ok().and_then(|text| candidate(&text));
        match candidate {
            None => Verdict::Missing,
            Some(_) if self.system.which("dpkg-deb").is_none() => {
                Verdict::Unusable { why: "apt offers it, but there is no dpkg-deb to unpack it".into() }
            }
            version => Verdict::Ok { version, path: None },
        }
    }

    /// What a tool says of its version, or why it does not.
    fn ask_version(&self, program: &Path, option: &str) -> Result<String, String> {
        let (cache, remembers) = (self.system.cache(), self.system.remembers());
        if let Some(said) = remembers.then(|| answers::recall(cache, program, option)).flatten() {
            return Ok(said);
        }
        let said = self.ask(program.as_os_str(), &[option])?;
        if remembers {
            answers::remember(cache, program, option, &said);
        }
        Ok(said)
    }

    /// What a tool answers, or why it does not.
    fn ask(&self, program: &OsStr, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let call = Call { program, arguments: &arguments, deadline: ANSWER, log: None, asks_for_password: false };
        let ran = self.system.run(&call, self.cancel).map_err(|error| format!("cannot be run: {error}"))?;
        match ran.end {
            End::Exited(Some(0)) => Ok(ran.text),
            End::Exited(Some(code)) => {
                let first = ran.text.lines().next().unwrap_or("and says nothing");
                Err(format!("ends with exit code {code}: {first}"))
            }
            End::Exited(None) => Err("was ended by a signal".into()),
            End::TimedOut => Err(format!("gives no answer within {} s", ANSWER.as_secs())),
            End::Cancelled => Err("interrupted".into()),
        }
    }
}

/// Whether the program runs without an interpreter, that is, without libraries of the host beside it.
fn check_static(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let cache = object::ReadCache::new(file);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache)
        .map_err(|_| format!("{} is not a 64-bit ELF program", path.display()))?;
    let endian = elf.endian();
    match elf.elf_program_headers().iter().any(|header| header.p_type(endian) == object::elf::PT_INTERP) {
        true => Err(format!("{} is dynamically linked: in the guest there are no libraries", path.display())),
        false => Ok(()),
    }
}

/// A kernel tree of this series in `folder`, as [`Find::Source`] promises.
fn unpacked(folder: &Path, series: &str) -> Option<PathBuf> {
    let belongs = |name: &str| {
        let version = name.strip_prefix("linux-").map(|rest| rest.strip_prefix("source-").unwrap_or(rest));
        let rest = version.and_then(|version| version.strip_prefix(series));
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut trees: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(belongs))
        .map(|entry| entry.path())
        .filter(|tree| tree.join("Makefile").is_file())
        .collect();
    trees.sort();
    trees.pop()
}

/// The version `apt-cache policy` would install.
fn candidate(policy: &str) -> Option<Version> {
    policy.lines().find_map(|line| Version::parse(line.trim().strip_prefix("Candidate:")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, finding};
    use super::super::needs::{Purpose, needs_for};
    use super::*;

    #[test]
    fn a_program_is_found_too_old_silent_or_missing() {
        let fake = Fake::new();
        fake.program("make", "echo GNU Make 3.81");
        fake.program("bison", "echo 'bison (GNU Bison) 3.8.2'");
        fake.program("bc", "echo no options, please >&2; exit 2");
        fake.program("flex", "echo hello");
        let findings = fake.probe(&needs_for(&[Purpose::Build], &["6.1"]));
        let version = |text| Version::parse(text).unwrap();
        let too_old =
            Verdict::TooOld { found: version("3.81"), wanted: version("3.82"), because: "the kernel's own minimum" };
        assert_eq!(finding(&findings, "make"), &too_old);
        assert!(finding(&findings, "bison").is_ok());
        let silent = Verdict::Unusable { why: "does not tell its version; 2.5.35 is wanted".into() };
        assert_eq!(finding(&findings, "flex"), &silent);
        let Verdict::Unusable { why } = finding(&findings, "bc") else { panic!("bc is broken") };
        assert!(why.ends_with("bin/bc: ends with exit code 2: no options, please"), "{why}");
        assert_eq!(finding(&findings, "gcc"), &Verdict::Missing);
        assert_eq!(finding(&findings, "libelf headers"), &Verdict::Missing);
    }

    #[test]
    fn headers_are_the_compilers_business() {
        let fake = Fake::new();
        fake.program("gcc", "case $* in *gelf.h*) echo 'null: /opt/include/gelf.h';; *=libelf.so) echo /opt/lib/libelf.so;; *) exit 1;; esac");
        let findings = fake.probe(&needs_for(&[Purpose::Build], &["6.1"]));
        let found = Verdict::Ok { version: None, path: Some("/opt/include/gelf.h".into()) };
        assert_eq!(finding(&findings, "libelf headers"), &found);
        assert_eq!(finding(&findings, "libc headers"), &Verdict::Missing);
    }

    #[test]
    fn a_script_is_no_static_busybox_and_kdbg_itself_is_dynamic() {
        let fake = Fake::new();
        fake.program("busybox", "echo BusyBox v1.36.1");
        let findings = fake.probe(&needs_for(&[Purpose::Image], &["6.1"]));
        assert!(matches!(finding(&findings, "busybox"), Verdict::Unusable { .. }));
        let this = std::env::current_exe().unwrap();
        assert!(check_static(&this).unwrap_err().contains("dynamically linked"));
    }

    #[test]
    fn a_source_comes_from_the_cache_then_usr_src_then_apt() {
        let fake = Fake::new();
        let needs = needs_for(&[Purpose::Source], &["6.1"]);
        let look = || finding(&fake.probe(&needs), "linux-source-6.1").clone();
        assert_eq!(look(), Verdict::Missing);

        fake.program("apt-get", "true");
        fake.program("dpkg-deb", "true");
        fake.program("apt-cache", "echo '  Candidate: (none)'");
        assert_eq!(look(), Verdict::Missing);
        fake.program("apt-cache", "printf 'linux-source-6.1:\\n  Installed: (none)\\n  Candidate: 6.1.192-2\\n'");
        assert_eq!(look(), Verdict::Ok { version: Version::parse("6.1.192"), path: None });

        let archive = fake.file("usr/src/linux-source-6.1.tar.xz", "");
        assert_eq!(look(), Verdict::Ok { version: None, path: Some(archive) });
        fake.file("cache/sources/linux-6.12.3/Makefile", "");
        let makefile = fake.file("cache/sources/linux-6.1.192/Makefile", "");
        assert_eq!(look(), Verdict::Ok { version: None, path: makefile.parent().map(Into::into) });
    }
}
