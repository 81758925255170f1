//! `kdbg.lock.yaml`: everything that went into a run, resolved, so that two runs can be compared and one repeated; and the recipe
//! as it was.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Order;
use super::boot::Parts;
use crate::digest::sha256;
use crate::error::{Error, IoContext, Result};
use crate::guest::image::key_of;
use crate::package::Set;
use crate::report::model::MachineInfo;

/// The file's name in the run directory.
pub(super) const FILE: &str = "kdbg.lock.yaml";
/// The recipe's, likewise.
const RECIPE: &str = "recipe.yaml";

#[derive(Serialize)]
struct Inputs<'a> {
    kdbg: &'a str,
    recipe: Named<'a>,
    kernel: Kernel<'a>,
    image: Image<'a>,
    machine: &'a MachineInfo,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    sha256: String,
}

#[derive(Serialize)]
struct Kernel<'a> {
    asked: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    /// A distribution's package and its version, in place of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a str>,
    release: &'a str,
    compiler: &'a str,
    patches: Vec<Named<'a>>,
    fragments: Vec<Named<'a>>,
    options: BTreeMap<&'a str, &'a str>,
    debuggable: &'a [String],
    key: &'a str,
    build_id: &'a str,
}

#[derive(Serialize)]
struct Image<'a> {
    name: &'a str,
    /// Made of the content of all that is in it, modules included.
    key: &'a str,
    init_sha256: String,
    programs: Vec<&'a str>,
    /// Debian packages and those that they need, with their versions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    packages: BTreeMap<String, String>,
}

/// Writes both files.
///
/// # Errors
/// One cannot be written.
pub(super) fn write(order: &Order<'_>, parts: Parts<'_>, machine: &MachineInfo) -> Result<()> {
    let kernel = parts.kernel;
    let recipe = &order.loaded.recipe;
    let image = &order.resolved.image;
    let names: Vec<&str> = image.packages().iter().map(|item| item.name).collect();
    let packages = Set::filed(&names, order.cache).map_or(Vec::new(), |set| set.packages);
    let fragment = |fragment: &'_ crate::recipe::Fragment| sha256(fragment.text.as_bytes());
    let inputs = Inputs {
        kdbg: env!("CARGO_PKG_VERSION"),
        recipe: Named { name: &recipe.name, sha256: order.loaded.sha256.clone() },
        kernel: Kernel {
            asked: &kernel.version,
            source: (!kernel.is_packaged()).then_some(kernel.source_id.as_str()),
            package: kernel.is_packaged().then_some(kernel.source_id.as_str()),
            release: &kernel.release,
            compiler: &kernel.compiler,
            patches: order
                .resolved
                .patches
                .iter()
                .map(|patch| Named { name: &patch.name, sha256: sha256(patch.text.as_bytes()) })
                .collect(),
            fragments: order
                .resolved
                .fragments
                .iter()
                .filter(|_| !kernel.is_packaged())
                .map(|found| Named { name: &found.name, sha256: fragment(found) })
                .collect(),
            options: recipe
                .kernel
                .options
                .iter()
                .filter(|_| !kernel.is_packaged())
                .map(|(name, value)| (name.as_str(), value.0.as_str()))
                .collect(),
            debuggable: if kernel.is_packaged() { &[] } else { &recipe.kernel.debuggable },
            key: &kernel.key,
            build_id: &kernel.build_id,
        },
        image: Image {
            name: &image.name,
            key: key_of(&image.name, parts.initramfs),
            init_sha256: sha256(image.init.as_bytes()),
            programs: image.programs().iter().map(|item| item.name).collect(),
            packages: packages.into_iter().map(|package| (package.name, package.version)).collect(),
        },
        machine,
    };
    let text = serde_yaml::to_string(&inputs).map_err(|error| Error::host(error.to_string()))?;
    order.run_dir.write(RECIPE, &order.loaded.text)?;
    std::fs::write(order.run_dir.file(FILE), text).or_host(format!("write {FILE}"))
}
