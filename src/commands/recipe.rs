//! `kdbg recipe`: check recipes and list them, without doing any work.
//!
//! Reads recipes and what they name, and prints. Builds, boots and fetches nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};
use crate::recipe::{self, Loaded};
use crate::session;

/// `kdbg recipe check`: loads and resolves each file. Prints a line for each good one; the error holds all that is
/// wrong with the others.
pub fn check(files: &[PathBuf]) -> Result<()> {
    check_into(files, &mut io::stdout().lock())
}

/// `kdbg recipe list`: name and question of each recipe in `dir`. A recipe with errors is listed as such.
pub fn list(dir: &Path) -> Result<()> {
    list_into(dir, &mut io::stdout().lock())
}

fn check_into(files: &[PathBuf], out: &mut impl Write) -> Result<()> {
    let mut errors: Vec<String> = Vec::new();
    for file in files {
        match load_and_resolve(file) {
            Ok(loaded) => {
                let recipe = &loaded.recipe;
                writeln!(out, "ok   {}  {}", file.display(), described(&recipe.name, &recipe.about))
                    .or_host("write")?;
            }
            Err(error) => errors.push(match error.hint {
                Some(hint) => format!("{}\nhelp: {hint}", error.message),
                None => error.message,
            }),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::recipe(errors.join("\n\nerror: "))) }
}

fn list_into(dir: &Path, out: &mut impl Write) -> Result<()> {
    let files = recipe::load::recipes_in(dir);
    if files.is_empty() {
        let none = Error::recipe(format!("there are no recipes in {}", dir.display()));
        return Err(none
            .hint("name a folder that holds some: `kdbg recipe list FOLDER`; docs/recipe.md shows how to write one"));
    }
    let recipes: Vec<_> = files.iter().map(|file| (file.display().to_string(), recipe::load(file))).collect();
    let width = recipes.iter().map(|(file, _)| file.chars().count()).max().unwrap_or(0);
    for (file, loaded) in &recipes {
        let text = match loaded {
            Ok(loaded) => described(&loaded.recipe.name, &loaded.recipe.about),
            Err(_) => format!("(has errors: kdbg recipe check {file})"),
        };
        writeln!(out, "{file:width$}  {text}").or_host("write")?;
    }
    Ok(())
}

fn load_and_resolve(file: &Path) -> Result<Loaded> {
    let loaded = recipe::load(file)?;
    session::kernel_request(&loaded, &recipe::resolve(&loaded)?)?;
    Ok(loaded)
}

fn described(name: &str, about: &str) -> String {
    if about.is_empty() { name.to_owned() } else { format!("{name}: {}", about.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones_are_printed_and_bad_ones_are_one_error() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = write("a.yaml", "name: a\nabout: Why?\nkernel: { version: \"6.1\" }\n");
        let bad = write("b.yaml", "name: B\nkernel: { version: \"6.1\" }\n");
        let missing = folder.path().join("c.yaml");
        let mut out = Vec::new();
        let error = check_into(&[good.clone(), bad.clone(), missing], &mut out).unwrap_err();
        assert_eq!(String::from_utf8(out).unwrap(), format!("ok   {}  a: Why?\n", good.display()));
        assert_eq!(error.kind.exit_code(), 2);
        assert!(error.message.starts_with("`B` cannot name a recipe\n"), "{}", error.message);
        assert!(error.message.contains("\n\nerror: there is no file "), "{}", error.message);

        let mut out = Vec::new();
        list_into(folder.path(), &mut out).unwrap();
        let (good, bad) = (good.display(), bad.display());
        let expected = format!("{good}  a: Why?\n{bad}  (has errors: kdbg recipe check {bad})\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
