//! Signatures: of images, made with a key and kept beside the image, found there and verified; of files and folders.
//!
//! Invariants: what is signed and verified is a digest, never a tag; a signature counts only if a key that was given has made
//! it and it names the very digest; whatever cannot be read is no signature, and why is told. What lies beside an image is what
//! its registry shows: one that hides signatures makes an image unsigned, never signed. Formats: [`simple`], [`bundle`]. Files have theirs beside them ([`blob`]), folders in them ([`folder`]).

pub mod blob;
pub mod bundle;
mod carry;
pub mod folder;
mod key;
mod place;
pub mod simple;

pub use carry::{carry, subjects};
pub use key::{Algorithm, Error as KeyError, LARGEST_KEY, PrivateKey, PublicKey, Signer};
pub use place::{Beside, Place, Signed};

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::image::{registry, store};
use crate::io::content::{self, Content};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Signatures of one image that are looked at, of all formats together.
pub const MOST: usize = 64;

/// Largest document that is signed, or that a signature is in, in bytes.
pub const LARGEST: u64 = 1 << 20;

/// What can go wrong with signatures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key does not do.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The registry says no.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Where signatures are kept is something else.
    #[error("what lies at the tag for signatures is something else")]
    NotSignatures,
    /// More signatures than anybody needs.
    #[error("{subject} has more than {MOST} signatures, of which nobody can say which is meant")]
    TooMany {
        /// The image.
        subject: Digest,
    },
    /// A file or folder has no signature.
    #[error("{} is not signed: there is no {}", what.display(), signature.display())]
    NoSignature {
        /// The file or folder.
        what: PathBuf,
        /// Where its signature would be.
        signature: PathBuf,
    },
    /// The signature of a file or folder does not count.
    #[error("{} is not signed: {} does not count: {why}", what.display(), signature.display())]
    NotSigned {
        /// The file or folder.
        what: PathBuf,
        /// Where its signature is.
        signature: PathBuf,
        /// Why, as a fragment.
        why: String,
    },
    /// The signature of a folder is good, and of another content.
    #[error("{} is not what was signed:{}", folder.display(), list(differences))]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// What is different.
        differences: Vec<String>,
    },
    /// A folder has what cannot be signed.
    #[error("{} cannot be signed:{}", folder.display(), list(faults))]
    Unsignable {
        /// The folder.
        folder: PathBuf,
        /// What it has.
        faults: Vec<String>,
    },
    /// A file is another one now, or cannot be read.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The disk says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The first of many things, one a line.
fn list(things: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text: String = things.iter().take(SHOWN).map(|thing| format!("\n  - {thing}")).collect();
    if things.len() > SHOWN {
        text += &format!("\n  - and {} more", things.len() - SHOWN);
    }
    text
}

/// The signature of `what`, of at most `limit` bytes.
fn small(what: &Path, signature: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    match Content::file(signature) {
        Ok(content) if content.size() > limit => {
            let why = format!("it is larger than {limit} bytes");
            Err(Error::NotSigned { what: what.to_owned(), signature: signature.to_owned(), why })
        }
        Ok(content) => Ok(content.read(limit)?),
        Err(content::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NoSignature { what: what.to_owned(), signature: signature.to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Key(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::NotSignatures => ErrorKind::Failure.named("sign/not-signatures"),
            Self::TooMany { .. } => ErrorKind::Refused.named("sign/too-many"),
            Self::NoSignature { .. } | Self::NotSigned { .. } => ErrorKind::Refused.named("verify/unsigned"),
            Self::Changed { .. } => ErrorKind::Refused.named("verify/changed"),
            Self::Unsignable { .. } => ErrorKind::Usage
                .named("sign/unsignable")
                .hint("leave it out with `--ignore PATH`, or put a copy without links there (`cp -rL`)"),
            Self::Content(error) => error.explain(),
            Self::Io(error) => error.explain(),
        }
    }
}

/// What a signature says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The manifest that is signed.
    pub subject: Digest,
    /// What it was called by whoever signed: a repository, maybe with a tag.
    pub identity: Option<String>,
    /// What signed, as it says itself.
    pub creator: Option<String>,
    /// When, in seconds since 1970, as the signer says.
    pub made: Option<u64>,
}

/// How a signature is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// At the tag: see [`simple`].
    Simple,
    /// As a referrer: see [`bundle`].
    Bundle,
}

/// A signature that one of the keys has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// How it is kept.
    pub format: Format,
    /// What it says.
    pub claim: Claim,
    /// Which of the keys made it.
    #[serde(skip)]
    pub key: usize,
}

/// One that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// How it is kept.
    pub format: Format,
    /// Of the blob or manifest.
    pub digest: Digest,
    /// Why, as a fragment.
    pub why: String,
}

/// What was found beside an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What counts.
    pub signatures: Vec<Signature>,
    /// What does not.
    pub refused: Vec<Refused>,
}

impl Found {
    /// Looks at one document of simple signing: `payload` with `signature`.
    pub fn look_at_simple(
        &mut self,
        subject: &Digest,
        payload: &[u8],
        signature: Result<Vec<u8>, String>,
        keys: &[&PublicKey],
    ) {
        let judged = signature.and_then(|signature| {
            let made = keys.iter().enumerate().filter(|(_, key)| key.verifies(payload, &signature));
            let made: Vec<_> = made.map(|(index, _)| index).collect();
            if made.is_empty() {
                return Err("none of the keys has made it".to_owned());
            }
            let claim = simple::read(payload)?;
            match claim.subject == *subject {
                true => Ok((claim, made)),
                false => Err(format!("it is of another image, {}", claim.subject)),
            }
        });
        self.take(Format::Simple, Digest::of(payload), judged.map(Some));
    }

    /// Looks at one bundle. One that says something else than that an image is signed does not count, and is no fault.
    pub fn look_at_bundle(&mut self, subject: &Digest, bytes: &[u8], keys: &[&PublicKey]) {
        let judged = bundle::open(bytes, keys).and_then(|opened| {
            let claim = bundle::read(&opened.statement, subject)?;
            Ok(claim.map(|claim| (claim, opened.keys)))
        });
        self.take(Format::Bundle, Digest::of(bytes), judged);
    }

    fn take(&mut self, format: Format, digest: Digest, judged: Result<Option<(Claim, Vec<usize>)>, String>) {
        match judged {
            Ok(None) => {}
            Ok(Some((claim, keys))) => {
                let one = |key| Signature { format, claim: claim.clone(), key };
                self.signatures.extend(keys.into_iter().map(one));
            }
            Err(why) => self.refused.push(Refused { format, digest, why }),
        }
    }
}
