//! Images as bases: in a registry, in an OCI image layout, in a docker archive (how files become one is in `files`).
//!
//! Invariant: a locked base is the same bytes for ever, as it is named by the digest of its manifest. Its layers stay
//! where they are until somebody needs their content: a push to a registry that has them needs none of it.

mod libraries;

use std::collections::BTreeMap;
use std::io;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
use super::debian::Suite;
use super::files::{import_archive, import_layout};
use crate::base::python::bytecode;
use crate::formats::python::PythonVersion;
use crate::image::layer;
use crate::image::oci::platform::Platform;
use crate::image::registry::{self, Reference};
use crate::image::session::Session;
use crate::image::{Image, remote};
use crate::io::archive::{self, ArchivePath};
use crate::io::digest::Digest;

/// Where a base is, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a registry.
    Registry(Reference),
    /// In an OCI image layout, a folder.
    Layout(PathBuf),
    /// In an archive as `docker save` writes it.
    DockerArchive(PathBuf),
}

impl Place {
    /// The official image of the Python `version`.
    pub(super) fn official(version: PythonVersion) -> Result<Self, Error> {
        official_python(version).parse().map(Self::Registry).map_err(io::Error::other).map_err(Error::Io)
    }

    /// Paths are meant from the project's folder.
    pub(super) fn below(self, root: &Path) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference),
            Self::Layout(path) => Self::Layout(root.join(path)),
            Self::DockerArchive(path) => Self::DockerArchive(root.join(path)),
        }
    }

    /// The digest of the manifest for `platform`, as the place has it now. Manifest and configuration are in the store
    /// then.
    pub(super) fn resolve(&self, session: &Session, platform: Platform) -> Result<Digest, Error> {
        let digest = match self {
            Self::Registry(reference) => {
                let (_, image) = remote::find(session, reference, platform)?;
                image.save(&session.store)?.0
            }
            Self::Layout(path) => import_layout(session, path, platform)?,
            Self::DockerArchive(path) => import_archive(session, path)?,
        };
        let image = Image::load(&session.store, &digest)?;
        if image.platform() != platform {
            let (wanted, has) = (platform, image.platform());
            return Err(Error::OtherPlatform { base: self.to_string(), wanted, has });
        }
        Ok(digest)
    }

    /// The image that was locked. It is fetched from where the manifest says when it is not in the store.
    pub(super) fn load(&self, session: &Session, digest: &Digest, platform: Platform) -> Result<Image, Error> {
        if !session.store.has_blob(digest) {
            match self {
                Self::Registry(reference) => drop(remote::find(session, &reference.at(*digest), platform)?),
                _ => {
                    if self.resolve(session, platform)? != *digest {
                        return Err(Error::Changed { base: self.to_string() });
                    }
                }
            }
        }
        Ok(Image::load(&session.store, digest)?)
    }
}

/// The image that has a Python that no suite of Debian has.
pub fn official_python(version: PythonVersion) -> String {
    format!("docker.io/library/python:{version}-slim")
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
        }
    }
}

/// The unpacked layers of a base, looked at as if they lay over each other.
pub(super) struct Stack {
    layers: archive::Stack,
}

impl Stack {
    /// Fetches and unpacks what is missing.
    pub(super) fn of(session: &Session, image: &Image) -> Result<Self, Error> {
        Ok(Self { layers: archive::Stack::new(&trees(session, image)?) })
    }

    /// Those in `trees`, the lowest first.
    pub(super) fn over(trees: &[PathBuf]) -> Self {
        Self { layers: archive::Stack::new(trees) }
    }

    /// The file that `path`, from the root, leads to; through links, as within the image.
    pub(super) fn find(&self, path: &str) -> Option<PathBuf> {
        self.layers.find(Path::new(path)).map(|(_, real)| real).filter(|real| real.is_file())
    }

    fn entry(&self, path: &ArchivePath) -> Option<PathBuf> {
        self.layers.entry(Path::new(path.as_str()))
    }

    /// Whether there is a folder at `path`, from the root, and no link to one.
    pub(super) fn has_folder(&self, path: &ArchivePath) -> bool {
        self.entry(path).is_some_and(|real| real.is_dir() && !real.is_symlink())
    }

    /// Whether there is anything at `path`, from the root.
    pub(super) fn has(&self, path: &ArchivePath) -> bool {
        self.entry(path).is_some()
    }

    /// Python's own modules below `library`, from the root, that have no bytecode beside them, by their paths below it.
    /// They are for the Python `python`.
    pub(super) fn uncompiled(
        &self,
        library: &ArchivePath,
        python: PythonVersion,
    ) -> Result<Vec<(ArchivePath, PathBuf)>, Error> {
        let mut found = BTreeMap::new();
        // Packages of the base are none of an environment's.
        let is_own =
            |entry: &ignore::DirEntry| !["site-packages", "dist-packages"].iter().any(|n| entry.file_name() == *n);
        for tree in self.layers.trees().iter().filter(|tree| is_plain(tree, library)) {
            let root = library.under(tree);
            let walk = ignore::WalkBuilder::new(&root).standard_filters(false).filter_entry(is_own).build();
            for entry in walk {
                let real = entry.map_err(io::Error::other)?.into_path();
                if real.extension().is_none_or(|extension| extension != "py") {
                    continue;
                }
                let inside = real.strip_prefix(&root).map_err(io::Error::other)?;
                let inside = ArchivePath::from_path(inside).map_err(io::Error::other)?;
                let path = library.join(&inside);
                let Some(cache) = bytecode::place_of(&path, python) else { continue };
                // What an upper layer has another one of, or has deleted, is not there.
                if self.find(path.as_str()).as_ref() == Some(&real) && self.find(cache.as_str()).is_none() {
                    found.insert(inside, real);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What Debian's package manager has noted: its own book, and the leaves of it that distroless images have.
    pub(super) fn installed(&self) -> Result<String, Error> {
        let mut text = self.text("/var/lib/dpkg/status")?;
        for tree in self.layers.trees() {
            let Ok(entries) = fs::read_dir(tree.join("var/lib/dpkg/status.d")) else { continue };
            let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            // Some have lists of digests beside each leaf.
            for file in
                files.iter().filter(|file| file.is_file() && file.extension().is_none_or(|end| end != "md5sums"))
            {
                let leaf = fs::read_to_string(file)?;
                // The book says of each that it is installed; leaves do not need to.
                text.push_str(&format!("\n{}\n", leaf.trim_end()));
            }
        }
        Ok(text)
    }

    /// The suite of Debian that it says it is of, where that is known here (os-release(5)).
    pub(super) fn suite(&self) -> Result<Option<Suite>, Error> {
        let release = self.text("/etc/os-release")?;
        let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        Ok(suite.and_then(|name| name.trim_matches('"').parse().ok()))
    }

    /// The text of a file; empty where there is none.
    pub(super) fn text(&self, path: &str) -> Result<String, Error> {
        String::from_utf8(self.bytes(path)?).map_err(|error| io::Error::other(format!("{path}: {error}")).into())
    }

    /// The bytes of a file; none where there is none.
    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>, Error> {
        Ok(self.find(path).map(fs::read).transpose()?.unwrap_or_default())
    }

    /// As [`Self::bytes`], but no more than the first `most` bytes.
    pub(super) fn beginning(&self, path: &str, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if let Some(path) = self.find(path) {
            fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Where the Python `wanted` is; or any, the newest, where none is wanted.
    pub(super) fn python(&self, wanted: Option<PythonVersion>) -> Option<String> {
        let versions: Vec<PythonVersion> = match wanted {
            Some(wanted) => vec![wanted],
            None => (7..40).rev().map(|minor| PythonVersion::new(3, minor)).collect(),
        };
        let places = ["/usr/local/bin", "/usr/bin", "/opt/conda/bin", "/opt/venv/bin"];
        let mut all = versions.iter().flat_map(|version| places.map(|place| format!("{place}/python{version}")));
        all.find(|path| self.find(path).is_some())
    }

    /// The version of the C library: GNU's names itself in its own bytes.
    pub(super) fn glibc(&self, platform: Platform) -> Option<(u32, u32)> {
        const MARK: &[u8] = b"GNU C Library";
        let multiarch = platform.multiarch();
        let folders =
            [format!("/usr/lib/{multiarch}"), format!("/lib/{multiarch}"), "/usr/lib64".into(), "/lib64".into()];
        let file = folders.iter().find_map(|folder| self.find(&format!("{folder}/libc.so.6")))?;
        let bytes = fs::read(file).ok()?;
        let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
        let banner: String = bytes.get(at..)?.iter().take(120).map(|&byte| char::from(byte)).collect();
        let number = banner.split_once("version ")?.1.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let (major, minor) = number.trim_end_matches('.').split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    }
}

/// Whether a tree has the folder `path`, without a link on the way.
fn is_plain(tree: &Path, path: &ArchivePath) -> bool {
    let folders = path.ancestors().chain([path.clone()]);
    folders.map(|folder| fs::symlink_metadata(folder.under(tree))).all(|it| it.is_ok_and(|it| it.is_dir()))
}

/// Lays unpacked layers, the lowest first, over each other in the folder `into`, for whom no kernel mounts them. Their
/// files are linked, not copied.
///
/// # Errors
/// When they cannot be read, or `into` is on another file system or cannot be written.
pub fn merge(trees: &[PathBuf], into: &Path) -> Result<(), Error> {
    for tree in trees {
        for entry in ignore::WalkBuilder::new(tree).standard_filters(false).build().skip(1) {
            let entry = entry.map_err(io::Error::other)?;
            let (real, kind) = (entry.path(), entry.metadata().map_err(io::Error::other)?.file_type());
            // Folders come before what is in them, so there is never a link on the way.
            let to = into.join(real.strip_prefix(tree).map_err(io::Error::other)?);
            match fs::symlink_metadata(&to) {
                Ok(there) if there.is_dir() && kind.is_dir() && !archive::is_opaque(real) => continue,
                Ok(there) if there.is_dir() => fs::remove_dir_all(&to)?,
                Ok(_) => fs::remove_file(&to)?,
                Err(_) => {}
            }
            match () {
                () if kind.is_dir() => fs::create_dir(&to)?,
                () if kind.is_symlink() => fs_err::os::unix::fs::symlink(fs::read_link(real)?, &to)?,
                () if kind.is_file() => fs::hard_link(real, &to)?,
                // What was deleted.
                () => {}
            }
        }
    }
    Ok(())
}

/// The image's layers unpacked, the lowest first; fetched where they are still in a registry.
pub(super) fn trees(session: &Session, image: &Image) -> Result<Vec<PathBuf>, Error> {
    registry::fetch(session, image.layers()).map_err(crate::image::Error::from)?;
    let layers: Vec<_> = image.layers().iter().collect();
    Ok(layer::unpack_all(&session.store, &session.progress, &layers, |_| ())?.lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::archive::Mode;
    use crate::io::archive::{Below, Entry, Limits, Writer};

    /// Layers of these files, unpacked. What ends in `/` is a folder, what has `->` in it a link.
    fn unpacked(layers: &[&[&str]]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let home = tempfile::tempdir().unwrap();
        let mut trees = Vec::new();
        for (number, names) in layers.iter().enumerate() {
            let mut writer = Writer::new(Vec::new());
            for name in *names {
                let path = |name: &str| ArchivePath::new(name).unwrap();
                let content = number.to_string();
                match (name.strip_suffix('/'), name.split_once("->")) {
                    (Some(folder), _) => writer.entry(&Entry::directory(path(folder))).unwrap(),
                    (_, Some((link, target))) => writer.entry(&Entry::symlink(path(link), target)).unwrap(),
                    _ => writer.file(&Entry::file(path(name), 1, Mode::Plain), content.as_bytes()).unwrap(),
                }
            }
            let tree = home.path().join(format!("tree{number}"));
            fs::create_dir(&tree).unwrap();
            let layer = writer.finish().unwrap();
            let below = archive::Stack::new(&trees);
            archive::unpack_layer(&layer[..], &tree, Below::Layers(&below), Limits::default()).unwrap();
            trees.push(tree);
        }
        (home, trees)
    }

    #[test]
    fn layers_lie_over_each_other_as_mounted_ones_do() {
        let lower: &[&str] = &["a/kept", "a/gone", "b/deep/gone", "c/file", "d/x", "e", "f->a", "g/in", "h->/a"];
        let upper: &[&str] = &[
            "a/.wh.gone",
            "b/deep/new",
            "b/.wh..wh..opq",
            "c->a",
            "d/x/",
            "d/x/inner",
            "e/",
            "e/inner",
            "f/",
            "f/kept",
            ".wh.g",
        ];
        let (home, trees) = unpacked(&[lower, upper]);
        let merged = home.path().join("merged");
        fs::create_dir(&merged).unwrap();
        merge(&trees, &merged).unwrap();
        let stack = Stack { layers: archive::Stack::new(&trees) };
        let all = "a/kept a/gone b/deep/gone b/deep/new c/file c/kept d/x d/x/inner e e/inner f/kept g/in h/kept";
        let there: Vec<_> = all.split(' ').filter(|path| stack.find(path).is_some()).collect();
        assert_eq!(there.join(" "), "a/kept b/deep/new c/kept d/x/inner e/inner f/kept h/kept");
        // The same in the folder, but for the link that starts at the root.
        let there: Vec<_> = all.split(' ').filter(|path| merged.join(path).is_file()).collect();
        assert_eq!(there.join(" "), "a/kept b/deep/new c/kept d/x/inner e/inner f/kept");
        assert_eq!(fs::read(merged.join("f/kept")).unwrap(), b"1");
        assert_eq!(stack.bytes("f/kept").unwrap(), b"1");
        let path = |text: &str| ArchivePath::new(text).unwrap();
        assert!(stack.has(&path("c")) && !stack.has_folder(&path("c")) && stack.has_folder(&path("f")));
        assert!(!stack.has(&path("g")) && !stack.has(&path("b/deep/gone")));
    }

    #[test]
    fn modules_without_bytecode_are_found_through_all_layers() {
        let lower: &[&str] = &[
            "usr/lib/python3.11/os.py",
            "usr/lib/python3.11/old.py",
            "usr/lib/python3.11/json/decoder.py",
            "usr/lib/python3.11/json/__pycache__/decoder.cpython-311.pyc",
            "usr/lib/python3.11/site-packages/pip.py",
        ];
        let upper: &[&str] =
            &["usr/lib/python3.11/.wh.old.py", "usr/lib/python3.11/new.py", "usr/lib/python3.11/x.txt"];
        let (_home, trees) = unpacked(&[lower, upper]);
        let stack = Stack { layers: archive::Stack::new(&trees) };
        let library = ArchivePath::new("usr/lib/python3.11").unwrap();
        let found = stack.uncompiled(&library, PythonVersion::new(3, 11)).unwrap();
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["new.py", "os.py"]);
    }
}
