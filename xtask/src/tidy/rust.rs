//! Reads Rust as far as the rules need it: which paths a file names outside comments, texts and tests.
//!
//! A simple scan, not a parser. It does not expand macros and does not follow `pub use`.

/// A path that a file names, like `crate::gdb::mi::quote`, groups of `use` written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: String,
}

/// The module that a file of `src/` is: `gdb::mi` for `src/gdb/mi.rs`. None for the two roots.
pub(super) fn module(file: &str) -> Option<String> {
    let name = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    (name != "lib" && name != "main").then(|| name.replace('/', "::"))
}

/// The modules that a file declares for tests only.
pub(super) fn test_modules(text: &str) -> Vec<String> {
    let code = without_comments_and_texts(text);
    let declared = code.match_indices(CFG_TEST).filter_map(|(at, _)| {
        let item = &code[at + CFG_TEST.len()..];
        let item = &item[..item.find([';', '{'])?];
        Some(item.split_once("mod ")?.1.trim().to_string())
    });
    declared.collect()
}

/// All paths with at least one `::` that `text` names outside comments, texts and test items.
pub(super) fn named(text: &str) -> Vec<Named> {
    let code = without_tests(&without_comments_and_texts(text));
    let mut found = Vec::new();
    let mut scan = Scan { code: code.as_bytes(), at: 0, line: 1 };
    while scan.at < scan.code.len() {
        if scan.starts_word() { scan.path("", &mut found) } else { scan.step() }
    }
    found.retain(|named| named.path.contains("::"));
    found
}

const CFG_TEST: &str = "#[cfg(test)]";

struct Scan<'a> {
    code: &'a [u8],
    at: usize,
    line: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.code.get(self.at).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek() == Some(b'\n'));
        self.at += 1;
    }

    fn starts_word(&self) -> bool {
        self.peek().is_some_and(is_word)
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.step();
        }
    }

    /// Reads `a::b::c`, `a::{b, c::d}` or `a::*`, and adds what it names below `prefix`.
    fn path(&mut self, prefix: &str, found: &mut Vec<Named>) {
        let line = self.line;
        let mut path = prefix.to_string();
        loop {
            let start = self.at;
            while self.starts_word() {
                self.step();
            }
            path.push_str(&String::from_utf8_lossy(&self.code[start..self.at]));
            if !self.code[self.at..].starts_with(b"::") {
                break;
            }
            self.at += 2;
            path.push_str("::");
            match self.peek() {
                Some(b'{') => return self.group(&path, found),
                Some(byte) if is_word(byte) => {}
                // `::*`, `::<`: what comes before it is what is named.
                _ => break,
            }
        }
        found.push(Named { line, path: path.trim_end_matches(':').into() });
    }

    /// Reads one name of a group, without the `as other` that may follow it.
    fn member(&mut self, prefix: &str, found: &mut Vec<Named>) {
        self.path(prefix, found);
        while self.peek().is_some_and(|byte| byte != b',' && byte != b'}') {
            self.step();
        }
    }

    fn group(&mut self, prefix: &str, found: &mut Vec<Named>) {
        self.step();
        loop {
            self.blank();
            match self.peek() {
                None => return,
                Some(b'}') => return self.step(),
                Some(byte) if is_word(byte) => self.member(prefix, found),
                Some(_) => self.step(),
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Replaces every item under `#[cfg(test)]` by blanks. `code` has no comments and texts any more.
fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (start, _) in code.match_indices(CFG_TEST) {
        let mut depth = 0;
        for slot in &mut bytes[start..] {
            let byte = *slot;
            if byte != b'\n' {
                *slot = b' ';
            }
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => break,
                b'}' => depth -= 1,
                b';' if depth == 0 => break,
                _ => {}
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Replaces comments and the insides of texts by blanks; lines stay where they are.
fn without_comments_and_texts(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_before = kept.bytes().last().is_some_and(is_word);
        let length = blank_length(rest, word_before);
        let (gone, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        match length {
            Some(_) => kept.extend(gone.chars().map(|character| if character == '\n' { '\n' } else { ' ' })),
            None => kept.push(first),
        }
        rest = after;
    }
    kept
}

/// How long the comment, text or character is that `rest` begins with, if it begins with one.
fn blank_length(rest: &str, word_before: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(comment_length(rest));
    }
    if rest.starts_with('"') {
        return Some(text_length(rest));
    }
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !word_before) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = &raw[hashes + 1..];
            return Some(inside.find(&end).map_or(rest.len(), |at| 1 + hashes + 1 + at + end.len()));
        }
    }
    // A character, not a lifetime: 'x' or '\...'.
    let inside = rest.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        let escaped = inside[1..].chars().next()?;
        let from = 1 + escaped.len_utf8();
        return inside[from..].find('\'').map(|at| 1 + from + at + 1);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

fn comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        named(text).into_iter().map(|named| format!("{} {}", named.line, named.path)).collect()
    }

    #[test]
    fn groups_are_written_out() {
        let text = "use crate::{gdb::{self, mi::Record}, ui as screen};\nuse std::{\n    fs,\n    io::Write,\n};\n";
        let expected =
            ["1 crate::gdb::self", "1 crate::gdb::mi::Record", "1 crate::ui", "3 std::fs", "4 std::io::Write"];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn paths_inside_code_count_too() {
        let text =
            "fn f() -> Vec::<u8> {\n  crate::gdb::mi::quote(x);\n  let a: &'static str = std::fs::read::<T>('\"');\n}";
        assert_eq!(paths(text), ["1 Vec", "2 crate::gdb::mi::quote", "3 std::fs::read"][1..]);
    }

    #[test]
    fn comments_and_texts_name_nothing() {
        let text = "// std::fs\n//! [`crate::ui`]\n/* std::net /* std::fs */ std::fs */ let a = \"std::fs\\\" std::fs\";\n\
                    let b = r#\"std::fs \" std::fs\"#; let c = '\\''; let d = '\"'; std::env::args();";
        assert_eq!(paths(text), ["4 std::env::args"]);
    }

    #[test]
    fn test_items_name_nothing_and_what_follows_does() {
        let text = "#[cfg(test)]\nmod fake;\nuse a::b;\n#[cfg(test)]\nfn f() { { std::fs::x } }\nuse c::d;\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(paths(text), ["3 a::b", "6 c::d"]);
        assert_eq!(test_modules(text), ["fake", "tests"]);
    }

    #[test]
    fn files_are_modules() {
        assert_eq!(module("src/gdb/mi.rs").as_deref(), Some("gdb::mi"));
        assert_eq!(module("src/gdb.rs").as_deref(), Some("gdb"));
        assert_eq!(module("src/lib.rs"), None);
        assert_eq!(module("xtask/src/main.rs"), None);
    }
}
