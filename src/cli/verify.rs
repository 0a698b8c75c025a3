//! `ekiben verify`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::policy::{PolicyArgs, judge_all};
use super::printer::{DIM, NAME, Report, Size, VERB, moment, plain};
use super::signing::{Named, Subject, counted, key_name, only_for, public_key};
use super::{Context, Exit, Failure, completions};
use crate::build::gate::Gate;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::image::sign::{Format, PublicKey, Refused, Signature, blob, folder};
use crate::image::{Image, remote};
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben verify registry.example/iris:1.0 --key release.pub\n\
\x20 ekiben verify registry.example/iris:1.0 --policy ekiben-policy.yaml\n\
\x20 ekiben verify iris-1.0.ekiben --key release.pub       by iris-1.0.ekiben.sig\n\
\x20 ekiben verify models/iris/ --key release.pub          by models/iris/model.sig";

/// Verify who has signed an image, in a registry or here, a bundle's file or a model's folder
///
/// With several keys, one of them is enough. Of an image, what counts is a signature of the very digest that the name has now;
/// of an image for several platforms, that of its index. A file is verified by the signature beside it, as of `cosign sign-blob`;
/// a folder by `model.sig` in it, as of OpenSSF's model signing 1.0: it has to have the very files that were signed, and no
/// others. What whoever signed it left out is told.
///
/// What is written as a path (`./iris`, `/srv/iris`, `iris/`, `iris.ekiben`) is a file or folder, and a name with the host of a
/// registry is an image there. Any other name is a file or folder if one is there, else an image in the local store; where
/// both are, it is asked which.
///
/// Ends with 8 where the signature is missing or of something else. Prints the digest, which of an image is what to deploy.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, file or folder.
    #[arg(value_name = "REF|FILE|FOLDER", add = completions::files())]
    what: String,
    /// A public key: a file, or `env://NAME` for one in an environment variable; may be repeated.
    #[arg(long, value_name = "FILE", required_unless_present = "policy")]
    key: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Verify the image in the local store, though its name has a host.
    #[arg(long)]
    local: bool,
    /// Where the signature of a file or folder is. Without it: `FILE.sig`, or `FOLDER/model.sig`.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// Of a file or folder.
#[derive(Serialize)]
struct FilesReport {
    path: PathBuf,
    signature: PathBuf,
    /// Of the file; of a folder, of the digests of all its files.
    digest: Digest,
    /// Which keys have signed it.
    keys: Vec<KeyReport>,
    #[serde(flatten)]
    folder: Option<FolderReport>,
}

#[derive(Serialize)]
struct KeyReport {
    key: String,
    algorithm: String,
}

#[derive(Serialize)]
struct FolderReport {
    /// What the folder was called.
    name: String,
    files: usize,
    /// In bytes.
    size: u64,
    /// What is there and was not signed.
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct VerifyReport {
    image: String,
    digest: Digest,
    signatures: Vec<SignatureReport>,
    /// What lies beside the image and does not count.
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct SignatureReport {
    key: String,
    algorithm: String,
    #[serde(flatten)]
    signature: Signature,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let keys = args.key.iter().map(|name| public_key(name)).collect::<Result<Vec<_>, _>>()?;
    let named = Named::of(&session, &args.what, args.local)?;
    if let Some(signature) = named.signature(args.signature.clone()) {
        let has_policy = args.policy.policy.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
        only_for("images", &[("--policy", has_policy)])?;
        return verify_files(context, &session, named, signature, &args.key, &keys);
    }
    only_for("files and folders", &[("--signature", args.signature.is_some())])?;
    let subject = Subject::of(&session, &args.what, args.local)?;
    if let Some(gate) = args.policy.gate(context)? {
        judge(&session, &gate, &subject)?;
        context.printer.status("Accepted", format!("{NAME}{}{NAME:#} has all that the policy demands", subject.name));
        if args.key.is_empty() {
            let (image, digest) = (subject.name, subject.top.digest);
            context.printer.report(&VerifyReport { image, digest, signatures: Vec::new(), refused: Vec::new() })?;
            return Ok(Exit::Success);
        }
    }
    let found = subject.place.signatures(&subject.top.digest, &keys.iter().collect::<Vec<_>>())?;
    if found.signatures.is_empty() {
        let names: Vec<_> = args.key.iter().map(|name| key_name(name)).collect();
        for Refused { format, digest, why } in &found.refused {
            context.printer.warn(&format!("the {} {} does not count: {}", kind(*format), digest.short(), plain(why)));
        }
        let explanation = ErrorKind::Refused.named("verify/unsigned").hint(match found.refused.is_empty() {
            true => "there is no signature at all, or the registry shows none",
            false => "others have signed it, or something else was signed",
        });
        let text = format!("{}@{} is not signed by {}", subject.name, subject.top.digest, names.join(" or "));
        return Err(Failure::new(explanation, text));
    }
    let signatures = found.signatures.into_iter().map(|signature| SignatureReport {
        key: args.key.get(signature.key).map(|name| key_name(name)).unwrap_or_default(),
        algorithm: keys.get(signature.key).map(|key| key.algorithm().to_string()).unwrap_or_default(),
        signature,
    });
    let signatures = signatures.collect();
    let report = VerifyReport { image: subject.name, digest: subject.top.digest, signatures, refused: found.refused };
    context.printer.report(&report)?;
    Ok(Exit::Success)
}

/// Verifies a file or folder.
fn verify_files(
    context: &Context,
    session: &Session,
    named: Named,
    signature: PathBuf,
    names: &[String],
    keys: &[PublicKey],
) -> Result<Exit, Failure> {
    let all: Vec<_> = keys.iter().collect();
    let (path, digest, made, folder) = match named {
        Named::Image => return Ok(Exit::Success),
        Named::File(path) => {
            let blob::Verified { digest, keys } = blob::verify(&session.progress, &path, &signature, &all)?;
            (path, digest, keys, None)
        }
        Named::Folder(path) => {
            let verified = folder::verify(&session.progress, &path, &signature, &all)?;
            let folder::Verified { model, keys, left_out } = verified;
            let report = FolderReport { name: model.name, files: model.files, size: model.size, left_out };
            (path, model.digest, keys, Some(report))
        }
    };
    let of_key = |index: usize| {
        let (name, key) = (names.get(index)?, keys.get(index)?);
        Some(KeyReport { key: key_name(name), algorithm: key.algorithm().to_string() })
    };
    let keys = made.into_iter().filter_map(of_key).collect();
    context.printer.report(&FilesReport { path, signature, digest, keys, folder })?;
    Ok(Exit::Success)
}

/// Holds a policy against all images that the name stands for.
fn judge(session: &Session, gate: &Gate, subject: &Subject) -> Result<(), Failure> {
    let find = |digest: &Digest| match &subject.reference {
        Some(reference) => Ok(Some(remote::find(session, &reference.at(*digest), Platform::host()?)?.1)),
        None => Ok(Some(Image::load(&session.store, digest)?)),
    };
    judge_all(session, gate, &subject.policy_name()?, &subject.place, &subject.top, &find)
}

fn kind(format: Format) -> &'static str {
    match format {
        Format::Simple => "signature at the tag",
        Format::Bundle => "bundle",
    }
}

impl Report for FilesReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{VERB}{}{VERB:#}", self.path.display())?;
        let signature = self.signature.display();
        for KeyReport { key, algorithm } in &self.keys {
            writeln!(out, "  signed by {NAME}{key}{NAME:#}  {DIM}{algorithm}, {signature}{DIM:#}")?;
        }
        if let Some(FolderReport { name, files, size, left_out }) = &self.folder {
            writeln!(out, "  {}, {}, as {}", counted(*files), Size(*size), plain(name))?;
            for path in left_out {
                writeln!(out, "  {DIM}{} was not signed{DIM:#}", plain(path))?;
            }
        }
        writeln!(out, "{}", self.digest)
    }
}

impl Report for VerifyReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{VERB}{}{VERB:#}", self.image)?;
        for SignatureReport { key, algorithm, signature } in &self.signatures {
            let claim = &signature.claim;
            let made = claim.made.map(|made| format!(", {}", moment(made))).unwrap_or_default();
            let identity = claim.identity.as_deref().map(|name| format!(" as {}", plain(name))).unwrap_or_default();
            let kind = kind(signature.format);
            writeln!(out, "  signed by {NAME}{key}{NAME:#}{identity}{made}  {DIM}{algorithm}, {kind}{DIM:#}")?;
        }
        for Refused { format, digest, why } in &self.refused {
            writeln!(out, "  {DIM}{} {} does not count: {}{DIM:#}", kind(*format), digest.short(), plain(why))?;
        }
        writeln!(out, "{}", self.digest)
    }
}
