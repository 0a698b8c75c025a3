//! Images as files that other tools read.
//!
//! A folder is an OCI image layout. An archive is one as well, and a docker archive at the same time (as `docker
//! save` writes since version 25): `docker load`, `podman load` and skopeo's `oci-archive:` and `docker-archive:`
//! read the same file. OCI image specification 1.1, `image-layout.md`; Docker image specification 1.2, "Combined
//! Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;

use super::oci::{self, Index};
use super::{Error, Image};
use crate::image::layer::Layer;
use crate::image::registry::Reference;
use crate::image::store::{ImageName, Store};
use crate::io::archive::{self, ArchivePath, Entry, Mode};
use crate::io::atomic::{self, Steady};
use crate::io::digest::Digest;
use crate::io::progress::{Progress, Unit};

/// What containerd calls an image that it imports (its package `images`, `AnnotationImageName`).
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The files of an exported image, in the order in which they are written.
struct Exported<'a> {
    store: &'a Store,
    documents: BTreeMap<String, Vec<u8>>,
    layers: BTreeMap<Digest, &'a Layer>,
}

impl<'a> Exported<'a> {
    fn new(store: &'a Store, image: &'a Image, name: Option<&ImageName>) -> Result<Self, Error> {
        let (digest, mut descriptor) = image.save(store)?;
        if let Some(name) = name {
            // As skopeo and podman read it: the name in full under containerd's key, the tag alone under OCI's. containerd
            // takes its key to the letter, and a kubelet looks for `docker.io/library/NAME:TAG`.
            let full: Reference = name.to_string().parse().map_err(io::Error::other)?;
            descriptor.annotations = BTreeMap::from([
                (oci::NAME.to_owned(), name.tag().to_owned()),
                (CONTAINERD_NAME.to_owned(), full.to_string()),
            ]);
        }
        let index = Index { manifests: vec![descriptor], ..Index::default() };
        let config = image.config_document(store)?;
        let config_digest = Digest::of(&config);
        let tags: Vec<_> = name.map(ToString::to_string).into_iter().collect();
        let layers: Vec<_> = image.layers().iter().map(|layer| blob(&layer.digest)).collect();
        let docker = serde_json::json!([{ "Config": blob(&config_digest), "RepoTags": tags, "Layers": layers }]);
        let documents = BTreeMap::from([
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.write()),
            ("manifest.json".to_owned(), docker.to_string().into_bytes()),
            (blob(&digest), store.read_blob(&digest, oci::LARGEST)?),
            (blob(&config_digest), config),
        ]);
        let layers: BTreeMap<_, _> = image.layers().iter().map(|layer| (layer.digest, layer)).collect();
        // Before the first byte goes out.
        layers.values().try_for_each(|layer| layer.check(store))?;
        Ok(Self { store, documents, layers })
    }

    fn bytes(&self) -> u64 {
        self.layers.values().map(|layer| layer.size).sum()
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Writes `image` as an OCI image layout into the folder `path`, which must not be there or be empty.
///
/// # Errors
/// [`Error::Exists`] when there is something; and when a layer cannot be had: then nothing is left at `path`.
pub fn to_folder(
    store: &Store,
    progress: &Progress,
    image: &Image,
    name: Option<&ImageName>,
    path: &Path,
) -> Result<(), Error> {
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    let exported = Exported::new(store, image, name)?;
    let task = progress.task("Exporting", path.display().to_string(), Unit::Bytes, Some(exported.bytes()));
    atomic::folder(path, |folder| {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        for (name, bytes) in &exported.documents {
            // Only `docker load` asks for it, and that reads no folders.
            if name != "manifest.json" {
                fs::write(folder.join(name), bytes)?;
            }
        }
        for (digest, layer) in &exported.layers {
            let mut file = Steady::new(fs::File::create(folder.join(blob(digest)))?);
            task.copy(layer.open(store)?, |bytes| file.write_all(bytes))?;
        }
        Ok(())
    })
}

/// Writes `image` as an archive that is both an OCI layout and a docker archive.
///
/// # Errors
/// When a layer cannot be had, or `writer` fails; what was written until then is of no use.
pub fn to_archive<W: Write>(
    store: &Store,
    progress: &Progress,
    image: &Image,
    name: Option<&ImageName>,
    writer: W,
) -> Result<W, Error> {
    let exported = Exported::new(store, image, name)?;
    let task = progress.task("Exporting", "an image archive", Unit::Bytes, Some(exported.bytes()));
    let path = |text: &str| ArchivePath::new(text).map_err(io::Error::other);
    let mut archive = archive::Writer::new(writer);
    archive.entry(&Entry::directory(path("blobs")?))?;
    archive.entry(&Entry::directory(path("blobs/sha256")?))?;
    for (name, bytes) in &exported.documents {
        archive.file(&Entry::file(path(name)?, bytes.len() as u64, Mode::Plain), &bytes[..])?;
    }
    for (digest, layer) in &exported.layers {
        let mut content = task.reading(layer.open(exported.store)?);
        archive.file(&Entry::file(path(&blob(digest))?, layer.size, Mode::Plain), &mut content)?;
        // One read more, at the end: that is where the digest is checked.
        io::copy(&mut content, &mut io::sink())?;
    }
    Ok(archive.finish()?)
}
