//! What the code imports: whether the requirements bring it, and whether the project's own modules are packed.
//!
//! The source is parsed, never run. What a requirement brings can only be told for sure where all requirements are known
//! ([`crate::formats::package`]), or the lock names everything; where there is doubt nothing is said, as an error that is
//! none would be in the way of whoever knows better.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Subject;
use crate::base::Named;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::document::{MAX_BYTES, read_text, shown};
use crate::formats::package;
use crate::formats::python::PythonVersion;
use crate::formats::source::{self, Import};
use crate::io::archive::ArchivePath;
use crate::project::manifest::{FORMS, MESSAGES, Requirements, SERVER};

/// Most sources that are followed.
const MOST: usize = 256;

/// Checks them; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let manifest = subject.manifest;
    // An image of somebody else's may have packages of its own.
    let is_plain = manifest.base.meant().is_ok_and(|base| matches!(base.named(), Named::Auto | Named::Debian(_)))
        && manifest.build.file.is_none();
    let unread = [Code::BadRequirement, Code::RunsCode];
    let is_read = !found.sorted().iter().any(|diagnostic| unread.contains(&diagnostic.code));
    if !is_plain || !is_read || !manifest.needs_python() || manifest.env.contains_key("PYTHONPATH") {
        return;
    }
    let mut imports = Modules::new(subject);
    let command = manifest.command_paths().into_iter().map(|named| named.path);
    let starts = manifest.entries().into_iter().map(|entry| entry.file.to_owned()).chain(command);
    starts.filter_map(|path| ArchivePath::relative(&path).ok()).for_each(|path| imports.start(&path));
    let known = Known::new(subject, imports.elsewhere);
    // Of what one package brings, the first is enough.
    let mut told = BTreeSet::new();
    for (source, import) in &imports.outside {
        let Some(mistake) = known.judge(subject, import) else { continue };
        if told.insert(package::proposal(&import.module).unwrap_or_else(|| import.module.clone())) {
            let error = Diagnostic::new(mistake.code, source, import.span.clone(), mistake.message);
            found.push(error.help(mistake.help));
        }
    }
}

/// The modules that the service imports as it starts.
struct Modules<'a> {
    /// All that is packed, by path.
    packed: BTreeMap<&'a str, &'a PathBuf>,
    /// Names of files without what follows the first dot, and of folders: what can be a module.
    names: BTreeSet<&'a str>,
    /// Folders that modules are looked for in.
    places: BTreeSet<String>,
    seen: BTreeSet<String>,
    /// What none of the project's own files is, each once.
    outside: Vec<(std::sync::Arc<Source>, Import)>,
    told: BTreeSet<String>,
    elsewhere: bool,
}

impl<'a> Modules<'a> {
    fn new(subject: &Subject<'a>) -> Self {
        let files = subject.files;
        let packed: BTreeMap<_, _> = files
            .model
            .iter()
            .chain(&files.code)
            .chain(&files.metadata)
            .map(|file| (file.path.as_str(), &file.host))
            .collect();
        let names = packed.keys().flat_map(|path| path.split('/')).map(package::top).collect();
        Self {
            packed,
            names,
            places: [String::new()].into(),
            seen: BTreeSet::new(),
            outside: Vec::new(),
            told: BTreeSet::new(),
            elsewhere: false,
        }
    }

    /// Follows the imports of a file that is started, or whose function is called.
    fn start(&mut self, path: &ArchivePath) {
        let mut folder = path.parent();
        // As Ekiben's service does: within a package, from the folder that the package lies in.
        while let Some(package) =
            folder.as_ref().filter(|folder| self.packed.contains_key(&*format!("{folder}/__init__.py")))
        {
            folder = package.parent();
        }
        self.places.extend(folder.map(|folder| format!("{folder}/")));
        self.places.extend(path.parent().map(|folder| format!("{folder}/")));
        let mut ahead = vec![path.to_string()];
        while let Some(path) = ahead.pop() {
            if self.seen.len() < MOST && self.seen.insert(path.clone()) {
                ahead.extend(self.follow(&path));
            }
        }
    }

    /// The project's own files that a file imports; what it imports besides is noted.
    fn follow(&mut self, path: &str) -> Vec<String> {
        let Some(host) = self.packed.get(path).filter(|_| path.ends_with(".py")) else { return Vec::new() };
        // What cannot be read, or is no Python, is for others to say.
        let Some(text) = read_text(host, &shown(host), MAX_BYTES, &mut Diagnostics::new()) else { return Vec::new() };
        let Ok(imports) = source::imports(text.text()) else { return Vec::new() };
        self.elsewhere |= imports.elsewhere;
        let mut own = Vec::new();
        for import in imports.modules {
            if import.level > 0 {
                let folders: Vec<&str> = path.split('/').rev().skip(import.level as usize).collect();
                let folder: String = folders.iter().rev().map(|name| format!("{name}/")).collect();
                own.extend(self.files(&folder, &import));
                continue;
            }
            let files: Vec<_> = self.places.iter().flat_map(|place| self.files(place, &import)).collect();
            let top = package::top(&import.module);
            if files.is_empty() && !self.names.contains(top) && self.told.insert(import.module.clone()) {
                self.outside.push((text.clone(), import));
            }
            own.extend(files);
        }
        own
    }

    /// The packed files that an import runs, if it is looked for in `folder`.
    fn files(&self, folder: &str, import: &Import) -> Vec<String> {
        let mut found = Vec::new();
        let mut path = folder.to_owned();
        let take = |path: &str, found: &mut Vec<String>| {
            let files = [format!("{path}.py"), format!("{path}/__init__.py")];
            found.extend(files.into_iter().filter(|file| self.packed.contains_key(file.as_str())));
        };
        for part in import.module.split('.').filter(|part| !part.is_empty()) {
            path += part;
            take(&path, &mut found);
            path.push('/');
        }
        import.names.iter().for_each(|name| take(&format!("{path}{name}"), &mut found));
        found
    }
}

/// What there is to import.
struct Known {
    packages: BTreeSet<String>,
    python: Option<PythonVersion>,
    /// Whether nothing is installed but what Ekiben's service needs.
    nothing: bool,
    /// Whether these are all packages that there will be.
    is_complete: bool,
    /// Whether these are all packages that there will be, and it is known of each which modules it brings.
    is_listed: bool,
    elsewhere: bool,
}

struct Mistake {
    code: Code,
    message: String,
    help: String,
}

impl Known {
    fn new(subject: &Subject<'_>, elsewhere: bool) -> Self {
        let manifest = subject.manifest;
        let wanted = &subject.requirements.wanted;
        let server = if manifest.serves_functions() && !manifest.is_small() { &SERVER[..] } else { &[] };
        let names = wanted.iter().map(|wanted| wanted.name.as_str());
        let more = [FORMS].into_iter().chain(manifest.takes_messages().then_some(MESSAGES));
        let more = more.filter(|_| manifest.serves_functions());
        let server = server.iter().copied().chain(more).filter_map(|line| line.split(['>', ';']).next());
        let named: Vec<&str> = names.chain(server).collect();
        let locked = subject.locked.keys().cloned();
        let mut packages: BTreeSet<String> = if subject.lock_fits {
            named.iter().map(|name| (*name).to_owned()).collect()
        } else {
            package::with_all_required(named)
        };
        packages.extend(locked);
        let system = manifest.system.packages.names().filter_map(|name| name.strip_prefix("python3-"));
        packages.extend(system.map(str::to_owned));
        // What an extra brings along is not known.
        let are_known = wanted.iter().all(|one| package::is_known_package(&one.name) && !one.text.contains('['));
        let asked = manifest.python.as_ref().and_then(|python| python.version.as_ref()?.meant().ok().copied());
        let suite = match manifest.base.meant().map(|base| base.named()) {
            Ok(Named::Debian(suite)) => Some(suite.python()),
            _ => None,
        };
        let is_complete = subject.lock_fits || are_known;
        // Commands install what they like, and Debian's packages bring others of Python along; libraries do not.
        let is_closed = manifest.system.run.is_empty()
            && manifest.system.packages.names().all(|name| name.starts_with("lib"))
            && !manifest.service.command.iter().any(|word| word.contains("PYTHONPATH"));
        Self {
            is_listed: is_complete
                && is_closed
                && !elsewhere
                && packages.iter().all(|name| package::is_known_package(name)),
            packages,
            python: asked.or(suite),
            nothing: wanted.is_empty() && subject.locked.is_empty(),
            is_complete,
            elsewhere,
        }
    }

    fn judge(&self, subject: &Subject<'_>, import: &Import) -> Option<Mistake> {
        let module = import.module.as_str();
        let top = package::top(module);
        let is_sure = package::is_known(module) && self.is_complete
            || self.is_listed
            || self.nothing && !self.elsewhere
            || package::standard_versions(top).is_some();
        let full: Vec<String> = import.names.iter().map(|name| format!("{module}.{name}")).collect();
        let brings = |package: &String| {
            package::may_bring(package, module) || full.iter().any(|name| package::may_bring(package, name))
        };
        if top.starts_with('_')
            || top == "ekiben_service"
            || package::is_standard(top, self.python)
            || self.packages.iter().any(brings)
        {
            return None;
        }
        let here = |path: &str| subject.root.join(path).is_file();
        let own = [format!("{top}.py"), format!("{top}/__init__.py")].into_iter().find(|path| here(path));
        if let Some(own) = own {
            let entry = if own.ends_with("/__init__.py") { top } else { &own };
            return Some(Mistake {
                code: Code::ImportNotPacked,
                message: format!("`{own}` is imported, and not packed"),
                help: format!("add it to the manifest: `include: [{entry}]`"),
            });
        }
        if !is_sure {
            return None;
        }
        let proposal = package::proposal(module).filter(|_| package::is_known(module));
        let (message, proposal) = match (package::standard_versions(top), self.python) {
            (Some((first, last)), Some(python)) => {
                (format!("`{top}` is part of Python {first} to {last}, and this is Python {python}"), proposal)
            }
            _ => (format!("`{module}` is imported, and no requirement brings it"), proposal),
        };
        let place = match subject.manifest.python.as_ref().map(|python| &python.requirements) {
            Some(Requirements::File(file)) => format!("`{file}`"),
            Some(Requirements::List(_)) => "`python.requirements`".to_owned(),
            None => "the manifest, as `python: {requirements: […]}`".to_owned(),
        };
        let what = proposal.map_or_else(|| "the package that brings it".to_owned(), |package| format!("`{package}`"));
        let help = match package::standard_versions(top) {
            Some(_) if !package::is_known(module) => "ask for a Python that has it, or do without it".to_owned(),
            None if !package::is_known(module) => format!(
                "add {what} to {place}; a module of the project needs its file, as `{}.py` beside the one that imports it",
                module.replace('.', "/")
            ),
            _ => format!("add {what} to {place}"),
        };
        Some(Mistake { code: Code::NotBrought, message, help })
    }
}
