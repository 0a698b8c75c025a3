//! The person's own code beside a model: the modules that loading it imports, and what those import of their neighbours.
//!
//! The source is parsed, never run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
use super::part::Part;
use super::proposal::Module;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{MAX_BYTES, read_text, shown};
use crate::formats::{classes, package, source};
use crate::io::archive::ArchivePath;
use crate::project::files::PASSED;

/// Files of code that are taken along.
const MOST: usize = 1000;

/// Files of code in one folder that are looked into for classes.
const MOST_MODULES: usize = 100;

/// Folders within a package that are looked into.
const DEEPEST: usize = 16;

/// The service's own file, where a neighbour may be called just so.
const SERVICE: &str = "predict.py";

/// Code of the person's own.
#[derive(Debug, Default)]
pub struct Own {
    /// Its files, as they lie in the project.
    pub parts: Vec<Part>,
    /// Modules that it imports and that are none of it, each with the file that does.
    pub imports: Vec<(String, String)>,
}

impl Own {
    /// The files of `modules` that lie in one of `folders`, the first that has each, with all that these import from there.
    ///
    /// # Errors
    /// When there are too many.
    pub fn of(folders: &[PathBuf], modules: &[String]) -> Result<Self, Error> {
        let mut own = Self::default();
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<(String, Option<String>)> = modules.iter().map(|module| (module.clone(), None)).collect();
        while let Some((module, importer)) = ahead.pop() {
            let top = package::top(&module).to_owned();
            if !seen.insert(top.clone()) {
                continue;
            }
            let found = folders.iter().find_map(|folder| Some((folder, files_of(folder, &top)?)));
            let Some((folder, files)) = found else {
                own.imports.extend(importer.map(|importer| (module, importer)));
                continue;
            };
            for host in files {
                let path = own.add(folder, host)?;
                ahead.extend(
                    path.into_iter().flat_map(|(name, imports)| {
                        imports.into_iter().map(move |import| (import, Some(name.clone())))
                    }),
                );
            }
        }
        own.parts.sort_by(|a, b| a.path.cmp(&b.path));
        own.imports.sort();
        Ok(own)
    }

    /// Takes a file of a module in `folder` along; gives its name and what it imports.
    fn add(&mut self, folder: &Path, host: PathBuf) -> Result<Option<(String, Vec<String>)>, Error> {
        if self.parts.len() >= MOST {
            return Err(Error::TooMany(host));
        }
        let path =
            host.strip_prefix(folder).ok().and_then(|below| ArchivePath::from_path(&Path::new("src").join(below)).ok());
        let Some(path) = path else { return Ok(None) };
        let text = read_text(&host, &shown(&host), MAX_BYTES, &mut Diagnostics::new());
        let imports = text.and_then(|text| source::imports(text.text()).ok()).map(|imports| imports.modules);
        let imports = imports.unwrap_or_default().into_iter().filter(|import| import.level == 0);
        let imports =
            imports.map(|import| import.module).filter(|module| !package::is_standard(module, None)).collect();
        let name = path.as_str().trim_start_matches("src/").to_owned();
        self.parts.push(Part { path, host });
        Ok(Some((name, imports)))
    }

    /// The text of a module among it.
    pub fn text(&self, module: &str) -> Option<String> {
        let name = module.replace('.', "/");
        let places = [format!("src/{name}.py"), format!("src/{name}/__init__.py")];
        let part = self.parts.iter().find(|part| places.iter().any(|place| part.path.as_str() == place))?;
        read_text(&part.host, &shown(&part.host), MAX_BYTES, &mut Diagnostics::new()).map(|text| text.text().to_owned())
    }
}

/// The files of a module that lies in `folder`; none where there is none.
fn files_of(folder: &Path, top: &str) -> Option<Vec<PathBuf>> {
    let regular = |host: &Path| host.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let file = folder.join(format!("{top}.py"));
    if regular(&file) {
        return Some(vec![file]).filter(|_| format!("{top}.py") != SERVICE);
    }
    let package = folder.join(top);
    if top.is_empty() || PASSED.contains(&top) || !package.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return None;
    }
    let walk = ignore::WalkBuilder::new(&package)
        .standard_filters(false)
        .max_depth(Some(DEEPEST))
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| !PASSED.iter().any(|name| entry.file_name() == *name))
        .build();
    let files = walk.filter_map(|entry| entry.ok()).map(ignore::DirEntry::into_path);
    let files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "py") && regular(path))
        .take(MOST + 1)
        .collect();
    Some(files).filter(|files| !files.is_empty())
}

/// The modules that lie in `folders` themselves, with the classes of each: of two with one name that of the first folder.
/// What cannot be read is none.
pub fn modules(folders: &[PathBuf]) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let is_code = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "py");
        let mut files: Vec<PathBuf> = entries.filter(is_code).filter(|path| !path.ends_with(SERVICE)).collect();
        files.sort();
        for file in files.into_iter().take(MOST_MODULES) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            let is_file = file.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_name || !is_file || modules.iter().any(|module| module.name == name) {
                continue;
            }
            let text = read_text(&file, &shown(&file), MAX_BYTES, &mut Diagnostics::new());
            let classes = text.and_then(|text| classes::classes(text.text()).ok());
            modules.extend(classes.map(|classes| Module { name, classes }));
        }
    }
    modules
}

/// Where code of the person's own may lie, for a model in `folder`: beside it, and in `src` of the project.
pub fn places(folder: &Path, project: Option<&Path>) -> Vec<PathBuf> {
    let beside = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut places = vec![beside.to_owned()];
    places.extend(project.map(|project| project.join("src")).filter(|folder| fs::metadata(folder).is_ok()));
    places
}
