//! `ekiben key`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::printer::{DIM, NAME, Report};
use super::signing::{password, taken, write_new};
use super::{Context, Exit, Failure};
use crate::image::sign::{Algorithm, PrivateKey};
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben key new release\n\
\x20 EKIBEN_KEY_PASSWORD= ekiben key new test --type ed25519";

/// Make keys that sign images, bundles and folders of models
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make NAME.key, which signs, and NAME.pub, which verifies
    ///
    /// The private key is encrypted as cosign does it, and cosign reads it. The password is taken from EKIBEN_KEY_PASSWORD or
    /// COSIGN_PASSWORD, or asked for at the terminal. A file that is there is never overwritten.
    New {
        /// The names of the files without their ends.
        #[arg(value_name = "NAME")]
        name: PathBuf,
        /// How it signs.
        #[arg(long = "type", value_enum, default_value = "p256")]
        kind: Kind,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// ECDSA with P-256, which all tools know.
    P256,
    /// Ed25519.
    Ed25519,
}

#[derive(Serialize)]
struct KeyReport {
    private: PathBuf,
    public: PathBuf,
    fingerprint: Digest,
    #[serde(skip)]
    algorithm: Algorithm,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Action::New { name, kind } = args.action;
    let with = |end: &str| {
        let mut path = name.clone().into_os_string();
        path.push(end);
        PathBuf::from(path)
    };
    let (private, public) = (with(".key"), with(".pub"));
    // Said before a password is asked for.
    if let Some(path) = [&private, &public].into_iter().find(|path| path.exists()) {
        return Err(taken(path));
    }
    let Some(password) = password(true)? else {
        let explanation = ErrorKind::Usage
            .named("key/no-password")
            .hint("set EKIBEN_KEY_PASSWORD or COSIGN_PASSWORD; an empty one leaves the key to whoever has the file");
        return Err(Failure::new(explanation, "there is no terminal to ask for the password of the key"));
    };
    let algorithm = match kind {
        Kind::P256 => Algorithm::P256,
        Kind::Ed25519 => Algorithm::Ed25519,
    };
    let key = PrivateKey::new(algorithm);
    let verifies = key.public()?;
    write_new(&private, key.write(&password)?.as_bytes(), 0o600)?;
    write_new(&public, verifies.write().as_bytes(), 0o644)?;
    if password.is_empty() {
        context.printer.warn("the key has an empty password: whoever has the file can sign");
    }
    context.printer.report(&KeyReport { private, public, fingerprint: verifies.fingerprint(), algorithm })?;
    Ok(Exit::Success)
}

impl Report for KeyReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { private, public, fingerprint, algorithm } = self;
        writeln!(out, "{NAME}{}{NAME:#}  signs ({algorithm}): keep it to yourself", private.display())?;
        writeln!(out, "{NAME}{}{NAME:#}  verifies: hand it out", public.display())?;
        writeln!(out, "{DIM}{fingerprint}{DIM:#}")
    }
}
