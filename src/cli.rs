//! The command line, as clap types. Nothing in here does anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::server::Address;
use crate::session::{Acceleration, Hold};

/// Kernel debugging sessions as code: a recipe boots a debug kernel, stops on functions, reports every stop.
#[derive(Debug, Parser)]
#[command(name = "kdbg", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a recipe and report every hit.
    Run(RunArgs),
    /// Build a recipe's kernel, or find it in the cache.
    Build(BuildArgs),
    /// Show where a recipe's probes will stop, and what can be read there; nothing boots.
    Symbols(SymbolsArgs),
    /// Sit at a terminal in a recipe's guest, its topology set up.
    Shell(ShellArgs),
    /// Boot a recipe's guest for debuggers to attach to, with a shell in the terminal; no probe, no step.
    Debug(DebugArgs),
    /// Serve a run that was recorded to gdb: its hits are the stops, forwards and backwards.
    Replay(ReplayArgs),
    /// Write a hit of a run that was recorded as a core for crash, drgn and gdb.
    Export(ExportArgs),
    /// Put a run that was recorded into one file that replays on another machine.
    Pack(PackArgs),
    /// Check, list recipes.
    #[command(subcommand)]
    Recipe(RecipeVerb),
    /// Attach gdb to a guest that `kdbg run --hold` or `kdbg debug` offers.
    Attach(AttachArgs),
    /// Compare two runs: call paths, signatures, shown values, expectations.
    Diff(DiffArgs),
    /// Show what is in the cache, delete what is not needed.
    #[command(subcommand)]
    Cache(CacheVerb),
    /// Show what this host has and lacks.
    Doctor(DoctorArgs),
    /// Runs a program that ends when kdbg does; kdbg's own use.
    #[command(hide = true, name = crate::process::supervisor::VERB)]
    Supervise(SuperviseArgs),
}

/// `kdbg run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The recipe.
    pub recipe: PathBuf,
    /// Run on this kernel instead of the recipe's: a version, a package, or the path of a tree, an archive or a git
    /// repository (PATH@REVISION); several make a matrix.
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Vec<String>,
    /// Put the results into this new or empty folder instead of runs/<recipe>/<time>.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What executes the guest; auto is KVM where a boot under it has passed, else TCG.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// Boot the guest, even where one that was booted before is saved.
    #[arg(long)]
    pub cold: bool,
    /// Stop at breakpoints, even where kdbg knows a way that costs less.
    #[arg(long)]
    pub breakpoints: bool,
    /// Record the guest's registers and memory at each hit, for `kdbg replay`.
    #[arg(long)]
    pub record: bool,
    /// Hold the guest at this hit, a number or the first of a probe, or where the run fails (`fail`), until a debugger has
    /// attached and left.
    #[arg(long, value_name = "HIT|PROBE|fail")]
    pub hold: Option<Hold>,
    /// Where debuggers find the guest that is held.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Print events and the result as JSON, one object a line.
    #[arg(long)]
    pub json: bool,
    /// Install the host packages that are missing.
    #[arg(long)]
    pub install: bool,
}

/// `kdbg build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The recipe whose kernel to build.
    pub recipe: PathBuf,
    /// Build this kernel instead of the recipe's: a version, a package, or the path of a tree, an archive or a git
    /// repository (PATH@REVISION); may be repeated.
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Vec<String>,
    /// Compile nothing: show which options were asked for, forced and dropped.
    #[arg(long)]
    pub explain: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Install the host packages that are missing.
    #[arg(long)]
    pub install: bool,
}

/// `kdbg symbols`.
#[derive(Debug, Args)]
pub struct SymbolsArgs {
    /// The recipe whose probes to look at; its kernel is built if need be.
    pub recipe: PathBuf,
    /// Look in this kernel instead of the recipe's: a version, a package, or the path of a tree, an archive or a git
    /// repository (PATH@REVISION); may be repeated.
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Vec<String>,
    /// Print the result as JSON, one object a kernel.
    #[arg(long)]
    pub json: bool,
    /// Install the host packages that are missing.
    #[arg(long)]
    pub install: bool,
}

/// `kdbg shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The guest to enter.
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// `kdbg debug`.
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// The guest to debug.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Boot, and wait for a debugger before the first instruction.
    #[arg(long)]
    pub early: bool,
    /// Where debuggers find it.
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// A guest for a person.
#[derive(Debug, Args)]
pub struct GuestArgs {
    /// The recipe whose guest it is.
    pub recipe: PathBuf,
    /// Run this kernel instead of the recipe's: a version, a package, or the path of a tree, an archive or a git
    /// repository (PATH@REVISION).
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Option<String>,
    /// What executes the guest; auto is KVM where a boot under it has passed, else TCG.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// Boot the guest, even where one that was booted before is saved.
    #[arg(long)]
    pub cold: bool,
    /// Install the host packages that are missing.
    #[arg(long)]
    pub install: bool,
}

/// `kdbg replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A run directory with a recording, its recording.kdbg, or what `kdbg pack` has made of it.
    pub run: PathBuf,
    /// Where debuggers find it.
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Where debuggers find what kdbg serves.
#[derive(Debug, Default, Args)]
pub struct ListenArgs {
    /// Listen on this port of the loopback, like 1234 or 127.0.0.1:1234; one that is free if this is left out.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Address>,
    /// Listen on a Unix socket that is made here, which nobody else may use.
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub socket: Option<PathBuf>,
}

impl ListenArgs {
    /// The address. A debugger is not where kdbg is, so the path of a socket is a whole one.
    pub fn address(&self) -> Address {
        let socket = self.socket.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        socket.map(Address::Unix).or(self.listen.clone()).unwrap_or(Address::ANY)
    }
}

/// `kdbg export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run directory with a recording, or its recording.kdbg.
    pub run: PathBuf,
    /// Which hit, by its number in the report.
    #[arg(long, value_name = "N")]
    pub hit: u64,
    /// As a core of the kernel (ELF), the one format that there is.
    #[arg(long, required = true)]
    pub vmcore: bool,
    /// Write it here instead of to hit-N.vmcore beside the recording.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `kdbg pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// A run directory with a recording.
    pub run: PathBuf,
    /// Leave vmlinux out: who replays it needs one with the same build-id.
    #[arg(long)]
    pub thin: bool,
    /// Write it here instead of to RECIPE-TIME.kdbgpack in this folder.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `kdbg recipe`.
#[derive(Debug, Subcommand)]
pub enum RecipeVerb {
    /// Check recipes without running them; every mistake is shown at its line.
    Check {
        /// The recipes.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the recipes of a folder.
    List {
        /// The folder.
        #[arg(default_value = "recipes")]
        folder: PathBuf,
    },
}

/// `kdbg cache`.
#[derive(Debug, Subcommand)]
pub enum CacheVerb {
    /// Show what is in the cache, how large it is and when it was last used.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Delete what was not used for long, and what is of no use; nothing that a running kdbg uses.
    Gc(GcArgs),
}

/// `kdbg cache gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Delete what was not used for so long, like 12h or 30d.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub older_than: Duration,
    /// Then delete what was used least recently, until the cache takes no more than this, like 500M or 5G.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub keep_size: Option<u64>,
    /// Delete everything.
    #[arg(long, conflicts_with_all = ["older_than", "keep_size"])]
    pub all: bool,
    /// Only show what would be deleted.
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A number of bytes, with a binary unit: `5G`, `500MiB`, `0`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim().to_ascii_uppercase();
    let shift = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("write a whole number and a unit: K, M, G or T".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a whole number and a unit, like 5G")?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than there can be".into())
}

/// `kdbg attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The directory of the run; without it, the last one below runs/ that holds a guest.
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,
}

/// `kdbg diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run directory, or its report.json.
    #[arg(value_name = "RUN")]
    pub first: PathBuf,
    /// Another one.
    #[arg(value_name = "RUN")]
    pub second: PathBuf,
    /// Print the difference as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `kdbg doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Install what is missing.
    #[arg(long)]
    pub install: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `kdbg supervise`.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// kdbg's process id.
    #[arg(long)]
    pub parent: i32,
    /// A directory to delete when kdbg is gone.
    #[arg(long)]
    pub scrub: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where a boot under it has passed, else TCG.
    Auto,
    /// KVM or an error.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl From<Accel> for Acceleration {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Acceleration::Auto,
            Accel::Kvm => Acceleration::Kvm,
            Accel::Tcg => Acceleration::Tcg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_whole_numbers_of_binary_units() {
        for (text, expected) in
            [("0", 0), ("7", 7), ("2K", 2048), ("500MiB", 500 << 20), ("5g", 5 << 30), ("1 TB", 1 << 40)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "1.5G", "-1", "5X", "5GG", "99999999999T"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
