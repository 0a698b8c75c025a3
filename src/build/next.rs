//! The version of an image whose manifest leaves it open: one more than the last one, here and where it is pushed to.
//!
//! Invariant: the same bundle keeps its version, and no layer has a word of it.

use crate::bundle;
use crate::bundle::runtime::BUNDLE_LABEL;
use crate::image::oci::platform::Platform;
use crate::image::registry::{self, Reference, Registries};
use crate::image::session::Session;
use crate::image::store::{self, ImageName, Store};
use crate::image::{Image, remote};
use crate::io::explain::{Explain, Explanation};

use super::input::Input;

/// The tag that stands for the version.
pub const TAG: &str = "next";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The registry says no.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Store(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Registry(error) => error.explain(),
        }
    }
}

/// The version of the image that is built of `input` under `names`; `targets` are where it is pushed to.
///
/// # Errors
/// When it cannot be told which versions there are.
pub fn version(session: &Session, input: &Input, names: &[ImageName], targets: &[Reference]) -> Result<u64, Error> {
    let own = input.bundle.digest(session)?.to_string();
    let mut last = 0;
    let mut same = None;
    let mut consider = |number: u64, image: Option<Image>| {
        last = last.max(number);
        if image.is_some_and(|image| said(&image, BUNDLE_LABEL).is_some_and(|digest| digest == own)) {
            same = same.max(Some(number));
        }
    };
    let is_meant = |name: &ImageName| {
        name.repository() == input.bundle.name() || names.iter().any(|other| other.repository() == name.repository())
    };
    for record in session.store.images()?.into_iter().filter(|record| is_meant(&record.name)) {
        if let Some(number) = number(record.name.tag()) {
            // What cannot be read is another one.
            consider(number, Image::of_record(&session.store, &record).ok());
        }
    }
    if !targets.is_empty() {
        let registries = Registries::new(session);
        for target in targets {
            let tags = registries.repository(target).tags()?;
            if let Some(number) = tags.iter().filter_map(|tag| number(tag)).max() {
                let reference = target.tagged(number.to_string());
                let found = Platform::host().ok().and_then(|host| remote::find(session, &reference, host).ok());
                consider(number, found.map(|(_, image)| image));
            }
        }
    }
    Ok(same.unwrap_or(last + 1))
}

/// The image with the version.
pub fn versioned(image: Image, version: u64) -> Image {
    let label = ("org.opencontainers.image.version".to_owned(), version.to_string());
    image.with_annotations([label.clone()]).with_config(|config| {
        let mut labels = config.labels().clone().unwrap_or_default();
        labels.extend([label]);
        config.set_labels(Some(labels));
    })
}

/// The name with the version in the place of the word for it.
pub fn named(name: &ImageName, version: u64) -> Option<ImageName> {
    match name.tag() {
        TAG => format!("{}:{version}", name.repository()).parse().ok(),
        _ => Some(name.clone()),
    }
}

/// The last version of a name that is here.
///
/// # Errors
/// When the store cannot be read.
pub fn last(store: &Store, repository: &str) -> Result<Option<String>, store::Error> {
    let own = store.images()?.into_iter().filter(|record| record.name.repository() == repository);
    Ok(own.filter_map(|record| number(record.name.tag())).max().map(|last| last.to_string()))
}

/// A tag that is a version of this kind.
fn number(tag: &str) -> Option<u64> {
    tag.parse().ok().filter(|number: &u64| number.to_string() == tag)
}

fn said(image: &Image, label: &str) -> Option<String> {
    image.config().labels().as_ref()?.get(label).cloned()
}
