//! Values that have the right type and make no sense: everything that can be said without a kernel at hand.
//!
//! Pure. Collects all it finds, so that one look at the error is enough to mend the recipe.

mod capture;
mod image;
mod kernel;
mod network;
mod probe;
mod step;
mod topology;

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Objection, Span};
use super::image::is_plain_name;
use super::locate::{Outline, Part};
use super::point::is_identifier;
use super::types::{Comparison, ExpectSpec, GuestSpec, MOST_CPUS, ProbeSpec, Recipe};
use crate::spelling;

pub(super) use image::image;
pub(crate) use kernel::{VERSION_HELP, is_image_package, is_revision, is_version};

/// All that is wrong with a recipe, in the order of its parts.
pub(super) fn check(recipe: &Recipe, outline: &Outline<'_>) -> Vec<Diagnostic> {
    let mut checker = Checker { outline, found: Vec::new() };
    checker.heading(recipe);
    checker.kernel(&recipe.kernel);
    checker.guest(&recipe.guest);
    let mut names = BTreeSet::new();
    for (index, probe) in recipe.probes.iter().enumerate() {
        checker.name("probe", &format!("probes[{index}].name"), &probe.name, &mut names);
        checker.probe(&format!("probes[{index}]"), probe);
        checker.armed_when(&format!("probes[{index}]"), probe, recipe);
    }
    let mut names = BTreeSet::new();
    for (index, step) in recipe.trigger.iter().enumerate() {
        checker.name("step", &format!("trigger[{index}].name"), &step.name, &mut names);
        checker.step(&format!("trigger[{index}]"), step, &recipe.guest.network);
    }
    checker.fetched(&recipe.trigger);
    for (index, expect) in recipe.expect.iter().enumerate() {
        checker.expectation(&format!("expect[{index}]"), expect, &recipe.probes);
    }
    checker.found
}

struct Checker<'o, 't> {
    outline: &'o Outline<'t>,
    found: Vec<Diagnostic>,
}

impl Checker<'_, '_> {
    fn heading(&mut self, recipe: &Recipe) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = &recipe.name;
        if !name.starts_with(plain) || !name.chars().all(|c| plain(c) || matches!(c, '-' | '_')) {
            let mended: String = name.to_lowercase().replace([' ', '.', '/'], "-");
            self.value("name", format!("`{name}` cannot name a recipe"), "it becomes the name of a folder").help(
                format!(
                    "use lower-case letters, digits, `-` and `_`{}",
                    if mended.starts_with(plain) { format!(", like `{mended}`") } else { String::new() }
                ),
            );
        }
        if recipe.about.trim().contains('\n') {
            self.value("about", "`about` must be one line", "").help("put the rest into a comment");
        }
    }

    fn guest(&mut self, guest: &GuestSpec) {
        self.plain_name("guest.image", "an image", &guest.image, "images/NAME.yaml");
        if !(1..=MOST_CPUS).contains(&guest.cpus) {
            let range = format!("must be 1 to {MOST_CPUS}");
            self.value("guest.cpus", format!("a guest cannot have {} CPUs", guest.cpus), range);
        }
        if !(64..=64 << 10).contains(&guest.memory.mebibytes) {
            self.value("guest.memory", format!("a guest cannot have {} of memory", guest.memory), "must be 64M to 64G");
        }
        self.network(&guest.network);
        self.capture(&guest.network);
    }

    fn expectation(&mut self, path: &str, expect: &ExpectSpec, probes: &[ProbeSpec]) {
        let Some(probe) = probes.iter().find(|probe| probe.name == expect.probe) else {
            let names = || probes.iter().map(|probe| probe.name.as_str()).filter(|name| !name.is_empty());
            let all = match probes {
                [] => "the recipe has no probes".to_owned(),
                _ => format!("the probes are {}", spelling::listed(names())),
            };
            let help =
                spelling::did_you_mean(&expect.probe, names()).map_or(all.clone(), |near| format!("{near}\n{all}"));
            self.value(&format!("{path}.probe"), format!("there is no probe `{}`", expect.probe), "").help(help);
            return;
        };
        let hits = expect.hits;
        if hits.comparison != Comparison::AtMost && hits.count > probe.limit && probe.limit > 0 {
            let message = format!("probe `{}` cannot be hit {} times", probe.name, hits.count);
            self.value(&format!("{path}.hits"), message, format!("it is disarmed after {}", probe.limit))
                .help(format!("raise the probe's limit: `limit: {}`", hits.count));
        }
        if probe.log.is_some() && !expect.through.is_empty() {
            let message = format!("the hits of probe `{}` have no stack", probe.name);
            self.key(&format!("{path}.through"), message, "nothing to look through")
                .help(format!("`{}` only logs: take `log` away from it, or add a probe there without", probe.name));
        }
        for (index, function) in expect.through.iter().enumerate() {
            if !is_identifier(function) {
                let at = format!("{path}.through[{index}]");
                self.value(&at, format!("`{function}` is not the name of a function"), "")
                    .help("`through` lists C functions, without suffixes like `.isra.0`");
            }
        }
    }

    /// Names of probes and steps: one line, not empty, unique.
    fn name<'n>(&mut self, what: &str, at: &str, name: &'n str, seen: &mut BTreeSet<&'n str>) {
        if name.trim().is_empty() {
            self.value(at, format!("a {what} needs a name"), "empty");
        } else if name.chars().any(char::is_control) {
            self.value(at, format!("the name of a {what} must be one line"), "");
        } else if !seen.insert(name) {
            self.value(at, format!("two {what}s are named `{name}`"), "second time").help("give each its own name");
        }
    }

    /// Names that become names of files.
    fn plain_name(&mut self, at: &str, what: &str, name: &str, file: &str) {
        if !is_plain_name(name) {
            self.value(at, format!("`{name}` is not the name of {what}"), format!("it stands for NAME in {file}"))
                .help("a recipe cannot name files outside its own folders: no `/`, no `..`");
        }
    }

    fn objection(&mut self, at: &str, value: &str, context: &str, objection: Objection) {
        let span = self.outline.find_in(at, value, &objection);
        let message = format!("{context}: {}", objection.message.replace('\n', "\\n"));
        self.push(message, span, objection.label).help(objection.help);
    }

    fn value(&mut self, at: &str, message: impl Into<String>, label: impl Into<String>) -> Last<'_> {
        self.push(message, self.outline.find(at, Part::Value), label)
    }

    fn key(&mut self, at: &str, message: impl Into<String>, label: impl Into<String>) -> Last<'_> {
        self.push(message, self.outline.find(at, Part::Key), label)
    }

    fn push(&mut self, message: impl Into<String>, span: Span, label: impl Into<String>) -> Last<'_> {
        self.found.push(Diagnostic::new(message, span, label));
        Last(&mut self.found)
    }
}

/// The diagnostic that was added last, to add help to.
struct Last<'f>(&'f mut Vec<Diagnostic>);

impl Last<'_> {
    fn help(self, help: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.helps.push(help.into());
        }
    }
}
