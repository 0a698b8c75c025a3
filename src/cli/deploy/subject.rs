//! What `ekiben deploy` is given: a project, a bundle or an image, and where a cluster can pull it from.

use std::collections::BTreeMap;

use super::wishes::Wishes;
use crate::build::input::Input;
use crate::build::workflow::{self, Goal, Opened};
use crate::bundle::apart::{self, Part};
use crate::bundle::extract;
use crate::bundle::runtime::Convention;
use crate::check::target::Target as Named;
use crate::cli::inputs::Inputs;
use crate::cli::{Context, Failure, ensure, push};
use crate::deploy::{Target, Weight, is_trained};
use crate::image::Image;
use crate::image::layer::Layer;
use crate::image::oci::platform::Platform;
use crate::image::registry::{Reference, Registries};
use crate::image::remote;
use crate::image::session::Session;
use crate::io::compress::Compression;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::Models;
use crate::project::validate::deploy::Model;

/// Where images are, or are pushed to.
pub struct Place {
    pub push: Option<Reference>,
    pub image: Option<String>,
    pub models_image: Option<String>,
}

impl Place {
    /// The repository of the weights beside that of the image: HOST/NAME-models.
    fn of_models(named: &Reference) -> Result<Reference, Failure> {
        Ok(format!("{}-models", named.place()).parse()?)
    }
}

/// What is deployed, and what its manifest says of how.
pub struct Subject {
    pub manifest: Manifest,
    version: String,
    convention: Convention,
    /// Paths below the model's folder, with their sizes.
    weights: BTreeMap<String, Weight>,
    source: Origin,
}

/// Where an image comes from.
enum Origin {
    /// It is built of this.
    Input(Box<Input>),
    /// It is in the local store.
    Here(Digest, String),
    /// It is in a registry.
    There(Reference),
}

impl Subject {
    /// What the argument names.
    pub fn of(
        context: &Context,
        session: &Session,
        inputs: Inputs,
        place: &Place,
        platforms: &[Platform],
        wishes: &Wishes,
    ) -> Result<Self, Failure> {
        if let Named::Name(text) = Named::of(&inputs.path)? {
            return Self::named(session, &text, place, platforms, wishes);
        }
        let opened = Opened::open(session, inputs.request(context)?, context)?;
        let manifest = opened.manifest().clone();
        if place.push.is_none() && place.image.is_none() {
            return Err(only_here(&manifest.name));
        }
        let input = opened.input(session, platforms, Goal::Bundle, context)?;
        let weights = input.bundle.weights().iter();
        Ok(Self {
            manifest,
            version: input.bundle.version().to_owned(),
            convention: input.bundle.convention(),
            weights: weights.map(|weight| (weight.path.to_string(), Weight::of_size(weight.content.size()))).collect(),
            source: Origin::Input(Box::new(input)),
        })
    }

    /// An image that is in a registry, or is pushed to one.
    pub fn named(
        session: &Session,
        text: &str,
        place: &Place,
        platforms: &[Platform],
        wishes: &Wishes,
    ) -> Result<Self, Failure> {
        let platform = platforms.first().copied().map_or_else(Platform::host, Ok)?;
        let (source, image) = if place.push.is_some() || !Reference::names_registry(text) {
            let record = workflow::find(&session.store, &text.parse()?)?;
            if place.push.is_none() {
                return Err(only_here(text));
            }
            let tag = record.name.tag().to_owned();
            let (record, image) = Image::handed_on(session, record)?;
            (Origin::Here(record.digest, tag), image)
        } else {
            let reference: Reference = text.parse()?;
            let (digest, image) = remote::find(session, &reference, platform)?;
            (Origin::There(reference.at(digest)), image)
        };
        let about = |key: &str| {
            let labels = image.config().labels().as_ref()?;
            labels.get(&format!("org.opencontainers.image.{key}")).cloned()
        };
        let convention = match image.config().working_dir().as_deref() {
            Some(folder) if folder == Convention::Bento.code() => Convention::Bento,
            _ => Convention::Ekiben,
        };
        let manifest = match extract::manifest_on_top(session, &image)? {
            Some(manifest) => manifest,
            None => stranger(&image, text, about("title"), wishes)?,
        };
        Ok(Self {
            manifest,
            version: about("version").unwrap_or_else(|| "unknown".to_owned()),
            convention,
            weights: weights_of(&image),
            source,
        })
    }

    /// With its image in a registry, and that of its weights where they are a volume.
    pub fn placed(
        self,
        context: &Context,
        session: &Session,
        place: &Place,
        platforms: &[Platform],
        models: &Models,
    ) -> Result<Target, Failure> {
        let part = match models {
            Models::Image | Models::Node => Part::Whole,
            Models::Volume | Models::S3(_) | Models::Claim(_) => Part::Code,
        };
        let is_volume = *models == Models::Volume;
        let mut models =
            place.models_image.as_deref().filter(|_| is_volume).map(|text| there(session, text)).transpose()?;
        let image = match (self.source, &place.push) {
            (Origin::Input(input), Some(named)) => {
                if is_volume {
                    let named = Place::of_models(named)?;
                    let own = ensure::image(context, session, (*input).clone(), platforms, Part::Models, &named)?;
                    models = Some(named.at(own.digest));
                }
                named.at(ensure::image(context, session, *input, platforms, part, named)?.digest)
            }
            (Origin::Here(digest, tag), Some(named)) => {
                let push = |part: Part, named: Reference| -> Result<Reference, Failure> {
                    let (digest, _) = part.of_stored(session, &digest)?;
                    let tagged = if named.tag().is_none() { named.tagged(tag.as_str()) } else { named.clone() };
                    push::push(context, session, &digest, &[tagged])?;
                    Ok(named.at(digest))
                };
                if is_volume {
                    models = Some(push(Part::Models, Place::of_models(named)?)?);
                }
                push(part, named.clone())?
            }
            (Origin::There(reference), _) => reference,
            (Origin::Input(_) | Origin::Here(..), None) => there(session, place.image.as_deref().unwrap_or_default())?,
        };
        if is_volume && models.is_none() {
            let explanation = ErrorKind::Usage
                .named("deploy/no-models")
                .hint("`--models-image HOST/NAME` says where; `--push HOST/NAME` pushes both");
            return Err(Failure::new(explanation, "nothing says where the image of the weights alone is"));
        }
        let mut weights = self.weights;
        if part == Part::Code {
            let platform = platforms.first().copied().map_or_else(Platform::host, Ok)?;
            weights = listed(&remote::find(session, &image, platform)?.1).unwrap_or(weights);
        }
        let target = Target::new(&self.manifest, &self.version, self.convention, image, weights);
        Ok(Target { models, ..target })
    }

    /// What settings are held against.
    pub fn model(&self) -> Model<'_> {
        let model = Model::of(&self.manifest, self.weights.values().map(|weight| weight.size).sum());
        Model { is_trained: is_trained(&model.duties, &self.weights), ..model }
    }
}

/// The weights of an image: what it says of them, where it does, else the sizes of the layers that are not compressed, which only
/// those of weights are.
fn weights_of(image: &Image) -> BTreeMap<String, Weight> {
    listed(image).unwrap_or_else(|| {
        let bare = |layer: &&Layer| layer.compression == Compression::None;
        let layers = image.layers().iter().filter(bare);
        layers.map(|layer| (layer.digest.hex(), Weight::of_size(layer.size))).collect()
    })
}

/// The weights that a part of an image names.
fn listed(image: &Image) -> Option<BTreeMap<String, Weight>> {
    let files = apart::Models::named(image.annotations())?.files.into_iter();
    Some(files.map(|file| (file.path, Weight { size: file.size, digest: Some(file.digest) })).collect())
}

/// What can be known of an image that Ekiben did not build: its port, and, where it is a bento's, how it answers.
fn stranger(image: &Image, reference: &str, title: Option<String>, wishes: &Wishes) -> Result<Manifest, Failure> {
    let is_bento = image.config().working_dir().as_deref() == Some(Convention::Bento.code());
    let ports = image.config().exposed_ports().clone().unwrap_or_default();
    let exposed = ports.iter().find_map(|port| port.split('/').next()?.parse().ok());
    let ready = wishes.ready.clone().or_else(|| is_bento.then(|| "/readyz".to_owned()));
    let port = wishes.port.or(if is_bento { Some(3000) } else { exposed });
    let (Some(ready), Some(port)) = (ready, port) else {
        let explanation = ErrorKind::Usage.named("deploy/unknown-image").hint("say `--port` and `--ready PATH`");
        let text = format!("`{reference}` does not say how it answers: ekiben did not build it");
        return Err(Failure::new(explanation, text));
    };
    let name = reference.parse::<Reference>()?.repository().rsplit('/').next().unwrap_or_default().to_lowercase();
    let manifest = serde_json::json!({
        "name": title.filter(|title| !title.is_empty()).unwrap_or(name),
        "service": {"command": ["serve"], "port": port, "ready": ready},
    });
    serde_json::from_value(manifest).map_err(|error| {
        Failure::new(ErrorKind::Usage.named("deploy/unknown-image"), format!("`{reference}`: {error}"))
    })
}

/// The image that `text` names, by its digest.
fn there(session: &Session, text: &str) -> Result<Reference, Failure> {
    let reference = push::target(text)?;
    let registries = Registries::new(session);
    let found: Option<Digest> = registries.repository(&reference).head(&reference.wanted())?;
    let Some(digest) = found else {
        let explanation = ErrorKind::Failure.named("deploy/no-image").hint("`--push HOST/NAME` sees that it is there");
        return Err(Failure::new(explanation, format!("its registry does not have `{reference}`")));
    };
    Ok(reference.at(digest))
}

fn only_here(name: &str) -> Failure {
    let explanation = ErrorKind::Usage.named("deploy/only-here").hint(
        "`--push HOST/NAME` sees that a registry has it; `--image HOST/NAME@DIGEST` names one that is there already",
    );
    Failure::new(
        explanation,
        format!("the image of `{name}` is only on this machine, and a cluster pulls from a registry"),
    )
}
