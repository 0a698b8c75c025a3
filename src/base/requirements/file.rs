//! Requirements files, with all that they include, and lists in a manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{self, Choice, Line, Place, filled_in};
use super::{Outside, Requirements, inside, is_own_file};
use crate::formats::diagnostic::{Code, Diagnostics, Source};
use crate::formats::document::{Document, MAX_BYTES, read_text, shown};
use crate::io::archive::ArchivePath;

/// Deepest inclusion of files by `-r`.
const DEEPEST: usize = 16;
/// Most files that are read.
const MOST: usize = 256;

/// Reads the requirements that stand in a manifest.
pub(super) fn read_list(
    list: &[String],
    root: &Path,
    listed: Option<&Document>,
    to: &mut Requirements,
    found: &mut Diagnostics,
) {
    let alone = Source::new("requirements", list.join("\n"));
    let mut start = 0;
    for (number, text) in list.iter().enumerate() {
        let alone_span = start..start + text.len();
        start += text.len() + 1;
        let (source, span) = match listed {
            None => (&alone, alone_span),
            Some(document) => {
                let span = document.span_of(&format!("/python/requirements/{number}"));
                // Within the quotes, if the text stands there as it was read.
                let written = document.source.text().get(span.clone()).unwrap_or_default();
                let within = written.find(text.as_str()).map(|at| span.start + at..span.start + at + text.len());
                (&document.source, within.unwrap_or(span))
            }
        };
        let place = Place { source, span, folder: root, root };
        take(text, &place, &mut vec![], false, to, found);
    }
}

/// Reads the requirements file that the manifest names. That it is there is for the project's files to say.
pub(super) fn read_named(name: &str, root: &Path, to: &mut Requirements, found: &mut Diagnostics) {
    let Ok(path) = ArchivePath::relative(name) else { return };
    if is_own_file(name, root) {
        read_file(path, root, &mut vec![], false, to, found);
    }
}

/// Reads a file below `root`; `above` are the files that include it.
fn read_file(
    path: ArchivePath,
    root: &Path,
    above: &mut Vec<ArchivePath>,
    constraints: bool,
    to: &mut Requirements,
    found: &mut Diagnostics,
) {
    let host = path.under(root);
    let Some(source) = read_text(&host, &shown(&host), MAX_BYTES, found) else { return };
    if !to.files.iter().any(|(known, _)| *known == path) {
        to.files.push((path.clone(), source.clone()));
    }
    let folder = host.parent().unwrap_or(root).to_owned();
    above.push(path);
    read_lines(&source, &folder, root, above, constraints, to, found);
    above.pop();
}

fn read_lines(
    source: &Arc<Source>,
    folder: &Path,
    root: &Path,
    above: &mut Vec<ArchivePath>,
    constraints: bool,
    to: &mut Requirements,
    found: &mut Diagnostics,
) {
    for (span, text) in line::placed_lines(source.text()) {
        take(&text, &Place { source, span, folder, root }, above, constraints, to, found);
    }
}

/// Takes one line.
fn take(
    text: &str,
    place: &Place<'_>,
    above: &mut Vec<ArchivePath>,
    constraints: bool,
    to: &mut Requirements,
    found: &mut Diagnostics,
) {
    let filled = |text: &str| filled_in(text, &|name| std::env::var(name).ok());
    match line::read(text, place) {
        Err(error) => found.push(error),
        Ok(Line::Nothing) => {}
        Ok(Line::Wanted(mut wanted)) => {
            wanted.line = filled(&wanted.line);
            if constraints { &mut to.constraints } else { &mut to.wanted }.push(*wanted);
        }
        Ok(Line::Option(Choice::NoIndex)) => to.options.push("--no-index".to_owned()),
        Ok(Line::Option(Choice::Index(option, address))) => to.options.push(format!("{option} {}", filled(&address))),
        Ok(Line::Option(Choice::FindLinks(address))) => {
            // It is meant from where the file lies; the line will be in another file.
            let local = fs_err::canonicalize(place.folder.join(&address));
            let address = local.map_or_else(|_| filled(&address), |path| path.display().to_string());
            to.options.push(format!("-f {address}"));
        }
        Ok(Line::Include { file, constraints: pins }) => match included(&file, place, above, to) {
            Ok(path) => read_file(path, place.root, above, constraints || pins, to, found),
            Err(error) => found.push(error),
        },
    }
}

/// The file that a line includes.
fn included(
    file: &str,
    place: &Place<'_>,
    above: &[ArchivePath],
    to: &Requirements,
) -> Result<ArchivePath, crate::formats::diagnostic::Diagnostic> {
    if file.contains("://") {
        let error = place.says(Code::BadRequirement, format!("`{file}` lies in the network"));
        return Err(error.help("a lock has to follow from the project: copy the file into it"));
    }
    let outside = |path: Outside| match path {
        Outside::Missing => place.says(Code::NoFile, format!("there is no file `{file}`")),
        Outside::Elsewhere => place.says(Code::PathLeaves, format!("`{file}` lies outside of the project")),
    };
    let leaves = || climbs(place, file).then(|| outside(Outside::Elsewhere));
    let real = inside(file, place.folder, place.root).map_err(|why| leaves().unwrap_or_else(|| outside(why)))?;
    let root = fs_err::canonicalize(place.root).map_err(|_| outside(Outside::Missing))?;
    let below: PathBuf = real.strip_prefix(&root).unwrap_or(&real).to_owned();
    let path = ArchivePath::from_path(&below).map_err(|error| place.says(Code::BadRequirement, error.to_string()))?;
    if above.contains(&path) || above.len() >= DEEPEST {
        return Err(place.says(Code::BadRequirement, format!("`{file}` includes itself")));
    }
    if to.files.len() >= MOST {
        return Err(place.says(Code::BadRequirement, format!("more than {MOST} files are included")));
    }
    Ok(path)
}

/// Whether a path leads out of the project by its spelling alone.
fn climbs(place: &Place<'_>, file: &str) -> bool {
    let mut depth = place.folder.strip_prefix(place.root).map_or(0, |below| below.components().count());
    Path::new(file).is_absolute()
        || !Path::new(file).components().all(|part| match part {
            std::path::Component::ParentDir => {
                let is_inside = depth > 0;
                depth = depth.saturating_sub(1);
                is_inside
            }
            std::path::Component::CurDir => true,
            _ => {
                depth += 1;
                true
            }
        })
}
