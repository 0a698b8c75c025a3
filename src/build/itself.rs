//! Ekiben's own image: the running program on a base assembled from Debian's packages, for clusters and CI.
//!
//! Invariant: the same program on the same packages is the same image. The suite is one whose C library has all that the
//! program asks of it; where none has, there is no image.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::base::debian::{self, Suite, User};
use crate::base::needs::Program;
use crate::base::{self, Base, BaseName, Spec};
use crate::bundle::runtime;
use crate::formats::document::Written;
use crate::image::layer::{self, Layer};
use crate::image::oci::platform::{Platform, UnknownPlatform};
use crate::image::session::Session;
use crate::image::{self, Image};
use crate::io::archive::{ArchivePath, Entry, Mode};
use crate::io::digest::{Digest, Hasher};
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Where programs lie in the image.
const PROGRAMS: &str = "usr/local/bin";

/// The program's name in the image.
const NAME: &str = "ekiben";

/// What goes along where it lies beside the program.
const BESIDE: [&str; 1] = ["ekiben-operator"];

/// Why there is no image of the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The program cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// This machine's processor is none that images are built for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// A program is none for this machine.
    #[error("{} is no program for {platform}", path.display())]
    NoProgram {
        /// The program.
        path: PathBuf,
        /// What it should be for.
        platform: Platform,
    },
    /// It asks for a newer C library than any suite has.
    #[error("{} needs version {}.{} of the C library, and the newest suite of Debian that is known has {}.{}",
        path.display(), needed.0, needed.1, newest.0, newest.1)]
    Newer {
        /// The program.
        path: PathBuf,
        /// The version that it needs.
        needed: (u32, u32),
        /// The newest one there is.
        newest: (u32, u32),
    },
    /// It asks for libraries that the base has not.
    #[error("{} needs {} of the base, which has no such library", path.display(), libraries.join(", "))]
    Lacks {
        /// The program.
        path: PathBuf,
        /// Their names.
        libraries: Vec<String>,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Base(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Platform(error) => error.explain(),
            Self::NoProgram { .. } => ErrorKind::Failure.named("self/no-program"),
            Self::Newer { .. } => ErrorKind::Failure
                .named("self/newer")
                .hint("build ekiben on one of Debian's releases, or take the one that is released"),
            Self::Lacks { .. } => {
                ErrorKind::Failure.named("self/no-library").hint("build ekiben without what asks for them")
            }
        }
    }
}

/// The image of the program that runs, and of what lies beside it and belongs to it, for this machine's platform.
///
/// # Errors
/// As [`image`].
pub fn of_this(session: &Session) -> Result<Image, Error> {
    /// It leads to the program also where its file has another name by now, or none.
    const THIS: &str = "/proc/self/exe";
    let path = fs::read_link(THIS)?;
    image(session, Path::new(THIS), path.parent())
}

/// The image of `program`, and of what lies in the folder `beside` and belongs to it, for this machine's platform.
///
/// # Errors
/// When no base has what it needs, or none can be made.
pub fn image(session: &Session, program: &Path, beside: Option<&Path>) -> Result<Image, Error> {
    let platform = Platform::host()?;
    let others = BESIDE.iter().filter_map(|name| Some((*name, beside?.join(name))));
    let mut programs = vec![(NAME, program.to_owned())];
    programs.extend(others.filter(|(_, path)| path.is_file()));
    let mut needs = Vec::new();
    for (_, path) in &programs {
        let needed = Program::of(path, platform)?;
        needs.push(needed.ok_or_else(|| Error::NoProgram { path: path.clone(), platform })?);
    }
    let newest = programs.iter().zip(&needs).filter_map(|((_, path), program)| Some((program.glibc?, path))).max();
    let suite = Suite::preferred().find(|suite| newest.is_none_or(|(needed, _)| needed <= suite.glibc()));
    let suite = match (suite, newest) {
        (Some(suite), _) => suite,
        (None, newest) => {
            let (needed, path) = newest.map_or(((0, 0), program.to_owned()), |(needed, path)| (needed, path.clone()));
            let newest = Suite::ALL.map(Suite::glibc).into_iter().max().unwrap_or_default();
            return Err(Error::Newer { path, needed, newest });
        }
    };

    let name: Written<BaseName> = format!("debian:{suite}").as_str().into();
    let spec =
        Spec { base: &name, python: None, needs_python: false, packages: &[], debian: debian::Wanted::default() };
    let home = ArchivePath::new(format!("home/{}", runtime::USER_NAME)).map_err(io::Error::other)?;
    let user = User { name: runtime::USER_NAME.to_owned(), uid: runtime::USER, gid: runtime::USER, home };
    let (locked, _) = Base::of(spec)?.lock(session, spec, &[], platform)?;
    let names = base::library_names(session, spec, &locked, platform, &user, &[])?;
    for ((_, path), program) in programs.iter().zip(&needs) {
        let lacking = program.libraries.iter().filter(|library| !names.contains(*library)).cloned();
        let libraries: Vec<_> = lacking.collect();
        if !libraries.is_empty() {
            return Err(Error::Lacks { path: path.clone(), libraries });
        }
    }
    let base = base::image(session, spec, &locked, platform, &user)?;
    let image = base.without_annotations().with_layer(layer_of(session, &programs)?);
    Ok(configured(image, &user))
}

/// The layer of the programs; made once for the same.
fn layer_of(session: &Session, programs: &[(&str, PathBuf)]) -> Result<Layer, Error> {
    let mut digests = Vec::new();
    for (name, path) in programs {
        digests.push((*name, digest(path)?));
    }
    let key = layer::key(&("itself", &digests));
    if let Some(known) = session.store.cached("itself", &key) {
        return Ok(known);
    }
    let title = format!("ekiben {}", env!("CARGO_PKG_VERSION"));
    let layer = Layer::write::<Error>(&session.store, session.making, title, |writer| {
        let folder = ArchivePath::new(PROGRAMS).map_err(io::Error::other)?;
        for folder in folder.ancestors().chain([folder.clone()]) {
            writer.entry(&Entry::directory(folder)).map_err(layer::Error::from)?;
        }
        for (name, path) in programs {
            let path_in_image = folder.join(&ArchivePath::new(*name).map_err(io::Error::other)?);
            let file = fs::File::open(path)?;
            let size = file.metadata()?.len();
            writer.file(&Entry::file(path_in_image, size, Mode::Executable), file).map_err(layer::Error::from)?;
        }
        Ok(())
    })?;
    session.store.cache("itself", &key, &layer, vec![layer.digest]).map_err(layer::Error::from)?;
    Ok(layer)
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finish())
}

fn configured(image: Image, user: &User) -> Image {
    let about = [
        ("title", NAME),
        ("version", env!("CARGO_PKG_VERSION")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ];
    let about = about.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()));
    let home = format!("/{}", user.home);
    image.with_annotations(about.clone()).with_config(|config| {
        config.set_user(Some(format!("{}:{}", user.uid, user.gid)));
        config.set_entrypoint(Some(vec![format!("/{PROGRAMS}/{NAME}")]));
        config.set_env(Some(vec![format!("HOME={home}"), "PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]));
        config.set_working_dir(Some(home));
        config.set_labels(Some(HashMap::from(about)));
        config.set_stop_signal(Some("SIGTERM".to_owned()));
    })
}
