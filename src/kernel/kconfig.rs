//! Kconfig fragments: read, merge, and check that what was asked for is what came out.
//!
//! Pure: text in, values out. `olddefconfig` drops an option with an unmet dependency without a word; [`lost`] finds
//! those, [`super::kconfig_tree`] finds out why.

use std::collections::BTreeMap;

/// A set of options: symbol without `CONFIG_` → value as Kconfig writes it (`y`, `m`, `n`, `1000`, `"text"`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

/// A line of a fragment that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Line number from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl Options {
    /// Reads a fragment or a `.config`: `CONFIG_X=y`, `# CONFIG_X is not set`, comments and blank lines.
    ///
    /// # Errors
    /// The first line that is none of these.
    pub fn parse(text: &str) -> Result<Options, BadLine> {
        let mut options = Options::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(symbol) = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set")) {
                options.set(symbol, "n");
            } else if line.is_empty() || line.starts_with('#') {
            } else if let Some((symbol, value)) = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('=')) {
                options.set(symbol, value.trim());
            } else {
                return Err(BadLine { line: index + 1, text: line.into() });
            }
        }
        Ok(options)
    }

    /// Sets one symbol; the later setting wins.
    pub fn set(&mut self, symbol: &str, value: &str) {
        self.0.insert(symbol.trim().into(), value.into());
    }

    /// Puts `other` on top.
    pub fn merge(&mut self, other: &Options) {
        self.0.extend(other.0.iter().map(|(symbol, value)| (symbol.clone(), value.clone())));
    }

    /// The value of `symbol`; what a `.config` does not name is off.
    pub fn value(&self, symbol: &str) -> &str {
        self.0.get(symbol).map_or("n", String::as_str)
    }

    /// As the text of a fragment, in the order of names.
    pub fn to_fragment(&self) -> String {
        self.0
            .iter()
            .map(|(symbol, value)| match value.as_str() {
                "n" => format!("# CONFIG_{symbol} is not set\n"),
                value => format!("CONFIG_{symbol}={value}\n"),
            })
            .collect()
    }
}

/// How Kconfig writes a value that a recipe gives bare: numbers and y/n/m as they are, other text in quotes.
pub fn quoted(value: &str) -> String {
    let bare = matches!(value, "y" | "n" | "m")
        || value.parse::<i64>().is_ok()
        || value.strip_prefix("0x").is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok())
        || value.starts_with('"');
    if bare { value.into() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// A request that the finished `.config` does not honour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The symbol.
    pub symbol: String,
    /// What was asked for.
    pub asked: String,
    /// What it is.
    pub got: String,
}

/// The requests of `asked` that `config` does not honour.
pub fn lost(asked: &Options, config: &Options) -> Vec<Lost> {
    asked
        .0
        .iter()
        .filter(|(symbol, value)| config.value(symbol) != value.as_str())
        .map(|(symbol, value)| Lost { symbol: symbol.clone(), asked: value.clone(), got: config.value(symbol).into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_read_and_the_later_line_wins() {
        let options =
            Options::parse("# about\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_A=n\nCONFIG_S=\"x y\"\n").unwrap();
        assert_eq!((options.value("A"), options.value("B"), options.value("S")), ("n", "n", "\"x y\""));
        assert_eq!(options.to_fragment(), "# CONFIG_A is not set\n# CONFIG_B is not set\nCONFIG_S=\"x y\"\n");
    }

    #[test]
    fn a_line_that_is_no_option_is_named() {
        assert_eq!(Options::parse("CONFIG_A=y\nNET=y\n"), Err(BadLine { line: 2, text: "NET=y".into() }));
    }

    #[test]
    fn what_did_not_survive_is_found_and_off_means_off() {
        let asked = Options::parse("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_HZ=1000\n").unwrap();
        let config = Options::parse("CONFIG_A=y\nCONFIG_D=y\nCONFIG_HZ=250\n").unwrap();
        let names: Vec<_> = lost(&asked, &config).into_iter().map(|lost| (lost.symbol, lost.got)).collect();
        assert_eq!(names, [("B".into(), "n".into()), ("D".into(), "y".into()), ("HZ".into(), "250".into())]);
    }

    #[test]
    fn values_are_quoted_as_kconfig_wants_them() {
        for (given, written) in
            [("y", "y"), ("1000", "1000"), ("0x10", "0x10"), ("cubic", "\"cubic\""), ("\"a\"", "\"a\"")]
        {
            assert_eq!(quoted(given), written);
        }
    }
}
