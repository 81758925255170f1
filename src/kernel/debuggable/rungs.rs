//! Which flags the files of a finished kernel took: the wrapper's marks, in `.comment` of vmlinux and of modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use object::{Object, ObjectSection};

use super::object_prefix;
use crate::report::debuggable::Debuggable;

/// Objects by their paths, with their rungs.
pub(super) type Rungs = BTreeMap<String, String>;

/// Adds what the marks in an object file, linked or not, say; nothing if it cannot be read.
pub(super) fn read(file: &Path, rungs: &mut Rungs) {
    let Ok(data) = fs::read(file) else { return };
    let Ok(object) = object::File::parse(&*data) else { return };
    let comment = object.section_by_name(".comment").and_then(|section| section.data().ok());
    let comments = comment.unwrap_or_default().split(|byte| *byte == 0);
    rungs.extend(comments.filter_map(|text| mark(std::str::from_utf8(text).ok()?)));
}

/// A mark's object and rung.
fn mark(comment: &str) -> Option<(String, String)> {
    let (rung, object) = comment.strip_prefix("kdbg ")?.split_once(' ')?;
    Some((object.into(), rung.into()))
}

/// What the rungs come to for what was asked for.
pub(super) fn sum_up(rungs: &Rungs, paths: &[String], marks_unset: bool) -> Debuggable {
    let source = |object: &String| format!("{}.c", object.strip_suffix(".o").unwrap_or(object));
    let is_unused = |path: &&String| !rungs.keys().any(|object| object.starts_with(&object_prefix(path)));
    Debuggable {
        o0: rungs.values().filter(|rung| *rung == "-O0").count() as u64,
        og: rungs.values().filter(|rung| *rung == "-Og").count() as u64,
        plain: rungs.iter().filter(|(_, rung)| *rung == "plain").map(|(object, _)| source(object)).collect(),
        unused: paths.iter().filter(is_unused).cloned().collect(),
        marks_unset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_those_that_stayed_plain_are_named() {
        let comments = ["GCC: 12", "kdbg -O0 net/a.o", "kdbg -O0 net/a.o", "kdbg -Og net/b.o", "kdbg plain net/x/c.o"];
        let rungs: Rungs = comments.iter().filter_map(|comment| mark(comment)).collect();
        let paths = ["net/", "net/a.c", "fs/", "net/d.c"].map(String::from);
        let expected = Debuggable {
            o0: 1,
            og: 1,
            plain: vec!["net/x/c.c".into()],
            unused: vec!["fs/".into(), "net/d.c".into()],
            marks_unset: true,
        };
        assert_eq!(sum_up(&rungs, &paths, true), expected);
    }
}
