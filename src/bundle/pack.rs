//! Writing a bundle's archive.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use super::{Bundle, Error, Index, IndexMember, IndexWeight, Member, Weight, unpack, weights};
use crate::image::layer::{self, Layer, LayerFile};
use crate::image::session::Session;
use crate::io::archive::{self, ArchivePath, BLOCK, Entry, Mode, Noting, seekable};
use crate::io::atomic;
use crate::io::compress::{Blocks, Method};
use crate::io::content::{Content, Opener};
use crate::io::digest::Mismatch;
use crate::io::progress::{Task, Unit};

/// What one xz stream of a bento holds, in bytes.
const XZ_BLOCK: usize = 1 << 20;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Seekable zstd with an index, as `docs/bundle.md` says.
    Ekiben,
    /// xz, which BentoML imports. Ekiben reads it as any bento.
    Bento,
}

impl Form {
    /// The form that a file of this name has: `.bento` is BentoML's.
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "bento") { Self::Bento } else { Self::Ekiben }
    }
}

impl Bundle {
    /// Writes the bundle to `path`: whole, or not at all. Gives the size of the file in bytes.
    ///
    /// What is not known yet of the weights becomes known in passing: each byte is read once and hashed once, while
    /// others are compressed and written.
    ///
    /// # Errors
    /// When a file has changed since it was looked at, or the disk says no. What was at `path` before is still there
    /// then.
    pub fn pack(&self, session: &Session, form: Form, path: &Path) -> Result<u64, Error> {
        atomic::write(path, |file| self.pack_to(session, form, &mut *file).map(drop))?;
        Ok(fs_err::metadata(path)?.len())
    }

    fn pack_to<W: Write>(&self, session: &Session, form: Form, writer: W) -> Result<W, Error> {
        let task = session.progress.task("Packing", self.file_name(), Unit::Bytes, Some(self.all_bytes()));
        let archive = match form {
            Form::Ekiben => Archive::Seekable(seekable::Writer::new(writer)),
            Form::Bento => Archive::Xz(Blocks::new(writer, XZ_BLOCK, Method::Xz)),
        };
        let mut tar = Tar { archive, offset: 0, task: &task };
        // The small members first: whoever reads the archive as a stream soon knows what it is.
        let members = self.pack_members(&self.members, &mut tar)?;
        let (weights, layers) = self.pack_weights(session, &mut tar)?;
        let vendored = self.pack_members(&self.vendored, &mut tar)?;
        tar.archive.write_all(&[0; 2 * BLOCK as usize])?;
        let (name, version) = (self.name.clone(), self.version.clone());
        let index = Index { ekiben: 1, name, version, epoch: archive::epoch(), members, weights, layers, vendored };
        match tar.archive {
            Archive::Seekable(writer) => Ok(writer.finish(&serde_json::to_vec(&index).map_err(io::Error::from)?)?),
            Archive::Xz(blocks) => Ok(blocks.finish()?.0),
        }
    }

    fn pack_members<W: Write>(
        &self,
        members: &BTreeMap<ArchivePath, Member>,
        tar: &mut Tar<'_, W>,
    ) -> Result<Vec<IndexMember>, Error> {
        let mut packed = Vec::new();
        let mut opener = Opener::default();
        for (path, member) in members {
            let size = member.content.size();
            let mut content = Noting { inner: self.open_member(member, &mut opener)?, failed: false };
            let offset = match tar.file(path, member.executable, size, &mut content, &mut io::sink()) {
                Err(Error::Io(error)) if content.failed => return Err(unpack::damaged(path, &member.content, error)),
                written => written?,
            };
            let (path, executable, digest) = (path.clone(), member.executable, member.digest);
            packed.push(IndexMember { path, offset, size, executable, digest });
        }
        Ok(packed)
    }

    /// The weights, which lie in the order of the layers that they become.
    fn pack_weights<W: Write>(
        &self,
        session: &Session,
        tar: &mut Tar<'_, W>,
    ) -> Result<(Vec<IndexWeight>, Vec<Layer>), Error> {
        let place = self.places()?;
        let mut packed = Vec::new();
        let mut weights = self.weights.iter();
        let mut opener = Opener::default();
        // The next file; what a layer's own archive puts around it is not this one's matter.
        let mut next = |tar: &mut Tar<'_, W>, hasher: &mut dyn Write| {
            let Some(weight) = weights.next() else { return Ok(()) };
            let size = weight.content.size();
            let path = place(&weight.path);
            opener.open(&weight.content)?;
            let mut content = Noting { inner: &mut opener, failed: false };
            let offset = match tar.file(&path, false, size, &mut content, hasher) {
                Err(Error::Io(error)) if content.failed => return Err(unpack::damaged(&path, &weight.content, error)),
                written => written?,
            };
            packed.push(IndexWeight { path: weight.path.clone(), offset, size });
            Ok::<_, Error>(())
        };
        if self.layers.get().is_none() {
            let mut layers = Vec::new();
            for mut group in weights::groups(&session.store, &self.image_folder()?, &self.weights, self.hashing)? {
                if group.layer.is_some() {
                    group.files.iter().try_for_each(|_| next(tar, &mut io::sink()))?;
                }
                group.hash(&session.store, |title, files| {
                    Layer::of_files_in_passing(&session.store, title, files, |_, hasher| next(tar, hasher))
                })?;
                layers.extend(group.layer);
            }
            self.layers.get_or_init(|| layers);
        } else if let Some(Weight { content: Content::Packed { bundle, .. }, .. }) = self.weights.first() {
            // A bundle only claims to know its layers.
            let groups = weights::split(&self.image_folder()?, &self.weights)?;
            for (files, layer) in groups.iter().zip(self.weight_layers(session)?) {
                let read = |_: &LayerFile, hasher: &mut dyn Write| next(tar, hasher);
                let (actual, _) = layer::hash_in_passing(archive::epoch(), files, read)?;
                if actual != layer.digest {
                    let source = Box::new(Mismatch::Digest { expected: layer.digest, actual });
                    return Err(Error::Malformed { path: bundle.path.clone(), source });
                }
            }
        } else {
            self.weights.iter().try_for_each(|_| next(tar, &mut io::sink()))?;
        }
        // The layers' digests stand for the weights only if no file has moved since they were hashed.
        self.weights.iter().try_for_each(|weight| weight.content.check())?;
        Ok((packed, self.weight_layers(session)?.to_vec()))
    }
}

enum Archive<W: Write> {
    Seekable(seekable::Writer<W>),
    Xz(Blocks<W>),
}

impl<W: Write> Archive<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Seekable(writer) => writer.write_all(bytes),
            Self::Xz(blocks) => blocks.write_all(bytes),
        }
    }
}

/// A tar archive that knows how far it is.
struct Tar<'a, W: Write> {
    archive: Archive<W>,
    offset: u64,
    task: &'a Task,
}

impl<W: Write> Tar<'_, W> {
    /// Writes a file, its content also to `hasher`, and gives the offset of its content.
    fn file(
        &mut self,
        path: &ArchivePath,
        executable: bool,
        size: u64,
        content: &mut dyn Read,
        hasher: &mut dyn Write,
    ) -> Result<u64, Error> {
        let header = archive::header(&Entry::file(path.clone(), size, Mode::of(executable)), archive::epoch());
        self.archive.write_all(&header)?;
        let offset = self.offset + header.len() as u64;
        let copied = self.task.copy(content, |bytes| {
            hasher.write_all(bytes)?;
            self.archive.write_all(bytes)
        })?;
        if copied != size {
            let text = format!("`{path}` had {size} bytes and now has {copied}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        self.archive.write_all(archive::padding(size))?;
        self.offset = offset + size + archive::padding(size).len() as u64;
        Ok(offset)
    }
}
