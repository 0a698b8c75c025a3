//! One model as a project that is to be: what is proposed, and which files go where. Nothing is written yet.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;

use super::find;
use super::own::{self, Own};
use super::part::{Part, all_in};
use super::proposal::{self, Kind, Proposal, Texts, Words};
use super::{Elsewhere, Error, NoModel, Rules};
use crate::formats::bento;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Severity};
use crate::formats::document::shown;
use crate::formats::model::globals::{self, Verdict, is_reach};
use crate::formats::model::{Fault, Model};
use crate::io::archive::ArchivePath;
use crate::project::files::{Files, ProjectFile, as_glob};
use crate::project::manifest::NAMES;
use crate::project::validate::model::{allowed, carriers, is_trusted, judge_file, read_file};

/// Where the files of a folder lie in a project that they are brought to.
pub const FOLDER: &str = "model";

/// Where models of BentoML's store lie in a project.
const STORE: &str = "models";

/// The version that stands for the newest in BentoML's store, and the file that says which one it is.
const LATEST: &str = "latest";

/// The file with the service's functions, where there is none yet.
pub const SOURCE: &str = "src/predict.py";

/// A project that is to be.
#[derive(Debug)]
pub struct Plan {
    /// What it is made of.
    pub proposal: Proposal,
    /// The model's files.
    parts: Vec<Part>,
    /// What the manifest names of them.
    files: Vec<String>,
    /// Where the model's files live, and where they go.
    elsewhere: Option<(String, String)>,
    /// Below which path it answers.
    pub root: Option<String>,
    own: Own,
    allow: Vec<String>,
}

impl Plan {
    /// What a project without a model begins with.
    pub fn of_nothing() -> Self {
        let (parts, files, allow) = Default::default();
        Self { proposal: Proposal::of_nothing(), parts, files, elsewhere: None, root: None, own: Own::default(), allow }
    }

    /// The project of the model at `path`, which is a folder of this kind, or a file. Its files stay where they are if that
    /// is in `project`; else they are to be brought there. What is wrong with them goes to `found`.
    ///
    /// # Errors
    /// When there is nothing that a project could be made of, or the model is refused.
    pub fn of(
        path: &Path,
        kind: Option<Kind>,
        project: Option<&Path>,
        rules: &Rules,
        found: &mut Diagnostics,
    ) -> Result<Self, Error> {
        let there = project.and_then(|project| within(path, project));
        match kind {
            None => Self::of_file(path, there, project, rules, found),
            Some(Kind::Project) => Err(Error::NoModel { path: path.to_owned(), why: NoModel::Project }),
            Some(Kind::Bento) => Err(Error::NoModel { path: path.to_owned(), why: NoModel::Bento }),
            Some(kind @ (Kind::Cog | Kind::BentoService)) => Self::of_service(path, kind, rules, found),
            Some(kind) => Self::of_folder(path, kind, there, rules, found),
        }
    }

    fn of_file(
        path: &Path,
        there: Option<ArchivePath>,
        project: Option<&Path>,
        rules: &Rules,
        found: &mut Diagnostics,
    ) -> Result<Self, Error> {
        let Some(model) = read_file(path, found) else {
            let empty = Error::NoModel { path: path.to_owned(), why: NoModel::Empty };
            return Err(if found.has_errors() { refused(path, found, Vec::new()) } else { empty });
        };
        let place = match there {
            Some(place) => place,
            None => place_of(path)?,
        };
        let mut proposal = proposal::of_file(&model, place.as_str());
        let folder = path.parent().unwrap_or(Path::new(""));
        let places = own::places(folder, project);
        if proposal.lacks_net() {
            proposal.find_net(&own::modules(&places));
        }
        let own = Own::of(&places, &proposal.modules)?;
        let mut allow = BTreeSet::new();
        judge(path, &model, &own, rules, &mut allow, found)?;
        let mut parts = beside(folder, place.parent().as_ref(), &model)?;
        parts.insert(0, Part { path: place, host: path.to_owned() });
        proposal.settle(rules.hardware, &own.imports, |module| own.text(module));
        let files = parts.iter().map(|part| as_glob(part.path.as_str())).collect();
        Ok(Self { proposal, parts, files, elsewhere: None, root: None, own, allow: allow.into_iter().collect() })
    }

    fn of_folder(
        path: &Path,
        kind: Kind,
        there: Option<ArchivePath>,
        rules: &Rules,
        found: &mut Diagnostics,
    ) -> Result<Self, Error> {
        if let Some(what) = proposal::unserved(kind, path) {
            return Err(Error::NoModel { path: path.to_owned(), why: NoModel::Unserved(what) });
        }
        let mut parts = all_in(path)?;
        let mut allow = BTreeSet::new();
        for part in &parts {
            if let Some(model) = read_file(&part.host, found) {
                judge(&part.host, &model, &Own::default(), rules, &mut allow, found)?;
            }
        }
        if found.has_errors() {
            return Err(refused(path, found, Vec::new()));
        }
        let folder = match there {
            Some(place) => place,
            None => ArchivePath::relative(FOLDER).map_err(|_| Error::Outside(path.to_owned()))?,
        };
        parts.iter_mut().for_each(|part| part.path = folder.join(&part.path));
        let proposal = proposal::of_folder(kind, path, folder.as_str());
        let mut proposal =
            proposal.ok_or_else(|| Error::NoModel { path: path.to_owned(), why: NoModel::Unreadable })?;
        proposal.settle(rules.hardware, &[], |_| None);
        let files = vec![as_glob(folder.as_str())];
        let allow = allow.into_iter().collect();
        Ok(Self { proposal, parts, files, elsewhere: None, root: None, own: Own::default(), allow })
    }

    /// The project of code that answers already, for another server. It lies beside ours as it is, all of it.
    fn of_service(path: &Path, kind: Kind, rules: &Rules, found: &mut Diagnostics) -> Result<Self, Error> {
        let unreadable = || Error::NoModel { path: path.to_owned(), why: NoModel::Unreadable };
        let (mut proposal, tags) = proposal::of_service(kind, path).ok_or_else(unreadable)?;
        let is_hidden = |part: &Part| part.path.as_str().split('/').any(|name| name.starts_with('.'));
        let code = all_in(path)?.into_iter().filter(|part| !is_hidden(part));
        let code_folder = ArchivePath::relative("src").map_err(|_| unreadable())?;
        let below = |part: Part| Part { path: code_folder.join(&part.path), host: part.host };
        let own = Own { parts: code.map(below).collect(), imports: Vec::new() };
        let store = bento::home().join("models");
        let mut parts = Vec::new();
        for tag in &tags {
            match stored(&store, tag)? {
                Some(more) => parts.extend(more),
                None => proposal.miss(&format!("`{tag}` is not in BentoML's store, {}", store.display())),
            }
        }
        let mut allow = BTreeSet::new();
        for part in own.parts.iter().chain(&parts).filter(|part| find::is_model(&part.host)) {
            if let Some(model) = read_file(&part.host, found) {
                judge(&part.host, &model, &own, rules, &mut allow, found)?;
            }
        }
        if found.has_errors() {
            return Err(refused(path, found, Vec::new()));
        }
        let files = if parts.is_empty() { Vec::new() } else { vec![STORE.to_owned()] };
        Ok(Self { proposal, parts, files, elsewhere: None, root: None, own, allow: allow.into_iter().collect() })
    }

    /// The file with the service's functions: another than the person's own.
    pub fn source(&self) -> &'static str {
        let is_taken = |name: &&str| self.own.parts.iter().any(|part| part.path.as_str() == *name);
        [SOURCE, "src/answers.py"].into_iter().find(|name| !is_taken(name)).unwrap_or("src/ekiben_answers.py")
    }

    /// Names another file of the model's, which lies in the project.
    pub fn name_file(&mut self, path: &ArchivePath) {
        self.files.push(as_glob(path.as_str()));
    }

    /// Names the model's files where they live, in the place of those that were read.
    pub fn name_elsewhere(&mut self, elsewhere: &Elsewhere) {
        self.elsewhere = Some((elsewhere.from.clone(), elsewhere.path.clone()));
    }

    /// The texts of version `version` of the project `name`, whose functions are in `source`; `ours` if those are the proposed ones.
    ///
    /// # Errors
    /// When a template is wrong.
    pub fn texts(
        &self,
        name: &str,
        version: Option<&str>,
        source: &str,
        ours: bool,
        schema: Option<&str>,
    ) -> Result<Texts, Error> {
        let elsewhere = self.elsewhere.as_ref().map(|(from, path)| (from.as_str(), path.as_str()));
        let (root, files, allow) = (self.root.as_deref(), &self.files, &self.allow);
        let words = Words { name, version, files, elsewhere, allow, source, ours, root, schema };
        Ok(self.proposal.texts(&words)?)
    }

    /// All files that are to be in the project, and whether each is the model's.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, bool)> {
        let here = self.parts.iter().filter(|_| self.elsewhere.is_none());
        here.map(|part| (part, true)).chain(self.own.parts.iter().map(|part| (part, false)))
    }

    /// The size of the model's files, in bytes.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn size(&self) -> Result<u64, Error> {
        let sizes = self.parts.iter().map(|part| Ok(fs::metadata(&part.host)?.len()));
        sizes.sum::<Result<u64, std::io::Error>>().map_err(Error::Io)
    }
}

/// The files of a model that BentoML keeps in `store`, as they lie in the project. None where it is not there.
fn stored(store: &Path, tag: &str) -> Result<Option<Vec<Part>>, Error> {
    let (name, version) = tag.split_once(':').unwrap_or((tag, LATEST));
    let is_plain = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !text.is_empty() && !text.starts_with('.') && text.chars().all(plain)
    };
    let said = store.join(name).join(LATEST);
    let version = match version {
        LATEST if is_plain(name) => fs::read_to_string(&said).unwrap_or_default().trim().to_owned(),
        version => version.to_owned(),
    };
    let folder = store.join(name).join(&version);
    if !is_plain(name) || !is_plain(&version) || !folder.is_dir() {
        return Ok(None);
    }
    let place = |path: &str| ArchivePath::relative(path).map_err(|_| Error::Outside(folder.clone()));
    let below = place(&format!("{STORE}/{name}/{version}"))?;
    let files = all_in(&folder)?.into_iter();
    let mut parts: Vec<Part> = files.map(|part| Part { path: below.join(&part.path), host: part.host }).collect();
    if said.is_file() {
        parts.push(Part { path: place(&format!("{STORE}/{name}/{LATEST}"))?, host: said });
    }
    Ok(Some(parts))
}

/// The path of something that lies in a project, relative to it.
fn within(path: &Path, project: &Path) -> Option<ArchivePath> {
    let (real, project) = (fs::canonicalize(path).ok()?, fs::canonicalize(project).ok()?);
    ArchivePath::from_path(real.strip_prefix(project).ok()?).ok()
}

fn refused(path: &Path, found: &Diagnostics, allow: Vec<String>) -> Error {
    let mistakes = found.sorted().into_iter().filter(|diagnostic| diagnostic.severity() == Severity::Error);
    let allowable = |diagnostic: &Diagnostic| matches!(diagnostic.code, Code::DangerousGlobal | Code::CarriesCode);
    let all = mistakes.into_iter().all(allowable);
    Error::Refused { path: path.to_owned(), allow: if all { allow } else { Vec::new() } }
}

/// Says what is wrong with a file of a model, and notes what is allowed of what it imports.
fn judge(
    path: &Path,
    model: &Model,
    own: &Own,
    rules: &Rules,
    allow: &mut BTreeSet<String>,
    found: &mut Diagnostics,
) -> Result<(), Error> {
    let code = own.parts.iter().map(|part| ProjectFile { path: part.path.clone(), host: part.host.clone(), size: 0 });
    let files = Files { code: code.collect(), ..Files::default() };
    judge_file(model, &shown(path), &rules.allow, &files, found);
    let globals = || model.pickles.iter().flat_map(|(_, pickles)| pickles.globals.keys());
    let carriers = carriers(model);
    let lambda = model.faults.iter().any(|fault| matches!(fault, Fault::Code(_)));
    // What is to be named of what the file imports, whether it is allowed or not.
    let code = carriers.iter().map(|carrier| carrier.allow()).chain(lambda.then_some(LAMBDA)).map(str::to_owned);
    let is_unbounded = carriers.iter().any(|carrier| carrier.is_unbounded());
    if found.has_errors() {
        let dangerous = globals().filter(|(module, name)| match globals::judge(module, name) {
            Verdict::Dangerous(why) => !(allowed(module, name, &rules.allow) || is_unbounded && is_reach(why)),
            _ => false,
        });
        let dangerous = dangerous.map(|(module, name)| format!("{module}.{name}"));
        let needed: BTreeSet<String> = code.chain(dangerous).collect();
        return Err(refused(path, found, needed.into_iter().collect()));
    }
    let is_imported = |entry: &&String| {
        let entry = std::slice::from_ref(*entry);
        globals().any(|(module, name)| allowed(module, name, entry))
            || carriers.iter().any(|carrier| is_trusted(*carrier, entry))
            || lambda && allowed("keras.layers", "Lambda", entry)
    };
    allow.extend(rules.allow.iter().filter(is_imported).cloned());
    Ok(())
}

/// What a manifest allows whose model has a Lambda layer of Keras's.
const LAMBDA: &str = "keras.layers.Lambda";

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

/// The files beside a model in `folder` in which it keeps its weights; in the project they lie in `place`.
fn beside(folder: &Path, place: Option<&ArchivePath>, model: &Model) -> Result<Vec<Part>, Error> {
    let part = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let outside = || Error::Outside(folder.join(name.chars().take(120).collect::<String>()));
        let path = ArchivePath::relative(name).ok().filter(|path| path.as_str().chars().all(plain));
        let path = path.ok_or_else(outside)?;
        let host = path.under(folder);
        let real = fs::canonicalize(&host).map_err(|_| outside())?;
        let inside = fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        if !real.starts_with(inside) || !real.is_file() || path.as_str().starts_with("src/") {
            return Err(outside());
        }
        Ok(Part { path: place.map_or_else(|| path.clone(), |place| place.join(&path)), host })
    };
    model.beside.iter().map(part).collect()
}
