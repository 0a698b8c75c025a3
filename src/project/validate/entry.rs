//! The functions that a service names: whether they are in their files, with the parameters that are described.
//!
//! The Python source is parsed, never run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Subject, training};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::document::{MAX_BYTES, pointer, read_text};
use crate::formats::source::{self, ParameterKind, Position, Signature, Unwritten};
use crate::io::archive::ArchivePath;
use crate::io::explain::Explain as _;
use crate::io::suggest::{closest, did_you_mean};
use crate::project::manifest::Entry;
use crate::project::manifest::training::Training;

/// Checks them; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let entries = subject.manifest.service.entries();
    let mut texts: BTreeMap<&str, Option<Arc<Source>>> = BTreeMap::new();
    let mut functions = Vec::new();
    named_functions(subject, &entries, found);
    // What cannot be read may take anything.
    let mut open = false;
    for entry in &entries {
        let text = texts.entry(entry.file).or_insert_with(|| read(subject, entry.file, found)).clone();
        let Some(text) = text else {
            open = true;
            continue;
        };
        match declared(subject, entry, &text, found) {
            Ok(signature) => {
                open |= signature.decorated;
                batch(subject, entry, &signature, found);
                functions.push((text, signature));
            }
            Err(error) => open |= !matches!(error, source::Error::Missing { .. }),
        }
    }
    for entry in subject.manifest.training.iter().flat_map(Training::entries) {
        let text = texts.entry(entry.file).or_insert_with(|| read(subject, entry.file, found)).clone();
        if let Some(text) = text
            && let Ok(signature) = declared(subject, &entry, &text, found)
        {
            training::function(subject, &entry, &text, &signature, found);
        }
    }
    if functions.is_empty() || open {
        return;
    }
    // What MLflow's clients send says its form, and no parameters.
    let asked = entries.iter().zip(&functions).filter(|(entry, _)| !entry.pointer.starts_with("/service/mlflow/"));
    for (entry, (text, function)) in asked {
        arguments(subject, entry, text, function, found);
    }
    for (number, input) in subject.manifest.service.inputs.iter().enumerate() {
        if functions.iter().any(|(_, function)| function.takes(&input.name)) {
            continue;
        }
        let at = format!("/service/inputs/{number}/name");
        let names: Vec<String> = functions.iter().flat_map(|(_, function)| named(function)).collect();
        let message = match entries.as_slice() {
            [entry] => format!("`{}` is no parameter of the function `{}`", input.name, entry.function),
            _ => format!("`{}` is no parameter of any of the functions", input.name),
        };
        let mut error = subject.document.at(Code::NoParameter, &at, message);
        if let Some(near) = closest(&input.name, &names) {
            error = error.label(did_you_mean(near));
        }
        for (text, function) in &functions {
            let span = span(text, function.position, &function.name);
            error = error.also(text, span, "the function is here");
        }
        found.push(error);
    }
}

/// What a function declares; what stands against it is said.
fn declared(
    subject: &Subject<'_>,
    entry: &Entry<'_>,
    text: &Arc<Source>,
    found: &mut Diagnostics,
) -> Result<Signature, source::Error> {
    let signature = source::function(text.text(), entry.function);
    match &signature {
        Ok(Signature { unwritten: Some(Unwritten { text: what, position }), name, .. }) => {
            let message = match what.as_str() {
                "" => format!("the function `{name}` is still to be written"),
                what => format!("the function `{name}` is still to be written: {what}"),
            };
            let warning = Diagnostic::new(Code::Unwritten, text, span(text, *position, "raise"), message);
            found.push(warning.help("put what answers in the place of this line"));
        }
        Ok(_) => {}
        Err(error) => found.push(explain(subject, entry, text, error)),
    }
    signature
}

/// The names in `service.batch` and `service.kserve` are those of functions.
fn named_functions(subject: &Subject<'_>, entries: &[Entry<'_>], found: &mut Diagnostics) {
    let is_own =
        |entry: &&Entry<'_>| !["/service/openai/", "/service/mlflow/"].iter().any(|at| entry.pointer.starts_with(at));
    let own = entries.iter().filter(is_own);
    let names: Vec<String> = own.map(|entry| entry.name.to_owned()).collect();
    for name in subject.manifest.service.batch.keys().filter(|name| !names.contains(name)) {
        let at = pointer(["service", "batch", name.as_str()]);
        let mut error = subject.document.at_key(Code::NotSuited, &at, format!("there is no function `{name}`"));
        if let Some(near) = closest(name, &names) {
            error = error.label(did_you_mean(near));
        }
        found.push(error);
    }
    if let Some(name) = subject.manifest.service.kserve.as_ref().filter(|name| !names.contains(name)) {
        let mut error =
            subject.document.at(Code::NotSuited, "/service/kserve", format!("there is no function `{name}`"));
        if let Some(near) = closest(name, &names) {
            error = error.label(did_you_mean(near));
        }
        found.push(error);
    }
}

/// Whether a function can be given several requests as one.
fn batch(subject: &Subject<'_>, entry: &Entry<'_>, signature: &Signature, found: &mut Diagnostics) {
    let Some(batch) = subject.manifest.service.batch.get(entry.name) else { return };
    if signature.parts.is_some() {
        let at = pointer(["service", "batch", entry.name]);
        let message = format!("`{}` answers in parts, which cannot be taken apart", signature.name);
        found.push(subject.document.at_key(Code::NotSuited, &at, message));
    }
    for (number, name) in batch.over.iter().enumerate().filter(|(_, name)| !signature.takes(name)) {
        let at = pointer(["service", "batch", entry.name, "over", number.to_string().as_str()]);
        let mut error = subject.document.at(Code::NotSuited, &at, format!("`{name}` is no parameter of the function"));
        if let Some(near) = closest(name, &named(signature).collect::<Vec<_>>()) {
            error = error.label(did_you_mean(near));
        }
        found.push(error);
    }
}

/// The names in requests that are to succeed have to be those of parameters.
fn arguments(
    subject: &Subject<'_>,
    entry: &Entry<'_>,
    text: &Arc<Source>,
    function: &Signature,
    found: &mut Diagnostics,
) {
    let path = format!("/{}", entry.name);
    for (number, test) in subject.manifest.tests.iter().enumerate() {
        let is_meant = test.path == path && (200..300).contains(&test.wanted_status());
        let Some(request) = test.request.as_ref().and_then(|request| request.as_object()).filter(|_| is_meant) else {
            continue;
        };
        for name in request.keys().filter(|name| !function.takes(name)) {
            let number = number.to_string();
            let at = pointer(["tests", number.as_str(), "request", name.as_str()]);
            let message = format!("`{name}` is no parameter of the function `{}`", entry.function);
            let mut error = subject.document.at_key(Code::NoParameter, &at, message);
            if let Some(near) = closest(name, &named(function).collect::<Vec<_>>()) {
                error = error.label(did_you_mean(near));
            }
            found.push(error.also(text, span(text, function.position, &function.name), "the function is here"));
        }
    }
}

/// What is not among the files is not there, or not in the project: that was said, and it is not for us to open.
fn read(subject: &Subject<'_>, file: &str, found: &mut Diagnostics) -> Option<Arc<Source>> {
    let path = ArchivePath::relative(file).ok()?;
    let file = subject.files.get(&path)?;
    read_text(&file.host, &crate::formats::document::shown(&file.host), MAX_BYTES, found)
}

fn explain(subject: &Subject<'_>, entry: &Entry<'_>, text: &Arc<Source>, error: &source::Error) -> Diagnostic {
    match error {
        source::Error::Missing { name, functions } => {
            let message = format!("there is no function `{name}` in {}", entry.file);
            let missing = subject.document.at(Code::NoFunction, &entry.pointer, message);
            let here = closest(name, functions).and_then(|near| source::function(text.text(), near).ok());
            match here {
                Some(near) => missing.label(did_you_mean(&near.name)).also(
                    text,
                    span(text, near.position, &near.name),
                    "this one?",
                ),
                None if functions.is_empty() => missing,
                None => missing.help(format!("the functions in it are {}", functions.join(", "))),
            }
        }
        source::Error::Opaque { name, position } => {
            let warning = subject.document.at(Code::OpaqueFunction, &entry.pointer, error.to_string());
            let warning = warning.also(text, span(text, *position, name), "it gets its value here");
            error.explain().hint.into_iter().fold(warning, Diagnostic::help)
        }
        source::Error::Syntax { position, message } => {
            let message = format!("the syntax is wrong: {}", message.to_lowercase());
            Diagnostic::new(Code::PythonSyntax, text, span(text, *position, ""), message)
        }
        other => Diagnostic::new(Code::PythonSyntax, text, 0..0, other.to_string()),
    }
}

/// The parameters that an input can be passed to by its name.
fn named(function: &Signature) -> impl Iterator<Item = String> + '_ {
    function.parameters.iter().filter(|p| p.kind == ParameterKind::Named).map(|p| p.name.clone())
}

fn span(text: &Source, position: Position, name: &str) -> Range<usize> {
    let start = text.offset(position.line, position.column);
    start..start + name.len()
}
