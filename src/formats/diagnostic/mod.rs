//! What is wrong with something that a person wrote: which rule, where, why, and the way out.
//!
//! Invariant: a diagnostic owns all that is needed to show it. Offsets are bytes into the text of its [`Source`];
//! lines and columns are made of them only here, 1-based, columns counted in Unicode scalar values.

mod code;
mod fix;
mod github;
mod gitlab;
mod junit;
mod reference;
mod render;
mod sarif;

pub use code::Code;
pub use fix::{Edit, Fix, apply};
pub use github::github;
pub use gitlab::gitlab;
pub use junit::junit;
pub use reference::reference;
pub use render::{Json, Rendering};
pub use sarif::{log as sarif_log, sarif, uri};

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// All goes on.
    Warning,
}

/// A text with the name that people know it by.
#[derive(Debug)]
pub struct Source {
    path: String,
    text: String,
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// The `text` of the file shown as `path`. A byte order mark at its beginning must be gone already.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into(), lines: OnceLock::new() })
    }

    /// The path as the person would write it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole text; empty where the file could not be read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both from 1.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_starts().partition_point(|start| *start <= offset);
        let start = self.line_starts().get(line.wrapping_sub(1)).copied().unwrap_or_default();
        (line, self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }

    /// The byte at a line and a column, both from 1; the end of the line where it has no such column.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let range = self.line(line);
        let text = self.text.get(range.clone()).unwrap_or_default();
        let before = text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
        range.start + before
    }

    /// The bytes of a line (from 1), without its end.
    pub fn line(&self, line: usize) -> Range<usize> {
        let at = |line: usize| self.line_starts().get(line).copied();
        let start = line.checked_sub(1).and_then(at).unwrap_or(self.text.len());
        let end = at(line).unwrap_or(self.text.len());
        start..start + self.text.get(start..end).map_or(0, |text| text.trim_end_matches(['\n', '\r']).len())
    }

    fn line_starts(&self) -> &[usize] {
        self.lines
            .get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(end, _)| end + 1)).collect())
    }
}

/// A place in a text, with a word about it.
#[derive(Clone, Debug)]
pub struct Label {
    /// The text.
    pub source: Arc<Source>,
    /// The place, in bytes.
    pub span: Range<usize>,
    /// What is there; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Which rule.
    pub code: Code,
    /// What is wrong, as a fragment in lower case.
    pub message: String,
    /// The place that a person has to look at first.
    pub primary: Label,
    /// Places that have to do with it.
    pub secondary: Vec<Label>,
    /// What to do about it, the best first.
    pub help: Vec<String>,
    /// A safe repair of the text of the primary place, if there is one.
    pub fix: Option<Fix>,
    /// How bad it is: as bad as the rule, or worse where the text asks for it.
    severity: Severity,
}

impl Diagnostic {
    /// `message` about the bytes `span` of `source`.
    pub fn new(code: Code, source: &Arc<Source>, span: Range<usize>, message: impl Into<String>) -> Self {
        let primary = Label { source: source.clone(), span, text: String::new() };
        Self {
            code,
            message: message.into(),
            primary,
            secondary: Vec::new(),
            help: Vec::new(),
            fix: None,
            severity: code.severity(),
        }
    }

    /// `message` about a file of which no text is known.
    pub fn of_file(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, &Source::new(path, ""), 0..0, message)
    }

    /// With a word beside the caret.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.text = text.into();
        self
    }

    /// With another place.
    #[must_use]
    pub fn also(mut self, source: &Arc<Source>, span: Range<usize>, text: impl Into<String>) -> Self {
        self.secondary.push(Label { source: source.clone(), span, text: text.into() });
        self
    }

    /// With something to try.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// With a safe repair.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// As an error, whatever the rule says.
    #[must_use]
    pub fn as_error(mut self) -> Self {
        self.severity = Severity::Error;
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    seen: HashSet<(Code, String, usize, String)>,
}

impl Diagnostics {
    /// So many are kept. A file with more mistakes than this has one mistake: it is another kind of file.
    pub const MOST: usize = 200;

    /// Nothing found.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, unless the same is there already or [`Diagnostics::MOST`] are.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let Label { source, span, .. } = &diagnostic.primary;
        let key = (diagnostic.code, source.path.clone(), span.start, diagnostic.message.clone());
        if self.found.len() < Self::MOST && self.seen.insert(key) {
            self.found.push(diagnostic);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: impl IntoIterator<Item = Diagnostic>) {
        other.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// The same, of files that people know as `shown` and below, which lay in `folder`. Places in texts are left out.
    #[must_use]
    pub fn known_as(self, folder: &str, shown: &str) -> Self {
        let mut renamed = Self::new();
        for mut diagnostic in self.found {
            if let Some(below) = diagnostic.primary.source.path.strip_prefix(folder) {
                let source = &diagnostic.primary.source;
                diagnostic.primary.source = Source::new(format!("{shown}{below}"), source.text.clone());
            }
            renamed.push(diagnostic);
        }
        renamed
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error).count()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// The places of the errors in `source`.
    pub fn errors_in(&self, source: &Source) -> Vec<Range<usize>> {
        let errors =
            self.found.iter().filter(|d| d.severity() == Severity::Error && d.primary.source.path == source.path);
        errors.map(|d| d.primary.span.clone()).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, by file and position.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.found.iter().collect();
        sorted.sort_by_key(|d| (&d.primary.source.path, d.primary.span.start, d.severity(), d.code));
        sorted
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_before_their_end() {
        let source = Source::new("x", "é: a\r\nβγ: c\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 2));
        assert_eq!(source.position("é: a\r\nβγ".len()), (2, 3));
        assert_eq!(source.position(10_000), (3, 1));
        assert_eq!(&source.text()[source.line(1)], "é: a");
        assert_eq!(&source.text()[source.line(2)], "βγ: c");
        assert_eq!(source.line(9), source.text().len()..source.text().len());
    }

    #[test]
    fn the_same_is_said_once_and_in_order() {
        let source = Source::new("x", "abc");
        let mut found = Diagnostics::new();
        found.push(Diagnostic::new(Code::UnknownKey, &source, 2..3, "late"));
        found.push(Diagnostic::new(Code::UnknownKey, &source, 0..1, "early"));
        found.push(Diagnostic::new(Code::UnknownKey, &source, 2..3, "late"));
        let messages: Vec<_> = found.sorted().into_iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, ["early", "late"]);
    }
}
