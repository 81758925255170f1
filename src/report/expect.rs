//! Which expectations of a recipe held, as sentences a person likes to read.
//!
//! Pure: a recipe and what was seen go in, results come out, one per aspect. Decides nothing about the outcome of the
//! run; reads values through [`super::value`].

use super::model::{ExpectationResult, Frame, Hit, ProbeResult, StepResult, Var};
use super::path::plain_symbol;
use super::text::{self, list, plural, printable, shorten};
use super::value;
use crate::recipe::types::{Comparison, ExpectSpec, HitCount, ProbeSpec, Recipe, StepSpec};

/// How much of a value a detail shows.
const VALUE_LIMIT: usize = 120;

/// Holds everything that `recipe` expects against what was seen: its steps first, then its `expect` entries in order.
///
/// An entry gives one result for the number of hits, one for `through` if it is there, and one for every `where`.
pub fn evaluate(recipe: &Recipe, probes: &[ProbeResult], hits: &[Hit], steps: &[StepResult]) -> Vec<ExpectationResult> {
    let of_steps = recipe.trigger.iter().map(|spec| step(spec, steps.iter().find(|step| step.name == spec.name)));
    let of_probes = recipe.expect.iter().flat_map(|spec| Watched::new(spec, recipe, probes, hits).results());
    of_steps.chain(of_probes).collect()
}

/// Whether a step of the trigger ended as it must.
fn step(spec: &StepSpec, seen: Option<&StepResult>) -> ExpectationResult {
    let text = format!("step `{}` exits {}", spec.name, spec.exit);
    let Some(seen) = seen else {
        return ExpectationResult { text, passed: false, detail: "not run".into() };
    };
    let (passed, detail) = match seen.exit_code {
        _ if seen.timed_out => (false, format!("timed out after {}", humantime::format_duration(spec.timeout))),
        None => (false, "did not end by itself".to_owned()),
        Some(code) if code == spec.exit => (true, format!("exit {code}")),
        Some(code) => (false, format!("exit {code}")),
    };
    let last_words = seen.stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).filter(|_| !passed);
    let detail = match last_words {
        Some(line) => format!("{detail}; it said: {}", printable(&shorten(line, VALUE_LIMIT))),
        None => detail,
    };
    ExpectationResult { text, passed, detail }
}

/// One `expect` entry beside everything that was seen of its probe.
struct Watched<'a> {
    expect: &'a ExpectSpec,
    spec: Option<&'a ProbeSpec>,
    result: Option<&'a ProbeResult>,
    hits: Vec<&'a Hit>,
}

impl<'a> Watched<'a> {
    fn new(expect: &'a ExpectSpec, recipe: &'a Recipe, probes: &'a [ProbeResult], hits: &'a [Hit]) -> Self {
        Watched {
            expect,
            spec: recipe.probes.iter().find(|probe| probe.name == expect.probe),
            result: probes.iter().find(|probe| probe.name == expect.probe),
            hits: hits.iter().filter(|hit| hit.probe == expect.probe).collect(),
        }
    }

    fn results(&self) -> Vec<ExpectationResult> {
        let through = (!self.expect.through.is_empty()).then(|| self.through());
        let values = self.expect.values.iter().map(|(name, wanted)| self.value(name, &wanted.0));
        std::iter::once(self.count()).chain(through).chain(values).collect()
    }

    /// Whether there were as many hits as there must be.
    fn count(&self) -> ExpectationResult {
        let seen = self.hits.len() as u64;
        ExpectationResult {
            text: format!("probe `{}` has {}", self.expect.probe, bound(self.expect.hits)),
            passed: self.expect.hits.holds(seen),
            detail: format!("{}{}", plural(seen, "hit"), self.remark()),
        }
    }

    /// What explains the number of hits, beyond the number.
    fn remark(&self) -> String {
        match self.result {
            None => ": the probe was never set".into(),
            Some(ProbeResult { never_armed: Some(why), .. }) => format!("; it was never armed: {why}"),
            Some(result) if result.locations.is_empty() => format!(": `{}` resolved to no location", result.at),
            Some(result) if result.over_budget => {
                let budget = self.spec.map(|spec| format!(" of {}", humantime::format_duration(spec.budget)));
                let budget = budget.unwrap_or_default();
                format!(", then the probe had spent its budget{budget} and was disarmed{}", more(result))
            }
            Some(result) if result.disarmed => {
                let limit = self.spec.map_or(String::new(), |spec| format!(" of {}", spec.limit));
                format!(", then the probe reached its limit{limit} and was disarmed{}", more(result))
            }
            Some(_) => String::new(),
        }
    }

    /// Whether every hit came through the callers that the entry names.
    fn through(&self) -> ExpectationResult {
        let text = format!("every hit of `{}` comes through {}", self.expect.probe, self.expect.through.join(" ← "));
        self.every(text, |hit| self.came_through(hit))
    }

    fn came_through(&self, hit: &Hit) -> Result<(), String> {
        let mut rest = hit.frames.get(1..).unwrap_or_default();
        let mut after = hit.frames.first();
        for name in &self.expect.through {
            let Some(at) = rest.iter().position(|frame| is_function(frame, name)) else {
                return Err(self.missing(hit, name, after));
            };
            after = rest.get(at);
            rest = &rest[at + 1..];
        }
        Ok(())
    }

    /// Says that `name` is not among the callers of `after`, and what may explain it.
    fn missing(&self, hit: &Hit, name: &str, after: Option<&Frame>) -> String {
        let Some(after) = after else { return format!("no `{name}`: the stack could not be read") };
        let missing = format!("no `{name}` after `{}` (frame {})", after.symbol, after.level);
        let nearer = hit.frames.iter().find(|frame| frame.level <= after.level && is_function(frame, name));
        let cut = self.spec.filter(|spec| hit.frames.len() as u64 >= u64::from(spec.stack));
        match (nearer, cut) {
            (Some(nearer), _) => format!("{missing}; it is nearer, frame {}: callers go outwards", nearer.level),
            (None, Some(spec)) => format!("{missing}; the stack was cut at {} frames, see `stack`", spec.stack),
            (None, None) => missing,
        }
    }

    /// Whether `name` was `wanted` in every hit.
    fn value(&self, name: &str, wanted: &str) -> ExpectationResult {
        let text = format!("`{name}` is {wanted} in every hit of `{}`", self.expect.probe);
        self.every(text, |hit| was(hit, name, wanted))
    }

    /// Holds every hit against `check`. Without hits nothing can be said, unless having none is allowed.
    fn every(&self, text: String, check: impl Fn(&Hit) -> Result<(), String>) -> ExpectationResult {
        let wrong: Vec<String> = self
            .hits
            .iter()
            .filter_map(|hit| check(hit).err().map(|why| format!("hit {}: {why}", hit.index)))
            .collect();
        let (passed, detail) = match (self.hits.as_slice(), wrong.as_slice()) {
            ([], _) if self.expect.hits.holds(0) => (true, "no hits, as expected".into()),
            ([], _) => (false, "no hits to look at".into()),
            ([one], []) => (true, format!("in hit {}", one.index)),
            (all, []) => (true, format!("in all {} hits", all.len())),
            (_, [first]) => (false, first.clone()),
            (_, [first, more @ ..]) => (false, format!("{first} (and in {} more of {})", more.len(), self.hits.len())),
        };
        ExpectationResult { text, passed, detail }
    }
}

/// What is known of what came after a probe was disarmed.
fn more(probe: &ProbeResult) -> String {
    match probe.counted {
        None => ": there may have been more".into(),
        counted => text::counted(counted),
    }
}

/// A bound on hits as it follows "has": `1 hit`, `at least 2 hits`.
fn bound(bound: HitCount) -> String {
    let hits = plural(u64::from(bound.count), "hit");
    match bound.comparison {
        Comparison::Equal => hits,
        Comparison::AtLeast => format!("at least {}", hits.replace("no ", "0 ")),
        Comparison::AtMost => format!("at most {}", hits.replace("no ", "0 ")),
    }
}

/// Whether `frame` is the function `name`, or a clone of it that gcc made.
fn is_function(frame: &Frame, name: &str) -> bool {
    plain_symbol(&frame.symbol) == plain_symbol(name)
}

/// Whether `name` was `wanted` at this hit; else what it was.
fn was(hit: &Hit, name: &str, wanted: &str) -> Result<(), String> {
    let Some(var) = find(hit, name) else { return Err(unknown(hit, name)) };
    match (&var.value, var.why) {
        (Some(printed), _) if var.available && value::same(wanted, printed) => Ok(()),
        (Some(printed), _) if var.available => {
            Err(format!("`{name}` is {}", printable(&shorten(printed, VALUE_LIMIT))))
        }
        (_, why) => Err(format!("`{name}` is {}", why.map_or("not available", |why| why.as_str()))),
    }
}

/// Looks for `name` among the shown values, then what a call returned and was entered with, then the arguments and the
/// locals of the probe's own frame.
fn find<'a>(hit: &'a Hit, name: &str) -> Option<&'a Var> {
    names(hit).find(|var| var.name == name)
}

fn names(hit: &Hit) -> impl Iterator<Item = &Var> {
    let call = hit.returned.iter().chain(&hit.arguments);
    hit.shown
        .iter()
        .chain(call)
        .chain(hit.frames.first().into_iter().flat_map(|frame| frame.args.iter().chain(&frame.locals)))
}

/// Says that there is no `name`, and what there is.
fn unknown(hit: &Hit, name: &str) -> String {
    let known: Vec<String> = names(hit).map(|var| format!("`{}`", var.name)).collect();
    let here = if known.is_empty() { "nothing".to_owned() } else { list(&known) };
    format!("there is no `{name}` here; there is {here}")
}

#[cfg(test)]
mod tests;
