//! Colours, few and with one meaning each. Without colours every style is plain text.
//!
//! Pure, but for [`Styles::stdout`] and [`Styles::stderr`], which ask the console crate about the terminal and NO_COLOR.

use console::Style;

/// The styles of one output.
#[derive(Debug, Clone)]
pub struct Styles {
    /// Labels and what is there for reference only.
    pub quiet: Style,
    /// What the eye should find: functions.
    pub strong: Style,
    /// What went as it should.
    pub good: Style,
    /// What did not.
    pub bad: Style,
    /// What the user should know.
    pub warn: Style,
}

impl Styles {
    /// Styles with or without colours.
    pub fn new(colours: bool) -> Self {
        let style = || Style::new().force_styling(colours);
        Styles {
            quiet: style().dim(),
            strong: style().bold(),
            good: style().green().bold(),
            bad: style().red().bold(),
            warn: style().yellow(),
        }
    }

    /// For standard output: colours where it is a terminal and NO_COLOR is not set.
    pub fn stdout() -> Self {
        Styles::new(console::colors_enabled())
    }

    /// For standard error, likewise.
    pub fn stderr() -> Self {
        Styles::new(console::colors_enabled_stderr())
    }
}
