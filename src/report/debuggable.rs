//! What became of a kernel's files that were to be compiled for debugging (`kernel.debuggable`).

use serde::{Deserialize, Serialize};

use super::text::plural;

/// Most files that a warning names.
const NAMED: usize = 8;

/// How many files took which flags. Each takes the first at which it compiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debuggable {
    /// Files at `-O0`.
    pub o0: u64,
    /// Files at `-Og`.
    pub og: u64,
    /// Source files that are compiled as the kernel asks, relative to the kernel tree.
    pub plain: Vec<String>,
    /// Paths of the recipe below which this kernel has nothing compiled.
    pub unused: Vec<String>,
    /// Whether locals at `-O0` that are not set yet can be told from others.
    pub marks_unset: bool,
}

impl Debuggable {
    /// In a few words, like `141 files at -O0, 1 plain`.
    pub fn summary(&self) -> String {
        let counts = [(self.o0, "at -O0"), (self.og, "at -Og"), (self.plain.len() as u64, "plain")];
        let mut counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let Some((first, rung)) = counts.next() else { return "no files".into() };
        let first = format!("{} {rung}", plural(first, "file"));
        counts.fold(first, |text, (count, rung)| format!("{text}, {count} {rung}"))
    }

    /// What the user did not get of what was asked for, a line each.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if !self.plain.is_empty() {
            let named = self.plain.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let rest = self.plain.len().saturating_sub(NAMED);
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            let files = plural(self.plain.len() as u64, "file");
            complaints.push(format!(
                "{files} of `debuggable` compile neither at -O0 nor at -Og and are optimized as usual: {named}{rest}"
            ));
        }
        complaints.extend(self.unused.iter().map(|path| {
            format!(
                "`debuggable` lists `{path}`, where this kernel has nothing compiled: turn on what is there, or drop it"
            )
        }));
        if self.o0 > 0 && !self.marks_unset {
            complaints.push(
                "the kernel's compiler has no -ftrivial-auto-var-init=pattern (gcc has it from 12 on): a local of a \
                 debuggable file that is not set yet shows what the stack held before"
                    .into(),
            );
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(o0: u64, og: u64, plain: &[&str]) -> Debuggable {
        let plain = plain.iter().map(|file| file.to_string()).collect();
        Debuggable { o0, og, plain, unused: Vec::new(), marks_unset: true }
    }

    #[test]
    fn the_summary_counts_what_there_is() {
        for (outcome, summary) in [
            (of(141, 2, &["net/a.c"]), "141 files at -O0, 2 at -Og, 1 plain"),
            (of(0, 0, &["net/a.c"]), "1 file plain"),
            (of(0, 0, &[]), "no files"),
        ] {
            assert_eq!(outcome.summary(), summary);
        }
    }

    #[test]
    fn what_was_not_had_is_named() {
        assert!(of(141, 2, &[]).complaints().is_empty());
        let files: Vec<String> = (0..10).map(|n| format!("net/{n}.c")).collect();
        let many = of(1, 0, &files.iter().map(String::as_str).collect::<Vec<_>>());
        let lacking = Debuggable { unused: vec!["fs/".into()], marks_unset: false, ..many };
        let [plain, unused, unset] = lacking.complaints().try_into().unwrap();
        assert!(
            plain.starts_with("10 files of")
                && plain
                    .ends_with(": net/0.c, net/1.c, net/2.c, net/3.c, net/4.c, net/5.c, net/6.c, net/7.c and 2 more"),
            "{plain}"
        );
        assert!(unused.contains("`fs/`") && unset.contains("-ftrivial-auto-var-init"), "{unused}\n{unset}");
    }
}
