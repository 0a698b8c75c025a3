//! What is in an image: packages as package managers and installers have noted them, the model, what was written for it, and
//! which commands were executed.
//!
//! Invariant: all of it follows from the image's own bytes, whoever made it and wherever it is looked at. Each layer is read
//! once, and what came out is remembered.

mod packages;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::dockerfile::contents::{self, Archive};
use crate::bundle::runtime::{BUNDLE_LABEL, Convention, MODELS, VENV};
use crate::bundle::{self, apart, are_weights};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::sbom::{File, Inventory, Licence, Model, Origin, System, Training};
use crate::formats::schema::load;
use crate::image::layer::{self, Layer};
use crate::image::registry;
use crate::image::session::Session;
use crate::image::{self, Image, store};
use crate::io::archive::{Node, View};
use crate::io::digest::Digest;
use crate::io::explain::{Explain, Explanation};
use crate::io::parallel;
use crate::project::lock::{self, Lock};
use crate::project::manifest::{self, Manifest};
use packages::Packages;
pub use packages::source;

/// Version of the inventories that are kept. Raised with each change of what is found.
const RULES: u32 = 1;

/// Most bytes of a text that are looked at.
const MOST: u64 = 16 << 20;

/// Why it is not known what is in an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer holds nothing that can be read.
    #[error(transparent)]
    Contents(#[from] contents::Error),
    /// Its weights.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The image as a whole.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A layer is in a registry, and stays there.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Contents(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Store(error) => error.explain(),
        }
    }
}

/// What a file of a layer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Note {
    Text(String),
    Licence(Licence),
    Digest(Digest),
}

/// What is noted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    Text,
    /// The fields at its beginning.
    Fields,
    Licence,
    Digest,
}

/// What is noted of the file at `path`, from the root; `is_own` where Ekiben built the image.
fn meant(path: &Path, is_own: bool) -> Option<Meant> {
    let text = path.to_str()?;
    let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
    if layer::tells(text) {
        return Some(match name {
            "METADATA" | "PKG-INFO" => Meant::Fields,
            _ if name.ends_with(".egg-info") => Meant::Fields,
            "copyright" => Meant::Licence,
            _ => Meant::Text,
        });
    }
    let below = |folder: &str| path.starts_with(folder.trim_start_matches('/'));
    if below(MODELS) {
        return Some(Meant::Digest);
    }
    let code = [Convention::Ekiben, Convention::Bento].into_iter().find(|convention| below(convention.code()))?;
    if !is_own || below(VENV) {
        return None;
    }
    let is_document = folder == code.code().trim_start_matches('/') && is_document(name);
    Some(if is_document { Meant::Text } else { Meant::Digest })
}

/// Whether what is called so is read, and not only told of.
fn is_document(name: &str) -> bool {
    name == lock::NAME || manifest::NAMES.contains(&name)
}

fn note(meant: Meant, content: &mut dyn Read) -> io::Result<Note> {
    if meant == Meant::Digest {
        return Ok(Note::Digest(contents::digest(content)?));
    }
    let mut bytes = Vec::new();
    content.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(match meant {
        Meant::Licence => Note::Licence(Licence::of_copyright(&text)),
        Meant::Fields => Note::Text(packages::fields_of(&text).to_owned()),
        Meant::Text | Meant::Digest => Note::Text(text.into_owned()),
    })
}

/// What the layers of an image show of what is noted.
struct Found {
    view: View,
    notes: BTreeMap<PathBuf, Note>,
}

impl Found {
    fn read(session: &Session, layers: &[Layer], is_own: bool) -> Result<Self, Error> {
        let kind = if is_own { "own-notes" } else { "notes" };
        let all: Mutex<BTreeMap<usize, BTreeMap<usize, Note>>> = Mutex::default();
        parallel::side_by_side((0..layers.len()).collect(), |number| {
            let Some(layer) = layers.get(number) else { return Ok(()) };
            let wanted = |path: &Path| meant(path, is_own).is_some();
            let take = |path: &Path, content: &mut dyn Read| {
                meant(path, is_own).map_or_else(|| Ok(Note::Text(String::new())), |meant| note(meant, content))
            };
            let notes = Archive::Layer(layer.clone()).notes(session, (kind, RULES), wanted, take)?;
            all.lock().unwrap_or_else(PoisonError::into_inner).insert(number, notes);
            Ok::<_, Error>(())
        })?;
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        let view = contents::view(session, layers, None)?;
        let mut notes = BTreeMap::new();
        for (path, place) in view.paths() {
            let (layer, member) = place.content;
            if matches!(place.node, Node::File(_))
                && meant(&path, is_own).is_some()
                && let Some(note) = all.get_mut(&layer).and_then(|notes| notes.get(&member))
            {
                notes.insert(path, note.clone());
            }
        }
        Ok(Self { view, notes })
    }

    /// What is noted of the file that `path` leads to.
    fn at(&self, path: &str) -> Option<&Note> {
        self.notes.get(&self.view.resolve(Path::new(path)).ok()?)
    }

    fn text(&self, path: &str) -> Option<&str> {
        match self.at(path)? {
            Note::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of all files for whose paths `is_meant` says so, by path.
    fn texts(&self, is_meant: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &str)> {
        self.notes.iter().filter_map(move |(path, note)| match note {
            Note::Text(text) => Some((path.to_str().filter(|path| is_meant(path))?, text.as_str())),
            _ => None,
        })
    }

    fn system(&self) -> Option<System> {
        let text = self.text("etc/os-release").or_else(|| self.text("usr/lib/os-release"))?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
        };
        Some(System { id: field("ID")?, version: field("VERSION_ID"), title: field("PRETTY_NAME") })
    }
}

/// What is in `image`. Its layers are fetched where they are in a registry.
///
/// # Errors
/// When a layer cannot be had or read.
pub fn of(session: &Session, image: &Image) -> Result<Inventory, Error> {
    let (digest, _) = image.save(&session.store)?;
    let key = layer::key(&("inventory", RULES, digest));
    if let Some(known) = session.store.cached("inventory", &key) {
        return Ok(known);
    }
    registry::fetch(session, image.layers())?;
    let labels = image.config().labels().clone().unwrap_or_default();
    let is_own = labels.contains_key(BUNDLE_LABEL);
    let layers: Vec<Layer> = image.layers().iter().filter(|layer| !are_weights(layer)).cloned().collect();
    let found = Found::read(session, &layers, is_own)?;
    let said = |key: &str| {
        let key = format!("org.opencontainers.image.{key}");
        image.annotations().get(&key).or_else(|| labels.get(&key)).filter(|value| !value.is_empty()).cloned()
    };
    let code = image.config().working_dir().clone().unwrap_or_default();
    let lock = found.text(&format!("{code}/{}", lock::NAME)).and_then(|text| serde_json::from_str::<Lock>(text).ok());
    let name = said("title").unwrap_or_else(|| "image".to_owned());
    let model = model(session, image, &found, lock.as_ref(), &name)?;
    let files = found.notes.iter().filter_map(|(path, note)| {
        let path = path.to_str().filter(|path| !path.starts_with(MODELS.trim_start_matches('/')))?;
        let digest = match note {
            Note::Digest(digest) => *digest,
            Note::Text(text) if path.rsplit('/').next().is_some_and(is_document) => Digest::of(text),
            _ => return None,
        };
        Some(File { path: path.to_owned(), digest })
    });
    let inventory = Inventory {
        version: said("version"),
        digest,
        platform: image.platform().to_string(),
        created: in_seconds(image.created()),
        description: said("description"),
        source: said("source"),
        licence: said("licenses").map(|text| Licence::of(&text)).unwrap_or_default(),
        base: said("base.digest").and_then(|text| text.parse().ok()),
        system: found.system(),
        packages: Packages { found: &found, lock: lock.as_ref(), platform: image.platform() }.all(),
        model,
        files: files.collect(),
        commands: commands(image, lock.as_ref()),
        name,
    };
    session.store.cache("inventory", &key, &inventory, Vec::new())?;
    Ok(inventory)
}

/// A time as documents have it: in whole seconds.
fn in_seconds(text: &str) -> String {
    let time: jiff::Timestamp = text.parse().unwrap_or_default();
    jiff::Timestamp::from_second(time.as_second()).unwrap_or_default().to_string()
}

/// The model and its files; none where there are none.
fn model(
    session: &Session,
    image: &Image,
    found: &Found,
    lock: Option<&Lock>,
    name: &str,
) -> Result<Option<Model>, Error> {
    let weights = apart::files(session, image)?;
    let mut files: BTreeMap<String, Digest> =
        weights.into_iter().map(|(path, (_, digest))| (path.to_string(), digest)).collect();
    for (path, note) in &found.notes {
        if let (Some(path), Note::Digest(digest)) = (path.to_str(), note)
            && path.starts_with(MODELS.trim_start_matches('/'))
        {
            files.insert(path.to_owned(), *digest);
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    let training = lock.and_then(|lock| lock.trained.as_ref()).map(|trained| Training {
        code: trained.code,
        data: trained.data.as_ref().map(|data| (data.name.clone(), data.digest)),
        parameters: trained.parameters.clone(),
        metrics: trained.statistics.as_ref().map(metrics).unwrap_or_default(),
    });
    let origins = lock.into_iter().flat_map(|lock| &lock.models).map(|model| {
        let mut versions: Vec<String> = model.files.iter().filter_map(|file| file.version.clone()).collect();
        versions.sort();
        versions.dedup();
        Origin { from: model.from.clone(), versions }
    });
    Ok(Some(Model {
        name: name.to_owned(),
        files: files.into_iter().map(|(path, digest)| File { path, digest }).collect(),
        task: task(found, image),
        training,
        origins: origins.collect(),
    }))
}

/// The numbers in what a training measured, by their names.
fn metrics(statistics: &serde_json::Value) -> BTreeMap<String, String> {
    let fields = statistics.as_object().into_iter().flatten();
    fields.filter(|(_, value)| value.is_number()).map(|(name, value)| (name.clone(), value.to_string())).collect()
}

/// What the model is good for, as far as its interface or a label says it.
fn task(found: &Found, image: &Image) -> Option<String> {
    let label = image.config().labels().as_ref().and_then(|labels| labels.get("task").cloned());
    label.or_else(|| {
        let code = image.config().working_dir().as_deref()?;
        let (name, text) =
            manifest::NAMES.iter().find_map(|name| Some((name, found.text(&format!("{code}/{name}"))?)))?;
        let (_, manifest) = load::bytes::<Manifest>(text.as_bytes(), name, name, &mut Diagnostics::new())?.whole()?;
        let openai = manifest.service.openai?;
        Some(
            if openai.chat.is_some() || openai.completions.is_some() {
                "text-generation"
            } else {
                "feature-extraction"
            }
            .to_owned(),
        )
    })
}

/// The commands that were executed for the image, as its history and its lock have them.
fn commands(image: &Image, lock: Option<&Lock>) -> Vec<String> {
    let is_command =
        |title: &&str| title.starts_with("RUN ") || title.contains("/bin/sh -c") && !title.contains("#(nop)");
    let mut commands: Vec<String> =
        image.layers().iter().map(|layer| layer.title.as_str()).filter(is_command).map(str::to_owned).collect();
    let locked = lock.and_then(|lock| lock.platforms.get(&image.platform())?.executed.as_ref());
    for step in locked.into_iter().flat_map(|executed| executed.steps.values()) {
        if !commands.contains(&step.command) {
            commands.push(step.command.clone());
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::oci::platform::Platform;
    use crate::image::session::Making;
    use crate::io::archive::{ArchivePath, Entry, Mode};
    use crate::io::http::{Client, Network};
    use crate::io::progress::Progress;

    #[test]
    fn what_tells_of_packages_is_noted_and_nothing_else() {
        let of = |path: &str| meant(Path::new(path), true);
        assert_eq!(of("var/lib/dpkg/status.d/libc6"), Some(Meant::Text));
        assert_eq!(of("var/lib/dpkg/status.d/libc6.md5sums"), None);
        assert_eq!(of("app/.venv/lib/python3.11/site-packages/a-1.dist-info/METADATA"), Some(Meant::Fields));
        assert_eq!(of("app/.venv/lib/python3.11/site-packages/a.py"), None);
        assert_eq!(of("usr/share/doc/libc6/copyright"), Some(Meant::Licence));
        assert_eq!(of("usr/share/doc/a/b/copyright"), None);
        assert_eq!(of("app/src/predict.py"), Some(Meant::Digest));
        assert_eq!(of("app/ekiben.lock"), Some(Meant::Text));
        assert_eq!(of("app/src/ekiben.lock"), Some(Meant::Digest));
        assert_eq!(meant(Path::new("app/src/predict.py"), false), None);
        assert_eq!(meant(Path::new("models/a.gguf"), false), Some(Meant::Digest));
        assert_eq!(of("modelsx/a.gguf"), None);
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(in_seconds("2024-05-01T10:00:00.123456789+02:00"), "2024-05-01T08:00:00Z");
        assert_eq!(in_seconds("?"), "1970-01-01T00:00:00Z");
    }

    /// A layer of files with their contents; a name with `->` is a link, `.wh.` deletes as ever.
    fn layer(session: &Session, files: &[(&str, &str)]) -> Layer {
        Layer::write::<image::Error>(&session.store, session.making, "a layer", |writer| {
            for (name, content) in files {
                let path = |name: &str| ArchivePath::new(name).map_err(io::Error::other);
                match name.split_once("->") {
                    Some((link, target)) => writer.entry(&Entry::symlink(path(link)?, target))?,
                    None => {
                        let entry = Entry::file(path(name)?, content.len() as u64, Mode::Plain);
                        writer.file(&entry, content.as_bytes())?;
                    }
                }
            }
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn images_of_others_are_listed_through_all_their_layers() {
        let home = tempfile::tempdir().unwrap();
        let (progress, client) = (Progress::silent(), Client::new(Network::Offline));
        let store = store::Store::open(home.path()).unwrap();
        let session = Session { store, progress, client, making: Making::Compressed };
        let status = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nArchitecture: amd64\nSource: glibc\n\n\
                      Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.13\nArchitecture: amd64\nDepends: libc6 (>= 2.14), none | libz\n\
                      Provides: libz (= 1)\n\nPackage: old\nStatus: deinstall ok config-files\nVersion: 1\n";
        let copyright = "Format: x\n\nFiles: *\nLicense: Zlib\n";
        let lower = layer(
            &session,
            &[
                ("etc/os-release->../usr/lib/os-release", ""),
                ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
                ("var/lib/dpkg/status", "Package: gone\nStatus: install ok installed\nVersion: 1\n"),
                ("usr/share/doc/zlib1g->zlib-common", ""),
                ("usr/share/doc/zlib-common/copyright", copyright),
                (
                    "usr/lib/python3/dist-packages/A_b-1.0.dist-info/METADATA",
                    "Name: A_b\nVersion: 1.0\nLicense: MIT\n\nText\n",
                ),
                ("usr/lib/python3/dist-packages/gone-1.0.dist-info/METADATA", "Name: gone\nVersion: 1.0\n"),
                (
                    "lib/apk/db/installed",
                    "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\np:so:libc.musl.so.1=1\n\nP:b\nV:1\nD:so:libc.musl.so.1 musl>1\n",
                ),
            ],
        );
        let upper = layer(
            &session,
            &[
                ("var/lib/dpkg/status", status),
                ("usr/lib/python3/dist-packages/.wh.gone-1.0.dist-info", ""),
                (
                    "opt/x/c.egg-info",
                    "Name: c\nVersion: 2\nRequires-Dist: a-b[x]>=1; python_version >= '3'\nRequires-Dist: musl; extra == 'y'\n",
                ),
                ("models/weights.gguf", "weights"),
                ("app/secret.py", "not ours"),
            ],
        );
        let image = Image::scratch(Platform::Amd64).with_layer(lower).with_layer(upper);
        let inventory = of(&session, &image).unwrap();
        let named = |number: &usize| inventory.packages[*number].name.clone();
        let told: Vec<String> = inventory
            .packages
            .iter()
            .zip(inventory.purls())
            .map(|(one, purl)| format!("{purl} needs {}", one.depends.iter().map(named).collect::<Vec<_>>().join(" ")))
            .collect();
        assert_eq!(
            told,
            [
                "pkg:apk/debian/b@1?distro=debian-12 needs musl",
                "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12 needs ",
                "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc needs ",
                "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=debian-12 needs libc6",
                "pkg:pypi/a-b@1.0 needs ",
                "pkg:pypi/c@2 needs a-b",
            ]
        );
        assert_eq!(inventory.packages[3].licence.expression.as_deref(), Some("Zlib"));
        let model = inventory.model.clone().unwrap();
        assert_eq!((model.files[0].path.as_str(), model.files[0].format()), ("models/weights.gguf", Some("gguf")));
        assert!(inventory.files.is_empty(), "what others wrote is not listed: {:?}", inventory.files);
        // What was noted while the layers were written is what is read out of them.
        let known = fs_err::remove_dir_all(home.path().join("memory"));
        known.unwrap();
        assert_eq!(of(&session, &image).unwrap(), inventory);
    }
}
