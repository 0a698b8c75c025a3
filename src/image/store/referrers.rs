//! What is about an image of the store: manifests of their own, as entries of `index.json` that have no name but a note of
//! what they are about. They stay as long as that does.

use std::collections::HashSet;

use super::{Error, Store};
use crate::image::oci::{self, Artifact, Descriptor, Document, Malformed};
use crate::io::digest::Digest;

/// What an entry is about, in the store's notes.
const SUBJECT: &str = "ekiben.subject";

/// That an entry is no referrer but what a registry has at a tag beside an image, and its kind, in the store's notes.
const BESIDE: &str = "ekiben.beside";

impl Store {
    /// What is about the manifest `subject`; of one kind alone where `artifact_type` says so. As a registry lists it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let of = |mut entry: Descriptor| {
            let about = entry.annotations.remove(SUBJECT)?;
            (about == subject.to_string() && !entry.annotations.contains_key(BESIDE)).then_some(entry)
        };
        let mut found: Vec<_> = self.index()?.manifests.into_iter().filter_map(of).collect();
        found.retain(|one| artifact_type.is_none() || one.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    /// The manifest of a referrer, which must be about `subject`.
    ///
    /// # Errors
    /// When it is not there, or is about something else.
    pub fn referrer(&self, digest: &Digest, subject: &Digest) -> Result<Document, Error> {
        let document = self.document(digest)?;
        match document.subject().is_some_and(|about| about.digest == *subject) {
            true => Ok(document),
            false => {
                let source = format!("it is not about {subject}").into();
                Err(Error::Damaged { path: self.blob_path(digest), source })
            }
        }
    }

    /// A manifest or an index.
    ///
    /// # Errors
    /// When it is not there, or is none.
    pub fn document(&self, digest: &Digest) -> Result<Document, Error> {
        let damaged = |error: Malformed| Error::Damaged { path: self.blob_path(digest), source: error.into() };
        Document::read(self.read_blob(digest, oci::LARGEST)?, None).map_err(damaged)
    }

    /// What lies beside `subject` as a registry has it at a tag of its own, where there is one: `sig` are simple signatures.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn beside(&self, subject: &Digest, kind: &str) -> Result<Option<Document>, Error> {
        let entries = self.index()?.manifests;
        entries
            .iter()
            .find(|entry| is_beside(entry, subject, kind))
            .map(|entry| self.document(&entry.digest))
            .transpose()
    }

    /// Puts what `change` makes of what lies beside `subject` in its place, where it makes something of it. The blobs of that must
    /// be there. Nobody else changes it meanwhile.
    ///
    /// # Errors
    /// Those of `change`, and when the disk says no.
    pub fn change_beside<E: From<Error>>(
        &self,
        subject: &Digest,
        kind: &str,
        change: impl FnOnce(Option<&Document>) -> Result<Option<Document>, E>,
    ) -> Result<(), E> {
        self.change_entries(|_, entries| {
            let before = entries.iter().find(|entry| is_beside(entry, subject, kind));
            let before = before.map(|entry| self.document(&entry.digest)).transpose()?;
            let Some(document) = change(before.as_ref())? else { return Ok(()) };
            self.put_bytes(&document.bytes)?;
            let mut entry = document.descriptor();
            entry.annotations.insert(BESIDE.to_owned(), kind.to_owned());
            entry.annotations.insert(SUBJECT.to_owned(), subject.to_string());
            entries.retain(|other| !is_beside(other, subject, kind));
            entries.push(entry);
            Ok(())
        })
    }

    /// Keeps `artifact` beside the manifest `subject`. Gives what lists of referrers say of it.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn attach(&self, subject: &Descriptor, artifact: &Artifact) -> Result<Descriptor, Error> {
        for (_, bytes) in artifact.blobs() {
            self.put_bytes(&bytes)?;
        }
        self.keep_referrer(&artifact.about(subject).map_err(std::io::Error::other)?)
    }

    /// Keeps the manifest of a referrer, whose blobs are there.
    ///
    /// # Errors
    /// When it is about nothing, or the disk says no.
    pub fn keep_referrer(&self, document: &Document) -> Result<Descriptor, Error> {
        let about = document.subject().zip(document.referrer());
        let (subject, referrer) = about.ok_or_else(|| std::io::Error::other("it is about nothing"))?;
        self.put_bytes(&document.bytes)?;
        let mut entry = referrer.clone();
        // What its maker says is no note of the store's.
        entry.annotations.retain(|name, _| ![oci::NAME, BESIDE].contains(&name.as_str()));
        entry.annotations.insert(SUBJECT.to_owned(), subject.digest.to_string());
        self.change_entries(|_, entries| {
            if !entries.iter().any(|known| known.digest == entry.digest) {
                entries.push(entry);
            }
            Ok::<_, Error>(())
        })?;
        Ok(referrer)
    }

    /// Adds to `blobs` what referrers of these need, and those of referrers.
    pub(super) fn reach_referrers(&self, blobs: &mut HashSet<Digest>) -> Result<(), Error> {
        let mut entries = self.index()?.manifests;
        loop {
            let is_needed = |entry: &Descriptor| subject(entry).is_some_and(|subject| blobs.contains(&subject));
            let (needed, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_needed);
            if needed.is_empty() {
                return Ok(());
            }
            for entry in needed {
                blobs.insert(entry.digest);
                // One that is gone or damaged keeps nothing.
                let Ok(bytes) = self.read_blob(&entry.digest, oci::LARGEST) else { continue };
                let Ok(document) = Document::read(bytes, None) else { continue };
                blobs.extend(document.blobs().iter().map(|blob| blob.digest));
            }
            entries = others;
        }
    }

    /// Forgets the referrers that are not among `blobs`.
    pub(super) fn forget_referrers(&self, blobs: &HashSet<Digest>) -> Result<(), Error> {
        if self.index()?.manifests.iter().all(|entry| subject(entry).is_none() || blobs.contains(&entry.digest)) {
            return Ok(());
        }
        self.change_entries(|_, entries| {
            entries.retain(|entry| blobs.contains(&entry.digest));
            Ok(())
        })
    }
}

/// What an entry of the index is about; none of an image.
pub(super) fn subject(entry: &Descriptor) -> Option<Digest> {
    entry.annotations.get(SUBJECT)?.parse().ok()
}

fn is_beside(entry: &Descriptor, about: &Digest, kind: &str) -> bool {
    entry.annotations.get(BESIDE).is_some_and(|known| known == kind) && subject(entry).as_ref() == Some(about)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::image::oci::{Manifest, MediaType};
    use crate::image::store::{Purpose, Reach};
    use crate::io::progress::Progress;

    #[test]
    fn what_is_about_an_image_stays_as_long_as_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]}}"#;
        store.put_bytes(config).unwrap();
        let manifest =
            Manifest::image(Descriptor::of(MediaType::Configuration, config), Vec::new(), BTreeMap::new()).write();
        store.put_bytes(&manifest).unwrap();
        let image = Descriptor::of(MediaType::Manifest, &manifest);
        let name = "iris:1".parse().unwrap();
        store.tag(&name, image.clone()).unwrap();

        let signature = Artifact::of("application/x", "text/plain", b"signature".to_vec());
        let signed = store.attach(&image, &signature).unwrap();
        assert_eq!(store.attach(&image, &signature).unwrap(), signed, "once");
        let about = store.attach(&signed, &Artifact::of("application/y", "text/plain", b"of it".to_vec())).unwrap();
        let nothing = Descriptor::of(MediaType::Manifest, b"gone");
        let stray = store.attach(&nothing, &signature).unwrap();
        assert_eq!(store.referrers(&image.digest, None).unwrap(), vec![signed.clone()]);
        assert!(store.referrers(&image.digest, Some("application/y")).unwrap().is_empty());
        assert!(store.referrer(&signed.digest, &nothing.digest).is_err());
        assert_eq!(store.images().unwrap().len(), 1);

        let prune =
            || store.prune(Reach::Caches, &|| Ok(Default::default()), Purpose::Remove, &Progress::silent()).unwrap();
        prune();
        assert!(store.has_blob(&signed.digest) && store.has_blob(&about.digest) && !store.has_blob(&stray.digest));
        assert!(store.has_blob(&Digest::of("signature")) && store.has_blob(&Digest::of("of it")));
        assert!(store.referrers(&nothing.digest, None).unwrap().is_empty());
        store.untag(&name).unwrap();
        prune();
        assert!(!store.has_blob(&signed.digest) && !store.has_blob(&about.digest));
        assert!(store.referrers(&image.digest, None).unwrap().is_empty());
    }
}
