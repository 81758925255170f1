//! A probe that resolves to nothing, as an error at its line of the recipe.

use std::path::PathBuf;

use super::arm::Armed;
use super::probes::Probe;
use crate::error::Error;
use crate::gdb::breakpoints::Unresolved;
use crate::gdb::{group, symbols};
use crate::recipe::ProbePoint;
use crate::spelling::nearest;

impl Armed<'_> {
    /// The modules that have this function and are not in the guest.
    fn elsewhere(&self, function: &str) -> Vec<String> {
        let modules = &self.kernel.modules;
        let absent =
            modules.index.modules().filter(|(name, _)| self.chosen.debug.iter().all(|(there, _)| there != name));
        let with = absent.filter(|(_, module)| {
            modules.debug_file(module).is_some_and(|file| symbols::functions(&file).iter().any(|name| name == function))
        });
        with.map(|(name, _)| name.to_string()).collect()
    }

    /// Function names of the kernel and of the guest's modules that look like `wrong`, closest first.
    fn close_to(&self, wrong: &str, near: &[String]) -> Vec<String> {
        let files: Vec<&PathBuf> = self.chosen.debug.iter().map(|(_, file)| file).collect();
        let more: Vec<String> = files.into_iter().flat_map(|file| symbols::functions(file)).collect();
        nearest(wrong, near.iter().chain(&more).map(String::as_str)).into_iter().map(String::from).collect()
    }

    /// A probe that did not resolve, shown at its line of the recipe.
    pub(super) fn explain(&self, index: usize, unresolved: Unresolved) -> Error {
        let (order, kernel, path) = (self.order, self.kernel, format!("probes[{index}]"));
        let Probe { spec, point, .. } = &self.probes[index];
        let probe = &spec.name;
        let label = format!("vmlinux {} ({})", kernel.release, kernel.key);
        match unresolved {
            Unresolved::Failed(error) => error,
            Unresolved::BadCondition(why) => order.loaded.diagnose(
                &format!("{path}.when"),
                format!("probe `{probe}`: GDB cannot use this condition at {point}"),
                why,
                &["a condition is a C expression over the arguments and locals of the place where the probe stops"
                    .into()],
            ),
            Unresolved::NoReturn(name) => order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: `{name}` is inlined wherever it is called"),
                "it has no return",
                &[format!("stop where it begins: `at: {name}`, or at a line behind the call: `at: file:line`")],
            ),
            Unresolved::Freed => order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: the code of {point} is gone when the probe is armed"),
                "init code, which the kernel frees at the end of its boot",
                &["probes are armed when the guest has booted: stop in what runs then".into()],
            ),
            Unresolved::NoForcedReturn(why) => order.loaded.diagnose(
                &format!("{path}.force_return"),
                format!("probe `{probe}`: {point} cannot be made to return where it is entered"),
                why,
                &["`force_return` is for functions that are called, at their first instruction".into()],
            ),
            Unresolved::BadWatch(why) => order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: this cannot be watched"),
                why,
                &["watch a member of at most 8 bytes, or a global variable; what has names of a function needs that function's \
                   probe in `after`"
                    .into()],
            ),
            Unresolved::TooMany(names) => order.loaded.diagnose(
                &format!("{path}.at"),
                format!("probe `{probe}`: {point} stands for {} functions, and may for {}", names.len(), group::MOST),
                format!("among them {} and {}", names[..3].join(", "), names[names.len() - 1]),
                &["write more of the name, or a probe for each function that matters".into()],
            ),
            Unresolved::NoSuchPlace { near, next_line } => {
                let what = match point {
                    ProbePoint::Function(name) | ProbePoint::Return(name) => {
                        format!("no function `{name}` in this kernel")
                    }
                    ProbePoint::Pattern(pattern) => format!("no function of this kernel matches `{pattern}`"),
                    ProbePoint::FunctionLine { function, offset } if near.is_empty() => {
                        format!("no code of its own {offset} lines below the name of `{function}` in this kernel")
                    }
                    ProbePoint::FunctionLine { function, .. } => format!("no function `{function}` in this kernel"),
                    ProbePoint::FileLine { file, line } => format!("no code at line {line} of {file} in this kernel"),
                    ProbePoint::Watch(expression) => format!("no `{expression}` in this kernel"),
                    ProbePoint::Address(address) => format!("no code at {address:#x} in this kernel"),
                };
                let mut helps = Vec::new();
                let (mut near, mut elsewhere) = (near, Vec::new());
                if let Some(name) = point.function() {
                    elsewhere = self.elsewhere(name);
                    near = self.close_to(name, &near);
                }
                if !elsewhere.is_empty() {
                    helps.push(format!("it is in a module: add `kernel.modules: [{}]`", elsewhere.join(", ")));
                } else if !near.is_empty() {
                    helps.push(format!("close by: {}", near.join(", ")));
                }
                if let Some(line) = next_line {
                    helps.push(format!("the next line with code is {line}"));
                }
                if point.function().is_some() && elsewhere.is_empty() {
                    let advice = match kernel.is_packaged() {
                        true => {
                            "this kernel is as its distribution configured it; for a function that it leaves out, have one built: `version` and `options` instead of `package`"
                        }
                        false => {
                            "a function that this kernel's configuration leaves out needs its option in `kernel.options`"
                        }
                    };
                    helps.push(advice.into());
                }
                order.loaded.diagnose(
                    &format!("{path}.at"),
                    format!("probe `{probe}`: {what}"),
                    format!(
                        "not in {label}{}",
                        if self.chosen.debug.is_empty() { "" } else { " or a module of the guest" }
                    ),
                    &helps,
                )
            }
        }
    }
}
