//! Builds of mocks ([`super::kernel`]): how they are started, and what holds after each of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::kernel::Tree;
use super::{Ended, Place, Running};

/// How long a mock may take to build on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long a build may take to notice that make has ended.
pub(crate) const NOTICED: Duration = Duration::from_secs(10);
/// The mock's name in the cache.
pub(crate) const SOURCE: &str = "linux-source-6.1_0-test";

/// A place whose cache holds this source and no kernel.
pub(crate) fn place_with(tree: &Tree) -> Place {
    let place = Place::with_empty_cache();
    tree.write(&place.path().join("cache/sources").join(SOURCE));
    place
}

/// Starts a build of what needs this below `kernel`.
pub(crate) fn start(place: &Place, kernel: &str) -> Running {
    let recipe = place.file("test.yaml", &format!("name: test\nkernel: {{ config: [], {kernel} }}\n"));
    start_file(place, &recipe)
}

pub(crate) fn start_file(place: &Place, recipe: &Path) -> Running {
    place.kdbg(&["build", recipe.to_str().unwrap(), "--json"])
}

/// Starts a build of the mock.
pub(crate) fn start_mock(place: &Place) -> Running {
    start(place, "version: '6.1', options: { BAR: y }")
}

/// Builds the mock to the end.
pub(crate) fn build(place: &Place) -> Ended {
    let ended = start_mock(place).wait_within(LIMIT);
    assert_tidy(place);
    ended
}

/// What a build that succeeded says.
#[track_caller]
pub(crate) fn built(ended: &Ended) -> Value {
    ended.assert_code(0);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

/// No process, no temporary file, nothing half-made.
#[track_caller]
pub(crate) fn assert_tidy(place: &Place) {
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
}

/// No kernel and no memory of one.
#[track_caller]
pub(crate) fn assert_nothing_filed(place: &Place) {
    assert_eq!(place.cached("kernels"), [""; 0]);
}

/// Where the mock is built.
pub(crate) fn objects(place: &Place) -> PathBuf {
    place.path().join("cache/objects").join(format!("{SOURCE}-x86_64"))
}

/// How often make was asked for the mock's vmlinux.
pub(crate) fn times_made(place: &Place) -> usize {
    fs::read_to_string(objects(place).join("made")).unwrap_or_default().lines().count()
}
