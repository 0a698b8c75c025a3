//! What comes of a build, and who is told on the way there.

use std::path::Path;
use std::time::Duration;

use crate::bundle::extract;
use crate::formats::diagnostic::Diagnostics;
use crate::image::session::Session;
use crate::image::store::ImageName;
use crate::image::{self, Image};
use crate::io::digest::Digest;
use crate::project::lock::Lock;
use crate::project::manifest::Manifest;

/// Who is told how it goes on.
pub trait Watch {
    /// What is to be said of documents: warnings, or the mistakes that end the work.
    fn diagnostics(&self, found: &Diagnostics);

    /// A step is done.
    fn done(&self, step: Step<'_>, took: Duration);
}

/// Who looks away.
pub struct Nobody;

impl Watch for Nobody {
    fn diagnostics(&self, _: &Diagnostics) {}

    fn done(&self, _: Step<'_>, _: Duration) {}
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The project of this name was read and checked.
    Validated(&'a str),
    /// The bento of this name was.
    Read(&'a str),
    /// A lock was written.
    Locked(&'a Lock),
    /// The lock of a Dockerfile was written, with its images and commands.
    DockerfileLocked(&'a Path),
    /// An image was built, or found as it was built before.
    Built(&'a ImageName, &'a Image),
}

/// An image, and what it was built from.
pub struct Built {
    /// What it is called in the store.
    pub name: ImageName,
    /// Of its manifest, or of the index of several platforms. Others see it only after [`Built::finished`].
    pub digest: Digest,
    /// The image, or the first of several.
    pub image: Image,
    /// What it was built from, with what the files hold that its tests name; none of an image that was there before.
    pub manifest: Option<Manifest>,
    /// The version that it was given, where its manifest leaves that open.
    pub version: Option<u64>,
}

impl Built {
    /// The same, with the manifest that an image of Ekiben's has in it: what that says of running it. One that this version
    /// cannot read says nothing.
    pub fn with_manifest(self, session: &Session) -> Self {
        let manifest = self.manifest.or_else(|| extract::manifest_on_top(session, &self.image).ok().flatten());
        Self { manifest, ..self }
    }

    /// The digest of the image as it is handed on: see [`Image::finished`]. Its names are that image's then.
    ///
    /// # Errors
    /// As [`Image::finished`].
    pub fn finished(&self, session: &Session) -> Result<Digest, image::Error> {
        if !self.image.is_draft() {
            return Ok(self.digest);
        }
        Ok(self.image.clone().in_place_of(&session.store, &session.progress, &self.digest)?.0)
    }
}
