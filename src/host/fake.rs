//! A machine in a temporary folder, for the tests of this room: shell scripts for tools, empty files for facts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::needs::Need;
use super::probe::{Finding, Verdict, probe};
use super::system::System;
use crate::event::Cancel;

/// The machine; gone with its last use.
pub(crate) struct Fake(tempfile::TempDir);

impl Fake {
    /// A machine without a single tool.
    pub(crate) fn new() -> Self {
        let fake = Fake(tempfile::tempdir().unwrap());
        fs::create_dir(fake.path("bin")).unwrap();
        fake
    }

    /// A path on it.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    /// Puts a file on it.
    pub(crate) fn file(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Puts a program on it: a shell script that finds the host's own tools after the fake ones, and its root in `$ROOT`.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let root = self.0.path().display();
        let text = format!("#!/bin/sh\nROOT={root}\nPATH=$PATH:/usr/bin:/bin\n{script}\n");
        // Written under another name and renamed: a program that is open for writing cannot be started (ETXTBSY), and
        // a fork of another test's thread may hold it open for a moment.
        let path = self.path(&format!("bin/{name}"));
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", r#"printf %s "$1" > "$2.new" && chmod 755 "$2.new" && mv "$2.new" "$2""#, "sh", &text])
            .arg(&path)
            .status();
        assert!(status.unwrap().success());
        assert!(fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0);
    }

    /// The machine as the room sees it, for root.
    pub(crate) fn system(&self) -> System {
        self.system_as(true)
    }

    /// The machine as the room sees it.
    pub(crate) fn system_as(&self, superuser: bool) -> System {
        System::in_folder(self.0.path(), OsStr::new(""), superuser)
    }

    /// Looks for `needs` on it.
    pub(crate) fn probe(&self, needs: &[Need]) -> Vec<Finding> {
        probe(needs, &self.system(), &Cancel::default())
    }
}

/// The verdict on the need called `id`.
pub(crate) fn finding<'a>(findings: &'a [Finding], id: &str) -> &'a Verdict {
    &findings.iter().find(|finding| finding.need.id == id).unwrap().verdict
}
