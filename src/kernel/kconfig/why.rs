//! Why a symbol has the value it has: what keeps it off, or what turns it on.
//!
//! Pure. What cannot be evaluated counts as met, so that nothing is named without reason.

use super::Options;
use super::expression::Expression;
use super::tree::{Definition, Tree};
use crate::spelling::nearest;

/// Why an option is not what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No Kconfig file of the tree defines it; the closest names that are defined.
    Unknown(Vec<String>),
    /// These dependencies are not met, each with the values of its symbols that matter.
    Unmet(Vec<String>),
    /// Another member of its choice is on.
    Rival(String),
    /// These turn it on.
    Selected(Vec<String>),
    /// Nobody can set it by hand.
    NoPrompt,
    /// Something else overrides it.
    Overridden,
}

/// What turned on an option that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// These select it.
    Selected(Vec<String>),
    /// It is what its choice takes when nobody chooses.
    Choice,
    /// Its default.
    Default,
}

impl Tree {
    /// Why `symbol` is not `asked`, given the finished `config`.
    pub fn reason(&self, symbol: &str, asked: &str, config: &Options) -> Reason {
        if !self.knows(symbol) {
            let near = nearest(symbol, self.names());
            return Reason::Unknown(near.into_iter().map(String::from).collect());
        }
        let selected = self.selected_by(symbol, config);
        if asked == "n" && !selected.is_empty() {
            return Reason::Selected(selected);
        }
        // A symbol may be defined more than once; the definition that lacks least is the one to mend.
        let definitions = self.definitions(symbol);
        let unmet = definitions.iter().map(|definition| unmet(definition, config)).min_by_key(Vec::len);
        if let Some(unmet) = unmet.filter(|unmet| !unmet.is_empty()) {
            return Reason::Unmet(unmet);
        }
        if let Some(rival) = self.rivals(symbol).find(|rival| config.value(rival) == "y") {
            return Reason::Rival(rival.into());
        }
        if self.has_prompt(symbol, config) { Reason::Overridden } else { Reason::NoPrompt }
    }

    /// What turned `symbol` on, given the finished `config`.
    pub fn cause(&self, symbol: &str, config: &Options) -> Cause {
        let selected = self.selected_by(symbol, config);
        if !selected.is_empty() {
            return Cause::Selected(selected);
        }
        if self.rivals(symbol).next().is_some() { Cause::Choice } else { Cause::Default }
    }

    /// Whether `symbol` can be set by hand where the others have the values of `config`.
    pub fn has_prompt(&self, symbol: &str, config: &Options) -> bool {
        let shown = |definition: &Definition| {
            definition.prompt.as_ref().is_some_and(|condition| condition.holds(config))
                && definition.depends.iter().all(|condition| condition.holds(config))
        };
        self.definitions(symbol).iter().any(shown)
    }

    fn selected_by(&self, symbol: &str, config: &Options) -> Vec<String> {
        let on = self
            .selectors(symbol)
            .iter()
            .filter(|selector| config.value(&selector.symbol) != "n" && selector.condition.holds(config));
        let mut names: Vec<String> = on.map(|selector| selector.symbol.clone()).collect();
        names.dedup();
        names
    }
}

fn unmet(definition: &Definition, config: &Options) -> Vec<String> {
    let conditions = definition.depends.iter().chain(&definition.prompt);
    let mut unmet: Vec<String> = Vec::new();
    for part in conditions.flat_map(Expression::conjuncts).filter(|part| !part.holds(config)) {
        let described = describe(part, config);
        if !unmet.contains(&described) {
            unmet.push(described);
        }
    }
    unmet
}

/// `NF_TABLES || IPV6 (NF_TABLES is n, IPV6 is n)`: the expression, and the values of its symbols.
fn describe(expression: &Expression, config: &Options) -> String {
    let value = |symbol: &&str| format!("{symbol} is {}", config.value(symbol));
    let values: Vec<String> = expression.symbols().iter().map(value).collect();
    if values.is_empty() { expression.to_string() } else { format!("{expression} ({})", values.join(", ")) }
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
	bool "Kprobes"
	depends on MODULES
	depends on $(cc-option,-mfoo)
endif
config NF_TABLES_INET
	bool "inet"
	depends on IPV6
choice
	prompt "Timer frequency"
config HZ_100
	bool "100 Hz"
config HZ_250
	bool "250 Hz"
endchoice
config CRC32
	bool "CRC32"
config BTRFS
	bool "btrfs"
	select CRC32 if INET || HZ_100
config HIDDEN
	def_bool NET
"#;

    fn tree() -> Tree {
        Tree::read(&|path| match path {
            "Kconfig" => Some(TOP.into()),
            "net/Kconfig" => Some(NET.into()),
            _ => None,
        })
    }

    fn reason(symbol: &str, config: &str) -> Reason {
        tree().reason(symbol, "y", &Options::parse(config).unwrap())
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
                vec!["NETFILTER || FORCE (NETFILTER is n, FORCE is n)", "!EMBEDDED (EMBEDDED is y)"],
            ),
        ];
        for (symbol, config, unmet) in cases {
            let unmet = unmet.into_iter().map(String::from).collect();
            assert_eq!(reason(symbol, config), Reason::Unmet(unmet), "{symbol}");
        }
    }

    #[test]
    fn what_overrides_a_request_is_named() {
        assert_eq!(reason("HZ_250", "CONFIG_HZ_100=y\n"), Reason::Rival("HZ_100".into()));
        assert_eq!(reason("HIDDEN", ""), Reason::NoPrompt);
        assert_eq!(reason("INET", "CONFIG_NET=y\n"), Reason::Overridden);
        let config = Options::parse("CONFIG_BTRFS=y\nCONFIG_INET=y\nCONFIG_CRC32=y\n").unwrap();
        assert_eq!(tree().reason("CRC32", "n", &config), Reason::Selected(vec!["BTRFS".into()]));
    }

    #[test]
    fn what_turned_an_option_on_is_named() {
        let cause = |symbol: &str, config: &str| tree().cause(symbol, &Options::parse(config).unwrap());
        let selected = "CONFIG_BTRFS=y\nCONFIG_HZ_100=y\n";
        assert_eq!(cause("CRC32", selected), Cause::Selected(vec!["BTRFS".into()]));
        assert_eq!(cause("CRC32", "CONFIG_BTRFS=y\n"), Cause::Default, "the condition does not hold");
        assert_eq!((cause("HZ_100", ""), cause("HIDDEN", "")), (Cause::Choice, Cause::Default));
        let config = Options::parse("CONFIG_NET=y\n").unwrap();
        let shown = ["INET", "KPROBES", "HIDDEN"].map(|symbol| tree().has_prompt(symbol, &config));
        assert_eq!(shown, [true, false, false]);
    }

    #[test]
    fn an_unknown_symbol_gets_the_nearest_names() {
        assert_eq!(reason("NF_TABLE", ""), Reason::Unknown(vec!["NF_TABLES".into()]));
        assert!(matches!(reason("NOT_A_SYMBOL", ""), Reason::Unknown(_)), "help text defines nothing");
    }
}
