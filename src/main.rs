//! Parses, runs, prints the error and its hint, and ends with the documented exit code.

use std::process::ExitCode;

use clap::Parser;
use kdbg::cli::{Cli, Verb};
use kdbg::process::{self, supervisor};
use kdbg::{commands, ui};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Verb::Supervise(args) = cli.verb {
        let order = supervisor::Order { parent: args.parent, scrub: args.scrub, command: args.command };
        return ExitCode::from(supervisor::supervise(&order));
    }
    // Not current_exe(): this is the running program even when its file was replaced meanwhile.
    process::set_supervisor("/proc/self/exe".into());
    let cancel = match commands::on_signals() {
        Ok(cancel) => cancel,
        Err(error) => return ui::print_error(&error),
    };
    match commands::dispatch(cli.verb, &cancel) {
        Ok(code) => code,
        Err(error) => ui::print_error(&error),
    }
}
