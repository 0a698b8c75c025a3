//! Anything that a person names, checked: what it is, and all that is wrong with it.
//!
//! A file is recognised by its name, or else by its content; a folder by what lies in it. Nothing is run, nothing is
//! asked over a network, and the order of the results does not depend on the disk.

pub mod accept;
mod dockerfile;
pub mod fix;
pub mod project_metadata;
pub mod target;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use ignore::WalkBuilder;

use crate::bundle::import::analytics::{self as analytics_archive, Archive};
use crate::bundle::import::bento as import;
use crate::formats::analytics;
use crate::formats::bento::{self, Bentofile};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{self, Document, shown};
use crate::formats::metadata::{self, ProjectMetadata};
use crate::formats::model::{self, Format, Origin};
use crate::formats::mojo::Mojo;
use crate::formats::openapi::OpenApi;
use crate::formats::schema;
use crate::formats::schema::load;
use crate::image::policy;
use crate::io::archive::ArchivePath;
use crate::io::explain::{carry, with_causes};
use crate::project::files::PASSED;
use crate::project::lock::{self, DockerfileLock, Lock};
use crate::project::manifest;
use crate::project::validate;
use crate::project::{self, Project};
use crate::serve;

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A project: its manifest, and all that it names.
    Project,
    /// A project's lock, or a Dockerfile's.
    Lock,
    /// The manifest of a model for the AI Analytics Runtime.
    Analytics,
    /// A bento's folder, its archive, or its description alone.
    Bento,
    /// What BentoML builds from.
    Bentofile,
    /// Project metadata.
    Metadata,
    /// The description of a service.
    Openapi,
    /// What `ekiben serve` serves.
    Serve,
    /// What images need before they are used.
    Policy,
    /// A Dockerfile.
    Dockerfile,
    /// A bundle of Ekiben's.
    Bundle,
    /// A model's file.
    Model,
    /// Nothing that is known, or not there.
    Unknown,
}

/// What is to be said of something.
#[derive(Debug)]
pub struct Checked {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
}

impl Checked {
    /// Whether there is something that was checked: neither is a folder in which nothing was found.
    pub fn is_there(&self) -> bool {
        self.path.exists() && (self.kind != Kind::Unknown || !self.path.is_dir())
    }

    /// Whether it is an archive, which who has a store opens.
    pub fn is_archive(&self) -> bool {
        self.path.is_file() && !is_document(&self.path)
    }
}

/// The results on what the paths name: on each thing one, in the order of the paths, and by name within a folder.
///
/// A bundle, and a bento's archive, is only recognised: who has a store opens it.
pub fn of(paths: &[PathBuf]) -> Vec<Checked> {
    in_context(paths, None)
}

/// The same, with the folder that Dockerfiles among them are built in; where none is said, the one that each was
/// probably written for.
pub fn in_context(paths: &[PathBuf], context: Option<&Path>) -> Vec<Checked> {
    let mut seen = BTreeSet::new();
    let mut things = Vec::new();
    for path in paths {
        for thing in recognise(path) {
            if seen.insert(fs::canonicalize(&thing.path).unwrap_or_else(|_| thing.path.clone())) {
                things.push(thing);
            }
        }
    }
    things.into_iter().map(|thing| thing.judge(context)).collect()
}

/// What tells whether a file was changed: its path, the time of its last change, and its size in bytes.
pub type Stamp = (PathBuf, Option<std::time::SystemTime>, u64);

/// The stamps of all files that the results on `paths` may depend on.
pub fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for path in paths {
        // A file is judged by what lies around it as well.
        let root = if path.is_dir() { path.clone() } else { path.parent().map(Path::to_owned).unwrap_or_default() };
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
        let walk = WalkBuilder::new(root)
            .standard_filters(false)
            .filter_entry(|entry| !PASSED.iter().any(|name| entry.file_name() == *name))
            .sort_by_file_name(std::ffi::OsStr::cmp)
            .build();
        stamps.extend(walk.filter_map(Result::ok).filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            Some((entry.into_path(), metadata.modified().ok().filter(|_| metadata.is_file()), size))
        }));
    }
    stamps
}

/// Something that was recognised.
struct Thing {
    path: PathBuf,
    kind: Kind,
    /// What is wrong with the path as such.
    found: Diagnostics,
}

impl Thing {
    fn new(path: impl Into<PathBuf>, kind: Kind) -> Self {
        Self { path: path.into(), kind, found: Diagnostics::new() }
    }

    fn unknown(path: &Path, code: Code, message: &str, help: &str) -> Self {
        let mut thing = Self::new(path, Kind::Unknown);
        let error = Diagnostic::of_file(code, shown(path), message);
        thing.found.push(if help.is_empty() { error } else { error.help(help) });
        thing
    }

    fn judge(self, context: Option<&Path>) -> Checked {
        let Self { path, kind, mut found } = self;
        match kind {
            Kind::Unknown | Kind::Bundle => {}
            Kind::Project => match Project::load(&path) {
                Ok((_, warnings)) => found.extend(warnings),
                Err(mistakes) => found.extend(mistakes),
            },
            Kind::Lock if path.file_name().is_some_and(|name| name != lock::NAME) => {
                drop(DockerfileLock::load(&path, &mut found));
            }
            Kind::Lock => drop(Lock::load(&path, &mut found)),
            Kind::Analytics => judge_analytics(&path, &mut found),
            Kind::Bento if path.is_dir() || is_document(&path) => judge_bento(&path, &mut found),
            Kind::Bento => {}
            Kind::Bentofile => {
                if let Some((document, file)) = read::<Bentofile>(&path, &mut found) {
                    file.check(&document, &mut found);
                }
            }
            Kind::Metadata => judge_metadata(&path, &mut found),
            Kind::Openapi => {
                if let Some((document, api)) = read::<OpenApi>(&path, &mut found) {
                    api.check(&document, &mut found);
                }
            }
            Kind::Serve => drop(serve::config::Config::read(&path, &mut found)),
            Kind::Policy => drop(policy::Config::read(&path, &mut found)),
            Kind::Dockerfile => dockerfile::judge(&path, context, &mut found),
            Kind::Model => validate::model::check_file(&path, &mut found),
        }
        Checked { path, kind, diagnostics: found }
    }
}

/// What a path stands for.
fn recognise(path: &Path) -> Vec<Thing> {
    if path.is_dir() {
        return recognise_folder(path);
    }
    if let Some(error) = project::out_of_reach(path) {
        let mut thing = Thing::new(path, Kind::Unknown);
        thing.found.push(error);
        return vec![thing];
    }
    if !path.is_file() {
        let message = "the file cannot be read: it is not a regular file";
        return vec![Thing::unknown(path, Code::Unreadable, message, "")];
    }
    if let Some(kind) = by_name(path).or_else(|| by_content(path)) {
        // What belongs to a project is judged as a part of it, with what its manifest allows.
        if kind == Kind::Model
            && let Some(project) = project_around(path)
            && belongs(&project, path)
        {
            return vec![Thing::new(project, Kind::Project)];
        }
        return vec![Thing::new(path, kind)];
    }
    match project_around(path) {
        Some(project) => vec![Thing::new(project, Kind::Project)],
        None if is_document(path) => vec![Thing::new(path, Kind::Project)],
        None if fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) => {
            let help = "an interrupted download or a full disk leaves such files";
            vec![Thing::unknown(path, Code::Empty, "the file is empty", help)]
        }
        None => {
            let help = "name a manifest, a Dockerfile, a model's file, or a folder that holds some";
            vec![Thing::unknown(path, Code::Unrecognised, "the file is nothing that ekiben checks", help)]
        }
    }
}

/// What the name of a file says.
fn by_name(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    if manifest::NAMES.contains(&name) {
        Some(Kind::Project)
    } else if name == lock::NAME || name.strip_suffix(".lock").is_some_and(dockerfile::is_name) {
        Some(Kind::Lock)
    } else if name == bento::NAME {
        Some(Kind::Bento)
    } else if bento::BENTOFILES.contains(&name) {
        Some(Kind::Bentofile)
    } else if metadata::NAMES.contains(&name) {
        Some(Kind::Metadata)
    } else if matches!(name, "openapi.yaml" | "openapi.yml" | "openapi.json") {
        Some(Kind::Openapi)
    } else if serve::config::NAMES.contains(&name) {
        Some(Kind::Serve)
    } else if policy::NAMES.contains(&name) {
        Some(Kind::Policy)
    } else if dockerfile::is_name(name) {
        Some(Kind::Dockerfile)
    } else if name.ends_with(".ekiben") {
        Some(Kind::Bundle)
    } else if name.ends_with(".bento") {
        Some(Kind::Bento)
    } else {
        None
    }
}

/// Bytes of a document that are looked at to find out what it is.
const LOOKED_AT: usize = 64 << 10;

/// What the content of a file says, whatever it is called.
fn by_content(path: &Path) -> Option<Kind> {
    use std::io::Read as _;
    if is_document(path) {
        let mut head = Vec::new();
        fs::File::open(path).ok()?.take(LOOKED_AT as u64).read_to_end(&mut head).ok()?;
        let text = String::from_utf8_lossy(&head);
        // As keys in any of the languages, also between quotes that a web page made.
        let has = |key: &str| {
            text.match_indices(key).any(|(at, _)| {
                let before = text.get(..at).and_then(|text| text.chars().next_back());
                let after = text.get(at + key.len()..).unwrap_or_default();
                let after = after.trim_start_matches(|c: char| !c.is_alphanumeric() && c != ':' && c != '_');
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '/') && after.starts_with(':')
            })
        };
        return if has("modelData") {
            Some(Kind::Analytics)
        } else if has("bentoml_version") {
            Some(Kind::Bento)
        } else if has("openapi") && has("paths") && has("info") {
            Some(Kind::Openapi)
        } else if has("schema") && has("data_type") && has("labels") {
            Some(Kind::Metadata)
        } else {
            // Boosters, tokenizers and others are kept as JSON too.
            let is_json = path.extension().is_some_and(|ending| ending == "json");
            let size = fs::metadata(path).ok()?.len();
            if !is_json || size == 0 {
                return None;
            }
            let model = model::inspect(&Origin::File(path), &path.to_string_lossy(), size).ok()?;
            (model.format != Format::Other).then_some(Kind::Model)
        };
    }
    let size = fs::metadata(path).ok()?.len();
    let model = model::inspect(&Origin::File(path), &path.to_string_lossy(), size).ok()?;
    match model.format {
        _ if size == 0 => None,
        Format::Zip if analytics_archive::is_archive(path) => Some(Kind::Analytics),
        // What is compressed may be either.
        Format::Zip | Format::CompressedPickle if import::is_archive(path) => Some(Kind::Bento),
        // Whoever packed it so meant one, unless h2o did, or something lies in it that could be loaded.
        Format::Zip
            if path.extension().is_some_and(|ending| ending == "zip")
                && model.pickles.is_empty()
                && Mojo::read(path).is_err() =>
        {
            Some(Kind::Analytics)
        }
        Format::Other => matches!(import::find(path), Ok(Some(_))).then_some(Kind::Bento),
        _ => Some(Kind::Model),
    }
}

fn is_document(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    matches!(ending, "yaml" | "yml" | "json" | "json5")
}

/// The manifest in the folder of a file or above it, up to the root of a repository.
pub fn project_around(path: &Path) -> Option<PathBuf> {
    let real = std::path::absolute(path).ok()?;
    let mut written = path.strip_prefix(".").unwrap_or(path).parent().map(Path::to_owned);
    for folder in real.ancestors().skip(1) {
        if let Some(name) = manifest::NAMES.iter().find(|name| folder.join(name).is_file()) {
            // As the person would write it, as long as the path that was given reaches that far.
            return Some(written.unwrap_or_else(|| folder.to_owned()).join(name));
        }
        if folder.join(".git").exists() {
            return None;
        }
        written = written.and_then(|folder| folder.parent().map(Path::to_owned));
    }
    None
}

/// Whether a file is among those that a project packs.
fn belongs(project: &Path, path: &Path) -> bool {
    let Ok(real) = fs::canonicalize(path) else { return false };
    let loaded = Project::load(project);
    let Ok((project, _)) = loaded else {
        // Which files are its own cannot be told before its manifest is right: so both are judged.
        return false;
    };
    project.files.model.iter().any(|file| fs::canonicalize(&file.host).is_ok_and(|host| host == real))
}

fn recognise_folder(folder: &Path) -> Vec<Thing> {
    let manifests = manifest::NAMES.iter().filter(|name| folder.join(name).exists()).count();
    if manifests > 0 {
        let mut things = vec![Thing::new(folder, Kind::Project)];
        let lock = folder.join(lock::NAME);
        if lock.exists() {
            things.push(Thing::new(lock, Kind::Lock));
        }
        things.extend(beside(folder));
        return things;
    }
    if folder.join(bento::NAME).exists() {
        return vec![Thing::new(folder, Kind::Bento)];
    }
    let things = walk(folder);
    if let Some(error) = project::out_of_reach(folder).filter(|_| things.is_empty()) {
        let mut thing = Thing::new(folder, Kind::Unknown);
        thing.found.push(error);
        return vec![thing];
    }
    if things.is_empty() {
        let help = "`ekiben init` writes one";
        return vec![Thing::unknown(folder, Code::NoManifest, "there is no manifest in the folder", help)];
    }
    things
}

/// Documents in a project's folder, and in its `src`, that are known by their names.
fn beside(folder: &Path) -> Vec<Thing> {
    let mut things = Vec::new();
    for folder in [folder.to_owned(), folder.join("src")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        names.sort();
        for path in names {
            let kind = by_name(&path).or_else(|| {
                (path.file_name()? == "manifest.json")
                    .then(|| by_content(&path))?
                    .filter(|kind| *kind == Kind::Analytics)
            });
            if let Some(kind) = kind.filter(|kind| !matches!(kind, Kind::Project | Kind::Lock | Kind::Bundle)) {
                things.push(Thing::new(path, kind));
            }
        }
    }
    things
}

/// All that is known by its name below a folder, and all models, without what Git ignores.
fn walk(folder: &Path) -> Vec<Thing> {
    let walk = WalkBuilder::new(folder)
        .hidden(false)
        .require_git(false)
        .add_custom_ignore_filename(crate::project::files::IGNORE_FILE)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| !PASSED.iter().any(|name| entry.file_name() == *name))
        .build();
    let mut things: Vec<Thing> = Vec::new();
    for entry in walk.filter_map(Result::ok) {
        let path = entry.path();
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let analytics = || {
            (path.file_name()? == "manifest.json").then(|| by_content(path))?.filter(|kind| *kind == Kind::Analytics)
        };
        let Some(kind) = by_name(path).or_else(analytics).or_else(|| is_model_name(path).then_some(Kind::Model)) else {
            continue;
        };
        match (kind, path.parent()) {
            (Kind::Bento, Some(folder)) if is_document(path) => things.push(Thing::new(folder, Kind::Bento)),
            _ => things.push(Thing::new(path, kind)),
        }
    }
    // The models of a project are judged with it, as far as its manifest names them; so is all that a bento holds.
    let of = |wanted: Kind, folder: fn(&Path) -> Option<&Path>| -> BTreeSet<PathBuf> {
        let things = things.iter().filter(|thing| thing.kind == wanted);
        things.filter_map(|thing| Some(folder(&thing.path)?.to_owned())).collect()
    };
    let (projects, bentos) = (of(Kind::Project, Path::parent), of(Kind::Bento, |path| Some(path)));
    let within =
        |path: &Path, folders: &BTreeSet<PathBuf>| path.ancestors().skip(1).any(|above| folders.contains(above));
    things.retain(|Thing { path, kind, .. }| {
        !within(path, &bentos) && (*kind != Kind::Model || !within(path, &projects))
    });
    things
}

/// Whether a file is called as models are.
fn is_model_name(path: &Path) -> bool {
    const ENDINGS: &[&str] = &[
        "pkl",
        "pickle",
        "joblib",
        "pt",
        "pth",
        "pt2",
        "ckpt",
        "npy",
        "npz",
        "safetensors",
        "onnx",
        "gguf",
        "h5",
        "hdf5",
        "keras",
        "ubj",
        "cbm",
        "skops",
        "tflite",
    ];
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    ENDINGS.contains(&ending.as_str())
}

/// Reads a document of a kind. None where its form is wrong, which is said.
fn read<T: load::Described>(path: &Path, found: &mut Diagnostics) -> Option<(Document, T)> {
    load::file(path, found)?.whole()
}

/// An archive, or a manifest with what lies beside it. One may travel apart from all else.
fn judge_analytics(path: &Path, found: &mut Diagnostics) {
    let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let has = |names: &[&str]| names.iter().any(|name| beside.join(name).exists());
    let is_alone = || !has(&["src", "Dockerfile"]) || has(&manifest::NAMES);
    let archive = match is_document(path) {
        true if path.file_name().is_none_or(|name| name != analytics_archive::NAME) || is_alone() => None,
        true => Some(beside),
        false => Some(path),
    };
    match archive.map(Archive::open) {
        Some(Ok(archive)) => return archive.judge(found),
        Some(Err(error)) => {
            found.push(Diagnostic::of_file(Code::Unreadable, shown(path), with_causes(&error)));
            return;
        }
        None => {}
    }
    let Some((document, manifest)) = read::<analytics::AnalyticsManifest>(path, found) else { return };
    manifest.check(&document, found);
    let folder = path.parent().unwrap_or(Path::new(""));
    for (at, name) in manifest.files() {
        // The file may travel apart from the manifest; where it is there, it is looked at.
        let Ok(name) = ArchivePath::relative(name) else {
            let message = format!("`{name}` leaves the folder of the manifest");
            found.push(document.at(Code::PathLeaves, &at, message));
            continue;
        };
        let file = name.under(folder);
        if file.is_file() {
            validate::model::check_file(&file, found);
        }
    }
}

fn judge_metadata(path: &Path, found: &mut Diagnostics) {
    found.extend(metadata::not_found_by_service(path, &shown(path)));
    if let Some((document, data)) = read::<ProjectMetadata>(path, found) {
        data.check(&document, found);
    }
}

/// A bento's folder, or its description alone.
fn judge_bento(path: &Path, found: &mut Diagnostics) {
    let folder = match path.is_dir() {
        true => Some(path),
        false => path.parent().filter(|folder| folder.join("models").is_dir()),
    };
    let Some(folder) = folder else {
        if let Some(source) = document::read_text(path, &shown(path), schema::Kind::Bento.most(), found) {
            let read = |name: &str| (name == bento::NAME).then(|| source.text().to_owned());
            found.extend(
                import::describe(source.path(), &import::Files { names: BTreeSet::new(), read: &read }, None).1,
            );
        }
        return;
    };
    match import::Bento::of_folder(folder) {
        Ok(bento) => self::bento(&bento, found),
        Err(error) => found.push(Diagnostic::of_file(Code::Unreadable, shown(folder), error.to_string())),
    }
}

/// All that is wrong with a bento: its description, whether it can be built without running commands, its models, and
/// the documents in it. Mistakes go to `found`.
pub fn bento(bento: &import::Bento, found: &mut Diagnostics) {
    let (recipe, mistakes) = bento.describe(None);
    found.extend(mistakes);
    let Some(import::Recipe { manifest, .. }) = recipe else { return };
    if bento.has_models() {
        bento.check_models(found);
    }
    for file in &bento.files {
        let (shown, path) = (bento.shown(file.path.as_str()), Path::new(file.path.as_str()));
        match by_name(path) {
            Some(Kind::Metadata) => {
                found.extend(metadata::not_found_by_service(path, &shown));
                if let Some((document, data)) = read_content::<ProjectMetadata>(file, &shown, found) {
                    data.check(&document, found);
                }
            }
            Some(Kind::Openapi) => {
                if let Some((document, api)) = read_content::<OpenApi>(file, &shown, found) {
                    api.check(&document, found);
                }
            }
            _ if path.starts_with("models") || file.content.place().and_then(by_content) == Some(Kind::Model) => {
                let open = || file.content.open().map_err(carry);
                let (name, size) = (file.path.as_str(), file.content.size());
                validate::model::check_content(&shown, name, size, &open, &manifest, found);
            }
            _ => {}
        }
    }
}

/// Reads a document in a bento. None where its form is wrong, which is said.
fn read_content<T: load::Described>(
    file: &import::BentoFile,
    shown: &str,
    found: &mut Diagnostics,
) -> Option<(Document, T)> {
    match file.content.read(T::KIND.most()) {
        Ok(bytes) => load::bytes(&bytes, shown, file.path.as_str(), found)?.whole(),
        Err(error) => {
            found.push(Diagnostic::of_file(Code::Unreadable, shown, error.to_string()));
            None
        }
    }
}
