//! Options that have other names in other versions: what a fragment asks for where the tree does not know its first choice.
//!
//! Pure. A line `# or: CONFIG_B=y` below `CONFIG_A=y` declares one; the first option that the tree knows is asked for.

use std::collections::BTreeMap;

use super::tree::Tree;
use super::{Options, Origin};

/// Another option, to be asked for in place of one that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The symbol, without `CONFIG_`.
    pub symbol: String,
    /// The value, as Kconfig writes it.
    pub value: String,
    /// Where it was declared.
    pub origin: Origin,
}

/// All that is asked for, and what instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The options, first choices.
    pub options: Options,
    /// Where each of them was asked for.
    pub origins: BTreeMap<String, Origin>,
    /// First choice → what to ask for instead, in this order.
    pub alternatives: BTreeMap<String, Vec<Alternative>>,
}

/// What is asked of one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// The options.
    pub options: Options,
    /// Where each of them was asked for.
    pub origins: BTreeMap<String, Origin>,
    /// Option → the first choice in whose place it is asked for.
    pub instead_of: BTreeMap<String, String>,
    /// First choice → its alternatives, where the tree knows none of them.
    pub unknown: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    /// Asks for an option; what was said of it before, alternatives included, no longer counts.
    pub fn set(&mut self, symbol: &str, value: &str, origin: Origin) {
        self.alternatives.remove(symbol);
        self.options.set(symbol, value);
        self.origins.insert(symbol.into(), origin);
    }

    /// Everything that decides what is asked of a tree, as text.
    pub fn to_text(&self) -> String {
        let others = self.alternatives.iter().flat_map(|(first, list)| list.iter().map(move |other| (first, other)));
        let others = others.map(|(first, other)| format!("# {first} or: CONFIG_{}={}\n", other.symbol, other.value));
        others.fold(self.options.to_fragment(), |text, line| text + &line)
    }

    /// Takes the alternatives that `tree` calls for. What is asked for by its own name has the last word.
    pub fn settle(&self, tree: &Tree) -> Settled {
        let mut settled =
            Settled { options: self.options.clone(), origins: self.origins.clone(), ..Settled::default() };
        for (first, others) in self.alternatives.iter().filter(|(first, _)| !tree.knows(first)) {
            let Some(other) = others.iter().find(|other| tree.knows(&other.symbol)) else {
                settled.unknown.insert(first.clone(), others.iter().map(|other| other.symbol.clone()).collect());
                continue;
            };
            settled.options.0.remove(first);
            settled.origins.remove(first);
            if !self.options.0.contains_key(&other.symbol) {
                settled.options.set(&other.symbol, &other.value);
                settled.origins.insert(other.symbol.clone(), other.origin.clone());
                settled.instead_of.insert(other.symbol.clone(), first.clone());
            }
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(place: &str) -> Origin {
        Origin { by: "mine".into(), place: place.into() }
    }

    fn asked(own: &[&str]) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.set("NEW", "y", origin("mine.config:1"));
        let other = |symbol: &str, line| Alternative {
            symbol: symbol.into(),
            value: "y".into(),
            origin: origin(&format!("mine.config:{line}")),
        };
        wanted.alternatives.insert("NEW".into(), vec![other("OLD", 2), other("OLDER", 3)]);
        own.iter().for_each(|symbol| wanted.set(symbol, "n", origin("a.yaml:4")));
        wanted
    }

    fn settled(asked: &Wanted, known: &[&str]) -> Settled {
        let text: String = known.iter().map(|name| format!("config {name}\n\tbool \"it\"\n")).collect();
        asked.settle(&Tree::read(&|_| Some(text.clone())))
    }

    #[test]
    fn the_first_that_the_tree_knows_is_asked_for() {
        for (known, taken, place) in [
            (&["NEW", "OLD"][..], "NEW", "mine.config:1"),
            (&["OLD", "OLDER"], "OLD", "mine.config:2"),
            (&["OLDER"], "OLDER", "mine.config:3"),
        ] {
            let settled = settled(&asked(&[]), known);
            assert_eq!(settled.options.to_fragment(), format!("CONFIG_{taken}=y\n"));
            assert_eq!(settled.origins[taken].place, place);
            assert_eq!(settled.instead_of.get(taken).map(String::as_str), (taken != "NEW").then_some("NEW"));
        }
    }

    #[test]
    fn where_none_is_known_the_first_stays_and_the_others_are_told() {
        let settled = settled(&asked(&[]), &["ELSE"]);
        assert_eq!(settled.options.to_fragment(), "CONFIG_NEW=y\n");
        assert_eq!(settled.unknown["NEW"], ["OLD", "OLDER"]);
    }

    #[test]
    fn what_is_asked_for_by_its_own_name_has_the_last_word() {
        assert_eq!(settled(&asked(&["OLD"]), &["OLD"]).options.to_fragment(), "# CONFIG_OLD is not set\n");
        let again = asked(&["NEW"]);
        assert_eq!((again.alternatives.len(), again.to_text()), (0, "# CONFIG_NEW is not set\n".into()));
    }

    #[test]
    fn alternatives_are_part_of_what_is_asked() {
        let text = asked(&[]).to_text();
        assert_eq!(text, "CONFIG_NEW=y\n# NEW or: CONFIG_OLD=y\n# NEW or: CONFIG_OLDER=y\n");
    }
}
