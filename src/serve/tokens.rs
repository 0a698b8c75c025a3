//! Who may ask: tokens, shown as `Authorization: Bearer TOKEN`.
//!
//! Invariant: no token is kept, only its sha256; a comparison takes as long whatever is shown, and whichever token it is. A file
//! of tokens is one that nobody can read or write but whom it belongs to, and their group can read.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Letters that a token must have at least.
const SHORTEST: usize = 16;

/// Bytes that a file of them may have.
const MOST: u64 = 1 << 20;

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
    /// Others can read the file, or put tokens of theirs into it.
    #[error("{} {why}", path.display())]
    Shared {
        /// The file.
        path: PathBuf,
        /// Who can do what with it.
        why: String,
    },
    /// It is no file of tokens.
    #[error("{} has more than {} KiB", path.display(), MOST >> 10)]
    Large {
        /// The file.
        path: PathBuf,
    },
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
            Self::Shared { path, .. } => ErrorKind::Usage
                .named("serve/shared-tokens")
                .hint(format!("`chmod 600 {0}`, and `chown` it where it is another's", path.display())),
            Self::Large { .. } => ErrorKind::Usage.named("serve/large-tokens"),
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
        let mut bytes = [0_u8; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Those of a file, one on each line.
    ///
    /// # Errors
    /// When it cannot be read, is others' too, has none, or one that could be guessed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = fs::File::open(path)?;
        // Of what was opened: another file may have the name by now.
        let metadata = file.metadata()?;
        let shared = |why: String| Err(Error::Shared { path: path.to_owned(), why });
        match (metadata.mode() & 0o7777, metadata.uid()) {
            (mode, _) if mode & 0o004 != 0 => return shared(format!("can be read by everybody (mode {mode:03o})")),
            (mode, _) if mode & 0o022 != 0 => return shared(format!("can be written by others (mode {mode:03o})")),
            (_, owner) if owner != 0 && owner != nix::unistd::geteuid().as_raw() => {
                return shared(format!("belongs to another user (number {owner})"));
            }
            _ => {}
        }
        let mut text = String::new();
        file.take(MOST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST {
            return Err(Error::Large { path: path.to_owned() });
        }
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

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_none_of_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for (mode, is_refused) in
            [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o604, true), (0o660, true), (0o602, true)]
        {
            write(&path, "0123456789abcdef\n", mode);
            let read = Tokens::read(&path);
            assert_eq!(read.is_err(), is_refused, "{mode:o}");
            let is_right =
                |error: Error| error.explain().name == "serve/shared-tokens" && !error.to_string().contains("0123");
            assert!(read.err().is_none_or(is_right), "{mode:o}");
        }
        write(&path, &"0123456789abcdef\n".repeat(100_000), 0o600);
        assert_eq!(Tokens::read(&path).unwrap_err().explain().name, "serve/large-tokens");
    }

    #[test]
    fn only_a_token_of_the_file_opens_the_door() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        write(&path, "# of ours\n0123456789abcdef\n\n fedcba9876543210 \n", 0o600);
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
            write(&path, text, 0o600);
            assert_eq!(Tokens::read(&path).unwrap_err().explain().name, name);
        }
    }
}
