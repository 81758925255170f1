//! The verbs of the command line, one a file; each reads like a description of the verb.

pub mod attach;
pub mod build;
pub mod cache;
pub mod debug;
pub mod diff;
pub mod doctor;
mod explain;
pub mod export;
mod guest;
mod matrix;
mod output;
pub mod pack;
pub mod recipe;
mod recorded;
pub mod replay;
pub mod run;
pub mod shell;
pub mod symbols;
mod table;
mod terminal;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{CacheVerb, RecipeVerb, Verb};
use crate::error::{ErrorKind, IoContext, Result};
use crate::event::Cancel;
use crate::host::needs::Purpose;
use crate::kernel::Request;

/// What the host has to have for these kernels, none of which is filed.
fn purposes_of(requests: &[&Request]) -> Vec<Purpose> {
    let mut purposes = Vec::new();
    for request in requests {
        if request.is_package() {
            purposes.push(Purpose::Package);
            continue;
        }
        purposes.extend(Purpose::BUILD);
        if request.needs_git() {
            purposes.push(Purpose::Git);
        }
        if !request.patches.is_empty() {
            purposes.push(Purpose::Patch);
        }
    }
    purposes
}

/// Carries out the verb. The exit code is that of a command that did its work: 0, or 1 for an expectation that failed.
///
/// # Errors
/// What kept the command from doing its work.
pub fn dispatch(verb: Verb, cancel: &Cancel) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => run::run(&args, cancel),
        Verb::Build(args) => build::build(&args, cancel).map(|()| ExitCode::SUCCESS),
        Verb::Symbols(args) => symbols::symbols(&args, cancel).map(|()| ExitCode::SUCCESS),
        Verb::Shell(args) => shell::shell(&args, cancel),
        Verb::Debug(args) => debug::debug(&args, cancel),
        Verb::Replay(args) => replay::replay(&args, cancel),
        Verb::Export(args) => export::export(&args).map(|()| ExitCode::SUCCESS),
        Verb::Pack(args) => pack::pack(&args).map(|()| ExitCode::SUCCESS),
        Verb::Recipe(RecipeVerb::Check { files }) => recipe::check(&files).map(|()| ExitCode::SUCCESS),
        Verb::Recipe(RecipeVerb::List { folder }) => recipe::list(&folder).map(|()| ExitCode::SUCCESS),
        Verb::Cache(CacheVerb::List { json }) => cache::list(json).map(|()| ExitCode::SUCCESS),
        Verb::Cache(CacheVerb::Gc(args)) => cache::gc(&args).map(|()| ExitCode::SUCCESS),
        Verb::Attach(args) => attach::attach(&args),
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;

    use crate::cli::Cli;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => sources(&path, found),
                path if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                _ => {}
            }
        }
    }

    /// What is wrong with a command line that a message names, without the leading `kdbg`.
    fn objection(line: &str) -> Option<String> {
        let mut command = Cli::command();
        for word in line.split_whitespace() {
            if let Some(flag) = word.strip_prefix("--") {
                let flag = flag.split('=').next().unwrap_or(flag);
                if !command.get_arguments().any(|argument| argument.get_long() == Some(flag)) {
                    return Some(format!("no flag --{flag}"));
                }
            } else if command.has_subcommands() {
                match command.find_subcommand(word).cloned() {
                    Some(verb) => command = verb,
                    None => return Some(format!("no verb {word}")),
                }
            }
        }
        None
    }

    #[test]
    fn messages_name_only_commands_that_exist() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let opening = format!("{}kdbg ", '`');
        let (mut seen, mut wrong) = (0, Vec::new());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for command in line.split(&opening).skip(1).filter_map(|rest| rest.split('`').next()) {
                    seen += 1;
                    let place = || format!("{}: kdbg {command}", file.display());
                    wrong.extend(objection(command).map(|why| format!("{}: {why}", place())));
                }
            }
        }
        assert!(seen > 5 && wrong.is_empty(), "{seen} seen\n{}", wrong.join("\n"));
        let bad = ["rewind x", "recipe new", "run RECIPE --moon V"];
        assert!(bad.into_iter().all(|line| objection(line).is_some()));
        assert_eq!(objection("run RECIPE --install"), None);
    }
}
