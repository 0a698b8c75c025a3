//! `ekiben verify`

use std::io::{self, Write};

use serde::Serialize;

use super::policy::{PolicyArgs, judge_all};
use super::printer::{DIM, NAME, Report, VERB, moment, plain};
use super::signing::{Subject, key_name, public_key};
use super::{Context, Exit, Failure};
use crate::build::gate::Gate;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::image::sign::{Format, Refused, Signature};
use crate::image::{Image, remote};
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben verify registry.example/iris:1.0 --key release.pub\n\
\x20 ekiben verify registry.example/iris:1.0 --policy ekiben-policy.yaml";

/// Verify who has signed an image, in a registry or here
///
/// With several keys, one of them is enough. What counts is a signature of the very digest that the name has now; of an image
/// for several platforms, that of its index. Ends with 8 where it is missing. Prints the digest, which is what to deploy.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image: with a host in its name, the one in that registry; else the one in the local store.
    #[arg(value_name = "REF")]
    image: String,
    /// A public key: a file, or `env://NAME` for one in an environment variable; may be repeated.
    #[arg(long, value_name = "FILE", required_unless_present = "policy")]
    key: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Verify the image in the local store, though its name has a host.
    #[arg(long)]
    local: bool,
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
    let subject = Subject::of(&session, &args.image, args.local)?;
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
