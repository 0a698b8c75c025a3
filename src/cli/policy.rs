//! The policy that stands before images which are to be used.

use std::path::PathBuf;

use super::{Context, Failure};
use crate::build::built::Built;
use crate::build::gate::{self, Gate};
use crate::build::workflow;
use crate::formats::diagnostic::Diagnostics;
use crate::image::Image;
use crate::image::oci::platform::Platform;
use crate::image::oci::{Content, Document};
use crate::image::policy::Name;
use crate::image::registry::{Reference, Registries};
use crate::image::remote;
use crate::image::session::Session;
use crate::image::sign::Place;
use crate::image::store::ImageName;
use crate::io::digest::Digest;

/// Which policy.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct PolicyArgs {
    /// What images need, in a file: as `ekiben-policy.yaml`, or the `policy.json` of containers. An image that lacks something is
    /// refused, and all that is missing is said; it ends with 8.
    #[arg(long, value_name = "FILE", env = "EKIBEN_POLICY")]
    pub policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// What has to be passed; none where nothing is said.
    pub fn gate(&self, context: &Context) -> Result<Option<Gate>, Failure> {
        let Some(path) = self.policy.as_ref().filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
        let mut found = Diagnostics::new();
        match Gate::read(path, &mut found).filter(|_| !found.has_errors()) {
            Some(gate) => Ok(Some(gate)),
            None => Err(workflow::Error::mistakes(path, &found, context).into()),
        }
    }
}

/// Judges all that `reference` names in its registry; gives the digest of it, which is what may be used.
pub fn judge_there(session: &Session, gate: &Gate, reference: &Reference) -> Result<Digest, Failure> {
    let place = Place::Registry(Registries::new(session).repository(reference));
    let top = place.manifest(&reference.wanted())?;
    let host = Platform::host()?;
    let find = |digest: &Digest| Ok(Some(remote::find(session, &reference.at(*digest), host)?.1));
    judge_all(session, gate, &Name::Registry(reference.clone()), &place, &top, &find)?;
    Ok(top.digest)
}

/// Judges all images of `top`. One for a platform that is not known here is judged without a look into it.
pub fn judge_all(
    session: &Session,
    gate: &Gate,
    name: &Name,
    place: &Place,
    top: &Document,
    find: &dyn Fn(&Digest) -> Result<Option<Image>, Failure>,
) -> Result<(), Failure> {
    let Content::Index(index) = &top.content else {
        gate.judge(session, name, place, &[top.digest], find(&top.digest)?.as_ref())?;
        return Ok(());
    };
    for image in index.images() {
        let is_known = image.platform.as_ref().is_none_or(|platform| platform.known().is_ok());
        let found = if is_known { find(&image.digest)? } else { None };
        gate.judge(session, name, place, &[top.digest, image.digest], found.as_ref())?;
    }
    Ok(())
}

/// Judges `image` of the store, which has the name and the digest.
pub fn judge_here(
    session: &Session,
    gate: &Gate,
    name: &ImageName,
    digest: Digest,
    image: &Image,
) -> Result<(), gate::Error> {
    let place = Place::Store(session.store.clone());
    let mut tops = vec![digest];
    if let Content::Index(index) = place.manifest(&digest.to_string())?.content {
        tops.extend(index.choose_any().map(|image| image.digest));
    }
    gate.judge(session, &name_here(name), &place, &tops, Some(image))
}

/// Judges what was built or found for this command.
pub fn judge_built(session: &Session, gate: &Gate, built: &Built) -> Result<(), Failure> {
    judge_here(session, gate, &built.name, built.digest, &built.image).map_err(|error| {
        let lacks_signatures = matches!(&error, gate::Error::Refused(refusal) if refusal.lacks_signatures);
        let failure = Failure::from(error);
        match lacks_signatures {
            true => failure.or_hint("signatures come along with `ekiben pull --policy`; `ekiben sign NAME` signs here"),
            false => failure,
        }
    })
}

/// What an image of the store is called: as in the registry that its name says.
pub fn name_here(name: &ImageName) -> Name {
    let text = name.to_string();
    match text.parse() {
        Ok(reference) if Reference::names_registry(&text) => Name::Registry(reference),
        _ => Name::Store(name.clone()),
    }
}
