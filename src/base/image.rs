//! Images as bases: in a registry, in an OCI image layout, in a docker archive.
//!
//! Invariant: a locked base is the same bytes for ever, as it is named by the digest of its manifest. Its layers stay
//! where they are until somebody needs their content: a push to a registry that has them needs none of it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use oci_spec::image::{ImageConfiguration, MediaType};
use serde::Deserialize;
use serde_json::json;

use super::Error;
use crate::archive;
use crate::compress::{self, Compression};
use crate::digest::{Digest, Hasher};
use crate::image::{Image, remote};
use crate::layer;
use crate::platform::Platform;
use crate::registry::{self, Content, Manifest, Reference};
use crate::session::Session;

/// Largest document of an image, in bytes.
const LARGEST: u64 = 4 << 20;

/// Where a base is, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a registry.
    Registry(Reference),
    /// In an OCI image layout, a folder.
    Layout(PathBuf),
    /// In an archive as `docker save` writes it.
    DockerArchive(PathBuf),
}

impl Place {
    /// # Errors
    /// When the text is no place of an image.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("oci:") {
            return Ok(Self::Layout(path.into()));
        }
        if let Some(path) = text.strip_prefix("docker-archive:") {
            return Ok(Self::DockerArchive(path.into()));
        }
        text.parse().map(Self::Registry).map_err(|_| Error::Unsupported { base: text.to_owned() })
    }

    /// Paths are meant from the project's folder.
    pub(super) fn below(self, root: &Path) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference),
            Self::Layout(path) => Self::Layout(root.join(path)),
            Self::DockerArchive(path) => Self::DockerArchive(root.join(path)),
        }
    }

    /// The digest of the manifest for `platform`, as the place has it now. Manifest and configuration are in the store
    /// then.
    pub(super) fn resolve(&self, session: &Session, platform: Platform) -> Result<Digest, Error> {
        let digest = match self {
            Self::Registry(reference) => {
                let (_, image) = remote::find(session, reference, platform)?;
                image.save(&session.store)?.0
            }
            Self::Layout(path) => import_layout(session, path, platform)?,
            Self::DockerArchive(path) => import_archive(session, path)?,
        };
        let image = Image::load(&session.store, &digest)?;
        if image.platform() != platform {
            let (wanted, has) = (platform, image.platform());
            return Err(Error::OtherPlatform { base: self.to_string(), wanted, has });
        }
        Ok(digest)
    }

    /// The image that was locked. It is fetched from where the manifest says when it is not in the store.
    pub(super) fn load(&self, session: &Session, digest: &Digest, platform: Platform) -> Result<Image, Error> {
        if !session.store.has_blob(digest) {
            match self {
                Self::Registry(reference) => drop(remote::find(session, &reference.at(*digest), platform)?),
                _ => {
                    if self.resolve(session, platform)? != *digest {
                        return Err(Error::Changed { base: self.to_string() });
                    }
                }
            }
        }
        Ok(Image::load(&session.store, digest)?)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
        }
    }
}

/// Puts the image for `platform` of an OCI image layout into the store (image specification 1.1, `image-layout.md`).
fn import_layout(session: &Session, path: &Path, platform: Platform) -> Result<Digest, Error> {
    let blob = |digest: &Digest| path.join("blobs/sha256").join(digest.hex());
    let unreadable = |why: String| Error::Unreadable { path: path.to_owned(), why };
    let read = |file: &Path| -> Result<Manifest, Error> {
        let mut bytes = Vec::new();
        fs::File::open(file)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Manifest::parse(bytes, None, &file.display().to_string())?)
    };
    let mut manifest = read(&path.join("index.json"))?;
    // An index may lead to one with the platforms.
    for _ in 0..2 {
        let Content::Index(children) = &manifest.content else { break };
        let wanted = platform.to_string();
        let child = children.iter().find(|child| child.platform().as_ref() == Some(&wanted));
        let only = || children.first().filter(|_| children.len() == 1);
        let child = child.or_else(only).ok_or_else(|| unreadable(format!("it has no image for {platform}")))?;
        let expected = child.link.digest;
        manifest = read(&blob(&expected))?;
        if manifest.digest != expected {
            return Err(unreadable(format!("the manifest is not {expected}")));
        }
    }
    for link in manifest.blobs() {
        if !session.store.has_blob(&link.digest) {
            let mut file = fs::File::open(blob(&link.digest))?;
            session.store.put_blob(&mut file, &link.digest, link.size).map_err(layer::Error::from)?;
        }
    }
    Ok(session.store.put_bytes(&manifest.bytes).map_err(layer::Error::from)?)
}

/// Puts the image of a docker archive into the store (Docker image specification 1.2).
fn import_archive(session: &Session, path: &Path) -> Result<Digest, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        config: String,
        layers: Vec<String>,
    }
    let unreadable = |why: &str| Error::Unreadable { path: path.to_owned(), why: why.to_owned() };
    let scratch = session.store.scratch().map_err(layer::Error::from)?;
    let mut archive = compress::decoder(fs::File::open(path)?)?;
    archive::unpack(&mut archive, scratch.path(), archive::Limits::default())
        .map_err(|error| unreadable(&error.to_string()))?;
    // Old ones link layers to each other; nothing may be read from outside.
    let inside = |name: &str| {
        let file = fs::canonicalize(scratch.path().join(name)).ok();
        let root = fs::canonicalize(scratch.path())?;
        file.filter(|file| file.starts_with(root)).ok_or_else(|| unreadable("it lacks a file that it names"))
    };
    let read = |name: &str| -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        fs::File::open(inside(name)?)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let entries: Vec<Entry> =
        serde_json::from_slice(&read("manifest.json")?).map_err(|_| unreadable("it has no valid manifest.json"))?;
    let [entry] = entries.as_slice() else { return Err(unreadable("it holds not one image, but none or several")) };
    let config = read(&entry.config)?;
    let parsed: ImageConfiguration =
        serde_json::from_slice(&config).map_err(|_| unreadable("its configuration is malformed"))?;
    if parsed.rootfs().diff_ids().len() != entry.layers.len() {
        return Err(unreadable("its configuration is for another number of layers"));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(parsed.rootfs().diff_ids()) {
        let file = inside(name)?;
        let mut hasher = Hasher::new();
        io::copy(&mut compress::decoder(fs::File::open(&file)?)?, &mut hasher)?;
        if hasher.finish().to_string() != *diff_id {
            return Err(unreadable(&format!("the layer {name} is not {diff_id}")));
        }
        let mut magic = [0; 2];
        let gzip = fs::File::open(&file)?.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
        let compression = if gzip { Compression::Gzip } else { Compression::None };
        let mut writer = session.store.blob_writer().map_err(layer::Error::from)?;
        io::copy(&mut fs::File::open(&file)?, &mut writer)?;
        let (digest, size) = writer.commit().map_err(layer::Error::from)?;
        layers.push(json!({ "mediaType": compression.layer_media_type(), "digest": digest, "size": size }));
    }
    let put = |bytes: &[u8]| session.store.put_bytes(bytes).map_err(layer::Error::from);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest,
        "config": { "mediaType": MediaType::ImageConfig, "digest": put(&config)?, "size": config.len() },
        "layers": layers,
    });
    Ok(put(&serde_json::to_vec(&manifest).map_err(io::Error::from)?)?)
}

/// Unpacked layers, looked at as if they lay over each other.
pub(super) struct Stack {
    /// The uppermost first.
    trees: Vec<PathBuf>,
}

impl Stack {
    /// Fetches and unpacks what is missing.
    pub(super) fn of(session: &Session, image: &Image) -> Result<Self, Error> {
        Ok(Self { trees: trees(session, image)?.into_iter().rev().collect() })
    }

    /// The file that `path`, from the root, leads to; through links, as within the image.
    pub(super) fn find(&self, path: &str) -> Option<PathBuf> {
        /// As the kernel has it.
        const MOST_LINKS: usize = 40;
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        let mut found = None;
        while let Some(name) = todo.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(name),
            }
            let real = self.entry(&at)?;
            if real.is_symlink() {
                links += 1;
                let target = fs::read_link(&real).ok()?;
                let target = target.to_str()?;
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(target.rsplit('/').map(str::to_owned));
                if links > MOST_LINKS {
                    return None;
                }
            }
            found = Some(real);
        }
        found.filter(|path| path.is_file())
    }

    /// The uppermost entry at a path, unless it was deleted there or its folder was.
    fn entry(&self, path: &[String]) -> Option<PathBuf> {
        use std::os::unix::fs::FileTypeExt as _;
        for tree in &self.trees {
            let mut real = tree.clone();
            for (index, name) in path.iter().enumerate() {
                real.push(name);
                let Ok(metadata) = fs::symlink_metadata(&real) else {
                    let hides = real.parent().is_some_and(is_opaque);
                    if hides {
                        return None;
                    }
                    break;
                };
                if metadata.file_type().is_char_device() {
                    return None;
                }
                if index + 1 == path.len() {
                    return Some(real);
                }
                if !metadata.is_dir() {
                    return None;
                }
            }
        }
        None
    }

    /// What Debian's package manager has noted: its own book, and the leaves of it that distroless images have.
    pub(super) fn installed(&self) -> Result<String, Error> {
        let mut text = self.text("/var/lib/dpkg/status")?;
        for tree in &self.trees {
            let Ok(entries) = fs::read_dir(tree.join("var/lib/dpkg/status.d")) else { continue };
            let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            // Some have lists of digests beside each leaf.
            for file in
                files.iter().filter(|file| file.is_file() && file.extension().is_none_or(|end| end != "md5sums"))
            {
                let leaf = fs::read_to_string(file)?;
                // The book says of each that it is installed; leaves do not need to.
                text.push_str(&format!("\n{}\n", leaf.trim_end()));
            }
        }
        Ok(text)
    }

    /// The text of a file; empty where there is none.
    pub(super) fn text(&self, path: &str) -> Result<String, Error> {
        match self.find(path) {
            Some(file) => Ok(fs::read_to_string(file)?),
            None => Ok(String::new()),
        }
    }

    /// Where the Python `wanted`, as `3.11`, is; or any, the newest, where none is wanted. Gives path and version.
    pub(super) fn python(&self, wanted: Option<&str>) -> Option<(String, String)> {
        let versions: Vec<String> = match wanted {
            Some(wanted) => vec![wanted.to_owned()],
            None => (7..40).rev().map(|minor| format!("3.{minor}")).collect(),
        };
        let places = ["/usr/local/bin", "/usr/bin", "/opt/conda/bin", "/opt/venv/bin"];
        let all = versions.iter().flat_map(|version| places.map(|place| (format!("{place}/python{version}"), version)));
        let mut all = all.filter(|(path, _)| self.find(path).is_some());
        all.next().map(|(path, version)| (path, version.clone()))
    }

    /// The version of the C library: GNU's names itself in its own bytes.
    pub(super) fn glibc(&self, platform: Platform) -> Option<(u32, u32)> {
        const MARK: &[u8] = b"GNU C Library";
        let multiarch = platform.multiarch();
        let folders =
            [format!("/usr/lib/{multiarch}"), format!("/lib/{multiarch}"), "/usr/lib64".into(), "/lib64".into()];
        let file = folders.iter().find_map(|folder| self.find(&format!("{folder}/libc.so.6")))?;
        let bytes = fs::read(file).ok()?;
        let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
        let banner: String = bytes.get(at..)?.iter().take(120).map(|&byte| char::from(byte)).collect();
        let number = banner.split_once("version ")?.1.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let (major, minor) = number.trim_end_matches('.').split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    }
}

/// Whether lower layers show nothing in a folder.
fn is_opaque(folder: &Path) -> bool {
    rustix::fs::getxattr(folder, "user.overlay.opaque", &mut [0u8; 1][..]).is_ok()
}

/// The image's layers unpacked, the lowest first; fetched where they are still in a registry.
pub(super) fn trees(session: &Session, image: &Image) -> Result<Vec<PathBuf>, Error> {
    registry::fetch(session, image.layers()).map_err(crate::image::Error::from)?;
    Ok(image.layers().iter().map(|layer| layer.unpack(&session.store)).collect::<Result<_, _>>()?)
}
