//! From an image back to the bento that it was built from, or to its manifest alone. All of it is in the image: weights in their layers, all
//! else in that of the code.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::bundle::apart::DIGEST;
use crate::bundle::import::bento as import;
use crate::bundle::runtime::{self, Convention};
use crate::bundle::{self, Bundle, Hashing, Weight};
use crate::formats::bento;
use crate::formats::diagnostic::Diagnostics;
use crate::formats::openapi::OpenApi;
use crate::formats::schema::Kind;
use crate::formats::schema::load;
use crate::image::Image;
use crate::image::layer::{self, Layer};
use crate::image::registry;
use crate::image::session::Session;
use crate::io::archive::{self, ArchivePath, Mode};
use crate::io::content::{self, Content};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::project::manifest::{self, Manifest};

/// Why there is no bento.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A layer's archive.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A file of the image.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A layer is in a registry, and stays there.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The manifest in the image is none that this version reads.
    #[error("the manifest in the image is none that this version of ekiben reads")]
    Manifest,
    /// The image was not made of a bento or a bundle.
    #[error("there is no bento in the image: {why}")]
    None {
        /// How that shows.
        why: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Layer(error) => error.explain(),
            Self::Archive(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Manifest => ErrorKind::Invalid
                .named("bundle/manifest-in-image")
                .hint("build the image again with this version of ekiben"),
            Self::None { .. } => ErrorKind::Failure
                .named("bento/not-in-image")
                .hint("images that ekiben built of a project, a bundle or a bento have one"),
        }
    }
}

/// A file of the image.
struct Extracted {
    content: Content,
    executable: bool,
}

/// The bundle out of which `image` was made. Its files lie in the store, where its layers are unpacked.
///
/// # Errors
/// When the image was not made of one, or a layer cannot be had.
pub fn of_image(session: &Session, image: &Image) -> Result<Bundle, Error> {
    let none = |why: &str| Error::None { why: why.to_owned() };
    if let Some(models) = image.annotations().get(DIGEST) {
        return Err(none(&format!("its models are apart from it, in the image {models}")));
    }
    let convention = Convention::of(image).ok_or_else(|| none("its working directory is another one"))?;
    let place = |path: &str| ArchivePath::new(path).map_err(|error| Error::Io(std::io::Error::other(error)));
    let (code, models, venv) = (place(convention.code())?, place(runtime::MODELS)?, place(runtime::VENV)?);
    let wanted = |path: &ArchivePath| {
        let below = |folder: &ArchivePath| path.below(folder).is_some();
        (below(&code) || convention == Convention::Ekiben && below(&models)) && !below(&venv)
    };
    let mut files = BTreeMap::new();
    let mut made = Vec::new();
    for layer in image.layers() {
        made.push(layer.files(&session.store)?);
    }
    let unpacked: Vec<_> = image.layers().iter().zip(&made).filter(|(_, made)| made.is_none()).map(|it| it.0).collect();
    let mut trees = layer::unpack_all(&session.store, &session.progress, &unpacked, |_| ())?.each.into_iter();
    for made in made {
        match made {
            // It is used where it lies.
            Some(made) => {
                let made = made.into_iter().filter(|file| wanted(&file.path));
                files.extend(made.map(|file| (file.path, Extracted { content: file.content, executable: false })));
            }
            None => trees.next().map_or(Ok(()), |tree| lay(&tree, &[&code, &models], &wanted, &mut files))?,
        }
    }

    let text =
        files.get(&code.join(&place(bento::NAME)?)).map(|file: &Extracted| file.content.read(1 << 20)).transpose()?;
    let text = text.ok_or_else(|| none("it has no bento.yaml"))?;
    let mut mistakes = Diagnostics::new();
    let description = import::read(bento::NAME, &String::from_utf8_lossy(&text), &mut mistakes);
    let description =
        description.filter(|_| !mistakes.has_errors()).ok_or_else(|| none("its bento.yaml is malformed"))?.1;
    let own = place(runtime::MODELS)?.join(&place(&description.name)?);
    let is_own = manifest::NAMES.iter().any(|name| place(name).is_ok_and(|name| files.contains_key(&code.join(&name))));
    if is_own != (convention == Convention::Ekiben) {
        return Err(none("its files are laid out otherwise"));
    }
    let (mut weights, mut members) = (Vec::new(), Vec::new());
    for (path, file) in files {
        let weight = match convention {
            Convention::Ekiben => path.below(&own),
            Convention::Bento => path.below(&code).filter(|path| bundle::weighs(path, file.content.size())),
        };
        match (weight, path.below(&code)) {
            (Some(path), _) => weights.push(Weight { path, content: file.content }),
            (None, Some(path)) => members.push((path, file)),
            (None, None) => {}
        }
    }
    let mut bundle = Bundle::new(&description.name, convention, weights, Hashing::IfUnknown);
    for (path, file) in members {
        bundle.add(path, file.content, Mode::of(file.executable))?;
    }
    bundle.set_version(session, Some(description.version))?;
    Ok(bundle)
}

/// The manifest in an image that Ekiben built; none where it has none, as that of another tool. Its layers are unpacked for
/// it, as they are for whoever starts it.
///
/// # Errors
/// When a layer cannot be had, or the manifest has another form than this version knows.
pub fn manifest(session: &Session, image: &Image) -> Result<Option<Manifest>, Error> {
    Inside::of(session, image, image.layers())?.map_or(Ok(None), |inside| inside.manifest())
}

/// The same, with what it names as the description of what it answers (`service.openapi`), as JSON.
///
/// # Errors
/// As [`manifest`].
pub fn service(session: &Session, image: &Image) -> Result<Option<(Manifest, Option<String>)>, Error> {
    let Some(inside) = Inside::of(session, image, image.layers())? else { return Ok(None) };
    let Some(manifest) = inside.manifest()? else { return Ok(None) };
    let openapi = manifest.service.openapi.as_deref().map(|path| inside.openapi(path)).transpose()?;
    Ok(Some((manifest, openapi.flatten())))
}

/// The same, for whoever does not start it: only the uppermost layer is fetched and unpacked, where Ekiben puts all but weights.
///
/// # Errors
/// As [`manifest`].
pub fn manifest_on_top(session: &Session, image: &Image) -> Result<Option<Manifest>, Error> {
    let layers = image.layers().last().map(std::slice::from_ref).unwrap_or_default();
    Inside::of(session, image, layers)?.map_or(Ok(None), |inside| inside.manifest())
}

/// The code in unpacked layers of an image that Ekiben built.
struct Inside(Vec<PathBuf>);

impl Inside {
    fn of(session: &Session, image: &Image, layers: &[Layer]) -> Result<Option<Self>, Error> {
        if Convention::of(image) != Some(Convention::Ekiben) {
            return Ok(None);
        }
        registry::fetch(session, layers)?;
        let mut unpacked = Vec::new();
        for layer in layers {
            // Weights lie elsewhere, and are not moved for this.
            if layer.files(&session.store)?.is_none() {
                unpacked.push(layer);
            }
        }
        let trees = layer::unpack_all(&session.store, &session.progress, &unpacked, |_| ())?;
        Ok(Some(Self(trees.lower)))
    }

    /// The content of a file of the project, if it is there. Of a link, where it leads on this machine is not looked at.
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let code = Path::new(Convention::Ekiben.code().trim_start_matches('/'));
        let found = archive::Stack::new(&self.0).entry(&code.join(path));
        let found = found.filter(|path| path.symlink_metadata().is_ok_and(|data| data.is_file()));
        Ok(found.map(|path| Content::file(&path)?.read(most)).transpose()?)
    }

    fn manifest(&self) -> Result<Option<Manifest>, Error> {
        for name in manifest::NAMES {
            if let Some(bytes) = self.read(name, Kind::Manifest.most())? {
                let mut mistakes = Diagnostics::new();
                let loaded = load::bytes::<Manifest>(&bytes, name, name, &mut mistakes);
                let whole = loaded.and_then(load::Loaded::whole).filter(|_| !mistakes.has_errors());
                return whole.map(|(_, manifest)| Some(manifest)).ok_or(Error::Manifest);
            }
        }
        Ok(None)
    }

    /// A description as JSON, in which programs expect it; none where it is malformed.
    fn openapi(&self, path: &str) -> Result<Option<String>, Error> {
        let Ok(path) = ArchivePath::relative(path) else { return Ok(None) };
        let Some(bytes) = self.read(path.as_str(), Kind::Openapi.most())? else { return Ok(None) };
        let loaded = load::bytes::<OpenApi>(&bytes, path.as_str(), path.as_str(), &mut Diagnostics::new());
        Ok(loaded.and_then(load::Loaded::whole).map(|(document, _)| document.root.to_json().to_string()))
    }
}

/// Lays the wanted files in `folders` of an unpacked layer over those of the layers below, of which what it deletes or
/// replaces is gone.
fn lay(
    tree: &Path,
    folders: &[&ArchivePath],
    wanted: &impl Fn(&ArchivePath) -> bool,
    files: &mut BTreeMap<ArchivePath, Extracted>,
) -> Result<(), Error> {
    let layer = archive::Stack::new(&[tree.to_owned()]);
    files.retain(|path, _| !archive::is_opaque(tree) && !layer.hides(Path::new(path.as_str())));
    for folder in folders {
        let Some(root) = layer.entry(Path::new(folder.as_str())) else { continue };
        for entry in ignore::WalkBuilder::new(root).standard_filters(false).build() {
            let entry = entry.map_err(std::io::Error::other)?;
            let metadata = entry.metadata().map_err(std::io::Error::other)?;
            let inside = entry.path().strip_prefix(tree).map_err(std::io::Error::other)?;
            if metadata.is_file() {
                let path = ArchivePath::from_path(inside).map_err(std::io::Error::other)?;
                if wanted(&path) {
                    let executable = metadata.mode() & 0o100 != 0;
                    files.insert(path, Extracted { content: Content::file(entry.path())?, executable });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::session::Making;
    use crate::image::store::Store;
    use crate::io::archive::Entry;
    use crate::io::http::{Client, Network};
    use crate::io::progress::Progress;

    #[test]
    fn what_an_upper_layer_deletes_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        let (progress, client) = (Progress::silent(), Client::new(Network::Offline));
        let session = Session { store, progress, client, making: Making::Compressed };
        let layer = |paths: &[&str]| {
            Layer::write::<Error>(&session.store, session.making, "layer", |writer| {
                for path in paths {
                    let path = ArchivePath::new(path).map_err(std::io::Error::other)?;
                    writer.file(
                        &Entry::file(path.clone(), path.as_str().len() as u64, Mode::Plain),
                        path.as_str().as_bytes(),
                    )?;
                }
                Ok(())
            })
            .unwrap()
        };
        let lower = layer(&["a/gone", "a/kept", "b/gone/1", "b/gone/2", "c/old"]);
        let upper = layer(&["a/.wh.gone", "b/.wh.gone", "b/new", "c/.wh..wh..opq", "c/new"]);
        let trees = layer::unpack_all(&session.store, &session.progress, &[&lower, &upper], |_| ()).unwrap();
        let folders = ["a", "b", "c"].map(|name| ArchivePath::new(name).unwrap());
        let mut files = BTreeMap::new();
        for tree in trees.each {
            lay(&tree, &folders.each_ref(), &|_| true, &mut files).unwrap();
        }
        assert_eq!(files.keys().map(ArchivePath::as_str).collect::<Vec<_>>(), ["a/kept", "b/new", "c/new"]);
    }
}
