//! Bytecode, compiled ahead: it halves the start of a service, and a read-only container cannot write it later.
//!
//! Invariant: the bytes depend on the source, the Python and the place in the image alone. `.pyc` files are checked
//! by nobody at run time (PEP 552, "unchecked hash"), as the image is immutable; they do not depend on the processor,
//! so any platform's packages are compiled by the host platform's build of the same Python.

use std::path::Path;
use std::process::Output;

use super::Error;
use super::refusal::words;

/// Runs the Python of the base.
pub trait Runner {
    /// Runs it with `arguments`. The folder `writable` is there under its own path and can be written; the network
    /// and the rest of the host need not be there.
    ///
    /// # Errors
    /// When it could not be started. That it failed is told by its status.
    fn python(&self, arguments: &[&str], writable: &Path) -> Result<Output, Box<dyn std::error::Error + Send + Sync>>;
}

/// Compiles all Python files below `folder`, which will lie at `place` in the image.
///
/// Files that do not compile are left as they are: packages carry templates and tests of syntax errors. The tests of
/// packages are left out: of pandas, scikit-learn and fastapi they are 54 % of the bytecode (58 of 107 MB) and half
/// of the time, and no service imports them; one that does merely starts more slowly.
///
/// # Errors
/// When Python could not be run to its end.
pub fn compile(runner: &dyn Runner, folder: &Path, place: &str) -> Result<(), Error> {
    const SCRIPT: &str = include_str!("compile.py");
    let folder = fs_err::canonicalize(folder)?;
    let text = folder.to_str().ok_or_else(|| Error::Compile(format!("{} is not UTF-8", folder.display())))?;
    let left_out = format!("^{}/(.*/)?tests?/", escaped(text));
    let output = runner.python(&["-s", "-S", "-c", SCRIPT, text, place, &left_out], &folder).map_err(Error::Runner)?;
    match output.stdout.trim_ascii_end().ends_with(b"compiled") && output.status.success() {
        true => Ok(()),
        false => Err(Error::Compile(format!("{}: {}", output.status, words(&output.stderr)))),
    }
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
