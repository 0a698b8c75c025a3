//! The base's Python as a tool of the build: in a sandbox, for bytecode.
//!
//! Where no sandbox can be started, it runs through the base's own loader. That does not show in what is built.

use std::borrow::Cow;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::base::debian::User;
use crate::base::python::{self, Loader, Runner};
use crate::base::{self, Base};
use crate::formats::python::PythonVersion;
use crate::image::layer;
use crate::image::oci::platform::{Platform, UnknownPlatform};
use crate::image::session::Session;
use crate::io::explain::{Explain, Explanation, carry};
use crate::run;
use crate::run::container::{self, Mount, Name, Spec};

/// Why a tool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// uv, or a Python for it.
    #[error(transparent)]
    Python(#[from] python::Error),
    /// The base's layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// This machine's processor is none that bases are made for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Base(error) => error.explain(),
            Self::Python(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Platform(error) => error.explain(),
        }
    }
}

/// The base's layers unpacked, the lowest first, and the base as it is locked for this machine's processor.
type Trees<'a> = (Vec<PathBuf>, Cow<'a, base::LockedBase>);

/// The tools for one project on one base.
pub struct Toolchain<'a> {
    session: &'a Session,
    spec: base::Spec<'a>,
    /// The base as it is locked, and the platform that it is locked for.
    base: (&'a base::LockedBase, Platform),
    user: &'a User,
    /// The base's layers unpacked: once, however many threads ask.
    trees: Mutex<Option<Trees<'a>>>,
    merged: OnceLock<tempfile::TempDir>,
}

impl<'a> Toolchain<'a> {
    /// Tools for `spec` on `base`, which is locked for `platform`.
    pub fn new(
        session: &'a Session,
        spec: base::Spec<'a>,
        base: &'a base::LockedBase,
        platform: Platform,
        user: &'a User,
    ) -> Self {
        Self { session, spec, base: (base, platform), user, trees: Mutex::default(), merged: OnceLock::new() }
    }

    /// The base's Python, in a sandbox. Where none can be started, through the base's own loader, which compiles the
    /// same bytecode; a detail says so.
    ///
    /// # Errors
    /// When the base cannot be made.
    pub fn compiler<'t>(&'t self, python: PythonVersion) -> Result<impl Runner + 't, Error> {
        let (trees, base) = self.trees()?;
        let interpreter = base.interpreter(python);
        let containers = run::containers(self.session)?;
        Ok(Sandboxed { toolchain: self, python, containers, trees, interpreter })
    }

    /// The base for this machine's processor.
    fn trees(&self) -> Result<Trees<'a>, Error> {
        let mut known = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trees) = &*known {
            return Ok(trees.clone());
        }
        let host = Platform::host()?;
        let (locked, platform) = self.base;
        let base = if platform == host {
            Cow::Borrowed(locked)
        } else {
            // Bytecode does not depend on the processor, so neither does it on which packages these are exactly.
            Cow::Owned(Base::of(self.spec)?.lock(self.session, self.spec, &[], host)?.0)
        };
        let trees = base::trees(self.session, self.spec, &base, host, self.user)?;
        if trees.is_empty() {
            return Err(base::Error::Scratch { what: "Python" }.into());
        }
        Ok(known.insert((trees, base)).clone())
    }

    /// The base's Python through its own loader.
    fn loader(&self, trees: &[PathBuf], python: PythonVersion) -> Result<Loader, Error> {
        let tree = match trees {
            [tree] => tree.as_path(),
            _ => self.merged(trees)?,
        };
        Ok(Loader::new(tree, python)?)
    }

    /// The base's layers in one folder, which is there as long as this is.
    fn merged(&self, trees: &[PathBuf]) -> Result<&Path, Error> {
        if let Some(folder) = self.merged.get() {
            return Ok(folder.path());
        }
        let folder = self.session.store.scratch().map_err(layer::Error::from)?;
        base::merge(trees, folder.path())?;
        Ok(self.merged.get_or_init(|| folder).path())
    }
}

/// The base's Python in a container without network that can write one folder.
struct Sandboxed<'t, 'a> {
    toolchain: &'t Toolchain<'a>,
    python: PythonVersion,
    containers: container::Containers,
    trees: Vec<PathBuf>,
    interpreter: String,
}

impl Runner for Sandboxed<'_, '_> {
    fn python(&self, arguments: &[&str], writable: &Path) -> io::Result<Output> {
        let args = std::iter::once(self.interpreter.clone()).chain(arguments.iter().map(|text| (*text).to_owned()));
        let mut spec = Spec::new(Name::Like("compile".to_owned()), self.trees.clone(), args.collect());
        spec.mounts = vec![Mount { source: writable.to_owned(), target: writable.to_owned(), writable: true }];
        spec.env.push("LC_ALL=C.UTF-8".to_owned());
        // The folder is its owner's: whoever runs this, who is root in the container, without root's capabilities.
        spec.user = (0, 0);
        let output = match self.containers.run_to_end(&spec) {
            Err(error @ container::Error::Start(container::Failure::NoSandbox { .. })) => {
                let progress = &self.toolchain.session.progress;
                progress.detail(format!("bytecode is compiled outside of a sandbox: {error}"));
                return self.toolchain.loader(&self.trees, self.python).map_err(carry)?.python(arguments, writable);
            }
            output => output.map_err(carry)?,
        };
        let status = ExitStatus::from_raw(output.exit.code << 8);
        Ok(Output { status, stdout: output.stdout, stderr: output.stderr })
    }
}
