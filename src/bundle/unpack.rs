//! Reading all of a bundle: to verify it, or to have its files in a folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::weights;
use super::{Bundle, Error, Member, Packed};
use crate::image::layer;
use crate::image::session::Session;
use crate::io::archive::{self, ArchivePath, BLOCK, seekable};
use crate::io::atomic::{self, Steady};
use crate::io::content::{self, Content, Opener};
use crate::io::digest::{Hasher, Mismatch};
use crate::io::progress::{Task, Unit};

impl Bundle {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let members = self.members.values().map(|member| member.content.size());
        // What an index says of sizes need not be true.
        members.chain(self.weights.iter().map(|weight| weight.content.size())).fold(0, u64::saturating_add)
    }

    /// Bytes of what a build would fetch.
    pub fn vendored_bytes(&self) -> u64 {
        self.vendored.values().map(|member| member.content.size()).fold(0, u64::saturating_add)
    }

    pub(super) fn all_bytes(&self) -> u64 {
        self.bytes().saturating_add(self.vendored_bytes())
    }

    /// Looks whether the bundle's file has the parts that its index names, where and as large as that says. No content is
    /// read, so this says nothing of it; of a bundle that is no file it says nothing at all.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn check(&self) -> Result<(), Error> {
        let Some(Packed { path, layers, .. }) = &self.packed else { return Ok(()) };
        let malformed = |why: String| Error::Malformed { path: path.clone(), source: why.into() };
        let mut archive = seekable::Reader::new(fs::File::open(path)?).map_err(|error| malformed(error.to_string()))?;
        archive.check_heads().map_err(|error| malformed(error.to_string()))?;
        let members = self.members.iter().chain(&self.vendored).map(|(path, member)| (path, &member.content));
        let all = members.chain(self.weights.iter().map(|weight| (&weight.path, &weight.content)));
        let mut places: Vec<_> = all
            .filter_map(|(path, content)| match content {
                Content::Packed { offset, size, .. } => Some((*offset, *size, path)),
                _ => None,
            })
            .collect();
        places.sort();
        let mut end = 0u64;
        for (offset, size, name) in places {
            // Before each stands a header of its own.
            if offset < end.saturating_add(BLOCK) {
                return Err(malformed(format!("its index has `{name}` where another member lies")));
            }
            end = offset.saturating_add(size).saturating_add(archive::padding(size).len() as u64);
        }
        if end.saturating_add(2 * BLOCK) != archive.length() {
            return Err(malformed("its index names another number of bytes than it has".to_owned()));
        }
        for (files, layer) in weights::split(&self.image_folder()?, &self.weights)?.iter().zip(layers) {
            let bytes = files.iter().map(|file| file.content.size()).fold(0, u64::saturating_add);
            if layer.size < bytes {
                return Err(malformed(format!(
                    "its index has a layer smaller than the weights in it: {}",
                    layer.title
                )));
            }
        }
        Ok(())
    }

    /// Reads every byte, and sees whether it is the one that was packed.
    ///
    /// # Errors
    /// [`Error::Damaged`], which names the file.
    pub fn verify(&self, session: &Session) -> Result<(), Error> {
        let task = session.progress.task("Verifying", self.file_name(), Unit::Bytes, Some(self.all_bytes()));
        let mut opener = Opener::default();
        for (path, member) in self.members.iter().chain(&self.vendored) {
            copy(path, member, &mut opener, &task, &mut io::sink())?;
        }
        self.each_weight(session, |path, content, hasher| {
            read(path, content, &mut opener, &task, |bytes| hasher.write_all(bytes))
        })
    }

    /// Writes all files into the folder `path`, which must not be there or be empty; each is verified. What a build would fetch stays
    /// in the bundle: of a folder, nothing is built with it.
    ///
    /// # Errors
    /// [`Error::Damaged`], which names the file, and what the disk says; then nothing is left at `path`.
    pub fn unpack(&self, session: &Session, path: &Path) -> Result<(), Error> {
        let task = session.progress.task("Unpacking", self.file_name(), Unit::Bytes, Some(self.bytes()));
        atomic::folder(path, |folder| {
            let mut opener = Opener::default();
            for (path, member) in &self.members {
                let mut file = create(folder, path, member.executable)?;
                copy(path, member, &mut opener, &task, &mut file)?;
            }
            self.each_weight(session, |path, content, hasher| {
                let mut file = Steady::new(create(folder, path, false)?);
                read(path, content, &mut opener, &task, |bytes| {
                    hasher.write_all(bytes)?;
                    file.write_all(bytes)
                })
            })
        })
    }

    /// Writes those of its files, without weights, that are `wanted` into the folder `path`; else as [`Bundle::unpack`]. How many
    /// they are.
    ///
    /// # Errors
    /// As [`Bundle::unpack`].
    pub fn unpack_some(
        &self,
        session: &Session,
        path: &Path,
        wanted: &dyn Fn(&ArchivePath) -> bool,
    ) -> Result<usize, Error> {
        let wanted: Vec<_> = self.members.iter().filter(|(path, _)| wanted(path)).collect();
        let bytes = wanted.iter().map(|(_, member)| member.content.size()).sum();
        let task = session.progress.task("Unpacking", self.file_name(), Unit::Bytes, Some(bytes));
        atomic::folder(path, |folder| {
            let mut opener = Opener::default();
            for (path, member) in &wanted {
                let mut file = create(folder, path, member.executable)?;
                copy(path, member, &mut opener, &task, &mut file)?;
            }
            Ok::<_, Error>(wanted.len())
        })
    }

    /// Calls `read` for each of the weights, and verifies what it hands to the hasher.
    fn each_weight(
        &self,
        session: &Session,
        mut read: impl FnMut(&ArchivePath, &Content, &mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (epoch, layers) = match &self.packed {
            Some(Packed { epoch, layers, .. }) => (*epoch, layers.clone()),
            None => (crate::io::archive::epoch(), self.weight_layers(session)?.to_vec()),
        };
        let place = self.places()?;
        let mut weights = self.weights.iter();
        for (files, layer) in weights::split(&self.image_folder()?, &self.weights)?.into_iter().zip(layers) {
            let first = weights.clone().next();
            let (actual, _) = layer::hash_in_passing(epoch, &files, |_, hasher| match weights.next() {
                Some(weight) => read(&place(&weight.path), &weight.content, hasher),
                None => Ok(()),
            })?;
            if let Some(weight) = first.filter(|_| actual != layer.diff_id) {
                let mismatch = Mismatch::Digest { expected: layer.diff_id, actual };
                return Err(damaged(&place(&weight.path), &weight.content, mismatch));
            }
        }
        Ok(())
    }
}

/// Writes a member to `out`, and sees whether it is the one that was packed.
///
/// # Errors
/// [`Error::Damaged`], which names it; then what was written is of no use.
pub fn copy(
    path: &ArchivePath,
    member: &Member,
    opener: &mut Opener,
    task: &Task,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut hasher = Hasher::new();
    read(path, &member.content, opener, task, |bytes| {
        hasher.update(bytes);
        out.write_all(bytes)
    })?;
    let actual = hasher.finish();
    match actual == member.digest {
        true => Ok(()),
        false => Err(damaged(path, &member.content, Mismatch::Digest { expected: member.digest, actual })),
    }
}

/// Hands the bytes of a file to `take`. What cannot be decompressed is damage; what cannot be written is not.
fn read(
    path: &ArchivePath,
    content: &Content,
    opener: &mut Opener,
    task: &Task,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    let mut refused = None;
    let result = opener.open(content).and_then(|()| {
        let copied = task.copy(opener, |bytes| {
            take(bytes).inspect_err(|error| refused = Some(io::Error::new(error.kind(), error.to_string())))
        });
        Ok(copied.map(drop)?)
    });
    match (refused, result) {
        (Some(error), _) => Err(error.into()),
        (None, Err(content::Error::Io(error))) => Err(damaged(path, content, error)),
        (None, result) => Ok(result?),
    }
}

pub(super) fn damaged(
    member: &ArchivePath,
    content: &Content,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let path = content.place().map(PathBuf::from).unwrap_or_default();
    Error::Damaged { path, member: member.clone(), source: source.into() }
}

/// A new file below `folder`, in which there are no links: nobody else writes to it.
fn create(folder: &Path, path: &ArchivePath, executable: bool) -> io::Result<fs::File> {
    let path = path.under(folder);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if executable { 0o777 } else { 0o666 };
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}
