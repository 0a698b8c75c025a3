//! Keys: made, kept encrypted as cosign keeps them, and what signs with them and verifies.
//!
//! A private key is PEM (`ENCRYPTED SIGSTORE PRIVATE KEY`, of old `ENCRYPTED COSIGN PRIVATE KEY`) of a JSON document: PKCS#8,
//! encrypted with NaCl's secretbox under a key that scrypt makes of a password
//! (<https://github.com/secure-systems-lab/go-securesystemslib>, `encrypted`). Plain PKCS#8 is read as well. A public key is
//! PEM of a `SubjectPublicKeyInfo`. ECDSA with P-256 and SHA-256 signs in DER, Ed25519 as RFC 8032 has it.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write as _};
use std::process::{ChildStdin, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use ed25519_dalek::{
    Digest as _, Sha512, SignatureError, Signer as _, SigningKey as Ed25519Key, VerifyingKey as Ed25519PublicKey,
};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::ecdsa::{DerSignature, SigningKey as P256Key, VerifyingKey as P256PublicKey};
use p256::elliptic_curve::rand_core::{OsRng, RngCore as _};
use p256::elliptic_curve::zeroize::Zeroizing;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use serde::{Deserialize, Serialize};

use crate::io::digest::{Digest, Hasher};
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// What a key is in.
const ENCRYPTED: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";

/// The same, as cosign 1 wrote it.
const ENCRYPTED_OF_OLD: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// Largest file of a key that is read, in bytes.
pub const LARGEST_KEY: u64 = 64 << 10;

/// Memory that scrypt may take for a key of somebody's, in bytes: cosign's own takes 64 MiB.
const MOST_MEMORY: u64 = 256 << 20;

/// Longest signature that a command or a file may give, in bytes.
pub(super) const LONGEST_SIGNATURE: usize = 16 << 10;

/// Why something is no key, or does not sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is none that is read.
    #[error("{name} is no key: {why}")]
    Malformed {
        /// The file, or where else the key came from.
        name: String,
        /// What it lacks.
        why: String,
    },
    /// It is encrypted, and the password is not right.
    #[error("{name} does not open with this password")]
    Password {
        /// The file, or where else the key came from.
        name: String,
    },
    /// It is encrypted, and there is no password.
    #[error("{name} is encrypted, and there is no password")]
    NoPassword {
        /// The file, or where else the key came from.
        name: String,
    },
    /// A command that was to sign did not.
    #[error("the signer `{command}` {why}")]
    Signer {
        /// As it was given.
        command: String,
        /// What it did.
        why: String,
    },
    /// What is to be signed cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Malformed { .. } => {
                ErrorKind::Usage.named("key/malformed").hint("`ekiben key new NAME` makes NAME.key and NAME.pub")
            }
            Self::Password { .. } => ErrorKind::Failure.named("key/password"),
            Self::NoPassword { .. } => {
                ErrorKind::Usage.named("key/no-password").hint("set EKIBEN_KEY_PASSWORD or COSIGN_PASSWORD")
            }
            Self::Signer { .. } => ErrorKind::Failure.named("key/signer"),
            Self::Io(error) => error.explain(),
        }
    }
}

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    P256,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "ECDSA P-256",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// What verifies signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    inner: Public,
    der: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    P256(P256PublicKey),
    Ed25519(Ed25519PublicKey),
}

/// What signs.
pub enum PrivateKey {
    /// With P-256.
    P256(P256Key),
    /// With Ed25519.
    Ed25519(Ed25519Key),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PublicKey {
    /// Reads PEM. `name` is what the key is called in messages.
    ///
    /// # Errors
    /// When it is no public key that is known.
    pub fn read(pem: &str, name: &str) -> Result<Self, Error> {
        let malformed = |why: &str| Error::Malformed { name: name.to_owned(), why: why.to_owned() };
        let (label, der) = unwrapped(pem).ok_or_else(|| malformed("this is no PEM"))?;
        if label.ends_with("PRIVATE KEY") {
            return Err(malformed("this is a private key, and the public one verifies"));
        }
        if label != "PUBLIC KEY" {
            return Err(malformed(&format!("PEM of `{label}` is not read")));
        }
        Self::of_der(&der).ok_or_else(|| malformed("only ECDSA P-256 and Ed25519 are known"))
    }

    /// Of a `SubjectPublicKeyInfo`.
    fn of_der(der: &[u8]) -> Option<Self> {
        let p256 = || P256PublicKey::from_public_key_der(der).ok().map(Public::P256);
        let ed25519 = || Ed25519PublicKey::from_public_key_der(der).ok().map(Public::Ed25519);
        // A weak key (of small order) verifies what nobody signed.
        let is_sound = |key: &Public| !matches!(key, Public::Ed25519(key) if key.is_weak());
        Some(Self { inner: p256().or_else(ed25519).filter(is_sound)?, der: der.to_vec() })
    }

    /// As PEM.
    pub fn write(&self) -> String {
        wrapped("PUBLIC KEY", &self.der)
    }

    /// How it verifies.
    pub fn algorithm(&self) -> Algorithm {
        match self.inner {
            Public::P256(_) => Algorithm::P256,
            Public::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// What tells it from others: the digest of its bytes.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Whether `signature` is one of `message` with this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.inner {
            Public::P256(key) => {
                use p256::ecdsa::signature::Verifier as _;
                DerSignature::from_bytes(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Public::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

/// Reads `message` once, as a stream: which of `keys` have made `signature` of it, and its digest.
///
/// # Errors
/// Those of the reader.
pub fn signers_of(keys: &[&PublicKey], signature: &[u8], message: impl Read) -> io::Result<(Vec<usize>, Digest)> {
    let of_ed25519 = |key: &&PublicKey| match &key.inner {
        // A key of small order is none that is read, so that this is as strict as need be.
        Public::Ed25519(key) => key.verify_stream(&ed25519_dalek::Signature::from_slice(signature).ok()?).ok(),
        Public::P256(_) => None,
    };
    let mut streams: Vec<_> = keys.iter().map(of_ed25519).collect();
    let digest = pass(message, |piece| {
        streams.iter_mut().flatten().for_each(|stream| stream.update(piece));
        Ok(())
    })?;
    let of_p256 = DerSignature::from_bytes(signature).ok();
    let has_made = |(key, stream): (&&PublicKey, Option<ed25519_dalek::StreamVerifier>)| match &key.inner {
        Public::P256(key) => {
            of_p256.as_ref().is_some_and(|signature| key.verify_prehash(digest.as_bytes(), signature).is_ok())
        }
        Public::Ed25519(_) => stream.is_some_and(|stream| stream.finalize_and_verify().is_ok()),
    };
    let made = keys.iter().zip(streams).map(has_made);
    Ok((made.enumerate().filter(|(_, made)| *made).map(|(index, _)| index).collect(), digest))
}

/// Reads `message` to its end and hands on the pieces; gives its digest.
fn pass(mut message: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match message.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                take(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl PrivateKey {
    /// A new one.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::P256 => Self::P256(P256Key::random(&mut OsRng)),
            Algorithm::Ed25519 => Self::Ed25519(Ed25519Key::generate(&mut OsRng)),
        }
    }

    /// Reads PEM; `password` is asked where it is encrypted. `name` is what the key is called in messages.
    ///
    /// # Errors
    /// When it is no private key that is known, or does not open.
    pub fn read(pem: &str, name: &str, password: impl FnOnce() -> Option<Vec<u8>>) -> Result<Self, Error> {
        let malformed = |why: &str| Error::Malformed { name: name.to_owned(), why: why.to_owned() };
        let (label, bytes) = unwrapped(pem).ok_or_else(|| malformed("this is no PEM"))?;
        let pkcs8 = match label.as_str() {
            ENCRYPTED | ENCRYPTED_OF_OLD => {
                let sealed: Sealed = serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))?;
                sealed.check().map_err(malformed)?;
                let password = password().ok_or_else(|| Error::NoPassword { name: name.to_owned() })?;
                sealed.open(&Zeroizing::new(password)).ok_or_else(|| Error::Password { name: name.to_owned() })?
            }
            "PRIVATE KEY" => Zeroizing::new(bytes),
            "PUBLIC KEY" => return Err(malformed("this is a public key, and the private one signs")),
            label => return Err(malformed(&format!("PEM of `{label}` is not read, PKCS#8 is"))),
        };
        let p256 = || P256Key::from_pkcs8_der(&pkcs8).ok().map(Self::P256);
        let ed25519 = || Ed25519Key::from_pkcs8_der(&pkcs8).ok().map(Self::Ed25519);
        p256().or_else(ed25519).ok_or_else(|| malformed("only ECDSA P-256 and Ed25519 are known"))
    }

    /// As PEM, encrypted with `password`, which may be empty as with cosign.
    ///
    /// # Errors
    /// Never with a key that was made or read here.
    pub fn write(&self, password: &[u8]) -> Result<String, Error> {
        let failed = |why: String| Error::Malformed { name: "this".to_owned(), why };
        let pkcs8 = match self {
            Self::P256(key) => key.to_pkcs8_der(),
            Self::Ed25519(key) => key.to_pkcs8_der(),
        };
        let pkcs8 = pkcs8.map_err(|error| failed(error.to_string()))?;
        let sealed =
            Sealed::seal(pkcs8.as_bytes(), password).ok_or_else(|| failed("it cannot be sealed".to_owned()))?;
        let text = serde_json::to_vec(&sealed).map_err(|error| failed(error.to_string()))?;
        Ok(wrapped(ENCRYPTED, &text))
    }

    /// Its public key.
    ///
    /// # Errors
    /// Never with a key that was made or read here.
    pub fn public(&self) -> Result<PublicKey, Error> {
        let der = match self {
            Self::P256(key) => key.verifying_key().to_public_key_der(),
            Self::Ed25519(key) => key.verifying_key().to_public_key_der(),
        };
        let public = der.ok().and_then(|der| PublicKey::of_der(der.as_bytes()));
        public.ok_or_else(|| Error::Malformed { name: "this".to_owned(), why: "it has no public key".to_owned() })
    }

    /// The signature of `message`.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                // The nonce is that of RFC 6979: it needs no random number, and the same gives the same.
                let signature: DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }

    /// The signature of what `open` opens, and its digest.
    fn sign_stream<R: Read>(&self, open: impl Fn() -> io::Result<R>) -> Result<(Vec<u8>, Digest), Error> {
        let failed = || io::Error::other("the key does not sign");
        match self {
            Self::P256(key) => {
                let digest = pass(open()?, |_| Ok(()))?;
                let signature: DerSignature = key.sign_prehash(digest.as_bytes()).map_err(|_| failed())?;
                Ok((signature.as_bytes().to_vec(), digest))
            }
            Self::Ed25519(key) => {
                // It is read twice. Had it changed between, the two halves of the signature would give the key away, so
                // that then there is none.
                let seen = RefCell::new(Ok(None));
                let read = |hasher: &mut Sha512| {
                    let digest = open().and_then(|message| {
                        pass(message, |piece| {
                            hasher.update(piece);
                            Ok(())
                        })
                    });
                    let before = seen.replace(Ok(None));
                    let now = match (before, digest) {
                        (Ok(Some(before)), Ok(digest)) if before != digest => {
                            Err(io::Error::other("what is to be signed changes while it is read"))
                        }
                        (Err(error), _) | (_, Err(error)) => Err(error),
                        (_, Ok(digest)) => Ok(Some(digest)),
                    };
                    let is_fine = now.is_ok();
                    *seen.borrow_mut() = now;
                    if is_fine { Ok(()) } else { Err(SignatureError::new()) }
                };
                let secret = ExpandedSecretKey::from(key.as_bytes());
                let signature = raw_sign_byupdate::<Sha512, _>(&secret, read, &key.verifying_key());
                let digest = seen.into_inner()?.ok_or_else(failed)?;
                Ok((signature.map_err(|_| failed())?.to_bytes().to_vec(), digest))
            }
        }
    }
}

/// Who signs: a key that is here, or a command in front of one that is elsewhere.
pub enum Signer {
    /// A key.
    Key(PrivateKey),
    /// A command of the shell: it gets the bytes on stdin, and gives the signature, raw or in base64.
    Command {
        /// As it was given.
        command: String,
        /// What verifies its signatures.
        public: PublicKey,
    },
}

impl Signer {
    /// What verifies its signatures.
    ///
    /// # Errors
    /// As [`PrivateKey::public`].
    pub fn public(&self) -> Result<PublicKey, Error> {
        match self {
            Self::Key(key) => key.public(),
            Self::Command { public, .. } => Ok(public.clone()),
        }
    }

    /// The signature of `message`.
    ///
    /// # Errors
    /// When a command fails, or gives what its public key does not verify.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Key(key) => Ok(key.sign(message)),
            Self::Command { command, public } => {
                // One that does not read what it signs says so by its signature.
                let feed = |mut stdin: ChildStdin| drop(stdin.write_all(message));
                asked(command, feed, |signature| Ok(public.verifies(message, signature)))
            }
        }
    }

    /// The signature of what `open` opens, read as a stream as often as the key needs, and its digest.
    ///
    /// # Errors
    /// As [`Signer::sign`], and when it cannot be read or is not the same each time.
    pub fn sign_stream<R: Read>(&self, open: impl Fn() -> io::Result<R>) -> Result<(Vec<u8>, Digest), Error> {
        let (command, public) = match self {
            Self::Key(key) => return key.sign_stream(open),
            Self::Command { command, public } => (command, public),
        };
        let message = open()?;
        let feed = |mut stdin: ChildStdin| {
            let mut message = message;
            drop(io::copy(&mut message, &mut stdin));
        };
        let mut digest = None;
        let signature = asked(command, feed, |signature| {
            let (signers, of) = signers_of(&[public], signature, open()?)?;
            digest = Some(of);
            Ok(!signers.is_empty())
        })?;
        let digest = digest.ok_or_else(|| io::Error::other("nothing was signed"))?;
        Ok((signature, digest))
    }
}

/// What `command` signs of what `feed` writes to it: raw or in base64, as `verifies` takes it.
fn asked(
    command: &str,
    feed: impl FnOnce(ChildStdin),
    mut verifies: impl FnMut(&[u8]) -> io::Result<bool>,
) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::Signer { command: command.to_owned(), why };
    let could_not = |error: io::Error| failed(format!("could not be run: {error}"));
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(could_not)?;
    child.stdin.take().map(feed);
    let output = child.wait_with_output().map_err(could_not)?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    if output.stdout.len() > LONGEST_SIGNATURE {
        return Err(failed("gave more than a signature".to_owned()));
    }
    for signature in candidates(&output.stdout) {
        if verifies(&signature)? {
            return Ok(signature);
        }
    }
    Err(failed("gave no signature that its public key verifies".to_owned()))
}

/// What may be a signature in `bytes`: they themselves, or what they are the base64 of.
pub(super) fn candidates(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok();
    let decoded = text.and_then(|text| BASE64.decode(text.split_whitespace().collect::<String>()).ok());
    [Some(bytes.to_vec()), decoded].into_iter().flatten()
}

/// A private key encrypted.
#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl Sealed {
    fn seal(text: &[u8], password: &[u8]) -> Option<Self> {
        let (mut salt, mut nonce) = ([0; 32], [0; 24]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut nonce);
        let mut sealed = Self {
            kdf: Kdf {
                name: "scrypt".to_owned(),
                // What go-securesystemslib takes as standard.
                params: Params { n: 65_536, r: 8, p: 1 },
                salt: BASE64.encode(salt),
            },
            cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: BASE64.encode(nonce) },
            ciphertext: String::new(),
        };
        let key = sealed.key(password)?;
        let cipher = XSalsa20Poly1305::new_from_slice(&*key).ok()?;
        sealed.ciphertext = BASE64.encode(cipher.encrypt(&nonce.into(), text).ok()?);
        Some(sealed)
    }

    /// Whether it can be opened with reasonable means.
    fn check(&self) -> Result<(), &'static str> {
        let Params { n, r, p } = self.kdf.params;
        if (self.kdf.name.as_str(), self.cipher.name.as_str()) != ("scrypt", "nacl/secretbox") {
            return Err("it is encrypted in a way that is not known");
        }
        let is_sound = n.is_power_of_two() && n > 1 && (1..=16).contains(&r) && (1..=4).contains(&p);
        match is_sound && 128 * u64::from(n) * u64::from(r) <= MOST_MEMORY {
            true => Ok(()),
            false => Err("its parameters of scrypt are out of bounds"),
        }
    }

    fn open(&self, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let nonce: [u8; 24] = BASE64.decode(&self.cipher.nonce).ok()?.try_into().ok()?;
        let text = BASE64.decode(&self.ciphertext).ok()?;
        let key = self.key(password)?;
        let cipher = XSalsa20Poly1305::new_from_slice(&*key).ok()?;
        cipher.decrypt(&nonce.into(), text.as_slice()).ok().map(Zeroizing::new)
    }

    /// What scrypt makes of the password.
    fn key(&self, password: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let Params { n, r, p } = self.kdf.params;
        let log_n = u8::try_from(n.checked_ilog2()?).ok()?;
        let params = scrypt::Params::new(log_n, r, p, 32).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(password, &BASE64.decode(&self.kdf.salt).ok()?, &params, &mut *key).ok()?;
        Some(key)
    }
}

/// The label and the bytes of the first PEM block (RFC 7468), without headers. Read here, as the labels of cosign are its own.
fn unwrapped(pem: &str) -> Option<(String, Vec<u8>)> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let text: String = body.split_whitespace().collect();
    Some((label.to_owned(), BASE64.decode(text).ok()?))
}

fn wrapped(label: &str, bytes: &[u8]) -> String {
    let text = BASE64.encode(bytes);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_and_read_and_signs() {
        for algorithm in [Algorithm::P256, Algorithm::Ed25519] {
            let key = PrivateKey::new(algorithm);
            let pem = key.write(b"secret").unwrap();
            assert!(matches!(PrivateKey::read(&pem, "k", || Some(b"other".to_vec())), Err(Error::Password { .. })));
            assert!(matches!(PrivateKey::read(&pem, "k", || None), Err(Error::NoPassword { .. })));
            let again = PrivateKey::read(&pem, "k", || Some(b"secret".to_vec())).unwrap();
            let public = PublicKey::read(&key.public().unwrap().write(), "k").unwrap();
            assert_eq!((public.algorithm(), &public), (algorithm, &again.public().unwrap()));
            let signature = Signer::Key(again).sign(b"message").unwrap();
            assert!(public.verifies(b"message", &signature));
            assert!(!public.verifies(b"massage", &signature));
            assert!(!public.verifies(b"message", &signature[1..]));
            assert!(!PrivateKey::new(algorithm).public().unwrap().verifies(b"message", &signature));
            let mut other = signature;
            *other.last_mut().unwrap() ^= 1;
            assert!(!public.verifies(b"message", &other));
        }
    }

    #[test]
    fn a_stream_is_signed_as_what_lies_in_memory_is() {
        let message: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
        let (p256, ed25519) = (PrivateKey::new(Algorithm::P256), PrivateKey::new(Algorithm::Ed25519));
        let (first, second) = (p256.public().unwrap(), ed25519.public().unwrap());
        for (index, key) in [p256, ed25519].into_iter().enumerate() {
            let (signature, digest) = key.sign_stream(|| Ok(message.as_slice())).unwrap();
            assert_eq!((&signature, digest), (&key.sign(&message), Digest::of(&message)));
            let signers = |message: &[u8]| signers_of(&[&first, &second], &signature, message).unwrap().0;
            assert_eq!((signers(&message), signers(&message[1..])), (vec![index], vec![]));
            assert!(signers_of(&[&first, &second], &signature[1..], message.as_slice()).unwrap().0.is_empty());
        }
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_signed() {
        let key = PrivateKey::new(Algorithm::Ed25519);
        let times = std::cell::Cell::new(0);
        let error = key.sign_stream(|| {
            times.set(times.get() + 1);
            Ok(io::Cursor::new(vec![times.get(); 9]))
        });
        assert!(error.unwrap_err().to_string().contains("changes while it is read"));
        assert_eq!(times.get(), 2);
    }

    #[test]
    fn what_is_no_key_is_said() {
        let key = PrivateKey::new(Algorithm::P256);
        let (private, public) = (key.write(b"").unwrap(), key.public().unwrap().write());
        let why = |error: Error| error.to_string();
        assert!(why(PublicKey::read(&private, "k").unwrap_err()).contains("the public one verifies"));
        assert!(why(PrivateKey::read(&public, "k", || None).unwrap_err()).contains("the private one signs"));
        assert!(why(PublicKey::read("nothing", "k").unwrap_err()).contains("no PEM"));
        let greedy = serde_json::json!({
            "kdf": { "name": "scrypt", "params": { "N": 1 << 30, "r": 8, "p": 1 }, "salt": "" },
            "cipher": { "name": "nacl/secretbox", "nonce": "" }, "ciphertext": "",
        });
        let greedy = wrapped(ENCRYPTED, greedy.to_string().as_bytes());
        let asked = || panic!("it is not opened");
        assert!(why(PrivateKey::read(&greedy, "k", asked).unwrap_err()).contains("out of bounds"));
        // The neutral element: anything would be signed by it.
        let mut weak = key_of_zeros();
        weak[12] = 1;
        assert!(PublicKey::read(&wrapped("PUBLIC KEY", &weak), "k").is_err());
    }

    fn key_of_zeros() -> Vec<u8> {
        let public = PrivateKey::new(Algorithm::Ed25519).public().unwrap();
        let mut der = public.der;
        let start = der.len() - 32;
        der[start..].fill(0);
        der
    }

    #[test]
    fn a_command_signs_and_is_not_believed() {
        let key = PrivateKey::new(Algorithm::P256);
        let public = key.public().unwrap();
        let signature = BASE64.encode(key.sign(b"message"));
        let signer = |command: String| Signer::Command { command, public: public.clone() };
        let good = signer(format!("cat >/dev/null; echo {signature}"));
        assert!(public.verifies(b"message", &good.sign(b"message").unwrap()));
        assert!(good.sign(b"another").unwrap_err().to_string().contains("no signature that its public key verifies"));
        assert!(signer("exit 3".to_owned()).sign(b"message").unwrap_err().to_string().contains("exit status: 3"));
    }
}
