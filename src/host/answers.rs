//! What tools have said of their versions, remembered in the cache for as long as the tool is the same file: QEMU and GDB
//! each take a twentieth of a second to say theirs.
//!
//! A script that calls a tool may call another one without changing itself. Only lower bounds of versions are checked with
//! what is remembered, so that is worth no question.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The folder in the cache.
const FOLDER: &str = "tools";

/// What `program` said when it was last called with `option`; none if it never was, or is another file since.
pub(super) fn recall(cache: &Path, program: &Path, option: &str) -> Option<String> {
    let text = fs::read_to_string(cache.join(FOLDER).join(program.file_name()?)).ok()?;
    let (identity, said) = text.split_once('\n')?;
    (identity == self::identity(program, option)?).then(|| said.to_string())
}

/// Remembers what it said. Where that cannot be written it is asked again the next time.
pub(super) fn remember(cache: &Path, program: &Path, option: &str, said: &str) {
    let folder = cache.join(FOLDER);
    let write = || {
        let (name, identity) = (program.file_name()?, identity(program, option)?);
        fs::create_dir_all(&folder).ok()?;
        let mut file = tempfile::NamedTempFile::new_in(&folder).ok()?;
        write!(file, "{identity}\n{said}").ok()?;
        file.persist(folder.join(name)).ok()
    };
    let _ = write();
}

/// What tells this program from another, and from itself before an update.
fn identity(program: &Path, option: &str) -> Option<String> {
    let file = fs::metadata(program).ok()?;
    let real = program.canonicalize().ok()?;
    let changed = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
    Some(format!("{program:?} {option:?} {real:?} {} {} {changed:?}", file.ino(), file.len()))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, finding};
    use super::super::needs::{Purpose, needs_for};
    use super::super::probe::{Verdict, probe};
    use crate::event::Cancel;

    #[test]
    fn a_tool_is_asked_once_until_it_changes_and_always_by_who_wants_to_know_for_sure() {
        let fake = Fake::new();
        let needs = needs_for(&[Purpose::Boot], &["6.1"]);
        let calls = || std::fs::read_to_string(fake.path("calls")).unwrap_or_default().lines().count();
        let version = |remembering: bool| {
            let system = if remembering { fake.system().remembering() } else { fake.system() };
            match finding(&probe(&needs, &system, &Cancel::default()), "qemu-system-x86_64") {
                Verdict::Ok { version, .. } => version.as_ref().map(ToString::to_string),
                other => panic!("{other:?}"),
            }
        };
        let say = |version: &str| {
            let script = format!("echo call >>$ROOT/calls; echo QEMU emulator version {version}");
            fake.program("qemu-system-x86_64", &script);
        };
        say("7.2.1");
        assert_eq!((version(true).as_deref(), calls()), (Some("7.2.1"), 1));
        assert_eq!((version(true).as_deref(), calls()), (Some("7.2.1"), 1));
        assert_eq!((version(false).as_deref(), calls()), (Some("7.2.1"), 2));
        say("8.0.1");
        assert_eq!((version(true).as_deref(), calls()), (Some("8.0.1"), 3));
        // One that fails is asked again.
        fake.program("qemu-system-x86_64", "echo call >>$ROOT/calls; exit 1");
        for call in [4, 5] {
            let findings = probe(&needs, &fake.system().remembering(), &Cancel::default());
            assert!(matches!(finding(&findings, "qemu-system-x86_64"), Verdict::Unusable { .. }));
            assert_eq!(calls(), call);
        }
    }
}
