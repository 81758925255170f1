//! `kernel.modules`: which modules go into the guest, and which of them are loaded before the trigger.
//!
//! Pure.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize};

/// Kernel modules in the guest; what they need comes with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModulesSpec {
    /// Loaded before the trigger. A list in place of the mapping means these.
    pub load: Vec<String>,
    /// Only there, for the trigger to load.
    pub available: Vec<String>,
    /// Written as a list.
    #[serde(skip)]
    is_list: bool,
}

impl ModulesSpec {
    /// All of them, with the path of each in the recipe.
    pub fn places(&self) -> impl Iterator<Item = (String, &str)> {
        let key = |key| if self.is_list { "" } else { key };
        let place = move |name| move |(index, module)| (format!("kernel.modules{}[{index}]", key(name)), module);
        let load = self.load.iter().map(String::as_str).enumerate().map(place(".load"));
        load.chain(self.available.iter().map(String::as_str).enumerate().map(place(".available")))
    }
}

impl<'de> Deserialize<'de> for ModulesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct Whole {
            load: Vec<String>,
            available: Vec<String>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ModulesSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of modules, or a mapping with `load` and `available`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ModulesSpec, A::Error> {
                let load = Vec::deserialize(SeqAccessDeserializer::new(items))?;
                Ok(ModulesSpec { load, available: Vec::new(), is_list: true })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModulesSpec, A::Error> {
                let Whole { load, available } = Whole::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ModulesSpec { load, available, is_list: false })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_is_loaded() {
        let read = |text: &str| serde_yaml::from_str::<ModulesSpec>(text);
        let list = read("[veth]").unwrap();
        assert_eq!(list.load, read("load: [veth]").unwrap().load);
        assert_eq!(list.places().next(), Some(("kernel.modules[0]".into(), "veth")));
        let both = read("{ load: [veth], available: [nf_nat] }").unwrap();
        let places: Vec<_> = both.places().collect();
        let expected = [("kernel.modules.load[0]", "veth"), ("kernel.modules.available[0]", "nf_nat")];
        assert_eq!(places, expected.map(|(at, name)| (at.to_string(), name)));
        for wrong in ["veth", "lod: [veth]", "[[veth]]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
