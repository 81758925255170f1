//! From a recipe and its fragments to what is asked of a kernel.

use crate::error::{Error, Result};
use crate::kernel::kconfig::alternative::{Alternative, Wanted};
use crate::kernel::kconfig::{self, Origin, Refusal, Setting};
use crate::kernel::request::{OPTIONS, Request};
use crate::recipe::kernel::KernelSpec;
use crate::recipe::{self, KernelChoice, Loaded, Resolved};

/// What a fragment may hold.
const LINES: &str = "write `CONFIG_NAME=y`, `CONFIG_NAME=n`, `# CONFIG_NAME is not set`, a `#` comment, or `# or: CONFIG_OTHER=y` \
                     below an option that some versions call otherwise";

/// What the recipe asks of a kernel: its fragments, then its options, the later winning. The gate on the way to make:
/// nothing gets by [`kconfig::check`].
///
/// # Errors
/// A fragment has a line that is no option, or something is asked for that may not be.
pub fn kernel_request(loaded: &Loaded, resolved: &Resolved) -> Result<Request> {
    let spec = &loaded.recipe.kernel;
    let mut wanted = Wanted::default();
    for fragment in &resolved.fragments {
        let mut first = None;
        for setting in kconfig::settings(&fragment.text) {
            let Setting { line, symbol, value, is_alternative } = setting.map_err(|bad| {
                Error::recipe(format!("{} line {}: `{}` is not a Kconfig option", fragment.file(), bad.line, bad.text))
                    .hint(LINES)
            })?;
            kconfig::check(symbol, value).map_err(|Refusal { why, help }| {
                let place = format!("{} line {line}", fragment.file());
                Error::recipe(format!("{place}: CONFIG_{symbol} cannot be asked for: {why}")).hint(help)
            })?;
            let origin = Origin { by: fragment.name.clone(), place: format!("{}:{line}", fragment.file()) };
            if !is_alternative {
                wanted.set(symbol, value, origin);
                first = Some(symbol);
                continue;
            }
            let Some(first) = first else {
                let place = format!("{} line {line}", fragment.file());
                return Err(Error::recipe(format!("{place}: `# or:` has no option above it")).hint(LINES));
            };
            let other = Alternative { symbol: symbol.into(), value: value.into(), origin };
            wanted.alternatives.entry(first.into()).or_default().push(other);
        }
    }
    for (symbol, value) in &spec.options {
        let value = kconfig::quoted(&value.0);
        kconfig::check(symbol, &value).map_err(|Refusal { why, help }| {
            let at = format!("kernel.options.{symbol}");
            loaded.diagnose(&at, format!("`{symbol}` cannot be set to this"), why, &[help.into()])
        })?;
        let line = loaded.locate(&format!("kernel.options.{symbol}")).line;
        let place = format!("{}:{line}", loaded.path.display());
        wanted.set(symbol, &value, Origin { by: OPTIONS.into(), place });
    }
    let choice = recipe::resolve::kernel(loaded)?;
    if matches!(choice, KernelChoice::Package(_)) && !resolved.patches.is_empty() {
        let message = format!("--kernel {choice}: the recipe has patches, and a package cannot be patched");
        return Err(Error::usage(message).hint("name a version, or a recipe without `kernel.patches`"));
    }
    let patches = resolved.patches.clone();
    let debuggable = spec.debuggable.clone();
    Ok(Request { choice, patches, recipe: loaded.clone(), wanted, debuggable, label: label(spec) })
}

/// `base+net`, or `base+net, 2 patches`.
fn label(spec: &KernelSpec) -> String {
    let fragments = if spec.config.is_empty() { "no fragments".into() } else { spec.config.join("+") };
    match spec.patches.len() {
        0 => fragments,
        1 => format!("{fragments}, 1 patch"),
        count => format!("{fragments}, {count} patches"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked of a kernel by a recipe with these `options`, in a folder with that fragment `mine`.
    fn asked(options: &str, fragment: &str) -> Result<Request> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kconfigs")).unwrap();
        std::fs::write(folder.path().join("kconfigs/mine.config"), fragment).unwrap();
        let text = format!("name: a\nkernel:\n  version: \"6.1\"\n  config: [mine]\n  options: {options}\n");
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let loaded = recipe::load(&folder.path().join("a.yaml")).unwrap();
        kernel_request(&loaded, &recipe::resolve(&loaded).unwrap()).map_err(|error| {
            let message = error.message.replace(folder.path().to_str().unwrap(), "DIR");
            Error { message, ..error }
        })
    }

    #[test]
    fn options_and_fragments_are_merged() {
        let request = asked("{ B: y, LOCALVERSION: -mine }", "CONFIG_A=y\n# CONFIG_B is not set\n").unwrap();
        assert_eq!(request.wanted.options.to_fragment(), "CONFIG_A=y\nCONFIG_B=y\nCONFIG_LOCALVERSION=\"-mine\"\n");
    }

    #[test]
    fn an_alternative_belongs_to_the_option_above_it_until_that_is_set_anew() {
        let fragment = "CONFIG_A=y\n# or: CONFIG_B=y\n# or: CONFIG_C=m\n";
        let others = |request: &Request| {
            let all = request.wanted.alternatives.iter();
            let places =
                all.flat_map(|(first, list)| list.iter().map(move |other| (first, &other.symbol, &other.origin.place)));
            places
                .map(|(first, other, place)| {
                    format!("{first} {other} {}", place.rsplit('/').next().unwrap_or_default())
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(others(&asked("{}", fragment).unwrap()), ["A B mine.config:2", "A C mine.config:3"]);
        assert_eq!(others(&asked("{ A: n }", fragment).unwrap()), [""; 0]);
        let error = asked("{}", "# or: CONFIG_B=y\nCONFIG_A=y\n").unwrap_err();
        assert_eq!(error.message, "DIR/kconfigs/mine.config line 1: `# or:` has no option above it");
        let error = asked("{}", "CONFIG_A=y\n# or: CONFIG_B=\"$(id)\"\n").unwrap_err();
        assert!(error.message.contains("line 2: CONFIG_B cannot be asked for"), "{error}");
    }

    #[test]
    fn nothing_that_make_would_run_gets_to_make() {
        let error = asked(r#"{ LOCALVERSION: "$(touch x)$(shell touch y)" }"#, "").unwrap_err();
        assert_eq!(error.kind, crate::error::ErrorKind::Recipe);
        for part in ["`LOCALVERSION` cannot be set to this", "DIR/a.yaml:5:", "the text holds `$`"] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
        let error = asked("{}", "CONFIG_A=y\nCONFIG_LOCALVERSION=\"$(shell id)\"\n").unwrap_err();
        let expected = "DIR/kconfigs/mine.config line 2: CONFIG_LOCALVERSION cannot be asked for: the text holds `$`";
        assert_eq!(error.message, expected);
        assert!(asked("{ INITRAMFS_SOURCE: shadow }", "").is_err());
    }
}
