//! Tables for people: aligned columns, sizes, ages.

use std::time::Duration;

use console::{measure_text_width, pad_str};

use crate::report::text::plural;

/// How long ago something was.
pub(super) fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => "just now".into(),
        1..60 => format!("{} ago", plural(minutes, "minute")),
        60..1440 => format!("{} ago", plural(minutes / 60, "hour")),
        _ => format!("{} ago", plural(minutes / 1440, "day")),
    }
}

/// Rows as lines, each column but the last as wide as its widest cell.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells =
                row.iter().zip(widths).map(|(cell, width)| pad_str(cell, width, console::Alignment::Left, None));
            format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        })
        .collect()
}

/// Texts, each put to the right of a column as wide as the widest.
pub(super) fn to_the_right(texts: &mut [&mut String]) {
    let width = texts.iter().map(|text| measure_text_width(text)).max().unwrap_or(0);
    for text in texts {
        **text = pad_str(text, width, console::Alignment::Right, None).into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_said_in_their_largest_unit() {
        let ages = [59, 60, 7200, 3 * 86_400].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(ages, ["just now", "1 minute ago", "2 hours ago", "3 days ago"]);
    }
}
