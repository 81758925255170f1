//! What a request comes to: the options that were asked for, those that came by themselves, and those that were dropped.
//!
//! Pure but for [`tree_of`], which reads a source's Kconfig files.

use std::fs;

use serde::Serialize;

use super::kconfig::alternative::Settled;
use super::kconfig::tree::Tree;
use super::kconfig::why::{Cause, Reason};
use super::kconfig::{self, Lost, Options};
use super::source::KernelSource;
use crate::error::{Error, Result};

/// The finished configuration, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The version of the source.
    pub version: String,
    /// The configuration as the recipe calls it, like `base+net`.
    pub label: String,
    /// What was asked for and is so, in the order of names.
    pub asked: Vec<Asked>,
    /// What is on or has a value though nobody asked, in the order of names.
    pub forced: Vec<Forced>,
    /// What was asked for and is not so.
    pub dropped: Vec<Dropped>,
}

/// An option that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// Its value, as Kconfig writes it.
    pub value: String,
    /// The fragment, or `kernel.options`.
    pub by: String,
    /// The file and line.
    pub place: String,
    /// The option that the version does not know, in whose place this one was asked for.
    pub instead_of: Option<String>,
}

/// An option that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forced {
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// Its value, as Kconfig writes it.
    pub value: String,
    /// Why it has it: `selected`, `choice` (what a choice takes when nobody chooses) or `default`.
    pub cause: &'static str,
    /// What selects it.
    pub by: Vec<String>,
    /// Whether it has a prompt, so that a fragment could say something about it.
    pub settable: bool,
}

/// An option that was asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// What was asked for.
    pub asked: String,
    /// What it is.
    pub got: String,
    /// The file and line that asked; empty if it is not known.
    pub place: String,
    /// Why.
    pub why: String,
}

impl Explained {
    /// What a build would say of the dropped ones.
    ///
    /// # Errors
    /// Something was dropped.
    pub fn check(&self) -> Result<()> {
        if self.dropped.is_empty() { Ok(()) } else { Err(error(&self.dropped)) }
    }
}

/// The Kconfig files of a source.
pub(super) fn tree_of(source: &KernelSource) -> Tree {
    Tree::read(&|path| fs::read_to_string(source.tree.join(path)).ok())
}

/// Explains `config`, which is what `options` came to.
pub(super) fn explain(settled: &Settled, config: &Options, tree: &Tree, version: &str, label: &str) -> Explained {
    let Settled { options, origins, instead_of, .. } = settled;
    let dropped = dropped(&kconfig::lost(options, config), settled, config, tree, version);
    let kept = options.0.iter().filter(|(symbol, value)| config.value(symbol) == value.as_str());
    let asked = kept.map(|(symbol, value)| {
        let origin = origins.get(symbol);
        Asked {
            symbol: symbol.clone(),
            value: value.clone(),
            by: origin.map(|origin| origin.by.clone()).unwrap_or_default(),
            place: origin.map(|origin| origin.place.clone()).unwrap_or_default(),
            instead_of: instead_of.get(symbol).cloned(),
        }
    });
    let unasked = config.0.iter().filter(|(symbol, value)| !options.0.contains_key(*symbol) && *value != "n");
    let forced = unasked.map(|(symbol, value)| {
        let (cause, by) = match tree.cause(symbol, config) {
            Cause::Selected(by) => ("selected", by),
            Cause::Choice => ("choice", Vec::new()),
            Cause::Default => ("default", Vec::new()),
        };
        Forced { symbol: symbol.clone(), value: value.clone(), cause, by, settable: tree.has_prompt(symbol, config) }
    });
    let (version, label) = (version.to_owned(), label.to_owned());
    Explained { version, label, asked: asked.collect(), forced: forced.collect(), dropped }
}

/// What each of `lost` was lost for.
pub(super) fn dropped(lost: &[Lost], settled: &Settled, config: &Options, tree: &Tree, version: &str) -> Vec<Dropped> {
    let explained = lost.iter().map(|Lost { symbol, asked, got }| Dropped {
        symbol: symbol.clone(),
        asked: asked.clone(),
        got: got.clone(),
        place: settled.origins.get(symbol).map(|origin| origin.place.clone()).unwrap_or_default(),
        why: in_words(
            tree.reason(symbol, asked, config),
            version,
            settled.unknown.get(symbol).map_or(&[], Vec::as_slice),
        ),
    });
    explained.collect()
}

/// A reason as text; `others` are alternatives that are not known either.
fn in_words(reason: Reason, version: &str, others: &[String]) -> String {
    match reason {
        Reason::Unknown(near) => {
            let nor: String = others.iter().map(|other| format!(", nor has it {other}")).collect();
            let near = if near.is_empty() { String::new() } else { format!("; close by: {}", near.join(", ")) };
            format!("Linux {version} has no such symbol{nor}{near}")
        }
        Reason::Unmet(unmet) => format!("it needs {}", unmet.join(" and ")),
        Reason::Rival(rival) => format!("only one of its choice can be on, and that is {rival}"),
        Reason::Selected(by) => format!("{} selects it", kconfig::few(&by)),
        Reason::NoPrompt => "it cannot be set by hand: other options decide it".into(),
        Reason::Overridden => "its dependencies are met, so another option overrides it".into(),
    }
}

/// The error that these were dropped.
pub(super) fn error(dropped: &[Dropped]) -> Error {
    let mut message = format!("{} of the options asked for did not survive olddefconfig:", dropped.len());
    for Dropped { symbol, asked, got, place, why } in dropped {
        message.push_str(&format!("\n  {symbol}: asked {asked}, got {got}: {why}"));
        if !place.is_empty() {
            message.push_str(&format!("\n    --> {place}"));
        }
    }
    Error::kernel(message).hint("add what is needed to `kernel.options` of the recipe, or take the option out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_is_not_known_by_any_of_its_names_is_told_by_all() {
        let others = ["OLD".to_string(), "OLDER".to_string()];
        let told = in_words(Reason::Unknown(vec!["NEWS".into()]), "6.1.9", &others);
        assert_eq!(told, "Linux 6.1.9 has no such symbol, nor has it OLD, nor has it OLDER; close by: NEWS");
        assert_eq!(in_words(Reason::Unknown(Vec::new()), "6.1.9", &[]), "Linux 6.1.9 has no such symbol");
    }
}
