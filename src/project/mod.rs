//! A project: a folder with a manifest, read and checked.

pub mod address;
pub mod files;
pub mod init;
pub mod lock;
pub mod manifest;
pub mod trained;
pub mod validate;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::requirements::Requirements;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Label};
use crate::formats::dockerfile;
use crate::formats::document::{Document, shown};
use crate::formats::schema::load;
use crate::formats::source::{Read, function_in};
use crate::io::digest::Digest;
use files::Files;
use lock::Lock;
use manifest::{FORMS, MESSAGES, Manifest, NAMES, SERVER};
use validate::Subject;

/// Rules that are broken by what a manifest does not say.
const LACKING: [Code; 10] = [
    Code::ServiceKind,
    Code::UnknownRoute,
    Code::ImportNotPacked,
    Code::NotBrought,
    Code::DangerousGlobal,
    Code::UnknownGlobal,
    Code::CarriesCode,
    Code::NotRequired,
    Code::OtherVersion,
    Code::WeightsBeside,
];

/// A project without mistakes.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder that paths in the manifest are relative to.
    pub root: PathBuf,
    /// The manifest's file.
    pub path: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// The same with its places.
    pub document: Document,
    /// The files that it names.
    pub files: Files,
    /// The Python packages that it requires.
    pub requirements: Requirements,
    /// Those that Ekiben's service around its functions needs.
    pub server: Vec<&'static str>,
}

impl Project {
    /// Reads the project in the folder `path`, or whose manifest is the file `path`, with all checks.
    ///
    /// With the project come warnings. None of the project's code is run.
    ///
    /// # Errors
    /// All mistakes, of which at least one is an error; warnings among them.
    pub fn load(path: &Path) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut found = Diagnostics::new();
        match Self::read(path, &mut found) {
            Some(project) if !found.has_errors() => Ok((project, found)),
            _ => Err(found),
        }
    }

    /// The manifest in `folder`, if there is one that can be read. Nothing else is looked at.
    pub fn manifest_in(folder: &Path) -> Option<Manifest> {
        let mut unsaid = Diagnostics::new();
        load::file::<Manifest>(&find(folder, &mut unsaid)?, &mut unsaid)?.value
    }

    /// The digest of all that the lock depends on: see [`lock::input_digest`].
    pub fn input_digest(&self) -> Digest {
        lock::input_digest(&self.manifest, &self.requirements.texts(), &self.server)
    }

    fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let path = find(path, found)?;
        let load::Loaded { document, value, .. } = load::file::<Manifest>(&path, found)?;
        let manifest = value?;
        let root = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        // Where the form is wrong already, nothing more is said about the meaning.
        let said = found.errors_in(&document.source);
        let mut meant = Diagnostics::new();
        let files = files::select(&root, &manifest, &document, &mut meant);
        let requirements = Requirements::read(manifest.requirements(), &root, Some(&document), &mut meant);
        let lock = read_lock(&root.join(lock::NAME));
        let locked = lock.as_ref().map(locked).unwrap_or_default();
        let server = server(&manifest, &|file| std::fs::read_to_string(root.join(file)).ok());
        let input = lock::input_digest(&manifest, &requirements.texts(), &server);
        let subject = Subject {
            root: &root,
            manifest: &manifest,
            document: &document,
            files: &files,
            requirements: &requirements,
            locked: &locked,
            relaxed: lock.as_ref().map_or(&[], |lock| &lock.relaxed),
            lock_fits: lock.as_ref().is_some_and(|lock| !lock.is_stale(&input)),
        };
        validate::manifest(&subject, &mut meant);
        // What an unknown key was meant to say may be just what is missed.
        let is_misspelt = found.sorted().iter().any(|diagnostic| diagnostic.code == Code::UnknownKey);
        let follows = |code: Code| is_misspelt && LACKING.contains(&code);
        let unsaid = |Label { source, span, .. }: &Label| {
            source.path() != document.source.path()
                || !said.iter().any(|said| said.start <= span.end && span.start <= said.end)
        };
        found.extend(meant.into_iter().filter(|mistake| unsaid(&mistake.primary) && !follows(mistake.code)));
        Some(Self { root, path, manifest, document, files, requirements, server })
    }
}

/// The packages that the service of a manifest needs, whose files `read` gives: one that takes files reads forms.
pub fn server(manifest: &Manifest, read: &Read<'_>) -> Vec<&'static str> {
    if !manifest.serves_functions() || manifest.is_small() {
        return Vec::new();
    }
    let takes_files = |entry: &manifest::Entry<'_>| {
        let signature = read(entry.file).and_then(|text| function_in(entry.file, &text, entry.function, read).ok());
        let annotations = signature.into_iter().flat_map(|signature| signature.parameters);
        annotations.filter_map(|parameter| parameter.annotation).any(|of| of.takes_files())
    };
    let forms = manifest.service.entries().iter().any(takes_files).then_some(FORMS);
    let messages = manifest.takes_messages().then_some(MESSAGES);
    SERVER.into_iter().chain(forms).chain(messages).collect()
}

/// The lock in a file, if there is one. Whether it is right is for those to say who use it.
fn read_lock(path: &Path) -> Option<Lock> {
    path.is_file().then(|| Lock::load(path, &mut Diagnostics::new())).flatten()
}

/// The versions that a lock has.
fn locked(lock: &Lock) -> BTreeMap<String, pep440_rs::Version> {
    let packages = lock.platforms.values().flat_map(|locked| &locked.python);
    packages.filter_map(|package| Some((package.name.clone(), package.version.parse().ok()?))).collect()
}

/// Why nothing can be found at a path: it is not there, or nobody may look.
pub fn out_of_reach(path: &Path) -> Option<Diagnostic> {
    let is_folder = path.is_dir();
    let error = if is_folder { std::fs::read_dir(path).err() } else { std::fs::metadata(path).err() }?;
    Some(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Diagnostic::of_file(Code::NoManifest, shown(path), "there is no such file or folder")
        }
        _ => {
            let what = if is_folder { "folder" } else { "file" };
            Diagnostic::of_file(Code::Unreadable, shown(path), format!("the {what} cannot be read: {}", error.kind()))
        }
    })
}

/// The manifest's file.
fn find(path: &Path, found: &mut Diagnostics) -> Option<PathBuf> {
    let unreadable = out_of_reach(path);
    if !path.is_dir() {
        let is_there = unreadable.is_none();
        found.extend(unreadable);
        return is_there.then(|| path.to_owned());
    }
    let here: Vec<&str> = NAMES.into_iter().filter(|name| path.join(name).exists()).collect();
    match here.as_slice() {
        [name] => Some(path.join(name)),
        [] if unreadable.is_some() => {
            found.extend(unreadable);
            None
        }
        [] => {
            let error = Diagnostic::of_file(Code::NoManifest, shown(path), "there is no manifest in the folder");
            let is_there = |name: &&&str| path.join(name).is_file();
            let error = match dockerfile::FILES.iter().find(is_there) {
                Some(name) => error
                    .help(format!("`ekiben build` makes an image of its {name}, which `ekiben run` takes by its name")),
                None => error,
            };
            found.push(error.help("`ekiben init` writes one"));
            None
        }
        [one, other, ..] => {
            let message = format!("there are both {one} and {other}");
            let error = Diagnostic::of_file(Code::TwoManifests, shown(path), message);
            found.push(error.help("remove one, or name the one that is meant"));
            None
        }
    }
}
