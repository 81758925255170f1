//! Installs what is missing: asks where there is someone to ask, runs the package manager, looks again.
//!
//! The only part of the room that changes the host, and only after consent: an answer at the terminal or `--install`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::needs::Need;
use super::packages::{Command, Plan};
use super::probe::{Finding, probe};
use super::system::{Call, End, System};
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, Events, Phase};

/// How long one command of a package manager may take: slow mirrors, large packages, another one holding the lock.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How many of a failed command's last lines go into the error.
const TAIL: usize = 12;

/// Whether there is someone at a terminal to ask.
pub fn someone_to_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Installs what `findings` lack and looks for everything again. What is still not there stands in the new findings.
///
/// `ask` is [`someone_to_ask`]; without, being called is the consent.
pub fn install(
    needs: &[Need],
    findings: &[Finding],
    system: &System,
    ask: bool,
    events: &Events,
    cancel: &Cancel,
) -> Result<Vec<Finding>> {
    let Some(plan) = Plan::of(findings, system) else { return Ok(findings.to_vec()) };
    if ask && !consent(&plan, cancel)? {
        return Err(Error::host("not installed: the answer was no").hint(format!("by hand: `{plan}`")));
    }
    let log = system.cache().join("logs/install.log");
    fs::create_dir_all(log.parent().unwrap_or(system.cache()))
        .or_host(format!("create {}", system.cache().display()))?;
    let installer = Installer { plan: &plan, system, log, asks: ask && plan.sudo(), cancel };
    installer.unlock_sudo()?;
    events.phase(Phase::Install, plan.to_string(), || {
        installer.carry_out()?;
        Ok(((), format!("{} packages", plan.packages.len())))
    })?;
    Ok(probe(needs, system, cancel))
}

/// Carries out one plan.
struct Installer<'a> {
    plan: &'a Plan,
    system: &'a System,
    log: PathBuf,
    asks: bool,
    cancel: &'a Cancel,
}

impl Installer<'_> {
    /// Lets sudo ask for the password now, at a quiet terminal, before a progress line is drawn over its question.
    fn unlock_sudo(&self) -> Result<()> {
        if !self.asks {
            return Ok(());
        }
        let command = Command { words: vec!["sudo".into(), "-v".into()] };
        self.run(&command)?.map_err(|failure| self.error(&command, &failure))
    }

    fn carry_out(&self) -> Result<()> {
        if self.plan.update {
            self.update()?;
        }
        let Some(command) = self.plan.install_command() else { return Ok(()) };
        match self.run(&command)? {
            Ok(()) => Ok(()),
            Err(failure) if !self.plan.update && self.plan.manager.lists_are_stale(&failure.output) => {
                self.update()?;
                self.run(&command)?.map_err(|failure| self.error(&command, &failure))
            }
            Err(failure) => Err(self.error(&command, &failure)),
        }
    }

    fn update(&self) -> Result<()> {
        let Some(command) = self.plan.update_command() else { return Ok(()) };
        self.run(&command)?.map_err(|failure| self.error(&command, &failure))
    }

    /// Runs one command. The outer error is kdbg's (interrupted, log not writable), the inner one the command's.
    fn run(&self, command: &Command) -> Result<Result<(), Failure>> {
        self.cancel.check()?;
        let start = length(&self.log);
        let Some((program, arguments)) = command.words.split_first() else { return Ok(Ok(())) };
        // Without someone to ask, sudo must not wait for a password.
        let quiet_sudo = (self.plan.sudo() && !self.asks).then(|| "-n".to_owned());
        let arguments: Vec<String> = quiet_sudo.into_iter().chain(arguments.iter().cloned()).collect();
        let path = self.system.which(program).unwrap_or_else(|| program.into());
        let call = Call {
            program: path.as_os_str(),
            arguments: &arguments,
            deadline: PATIENCE,
            log: Some(&self.log),
            asks_for_password: self.asks,
        };
        let ran = self.system.run(&call, self.cancel).or_host(format!("run `{command}`"))?;
        let how = match ran.end {
            End::Exited(Some(0)) => return Ok(Ok(())),
            End::Cancelled => return Err(Error::interrupted()),
            End::Exited(Some(code)) => format!("failed with exit code {code}"),
            End::Exited(None) => "was ended by a signal".to_owned(),
            End::TimedOut => format!("did not end within {}", humantime::format_duration(PATIENCE)),
        };
        Ok(Err(Failure { how, output: text_from(&self.log, start) }))
    }

    fn error(&self, command: &Command, failure: &Failure) -> Error {
        let lines: Vec<&str> = failure.output.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail: String = lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("\n  {line}")).collect();
        Error::host(format!("`{command}` {}{tail}", failure.how))
            .hint(format!("try it by hand: `{command}`; all of its output is in {}", self.log.display()))
    }
}

/// How a command of the package manager failed.
struct Failure {
    how: String,
    output: String,
}

fn length(file: &Path) -> usize {
    fs::metadata(file).ok().and_then(|metadata| usize::try_from(metadata.len()).ok()).unwrap_or(0)
}

fn text_from(file: &Path, start: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

/// Shows the command and waits for the answer, or for Ctrl-C.
fn consent(plan: &Plan, cancel: &Cancel) -> Result<bool> {
    let question = match plan.packages.len() {
        0 => "Bring the lists of packages up to date?".to_owned(),
        count => format!("Install these {count} packages?"),
    };
    let mut screen = std::io::stderr().lock();
    write!(screen, "  {plan}\n{question} [Y/n] ").and_then(|()| screen.flush()).or_host("ask at the terminal")?;
    let stdin = std::io::stdin();
    let glance = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        cancel.check()?;
        // An interrupted poll is a signal: the flag above tells which.
        if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&glance)).is_ok_and(|ready| ready > 0) {
            break;
        }
    }
    let mut answer = String::new();
    let read = stdin.read_line(&mut answer).or_host("read the answer")?;
    Ok(read > 0 && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    ["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, finding};
    use super::super::needs::Purpose;
    use super::*;
    use crate::error::ErrorKind;

    /// "Installs" a program by writing it.
    const INSTALLS: &str = r#"{ printf '#!/bin/sh\necho bison 3.8\n' > $ROOT/bin/bison; chmod 755 $ROOT/bin/bison; }"#;

    fn bison(fake: &Fake) -> Result<Vec<Finding>> {
        let needs = [Need::program("bison", Purpose::Build, "generates parsers")];
        install(&needs, &fake.probe(&needs), &fake.system(), false, &Events::none(), &Cancel::default())
    }

    fn with_lists() -> Fake {
        let fake = Fake::new();
        fake.file("var/lib/apt/lists/some_Packages", "");
        fake
    }

    #[test]
    fn what_was_installed_is_found() {
        let fake = with_lists();
        fake.program("apt-get", &format!("echo $DEBIAN_FRONTEND $*\n{INSTALLS}"));
        assert!(finding(&bison(&fake).unwrap(), "bison").is_ok());
        let log = fs::read_to_string(fake.path("cache/logs/install.log")).unwrap();
        assert_eq!(log, "noninteractive install -y --no-install-recommends bison\n");
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_the_command() {
        let fake = with_lists();
        fake.program("apt-get", "echo 'E: Could not get lock'; exit 100");
        let error = bison(&fake).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Host);
        assert_eq!(
            error.message,
            "`apt-get install -y --no-install-recommends bison` failed with exit code 100\n  E: Could not get lock"
        );
        assert!(error.hint.unwrap().starts_with("try it by hand: `apt-get install"));
    }

    #[test]
    fn stale_lists_are_brought_up_to_date_once() {
        let fake = with_lists();
        let script = format!(
            "echo $1 >> $ROOT/calls\ncase $1 in update) touch $ROOT/updated;; *) [ -e $ROOT/updated ] || \
             {{ echo 'E: Unable to locate package bison'; exit 100; }}\n{INSTALLS};; esac"
        );
        fake.program("apt-get", &script);
        assert!(finding(&bison(&fake).unwrap(), "bison").is_ok());
        assert_eq!(fs::read_to_string(fake.path("calls")).unwrap(), "install\nupdate\ninstall\n");
    }

    #[test]
    fn empty_lists_are_filled_first() {
        let fake = Fake::new();
        fake.program("apt-get", &format!("echo $1 >> $ROOT/calls\n[ $1 = update ] || {INSTALLS}"));
        bison(&fake).unwrap();
        assert_eq!(fs::read_to_string(fake.path("calls")).unwrap(), "update\ninstall\n");
    }

    #[test]
    fn enter_means_yes_and_anything_odd_means_no() {
        assert!(is_yes("\n") && is_yes("Y\n") && is_yes("yes\n"));
        assert!(!is_yes("n\n") && !is_yes("what\n"));
    }
}
