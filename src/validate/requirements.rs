//! Python requirements: PEP 508, in the manifest or in a requirements file (pip's documentation, "Requirements File
//! Format").

use std::ops::Range;
use std::str::FromStr;

use pep508_rs::{Pep508Error, Requirement, VerbatimUrl};

use super::Subject;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{MAX_BYTES, read_text};
use crate::files::File;
use crate::manifest::Requirements;

/// Checks them; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    if let Some(Requirements::List(list)) = subject.manifest.python.as_ref().map(|python| &python.requirements) {
        for (number, text) in list.iter().enumerate() {
            if let Err(error) = parse(text) {
                let at = format!("/python/requirements/{number}");
                let span = subject.document.span_of(&at);
                // Within the quotes, if the text stands there as it was read.
                let written = subject.document.source.text().get(span.clone()).unwrap_or_default();
                let place = match written.find(text.as_str()) {
                    Some(start) => within(span.start + start, text, &error),
                    None => span,
                };
                found.push(say(
                    Diagnostic::new(Code::BadRequirement, &subject.document.source, place, ""),
                    text,
                    &error,
                ));
            }
        }
    }
    if let Some(file) = &subject.files.requirements {
        check_file(file, found);
    }
}

fn check_file(file: &File, found: &mut Diagnostics) {
    let shown = crate::document::shown(&file.host);
    let Some(source) = read_text(&file.host, &shown, MAX_BYTES, found) else { return };
    // What a pyproject.toml says is for uv to read.
    if file.path.name().ends_with(".toml") {
        return;
    }
    for (start, line) in requirement_lines(source.text()) {
        if let Err(error) = parse(line) {
            let diagnostic = Diagnostic::new(Code::BadRequirement, &source, within(start, line, &error), "");
            found.push(say(diagnostic, line, &error));
        }
    }
}

/// The lines of a requirements file that have to be PEP 508, with where they begin: no comments, options, paths, URLs
/// and variables.
fn requirement_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    let mut continued = false;
    text.split_inclusive('\n').filter_map(move |line| {
        let (begin, skip) = (start, continued);
        start += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        continued = line.ends_with('\\');
        // The first line of several holds the requirement; options such as `--hash` follow.
        let line = line.trim_end_matches('\\');
        let line = line.split(" #").next().unwrap_or_default();
        let line = line.split(" --").next().unwrap_or_default();
        let blank = line.len() - line.trim_start().len();
        let content = line.trim();
        let other = content.is_empty()
            || content.starts_with(['#', '-', '.', '/'])
            || content.contains("${")
            || !content.contains('@') && (content.ends_with(".whl") || content.contains("://"));
        (!skip && !other).then_some((begin + blank, content))
    })
}

fn parse(text: &str) -> Result<Requirement<VerbatimUrl>, Pep508Error<VerbatimUrl>> {
    Requirement::from_str(text)
}

fn within(start: usize, text: &str, error: &Pep508Error<VerbatimUrl>) -> Range<usize> {
    let from = text.floor_char_boundary(error.start.min(text.len()));
    let to = text.ceil_char_boundary(error.start.saturating_add(error.len).min(text.len()));
    start + from..start + to
}

fn say(mut diagnostic: Diagnostic, text: &str, error: &Pep508Error<VerbatimUrl>) -> Diagnostic {
    let reason = error.message.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    diagnostic.message = format!("`{text}` is no requirement: {reason}");
    let single = text.find('=').filter(|at| {
        let around = text.get(at.saturating_sub(1)..at + 2).unwrap_or_default();
        !around.contains("==") && !around.contains(['<', '>', '!', '~'])
    });
    match single {
        Some(at) => {
            let (name, version) = text.split_at(at);
            diagnostic.help(format!("an exact version has two: {}={version}", name.trim_end()))
        }
        None => diagnostic.help("as `scikit-learn==1.5.2` or `pandas>=2,<3`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requirements_are_read_in_a_file() {
        let text = "# c\n-r other.txt\n  a==1  # c\nb==2 \\\n  --hash=sha256:00\n./c.whl\nhttps://x/y.whl\nd @ https://x/d.whl\n";
        let lines: Vec<_> = requirement_lines(text).collect();
        assert_eq!(lines, [(19, "a==1"), (29, "b==2"), (79, "d @ https://x/d.whl")]);
    }
}
