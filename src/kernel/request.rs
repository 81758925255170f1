//! What is asked of a kernel: which one, how it is configured, and where in the recipe that stands.

use super::kconfig::alternative::Wanted;
use super::source;
use crate::error::{Error, ErrorKind};
use crate::recipe::{KernelChoice, Loaded, Patch, Source};

/// Where a recipe asks for options itself, as the origin of an option says it.
pub const OPTIONS: &str = "kernel.options";

/// What a recipe wants of a kernel.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which kernel.
    pub choice: KernelChoice,
    /// What is to be changed in its source, in this order.
    pub patches: Vec<Patch>,
    /// The recipe, for errors that point into it.
    pub recipe: Loaded,
    /// All fragments and options, merged.
    pub wanted: Wanted,
    /// What of the tree is compiled for debugging: `net/`, `net/socket.c`.
    pub debuggable: Vec<String>,
    /// How to call the configuration on the screen, like `base+net`.
    pub label: String,
}

impl Request {
    /// Whether getting the source takes git.
    pub fn needs_git(&self) -> bool {
        match &self.choice {
            KernelChoice::Source(source) => matches!(source, Source::Git { .. }),
            KernelChoice::Path { path, revision } => revision.is_some() || source::is_bare_repository(path),
            KernelChoice::Version(_) | KernelChoice::Package(_) => false,
        }
    }

    /// An error about which kernel it is: it points at the recipe's line, if that is where the kernel is named.
    pub fn diagnose(&self, message: impl Into<String>, label: impl Into<String>, helps: &[String]) -> Error {
        let place = self.recipe.recipe.kernel.choices().into_iter().map(|(place, _)| place).next().unwrap_or_default();
        match place.is_empty() {
            false => self.recipe.diagnose(&place, message, label, helps),
            true => {
                let label: String = label.into();
                let colon = if label.is_empty() { "" } else { ": " };
                let error = Error::usage(format!("--kernel {}: {}{colon}{label}", self.choice, message.into()));
                helps.first().map_or(error.clone(), |help| error.hint(help))
            }
        }
    }

    /// An error about its source, pointed at where the recipe names that.
    pub fn place(&self, error: Error) -> Error {
        let place = self.recipe.recipe.kernel.choices().into_iter().map(|(place, _)| place).next().unwrap_or_default();
        if error.kind != ErrorKind::Kernel || place.is_empty() {
            return error;
        }
        let key = match &self.choice {
            KernelChoice::Source(Source::Url { .. }) => ".url",
            KernelChoice::Source(Source::Archive(_)) => ".archive",
            KernelChoice::Source(Source::Tree(_)) => ".tree",
            KernelChoice::Source(Source::Git { .. }) => ".git",
            _ => "",
        };
        let helps: Vec<String> = error.hint.into_iter().collect();
        Error { kind: error.kind, ..self.recipe.diagnose(&format!("{place}{key}"), error.message, "", &helps) }
    }

    /// What is asked for in words, like `base+net, SYN_COOKIES=n, debuggable: net/`.
    pub fn in_words(&self) -> String {
        let own = self.wanted.origins.iter().filter(|(_, origin)| origin.by == OPTIONS).map(|(symbol, _)| symbol);
        let mut words = vec![self.label.clone()];
        words.extend(own.map(|symbol| format!("{symbol}={}", self.wanted.options.value(symbol))));
        if !self.debuggable.is_empty() {
            words.push(format!("debuggable: {}", self.debuggable.join(" ")));
        }
        words.join(", ")
    }

    /// Whether it is a distribution's kernel, which nobody has to build.
    pub fn is_package(&self) -> bool {
        matches!(self.choice, KernelChoice::Package(_))
    }
}
