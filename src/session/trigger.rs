//! The heart of a run: the trigger's steps run in the guest, stops come in between, each becomes a hit.

use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::arm::Armed;
use super::heartbeat::Beat;
use super::journal::Journal;
use super::step::{ANSWER, OUTPUT_LIMIT, Running};
use super::stops::Stops;
use super::{Order, hang, nonce};
use crate::error::{Error, Result};
use crate::event::{Event, Phase, millis};
use crate::guest::{Guest, GuestEvent};
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
        Stops::new(order, armed, journal).before_step(&step.name, guest)?;
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

/// Everything that is listened to while a step runs.
struct Watch<'w, 'o, 'a, 'j> {
    order: &'w Order<'o>,
    guest: &'w mut Guest,
    armed: &'w mut Armed<'a>,
    journal: &'w mut Journal<'j>,
}

impl<'o, 'a, 'j> Watch<'_, 'o, 'a, 'j> {
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
            if stop.over {
                return Err(self.guest.post_mortem());
            }
            let stopped = Stops::new(self.order, self.armed, self.journal).serve(&stop, self.guest)?;
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
}
