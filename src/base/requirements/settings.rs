//! uv's settings, as far as they are taken from a project: which packages are meant, and where they lie.
//!
//! All else is the person's to say, in the environment or in their own configuration: where uv keeps its cache, which
//! programs it may start for passwords, which hosts need no certificates.

use std::path::Path;
use std::sync::Arc;

use super::line::parse_toml;
use super::line::{Line, Place, read as read_line};
use super::{Requirements, is_own_file};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::document::{MAX_BYTES, read_text, shown};

/// The settings that are taken (uv's documentation, "Settings").
const TAKEN: [&str; 14] = [
    "constraint-dependencies",
    "dependency-metadata",
    "exclude-newer",
    "exclude-newer-package",
    "extra-index-url",
    "find-links",
    "fork-strategy",
    "index",
    "index-strategy",
    "index-url",
    "no-index",
    "override-dependencies",
    "prerelease",
    "resolution",
];

/// Settings of uv's that are not taken, and would have changed what it does here.
const LEFT: [&str; 22] = [
    "allow-insecure-host",
    "cache-dir",
    "config-settings",
    "config-settings-package",
    "extra-build-dependencies",
    "keyring-provider",
    "link-mode",
    "native-tls",
    "no-binary",
    "no-binary-package",
    "no-build-isolation",
    "no-build-isolation-package",
    "no-cache",
    "offline",
    "prefix",
    "python",
    "python-downloads",
    "python-preference",
    "system",
    "system-certs",
    "target",
    "torch-backend",
];

/// Reads the `uv.toml` of the project's folder, or else the section `[tool.uv]` of its `pyproject.toml`: as uv does.
pub(super) fn read_own(root: &Path, to: &mut Requirements, found: &mut Diagnostics) {
    let is_section = !is_own_file("uv.toml", root);
    let name = if is_section { "pyproject.toml" } else { "uv.toml" };
    // Where its dependencies are what is required, its settings are known already.
    if !is_own_file(name, root) || is_section && to.project.is_some() {
        return;
    }
    let host = root.join(name);
    let Some(source) = read_text(&host, &shown(&host), MAX_BYTES, found) else { return };
    let Some(mut table) = parse_toml(&source, found) else { return };
    if is_section {
        let section = table.get("tool").and_then(|tool| tool.get("uv")).and_then(toml::Value::as_table);
        table = section.cloned().unwrap_or_default();
    }
    to.settings = taken(&table, root, &source, found);
    if let Some(pip) = table.get("pip").and_then(toml::Value::as_table) {
        let pip = taken(pip, root, &source, found);
        if !pip.is_empty() {
            to.settings.insert("pip".to_owned(), pip.into());
        }
    }
}

/// What is taken of `table`. Paths in it are meant from `root`.
pub(super) fn taken(table: &toml::Table, root: &Path, source: &Arc<Source>, found: &mut Diagnostics) -> toml::Table {
    let mut kept = toml::Table::new();
    for key in table.keys().filter(|key| LEFT.contains(&key.as_str())) {
        let mut places = source.text().match_indices(key.as_str()).map(|(at, _)| at);
        let at = places.find(|at| *at == 0 || source.text()[..*at].ends_with('\n')).unwrap_or_default();
        let message = format!("the setting `{key}` is not taken from a project");
        let warning = Diagnostic::new(Code::LeftSetting, source, at..at + key.len(), message);
        found.push(warning.help("set it for yourself: in ~/.config/uv/uv.toml, or by uv's variables"));
    }
    for (key, value) in table.iter().filter(|(key, _)| TAKEN.contains(&key.as_str())) {
        let value = match (key.as_str(), value) {
            ("find-links", toml::Value::Array(places)) => {
                let absolute =
                    |place: &toml::Value| match place.as_str().map(|place| fs_err::canonicalize(root.join(place))) {
                        Some(Ok(path)) => toml::Value::from(path.display().to_string()),
                        _ => place.clone(),
                    };
                toml::Value::Array(places.iter().map(absolute).collect())
            }
            ("constraint-dependencies" | "override-dependencies", toml::Value::Array(list)) => {
                let place = Place { source, span: 0..0, folder: root, root };
                let mut lines = Vec::new();
                for text in list.iter().filter_map(toml::Value::as_str) {
                    match read_line(text, &place) {
                        Ok(Line::Wanted(wanted)) => lines.push(toml::Value::from(wanted.line)),
                        Ok(_) => found.push(Diagnostic::new(
                            Code::BadRequirement,
                            source,
                            0..0,
                            format!("`{text}` in `{key}` is no requirement"),
                        )),
                        Err(error) => found.push(error),
                    }
                }
                lines.into()
            }
            (_, value) => value.clone(),
        };
        kept.insert(key.clone(), value);
    }
    kept
}
