//! Files that appear whole or not at all, where the person asked for them.

use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes the file at `path` with what `write` writes: under another name beside it, flushed to the disk, renamed.
///
/// # Errors
/// Those of `write`, and those of the disk; what was at `path` before is still there then.
pub fn write<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<NamedTempFile>) -> Result<T, E>,
) -> Result<T, E> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As readable as any file that the person makes: the kernel takes off what the umask says.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let file =
        tempfile::Builder::new().prefix(".ekiben-").permissions(permissions).tempfile_in(parent).map_err(named)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let result = write(&mut file)?;
    file.flush().map_err(named)?;
    let file = file.into_inner().map_err(|error| named(error.into_error()))?;
    file.as_file().sync_all().map_err(named)?;
    file.persist(path).map_err(|error| named(error.error))?;
    Ok(result)
}
