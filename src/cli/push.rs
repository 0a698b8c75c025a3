//! `ekiben push`

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use super::inputs::Parts;
use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure, attest, completions};
use crate::build::{dockerfile, workflow};
use crate::bundle::apart::Part;
use crate::bundle::artifact;
use crate::image::Image;
use crate::image::registry::{self, Pushed, Reference, Registries};
use crate::image::session::Session;
use crate::image::sign::{self, Place};
use crate::image::store::ImageQuery;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben push registry.example/iris:1.0\n\
\x20 ekiben push iris:1.0 registry.example/iris:1.0 registry.example/iris:latest\n\
\x20 ekiben push iris:1.0 registry.example/iris-models --models-only\n\
\x20 ekiben push iris:1.0 registry.example/iris:1.0-model --as modelpack";

/// Push an image to a registry: only the bytes that it lacks move
///
/// Prints the digest of the image. What the registry has is not sent again, and what another repository of it has is
/// mounted from there. An interrupted upload is taken up where it stopped. The tag is set last, when all is there.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image, by its name in the local store. Without a tag: `latest`, the version of the project here, or the only
    /// one.
    #[arg(add = completions::images())]
    image: ImageQuery,
    /// Where to; without it, to where the image's name says. A repository without a tag gets the image's.
    #[arg(value_name = "REF")]
    references: Vec<String>,
    #[command(flatten)]
    parts: Parts,
    /// The model alone, as other tools for models read it: its layers are the image's own.
    #[arg(long = "as", value_name = "FORM", conflicts_with_all = ["without_models", "models_only", "attest"])]
    form: Option<Form>,
    #[command(flatten)]
    attest: attest::Args,
}

/// How a model lies in a registry.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// An artifact by the CNCF's ModelPack.
    Modelpack,
    /// An image with the model below /models, as KServe mounts it: the same as --models-only.
    Modelcar,
    /// An artifact of archives, as oras pulls them.
    Artifact,
}

impl From<Form> for artifact::Form {
    fn from(form: Form) -> Self {
        match form {
            Form::Modelpack => Self::ModelPack,
            Form::Modelcar => Self::ModelCar,
            Form::Artifact => Self::Plain,
        }
    }
}

#[derive(Serialize)]
struct PushReport {
    digest: Digest,
    pushed: Vec<Pushed>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let image = workflow::find(&session.store, &args.image)?;
    let own = image.name.to_string();
    let part = args.parts.part();
    if (part != Part::Whole || args.form.is_some()) && args.references.is_empty() {
        let explanation = ErrorKind::Usage.named("push/part-without-place").hint("write a REF behind the image");
        return Err(Failure::new(explanation, format!("`{own}` is the name of the whole image")));
    }
    let texts = if args.references.is_empty() { std::slice::from_ref(&own) } else { &args.references[..] };
    let mut targets = texts.iter().map(|text| target(text)).collect::<Result<Vec<_>, _>>()?;
    for target in &mut targets {
        if target.tag().is_none() && target.digest().is_none() {
            *target = target.tagged(image.name.tag());
        }
    }
    let whole = Image::handed_on(&session, image)?.0.digest;
    let digest = match args.form {
        Some(form) => artifact::of_stored(&session, &whole, form.into())?,
        None => part.of_stored(&session, &whole)?.0,
    };
    args.attest.attest(context, &session, &digest, &targets, None)?;
    let pushed = match args.form {
        Some(_) => sent(context, &session, &digest, &targets)?,
        None => push(context, &session, &digest, &targets)?,
    };
    context.printer.report(&PushReport { digest, pushed })?;
    Ok(Exit::Success)
}

/// A reference that names its registry: nobody means to push to Docker Hub by leaving it out.
pub fn target(text: &str) -> Result<Reference, Failure> {
    let reference = text.parse()?;
    if !Reference::names_registry(text) {
        let explanation =
            ErrorKind::Usage.named("push/no-registry").hint(format!("write HOST/{text}; Docker Hub is docker.io"));
        return Err(Failure::new(explanation, format!("`{text}` names no registry to push to")));
    }
    Ok(reference)
}

/// Pushes an image of the store to each of `targets`, and says so.
pub fn push(
    context: &Context,
    session: &Session,
    digest: &Digest,
    targets: &[Reference],
) -> Result<Vec<Pushed>, Failure> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(commands) = dockerfile::executed(&Image::load(&session.store, digest)?) {
        context.printer.status("Holding", format!("what commands have left: {commands} were executed for it"));
    }
    sent(context, session, digest, targets)
}

/// Pushes a manifest of the store to each of `targets`, and says so.
fn sent(context: &Context, session: &Session, digest: &Digest, targets: &[Reference]) -> Result<Vec<Pushed>, Failure> {
    let registries = Registries::new(session);
    let mut all = Vec::new();
    for target in targets {
        let started = Instant::now();
        let pushed = registry::push(session, &registries, digest, target)?;
        say(context, "Pushed", &pushed, started);
        let here = Place::Store(session.store.clone());
        let subjects = sign::subjects(&session.store.document(digest)?);
        take_along(context, &here, &Place::Registry(registries.repository(target)), &subjects)?;
        all.push(pushed);
    }
    Ok(all)
}

/// Takes along what is said of images, and says so.
pub fn take_along(context: &Context, from: &Place, to: &Place, subjects: &[Digest]) -> Result<(), Failure> {
    let carried = sign::carry(from, to, subjects)?;
    if carried > 0 {
        let things = if carried == 1 { "signature or referrer" } else { "signatures and referrers" };
        context.printer.status("Attached", format!("{carried} {things} that lay beside it"));
    }
    Ok(())
}

/// Says what moved.
pub fn say(context: &Context, verb: &str, pushed: &Pushed, started: Instant) {
    let Pushed { reference, sent, spared, .. } = pushed;
    let (sent, spared, time) = (Size(*sent), Size(*spared), dim_time(started.elapsed()));
    context.printer.status(verb, format!("{NAME}{reference}{NAME:#} {sent} sent, {spared} there already {time}"));
}

impl Report for PushReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
