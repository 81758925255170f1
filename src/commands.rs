//! The verbs of the command line, one a file; each reads like a description of the verb.

pub mod build;
pub mod diff;
pub mod doctor;
pub mod recipe;
pub mod run;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{RecipeVerb, Verb};
use crate::error::{ErrorKind, IoContext, Result};
use crate::event::Cancel;

/// Carries out the verb. The exit code is that of a command that did its work: 0, or 1 for an expectation that failed.
///
/// # Errors
/// What kept the command from doing its work.
pub fn dispatch(verb: Verb, cancel: &Cancel) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => run::run(&args, cancel),
        Verb::Build(args) => build::build(&args, cancel).map(|()| ExitCode::SUCCESS),
        Verb::Recipe(RecipeVerb::Check { files }) => recipe::check(&files).map(|()| ExitCode::SUCCESS),
        Verb::Recipe(RecipeVerb::List { folder }) => recipe::list(&folder).map(|()| ExitCode::SUCCESS),
        Verb::Diff(args) => diff::diff(&args),
        Verb::Doctor(args) => doctor::run(&args, cancel).map(|()| ExitCode::SUCCESS),
        Verb::Supervise(_) => Ok(ExitCode::SUCCESS),
    }
}

/// The first Ctrl-C or SIGTERM asks every wait to end, so that a report is still written; the third one means it.
///
/// # Errors
/// The handlers cannot be set.
pub fn on_signals() -> Result<Cancel> {
    let cancel = Cancel::default();
    let flag: Arc<AtomicBool> = cancel.flag();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).or_host("handle signals")?;
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            flag.store(true, Ordering::Relaxed);
            if count >= 2 {
                // The supervisors of all children see this process end, and end them.
                std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
            }
        }
    });
    Ok(cancel)
}
