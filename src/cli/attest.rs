//! What `ekiben build` and `ekiben push` say of an image beside it.

use std::time::Instant;

use super::printer::{NAME, dim_time};
use super::signing::SignerArgs;
use super::{Context, Failure};
use crate::build::attest::{self, Attestation, Kind};
use crate::build::provenance::Facts;
use crate::formats::sbom;
use crate::image::registry::Reference;
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

/// What is said, and signed.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Say beside the image what is in it and how it was made, as referrers that go with it: an SBOM and provenance (SLSA); which
    /// ones, with commas behind `=`. The image stays the same.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "KINDS",
        num_args = 0..,
        require_equals = true,
        default_missing_values = ["spdx", "provenance"]
    )]
    attest: Vec<What>,
    #[command(flatten)]
    signer: SignerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// What is in it, as SPDX 2.3.
    Spdx,
    /// What is in it, as CycloneDX 1.6.
    Cyclonedx,
    /// How it was made, as SLSA v1.
    Provenance,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            Self::Spdx => Kind::Sbom(sbom::Format::Spdx),
            Self::Cyclonedx => Kind::Sbom(sbom::Format::CycloneDx),
            Self::Provenance => Kind::Provenance,
        }
    }
}

impl Args {
    /// Whether anything is.
    pub fn are_meant(&self) -> bool {
        !self.attest.is_empty()
    }

    /// Says it of the image or index `digest` of the store, there and where it is pushed to. Whoever has just built it knows the
    /// `facts`.
    pub fn attest(
        &self,
        context: &Context,
        session: &Session,
        digest: &Digest,
        targets: &[Reference],
        facts: Option<&Facts>,
    ) -> Result<(), Failure> {
        if !self.are_meant() {
            return match self.signer.is_given() {
                true => {
                    let hint = "add --attest; the image itself is signed by `ekiben sign`";
                    let explanation = ErrorKind::Usage.named("attest/nothing-to-sign").hint(hint);
                    Err(Failure::new(explanation, "nothing is said of the image that could be signed"))
                }
                false => Ok(()),
            };
        }
        let started = Instant::now();
        let mut kinds: Vec<Kind> = self.attest.iter().map(|what| what.kind()).collect();
        kinds.dedup();
        let signer = self.signer.signer()?;
        let made = attest::made(session, digest, &kinds, facts, signer.as_ref())?;
        let has = |kind| made.iter().any(|one| one.kind == kind);
        if kinds.contains(&Kind::Provenance) && !has(Kind::Provenance) {
            context.printer.warn(
                "how the image was made is not known here: whoever builds it says it, with `ekiben build --attest`",
            );
        }
        for target in targets {
            attest::push(session, &made, target)?;
        }
        let names = kinds.iter().filter(|kind| has(**kind)).map(|kind| match kind {
            Kind::Sbom(format) => format.to_string(),
            Kind::Provenance => "provenance".to_owned(),
        });
        let names = names.collect::<Vec<_>>().join(", ");
        let images =
            made.iter().map(|Attestation { subject, .. }| subject.digest).collect::<std::collections::BTreeSet<_>>();
        let images = images.iter().map(Digest::short).collect::<Vec<_>>().join(", ");
        let signed = if signer.is_some() { ", signed" } else { "" };
        let time = dim_time(started.elapsed());
        context.printer.status("Attested", format!("{NAME}{images}{NAME:#} by {names}{signed} {time}"));
        Ok(())
    }
}
