//! `kdbg build --explain`: what a recipe's kernel configuration comes to, without compiling it.

use std::collections::BTreeMap;

use crate::error::{Error, IoContext, Result};
use crate::kernel::explain::{Asked, Explained, Forced};
use crate::kernel::kconfig;
use crate::report::text::plural;
use crate::ui;

/// Longest line of names.
const WIDTH: usize = 100;

/// Prints it, as text or as one JSON object. What was dropped ends the command as it would end a build.
///
/// # Errors
/// Something was dropped, or standard output cannot be written.
pub(super) fn show(explained: &Explained, json: bool) -> Result<()> {
    let text = if json {
        serde_json::to_string(explained).map_err(|error| Error::host(error.to_string()))? + "\n"
    } else {
        as_text(explained)
    };
    ui::print(&text).or_host("write to standard output")?;
    explained.check()
}

fn as_text(explained: &Explained) -> String {
    let Explained { version, label, asked, forced, dropped } = explained;
    let mut text = format!(
        "Linux {version} with {label}: {} asked, {} forced, {} dropped\n",
        asked.len() + dropped.len(),
        forced.len(),
        dropped.len()
    );
    for (file, options) in by_file(asked) {
        text += &format!("\nasked in {file}, each with its line:\n");
        text += &wrapped(&options);
    }
    let settable: Vec<&Forced> = forced.iter().filter(|forced| forced.settable).collect();
    if !settable.is_empty() {
        text += &format!("\nforced, of those that a fragment can set ({}):\n", settable.len());
        text += &causes(&settable);
    }
    let hidden = forced.len() - settable.len();
    if hidden > 0 {
        text += &format!("\nforced, and not to be set by hand: {} (in --json)\n", plural(hidden as u64, "option"));
    }
    text
}

/// `NAME`, or `NAME=value` if it is not simply on.
fn named(symbol: &str, value: &str) -> String {
    if value == "y" { symbol.into() } else { format!("{symbol}={value}") }
}

/// The options of each file with their lines, in the order of the file.
fn by_file(asked: &[Asked]) -> Vec<(String, Vec<String>)> {
    let mut files: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for Asked { symbol, value, place, instead_of, .. } in asked {
        let (file, line) = place.rsplit_once(':').unwrap_or((place, ""));
        let instead = instead_of.as_ref().map_or(String::new(), |first| format!(" (no {first} here)"));
        let option = (line.parse().unwrap_or(0), format!("{}:{line}{instead}", named(symbol, value)));
        files.entry(file.to_owned()).or_default().push(option);
    }
    let in_order = |(file, mut options): (String, Vec<(u32, String)>)| {
        options.sort();
        (file, options.into_iter().map(|(_, option)| option).collect())
    };
    files.into_iter().map(in_order).collect()
}

/// Options by what forced them: each selected one with what selects it, the others as lists.
fn causes(forced: &[&Forced]) -> String {
    let of = |cause: &'static str| forced.iter().filter(move |forced| forced.cause == cause);
    let mut text = String::new();
    for Forced { symbol, value, by, .. } in of("selected") {
        text += &format!("  {}, selected by {}\n", named(symbol, value), kconfig::few(by));
    }
    for (cause, title) in [("choice", "what a choice takes when nobody chooses"), ("default", "by default")] {
        let options: Vec<String> = of(cause).map(|forced| named(&forced.symbol, &forced.value)).collect();
        if !options.is_empty() {
            text += &format!("  {title}:\n{}", wrapped(&options));
        }
    }
    text
}

/// Words in lines of at most [`WIDTH`] columns, indented.
fn wrapped(words: &[String]) -> String {
    let mut text = String::new();
    let mut column = WIDTH;
    for word in words {
        if column + 1 + word.len() > WIDTH {
            text.push_str(if text.is_empty() { "   " } else { "\n   " });
            column = 3;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::explain::Dropped;

    #[test]
    fn what_was_asked_stands_by_file_and_what_was_forced_by_its_cause() {
        let asked = |symbol: &str, value: &str, place: &str| Asked {
            symbol: symbol.into(),
            value: value.into(),
            by: String::new(),
            place: place.into(),
            instead_of: (symbol == "INET").then(|| "INET4".into()),
        };
        let forced = |symbol: &str, value: &str, cause, by: &[&str], settable| Forced {
            symbol: symbol.into(),
            value: value.into(),
            cause,
            by: by.iter().map(ToString::to_string).collect(),
            settable,
        };
        let dropped = Dropped {
            symbol: "NETT".into(),
            asked: "y".into(),
            got: "n".into(),
            place: "a.yaml:5".into(),
            why: "why".into(),
        };
        let explained = Explained {
            version: "6.1.9".into(),
            label: "net".into(),
            asked: vec![
                asked("INET", "y", "kconfigs/net.config:10"),
                asked("NET", "y", "kconfigs/net.config:9"),
                asked("NR_CPUS", "4", "a.yaml:4"),
            ],
            forced: vec![
                forced("FAILOVER", "m", "selected", &["A", "B", "C", "D", "E"], true),
                forced("HAVE_X", "y", "default", &[], false),
                forced("LOCALVERSION", "\"\"", "default", &[], true),
                forced("SLUB", "y", "choice", &[], true),
            ],
            dropped: vec![dropped],
        };
        insta::assert_snapshot!(as_text(&explained), @r#"
        Linux 6.1.9 with net: 4 asked, 4 forced, 1 dropped

        asked in a.yaml, each with its line:
            NR_CPUS=4:4

        asked in kconfigs/net.config, each with its line:
            NET:9 INET:10 (no INET4 here)

        forced, of those that a fragment can set (3):
          FAILOVER=m, selected by A, B, C and 2 more
          what a choice takes when nobody chooses:
            SLUB
          by default:
            LOCALVERSION=""

        forced, and not to be set by hand: 1 option (in --json)
        "#);
        assert!(explained.check().unwrap_err().message.ends_with("NETT: asked y, got n: why\n    --> a.yaml:5"));
    }

    #[test]
    fn long_lists_are_wrapped() {
        let words: Vec<String> = (0..40).map(|number| format!("OPTION_{number}")).collect();
        let text = wrapped(&words);
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().count(), words.len());
    }
}
