//! What is at an address, looked at where it lies.

use std::io::{self, Read};

use super::{At, Error, Place, Remote, Source};
use crate::image::download;
use crate::image::session::Session;
use crate::io::digest::Digest;
use crate::io::explain::carry;
use crate::io::http::Method;
use crate::project::address::Address;

/// The files at an address.
pub struct Catalogue<'a> {
    place: Place<'a>,
    files: Vec<Remote>,
}

/// A file at an address, as far as its server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its path in the folder that the address names, or its own name.
    pub name: &'a str,
    /// In bytes.
    pub size: Option<u64>,
    /// Of its bytes, where the server says it.
    pub digest: Option<Digest>,
    /// What tells this version of it from others.
    pub version: Option<&'a str>,
}

impl<'a> Catalogue<'a> {
    /// Asks what is at `address` now. No file is fetched, but those of archives in registries.
    ///
    /// # Errors
    /// When nobody there can be asked, or nothing is there.
    pub fn of(session: &Session, address: &'a Address) -> Result<Self, Error> {
        let place = Place::new(session, address)?;
        let files = place.find()?;
        Ok(Self { place, files })
    }

    /// The files, by their names.
    pub fn files(&self) -> impl Iterator<Item = Told<'_>> {
        self.files.iter().map(|file| Told {
            name: &file.name,
            size: file.size,
            digest: file.digest,
            version: file.version.as_deref(),
        })
    }

    /// The bytes of a file from its beginning, as far as they are read.
    ///
    /// # Errors
    /// When nobody gives them.
    pub fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let file = self.files.iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let store = &self.place.session.store;
        if let Some(digest) = file.digest.filter(|digest| store.has_blob(digest)) {
            return Ok(Box::new(fs_err::File::open(store.blob_path(&digest))?));
        }
        match (&file.at, &self.place.source, file.digest.zip(file.size)) {
            (At::Url(url), ..) => {
                let secrets = |method: &Method| self.place.headers(method, url);
                let answer = download::open(&self.place.session.client, url, &secrets).map_err(carry)?;
                Ok(Box::new(answer.body()))
            }
            (At::Path(path), ..) => Ok(Box::new(fs_err::File::open(path)?)),
            (At::Registry, Source::Oci { artifact, .. }, Some((digest, size))) => {
                Ok(Box::new(artifact.repository.blob(digest, size, 0)))
            }
            (At::Registry, ..) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
