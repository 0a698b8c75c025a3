//! Python requirements: PEP 508, in the manifest or in a requirements file (pip's documentation, "Requirements File
//! Format"); whether any version satisfies all of them.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Pep508Error, Requirement, VerbatimUrl, VersionOrUrl};

use super::Subject;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Fix, Source};
use crate::document::{MAX_BYTES, read_text};
use crate::manifest::Requirements;

/// A requirement that was read.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The package, with its name normalised (PEP 503).
    pub name: String,
    /// The versions that will do.
    pub versions: VersionSpecifiers,
    /// As it is written.
    pub text: String,
    /// Where.
    pub source: Arc<Source>,
    /// Where in it.
    pub span: Range<usize>,
    /// For which environments: as it is written.
    marker: String,
}

/// Checks them; mistakes go to `found`. What could be read is returned.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if let Some(Requirements::List(list)) = subject.manifest.python.as_ref().map(|python| &python.requirements) {
        for (number, text) in list.iter().enumerate() {
            let at = format!("/python/requirements/{number}");
            let source = &subject.document.source;
            let span = subject.document.span_of(&at);
            // Within the quotes, if the text stands there as it was read.
            let written = source.text().get(span.clone()).unwrap_or_default();
            let place = written
                .find(text.as_str())
                .map_or(span.clone(), |start| span.start + start..span.start + start + text.len());
            one(source, place, text, found, &mut wanted);
        }
    }
    if let Some(file) = &subject.files.requirements
        // What a pyproject.toml says is for uv to read.
        && !file.path.name().ends_with(".toml")
        && let Some(source) = read_text(&file.host, &crate::document::shown(&file.host), MAX_BYTES, found)
    {
        for (start, line) in requirement_lines(source.text()) {
            one(&source, start..start + line.len(), line, found, &mut wanted);
        }
    }
    contradictions(&wanted, found);
    locked_otherwise(subject, &wanted, found);
    wanted
}

/// One requirement, which stands at `place` unless that holds another text.
fn one(source: &Arc<Source>, place: Range<usize>, text: &str, found: &mut Diagnostics, wanted: &mut Vec<Wanted>) {
    match Requirement::<VerbatimUrl>::from_str(text) {
        Ok(requirement) => wanted.push(Wanted {
            name: requirement.name.to_string(),
            versions: match requirement.version_or_url {
                Some(VersionOrUrl::VersionSpecifier(versions)) => versions,
                _ => VersionSpecifiers::empty(),
            },
            text: text.to_owned(),
            source: source.clone(),
            span: place,
            marker: text.split_once(';').map(|(_, marker)| marker.trim().to_owned()).unwrap_or_default(),
        }),
        Err(error) => {
            let exact = place.len() == text.len();
            let span = if exact { within(place.start, text, &error) } else { place.clone() };
            let diagnostic = say(Diagnostic::new(Code::BadRequirement, source, span, ""), text, &error);
            found.push(match single_equals(text).filter(|_| exact) {
                Some(at) => {
                    let at = place.start + at;
                    diagnostic.fix(Fix::replace("write two equals signs", at..at + 1, "=="))
                }
                None => diagnostic,
            });
        }
    }
}

/// Requirements of the same package that no version satisfies.
fn contradictions(wanted: &[Wanted], found: &mut Diagnostics) {
    for (number, later) in wanted.iter().enumerate() {
        if !satisfiable([&later.versions]) {
            let message = format!("no version of `{}` satisfies `{}`", later.name, later.text);
            found.push(Diagnostic::new(Code::Contradiction, &later.source, later.span.clone(), message));
            continue;
        }
        let same = |earlier: &&Wanted| earlier.name == later.name && earlier.marker == later.marker;
        let clash = |earlier: &&Wanted| !satisfiable([&earlier.versions, &later.versions]);
        if let Some(earlier) = wanted.iter().take(number).filter(same).find(clash) {
            let message = format!("no version of `{}` satisfies both requirements", later.name);
            found.push(
                Diagnostic::new(Code::Contradiction, &later.source, later.span.clone(), message)
                    .label("this one")
                    .also(&earlier.source, earlier.span.clone(), "and this one")
                    .help("keep one of them"),
            );
        }
    }
}

/// Whether some version satisfies all. Only versions named in the specifiers, and those just beside them, can decide.
fn satisfiable<'a>(all: impl IntoIterator<Item = &'a VersionSpecifiers> + Clone) -> bool {
    let named =
        all.clone().into_iter().flat_map(|versions| versions.iter()).map(|specifier| specifier.version().clone());
    let mut candidates: Vec<Version> = vec![Version::new([0]), Version::new([1_000_000])];
    for version in named {
        let release = version.release().to_vec();
        let beside = |index: usize, up: bool| {
            let mut release = release.clone();
            release.resize(release.len().max(3), 0);
            let part = release.get_mut(index)?;
            *part = if up { part.checked_add(1)? } else { part.checked_sub(1)? };
            Some(Version::new(release))
        };
        for index in 0..release.len().max(3) {
            candidates.extend([true, false].into_iter().filter_map(|up| beside(index, up)));
        }
        let mut longer = release.clone();
        longer.extend([0, 1]);
        candidates.push(Version::new(longer));
        // Between 1.2 and 1.3 lies 1.2.999; `~=` and `.*` are met by the version itself.
        let mut below = release;
        below.extend([999_999]);
        candidates.push(Version::new(below));
        candidates.push(version);
    }
    candidates.iter().any(|version| all.clone().into_iter().all(|versions| versions.contains(version)))
}

fn locked_otherwise(subject: &Subject<'_>, wanted: &[Wanted], found: &mut Diagnostics) {
    for wanted in wanted.iter().filter(|wanted| wanted.marker.is_empty()) {
        let Some(locked) = subject.locked.get(&wanted.name) else { continue };
        if !wanted.versions.contains(locked) {
            let message = format!("the lock has {} {locked}, which `{}` excludes", wanted.name, wanted.text);
            let warning = Diagnostic::new(Code::LockedOtherwise, &wanted.source, wanted.span.clone(), message);
            found.push(warning.help("renew the lock: `ekiben lock`"));
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

fn within(start: usize, text: &str, error: &Pep508Error<VerbatimUrl>) -> Range<usize> {
    let from = text.floor_char_boundary(error.start.min(text.len()));
    let to = text.ceil_char_boundary(error.start.saturating_add(error.len).min(text.len()));
    start + from..start + to
}

/// Where a single equals sign stands for two.
fn single_equals(text: &str) -> Option<usize> {
    text.find('=').filter(|at| {
        let around = text.get(at.saturating_sub(1)..at + 2).unwrap_or_default();
        !around.contains("==") && !around.contains(['<', '>', '!', '~'])
    })
}

fn say(mut diagnostic: Diagnostic, text: &str, error: &Pep508Error<VerbatimUrl>) -> Diagnostic {
    let reason = error.message.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    diagnostic.message = format!("`{text}` is no requirement: {reason}");
    match single_equals(text) {
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

    #[test]
    fn what_no_version_satisfies_is_told_from_what_some_does() {
        let parse = |text: &str| VersionSpecifiers::from_str(text).unwrap();
        for (one, other) in [("==1.3", "==1.5"), (">=3", "<2"), ("==1.*", ">=2"), ("~=1.4.2", ">=1.5"), (">2", "<=2")] {
            assert!(!satisfiable([&parse(one), &parse(other)]), "{one} {other}");
        }
        for (one, other) in [
            (">=1.2", "<1.3"),
            (">1.2", "<1.3"),
            ("==1.*", ">=1.9"),
            ("~=1.4.2", "<1.5"),
            ("!=2", ">=2"),
            (">=2,<3", "!=2.0"),
            (">1.2.3", "<1.2.4"),
            ("<2", "!=1"),
            ("", "==2.0.0rc1"),
        ] {
            assert!(satisfiable([&parse(one), &parse(other)]), "{one} {other}");
        }
    }
}
