//! The heart of a run: the trigger's steps run in the guest, stops come in between, each becomes a hit.

use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::arm::Armed;
use super::heartbeat::Beat;
use super::journal::Journal;
use super::step::{ANSWER, OUTPUT_LIMIT, Running};
use super::{Order, hang, nonce};
use crate::error::{Error, Result};
use crate::event::{Event, Phase, millis};
use crate::gdb::breakpoints::{self, Breakpoint};
use crate::gdb::client::Stop;
use crate::gdb::collect::{Probed, Returned};
use crate::guest::{Guest, GuestEvent};
use crate::recipe::ProbePoint;
use crate::report::model::IncidentKind;
use crate::report::text::plural;

/// How often a step that was to be killed is killed again.
const INSIST: Duration = Duration::from_millis(500);
/// How often deadlines and Ctrl-C are looked at.
const TICK: Duration = Duration::from_millis(20);
const LOOK: &str = "look at what the last hits and console.log show";

/// Runs all steps, or until one does not end as it should.
pub(super) fn run(
    order: &Order<'_>,
    guest: &mut Guest,
    armed: &mut Armed<'_>,
    journal: &mut Journal<'_>,
) -> Result<()> {
    let steps = &order.loaded.recipe.trigger;
    order.events.send(Event::PhaseStarted { phase: Phase::Trigger, detail: plural(steps.len() as u64, "step") });
    let start = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        order.events.send(Event::StepStarted { name: step.name.clone() });
        journal.step_started(&step.name);
        let id = format!("{}-{:08x}", index + 1, nonce());
        let mut running = Running::new(step, id);
        let watched = match begin(&running, guest, journal) {
            Ok(()) => Watch { order, guest, armed, journal }.watch(&mut running),
            Err(error) => {
                running.fail(&error);
                Err(error)
            }
        };
        let result = running.result();
        let as_expected = watched.is_ok() && result.exit_code == Some(step.exit) && !result.timed_out;
        order.events.send(Event::StepDone {
            name: result.name.clone(),
            exit_code: result.exit_code,
            as_expected,
            duration_ms: result.duration_ms,
        });
        journal.step(result);
        let dropped = running.stdout.dropped + running.stderr.dropped;
        if dropped > 0 {
            let kept = OUTPUT_LIMIT >> 20;
            journal.warn(format!(
                "step `{}` wrote too much: {dropped} bytes after the first {kept} MiB were not kept",
                step.name
            ));
        }
        watched?;
        let left = steps.len() - index - 1;
        if !as_expected && left > 0 {
            journal.warn(format!("step `{}` did not end as expected; {left} later steps were not run", step.name));
            break;
        }
    }
    let summary = plural(journal.next_hit() - 1, "hit");
    order.events.send(Event::PhaseDone { phase: Phase::Trigger, summary, duration_ms: millis(start.elapsed()) });
    Ok(())
}

/// Has the guest run the step, or connects to the guest.
fn begin(running: &Running<'_>, guest: &mut Guest, journal: &Journal<'_>) -> Result<()> {
    let Running { step, id, .. } = running;
    match step.to.as_ref().and_then(|name| journal.host_port(name)) {
        Some(port) => guest.connect(id, port, step.exchanges()),
        None => guest.run(id, step.run.as_deref().unwrap_or_default(), step.on.as_deref()),
    }
}

/// How long a stop was.
struct Stopped {
    whole: Duration,
    /// How much of it does not count as the step's.
    not_the_steps: Duration,
}

/// Everything that is listened to while a step runs.
struct Watch<'w, 'o, 'a, 'j> {
    order: &'w Order<'o>,
    guest: &'w mut Guest,
    armed: &'w mut Armed<'a>,
    journal: &'w mut Journal<'j>,
}

impl Watch<'_, '_, '_, '_> {
    /// Until the step is over.
    fn watch(&mut self, running: &mut Running<'_>) -> Result<()> {
        while !running.is_over() {
            self.order.cancel.check()?;
            select! {
                recv(self.armed.gdb.incoming()) -> incoming => match incoming {
                    Ok(incoming) => self.armed.gdb.take(incoming)?,
                    Err(_) => return Err(Error::debugger("GDB's output ended")),
                },
                recv(self.guest.events()) -> event => match event {
                    Ok(GuestEvent::Gone) | Err(_) => return Err(self.guest.post_mortem()),
                    Ok(event) => running.hear(event),
                },
                default(TICK) => {}
            }
            self.serve_stops(running)?;
            self.journal.note_incidents(self.guest.news());
            self.guest.check()?;
            self.check_heartbeat(running)?;
            self.check_time(running)?;
        }
        // A stop on another CPU may have come together with the exit.
        while let Ok(incoming) = self.armed.gdb.incoming().try_recv() {
            self.armed.gdb.take(incoming)?;
        }
        self.serve_stops(running)
    }

    fn serve_stops(&mut self, running: &mut Running<'_>) -> Result<()> {
        while let Some(stop) = self.armed.gdb.next_stop() {
            let stopped = self.stopped(&stop)?;
            running.stopped += stopped.whole;
            running.stood_still += stopped.not_the_steps;
        }
        Ok(())
    }

    fn check_heartbeat(&mut self, running: &mut Running<'_>) -> Result<()> {
        match running.heartbeat.beat(running.guest_time()) {
            Beat::Fine => Ok(()),
            Beat::Ask => self.guest.ping(),
            Beat::Silent(silence) => {
                let text = format!(
                    "it has not said a word for {}s while step `{}` ran, and its agent does not answer",
                    silence.as_secs(),
                    running.step.name,
                );
                Err(self.hangs(text).hint(LOOK))
            }
        }
    }

    fn hangs(&mut self, text: String) -> Error {
        let text = hang::look(self.order, self.guest, self.armed, self.journal, text);
        Error::guest(format!("{}: {text}{}", IncidentKind::Silent.said(), self.guest.console_tail()))
    }

    fn check_time(&mut self, running: &mut Running<'_>) -> Result<()> {
        if running.exited.is_some() {
            return Ok(());
        }
        let age = running.age();
        match running.killed {
            None if age > running.step.timeout => {
                (running.killed, running.kill_sent) = (Some(age), age);
                self.guest.kill(&running.id)
            }
            Some(at) if age > at + ANSWER => {
                let timeout = humantime::format_duration(running.step.timeout);
                let text = format!(
                    "step `{}` exceeded its timeout of {timeout}, and the agent does not answer",
                    running.step.name,
                );
                Err(self.hangs(text).hint(format!("{LOOK}; `timeout` of the step can be raised")))
            }
            // A step that had only just been started could not be killed yet.
            Some(_) if age > running.kill_sent + INSIST => {
                running.kill_sent = age;
                self.guest.kill(&running.id)
            }
            _ => Ok(()),
        }
    }

    /// A stop: collects a hit for every probe that it belongs to, then lets the guest run. A stop whose conditions are
    /// false counts as the step's time, or a hot probe would put off the timeout for ever.
    fn stopped(&mut self, first: &Stop) -> Result<Stopped> {
        let mut stop = Some(first.clone());
        let (mut hits, mut changes) = (0, 0);
        while let Some(here) = stop.take() {
            let probes = self.probes_at(&here)?;
            for &index in &probes {
                hits += self.hit(index, &here)?;
            }
            hits += self.returned(&here)?;
            let change = self.armed.watch.change_at(&here);
            if let Some(change) = change {
                self.armed.module_changed(change, &here, self.journal)?;
                changes += 1;
            }
            if change.is_some() || self.is_armed_at(&here) || self.armed.returns.is_at(&here) {
                stop = breakpoints::step_off(&mut self.armed.gdb, &here, self.order.cancel)?;
            }
        }
        breakpoints::resume(&mut self.armed.gdb, self.order.cancel)?;
        let stood_still = first.at.elapsed();
        self.journal.stood_still(hits, stood_still);
        let not_the_steps = if hits + changes > 0 { stood_still } else { Duration::ZERO };
        Ok(Stopped { whole: stood_still, not_the_steps })
    }

    fn is_armed_at(&self, stop: &Stop) -> bool {
        (0..self.armed.breakpoints.len()).any(|index| self.is_at(index, stop))
    }

    /// The probes that a stop belongs to: GDB names one, others may share its address.
    fn probes_at(&mut self, stop: &Stop) -> Result<Vec<usize>> {
        let named = stop.breakpoint.and_then(|number| self.index_of(number));
        if stop.said.contains("Error in testing") {
            let mut said = stop.said.lines().skip_while(|line| !line.contains("Error in testing")).skip(1);
            let why = said.next().unwrap_or("GDB gives no reason").trim();
            return Err(self.bad_condition(named.unwrap_or_default(), why));
        }
        let own = self.armed.watch.change_at(stop).is_some() || self.armed.returns.is_at(stop);
        if named.is_none() && !own {
            let reason = stop.reason.as_deref().unwrap_or("no reason given");
            self.journal.warn(format!("the guest stopped where no probe is ({reason}); it was let run on"));
            return Ok(Vec::new());
        }
        let here: Vec<usize> = (0..self.armed.breakpoints.len())
            .filter(|index| Some(*index) == named || self.is_at(*index, stop))
            .collect();
        let mut probes = Vec::new();
        for index in here {
            if self.condition_holds(index, Some(index) == named, stop)? {
                probes.push(index);
            }
        }
        Ok(probes)
    }

    fn probe_name(&self, index: usize) -> &str {
        self.order.loaded.recipe.probes.get(index).map_or("", |probe| probe.name.as_str())
    }

    /// A probe's breakpoint, unless it is disarmed.
    fn armed_probe(&self, index: usize) -> Option<&Breakpoint> {
        self.armed.breakpoints.get(index).and_then(Option::as_ref)
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.armed.breakpoints.iter().position(|armed| armed.as_ref().is_some_and(|armed| armed.number == number))
    }

    fn is_at(&self, index: usize, stop: &Stop) -> bool {
        self.armed_probe(index).is_some_and(|armed| {
            armed
                .locations
                .iter()
                .any(|place| stop.address.as_deref().is_some_and(|at| same_address(at, &place.address)))
        })
    }

    /// Whether the probe's condition holds, as far as GDB has not found that out already by naming the probe.
    fn condition_holds(&mut self, index: usize, named: bool, stop: &Stop) -> Result<bool> {
        let ours = self.armed_probe(index).and_then(|armed| armed.condition.clone());
        let spec = self.order.loaded.recipe.probes.get(index).and_then(|probe| probe.when.clone());
        let Some(condition) = (if named { ours } else { spec }) else { return Ok(true) };
        match self.armed.collector.holds(&mut self.armed.gdb, &condition, stop, self.order.cancel)? {
            Ok(holds) => Ok(holds),
            Err(why) if self.has_several_locations(index) => {
                self.skip(index, stop, &why);
                Ok(false)
            }
            Err(why) => Err(self.bad_condition(index, &why)),
        }
    }

    fn has_several_locations(&self, index: usize) -> bool {
        self.armed_probe(index).is_some_and(|armed| armed.locations.len() > 1)
    }

    /// In one copy of an inlined function a variable may be lost that others have: said once, and no hit.
    fn skip(&mut self, index: usize, stop: &Stop, why: &str) {
        let address = stop.address.as_deref().unwrap_or_default();
        let name = self.probe_name(index);
        let text =
            format!("probe `{name}`: its condition cannot be evaluated at {address} ({why}); stops there are no hits");
        self.journal.warn_once(text);
    }

    /// A condition that parsed but cannot be evaluated: that shows only at a stop.
    fn bad_condition(&self, index: usize, why: &str) -> Error {
        let name = self.probe_name(index);
        self.order.loaded.diagnose(
            &format!("probes[{index}].when"),
            format!("probe `{name}`: this condition cannot be evaluated where the probe stops"),
            why,
            &["it is evaluated with the arguments and locals of the innermost frame".into()],
        )
    }

    /// GDB stands where a probe is. One on a return waits for that; otherwise it is a hit. Gives how many hits there were.
    fn hit(&mut self, index: usize, stop: &Stop) -> Result<usize> {
        let Some(spec) = self.order.loaded.recipe.probes.get(index) else { return Ok(0) };
        if !matches!(spec.at.parse(), Ok(ProbePoint::Return(_))) {
            return self.collect(index, None, stop);
        }
        let Armed { gdb, collector, returns, .. } = &mut *self.armed;
        let arguments = collector.arguments(gdb, stop, self.order.cancel)?;
        returns.entered(gdb, index, arguments, stop, self.order.cancel)?;
        Ok(0)
    }

    /// The calls that have returned to where GDB stands become hits. Gives how many there were.
    fn returned(&mut self, stop: &Stop) -> Result<usize> {
        let Armed { gdb, returns, .. } = &mut *self.armed;
        let calls = returns.returned(gdb, stop, self.order.cancel)?;
        let mut hits = 0;
        for call in &calls {
            let value = self.armed.returns.value(&mut self.armed.gdb, call.probe, stop, self.order.cancel)?;
            let returned = Returned { value: value.as_ref(), arguments: &call.arguments };
            hits += self.collect(call.probe, Some(returned), stop)?;
        }
        Ok(hits)
    }

    /// Makes a hit of a stop, unless the probe wants to skip it. Gives how many hits that is.
    fn collect(&mut self, index: usize, call: Option<Returned<'_>>, stop: &Stop) -> Result<usize> {
        let Some(probe) = self.order.loaded.recipe.probes.get(index) else { return Ok(0) };
        if let Some(skipped) = self.armed.skipped.get_mut(index).filter(|skipped| **skipped < probe.skip) {
            *skipped += 1;
            return Ok(0);
        }
        let number = self.journal.next_hit();
        let Armed { gdb, collector, breakpoints, .. } = &mut *self.armed;
        let armed = breakpoints.get(index).and_then(Option::as_ref);
        let entry = armed.filter(|_| call.is_none()).and_then(|armed| armed.entry.as_ref());
        let hit = collector.collect(gdb, Probed { spec: probe, entry, call }, number, stop, self.order.cancel)?;
        for complaint in collector.complaints() {
            self.journal.warn(complaint);
        }
        if hit.frames.is_empty() {
            return Err(Error::debugger(format!(
                "GDB could not read the stack at hit {number} of probe `{}`",
                probe.name
            ))
            .hint("gdb-mi.log in the run directory has everything that was said"));
        }
        if let Some(cut) = &hit.cut {
            self.journal.warn_once(format!("probe `{}`: a stack is {cut}; what is below it is not known", probe.name));
        }
        self.journal.hit(index, hit)?;
        if self.journal.hits_of(index) >= u64::from(probe.limit)
            && let Some(armed) = breakpoints.get_mut(index).and_then(Option::take)
        {
            breakpoints::delete(gdb, armed.number, self.order.cancel)?;
            self.armed.returns.forget(index);
            self.journal.disarmed(index);
        }
        Ok(1)
    }
}

fn same_address(a: &str, b: &str) -> bool {
    crate::gdb::mi::number(a) == crate::gdb::mi::number(b)
}
