//! `kdbg build`: the kernel of a recipe, built or found.

use std::time::Instant;

use serde::Serialize;

use super::{explain, purposes_of};
use crate::cli::BuildArgs;
use crate::error::{Error, IoContext, Result};
use crate::event::{Cancel, millis};
use crate::host::check;
use crate::host::needs::needs_for;
use crate::host::system::System;
use crate::kernel::{self, KernelBuild};
use crate::store::Cache;
use crate::{recipe, session, ui};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Built<'a> {
    vmlinux: &'a std::path::Path,
    boot_image: &'a std::path::Path,
    config: &'a std::path::Path,
    source_tree: Option<&'a std::path::Path>,
    release: &'a str,
    build_id: &'a str,
    key: &'a str,
    compiler: &'a str,
    cached: bool,
    duration_ms: u64,
}

/// Builds the recipe's kernels, one after the other, and says where each is; with `--explain`, what each comes to.
///
/// # Errors
/// The recipe is wrong, the host lacks something, or a kernel does not build.
pub fn build(args: &BuildArgs, cancel: &Cancel) -> Result<()> {
    let loaded = recipe::load(&args.recipe)?;
    let resolved = recipe::resolve(&loaded)?;
    let recipes = loaded.for_each_kernel(&args.kernel)?;
    // With --json, standard output holds one object a kernel; progress stays on standard error.
    let (events, screen) = ui::start(ui::Mode::detect(false));
    let cache = Cache::open()?;
    for recipe in &recipes {
        let start = Instant::now();
        let request = session::kernel_request(recipe, &resolved)?;
        if args.explain || !kernel::is_filed(&request, &cache, cancel) {
            let versions: Vec<&str> = request.choice.version().into_iter().collect();
            let needs = needs_for(&purposes_of(&[&request]), &versions);
            check::ensure(&needs, args.install, &System::here(&Cache::place()?), &events, cancel)?;
        }
        if args.explain {
            explain::show(&kernel::explain(&request, &cache, &events, cancel)?, args.json)?;
            continue;
        }
        let build = kernel::obtain(&request, None, &cache, &events, cancel)?;
        build.complaints().into_iter().for_each(|text| events.warn(text));
        // Told as soon as it is there: a later kernel may fail.
        let text = if args.json { as_json(&build, millis(start.elapsed()))? } else { as_text(&build, &request.label) };
        ui::print(&text).or_host("write to standard output")?;
    }
    screen.finish();
    Ok(())
}

fn as_json(build: &KernelBuild, duration_ms: u64) -> Result<String> {
    let built = Built {
        vmlinux: &build.vmlinux,
        boot_image: &build.boot_image,
        config: &build.config,
        source_tree: build.source_tree.as_deref(),
        release: &build.release,
        build_id: &build.build_id,
        key: &build.key,
        compiler: &build.compiler,
        cached: build.cached,
        duration_ms,
    };
    let text = serde_json::to_string(&built).map_err(|error| Error::host(error.to_string()))?;
    Ok(text + "\n")
}

fn as_text(build: &KernelBuild, label: &str) -> String {
    let label = if build.is_packaged() { &build.source_id } else { label };
    let source = build.source_tree.as_ref().map_or("not in the cache".into(), |tree| tree.display().to_string());
    format!(
        "  kernel   {} {label}  {}\n  vmlinux  {}\n  boot     {}\n  source   {source}\n",
        build.release,
        build.state(),
        build.vmlinux.display(),
        build.boot_image.display(),
    )
}
