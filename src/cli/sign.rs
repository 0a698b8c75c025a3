//! `ekiben sign`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::Serialize;

use super::printer::{DIM, NAME, Report, Size};
use super::signing::{Named, SignerArgs, Subject, counted, only_for, write_new};
use super::{Context, Exit, Failure, completions};
use crate::image::session::Session;
use crate::image::sign::{Algorithm, Claim, Format, Signed, Signer, blob, folder};
use crate::io::archive::ArchivePath;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben sign registry.example/iris:1.0 --key release.key\n\
\x20 ekiben sign registry.example/iris:1.0 --key env://SIGNING_KEY --as both\n\
\x20 ekiben sign registry.example/iris:1.0 --public-key kms.pub \\\n\
\x20     --signer 'openssl dgst -sha256 -sign kms.pem'\n\
\x20 ekiben sign iris:1.0 --key release.key --identity registry.example/iris\n\
\x20 ekiben sign iris-1.0.ekiben --key release.key        writes iris-1.0.ekiben.sig\n\
\x20 ekiben sign models/iris/ --key release.key           writes models/iris/model.sig";

/// Sign an image, a bundle's file or a model's folder, so that cosign, podman, skopeo, model_signing and `ekiben verify` know who did
///
/// Of an image, what is signed is the digest that the name has now. Of an image for several platforms the index is signed, and
/// each image in it. Signatures lie beside the image: at the tag `sha256-….sig`, and as referrers. Those of an image in the local
/// store go along when it is pushed.
///
/// Of a file, the signature is written beside it, as `cosign sign-blob` does; of a folder, to `model.sig` in it, as OpenSSF's
/// model signing 1.0 has it: each file by its sha256, but for what git keeps. A signature that is there already is never
/// overwritten by another one.
///
/// What is written as a path (`./iris`, `/srv/iris`, `iris/`, `iris.ekiben`) is a file or folder, and a name with the host of a
/// registry is an image there. Any other name is a file or folder if one is there, else an image in the local store; where
/// both are, it is asked which.
///
/// Prints the digest of what was signed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, file or folder.
    #[arg(value_name = "REF|FILE|FOLDER", add = completions::files())]
    what: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// In which form an image is signed: what all tools read (`simple`, without this), sigstore's new bundle, or both.
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Option<Form>,
    /// What the signature says that the image is called. Without it: its repository.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Sign the image in the local store, though its name has a host.
    #[arg(long)]
    local: bool,
    /// Where the signature of a file or folder is written. Without it: `FILE.sig`, or `FOLDER/model.sig`.
    #[arg(long, short = 'o', value_name = "FILE")]
    signature: Option<PathBuf>,
    /// A file or folder in a folder that is not signed; may be repeated.
    #[arg(long, value_name = "PATH", value_parser = inside)]
    ignore: Vec<ArchivePath>,
}

/// A path in the folder that is signed.
fn inside(text: &str) -> Result<ArchivePath, String> {
    ArchivePath::relative(text).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// Simple signing, at a tag.
    Simple,
    /// A bundle with a DSSE envelope, as a referrer.
    Bundle,
    /// Both.
    Both,
}

#[derive(Serialize)]
struct SignReport {
    digest: Digest,
    key: Digest,
    signed: Vec<Signed>,
}

/// Of a file or folder.
#[derive(Serialize)]
struct FilesReport {
    path: PathBuf,
    signature: PathBuf,
    /// Of the file; of a folder, of the digests of all its files.
    digest: Digest,
    key: Digest,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let Some(signer) = args.signer.signer()? else {
        let explanation =
            ErrorKind::Usage.named("sign/no-key").hint("name a key with `--key FILE`; `ekiben key new NAME` makes one");
        return Err(Failure::new(explanation, "there is nothing to sign with"));
    };
    let named = Named::of(&session, &args.what, args.local)?;
    if let Some(signature) = named.signature(args.signature.clone()) {
        only_for("images", &[("--as", args.form.is_some()), ("--identity", args.identity.is_some())])?;
        return sign_files(context, &session, &signer, named, signature, &args.ignore);
    }
    only_for("files and folders", &[("--signature", args.signature.is_some()), ("--ignore", !args.ignore.is_empty())])?;
    let formats: &[Format] = match args.form.unwrap_or(Form::Simple) {
        Form::Simple => &[Format::Simple],
        Form::Bundle => &[Format::Bundle],
        Form::Both => &[Format::Simple, Format::Bundle],
    };
    let key = signer.public()?;
    let subject = Subject::of(&session, &args.what, args.local)?;
    let made = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let creator = Some(concat!("ekiben ", env!("CARGO_PKG_VERSION")).to_owned());
    let identity = Some(args.identity.unwrap_or_else(|| subject.repository.clone()));
    let mut signed = Vec::new();
    // The index last: whoever sees it signed finds all that is in it signed.
    for one in subject.images().into_iter().chain([subject.top.descriptor()]) {
        let claim = Claim { subject: one.digest, identity: identity.clone(), creator: creator.clone(), made };
        signed.push(subject.place.sign(&one, &signer, &claim, formats)?);
        let platform = one.platform.map(|platform| format!(" {platform}")).unwrap_or_default();
        let (name, digest) = (&subject.name, one.digest);
        context.printer.status("Signed", format!("{NAME}{name}{NAME:#}{platform} {DIM}{digest}{DIM:#}"));
    }
    context.printer.report(&SignReport { digest: subject.top.digest, key: key.fingerprint(), signed })?;
    Ok(Exit::Success)
}

/// Signs a file or folder.
fn sign_files(
    context: &Context,
    session: &Session,
    signer: &Signer,
    named: Named,
    signature: PathBuf,
    ignored: &[ArchivePath],
) -> Result<Exit, Failure> {
    let key = signer.public()?;
    let (path, bytes, digest, what) = match named {
        Named::Image => return Ok(Exit::Success),
        Named::File(path) => {
            only_for("folders", &[("--ignore", !ignored.is_empty())])?;
            let (text, digest) = blob::sign(&session.progress, signer, &path)?;
            (path, text.into_bytes(), digest, String::new())
        }
        Named::Folder(path) => {
            if key.algorithm() == Algorithm::Ed25519 {
                context.printer.warn("model_signing verifies ECDSA keys alone, and this one is Ed25519");
            }
            let folder::Made { bytes, model } = folder::sign(&session.progress, signer, &path, &signature, ignored)?;
            let what = format!("{} {} ", counted(model.files), Size(model.size));
            (path, bytes, model.digest, what)
        }
    };
    let shown = path.display();
    match written(&signature, &bytes)? {
        true => {
            context.printer.status("Signed", format!("{NAME}{shown}{NAME:#} {what}{DIM}{}{DIM:#}", signature.display()))
        }
        false => context.printer.status("Fresh", format!("{} is this very signature", signature.display())),
    }
    context.printer.report(&FilesReport { path, signature, digest, key: key.fingerprint() })?;
    Ok(Exit::Success)
}

/// Writes a signature, unless it is there already; never over another one.
fn written(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    if !path.exists() {
        write_new(path, bytes, 0o644)?;
        return Ok(true);
    }
    if fs::metadata(path)?.len() == bytes.len() as u64 && fs::read(path)? == bytes {
        return Ok(false);
    }
    let explanation = ErrorKind::Usage.named("sign/exists").hint("remove it, or name another file with `-o`");
    Err(Failure::new(explanation, format!("{} is there already, and is another signature", path.display())))
}

impl Report for FilesReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}

impl Report for SignReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
