//! The lines of a Kconfig file as statements.
//!
//! Pure. Comments, help texts and what only menus show are left out.

use super::expression::Expression;

/// A line that opens or closes something, or says something of what is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// `config` or `menuconfig`.
    Config(String),
    If(Expression),
    Menu,
    Choice,
    /// `endif`, `endmenu` or `endchoice`.
    End,
    /// Another file, relative to the tree.
    Source(String),
    Clause(Clause),
    /// An entry that says nothing of symbols.
    Other,
}

/// What stands below a `config`, `menu` or `choice`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Clause {
    /// A prompt, shown under this condition beside the dependencies.
    Prompt(Expression),
    Depends(Expression),
    /// The symbol that is selected, and when.
    Select(String, Expression),
}

/// The statements of a file.
pub(super) fn statements(text: &str) -> impl Iterator<Item = Statement> {
    let mut in_help: Option<usize> = None;
    logical_lines(text).into_iter().filter_map(move |line| {
        let words = line.trim();
        let indent = indentation(&line);
        if in_help.is_some_and(|help| words.is_empty() || indent > help) {
            return None;
        }
        in_help = None;
        if matches!(words, "help" | "---help---") {
            // A help text is indented deeper than the entry that it belongs to, which is at the margin or in a menu.
            in_help = Some(indent);
            return None;
        }
        statement(words)
    })
}

/// How far a line is indented, a tab to the next multiple of eight.
fn indentation(line: &str) -> usize {
    let blank = line.chars().take_while(|c| c.is_whitespace());
    blank.fold(0, |column, c| if c == '\t' { (column / 8 + 1) * 8 } else { column + 1 })
}

/// Lines with backslash continuations joined, without whole-line comments.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(start) => pending.push_str(start),
            None => {
                pending.push_str(line);
                let line = std::mem::take(&mut pending);
                if !line.trim_start().starts_with('#') {
                    lines.push(line);
                }
            }
        }
    }
    lines
}

fn statement(words: &str) -> Option<Statement> {
    let (keyword, rest) = words.split_once([' ', '\t']).unwrap_or((words, ""));
    let rest = without_comment(rest).trim();
    Some(match keyword {
        "config" | "menuconfig" => Statement::Config(rest.into()),
        "if" => Statement::If(Expression::parse(rest)),
        "menu" => Statement::Menu,
        "choice" => Statement::Choice,
        "endif" | "endmenu" | "endchoice" => Statement::End,
        "source" => Statement::Source(
            rest.trim_matches('"')
                .replace("$(SRCARCH)", "x86")
                .replace("$(HEADER_ARCH)", "x86")
                .replace("$(srctree)/", ""),
        ),
        "comment" | "mainmenu" => Statement::Other,
        _ => Statement::Clause(clause(keyword, rest)?),
    })
}

fn clause(keyword: &str, rest: &str) -> Option<Clause> {
    Some(match keyword {
        "bool" | "tristate" | "int" | "hex" | "string" | "prompt" => Clause::Prompt(prompt(rest)?),
        "depends" => Clause::Depends(Expression::parse(rest.strip_prefix("on").unwrap_or(rest))),
        "select" => {
            let (symbol, condition) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            Clause::Select(symbol.into(), condition_of(condition))
        }
        _ => return None,
    })
}

/// The condition of `"text" if CONDITION`.
fn prompt(rest: &str) -> Option<Expression> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (_, condition) = rest.get(1..)?.split_once(quote)?;
    Some(condition_of(condition))
}

/// What `if CONDITION` says; nothing is always true.
fn condition_of(text: &str) -> Expression {
    text.trim().strip_prefix("if").map_or_else(Expression::always, Expression::parse)
}

/// Cuts a comment at the end of a line; a `#` in quotes is none.
fn without_comment(text: &str) -> &str {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return text.get(..at).unwrap_or_default(),
            _ => {}
        }
    }
    text
}
