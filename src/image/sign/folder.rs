//! Signatures of folders, as OpenSSF's model signing 1.0 has them: an in-toto statement that lists each file with its sha256,
//! in sigstore's bundle, in the file `model.sig`. <https://github.com/ossf/model-signing-spec>,
//! <https://github.com/sigstore/model-transparency>.
//!
//! Invariants: a folder is what was signed only if it has the very files that the statement lists and no others, but for those
//! that the statement itself leaves out, which are told; no link leads out of it; a statement that could be read in two ways is none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use serde::Deserialize;
use serde_json::json;

use super::{Error, PublicKey, Signer, bundle, small};
use crate::io::archive::ArchivePath;
use crate::io::content::Content;
use crate::io::digest::{Digest, Hasher};
use crate::io::explain::carry;
use crate::io::parallel;
use crate::io::progress::{Progress, Unit};

/// What the signature of a folder is called, in it.
pub const NAME: &str = "model.sig";

/// What git keeps in a folder, which model signing leaves out.
const OF_GIT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// The predicate of a statement.
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// What all its versions begin with, and that of before 1.0.
const ANY_VERSION: &str = "https://model_signing/";

/// Files that a folder may have.
const MOST_FILES: usize = 100_000;

/// Largest signature that is read, in bytes: that of as many files with long names.
const LARGEST: u64 = 64 << 20;

/// A folder signed.
pub struct Made {
    /// The signature's document.
    pub bytes: Vec<u8>,
    /// What is signed.
    pub model: Model,
}

/// What a signature is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What the folder was called.
    pub name: String,
    /// Of the digests of all files.
    pub digest: Digest,
    /// How many.
    pub files: usize,
    /// All files together, in bytes.
    pub size: u64,
}

/// A folder whose signature is good, and which is what was signed.
pub struct Verified {
    /// What was signed.
    pub model: Model,
    /// Which of the keys have signed it.
    pub keys: Vec<usize>,
    /// What is there and was left out by whoever signed: files and folders.
    pub left_out: Vec<String>,
}

/// The names of a path. In this order files are listed: `a/b` before `a-b`.
type Names = Vec<String>;

/// Signs the folder `folder`. `signature` is where the signature will be, and left out, as what git keeps and `ignored` are.
///
/// # Errors
/// When there is something that cannot be signed, the signer does not sign, or files cannot be read.
pub fn sign(
    progress: &Progress,
    signer: &Signer,
    folder: &Path,
    signature: &Path,
    ignored: &[ArchivePath],
) -> Result<Made, Error> {
    let root = fs::canonicalize(folder)?;
    let own = inside(&root, signature)?;
    let ignored: BTreeSet<String> =
        OF_GIT.into_iter().map(str::to_owned).chain(own).chain(ignored.iter().map(ToString::to_string)).collect();
    let found = Found::of(&root, &ignored, false)?;
    let unsignable = |faults| Error::Unsignable { folder: folder.to_owned(), faults };
    if !found.faults.is_empty() {
        return Err(unsignable(found.faults));
    }
    if found.files.is_empty() {
        return Err(unsignable(vec!["there is no file in it".to_owned()]));
    }
    let (files, size) = (found.files.len(), found.size());
    let digests = hashed(progress, "Signing", folder, found.files)?;
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let model = Model { name, digest: together(digests.values()), files, size };
    let bytes = bundle::written(signer, &statement(&model, &digests, &ignored), &hint(&signer.public()?))?;
    match bytes.len() as u64 > LARGEST {
        false => Ok(Made { bytes, model }),
        true => Err(unsignable(vec!["the names of its files are more than a signature may hold".to_owned()])),
    }
}

/// Verifies that `folder` is what any of `keys` has signed with what is in the file `signature`.
///
/// # Errors
/// [`Error::NoSignature`], [`Error::NotSigned`], [`Error::Changed`], and when something cannot be read.
pub fn verify(progress: &Progress, folder: &Path, signature: &Path, keys: &[&PublicKey]) -> Result<Verified, Error> {
    let root = fs::canonicalize(folder)?;
    let bytes = small(folder, signature, LARGEST)?;
    let not_signed = |why| Error::NotSigned { what: folder.to_owned(), signature: signature.to_owned(), why };
    let opened = bundle::open(&bytes, keys).map_err(not_signed)?;
    let signed = Signed::read(&opened.statement).map_err(not_signed)?;
    let own = inside(&root, signature)?;
    let ignored: BTreeSet<String> = signed.ignored.iter().cloned().chain(own.clone()).collect();
    let found = Found::of(&root, &ignored, signed.follows_links)?;
    let mut differences = found.faults.clone();
    let is_other = |names: &&Names| !signed.files.contains_key(*names) && !found.at_fault.contains(*names);
    differences.extend(found.files.keys().filter(is_other).map(|names| format!("{} was added", shown(names))));
    let is_missing = |names: &&Names| !found.files.contains_key(*names) && !found.at_fault.contains(*names);
    differences.extend(signed.files.keys().filter(is_missing).map(|names| format!("{} is missing", shown(names))));
    let size = found.size();
    let left_out = found.left_out.into_iter().filter(|path| Some(path) != own.as_ref()).collect();
    // What is not all there needs no hours of reading.
    if differences.is_empty() {
        let actual = hashed(progress, "Verifying", folder, found.files)?;
        let is_changed = |(names, digest): &(&Names, &Digest)| signed.files.get(*names) != Some(*digest);
        let changed = actual.iter().filter(is_changed);
        differences.extend(changed.map(|(names, _)| format!("{} has another content", shown(names))));
    }
    if !differences.is_empty() {
        return Err(Error::Changed { folder: folder.to_owned(), differences });
    }
    let model = Model { name: signed.name, digest: signed.digest, files: signed.files.len(), size };
    Ok(Verified { model, keys: opened.keys, left_out })
}

/// A path within `root`, as the files there are listed; none of one elsewhere.
fn inside(root: &Path, path: &Path) -> io::Result<Option<String>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = fs::canonicalize(parent)?.join(path.file_name().unwrap_or_default());
    Ok(whole.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned))
}

/// What tells a key from others, as model signing has it: the digest of its PEM.
fn hint(key: &PublicKey) -> Digest {
    Digest::of(key.write())
}

/// The digest of all digests, in the order of the files.
fn together<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut hasher = Hasher::new();
    digests.into_iter().for_each(|digest| hasher.update(digest.as_bytes()));
    hasher.finish()
}

fn statement(model: &Model, digests: &BTreeMap<Names, Digest>, ignored: &BTreeSet<String>) -> Vec<u8> {
    let resource = |(names, digest): (&Names, &Digest)| json!({ "name": names.join("/"), "algorithm": "sha256", "digest": digest.hex() });
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": model.name, "digest": { "sha256": model.digest.hex() } }],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": ignored,
            },
            "resources": digests.iter().map(resource).collect::<Vec<_>>(),
        },
    });
    statement.to_string().into_bytes()
}

/// A name of somebody's folder, as a terminal may have it.
fn shown(names: &Names) -> String {
    format!("`{}`", names.join("/").escape_debug())
}

/// What lies in a folder.
#[derive(Default)]
struct Found {
    files: BTreeMap<Names, Content>,
    /// What is there and left out.
    left_out: Vec<String>,
    /// What cannot be signed, for a person.
    faults: Vec<String>,
    /// The same by its names.
    at_fault: BTreeSet<Names>,
}

impl Found {
    /// Looks through `root`, which has no link in it, but not into what is `ignored`.
    fn of(root: &Path, ignored: &BTreeSet<String>, follows_links: bool) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut folders = vec![(root.to_owned(), Names::new())];
        while let Some((folder, above)) = folders.pop() {
            let mut entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name();
                let mut names = above.clone();
                names.push(name.to_string_lossy().into_owned());
                if name.to_str().is_none() {
                    found.fault(names, "has a name that is not UTF-8");
                    continue;
                }
                let path = names.join("/");
                if ignored.contains(&path) {
                    found.left_out.push(path);
                    continue;
                }
                let metadata = fs::symlink_metadata(entry.path())?;
                if metadata.is_dir() {
                    folders.push((entry.path(), names));
                } else if metadata.is_file() {
                    found.files.insert(names, Content::looked_at(entry.path(), &metadata));
                } else if metadata.is_symlink() && follows_links {
                    match followed(root, &entry.path()) {
                        Ok(content) => drop(found.files.insert(names, content)),
                        Err(why) => found.fault(names, why),
                    }
                } else if metadata.is_symlink() {
                    found.fault(names, "is a link");
                } else {
                    found.fault(names, "is neither a file nor a folder");
                }
                if found.files.len() > MOST_FILES {
                    let faults = vec![format!("it has more than {MOST_FILES} files")];
                    return Err(Error::Unsignable { folder: root.to_owned(), faults });
                }
            }
        }
        Ok(found)
    }

    fn fault(&mut self, names: Names, why: &str) {
        self.faults.push(format!("{} {why}", shown(&names)));
        self.at_fault.insert(names);
    }

    fn size(&self) -> u64 {
        self.files.values().map(Content::size).sum()
    }
}

/// The file that a link leads to.
fn followed(root: &Path, link: &Path) -> Result<Content, &'static str> {
    let target: PathBuf = fs::canonicalize(link).map_err(|_| "is a link that leads to nothing")?;
    if !target.starts_with(root) {
        return Err("is a link that leads out of the folder");
    }
    match fs::symlink_metadata(&target) {
        Ok(metadata) if metadata.is_file() => Ok(Content::looked_at(target, &metadata)),
        _ => Err("is a link to a folder, and what is in that is not signed"),
    }
}

/// The digest of each file, on all processors.
fn hashed(
    progress: &Progress,
    verb: &'static str,
    folder: &Path,
    files: BTreeMap<Names, Content>,
) -> Result<BTreeMap<Names, Digest>, Error> {
    let size = files.values().map(Content::size).sum();
    let task = progress.task(verb, folder.display().to_string(), Unit::Bytes, Some(size));
    let digests = Mutex::new(BTreeMap::new());
    parallel::side_by_side(files.into_iter().collect(), |(names, content)| {
        let (digest, _) = task.hash(content.open().map_err(carry)?)?;
        digests.lock().unwrap_or_else(PoisonError::into_inner).insert(names, digest);
        Ok::<_, io::Error>(())
    })?;
    Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Statement {
    subject: Vec<Subject>,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: Sha256,
}

#[derive(Deserialize)]
struct Sha256 {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

/// How the list came about. A rule that is not known may leave anything out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
    /// Of the method `shards`, which is told before it would be missed.
    #[serde(default, rename = "shard_size")]
    _shard_size: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// What a statement says of a folder.
#[derive(Debug)]
struct Signed {
    name: String,
    digest: Digest,
    files: BTreeMap<Names, Digest>,
    ignored: Vec<String>,
    follows_links: bool,
}

impl Signed {
    /// Reads a statement.
    ///
    /// # Errors
    /// When it is none, or says what is not verified here: why.
    fn read(statement: &[u8]) -> Result<Self, String> {
        let head: Head = serde_json::from_slice(statement).map_err(|error| error.to_string())?;
        if !head.kind.starts_with("https://in-toto.io/Statement/") {
            return Err(format!("it says that it is a `{}`", head.kind.escape_debug()));
        }
        if head.predicate_type != PREDICATE {
            let kind = head.predicate_type.escape_debug();
            return Err(match head.predicate_type.starts_with(ANY_VERSION) {
                true => format!("it is model signing of another version (`{kind}`), and 1.0 is read"),
                false => format!("it is about something else than a folder (`{kind}`)"),
            });
        }
        let Statement { subject, predicate } = serde_json::from_slice(statement).map_err(|error| error.to_string())?;
        let Predicate { serialization, resources } = predicate;
        if serialization.method != "files" {
            return Err(format!(
                "its files are listed by `{}`, and whole files are read",
                serialization.method.escape_debug()
            ));
        }
        let algorithms = resources.iter().map(|one| &one.algorithm).chain([&serialization.hash_type]);
        if let Some(other) = algorithms.into_iter().find(|name| *name != "sha256") {
            return Err(format!("its files are hashed with `{}`, and sha256 is read", other.escape_debug()));
        }
        let [Subject { name, digest }] = <[Subject; 1]>::try_from(subject).map_err(|_| "it has not one subject")?;
        let digest = Digest::from_hex(&digest.sha256).map_err(|error| error.to_string())?;
        let digests = resources.iter().map(|one| Digest::from_hex(&one.digest)).collect::<Result<Vec<_>, _>>();
        let digests = digests.map_err(|error| error.to_string())?;
        if together(&digests) != digest {
            return Err("its subject is not that of the files that it lists".to_owned());
        }
        let mut files = BTreeMap::new();
        for (resource, digest) in resources.iter().zip(digests) {
            let names = names(&resource.name)?;
            if files.insert(names, digest).is_some() {
                return Err(format!("it lists `{}` twice", resource.name.escape_debug()));
            }
        }
        if files.is_empty() || files.len() > MOST_FILES {
            return Err(format!("it lists {} files", files.len()));
        }
        for path in &serialization.ignore_paths {
            names(path)?;
        }
        Ok(Self {
            name,
            digest,
            files,
            ignored: serialization.ignore_paths,
            follows_links: serialization.allow_symlinks,
        })
    }
}

/// The names of a path that is spelt in the one way in which it may be.
fn names(path: &str) -> Result<Names, String> {
    match ArchivePath::relative(path) {
        Ok(read) if read.as_str() == path => Ok(path.split('/').map(str::to_owned).collect()),
        _ => Err(format!("it lists `{}`, which is no path in a folder", path.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A statement of two files.
    fn of_two() -> String {
        let digests = BTreeMap::from(
            [("a-b", "x"), ("a/b", "y")].map(|(path, content)| (names(path).unwrap(), Digest::of(content))),
        );
        let model = Model { name: "m".to_owned(), digest: together(digests.values()), files: 2, size: 2 };
        String::from_utf8(statement(&model, &digests, &BTreeSet::from(["model.sig".to_owned()]))).unwrap()
    }

    #[test]
    fn a_statement_is_read_in_one_way_alone() {
        let text = of_two();
        let read = Signed::read(text.as_bytes()).unwrap();
        assert_eq!(
            (read.files.len(), read.ignored.as_slice(), read.follows_links),
            (2, ["model.sig".to_owned()].as_slice(), false)
        );
        // Files are listed by their names, not by bytes, as Python's paths are.
        assert!(text.find("a/b").unwrap() < text.find("a-b").unwrap());
        let hex = Digest::of("z").hex();
        for (from, to, why) in [
            ("a/b", "../a", "no path in a folder"),
            ("a/b", "/etc/passwd", "no path in a folder"),
            ("a/b", "a//b", "no path in a folder"),
            ("a/b", "a/./b", "no path in a folder"),
            ("a/b", "a/b/", "no path in a folder"),
            ("a/b", "a\\u0000b", "no path in a folder"),
            ("a/b", "", "no path in a folder"),
            ("a/b", "a-b", "twice"),
            ("model.sig", "..", "no path in a folder"),
            ("model.sig", ".", "no path in a folder"),
            ("model.sig", "/", "no path in a folder"),
            ("\"sha256\",\"digest\"", "\"blake3\",\"digest\"", "hashed with `blake3`"),
            ("hash_type\":\"sha256", "hash_type\":\"blake2", "hashed with `blake2`"),
            ("\"method\":\"files\"", "\"method\":\"shards\",\"shard_size\":9", "listed by `shards`"),
            ("\"method\"", "\"ignore_globs\":[\"*\"],\"method\"", "unknown field"),
            ("\"method\"", "\"ignore_paths\":[],\"method\"", "duplicate field"),
            ("\"resources\":", "\"resources\":[],\"resources\":", "duplicate field"),
            ("signature/v1.0", "signature/v2.0", "another version"),
            ("https://model_signing/signature", "https://slsa.dev/provenance", "something else than a folder"),
            (&Digest::of("x").hex(), &hex, "not that of the files"),
            ("in-toto.io/Statement", "example.com/Statement", "it says that it is a"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = Signed::read(changed.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{from} → {to}: {error}");
        }
    }
}
