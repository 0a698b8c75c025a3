//! What building needs of this machine: uv, and a Python for it; and the base's Python, in a sandbox, for bytecode.
//!
//! Nothing here shows in what is built. Where this machine lacks something, the base lends it: its Python, through its
//! own loader, and Debian's wheel of pip.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use fs_err as fs;

use crate::base::{self, Base};
use crate::container::{self, Mount, Name, Spec};
use crate::debian::User;
use crate::launch;
use crate::layer::Layer;
use crate::manifest::Manifest;
use crate::platform::{Platform, UnknownPlatform};
use crate::python::{self, Interpreter, Loader, Runner, Uv};
use crate::session::Session;

/// Why a tool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base.
    #[error("{0}")]
    Base(#[from] base::Error),
    /// uv, or a Python for it.
    #[error("{0}")]
    Python(#[from] python::Error),
    /// The base's layer.
    #[error("{0}")]
    Layer(#[from] crate::layer::Error),
    /// A file could not be read or written. The message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// This machine's processor is none that bases are made for.
    #[error("{0}")]
    Platform(#[from] UnknownPlatform),
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base(error) => error.hint(),
            Self::Python(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Io(_) | Self::Platform(_) => None,
        }
    }
}

/// The tools for one project on one base.
pub struct Toolchain<'a> {
    session: &'a Session,
    manifest: &'a Manifest,
    /// The base as it is locked, and the platform that it is locked for.
    base: (&'a base::Locked, Platform),
    user: &'a User,
}

impl<'a> Toolchain<'a> {
    /// Tools for `manifest` on `base`, which is locked for `platform`.
    pub fn new(
        session: &'a Session,
        manifest: &'a Manifest,
        base: &'a base::Locked,
        platform: Platform,
        user: &'a User,
    ) -> Self {
        Self { session, manifest, base: (base, platform), user }
    }

    /// uv, with a Python to look at: this machine's, or the one in the base.
    ///
    /// # Errors
    /// When uv is not here and cannot be fetched.
    pub fn uv(&self, python: &str) -> Result<Uv, Error> {
        let interpreter = match Interpreter::host() {
            Some(interpreter) => interpreter,
            None => Interpreter::Loader(Loader::new(&self.tree()?, python)?),
        };
        let pip_wheel = || self.pip_wheel().map_err(Into::into);
        Ok(Uv::find(self.session, interpreter, &pip_wheel)?)
    }

    /// The base's Python, in a sandbox. Where none can be started, through the base's own loader, which compiles the
    /// same bytecode; a detail says so.
    ///
    /// # Errors
    /// When the base cannot be made.
    pub fn compiler(&self, python: &str) -> Result<Box<dyn Runner>, Error> {
        let tree = self.tree()?;
        let containers = launch::containers(self.session)?;
        let probe = Spec::new(Name::Like("probe".to_owned()), vec![tree.clone()], vec!["/bin/true".to_owned()]);
        match containers.run_to_end(&Spec { args: vec![interpreter_path(python), "--version".to_owned()], ..probe }) {
            Ok(_) => Ok(Box::new(Sandboxed { containers, tree, python: python.to_owned() })),
            Err(error @ container::Error::Start(container::Failure::NoSandbox { .. })) => {
                self.session.progress.detail(format!("bytecode is compiled outside of a sandbox: {error}"));
                Ok(Box::new(Loader::new(&tree, python)?))
            }
            Err(error) => Err(std::io::Error::other(error).into()),
        }
    }

    /// The base unpacked, for this machine's processor.
    fn tree(&self) -> Result<PathBuf, Error> {
        let host = Platform::host()?;
        let (locked, platform) = self.base;
        let foreign;
        let base = if platform == host {
            locked
        } else {
            // Bytecode does not depend on the processor, so neither does it on which packages these are exactly.
            foreign = Base::of(self.manifest)?.lock(self.session, self.manifest, host)?.0;
            &foreign
        };
        let layer = base::layer(self.session, self.manifest, base, host, self.user)?;
        match layer {
            Some(layer) => Ok(layer.unpack(&self.session.store)?),
            None => Err(base::Error::Scratch { what: "Python" }.into()),
        }
    }

    /// Debian's wheel of pip.
    fn pip_wheel(&self) -> Result<PathBuf, Error> {
        let host = Platform::host()?;
        let Base::Debian { suite, .. } = Base::of(self.manifest)? else {
            return Err(base::Error::Scratch { what: "pip" }.into());
        };
        let wanted = ["python3-pip-whl".to_owned()];
        let packages = base::packages(self.session, self.manifest, &suite, host, &wanted)?;
        let layer: Option<Layer> = base::system_layer(self.session, self.manifest, &packages)?;
        let tree = layer.map(|layer| layer.unpack(&self.session.store)).transpose()?.unwrap_or_default();
        let wheels = fs::read_dir(tree.join("usr/share/python-wheels"))?.filter_map(|entry| Some(entry.ok()?.path()));
        let pip = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pip-"));
        let missing = || std::io::Error::other("Debian's package python3-pip-whl has no wheel of pip");
        Ok(wheels.filter(pip).max().ok_or_else(missing)?)
    }
}

/// Where the Python of a base lies.
pub fn interpreter_path(python: &str) -> String {
    format!("/usr/bin/python{python}")
}

/// The base's Python in a container without network that can write one folder.
struct Sandboxed {
    containers: container::Containers,
    tree: PathBuf,
    python: String,
}

impl Runner for Sandboxed {
    fn python(&self, arguments: &[&str], writable: &Path) -> Result<Output, Box<dyn std::error::Error + Send + Sync>> {
        let args =
            std::iter::once(interpreter_path(&self.python)).chain(arguments.iter().map(|text| (*text).to_owned()));
        let mut spec = Spec::new(Name::Like("compile".to_owned()), vec![self.tree.clone()], args.collect());
        spec.mounts = vec![Mount { source: writable.to_owned(), target: writable.to_owned(), writable: true }];
        spec.env.push("LC_ALL=C.UTF-8".to_owned());
        // The folder is its owner's: whoever runs this, who is root in the container, without root's capabilities.
        spec.user = (0, 0);
        let output = self.containers.run_to_end(&spec)?;
        let status = ExitStatus::from_raw(output.exit.code << 8);
        Ok(Output { status, stdout: output.stdout, stderr: output.stderr })
    }
}
