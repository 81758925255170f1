//! What can be wrong with a probe by itself.

use super::Checker;
use crate::recipe::expression;
use crate::recipe::message::{Message, Piece};
use crate::recipe::point::ProbePoint;
use crate::recipe::types::ProbeSpec;

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
        if probe.stack < 1 {
            self.value(&format!("{path}.stack"), format!("probe `{name}`: a stack has at least one frame"), "");
        }
        if probe.limit < 1 {
            let message = format!("probe `{name}`: a probe that may not be hit sees nothing");
            self.value(&format!("{path}.limit"), message, "must be at least 1")
                .help("to say that it must not be hit, write `hits: 0` in `expect`");
        }
    }

    fn log(&mut self, path: &str, probe: &ProbeSpec) {
        let Some(log) = &probe.log else { return };
        let (name, path) = (&probe.name, format!("{path}.log"));
        match log.parse::<Message>() {
            Err(objection) => self.objection(&path, log, &format!("probe `{name}`: `log`"), objection),
            Ok(message) => {
                let returns = matches!(probe.at.parse(), Ok(ProbePoint::Return(_)));
                if message.pieces.contains(&Piece::Returned) && !returns {
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
}
