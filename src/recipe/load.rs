//! From a file to a checked [`Recipe`], or to errors that point into the file.
//!
//! The only room, with [`mod@super::resolve`], that reads recipe files. It finds nothing else: what a recipe names is
//! looked up there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::diagnostic::{self, Diagnostic, Span};
use super::kernel::KernelChoice;
use super::locate::{Outline, Part};
use super::types::Recipe;
use super::{check, shape};
use crate::digest::sha256;
use crate::error::{Error, IoContext, Result};
use crate::spelling;

/// No recipe is this long; a file that is has been named by mistake.
const LONGEST: u64 = 256 << 10;

/// A recipe that was read and checked, with its text, so that later stages can point into it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file says.
    pub recipe: Recipe,
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text, without a byte order mark.
    pub text: String,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl Loaded {
    /// An error at the value of `at`, a path like `probes[0].at`: for what only later stages can know, such as a
    /// function that the kernel does not have.
    pub fn diagnose(&self, at: &str, message: impl Into<String>, label: impl Into<String>, helps: &[String]) -> Error {
        let diagnostic = Diagnostic { helps: helps.to_vec(), ..Diagnostic::new(message, self.locate(at), label) };
        self.diagnose_all(&[diagnostic])
    }

    /// Several errors in one.
    pub fn diagnose_all(&self, diagnostics: &[Diagnostic]) -> Error {
        diagnostic::error(&self.path.display().to_string(), &self.text, diagnostics)
    }

    /// The place of the value of `at`, a path like `probes[0].at`.
    pub fn locate(&self, at: &str) -> Span {
        Outline::parse(&self.text).map_or(Span::default(), |outline| outline.find(at, Part::Value))
    }

    /// One recipe for each kernel: those that the recipe names, or `named` on the command line instead if there are any.
    ///
    /// # Errors
    /// One of `named` is no version, no package and nothing on this host, or there twice.
    pub fn for_each_kernel(&self, named: &[String]) -> Result<Vec<Loaded>> {
        let chosen = match named {
            [] => self.recipe.kernel.choices().into_iter().map(|(_, choice)| choice).collect(),
            named => named.iter().map(|name| from_command_line(name)).collect::<Result<Vec<_>>>()?,
        };
        if let Some((_, twice)) = chosen.iter().enumerate().find(|(index, one)| chosen[..*index].contains(one)) {
            return Err(Error::usage(format!("the kernel `{twice}` is named twice")));
        }
        let with = |choice| {
            let mut one = self.clone();
            one.recipe.kernel.chosen = Some(choice);
            one
        };
        Ok(chosen.into_iter().map(with).collect())
    }

    /// The folder that the recipe is in.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// What `--kernel NAME` means. A version is one, whatever lies in the current folder; what else looks like a path, or is
/// one, is one; `PATH@REVISION` is a revision of a git
/// repository, unless there is a file of that name.
fn from_command_line(name: &str) -> Result<KernelChoice> {
    let path = |path: &str, revision: Option<&str>| KernelChoice::Path {
        path: path.into(),
        revision: revision.map(str::to_owned),
    };
    if check::is_version(name) {
        return Ok(KernelChoice::Version(name.into()));
    }
    if Path::new(name).exists() {
        return Ok(path(name, None));
    }
    if check::is_image_package(name) {
        return Ok(KernelChoice::Package(name.into()));
    }
    if let Some((repository, revision)) = name.split_once('@')
        && Path::new(repository).is_dir()
    {
        if check::is_revision(revision) {
            return Ok(path(repository, Some(revision)));
        }
        return Err(Error::usage(format!("`{revision}` cannot be a revision of {repository}"))
            .hint("name a tag, a branch or a commit, like `PATH@v6.1.192`"));
    }
    if name.contains('/') || name.starts_with('.') {
        return Err(Error::usage(format!("--kernel {name}: there is no such file or folder"))
            .hint("name a kernel tree, an archive of one (.tar.xz, .tar.gz, .tar.zst, .tar), or a git repository as PATH@REVISION"));
    }
    Err(Error::usage(format!("`{name}` is not a kernel version")).hint(format!(
        "{}; a package `linux-image-…`; or the path of a tree, an archive or a git repository",
        check::VERSION_HELP
    )))
}

/// Reads and checks a recipe.
pub fn load(path: &Path) -> Result<Loaded> {
    let name = path.display();
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if size > LONGEST {
        return Err(Error::recipe(format!("{name} is no recipe: it is {} KiB long", size >> 10)));
    }
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_such_file(path)),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            let wrong = Error::recipe(format!("{name} is a folder, not a recipe"));
            return Err(wrong.hint(format!(
                "`kdbg recipe list` shows the recipes; name one: {}",
                path.join("NAME.yaml").display()
            )));
        }
        other => other.or_host(format_args!("read {name}"))?,
    };
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&name.to_string(), &error))?;
    let loaded = parse(&name.to_string(), &text)?;
    Ok(Loaded { path: path.to_owned(), ..loaded })
}

/// Checks a recipe's text. `name` is what errors call the file.
pub fn parse(name: &str, text: &str) -> Result<Loaded> {
    let sha256 = sha256(text);
    // serde_norway counts a byte order mark as a column, and with it takes the second key for a nested one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fail = |diagnostics: &[Diagnostic]| diagnostic::error(name, text, diagnostics);
    let recipe: Recipe = document(text, "a recipe").map_err(|wrong| fail(&[wrong]))?;
    let outline = Outline::parse(text).map_err(|wrong| fail(&[wrong]))?;
    match check::check(&recipe, &outline).as_slice() {
        [] => Ok(Loaded { recipe, path: name.into(), text: text.into(), sha256 }),
        wrong => Err(fail(wrong)),
    }
}

/// Reads the one YAML document of a text; `whole` is what it is, with its article.
pub(super) fn document<T: DeserializeOwned>(text: &str, whole: &str) -> Result<T, Diagnostic> {
    let outline = Outline::parse(text)?;
    match outline.documents() {
        0 => return Err(empty(text, whole)),
        1 => {}
        several => {
            let second = outline.document(1);
            let wrong = Diagnostic::new(format!("{several} documents in one file"), second, "the second starts here");
            return Err(wrong.help(format!("{whole} is one document: put the others into files of their own")));
        }
    }
    if outline.is_empty() {
        return Err(empty(text, whole));
    }
    serde_yaml::from_str(text).map_err(|error| shape::explain(&error, &outline, whole))
}

fn empty(text: &str, whole: &str) -> Diagnostic {
    let label = if text.trim().is_empty() { "the file is empty" } else { "nothing but comments" };
    let wrong = Diagnostic::new(format!("{whole} cannot be empty"), Span { line: 1, column: 1, len: 1 }, label);
    wrong.help("docs/recipe.md explains every key")
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Error {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
    Error::recipe(format!("{name}:{line} is not UTF-8 text")).hint(format!("convert it: iconv -t UTF-8 {name}"))
}

/// A missing file, with the recipes close by.
fn no_such_file(path: &Path) -> Error {
    let wrong = Error::recipe(format!("there is no file {}", path.display()));
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = recipes_in(folder).into_iter().chain(recipes_in(Path::new("recipes"))).collect::<Vec<_>>();
    let stems = found.iter().filter_map(|file| file.file_stem()?.to_str());
    let near = spelling::nearest(&name, stems);
    let mut close: Vec<String> = found
        .iter()
        .filter(|file| file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| near.contains(&stem)))
        .map(|file| file.strip_prefix(".").unwrap_or(file).display().to_string())
        .collect();
    close.dedup();
    match close.as_slice() {
        [] => wrong.hint("`kdbg recipe list` shows the recipes that are there"),
        close => wrong.hint(format!("close by: {}", close.join(", "))),
    }
}

/// The YAML files of a folder by name; none when it cannot be read.
pub(crate) fn recipes_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests;
