//! Kconfig's expressions: `NET && (INET || !EMBEDDED)`, `NR_CPUS >= 8`, `KERNEL = "gz"`.
//!
//! Pure. What only Kconfig's shell can answer (`$(cc-option,...)`) counts as `y`, so that nothing is ever blamed without
//! reason.

use std::cmp::Ordering;

use super::Options;

/// Kconfig's three values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tristate {
    /// Off.
    No,
    /// A module.
    Module,
    /// Built in.
    Yes,
}

/// An expression, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// The value of a symbol.
    Symbol(String),
    /// `"text"`, `y`, `8`.
    Constant(String),
    /// `!A`
    Not(Box<Expression>),
    /// `A && B`
    And(Vec<Expression>),
    /// `A || B`
    Or(Vec<Expression>),
    /// `A = B`, `A != B`, `A < B`, `A <= B`, `A > B`, `A >= B`.
    Compare(Box<Expression>, &'static str, Box<Expression>),
    /// What is not known: a macro, or a text that is no expression.
    Unknown,
}

use Expression::{And, Compare, Constant, Not, Or, Symbol, Unknown};

const COMPARISONS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Expression {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens };
        let whole = parser.any();
        if parser.tokens.is_empty() { whole } else { Unknown }
    }

    /// What always holds.
    pub fn always() -> Expression {
        Constant("y".into())
    }

    /// Its value where the symbols have the values of `config`.
    pub fn value(&self, config: &Options) -> Tristate {
        match self {
            Symbol(name) => tristate(config.value(name)),
            Constant(text) => tristate(text),
            Not(inner) => match inner.value(config) {
                Tristate::No => Tristate::Yes,
                Tristate::Module => Tristate::Module,
                Tristate::Yes => Tristate::No,
            },
            And(parts) => parts.iter().map(|part| part.value(config)).min().unwrap_or(Tristate::Yes),
            Or(parts) => parts.iter().map(|part| part.value(config)).max().unwrap_or(Tristate::No),
            Compare(left, operator, right) => match (left.text(config), right.text(config)) {
                (Some(left), Some(right)) if !compare(left, operator, right) => Tristate::No,
                _ => Tristate::Yes,
            },
            Unknown => Tristate::Yes,
        }
    }

    /// Whether it holds; `m` does.
    pub fn holds(&self, config: &Options) -> bool {
        self.value(config) != Tristate::No
    }

    /// The parts that all have to hold.
    pub fn conjuncts(&self) -> Vec<&Expression> {
        match self {
            And(parts) => parts.iter().flat_map(Expression::conjuncts).collect(),
            other => vec![other],
        }
    }

    /// The symbols in it, each once, in order.
    pub fn symbols(&self) -> Vec<&str> {
        let mut found = match self {
            Symbol(name) => vec![name.as_str()],
            Not(inner) => inner.symbols(),
            And(parts) | Or(parts) => parts.iter().flat_map(Expression::symbols).collect(),
            Compare(left, _, right) => [left.symbols(), right.symbols()].concat(),
            Constant(_) | Unknown => Vec::new(),
        };
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|name| seen.insert(*name));
        found
    }

    fn text<'a>(&'a self, config: &'a Options) -> Option<&'a str> {
        match self {
            Symbol(name) => Some(config.value(name).trim_matches('"')),
            Constant(text) => Some(text),
            _ => None,
        }
    }
}

fn tristate(text: &str) -> Tristate {
    match text {
        "y" => Tristate::Yes,
        "m" => Tristate::Module,
        _ => Tristate::No,
    }
}

/// Numbers as numbers, `n` < `m` < `y`, all else as text.
fn compare(left: &str, operator: &str, right: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse::<i64>().ok(),
    };
    let order = match (number(left), number(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ if ["y", "m", "n"].contains(&right) => tristate(left).cmp(&tristate(right)),
        _ => left.cmp(right),
    };
    match operator {
        "=" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |f: &mut std::fmt::Formatter<'_>, parts: &[Expression], operator: &str| {
            for (index, part) in parts.iter().enumerate() {
                let gap = if index == 0 { "" } else { operator };
                match part {
                    And(_) | Or(_) => write!(f, "{gap}({part})")?,
                    part => write!(f, "{gap}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Symbol(name) => f.write_str(name),
            Constant(text) if matches!(text.as_str(), "y" | "m" | "n") => f.write_str(text),
            Constant(text) if text.parse::<i64>().is_ok() => f.write_str(text),
            Constant(text) => write!(f, "\"{text}\""),
            Not(inner) => match **inner {
                And(_) | Or(_) | Compare(..) => write!(f, "!({inner})"),
                _ => write!(f, "!{inner}"),
            },
            And(parts) => join(f, parts, " && "),
            Or(parts) => join(f, parts, " || "),
            Compare(left, operator, right) => write!(f, "{left} {operator} {right}"),
            Unknown => f.write_str("…"),
        }
    }
}

/// `&&`, `(`, `"text"` with its first quote, words; a macro with all in its parentheses is one word.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let operators = ["&&", "||", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];
        let operator = operators.into_iter().find(|operator| rest.starts_with(operator));
        let length = match (operator, first) {
            (Some(operator), _) => operator.len(),
            (_, quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            _ if rest.starts_with("$(") => macro_length(rest),
            _ => {
                let end = |c: char| c.is_whitespace() || "&|!=<>()\"'".contains(c);
                rest.find(end).unwrap_or(rest.len()).max(first.len_utf8())
            }
        };
        let (token, after) = rest.split_at(length);
        tokens.push(match first {
            '"' | '\'' => format!("\"{}", token[1..].trim_end_matches(first)),
            _ => token.to_owned(),
        });
        rest = after.trim_start();
    }
    tokens
}

/// How long the macro call at the beginning of `text` is.
fn macro_length(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return at + 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

struct Parser<'t> {
    tokens: &'t [String],
}

impl Parser<'_> {
    fn take(&mut self, wanted: &[&'static str]) -> Option<&'static str> {
        let (first, rest) = self.tokens.split_first()?;
        let found = wanted.iter().find(|wanted| **wanted == first)?;
        self.tokens = rest;
        Some(found)
    }

    fn any(&mut self) -> Expression {
        let mut parts = vec![self.all()];
        while self.take(&["||"]).is_some() {
            parts.push(self.all());
        }
        if parts.len() == 1 { parts.remove(0) } else { Or(parts) }
    }

    fn all(&mut self) -> Expression {
        let mut parts = vec![self.one()];
        while self.take(&["&&"]).is_some() {
            parts.push(self.one());
        }
        if parts.len() == 1 { parts.remove(0) } else { And(parts) }
    }

    fn one(&mut self) -> Expression {
        if self.take(&["!"]).is_some() {
            return Not(Box::new(self.one()));
        }
        if self.take(&["("]).is_some() {
            let inner = self.any();
            return if self.take(&[")"]).is_some() { inner } else { Unknown };
        }
        let left = self.word();
        match self.take(&COMPARISONS) {
            Some(operator) => Compare(Box::new(left), operator, Box::new(self.word())),
            None => left,
        }
    }

    fn word(&mut self) -> Expression {
        let Some((word, rest)) = self.tokens.split_first() else { return Unknown };
        self.tokens = rest;
        if let Some(text) = word.strip_prefix('"') {
            return if text.contains("$(") { Unknown } else { Constant(text.to_owned()) };
        }
        if word.contains("$(") {
            return Unknown;
        }
        let number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !word.contains('_');
        let constant = matches!(word.as_str(), "y" | "m" | "n") || number;
        let name = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match (constant, name) {
            (true, _) => Constant(word.clone()),
            (_, true) => Symbol(word.clone()),
            _ => Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_kconfigs_values() {
        let config = Options::parse("CONFIG_A=y\nCONFIG_M=m\nCONFIG_NR=64\nCONFIG_T=\"gz\"\nCONFIG_X=0x10\n").unwrap();
        let cases = [
            ("A", Tristate::Yes),
            ("B", Tristate::No),
            ("A && M", Tristate::Module),
            ("B || M", Tristate::Module),
            ("!M", Tristate::Module),
            ("!(A && B)", Tristate::Yes),
            ("A && (B || !B) && !B", Tristate::Yes),
            ("NR >= 8 && NR<512", Tristate::Yes),
            ("NR=64", Tristate::Yes),
            ("X > 15", Tristate::Yes),
            ("T = \"gz\"", Tristate::Yes),
            ("T!='gz'", Tristate::No),
            ("M<y", Tristate::Yes),
            ("A=n", Tristate::No),
            ("$(cc-option,-mfoo (x)) && A", Tristate::Yes),
            ("$(success,$(CC) -x) && B", Tristate::No),
            ("A &&", Tristate::Yes),
        ];
        for (text, value) in cases {
            assert_eq!(Expression::parse(text).value(&config), value, "{text}");
        }
    }

    #[test]
    fn an_expression_is_written_as_it_was_read() {
        for text in ["A && (B || !C)", "!(A || B)", "NR >= 8", "T = \"gz\"", "A != m", "(A && B) || C"] {
            assert_eq!(Expression::parse(text).to_string(), text);
        }
        assert_eq!(Expression::parse("A && (B && C)").conjuncts().len(), 3);
        assert_eq!(Expression::parse("B && (A || B) && NR > 1").symbols(), ["B", "A", "NR"]);
    }
}
