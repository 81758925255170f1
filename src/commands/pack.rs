//! `kdbg pack`: a recorded run in one file, for another machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::PackArgs;
use crate::commands::output::write_whole;
use crate::commands::recorded::{self, Recorded, file_of, is_plain};
use crate::error::{Error, IoContext, Result};
use crate::gdb::lines::Lines;
use crate::kernel::{self, vmlinux};
use crate::pack::{About, Content, ENDING, MANIFEST, SOURCE, VMLINUX, write};
use crate::recording::KernelOf;
use crate::report::model::Report;
use crate::report::sources::KernelTree;
use crate::report::text::{plural, size};
use crate::session::{ATTACH, HELD};
use crate::ui;

/// The report, which says whose recording it is.
const REPORT: &str = "report.json";
/// Where `kdbg replay` serves the recording for [`ATTACH`].
const ADDRESS: &str = "127.0.0.1:1234";
/// The kernel's own commands for gdb, beside its vmlinux.
const SCRIPTS: [&str; 2] = [kernel::SCRIPTS, "scripts"];

/// Packs a run, and says where.
///
/// # Errors
/// It was not recorded, or its kernel is gone; the file cannot be written.
pub fn pack(args: &PackArgs) -> Result<()> {
    let recording = file_of(&args.run)?;
    let run = recording.parent().unwrap_or(Path::new("."));
    let run =
        fs::canonicalize(if run == Path::new("") { Path::new(".") } else { run }).or_host("find the run directory")?;
    let report = report_of(&run)?;
    let Recorded { recording, without, about: earlier, cache: _held, .. } = recorded::open(&recording)?;
    let KernelOf { release, build_id, vmlinux, .. } = recording.head.kernel;
    let recipe = recording.head.recipe;
    let mut files = all_of(&run)?;
    // Of what was a pack before, the source that came with it.
    let is_source = |path: &String| path.strip_prefix(SOURCE).is_some_and(|path| path.starts_with('/'));
    let tree = earlier.and_then(|earlier| earlier.tree).filter(|_| files.keys().any(is_source));
    let mut about = About { kdbg: env!("CARGO_PKG_VERSION").into(), recipe, release, build_id, tree };
    match without {
        Some(why) if !args.thin => {
            return Err(Error::usage(why).hint("`kdbg pack RUN --thin` packs the run without its kernel"));
        }
        Some(_) if about.tree.is_some() => {}
        Some(why) => eprintln!("warning: no source is packed: {why}"),
        None => {
            about.tree = add_sources(&report, Path::new(&vmlinux), &mut files).or(about.tree);
            if about.tree.is_none() {
                eprintln!("warning: no source is packed: none of the stacks' files is where vmlinux says");
            }
            if !args.thin {
                add_kernel(Path::new(&vmlinux), &mut files)?;
            }
        }
    }
    // It is somebody else's text where pack.json, or vmlinux, is.
    about.tree = about.tree.filter(|tree| is_plain(tree));
    files.insert(ATTACH.into(), Content::Text(attach(&about, args.thin)));
    let name = name(&about.recipe, &run);
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.{ENDING}")));
    for path in write_whole(&output, |file| write(&about, &name, &files, file))? {
        eprintln!("warning: {path} is not packed: its name is too long");
    }
    let bytes = fs::metadata(&output).map_or(0, |metadata| metadata.len());
    eprintln!("{} in {}", plural(files.len() as u64, "file"), size(bytes));
    ui::print(&format!("{}\n", output.display())).or_host("write to standard output")
}

fn report_of(run: &Path) -> Result<Report> {
    let path = run.join(REPORT);
    let wrong = |why: String| {
        Error::usage(format!("{} is not the directory of a run that is over: {why}", run.display()))
            .hint("name a run directory, like runs/tcp-reset/latest")
    };
    let text = fs::read_to_string(&path).map_err(|error| wrong(format!("{REPORT}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("{REPORT}: {error}")))
}

/// The recipe's name and when it ran, as the run directory is called.
fn name(recipe: &str, run: &Path) -> String {
    let run = run.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    format!("{recipe}-{run}").replace(['/', ' '], "-")
}

/// All files of a run but those that can be made of the others, are of a session that is over, or come from elsewhere: the
/// kernel, and what only a pack has. What begins with a dot is a file that a kdbg was writing when it was killed.
fn all_of(run: &Path) -> Result<BTreeMap<String, Content>> {
    let mut files = BTreeMap::new();
    add_folder(run, "", &mut files)?;
    files.retain(|path, _| {
        let first = path.split('/').next().unwrap_or_default();
        let is_made_of_others = path.ends_with(".vmcore") || path.ends_with(&format!(".{ENDING}"));
        let is_elsewhere = [HELD, ATTACH, MANIFEST, VMLINUX].contains(&path.as_str()) || SCRIPTS.contains(&first);
        !is_made_of_others && !is_elsewhere && !first.starts_with('.')
    });
    Ok(files)
}

/// All plain files below a folder, with this in front of their paths.
fn add_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Content>) -> Result<()> {
    let doing = || format!("list {}", folder.display());
    for entry in fs::read_dir(folder).or_host(doing())? {
        let entry = entry.or_host(doing())?;
        let (path, kind) = (entry.path(), entry.file_type().or_host(doing())?);
        let Ok(name) = entry.file_name().into_string() else { continue };
        if kind.is_dir() {
            add_folder(&path, &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), Content::File(path));
        }
    }
    Ok(())
}

/// vmlinux, and the kernel's own commands for gdb where they were built with it.
fn add_kernel(vmlinux: &Path, files: &mut BTreeMap<String, Content>) -> Result<()> {
    files.insert(VMLINUX.into(), Content::File(vmlinux.into()));
    for name in SCRIPTS {
        let path = vmlinux.with_file_name(name);
        if path.is_dir() {
            add_folder(&path, &format!("{name}/"), files)?;
        } else if path.is_file() {
            files.insert(name.into(), Content::File(path));
        }
    }
    Ok(())
}

/// The source files that the stacks are in. Gives what vmlinux calls their folder, if they are there.
fn add_sources(report: &Report, vmlinux: &Path, files: &mut BTreeMap<String, Content>) -> Option<String> {
    let name = vmlinux::tree(vmlinux).ok().flatten()?;
    let tree = KernelTree::new(&name);
    let on_stacks = report.hits.iter().flat_map(|hit| &hit.frames).filter_map(|frame| frame.file.clone());
    let mut found = false;
    // Report and vmlinux may be somebody else's, who would have other files than these.
    let is_source = |file: &String| [".c", ".h", ".S", ".rs"].iter().any(|ending| file.ends_with(ending));
    for file in on_stacks.chain(inlined(report, vmlinux, &name)).filter(is_source) {
        if let Some(path) = tree.path(&file) {
            files.insert(format!("{SOURCE}/{file}"), Content::File(path));
            found = true;
        }
    }
    found.then_some(name)
}

/// The files of what is inlined where the probes are: a debugger that attaches begins there.
fn inlined(report: &Report, vmlinux: &Path, tree: &str) -> Vec<String> {
    let Some(lines) = Lines::open(vmlinux) else { return Vec::new() };
    let first = report.hits.iter().filter_map(|hit| hit.frames.first()).map(|frame| frame.address.as_str());
    let places: BTreeSet<u64> =
        first.filter_map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()).collect();
    let files = places.into_iter().flat_map(|place| lines.at(place)).filter_map(|line| line.file);
    files.filter_map(|file| Some(file.strip_prefix(tree)?.strip_prefix('/')?.to_string())).collect()
}

/// A script for who has unpacked it.
fn attach(about: &About, thin: bool) -> String {
    let file = if thin {
        format!("# file VMLINUX, the one with the build-id {}", about.build_id)
    } else {
        format!("file {VMLINUX}")
    };
    let tree = about.tree.as_ref().map(|tree| format!("set substitute-path {tree} {SOURCE}\n")).unwrap_or_default();
    format!(
        "# In this folder: `kdbg replay . --listen {ADDRESS}` in one terminal, `gdb -x {ATTACH}` in another.\n\
         set auto-load off\nset pagination off\n{file}\n{tree}target remote {ADDRESS}\n"
    )
}
