//! Bytecode, compiled ahead: it halves the start of a service, and a read-only container cannot write it later.
//!
//! Invariant: the bytes depend on the source, the Python and the place in the image alone (see [`super::pyc`]). `.pyc`
//! files are checked by nobody at run time (PEP 552, "unchecked hash"), as the image is immutable (Python 3.6 compares the time
//! and the size of the source, which follow from the image as well); they do not depend on the processor, so any platform's packages are compiled by the host platform's build of the same Python.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;

use super::refusal::words;
use super::{Error, Files, Runner, Stored, pyc};
use crate::formats::python::PythonVersion;
use crate::io::archive::{ArchivePath, Entry, Mode, epoch};
use crate::io::parallel;
use crate::io::progress::Progress;

/// Where the bytecode of `source` lies for the Python `python` (PEP 3147). Nowhere, where no file system takes
/// its name.
pub fn place_of(source: &ArchivePath, python: PythonVersion) -> Option<ArchivePath> {
    /// Longest name that Linux takes (`NAME_MAX`), in bytes.
    const LONGEST: usize = 255;
    let (folder, file) = source.as_str().rsplit_once('/').unwrap_or(("", source.as_str()));
    let stem = file.strip_suffix(".py").unwrap_or(file);
    let path = ArchivePath::new(format!("{folder}/__pycache__/{stem}.{}.pyc", python.cache_tag())).ok()?;
    (path.name().len() <= LONGEST).then_some(path)
}

/// Compiles `sources`, which are given by the paths that they will have below `place` in the image, for the Python
/// `python`. Gives the bytecode by its paths there; its bytes lie in `work`, an empty folder.
///
/// Files that do not compile have none: packages carry templates and tests of syntax errors. The tests of packages are
/// left out: of pandas, scikit-learn and fastapi they are 54 % of the bytecode (58 of 107 MB) and half of the time, and
/// no service imports them; one that does merely starts more slowly.
///
/// # Errors
/// When Python could not be run to its end.
pub fn compile<'a>(
    runner: &dyn Runner,
    python: PythonVersion,
    sources: impl IntoIterator<Item = (&'a ArchivePath, &'a Path)>,
    place: &str,
    work: &Path,
    progress: &Progress,
) -> Result<BTreeMap<ArchivePath, Stored>, Error> {
    const SCRIPT: &str = include_str!("compile.py");
    let work = fs::canonicalize(work)?;
    let wanted = |(path, _): &(&ArchivePath, &Path)| !is_test(path) && place_of(path, python).is_some();
    let paths = gather(sources.into_iter().filter(wanted), place, &work)?;
    let text = work.to_str().ok_or_else(|| Error::Compile(format!("{} is not UTF-8", work.display())))?;
    let output =
        runner.python(&["-s", "-S", "-c", SCRIPT, text, &epoch().to_string()], &work).map_err(Error::Runner)?;
    if !output.stdout.trim_ascii_end().ends_with(b"compiled") || !output.status.success() {
        return Err(Error::Compile(format!("{}: {}", output.status, words(&output.stderr))));
    }
    let mut shares = Vec::new();
    for entry in fs::read_dir(&work)? {
        shares.extend(Some(entry?.path()).filter(|path| path.file_stem().is_some_and(|stem| stem == "compiled")));
    }
    let found = Mutex::new(Vec::new());
    parallel::side_by_side(shares, |share| {
        let mut ordered = put_in_order(&share)?;
        found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut ordered);
        Ok::<_, Error>(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !found.is_empty() && !found.iter().any(|compiled| compiled.in_order) {
        progress
            .warn("the bytecode of this Python is of no version that ekiben knows: elsewhere it may have other bytes");
    }
    let placed = |compiled: Compiled| {
        let place = paths.get(compiled.source).and_then(|source| place_of(source, python));
        Ok((
            place.ok_or_else(|| Error::Compile("Python answered for a source that it was not given".to_owned()))?,
            compiled.stored,
        ))
    };
    found.into_iter().map(placed).collect()
}

/// Compiles the Python files among `files` of an environment, and puts their bytecode beside them. The rest is as for
/// [`compile`].
///
/// # Errors
/// As [`compile`].
pub fn add(
    files: &mut Files,
    runner: &dyn Runner,
    python: PythonVersion,
    place: &str,
    work: &Path,
    progress: &Progress,
) -> Result<(), Error> {
    let sources = files.iter().filter_map(|(path, (_, stored))| {
        let stored = stored.as_ref().filter(|_| path.as_str().ends_with(".py"))?;
        Some((path, stored.file.as_path()))
    });
    let compiled = compile(runner, python, sources, place, work, progress)?;
    files.extend(compiled.into_iter().map(|(path, stored)| {
        let entry = Entry::file(path.clone(), stored.size, Mode::Plain);
        (path, (entry, Some(stored)))
    }));
    Ok(())
}

/// A source of a package's tests.
fn is_test(path: &ArchivePath) -> bool {
    path.ancestors().any(|folder| matches!(folder.name(), "test" | "tests"))
}

/// Writes the sources and their index into `work`, the largest first, and gives their paths in that order.
fn gather<'a, 'b>(
    sources: impl Iterator<Item = (&'a ArchivePath, &'b Path)>,
    place: &str,
    work: &Path,
) -> Result<Vec<&'a ArchivePath>, Error> {
    let mut parts = Vec::new();
    let mut all = BufWriter::new(fs::File::create(work.join("sources"))?);
    let mut offset = 0;
    for (path, source) in sources {
        let size = io::copy(&mut fs::File::open(source)?, &mut all)?;
        parts.push((size, offset, path));
        offset += size;
    }
    all.flush()?;
    parts.sort_by(|a, b| b.0.cmp(&a.0).then(a.2.cmp(b.2)));
    let index = parts.iter().map(|(size, offset, path)| format!("{offset}\0{size}\0{place}/{path}"));
    fs::write(work.join("index"), index.collect::<Vec<_>>().join("\0"))?;
    Ok(parts.into_iter().map(|(_, _, path)| path).collect())
}

/// The bytecode of one source.
struct Compiled {
    /// The source's place in the index.
    source: usize,
    stored: Stored,
    /// Whether its bytes are known to follow from the source.
    in_order: bool,
}

/// Reads what one process compiled, and writes it beside with bytes that follow from the sources.
fn put_in_order(share: &Path) -> Result<Vec<Compiled>, Error> {
    let mut file = share.as_os_str().to_owned();
    file.push(".ordered");
    let file = PathBuf::from(file);
    let (mut share, mut ordered) = (BufReader::new(fs::File::open(share)?), BufWriter::new(fs::File::create(&file)?));
    let (mut found, mut offset) = (Vec::new(), 0);
    while !share.fill_buf()?.is_empty() {
        let mut header = [0; 8];
        share.read_exact(&mut header)?;
        let [source, size] =
            [0, 4].map(|at| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        let mut pyc = Vec::new();
        if share.by_ref().take(size.into()).read_to_end(&mut pyc)? < size as usize {
            return Err(Error::Compile("what Python wrote ends in the middle".to_owned()));
        }
        let in_order = pyc::put_in_order(&mut pyc);
        ordered.write_all(&pyc)?;
        let size = pyc.len() as u64;
        found.push(Compiled { source: source as usize, stored: Stored { file: file.clone(), offset, size }, in_order });
        offset += size;
    }
    ordered.flush()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_has_a_place_where_its_name_is_not_too_long() {
        let of = |source: &str| {
            place_of(&ArchivePath::new(source).unwrap(), PythonVersion::new(3, 11)).map(|path| path.to_string())
        };
        assert_eq!(of("a/b.c.py").as_deref(), Some("a/__pycache__/b.c.cpython-311.pyc"));
        assert_eq!(of("six.py").as_deref(), Some("__pycache__/six.cpython-311.pyc"));
        assert_eq!(of(&format!("a/{}.py", "b".repeat(240))), None);
        assert_eq!(of(&format!("{}a.py", "b/".repeat(2040))), None);
    }
}
