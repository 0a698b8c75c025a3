//! The dependencies of a `pyproject.toml` (PEP 621), and where uv is told to take them from.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::line::{self, Line, Place};
use super::{Requirements, is_own_file, settings};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::document::{MAX_BYTES, read_text, shown};
use crate::io::archive::ArchivePath;

/// Reads the file that the manifest names. That it is there is for the project's files to say.
pub(super) fn read(name: &str, root: &Path, to: &mut Requirements, found: &mut Diagnostics) {
    let Ok(path) = ArchivePath::relative(name) else { return };
    let host = path.under(root);
    if !is_own_file(name, root) {
        return;
    }
    let Some(source) = read_text(&host, &shown(&host), MAX_BYTES, found) else { return };
    to.files.push((path, source.clone()));
    let Some(table) = line::parse_toml(&source, found) else { return };
    let document = match DeTable::parse(source.text()) {
        Ok(document) => document,
        Err(error) => return found.push(line::unreadable(&source, &error)),
    };
    let document = document.get_ref();
    let only_code = |span: Range<usize>, message: &str| {
        let error = Diagnostic::new(Code::RunsCode, &source, span, message);
        error.help("list the packages under `dependencies` in [project], or write them into a requirements.txt")
    };
    let Some((_, project)) = document.iter().find(|(key, _)| key.get_ref() == "project") else {
        return found
            .push(only_code(0..0, "there is no [project] table: only running its build would tell what it requires"));
    };
    let get = |name: &str| Some(project.get_ref().as_table()?.iter().find(|(key, _)| key.get_ref() == name)?.1);
    if let Some(dynamic) = get("dynamic")
        && dynamic
            .get_ref()
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name.get_ref().as_str() == Some("dependencies")))
    {
        return found
            .push(only_code(dynamic.span(), "the dependencies are dynamic: only running the build would tell them"));
    }
    let mut kept = Vec::new();
    for dependency in get("dependencies").and_then(|list| list.get_ref().as_array()).into_iter().flatten() {
        let place = Place { source: &source, span: dependency.span(), folder: host.parent().unwrap_or(root), root };
        let Some(text) = dependency.get_ref().as_str() else {
            found.push(place.says(Code::BadRequirement, "a dependency is a text"));
            continue;
        };
        // Within the quotes.
        let place =
            Place { span: place.span.start + 1..place.span.end.saturating_sub(1).max(place.span.start + 1), ..place };
        match line::read(text, &place) {
            Ok(Line::Wanted(wanted)) => {
                kept.push(toml::Value::from(wanted.line.clone()));
                to.wanted.push(*wanted);
            }
            Ok(_) => found.push(place.says(Code::BadRequirement, format!("`{text}` is no requirement"))),
            Err(error) => found.push(error),
        }
    }
    let mut written = toml::Table::from_iter([
        ("name".to_owned(), get("name").and_then(|name| name.get_ref().as_str()).unwrap_or("project").into()),
        ("version".to_owned(), "0".into()),
        ("dependencies".to_owned(), kept.into()),
    ]);
    written.extend(
        get("requires-python").and_then(|text| Some(("requires-python".to_owned(), text.get_ref().as_str()?.into()))),
    );
    let uv = table.get("tool").and_then(|tool| tool.get("uv")).and_then(toml::Value::as_table);
    let mut own = settings::taken(uv.unwrap_or(&toml::Table::new()), root, &source, found);
    let sources = sources(document, &source, root, to, found);
    if !sources.is_empty() {
        own.insert("sources".to_owned(), sources.into());
    }
    let tool = toml::Table::from_iter([("uv".to_owned(), own.into())]);
    to.project =
        Some(toml::Table::from_iter([("project".to_owned(), written.into()), ("tool".to_owned(), tool.into())]));
}

/// Where the required packages come from: an index by its name, or a wheel. The sources of others mean nothing.
fn sources(
    document: &DeTable<'_>,
    source: &Arc<Source>,
    root: &Path,
    to: &Requirements,
    found: &mut Diagnostics,
) -> toml::Table {
    let mut kept = toml::Table::new();
    let tool = document.iter().find(|(key, _)| key.get_ref() == "tool").map(|(_, value)| value.get_ref());
    let uv = tool.and_then(|tool| Some(step(tool, "uv")?.get_ref()));
    let Some(sources) = uv.and_then(|uv| step(uv, "sources")) else { return kept };
    for (name, value) in sources.get_ref().as_table().into_iter().flatten() {
        let wanted = line::required_name(name.get_ref());
        if !to.wanted.iter().any(|one| Some(&one.name) == wanted.as_ref()) {
            continue;
        }
        let one = std::slice::from_ref(value);
        let entries = value.get_ref().as_array().map_or(one, |list| &list[..]);
        let mut taken = Vec::new();
        for entry in entries {
            let place = Place { source, span: entry.span(), folder: root, root };
            let text =
                |key: &str| step(entry.get_ref(), key).and_then(|value| Some(value.get_ref().as_str()?.to_owned()));
            let what = match (text("index"), text("url").or_else(|| text("path"))) {
                (Some(index), _) => Ok(("index", index)),
                (None, Some(address)) => line::wheel_url(&address, &place).map(|url| ("url", url)),
                (None, None) if step(entry.get_ref(), "git").is_some() => {
                    Err(place.runs_code(name.get_ref(), "a repository"))
                }
                (None, None) => Err(place.runs_code(name.get_ref(), "a folder")),
            };
            match what {
                Ok((key, address)) => {
                    let mut entry = toml::Table::from_iter([(key.to_owned(), address.into())]);
                    entry.extend(text("marker").map(|marker| ("marker".to_owned(), marker.into())));
                    taken.push(toml::Value::from(entry));
                }
                Err(error) => found.push(error),
            }
        }
        if !taken.is_empty() {
            kept.insert(name.get_ref().to_string(), taken.into());
        }
    }
    kept
}

/// The value under `name` in a table.
fn step<'a, 'i>(value: &'a DeValue<'i>, name: &str) -> Option<&'a toml::Spanned<DeValue<'i>>> {
    value.as_table()?.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
}
