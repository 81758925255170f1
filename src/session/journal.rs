//! What a run has come to so far: kept in memory for the report, and every hit on disk before the guest runs on.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use super::probes::Probe;
use super::{Ended, Order};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::{Event, millis};
use crate::guest::console::incident::{Seen, Traced};
use crate::kernel::KernelBuild;
use crate::report::expect;
use crate::report::model::{
    Call, Captured, ErrorInfo, ExpectationResult, ForwardInfo, Hit, Incident, IncidentKind, KernelInfo, Location,
    MachineInfo, Outcome, ProbeResult, RecipeInfo, Report, SCHEMA, StepResult,
};
use crate::report::text::plural;

/// The file that holds the hits while the run goes on; `report.json` takes its place.
pub(crate) const HITS: &str = "hits.jsonl";
/// How often that file is synced.
const SYNC: Duration = Duration::from_secs(1);

pub(crate) struct Journal<'a> {
    order: &'a Order<'a>,
    started: Instant,
    report: Report,
    kernel: Option<KernelBuild>,
    accelerator_noted: bool,
    hits_file: Option<File>,
    /// When that was last synced.
    synced: Option<Instant>,
    /// The step that runs, or ran last.
    current_step: Option<String>,
    /// The stack of every incident, as the kernel printed it.
    traces: Vec<Vec<Traced>>,
}

impl<'a> Journal<'a> {
    pub(crate) fn new(order: &'a Order<'a>) -> Self {
        let recipe = &order.loaded.recipe;
        let probe = |probe: &crate::recipe::types::ProbeSpec| ProbeResult {
            name: probe.name.clone(),
            at: probe.at.clone(),
            locations: Vec::new(),
            kind: None,
            hits: 0,
            disarmed: false,
            counted: None,
            never_armed: None,
            over_budget: false,
        };
        let report = Report {
            schema: SCHEMA,
            recipe: RecipeInfo {
                name: recipe.name.clone(),
                about: recipe.about.clone(),
                sha256: order.loaded.sha256.clone(),
            },
            outcome: Outcome::Error,
            error: None,
            kernel: None,
            machine: None,
            probes: recipe.probes.iter().map(probe).collect(),
            hits: Vec::new(),
            trigger: Vec::new(),
            captured: Vec::new(),
            incidents: Vec::new(),
            expectations: Vec::new(),
            timings: BTreeMap::new(),
            warnings: Vec::new(),
            files: BTreeMap::new(),
            volatile: Vec::new(),
        };
        Journal {
            order,
            started: Instant::now(),
            report,
            kernel: None,
            accelerator_noted: false,
            hits_file: None,
            synced: None,
            current_step: None,
            traces: Vec::new(),
        }
    }

    pub(crate) fn time(&mut self, name: &str, duration: Duration) {
        *self.report.timings.entry(name.into()).or_default() += millis(duration);
    }

    pub(crate) fn timed<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work(self);
        self.time(name, start.elapsed());
        result
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.order.events.warn(text.as_str());
        self.report.warnings.push(text);
    }

    pub(crate) fn warn_once(&mut self, text: String) {
        if !self.report.warnings.contains(&text) {
            self.warn(text);
        }
    }

    pub(crate) fn kernel(&mut self, kernel: &KernelBuild) {
        self.report.kernel = Some(KernelInfo {
            version: kernel.version.clone(),
            release: kernel.release.clone(),
            build_id: kernel.build_id.clone(),
            key: kernel.key.clone(),
            vmlinux: kernel.vmlinux.to_string_lossy().into_owned(),
            debuggable: kernel.debuggable.clone(),
        });
        kernel.complaints().into_iter().for_each(|text| self.warn(text));
        self.kernel = Some(kernel.clone());
    }

    /// Why the guest does not run under the accelerator that was hoped for; in the report too.
    pub(crate) fn note_accelerator(&mut self, note: String) {
        self.report.warnings.push(note);
        self.accelerator_noted = true;
    }

    pub(crate) fn accelerator_noted(&self) -> bool {
        self.accelerator_noted
    }

    pub(crate) fn machine(&mut self, machine: MachineInfo) {
        self.report.machine = Some(machine);
    }

    /// A port of the guest can be reached.
    pub(crate) fn forwarded(&mut self, forward: &ForwardInfo) {
        self.order.events.fact("forward", forward.to_string());
        self.report.machine.iter_mut().for_each(|machine| machine.forwards.push(forward.clone()));
    }

    /// The host's port that leads to the guest under this name.
    pub(crate) fn host_port(&self, name: &str) -> Option<u16> {
        let mut forwards = self.report.machine.iter().flat_map(|machine| &machine.forwards);
        forwards.find(|forward| forward.name == name).map(|forward| forward.host)
    }

    pub(crate) fn probe_resolved(&mut self, index: usize, locations: &[Location], readable: &str) {
        let Some(probe) = self.report.probes.get_mut(index) else { return };
        if probe.locations == locations {
            return;
        }
        probe.locations = locations.to_vec();
        let place = locations.first().map(|location| {
            let file = location.file.as_deref().unwrap_or(&location.address);
            location.line.map_or(file.to_string(), |line| format!("{file}:{line}"))
        });
        let places = plural(locations.len() as u64, "location");
        let inlined = locations.iter().filter(|location| location.inlined).count();
        let inlined = if inlined > 0 { format!(", {inlined} inlined") } else { String::new() };
        let text =
            format!("{} at {}  {}  {places}{inlined}{readable}", probe.name, probe.at, place.unwrap_or_default());
        self.order.events.fact("probe", text);
    }

    /// The probe stops, or stops in another way than it did.
    pub(crate) fn armed(&mut self, index: usize, probe: &Probe<'_>) {
        let Some(result) = self.report.probes.get_mut(index) else { return };
        if let Some(kind) = probe.kind() {
            let locations = probe.breakpoints.iter().flat_map(|breakpoint| breakpoint.locations.iter().cloned());
            (result.locations, result.kind) = (locations.collect(), Some(kind));
        }
    }

    pub(crate) fn was_resolved(&self, index: usize) -> bool {
        self.report.probes.get(index).is_some_and(|probe| !probe.locations.is_empty())
    }

    pub(crate) fn next_hit(&self) -> u64 {
        self.report.hits.len() as u64 + 1
    }

    /// The function that a hit is in, if it is none that is inlined.
    pub(crate) fn function_of(&self, hit: u64) -> Option<&str> {
        let hit = self.report.hits.iter().find(|each| each.index == hit)?;
        hit.frames.first().filter(|frame| !frame.inlined).map(|frame| frame.symbol.as_str())
    }

    pub(crate) fn hits_of(&self, probe: usize) -> u64 {
        self.report.probes.get(probe).map_or(0, |probe| probe.hits)
    }

    /// Takes a hit in: on disk first, then for the report and the screen.
    pub(crate) fn hit(&mut self, probe: usize, hit: Hit) -> Result<()> {
        self.write(&hit)?;
        if let Some(probe) = self.report.probes.get_mut(probe) {
            probe.hits += 1;
        }
        self.order.events.send(Event::HitCollected { hit: Box::new(hit.clone()) });
        self.report.hits.push(hit);
        Ok(())
    }

    fn write(&mut self, hit: &Hit) -> Result<()> {
        let path = self.order.run_dir.file(HITS);
        let cannot = || format!("write a hit to {}", path.display());
        let mut line = serde_json::to_string(hit).map_err(|error| Error::host(error.to_string()))?;
        line.push('\n');
        let file = match &mut self.hits_file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(&path).or_host(cannot())?),
        };
        // Written, it outlives kdbg, GDB and QEMU, whatever becomes of them; synced, the host too. That costs more than all
        // the rest of a logged line, so what the host can take with it is a second's hits.
        let is_due = self.synced.is_none_or(|at| at.elapsed() > SYNC);
        let synced = |file: &File| if is_due { file.sync_data() } else { Ok(()) };
        file.write_all(line.as_bytes()).and_then(|()| synced(file)).or_host(cannot())?;
        self.synced = if is_due { Some(Instant::now()) } else { self.synced };
        Ok(())
    }

    /// The guest runs again: how long it stood still for the last `hits` hits.
    pub(crate) fn stood_still(&mut self, hits: usize, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        for hit in self.report.hits.iter_mut().rev().take(hits) {
            hit.cost.stop_us = micros;
        }
        self.time("stops_ms", duration);
    }

    pub(crate) fn disarmed(&mut self, probe: usize) {
        if let Some(probe) = self.report.probes.get_mut(probe) {
            probe.disarmed = true;
        }
    }

    /// How often what the probe stopped at was entered after it was disarmed, if that could be read.
    pub(crate) fn counted(&mut self, probe: usize, count: Option<u64>) {
        if let Some(probe) = self.report.probes.get_mut(probe) {
            probe.counted = count;
        }
    }

    /// The probe was disarmed because it cost too much.
    pub(crate) fn over_budget(&mut self, probe: usize) {
        if let Some(probe) = self.report.probes.get_mut(probe) {
            probe.over_budget = true;
        }
    }

    pub(crate) fn never_armed(&mut self, probe: usize, why: String) {
        if let Some(probe) = self.report.probes.get_mut(probe) {
            probe.never_armed = Some(why);
        }
    }

    pub(crate) fn step_started(&mut self, name: &str) {
        self.current_step = Some(name.into());
    }

    /// Takes in what the guest's kernel complained about. What does not end the run is a warning.
    pub(crate) fn note_incidents(&mut self, seen: Vec<Seen>) {
        for Seen { kind, text, trace, .. } in seen {
            if !kind.is_fatal() {
                self.warn(format!("{}: {text}", kind.said()));
            }
            let stack = trace.iter().cloned().map(Call::from).collect();
            self.traces.push(trace);
            self.report.incidents.push(Incident { kind, text, step: self.current_step.clone(), stack });
        }
    }

    /// Notes what kdbg has noticed itself, with the stack that was found.
    pub(crate) fn note_hang(&mut self, text: String, stack: Vec<Call>) {
        self.traces.push(Vec::new());
        let (kind, step) = (IncidentKind::Silent, self.current_step.clone());
        self.report.incidents.push(Incident { kind, text, step, stack });
    }

    pub(crate) fn incidents(&self) -> &[Incident] {
        &self.report.incidents
    }

    pub(crate) fn traces(&self) -> &[Vec<Traced>] {
        &self.traces
    }

    /// Replaces the stacks of all incidents by what `decode` makes of them.
    pub(crate) fn decode_incidents(&mut self, mut decode: impl FnMut(&[Traced]) -> Vec<Call>) {
        let printed = self.report.incidents.iter_mut().zip(&self.traces).filter(|(_, trace)| !trace.is_empty());
        for (incident, trace) in printed {
            incident.stack = decode(trace);
        }
    }

    /// How many steps have been run.
    pub(crate) fn steps(&self) -> usize {
        self.report.trigger.len()
    }

    pub(crate) fn step(&mut self, step: StepResult) {
        self.report.trigger.push(step);
    }

    pub(crate) fn captured(&mut self, captured: Vec<Captured>) {
        self.report.captured = captured;
    }

    /// What the recipe expects.
    fn expectations(&self) -> Vec<ExpectationResult> {
        let Report { probes, hits, trigger, .. } = &self.report;
        expect::evaluate(&self.order.loaded.recipe, probes, hits, trigger)
    }

    /// The first expectation that does not hold so far.
    pub(crate) fn unmet(&self) -> Option<ExpectationResult> {
        self.expectations().into_iter().find(|expectation| !expectation.passed)
    }

    /// The run is over, one way or another.
    pub(crate) fn close(mut self, result: Result<()>) -> Ended {
        self.time("total_ms", self.started.elapsed());
        let expectations = self.expectations();
        let report = &mut self.report;
        match result {
            Ok(()) => {
                report.expectations = expectations;
                let passed = report.expectations.iter().all(|expectation| expectation.passed);
                report.outcome = if passed { Outcome::Passed } else { Outcome::Failed };
            }
            Err(error) => {
                let interrupted = error.kind == ErrorKind::Interrupted;
                report.outcome = if interrupted { Outcome::Interrupted } else { Outcome::Error };
                report.error = Some(ErrorInfo { kind: error.kind, message: error.message, hint: error.hint });
            }
        }
        Ended { report: self.report, kernel: self.kernel }
    }
}
