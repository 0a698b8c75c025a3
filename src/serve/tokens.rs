//! Who may ask: tokens, shown as `Authorization: Bearer TOKEN`.
//!
//! Invariant: no token is kept, only its sha256; a comparison takes as long whatever is shown, and whichever token it is.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Letters that a token must have at least.
const SHORTEST: usize = 16;

/// Tokens, each of which opens the door.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// One could be guessed.
    #[error("{place} has a token of {length} letters: it could be guessed")]
    Short {
        /// Where it stands.
        place: String,
        /// How long it is.
        length: usize,
    },
    /// A token cannot be sent.
    #[error("{place} has a token with letters that cannot stand in a header")]
    Letters {
        /// Where it stands.
        place: String,
    },
    /// There is none in the file.
    #[error("{} has no token", path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Short { .. } => ErrorKind::Usage
                .named("serve/short-token")
                .hint(format!("use {SHORTEST} letters at least: `openssl rand -hex 32` makes one")),
            Self::Letters { .. } => ErrorKind::Usage
                .named("serve/token-letters")
                .hint("use letters, digits, `-`, `.`, `_`, `~`, `+`, `/` and `=`"),
            Self::None { .. } => ErrorKind::Usage
                .named("serve/no-token")
                .hint("write one on a line; lines that begin with `#` do not count"),
        }
    }
}

impl Tokens {
    /// The only one, which stands at `place`.
    ///
    /// # Errors
    /// When it could be guessed, or cannot be sent.
    pub fn one(token: &str, place: &str) -> Result<Self, Error> {
        let place = place.to_owned();
        if token.len() < SHORTEST {
            return Err(Error::Short { place, length: token.len() });
        }
        // RFC 6750 section 2.1.
        if !token.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c)) {
            return Err(Error::Letters { place });
        }
        Ok(Self { digests: vec![Sha256::digest(token).into()] })
    }

    /// A new token, which nobody can guess.
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn random_text() -> io::Result<String> {
        use std::io::Read as _;
        let mut bytes = [0_u8; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Those of a file, one on each line.
    ///
    /// # Errors
    /// When it cannot be read, has none, or one that could be guessed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)?;
        let mut tokens = Self::default();
        for (number, line) in text.lines().enumerate() {
            let token = line.trim();
            if !token.is_empty() && !token.starts_with('#') {
                tokens.digests.extend(Self::one(token, &format!("{}:{}", path.display(), number + 1))?.digests);
            }
        }
        if tokens.digests.is_empty() {
            return Err(Error::None { path: path.to_owned() });
        }
        Ok(tokens)
    }

    /// Whether one of them is shown.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let token = match value.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => return false,
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        let fits = self.digests.iter().fold(Choice::from(0), |fits, known| fits | known.ct_eq(&digest));
        fits.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(tokens: &Tokens, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        tokens.admit(&headers)
    }

    #[test]
    fn only_a_token_of_the_file_opens_the_door() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "# of ours\n0123456789abcdef\n\n fedcba9876543210 \n").unwrap();
        let tokens = Tokens::read(&path).unwrap();
        for right in ["Bearer 0123456789abcdef", "bearer fedcba9876543210"] {
            assert!(shows(&tokens, &[right]), "{right}");
        }
        for wrong in ["Bearer 0123456789abcde", "Bearer ", "Bearer", "Basic 0123456789abcdef", "Bearer # of ours", "é"]
        {
            assert!(!shows(&tokens, &[wrong]), "{wrong}");
        }
        assert!(!shows(&tokens, &[]));
        assert!(!shows(&tokens, &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"]), "of two, which counts?");
        assert!(!shows(&Tokens::default(), &["Bearer 0123456789abcdef"]));
    }

    #[test]
    fn tokens_that_are_none_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for (text, name) in [
            ("# nothing\n", "serve/no-token"),
            ("0123456789abcdef\nshort\n", "serve/short-token"),
            ("0123456789 abcdef\n", "serve/token-letters"),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(Tokens::read(&path).unwrap_err().explain().name, name);
        }
    }
}
