//! What is said about an image, as a manifest of its own that names the image: a referrer.
//!
//! OCI image specification 1.1, `manifest.md`, "Guidelines for Artifact Usage".

use std::collections::BTreeMap;

use super::{Descriptor, Document, Malformed, Manifest, MediaType};

/// The configuration of what needs none (`manifest.md`, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";

/// Something about an image, with its bytes: a signature, a list of what is in it, how it was made.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    /// What it is.
    pub artifact_type: String,
    /// What its configuration says; most need none.
    pub config: Option<(Descriptor, Vec<u8>)>,
    /// What it consists of. Descriptors carry the annotations.
    pub layers: Vec<(Descriptor, Vec<u8>)>,
    /// What else is said of it.
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// One of a single layer.
    pub fn of(artifact_type: &str, media_type: &str, bytes: Vec<u8>) -> Self {
        let layer = Descriptor::of(media_type.into(), &bytes);
        Self { artifact_type: artifact_type.to_owned(), layers: vec![(layer, bytes)], ..Self::default() }
    }

    /// Its blobs.
    pub fn blobs(&self) -> Vec<(Descriptor, Vec<u8>)> {
        [self.config()].into_iter().chain(self.layers.iter().cloned()).collect()
    }

    /// Its manifest, which is about `subject`.
    ///
    /// # Errors
    /// Never, as long as what is written here can be read.
    pub fn about(&self, subject: &Descriptor) -> Result<Document, Malformed> {
        let manifest = Manifest {
            config: self.config().0,
            layers: self.layers.iter().map(|(layer, _)| layer.clone()).collect(),
            annotations: self.annotations.clone(),
            artifact_type: Some(self.artifact_type.clone()),
            // What else a list says of the image is no part of its name.
            subject: Some(Box::new(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size))),
        };
        Document::read(manifest.write(), None)
    }

    fn config(&self) -> (Descriptor, Vec<u8>) {
        let empty = || (Descriptor::of(MediaType::Empty, EMPTY), EMPTY.to_vec());
        self.config.clone().unwrap_or_else(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_names_what_it_is_about() {
        let mut image = Descriptor::of(MediaType::Manifest, b"image");
        image.annotations.insert("a".to_owned(), "b".to_owned());
        let artifact = Artifact::of("application/x", "text/plain", b"text".to_vec());
        let document = artifact.about(&image).unwrap();
        let subject = document.subject().unwrap();
        assert_eq!((subject.digest, subject.annotations.len()), (image.digest, 0));
        let listed = document.referrer().unwrap();
        assert_eq!((listed.digest, listed.artifact_type.as_deref()), (document.digest, Some("application/x")));
        assert_eq!(document.blobs().len(), 2);
        assert_eq!(
            Descriptor::of(MediaType::Empty, EMPTY).digest.to_string(),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}
