//! The command line, as clap types. Nothing in here does anything.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::session::Acceleration;

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
    /// Check, list recipes.
    #[command(subcommand)]
    Recipe(RecipeVerb),
    /// Compare two runs: call paths, signatures, shown values, expectations.
    Diff(DiffArgs),
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
