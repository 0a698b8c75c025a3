//! Images in files as bases: an OCI image layout, a docker archive.
//!
//! Invariant: what gets into the store is a whole image, each byte of it verified. A folder or file that is none is said
//! to be invalid, with the file in it and what is wrong there; nobody's network is to blame for that.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use fs_err as fs;
use serde::Deserialize;

use super::Error;
use crate::image::Image;
use crate::image::layer;
use crate::image::oci::platform::Platform;
use crate::image::oci::{Configuration, Content, Descriptor, Document, LARGEST, Manifest, MediaType};
use crate::image::session::Session;
use crate::image::store;
use crate::io::archive;
use crate::io::compress::{self, Compression};
use crate::io::digest::{Digest, Hasher};
use crate::io::explain::with_causes;

/// Puts the image for `platform` of an OCI image layout into the store (image specification 1.1, `image-layout.md`).
pub(super) fn import_layout(session: &Session, path: &Path, platform: Platform) -> Result<Digest, Error> {
    let layout = Files { path };
    if !path.exists() {
        return Err(Error::NotThere { path: path.to_owned() });
    }
    if !path.join("index.json").exists() {
        return Err(layout.unreadable("it is no OCI image layout, as it has no `index.json`"));
    }
    layout.check_version()?;
    let mut manifest = layout.manifest("index.json")?;
    if let Content::Image(_) = manifest.content {
        return Err(layout.wrong("index.json", "this is a manifest, and should be an index"));
    }
    let mut place = "index.json".to_owned();
    // An index may lead to one with the platforms.
    for _ in 0..2 {
        let Content::Index(index) = &manifest.content else { break };
        let only = || index.manifests.first().filter(|_| index.manifests.len() == 1);
        let child = index.choose(platform).or_else(only);
        let child = child.ok_or_else(|| layout.wrong(&place, format!("it names no image for {platform}")))?;
        let name = layout.blob(child)?;
        let read = layout.manifest(&name)?;
        if read.digest != child.digest {
            return Err(layout.wrong(&name, format!("the content has the digest {}", read.digest)));
        }
        manifest = read;
        place = name;
    }
    if let Content::Index(_) = manifest.content {
        return Err(layout.wrong(&place, "this is an index in an index in an index"));
    }
    for link in manifest.blobs() {
        // What is in the store already is not read, but it has to be here as well: or this is half an image.
        let name = layout.blob(&link)?;
        if !session.store.has_blob(&link.digest) {
            let kept = session.store.put_blob(&mut layout.open(&name)?, &link.digest, link.size);
            kept.map_err(|error| match error {
                store::Error::Mismatch(mismatch) => layout.wrong(&name, mismatch),
                error => layer::Error::from(error).into(),
            })?;
        }
    }
    layout.keep(session, manifest.bytes, &place)
}

/// Puts the image of a docker archive into the store (Docker image specification 1.2).
pub(super) fn import_archive(session: &Session, path: &Path) -> Result<Digest, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        config: String,
        layers: Vec<String>,
    }
    let whole = Files { path };
    match fs::metadata(path) {
        Ok(file) if file.is_file() => {}
        Ok(_) => return Err(whole.unreadable("it is no file")),
        Err(_) => return Err(Error::NotThere { path: path.to_owned() }),
    }
    let scratch = session.store.scratch().map_err(layer::Error::from)?;
    let broken = |error: &(dyn std::error::Error + 'static)| whole.unreadable(with_causes(error));
    let mut content = compress::decoder(fs::File::open(path)?).map_err(|error| broken(&error))?;
    archive::unpack(&mut content, scratch.path(), archive::Limits::default()).map_err(|error| match error {
        // The disk's fault, not the archive's.
        archive::Error::Write { source, .. } => Error::Io(source),
        error => broken(&error),
    })?;
    // Old ones link layers to each other; nothing may be read from outside.
    let inside = |name: &str| {
        let file = fs::canonicalize(scratch.path().join(name)).ok();
        let root = fs::canonicalize(scratch.path())?;
        let file = file.filter(|file| file.starts_with(root) && file.is_file());
        file.ok_or_else(|| whole.unreadable(format!("it has no file `{name}`")))
    };
    let read = |name: &str| -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        fs::File::open(inside(name)?)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LARGEST {
            true => Err(whole.wrong(name, "it is larger than any document of an image")),
            false => Ok(bytes),
        }
    };
    let entries: Vec<Entry> =
        serde_json::from_slice(&read("manifest.json")?).map_err(|error| whole.wrong("manifest.json", error))?;
    let [entry] = entries.as_slice() else {
        return Err(whole.wrong("manifest.json", format!("it names {} images, and should name one", entries.len())));
    };
    let config = read(&entry.config)?;
    let diff_ids = Configuration::read(&config).map_err(|error| whole.wrong(&entry.config, error))?.diff_ids;
    let (wanted, has) = (entry.layers.len(), diff_ids.len());
    if wanted != has {
        let why = format!("it is for {has} layers, and `manifest.json` names {wanted}");
        return Err(whole.wrong(&entry.config, why));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
        let file = inside(name)?;
        let mut hasher = Hasher::new();
        let content = compress::decoder(fs::File::open(&file)?);
        let copied = content.and_then(|mut content| io::copy(&mut content, &mut hasher));
        copied.map_err(|error| whole.wrong(name, error))?;
        let actual = hasher.finish();
        if actual != diff_id {
            return Err(whole.wrong(name, format!("the layer has the digest {actual}, expected {diff_id}")));
        }
        let mut magic = [0; 2];
        let gzip = fs::File::open(&file)?.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
        let compression = if gzip { Compression::Gzip } else { Compression::None };
        let mut writer = session.store.blob_writer().map_err(layer::Error::from)?;
        io::copy(&mut fs::File::open(&file)?, &mut writer)?;
        let (digest, size) = writer.commit().map_err(layer::Error::from)?;
        layers.push(Descriptor::new(MediaType::Layer(compression), digest, size));
    }
    session.store.put_bytes(&config).map_err(layer::Error::from)?;
    let config = Descriptor::of(MediaType::Configuration, &config);
    whole.keep(session, Manifest::image(config, layers, BTreeMap::new()).write(), &entry.config)
}

/// A folder or file with an image, and what is said of it.
struct Files<'a> {
    path: &'a Path,
}

impl Files<'_> {
    fn unreadable(&self, why: impl Into<String>) -> Error {
        Error::Unreadable { path: self.path.to_owned(), why: why.into() }
    }

    /// What is wrong with the file `name` in it.
    fn wrong(&self, name: &str, why: impl ToString) -> Error {
        self.unreadable(format!("{name}: {}", why.to_string()))
    }

    /// Opens a file. Pipes and sockets would let everybody wait.
    fn open(&self, name: &str) -> Result<fs::File, Error> {
        let path = self.path.join(name);
        if !fs::metadata(&path).map_err(|_| self.wrong(name, "it is not there"))?.is_file() {
            return Err(self.wrong(name, "it is no file"));
        }
        Ok(fs::File::open(path)?)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open(name)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LARGEST {
            true => Err(self.wrong(name, "it is larger than any document of an image")),
            false => Ok(bytes),
        }
    }

    fn manifest(&self, name: &str) -> Result<Document, Error> {
        Document::read(self.document(name)?, None).map_err(|error| self.wrong(name, error))
    }

    /// The file of a blob, which is there and as long as it is said to be.
    fn blob(&self, link: &Descriptor) -> Result<String, Error> {
        let name = format!("blobs/sha256/{}", link.digest.hex());
        let size = self.open(&name)?.metadata()?.len();
        match size == link.size {
            true => Ok(name),
            false => Err(self.wrong(&name, format!("it has {size} bytes, expected {}", link.size))),
        }
    }

    /// Some tools leave `oci-layout` out; where it is there, it has to be one that is known.
    fn check_version(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let name = "oci-layout";
        if !self.path.join(name).exists() {
            return Ok(());
        }
        let layout: Layout = serde_json::from_slice(&self.document(name)?).map_err(|error| self.wrong(name, error))?;
        match layout.image_layout_version.starts_with("1.") {
            true => Ok(()),
            false => Err(self.wrong(name, format!("version {} is not known", layout.image_layout_version))),
        }
    }

    /// Keeps a manifest whose blobs are in the store, if it is one of an image. `place` is what to blame if not.
    fn keep(&self, session: &Session, manifest: Vec<u8>, place: &str) -> Result<Digest, Error> {
        let digest = session.store.put_bytes(&manifest).map_err(layer::Error::from)?;
        match Image::load(&session.store, &digest) {
            Ok(_) => Ok(digest),
            Err(crate::image::Error::Malformed { source, .. }) => Err(self.wrong(place, with_causes(&*source))),
            Err(crate::image::Error::Platform(unknown)) => Err(self.wrong(place, unknown)),
            Err(error) => Err(error.into()),
        }
    }
}
