//! Why an option did not survive: reads a tree's Kconfig files and names the dependencies that are not met.
//!
//! Pure: it asks its caller for files. Not a Kconfig interpreter: it follows `source`, `if`, `menu`, `choice` and
//! `depends on`, and evaluates the boolean expressions of dependencies against the finished `.config`. What it cannot
//! evaluate (macros such as `$(cc-option,...)`) counts as met, so that it never names a dependency without reason.

use std::collections::BTreeMap;

use super::kconfig::Options;
use crate::spelling::nearest;

/// The symbols of a tree, with the dependencies that stand around each definition.
#[derive(Debug, Default)]
pub struct Tree {
    /// Symbol → one list of dependency expressions a definition.
    definitions: BTreeMap<String, Vec<Vec<String>>>,
}

/// Why an option is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No Kconfig file of the tree defines it; the closest names that are defined.
    Unknown(Vec<String>),
    /// These dependencies are not met, each with the values of its symbols that matter.
    Unmet(Vec<String>),
    /// Its dependencies are met: something selects it, or it cannot be set by hand.
    Forced,
}

/// Nesting of one file: what the blocks around the current line depend on.
#[derive(Default)]
struct Scope {
    blocks: Vec<Block>,
}

struct Block {
    depends: Vec<String>,
    /// A `menu` or `choice` takes the `depends on` lines that follow its own line.
    open: bool,
}

impl Tree {
    /// Reads the tree from its top `Kconfig`; `read` gives the text of a file, `None` if there is none.
    pub fn read(read: &dyn Fn(&str) -> Option<String>) -> Tree {
        let mut tree = Tree::default();
        tree.file("Kconfig", &[], read, 0);
        tree
    }

    fn file(&mut self, path: &str, around: &[String], read: &dyn Fn(&str) -> Option<String>, depth: u32) {
        let Some(text) = read(path).filter(|_| depth < 24) else { return };
        let mut scope = Scope::default();
        let mut symbol: Option<String> = None;
        let mut in_help: Option<usize> = None;
        for line in logical_lines(&text) {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim();
            if let Some(help_indent) = in_help {
                if words.is_empty() || indent > help_indent {
                    continue;
                }
                in_help = None;
            }
            let (keyword, rest) = words.split_once([' ', '\t']).unwrap_or((words, ""));
            let rest = rest.trim();
            match keyword {
                "help" | "---help---" => in_help = Some(indent),
                "config" | "menuconfig" => {
                    scope.close();
                    let depends = around.iter().cloned().chain(scope.depends()).collect();
                    self.definitions.entry(rest.into()).or_default().push(depends);
                    symbol = Some(rest.into());
                }
                "if" => {
                    scope.push(vec![rest.into()], false);
                    symbol = None;
                }
                "menu" | "choice" => {
                    scope.push(Vec::new(), true);
                    symbol = None;
                }
                "endif" | "endmenu" | "endchoice" => {
                    scope.blocks.pop();
                    symbol = None;
                }
                "comment" | "mainmenu" => symbol = None,
                "source" => {
                    symbol = None;
                    scope.close();
                    let path = rest.trim_matches('"').replace("$(SRCARCH)", "x86").replace("$(HEADER_ARCH)", "x86");
                    let around: Vec<String> = around.iter().cloned().chain(scope.depends()).collect();
                    self.file(&path, &around, read, depth + 1);
                }
                "depends" => {
                    let expression = rest.strip_prefix("on").unwrap_or(rest).trim().to_string();
                    let definition = symbol.as_ref().and_then(|name| self.definitions.get_mut(name)?.last_mut());
                    match definition {
                        Some(depends) => depends.push(expression),
                        None => scope.add(expression),
                    }
                }
                _ => {}
            }
        }
    }

    /// Why `symbol` is not what was asked, given the finished `config`.
    pub fn explain(&self, symbol: &str, config: &Options) -> Reason {
        let Some(definitions) = self.definitions.get(symbol) else {
            let near = nearest(symbol, self.definitions.keys().map(String::as_str));
            return Reason::Unknown(near.into_iter().map(String::from).collect());
        };
        let unmet_of = |depends: &Vec<String>| -> Vec<String> {
            let mut unmet: Vec<String> = Vec::new();
            for part in depends.iter().flat_map(|expression| conjuncts(expression)) {
                if !evaluate(&part, config) && !unmet.iter().any(|known| known.starts_with(&part)) {
                    unmet.push(describe(&part, config));
                }
            }
            unmet
        };
        // A symbol may be defined more than once; the definition that lacks least is the one to mend.
        match definitions.iter().map(unmet_of).min_by_key(Vec::len) {
            Some(unmet) if !unmet.is_empty() => Reason::Unmet(unmet),
            _ => Reason::Forced,
        }
    }
}

impl Scope {
    fn push(&mut self, depends: Vec<String>, open: bool) {
        self.close();
        self.blocks.push(Block { depends, open });
    }

    /// The next entry began: later `depends on` lines are not the block's.
    fn close(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.open = false;
        }
    }

    fn add(&mut self, expression: String) {
        if let Some(block) = self.blocks.last_mut().filter(|block| block.open) {
            block.depends.push(expression);
        }
    }

    fn depends(&self) -> impl Iterator<Item = String> {
        self.blocks.iter().flat_map(|block| block.depends.clone())
    }
}

/// Lines with backslash continuations joined and comments cut.
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

/// Splits `A && (B || C)` at its outer `&&`.
fn conjuncts(expression: &str) -> Vec<String> {
    split_outer(expression, "&&")
}

fn split_outer(expression: &str, operator: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    let mut rest = expression.trim();
    while let Some(first) = rest.chars().next() {
        if depth == 0 && rest.starts_with(operator) {
            parts.push(String::new());
            rest = &rest[operator.len()..];
            continue;
        }
        match first {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    parts.into_iter().map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect()
}

/// Whether an expression holds at all (`m` counts).
fn evaluate(expression: &str, config: &Options) -> bool {
    let expression = expression.trim();
    let any = split_outer(expression, "||");
    if any.len() > 1 {
        return any.iter().any(|part| evaluate(part, config));
    }
    let all = split_outer(expression, "&&");
    if all.len() > 1 {
        return all.iter().all(|part| evaluate(part, config));
    }
    if expression.contains("$(") {
        return true;
    }
    if let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return evaluate(inner, config);
    }
    if let Some((left, right)) = expression.split_once("!=") {
        return value_of(left, config) != value_of(right, config);
    }
    if expression.contains(['<', '>']) {
        return true;
    }
    if let Some((left, right)) = expression.split_once('=') {
        return value_of(left, config) == value_of(right, config);
    }
    if let Some(inner) = expression.strip_prefix('!') {
        return match inner.trim() {
            symbol if is_symbol(symbol) => config.value(symbol) != "y",
            inner => !evaluate(inner, config),
        };
    }
    match expression {
        "y" | "m" => true,
        "n" => false,
        symbol => config.value(symbol) != "n",
    }
}

fn value_of<'a>(word: &'a str, config: &'a Options) -> &'a str {
    match word.trim() {
        constant @ ("y" | "m" | "n") => constant,
        symbol if is_symbol(symbol) => config.value(symbol),
        constant => constant.trim_matches('"'),
    }
}

fn is_symbol(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `NF_TABLES && IPV6 (IPV6 is n)`: the expression, and its symbols that are off.
fn describe(expression: &str, config: &Options) -> String {
    let mut named: Vec<&str> = expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.len() > 1 && !word.chars().all(|c| c.is_ascii_digit()))
        .collect();
    named.dedup();
    let values: Vec<String> = named.iter().map(|symbol| format!("{symbol} is {}", config.value(symbol))).collect();
    if values.is_empty() { expression.into() } else { format!("{expression} ({})", values.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = r#"
mainmenu "Linux"
source "net/Kconfig"
config MODULES
	bool "Modules"
	help
	  config NOT_A_SYMBOL is text here
	  depends on nothing
"#;
    const NET: &str = r#"
menuconfig NET
	bool "Networking"
if NET
config INET
	bool "TCP/IP"
menu "Filter"
	depends on INET && \
		(NETFILTER || FORCE)
config NF_TABLES
	tristate "nf_tables"
	depends on !EMBEDDED
endmenu
config KPROBES
	bool
	depends on MODULES
	depends on $(cc-option,-mfoo)
endif
config NF_TABLES_INET
	bool "inet"
	depends on IPV6
"#;

    fn explain(symbol: &str, config: &str) -> Reason {
        let tree = Tree::read(&|path| match path {
            "Kconfig" => Some(TOP.into()),
            "net/Kconfig" => Some(NET.into()),
            _ => None,
        });
        tree.explain(symbol, &Options::parse(config).unwrap())
    }

    #[test]
    fn unmet_dependencies_are_named_with_their_values() {
        let cases = [
            ("NF_TABLES_INET", "", vec!["IPV6 (IPV6 is n)"]),
            ("INET", "", vec!["NET (NET is n)"]),
            ("KPROBES", "CONFIG_NET=y\n", vec!["MODULES (MODULES is n)"]),
            (
                "NF_TABLES",
                "CONFIG_NET=y\nCONFIG_INET=y\nCONFIG_EMBEDDED=y\n",
                vec!["(NETFILTER || FORCE) (NETFILTER is n, FORCE is n)", "!EMBEDDED (EMBEDDED is y)"],
            ),
        ];
        for (symbol, config, unmet) in cases {
            let unmet = unmet.into_iter().map(String::from).collect();
            assert_eq!(explain(symbol, config), Reason::Unmet(unmet), "{symbol}");
        }
    }

    #[test]
    fn met_dependencies_mean_that_something_forces_the_value() {
        assert_eq!(explain("INET", "CONFIG_NET=y\n"), Reason::Forced);
    }

    #[test]
    fn an_unknown_symbol_gets_the_nearest_names() {
        assert_eq!(explain("NF_TABLE", ""), Reason::Unknown(vec!["NF_TABLES".into()]));
        assert!(matches!(explain("NOT_A_SYMBOL", ""), Reason::Unknown(_)), "help text defines nothing");
    }
}
