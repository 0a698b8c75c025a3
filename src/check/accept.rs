//! Answers of a model, written into its manifest as what is expected from now on.
//!
//! Only the places that differ are changed, so comments and layout stay. Invariants: what is written is read again before
//! it reaches the disk, and says what it said before but for the answers; the file is written whole or not at all.

use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;
use serde_json::Value as Json;

use crate::formats::diagnostic::{Diagnostics, Edit, Fix, Source, apply};
use crate::formats::document::{Document, Key, Layout, MAX_BYTES, Node, Value, steps, yaml_text};
use crate::io::atomic;
use crate::project::Project;
use crate::project::manifest::Manifest;
use crate::run::service::{Outcome, Verdict};

/// What became of the answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accepted {
    /// The manifest.
    pub path: PathBuf,
    /// The numbers of the tests, from 1, that expect what was answered from now on.
    pub written: Vec<usize>,
    /// The tests that stay as they are.
    pub refused: Vec<Refused>,
}

/// An answer that nothing is written of.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The number of the test, from 1.
    pub number: usize,
    /// What it is called.
    pub name: String,
    /// Why, as a fragment in lower case.
    pub reason: String,
}

/// Columns that a line may have where the answer is written.
const WIDTH: usize = 100;

/// Writes the answers of `outcomes` that are not as expected into the manifest of the project at `path`, whose tests are
/// those of `asked`.
///
/// # Errors
/// When the manifest is another one by now, has mistakes, or cannot be written; it is as it was then.
pub fn answers(path: &Path, asked: &Manifest, outcomes: &[Outcome]) -> io::Result<Accepted> {
    let changed = |path: &Path| io::Error::other(format!("{} has changed since its tests were asked", path.display()));
    let Ok((project, _)) = Project::load(path) else { return Err(changed(path)) };
    if project.manifest != *asked {
        return Err(changed(&project.path));
    }
    let document = &project.document;
    let mut accepted = Accepted { path: project.path.clone(), ..Accepted::default() };
    let mut fixes = Vec::new();
    let mut meant = document.root.to_json();
    let mut after = document.source.text().to_owned();
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict != Verdict::AsExpected) {
        let test = asked.tests.get(outcome.number - 1);
        let is_of_file = test.is_some_and(|test| test.files().iter().any(|(at, _)| at.starts_with("/expect")));
        let written = writable(outcome).and_then(|()| {
            if is_of_file {
                return Err("what is expected is a file of the project: write it with `ekiben invoke -o`");
            }
            let (fix, changed) = written(document, &meant, outcome)?;
            let text = apply(document.source.text(), fixes.iter().chain([&fix]));
            if text.len() as u64 > MAX_BYTES {
                return Err("the answer is too large for a manifest");
            }
            (read(document, &text).as_ref() == Some(&changed)).then_some((fix, changed, text)).ok_or(BY_HAND)
        });
        match written {
            Ok((fix, changed, text)) => {
                accepted.written.push(outcome.number);
                fixes.push(fix);
                (meant, after) = (changed, text);
            }
            Err(reason) => {
                let Outcome { number, name, .. } = outcome.clone();
                accepted.refused.push(Refused { number, name, reason: reason.to_owned() });
            }
        }
    }
    if accepted.written.is_empty() {
        return Ok(accepted);
    }
    let text = fs::read_to_string(&project.path)?;
    // Places are counted without the mark.
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text.as_str()),
    };
    if body != document.source.text() {
        return Err(changed(&project.path));
    }
    atomic::write(&project.path, |file| write!(file, "{mark}{after}"))?;
    Ok(accepted)
}

const BY_HAND: &str = "there is no safe way to write into this place of the manifest: write the answer by hand";

/// Whether the answer may become what is expected.
///
/// # Errors
/// Why it may not.
pub fn writable(outcome: &Outcome) -> Result<(), &'static str> {
    if outcome.status.is_none() {
        return Err("there is no answer");
    }
    if outcome.is_broken() {
        return Err("the service failed");
    }
    if !outcome.is_shown_whole() {
        return Err("the answer holds a credential");
    }
    Ok(())
}

fn read(document: &Document, text: &str) -> Option<Json> {
    let mut found = Diagnostics::new();
    let source = Source::new(document.source.path(), text);
    let read = Document::parse(&source, document.format, &mut found)?;
    (!found.has_errors()).then(|| read.root.to_json())
}

/// The repair that makes the test expect what was answered, and `meant`, the value of the manifest, after it.
fn written(document: &Document, meant: &Json, outcome: &Outcome) -> Result<(Fix, Json), &'static str> {
    let at = format!("/tests/{}", outcome.number - 1);
    let mut meant = meant.clone();
    let mut writer = Writer { document, edits: Vec::new() };
    let Some(Place { node: test, .. }) = writer.find(&at) else { return Err(BY_HAND) };
    let other_status = outcome.status.filter(|status| *status != outcome.wanted_status());
    let expected = test.get("expect").filter(|node| !matches!(node.value, Value::Null));
    let is_about_status = expected.is_none() && test.get("status").is_some();
    let all = |value: &Json, writer: &mut Writer<'_>, meant: &mut Json, key: &str| {
        writer.set(&at, key, value)?;
        meant.pointer_mut(&at)?.as_object_mut()?.insert(key.to_owned(), value.clone());
        Some(())
    };
    match outcome.answer() {
        _ if is_about_status => {}
        None => return Err("the answer is no JSON"),
        Some(Json::Null) => return Err("the answer is null, which `expect` cannot tell from nothing"),
        Some(answer) if expected.is_some() && other_status.is_none() => {
            for place in places(outcome, answer) {
                let target = format!("{at}/expect{place}");
                let value = answer.pointer(&place).ok_or(BY_HAND)?;
                writer.replace(&target, value).ok_or(BY_HAND)?;
                *meant.pointer_mut(&target).ok_or(BY_HAND)? = value.clone();
            }
        }
        Some(answer) => all(answer, &mut writer, &mut meant, "expect").ok_or(BY_HAND)?,
    }
    if let Some(status) = other_status {
        all(&status.into(), &mut writer, &mut meant, "status").ok_or(BY_HAND)?;
    }
    Ok((Fix { title: "expect what was answered".to_owned(), edits: writer.edits }, meant))
}

/// The places in the answer, as JSON pointers, whose values are to be expected: none lies within another.
fn places(outcome: &Outcome, answer: &Json) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for difference in &outcome.differences {
        let mut place = difference.at.as_str();
        // A key that is not there any more goes with all that it stands among.
        while answer.pointer(place).is_none() {
            place = place.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        let inside =
            |place: &str, of: &str| place.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !places.iter().any(|of| inside(place, of)) {
            places.retain(|other| !inside(other, place));
            places.push(place.to_owned());
        }
    }
    places
}

/// Changes values of a document where they stand.
struct Writer<'a> {
    document: &'a Document,
    edits: Vec<Edit>,
}

/// A value on the way from the root, with what stands around it.
struct Place<'a> {
    node: &'a Node,
    /// Its key, where it has one.
    key: Option<&'a Key>,
    /// Whether it stands in brackets.
    in_flow: bool,
}

impl<'a> Writer<'a> {
    /// Gives the key of the mapping at `at` a value, whether or not it is there already.
    fn set(&mut self, at: &str, key: &str, value: &Json) -> Option<()> {
        let Place { node, .. } = self.find(at)?;
        if node.get(key).is_some() { self.replace(&format!("{at}/{key}"), value) } else { self.insert(at, key, value) }
    }

    fn replace(&mut self, at: &str, value: &Json) -> Option<()> {
        let Place { node, key, in_flow } = self.find(at)?;
        let end = self.end(node);
        if in_flow {
            let text = self.layout().flow(value, self.margin(node.span.start), self.column(node.span.start));
            self.edit(node.span.start..end, &text);
            return Some(());
        }
        let between = |key: &Key| self.text().get(key.span.end..node.span.start).unwrap_or_default();
        match key {
            Some(key) if !between(key).contains('\n') || node.span.is_empty() => {
                let colon = key.span.end + self.text().get(key.span.end..)?.find(':')? + 1;
                let column = self.column(key.span.start);
                let text = self.layout().block(value, column + 2, self.column(colon) + 1);
                // What is empty stands nowhere.
                let end = if node.span.is_empty() { colon } else { end };
                self.edit(colon..end, &text);
            }
            _ => {
                let column = self.column(node.span.start);
                let text = self.layout().block(value, column, column);
                let margin = format!("\n{}", " ".repeat(column));
                let text = text.strip_prefix(&margin).or_else(|| text.strip_prefix(' ')).unwrap_or(&text);
                self.edit(node.span.start..end, text);
            }
        }
        Some(())
    }

    /// Adds a key behind the last one of the mapping at `at`.
    fn insert(&mut self, at: &str, key: &str, value: &Json) -> Option<()> {
        let Place { node, in_flow, .. } = self.find(at)?;
        let Value::Mapping(entries) = &node.value else { return None };
        let (last, content) = entries.last()?;
        let end = if content.span.is_empty() { last.span.end } else { self.end(content) };
        if in_flow || self.is_flow(node) {
            let written = self.text().get(last.span.clone())?;
            let key = if written.starts_with('"') { format!("\"{key}\"") } else { key.to_owned() };
            let own_line = self.text().get(node.span.start..last.span.start)?.contains('\n');
            let (lead, margin) = match own_line {
                true => (format!(",\n{}", " ".repeat(self.column(last.span.start))), self.column(last.span.start)),
                false => (", ".to_owned(), self.margin(node.span.start)),
            };
            let column = if own_line { margin } else { self.column(end) + 2 } + key.chars().count() + 2;
            let text = self.layout().flow(value, margin, column);
            self.edit(end..end, &format!("{lead}{key}: {text}"));
        } else {
            let line_end = self.text().get(end..)?.find(['\r', '\n']).map_or(self.text().len(), |at| end + at);
            let column = self.column(entries.first()?.0.span.start);
            let text = self.layout().block(value, column + 2, column + key.len() + 2);
            self.edit(line_end..line_end, &format!("\n{}{}:{text}", " ".repeat(column), yaml_text(key)));
        }
        Some(())
    }

    fn edit(&mut self, span: Range<usize>, text: &str) {
        let text = if self.text().contains("\r\n") { text.replace('\n', "\r\n") } else { text.to_owned() };
        self.edits.push(Edit { span, text });
    }

    fn find(&self, at: &str) -> Option<Place<'a>> {
        let mut place = Place { node: &self.document.root, key: None, in_flow: false };
        for step in steps(at) {
            let in_flow = place.in_flow || self.is_flow(place.node);
            let key = match &place.node.value {
                Value::Mapping(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(key, _)| key),
                _ => None,
            };
            place = Place { node: place.node.get(&step)?, key, in_flow };
        }
        Some(place)
    }

    fn is_flow(&self, node: &Node) -> bool {
        let is_collection = matches!(node.value, Value::Mapping(_) | Value::Sequence(_));
        is_collection && self.text().get(node.span.start..).is_some_and(|text| text.starts_with(['{', '[']))
    }

    /// Where a value ends, without what stands between it and the next.
    fn end(&self, node: &Node) -> usize {
        let last = match &node.value {
            Value::Sequence(items) if !self.is_flow(node) => items.last(),
            Value::Mapping(entries) if !self.is_flow(node) => match entries.last() {
                Some((key, content)) if content.span.is_empty() => {
                    let rest = self.text().get(key.span.end..).unwrap_or_default();
                    return key.span.end + rest.find(':').map_or(0, |colon| colon + 1);
                }
                last => last.map(|(_, content)| content),
            },
            _ => None,
        };
        match last {
            Some(last) => self.end(last),
            None => {
                let written = self.text().get(node.span.clone()).unwrap_or_default();
                node.span.start + written.trim_end().len()
            }
        }
    }

    fn text(&self) -> &'a str {
        self.document.source.text()
    }

    fn layout(&self) -> Layout {
        Layout { format: self.document.format, width: WIDTH }
    }

    /// Columns before a place, on its line.
    fn column(&self, offset: usize) -> usize {
        self.document.source.position(offset).1 - 1
    }

    /// By how much the line of a place is set in.
    fn margin(&self, offset: usize) -> usize {
        let line = self.document.source.line(self.document.source.position(offset).0);
        let line = self.text().get(line).unwrap_or_default();
        line.len() - line.trim_start_matches(' ').len()
    }
}
