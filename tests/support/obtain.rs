//! What tests need from elsewhere: kernels and packages. Where this machine cannot get one, its test is skipped, and says
//! why.

use std::path::Path;
use std::time::Duration;

use kdbg::event::{Cancel, Events};
use kdbg::package::Set;
use kdbg::package::set::Unfound;
use kdbg::store::Cache;
use serde_json::Value;

use super::{Place, skip};

/// How long fetching and building a kernel may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// What kdbg says where neither the distribution nor a server has a source, and where apt has no such package.
const UNOBTAINABLE: [&str; 2] = ["no source of Linux", "apt knows no package"];

/// What `kdbg build --json` says of the kernel that these arguments choose; none, said, where this machine cannot get it.
pub(crate) fn kernel(recipe: &Path, arguments: &[&str]) -> Option<Value> {
    let place = Place::new();
    let built = place.kdbg(&[&["build", recipe.to_str().unwrap(), "--json"], arguments].concat()).wait_within(LIMIT);
    if UNOBTAINABLE.iter().any(|words| built.stderr.contains(words)) {
        skip(&format!("{arguments:?} cannot be had here: {}", built.stderr));
        return None;
    }
    built.assert_code(0);
    Some(serde_json::from_str(&built.stdout).unwrap())
}

/// Whether the packages of a recipe's image are in the usual cache now; where not, why is said.
pub(crate) fn packages(recipe: &Path) -> bool {
    let loaded = kdbg::recipe::load(recipe).unwrap();
    let image = kdbg::recipe::resolve(&loaded).unwrap().image;
    let names: Vec<&str> = image.packages().iter().map(|item| item.name).collect();
    let cache = Cache::open().unwrap();
    let why = match Set::obtain(&names, &cache, &Events::none(), &Cancel::default()) {
        Ok(_) => return true,
        Err(Unfound::NoApt) => "this host has no apt".into(),
        Err(Unfound::Unknown { name, .. }) => format!("apt knows no package {name}"),
        Err(Unfound::Failed(error)) => error.message,
    };
    skip(&format!("the packages of the image {} cannot be had here: {why}", image.name));
    false
}
