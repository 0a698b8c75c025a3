//! Writing a bundle's archive.

use std::io::{self, Read, Write};
use std::path::Path;

use super::{Bundle, Error, Index, IndexMember, IndexWeight, Weight};
use crate::archive::{self, ArchivePath, BLOCK, Entry, seekable};
use crate::atomic;
use crate::content::Content;
use crate::digest::{Digest, HashingWriter};
use crate::progress::{Task, Unit};
use crate::session::Session;

impl Bundle {
    /// Writes the bundle to `path`: whole, or not at all. Gives the digest of the file and its size in bytes.
    ///
    /// # Errors
    /// When a file has changed since it was hashed, or the disk says no. What was at `path` before is still there then.
    pub fn pack(&self, session: &Session, path: &Path) -> Result<(Digest, u64), Error> {
        atomic::write(path, |file| {
            let (_, digest, size) = self.pack_to(session, HashingWriter::new(file))?.finish();
            Ok((digest, size))
        })
    }

    fn pack_to<W: Write>(&self, session: &Session, writer: W) -> Result<W, Error> {
        let members = self.members.values().map(|member| member.content.size());
        let total = members.chain(self.weights.iter().map(|weight| weight.content.size())).sum();
        let task = session.progress.task("Packing", self.file_name(), Unit::Bytes, Some(total));
        let mut tar = Tar { archive: seekable::Writer::new(writer), offset: 0, task: &task };
        let mut index = Index {
            ekiben: 1,
            name: self.name.clone(),
            version: self.version.clone(),
            epoch: archive::epoch(),
            members: Vec::new(),
            weights: Vec::new(),
            layers: self.layers.clone(),
        };
        // The small members first: whoever reads the archive as a stream soon knows what it is.
        for (path, member) in &self.members {
            let size = member.content.size();
            let mut content = Noting { inner: self.open_member(member)?, failed: false };
            let written = tar.file(path, member.executable, size, &mut content);
            let offset = match written {
                Err(Error::Io(source)) if content.failed => return Err(member.damaged(path, source.into())),
                written => written?,
            };
            let (path, executable, digest) = (path.clone(), member.executable, member.digest);
            index.members.push(IndexMember { path, offset, size, executable, digest });
        }
        // Files are those that were hashed, as long as they do not change; what comes from a bundle is not verified yet.
        if let Some(Weight { content: Content::Packed { bundle, .. }, .. }) = self.weights.first() {
            for layer in &self.layers {
                let verified = io::copy(&mut layer.open(&session.store)?, &mut io::sink());
                verified.map_err(|source| Error::Malformed { path: bundle.path.clone(), source: source.into() })?;
            }
        }
        let folder = self.weights_folder()?;
        for weight in &self.weights {
            let size = weight.content.size();
            let offset = tar.file(&folder.join(&weight.path), false, size, &mut weight.content.open()?)?;
            index.weights.push(IndexWeight { path: weight.path.clone(), offset, size });
        }
        // The layers' digests stand for the weights only if no file has moved since they were hashed.
        self.weights.iter().try_for_each(|weight: &Weight| Content::check(&weight.content))?;
        tar.archive.write_all(&[0; 2 * BLOCK as usize])?;
        let index = serde_json::to_vec(&index).map_err(io::Error::from)?;
        Ok(tar.archive.finish(&index)?)
    }
}

/// Tells a failure to read from one to write.
struct Noting<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|_| self.failed = true)
    }
}

/// A tar archive that knows how far it is.
struct Tar<'a, W: Write> {
    archive: seekable::Writer<W>,
    offset: u64,
    task: &'a Task,
}

impl<W: Write> Tar<'_, W> {
    /// Writes a file, and gives the offset of its content.
    fn file(&mut self, path: &ArchivePath, executable: bool, size: u64, content: &mut dyn Read) -> Result<u64, Error> {
        let header = archive::header(&Entry::file(path.clone(), size, executable), archive::epoch());
        self.archive.write_all(&header)?;
        let offset = self.offset + header.len() as u64;
        let mut buffered = io::BufReader::with_capacity(1 << 20, self.task.reading(content));
        let copied = io::copy(&mut buffered, &mut self.archive)?;
        if copied != size {
            let text = format!("`{path}` had {size} bytes and now has {copied}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        self.archive.write_all(archive::padding(size))?;
        self.offset = offset + size + archive::padding(size).len() as u64;
        Ok(offset)
    }
}
