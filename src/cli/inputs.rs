//! The arguments that several commands share: what is built from, and how.

use std::path::PathBuf;

use super::{Failure, completions};
use crate::base::BaseName;
use crate::build::resolve::Renewal;
use crate::build::workflow::Request;
use crate::bundle::Hashing;

/// What is built from, and how.
#[derive(clap::Args)]
#[group(skip)]
pub struct Inputs {
    /// A project's folder, its manifest, a bundle, or a bento: its file, its folder, or bento:NAME:VERSION for one in
    /// BentoML's store.
    #[arg(value_name = "PATH", default_value = ".", add = completions::inputs())]
    pub path: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// How a build goes about its inputs.
#[derive(clap::Args)]
#[group(skip)]
pub struct How {
    /// Fail when the lock does not fit the manifest, rather than renew it. For CI.
    #[arg(long)]
    pub locked: bool,
    /// Read and hash the weights again, even if they look unchanged.
    #[arg(long)]
    pub no_cache: bool,
    /// What the image of a bento stands on, in place of what the bento says; as `base` in a manifest.
    #[arg(long, value_name = "BASE")]
    pub base: Option<BaseName>,
    /// Where the lock of a bento is kept. Without it: beside the bento, under its name with `.lock` behind it.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
}

impl Inputs {
    /// As the library takes it.
    pub fn request(self) -> Result<Request, Failure> {
        let How { locked, no_cache, base, lock } = self.how;
        Ok(Request {
            path: self.path,
            renewal: if locked { Renewal::Never } else { Renewal::IfNeeded },
            hashing: if no_cache { Hashing::Again } else { Hashing::IfUnknown },
            // A path is meant from the current folder.
            base: base.map(BaseName::absolute).transpose()?,
            lock,
        })
    }
}
