//! What archives of others hold, on the disk: as much as is bounded, and where everybody can read it.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err as fs;

use crate::io::archive::{self, ArchivePath, Limits};

/// What an archive of `size` bytes may hold: models that are mostly zeros shrink to a hundredth, bombs to much less.
pub(super) fn limits(size: u64) -> Limits {
    Limits { members: 1_000_000, bytes: (1 << 30) + size.saturating_mul(200) }
}

/// Lets everybody read what was unpacked, as it can be read in the image: a container of root's runs as another user,
/// and sees these files.
pub(super) fn readable(folder: &Path) -> io::Result<()> {
    for entry in ignore::WalkBuilder::new(folder).standard_filters(false).build() {
        let entry = entry.map_err(io::Error::other)?;
        let metadata = entry.metadata().map_err(io::Error::other)?;
        if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), PermissionsExt::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Unpacks a zip archive below `folder`, an empty folder that nobody else writes to. `place` says where a member of a name goes:
/// nowhere, where it is to be left out.
pub(super) fn unzip(
    file: fs::File,
    folder: &Path,
    limits: Limits,
    place: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let too_much = |limit: String| archive::Error::TooLarge { limit };
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file))?;
    if zip.len() as u64 > limits.members {
        return Err(too_much(format!("{} members", limits.members)).into());
    }
    // What it says of its sizes may be less than is true; what it admits need not be written to be refused.
    let mut left = limits.bytes;
    if zip.decompressed_size().is_some_and(|size| size > u128::from(left)) {
        return Err(too_much(format!("{left} bytes")).into());
    }
    for index in 0..zip.len() {
        let mut member = zip.by_index(index)?;
        let Some(name) = place(&member.name()?) else { continue };
        let path = ArchivePath::relative(&name)?;
        if member.is_symlink() {
            return Err(archive::Error::Kind { path: path.to_string(), kind: "link".to_owned() }.into());
        }
        let place = path.under(folder);
        if member.is_dir() || name.ends_with('/') {
            fs::create_dir_all(place)?;
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        // A later member of the same name is an error.
        let mut out = fs::File::create_new(&place)?;
        let copied = io::copy(&mut (&mut member).take(left.saturating_add(1)), &mut out)?;
        if member.unix_mode().is_some_and(|mode| mode & 0o100 != 0) {
            out.set_permissions(PermissionsExt::from_mode(0o755))?;
        }
        left = left.checked_sub(copied).ok_or_else(|| too_much(format!("{} bytes", limits.bytes)))?;
    }
    Ok(())
}
