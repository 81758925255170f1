//! Which kernel a recipe is about: the keys below `kernel`, and what each of them comes to.
//!
//! Pure. Whether there is such a kernel, and where, is the kernel room's business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use super::modules::ModulesSpec;
use super::types::OptionValue;

/// Which kernel: where it comes from, fragments, and options on top.
///
/// Of `version`, `source` and `package` a recipe has exactly one; `check` sees to that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelSpec {
    /// Versions, like `"6.1"`; several make a matrix.
    #[serde(deserialize_with = "one_or_several_versions")]
    pub version: Vec<String>,
    /// One source that is named, instead of a version to be found.
    pub source: Option<SourceSpec>,
    /// A distribution's binary kernels, like `linux-image-6.1.0-40-cloud-amd64`: nothing is built then.
    #[serde(deserialize_with = "one_or_several_packages")]
    pub package: Vec<String>,
    /// Patches in `patches/`, applied in this order.
    pub patches: Vec<String>,
    /// Fragments in `kconfigs/`, merged in this order.
    pub config: Vec<String>,
    /// Kconfig symbols (without `CONFIG_`) on top of the fragments.
    pub options: BTreeMap<String, OptionValue>,
    /// Kernel modules in the guest.
    pub modules: ModulesSpec,
    /// Directories (`net/`) and files (`net/socket.c`) of the tree that are compiled for debugging.
    pub debuggable: Vec<String>,
    /// The one that a run is on: of those above, or named on the command line instead.
    #[serde(skip)]
    pub chosen: Option<KernelChoice>,
}

impl Default for KernelSpec {
    fn default() -> Self {
        KernelSpec {
            version: Vec::new(),
            source: None,
            package: Vec::new(),
            patches: Vec::new(),
            config: vec!["base".into(), "net".into()],
            options: BTreeMap::new(),
            modules: ModulesSpec::default(),
            debuggable: Vec::new(),
            chosen: None,
        }
    }
}

impl KernelSpec {
    /// All kernels that the recipe names, each with the path of its value, like `kernel.version[0]`; the chosen one
    /// alone, once there is one.
    pub fn choices(&self) -> Vec<(String, KernelChoice)> {
        let versions = self.version.iter().map(|version| KernelChoice::Version(version.clone()));
        let packages = self.package.iter().map(|package| KernelChoice::Package(package.clone()));
        let source = self.source.as_ref().and_then(SourceSpec::source).map(KernelChoice::Source);
        let placed = |key: &str, list: &mut dyn Iterator<Item = KernelChoice>| -> Vec<_> {
            list.enumerate().map(|(index, choice)| (format!("kernel.{key}[{index}]"), choice)).collect()
        };
        let mut all = placed("version", &mut versions.into_iter());
        all.extend(placed("package", &mut packages.into_iter()));
        all.extend(source.map(|source| ("kernel.source".to_string(), source)));
        match &self.chosen {
            None => all,
            Some(chosen) => {
                let place = all.into_iter().find(|(_, choice)| choice == chosen).map(|(place, _)| place);
                vec![(place.unwrap_or_default(), chosen.clone())]
            }
        }
    }

    /// The kernel that a run is on: the chosen one, else the first.
    pub fn choice(&self) -> Option<KernelChoice> {
        self.choices().into_iter().map(|(_, choice)| choice).next()
    }
}

/// `kernel.source` as written: exactly one of `url`, `archive`, `tree` and `git`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSpec {
    /// An archive on a server, over HTTP or HTTPS.
    pub url: Option<String>,
    /// The SHA-256 of what `url` names, in hexadecimal.
    pub sha256: Option<String>,
    /// An archive in the recipe's folder.
    pub archive: Option<String>,
    /// A kernel tree in the recipe's folder.
    pub tree: Option<String>,
    /// A git repository's URL.
    pub git: Option<String>,
    /// The revision of that repository.
    pub revision: Option<String>,
}

impl SourceSpec {
    /// What is written, if it is whole.
    pub fn source(&self) -> Option<Source> {
        let text = Clone::clone;
        match (&self.url, &self.archive, &self.tree, &self.git) {
            (Some(url), None, None, None) => {
                Some(Source::Url { url: text(url), sha256: self.sha256.as_ref()?.to_ascii_lowercase() })
            }
            (None, Some(archive), None, None) => Some(Source::Archive(archive.into())),
            (None, None, Some(tree), None) => Some(Source::Tree(tree.into())),
            (None, None, None, Some(git)) => {
                Some(Source::Git { repository: text(git), revision: text(self.revision.as_ref()?) })
            }
            _ => None,
        }
    }
}

/// Where one particular kernel source is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An archive on a server.
    Url {
        /// Its address.
        url: String,
        /// Its SHA-256, in lower-case hexadecimal.
        sha256: String,
    },
    /// An archive. As a recipe writes it, relative to the recipe's folder.
    Archive(PathBuf),
    /// A kernel tree. As a recipe writes it, relative to the recipe's folder.
    Tree(PathBuf),
    /// A revision of a git repository.
    Git {
        /// A URL, or from the command line a path.
        repository: String,
        /// Anything that names a commit there.
        revision: String,
    },
}

/// The kernel that one run is on. Shows as what people call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelChoice {
    /// A version, like `6.1` or `6.1.192`, wherever it may be found.
    Version(String),
    /// A distribution's binary kernel.
    Package(String),
    /// A source that the recipe names.
    Source(Source),
    /// What `--kernel` names on this host: a tree, an archive or a git repository.
    Path {
        /// The tree, archive or repository.
        path: PathBuf,
        /// The revision of a repository, written `PATH@REVISION`.
        revision: Option<String>,
    },
}

impl KernelChoice {
    /// The version or series that it is known to be before anything is looked at.
    pub fn version(&self) -> Option<&str> {
        match self {
            KernelChoice::Version(version) => Some(version),
            _ => None,
        }
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match self {
            KernelChoice::Version(name) | KernelChoice::Package(name) => f.write_str(name),
            KernelChoice::Source(Source::Url { url, .. }) => f.write_str(without_archive_suffix(&last(Path::new(url)))),
            KernelChoice::Source(Source::Archive(path) | Source::Tree(path)) => {
                f.write_str(without_archive_suffix(&last(path)))
            }
            KernelChoice::Source(Source::Git { repository, revision }) => {
                write!(f, "{}@{revision}", last(Path::new(repository)).trim_end_matches(".git"))
            }
            KernelChoice::Path { path, revision: None } => write!(f, "{}", path.display()),
            KernelChoice::Path { path, revision: Some(revision) } => write!(f, "{}@{revision}", path.display()),
        }
    }
}

/// The archives that kdbg unpacks, by the end of their names.
pub const ARCHIVE_SUFFIXES: [&str; 5] = [".tar.xz", ".tar.gz", ".tgz", ".tar.zst", ".tar"];

fn without_archive_suffix(name: &str) -> &str {
    ARCHIVE_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn one_or_several_versions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(OneOrSeveral("a version in quotes, like \"6.1\", or a list of them"))
}

fn one_or_several_packages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(OneOrSeveral("the name of a package, or a list of them"))
}

/// Reads a text or a list of texts; holds what to say of anything else.
struct OneOrSeveral(&'static str);

impl<'de> serde::de::Visitor<'de> for OneOrSeveral {
    type Value = Vec<String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.into()])
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_called_what_people_call_it() {
        let git = |repository: &str| Source::Git { repository: repository.into(), revision: "v6.1".into() };
        let url = Source::Url { url: "https://x/v6.x/linux-6.1.192.tar.xz".into(), sha256: String::new() };
        let path =
            |revision: Option<&str>| KernelChoice::Path { path: "../linux".into(), revision: revision.map(Into::into) };
        for (choice, name) in [
            (KernelChoice::Version("6.1".into()), "6.1"),
            (KernelChoice::Source(url), "linux-6.1.192"),
            (KernelChoice::Source(Source::Archive("src/mine.tar.gz".into())), "mine"),
            (KernelChoice::Source(Source::Tree("src/mine".into())), "mine"),
            (KernelChoice::Source(git("https://x/net-next.git")), "net-next@v6.1"),
            (path(None), "../linux"),
            (path(Some("HEAD~3")), "../linux@HEAD~3"),
        ] {
            assert_eq!(choice.to_string(), name);
        }
    }
}
