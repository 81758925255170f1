//! `kdbg export`: a hit of a recording as a core that other debuggers open.

use std::path::Path;

use crate::cli::ExportArgs;
use crate::commands::output::{ELSEWHERE, folder_of, write_whole};
use crate::commands::recorded::{self, Origin, Recorded, file_of, quoted};
use crate::error::{Error, IoContext, Result};
use crate::kernel::vmlinux::addresses;
use crate::pack::is_pack;
use crate::recording::Recording;
use crate::recording::vmcore::{InfoPlace, Vmcore, info};
use crate::report::text::size;
use crate::store::space;
use crate::ui;
use crate::vscode::NO_AUTO_LOAD;

/// The option that has a kernel keep its VMCOREINFO, and the names of that.
const OPTION: &str = "PROC_KCORE";
const VARIABLES: [&str; 2] = ["vmcoreinfo_data", "vmcoreinfo_size"];

/// Writes the core beside the recording, or where the user wants it, and says how to open it.
///
/// # Errors
/// There is no recording, or it cannot be read; it has no such hit; the file cannot be written.
pub fn export(args: &ExportArgs) -> Result<()> {
    if args.run.is_file() && is_pack(&args.run) {
        return Err(Error::usage(format!("{} is a pack", args.run.display()))
            .hint("`tar xf FILE` makes a run directory of it, and `kdbg export` takes that"));
    }
    let file = file_of(&args.run)?;
    let Recorded { mut recording, without, origin, cache: _held, .. } = recorded::open(&args.run)?;
    let hit = recording.place_of(args.hit)?;
    let output = args.output.clone().unwrap_or_else(|| file.with_file_name(format!("hit-{}.vmcore", args.hit)));
    recording.cut.iter().for_each(|cut| warn(cut));
    let info = info_of(&mut recording, hit, without);
    info.as_ref().err().into_iter().for_each(|why| warn(why));
    let core = Vmcore::of(&mut recording, hit, info.as_deref().ok())?;
    if core.left_out > 0 {
        warn(&format!("gdb finds no memory of the program that runs there: {} runs of it are too many", core.left_out));
    }
    write(&core, &mut recording, &output)?;
    eprintln!("{} of memory at hit {} of {}", size(core.bytes()), args.hit, recording.head.recipe);
    let words = openers(&recording, hit, &output, origin);
    ui::print(&words).or_host("write to standard output")?;
    stack_in_crash(&recording, hit).into_iter().for_each(|words| eprintln!("{words}"));
    Ok(())
}

/// What has a crash that is older than 9.0 show the stack of the hit. It gives up when it has looked for a panic on all stacks,
/// where the kernel has not all that there can be (its commit 8a11aa0).
fn stack_in_crash(recording: &Recording, hit: usize) -> Option<String> {
    let cpu = recording.hits.get(hit)?.cpu;
    let [rip, rsp] = ["rip", "rsp"].map(|name| recording.register(hit, cpu, name));
    Some(format!("crash before 9.0: `set -c {cpu}`, `bt -I {:x} -S {:x}`", rip?, rsp?))
}

fn warn(text: &str) {
    eprintln!("warning: {text}");
}

/// The kernel's VMCOREINFO, or why there is none.
fn info_of(recording: &mut Recording, hit: usize, no_kernel: Option<String>) -> Result<Vec<u8>, String> {
    let without = |why: String| format!("this core has no VMCOREINFO, without which drgn does not open it: {why}");
    if let Some(why) = no_kernel {
        return Err(without(why));
    }
    let found = addresses(Path::new(&recording.head.kernel.vmlinux), VARIABLES);
    let place = match found.map_err(|error| without(error.message))? {
        [Some(data), Some(size)] => InfoPlace { data, size },
        _ => {
            return Err(without(format!(
                "the kernel was built without {OPTION}; put `{OPTION}: y` under `kernel.options` of the recipe, and record it again"
            )));
        }
    };
    info(recording, hit, place).ok_or_else(|| without("the kernel had not written its VMCOREINFO yet".into()))
}

/// Writes the file whole or not at all.
fn write(core: &Vmcore, recording: &mut Recording, output: &Path) -> Result<()> {
    let (folder, needed) = (folder_of(output), core.bytes());
    if let Ok(there) = space::free(folder)
        && there < needed
    {
        let (needed, there) = (size(needed), size(there));
        let message = format!("the core takes {needed}, and {} has room for {there}", folder.display());
        return Err(Error::host(message).hint(ELSEWHERE));
    }
    write_whole(output, |file| core.write(recording, file).or_host(format!("write {}", output.display())))
}

/// The commands that open it, a line each. GDB begins with the first CPU.
fn openers(recording: &Recording, hit: usize, output: &Path, origin: Origin) -> String {
    let (core, vmlinux) = (quoted(&output.to_string_lossy()), quoted(&recording.head.kernel.vmlinux));
    let guard = match origin {
        Origin::Foreign => format!(" -iex {}", quoted(NO_AUTO_LOAD)),
        Origin::Cache | Origin::Host => String::new(),
    };
    let thread = match recording.hits.get(hit).map_or(0, |hit| hit.cpu) {
        0 => String::new(),
        cpu => format!(" -ex 'thread {}'", cpu + 1),
    };
    format!("gdb{guard} {vmlinux} {core}{thread}\ndrgn -c {core} -s {vmlinux}\ncrash {vmlinux} {core}\n")
}
