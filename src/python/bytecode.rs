//! Bytecode, compiled ahead: it halves the start of a service, and a read-only container cannot write it later.
//!
//! Invariant: the bytes depend on the source, the Python and the place in the image alone (see [`super::pyc`]). `.pyc`
//! files are checked by nobody at run time (PEP 552, "unchecked hash"), as the image is immutable; they do not depend on
//! the processor, so any platform's packages are compiled by the host platform's build of the same Python.

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;

use super::refusal::words;
use super::{Error, pyc};
use crate::archive::ArchivePath;
use crate::progress::Progress;
use crate::workers;

/// Runs the Python of the base.
pub trait Runner {
    /// Runs it with `arguments`. The folder `writable` is there under its own path and can be written; the network
    /// and the rest of the host need not be there.
    ///
    /// # Errors
    /// When it could not be started. That it failed is told by its status.
    fn python(&self, arguments: &[&str], writable: &Path) -> Result<Output, Box<dyn std::error::Error + Send + Sync>>;
}

/// Compiles all Python files below `folder`, which will lie at `place` in the image. Gives the compiled ones by their
/// paths below the folder, sorted.
///
/// Files that do not compile are left as they are: packages carry templates and tests of syntax errors. The tests of
/// packages are left out: of pandas, scikit-learn and fastapi they are 54 % of the bytecode (58 of 107 MB) and half
/// of the time, and no service imports them; one that does merely starts more slowly.
///
/// # Errors
/// When Python could not be run to its end.
pub fn compile(
    runner: &dyn Runner,
    folder: &Path,
    place: &str,
    progress: &Progress,
) -> Result<Vec<ArchivePath>, Error> {
    const SCRIPT: &str = include_str!("compile.py");
    let folder = fs::canonicalize(folder)?;
    let text = folder.to_str().ok_or_else(|| Error::Compile(format!("{} is not UTF-8", folder.display())))?;
    let left_out = format!("^{}/(.*/)?tests?/", escaped(text));
    let output = runner.python(&["-s", "-S", "-c", SCRIPT, text, place, &left_out], &folder).map_err(Error::Runner)?;
    if !output.stdout.trim_ascii_end().ends_with(b"compiled") || !output.status.success() {
        return Err(Error::Compile(format!("{}: {}", output.status, words(&output.stderr))));
    }
    let compiled = compiled(&folder)?;
    let known = AtomicBool::new(compiled.is_empty());
    workers::side_by_side(compiled.iter().collect(), |file| {
        let path = file.under(&folder);
        let mut bytes = fs::read(&path)?;
        if pyc::put_in_order(&mut bytes) {
            known.store(true, Ordering::Relaxed);
            fs::write(&path, bytes)?;
        }
        Ok::<_, Error>(())
    })?;
    if !known.into_inner() {
        progress.warn("the bytecode of this Python is newer than ekiben: built elsewhere, it may get another digest");
    }
    Ok(compiled)
}

/// The files below `folder` with bytecode, sorted.
fn compiled(folder: &Path) -> Result<Vec<ArchivePath>, Error> {
    let mut found = Vec::new();
    for entry in ignore::WalkBuilder::new(folder).standard_filters(false).build() {
        let entry = entry.map_err(std::io::Error::other)?;
        // A link of the base's leads somewhere else on this machine.
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        let path = entry.into_path();
        if is_file && path.extension().is_some_and(|extension| extension == "pyc") {
            let inside = path.strip_prefix(folder).map_err(std::io::Error::other)?;
            found.push(ArchivePath::from_path(inside).map_err(std::io::Error::other)?);
        }
    }
    found.sort();
    Ok(found)
}

/// A pattern of Python's `re` that matches `text` itself.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() || c.is_ascii_whitespace() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
