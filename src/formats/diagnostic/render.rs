//! Diagnostics as text for a terminal and as data for a machine.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use serde::Serialize;

use super::{Diagnostic, Label, Severity, Source};

/// How diagnostics look on a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Rendering {
    /// Whether colours (ANSI escape codes) are used.
    pub colour: bool,
    /// Width of the terminal, in columns; longer source lines are cut around the place.
    pub width: usize,
}

impl Rendering {
    /// No colours, 120 columns.
    pub const PLAIN: Self = Self { colour: false, width: 120 };

    /// The diagnostic with its source lines, ending in a newline.
    ///
    /// The first line is `FILE:LINE:COLUMN: error[CODE]: MESSAGE`, as compilers write it and editors find it.
    pub fn render(self, diagnostic: &Diagnostic) -> String {
        let mut text = self.head(diagnostic);
        let level = match diagnostic.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_level(level);
        for (source, labels) in by_source(diagnostic) {
            group = group.element(snippet(source, &labels, source.path() != diagnostic.primary.source.path()));
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        if !group.is_empty() {
            let renderer = if self.colour { Renderer::styled() } else { Renderer::plain() };
            text.push_str(&renderer.term_width(self.width.max(20)).render(&[group]));
            text.push('\n');
        }
        text
    }

    fn head(self, diagnostic: &Diagnostic) -> String {
        let source = &diagnostic.primary.source;
        let place = match (source.text(), source.position(diagnostic.primary.span.start)) {
            ("", _) => normalize_untrusted_str(source.path()),
            (_, (line, column)) => format!("{}:{line}:{column}", normalize_untrusted_str(source.path())),
        };
        let (word, colour) = match diagnostic.severity() {
            Severity::Error => ("error", anstyle::AnsiColor::BrightRed),
            Severity::Warning => ("warning", anstyle::AnsiColor::Yellow),
        };
        let (code, message) = (diagnostic.code, normalize_untrusted_str(&diagnostic.message));
        if self.colour {
            let (loud, bold) = (colour.on_default().bold(), anstyle::Style::new().bold());
            format!("{bold}{place}:{bold:#} {loud}{word}[{code}]{loud:#}{bold}: {message}{bold:#}\n")
        } else {
            format!("{place}: {word}[{code}]: {message}\n")
        }
    }
}

/// The labels that have something to show, by text: that of the primary one first.
fn by_source(diagnostic: &Diagnostic) -> Vec<(&Source, Vec<(AnnotationKind, &Label)>)> {
    let labels = std::iter::once((AnnotationKind::Primary, &diagnostic.primary))
        .chain(diagnostic.secondary.iter().map(|label| (AnnotationKind::Context, label)));
    let mut groups: Vec<(&Source, Vec<_>)> = Vec::new();
    for (kind, label) in labels.filter(|(_, label)| !label.source.text().is_empty()) {
        match groups.iter_mut().find(|(source, _)| source.path() == label.source.path()) {
            Some((_, labels)) => labels.push((kind, label)),
            None => groups.push((&label.source, vec![(kind, label)])),
        }
    }
    groups
}

/// The lines that the labels stand on, and no more of the text: so a large file costs what a small one does.
fn snippet<'a>(
    source: &'a Source,
    labels: &[(AnnotationKind, &'a Label)],
    named: bool,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let lines = |label: &Label| source.position(label.span.start).0;
    let first = labels.iter().map(|(_, label)| lines(label)).min().unwrap_or(1);
    let last = labels.iter().map(|(_, label)| lines(label)).max().unwrap_or(1);
    let window = source.line(first).start..source.line(last).end;
    let text = source.text().get(window.clone()).unwrap_or_default();
    let annotations = labels.iter().map(|(kind, label)| {
        let span = first_line(source, &label.span);
        let annotation = kind.span(span.start - window.start..span.end - window.start);
        if label.text.is_empty() { annotation } else { annotation.label(label.text.as_str()) }
    });
    let snippet = Snippet::source(text).line_start(first).annotations(annotations);
    if named { snippet.path(source.path()) } else { snippet }
}

/// The part of a span that is on its first line: carets under a whole block tell nobody anything.
fn first_line(source: &Source, span: &Range<usize>) -> Range<usize> {
    let start = source.text().floor_char_boundary(span.start);
    let line = source.line(source.position(start).0);
    let start = start.min(line.end);
    start..source.text().floor_char_boundary(span.end).min(line.end).max(start)
}

/// A diagnostic as data. The names of the fields are stable.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    code: super::Code,
    severity: Severity,
    message: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Place<'a>>,
    help: &'a [String],
    /// What `--fix` would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// A place: lines and columns from 1, columns in Unicode scalar values, the end exclusive. No line where the whole
/// file is meant.
#[derive(Debug, Serialize)]
struct Place<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
}

#[derive(Debug, Serialize)]
struct End {
    line: usize,
    column: usize,
}

impl<'a> From<&'a Label> for Place<'a> {
    fn from(label: &'a Label) -> Self {
        let known = (!label.source.text().is_empty()).then(|| {
            let (line, column) = label.source.position(label.span.end);
            (label.source.position(label.span.start), End { line, column })
        });
        let (start, end) = known.unzip();
        let (line, column) = start.unzip();
        Self { file: label.source.path(), line, column, end, label: &label.text }
    }
}

impl<'a> From<&'a Diagnostic> for Json<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        Self {
            code: diagnostic.code,
            severity: diagnostic.severity(),
            message: &diagnostic.message,
            place: (&diagnostic.primary).into(),
            related: diagnostic.secondary.iter().map(Place::from).collect(),
            help: &diagnostic.help,
            fix: diagnostic.fix.as_ref().map(|fix| fix.title.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn example() -> Diagnostic {
        let source = Source::new("a/ekiben.yaml", "name: iris\npython:\n  requirments: [é]\n");
        Diagnostic::new(Code::UnknownKey, &source, 21..32, "there is no key `requirments`")
            .label("did you mean `requirements`?")
            .also(&source, 11..17, "in here")
            .help("the keys are `version` and `requirements`")
    }

    #[test]
    fn the_first_line_is_what_editors_look_for() {
        insta::assert_snapshot!(Rendering::PLAIN.render(&example()), @r"
        a/ekiben.yaml:3:3: error[EK0201]: there is no key `requirments`
          |
        2 | python:
          | ------ in here
        3 |   requirments: [é]
          |   ^^^^^^^^^^^ did you mean `requirements`?
          |
          = help: the keys are `version` and `requirements`
        ");
    }

    #[test]
    fn colour_changes_nothing_but_the_colour() {
        let coloured = Rendering { colour: true, width: 120 }.render(&example());
        assert!(coloured.contains("\u{1b}["));
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(stripped, Rendering::PLAIN.render(&example()));
    }

    #[test]
    fn the_data_has_stable_names() {
        insta::assert_snapshot!(serde_json::to_string(&Json::from(&example())).unwrap(), @r#"{"code":"EK0201","severity":"error","message":"there is no key `requirments`","file":"a/ekiben.yaml","line":3,"column":3,"end":{"line":3,"column":14},"label":"did you mean `requirements`?","related":[{"file":"a/ekiben.yaml","line":2,"column":1,"end":{"line":2,"column":7},"label":"in here"}],"help":["the keys are `version` and `requirements`"]}"#);
    }

    #[test]
    fn control_characters_in_a_text_do_not_reach_the_terminal() {
        let source = Source::new("x\u{1b}[2J", "\u{1b}[31mred\u{7}\n");
        let text = Rendering::PLAIN.render(&Diagnostic::new(Code::UnknownKey, &source, 0..4, "\u{1b}[0m"));
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }

    #[test]
    fn a_place_beyond_the_text_is_shown_at_its_end() {
        for text in ["", "a", "a\n", "é"] {
            let source = Source::new("x", text);
            for span in [0..0, 1..1, 0..9, 5..9, 1..2] {
                Rendering::PLAIN.render(&Diagnostic::new(Code::UnknownKey, &source, span, "m"));
            }
        }
    }
}
