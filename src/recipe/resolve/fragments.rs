//! The Kconfig fragments that a recipe names, and those that these include.
//!
//! A fragment includes another one by a line `# include: NAME`, which is a comment to everybody else. Nothing else in a
//! fragment is looked at here.

use super::{Fragment, Place, Site};
use crate::error::Result;
use crate::recipe::diagnostic::Span;
use crate::recipe::image::is_plain_name;
use crate::recipe::load::Loaded;

/// Finds and reads them: each once, after those that it includes.
///
/// # Errors
/// There is no fragment of a name, or some include each other.
pub(super) fn fragments(loaded: &Loaded) -> Result<Vec<Fragment>> {
    let mut reader = Reader { loaded, read: Vec::new(), open: Vec::new() };
    for (index, name) in loaded.recipe.kernel.config.iter().enumerate() {
        reader.take(name, Site::Recipe(format!("kernel.config[{index}]")))?;
    }
    Ok(reader.read)
}

struct Reader<'l> {
    loaded: &'l Loaded,
    read: Vec<Fragment>,
    /// The fragments whose includes are being read, the outermost first.
    open: Vec<String>,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, site: Site<'_>) -> Result<()> {
        if self.read.iter().any(|fragment| fragment.name == name) {
            return Ok(());
        }
        if let Some(first) = self.open.iter().position(|open| open == name) {
            let round = [&self.open[first..], &[name.to_owned()]].concat().join(" includes ");
            let help = ["take one of these includes out".into()];
            return Err(site.diagnose(self.loaded, "these fragments include each other".into(), &round, &help));
        }
        let place = Place { loaded: self.loaded, site, what: "fragment", folder: "kconfigs", suffix: ".config" };
        let found = place.find(name)?;
        let fragment = Fragment { name: name.to_owned(), origin: found.origin, text: found.text };
        self.open.push(name.to_owned());
        let file = fragment.file();
        for (included, span) in includes(&fragment.text) {
            let site = Site::File { file: &file, text: &fragment.text, span };
            if !is_plain_name(included) {
                let message = format!("`{included}` is not the name of a fragment");
                let help = ["name one fragment a line, without its folder and `.config`".into()];
                return Err(site.diagnose(self.loaded, message, "", &help));
            }
            self.take(included, site)?;
        }
        self.open.pop();
        self.read.push(fragment);
        Ok(())
    }
}

/// The names that a fragment includes, and where they stand.
fn includes(text: &str) -> impl Iterator<Item = (&str, Span)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let name = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include:")?.trim();
        // The name is the end of the line, but for blanks.
        let before = line.trim_end().strip_suffix(name)?;
        let column = before.chars().count() + 1;
        Some((name, Span { line: index + 1, column, len: name.chars().count() }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fragments of a recipe that names `config`, in a folder with these in its `kconfigs/`; or what is wrong.
    fn read(config: &str, files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("recipes/kconfigs")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(format!("recipes/kconfigs/{name}.config")), text).unwrap();
        }
        let recipe = folder.path().join("recipes/a.yaml");
        std::fs::write(&recipe, format!("name: a\nkernel: {{ version: '6.1', config: {config} }}\n")).unwrap();
        let fragments = fragments(&crate::recipe::load(&recipe).unwrap());
        let names = fragments.map(|read| read.into_iter().map(|fragment| fragment.name).collect());
        names.map_err(|error| error.message.replace(folder.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn each_fragment_comes_once_and_after_what_it_includes() {
        let files = [
            ("a", "# about\n#include: b\nCONFIG_A=y\n  # include: c  \n"),
            ("b", "# include: c\n"),
            ("c", "# This text says include: nothing\n"),
            ("d", "# include: c\n"),
        ];
        assert_eq!(read("[d, a, b]", &files).unwrap(), ["c", "d", "b", "a"]);
    }

    #[test]
    fn what_cannot_be_included_is_shown_at_its_line() {
        let wrong = [
            read("[a]", &[("a", "CONFIG_A=y\n# include: b\n"), ("b", "# include: c\n"), ("c", "# include: b\n")]),
            read("[a]", &[("a", "# include: a\n")]),
            read("[a]", &[("a", "# include: bas\n")]),
            read("[a]", &[("a", "# include: ../base\n")]),
            read("[a]", &[("a", "# include: base, net\n")]),
            read("[a]", &[("a", "# include:\n")]),
        ];
        insta::assert_snapshot!(wrong.map(Result::unwrap_err).join("\n\n"), @r"
        these fragments include each other
         --> DIR/recipes/kconfigs/c.config:1:12
          |
        1 | # include: b
          |            ^ b includes c includes b
          |
        help: take one of these includes out

        these fragments include each other
         --> DIR/recipes/kconfigs/a.config:1:12
          |
        1 | # include: a
          |            ^ a includes a
          |
        help: take one of these includes out

        there is no fragment `bas`
         --> DIR/recipes/kconfigs/a.config:1:12
          |
        1 | # include: bas
          |            ^^^
          |
        help: did you mean `base` or `a` or `bpf`?
              the fragments are `a`, `base`, `bpf`, `net`, `netfilter`, `trace`, `watch`
        help: looked for DIR/recipes/kconfigs/bas.config, DIR/kconfigs/bas.config and among those built into kdbg

        `../base` is not the name of a fragment
         --> DIR/recipes/kconfigs/a.config:1:12
          |
        1 | # include: ../base
          |            ^^^^^^^
          |
        help: name one fragment a line, without its folder and `.config`

        `base, net` is not the name of a fragment
         --> DIR/recipes/kconfigs/a.config:1:12
          |
        1 | # include: base, net
          |            ^^^^^^^^^
          |
        help: name one fragment a line, without its folder and `.config`

        `` is not the name of a fragment
         --> DIR/recipes/kconfigs/a.config:1:11
          |
        1 | # include:
          |           ^
          |
        help: name one fragment a line, without its folder and `.config`
        ");
    }
}
