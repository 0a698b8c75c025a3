//! Which models there are: files by their names and contents, folders by what lies in them; and what they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::proposal::{self, Kind};
use super::{Error, MOST, NoModel, plain};
use crate::formats::model::{self, Format, Origin};
use crate::project::files::PASSED;

/// Folders within folders that are looked into.
const DEEPEST: usize = 16;

/// Something that is to be made a project.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    /// A file, or a folder of a kind.
    pub what: Result<Option<Kind>, Error>,
}

/// The models at a path: the one that it is, or those that are below it.
pub fn at(path: &Path) -> Vec<Found> {
    let one = |what| vec![Found { path: path.to_owned(), what }];
    // What describes a project of another tool's stands for its folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let describes = |name: &str| path.ends_with(name) && path.is_file();
    if proposal::DESCRIPTIONS.into_iter().any(describes)
        && let Some(kind @ (Kind::Cog | Kind::BentoService)) = proposal::recognise(folder)
    {
        return vec![Found { path: folder.to_owned(), what: Ok(Some(kind)) }];
    }
    if path.is_file() {
        return one(Ok(None));
    }
    if !path.is_dir() {
        return one(Err(Error::Missing(path.to_owned())));
    }
    if let Some(kind) = proposal::recognise(path) {
        return one(Ok(Some(kind)));
    }
    let mut found = Vec::new();
    match walk(path, DEEPEST, &mut found) {
        Err(error) => one(Err(error)),
        Ok(()) if found.is_empty() => one(Err(Error::NoModel { path: path.to_owned(), why: NoModel::None })),
        Ok(()) => found,
    }
}

/// The models that lie in a folder itself.
///
/// # Errors
/// When the disk says no, or there are too many.
pub fn directly_in(folder: &Path) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    walk(folder, 0, &mut found)?;
    Ok(found)
}

/// Models below a folder, and below as many folders in it. Links are not followed, and what is a project or a bento
/// already is passed.
fn walk(folder: &Path, depth: usize, found: &mut Vec<Found>) -> Result<(), Error> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && !PASSED.iter().any(|name| entry.file_name() == *name) {
            match proposal::recognise(&path) {
                Some(Kind::Project | Kind::Bento) => {}
                Some(kind) => found.push(Found { path, what: Ok(Some(kind)) }),
                None if depth > 0 => walk(&path, depth - 1, found)?,
                None => {}
            }
        } else if kind.is_file() && is_model(&path) {
            found.push(Found { path, what: Ok(None) });
        }
        if found.len() > MOST {
            return Err(Error::TooMany(folder.to_owned()));
        }
    }
    Ok(())
}

/// Whether a file is a model, by its name; by its content, where others are called so too.
pub fn is_model(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let size = path.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let format =
        || model::inspect(&Origin::File(path), &name.to_ascii_lowercase(), size).ok().map(|model| model.format);
    match named(&name) {
        Named::Model => true,
        Named::Perhaps => format().is_some_and(|format| !matches!(format, Format::Other | Format::LfsPointer)),
        Named::Otherwise => false,
    }
}

/// What the name of a file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It is a model.
    Model,
    /// It may be one: others are called so too.
    Perhaps,
    /// It is none.
    Otherwise,
}

/// Whether a file is called as pickles are, which need the packages that they were made with.
pub fn is_pickle(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    let ending = if COMPRESSED.contains(&ending) { stem.rsplit('.').next() } else { Some(ending) };
    matches!(ending, Some("pkl" | "pickle" | "joblib"))
}

/// The ways in which joblib compresses.
const COMPRESSED: [&str; 5] = ["z", "gz", "bz2", "xz", "lzma"];

/// What the name of a file says of it.
pub fn named(name: &str) -> Named {
    const SURE: [&str; 15] = [
        "pkl",
        "pickle",
        "joblib",
        "onnx",
        "pt",
        "pth",
        "pt2",
        "safetensors",
        "keras",
        "h5",
        "ubj",
        "cbm",
        "skops",
        "tflite",
        "gguf",
    ];
    const PERHAPS: [&str; 14] =
        ["json", "txt", "bin", "model", "xgb", "lgb", "hdf5", "ckpt", "kv", "vec", "w2v", "wordvectors", "d2v", "lda"];
    let name = name.to_ascii_lowercase();
    let Some((_, ending)) = name.rsplit_once('.') else { return Named::Otherwise };
    if COMPRESSED.contains(&ending) {
        return if is_pickle(&name) { Named::Model } else { Named::Otherwise };
    }
    match ending {
        ending if SURE.contains(&ending) => Named::Model,
        ending if PERHAPS.contains(&ending) => Named::Perhaps,
        _ => Named::Otherwise,
    }
}

/// A name for each, after its file or folder, and no two the same.
pub fn names(found: &[Found]) -> Vec<String> {
    // What says nothing about a model, as many are called so.
    const SAY_NOTHING: [&str; 8] =
        ["", "model", "models", "weights", "saved_model", "pytorch_model", "artifacts", "python_model"];
    let real: Vec<PathBuf> =
        found.iter().map(|one| std::path::absolute(&one.path).unwrap_or_else(|_| one.path.clone())).collect();
    let stem = |path: &Path, is_file: bool| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let without = |name: &str, endings: &[&str]| {
            let found = name.rsplit_once('.').filter(|(_, ending)| endings.is_empty() || endings.contains(ending));
            found.map_or_else(|| name.to_owned(), |(stem, _)| stem.to_owned())
        };
        // What compresses comes on top of the ending of what is compressed.
        plain(&if is_file {
            without(&without(&name, &["z", "gz", "bz2", "xz", "lzma"]), &[])
        } else {
            name.into_owned()
        })
    };
    let is_file = |at: usize| found.get(at).is_some_and(|one| !matches!(one.what, Ok(Some(_))));
    let above = |path: &Path| {
        let folders = path.ancestors().skip(1).take(4).map(|folder| stem(folder, false));
        folders.into_iter().find(|name| !SAY_NOTHING.contains(&name.as_str()))
    };
    let mut names: Vec<String> = real
        .iter()
        .enumerate()
        .map(|(at, path)| {
            let own = stem(path, is_file(at));
            if SAY_NOTHING.contains(&own.as_str()) { above(path).unwrap_or_else(|| "model".to_owned()) } else { own }
        })
        .collect();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        groups.entry(name.clone()).or_default().push(at);
    }
    for (name, group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
        let of = |at: &usize| real.get(*at).map(PathBuf::as_path).unwrap_or(Path::new(""));
        let ending = |at: &usize| {
            let ending = of(at).extension().unwrap_or_default().to_string_lossy();
            plain(&format!("{name}-{ending}"))
        };
        let folder = |at: &usize| plain(&format!("{}-{name}", above(of(at)).unwrap_or_default()));
        let candidates: [Vec<String>; 2] = [group.iter().map(ending).collect(), group.iter().map(folder).collect()];
        let distinct = |names: &&Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
        if let Some(better) = candidates.iter().find(distinct) {
            group.iter().zip(better).for_each(|(at, name)| {
                if let Some(place) = names.get_mut(*at) {
                    place.clone_from(name);
                }
            });
        }
    }
    let mut taken = BTreeSet::new();
    for name in &mut names {
        let (first, mut number) = (name.clone(), 1);
        while !taken.insert(name.clone()) {
            number += 1;
            let end = format!("-{number}");
            *name = first.chars().take(63 - end.len()).collect::<String>() + &end;
        }
    }
    names
}
