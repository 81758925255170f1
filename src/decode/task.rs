//! Tasks.

use super::{Decoder, Object, Said};
use crate::layout::Wanted;

pub(super) const WANTED: Wanted = ("task_struct", &["comm", "pid", "tgid", "rcu_read_lock_nesting", "lockdep_depth"]);

/// Reads a `task_struct`.
pub(super) fn read(decoder: &mut Decoder<'_>, task: &Object) -> Said {
    let (comm, pid) = (decoder.text(task, "comm").unwrap_or_default(), decoder.number(task, "pid"));
    let number = pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
    Said::new(format!("{comm}{number}"))
        .with("comm", Some(comm))
        .with("pid", pid)
        .with("tgid", decoder.number(task, "tgid"))
}
