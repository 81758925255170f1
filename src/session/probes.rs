//! The probes of a run: what each is in GDB, from before its place is known until it is disarmed.

use super::Order;
use super::dormant::Dormancy;
use super::stops::Spent;
use crate::error::Result;
use crate::gdb::breakpoints::Breakpoint;
use crate::gdb::client::Stop;
use crate::gdb::mi::number;
use crate::recipe::ProbePoint;
use crate::recipe::message::Message;
use crate::recipe::types::ProbeSpec;
use crate::report::model::{Changed, Location, StopKind};

/// A probe of the recipe in a run.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    /// As the recipe has it.
    pub(crate) spec: &'a ProbeSpec,
    /// Where it stops.
    pub(crate) point: ProbePoint,
    /// What it logs, if it only logs.
    pub(crate) log: Option<Message>,
    /// What it is in GDB: nothing while it is pending, and once it is disarmed.
    pub(crate) breakpoints: Vec<Breakpoint>,
    /// Its place is in a module that is not loaded.
    pub(crate) pending: bool,
    /// That module, if its place is not in vmlinux.
    pub(crate) home: Option<&'a str>,
    /// What it waits for before it is armed.
    pub(crate) dormancy: Dormancy,
    /// Why what it watches could not be watched, the last time that this was tried in vain.
    pub(crate) unwatchable: Option<String>,
    /// Whether it has had its hits.
    pub(crate) disarmed: bool,
    /// What it has cost so far.
    pub(crate) spent: Spent,
    /// How often it has passed its place without a hit, as its `skip` wants.
    pub(crate) skipped: u32,
}

impl<'a> Probe<'a> {
    /// All probes of the recipe, none of them resolved.
    pub(crate) fn all(order: &Order<'a>) -> Result<Vec<Probe<'a>>> {
        let specs = order.loaded.recipe.probes.iter().enumerate();
        specs.map(|(index, spec)| Probe::new(index, spec, order)).collect()
    }

    fn new(index: usize, spec: &'a ProbeSpec, order: &Order<'a>) -> Result<Probe<'a>> {
        let wrong =
            |key| order.loaded.diagnose(&format!("probes[{index}].{key}"), "this probe does not parse", "here", &[]);
        let point = spec.at.parse().map_err(|_| wrong("at"))?;
        let log = spec.log.as_ref().map(|log| log.parse().map_err(|_| wrong("log"))).transpose()?;
        let recipe = &order.loaded.recipe;
        let after = spec.after.as_ref().and_then(|name| recipe.probes.iter().position(|other| other.name == *name));
        let first_step = recipe.trigger.first().map(|step| step.name.as_str());
        let dormancy = Dormancy::new(after, &spec.during, first_step);
        Ok(Probe {
            spec,
            point,
            log,
            breakpoints: Vec::new(),
            pending: false,
            home: None,
            dormancy,
            unwatchable: None,
            disarmed: false,
            spent: Spent::default(),
            skipped: 0,
        })
    }

    /// Its breakpoint that GDB has given this number.
    pub(crate) fn numbered(&self, number: Option<u64>) -> Option<&Breakpoint> {
        self.breakpoints.iter().find(|breakpoint| Some(breakpoint.number) == number)
    }

    /// Its breakpoint at the place of a stop.
    pub(crate) fn at(&self, stop: &Stop) -> Option<&Breakpoint> {
        let address = stop.address.as_deref().and_then(number)?;
        let is_there = |place: &Location| number(&place.address) == Some(address) && place.cheap == stop.hooked;
        self.breakpoints.iter().find(|breakpoint| breakpoint.locations.iter().any(is_there))
    }

    /// How it stops; none while it has no place.
    pub(crate) fn kind(&self) -> Option<StopKind> {
        if matches!(self.point, ProbePoint::Watch(_)) {
            return (!self.breakpoints.is_empty()).then_some(StopKind::Watchpoint);
        }
        let mut cheap = self.breakpoints.iter().flat_map(|breakpoint| &breakpoint.locations).map(|place| place.cheap);
        let first = cheap.next()?;
        Some(match cheap.all(|cheap| cheap == first) {
            true if first => StopKind::Cheap,
            true => StopKind::Breakpoint,
            false => StopKind::Mixed,
        })
    }

    /// Whether a stop is at its place, or at a change of what it watches.
    pub(crate) fn is_about(&self, stop: &Stop) -> bool {
        self.at(stop).is_some() || self.changed(stop).is_some()
    }

    /// What a stop says of the expression that it watches.
    pub(crate) fn changed(&self, stop: &Stop) -> Option<Changed> {
        let ProbePoint::Watch(expression) = &self.point else { return None };
        let written = stop.written.iter().find(|written| self.numbered(Some(written.number)).is_some())?;
        Some(Changed { expression: expression.clone(), old: written.old.clone(), new: written.new.clone() })
    }

    /// All places where it stops.
    pub(crate) fn locations(&self) -> Vec<Location> {
        self.breakpoints.iter().flat_map(|breakpoint| breakpoint.locations.iter().cloned()).collect()
    }

    /// In how many places it can stop.
    pub(crate) fn places(&self) -> usize {
        self.breakpoints.iter().map(|breakpoint| breakpoint.locations.len()).sum()
    }
}
