//! What can be wrong with a probe by itself.

use super::Checker;
use crate::recipe::expression;
use crate::recipe::message::{Message, Piece};
use crate::recipe::point::ProbePoint;
use crate::recipe::types::{ProbeSpec, Recipe};
use crate::spelling;

impl Checker<'_, '_> {
    pub(super) fn probe(&mut self, path: &str, probe: &ProbeSpec) {
        let name = &probe.name;
        if let Err(objection) = probe.at.parse::<ProbePoint>() {
            self.objection(&format!("{path}.at"), &probe.at, &format!("probe `{name}`"), objection);
        }
        if let Some(when) = &probe.when
            && let Err(objection) = expression::check(when)
        {
            self.objection(&format!("{path}.when"), when, &format!("probe `{name}`: `when`"), objection);
        }
        for (shown, value) in &probe.show {
            let at = format!("{path}.show.{shown}");
            if shown.trim().is_empty() || shown.contains('\n') {
                self.key(&at, format!("probe `{name}`: a value to show needs a name"), "must be one line, not empty");
            }
            if let Err(objection) = expression::check(value) {
                self.objection(&at, value, &format!("probe `{name}`: `{shown}`"), objection);
            }
        }
        self.log(path, probe);
        self.alters(path, probe);
        if probe.budget.is_zero() {
            self.value(
                &format!("{path}.budget"),
                format!("probe `{name}`: a stop takes some time"),
                "must be more than 0",
            )
            .help("one stop takes up to 100ms under TCG, and a whole stack some tens of it");
        }
        if probe.stack < 1 {
            self.value(&format!("{path}.stack"), format!("probe `{name}`: a stack has at least one frame"), "");
        }
        if probe.limit < 1 {
            let message = format!("probe `{name}`: a probe that may not be hit sees nothing");
            self.value(&format!("{path}.limit"), message, "must be at least 1")
                .help("to say that it must not be hit, write `hits: 0` in `expect`");
        }
    }

    fn alters(&mut self, path: &str, probe: &ProbeSpec) {
        let name = &probe.name;
        for (what, value) in &probe.set {
            let at = format!("{path}.set.{what}");
            if let Err(objection) = expression::check(what) {
                let message = format!("probe `{name}`: `set` cannot change `{what}`: {}", objection.message);
                self.key(&at, message, objection.label).help(objection.help);
            }
            if let Err(objection) = expression::check(value) {
                self.objection(&at, value, &format!("probe `{name}`: the new value of `{what}`"), objection);
            }
        }
        let Some(value) = &probe.force_return else { return };
        let at = format!("{path}.force_return");
        if let Err(objection) = expression::check(value) {
            self.objection(&at, value, &format!("probe `{name}`: `force_return`"), objection);
        }
        if !matches!(probe.at.parse(), Ok(ProbePoint::Function(_)) | Err(_)) {
            self.key(&at, format!("probe `{name}`: only a function can be made to return where it is entered"), "")
                .help(format!("`{}` is no function: write `at: FUNCTION`", probe.at));
        }
    }

    fn log(&mut self, path: &str, probe: &ProbeSpec) {
        let Some(log) = &probe.log else { return };
        let (name, path) = (&probe.name, format!("{path}.log"));
        match log.parse::<Message>() {
            Err(objection) => self.objection(&path, log, &format!("probe `{name}`: `log`"), objection),
            Ok(message) => {
                let point = probe.at.parse::<ProbePoint>();
                let has = |piece| message.pieces.contains(&piece);
                if (has(Piece::Old) || has(Piece::New)) && !matches!(point, Ok(ProbePoint::Watch(_))) {
                    self.value(
                        &path,
                        format!("probe `{name}`: it watches nothing"),
                        "`{$old}` and `{$new}` have no value",
                    )
                    .help("they are for probes that watch: `at: \"watch: EXPRESSION\"`");
                }
                if has(Piece::Returned) && !matches!(point, Ok(ProbePoint::Return(_))) {
                    self.value(
                        &path,
                        format!("probe `{name}`: nothing has returned where it stops"),
                        "`{$returned}` has no value",
                    )
                    .help("`{$returned}` is for probes on a return: `at: \"return: FUNCTION\"`");
                }
            }
        }
    }

    /// The probes and steps that say when it is armed.
    pub(super) fn armed_when(&mut self, path: &str, probe: &ProbeSpec, recipe: &Recipe) {
        let name = &probe.name;
        if let Some(after) = &probe.after {
            let at = format!("{path}.after");
            let names = || recipe.probes.iter().map(|other| other.name.as_str()).filter(|other| other != name);
            if !recipe.probes.iter().any(|other| other.name == *after) {
                let help = known(after, "probe", names());
                self.value(&at, format!("probe `{name}`: there is no probe `{after}`"), "").help(help);
            } else if comes_back(probe, &recipe.probes) {
                self.value(&at, format!("probe `{name}` waits for itself"), "so it is never armed")
                    .help("follow `after` from probe to probe: one of them has to be armed from the start");
            }
        }
        for (index, step) in probe.during.iter().enumerate() {
            let at = format!("{path}.during[{index}]");
            let names = || recipe.trigger.iter().map(|step| step.name.as_str());
            if !names().any(|other| other == step) {
                let help = known(step, "step", names());
                self.value(&at, format!("probe `{name}`: there is no step `{step}`"), "").help(help);
            }
        }
    }
}

/// Whether following `after` from a probe leads to a probe that was passed before.
fn comes_back(from: &ProbeSpec, probes: &[ProbeSpec]) -> bool {
    let mut passed = vec![from.name.as_str()];
    let next = |name: &str| probes.iter().find(|probe| probe.name == name)?.after.as_deref();
    let mut at = from.after.as_deref();
    while let Some(name) = at {
        if passed.contains(&name) {
            return true;
        }
        passed.push(name);
        at = next(name);
    }
    false
}

/// What a wrong name could have been, and what there is.
fn known<'n>(wrong: &str, what: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    let all = match names.clone().next() {
        None => format!("the recipe has no other {what}"),
        Some(_) => format!("there is {}", spelling::listed(names.clone())),
    };
    spelling::did_you_mean(wrong, names).map_or(all.clone(), |near| format!("{near}\n{all}"))
}
