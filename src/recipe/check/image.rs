//! Values in an image file that have the right type and make no sense. Pure, as [`super`].

use std::collections::BTreeSet;

use super::{Checker, Diagnostic, Outline};
use crate::recipe::image::{ImageSpec, is_guest_path, is_package, is_plain_name, is_sysctl, is_user};

/// All that is wrong with an image, in the order of its parts.
pub(crate) fn image(spec: &ImageSpec, outline: &Outline<'_>) -> Vec<Diagnostic> {
    let mut checker = Checker { outline, found: Vec::new() };
    checker.plain_name("name", "an image", &spec.name, "images/NAME.yaml");
    if let Some(init) = &spec.init {
        checker.file("init", init);
    }
    checker.names("include", &spec.include, is_plain_name, "an image", "name an image without its folder and `.yaml`");
    checker.names(
        "programs",
        &spec.programs,
        is_plain_name,
        "a program",
        "name a program that is on PATH, without its folder",
    );
    checker.names(
        "libraries",
        &spec.libraries,
        is_plain_name,
        "a library",
        "name a library (`libnss_files.so.2`), or a folder of them (`xtables`), that is in one of the host's library folders",
    );
    checker.names(
        "packages",
        &spec.packages,
        is_package,
        "a package",
        "name a Debian package, or one of a certain version as `NAME=VERSION`",
    );
    for (path, file) in &spec.files {
        checker.guest_path("files", path);
        checker.file(&format!("files.{path}"), file);
    }
    for (path, target) in &spec.links {
        checker.guest_path("links", path);
        if !is_guest_path(target) && !is_plain_name(target) {
            checker
                .value(&format!("links.{path}"), format!("a link cannot lead to `{target}`"), "")
                .help("name a path from the root on, without `..`, or what is in the same folder");
        }
    }
    checker.names(
        "users",
        &spec.users,
        is_user,
        "a user",
        "use lower-case letters, digits, `-` and `_`; root is always there",
    );
    for (key, value) in &spec.sysctls {
        let at = format!("sysctls.{key}");
        if !is_sysctl(key) {
            checker
                .key(&at, format!("`{key}` names nothing below /proc/sys"), "")
                .help("write it like `net.ipv4.ip_forward`");
        }
        if value.0.is_empty() || !value.0.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            checker.value(&at, format!("`{key}` cannot be set to this"), "one line of printable ASCII");
        }
    }
    checker.found
}

impl Checker<'_, '_> {
    /// Names of a list: each of its kind, and there once.
    fn names(&mut self, key: &str, names: &[String], is_one: fn(&str) -> bool, what: &str, help: &str) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let at = format!("{key}[{index}]");
            if !is_one(name) {
                self.value(&at, format!("`{name}` is not the name of {what}"), "").help(help);
            } else if !seen.insert(name) {
                self.value(&at, format!("`{name}` is there twice"), "second time");
            }
        }
    }

    fn file(&mut self, at: &str, name: &str) {
        if !is_plain_name(name) {
            self.value(at, format!("`{name}` is not the name of a file beside the image's"), "")
                .help("a recipe cannot name files outside its own folders: no `/`, no `..`");
        }
    }

    fn guest_path(&mut self, key: &str, path: &str) {
        if !is_guest_path(path) {
            self.key(&format!("{key}.{path}"), format!("`{path}` is not a path in the guest"), "")
                .help("write it from the root on, without `..`, blanks and quotes, like `/etc/hosts`");
        }
    }
}
