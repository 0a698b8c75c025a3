//! The keys that Debian signs its archive with.
//!
//! Those of each suite come with the program, as exported (minimal) from the package `debian-archive-keyring`: its
//! automatic keys for the archive and for security, and its release key. When a key expires is not looked at: they are
//! pinned here one by one, and an archived suite must stay readable after its keys' time.

use std::io;

use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;

use super::Suite;

/// Public keys. A text is believed when one of them has signed it.
#[derive(Clone, Debug)]
pub struct Keyring(Vec<SignedPublicKey>);

impl Keyring {
    /// The keys of the Debian archive.
    ///
    /// # Errors
    /// Never, as long as the program is whole.
    pub fn debian() -> Result<Self, pgp::errors::Error> {
        let mut all = Vec::new();
        for suite in Suite::ALL {
            all.append(&mut Self::read(suite.keys())?.0);
        }
        Ok(Self(all))
    }

    /// Reads exported public keys, armored or not.
    ///
    /// # Errors
    /// When they are no OpenPGP keys, or a subkey does not belong to its key.
    pub fn read(bytes: &[u8]) -> Result<Self, pgp::errors::Error> {
        let keys = SignedPublicKey::from_reader_many_buf(bytes)?.0.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no key is in it").into());
        }
        for key in &keys {
            key.verify_bindings()?;
        }
        Ok(Self(keys))
    }

    /// The text of a message in the cleartext signature framework (RFC 9580, section 7), with `\n` for line ends, if a
    /// key of the ring has signed it. Only what was signed is given back, never what stands around it.
    ///
    /// # Errors
    /// Says why it is not believed.
    pub(super) fn verify(&self, message: &[u8]) -> Result<String, String> {
        let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
        let (message, _) = CleartextSignedMessage::from_string(text).map_err(|error| error.to_string())?;
        let signed = message.signed_text();
        let strong = message.signatures().iter().filter(|signature| {
            matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
        });
        for signature in strong {
            for key in &self.0 {
                let subkeys = key
                    .public_subkeys
                    .iter()
                    .filter(|subkey| subkey.signatures.iter().any(|binding| binding.key_flags().sign()));
                let valid = signature.verify(&key.primary_key, signed.as_bytes()).is_ok()
                    || subkeys.into_iter().any(|subkey| signature.verify(&subkey.key, signed.as_bytes()).is_ok());
                if valid {
                    return Ok(signed.replace("\r\n", "\n"));
                }
            }
        }
        Err(format!("none of its {} signatures is by a known key", message.signatures().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_come_along_are_whole() {
        assert_eq!(Keyring::debian().unwrap().0.len(), 9);
    }

    #[test]
    fn what_holds_no_key_is_no_keyring() {
        for bytes in [&b""[..], b"x", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n"] {
            assert!(Keyring::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
