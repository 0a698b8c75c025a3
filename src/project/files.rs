//! Which files of a project are its model, its code and its metadata.
//!
//! Invariants: the three lists have no file in common; each is sorted by path, by bytes, whatever order the disk gives;
//! every file lies in the project's folder, also behind its symbolic links, but for those of the model for which the manifest
//! names another place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fs_err as fs;
use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{Document, pointer};
use crate::io::archive::{ArchivePath, PathError};
use crate::io::explain::Explain as _;
use crate::io::suggest::{closest, did_you_mean};
use crate::project::address::Address;
use crate::project::manifest::{CommandPath, Elsewhere, Manifest, ModelFiles, Requirements};

/// The file that says what is left out, in the syntax of `.gitignore`.
pub const IGNORE_FILE: &str = ".ekibenignore";

/// Names of folders and files that no glob takes.
const LEFT_OUT: &[&str] = &[".git", "__pycache__", ".venv", IGNORE_FILE];

/// Folders that nobody keeps models or documents of their own in.
pub const PASSED: &[&str] = &[".git", "__pycache__", ".venv", "venv", "node_modules", ".tox", "target"];

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectFile {
    /// Its path relative to the project's folder, which is its path in what is packed.
    pub path: ArchivePath,
    /// Where it lies on this machine. It may be a symbolic link to a file inside of the project.
    pub host: PathBuf,
    /// In bytes.
    pub size: u64,
}

/// The files of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// What `model.files` names.
    pub model: Vec<ProjectFile>,
    /// The folder of each function that the service has, and of each file that its command names (the file alone, where
    /// that is the project's own folder), what `include` names, and what tests send; without those of the model and the metadata.
    pub code: Vec<ProjectFile>,
    /// What `metadata` names; without those of the model.
    pub metadata: Vec<ProjectFile>,
    /// The file that `python.requirements` names. It belongs to none of the lists, if nothing else names it.
    pub requirements: Option<ProjectFile>,
}

impl Files {
    /// The file of the model, the code or the metadata with this path.
    pub fn get(&self, path: &ArchivePath) -> Option<&ProjectFile> {
        self.model.iter().chain(&self.code).chain(&self.metadata).find(|file| file.path == *path)
    }
}

/// A path as the glob that means it alone.
pub fn as_glob(path: &str) -> String {
    let escaped = |c: char| if "*?[]{}!\\".contains(c) { format!("[{c}]") } else { c.to_string() };
    path.chars().map(escaped).collect()
}

/// The files that `manifest` names below `root`. Mistakes go to `found`.
///
/// A path without wildcards is taken as it is; a folder stands for all below it. Globs take neither what `.ekibenignore`
/// names nor the manifest, the lock, `.git`, `__pycache__`, `.venv` and `*.ekiben`.
pub fn select(root: &Path, manifest: &Manifest, document: &Document, found: &mut Diagnostics) -> Files {
    let real = match fs::canonicalize(root) {
        Ok(real) => real,
        Err(error) => {
            found.push(Diagnostic::of_file(Code::Unreadable, crate::formats::document::shown(root), error.to_string()));
            return Files::default();
        }
    };
    let mut selection = Selection { root, real, document, found, patterns: Vec::new(), taken: Default::default() };
    for (number, files) in manifest.model.files.iter().enumerate() {
        let at = pointer(["model", "files", &number.to_string()]);
        match files {
            ModelFiles::Here(text) => selection.add(Role::Model, text, &at),
            ModelFiles::Elsewhere(elsewhere) => selection.elsewhere(elsewhere, &at),
        }
    }
    for (role, steps, texts) in
        [(Role::Code, &["include"][..], &manifest.include), (Role::Metadata, &["metadata"][..], &manifest.metadata)]
    {
        for (number, text) in texts.iter().enumerate() {
            let number = number.to_string();
            selection.add(role, text, &pointer(steps.iter().copied().chain([number.as_str()])));
        }
    }
    for entry in manifest.entries() {
        // The function's file is taken even where the ignore file names it: there is no service without it.
        if let Some(file) = selection.file(entry.file, &entry.pointer) {
            selection.with_folder(file, &entry.pointer);
        }
    }
    for (number, test) in manifest.tests.iter().enumerate() {
        for (at, path) in test.files() {
            if let Some(file) = selection.file(path, &format!("/tests/{number}{at}")) {
                selection.taken[Role::Code as usize].insert(file.path.clone(), file);
            }
        }
    }
    if let Some(path) = &manifest.service.openapi
        && let Some(file) = selection.file(path, "/service/openapi")
    {
        selection.taken[Role::Code as usize].insert(file.path.clone(), file);
    }
    for named in manifest.command_paths() {
        selection.command(&named);
    }
    let requirements = match manifest.python.as_ref().map(|python| &python.requirements) {
        Some(Requirements::File(path)) => selection.file(path, "/python/requirements"),
        _ => None,
    };
    selection.walk();
    Files { requirements, ..selection.finish() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Model,
    Code,
    Metadata,
}

/// Something that takes files on the walk.
struct Pattern {
    role: Role,
    /// The folder that all it takes lies in; none for the project's own.
    base: Option<ArchivePath>,
    /// None for all in the folder.
    glob: Option<GlobMatcher>,
    text: String,
    pointer: String,
    matched: bool,
}

impl Pattern {
    fn takes(&self, path: &ArchivePath) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(path.as_str()),
            None => self.base.as_ref().is_none_or(|base| path.below(base).is_some()),
        }
    }
}

struct Selection<'a> {
    root: &'a Path,
    /// The root without symbolic links.
    real: PathBuf,
    document: &'a Document,
    found: &'a mut Diagnostics,
    patterns: Vec<Pattern>,
    taken: [BTreeMap<ArchivePath, ProjectFile>; 3],
}

impl Selection<'_> {
    fn say(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// The path, unless it leaves the project.
    fn inside(&mut self, text: &str, at: &str) -> Option<ArchivePath> {
        let error = match ArchivePath::relative(text) {
            Ok(path) => return Some(path),
            Err(PathError::Escapes(_)) => self
                .document
                .at(Code::PathLeaves, at, format!("`{text}` leaves the project's folder"))
                .help("write a path relative to the manifest, without `..`"),
            Err(error) => self.document.at(Code::NotAFile, at, error.to_string()),
        };
        self.say(error);
        None
    }

    /// A file that is named as such, without wildcards.
    fn file(&mut self, text: &str, at: &str) -> Option<ProjectFile> {
        let path = self.inside(text, at)?;
        let metadata = self.locate(&path, at)?;
        if metadata.is_file() {
            return Some(self.found_at(path, metadata.len()));
        }
        let message = format!("`{path}` is not a file");
        self.say(self.document.at(Code::NotAFile, at, message));
        None
    }

    /// What a command names of the project belongs to the code, with its folder; the model and the metadata are packed
    /// anyhow.
    fn command(&mut self, named: &CommandPath) {
        let CommandPath { path: text, pointer, is_needed } = named;
        let Ok(path) = ArchivePath::relative(text) else { return };
        if path.ancestors().any(|folder| left_out(&folder)) || left_out(&path) {
            return;
        }
        let is_other = |pattern: &Pattern| pattern.role != Role::Code && pattern.takes(&path);
        let others = [Role::Model, Role::Metadata].map(|role| role as usize);
        if self.patterns.iter().any(is_other) || others.iter().any(|role| self.taken[*role].contains_key(&path)) {
            return;
        }
        let host = path.under(self.root);
        if host.is_dir() {
            return self.folder(Role::Code, path, pointer, true);
        }
        if !is_needed && !host.is_file() {
            return;
        }
        if let Some(file) = self.file(text, pointer) {
            self.with_folder(file, pointer);
        }
    }

    /// A file of the code, with all that lies in its folder, unless that is the project's own.
    fn with_folder(&mut self, file: ProjectFile, at: &str) {
        if let Some(folder) = file.path.parent() {
            self.folder(Role::Code, folder, at, true);
        }
        self.taken[Role::Code as usize].insert(file.path.clone(), file);
    }

    /// A file, or all in a folder, that lies elsewhere on this machine; what has to be fetched is none of the project's files.
    fn elsewhere(&mut self, elsewhere: &Elsewhere, at: &str) {
        let at_from = format!("{at}/from");
        let address = match elsewhere.from.meant() {
            Ok(address) => address,
            Err(error) => {
                let said = self.document.at(Code::NoAddress, &at_from, error.to_string());
                let hint = error.explain().hint;
                return self.say(hint.into_iter().fold(said, Diagnostic::help));
            }
        };
        if let Err(error) = elsewhere.place(address, "file") {
            let at = if elsewhere.path.is_some() { format!("{at}/path") } else { at_from };
            return self.say(self.document.at(Code::NotAFile, &at, error.to_string()));
        }
        if elsewhere.sha256.is_some() && (!address.is_remote() || address.is_folder()) {
            let message = "only one file that is fetched is held against a digest";
            return self.say(self.document.at(Code::WrongForm, &format!("{at}/sha256"), message));
        }
        let Address::Path(path) = address else { return };
        // Where the text is absolute, that is all of it.
        let host = self.root.join(path);
        if let Err(error) = self.take_from(&host, elsewhere) {
            let (code, message) = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    (Code::NoFile, format!("there is no file or folder `{}`", path.display()))
                }
                _ => (Code::Unreadable, error.to_string()),
            };
            self.say(self.document.at(code, &at_from, message));
        }
    }

    fn take_from(&mut self, host: &Path, elsewhere: &Elsewhere) -> std::io::Result<()> {
        let address = Address::Path(host.to_owned());
        let mut take = |host: PathBuf, name: &str| -> std::io::Result<()> {
            let size = fs::metadata(&host)?.len();
            let path = elsewhere.place(&address, name).map_err(std::io::Error::other)?;
            self.taken[Role::Model as usize].insert(path.clone(), ProjectFile { path, host, size });
            Ok(())
        };
        if !fs::metadata(host)?.is_dir() {
            return take(host.to_owned(), "");
        }
        for entry in WalkBuilder::new(host).standard_filters(false).follow_links(true).build() {
            let entry = entry.map_err(std::io::Error::other)?;
            if entry.file_type().is_some_and(|kind| kind.is_file()) {
                let name = relative(host, entry.path());
                let name = name.ok_or_else(|| std::io::Error::other("a name in it is not UTF-8"))?;
                if !left_out(&name) {
                    take(entry.into_path(), name.as_str())?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, role: Role, text: &str, at: &str) {
        let Some(path) = self.inside(text, at) else { return };
        if !is_glob(path.as_str()) {
            return self.literal(role, &path, at);
        }
        let glob = match GlobBuilder::new(path.as_str()).literal_separator(true).build() {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                let message = format!("the glob `{text}` cannot be read: {}", error.kind());
                return self.say(self.document.at(Code::BadGlob, at, message));
            }
        };
        let plain: Vec<&str> = path.as_str().split('/').take_while(|name| !is_glob(name)).collect();
        let base = ArchivePath::new(plain.join("/")).ok();
        let text = text.to_owned();
        self.patterns.push(Pattern { role, base, glob: Some(glob), text, pointer: at.to_owned(), matched: false });
    }

    /// All in a folder.
    fn folder(&mut self, role: Role, folder: ArchivePath, at: &str, may_be_empty: bool) {
        let text = folder.to_string();
        self.patterns.push(Pattern {
            role,
            base: Some(folder),
            glob: None,
            text,
            pointer: at.to_owned(),
            matched: may_be_empty,
        });
    }

    fn literal(&mut self, role: Role, path: &ArchivePath, at: &str) {
        let Some(metadata) = self.locate(path, at) else { return };
        if metadata.is_dir() {
            self.folder(role, path.clone(), at, false);
        } else if metadata.is_file() {
            self.take(role, path.clone(), metadata.len());
        } else {
            let message = format!("`{path}` is neither a file nor a folder");
            self.say(self.document.at(Code::NotAFile, at, message));
        }
    }

    fn take(&mut self, role: Role, path: ArchivePath, size: u64) {
        let file = self.found_at(path, size);
        self.taken[role as usize].insert(file.path.clone(), file);
    }

    fn found_at(&self, path: ArchivePath, size: u64) -> ProjectFile {
        ProjectFile { host: path.under(self.root), path, size }
    }

    /// What lies at a path, if it is in the project.
    fn locate(&mut self, path: &ArchivePath, at: &str) -> Option<std::fs::Metadata> {
        let host = path.under(self.root);
        match fs::canonicalize(&host) {
            Ok(real) if real.starts_with(&self.real) => match fs::metadata(&host) {
                Ok(metadata) => Some(metadata),
                Err(error) => {
                    self.say(self.document.at(Code::Unreadable, at, error.to_string()));
                    None
                }
            },
            Ok(real) => {
                self.leaves(path, at, &real.display().to_string());
                None
            }
            Err(_) if host.symlink_metadata().is_ok() => {
                self.leaves(path, at, "nowhere");
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut error = self.document.at(Code::NoFile, at, format!("there is no file `{path}`"));
                // DVC keeps such a file in the place of the data, which is fetched when it is asked for.
                let pointer = path.under(self.root).with_added_extension("dvc");
                if pointer.is_file() {
                    error = error.help(format!("`{path}.dvc` says where it lies: fetch it with `dvc pull`"));
                } else if let Some(near) = self.similar(path) {
                    error = error.label(did_you_mean(near));
                }
                if at == "/python/requirements" {
                    error = error.help(format!("a requirement itself stands in a list: [{path}]"));
                }
                if at.contains("/command/") {
                    let help = "the command runs where the packed files lie; further ones are named in `include`";
                    error = error.help(help);
                }
                self.say(error);
                None
            }
            Err(error) => {
                self.say(self.document.at(Code::Unreadable, at, error.to_string()));
                None
            }
        }
    }

    fn leaves(&mut self, link: &ArchivePath, at: &str, target: &str) {
        self.say(
            self.document.at(Code::LinkLeaves, at, leads_out(link, target)).help("copy the file into the project"),
        );
    }

    /// A path that is there and looks like one that is not.
    fn similar(&self, path: &ArchivePath) -> Option<String> {
        let parent = path.parent();
        let folder = parent.as_ref().map_or(self.root.to_owned(), |parent| parent.under(self.root));
        let mut names: Vec<String> = fs::read_dir(folder)
            .ok()?
            .take(1000)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        let name = closest(path.name(), &names)?;
        Some(parent.map_or_else(|| name.to_owned(), |parent| format!("{parent}/{name}")))
    }

    /// One walk for all patterns, into no folder that none of them looks into.
    fn walk(&mut self) {
        if self.patterns.is_empty() {
            return;
        }
        let bases: BTreeSet<Option<ArchivePath>> = self.patterns.iter().map(|pattern| pattern.base.clone()).collect();
        let links = Arc::new(Mutex::new(Vec::new()));
        let (root, real, leaving) = (self.root.to_owned(), self.real.clone(), links.clone());
        let walk = WalkBuilder::new(self.root)
            .standard_filters(false)
            .add_custom_ignore_filename(IGNORE_FILE)
            .follow_links(true)
            .filter_entry(move |entry| {
                let Some(path) = relative(&root, entry.path()) else { return entry.depth() == 0 };
                if left_out(&path) || !bases.iter().any(|base| touches(base.as_ref(), &path)) {
                    return false;
                }
                if entry.path_is_symlink() {
                    let target = fs::canonicalize(entry.path()).ok();
                    if !target.as_ref().is_some_and(|target| target.starts_with(&real)) {
                        if let Ok(mut links) = leaving.lock() {
                            links.push((path, target.map_or("nowhere".to_owned(), |to| to.display().to_string())));
                        }
                        return false;
                    }
                }
                true
            })
            .build();
        let mut unusable = Vec::new();
        for entry in walk {
            // A line of the ignore file that cannot be read comes with the folder that it is for.
            if let Some(error) = entry.as_ref().ok().and_then(|entry| entry.error()) {
                let path = crate::formats::document::shown(&self.root.join(IGNORE_FILE));
                self.say(Diagnostic::of_file(Code::BadGlob, path, error.to_string()));
            }
            match entry {
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_dir()) => {}
                Ok(entry) => self.visit(&entry),
                Err(error) => unusable.extend(failed(&error).and_then(|(path, code, why)| {
                    let path = relative(self.root, path)?;
                    let message = format!("`{path}` {why}");
                    Some((path, code, message))
                })),
            }
        }
        for (path, target) in links.lock().map(|links| links.clone()).unwrap_or_default() {
            let message = leads_out(&path, &target);
            unusable.push((path, Code::LinkLeaves, message));
        }
        for (path, code, message) in unusable {
            self.refuse(&path, code, &message);
        }
    }

    /// Says what is wrong with a path, wherever the manifest asks for it.
    fn refuse(&mut self, path: &ArchivePath, code: Code, message: &str) {
        for pattern in &mut self.patterns {
            let below = pattern.base.as_ref().is_some_and(|base| base == path || base.below(path).is_some());
            if below || pattern.takes(path) {
                pattern.matched = true;
                self.found.push(self.document.at(code, &pattern.pointer, message));
            }
        }
    }

    fn visit(&mut self, entry: &ignore::DirEntry) {
        let Some(path) = relative(self.root, entry.path()) else {
            return self.strange(&entry.path().to_string_lossy(), "has a name that is not UTF-8");
        };
        let takers: Vec<Role> = self
            .patterns
            .iter_mut()
            .filter(|pattern| pattern.takes(&path))
            .map(|pattern| {
                pattern.matched = true;
                pattern.role
            })
            .collect();
        if takers.is_empty() {
            return;
        }
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                takers.into_iter().for_each(|role| self.take(role, path.clone(), metadata.len()));
            }
            Ok(_) => self.strange(path.as_str(), "is neither a file nor a folder"),
            Err(error) => self.say(Diagnostic::of_file(Code::Unreadable, path.as_str(), error.to_string())),
        }
    }

    fn strange(&mut self, path: &str, what: &str) {
        self.say(Diagnostic::of_file(Code::NotAFile, path, format!("`{path}` {what}")));
    }

    fn finish(mut self) -> Files {
        for pattern in std::mem::take(&mut self.patterns).iter().filter(|pattern| !pattern.matched) {
            let what = if pattern.glob.is_some() { "matches no file" } else { "is an empty folder" };
            let mut error =
                self.document.at(Code::NothingMatches, &pattern.pointer, format!("`{}` {what}", pattern.text));
            let missing = pattern.base.as_ref().filter(|base| !base.under(self.root).exists());
            if let Some(base) = missing {
                error = error.help(format!("there is no folder `{base}`"));
            } else if self.root.join(IGNORE_FILE).exists() {
                error = error.help(format!("`{IGNORE_FILE}` says what is left out: does it name this?"));
            }
            self.say(error);
        }
        let [model, code, metadata] = self.taken;
        let without = |from: BTreeMap<ArchivePath, ProjectFile>,
                       others: &[&BTreeMap<ArchivePath, ProjectFile>]|
         -> Vec<ProjectFile> {
            from.into_values().filter(|file| !others.iter().any(|other| other.contains_key(&file.path))).collect()
        };
        Files {
            code: without(code, &[&model, &metadata]),
            metadata: without(metadata, &[&model]),
            model: model.into_values().collect(),
            requirements: None,
        }
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

fn relative(root: &Path, path: &Path) -> Option<ArchivePath> {
    ArchivePath::from_path(path.strip_prefix(root).ok()?).ok()
}

fn leads_out(link: &ArchivePath, target: &str) -> String {
    format!("`{link}` is a link that leads out of the project's folder, to {target}")
}

/// Where a walk could not go on, and why.
fn failed(error: &ignore::Error) -> Option<(&Path, Code, String)> {
    match error {
        ignore::Error::Loop { child, .. } => {
            Some((child, Code::LinkLeaves, "is a link to a folder above it: it would never end".to_owned()))
        }
        ignore::Error::WithPath { path, err } => Some(match failed(err) {
            Some(inner) => inner,
            None if path.is_symlink() => (path, Code::LinkLeaves, "is a link that leads nowhere".to_owned()),
            None => (path, Code::Unreadable, format!("cannot be read: {err}")),
        }),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => failed(err),
        _ => None,
    }
}

fn left_out(path: &ArchivePath) -> bool {
    let name = path.name();
    let own = path.parent().is_none()
        && (crate::project::manifest::NAMES.contains(&name) || name == crate::project::lock::NAME);
    own || LEFT_OUT.contains(&name) || name.ends_with(".ekiben")
}

/// Whether a path lies in a folder or on the way to it.
fn touches(folder: Option<&ArchivePath>, path: &ArchivePath) -> bool {
    folder.is_none_or(|folder| folder == path || path.below(folder).is_some() || folder.below(path).is_some())
}
