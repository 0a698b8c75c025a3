//! What stands before an image that is to be used: a policy, held against what is found out about the image. What signatures
//! demand is looked at first; only if that is well is anything of the image itself read.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::build::dockerfile;
use crate::bundle::extract;
use crate::bundle::runtime::BUNDLE_LABEL;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::model::Origin;
use crate::image::policy::{Demand, Facts, Name, Policy, Refusal};
use crate::image::registry;
use crate::image::session::Session;
use crate::image::sign::{self, Place};
use crate::image::{self, Image};
use crate::io::digest::Digest;
use crate::io::explain::{Explain, Explanation, carry, with_causes};
use crate::project::files::Files;
use crate::project::validate::model::{judge_file, read_origin};

/// Why an image is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its signatures cannot be looked at.
    #[error(transparent)]
    Sign(#[from] sign::Error),
    /// It cannot be looked into.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A layer that is needed for a look cannot be had.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Refused(error) => error.explain(),
            Self::Sign(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Registry(error) => error.explain(),
        }
    }
}

/// A policy that is to be fulfilled.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    shown: String,
}

impl Gate {
    /// Reads the policy `path`. Mistakes go to `found`; none where there are some.
    pub fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let policy = Policy::read(path, found)?;
        Some(Self { policy, shown: crate::formats::document::shown(path) })
    }

    /// The policy with its keys within: see [`Policy::portable`].
    pub fn portable(&self) -> (&'static str, String) {
        self.policy.portable()
    }

    /// Whether `image`, called `name`, may be used; none cannot be looked into. It lies in `place`, where `tops` are its manifest and the index that it was
    /// found by: a signature of either will do. Its layers may be fetched for a look.
    ///
    /// # Errors
    /// [`Error::Refused`] with all that is missing, else when it cannot be looked at.
    pub fn judge(
        &self,
        session: &Session,
        name: &Name,
        place: &Place,
        tops: &[Digest],
        image: Option<&Image>,
    ) -> Result<(), Error> {
        let demand = self.policy.demand(name);
        let mut facts = Facts { now: now(), ..Facts::default() };
        for signed in &demand.signed {
            let keys: Vec<_> = signed.by.iter().map(|(_, key)| key).collect();
            let found = tops.iter().map(|top| place.signatures(top, &keys));
            facts.signatures.push(found.collect::<Result<_, _>>()?);
        }
        let outside = Demand { base: None, licenses: None, no_commands: false, no_pickles: false, ..demand.clone() };
        let mut missing = outside.missing(name, &facts);
        let lacks_signatures = demand.refused.is_none() && !missing.is_empty();
        // What nobody vouches for is not unpacked for a look.
        if missing.is_empty() && demand.looks_inside() {
            match image {
                Some(image) => {
                    look_inside(session, &demand, image, &mut facts)?;
                    missing = demand.missing(name, &facts);
                }
                None => missing.push("an image of it is for a platform that cannot be looked into here".to_owned()),
            }
        }
        let Some(digest) = tops.first().copied().filter(|_| !missing.is_empty()) else { return Ok(()) };
        let name = name.tagged().unwrap_or_else(|| name.place());
        Err(Refusal { name, digest, policy: self.shown.clone(), missing, lacks_signatures }.into())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What an image says of itself, and what its weights would do.
fn look_inside(session: &Session, demand: &Demand, image: &Image, facts: &mut Facts) -> Result<(), Error> {
    let about = |key: &str| {
        let key = format!("org.opencontainers.image.{key}");
        let label = || image.config().labels().as_ref()?.get(&key).cloned();
        image.annotations().get(&key).cloned().or_else(label)
    };
    facts.licenses = about("licenses");
    // What Ekiben builds says how many there were, where there were any; of what another tool has built, nobody knows.
    let labels = image.config().labels().as_ref();
    let is_ours = labels.is_some_and(|labels| labels.contains_key(BUNDLE_LABEL));
    facts.commands = dockerfile::executed(image).or_else(|| is_ours.then_some(0));
    if demand.base.is_some() {
        facts.base.extend(about("base.digest"));
        if let Ok(Some(manifest)) = extract::manifest_on_top(session, image) {
            facts.base.push(manifest.base.to_string());
        }
    }
    if demand.no_pickles {
        registry::fetch(session, image.layers())?;
        facts.pickles = pickles(session, image);
    }
    Ok(())
}

/// What files of the model would run when they are loaded, whatever the manifest allows; that they cannot be looked into, too.
fn pickles(session: &Session, image: &Image) -> Vec<String> {
    let bundle = match extract::of_image(session, image) {
        Ok(bundle) => bundle,
        Err(error) => return vec![format!("its weights could not be looked into: {}", with_causes(&error))],
    };
    let weights = bundle.weights().iter().map(|weight| (&weight.path, &weight.content));
    let members = bundle.members().iter().map(|(path, member)| (path, &member.content));
    let mut found = Diagnostics::new();
    for (path, content) in weights.chain(members).filter(|(_, content)| content.size() > 0) {
        let open = || content.open().map_err(carry);
        let (name, size) = (path.as_str(), content.size());
        if let Some(model) = read_origin(&Origin::Stream(&open), name, name, size, &mut found) {
            judge_file(&model, name, &[], &Files::default(), &mut found);
        }
    }
    let counts = |code: Code| {
        matches!(
            code,
            Code::DangerousGlobal
                | Code::ComputedGlobal
                | Code::CarriesCode
                | Code::BrokenModel
                | Code::NotLookedInto
                | Code::Unreadable
        )
    };
    let told = found.sorted().into_iter().filter(|one| counts(one.code));
    told.map(|one| format!("{}: {} ({})", one.primary.source.path(), one.message, one.code)).collect()
}
