//! A vmlinux that a recording wants: where on this machine there is one with its build-id (in the cache, or where distributions,
//! gdb and debuginfod's clients put debug information), and what it says.

use std::fs;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use object::{Object, ObjectSymbol};

pub use super::dwarf::tree;
use super::entry::{Entry, VMLINUX, build_id};
use crate::error::{Error, IoContext, Result};
use crate::store::Cache;

/// Where distributions put what has a build-id (GDB's manual, "Debugging Information in Separate Files").
const BY_ID: &str = "/usr/lib/debug/.build-id";

/// The vmlinux with this build-id, of a kernel with this release. One in the cache is held from then on.
pub fn by_build_id(id: &str, release: &str, cache: Option<&Cache>) -> Option<PathBuf> {
    let filed = cache.and_then(|cache| filed(id, cache));
    filed.or_else(|| places(id, release).into_iter().find(|path| has_build_id(path, id)))
}

/// Whether a file is the one with this build-id.
pub fn has_build_id(path: &Path, id: &str) -> bool {
    path.is_file() && build_id(path).is_ok_and(|found| found == id)
}

fn filed(id: &str, cache: &Cache) -> Option<PathBuf> {
    let folders = fs::read_dir(cache.path("kernels")).ok()?.flatten().map(|entry| entry.path());
    let mut kernels = folders.filter(|folder| Entry::read(folder).is_ok_and(|entry| entry.build_id == id));
    kernels.find(|folder| Entry::open(folder, cache).is_ok()).map(|folder| folder.join(VMLINUX))
}

/// Where else it may be. Neither text reaches a path unless it is a plain name: both come from a file of somebody else's.
fn places(id: &str, release: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && let Some((first, rest)) = id.split_at_checked(2).filter(|(_, rest)| !rest.is_empty())
    {
        places.push(Path::new(BY_ID).join(first).join(format!("{rest}.debug")));
        places.extend(debuginfod().map(|folder| folder.join(id).join("debuginfo")));
    }
    if !release.is_empty() && !release.contains('/') {
        let named = [
            format!("/usr/lib/debug/boot/vmlinux-{release}"),
            format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
            format!("/lib/modules/{release}/build/vmlinux"),
            format!("/boot/vmlinux-{release}"),
        ];
        places.extend(named.map(PathBuf::from));
    }
    places
}

/// Where debuginfod's clients keep what they have fetched (debuginfod_find_debuginfo(3)).
fn debuginfod() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DEBUGINFOD_CACHE_PATH").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    Some(etcetera::base_strategy::choose_base_strategy().ok()?.cache_dir().join("debuginfod_client"))
}

/// The addresses of variables, in this order; none where there is no such symbol.
///
/// # Errors
/// The file cannot be read or is not ELF.
pub fn addresses<const N: usize>(vmlinux: &Path, names: [&str; N]) -> Result<[Option<u64>; N]> {
    let data = fs::read(vmlinux).or_host(format!("read {}", vmlinux.display()))?;
    let file = object::File::parse(&*data)
        .map_err(|error| Error::kernel(format!("{} is not an ELF file: {error}", vmlinux.display())))?;
    let mut found = [None; N];
    for symbol in file.symbols().filter(ObjectSymbol::is_definition) {
        let place = names.iter().position(|name| symbol.name() == Ok(*name));
        if let Some(address) = place.and_then(|place| found.get_mut(place)) {
            *address = Some(symbol.address());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_somebody_elses_lead_nowhere_else() {
        let all = places("00ff", "6.1.0");
        assert!(all.contains(&PathBuf::from("/usr/lib/debug/.build-id/00/ff.debug")), "{all:?}");
        assert!(all.contains(&PathBuf::from("/boot/vmlinux-6.1.0")), "{all:?}");
        for (id, release) in [("../../etc", "../x"), ("", ""), ("00", "a/b")] {
            assert_eq!(places(id, release), Vec::<PathBuf>::new(), "{id} {release}");
        }
        assert_eq!(by_build_id("00ff", "6.1.0", None), None);
    }

    #[test]
    fn a_file_has_its_own_build_id_only() {
        let program = std::env::current_exe().unwrap();
        let id = build_id(&program).unwrap();
        assert!(has_build_id(&program, &id) && !has_build_id(&program, "00ff") && !has_build_id(Path::new("/"), &id));
    }

    #[test]
    fn variables_are_found_by_name_and_functions_of_others_are_not() {
        let program = std::env::current_exe().unwrap();
        let [main, none] = addresses(&program, ["main", "no_such_variable"]).unwrap();
        assert!(main.is_some_and(|main| main > 0) && none.is_none());
        assert!(addresses(Path::new("Cargo.toml"), ["main"]).is_err());
    }
}
