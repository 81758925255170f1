//! The whole check in one call, for a verb that is about to work: all there, or an error that says how to get there.
//!
//! Puts the other files of the room together; looks at nothing itself.

use super::install::{install, someone_to_ask};
use super::needs::Need;
use super::packages::Plan;
use super::probe::{Finding, Verdict, probe};
use super::system::System;
use crate::error::{Error, Result};
use crate::event::{Cancel, Events};

/// Makes sure that the host has all of `needs`: silently when it has, by installing when `allowed`, else by an error of
/// kind host that lists what is missing and the command that brings it.
pub fn ensure(needs: &[Need], allowed: bool, system: &System, events: &Events, cancel: &Cancel) -> Result<()> {
    let system = &system.clone().remembering();
    settle(needs, allowed, system, events, cancel).and_then(|findings| lacking(&findings, system, allowed))
}

/// Looks for `needs` and, when `allowed`, installs what is missing. The findings are those after that.
pub fn settle(
    needs: &[Need],
    allowed: bool,
    system: &System,
    events: &Events,
    cancel: &Cancel,
) -> Result<Vec<Finding>> {
    let findings = probe(needs, system, cancel);
    cancel.check()?;
    match allowed && findings.iter().any(|finding| !finding.verdict.is_ok()) {
        true => install(needs, &findings, system, someone_to_ask(), events, cancel),
        false => Ok(findings),
    }
}

/// The error for what `findings` lack; `tried` when an installation has been tried already.
pub fn lacking(findings: &[Finding], system: &System, tried: bool) -> Result<()> {
    let lines: Vec<String> = findings
        .iter()
        .filter_map(|Finding { need, verdict }| {
            Some(format!("\n  {} ({}): {}", need.id, need.why, complaint(verdict)?))
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let still = if tried { "still lacks" } else { "lacks" };
    let error = Error::host(format!("this host {still} what kdbg needs{}", lines.concat()));
    Err(match (Plan::of(findings, system), tried) {
        (Some(plan), false) => error.hint(format!("`{plan}`\nor run again with --install")),
        (Some(plan), true) => error.hint(format!("try by hand: `{plan}`")),
        (None, _) => error.hint("no package manager kdbg knows can bring it: install it by hand, somewhere on PATH"),
    })
}

/// What is wrong, in a few words; none when nothing is.
pub fn complaint(verdict: &Verdict) -> Option<String> {
    Some(match verdict {
        Verdict::Ok { .. } => return None,
        Verdict::TooOld { found, wanted, because } => format!("{found} is too old, {wanted} is wanted ({because})"),
        Verdict::Missing => "missing".to_owned(),
        Verdict::Unusable { why } => why.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::needs::{Purpose, needs_for};
    use super::*;
    use crate::error::ErrorKind;

    fn check(fake: &Fake, purpose: Purpose, allowed: bool) -> Result<()> {
        let needs = needs_for(&[purpose], &["6.1"]);
        ensure(&needs, allowed, &fake.system(), &Events::none(), &Cancel::default())
    }

    #[test]
    fn a_host_that_has_all_is_told_nothing() {
        let fake = Fake::new();
        fake.program("qemu-system-x86_64", "echo QEMU emulator version 7.2.22");
        assert_eq!(check(&fake, Purpose::Boot, false), Ok(()));
    }

    #[test]
    fn what_is_missing_is_listed_with_the_command_that_brings_it() {
        let fake = Fake::new();
        fake.program("apt-get", "true");
        fake.program("gdb", "echo GNU gdb 11.2");
        let error = check(&fake, Purpose::Debug, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Host);
        insta::assert_snapshot!(error.message, @r"
        this host lacks what kdbg needs
          gdb (stops the kernel and reads it): 11.2 is too old, 12.1 is wanted (`set debuginfod enabled`)
        ");
        insta::assert_snapshot!(error.hint.unwrap(), @r"
        `apt-get update && apt-get install -y --no-install-recommends gdb`
        or run again with --install
        ");
    }

    #[test]
    fn what_an_installation_did_not_bring_is_said() {
        let fake = Fake::new();
        fake.program("apt-get", "true");
        let error = check(&fake, Purpose::Boot, true).unwrap_err();
        assert!(error.message.starts_with("this host still lacks"), "{}", error.message);
        assert!(error.hint.unwrap().starts_with("try by hand"));
    }
}
