//! The bundle: everything that an image is built from, in one archive, or about to be.
//!
//! A bundle made from a folder and the same bundle read back from its archive are the same value: what is built from
//! either has the same bytes. The file is a plain `tar.zst` with an index behind it; `docs/bundle.md` has the format.
//!
//! Invariants: every member but the weights is known by its sha256, and verified when it is read; the weights are
//! known by the layers that they become, and verified as those. Paths cannot leave the bundle.

pub mod apart;
pub mod artifact;
pub mod extract;
pub mod generate;
pub mod import;
pub mod origin;
mod pack;
pub mod runtime;
mod unpack;
mod weights;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use pack::Form;
pub use unpack::copy;
pub use weights::{WEIGHTS, are_weights, weighs};

use crate::image;
use crate::image::layer::{self, Layer};
use crate::image::session::Session;
use crate::io::archive::{self, ArchivePath, Mode, seekable};
use crate::io::compress::{Compression, Setting};
use crate::io::content::{self, Content, Opener, Stamp};
use crate::io::digest::{Digest, Mismatch, VerifyingReader};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::progress::Unit;
use crate::project::manifest;
use runtime::Convention;

/// What can go wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the model or the code cannot be read.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// A layer of weights cannot be made.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] crate::image::store::Error),
    /// A layer's archive cannot be read.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// An image has no layers of weights.
    #[error("the image has no layers of weights that could be apart from it")]
    NoWeights,
    /// What is as large as weights lies among the code.
    #[error("`/{path}` is in a layer of weights, but not in /{folder}")]
    NotApart {
        /// The file.
        path: ArchivePath,
        /// Where models lie.
        folder: ArchivePath,
    },
    /// The file is no bundle, or damaged.
    #[error("{} is not a bundle that can be read", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A member's bytes are not what the index says.
    #[error("`{member}` in {} is damaged", path.display())]
    Damaged {
        /// The bundle.
        path: PathBuf,
        /// The member.
        member: ArchivePath,
        /// How it was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two members have the same path.
    #[error("two files would lie at `{path}` in the bundle")]
    Twice {
        /// The path.
        path: ArchivePath,
    },
    /// A member that every bundle has is not there.
    #[error("{} has no `{name}`", bundle.display())]
    Incomplete {
        /// The file, or what it would be called.
        bundle: PathBuf,
        /// The member.
        name: String,
    },
}

/// What helps against a bundle that is damaged.
const AGAIN: &str = "fetch the bundle again, or pack it again with `ekiben pack`";

/// What helps where a bento is given in the place of a bundle.
const BENTO: &str =
    "a bento is no bundle: `ekiben inspect` shows it, `ekiben pack` makes a bundle of it, `tar -xf` unpacks it";

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io(error) => error.explain(),
            Self::Content(error) => error.explain(),
            Self::Layer(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Archive(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::NoWeights => ErrorKind::Failure
                .named("models/no-weights")
                .hint("images that ekiben built of a model with files have them, and those that it pushed"),
            Self::NotApart { .. } => ErrorKind::Failure
                .named("models/not-apart")
                .hint("put large files of code into the image: build without `--without-models` and `--models-only`"),
            Self::Malformed { path, .. } if path.extension().is_some_and(|end| end == "bento") => {
                ErrorKind::Failure.named("bundle/malformed").hint(BENTO)
            }
            Self::Malformed { .. } => ErrorKind::Failure.named("bundle/malformed").hint(AGAIN),
            Self::Damaged { .. } => ErrorKind::Failure.named("bundle/damaged").hint(AGAIN),
            Self::Twice { .. } => ErrorKind::Failure
                .named("bundle/two-files")
                .hint("rename one of them: generated files and yours share the bundle"),
            Self::Incomplete { .. } => ErrorKind::Failure.named("bundle/incomplete"),
        }
    }
}

/// A file of a bundle, other than weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its bytes.
    pub content: Content,
    /// Whether it may be run.
    pub executable: bool,
    /// Of its bytes.
    pub digest: Digest,
}

/// A weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Where it lies below the folder of the model; in a bundle laid out as a bento, below its root.
    pub path: ArchivePath,
    /// Its bytes.
    pub content: Content,
}

/// A bundle: members by path, and weights with the layers that they become.
#[derive(Clone, Debug)]
pub struct Bundle {
    name: String,
    version: String,
    convention: Convention,
    members: BTreeMap<ArchivePath, Member>,
    weights: Vec<Weight>,
    /// What a build without network needs beside: see [`Bundle::vendor`].
    vendored: BTreeMap<ArchivePath, Member>,
    /// What the weights become, as soon as somebody has asked.
    layers: OnceLock<Vec<Layer>>,
    /// The weights are hashed whatever is remembered of them.
    hashing: Hashing,
    /// The file that it was read from.
    packed: Option<Packed>,
}

/// A bundle's file, and what its index says of the layers.
#[derive(Clone, Debug)]
struct Packed {
    path: PathBuf,
    /// The time in the layers' headers, in seconds since 1970.
    epoch: u64,
    layers: Vec<Layer>,
}

/// When weights are read and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// Where that was not done before with files that look the same: times, sizes and inodes.
    IfUnknown,
    /// Again, whatever is known.
    Again,
}

/// Whether there is a bundle at `path`: a file that is called so, or ends as bundles do.
pub fn is_bundle(path: &Path) -> bool {
    let ends_so = || fs_err::File::open(path).is_ok_and(|file| seekable::Reader::new(file).is_ok());
    path.is_file() && (path.extension().is_some_and(|extension| extension == "ekiben") || ends_so())
}

/// Where what a build would fetch lies in a bundle.
pub const VENDOR: &str = "env/vendor";

/// Largest member other than weights that is read into memory, in bytes.
const LARGEST_DOCUMENT: u64 = 64 << 20;

/// What makes a bundle the one that it is: see [`Bundle::digest`].
#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    version: Option<&'a str>,
    members: Vec<(&'a ArchivePath, bool, Digest)>,
    layers: Vec<Digest>,
}

impl Bundle {
    /// Starts a bundle from the weights. They are read and hashed when it is packed, or before where somebody asks for
    /// their layers; where that was done before and the files are the same, not at all (unless [`Hashing::Again`]). One laid out as
    /// Ekiben does it gets a manifest, by which it is known again.
    pub fn new(name: &str, convention: Convention, weights: Vec<Weight>, hashing: Hashing) -> Self {
        let (name, version, layers) = (name.to_owned(), String::new(), OnceLock::new());
        let (members, vendored) = Default::default();
        Self { name, version, convention, members, weights, vendored, layers, hashing, packed: None }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be read, or there is one at its path.
    pub fn add(&mut self, path: ArchivePath, content: Content, mode: Mode) -> Result<(), Error> {
        let mut reader = content.open()?;
        let mut hasher = crate::io::digest::Hasher::new();
        io::copy(&mut reader, &mut hasher)?;
        let member = Member { content, executable: mode == Mode::Executable, digest: hasher.finish() };
        match self.members.insert(path.clone(), member) {
            Some(_) => Err(Error::Twice { path }),
            None => Ok(()),
        }
    }

    /// Adds a file that a build would fetch (`ekiben pack --vendor`), below [`VENDOR`]: it is what the lock names by digest, and makes
    /// no other bundle of this one.
    pub fn vendor(&mut self, path: ArchivePath, content: Content, digest: Digest) {
        self.vendored.insert(path, Member { content, executable: false, digest });
    }

    /// What a build would fetch, by its path in the bundle.
    pub fn vendored(&self) -> &BTreeMap<ArchivePath, Member> {
        &self.vendored
    }

    /// Gives the bundle its version: the manifest's, or one that follows from all that was added until now, for which
    /// the weights have to be hashed.
    ///
    /// # Errors
    /// When a weight file cannot be read.
    pub fn set_version(&mut self, session: &Session, version: Option<String>) -> Result<(), Error> {
        self.version = match version {
            Some(version) => version,
            None => self.identity(session, None)?.short(),
        };
        Ok(())
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How its image is laid out.
    pub fn convention(&self) -> Convention {
        self.convention
    }

    /// `NAME-VERSION.ekiben`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.ekiben", self.name, self.version)
    }

    /// The files other than weights.
    pub fn members(&self) -> &BTreeMap<ArchivePath, Member> {
        &self.members
    }

    /// The weights, by path.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The layers that the weights become in an image. Hashes those that are not known yet.
    ///
    /// # Errors
    /// When a weight file cannot be read.
    pub fn weight_layers(&self, session: &Session) -> Result<&[Layer], Error> {
        if let Some(layers) = self.layers.get() {
            return Ok(layers);
        }
        let layers = weights::layers(session, &self.image_folder()?, &self.weights, self.hashing)?;
        Ok(self.layers.get_or_init(|| layers))
    }

    /// Has the layers of the weights compressed in an image, as `setting` says. Unlike those that are not, they lie in
    /// the store.
    ///
    /// # Errors
    /// When a weight file cannot be read, or the store cannot be written.
    pub fn compress_weights(&mut self, session: &Session, setting: Setting) -> Result<(), Error> {
        if setting.compression == Compression::None {
            return Ok(());
        }
        let layers = self.weight_layers(session)?;
        let bytes = layers.iter().map(|layer| layer.size).sum();
        let task = session.progress.task("Compressing", "weights", Unit::Bytes, Some(bytes));
        let layers = layers.iter().map(|layer| layer.compressed(&session.store, setting, &task));
        self.layers = layers.collect::<Result<Vec<_>, _>>()?.into();
        Ok(())
    }

    /// A digest of all that is in it, the same for a folder and its archive, whatever way it is compressed.
    ///
    /// # Errors
    /// As [`Bundle::weight_layers`].
    pub fn digest(&self, session: &Session) -> Result<Digest, Error> {
        self.identity(session, Some(&self.version))
    }

    fn identity(&self, session: &Session, version: Option<&str>) -> Result<Digest, Error> {
        let members = self.members.iter().map(|(path, member)| (path, member.executable, member.digest)).collect();
        let layers = self.weight_layers(session)?.iter().map(|layer| layer.diff_id).collect();
        let identity = Identity { name: &self.name, version, members, layers };
        // Strings, numbers and lists always serialise.
        Ok(Digest::of(serde_json::to_vec(&identity).unwrap_or_default()))
    }

    /// Reads a small member, verified.
    ///
    /// # Errors
    /// When there is none, or it is not what it was.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let missing = || self.lacks(path);
        let name = ArchivePath::relative(path).map_err(|_| missing())?;
        let member = self.members.get(&name).ok_or_else(missing)?;
        self.read_member(&name, member)
    }

    /// That the member `name`, which every bundle has, is not there.
    pub(crate) fn lacks(&self, name: &str) -> Error {
        let bundle = self.packed.as_ref().map_or_else(|| self.file_name().into(), |packed| packed.path.clone());
        Error::Incomplete { bundle, name: name.to_owned() }
    }

    fn read_member(&self, path: &ArchivePath, member: &Member) -> Result<Vec<u8>, Error> {
        let bytes = member.content.read(LARGEST_DOCUMENT).map_err(|error| match error {
            content::Error::Io(error) => unpack::damaged(path, &member.content, error),
            changed => changed.into(),
        })?;
        let actual = Digest::of(&bytes);
        if actual != member.digest {
            return Err(unpack::damaged(path, &member.content, Mismatch::Digest { expected: member.digest, actual }));
        }
        Ok(bytes)
    }

    /// Opens a member with `opener`; the reader verifies it, and fails at its end if it is not what it was.
    ///
    /// # Errors
    /// When its file has changed.
    pub fn open_member<'a>(&self, member: &Member, opener: &'a mut Opener) -> Result<impl io::Read + use<'a>, Error> {
        opener.open(&member.content)?;
        Ok(VerifyingReader::new(opener, member.digest, member.content.size()))
    }

    /// Where a weight file lies in the bundle: below `models/NAME/VERSION`, or where the bento has it.
    ///
    /// # Errors
    /// When name or version are none.
    pub fn places(&self) -> Result<impl Fn(&ArchivePath) -> ArchivePath + use<>, Error> {
        let folder = match self.convention {
            Convention::Ekiben => Some(folder(format!("{WEIGHTS}/{}/{}", self.name, self.version))?),
            Convention::Bento => None,
        };
        Ok(move |path: &ArchivePath| folder.as_ref().map_or_else(|| path.clone(), |folder| folder.join(path)))
    }

    /// The folder in which the weights lie in an image.
    fn image_folder(&self) -> Result<ArchivePath, Error> {
        folder(match self.convention {
            Convention::Ekiben => format!("{WEIGHTS}/{}", self.name),
            Convention::Bento => self.convention.code().trim_start_matches('/').to_owned(),
        })
    }
}

fn folder(path: String) -> Result<ArchivePath, Error> {
    ArchivePath::relative(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error).into())
}

/// The index behind an archive.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// Version of this format: 1.
    ekiben: u32,
    name: String,
    version: String,
    /// The time in the layers' headers, in seconds since 1970.
    epoch: u64,
    members: Vec<IndexMember>,
    weights: Vec<IndexWeight>,
    layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vendored: Vec<IndexMember>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexMember {
    path: ArchivePath,
    /// Where its bytes begin in the uncompressed archive.
    offset: u64,
    size: u64,
    executable: bool,
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexWeight {
    path: ArchivePath,
    offset: u64,
    size: u64,
}

impl Bundle {
    /// Opens the bundle at `path`. Only its index is read; the weights are not touched.
    ///
    /// # Errors
    /// When it is no bundle, or cut short.
    pub fn open(session: &Session, path: &Path) -> Result<Self, Error> {
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| {
            let path = path.to_owned();
            Error::Malformed { path, source }
        };
        let bundle = Stamp::new(path)?;
        let file = bundle.open()?;
        let read = |file| {
            let mut archive = seekable::Reader::new(file)?;
            Ok::<_, io::Error>((archive.index()?, archive.length()))
        };
        let (index, length) = read(file).map_err(|error| malformed(error.into()))?;
        let index: Index = serde_json::from_slice(&index).map_err(|error| malformed(error.into()))?;
        if index.ekiben != 1 {
            return Err(malformed(
                format!("it has version {} of the format, this ekiben reads 1", index.ekiben).into(),
            ));
        }
        let is_name =
            |text: &str| ArchivePath::relative(text).is_ok_and(|path| path.name() == text && !text.is_empty());
        if !is_name(&index.name) || !is_name(&index.version) {
            return Err(malformed("its name or version is none".into()));
        }
        let members = index.members.iter().chain(&index.vendored);
        let places = members.map(|member| (member.offset, member.size));
        let mut places = places.chain(index.weights.iter().map(|weight| (weight.offset, weight.size)));
        if places.any(|(offset, size)| offset.checked_add(size).is_none_or(|end| end > length)) {
            return Err(malformed("its index names bytes behind its end".into()));
        }
        let packed = |offset, size| Content::Packed { bundle: bundle.clone(), offset, size };
        let read = |IndexMember { path, offset, size, executable, digest }| {
            (path, Member { content: packed(offset, size), executable, digest })
        };
        let members: BTreeMap<_, _> = index.members.into_iter().map(read).collect();
        let vendored = index.vendored.into_iter().map(read).collect();
        let weights: Vec<_> = index
            .weights
            .into_iter()
            .map(|IndexWeight { path, offset, size }| Weight { path, content: packed(offset, size) })
            .collect();
        let convention = match manifest::NAMES.iter().any(|name| members.keys().any(|path| path.as_str() == *name)) {
            true => Convention::Ekiben,
            false => Convention::Bento,
        };
        let (name, version, layers) = (index.name, index.version, OnceLock::new());
        let packed = Some(Packed { path: path.to_owned(), epoch: index.epoch, layers: index.layers.clone() });
        let hashing = Hashing::IfUnknown;
        let bundle = Self { name, version, convention, members, weights, vendored, layers, hashing, packed };
        let groups = weights::split(&bundle.image_folder()?, &bundle.weights)?;
        if groups.len() != index.layers.len() {
            return Err(malformed("its index has another number of layers than its weights need".into()));
        }
        // With another time in their headers, the layers are others than those that are known.
        if index.epoch == archive::epoch() {
            weights::keep(&session.store, groups, &index.layers)?;
            bundle.layers.get_or_init(|| index.layers);
        }
        Ok(bundle)
    }
}
