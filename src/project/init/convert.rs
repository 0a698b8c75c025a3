//! Projects from models that are there already, one or a whole shelf of them.
//!
//! Invariants: nothing of a model is loaded or run; the model that was given stays where it is, as it is; a project
//! appears whole or not at all, and one that is there is left alone unless it may be replaced; the same models give the
//! same bytes. What is wrong with one model stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Severity};
use crate::formats::document::{MAX_BYTES, read_text, shown};
use crate::formats::model::{Fault, Model};
use crate::io::archive::ArchivePath;
use crate::io::atomic;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::progress::{Progress, Unit};
use crate::project::files::{Files, PASSED, ProjectFile};
use crate::project::init::proposal::{self, Kind, Proposal, Words};
use crate::project::init::{plain, schema_beside};
use crate::project::manifest::NAMES;
use crate::project::validate::model::{allowed, judge_file, read_file};

/// What is to be converted, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Models: files, and folders that are models or hold some.
    pub models: Vec<PathBuf>,
    /// The folder in which each project gets a folder of its own.
    pub into: PathBuf,
    /// What the project is called, where there is one model. None: after the model's file or folder.
    pub name: Option<String>,
    /// What loading the models may import though it is dangerous or unknown, as in a manifest's `model.allow`.
    pub allow: Vec<String>,
    /// Replace the files of a project that is there already. Its other files stay.
    pub force: bool,
    /// Give the project a hard link to the model's files, rather than a copy.
    pub link: bool,
}

/// What became of one model.
#[derive(Debug)]
pub struct Conversion {
    /// The model, as it was given or found.
    pub source: PathBuf,
    /// What its project is called.
    pub name: String,
    /// What is wrong with the model.
    pub diagnostics: Diagnostics,
    /// The project; or why there is none.
    pub result: Result<Converted, Error>,
}

/// A project that was made.
#[derive(Debug)]
pub struct Converted {
    /// Its folder.
    pub project: PathBuf,
    /// What it was made of.
    pub proposal: Proposal,
    /// Of the model's files, in bytes.
    pub size: u64,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("there is no such file or folder: {}", .0.display())]
    Missing(PathBuf),
    /// It is nothing that can be converted.
    #[error("no project can be made from {}: {why}", path.display())]
    NoModel {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// It is dangerous or damaged; the diagnostics say in what way.
    #[error("the model is refused: {}", path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// Whether it would be taken if what it imports were allowed.
        dangerous: bool,
    },
    /// Something lies where the project would.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// A file that belongs to the model is not there, or lies elsewhere.
    #[error("{} belongs to the model, and is not a file in its folder", .0.display())]
    Outside(PathBuf),
    /// The name is none that a manifest takes.
    #[error("`{0}` cannot be the name of a project")]
    Name(String),
    /// A name for several projects.
    #[error("one name is given for {0} models")]
    OneName(usize),
    /// The folder holds too much.
    #[error("{} holds more than {MOST} files", .0.display())]
    TooMany(PathBuf),
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A template is wrong: a mistake in Ekiben.
    #[error("a template of the project cannot be filled in")]
    Template(#[from] minijinja::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing(_) => ErrorKind::Failure.named("convert/missing"),
            Self::NoModel { why: PROJECT | BENTO, .. } => {
                ErrorKind::Failure.named("convert/no-model").hint("`ekiben build` takes it as it is")
            }
            Self::NoModel { .. } => ErrorKind::Failure.named("convert/no-model"),
            Self::Refused { dangerous: true, .. } => ErrorKind::Failure
                .named("convert/refused")
                .hint("if you know why it imports what it does, name that: `--allow package.module.Name`"),
            Self::Refused { dangerous: false, .. } => ErrorKind::Failure.named("convert/refused"),
            Self::Exists(_) => ErrorKind::Failure
                .named("convert/exists")
                .hint("choose another folder with `--into`, or replace its files with `--force`"),
            Self::Outside(_) => ErrorKind::Failure.named("convert/outside"),
            Self::Name(_) => ErrorKind::Failure
                .named("convert/name")
                .hint("use lowercase letters, digits, `-`, `_` and `.`, at most 63"),
            Self::OneName(_) => ErrorKind::Failure
                .named("convert/one-name")
                .hint("leave `--name` out: projects are called after their models"),
            Self::TooMany(_) => ErrorKind::Failure.named("convert/too-many"),
            Self::Io(error) => error.explain(),
            Self::Template(_) => ErrorKind::Failure.named("convert/template"),
        }
    }
}

const PROJECT: &str = "it is one already";
const BENTO: &str = "it is a bento";

/// Files of one model, and models of one folder.
const MOST: usize = 10_000;

/// Folders within folders that are looked into.
const DEEPEST: usize = 16;

/// Makes a project of each model, in the order of the paths, and by name within a folder.
pub fn convert(options: &Options, progress: &Progress) -> Vec<Conversion> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &options.models {
        for one in find(path) {
            // The same model twice is one model.
            if seen.insert(fs::canonicalize(&one.path).unwrap_or_else(|_| one.path.clone())) {
                found.push(one);
            }
        }
    }
    let mut names = names(&found);
    if let Some(name) = &options.name {
        names.iter_mut().for_each(|own| own.clone_from(name));
    }
    let several = (options.name.is_some() && found.len() > 1).then_some(found.len());
    let one = |(Found { path, what }, name): (Found, String)| {
        let _task = progress.task("Converting", name.clone(), Unit::Items, None);
        let mut diagnostics = Diagnostics::new();
        let result = match (what, several) {
            (_, Some(number)) => Err(Error::OneName(number)),
            (Err(error), _) => Err(error),
            (Ok(kind), _) => make(&path, kind, &name, options, &mut diagnostics),
        };
        Conversion { source: path, name, diagnostics, result }
    };
    found.into_iter().zip(names).map(one).collect()
}

/// Something that is to be converted.
struct Found {
    path: PathBuf,
    /// A file, or a folder of a kind.
    what: Result<Option<Kind>, Error>,
}

fn find(path: &Path) -> Vec<Found> {
    let one = |what| vec![Found { path: path.to_owned(), what }];
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
    match walk(path, 0, &mut found) {
        Err(error) => one(Err(error)),
        Ok(()) if found.is_empty() => {
            one(Err(Error::NoModel { path: path.to_owned(), why: "no model is in the folder, by its name" }))
        }
        Ok(()) => found,
    }
}

/// Models below a folder: files that are called as such, and folders that are models. Links are not followed, and what
/// is a project or a bento already is passed.
fn walk(folder: &Path, depth: usize, found: &mut Vec<Found>) -> Result<(), Error> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && depth < DEEPEST && !PASSED.iter().any(|name| entry.file_name() == *name) {
            match proposal::recognise(&path) {
                Some(Kind::Project | Kind::Bento) => {}
                Some(kind) => found.push(Found { path, what: Ok(Some(kind)) }),
                None => walk(&path, depth + 1, found)?,
            }
        } else if kind.is_file() && path.to_str().is_some_and(|path| proposal::of_name(path).is_some()) {
            found.push(Found { path, what: Ok(None) });
        }
        if found.len() > MOST {
            return Err(Error::TooMany(folder.to_owned()));
        }
    }
    Ok(())
}

/// A name for each, after its file or folder, and no two the same.
fn names(found: &[Found]) -> Vec<String> {
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

/// A file of a project that is to be, and where its bytes are.
struct Part {
    path: ArchivePath,
    host: PathBuf,
}

fn make(
    path: &Path,
    kind: Option<Kind>,
    name: &str,
    options: &Options,
    found: &mut Diagnostics,
) -> Result<Converted, Error> {
    if name.is_empty() || plain(name) != name {
        return Err(Error::Name(name.to_owned()));
    }
    let no_model = |why| Error::NoModel { path: path.to_owned(), why };
    let mut allow = BTreeSet::new();
    let (mut proposal, parts, files, code) = match kind {
        None => {
            let Some(model) = read_file(path, found) else {
                return Err(if found.has_errors() { refused(path, found) } else { no_model("it is empty") });
            };
            let place = place_of(path)?;
            let proposal = proposal::of_file(&model, place.as_str());
            let modules = proposal.as_ref().map(|proposal| proposal.modules.as_slice()).unwrap_or_default();
            let code = own_code(path, modules);
            judge(path, &model, &code, options, &mut allow, found)?;
            let proposal = proposal.ok_or_else(|| no_model(what_is(&model)))?;
            let mut parts = vec![Part { path: place, host: path.to_owned() }];
            parts.extend(beside(path, &model)?);
            let files: Vec<String> = parts.iter().map(|part| part.path.to_string()).collect();
            (proposal, parts, files, code)
        }
        Some(Kind::Project) => return Err(no_model(PROJECT)),
        Some(Kind::Bento) => return Err(no_model(BENTO)),
        Some(Kind::SavedModel) => return Err(no_model("TensorFlow's SavedModel is not known here")),
        Some(kind) => {
            let mut parts = all_in(path)?;
            for part in &parts {
                if let Some(model) = read_file(&part.host, found) {
                    judge(&part.host, &model, &[], options, &mut allow, found)?;
                }
            }
            if found.has_errors() {
                return Err(refused(path, found));
            }
            let folder = ArchivePath::relative(FOLDER).map_err(|_| Error::Outside(path.to_owned()))?;
            parts.iter_mut().for_each(|part| part.path = folder.join(&part.path));
            let proposal = proposal::of_folder(kind, path, FOLDER);
            (
                proposal.ok_or_else(|| no_model("its description cannot be read"))?,
                parts,
                vec![FOLDER.to_owned()],
                Vec::new(),
            )
        }
    };
    proposal.settle(|module| {
        let (_, part) = code.iter().find(|(own, _)| own == module)?;
        read_text(&part.host, &shown(&part.host), MAX_BYTES, &mut Diagnostics::new())
            .map(|source| source.text().to_owned())
    });
    let project = options.into.join(name);
    fs::create_dir_all(&options.into)?;
    let schema = schema_beside(&options.into).map(|path| format!("../{path}"));
    let allow: Vec<String> = allow.into_iter().collect();
    let texts = proposal.texts(&Words {
        name,
        files: &files,
        allow: &allow,
        entry: "src/predict.py:predict",
        ours: true,
        schema: schema.as_deref(),
    })?;
    let mut size = 0;
    let mut fill = |folder: &Path| -> Result<(), Error> {
        size = 0;
        for part in parts.iter().chain(code.iter().map(|(_, part)| part)) {
            let target = part.path.under(folder);
            fs::create_dir_all(target.parent().unwrap_or(folder))?;
            if options.link && !code.iter().any(|(_, own)| own.path == part.path) {
                fs::hard_link(fs::canonicalize(&part.host)?, &target)?;
            } else {
                // A file system that can share the bytes of two files does.
                fs::copy(&part.host, &target)?;
            }
            size += fs::metadata(&target)?.len();
        }
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("src/predict.py"), &texts.code)?;
        fs::write(folder.join("requirements.txt"), &texts.requirements)?;
        fs::write(folder.join(NAMES[0]), &texts.manifest)?;
        Ok(())
    };
    if options.force && project.is_dir() {
        replace(&project, &mut fill)?;
    } else {
        let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if project.symlink_metadata().is_ok() && !empty(&project) {
            return Err(Error::Exists(project));
        }
        atomic::folder(&project, &mut fill)?;
    }
    Ok(Converted { project, proposal, size })
}

/// Where the files of a folder lie in its project.
const FOLDER: &str = "model";

/// Fills a folder beside the project, and puts its files into the place of the project's, the manifest last.
fn replace(project: &Path, fill: &mut dyn FnMut(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let parent = project.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".ekiben-").tempdir_in(parent)?;
    fill(made.path())?;
    let mut parts = all_in(made.path())?;
    parts.sort_by_key(|part| part.path.as_str() == NAMES[0]);
    // A second manifest would make it unclear which one holds.
    if let Some(other) = NAMES.iter().skip(1).map(|name| project.join(name)).find(|other| other.exists()) {
        return Err(Error::Exists(other));
    }
    for part in parts {
        let target = part.path.under(project);
        fs::create_dir_all(target.parent().unwrap_or(project))?;
        fs::rename(part.host, target)?;
    }
    Ok(())
}

fn refused(path: &Path, found: &Diagnostics) -> Error {
    let mistakes = found.sorted().into_iter().filter(|diagnostic| diagnostic.severity() == Severity::Error);
    let allowable = |diagnostic: &Diagnostic| matches!(diagnostic.code, Code::DangerousGlobal | Code::CarriesCode);
    Error::Refused { path: path.to_owned(), dangerous: mistakes.into_iter().all(allowable) }
}

/// Says what is wrong with a file of a model, and notes what is allowed of what it imports.
fn judge(
    path: &Path,
    model: &Model,
    code: &[(String, Part)],
    options: &Options,
    allow: &mut BTreeSet<String>,
    found: &mut Diagnostics,
) -> Result<(), Error> {
    let code = code.iter().map(|(_, part)| ProjectFile { path: part.path.clone(), host: part.host.clone(), size: 0 });
    let files = Files { code: code.collect(), ..Files::default() };
    judge_file(model, &shown(path), &options.allow, &files, found);
    if found.has_errors() {
        return Err(refused(path, found));
    }
    let imported = |entry: &&String| {
        let is = |module: &str, name: &str| allowed(module, name, std::slice::from_ref(entry));
        let lambda = model.faults.iter().any(|fault| matches!(fault, Fault::Code(_)));
        let mut globals = model.pickles.iter().flat_map(|(_, pickles)| pickles.globals.keys());
        globals.any(|(module, name)| is(module, name)) || lambda && is("keras.layers", "Lambda")
    };
    allow.extend(options.allow.iter().filter(imported).cloned());
    Ok(())
}

/// What a file is that no project can be made from.
fn what_is(model: &Model) -> &'static str {
    use crate::formats::model::Format;
    match model.format {
        Format::Numpy | Format::NumpyZip => "it holds arrays and no model",
        Format::Gguf => "GGUF is for llama.cpp, which has no wheel that serves it",
        Format::Zip => "it is a zip archive of something else",
        _ => "it is no model that is known here",
    }
}

/// Where a model's file lies in its project: under its own name, if that is a plain one and not that of another file.
fn place_of(path: &Path) -> Result<ArchivePath, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let taken = NAMES.contains(&&*name) || matches!(&*name, "requirements.txt" | "src" | crate::project::lock::NAME);
    let usual = name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !taken;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let ending: String = ending.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let place = if usual { name.into_owned() } else { format!("model.{ending}") };
    ArchivePath::relative(place.trim_end_matches('.')).map_err(|_| Error::Outside(path.to_owned()))
}

/// The files beside a model in which it keeps its weights.
fn beside(path: &Path, model: &Model) -> Result<Vec<Part>, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let part = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let outside = || Error::Outside(folder.join(name.chars().take(120).collect::<String>()));
        let place = ArchivePath::relative(name).ok().filter(|place| place.as_str().chars().all(plain));
        let place = place.ok_or_else(outside)?;
        let host = place.under(folder);
        let real = fs::canonicalize(&host).map_err(|_| outside())?;
        let inside = fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        if !real.starts_with(inside) || !real.is_file() || place.as_str().starts_with("src/") {
            return Err(outside());
        }
        Ok(Part { path: place, host })
    };
    model.beside.iter().map(part).collect()
}

/// The person's own modules that lie beside a model, each with its file or files.
fn own_code(path: &Path, modules: &[String]) -> Vec<(String, Part)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = |module: &String| {
        let name = module.replace('.', "/");
        let places = [format!("{name}.py"), format!("{name}/__init__.py")];
        let regular = |host: &Path| host.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        places.into_iter().find_map(|place| {
            let place = ArchivePath::relative(place).ok()?;
            let host = place.under(folder);
            // The service's own function is called so.
            (regular(&host) && place.as_str() != "predict.py").then_some(())?;
            Some((module.clone(), Part { path: ArchivePath::relative(format!("src/{place}")).ok()?, host }))
        })
    };
    modules.iter().filter_map(file).collect()
}

/// All files of a folder, as they lie in the project. Links may lead to files of the folder, and to those that the cache
/// of the Hugging Face Hub keeps in `blobs` beside its snapshots.
fn all_in(folder: &Path) -> Result<Vec<Part>, Error> {
    let real = fs::canonicalize(folder)?;
    let blobs = real.parent().filter(|above| above.ends_with("snapshots")).and_then(Path::parent);
    let blobs = blobs.map(|cache| cache.join("blobs"));
    let walk = ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| entry.depth() == 0 || !PASSED.iter().any(|name| entry.file_name() == *name))
        .build();
    let mut parts = Vec::new();
    for entry in walk {
        let entry = entry.map_err(std::io::Error::other)?;
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        let target = fs::canonicalize(path).ok().filter(|target| {
            target.is_file()
                && (target.starts_with(&real) || blobs.as_ref().is_some_and(|blobs| target.starts_with(blobs)))
        });
        let outside = || Error::Outside(path.to_owned());
        let place = path.strip_prefix(folder).ok().and_then(|path| ArchivePath::from_path(path).ok());
        let (Some(_), Some(place)) = (target, place) else { return Err(outside()) };
        parts.push(Part { path: place, host: path.to_owned() });
        if parts.len() > MOST {
            return Err(Error::TooMany(folder.to_owned()));
        }
    }
    Ok(parts)
}
