//! Keeps foreign text from becoming Markdown or HTML: one function for each place text can stand in.
//!
//! Pure. Everything a guest, a recipe or a debugger chose goes through exactly one of these.

use crate::report::text::printable;

/// `foreign` as plain text inside a paragraph, a list item or a table cell.
pub(crate) fn text(foreign: &str) -> String {
    let line = printable(&foreign.replace('\n', " "));
    let chars: Vec<char> = line.trim().chars().collect();
    let mut out = String::with_capacity(line.len());
    for (at, &c) in chars.iter().enumerate() {
        let within_word = || {
            let word = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
            word(at.checked_sub(1)) && word(Some(at + 1))
        };
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '#' | '$' => true,
            '_' => !within_word(),
            '-' | '+' | '=' => at == 0,
            '.' | ')' => numbers_a_list(&chars, at),
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Whether the sign at `at` would make the line an item of a numbered list: `1. x`, `2) x`.
fn numbers_a_list(chars: &[char], at: usize) -> bool {
    let digits = at > 0 && chars[..at].iter().all(char::is_ascii_digit);
    digits && chars.get(at + 1).is_none_or(|c| c.is_whitespace())
}

/// A sentence of ours, in which foreign names stand between backticks: those become code, the rest is escaped.
pub(crate) fn sentence(own: &str) -> String {
    let parts: Vec<&str> = own.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return text(own);
    }
    let words = |part: &str| {
        let body = text(part);
        let after = if part.ends_with(' ') && !body.is_empty() { " " } else { "" };
        format!("{}{body}{after}", if part.starts_with(' ') { " " } else { "" })
    };
    parts.iter().enumerate().map(|(at, part)| if at % 2 == 0 { words(part) } else { code(part) }).collect()
}

/// A [`sentence`] that nobody should overlook.
pub(super) fn red(own: &str) -> String {
    format!("<span style=\"color:red\">**{}**</span>", sentence(own))
}

/// `foreign` as code, on one line, also safe inside a table cell.
pub(super) fn code(foreign: &str) -> String {
    let line = printable(foreign);
    if line.trim().is_empty() {
        return String::from("` `");
    }
    // A table splits its cells at every `|`, inside code spans too, and `\|` there is not reliable after a backslash.
    if line.contains('|') {
        return format!("<code>{}</code>", text(&line));
    }
    let ticks = "`".repeat(longest_run(&line, '`') + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{line}{pad}{ticks}")
}

/// `foreign` inside an HTML block, such as a `<summary>`, where Markdown's escapes mean nothing.
pub(super) fn html(foreign: &str) -> String {
    let mut out = String::with_capacity(foreign.len());
    for c in printable(foreign).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A fence that no line of `content` can close.
pub(crate) fn fence(content: &str) -> String {
    "`".repeat(longest_run(content, '`').max(2) + 1)
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of).map(str::len).max().unwrap_or(0)
}

/// A link to a file of the run, or just its name when it is not a plain relative path.
pub(super) fn link(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let relative = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if relative && !path.is_empty() && path.chars().all(plain) { format!("[{path}]({path})") } else { code(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let cases = [
            ("tcp_v4_rcv", "tcp_v4_rcv"),
            ("__init__ _x_", "\\_\\_init\\_\\_ \\_x\\_"),
            ("a|b", "a\\|b"),
            ("<script>", "\\<script\\>"),
            ("`x` *y*", "\\`x\\` \\*y\\*"),
            ("[a](b)", "\\[a\\](b)"),
            ("two\nlines", "two lines"),
            ("- item", "\\- item"),
            ("1. item 2. x", "1\\. item 2. x"),
            ("# title", "\\# title"),
            ("\x1b[2J", "\\\\x1b\\[2J"),
            ("&lt;", "\\&lt;"),
            ("6.1.192", "6.1.192"),
        ];
        for (foreign, wanted) in cases {
            assert_eq!(text(foreign), wanted, "{foreign:?}");
        }
    }

    #[test]
    fn code_cannot_be_left() {
        let cases = [
            ("sk", "`sk`"),
            ("a`b", "``a`b``"),
            ("`a", "`` `a ``"),
            ("", "` `"),
            ("(A | B)", "<code>(A \\| B)</code>"),
            ("a\\|<b>", "<code>a\\\\\\|\\<b\\></code>"),
            ("a\nb", "`a\\nb`"),
        ];
        for (foreign, wanted) in cases {
            assert_eq!(code(foreign), wanted, "{foreign:?}");
        }
    }

    #[test]
    fn sentences_keep_their_names() {
        let cases = [
            ("`a_` is <b>", "`a_` is \\<b\\>"),
            ("see `a` and `b`", "see `a` and `b`"),
            ("`a` `b`", "`a` `b`"),
            ("one ` only", "one \\` only"),
        ];
        for (own, wanted) in cases {
            assert_eq!(sentence(own), wanted);
        }
    }

    #[test]
    fn fences_and_links() {
        assert_eq!(fence("a ``` b"), "````");
        assert_eq!(fence("plain"), "```");
        assert_eq!(link("console.log"), "[console.log](console.log)");
        assert_eq!(link("a b](x)"), "`a b](x)`");
        assert_eq!(link("../secret"), "`../secret`");
        assert_eq!(html("<b>&\""), "&lt;b&gt;&amp;&quot;");
    }
}
