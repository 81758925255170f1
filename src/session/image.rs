//! The image that the recipe asks for: its packages fetched, its initramfs written.

use std::fs;
use std::path::PathBuf;

use super::Order;
use super::modules::Chosen;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::guest::image::{self, Contents};
use crate::package::Set;
use crate::package::set::Unfound;

/// Fetches the image's packages, and makes sure that the host has its programs.
///
/// # Errors
/// What is missing, at the image's line.
pub(super) fn obtain_packages(order: &Order<'_>) -> Result<Option<Set>> {
    let image = &order.resolved.image;
    image::check_programs(image)?;
    let items = image.packages();
    let names: Vec<&str> = items.iter().map(|item| item.name).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let obtained = Set::obtain(&names, order.cache, order.events, order.cancel);
    obtained.map(Some).map_err(|unfound| match unfound {
        Unfound::Failed(error) => error,
        Unfound::NoApt => {
            let help = ["take the programs from this host: list them in `programs`".into()];
            let error = image.diagnose(items[0], "packages come by apt, which this host does not have", "", &help);
            Error { kind: ErrorKind::Host, ..error }
        }
        Unfound::Unknown { name, helps } => {
            let item = items.iter().find(|item| item.name == name).unwrap_or(&items[0]);
            image.diagnose(*item, format!("apt knows no package `{name}`"), "", &helps)
        }
    })
}

/// Writes the initramfs, if it is not in the cache.
///
/// # Errors
/// As [`image::build`]; the guest's memory is too small for it.
pub(super) fn build(order: &Order<'_>, packages: Option<&Set>, modules: &Chosen) -> Result<PathBuf> {
    let contents = Contents { image: &order.resolved.image, packages, modules: &modules.guest };
    let archive = image::build(&contents, order.cache, order.events, order.cancel)?;
    let size = fs::metadata(&archive).or_host(format!("read {}", archive.display()))?.len();
    let (wanted, memory) = (memory_for(size), order.loaded.recipe.guest.memory);
    if u64::from(memory.mebibytes) < wanted {
        let message = format!("the image `{}` does not fit into {memory} of memory", order.resolved.image.name);
        let help = [format!("give the guest more: `memory: {wanted}M`")];
        let label = format!("it has {} MiB, and is in memory twice while the guest boots", size >> 20);
        return Err(order.loaded.diagnose("guest.memory", message, label, &help));
    }
    Ok(archive)
}

/// The memory in MiB that a guest needs to unpack an archive of `size` bytes: the archive lies in it, and of what is left
/// the kernel lets files take one half.
fn memory_for(size: u64) -> u64 {
    const KERNEL: u64 = 32;
    const STEP: u64 = 64;
    (3 * size.div_ceil(1 << 20) + KERNEL).next_multiple_of(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_needs_three_times_its_size() {
        assert_eq!(memory_for(2 << 20), 64);
        assert_eq!(memory_for(275_142_000), 832);
    }
}
