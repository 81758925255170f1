//! Which of the kernel's modules go into the guest: what the recipe asks for and the agent needs, with all they need.

use std::path::PathBuf;

use super::Order;
use crate::error::{Error, Result};
use crate::guest::image::modules::{ModuleFile, Modules, NEEDED, NIC};
use crate::kernel::KernelBuild;
use crate::kernel::modules::{Missing, Module, contents};
use crate::recipe::network::NetworkMode;

/// The modules of a guest, and where each one's debug information is.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// For the image.
    pub(super) guest: Modules,
    /// By the module's name; those without debug information are left out.
    pub(super) debug: Vec<(String, PathBuf)>,
}

/// Finds and reads the modules that the recipe wants in the guest.
///
/// # Errors
/// The kernel has no such module (at its line of the recipe), or a file cannot be read.
pub(super) fn choose(order: &Order<'_>, kernel: &KernelBuild) -> Result<Chosen> {
    let spec = &order.loaded.recipe.kernel.modules;
    let index = &kernel.modules.index;
    for (at, name) in spec.places() {
        if index.is_built_in(name) {
            order.events.fact("module", format!("{name} is built into this kernel"));
        }
        index.in_order([name]).map_err(|missing| explain(order, kernel, &at, name, &missing))?;
    }
    let names = |modules: Vec<&Module>| modules.into_iter().map(Module::name).collect::<Vec<_>>();
    let broken = |missing: Missing| Error::kernel(format!("module `{}` is missing", missing.name));
    let nic = (order.loaded.recipe.guest.network.mode == NetworkMode::User).then_some(NIC);
    let needed = NEEDED.into_iter().chain(nic).filter(|name| index.get(name).is_some());
    let at_boot = index.in_order(needed.chain(spec.load.iter().map(String::as_str))).map_err(broken)?;
    let at_boot = names(at_boot);
    let all = at_boot.iter().chain(&spec.available).map(String::as_str);
    let mut chosen = Chosen::default();
    for module in index.in_order(all).map_err(broken)? {
        let name = module.name();
        let before = index.in_order([name.as_str()]).map_err(broken)?;
        let before = before.into_iter().take_while(|other| *other != module);
        let mut needs: Vec<String> = before.map(plain_path).collect();
        needs.reverse();
        let data = contents(&kernel.modules.file(module))?;
        chosen.debug.extend(kernel.modules.debug_file(module).map(|debug| (name.clone(), debug)));
        let aliases = module.aliases.clone();
        chosen.guest.files.push(ModuleFile { path: plain_path(module), name, data, needs, aliases });
    }
    chosen.guest.release.clone_from(&kernel.release);
    chosen.guest.at_boot = at_boot;
    Ok(chosen)
}

/// A module's path in the guest, where it is not compressed.
fn plain_path(module: &Module) -> String {
    module.path.trim_end_matches(".xz").trim_end_matches(".zst").into()
}

fn explain(order: &Order<'_>, kernel: &KernelBuild, at: &str, name: &str, missing: &Missing) -> Error {
    let KernelBuild { release, key, .. } = kernel;
    let label = match &missing.needed_by {
        Some(by) => format!("`{by}` needs `{}`, which is not in {release} ({key})", missing.name),
        None => format!("not in {release} ({key})"),
    };
    let near = (!missing.near.is_empty()).then(|| format!("close by: {}", missing.near.join(", ")));
    let advice = match kernel.is_packaged() {
        true => {
            "this kernel has the modules that its distribution built; for another one, have a kernel built: `version` and `options` instead of `package`"
        }
        false => "a module is built where its option is `m`, as in `options: { MODULES: y, VETH: m }`",
    };
    let helps: Vec<String> = near.into_iter().chain([advice.into()]).collect();
    order.loaded.diagnose(at, format!("no module `{name}` in this kernel"), label, &helps)
}
