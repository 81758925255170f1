//! What the guest's kernel complained about, with the stacks that it printed.
//!
//! Pure.

use super::escape::{code, sentence, text};
use super::page::Page;
use crate::report::model::{Call, Incident, Report};
use crate::report::path::place;

/// The section, if there is anything to say.
pub(super) fn write(page: &mut Page, report: &Report) {
    if report.incidents.is_empty() {
        return;
    }
    page.heading(2, "What the kernel complained about");
    report.incidents.iter().for_each(|incident| write_incident(page, incident));
}

fn write_incident(page: &mut Page, incident: &Incident) {
    let step = incident.step.as_ref().map(|step| format!(", in step {}", code(step))).unwrap_or_default();
    page.paragraph(&format!("{}{step}: {}", sentence(incident.kind.said()), code(&incident.text)));
    let rows: Vec<_> = incident.stack.iter().map(row).collect();
    if !rows.is_empty() {
        page.table(["function", "where", ""], &rows);
    }
}

fn row(call: &Call) -> [String; 3] {
    let module = call.module.as_ref().map(|name| format!(" of module {}", code(name))).unwrap_or_default();
    let inlined = if call.inlined { " (inlined)" } else { "" };
    let place =
        place(call.file.as_deref(), call.line).map_or_else(|| code(&format!("+{:#x}", call.offset)), |at| text(&at));
    let doubt = if call.certain { "" } else { "may be left over from an earlier call" };
    [format!("{}{module}{inlined}", code(&call.symbol)), place, doubt.into()]
}
