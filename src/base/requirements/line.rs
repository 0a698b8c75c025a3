//! One line of a requirements file: a requirement, an option, or what must not be there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pep440_rs::VersionSpecifiers;

use super::{Outside, Wanted, inside};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Fix, Source};
use crate::formats::requirement::{self, NoRequirement, VersionOrUrl};
use crate::io::digest::Digest;

/// The lines of a file of requirements without comments; those that end in a backslash go on in the next.
pub fn logical_lines(text: &str) -> impl Iterator<Item = String> {
    placed_lines(text).into_iter().map(|(_, line)| line)
}

/// The same, with the place of the first physical line of each, without blanks around it.
pub(super) fn placed_lines(text: &str) -> Vec<(Range<usize>, String)> {
    let mut lines: Vec<(Range<usize>, String)> = Vec::new();
    let (mut start, mut continued) = (0, false);
    for physical in text.split_inclusive('\n') {
        let begin = start;
        start += physical.len();
        let line = physical.trim_end_matches(['\n', '\r']);
        // A comment ends a line, whatever its last character.
        let goes_on = line.ends_with('\\') && !line.trim_start().starts_with('#') && !line.contains(" #");
        let line = line.strip_suffix('\\').unwrap_or(line);
        let line = if line.trim_start().starts_with('#') { "" } else { line };
        let line = line.split(" #").next().unwrap_or_default();
        let blank = line.len() - line.trim_start().len();
        match lines.last_mut() {
            Some((_, whole)) if continued => {
                whole.push(' ');
                whole.push_str(line.trim());
            }
            _ => {
                let from = begin + blank;
                lines.push((from..from + line.trim().len(), line.trim().to_owned()));
            }
        }
        continued = goes_on;
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// The normalised name that a line requires (PEP 503); none for options and paths.
pub fn required_name(line: &str) -> Option<String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(line.len());
    let name = line.get(..end).filter(|name| !name.is_empty() && !line.starts_with(['-', '.']))?;
    Some(name.to_ascii_lowercase().replace(['_', '.'], "-"))
}

/// What a line is.
pub(super) enum Line {
    Wanted(Box<Wanted>),
    /// Says where packages come from.
    Option(Choice),
    /// Another file counts, as one of requirements or, if so, of constraints.
    Include {
        file: String,
        constraints: bool,
    },
    /// Is of no consequence here.
    Nothing,
}

/// What says where packages come from.
pub(super) enum Choice {
    /// The option, and the address.
    Index(&'static str, String),
    FindLinks(String),
    NoIndex,
}

/// Where a line stands.
pub(super) struct Place<'a> {
    pub source: &'a Arc<Source>,
    pub span: Range<usize>,
    /// The folder that its relative paths are meant from.
    pub folder: &'a Path,
    /// The project's folder.
    pub root: &'a Path,
}

impl Place<'_> {
    pub fn says(&self, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, self.source, self.span.clone(), message)
    }

    /// `what` is required, which only its own code could install.
    pub fn runs_code(&self, text: &str, what: &str) -> Diagnostic {
        let error = self
            .says(Code::RunsCode, format!("`{}` is {what}, which only running its code could install", shown(text)));
        error.help(
            "build a wheel where that may run (`uv build --wheel`), and require it by its path: `name @ ./wheels/…whl`",
        )
    }
}

/// A line's text for a message.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Options with an address, as they are handed on.
const INDEXES: [(&str, &str); 4] = [
    ("-i", "--index-url"),
    ("--index-url", "--index-url"),
    ("--pypi-url", "--index-url"),
    ("--extra-index-url", "--extra-index-url"),
];
/// Options of pip that change nothing here: packages are wheels, locked by digest, over connections that are checked.
const IDLE: [&str; 8] = [
    "--only-binary",
    "--pre",
    "--prefer-binary",
    "--require-hashes",
    "--trusted-host",
    "--use-feature",
    "--use-pep517",
    "--no-build-isolation",
];
/// Options for building packages.
const BUILDS: [&str; 5] =
    ["--no-binary", "--config-settings", "--config-setting", "--global-option", "--install-option"];

/// Reads a line.
pub(super) fn read(text: &str, place: &Place<'_>) -> Result<Line, Diagnostic> {
    if text.starts_with('-') {
        return option(text, place);
    }
    let (text, options) = match text.find(" --") {
        Some(at) => (text[..at].trim_end(), &text[at..]),
        None => (text, ""),
    };
    let mut digests = BTreeSet::new();
    for word in options.split_whitespace() {
        match word.strip_prefix("--hash=") {
            // Those of other algorithms than sha256 are not known in locks.
            Some(hash) => digests.extend(hash.parse::<Digest>()),
            None if BUILDS.iter().any(|option| word.split('=').next() == Some(option)) => {
                return Err(place.says(
                    Code::RunsCode,
                    format!("`{word}` is an option for building a package, and only wheels are installed"),
                ));
            }
            None => {}
        }
    }
    let place = Place { span: place.span.start..place.span.end.min(place.span.start + text.len()), ..*place };
    let wanted = requirement(text, &place)?;
    Ok(Line::Wanted(Box::new(Wanted { digests, ..wanted })))
}

fn option(text: &str, place: &Place<'_>) -> Result<Line, Diagnostic> {
    let (option, value) = match text.split_once([' ', '=', '\t']) {
        Some((option, value)) => (option, value.trim_matches([' ', '=', '\t'])),
        // pip takes `-rother.txt` too.
        None if !text.starts_with("--") && text.is_char_boundary(2) => text.split_at(2),
        None => (text, ""),
    };
    if let Some((_, name)) = INDEXES.iter().find(|(name, _)| *name == option) {
        return Ok(Line::Option(Choice::Index(name, value.to_owned())));
    }
    match option {
        "-e" | "--editable" => Err(place.runs_code(value, "an editable requirement")),
        "-f" | "--find-links" => Ok(Line::Option(Choice::FindLinks(value.to_owned()))),
        "--no-index" => Ok(Line::Option(Choice::NoIndex)),
        "-r" | "--requirement" => Ok(Line::Include { file: value.to_owned(), constraints: false }),
        "-c" | "--constraint" => Ok(Line::Include { file: value.to_owned(), constraints: true }),
        option if BUILDS.contains(&option) => {
            Err(place
                .says(Code::RunsCode, format!("`{option}` is for building packages, and only wheels are installed")))
        }
        option if IDLE.contains(&option) => Ok(Line::Nothing),
        option => Err(place.says(Code::BadRequirement, format!("`{}` is no option of requirements", shown(option)))),
    }
}

/// A requirement by name, by an address, or both.
fn requirement(text: &str, place: &Place<'_>) -> Result<Wanted, Diagnostic> {
    let wanted = |name: String, versions, marker: &str, line: String| Wanted {
        name,
        versions,
        text: text.to_owned(),
        source: place.source.clone(),
        span: place.span.clone(),
        marker: marker.trim().to_owned(),
        line,
        digests: BTreeSet::new(),
    };
    let unmarked = text.split(" ;").next().unwrap_or(text).trim_end();
    let marker = text.get(unmarked.len()..).unwrap_or_default();
    let (before, address) = match unmarked.split_once('@') {
        Some((before, address)) if is_name(before.trim()) => (Some(before.trim()), Some(address.trim())),
        _ if is_address(unmarked) => (None, Some(unmarked)),
        _ => (None, None),
    };
    let Some(address) = address else {
        let parsed = requirement::parse(text).map_err(|error| malformed(text, place, &error))?;
        let versions = match parsed.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(versions)) => versions,
            _ => VersionSpecifiers::empty(),
        };
        let marker = text.split_once(';').map(|(_, marker)| marker).unwrap_or_default();
        return Ok(wanted(parsed.name.to_string(), versions, marker, text.to_owned()));
    };
    let (url, file) = wheel(address, text, place)?;
    // `NAME-VERSION-TAGS.whl`
    let named = before.map_or_else(|| file.split('-').next().unwrap_or_default().to_owned(), str::to_owned);
    let parsed = requirement::parse(&format!("{named}{marker}")).map_err(|error| malformed(text, place, &error))?;
    let line = format!("{named} @ {url}{marker}");
    Ok(wanted(parsed.name.to_string(), VersionSpecifiers::empty(), marker.trim_start_matches([' ', ';']), line))
}

/// `name`, or `name[extra,other]`.
fn is_name(text: &str) -> bool {
    let (name, extras) = text.split_once('[').unwrap_or((text, ""));
    let name = name.trim_end();
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && (extras.is_empty() || extras.ends_with(']'))
        && !name.starts_with('.')
}

/// What pip takes for a path or an address.
fn is_address(text: &str) -> bool {
    text.contains("://")
        || text.starts_with(['.', '/', '~'])
        || text.contains('/')
        || [".whl", ".tar.gz", ".zip", ".tar.bz2"].iter().any(|end| text.ends_with(end))
}

/// The wheel at an address as a URL, and the name of its file.
fn wheel(address: &str, text: &str, place: &Place<'_>) -> Result<(String, String), Diagnostic> {
    let bare = address.split(['#', '?']).next().unwrap_or_default();
    let file = bare.rsplit('/').next().unwrap_or_default().to_owned();
    let is_wheel = file.ends_with(".whl");
    let scheme = address
        .split_once(':')
        .map(|(scheme, _)| scheme)
        .filter(|_| address.contains("://") || address.starts_with("file:"));
    let local = match scheme {
        Some("http" | "https") if is_wheel => return Ok((address.to_owned(), file)),
        Some("http" | "https") => return Err(place.runs_code(text, "a source archive")),
        Some("file") => {
            let path = bare.trim_start_matches("file:");
            // `file:///x` and `file:x`; a host is none of this machine's files.
            path.strip_prefix("//").unwrap_or(path)
        }
        Some(_) => return Err(place.runs_code(text, "a repository")),
        None => bare,
    };
    if !is_wheel {
        let archive = [".gz", ".zip", ".bz2", ".tar", ".tgz", ".xz"].iter().any(|end| file.ends_with(end));
        let error = place.runs_code(text, if archive { "a source archive" } else { "a folder" });
        return Err(match scheme {
            Some("file") => {
                error.help("`pip freeze` writes where a package was built: write its version in place of that")
            }
            _ => error,
        });
    }
    match inside(local, place.folder, place.root) {
        Ok(path) => match url::Url::from_file_path(&path) {
            Ok(url) => Ok((url.to_string(), file)),
            Err(()) => Err(place.says(Code::BadRequirement, format!("`{}` is no path", shown(local)))),
        },
        Err(Outside::Missing) => Err(place.says(Code::NoFile, format!("there is no wheel `{}`", shown(local)))),
        Err(Outside::Elsewhere) => {
            let error =
                place.says(Code::PathLeaves, format!("the wheel `{}` lies outside of the project", shown(local)));
            Err(error.help("copy it into the project, and require it by its relative path"))
        }
    }
}

/// The wheel at an address, as a URL.
pub(super) fn wheel_url(address: &str, place: &Place<'_>) -> Result<String, Diagnostic> {
    wheel(address, address, place).map(|(url, _)| url)
}

/// Fills in `${NAME}` as pip does, for what `variables` knows.
pub(super) fn filled_in(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let known = after.split_once('}').and_then(|(name, tail)| {
            let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            Some((variables(name).filter(|_| plain && !name.is_empty())?, tail))
        });
        match known {
            Some((value, tail)) => {
                filled.push_str(&value);
                rest = tail;
            }
            None => {
                filled.push_str("${");
                rest = after;
            }
        }
    }
    filled + rest
}

/// Parses a TOML file.
pub(super) fn parse_toml(source: &Arc<Source>, found: &mut Diagnostics) -> Option<toml::Table> {
    match source.text().parse::<toml::Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            found.push(unreadable(source, &error));
            None
        }
    }
}

/// A file that is no TOML.
pub(super) fn unreadable(source: &Arc<Source>, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    Diagnostic::new(Code::BadRequirement, source, span, format!("the file is no TOML: {}", error.message()))
}

fn malformed(text: &str, place: &Place<'_>, error: &NoRequirement) -> Diagnostic {
    let exact = place.source.text().get(place.span.clone()) == Some(text);
    let start = place.span.start;
    if let Some(operator) = without_version(text) {
        let written = text.get(operator.clone()).unwrap_or_default();
        let message = format!("`{}` is no requirement: a version is missing after `{written}`", shown(text));
        let span = if exact { start + operator.start..start + operator.end } else { place.span.clone() };
        let diagnostic = Diagnostic::new(Code::BadRequirement, place.source, span, message);
        return diagnostic.help("write the version, or leave the comparison out: any will do then");
    }
    let reason = error.message.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    let span = if exact {
        let from = text.floor_char_boundary(error.start.min(text.len()));
        let to = text.ceil_char_boundary(error.start.saturating_add(error.len).min(text.len()));
        start + from..start + to
    } else {
        place.span.clone()
    };
    let message = format!("`{}` is no requirement: {reason}", shown(text));
    let diagnostic = Diagnostic::new(Code::BadRequirement, place.source, span, message);
    match single_equals(text) {
        Some(at) => {
            let (name, version) = text.split_at(at);
            let said = diagnostic.help(format!("an exact version has two: {}={version}", name.trim_end()));
            let at = start + at;
            if exact { said.fix(Fix::replace("write two equals signs", at..at + 1, "==")) } else { said }
        }
        None => diagnostic.help("as `scikit-learn==1.5.2` or `pandas>=2,<3`"),
    }
}

/// Where a single equals sign stands for two.
fn single_equals(text: &str) -> Option<usize> {
    let (before, after) = text.split_once('=')?;
    (!before.ends_with(['<', '>', '!', '~']) && !after.starts_with('=')).then_some(before.len())
}

/// A comparison that nothing to compare with follows.
fn without_version(text: &str) -> Option<Range<usize>> {
    let is_sign = |c: char| matches!(c, '<' | '>' | '=' | '!' | '~');
    let versions = text.split([';', '#', '@']).next().unwrap_or_default();
    let mut from = 0;
    while let Some(start) = versions.get(from..)?.find(is_sign).map(|at| from + at) {
        let rest = versions.get(start..)?.trim_start_matches(is_sign);
        let end = versions.len() - rest.len();
        if rest.trim_start().is_empty() || rest.trim_start().starts_with([',', ')']) {
            return Some(start..end);
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_have_no_comments() {
        let text = "# c\n-r other.txt\n  a==1  # c\nb==2 \\\n  --hash=sha256:00\r\n# d \\\nc # x \\\nd";
        let lines = placed_lines(text);
        let words: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(words, ["-r other.txt", "a==1", "b==2 --hash=sha256:00", "c", "d"]);
        assert_eq!(lines[1].0, 19..23);
        assert_eq!(&text[lines[2].0.clone()], "b==2");
    }

    #[test]
    fn only_what_has_one_equals_sign_gets_a_second() {
        for (text, at) in
            [("a=1", Some(1)), ("a = 1", Some(2)), ("a==1", None), ("a>=1", None), ("a!=", None), ("a", None)]
        {
            assert_eq!(single_equals(text), at, "{text}");
        }
        for (text, operator) in [
            ("a>=", Some(1..3)),
            ("a !=  ", Some(2..4)),
            ("a==;python_version>'3'", Some(1..3)),
            ("a>=,<2", Some(1..3)),
            ("a>=1,<", Some(5..6)),
            ("a(>=)", Some(2..4)),
            ("a=", Some(1..2)),
            ("é>=", Some(2..4)),
            ("a>=1", None),
            ("a; python_version >= ", None),
            ("a @ https://example.org/?b=", None),
            ("", None),
        ] {
            assert_eq!(without_version(text), operator, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_packages() {
        assert_eq!(required_name("Scikit_Learn==1.5.2").as_deref(), Some("scikit-learn"));
        assert_eq!(required_name("bentoml[grpc]>=1").as_deref(), Some("bentoml"));
        assert_eq!(required_name("--index-url x"), None);
        assert_eq!(required_name("./x.whl"), None);
    }
}
