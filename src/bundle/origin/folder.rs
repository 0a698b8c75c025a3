//! A folder that is to have the files at addresses: those that changed are fetched straight into it.
//!
//! Invariants: a file has the name that others know only when all of it is there and is what it should be; when one is not, no
//! file of the folder is another than before. No byte needs a second place: what is fetched lies in the folder, under another
//! name. What is known of files is a help: without it they are read, or fetched, again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::partial::{Begun, Partial, Partials, Whole};
use super::{AT_ONCE, At, Error, Place, Remote, Source};
use crate::image::download;
use crate::image::registry;
use crate::image::session::{Making, Session};
use crate::image::store::Store;
use crate::io::archive::ArchivePath;
use crate::io::atomic;
use crate::io::digest::{Digest, HashingReader, Mismatch};
use crate::io::http::{Client, Method};
use crate::io::parallel;
use crate::io::progress::{Progress, Task, Unit};
use crate::project::address::Address;
use crate::project::lock::LockedModel;

/// The folder in a folder that is filled, for what is under way and what is known.
pub const WORK: &str = ".ekiben-fetch";

/// What is known of the files, in [`WORK`].
const STATE: &str = "known.json";

/// How long it is waited before it is looked again whether another process has fetched a file.
const LOOK: Duration = Duration::from_millis(500);

/// What a folder is to have.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where its files live: what names a folder stands for all files below it, at their paths there.
    pub addresses: &'a [Address],
    /// The folder, made where it is not there.
    pub folder: &'a Path,
    /// What is expected of the files.
    pub expected: &'a Expected,
    /// What becomes of files that are at none of the addresses.
    pub others: Others,
}

/// What is expected of files.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Digests by names, of files that have to be there.
    pub files: BTreeMap<String, Digest>,
    /// What a lock has of addresses.
    pub locked: Vec<LockedModel>,
    /// Whether files that are not named are left where they are.
    pub is_all: bool,
}

/// What becomes of files that are not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Stay,
    /// They are removed.
    AreRemoved,
}

/// What became of a folder.
#[derive(Debug, Serialize)]
pub struct Filled {
    /// The files that were wanted, by path.
    pub files: Vec<FilledFile>,
    /// Files that were removed, by path.
    pub removed: Vec<String>,
}

/// A file of a folder that was filled.
#[derive(Debug, Serialize)]
pub struct FilledFile {
    /// Below the folder.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes.
    pub digest: Digest,
    /// Whether it was fetched: not, where it was there, or came from another process meanwhile.
    pub fetched: bool,
}

/// What is known of a folder's files.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    files: BTreeMap<String, Known>,
    /// What artifacts of registries consist of, which mostly takes reading all of them: by their digests and addresses.
    artifacts: Artifacts,
}

/// A file as it was put there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    inode: u64,
    /// Of its last change, in nanoseconds since 1970.
    time: i128,
    digest: Digest,
    /// What names its bytes where they live.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Digest>,
}

/// A file that is wanted.
struct File<'a> {
    place: &'a Place<'a>,
    remote: Remote,
    path: ArchivePath,
    /// What its bytes must have, and who says it.
    digest: Option<(Digest, &'static str)>,
}

/// What was found of a file, or fetched.
enum Found {
    There(Known),
    Fetched(Whole),
}

/// Fills the folder. Several processes may do so at once, also on several machines that share it.
///
/// # Errors
/// When a file cannot be had, or is not what is expected; then the folder has the files that it had.
pub fn fill(client: &Client, progress: &Progress, wanted: &Wanted<'_>) -> Result<Filled, Error> {
    fs::create_dir_all(wanted.folder)?;
    let folder = fs::canonicalize(wanted.folder)?;
    let partials = Partials::open(&folder.join(WORK))?;
    // Only archives in registries come by way of it: their files are linked from there.
    let own = match wanted.addresses.iter().any(|address| matches!(address, Address::Oci { .. })) {
        true => partials.store()?,
        false => tempfile::tempdir()?,
    };
    let store = Store::open(own.path())?;
    let session = Session { store, progress: progress.clone(), client: client.clone(), making: Making::Compressed };
    let state = State::read(&folder);
    let places = wanted.addresses.iter().map(|address| Place::new(&session, address));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut artifacts = BTreeMap::new();
    let mut files: Vec<File<'_>> = Vec::new();
    for place in &places {
        let remotes = match place.remembered(&state, &folder) {
            Some(remotes) => remotes,
            None => place.find()?,
        };
        if let Some(name) = place.artifact() {
            let facts = remotes.iter().filter_map(|one| Some((one.name.clone(), one.size?, one.digest?)));
            artifacts.insert(name, facts.collect());
        }
        wanted.expected.select(place, remotes, &mut files)?;
    }
    let mut paths = BTreeSet::new();
    if let Some(twice) = files.iter().find(|file| !paths.insert(file.path.clone())) {
        return Err(Error::Twice(twice.path.to_string()));
    }
    if let Some(name) = wanted.expected.files.keys().find(|name| !paths.iter().any(|path| path.as_str() == **name)) {
        return Err(Error::Nothing(format!("any of the addresses called `{name}`")));
    }

    let filler = Filler { session: &session, folder: &folder, state: &state, partials: &partials };
    let mut filled = partials.while_alive(|| filler.fill(&files, &artifacts))?;
    let removed = match wanted.others {
        Others::Stay => Vec::new(),
        Others::AreRemoved => removed(&folder, &paths)?,
    };
    partials.sweep()?;
    filled.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Filled { files: filled, removed })
}

impl Expected {
    /// Those of `remotes` that are wanted, with what they must be.
    fn select<'a>(&self, place: &'a Place<'a>, remotes: Vec<Remote>, files: &mut Vec<File<'a>>) -> Result<(), Error> {
        const LIST: &str = "the list";
        const LOCK: &str = "the lock";
        let locked = self.locked.iter().find(|model| model.from == place.from);
        if !self.locked.is_empty() && locked.is_none() {
            return Err(Error::NotLocked(place.from.clone()));
        }
        let named = |name: &str| locked.and_then(|model| model.files.iter().find(|file| file.name == name));
        if let Some(gone) = locked
            .and_then(|model| model.files.iter().find(|file| !remotes.iter().any(|remote| remote.name == file.name)))
        {
            return Err(Error::Nothing(format!("{} any more: `{}`", place.from, gone.name)));
        }
        for mut remote in remotes {
            let listed = self.files.get(&remote.name).map(|digest| (*digest, LIST));
            let asked = listed.or_else(|| named(&remote.name).map(|file| (file.digest, LOCK)));
            if asked.is_none() && (self.is_all || locked.is_some()) {
                place
                    .session
                    .progress
                    .detail(format!("{} has `{}` too, which is not fetched", place.from, remote.name));
                continue;
            }
            if let (Some((expected, whose)), Some(actual)) = (asked, remote.digest)
                && expected != actual
            {
                return Err(place.other(&remote.name, whose, Mismatch::Digest { expected, actual }));
            }
            let digest = asked.or_else(|| remote.digest.map(|digest| (digest, "its server")));
            remote.digest = digest.map(|(digest, _)| digest);
            let path = ArchivePath::relative(&remote.name).map_err(|error| place.answer(error))?;
            if path.as_str().split('/').next() == Some(WORK) {
                return Err(place.answer(format!("`{path}` lies where work under way does")));
            }
            files.push(File { place, remote, path, digest });
        }
        Ok(())
    }
}

impl Place<'_> {
    /// What names an artifact of a registry for ever, as it is asked for here.
    fn artifact(&self) -> Option<String> {
        match &self.source {
            Source::Oci { artifact, path } => Some(format!("{} {path}", artifact.digest)),
            _ => None,
        }
    }

    /// The files of an artifact as they are known, where all of them are there: mostly, to list them takes reading all of it.
    fn remembered(&self, state: &State, folder: &Path) -> Option<Vec<Remote>> {
        let files = state.artifacts.get(&self.artifact()?)?;
        let Source::Oci { artifact, .. } = &self.source else { return None };
        let is_there = |(name, size, digest): &(String, u64, Digest)| {
            state.is_there(folder, name).is_some_and(|known| (known.size, known.digest) == (*size, *digest))
        };
        let remote = |(name, size, digest): &(String, u64, Digest)| Remote {
            name: name.clone(),
            at: At::Registry,
            size: Some(*size),
            digest: Some(*digest),
            version: Some(artifact.digest.to_string()),
        };
        files.iter().all(is_there).then(|| files.iter().map(remote).collect())
    }

    fn other(&self, name: &str, whose: &'static str, source: Mismatch) -> Error {
        Error::Other { from: self.from.clone(), name: name.to_owned(), whose, source }
    }
}

impl State {
    fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(WORK).join(STATE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What is known of a file, if it is the same still.
    fn is_there(&self, folder: &Path, name: &str) -> Option<&Known> {
        let known = self.files.get(name)?;
        let now = looked_at(&folder.join(name))?;
        (now == (known.size, known.inode, known.time)).then_some(known)
    }
}

/// Size, inode and time of a file; none of what is no file.
fn looked_at(path: &Path) -> Option<(u64, u64, i128)> {
    let metadata = fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some(facts(&metadata))
}

fn facts(metadata: &std::fs::Metadata) -> (u64, u64, i128) {
    let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    (metadata.len(), metadata.ino(), time)
}

struct Filler<'a> {
    session: &'a Session,
    folder: &'a Path,
    state: &'a State,
    partials: &'a Partials,
}

/// What artifacts consist of, as [`State`] has it.
type Artifacts = BTreeMap<String, Vec<(String, u64, Digest)>>;

impl Filler<'_> {
    /// Has all files there.
    fn fill(&self, files: &[File<'_>], artifacts: &Artifacts) -> Result<Vec<FilledFile>, Error> {
        let sizes = files.iter().map(|file| file.remote.size).sum();
        let task = self.session.progress.task("Fetching", format!("{} files", files.len()), Unit::Bytes, sizes);
        let results = Mutex::new(BTreeMap::new());
        parallel::side_by_side_on(AT_ONCE, (0..files.len()).rev().collect(), |number: usize| {
            let Some(file) = files.get(number) else { return Ok(()) };
            let found = self.have(file, &task)?;
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(number, found);
            Ok::<(), Error>(())
        })?;
        let mut found = results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect::<Vec<_>>();
        files.iter().try_for_each(|file| self.clear(file))?;
        // First it is said what the files will be, for whoever waits for them.
        self.note(files.iter().zip(&found), artifacts)?;
        let mut filled = Vec::new();
        for (file, found) in files.iter().zip(&mut found) {
            while let Found::Fetched(whole) = found
                && !self.partials.name(whole, &file.path.under(self.folder))?
            {
                *found = self.have(file, &task)?;
            }
            let (size, digest, fetched) = match found {
                Found::There(known) => (known.size, known.digest, false),
                Found::Fetched(whole) => (whole.size, whole.digest, true),
            };
            filled.push(FilledFile { path: file.path.to_string(), size, digest, fetched });
        }
        Ok(filled)
    }

    /// Writes down what is known of files, also of those that have no name yet.
    fn note<'b>(
        &self,
        found: impl Iterator<Item = (&'b File<'b>, &'b Found)>,
        artifacts: &Artifacts,
    ) -> Result<(), Error> {
        // Somebody else may have written it meanwhile.
        let mut state = State::read(self.folder);
        state.files.retain(|path, _| self.folder.join(path).is_file());
        for (file, found) in found {
            let known = match found {
                Found::There(known) => Some(known.clone()),
                Found::Fetched(whole) => self.partials.settle(whole).map(|metadata| {
                    let (size, inode, time) = facts(&metadata);
                    Known { size, inode, time, digest: whole.digest, key: file.remote.key() }
                }),
            };
            state.files.extend(known.map(|known| (file.path.to_string(), known)));
        }
        state.artifacts = artifacts.clone();
        let text = serde_json::to_vec(&state).map_err(io::Error::from)?;
        Ok(atomic::write(&self.folder.join(WORK).join(STATE), |file| io::Write::write_all(file, &text))?)
    }

    /// Sees that a file can get its name.
    fn clear(&self, file: &File<'_>) -> Result<(), Error> {
        for above in file.path.ancestors().map(|above| above.under(self.folder)) {
            match fs::symlink_metadata(&above) {
                Ok(metadata) if metadata.is_dir() => {}
                // A link could lead out of the folder.
                Ok(_) => return Err(Error::InTheWay(above)),
                Err(_) => fs::create_dir_all(&above)?,
            }
        }
        let target = file.path.under(self.folder);
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_dir() => Err(Error::InTheWay(target)),
            _ => Ok(()),
        }
    }

    /// A file that is there, or has come and has no name yet.
    fn have(&self, file: &File<'_>, task: &Task) -> Result<Found, Error> {
        let there = |known: Known| {
            task.advance(known.size);
            Ok(Found::There(known))
        };
        if let Some(known) = self.is_right(file, self.state)? {
            return there(known);
        }
        let mut has_waited = false;
        loop {
            if let At::Registry = file.remote.at
                && let Some(whole) = self.linked(file, task)?
            {
                return Ok(Found::Fetched(whole));
            }
            if let Begun::Here(partial) = self.begin(file)? {
                if has_waited && let Some(known) = self.is_right(file, &State::read(self.folder))? {
                    self.partials.give_up(&partial)?;
                    return there(known);
                }
                return Ok(Found::Fetched(self.fetch(file, partial, task)?));
            }
            has_waited = true;
            std::thread::sleep(LOOK);
        }
    }

    /// What is known of a file that is what it should be; none where it is not, or not there.
    fn is_right(&self, file: &File<'_>, state: &State) -> Result<Option<Known>, Error> {
        let path = file.path.under(self.folder);
        let Some((size, inode, time)) = looked_at(&path) else { return Ok(None) };
        if file.remote.size.is_some_and(|expected| expected != size) {
            return Ok(None);
        }
        let key = file.remote.key();
        let known = state.is_there(self.folder, file.path.as_str());
        let Some((expected, _)) = file.digest else {
            return Ok(known.filter(|known| known.key.is_some() && known.key == key).cloned());
        };
        let digest = match known {
            Some(known) => known.digest,
            None => {
                let mut content = HashingReader::new(fs::File::open(&path)?);
                io::copy(&mut content, &mut io::sink())?;
                content.finish()
            }
        };
        Ok((digest == expected).then_some(Known { size, inode, time, digest, key }))
    }

    /// A file that an archive brought into the store.
    fn linked(&self, file: &File<'_>, task: &Task) -> Result<Option<Whole>, Error> {
        let (Some(digest), Some(size)) = (file.remote.digest, file.remote.size) else { return Ok(None) };
        let store = &self.session.store;
        if !store.has_blob(&digest) {
            return Ok(None);
        }
        task.advance(size);
        Ok(Some(self.partials.link(&store.blob_path(&digest), digest, size)?))
    }

    /// Begins to fetch a file, where nobody else is about it.
    fn begin(&self, File { remote, path, .. }: &File<'_>) -> Result<Begun, Error> {
        let version = match &remote.at {
            At::Registry => remote.digest,
            _ => remote.key(),
        };
        // Two files of one content are two.
        let version = version.map(|version| Digest::of(format!("{version} {path}")));
        Ok(self.partials.begin(version.as_ref(), remote.size)?)
    }

    /// Fetches what is missing of a file.
    fn fetch(&self, file: &File<'_>, mut partial: Partial, task: &Task) -> Result<Whole, Error> {
        let File { place, remote, .. } = file;
        let from = partial.written();
        match (&remote.at, &place.source) {
            (At::Url(url), _) => {
                let secrets = |method: &Method| place.headers(method, url);
                let client = &place.session.client;
                download::transfer(client, url, &secrets, remote.size, from, &mut partial, task)
                    .map_err(|error| place.failed(error))?;
            }
            (At::Path(path), _) => {
                io::copy(&mut task.reading(fs::File::open(path)?), &mut partial)?;
            }
            (At::Registry, Source::Oci { artifact, .. }) => {
                let (Some(digest), Some(size)) = (remote.digest, remote.size) else {
                    return Err(Error::Nothing(place.from.clone()));
                };
                task.advance(from);
                let content = artifact.repository.blob(digest, size, from);
                io::copy(&mut task.reading(content), &mut partial).map_err(registry::Error::from_io)?;
            }
            (At::Registry, _) => return Err(Error::Nothing(place.from.clone())),
        }
        let whole = partial.finish()?;
        match file.digest {
            Some((expected, whose)) if expected != whole.digest => {
                self.partials.refuse(&whole)?;
                Err(place.other(&remote.name, whose, Mismatch::Digest { expected, actual: whole.digest }))
            }
            _ => Ok(whole),
        }
    }
}

/// Removes what is not in `kept`, with folders that are empty then; gives the paths of files.
fn removed(folder: &Path, kept: &BTreeSet<ArchivePath>) -> Result<Vec<String>, Error> {
    fn go(folder: &Path, below: &str, kept: &BTreeSet<ArchivePath>, removed: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if path == WORK {
                continue;
            }
            if entry.file_type()?.is_dir() {
                go(&entry.path(), &path, kept, removed)?;
                // It has something still, mostly.
                let _ = fs::remove_dir(entry.path());
            } else if !kept.iter().any(|kept| kept.as_str() == path) {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => removed.push(path),
                }
            }
        }
        Ok(())
    }
    let mut paths = Vec::new();
    go(folder, "", kept, &mut paths)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_not_wanted_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a", "b/c", "b/d", "e/f", ".ekiben-fetch/known.json"] {
            let path: PathBuf = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let kept = ["b/c"].map(|path| ArchivePath::new(path).unwrap()).into();
        assert_eq!(removed(folder.path(), &kept).unwrap(), ["a", "b/d", "e/f"]);
        assert!(folder.path().join("b/c").exists() && !folder.path().join("e").exists());
        assert!(folder.path().join(WORK).join(STATE).exists());
    }
}
