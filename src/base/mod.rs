//! What an image stands on: from what the manifest says to locked packages, and from those to layers.
//!
//! `auto` and `debian:SUITE` are assembled from Debian packages ([`crate::base::debian`]), `scratch` is nothing at all,
//! and all else is an image that somebody else made.

pub mod debian;
mod files;
mod image;
pub mod loader;
mod name;
pub mod needs;
pub mod python;
pub mod requirements;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::loader::Libraries;
use crate::formats::document::Written;
use crate::formats::python::{NoPythonVersion, PythonVersion};
use crate::image::layer::{self, Layer};
use crate::image::oci::platform::Platform;
use crate::image::session::{Making, Session};
use crate::image::{self as images, Image};
use crate::io::archive::{ArchivePath, Entry, Kind, Mode};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use debian::{Package, Source, Suite, UnknownSuite, User, Wanted};
use image::Stack;
use python::Target;

pub use image::{Place, merge, official_python};
pub use name::{BaseName, BaseNameError, Named};

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Debian's archive or its packages.
    #[error(transparent)]
    Debian(#[from] debian::Error),
    /// The layer cannot be written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The base is an image that cannot be had.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// A registry or a layout holds something else than an image.
    #[error(transparent)]
    Registry(#[from] crate::image::registry::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A folder or file is not the image that it should be.
    #[error("there is no usable image in {}: {why}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Which file in it, and why.
        why: String,
    },
    /// There is no folder or file where the base should be.
    #[error("there is nothing at {}, where the base should be", path.display())]
    NotThere {
        /// The folder or file.
        path: PathBuf,
    },
    /// The image is for another platform.
    #[error("the base {base} is for {has}, not for {wanted}")]
    OtherPlatform {
        /// The base.
        base: String,
        /// What it should be for.
        wanted: Platform,
        /// What it is for.
        has: Platform,
    },
    /// Files hold another image than the one that was locked.
    #[error("the base {base} is another one than was locked")]
    Changed {
        /// The base.
        base: String,
    },
    /// An image lacks what the manifest needs of it.
    #[error("the base {base} has no {what}")]
    Lacks {
        /// The base.
        base: String,
        /// `Python 3.12`, `GNU C library`, `Debian packages`.
        what: String,
    },
    /// The manifest names a base of a kind that nobody knows.
    #[error("the base `{base}` cannot be used")]
    Unsupported {
        /// As the manifest has it.
        base: String,
        /// Why it is no name of a base.
        source: BaseNameError,
    },
    /// The manifest asks for no version of Python.
    #[error(transparent)]
    Python(#[from] NoPythonVersion),
    /// The lock names a suite of Debian that is not known here.
    #[error("the lock is for a base that is not known here")]
    Suite(#[from] UnknownSuite),
    /// The lock has Python packages, and says of their base nothing that they could be for.
    #[error("the lock has Python packages, and no Python in their base")]
    NoTarget,
    /// The suite has another Python than was asked for.
    #[error("Debian {suite} has Python {has}, the manifest asks for {wanted}")]
    OtherPython {
        /// Of the base.
        suite: Suite,
        /// Its Python.
        has: PythonVersion,
        /// The manifest's.
        wanted: PythonVersion,
    },
    /// Packages on a base that has no place for them.
    #[error("the base `scratch` has no {what}")]
    Scratch {
        /// `Python` or `Debian packages`.
        what: &'static str,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Debian(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Unreadable { .. } => ErrorKind::Invalid.named("base/unreadable").hint(
                "write it again, with `ekiben export` or `skopeo copy`; `skopeo inspect` says whether others can \
                 read it",
            ),
            Self::NotThere { .. } => ErrorKind::Invalid
                .named("base/not-there")
                .hint("correct `base` in the manifest: its path begins at the project's folder"),
            Self::OtherPlatform { .. } => ErrorKind::Failure.named("base/other-platform"),
            Self::Changed { .. } => {
                ErrorKind::Failure.named("base/changed").hint("renew the lock with `ekiben lock --update`")
            }
            Self::Lacks { .. } => ErrorKind::Failure.named("base/lacks").hint("choose another base, or `base: auto`"),
            Self::Unsupported { .. } => {
                ErrorKind::Failure.named("base/unsupported").hint("leave `base` out, and a Debian base is assembled")
            }
            Self::Python(_) => {
                let pythons = Suite::ALL.map(|suite| suite.python().to_string()).join(" or ");
                ErrorKind::Failure
                    .named("base/no-python")
                    .hint(format!("use Python {pythons}, which Debian's suites have"))
            }
            Self::Suite(_) => ErrorKind::Failure
                .named("base/unknown-suite")
                .hint("update ekiben, or renew the lock with `ekiben lock --update`"),
            Self::NoTarget => {
                ErrorKind::Failure.named("base/no-target").hint("renew the lock with `ekiben lock --update`")
            }
            Self::OtherPython { has, .. } => ErrorKind::Failure
                .named("base/other-python")
                .hint(format!("set `base: auto`, or `version: \"{has}\"` below `python`")),
            Self::Scratch { .. } => ErrorKind::Failure.named("base/scratch").hint("set `base: auto`"),
        }
    }
}

/// What is asked of a base, and of Debian packages on top of it.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// What it is called.
    pub base: &'a Written<BaseName>,
    /// The Python that is wanted of it; any, where it is none.
    pub python: Option<&'a Written<PythonVersion>>,
    /// Whether it has to have one.
    pub needs_python: bool,
    /// The Debian packages that are wanted on top of it, as the manifest has them.
    pub packages: &'a [String],
    /// Where Debian packages come from.
    pub debian: Wanted<'a>,
}

/// What a base comes to, before anything is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Assembled from the packages of a suite, with its Python where the manifest needs one.
    Debian {
        /// Which.
        suite: Suite,
        /// Its Python.
        python: Option<PythonVersion>,
    },
    /// An image that somebody else made.
    Image {
        /// Where it is.
        place: Place,
        /// The Python that is wanted of it; any, where the manifest names none.
        python: Option<PythonVersion>,
    },
    /// Nothing.
    Scratch,
}

/// A base as the lock has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LockedBase {
    /// Assembled from Debian packages.
    Debian {
        /// As `bookworm`. It may be one that is not known here.
        suite: String,
        /// In the order of their names.
        packages: Vec<Package>,
    },
    /// An image that somebody else made. The manifest says where.
    Image {
        /// Digest of its manifest for the platform.
        digest: Digest,
        /// Its Python: `/usr/local/bin/python3.11`; none where the model needs none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interpreter: Option<String>,
        /// Its C library, as major and minor version; none where the model needs no Python.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glibc: Option<(u32, u32)>,
    },
    /// Nothing.
    Scratch,
}

impl LockedBase {
    /// Where its Python `python` is.
    pub fn interpreter(&self, python: PythonVersion) -> String {
        match self {
            Self::Image { interpreter: Some(path), .. } => path.clone(),
            _ => format!("/usr/bin/python{python}"),
        }
    }

    /// The version of its Python, where it is an image that has one.
    pub fn python(&self) -> Option<PythonVersion> {
        match self {
            Self::Image { interpreter: Some(path), .. } => path.rsplit_once("/python")?.1.parse().ok(),
            _ => None,
        }
    }
}

impl Base {
    /// The base that `spec` asks for.
    ///
    /// # Errors
    /// When it is of a kind that cannot be read, or has not the Python that is asked for.
    pub fn of(spec: Spec<'_>) -> Result<Self, Error> {
        let wanted = spec.python.map(Written::meant).transpose()?.copied();
        let needs_python = spec.needs_python;
        let unsupported = |source| Error::Unsupported { base: spec.base.to_string(), source };
        match spec.base.meant().map_err(unsupported)?.named() {
            Named::Auto => match wanted {
                None => Ok(Self::debian(Suite::DEFAULT, needs_python)),
                Some(version) => match Suite::with_python(version) {
                    Some(suite) => Ok(Self::debian(suite, needs_python)),
                    None => Ok(Self::Image { place: Place::official(version)?, python: wanted }),
                },
            },
            Named::Scratch if needs_python => Err(Error::Scratch { what: "Python" }),
            Named::Scratch if !spec.packages.is_empty() => Err(Error::Scratch { what: "Debian packages" }),
            Named::Scratch => Ok(Self::Scratch),
            Named::Image(place) => Ok(Self::Image { place: place.clone(), python: wanted }),
            Named::Debian(suite) => match (wanted, suite.python()) {
                (Some(wanted), has) if wanted != has => Err(Error::OtherPython { suite: *suite, has, wanted }),
                _ => Ok(Self::debian(*suite, needs_python)),
            },
        }
    }

    /// The same with paths that are meant from the folder `root`.
    pub fn below(self, root: &Path) -> Self {
        match self {
            Self::Image { place, python } => Self::Image { place: place.below(root), python },
            other => other,
        }
    }

    fn debian(suite: Suite, needs_python: bool) -> Self {
        Self::Debian { suite, python: needs_python.then(|| suite.python()) }
    }

    /// The Python that it brings for packages, when it was locked as `locked`.
    pub fn python(&self, locked: &LockedBase) -> Option<PythonVersion> {
        match self {
            Self::Debian { python, .. } => *python,
            Self::Image { .. } => locked.python(),
            Self::Scratch => None,
        }
    }

    /// What Python packages on it are for, where that is known before it is locked.
    pub fn target(&self, platform: Platform) -> Option<Target> {
        match self {
            Self::Debian { suite, python: Some(python) } => {
                Some(Target { python: *python, platform, glibc: suite.glibc() })
            }
            _ => None,
        }
    }

    /// Resolves the base, and the Debian packages `system` on top of it.
    ///
    /// # Errors
    /// When Debian's archive cannot be read, or has no such packages.
    pub fn lock(
        &self,
        session: &Session,
        spec: Spec<'_>,
        system: &[String],
        platform: Platform,
    ) -> Result<(LockedBase, Vec<Package>), Error> {
        let (suite, python) = match self {
            Self::Debian { suite, python } => (*suite, *python),
            Self::Image { place, .. } => {
                let digest = place.resolve(session, platform)?;
                return lock_image(session, spec, system, &place.to_string(), digest, platform);
            }
            Self::Scratch => return Ok((LockedBase::Scratch, Vec::new())),
        };
        let base = debian::base_packages(python);
        let request = debian::Request { suite, platform, base: &base, system, installed: "" };
        let resolution = debian::resolve(session, &source(spec)?, &request)?;
        Ok((LockedBase::Debian { suite: suite.to_string(), packages: resolution.base }, resolution.system))
    }
}

/// Looks at the image `digest` of the store, which is called `name`, for what the manifest needs of it, and not at all
/// where it needs nothing; and resolves the Debian packages `system` on top of it.
///
/// # Errors
/// When it lacks what is needed, or a package cannot be had.
pub fn lock_image(
    session: &Session,
    spec: Spec<'_>,
    system: &[String],
    name: &str,
    digest: Digest,
    platform: Platform,
) -> Result<(LockedBase, Vec<Package>), Error> {
    let (needs_python, python) = (spec.needs_python, spec.python.map(Written::meant).transpose()?.copied());
    if !needs_python && system.is_empty() {
        return Ok((LockedBase::Image { digest, interpreter: None, glibc: None }, Vec::new()));
    }
    let lacks = |what: String| Error::Lacks { base: name.to_owned(), what };
    let stack = Stack::of(session, &Image::load(&session.store, &digest)?)?;
    let (mut interpreter, mut glibc) = (None, None);
    if needs_python {
        let wanted = || python.map_or_else(|| "Python".to_owned(), |version| format!("Python {version}"));
        interpreter = Some(stack.python(python).ok_or_else(|| lacks(wanted()))?);
        glibc = Some(stack.glibc(platform).ok_or_else(|| lacks("GNU C library, which wheels need".to_owned()))?);
    }
    let mut packages = Vec::new();
    if !system.is_empty() {
        let suite =
            stack.suite()?.ok_or_else(|| lacks("Debian packages, or is of a suite that is not known".to_owned()))?;
        let installed = stack.installed()?;
        let request = debian::Request { suite, platform, base: &[], system, installed: &installed };
        packages = debian::resolve(session, &source(spec)?, &request)?.system;
    }
    Ok((LockedBase::Image { digest, interpreter, glibc }, packages))
}

/// What Python packages on a locked base are for.
///
/// # Errors
/// When the lock names a suite that is not known here, or a base without Python.
pub fn target(base: &LockedBase, python: PythonVersion, platform: Platform) -> Result<Target, Error> {
    let glibc = match base {
        LockedBase::Debian { suite, .. } => suite.parse::<Suite>()?.glibc(),
        LockedBase::Image { glibc: Some(version), .. } => *version,
        LockedBase::Image { glibc: None, .. } | LockedBase::Scratch => return Err(Error::NoTarget),
    };
    Ok(Target { python, platform, glibc })
}

/// Version of what [`user_layer`] makes of the same base.
pub(crate) const USER_RULES: u32 = 1;

/// A layer that makes `user` known on an image that somebody else made: libraries ask for the name of whoever they run
/// as, and for a home (PyTorch ends without). None where the base knows the number, and where nothing else needs what
/// is in the base: then its layers may never come here.
///
/// # Errors
/// As [`trees`].
pub fn user_layer(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Option<Layer>, Error> {
    let LockedBase::Image { digest, interpreter: Some(_), .. } = base else { return Ok(None) };
    let key = layer::key(&("user", USER_RULES, digest, (user.passwd(), user.group())));
    if let Some(known) = session.store.cached("user", &key) {
        return Ok(known);
    }
    let stack = Stack::of(session, &image(session, spec, base, platform, user)?)?;
    let entries = registered(&stack, user)?;
    let layer = match entries.is_empty() {
        true => None,
        false => Some(Layer::write::<Error>(&session.store, session.making, "user", |writer| {
            for (entry, content) in &entries {
                match entry.kind {
                    Kind::File { .. } => writer.file(entry, content.as_slice())?,
                    _ => writer.entry(entry)?,
                }
            }
            Ok(())
        })?),
    };
    let blobs = layer.iter().map(|layer| layer.digest).collect();
    session.store.cache("user", &key, &layer, blobs).map_err(layer::Error::from)?;
    Ok(layer)
}

/// What a base lacks of `user`: folders, and files with their contents, in the order of an archive.
fn registered(stack: &Stack, user: &User) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let path = |text: &str| ArchivePath::new(text).map_err(std::io::Error::other);
    let folder = path("etc")?;
    let mut entries = Vec::new();
    // Where it is a link, a folder would take the place of what it leads to.
    if stack.has(&folder) && !stack.has_folder(&folder) {
        return Ok(entries);
    }
    for (name, line) in [("etc/group", user.group()), ("etc/passwd", user.passwd())] {
        let mut book = stack.bytes(name)?;
        let number = |line: &[u8]| line.split(|byte| *byte == b':').nth(2).map(<[u8]>::to_vec);
        if book.split(|byte| *byte == b'\n').any(|known| number(known) == number(line.as_bytes())) {
            continue;
        }
        if !book.is_empty() && !book.ends_with(b"\n") {
            book.push(b'\n');
        }
        book.extend(line.into_bytes());
        entries.push((Entry::file(path(name)?, book.len() as u64, Mode::Plain), book));
    }
    if entries.is_empty() {
        return Ok(entries);
    }
    entries.insert(0, (Entry::directory(folder), Vec::new()));
    let above: Vec<_> = user.home.ancestors().collect();
    if !stack.has(&user.home) && above.iter().all(|folder| !stack.has(folder) || stack.has_folder(folder)) {
        entries.extend(above.into_iter().map(|folder| (Entry::directory(folder), Vec::new())));
        entries.push((Entry::directory(user.home.clone()).owned_by(user.uid, user.gid), Vec::new()));
    }
    Ok(entries)
}

/// Python's own library in a base.
pub struct Library {
    /// Where it lies.
    pub place: ArchivePath,
    /// Its modules without bytecode, by their paths below it, and where they lie unpacked.
    pub uncompiled: Vec<(ArchivePath, PathBuf)>,
}

/// The library of the Python `python` in `base`, whose layers are those of `image`.
///
/// # Errors
/// When a layer cannot be had or unpacked.
pub fn library(session: &Session, base: &LockedBase, image: &Image, python: PythonVersion) -> Result<Library, Error> {
    let interpreter = base.interpreter(python);
    let prefix = interpreter.rsplitn(3, '/').nth(2).unwrap_or_default();
    let place = ArchivePath::relative(format!("{}/lib/python{python}", prefix.trim_start_matches('/')));
    let place = place.map_err(std::io::Error::other)?;
    let uncompiled = Stack::of(session, image)?.uncompiled(&place, python)?;
    Ok(Library { place, uncompiled })
}

/// Where Debian's packages come from.
fn source(spec: Spec<'_>) -> Result<Source, Error> {
    Ok(Source::find(spec.debian)?)
}

/// The file that `path`, from the root, leads to in layers that are unpacked in `trees`, the lowest first; of a long one
/// the first MiB. Empty where there is none.
///
/// # Errors
/// When the disk says no.
pub fn file(trees: &[PathBuf], path: &str) -> Result<Vec<u8>, Error> {
    Stack::over(trees).beginning(path, 1 << 20)
}

/// The libraries that the loader finds in layers that are unpacked in `trees`, the lowest first.
///
/// # Errors
/// When the disk says no.
pub fn libraries(trees: &[PathBuf], platform: Platform) -> Result<Libraries, Error> {
    Stack::over(trees).libraries(platform)
}

/// The base as an image. Layers made of packages are made once for the same packages; those of an image may still be
/// in a registry.
///
/// # Errors
/// When a package is gone, damaged, or at odds with another; when an image is gone.
pub fn image(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Image, Error> {
    if let LockedBase::Image { digest, .. } = base {
        // What commands made is in the store, and nowhere else.
        if session.store.has_blob(digest) {
            return Ok(Image::load(&session.store, digest)?);
        }
        let Base::Image { place, .. } = Base::of(spec)? else {
            return Err(Error::Changed { base: spec.base.to_string() });
        };
        return place.load(session, digest, platform);
    }
    let layer = assembled(session, spec, base, platform, user)?.map(|(layer, _)| layer);
    Ok(layer.into_iter().fold(Image::scratch(platform), Image::with_layer))
}

/// The image that `name` is now, for a build that is not locked. Its layers may still be in a registry.
///
/// # Errors
/// When there is none, or its packages cannot be had.
pub fn named_image(session: &Session, name: &BaseName, platform: Platform, user: &User) -> Result<Image, Error> {
    let (base, debian) = (Written::Meant(name.clone()), Wanted::default());
    let spec = Spec { base: &base, python: None, needs_python: false, packages: &[], debian };
    let (locked, _) = Base::of(spec)?.lock(session, spec, &[], platform)?;
    image(session, spec, &locked, platform, user)
}

/// Folders with the base's layers unpacked, the lowest first.
///
/// # Errors
/// As [`image`], and when a layer cannot be had or unpacked.
pub fn trees(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Vec<PathBuf>, Error> {
    image::trees(session, &image(session, spec, base, platform, user)?)
}

/// The layer of Debian packages that are a base, and the libraries in it.
fn assembled(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Option<(Layer, Libraries)>, Error> {
    let LockedBase::Debian { suite, packages } = base else { return Ok(None) };
    let key = ("base", debian::RULES, platform, suite, packages, (&user.name, user.uid, user.gid));
    let title = format!("Debian {suite}, {} packages", packages.len());
    let making = match spec.needs_python && Platform::host().is_ok_and(|host| host == platform) {
        // Its Python compiles.
        true => session.making.needed_here(),
        false => session.making,
    };
    made_once(session, making, spec, &key, packages, &title, |writer| {
        Ok(debian::base_layer(session, packages, platform, Some(user), writer)?)
    })
    .map(Some)
}

/// A blob that a base is made of, and the name of a file that would hold it: a package's own, or that of its digest.
pub struct Part {
    /// As `libc6_2.36-9_amd64.deb`.
    pub name: String,
    /// Of its bytes, which are in the store.
    pub digest: Digest,
}

/// All that a locked base and the Debian packages on top of it are made of, in the store.
///
/// # Errors
/// When a package or a layer is gone, or an image.
pub fn parts(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
    packages: &[Package],
) -> Result<Vec<Part>, Error> {
    let of_image = |digest: Digest| Part { name: digest.hex(), digest };
    let (own, mut parts) = match base {
        LockedBase::Debian { packages, .. } => (packages.as_slice(), Vec::new()),
        LockedBase::Image { digest, .. } => {
            let image = image(session, spec, base, platform, user)?;
            crate::image::registry::fetch(session, image.layers())?;
            for layer in image.layers().iter().filter(|layer| !session.store.has_blob(&layer.digest)) {
                // It lies here unpacked alone.
                let mut bytes = layer.open(&session.store)?;
                session.store.put_blob(&mut bytes, &layer.digest, layer.size).map_err(layer::Error::from)?;
            }
            let layers = image.layers().iter().map(|layer| layer.digest);
            (&[][..], [*digest].into_iter().chain(image.config_digest()).chain(layers).map(of_image).collect())
        }
        LockedBase::Scratch => (&[][..], Vec::new()),
    };
    let packages: Vec<_> = own.iter().chain(packages).cloned().collect();
    if !packages.is_empty() {
        debian::fetch(session, &source(spec)?, &packages)?;
    }
    parts.extend(
        packages.into_iter().map(|package| Part { name: package.file.name().to_owned(), digest: package.digest }),
    );
    Ok(parts)
}

/// The layer of Debian packages on top of a base; none where there are no packages. Made once for the same packages upon
/// the same base: the loader's index in it is of both. For that an image as base is fetched and unpacked.
///
/// # Errors
/// As [`trees`].
pub fn system_layer(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
    packages: &[Package],
) -> Result<Option<Layer>, Error> {
    if packages.is_empty() {
        return Ok(None);
    }
    Ok(Some(layered(session, spec, base, platform, user, packages)?.0))
}

/// The layer of `packages` upon a base, and the libraries of both.
fn layered(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
    packages: &[Package],
) -> Result<(Layer, Libraries), Error> {
    let key = ("system", debian::RULES, platform, base, packages);
    let title = format!("Debian packages, {}", packages.len());
    made_once(session, session.making, spec, &key, packages, &title, |writer| {
        let libraries = libraries_of_base(session, spec, base, platform, user)?.libraries;
        let book = match base {
            LockedBase::Image { .. } => {
                Stack::of(session, &image(session, spec, base, platform, user)?)?.text("/var/lib/dpkg/status")?
            }
            _ => String::new(),
        };
        Ok(debian::packages_layer(session, packages, platform, &libraries, &book, writer)?)
    })
}

/// The names under which the loader finds libraries in a base with Debian packages on top of it. They are remembered:
/// what was looked through once need not be here any more.
///
/// # Errors
/// As [`trees`].
pub fn library_names(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
    packages: &[Package],
) -> Result<BTreeSet<String>, Error> {
    let Found { mut libraries, besides } = libraries_of_base(session, spec, base, platform, user)?;
    if !packages.is_empty() {
        libraries = layered(session, spec, base, platform, user, packages)?.1;
    }
    Ok(libraries.names(platform).into_iter().chain(besides).collect())
}

/// What the loader finds in a base.
#[derive(Default, Serialize, Deserialize)]
struct Found {
    /// By its settings.
    libraries: Libraries,
    /// Names of files in the folders of the variable `LD_LIBRARY_PATH` that an image sets.
    besides: BTreeSet<String>,
}

fn libraries_of_base(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Found, Error> {
    let LockedBase::Image { digest, .. } = base else {
        let assembled = assembled(session, spec, base, platform, user)?;
        let libraries = assembled.map(|(_, libraries)| libraries).unwrap_or_default();
        return Ok(Found { libraries, besides: BTreeSet::new() });
    };
    let key = layer::key(&("libraries", digest, platform));
    if let Some(known) = session.store.cached("image-libraries", &key) {
        return Ok(known);
    }
    let image = image(session, spec, base, platform, user)?;
    let stack = Stack::of(session, &image)?;
    let variables = image.config().env().clone().unwrap_or_default();
    let folders = variables.iter().filter_map(|variable| variable.strip_prefix("LD_LIBRARY_PATH="));
    let besides = folders.flat_map(|folders| folders.split(':')).flat_map(|folder| stack.names_in(folder)).collect();
    let found = Found { libraries: stack.libraries(platform)?, besides };
    session.store.cache("image-libraries", &key, &found, Vec::new()).map_err(layer::Error::from)?;
    Ok(found)
}

/// The suite of Debian whose packages fit a locked base, where that is known.
///
/// # Errors
/// As [`trees`].
pub fn suite(
    session: &Session,
    spec: Spec<'_>,
    base: &LockedBase,
    platform: Platform,
    user: &User,
) -> Result<Option<Suite>, Error> {
    match base {
        LockedBase::Debian { suite, .. } => Ok(suite.parse().ok()),
        LockedBase::Image { .. } => Stack::of(session, &image(session, spec, base, platform, user)?)?.suite(),
        LockedBase::Scratch => Ok(None),
    }
}

/// Which packages of `suite` have the libraries `names`, where one has them.
///
/// # Errors
/// As [`debian::with_libraries`].
pub fn packages_with(
    session: &Session,
    spec: Spec<'_>,
    suite: Suite,
    platform: Platform,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Error> {
    Ok(debian::with_libraries(session, &source(spec)?, suite, platform, names)?)
}

/// A layer of `packages`, and what `write` gives besides.
fn made_once<T: Serialize + DeserializeOwned>(
    session: &Session,
    making: Making,
    spec: Spec<'_>,
    key: &impl Serialize,
    packages: &[Package],
    title: &str,
    write: impl Fn(&mut crate::io::archive::Writer<&mut dyn std::io::Write>) -> Result<T, Error>,
) -> Result<(Layer, T), Error> {
    let key = layer::key(key);
    if let Some(known) = session.store.cached("debian-layer", &key) {
        return Ok(known);
    }
    debian::fetch(session, &source(spec)?, packages)?;
    let mut besides = None;
    let layer = Layer::write::<Error>(&session.store, making, title, |writer| {
        besides = Some(write(writer)?);
        Ok(())
    })?;
    let Some(besides) = besides else { unreachable!("the layer was written") };
    let mut blobs: Vec<_> = packages.iter().map(|package| package.digest).collect();
    blobs.push(layer.digest);
    let made = (layer, besides);
    session.store.cache("debian-layer", &key, &made, blobs).map_err(layer::Error::from)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(base: &str, python: Option<&str>) -> Result<Base, Error> {
        let (base, python) = (base.into(), python.map(Written::from));
        let spec =
            Spec { base: &base, python: python.as_ref(), needs_python: true, packages: &[], debian: Wanted::default() };
        Base::of(spec)
    }

    #[test]
    fn a_base_is_what_its_name_and_the_python_ask_for() {
        let debian = |suite: Suite| Base::Debian { suite, python: Some(suite.python()) };
        assert_eq!(base("auto", None).unwrap(), debian(Suite::DEFAULT));
        assert_eq!(base("auto", Some("3.13")).unwrap(), debian(Suite::Trixie));
        assert_eq!(base("debian:bullseye", Some("3.9")).unwrap(), debian(Suite::Bullseye));
        let place = Place::Registry("docker.io/library/python:3.12-slim".parse().unwrap());
        let python = Some(PythonVersion::new(3, 12));
        assert_eq!(base("auto", Some("3.12")).unwrap(), Base::Image { place, python });
        assert!(matches!(base("debian:trixie", Some("3.11")), Err(Error::OtherPython { .. })));
        assert!(matches!(base("scratch", None), Err(Error::Scratch { .. })));
        for name in ["debian:noble", "debian:", "oci:", "A"] {
            assert!(matches!(base(name, None), Err(Error::Unsupported { base, .. }) if base == name), "{name}");
        }
        for version in ["3", "3.07", "x"] {
            assert!(matches!(base("auto", Some(version)), Err(Error::Python(_))), "{version}");
        }
    }

    #[test]
    fn nothing_is_guessed_of_a_base_that_is_not_known() {
        let of = |base| target(&base, PythonVersion::new(3, 11), Platform::Amd64);
        let debian = |suite: &str| LockedBase::Debian { suite: suite.to_owned(), packages: Vec::new() };
        assert_eq!(of(debian("bookworm")).unwrap().glibc, (2, 36));
        assert!(matches!(of(debian("forky")), Err(Error::Suite(_))));
        let image = |glibc| LockedBase::Image { digest: Digest::of(""), interpreter: None, glibc };
        assert_eq!(of(image(Some((2, 28)))).unwrap().glibc, (2, 28));
        assert!(matches!(of(image(None)), Err(Error::NoTarget)));
        assert!(matches!(of(LockedBase::Scratch), Err(Error::NoTarget)));
    }
}
