//! Detached signatures of files: base64 in a file beside it, as `cosign sign-blob --output-signature` writes it and
//! `cosign verify-blob --signature` reads it. A file of gigabytes is read as a stream.

use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::key::{LONGEST_SIGNATURE, candidates, signers_of};
use super::{Error, PublicKey, Signer, small};
use crate::io::content::Content;
use crate::io::digest::Digest;
use crate::io::explain::carry;
use crate::io::progress::{Progress, Task, Unit};

/// What is put behind a file's name for that of its signature.
pub const END: &str = ".sig";

/// A file whose signature is good.
pub struct Verified {
    /// Of the file.
    pub digest: Digest,
    /// Which of the keys have made it.
    pub keys: Vec<usize>,
}

/// Signs the file at `path`: the text of its signature, and the file's digest.
///
/// # Errors
/// When the signer does not sign, or the file cannot be read.
pub fn sign(progress: &Progress, signer: &Signer, path: &Path) -> Result<(String, Digest), Error> {
    let content = Content::file(path)?;
    let (signature, digest) = signer.sign_stream(|| told(progress, "Signing", path, &content))?;
    Ok((BASE64.encode(signature), digest))
}

/// Verifies that any of `keys` has made the signature in the file `signature` of the file at `path`.
///
/// # Errors
/// [`Error::NoSignature`], [`Error::NotSigned`], and when one of them cannot be read.
pub fn verify(progress: &Progress, path: &Path, signature: &Path, keys: &[&PublicKey]) -> Result<Verified, Error> {
    let content = Content::file(path)?;
    let bytes = small(path, signature, LONGEST_SIGNATURE as u64)?;
    for candidate in candidates(&bytes) {
        let (keys, digest) = signers_of(keys, &candidate, told(progress, "Verifying", path, &content)?)?;
        if !keys.is_empty() {
            return Ok(Verified { digest, keys });
        }
    }
    let why = "none of the keys has made it of these bytes".to_owned();
    Err(Error::NotSigned { what: path.to_owned(), signature: signature.to_owned(), why })
}

/// A file that tells how far it was read.
struct Told {
    reader: Box<dyn Read + Send>,
    task: Task,
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.task.advance(read as u64);
        Ok(read)
    }
}

fn told(progress: &Progress, verb: &'static str, path: &Path, content: &Content) -> io::Result<Told> {
    let reader = content.open().map_err(carry)?;
    let name = path.file_name().unwrap_or_default().display().to_string();
    Ok(Told { reader, task: progress.task(verb, name, Unit::Bytes, Some(content.size())) })
}
