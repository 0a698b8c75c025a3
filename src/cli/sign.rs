//! `ekiben sign`

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::printer::{DIM, NAME, Report};
use super::signing::{SignerArgs, Subject};
use super::{Context, Exit, Failure};
use crate::image::sign::{Claim, Format, Signed};
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben sign registry.example/iris:1.0 --key release.key\n\
\x20 ekiben sign registry.example/iris:1.0 --key env://SIGNING_KEY --as both\n\
\x20 ekiben sign registry.example/iris:1.0 --public-key kms.pub \\\n\
\x20     --signer 'openssl dgst -sha256 -sign kms.pem'\n\
\x20 ekiben sign iris:1.0 --key release.key --identity registry.example/iris";

/// Sign an image, in a registry or here, so that cosign, podman, skopeo and `ekiben verify` know who did
///
/// What is signed is the digest that the name has now. Of an image for several platforms the index is signed, and each
/// image in it. Signatures lie beside the image: at the tag `sha256-….sig`, and as referrers. Those of an image in the local
/// store go along when it is pushed. Prints the digest.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image: with a host in its name, the one in that registry; else the one in the local store.
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// In which form: what all tools read (`simple`), sigstore's new bundle, or both.
    #[arg(long = "as", value_enum, default_value = "simple", value_name = "FORM")]
    form: Form,
    /// What the signature says that the image is called. Without it: its repository.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Sign the image in the local store, though its name has a host.
    #[arg(long)]
    local: bool,
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

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let Some(signer) = args.signer.signer()? else {
        let explanation =
            ErrorKind::Usage.named("sign/no-key").hint("name a key with `--key FILE`; `ekiben key new NAME` makes one");
        return Err(Failure::new(explanation, "there is nothing to sign with"));
    };
    let formats: &[Format] = match args.form {
        Form::Simple => &[Format::Simple],
        Form::Bundle => &[Format::Bundle],
        Form::Both => &[Format::Simple, Format::Bundle],
    };
    let key = signer.public()?;
    let subject = Subject::of(&session, &args.image, args.local)?;
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

impl Report for SignReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
