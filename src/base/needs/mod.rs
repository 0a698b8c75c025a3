//! What the compiled parts of Python packages need of the layers below them, and who needs it.
//!
//! A wheel may count on libraries of the system, and nothing that installs it asks whether they are there: the first
//! request does, with `cannot open shared object file`. Here it is read from the ELF headers of an environment before it
//! becomes a layer: each `DT_NEEDED` that neither the folders of the file (`DT_RUNPATH`, `$ORIGIN`) nor anything else in the
//! environment has is a need. A library that another wheel brings under the same name is none: packages load such by
//! themselves (`torch` those of `nvidia/*/lib`).
//!
//! A need is *certain* where a module has it that `import` loads, a library that Python source beside it or above names
//! (`ctypes` loads it: LightGBM's, XGBoost's), or a library that one of those needs. What else lies in a wheel is loaded when
//! something asks for it, or by nobody: the plugins of Qt, the vendors' ones of LiteRT.

mod program;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

pub use program::Program;

use crate::base::loader::{self, Linkage};
use crate::base::python::{self, Target};
use crate::io::archive::{ArchivePath, Walk};

/// Libraries that come with the driver of a device, when the image is run on a machine that has one.
const DRIVERS: [&str; 6] =
    ["libcuda.so", "libnvidia-", "libnvcuvid.so", "libcudadebugger.so", "libnvoptix.so", "libdxcore.so"];

/// Modules that their package tries, and does without: in which folder a name begins how. What they need is no need. Found
/// by looking through forty of the wheels that models are served with.
const TRIED: [(&str, &str); 2] = [("numba/np/ufunc", "tbbpool."), ("numba/np/ufunc", "omppool.")];

/// Names of libraries that are looked for in the layers below an environment, and who needs each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    libraries: BTreeMap<String, Need>,
}

/// Who needs a library: one file of possibly many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The file, from the folder of the packages: `lightgbm/lib/lib_lightgbm.so`.
    pub file: String,
    /// Its package, as `lightgbm 4.6.0`; none where no package says that the file is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Whether whoever imports the package needs it.
    pub is_certain: bool,
}

impl Needs {
    /// What the environment in the folder `venv` needs, whose packages are for `target`. Only headers are read.
    ///
    /// # Errors
    /// When the disk says no, or a package does not say what is its own.
    pub fn of(venv: &Path, target: &Target) -> Result<Self, python::Error> {
        let site = ArchivePath::new(python::site_packages(target.python)).map_err(io::Error::other)?;
        let mut objects = objects(venv, target)?;
        objects.retain(|path, _| path.below(&site).is_none_or(|inside| !is_tried(&inside)));
        let environment = Environment::new(&objects);
        let mut sources = Sources { site: site.under(venv), texts: BTreeMap::new() };
        let mut modules = Vec::new();
        for path in objects.keys() {
            if let Some(inside) = path.below(&site)
                && is_loaded(&inside, &mut sources)?
            {
                modules.push(path);
            }
        }
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        environment.follow(modules, true, &mut seen, &mut found);
        environment.follow(objects.keys().collect(), false, &mut seen, &mut found);
        if found.is_empty() {
            return Ok(Self::default());
        }
        let owners = python::owners(venv, target.python)?;
        let libraries = found.into_iter().map(|(library, (path, is_certain))| {
            let file = path.below(&site).map_or_else(|| path.to_string(), |inside| inside.to_string());
            let package = owners.get(&file).cloned();
            (library.to_owned(), Need { file, package, is_certain })
        });
        Ok(Self { libraries: libraries.collect() })
    }

    /// Those of which `has` does not know.
    pub fn lacking(&self, has: impl Fn(&str) -> bool) -> Self {
        let libraries = self.libraries.iter().filter(|(library, _)| !has(library));
        Self { libraries: libraries.map(|(library, need)| (library.clone(), need.clone())).collect() }
    }

    /// The libraries that are needed for certain.
    pub fn certain(&self) -> BTreeSet<&str> {
        self.iter().filter(|(_, need)| need.is_certain).map(|(library, _)| library).collect()
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// Libraries by their names, and who needs each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Need)> {
        self.libraries.iter().map(|(library, need)| (library.as_str(), need))
    }
}

/// Whether whoever uses its package loads the library at `path`, from the folder of the packages. `import` finds modules by
/// their ends, `_x.cpython-311-x86_64-linux-gnu.so` and `_x.abi3.so`; a plain `_x.so` may be a module or anything else.
fn is_loaded(path: &ArchivePath, sources: &mut Sources) -> Result<bool, io::Error> {
    let Some(stem) = path.name().strip_suffix(".so") else { return Ok(false) };
    match stem.split_once('.') {
        Some((_, tag)) => Ok(tag == "abi3" || tag.starts_with("cpython-")),
        None => sources.name(path, stem),
    }
}

/// Whether its package tries the module at `path`, from the folder of the packages, and does without.
fn is_tried(path: &ArchivePath) -> bool {
    let folder = path.parent();
    let is_in = |place: &str| folder.as_ref().is_some_and(|folder| folder.as_str() == place);
    TRIED.iter().any(|(place, start)| is_in(place) && path.name().starts_with(start))
}

/// The Python source of an environment, as far as it was asked for.
struct Sources {
    site: PathBuf,
    /// By the folder that it lies in.
    texts: BTreeMap<PathBuf, String>,
}

impl Sources {
    /// Largest file that is read, in bytes: code that people have written is smaller.
    const LARGEST: u64 = 4 << 20;

    /// Whether source beside the library at `path`, or in a folder above it, has the word `stem`.
    fn name(&mut self, path: &ArchivePath, stem: &str) -> io::Result<bool> {
        let above = path.ancestors().map(|folder| folder.under(&self.site));
        for folder in above.chain([self.site.clone()]).collect::<Vec<_>>() {
            let text = match self.texts.entry(folder) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let text = source(place.key())?;
                    place.insert(text)
                }
            };
            if text.contains(stem) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The text of all Python source that lies in `folder` itself.
fn source(folder: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") && fs::symlink_metadata(&path)?.is_file() {
            fs::File::open(&path)?.take(Sources::LARGEST).read_to_end(&mut text)?;
            // Words do not go on in the next file.
            text.push(b'\n');
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The shared libraries of an environment by their paths in it.
fn objects(venv: &Path, target: &Target) -> Result<BTreeMap<ArchivePath, Linkage>, python::Error> {
    let mut objects = BTreeMap::new();
    let walk = ignore::WalkBuilder::new(venv).standard_filters(false).follow_links(false).build();
    for entry in walk {
        let entry = entry.map_err(io::Error::other)?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if !is_file || !entry.file_name().to_str().is_some_and(loader::is_library_name) {
            continue;
        }
        let inside = entry.path().strip_prefix(venv).map_err(io::Error::other)?;
        let path = ArchivePath::from_path(inside).map_err(io::Error::other)?;
        let file = fs::File::open(entry.path())?;
        let size = file.metadata()?.len();
        let read_at = |offset, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
        if let Some(linkage) = loader::read_linkage(size, target.platform, read_at)? {
            objects.insert(path, linkage);
        }
    }
    Ok(objects)
}

/// The libraries of an environment, as they find each other.
struct Environment<'a> {
    objects: &'a BTreeMap<ArchivePath, Linkage>,
    /// By their files' names, and by what they call themselves.
    named: BTreeMap<&'a str, BTreeSet<&'a ArchivePath>>,
}

impl<'a> Environment<'a> {
    fn new(objects: &'a BTreeMap<ArchivePath, Linkage>) -> Self {
        let mut named = BTreeMap::<_, BTreeSet<_>>::new();
        for (path, linkage) in objects {
            for name in std::iter::once(path.name()).chain(linkage.soname.as_deref()) {
                named.entry(name).or_default().insert(path);
            }
        }
        Self { objects, named }
    }

    /// Adds to `found` what `files`, and the libraries in here that they need, look for elsewhere: who needs it, and
    /// whether that is certain. What is in `seen` was looked at.
    fn follow(
        &self,
        files: Vec<&'a ArchivePath>,
        is_certain: bool,
        seen: &mut BTreeSet<&'a ArchivePath>,
        found: &mut BTreeMap<&'a str, (&'a ArchivePath, bool)>,
    ) {
        // The first of the files comes first: which one is named does not depend on the order on the disk.
        let mut files: Vec<_> = files.into_iter().rev().collect();
        while let Some(path) = files.pop() {
            let Some(linkage) = self.objects.get(path).filter(|_| seen.insert(path)) else { continue };
            for library in linkage.needed.iter().filter(|name| !is_of_driver(name)) {
                match self.find(path, linkage, library) {
                    Some(others) => files.extend(others),
                    None => drop(found.entry(library).or_insert((path, is_certain))),
                }
            }
        }
    }

    /// The file that `linkage`, which is at `path`, means by `library`: in its own folders, else all that are called so.
    fn find(&self, path: &ArchivePath, linkage: &Linkage, library: &str) -> Option<Vec<&'a ArchivePath>> {
        let all = self.named.get(library)?;
        let own = linkage.folders.iter().find_map(|folder| {
            let inside = folder.strip_prefix("$ORIGIN").or_else(|| folder.strip_prefix("${ORIGIN}"))?;
            let origin = path.parent().map(|folder| folder.to_string()).unwrap_or_default();
            let mut walk = Walk::new(Path::new(&format!("{origin}/{inside}/{library}")));
            while walk.step().is_some() {}
            let place = ArchivePath::from_path(&walk.into_place()).ok()?;
            all.get(&place).copied()
        });
        Some(own.map_or_else(|| all.iter().copied().collect(), |own| vec![own]))
    }
}

fn is_of_driver(library: &str) -> bool {
    DRIVERS.iter().any(|driver| library.starts_with(driver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::loader::linked;
    use crate::formats::python::PythonVersion;
    use crate::image::oci::platform::Platform;

    const SITE: &str = "lib/python3.11/site-packages";

    /// What an environment needs that has `libraries` (paths, needs and folders) and `texts`: `library file certain`.
    fn needs(libraries: &[(&str, &[&str], &str)], texts: &[(&str, &str)]) -> Vec<String> {
        let venv = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &[u8]| {
            let path = venv.path().join(SITE).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for (path, needed, folders) in libraries {
            put(path, &linked(path.rsplit('/').next().unwrap(), needed, folders));
        }
        texts.iter().for_each(|(path, text)| put(path, text.as_bytes()));
        let target = Target { python: PythonVersion::new(3, 11), platform: Platform::Amd64, glibc: (2, 36) };
        let needs = Needs::of(venv.path(), &target).unwrap();
        assert_eq!(needs.lacking(|_| true), Needs::default());
        let text = |(library, need): (&str, &Need)| {
            let package = need.package.as_ref().map(|package| format!(" of {package}")).unwrap_or_default();
            format!("{library} by {}{package}{}", need.file, if need.is_certain { "" } else { ", perhaps" })
        };
        needs.iter().map(text).collect()
    }

    #[test]
    fn a_module_needs_what_nothing_in_the_environment_has() {
        let module = "a/_a.cpython-311-x86_64-linux-gnu.so";
        let record = ("a-1.0.dist-info/RECORD", "a/_a.cpython-311-x86_64-linux-gnu.so,,\n");
        assert_eq!(
            needs(&[(module, &["libgomp.so.1"], "")], &[record]),
            [format!("libgomp.so.1 by {module} of a 1.0")]
        );
        // Of its own folder, of another wheel, of a driver.
        let own = [
            (
                module,
                &["libone.so.1", "libtwo.so.2", "libcuda.so.1", "libnvidia-ml.so.1"][..],
                "/opt:$ORIGIN/../a.libs",
            ),
            ("a.libs/libone.so.1", &["libthree.so.3"], ""),
            ("b/libone.so.1", &["libnot.so"], ""),
            ("b/lib/libtwo.so.2", &["libone.so.1"], "${ORIGIN}/../../a.libs"),
        ];
        let found = needs(&own, &[]);
        assert_eq!(found, ["libnot.so by b/libone.so.1, perhaps", "libthree.so.3 by a.libs/libone.so.1"]);
    }

    #[test]
    fn what_nothing_is_known_to_load_is_not_certain() {
        let library = |path| [(path, &["libx.so.1"][..], "")];
        for (path, texts, certain) in [
            ("a/lib/lib_a.so", &[("a/libpath.py", "find('lib_a.so')")][..], true),
            ("a/_a.so", &[("a/core.py", "from . import _a\n")], true),
            ("_a.so", &[("a.py", "import _a\n")], true),
            ("a/_a.abi3.so", &[], true),
            ("a/lib/lib_a.so", &[("b/libpath.py", "lib_a.so")], false),
            ("a/qt/plugins/libqxcb.so", &[("a/__init__.py", "import os\n")], false),
            ("a/lib/liba.so.1", &[("a/__init__.py", "liba.so.1")], false),
        ] {
            let end = if certain { "" } else { ", perhaps" };
            assert_eq!(needs(&library(path), texts), [format!("libx.so.1 by {path}{end}")]);
        }
        assert!(needs(&library("numba/np/ufunc/tbbpool.cpython-311-x86_64-linux-gnu.so"), &[]).is_empty());
    }

    #[test]
    fn libraries_that_need_each_other_are_looked_at_once() {
        let round = [("a.abi3.so", &["libb.so"][..], ""), ("libb.so", &["a.abi3.so", "libb.so"], "")];
        assert!(needs(&round, &[]).is_empty());
        // A folder that leads out of the environment, and one that is none.
        let out = [
            ("a.abi3.so", &["libb.so"][..], "$ORIGIN/../../../../../../../../..:$ORIGIN:$LIB:\u{e9}"),
            ("libb.so", &[], ""),
        ];
        assert!(needs(&out, &[]).is_empty());
    }
}
