//! Archives of bentos: tar in any compression, or zip. The name says nothing, the first bytes do.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
use crate::bundle::import::unpacked::{limits, readable, unzip};
use crate::image::session::Session;
use crate::io::archive;
use crate::io::compress;
use crate::io::content::Stamp;
use crate::io::digest::Digest;
use crate::io::progress::Unit;

const ZIP: &[u8] = b"PK\x03\x04";

/// Beginnings of compressed files: xz, gzip, bzip2, zstd, and zip.
const MAGICS: [&[u8]; 5] = [b"\xfd7zXZ\0", b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", ZIP];

/// Where a tar archive says that it is one (POSIX.1-1988, ustar), in bytes from its beginning.
const USTAR: std::ops::Range<usize> = 257..262;

/// Whether a file is an archive by its first bytes.
pub(super) fn is_archive(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    fs::File::open(path)?.take(USTAR.end as u64).read_to_end(&mut begin)?;
    Ok(MAGICS.iter().any(|magic| begin.starts_with(magic)) || begin.get(USTAR) == Some(b"ustar"))
}

/// Whether a file is an archive of a bento, as far as its beginning tells: a zip with a description, or a tar archive in
/// any compression.
pub(super) fn holds_bento(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    if let Ok(zip) = zip::ZipArchive::new(io::BufReader::new(&file)) {
        return zip.index_for_name(crate::formats::bento::NAME).is_some();
    }
    let mut begin = Vec::new();
    let file = fs::File::open(path).and_then(compress::decoder);
    let read = file.and_then(|file| file.take(USTAR.end as u64).read_to_end(&mut begin));
    read.is_ok() && begin.get(USTAR) == Some(b"ustar")
}

/// The folder of the store in which the archive at `path` lies unpacked.
pub(super) fn unpacked(session: &Session, path: &Path) -> Result<PathBuf, Error> {
    let malformed = |source| Error::Malformed { path: path.to_owned(), source };
    let stamp = Stamp::new(path).map_err(|error| malformed(error.into()))?;
    // Paths, numbers and times always serialise.
    let key = Digest::of(serde_json::to_vec(&stamp).unwrap_or_default());
    let digest = match session.store.cached::<Digest>("bentos", &key) {
        Some(digest) => digest,
        None => {
            let task = session.progress.task("Hashing", shown(path), Unit::Bytes, Some(stamp.size));
            let (digest, _) = task.hash(fs::File::open(path)?)?;
            if stamp.is_settled() {
                session.store.cache("bentos", &key, digest, Vec::new())?;
            }
            digest
        }
    };
    session.store.snapshot(&digest, |folder| {
        let task = session.progress.task("Unpacking", shown(path), Unit::Bytes, Some(stamp.size));
        let mut file = fs::File::open(path)?;
        let mut begin = [0; ZIP.len()];
        let is_zip = file.read_exact(&mut begin).is_ok() && begin == ZIP;
        let file = fs::File::open(path)?;
        let result = match is_zip {
            true => unzip(file, folder, limits(stamp.size), &|name| Some(name.to_owned())),
            false => {
                let reader = compress::decoder(task.reading(file))?;
                archive::unpack(reader, folder, limits(stamp.size)).map_err(Into::into)
            }
        };
        result.map_err(malformed)?;
        Ok(readable(folder)?)
    })
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
