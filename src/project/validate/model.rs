//! The files of a model: whether they are there whole, what loading them would run, and which packages they need.
//!
//! They are read as data, never loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use fs_err as fs;
use pep440_rs::{Version, VersionSpecifiers};

use super::Subject;
use crate::base::requirements::Wanted;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::shown;
use crate::formats::model::globals::{Carrier, Verdict, distribution, is_reach, is_standard, judge};
use crate::formats::model::{self, Fault, Format, Model, Origin};
use crate::formats::package;
use crate::project::files::Files;
use crate::project::manifest::Manifest;

/// Checks them; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let mut needs = Needs::default();
    for file in &subject.files.model {
        let path = shown(&subject.root.join(file.path.as_str()));
        let Some(model) = read_origin(&Origin::File(&file.host), file.path.as_str(), &path, file.size, found) else {
            continue;
        };
        judge_file(&model, &path, &subject.manifest.model.allow, subject.files, found);
        needs.add(&path, &model);
        beside(subject, file.path.as_str(), &path, &model, found);
    }
    needs.check(subject, &subject.requirements.wanted, found);
}

/// Looks at one file of a model that belongs to no project.
pub fn check_file(path: &Path, found: &mut Diagnostics) {
    if let Some(model) = read_file(path, found) {
        judge_file(&model, &shown(path), &[], &Files::default(), found);
    }
}

/// Reads one file of a model that belongs to no project. None where there is nothing in it to look at, which is said.
pub fn read_file(path: &Path, found: &mut Diagnostics) -> Option<Model> {
    let shown = shown(path);
    match fs::metadata(path) {
        Ok(metadata) => read_origin(&Origin::File(path), &shown, &shown, metadata.len(), found),
        Err(error) => {
            found.push(Diagnostic::of_file(Code::Unreadable, shown, error.to_string()));
            None
        }
    }
}

/// Looks at one file of a model in a bundle.
pub fn check_content(
    shown: &str,
    name: &str,
    size: u64,
    open: &dyn Fn() -> std::io::Result<Box<dyn Read + Send>>,
    manifest: &Manifest,
    found: &mut Diagnostics,
) {
    if let Some(model) = read_origin(&Origin::Stream(open), name, shown, size, found) {
        judge_file(&model, shown, &manifest.model.allow, &Files::default(), found);
    }
}

/// Reads a file; none where there is nothing in it to look at, which is said.
pub fn read_origin(origin: &Origin<'_>, name: &str, shown: &str, size: u64, found: &mut Diagnostics) -> Option<Model> {
    if size == 0 {
        found.push(Diagnostic::of_file(Code::EmptyModelFile, shown, "the model's file is empty"));
        return None;
    }
    match model::inspect(origin, name, size) {
        Ok(Model { format: Format::LfsPointer, .. }) => {
            let message = "this is a pointer of Git LFS, not the model itself";
            let error = Diagnostic::of_file(Code::GitLfsPointer, shown, message);
            found.push(error.help("fetch the content: `git lfs pull`"));
            None
        }
        Ok(model) => Some(model),
        Err(error) => {
            found.push(Diagnostic::of_file(Code::Unreadable, shown, error.to_string()));
            None
        }
    }
}

/// Says what is wrong with a file that is shown as `path`: what loading it may import says `allow`, or is one of `files`.
pub fn judge_file(model: &Model, path: &str, allow: &[String], files: &Files, found: &mut Diagnostics) {
    let of = |code, message: String| Diagnostic::of_file(code, path, message);
    for fault in &model.faults {
        match fault {
            Fault::Broken(at, what) => {
                let error = of(Code::BrokenModel, format!("the model's file is damaged at byte {at}: {what}"));
                found.push(error.help("save or copy it again, and compare its size with that of the original"));
            }
            Fault::Code(_) if allowed("keras.layers", "Lambda", allow) => {}
            Fault::Code(what) => found.push(
                of(Code::CarriesCode, format!("loading the file would run code that it carries: {what}"))
                    .help("replace the layer by a class of its own, and save the model again"),
            ),
            Fault::Unread(why) => {
                found.push(of(Code::NotLookedInto, format!("the file could not be looked into: {why}")));
            }
        }
    }
    let carriers = carriers(model);
    for carrier in &carriers {
        if is_trusted(*carrier, allow) {
            continue;
        }
        let message = format!("loading the file would run code that it carries: {}", carrier.in_words());
        let entry = carrier.allow();
        found.push(
            of(Code::CarriesCode, message).help(format!(
                "if you made it, or trust who did, say so in the manifest: `model: {{allow: [{entry}]}}`"
            )),
        );
    }
    // Whatever else such code could reach is no further danger, and no further question.
    let is_unbounded = carriers.iter().any(|carrier| carrier.is_unbounded());
    for (member, pickles) in &model.pickles {
        let place = |at: u64| match member {
            Some(member) => format!("in `{member}`, byte {at}"),
            None => format!("byte {at}"),
        };
        for at in &pickles.computed {
            let message = format!("what the pickle imports is hidden ({})", place(*at));
            found.push(of(Code::ComputedGlobal, message).help("do not load this file"));
        }
        for ((module, name), at) in &pickles.globals {
            if allowed(module, name, allow) {
                continue;
            }
            let global = shorten(&format!("{module}.{name}"));
            match judge(module, name) {
                Verdict::Known | Verdict::Carries(_) => {}
                Verdict::Dangerous(why) if is_unbounded && is_reach(why) => {}
                Verdict::Dangerous(why) => found.push(
                    of(Code::DangerousGlobal, format!("loading the file imports `{global}`: {why} ({})", place(*at)))
                        .help("do not load this file, unless you wrote it and know why this is in it"),
                ),
                Verdict::Unknown if module == "__main__" => {
                    let message =
                        format!("the pickle needs `{name}` from the script that wrote it", name = shorten(name));
                    let help = "define it in a module that the service imports too, and save the model again";
                    found.push(of(Code::PickledInScript, message).help(help));
                }
                Verdict::Unknown if is_unbounded || is_own(module, files) => {}
                Verdict::Unknown => {
                    let warning = of(
                        Code::UnknownGlobal,
                        format!("loading the file imports `{global}`, which is not known to be harmless"),
                    );
                    found.push(
                        warning.help(format!("if it is, add it to the manifest: `model: {{allow: [{global}]}}`")),
                    );
                }
            }
        }
    }
}

/// What wrote code into a file, each once.
pub fn carriers(model: &Model) -> BTreeSet<Carrier> {
    let globals = model.pickles.iter().flat_map(|(_, pickles)| pickles.globals.keys());
    let carrier = |(module, name): &(String, String)| match judge(module, name) {
        Verdict::Carries(carrier) => Some(carrier),
        _ => None,
    };
    let script = (model.format == Format::TorchScript).then_some(Carrier::TorchScript);
    globals.filter_map(carrier).chain(script).collect()
}

/// Whether the manifest trusts what a carrier wrote.
pub fn is_trusted(carrier: Carrier, allow: &[String]) -> bool {
    let package = carrier.allow().trim_end_matches(".*");
    allowed(package, "*", allow)
}

fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Whether the manifest lets a pickle import it.
pub fn allowed(module: &str, name: &str, allow: &[String]) -> bool {
    let global = format!("{module}.{name}");
    allow.iter().any(|entry| match entry.strip_suffix(".*") {
        Some(package) => global.strip_prefix(package).is_some_and(|rest| rest.starts_with('.')),
        None => *entry == global,
    })
}

/// Whether a module is a file of the project's code.
fn is_own(module: &str, files: &Files) -> bool {
    let path = module.replace('.', "/");
    let ends = [format!("{path}.py"), format!("{path}/__init__.py")];
    files.code.iter().any(|file| {
        let file = file.path.as_str();
        ends.iter()
            .any(|end| file.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
    })
}

/// The weights that a model keeps in files beside it.
fn beside(subject: &Subject<'_>, own: &str, path: &str, model: &Model, found: &mut Diagnostics) {
    let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
    for name in &model.beside {
        let wanted = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if !subject.files.model.iter().any(|file| file.path.as_str() == wanted) {
            let name = shorten(name);
            let message = format!("the model keeps weights in `{name}`, which is not among its files");
            let error = Diagnostic::of_file(Code::WeightsBeside, path, message);
            found.push(error.help(format!("put it into the same folder, and name it: `model: {{files: [{name}]}}`")));
        }
    }
}

/// The packages that the files need, each with the file that needs it and the version that saved it.
#[derive(Default)]
struct Needs(BTreeMap<String, Need>);

struct Need {
    file: String,
    module: String,
    version: Option<String>,
}

impl Needs {
    fn add(&mut self, file: &str, model: &Model) {
        for (_, pickles) in &model.pickles {
            let modules: BTreeSet<&str> = pickles.globals.keys().map(|(module, _)| module.as_str()).collect();
            for module in modules.into_iter().filter(|module| !is_standard(module)) {
                let Some(package) = distribution(module) else { continue };
                let version = match package {
                    "scikit-learn" => pickles.versions.get("_sklearn_version").cloned(),
                    // The private names came with 1.26, as a way from 2.0 back.
                    _ => None,
                };
                let need = Need { file: file.to_owned(), module: module.to_owned(), version };
                let entry = self.0.entry(package.to_owned()).or_insert(need);
                if entry.version.is_none() {
                    entry.version =
                        pickles.versions.get("_sklearn_version").filter(|_| package == "scikit-learn").cloned();
                }
            }
        }
    }

    fn check(&self, subject: &Subject<'_>, wanted: &[Wanted], found: &mut Diagnostics) {
        if subject.manifest.python.is_none() {
            return;
        }
        let brought = package::with_all_required(wanted.iter().map(|wanted| wanted.name.as_str()));
        for (package, Need { file, module, version }) in &self.0 {
            let is_brought = brought.iter().any(|other| other == package || package::may_bring(other, module))
                // Hardly a package that models are made with comes without it.
                || package == "numpy" && !wanted.is_empty();
            let own = wanted.iter().find(|wanted| wanted.name == *package);
            let locked = subject.locked.get(package);
            if own.is_none() && locked.is_none() && !is_brought {
                let message = format!("loading the file imports `{module}`, and `{package}` is not required");
                let pin = version.as_ref().map_or_else(|| package.clone(), |version| format!("{package}=={version}"));
                let warning = Diagnostic::of_file(Code::NotRequired, file, message);
                found.push(warning.help(format!("add `{pin}` to the requirements")));
            }
            let Some(saved) = version.as_deref().and_then(|version| Version::from_str(version).ok()) else { continue };
            if let Some(own) = own.filter(|own| !fits(&own.versions, &saved)) {
                let message =
                    format!("the requirement `{}` excludes the version {saved} that saved the model", own.text);
                found.push(
                    Diagnostic::new(Code::OtherVersion, &own.source, own.span.clone(), message)
                        .label(format!("{file} was saved with {package} {saved}"))
                        .help(format!(
                            "require `{package}=={saved}`, or save the model again with the version required"
                        )),
                );
            } else if let Some(locked) = locked.filter(|locked| series(locked) != series(&saved)) {
                let message = format!("the model was saved with {package} {saved}, and the lock has {locked}");
                let warning = Diagnostic::of_file(Code::OtherVersion, file, message);
                found.push(
                    warning.help(format!("require `{package}=={saved}`, and renew the lock: `ekiben lock --update`")),
                );
            }
        }
    }
}

/// Whether the specifiers admit the version, or another one of its minor series.
fn fits(versions: &VersionSpecifiers, saved: &Version) -> bool {
    let release = saved.release();
    let (major, minor) = (release.first().copied().unwrap_or_default(), release.get(1).copied().unwrap_or_default());
    let patch = release.get(2).copied().unwrap_or_default();
    (0..=patch.max(20))
        .map(|patch| Version::new([major, minor, patch]))
        .chain([saved.clone()])
        .any(|v| versions.contains(&v))
}

fn series(version: &Version) -> (u64, u64) {
    let release = version.release();
    (release.first().copied().unwrap_or_default(), release.get(1).copied().unwrap_or_default())
}
