//! What has to be executed for the image of a bento, done where BentoML has it done: upon the base with its Debian packages,
//! upon Python packages, or upon everything.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err as fs;
use tempfile::TempDir;

use super::commands;
use super::dockerfile::{self, Allowed, Ledger, Request};
use super::input::Input;
use crate::base::LockedBase;
use crate::bundle::import::bento as import;
use crate::bundle::runtime::Convention;
use crate::bundle::{self, Bundle};
use crate::formats::dockerfile::Excerpt;
use crate::image::Image;
use crate::image::layer;
use crate::image::session::Session;
use crate::io::archive::ArchivePath;
use crate::io::content::{self, Opener};
use crate::io::explain::{Explain, Explanation};
use crate::project::manifest::Manifest;

/// Why something was not executed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It may not be, or failed.
    #[error(transparent)]
    Dockerfile(#[from] dockerfile::Error),
    /// A file of the bento.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file of the bento that is in none of its archives.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// A file could not be written. The message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store says no.
    #[error(transparent)]
    Layer(#[from] layer::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Dockerfile(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Layer(error) => error.explain(),
        }
    }
}

/// Whether what is done upon the base belongs to that: it is another one than the bento's, and nothing may be executed.
fn are_in_base(steps: &import::Steps, commands: &Request) -> bool {
    steps.replaced && commands.allowed == Allowed::Nothing
}

/// Sees whether `steps` may be executed.
///
/// # Errors
/// When they may not, with all of them.
pub fn allow(steps: &import::Steps, commands: &Request) -> Result<(), Error> {
    let mut steps = steps.clone();
    if are_in_base(&steps, commands) {
        steps.base.clear();
    }
    Ok(dockerfile::allow(steps.stages.as_ref(), &steps.all(), commands.allowed)?)
}

/// Steps on their way into an image.
pub struct Steps<'a> {
    session: Session,
    manifest: &'a Manifest,
    convention: Convention,
    steps: &'a import::Steps,
    request: Request,
    ledger: &'a Ledger,
    /// Where the files lie that they may copy.
    _files: Option<TempDir>,
}

impl<'a> Steps<'a> {
    /// Those of `input`. What they lead to is written into `ledger`.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn of(session: &Session, input: &'a Input, ledger: &'a Ledger) -> Result<Self, Error> {
        let Input { manifest, bundle, steps, commands: request, .. } = input;
        let mut request = request.clone();
        let files = match steps.are_none() {
            true => None,
            false => {
                let scratch = session.store.scratch().map_err(layer::Error::from)?;
                write(bundle, scratch.path())?;
                request.context = scratch.path().to_owned();
                Some(scratch)
            }
        };
        for (name, value) in &steps.secrets {
            request.secrets.entry(name.clone()).or_insert_with(|| value.clone().into_bytes());
        }
        let (session, convention) = (commands::whole(session), bundle.convention());
        Ok(Self { session, manifest, convention, steps, request, ledger, _files: files })
    }

    /// The image with what commands find in any Debian.
    ///
    /// # Errors
    /// When a layer cannot be written.
    pub fn furnished(&self, image: Image, base: &LockedBase) -> Result<Image, Error> {
        if self.steps.are_none() { Ok(image) } else { Ok(commands::furnished(&self.session, image, base)?) }
    }

    /// Those before the Python packages.
    ///
    /// # Errors
    /// See [`dockerfile::Error`].
    pub fn upon_base(&self, image: Image) -> Result<Image, Error> {
        if self.steps.base.is_empty() || are_in_base(self.steps, &self.request) {
            return Ok(image);
        }
        let image = self.surrounded(image, |name| name != "PATH" && name != "VIRTUAL_ENV");
        self.done(&image, &self.steps.base)
    }

    /// Those behind them.
    ///
    /// # Errors
    /// See [`dockerfile::Error`].
    pub fn upon_packages(&self, image: Image) -> Result<Image, Error> {
        if self.steps.packages.is_empty() {
            return Ok(image);
        }
        let image = self.surrounded(image, |_| true);
        self.done(&image, &self.steps.packages)
    }

    /// Those at the end, which may change how the image is started.
    ///
    /// # Errors
    /// See [`dockerfile::Error`].
    pub fn upon_all(&self, image: Image) -> Result<Image, Error> {
        if self.steps.whole.is_empty() {
            return Ok(image);
        }
        let user = image.config().user().clone();
        let image = image.with_config(|config| {
            config.set_user(None);
        });
        let image = self.done(&image, &self.steps.whole)?;
        Ok(match image.config().user().as_deref().unwrap_or_default() {
            "" => image.with_config(|config| {
                config.set_user(user);
            }),
            _ => image,
        })
    }

    /// The instructions of `excerpts`, done upon `image`.
    fn done(&self, image: &Image, excerpts: &[Excerpt]) -> Result<Image, Error> {
        let stages = self.steps.stages.as_ref();
        Ok(dockerfile::upon(&self.session, image, stages, excerpts, &self.request, self.ledger)?)
    }

    /// The image as commands find it: they are root's, begin in the bento's folder, and have those of its variables that
    /// `is_there` knows.
    fn surrounded(&self, image: Image, is_there: impl Fn(&str) -> bool) -> Image {
        let own = self.convention.environment(self.manifest);
        let own: Vec<_> = own.into_iter().filter(|(name, _)| is_there(name)).collect();
        let mut env = image.config().env().clone().unwrap_or_default();
        env.retain(|variable| {
            let name = variable.split('=').next().unwrap_or_default();
            !own.iter().any(|(known, _)| known == name)
        });
        env.extend(own.into_iter().map(|(name, value)| format!("{name}={value}")));
        image.with_config(|config| {
            config.set_env(Some(env));
            config.set_user(None);
            config.set_working_dir(Some(self.convention.code().to_owned()));
        })
    }
}

/// Writes the files of a bundle into `folder`, but for its models.
fn write(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    let put = |path: &ArchivePath, content: &mut dyn io::Read, is_executable: bool| {
        let target = path.under(folder);
        if let Some(above) = target.parent() {
            fs::create_dir_all(above)?;
        }
        io::copy(content, &mut fs::File::create(&target)?)?;
        fs::set_permissions(&target, PermissionsExt::from_mode(if is_executable { 0o755 } else { 0o644 }))
    };
    let mut opener = Opener::default();
    for (path, member) in bundle.members() {
        put(path, &mut bundle.open_member(member, &mut opener)?, member.executable)?;
    }
    // Large files of the code are weights too.
    for weight in bundle.weights().iter().filter(|weight| !weight.path.as_str().starts_with(bundle::WEIGHTS)) {
        put(&weight.path, &mut weight.content.open()?, false)?;
    }
    Ok(())
}
