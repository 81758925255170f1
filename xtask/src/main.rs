//! kdbg's own chores, as `cargo xtask VERB`. One verb a file; this one only chooses.

mod bench;
mod process;
mod setup;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use kdbg::{commands, ui};

const USAGE: &str = "\
usage: cargo xtask VERB

  setup   install the host packages that kdbg lacks, build kdbg, build the kernel of the recipes
  test    setup, then formatting, lints, tidy and all tests; ends with `N passed, N failed`
  tidy    check the repository's own rules: floors, sizes, paths, links
  bench   `bench kernel`, `bench run`, `bench hits`: measure kdbg against the way without it, as ratios
          `bench locals`: how many arguments and locals can be read, without and with `debuggable`
  help    show this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, what) = match &arguments[..] {
        [verb] => (verb.as_str(), ""),
        [verb, what] if verb == "bench" => (verb.as_str(), what.as_str()),
        _ => ("", ""),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let result = match verb {
        "setup" => commands::on_signals().and_then(|cancel| setup::setup(root, &cancel)).map(|()| true),
        "test" => commands::on_signals().map(|cancel| test::test(root, &cancel)),
        "bench" => commands::on_signals().and_then(|cancel| bench::bench(what, root, &cancel)).map(|()| true),
        "tidy" => tidy::tidy(root),
        "help" | "--help" | "-h" => ui::print(USAGE).map(|()| true).or(Ok(false)),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => ui::print_error(&error),
    }
}
