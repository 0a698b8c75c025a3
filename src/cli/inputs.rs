//! The arguments that several commands share: what is built from, and how.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::printer::NAME;
use super::{Context, Failure, completions};
use crate::base::BaseName;
use crate::build::dockerfile::{self, Allowed};
use crate::build::resolve::Renewal;
use crate::build::workflow::Request;
use crate::bundle::Hashing;
use crate::bundle::apart::Part;
use crate::check;
use crate::check::target::Target;
use crate::formats::document::shown;
use crate::project::manifest;

/// What is built from, and how.
#[derive(clap::Args)]
#[group(skip)]
pub struct Inputs {
    /// A project's folder, its manifest, a bundle, or a bento: its file, its folder, or bento:NAME:VERSION for one in
    /// BentoML's store; bundles and bentos also by an address that ends in .ekiben or .bento. A model needs no project:
    /// models:/NAME@ALIAS and other addresses of MLflow's, s3://…, hf://…, oci://…, https://…, or a folder that MLflow wrote.
    #[arg(value_name = "PATH", default_value = ".", add = completions::inputs())]
    pub path: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// How a build goes about its inputs.
#[derive(clap::Args)]
#[group(skip)]
pub struct How {
    /// Fail when the lock does not fit what is built, rather than renew it. For CI.
    #[arg(long)]
    pub locked: bool,
    /// Read and hash the weights again, even if they look unchanged.
    #[arg(long)]
    pub no_cache: bool,
    /// What the image of a bento stands on, in place of what the bento says; as `base` in a manifest.
    #[arg(long, value_name = "BASE", add = completions::bases())]
    pub base: Option<BaseName>,
    /// Where the lock of a bento or a Dockerfile is kept. Without it: beside it, under its name with `.lock` behind it; that of a
    /// Dockerfile only where there is one.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Below which path a model without a project answers, as `service.root` in a manifest.
    #[arg(long, value_name = "/PATH", value_parser = root)]
    pub root: Option<String>,
    #[command(flatten)]
    pub pins: Pins,
    #[command(flatten)]
    pub commands: Commands,
}

/// What becomes of pins.
#[derive(clap::Args)]
#[group(skip)]
pub struct Pins {
    /// Where pinned versions have no wheels for any Python that there is, take the nearest that work together. They are written
    /// into the lock, and said with every build; requirements stay as they are. A lock that fits is used as it is.
    #[arg(long)]
    pub relax_pins: bool,
}

/// What commands may do.
#[derive(clap::Args)]
#[group(skip)]
pub struct Commands {
    /// Execute the commands (RUN of a Dockerfile, `system.run`) in a sandbox; `network` lets them reach the network, and still
    /// not this machine.
    #[arg(long, value_name = "network", num_args = 0..=1, require_equals = true, default_missing_value = "nothing")]
    pub allow_run: Option<Reach>,
}

/// What commands reach.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Reach {
    /// Nothing but themselves.
    #[value(hide = true)]
    Nothing,
    /// The network.
    Network,
}

impl Commands {
    /// What they are given, where that is nothing else.
    pub fn request(&self) -> dockerfile::Request {
        dockerfile::Request { allowed: self.allowed(), ..dockerfile::Request::default() }
    }

    /// As the library takes it.
    pub fn allowed(&self) -> Allowed {
        match self.allow_run {
            None => Allowed::Nothing,
            Some(Reach::Nothing) => Allowed::Commands,
            Some(Reach::Network) => Allowed::Network,
        }
    }
}

/// As the manifest's schema has it.
fn root(text: &str) -> Result<String, String> {
    let is_plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c));
    let is_root = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain));
    if is_root { Ok(text.to_owned()) } else { Err("write a path as /NAME/api, without a `/` at its end".to_owned()) }
}

impl Inputs {
    /// As the library takes it, with the project that [`meant`] finds.
    pub fn request(self, context: &Context) -> Result<Request, Failure> {
        let How { locked, no_cache, base, lock, root, pins, commands } = self.how;
        Ok(Request {
            path: meant(context, self.path)?,
            renewal: if locked { Renewal::Never } else { Renewal::IfNeeded },
            hashing: if no_cache { Hashing::Again } else { Hashing::IfUnknown },
            // A path is meant from the current folder.
            base: base.map(BaseName::absolute).transpose()?,
            lock,
            root,
            relax: pins.relax_pins,
            untrained: false,
            commands: commands.request(),
        })
    }
}

/// The project that `path` means: where it is the current folder, in which there is none, that of a folder above, up to
/// the root of a repository. Which one it is, is said then.
pub fn meant(context: &Context, path: PathBuf) -> Result<PathBuf, Failure> {
    let has_manifest = || manifest::NAMES.iter().any(|name| path.join(name).exists());
    if path != Path::new(".") || has_manifest() || !matches!(Target::of(&path)?, Target::Project(_)) {
        return Ok(path);
    }
    // A file in the folder, whatever it is called.
    let Some(found) = check::project_around(Path::new("file")) else { return Ok(path) };
    context.printer.status("Found", format!("{NAME}{}{NAME:#} above the current folder", shown(&found)));
    Ok(found.parent().map_or(path, Path::to_owned))
}

/// Which part of an image is meant.
#[derive(clap::Args)]
#[group(skip)]
pub struct Parts {
    /// Without the layers of weights: all else has the same layers. It names the image of its models, and what it lacks.
    #[arg(long, conflicts_with = "models_only")]
    without_models: bool,
    /// The layers of weights alone, as an image: for image volumes and init containers.
    #[arg(long)]
    models_only: bool,
}

impl Parts {
    pub fn part(&self) -> Part {
        match (self.without_models, self.models_only) {
            (true, _) => Part::Code,
            (_, true) => Part::Models,
            _ => Part::Whole,
        }
    }
}

/// An address as it is written on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of this machine.
    pub host: SocketAddr,
    /// In the container; where it is not said, that of the service.
    pub container: Option<u16>,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            let is_large = |part: &str| part.parse::<u128>().is_ok_and(|port| port > u16::MAX.into());
            match text.split([':', ']']).find(|part| is_large(part)) {
                Some(port) => format!("`{port}` is no port: they end at {}", u16::MAX),
                None => format!("`{text}` is no address: write 8080, 127.0.0.1:8080 or 8080:3000"),
            }
        };
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        if let Ok(host) = text.parse::<SocketAddr>() {
            return Ok(Self { host, container: None });
        }
        let (host, container) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let host = match host.parse::<u16>() {
            Ok(port) => loopback(port),
            Err(_) => host.parse().map_err(|_| bad())?,
        };
        Ok(Self { host, container })
    }
}
