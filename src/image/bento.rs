//! From an image back to the bento that it was built from. All of it is in the image: weights in their layers, all
//! else in that of the code.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fs_err as fs;
use tempfile::TempDir;

use crate::archive::{self, ArchivePath, Deletion, Kind, Limits};
use crate::bento;
use crate::bundle::{self, Bundle, Weight};
use crate::compress;
use crate::content::{self, Content};
use crate::diagnostic::Diagnostics;
use crate::image::Image;
use crate::import::bento as import;
use crate::layer;
use crate::layout::{self, Layout};
use crate::manifest;
use crate::session::Session;

/// Why there is no bento.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer.
    #[error("{0}")]
    Layer(#[from] layer::Error),
    /// A layer's archive.
    #[error("{0}")]
    Archive(#[from] archive::Error),
    /// A file of the image.
    #[error("{0}")]
    Content(#[from] content::Error),
    /// The bundle.
    #[error("{0}")]
    Bundle(#[from] bundle::Error),
    /// A file could not be read or written. The message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The image was not made of a bento or a bundle.
    #[error("there is no bento in the image: {why}")]
    None {
        /// How that shows.
        why: String,
    },
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layer(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            Self::None { .. } => Some("images that ekiben built of a project, a bundle or a bento have one".to_owned()),
            Self::Archive(_) | Self::Io(_) => None,
        }
    }
}

/// A file of the image.
struct File {
    content: Content,
    executable: bool,
}

/// The bundle out of which `image` was made, and the folder in which some of its files lie, which has to be there as
/// long as the bundle is used.
///
/// # Errors
/// When the image was not made of one, or a layer cannot be had.
pub fn of_image(session: &Session, image: &Image) -> Result<(Bundle, TempDir), Error> {
    let code = image.config().working_dir().clone().unwrap_or_default();
    let layouts = [Layout::Ekiben, Layout::Bento];
    let none = |why: &str| Error::None { why: why.to_owned() };
    let layout = layouts.into_iter().find(|layout| layout.code() == code);
    let layout = layout.ok_or_else(|| none("its working directory is another one"))?;
    let place = |path: &str| ArchivePath::new(path).map_err(|error| Error::Io(std::io::Error::other(error)));
    let (code, models, venv) = (place(layout.code())?, place(layout::MODELS)?, place(layout::VENV)?);
    let scratch = session.store.scratch().map_err(layer::Error::from)?;
    let wanted = |path: &ArchivePath| {
        let below = |folder: &ArchivePath| path.below(folder).is_some();
        (below(&code) || layout == Layout::Ekiben && below(&models)) && !below(&venv)
    };
    let mut files = BTreeMap::new();
    for (number, layer) in image.layers().iter().enumerate() {
        collect(session, layer, &wanted, scratch.path().join(number.to_string()), &mut files)?;
    }

    let text = files.get(&code.join(&place(bento::NAME)?)).map(|file: &File| file.content.read(1 << 20)).transpose()?;
    let text = text.ok_or_else(|| none("it has no bento.yaml"))?;
    let mut mistakes = Diagnostics::new();
    let description = import::read(bento::NAME, &String::from_utf8_lossy(&text), &mut mistakes);
    let description =
        description.filter(|_| !mistakes.has_errors()).ok_or_else(|| none("its bento.yaml is malformed"))?.1;
    let own = place(layout::MODELS)?.join(&place(&description.name)?);
    let is_own = manifest::NAMES.iter().any(|name| place(name).is_ok_and(|name| files.contains_key(&code.join(&name))));
    if is_own != (layout == Layout::Ekiben) {
        return Err(none("its files are laid out otherwise"));
    }
    let (mut weights, mut members) = (Vec::new(), Vec::new());
    for (path, file) in files {
        let weight = match layout {
            Layout::Ekiben => path.below(&own),
            Layout::Bento => path.below(&code).filter(|path| bundle::weighs(path, file.content.size())),
        };
        match (weight, path.below(&code)) {
            (Some(path), _) => weights.push(Weight { path, content: file.content }),
            (None, Some(path)) => members.push((path, file)),
            (None, None) => {}
        }
    }
    let mut bundle = Bundle::new(&description.name, layout, weights, false);
    for (path, file) in members {
        bundle.add(path, file.content, file.executable)?;
    }
    bundle.set_version(session, Some(description.version))?;
    Ok((bundle, scratch))
}

/// Adds the wanted files of a layer to those of the layers below: as contents that lie elsewhere where it is made of
/// such, else as files in `folder`, a new one. What the layer deletes (image-spec 1.1, `layer.md`, "Whiteouts") is gone.
fn collect(
    session: &Session,
    layer: &layer::Layer,
    wanted: &impl Fn(&ArchivePath) -> bool,
    folder: PathBuf,
    files: &mut BTreeMap<ArchivePath, File>,
) -> Result<(), Error> {
    if let Some(made) = layer.files(&session.store)? {
        for file in made.into_iter().filter(|file| wanted(&file.path)) {
            files.insert(file.path, File { content: file.content, executable: false });
        }
        return Ok(());
    }
    fs::create_dir(&folder)?;
    let (mut own, mut deleted, mut count) = (BTreeMap::new(), Vec::new(), 0);
    let reader = compress::decoder(layer.open(&session.store)?)?;
    archive::Reader::new(reader, Limits::default()).for_each(|member| {
        let path = member.entry.path.clone();
        if let Some(deletion) = archive::deletion(&path)? {
            match deletion {
                Deletion::Name(name) => {
                    let name = ArchivePath::new(name).map_err(std::io::Error::other)?;
                    deleted.push(path.parent().map_or_else(|| name.clone(), |parent| parent.join(&name)));
                }
                Deletion::All => match path.parent() {
                    Some(parent) => deleted.push(parent),
                    None => files.clear(),
                },
                Deletion::Nothing => {}
            }
        } else if let (Kind::File { size }, true) = (&member.entry.kind, wanted(&path)) {
            let host = folder.join(count.to_string());
            count += 1;
            let copied = std::io::copy(member.content, &mut fs::File::create(&host)?)?;
            if copied < *size {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            let executable = member.entry.mode & 0o100 != 0;
            own.insert(path, File { content: Content::file(&host)?, executable });
        }
        Ok::<_, Error>(())
    })?;
    files.retain(|path, _| !deleted.iter().any(|gone| path == gone || path.below(gone).is_some()));
    files.append(&mut own);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Entry;
    use crate::compress::Compression;
    use crate::fetch::Client;
    use crate::layer::Layer;
    use crate::progress::Progress;
    use crate::store::Store;

    #[test]
    fn what_an_upper_layer_deletes_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        let session = Session { store, progress: Progress::silent(), client: Client::new(true) };
        let layer = |paths: &[&str]| {
            Layer::write::<Error>(&session.store, Compression::Gzip, "layer", |writer| {
                for path in paths {
                    let path = ArchivePath::new(path).map_err(std::io::Error::other)?;
                    writer.file(
                        &Entry::file(path.clone(), path.as_str().len() as u64, false),
                        path.as_str().as_bytes(),
                    )?;
                }
                Ok(())
            })
            .unwrap()
        };
        let lower = layer(&["a/gone", "a/kept", "b/gone/1", "b/gone/2", "c/old"]);
        let upper = layer(&["a/.wh.gone", "b/.wh.gone", "b/new", "c/.wh..wh..opq", "c/new"]);
        let mut files = BTreeMap::new();
        for (number, layer) in [lower, upper].iter().enumerate() {
            collect(&session, layer, &|_| true, home.path().join(number.to_string()), &mut files).unwrap();
        }
        assert_eq!(files.keys().map(ArchivePath::as_str).collect::<Vec<_>>(), ["a/kept", "b/new", "c/new"]);
    }
}
