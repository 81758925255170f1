//! The files that a recipe names: its Kconfig fragments, its image and the image's `init`.
//!
//! Looks beside the recipe, then one folder up, then into kdbg itself ([`crate::builtin`]). Reads files; must not
//! interpret a fragment, which is the kernel's room.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::diagnostic;
use super::image::ImageSpec;
use super::load::{Loaded, document};
use super::spelling;
use crate::builtin;
use crate::error::{Error, IoContext, Result};

/// Everything a recipe names, read.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The fragments, in the order of the recipe.
    pub fragments: Vec<Fragment>,
    /// The guest's image.
    pub image: Image,
}

/// A Kconfig fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Its name in the recipe.
    pub name: String,
    /// Where it comes from: a path, or `built into kdbg`.
    pub origin: String,
    /// What it says.
    pub text: String,
}

/// What the guest's initramfs is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What the image's file says.
    pub spec: ImageSpec,
    /// The text of the script that becomes `/init`.
    pub init: String,
    /// Where the image comes from: a path, or `built into kdbg`.
    pub origin: String,
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
    let mut fragments = Vec::new();
    for (index, name) in loaded.recipe.kernel.config.iter().enumerate() {
        let place = Place {
            loaded,
            at: format!("kernel.config[{index}]"),
            what: "fragment",
            folder: "kconfigs",
            suffix: ".config",
        };
        let found = place.find(name)?;
        fragments.push(Fragment { name: name.clone(), origin: found.origin, text: found.text });
    }
    Ok(Resolved { fragments, image: image(loaded)? })
}

/// Finds and reads the image and its `init`.
fn image(loaded: &Loaded) -> Result<Image> {
    let place = Place { loaded, at: "guest.image".into(), what: "image", folder: "images", suffix: ".yaml" };
    let found = place.find(&loaded.recipe.guest.image)?;
    let spec: ImageSpec =
        document(&found.text, "an image").map_err(|wrong| diagnostic::error(&found.origin, &found.text, &[wrong]))?;
    if let Some((key, name)) = spec.odd_name() {
        let message = format!("{}: `{key}` cannot be `{name}`", found.origin);
        return Err(Error::recipe(message).hint("name a file or program without its folder"));
    }
    let init = match &found.folder {
        Some(folder) => {
            let path = folder.join(&spec.init);
            std::fs::read_to_string(&path).map_err(|error| {
                let message = format!("image `{}`: cannot read its init {}: {error}", spec.name, path.display());
                Error::recipe(message).hint(format!("`init` in {} names a file beside it", found.origin))
            })?
        }
        None => builtin::file(&format!("images/{}", spec.init))
            .ok_or_else(|| Error::recipe(format!("the built-in image `{}` has no {}", spec.name, spec.init)))?
            .to_owned(),
    };
    Ok(Image { spec, init, origin: found.origin })
}

/// One name in a recipe that stands for a file.
struct Place<'l> {
    loaded: &'l Loaded,
    /// Where in the recipe the name stands.
    at: String,
    what: &'static str,
    folder: &'static str,
    suffix: &'static str,
}

impl Place<'_> {
    /// The folders that are searched, in order.
    fn folders(&self) -> [PathBuf; 2] {
        let beside = self.loaded.folder();
        [beside.join(self.folder), beside.join("..").join(self.folder)]
    }

    fn find(&self, name: &str) -> Result<Found> {
        let file = format!("{name}{}", self.suffix);
        for folder in self.folders() {
            let path = folder.join(&file);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Found { folder: Some(folder), origin: path.display().to_string(), text }),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
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
        let names = || names.iter().map(String::as_str);
        let known = format!("the {}s are {}", self.what, spelling::listed(names()));
        let near = spelling::did_you_mean(name, names());
        let searched = self.folders().map(|folder| folder.join(format!("{name}{}", self.suffix)).display().to_string());
        let helps = [
            near.map_or(known.clone(), |near| format!("{near}\n{known}")),
            format!("looked for {} and among those {BUILT_IN}", searched.join(", ")),
        ];
        self.loaded.diagnose(&self.at, format!("there is no {} `{name}`", self.what), "", &helps)
    }
}
