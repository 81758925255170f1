//! Where in a YAML text a key or a value stands.
//!
//! Pure. Knows YAML, not recipes: paths like `probes[0].at` go in, [`Span`]s come out.

use saphyr::{LoadableYamlNode, MarkedYaml, ScanError, YamlData};

use super::diagnostic::{Diagnostic, Objection, Span};

/// Which half of a mapping's entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The key. An entry of a list has none: its value is meant then.
    Key,
    /// The value.
    Value,
}

/// A YAML text with the place of each of its nodes.
#[derive(Debug)]
pub struct Outline<'t> {
    lines: Vec<&'t str>,
    documents: Vec<MarkedYaml<'t>>,
}

impl<'t> Outline<'t> {
    /// Reads a YAML text; the error is the first thing in it that is not YAML, or a key that comes twice.
    pub fn parse(text: &'t str) -> Result<Self, Diagnostic> {
        let documents = MarkedYaml::load_from_str(text).map_err(|error| syntax(text, &error))?;
        Ok(Outline { lines: text.lines().collect(), documents })
    }

    /// How many documents the text holds; `---` separates them, and comments alone are none.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Whether the first document is there but says nothing.
    pub fn is_empty(&self) -> bool {
        self.documents.first().is_none_or(|node| data(node).is_null() || data(node).is_badvalue())
    }

    /// Where the document with that index (counted from 0) starts.
    pub fn document(&self, index: usize) -> Span {
        self.documents.get(index).map(|node| self.span_of(node)).unwrap_or_default()
    }

    /// The place of `part` of the entry at `path`, such as `probes[0].show.local port` (`.` alone is the whole
    /// document). Of a path that leads nowhere, the place of the last thing on it that exists.
    pub fn find(&self, path: &str, part: Part) -> Span {
        let Some(root) = self.documents.first() else { return Span::default() };
        let (_, found) = self.walk((None, root), path.strip_prefix('.').unwrap_or(path));
        match (part, found) {
            (Part::Key, (Some(key), _)) => self.span_of(key),
            (_, (_, value)) => self.span_of(value),
        }
    }

    /// Whether there is an entry at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.documents.first().is_some_and(|root| self.walk((None, root), path).0 == 0)
    }

    /// The place of those characters of the value at `path` that an objection is about. Where the value is not
    /// written in one piece on one line (escapes, block scalars, aliases), the place of the whole value.
    pub fn find_in(&self, path: &str, value: &str, objection: &Objection) -> Span {
        let whole = self.find(path, Part::Value);
        let written: String = self.after(whole.line, whole.column).chars().take(whole.len).collect();
        let quote = written.chars().take_while(|c| matches!(c, '"' | '\'')).count().min(1);
        let bare: String = written.chars().skip(quote).collect();
        if objection.at.is_empty() || !bare.starts_with(value) {
            return whole;
        }
        Span { line: whole.line, column: whole.column + quote + objection.at.start, len: objection.at.len() }
    }

    /// Follows `path` from an entry. Returns how much of the path is left and the entry it got to.
    fn walk<'n>(&self, entry: Entry<'n, 't>, path: &str) -> (usize, Entry<'n, 't>) {
        let stay = (path.len(), entry);
        match data(entry.1) {
            YamlData::Sequence(items) => {
                let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) else {
                    return stay;
                };
                let item = index.parse().ok().and_then(|index: usize| items.get(index));
                item.map_or(stay, |item| self.walk((None, item), rest))
            }
            // Keys may hold dots and brackets, so each key the path may go on with is tried.
            YamlData::Mapping(entries) => entries
                .iter()
                .filter_map(|(key, value)| {
                    let rest = path.strip_prefix('.').unwrap_or(path).strip_prefix(self.key(key).as_str())?;
                    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                    ends.then(|| self.walk((Some(key), value), rest))
                })
                .min_by_key(|(left, _)| *left)
                .unwrap_or(stay),
            _ => stay,
        }
    }

    /// A key as text.
    fn key(&self, key: &MarkedYaml<'t>) -> String {
        match data(key).as_str() {
            Some(text) => text.to_owned(),
            None => {
                let span = self.span_of(key);
                self.after(span.line, span.column).chars().take(span.len).collect()
            }
        }
    }

    /// The place of a node, cut at the end of its first line.
    fn span_of(&self, node: &MarkedYaml<'t>) -> Span {
        let (start, end) = (node.span.start, node.span.end);
        let (line, column) = (start.line().max(1), start.col() + 1);
        let one_line = end.line() == start.line();
        let len = if one_line { end.col().saturating_sub(start.col()) } else { usize::MAX };
        let covered: String = self.after(line, column).chars().take(len).collect();
        Span { line, column, len: covered.trim_end().chars().count().max(1) }
    }

    /// What stands on a line from a column on.
    fn after(&self, line: usize, column: usize) -> &'t str {
        let line = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        line.char_indices().nth(column.saturating_sub(1)).map_or("", |(byte, _)| &line[byte..])
    }
}

/// A value and, in a mapping, its key.
type Entry<'n, 't> = (Option<&'n MarkedYaml<'t>>, &'n MarkedYaml<'t>);

/// What a node holds, below its tag.
fn data<'n, 't>(node: &'n MarkedYaml<'t>) -> &'n YamlData<'t, MarkedYaml<'t>> {
    match &node.data {
        YamlData::Tagged(_, inner) => data(inner),
        other => other,
    }
}

/// A YAML error as a diagnostic, with help for the mistakes that everybody makes.
fn syntax(text: &str, error: &ScanError) -> Diagnostic {
    let line = error.marker().line().clamp(1, text.lines().count().max(1));
    let span = Span { line, column: error.marker().col() + 1, len: 1 };
    let source = text.lines().nth(line - 1).unwrap_or_default();
    let info = error.info();
    if info.contains("uplicate") {
        let rest = source.chars().skip(error.marker().col());
        let key: String = rest.take_while(|c| !matches!(c, ':' | ' ' | ',' | '}')).collect();
        let span = Span { len: key.chars().count().max(1), ..span };
        return Diagnostic::new(format!("the key `{key}` comes twice"), span, "second time")
            .help("YAML would keep only one of them: remove or rename the other");
    }
    let wrong = Diagnostic::new(format!("this is not YAML: {info}"), span, "");
    let indented_by_tab = source.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let help = match info {
        _ if indented_by_tab => "YAML indents with spaces: replace the tab",
        _ if info.contains("anchor") => "a text that starts with `*` or `&` needs quotes around it",
        _ if info.contains("mapping values") => "a text that holds `: ` or ` #` needs quotes around it",
        _ if info.contains("quoted scalar") => "look for a quote that is never closed",
        _ if info.contains("flow") || info.contains("illegal placement") => {
            "look for a `[` or `{` above that is never closed"
        }
        _ => return wrong,
    };
    wrong.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text at the place that `find` names, with line and column.
    fn seen(text: &str, path: &str, part: Part) -> String {
        let outline = Outline::parse(text).unwrap();
        let span = outline.find(path, part);
        let piece: String = outline.after(span.line, span.column).chars().take(span.len).collect();
        format!("{}:{} {piece}", span.line, span.column)
    }

    #[test]
    fn finds_keys_and_values() {
        use Part::{Key, Value};
        let block = "# c\nprobes:\n  - name: rst # why\n    at:   tcp\n    show: { é x: \"a\" }\n  - at: 'u v'\n";
        let odd = "a: &x [1, two]\nb: *x\nc: |\n  long\n  text\nd:\ne: !!str f\n1: ü\n? g\n: h\na.b[0]: 2\n";
        let cases = [
            (block, "probes[0].name", Value, "3:11 rst"),
            (block, "probes[0].name", Key, "3:5 name"),
            (block, "probes[0].at", Value, "4:11 tcp"),
            (block, "probes[0].show.é x", Value, "5:18 \"a\""),
            (block, "probes[0].show.é x", Key, "5:13 é x"),
            (block, "probes[1].at", Value, "6:9 'u v'"),
            (block, "probes[1].limit", Value, "6:5 at: 'u v'"),
            (block, "probes[7]", Key, "2:1 probes"),
            (block, ".", Value, "2:1 probes:"),
            (odd, "a[1]", Value, "1:11 two"),
            (odd, "b", Value, "2:4 *x"),
            (odd, "b", Key, "2:1 b"),
            (odd, "c", Value, "4:3 long"),
            (odd, "d", Key, "6:1 d"),
            (odd, "e", Value, "7:4 !!str f"),
            (odd, "1", Value, "8:4 ü"),
            (odd, "g", Value, "10:3 h"),
            (odd, "a.b[0]", Value, "11:9 2"),
        ];
        for (text, path, part, expected) in cases {
            assert_eq!(seen(text, path, part), expected, "{path} {part:?}");
        }
    }

    #[test]
    fn an_objection_narrows_the_span_where_the_value_is_written_as_it_is() {
        let text = "a: x = 1\nb: \"x = 1\"\nc: \"x \\x3d 1\"\n";
        let outline = Outline::parse(text).unwrap();
        let objection = Objection { message: String::new(), label: String::new(), at: 2..3, help: String::new() };
        let places = ["a", "b", "c"].map(|path| {
            let span = outline.find_in(path, "x = 1", &objection);
            (span.line, span.column, span.len)
        });
        assert_eq!(places, [(1, 6, 1), (2, 7, 1), (3, 4, 10)]);
    }
}
