//! What the probes of a recipe come to, before anything boots.

use serde::Serialize;

use super::arm::{self, Armed};
use super::journal::Journal;
use super::{Order, modules, obtain_kernel};
use crate::error::Result;
use crate::gdb::mi::number;
use crate::gdb::scope::{self, Foreseen};
use crate::gdb::symbols::Symbols;
use crate::recipe::ProbePoint;
use crate::report::model::Location;
use crate::report::path::plain_symbol;

/// The probes of a recipe in one kernel.
#[derive(Debug, Serialize)]
pub struct Foresight {
    /// `uname -r`.
    pub release: String,
    /// What the kernel is built with.
    pub label: String,
    /// In the order of the recipe.
    pub probes: Vec<Foreseeable>,
}

/// A probe, and what it comes to.
#[derive(Debug, Serialize)]
pub struct Foreseeable {
    /// Its name.
    pub name: String,
    /// As in the recipe.
    pub at: String,
    /// The module that it is in, if its places will be known only once that is loaded.
    pub module: Option<String>,
    /// Where it will stop.
    pub places: Vec<Place>,
}

/// Where a probe will stop.
#[derive(Debug, Serialize)]
pub struct Place {
    /// The place.
    #[serde(flatten)]
    pub location: Location,
    /// What can be read there.
    pub variables: Vec<Foreseen>,
}

/// Resolves the probes of the order, in the kernel of the order.
///
/// # Errors
/// The kernel does not build, or a probe resolves to nothing: as in a run.
pub fn foresee(order: &Order<'_>) -> Result<Foresight> {
    let mut journal = Journal::new(order);
    let kernel = obtain_kernel(order)?;
    let chosen = modules::choose(order, &kernel)?;
    let symbols = Symbols::read(&kernel.boot_image)?;
    let gdb = arm::start_gdb(order, &kernel)?;
    let mut armed = arm::load_gdb(order, gdb, &kernel, symbols, &chosen, &mut journal)?;
    let mut probes = Vec::new();
    for (index, probe) in order.loaded.recipe.probes.iter().enumerate() {
        let places = places(&mut armed, index, order)?;
        let module = armed.probes[index].home.map(String::from);
        probes.push(Foreseeable { name: probe.name.clone(), at: probe.at.clone(), module, places });
    }
    armed.gdb.stop();
    let label = if kernel.is_packaged() { kernel.source_id.clone() } else { kernel.version.clone() };
    Ok(Foresight { release: kernel.release.clone(), label, probes })
}

fn places(armed: &mut Armed<'_>, probe: usize, order: &Order<'_>) -> Result<Vec<Place>> {
    let probe = &armed.probes[probe];
    let function = probe.point.function().map(plain_symbol).map(String::from);
    let locations = probe.breakpoints.iter().flat_map(|breakpoint| breakpoint.locations.clone());
    let mut places = Vec::new();
    let is_group = matches!(probe.point, ProbePoint::Pattern(_));
    let is_return = matches!(probe.point, ProbePoint::Return(_));
    for location in locations.collect::<Vec<_>>() {
        let own = (is_group && !location.inlined).then(|| plain_symbol(&location.symbol).to_string());
        let function = own.as_ref().or(function.as_ref());
        let is_entry = !location.inlined && armed.collector.program.is_entry(&location.address);
        let mut variables = match number(&location.address) {
            Some(address) => {
                scope::foresee(&mut armed.gdb, address, function.map(String::as_str), is_entry, order.cancel)?
            }
            None => Vec::new(),
        };
        // A hit of a return has the arguments of the call, and the frames of the caller.
        variables.retain(|variable| !is_return || variable.argument != Some(false));
        places.push(Place { location, variables });
    }
    Ok(places)
}
