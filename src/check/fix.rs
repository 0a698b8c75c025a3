//! Repairs of the files that a person wrote, as far as they are safe.
//!
//! A repair changes places of a text, so comments and layout stay. Invariants: a file is written whole or not at all;
//! repairing twice changes nothing more.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use fs_err as fs;
use similar::TextDiff;

use crate::check::{self, Kind};
use crate::formats::diagnostic::{Diagnostic, Edit, Fix, apply};
use crate::formats::document::{Document, Node, Value};
use crate::io::atomic;
use crate::project::Project;
use crate::project::lock;

/// A file that was repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What it said.
    pub before: String,
    /// What it says now.
    pub after: String,
}

/// So many times what came of a repair is looked at again: one mistake hides another.
const ROUNDS: usize = 12;

/// Repairs the files that `paths` name, and those that belong to them.
///
/// # Errors
/// When a file cannot be read or written; those before it are repaired then.
pub fn files(paths: &[PathBuf]) -> std::io::Result<Vec<Change>> {
    let mut changes: BTreeMap<PathBuf, Change> = BTreeMap::new();
    for round in 0..ROUNDS {
        let results = check::of(paths);
        let mut fixes: BTreeMap<String, Vec<Fix>> = BTreeMap::new();
        for diagnostic in results.iter().flat_map(|result| result.diagnostics.sorted()) {
            let Diagnostic { primary, fix: Some(fix), .. } = diagnostic else { continue };
            fixes.entry(primary.source.path().to_owned()).or_default().push(fix.clone());
        }
        if round == 0 {
            for result in results.iter().filter(|result| result.kind == Kind::Project) {
                if let Ok((project, _)) = Project::load(&result.path) {
                    let path = crate::formats::document::shown(&project.path);
                    fixes.entry(path).or_default().extend(tidy(&project));
                }
            }
        }
        let mut changed = false;
        for (shown, fixes) in fixes {
            let path = PathBuf::from(shown);
            let text = fs::read_to_string(&path)?;
            // Places are counted without the mark.
            let (mark, body) = match text.strip_prefix('\u{feff}') {
                Some(body) => ("\u{feff}", body),
                None => ("", text.as_str()),
            };
            let after = mark.to_owned() + &apply(body, &fixes);
            if after == text {
                continue;
            }
            changed = true;
            atomic::write(&path, |file| file.write_all(after.as_bytes()))?;
            let change = changes.entry(path.clone()).or_insert(Change { path, before: text, after: String::new() });
            change.after = after;
        }
        if !changed {
            break;
        }
    }
    Ok(changes.into_values().filter(|change| change.before != change.after).collect())
}

impl Change {
    /// How the file differs, as `diff -u` writes it.
    pub fn difference(&self) -> String {
        let path = crate::formats::document::shown(&self.path);
        TextDiff::from_lines(&self.before, &self.after).unified_diff().header(&path, &path).to_string()
    }
}

/// What is no mistake, and better otherwise: lists of packages in order, requirements with the version of the lock, and
/// the line that tells editors the schema.
fn tidy(project: &Project) -> Vec<Fix> {
    let document = &project.document;
    let mut fixes = Vec::new();
    fixes.extend(pinned(project));
    for at in ["/system/packages", "/python/requirements"] {
        fixes.extend(sorted(document, at));
    }
    let text = document.source.text();
    let yaml = document.format == crate::formats::document::Format::Yaml;
    if yaml
        && !text.contains("yaml-language-server")
        && let Some(schema) = crate::project::init::schema_beside(&project.root)
    {
        let line = format!("# yaml-language-server: $schema={schema}\n");
        fixes.push(Fix::replace("name the schema", 0..0, line));
    }
    fixes
}

/// Requirements without a version, with that of the lock.
fn pinned(project: &Project) -> Option<Fix> {
    let text = fs::read_to_string(project.root.join(lock::NAME)).ok()?;
    let lock: lock::Lock = serde_json::from_str(&text).ok()?;
    if lock.is_stale(&project.input_digest()) {
        return None;
    }
    let document = &project.document;
    let list = node(document, "/python/requirements")?;
    let Value::Sequence(items) = &list.value else { return None };
    let packages: Vec<_> = lock.platforms.values().flat_map(|locked| &locked.python).collect();
    let edits = items.iter().filter_map(|item| {
        let Value::String(name) = &item.value else { return None };
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let normal = name.to_lowercase().replace(['_', '.'], "-");
        let package = packages.iter().find(|package| package.name == normal).filter(|_| plain)?;
        let written = document.source.text().get(item.span.clone())?;
        let text = written.replace(name.as_str(), &format!("{name}=={}", package.version));
        Some(Edit { span: item.span.clone(), text })
    });
    let edits: Vec<Edit> = edits.collect();
    (!edits.is_empty()).then(|| Fix { title: "pin the versions of the lock".to_owned(), edits })
}

fn node<'a>(document: &'a Document, at: &str) -> Option<&'a Node> {
    crate::formats::document::steps(at).try_fold(&document.root, |node, step| node.get(&step))
}

/// The texts of a list in order, each in the place of another; none where comments stand between them, which belong to
/// the item beside them.
fn sorted(document: &Document, at: &str) -> Option<Fix> {
    let list = node(document, at)?;
    let Value::Sequence(items) = &list.value else { return None };
    let text = document.source.text();
    if text.get(list.span.clone())?.contains('#') {
        return None;
    }
    let written: Vec<&str> = items.iter().map(|item| text.get(item.span.clone()).unwrap_or_default()).collect();
    let bare = |text: &&str| text.trim_matches(['"', '\'']).to_lowercase();
    let mut ordered = written.clone();
    ordered.sort_by_key(bare);
    if ordered == written || written.iter().any(|text| text.contains('\n')) {
        return None;
    }
    let edits = items.iter().zip(ordered).map(|(item, text)| Edit { span: item.span.clone(), text: text.to_owned() });
    Some(Fix { title: "put the list in order".to_owned(), edits: edits.collect() })
}
