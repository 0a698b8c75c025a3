//! Which files of an environment go into which layer: a very large package has one alone, so that it is not moved
//! again because another package changed; the rest share one.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err as fs;
use std::os::unix::fs::PermissionsExt as _;

use super::install::{dist_infos, site_packages};
use super::{Error, record};
use crate::formats::python::PythonVersion;
use crate::io::archive::{ArchivePath, Entry, Kind, Mode};

/// A file, or a part of one.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The file.
    pub file: PathBuf,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

impl Stored {
    /// Opens it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(&self) -> io::Result<impl Read> {
        let mut file = fs::File::open(&self.file)?;
        if self.offset > 0 {
            file.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(file.take(self.size))
    }
}

/// From this size on, with its bytecode, a package has a layer of its own. In bytes.
const LARGE: u64 = 32 << 20;
/// Most packages that have a layer of their own: runtimes take at most 127 layers in all.
const MOST: usize = 24;
/// Largest RECORD that is read, in bytes.
const LARGEST_RECORD: u64 = 64 << 20;

/// Files of an environment that make one layer.
#[derive(Clone, Debug)]
pub struct Group {
    /// As `scipy 1.17.1`; none for the rest.
    pub package: Option<String>,
    /// Of its files, in bytes.
    pub size: u64,
    /// All that is in the layer, sorted by path, folders first; files with where their content lies.
    pub entries: Vec<(Entry, Option<Stored>)>,
}

/// What the title of a layer with one package has before the package.
const TITLE: &str = "Python ";

impl Group {
    /// The title of its layer.
    pub fn title(&self) -> String {
        self.package.as_ref().map_or_else(|| format!("{TITLE}packages"), |package| format!("{TITLE}{package}"))
    }

    /// Name and version of the one package that a layer with the title `title` has.
    pub fn of_title(title: &str) -> Option<(&str, &str)> {
        let (name, version) = title.strip_prefix(TITLE)?.split_once(' ')?;
        let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains(' ');
        is_version.then_some((name, version))
    }
}

/// All files, links and empty folders of the environment in `venv`, by their paths in it; files with where their
/// content lies.
pub type Files = BTreeMap<ArchivePath, (Entry, Option<Stored>)>;

/// The files of the environment in `venv`.
///
/// # Errors
/// When a file cannot be read, or is none of a file, a folder and a link.
pub fn files(venv: &Path) -> Result<Files, Error> {
    let mut found = BTreeMap::new();
    walk(venv, None, &mut found)?;
    Ok(found)
}

/// Splits `files` of the environment in `venv`, which will lie at `place` in the image (as `/app/.venv`). Large packages
/// come first, by name, and the rest last.
///
/// # Errors
/// When what packages say of their files cannot be read.
pub fn split(files: &Files, venv: &Path, python: PythonVersion, place: &str) -> Result<Vec<Group>, Error> {
    let place = ArchivePath::new(place).map_err(|error| malformed(venv, &error))?;
    let owners = owners(venv, python)?;
    let site = format!("{}/", site_packages(python));
    let owner = |path: &ArchivePath| {
        let inside = path.as_str().strip_prefix(&site)?;
        owners.get(inside).or_else(|| owners.get(&source_of(inside)?)).map(String::as_str)
    };
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for (entry, _) in files.values() {
        if let (Some(owner), Kind::File { size }) = (owner(&entry.path), &entry.kind) {
            *sizes.entry(owner).or_default() += size;
        }
    }
    let mut large: Vec<(u64, &str)> = sizes.iter().filter(|(_, size)| **size >= LARGE).map(|(n, s)| (*s, *n)).collect();
    large.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    large.truncate(MOST);
    let mut grouped: BTreeMap<Option<&str>, Vec<(Entry, Option<Stored>)>> = BTreeMap::new();
    for (entry, source) in files.values() {
        let alone = owner(&entry.path).filter(|owner| large.iter().any(|(_, name)| name == owner));
        grouped.entry(alone).or_default().push((entry.clone(), source.clone()));
    }
    // `None` sorts first.
    let rest = grouped.remove(&None);
    let named = grouped.into_iter().map(|(package, files)| (package.map(str::to_owned), files));
    Ok(named.chain(rest.map(|files| (None, files))).map(|(package, files)| group(package, files, &place)).collect())
}

fn malformed(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Package { path: path.to_owned(), why: why.to_string() }
}

fn group(package: Option<String>, files: Vec<(Entry, Option<Stored>)>, place: &ArchivePath) -> Group {
    let mut size = 0;
    let mut entries: Files = BTreeMap::new();
    for (mut entry, source) in files {
        entry.path = place.join(&entry.path);
        for folder in entry.path.ancestors() {
            entries.entry(folder.clone()).or_insert_with(|| (Entry::directory(folder), None));
        }
        size += source.as_ref().map_or(0, |source| source.size);
        entries.insert(entry.path.clone(), (entry, source));
    }
    Group { package, size, entries: entries.into_values().collect() }
}

/// Finds what is below `folder`; `at` is its path in the environment.
fn walk(folder: &Path, at: Option<&ArchivePath>, found: &mut Files) -> Result<(), Error> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        let source = item.path();
        let name = ArchivePath::from_path(Path::new(&item.file_name())).map_err(|error| malformed(&source, &error))?;
        let path = at.map_or_else(|| name.clone(), |at| at.join(&name));
        let metadata = fs::symlink_metadata(&source)?;
        if metadata.is_dir() {
            walk(&source, Some(&path), found)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&source)?;
            let target = target.to_str().ok_or_else(|| malformed(&source, &"the link's target is not UTF-8"))?;
            found.insert(path.clone(), (Entry::symlink(path, target), None));
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let (entry, size) = (Entry::file(path.clone(), metadata.len(), Mode::of(executable)), metadata.len());
            found.insert(path, (entry, Some(Stored { file: source, offset: 0, size })));
        } else {
            return Err(malformed(&source, &"it is neither file, folder nor link"));
        }
    }
    Ok(())
}

/// Which package each file of the environment in `venv` belongs to, as `scipy 1.17.1`, by its path in site-packages.
///
/// # Errors
/// When what packages say of their files cannot be read.
pub fn owners(venv: &Path, python: PythonVersion) -> Result<BTreeMap<String, String>, Error> {
    let mut owners = BTreeMap::new();
    for info in dist_infos(&venv.join(site_packages(python)))? {
        let record = info.join("RECORD");
        if fs::metadata(&record)?.len() > LARGEST_RECORD {
            return Err(malformed(&record, &"it is too large"));
        }
        let name = info.file_stem().map(|stem| stem.to_string_lossy().replace('-', " ")).unwrap_or_default();
        for line in record::read(&fs::read_to_string(&record)?, &record)? {
            owners.insert(line.path, name.clone());
        }
    }
    Ok(owners)
}

/// The source of a file of bytecode: `a/b.py` of `a/__pycache__/b.cpython-311.pyc` (PEP 3147).
fn source_of(path: &str) -> Option<String> {
    let (folder, file) = path.split_once("__pycache__/")?;
    Some(format!("{folder}{}.py", file.strip_suffix(".pyc")?.rsplit_once('.')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_which_package_it_is() {
        let group = |package: Option<&str>| Group { package: package.map(str::to_owned), size: 0, entries: Vec::new() };
        assert_eq!(Group::of_title(&group(Some("scipy 1.17.1")).title()), Some(("scipy", "1.17.1")));
        assert_eq!(Group::of_title(&group(None).title()), None);
        assert_eq!(Group::of_title("Python 3.11 library, compiled"), None);
    }

    #[test]
    fn bytecode_knows_its_source() {
        assert_eq!(source_of("a/__pycache__/b.c.cpython-311.pyc").as_deref(), Some("a/b.c.py"));
        assert_eq!(source_of("__pycache__/six.cpython-311.pyc").as_deref(), Some("six.py"));
        assert_eq!(source_of("a/b.py"), None);
    }

    #[test]
    fn a_large_package_is_alone_with_its_bytecode() {
        let venv = tempfile::tempdir().unwrap();
        let site = venv.path().join("lib/python3.11/site-packages");
        for (name, size) in [("big", LARGE), ("small", 10)] {
            fs::create_dir_all(site.join(name).join("__pycache__")).unwrap();
            fs::create_dir_all(site.join(format!("{name}-1.0.dist-info"))).unwrap();
            fs::File::create(site.join(name).join("__init__.py")).unwrap().set_len(size).unwrap();
            fs::write(site.join(name).join("__pycache__/__init__.cpython-311.pyc"), "x").unwrap();
            fs::write(site.join(format!("{name}-1.0.dist-info/RECORD")), format!("{name}/__init__.py,,\n")).unwrap();
        }
        let groups = split(&files(venv.path()).unwrap(), venv.path(), PythonVersion::new(3, 11), "/app/.venv").unwrap();
        let names: Vec<_> = groups.iter().map(|group| group.package.as_deref()).collect();
        assert_eq!(names, [Some("big 1.0"), None]);
        assert_eq!(groups[0].size, LARGE + 1);
        let paths: Vec<_> = groups[0].entries.iter().map(|(entry, _)| entry.path.as_str()).collect();
        assert_eq!(paths[0], "app");
        assert!(paths.contains(&"app/.venv/lib/python3.11/site-packages/big/__pycache__/__init__.cpython-311.pyc"));
        assert!(!paths.iter().any(|path| path.contains("small")));
        assert_eq!(groups[1].entries.iter().filter(|(_, source)| source.is_some()).count(), 4);
    }
}
