//! Keys and types that a recipe does not have: serde's errors, said in the recipe's words and at its line.
//!
//! Pure. The only room that knows how serde and `serde_norway` phrase an error.

use super::diagnostic::Diagnostic;
use super::locate::{Outline, Part};
use crate::spelling;

/// How serde's own messages begin, after the path.
const KINDS: [&str; 6] = [
    "unknown field `",
    "missing field `",
    "duplicate field `",
    "unknown variant `",
    "invalid type: ",
    "invalid value: ",
];

/// What serde has against a text that is YAML. `whole` names the document: "a recipe", "an image".
pub(super) fn explain(error: &serde_yaml::Error, outline: &Outline<'_>, whole: &str) -> Diagnostic {
    let text = error.to_string();
    let text = error.location().map_or(text.as_str(), |at| {
        text.strip_suffix(&format!(" at line {} column {}", at.line(), at.column())).unwrap_or(&text)
    });
    let (path, problem) = split(text);
    let value = outline.find(path, Part::Value);
    if let Some((key, expected)) = quoted(problem, "unknown field `") {
        return unknown_key(path, key, expected, outline, whole);
    }
    if let Some((key, _)) = quoted(problem, "missing field `") {
        let owner = subject(path, whole);
        return Diagnostic::new(format!("{owner} has no `{key}`"), value, format!("`{key}` is missing here"));
    }
    if let Some((key, _)) = quoted(problem, "duplicate field `") {
        return Diagnostic::new(format!("the key `{key}` comes twice"), value, "in here");
    }
    let (key, subject) = (last_key(path), subject(path, whole));
    if let Some((found, expected)) = quoted(problem, "unknown variant `") {
        let expected = names(expected);
        let wrong = Diagnostic::new(format!("{subject} cannot be `{found}`"), value, "not in this version of kdbg");
        return wrong.help(format!("it can be {}", spelling::listed(expected)));
    }
    if let Some((found, expected)) = mismatch(problem) {
        let (found, expected) = (found_words(found), expected_words(expected));
        let wrong = Diagnostic::new(format!("{subject} must be {expected}"), value, format!("this is {found}"));
        return match expected {
            "a list" => wrong.help(format!("write `{key}: [ … ]`, or one `- ` item a line below `{key}:`")),
            "text" if found.starts_with("a list") || found.starts_with("a mapping") => {
                wrong.help("a text that starts with `[`, `{`, `*` or `&` needs quotes around it")
            }
            _ if expected.ends_with("text") && found == "nothing" => {
                wrong.help("an empty value and a bare `NULL` are nothing in YAML: write `\"NULL\"` or `0`")
            }
            _ if expected.ends_with("text") && found.starts_with("the number") => {
                wrong.help("put it in quotes to make it a text")
            }
            _ => wrong,
        };
    }
    Diagnostic::new(problem, value, "")
}

/// A key that does not exist, with the ones that do.
fn unknown_key(path: &str, key: &str, expected: &str, outline: &Outline<'_>, whole: &str) -> Diagnostic {
    let valid = names(expected);
    let place = if path == "." { key.to_owned() } else { format!("{path}.{key}") };
    let wrong = Diagnostic::new(
        format!("{} has no key `{key}`", subject(path, whole)),
        outline.find(&place, Part::Key),
        "unknown key",
    );
    let all = format!("the keys here are {}", spelling::listed(valid.iter().copied()));
    match spelling::did_you_mean(key, valid) {
        Some(near) => wrong.help(format!("{near}\n{all}")),
        None => wrong.help(all),
    }
}

/// Takes the path off the front of a message; `.` when there is none.
fn split(text: &str) -> (&str, &str) {
    let begins = |rest: &str| rest.starts_with('`') || KINDS.iter().any(|kind| rest.starts_with(kind));
    if begins(text) {
        return (".", text);
    }
    let found = text.match_indices(": ").find(|(at, _)| begins(&text[at + 2..]));
    found.map_or((".", text), |(at, _)| (&text[..at], &text[at + 2..]))
}

/// `` <start>NAME`, expected REST `` as name and rest.
fn quoted<'t>(problem: &'t str, start: &str) -> Option<(&'t str, &'t str)> {
    let (name, rest) = problem.strip_prefix(start)?.split_once('`')?;
    Some((name, rest.strip_prefix(", expected ").unwrap_or(rest)))
}

/// The names in backquotes of a text.
fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `invalid type: FOUND, expected EXPECTED` as found and expected.
fn mismatch(problem: &str) -> Option<(&str, &str)> {
    let rest = problem.strip_prefix("invalid type: ").or_else(|| problem.strip_prefix("invalid value: "))?;
    let at = rest.rfind(", expected ")?;
    Some((&rest[..at], &rest[at + ", expected ".len()..]))
}

fn last_key(path: &str) -> &str {
    path.trim_start_matches('.').rsplit('.').next().unwrap_or(path)
}

/// What a value is called in a message: `` `probes[0]` `` or the whole document.
fn subject(path: &str, whole: &str) -> String {
    if path == "." { whole.to_owned() } else { format!("`{path}`") }
}

/// What serde expected, in the recipe's words.
fn expected_words(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" | "str" | "string" => "text",
        "a sequence" => "a list",
        "a map" => "a mapping (`key: value`)",
        "a boolean" => "`true` or `false`",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 to 4294967295",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        other if other.starts_with("struct ") => "a mapping (`key: value`)",
        other if other.starts_with("enum ") => "one of its names",
        other => other,
    }
}

/// What serde found, in the recipe's words.
fn found_words(found: &str) -> String {
    let quoted = |start: &str| found.strip_prefix(start).map(|rest| rest.trim_matches(['`', '"']));
    if let Some(text) = quoted("string ") {
        return format!("the text `{text}`");
    }
    if let Some(number) = quoted("integer ").or_else(|| quoted("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(value) = quoted("boolean ") {
        return format!("the truth value `{value}`");
    }
    match found {
        "unit value" | "Option value" | "null" => "nothing".into(),
        "sequence" => "a list".into(),
        "map" => "a mapping".into(),
        other => other.into(),
    }
}
