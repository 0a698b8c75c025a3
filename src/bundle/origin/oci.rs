//! Files of models that registries keep: ModelPack's artifacts (<https://github.com/modelpack/model-spec>), KitOps' ModelKits, Docker
//! Model Runner's, what `oras push` wrote, and images whose model lies in `/models` (KServe's modelcars).
//!
//! A layer is a file, and its digest that of the file; or it is an archive of files, which come into the store as they are read.
//! What is known of an archive is believed only when all of it was read, and has its digest.

use std::collections::BTreeMap;
use std::io;

use super::{At, Error, MOST_FILES, Place, Remote};
use crate::image::oci::platform::Platform;
use crate::image::oci::{Content, Descriptor, Manifest};
use crate::image::registry::{Reference, Registries, Repository};
use crate::image::session::Session;
use crate::io::archive::{self, ArchivePath, Kind, Limits, Member};
use crate::io::compress::decoder;
use crate::io::digest::{Digest, HashingReader, Mismatch};
use crate::io::progress::Unit;

/// Annotations that say where a layer's file goes: ModelPack's, and that of oras.
const NAMES: [&str; 2] = ["org.cncf.model.filepath", "org.opencontainers.image.title"];

/// The annotation by which oras says that a layer is a folder.
const UNPACK: &str = "io.deis.oras.content.unpack";

/// Where images have their models.
const MODELS: &str = "models";

/// What the one file without a name is called, by what it is.
const NAMELESS: [(&str, &str); 1] = [("application/vnd.docker.ai.gguf.v3", "model.gguf")];

/// Parts of ModelPack's and KitOps' artifacts that are no part of a model.
const PASSED: [&str; 2] = ["application/vnd.cncf.model.dataset.", "application/vnd.kitops.modelkit.dataset."];

/// What an archive in the store holds: paths, sizes and digests; none for what an image's layer takes away.
type Members = Vec<(String, Option<(u64, Digest)>)>;

/// What a reference is now.
#[derive(Clone)]
pub(super) struct Artifact {
    pub repository: Repository,
    /// Of what the reference names.
    pub digest: Digest,
    manifest: Manifest,
}

/// Asks what a reference is.
pub(super) fn open(session: &Session, reference: &Reference) -> Result<Artifact, Error> {
    let repository = Registries::new(session).repository(reference);
    let document = repository.manifest(&reference.wanted())?;
    let digest = document.digest;
    let manifest = match document.content {
        Content::Image(manifest) => manifest,
        Content::Index(index) => {
            let chosen =
                Platform::host().ok().and_then(|platform| index.choose(platform)).or_else(|| index.choose_any());
            let nothing = || Error::Nothing(format!("oci://{reference}"));
            match repository.manifest(&chosen.ok_or_else(nothing)?.digest.to_string())?.content {
                Content::Image(manifest) => manifest,
                Content::Index(_) => return Err(nothing()),
            }
        }
    };
    Ok(Artifact { repository, digest, manifest })
}

/// The files of an artifact that lie below `path`, or at it.
pub(super) fn find(place: &Place<'_>, artifact: &Artifact, path: &str) -> Result<Vec<Remote>, Error> {
    let mut files: BTreeMap<String, Remote> = BTreeMap::new();
    let version = Some(artifact.digest.to_string());
    let remote = |name: String, size: u64, digest: Digest| Remote {
        name,
        at: At::Registry,
        size: Some(size),
        digest: Some(digest),
        version: version.clone(),
    };
    let is_image = is_image(&artifact.manifest);
    for layer in &artifact.manifest.layers {
        let kind = layer.media_type.as_str();
        if PASSED.iter().any(|passed| kind.starts_with(passed)) {
            continue;
        }
        let named = NAMES.iter().find_map(|name| layer.annotations.get(*name)).map(String::as_str);
        if !is_archive(layer) {
            let nameless = || NAMELESS.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name);
            let Some(name) = named.or_else(nameless) else {
                return Err(place.answer(format!("the layer {} of `{kind}` has no name", layer.digest)));
            };
            let name = ArchivePath::new(name).map_err(|error| place.answer(error))?.to_string();
            files.insert(name.clone(), remote(name, layer.size, layer.digest));
            continue;
        }
        for (name, member) in members(place, &artifact.repository, layer)? {
            let name = match name.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/')) {
                Some(below) if is_image => below.to_owned(),
                None if is_image => continue,
                _ => name,
            };
            match member {
                Some((size, digest)) => drop(files.insert(name.clone(), remote(name, size, digest))),
                None => files.retain(|known, _| *known != name && !is_below(known, &name)),
            }
        }
        if files.len() > MOST_FILES {
            return Err(Error::TooMany(place.from.clone()));
        }
    }
    if path.is_empty() {
        return Ok(files.into_values().collect());
    }
    let found = files.into_values().filter_map(|mut remote| {
        let name = match remote.name == path {
            true => path.rsplit('/').next().unwrap_or_default().to_owned(),
            false => remote.name.strip_prefix(path.trim_end_matches('/'))?.strip_prefix('/')?.to_owned(),
        };
        remote.name = name;
        Some(remote)
    });
    Ok(found.collect())
}

/// Whether it is an image, of whose files only the model's are meant.
fn is_image(manifest: &Manifest) -> bool {
    let is_layer = |layer: &Descriptor| {
        layer.media_type.compression().is_some() && NAMES.iter().all(|name| !layer.annotations.contains_key(*name))
    };
    manifest.config.media_type.is_configuration() && manifest.layers.iter().any(is_layer)
}

/// Whether a layer is an archive of files, and not one itself.
fn is_archive(layer: &Descriptor) -> bool {
    let kind = layer.media_type.as_str();
    let says_so = layer.annotations.get(UNPACK).is_some_and(|value| value == "true");
    let is_named = NAMES.iter().any(|name| layer.annotations.contains_key(*name));
    match layer.media_type.compression() {
        // So oras calls files too.
        Some(_) => says_so || !is_named,
        None => says_so || [".tar", ".tar+gzip", ".tar+zstd", "+tar"].iter().any(|ending| kind.ends_with(ending)),
    }
}

/// Whether a file lies below a folder.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')) || folder.is_empty()
}

/// What an archive holds, read into the store where it is not there.
fn members(place: &Place<'_>, repository: &Repository, layer: &Descriptor) -> Result<Members, Error> {
    const KNOWN: &str = "archives";
    let store = &place.session.store;
    if let Some(known) = store.cached(KNOWN, &layer.digest) {
        return Ok(known);
    }
    let task =
        place.session.progress.task("Fetching", format!("files of {}", place.from), Unit::Bytes, Some(layer.size));
    let mut found: Members = Vec::new();
    let mut whole = HashingReader::new(task.reading(repository.blob(layer.digest, layer.size, 0)));
    let broken = |source: io::Error| archive::Error::Read { at: None, source };
    {
        let content = decoder(&mut whole).map_err(broken)?;
        let mut reader = archive::Reader::new(content, Limits::default());
        reader.for_each(|member: Member<'_>| -> Result<(), Error> {
            let path = member.entry.path.to_string();
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                found.push((folder.to_owned(), None));
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
                found.push((gone, None));
            } else if matches!(member.entry.kind, Kind::File { .. }) {
                let mut writer = store.blob_writer()?;
                io::copy(member.content, &mut writer)?;
                let (digest, size) = writer.commit()?;
                found.push((path, Some((size, digest))));
            }
            match found.len() > MOST_FILES * 10 {
                true => Err(Error::TooMany(place.from.clone())),
                false => Ok(()),
            }
        })?;
    }
    // What stands behind the archive belongs to its digest.
    io::copy(&mut whole, &mut io::sink())?;
    let actual = whole.finish();
    if actual != layer.digest {
        let source = Mismatch::Digest { expected: layer.digest, actual };
        return Err(Error::Other {
            from: place.from.clone(),
            name: layer.digest.to_string(),
            whose: "its manifest",
            source,
        });
    }
    task.finish(format!("Fetched files of {}", place.from));
    let blobs = found.iter().filter_map(|(_, member)| Some(member.as_ref()?.1)).collect();
    store.cache(KNOWN, &layer.digest, &found, blobs)?;
    Ok(found)
}
