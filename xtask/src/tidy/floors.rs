//! Floors: imports point down only, and pure modules touch nothing outside.

use std::collections::BTreeSet;

use super::rust::{self, Named};
use super::{Finding, Tree};

/// The rooms of `src/`, the lowest floor first. A room may name rooms of lower floors and itself; rooms on one floor do
/// not know each other. A new room gets its place here, as low as it can stand.
const FLOORS: &[&[&str]] = &[
    &["error", "spelling", "digest", "builtin"],
    &["recipe", "layout", "vscode"],
    &["report", "decode"],
    &["event", "memory", "unwind"],
    &["process", "store", "server"],
    &["package", "recording", "pack"],
    &["host", "kernel", "guest", "gdb"],
    &["session"],
    &["cli", "ui"],
    &["commands"],
];

/// Modules, with all below them, that touch no file, process or socket and name only each other.
const PURE: &[&str] = &[
    "builtin",
    "decode",
    "digest",
    "error",
    "gdb::answer",
    "gdb::command",
    "gdb::mi",
    "gdb::storage",
    "gdb::variables",
    "guest::agent",
    "guest::capture",
    "guest::image::account",
    "guest::image::elf",
    "guest::image::modules",
    "guest::image::tree",
    "guest::machine",
    "guest::topology",
    "host::version",
    "kernel::diagnosis",
    "kernel::kconfig",
    "kernel::key",
    "kernel::modules::index",
    "kernel::modules::info",
    "kernel::package::control",
    "layout",
    "memory::maps",
    "memory::pagemap",
    "memory::paging",
    "package::download",
    "recipe::capture",
    "recipe::check",
    "recipe::diagnostic",
    "recipe::expression",
    "recipe::image",
    "recipe::kernel",
    "recipe::locate",
    "recipe::message",
    "recipe::modules",
    "recipe::network",
    "recipe::point",
    "recipe::probe",
    "recipe::shape",
    "recipe::topology",
    "recipe::types",
    "recording::chunk",
    "report::debuggable",
    "report::diff",
    "report::expect",
    "report::markdown",
    "report::matrix",
    "report::model",
    "report::packets",
    "report::path",
    "report::text",
    "report::value",
    "report::volatile",
    "server::arch",
    "server::description",
    "server::packets",
    "spelling",
    "vscode::configuration",
];

/// What a pure module does not name.
const OUTSIDE: &[&str] = &["std::env", "std::fs", "std::net", "std::os::unix::net", "std::process", "duct", "rustix"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let tests = test_modules(tree);
    let mut findings = Vec::new();
    for (file, text) in tree.sources() {
        let Some(module) = rust::module(file) else { continue };
        if tests.iter().any(|test| is_within(&module, test)) {
            continue;
        }
        let named = rust::named(text);
        findings.extend(climbs(file, &module, &named));
        if PURE.iter().any(|pure| is_within(&module, pure)) {
            findings.extend(touches(file, &module, &named));
        }
    }
    findings.dedup();
    findings
}

/// Modules that are compiled for tests only, of all files.
fn test_modules(tree: &Tree) -> BTreeSet<String> {
    let declared = tree.sources().flat_map(|(file, text)| {
        let parent = rust::module(file).map_or(String::new(), |module| module + "::");
        rust::test_modules(text).into_iter().map(move |name| format!("{parent}{name}"))
    });
    declared.collect()
}

fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// The rooms that `module` names and must not.
fn climbs(file: &str, module: &str, named: &[Named]) -> Vec<Finding> {
    let from = room(module);
    let Some(here) = floor(from) else {
        let what = format!("the room `{from}` has no floor: give it one in xtask/src/tidy/floors.rs");
        return vec![Finding::new(file, 1, what)];
    };
    let climbing = named.iter().filter_map(|named| {
        let path = absolute(module, &named.path)?;
        let to = room(&path);
        let above = to != from && floor(to).is_some_and(|there| there >= here);
        let what = format!(
            "`{from}` names `{to}`, which is not below it: move what is shared down, or have the caller pass it in"
        );
        above.then(|| Finding::new(file, named.line, what))
    });
    climbing.collect()
}

/// What a pure module names and must not.
fn touches(file: &str, module: &str, named: &[Named]) -> Vec<Finding> {
    let touching = named.iter().filter_map(|named| {
        let outside = OUTSIDE.iter().find(|outside| is_within(&named.path, outside));
        let what = match (outside, absolute(module, &named.path)) {
            (Some(outside), _) => format!("the pure module `{module}` uses `{outside}`: leave that to its caller"),
            (None, Some(path)) if !PURE.iter().any(|pure| is_within(&path, pure)) => {
                format!("the pure module `{module}` names `{path}`, which is not pure: leave that to its caller")
            }
            _ => return None,
        };
        Some(Finding::new(file, named.line, what))
    });
    touching.collect()
}

/// A path of this crate from its root: `crate::a::b` and `super::b` in `a::c` both are `a::b`. None for other crates.
fn absolute(module: &str, path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.into());
    }
    let mut rest = path;
    let mut base: Vec<&str> = module.split("::").collect();
    while let Some(below) = rest.strip_prefix("super::") {
        rest = below;
        base.pop();
    }
    if rest.len() == path.len() {
        return None;
    }
    base.push(rest);
    Some(base.join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(Finding::short).collect()
    }

    #[test]
    fn what_points_down_is_fine() {
        assert!(found(&[("src/session.rs", "use crate::gdb::mi;\nuse crate::{error::Error, guest};")]).is_empty());
        assert!(found(&[("src/lib.rs", "pub mod ui;"), ("src/main.rs", "use kdbg::ui;")]).is_empty());
    }

    #[test]
    fn what_points_up_or_sideways_is_found() {
        let up = found(&[("src/guest/qmp.rs", "//! x\nuse crate::{error::Error, session::Order};")]);
        assert_eq!(up.len(), 1, "{up:?}");
        assert!(up[0].starts_with("src/guest/qmp.rs:2: `guest` names `session`"), "{up:?}");
        assert_eq!(found(&[("src/guest.rs", "fn f() { crate::gdb::x() }")]).len(), 1, "a neighbour");
        assert_eq!(found(&[("src/guest/a/b.rs", "use super::super::super::gdb::mi;")]).len(), 1, "by `super`");
        assert!(found(&[("src/guest/a/b.rs", "use super::super::qmp::Qmp;")]).is_empty(), "in its own room");
    }

    #[test]
    fn a_room_without_a_floor_is_found() {
        assert!(found(&[("src/attic.rs", "")])[0].contains("`attic` has no floor"));
    }

    #[test]
    fn a_pure_module_touches_nothing() {
        let fs = found(&[("src/gdb/mi.rs", "use std::{\n    fmt,\n    fs::File,\n};")]);
        assert_eq!(fs, ["src/gdb/mi.rs:3: the pure module `gdb::mi` uses `std::fs`: leave that to its caller"]);
        assert!(found(&[("src/report/markdown/page.rs", "use std::process::Command;")])[0].contains("std::process"));
        assert!(
            found(&[("src/report/markdown/page.rs", "use super::super::sources::KernelTree;")])[0].contains("sources")
        );
        assert!(
            found(&[("src/gdb/variables.rs", "use super::mi::Values;\nuse crate::report::model::Var;")]).is_empty()
        );
        assert!(found(&[("src/gdb/client.rs", "use std::fs::File;")]).is_empty(), "not a pure one");
    }

    #[test]
    fn tests_may_do_what_they_like() {
        let inside = "use std::fmt;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    use crate::ui;\n}";
        assert!(found(&[("src/gdb/mi.rs", inside)]).is_empty());
        let outside =
            [("src/report/expect.rs", "#[cfg(test)]\nmod tests;"), ("src/report/expect/tests.rs", "use std::fs;")];
        assert!(found(&outside).is_empty());
        assert_eq!(found(&outside[1..]).len(), 1, "the declaration makes it a test");
    }
}
