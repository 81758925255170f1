//! The files that a recipe names: its Kconfig fragments, its patches, its image and the image's `init`; and where the
//! kernel's source is, where that is beside the recipe.
//!
//! Looks beside the recipe, then one folder up, then into kdbg itself ([`crate::builtin`]). Reads files of the folders
//! `kconfigs/`, `patches/` and `images/` there and nothing else: what leaves them by a symbolic link is refused. Of a
//! fragment only the includes are looked at; what else it and a patch say is the kernel's room.

mod fragments;
mod image;

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::diagnostic::{self, Diagnostic, Span};
use super::kernel::{KernelChoice, Source};
use super::load::Loaded;
use crate::builtin;
use crate::error::{Error, IoContext, Result};
use crate::spelling;
pub use image::{GuestFile, Image, Item};

/// Everything a recipe names, read.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The fragments, in the order of the recipe, each after those that it includes.
    pub fragments: Vec<Fragment>,
    /// The patches, in the order of the recipe.
    pub patches: Vec<Patch>,
    /// The guest's image.
    pub image: Image,
}

/// A patch of the kernel's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its name in the recipe.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A Kconfig fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Its name in the recipe, or in the fragment that includes it.
    pub name: String,
    /// Where it comes from: a path, or `built into kdbg`.
    pub origin: String,
    /// What it says.
    pub text: String,
}

impl Fragment {
    /// How its file is called.
    pub fn file(&self) -> String {
        match self.origin.as_str() {
            BUILT_IN => format!("built-in kconfigs/{}.config", self.name),
            path => path.into(),
        }
    }
}

/// The origin of what is compiled in.
pub const BUILT_IN: &str = "built into kdbg";

/// A file that was found, and where.
struct Found {
    /// The folder on disk; none for a built-in file.
    folder: Option<PathBuf>,
    origin: String,
    text: String,
}

/// Finds and reads everything that a recipe names.
pub fn resolve(loaded: &Loaded) -> Result<Resolved> {
    Ok(Resolved { fragments: fragments::fragments(loaded)?, patches: patches(loaded)?, image: image::image(loaded)? })
}

fn patches(loaded: &Loaded) -> Result<Vec<Patch>> {
    let numbered = loaded.recipe.kernel.patches.iter().enumerate();
    let read = numbered.map(|(index, name)| {
        let at = format!("kernel.patches[{index}]");
        let place = Place { loaded, site: Site::Recipe(at), what: "patch", folder: "patches", suffix: "" };
        Ok(Patch { name: name.clone(), text: place.find(name)?.text })
    });
    read.collect()
}

/// The kernel that the recipe is on, with the paths that it names found in the recipe's folder.
///
/// # Errors
/// There is no such file or folder, or a symbolic link leads out of the recipe's folder.
pub fn kernel(loaded: &Loaded) -> Result<KernelChoice> {
    let choice = loaded.recipe.kernel.choice().ok_or_else(|| Error::recipe("the recipe names no kernel"))?;
    Ok(match choice {
        KernelChoice::Source(Source::Archive(path)) => {
            KernelChoice::Source(Source::Archive(beside(loaded, "archive", &path)?))
        }
        KernelChoice::Source(Source::Tree(path)) => KernelChoice::Source(Source::Tree(beside(loaded, "tree", &path)?)),
        other => other,
    })
}

/// A file or folder that is in the recipe's own folder.
fn beside(loaded: &Loaded, key: &str, path: &Path) -> Result<PathBuf> {
    let own = match loaded.folder() {
        folder if folder == Path::new("") => Path::new("."),
        folder => folder,
    };
    let at = format!("kernel.source.{key}");
    let cannot = |why: &str| {
        let message = format!("the {key} {} cannot be taken", own.join(path).display());
        loaded.diagnose(&at, message, why, &[])
    };
    let real = own.join(path).canonicalize().map_err(|error| cannot(&error.to_string()))?;
    let inside = own.canonicalize().is_ok_and(|own| real.starts_with(own));
    match (key, inside) {
        (_, false) => Err(cannot("a symbolic link leads out of the recipe's folder")),
        ("tree", true) if !real.is_dir() => Err(cannot("this is not a folder")),
        ("archive", true) if !real.is_file() => Err(cannot("this is not a file")),
        _ => Ok(real),
    }
}

/// The text of a file [inside](path_inside) `folder`.
fn read_inside(folder: &Path, file: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path_inside(folder, file)?)
}

/// The path of a file that really is in `folder`, and where that folder really is its parent's: a recipe that came with
/// symbolic links must not read the host's files.
fn path_inside(folder: &Path, file: &str) -> std::io::Result<PathBuf> {
    let path = folder.join(file).canonicalize()?;
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let real = parent.canonicalize()?.join(folder.file_name().unwrap_or_default());
    if !path.starts_with(&real) {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "a symbolic link leads out of its folder"));
    }
    if !path.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "this is not a file"));
    }
    Ok(path)
}

/// Where a name stands.
enum Site<'l> {
    /// At this path of the recipe.
    Recipe(String),
    /// In a file that the recipe names: how that is called, what it says, and the place in it.
    File { file: &'l str, text: &'l str, span: Span },
}

impl Site<'_> {
    fn diagnose(&self, loaded: &Loaded, message: String, label: &str, helps: &[String]) -> Error {
        match self {
            Site::Recipe(at) => loaded.diagnose(at, message, label, helps),
            Site::File { file, text, span } => {
                let wrong = Diagnostic { helps: helps.to_vec(), ..Diagnostic::new(message, *span, label) };
                diagnostic::error(file, text, &[wrong])
            }
        }
    }
}

/// One name that stands for a file.
struct Place<'l> {
    loaded: &'l Loaded,
    site: Site<'l>,
    what: &'static str,
    folder: &'static str,
    suffix: &'static str,
}

impl Place<'_> {
    /// The folders that are searched, in order.
    fn folders(&self) -> [PathBuf; 2] {
        let beside = self.loaded.folder();
        let above = match beside.components().next_back() {
            Some(Component::Normal(_)) => beside.parent().map(Path::to_path_buf).unwrap_or_default(),
            _ => beside.join(".."),
        };
        [beside.join(self.folder), above.join(self.folder)]
    }

    fn plural(&self) -> String {
        if self.what == "patch" { "patches".into() } else { format!("{}s", self.what) }
    }

    fn find(&self, name: &str) -> Result<Found> {
        let file = format!("{name}{}", self.suffix);
        for folder in self.folders() {
            let path = folder.join(&file);
            match read_inside(&folder, &file) {
                Ok(text) => return Ok(Found { folder: Some(folder), origin: path.display().to_string(), text }),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                    let message = format!("the {} {} cannot be taken", self.what, path.display());
                    return Err(self.site.diagnose(self.loaded, message, &error.to_string(), &[]));
                }
                Err(error) => return Err(error).or_host(format_args!("read {}", path.display())),
            }
        }
        match builtin::file(&format!("{}/{file}", self.folder)) {
            Some(text) => Ok(Found { folder: None, origin: BUILT_IN.into(), text: text.into() }),
            None => Err(self.unknown(name)),
        }
    }

    /// Nothing has that name: says what is close, what exists and where it was looked for.
    fn unknown(&self, name: &str) -> Error {
        let mut names: Vec<String> = builtin::names(self.folder, self.suffix).map(str::to_owned).collect();
        for entry in self.folders().iter().flat_map(std::fs::read_dir).flatten().flatten() {
            names.extend(entry.file_name().to_str().and_then(|file| file.strip_suffix(self.suffix)).map(str::to_owned));
        }
        names.sort();
        names.dedup();
        let found = names;
        let names = || found.iter().map(String::as_str);
        let known = match found.is_empty() {
            true => format!("there are no files in the folder `{}`", self.folder),
            false => format!("the {} are {}", self.plural(), spelling::listed(names())),
        };
        let near = spelling::did_you_mean(name, names());
        let searched = self.folders().map(|folder| folder.join(format!("{name}{}", self.suffix)).display().to_string());
        let helps = [
            near.map_or(known.clone(), |near| format!("{near}\n{known}")),
            format!("looked for {} and among those {BUILT_IN}", searched.join(", ")),
        ];
        self.site.diagnose(self.loaded, format!("there is no {} `{name}`", self.what), "", &helps)
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    const RECIPE: &str = "name: a\nkernel: { version: \"6.1\", config: [base, mine] }\nguest: { image: tiny }\n";

    /// A folder with `recipes/a.yaml` and those files; what `resolve` says of the recipe.
    fn resolved(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Resolved>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("recipes/a.yaml", RECIPE)].iter().chain(files) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = load::load(&folder.path().join("recipes/a.yaml")).unwrap();
        let resolved = resolve(&loaded);
        (folder, resolved)
    }

    /// What a failed `resolve` says, with the temporary folder's name taken out.
    fn complaint(files: &[(&str, &str)]) -> String {
        let (folder, resolved) = resolved(files);
        resolved.unwrap_err().message.replace(folder.path().to_str().unwrap(), "DIR")
    }

    #[test]
    fn every_recipe_of_the_repository_loads_and_resolves() {
        let files = load::recipes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes"));
        assert!(files.len() >= 2);
        for file in files {
            let resolved =
                resolve(&load::load(&file).unwrap_or_else(|e| panic!("{e}"))).unwrap_or_else(|e| panic!("{e}"));
            assert!(resolved.image.init.starts_with("#!"), "{}", file.display());
        }
    }

    #[test]
    fn the_nearest_file_comes_first_and_built_in_ones_last() {
        let (folder, resolved) = resolved(&[
            ("recipes/kconfigs/mine.config", "beside"),
            ("kconfigs/mine.config", "above"),
            ("images/tiny.yaml", "name: tiny\ninit: start\n"),
            ("images/start", "#!/bin/sh\n"),
        ]);
        let resolved = resolved.unwrap();
        let origin = |fragment: &Fragment| fragment.origin.replace(folder.path().to_str().unwrap(), "DIR");
        let origins: Vec<_> = resolved.fragments.iter().map(origin).collect();
        assert_eq!(origins, [BUILT_IN, "DIR/recipes/kconfigs/mine.config"]);
        assert_eq!((resolved.fragments[1].text.as_str(), resolved.image.init.as_str()), ("beside", "#!/bin/sh\n"));
        assert_eq!(resolved.image.name, "tiny");
    }

    #[test]
    fn nothing_is_read_through_a_link_that_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for place in ["recipes/kconfigs", "recipes/images", "outside"] {
            std::fs::create_dir_all(path(place)).unwrap();
        }
        std::fs::write(path("recipes/a.yaml"), RECIPE).unwrap();
        std::fs::write(path("outside/secret"), "name: secret\n").unwrap();
        std::fs::write(path("recipes/kconfigs/real.config"), "").unwrap();
        std::fs::write(path("recipes/images/tiny.yaml"), "name: tiny\ninit: start\n").unwrap();
        let link = |to: &str, from: &str| {
            let _ = std::fs::remove_file(path(from));
            std::os::unix::fs::symlink(to, path(from)).unwrap();
        };
        let said = || resolve(&load::load(&path("recipes/a.yaml")).unwrap()).map_err(|error| error.message);

        link("../../outside/secret", "recipes/kconfigs/mine.config");
        let message = said().unwrap_err();
        assert!(message.contains("kconfigs/mine.config cannot be taken"), "{message}");
        assert!(
            message.contains("a symbolic link leads out of its folder") && !message.contains("secret"),
            "{message}"
        );
        link("real.config", "recipes/kconfigs/mine.config");

        link(path("outside/secret").to_str().unwrap(), "recipes/images/start");
        let message = said().unwrap_err();
        assert!(message.contains("images/start cannot be taken") && message.contains("leads out"), "{message}");
        std::fs::remove_file(path("recipes/images/start")).unwrap();
        std::fs::write(path("recipes/images/start"), "#!/bin/sh\n").unwrap();
        assert_eq!(said().unwrap().image.init, "#!/bin/sh\n");

        std::fs::rename(path("recipes/images"), path("outside/images")).unwrap();
        link("../outside/images", "recipes/images");
        assert!(said().unwrap_err().contains("leads out of its folder"), "a folder that is a link");
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let mine = ("kconfigs/mine.config", "");
        let mut said = vec![complaint(&[("kconfigs/mines.config", "")]), complaint(&[mine])];
        for image in ["name: tiny\ninti: x\n", "name: tiny\ninit: start\n", ""] {
            said.push(complaint(&[mine, ("images/tiny.yaml", image)]));
        }
        let said = said.join("\n\nerror: ");
        insta::assert_snapshot!(said);
    }
}
