//! What makes no sense below `kernel`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::Checker;
use crate::recipe::image::is_plain_name;
use crate::recipe::kernel::{ARCHIVE_SUFFIXES, KernelSpec, SourceSpec};
use crate::spelling;

/// `net/` or `net/socket.c`.
fn is_tree_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '/');
    let parts = path.strip_suffix('/').unwrap_or(path).split('/');
    (path.ends_with('/') || path.ends_with(".c"))
        && path.chars().all(plain)
        && parts.into_iter().all(|part| !part.is_empty() && !part.starts_with('.'))
}

impl Checker<'_, '_> {
    pub(super) fn kernel(&mut self, kernel: &KernelSpec) {
        self.one_origin(kernel);
        self.versions(&kernel.version);
        self.packages(&kernel.package);
        if let Some(source) = &kernel.source {
            self.source(source);
        }
        self.patches(kernel);
        self.build_of_a_package();
        self.fragments(&kernel.config);
        self.options(kernel);
        self.modules(kernel);
        self.debuggable(kernel);
    }

    fn modules(&mut self, kernel: &KernelSpec) {
        let mut seen = BTreeSet::new();
        for (at, name) in kernel.modules.places() {
            if !is_plain_name(name) {
                self.value(&at, format!("`{name}` is not the name of a kernel module"), "")
                    .help("write it as `modprobe` has it, like `nf_conntrack`");
            } else if !seen.insert(name.replace('-', "_")) {
                self.value(&at, format!("the module `{name}` is listed twice"), "second time");
            }
        }
    }

    /// Paths in the tree, and only where something is compiled.
    fn debuggable(&mut self, kernel: &KernelSpec) {
        let mut seen = BTreeSet::new();
        for (index, path) in kernel.debuggable.iter().enumerate() {
            let at = format!("kernel.debuggable[{index}]");
            if !is_tree_path(path) {
                let message = format!("`{path}` is no directory or C file of a kernel tree");
                self.value(&at, message, "relative to the tree, without `..`")
                    .help("a directory ends in `/`, like `net/`; a file in `.c`, like `net/socket.c`");
            } else if !seen.insert(path) {
                self.value(&at, format!("`{path}` is listed twice"), "second time");
            }
        }
        if !kernel.debuggable.is_empty() && !kernel.package.is_empty() {
            self.key("kernel.debuggable", "a package is not compiled", "needs a `version` or a `source`");
        }
    }

    /// Exactly one of the keys that say where the kernel comes from.
    fn one_origin(&mut self, kernel: &KernelSpec) {
        let written = |key: &str| self.outline.has(&format!("kernel.{key}"));
        let keys: Vec<&str> = ["version", "source", "package"].into_iter().filter(|key| written(key)).collect();
        match keys[..] {
            [] => {
                self.key("kernel", "`kernel` has no `version`", "nothing here says which kernel").help(
                    "name one, like `version: \"6.1\"`, or a `source` or a `package`; docs/recipe.md explains them",
                );
            }
            [_] => {}
            [first, second, ..] => {
                let at = format!("kernel.{second}");
                let message = format!("`kernel` has both `{first}` and `{second}`");
                self.key(&at, message, "a kernel comes from one place").help("write two recipes, or use --kernel");
            }
        }
        let empty = |key: &str, list: &[String]| keys.contains(&key) && list.is_empty();
        let (no_version, no_package) = (empty("version", &kernel.version), empty("package", &kernel.package));
        if no_version {
            self.value("kernel.version", "no kernel version", "the list is empty").help("name one, like `\"6.1\"`");
        }
        if no_package {
            let example = "name one, like `linux-image-6.1.0-40-cloud-amd64`";
            self.value("kernel.package", "no kernel package", "the list is empty").help(example);
        }
    }

    fn versions(&mut self, versions: &[String]) {
        let mut seen = BTreeSet::new();
        for (index, version) in versions.iter().enumerate() {
            // A version that stands alone is not in a list; its place is found all the same.
            let at = format!("kernel.version[{index}]");
            if !is_version(version) {
                self.value(&at, format!("`{version}` is not a kernel version"), "").help(VERSION_HELP);
            } else if !seen.insert(version) {
                self.value(&at, format!("the kernel version `{version}` is listed twice"), "second time");
            }
        }
    }

    fn packages(&mut self, packages: &[String]) {
        let mut seen = BTreeSet::new();
        for (index, package) in packages.iter().enumerate() {
            let at = format!("kernel.package[{index}]");
            if !is_image_package(package) {
                self.value(&at, format!("`{package}` is not the name of a kernel's package"), "").help(PACKAGE_HELP);
            } else if !seen.insert(package) {
                self.value(&at, format!("the package `{package}` is listed twice"), "second time");
            }
        }
    }

    fn source(&mut self, source: &SourceSpec) {
        let keys = [("url", &source.url), ("archive", &source.archive), ("tree", &source.tree), ("git", &source.git)];
        let written: Vec<(&str, &str)> =
            keys.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect();
        let [(kind, value)] = written[..] else {
            let message = match written[..] {
                [] => "`kernel.source` does not say where".to_string(),
                _ => format!("`kernel.source` has {}", spelling::listed(written.iter().map(|(key, _)| *key))),
            };
            self.key("kernel.source", message, "must have exactly one of `url`, `archive`, `tree` and `git`");
            return;
        };
        let at = format!("kernel.source.{kind}");
        match kind {
            "url" => self.url(&at, value),
            "git" => self.repository(&at, value),
            _ => self.inner_path(&at, kind, value),
        }
        self.companion("sha256", source.sha256.as_deref(), kind == "url", is_sha256, SHA256_HELP);
        self.companion("revision", source.revision.as_deref(), kind == "git", is_revision, REVISION_HELP);
    }

    /// A key that goes with one kind of source and is required there.
    fn companion(&mut self, key: &str, value: Option<&str>, wanted: bool, is_good: fn(&str) -> bool, help: &str) {
        let at = format!("kernel.source.{key}");
        match (value, wanted) {
            (None, true) => {
                self.key("kernel.source", format!("`kernel.source` has no `{key}`"), "it is missing here").help(help);
            }
            (Some(_), false) => {
                let kind = if key == "sha256" { "url" } else { "git" };
                self.key(&at, format!("`{key}` goes with `{kind}`"), "take it out");
            }
            (Some(value), true) if !is_good(value) => {
                self.value(&at, format!("`{value}` cannot be a {key}"), "").help(help);
            }
            _ => {}
        }
    }

    fn url(&mut self, at: &str, url: &str) {
        let archive = ARCHIVE_SUFFIXES.iter().any(|suffix| url.ends_with(suffix));
        if !is_url(url, &["https", "http"]) || !archive {
            self.value(at, format!("`{url}` is not the address of an archive"), "")
                .help(format!("write an https:// or http:// address that ends in {}", ARCHIVE_SUFFIXES.join(", ")));
        }
    }

    fn repository(&mut self, at: &str, url: &str) {
        if !is_url(url, &["https", "ssh", "git"]) {
            self.value(at, format!("`{url}` is not the address of a git repository"), "").help(
                "write an https://, ssh:// or git:// address; \
                 a repository on this host is named on the command line: --kernel PATH@REVISION",
            );
        }
    }

    fn inner_path(&mut self, at: &str, kind: &str, path: &str) {
        let inner = !path.is_empty()
            && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
            && !path.contains(char::is_control);
        if !inner {
            self.value(at, format!("`{path}` is not in the recipe's folder"), "")
                .help("a recipe cannot name files outside its own folder; for one elsewhere use --kernel PATH");
        } else if kind == "archive" && !ARCHIVE_SUFFIXES.iter().any(|suffix| path.ends_with(suffix)) {
            self.value(at, format!("`{path}` is not an archive that kdbg unpacks"), "")
                .help(format!("its name must end in {}", ARCHIVE_SUFFIXES.join(", ")));
        }
    }

    fn patches(&mut self, kernel: &KernelSpec) {
        let mut seen = BTreeSet::new();
        for (index, patch) in kernel.patches.iter().enumerate() {
            let at = format!("kernel.patches[{index}]");
            self.plain_name(&at, "a patch", patch, "patches/NAME");
            if !seen.insert(patch) {
                self.value(&at, format!("the patch `{patch}` is listed twice"), "second time");
            }
        }
    }

    /// What is asked of a build cannot be had of a kernel that is built already.
    fn build_of_a_package(&mut self) {
        if !self.outline.has("kernel.package") {
            return;
        }
        for key in ["patches", "config", "options"] {
            let at = format!("kernel.{key}");
            if self.outline.has(&at) {
                self.key(&at, format!("`{key}` cannot go with `package`"), "its kernel is built already")
                    .help(format!("name a `version` or a `source` instead of the package, or take `{key}` out"));
            }
        }
    }

    fn fragments(&mut self, fragments: &[String]) {
        let mut seen = BTreeSet::new();
        for (index, fragment) in fragments.iter().enumerate() {
            let at = format!("kernel.config[{index}]");
            self.plain_name(&at, "a fragment", fragment, "kconfigs/NAME.config");
            if !seen.insert(fragment) {
                self.value(&at, format!("the fragment `{fragment}` is listed twice"), "second time");
            }
        }
    }

    fn options(&mut self, kernel: &KernelSpec) {
        for (symbol, value) in &kernel.options {
            let at = format!("kernel.options.{symbol}");
            let upper = symbol.to_uppercase();
            let bare = upper.strip_prefix("CONFIG_").unwrap_or(&upper);
            if symbol != bare || !is_symbol(symbol) {
                let label = if upper.starts_with("CONFIG_") { "the prefix `CONFIG_` is implied" } else { "" };
                let wrong = self.key(&at, format!("`{symbol}` is not the name of a kernel option"), label);
                if is_symbol(bare) {
                    wrong.help(format!("write `{bare}`"));
                } else {
                    wrong.help("an option is written in capitals, digits and `_`, like `NETFILTER: y`");
                }
            }
            if value.0.chars().any(char::is_control) {
                self.value(&at, format!("the value of `{symbol}` must be one line"), "");
            }
        }
    }
}

/// How a version is written.
pub(crate) const VERSION_HELP: &str = "write a series like `\"6.1\"` or a release like `\"6.1.192\"`";
/// How a package is written.
const PACKAGE_HELP: &str = "a kernel's package is called `linux-image-…`, like `linux-image-6.1.0-40-cloud-amd64`";
const SHA256_HELP: &str = "64 hexadecimal digits: kernel.org lists them in sha256sums.asc beside its archives, `sha256sum FILE` computes them";
const REVISION_HELP: &str = "name a tag, a branch or a commit, like `revision: v6.1.192`";

/// `6.1` or `6.1.192`.
pub(crate) fn is_version(text: &str) -> bool {
    let number = |part: &str| (1..=4).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
    matches!(text.split('.').count(), 2 | 3) && text.split('.').all(number)
}

/// `linux-image-6.1.0-40-cloud-amd64`.
pub(crate) fn is_image_package(text: &str) -> bool {
    text.strip_prefix("linux-image-").is_some_and(|rest| !rest.is_empty() && is_plain_name(text))
}

/// What git takes for a revision and not for an option, and what is in no shell's or file system's way.
pub(crate) fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/+-^~@{}".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) && text.len() < 200
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// An address of one of these schemes, with a host.
fn is_url(text: &str, schemes: &[&str]) -> bool {
    let rest = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
        && text.chars().all(|c| c.is_ascii_graphic())
}

/// A Kconfig symbol.
fn is_symbol(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
