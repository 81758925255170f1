//! Kconfig fragments: read, merge, and check that what was asked for is what came out.
//!
//! Pure: text in, values out. [`check`] is the gate that every value passes on its way to make. `olddefconfig` drops an option with an unmet dependency without a word; [`lost`] finds
//! those, [`tree`] and [`why`] find out why.

pub mod alternative;
pub mod expression;
mod statement;
pub mod tree;
pub mod why;

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

/// One line of a fragment that sets something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'t> {
    /// Line number from 1.
    pub line: usize,
    /// The symbol, without `CONFIG_`.
    pub symbol: &'t str,
    /// The value, as it is written.
    pub value: &'t str,
    /// Whether it is an [`alternative`] of the setting before: a line `# or: CONFIG_B=y`.
    pub is_alternative: bool,
}

/// The settings of a fragment or a `.config`, line by line.
pub fn settings(text: &str) -> impl Iterator<Item = Result<Setting<'_>, BadLine>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let (number, line) = (index + 1, line.trim());
        let other = line.strip_prefix('#').and_then(|comment| comment.trim_start().strip_prefix("or:")).map(str::trim);
        let off = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
        let set = || other.unwrap_or(line).strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
        if let Some((symbol, value)) = off.map(|symbol| (symbol, "n")).or_else(set) {
            let (symbol, value) = (symbol.trim(), value.trim());
            return Some(Ok(Setting { line: number, symbol, value, is_alternative: other.is_some() }));
        }
        let says_nothing = line.is_empty() || (line.starts_with('#') && other.is_none());
        (!says_nothing).then(|| Err(BadLine { line: number, text: line.into() }))
    })
}

/// String symbols that the build opens, includes or hands to a program as files of the host.
const HOST_PATHS: [&str; 16] = [
    "ACPI_CUSTOM_DSDT_FILE",
    "BOOT_CONFIG_EMBED_FILE",
    "BUILTIN_DTB_SOURCE",
    "CFG80211_EXTRA_REGDB_KEYDIR",
    "EXTRA_FIRMWARE",
    "EXTRA_FIRMWARE_DIR",
    "INITRAMFS_SOURCE",
    "IPE_BOOT_POLICY",
    "LOGO_LINUX_CLUT224_FILE",
    "LOGO_LINUX_MONO_FILE",
    "LOGO_LINUX_VGA16_FILE",
    "MODULE_SIG_KEY",
    "SYSTEM_BLACKLIST_HASH_LIST",
    "SYSTEM_REVOCATION_KEYS",
    "SYSTEM_TRUSTED_KEYS",
    "UNUSED_KSYMS_WHITELIST",
];

/// String symbols whose slashes mean the guest's files: they end up in the kernel as text.
const GUEST_PATHS: [&str; 9] = [
    "CMDLINE",
    "DEFAULT_INIT",
    "EVM_X509_PATH",
    "IMA_X509_PATH",
    "MODPROBE_PATH",
    "SECURITY_TOMOYO_ACTIVATION_TRIGGER",
    "SECURITY_TOMOYO_POLICY_LOADER",
    "STATIC_USERMODEHELPER_PATH",
    "UEVENT_HELPER_PATH",
];

/// Where an option was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The fragment's name, or `kernel.options`.
    pub by: String,
    /// The file and the line, like `kconfigs/net.config:2`.
    pub place: String,
}

/// Why an option may not be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, in a few words.
    pub why: String,
    /// What would do.
    pub help: &'static str,
}

/// Whether `symbol` may be set to `value`, which is written as in a `.config`.
///
/// make includes the finished configuration, and shell scripts source it: what either of them expands would run on the
/// host. So a value holds nothing that they give a meaning to, and names no file of the host.
///
/// # Errors
/// It may not.
pub fn check(symbol: &str, value: &str) -> Result<(), Refusal> {
    let refuse = |why: String, help| Err(Refusal { why, help });
    if symbol.is_empty() || !symbol.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return refuse("this is not the name of a kernel option".into(), "a name has letters, digits and `_`");
    }
    if HOST_PATHS.contains(&symbol) && !matches!(value, "n" | "\"\"") {
        return refuse(
            format!("{symbol} names files of the host"),
            "a recipe takes nothing from the host; leave the option out",
        );
    }
    let number = value.strip_prefix('-').unwrap_or(value);
    let digits = |text: &str, digit: fn(&char) -> bool| !text.is_empty() && text.chars().all(|c| digit(&c));
    if matches!(value, "y" | "n" | "m")
        || digits(number, char::is_ascii_digit)
        || value.strip_prefix("0x").is_some_and(|hex| digits(hex, char::is_ascii_hexdigit))
    {
        return Ok(());
    }
    let Some(text) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return refuse(
            format!("`{value}` is no value"),
            "write `y`, `n`, `m`, a whole number or text in double quotes",
        );
    };
    let slash = GUEST_PATHS.contains(&symbol);
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.,:=+@%-".contains(c) || (c == '/' && slash);
    match text.chars().find(|&c| !plain(c)) {
        None => Ok(()),
        Some('/') => {
            refuse("the text holds `/`".into(), "only options that name a path in the guest may, such as DEFAULT_INIT")
        }
        Some(character) => refuse(
            format!("the text holds `{}`", character.escape_debug()),
            "make and the shell read it on the host: letters, digits, spaces and `_ . , : = + @ % -` are allowed",
        ),
    }
}

impl Options {
    /// Whether something is built as a module.
    pub fn has_modules(&self) -> bool {
        self.0.values().any(|value| value == "m")
    }

    /// Reads a fragment or a `.config`: `CONFIG_X=y`, `# CONFIG_X is not set`, comments and blank lines.
    ///
    /// # Errors
    /// The first line that is none of these.
    pub fn parse(text: &str) -> Result<Options, BadLine> {
        let mut options = Options::default();
        for setting in settings(text) {
            let Setting { symbol, value, is_alternative, .. } = setting?;
            if !is_alternative {
                options.set(symbol, value);
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

/// `A, B, C and 4 more`: the first few of many names.
pub fn few(names: &[String]) -> String {
    match names {
        [first @ .., _, _] if first.len() > 2 => format!("{} and {} more", names[..3].join(", "), names.len() - 3),
        names => names.join(", "),
    }
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
        assert_eq!(Options::parse("CONFIG_A=y\n# or: B\n"), Err(BadLine { line: 2, text: "# or: B".into() }));
    }

    #[test]
    fn what_make_or_a_shell_would_expand_is_refused() {
        for value in ["y", "n", "m", "0", "1000", "-1", "0x1fF", "\"\"", "\"cubic\"", "\"a b_c.d,e:f=g+h@i%j-k\""] {
            assert_eq!(check("LOCALVERSION", value), Ok(()), "{value}");
        }
        for value in [
            "\"$(touch /tmp/x)\"",
            "\"$(shell touch x)\"",
            "\"${HOME}\"",
            "\"`id`\"",
            "\"a;b\"",
            "\"a|b\"",
            "\"a&b\"",
            "\"a#b\"",
            "\"a\\b\"",
            "\"a\"b\"",
            "\"a'b\"",
            "\"/etc\"",
            "\"a\tb\"",
            "\"\u{e9}\"",
            "\"",
            "\"open",
            "bare",
            "+1",
            "-",
            "0x",
            "",
            "y z",
        ] {
            assert!(check("LOCALVERSION", value).is_err(), "{value}");
        }
        for symbol in ["", "A B", "A$(id)", "A:", "A-B", "CONFIG\nX"] {
            assert!(check(symbol, "y").is_err(), "{symbol}");
        }
    }

    #[test]
    fn paths_are_of_the_guest_or_refused() {
        for symbol in HOST_PATHS {
            assert!(check(symbol, "\"keys\"").is_err() && check(symbol, "y").is_err(), "{symbol}");
            assert_eq!((check(symbol, "n"), check(symbol, "\"\"")), (Ok(()), Ok(())), "{symbol}");
        }
        for symbol in GUEST_PATHS {
            assert_eq!(check(symbol, "\"/sbin/init\""), Ok(()), "{symbol}");
            assert!(check(symbol, "\"/sbin/$init\"").is_err(), "{symbol}");
        }
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
