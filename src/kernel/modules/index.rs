//! Which modules a kernel has, and the order in which they load.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::spelling::nearest;

/// A module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its file below `/lib/modules/<release>`, such as `kernel/net/netfilter/nf_conntrack.ko`.
    pub path: String,
    /// The file with its debug information, below the folder of those.
    pub debug: Option<String>,
    /// Modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Modules that it wants loaded first, where they exist (`softdep` with `pre:`).
    pub before: Vec<String>,
    /// Modules that it wants loaded afterwards, where they exist (`softdep` with `post:`).
    pub after: Vec<String>,
    /// Other names under which the kernel asks for it.
    pub aliases: Vec<String>,
}

impl Module {
    /// Its name, as the kernel has it.
    pub fn name(&self) -> String {
        canonical(&self.path)
    }
}

/// A module's name as the kernel has it, from a name or a file's path: without folders and suffix, `_` for `-`.
pub fn canonical(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).trim().replace('-', "_")
}

/// The modules of a kernel by name, and the names of those that are part of vmlinux.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    modules: BTreeMap<String, Module>,
    /// What is built in and could have been a module.
    pub builtin: BTreeSet<String>,
}

/// A module that is neither there nor built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// The module that needs it; none for one that was asked for.
    pub needed_by: Option<String>,
    /// Names that look like it, closest first.
    pub near: Vec<String>,
}

impl Index {
    /// Takes a module in.
    pub fn add(&mut self, module: Module) {
        self.modules.insert(module.name(), module);
    }

    /// A module by its name, however its dashes are written.
    pub fn get(&self, name: &str) -> Option<&Module> {
        self.modules.get(&canonical(name))
    }

    /// Whether a module of this name is part of vmlinux.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.builtin.contains(&canonical(name))
    }

    /// All modules, by name.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// The modules called `wanted` and all that they need, each behind what has to be loaded first. What is built in needs
    /// no loading.
    ///
    /// # Errors
    /// One is neither there nor built in.
    pub fn in_order<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Result<Vec<&Module>, Missing> {
        let mut order = Order { index: self, begun: BTreeSet::new(), modules: Vec::new() };
        for name in wanted {
            order.add(&canonical(name), None)?;
        }
        Ok(order.modules)
    }

    fn missing(&self, name: &str, needed_by: Option<&str>) -> Missing {
        let names = self.modules.keys().chain(&self.builtin).map(String::as_str);
        let near = nearest(name, names).into_iter().map(String::from).collect();
        Missing { name: name.into(), needed_by: needed_by.map(String::from), near }
    }
}

struct Order<'i> {
    index: &'i Index,
    begun: BTreeSet<String>,
    modules: Vec<&'i Module>,
}

impl Order<'_> {
    fn add(&mut self, name: &str, needed_by: Option<&str>) -> Result<(), Missing> {
        // Soft dependencies can form a ring; the first to be asked for comes last then.
        if self.index.is_built_in(name) || !self.begun.insert(name.into()) {
            return Ok(());
        }
        let index = self.index;
        let module = index.get(name).ok_or_else(|| index.missing(name, needed_by))?;
        let there = |name: &&String| index.get(name).is_some();
        for first in module.before.iter().filter(there).chain(&module.depends) {
            self.add(first, Some(name))?;
        }
        self.modules.push(module);
        module.after.iter().filter(there).try_for_each(|later| self.add(later, Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index of `name: depends` lines; `<` and `>` mark soft dependencies.
    fn index(lines: &[&str], builtin: &[&str]) -> Index {
        let mut index = Index { builtin: builtin.iter().map(|name| canonical(name)).collect(), ..Index::default() };
        for line in lines {
            let (name, needs) = line.split_once(':').unwrap();
            let mut module = Module { path: format!("kernel/net/{name}.ko.xz"), ..Module::default() };
            for need in needs.split_whitespace() {
                match (need.strip_prefix('<'), need.strip_prefix('>')) {
                    (Some(first), _) => module.before.push(first.into()),
                    (_, Some(later)) => module.after.push(later.into()),
                    _ => module.depends.push(need.into()),
                }
            }
            index.add(module);
        }
        index
    }

    fn order(index: &Index, wanted: &[&str]) -> String {
        let names: Vec<_> = index.in_order(wanted.iter().copied()).unwrap().into_iter().map(Module::name).collect();
        names.join(" ")
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let index = index(
            &["bridge: stp llc", "stp: llc", "llc:", "nf-nat: nf_conntrack libcrc32c", "nf_conntrack: libcrc32c"],
            &["kernel/lib/libcrc32c.ko"],
        );
        assert_eq!(order(&index, &["bridge"]), "llc stp bridge");
        assert_eq!(order(&index, &["stp", "bridge", "nf_nat", "libcrc32c"]), "llc stp bridge nf_conntrack nf_nat");
        assert_eq!(index.get("nf_nat"), index.get("nf-nat"));
    }

    #[test]
    fn wishes_are_granted_where_they_can_be() {
        let index = index(&["a: <b <gone >c b", "b:", "c: a", "x: <y", "y: <x"], &[]);
        assert_eq!(order(&index, &["a"]), "b a c");
        assert_eq!(order(&index, &["x"]), "y x");
    }

    #[test]
    fn what_is_missing_is_said_with_what_is_close() {
        let index = index(&["veth:", "bridge: stp"], &["kernel/dummy.ko"]);
        let missing = index.in_order(["vetch"]).unwrap_err();
        assert_eq!((missing.name.as_str(), missing.needed_by, missing.near), ("vetch", None, vec!["veth".into()]));
        assert_eq!(index.in_order(["bridge"]).unwrap_err().needed_by.as_deref(), Some("bridge"));
        assert_eq!(index.in_order(["dumy"]).unwrap_err().near, ["dummy"]);
    }
}
