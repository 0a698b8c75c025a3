//! From packages to a layer: their files, and what their maintainer scripts would have made that an image needs.
//!
//! The base layer is a whole small system: packages, merged /usr, users, mount points. A layer of further packages is
//! only what those bring. Same packages, same bytes: entries go by path, and nothing of the host is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use super::deb::{self, Deb};
use super::relation::relations;
use super::{DebError, Error, Package, alternatives, joined, trim};
use crate::base::loader::{self, Libraries};
use crate::formats::deb822;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::archive::{ArchivePath, Entry, Kind, Mode, Writer};
use crate::io::digest::{Digest, HashingWriter};
use crate::io::progress::Unit;

/// The number of the rules by which packages become a layer: another one may make other bytes of the same packages, so
/// it belongs into the key under which a layer is remembered.
pub const RULES: u32 = 4;

/// The user that an image's program runs as.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, of the group too.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The home directory, which is made.
    pub home: ArchivePath,
}

impl User {
    /// The line of `/etc/passwd`, passwd(5).
    pub fn passwd(&self) -> String {
        let Self { name, uid, gid, home } = self;
        format!("{name}:*:{uid}:{gid}::/{home}:/bin/sh\n")
    }

    /// The line of `/etc/group`, group(5).
    pub fn group(&self) -> String {
        format!("{}:*:{}:\n", self.name, self.gid)
    }
}

/// Writes a base made of `packages`, which are in the store, with `user` beside Debian's own users. Gives its libraries,
/// for [`packages_layer`] upon it.
///
/// # Errors
/// When a package is missing or damaged, two have different files of the same name, or writing fails. What was written
/// until then is no layer.
pub fn base_layer<W: Write>(
    session: &Session,
    packages: &[Package],
    platform: Platform,
    user: Option<&User>,
    writer: &mut Writer<W>,
) -> Result<Libraries, Error> {
    let mut tree = Tree::read(session, packages)?;
    tree.leave_notes()?;
    tree.configure(session)?;
    tree.furnish(platform, user)?;
    let libraries = tree.libraries(platform)?;
    tree.add_cache(libraries.cache(platform));
    tree.write(writer)?;
    Ok(libraries)
}

/// Writes a layer of `packages`, which are in the store, to lie upon a base that has all else that they need, and the
/// libraries `base`. It has the loader's index of those and its own, where that is another one than the base has; and they are
/// noted in `book`, which dpkg keeps in the base. Gives the libraries of both.
///
/// # Errors
/// As [`base_layer`].
pub fn packages_layer<W: Write>(
    session: &Session,
    packages: &[Package],
    platform: Platform,
    base: &Libraries,
    book: &str,
    writer: &mut Writer<W>,
) -> Result<Libraries, Error> {
    let mut tree = Tree::read(session, packages)?;
    match book {
        "" => tree.leave_notes()?,
        _ => tree.note_in(book)?,
    }
    tree.configure(session)?;
    let own = tree.libraries(platform)?;
    let all = base.below(&own);
    if own != Libraries::default() {
        let index = all.cache(platform);
        tree.add_cache(index.filter(|bytes| base.cache(platform).as_ref() != Some(bytes)));
    }
    tree.write(writer)?;
    Ok(all)
}

/// The folders that are links into `usr` since Debian 12 (file-hierarchy(7), "merged /usr").
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Where a file of a package comes to lie: through the links that a system has from the start.
fn placed(path: &ArchivePath) -> Result<ArchivePath, crate::io::archive::PathError> {
    let text = path.as_str();
    let top = text.split('/').next().unwrap_or_default();
    if MERGED.contains(&top) {
        return ArchivePath::new(format!("usr/{text}"));
    }
    for (link, target) in [("var/run/", "run/"), ("var/lock/", "run/lock/")] {
        if let Some(rest) = text.strip_prefix(link) {
            return ArchivePath::new(format!("{target}{rest}"));
        }
    }
    Ok(path.clone())
}

/// Where something of a package lies in dpkg's folder.
fn in_book(package: &Package, folder: &str, name: &str) -> Result<ArchivePath, Error> {
    let failed = |error: crate::io::archive::PathError| Error::Deb {
        package: package.name.clone(),
        source: DebError::Format(error.to_string()),
    };
    Ok(fixed("var/lib/dpkg").join(&ArchivePath::new(format!("{folder}/{name}")).map_err(failed)?))
}

/// A package that was read, with the contents of its files in a file of its own.
struct Unpacked {
    deb: Deb,
    contents: PathBuf,
}

/// Where the content of a file comes from.
enum Content {
    /// It is none, or has none.
    None,
    /// An item of a package, both by number.
    Packed(usize, usize),
    /// Made here.
    Made(Vec<u8>),
}

struct Piece {
    entry: Entry,
    content: Content,
    /// The number of the package that it belongs to.
    owner: Option<usize>,
}

/// The layer that is being made, by path.
struct Tree<'a> {
    packages: &'a [Package],
    unpacked: Vec<Unpacked>,
    pieces: BTreeMap<ArchivePath, Piece>,
    _scratch: tempfile::TempDir,
}

impl<'a> Tree<'a> {
    fn read(session: &Session, packages: &'a [Package]) -> Result<Self, Error> {
        let scratch = session.store.scratch()?;
        let unpacked = unpack(session, packages, scratch.path())?;
        let mut tree = Self { packages, unpacked, pieces: BTreeMap::new(), _scratch: scratch };
        for (number, package) in packages.iter().enumerate() {
            let failed = |source| Error::Deb { package: package.name.clone(), source };
            for piece in tree.unpacked[number].pieces(number).map_err(failed)? {
                tree.merge(piece)?;
            }
        }
        Ok(tree)
    }

    /// Adds what a package brings, unless another package has it and both agree or say who replaces whom.
    fn merge(&mut self, piece: Piece) -> Result<(), Error> {
        let path = piece.entry.path.clone();
        let Some(there) = self.pieces.get(&path) else {
            self.pieces.insert(path, piece);
            return Ok(());
        };
        let both_folders = there.entry.kind == Kind::Directory && piece.entry.kind == Kind::Directory;
        if both_folders || self.same(there, &piece)? {
            return Ok(());
        }
        if self.replaces(&piece, there) {
            self.pieces.insert(path, piece);
            return Ok(());
        }
        if self.replaces(there, &piece) {
            return Ok(());
        }
        Err(Error::Conflict { first: self.owner(there), second: self.owner(&piece), path })
    }

    /// The name of the package that something belongs to; empty for what is made here.
    fn owner(&self, piece: &Piece) -> String {
        piece.owner.map(|owner| self.packages[owner].name.clone()).unwrap_or_default()
    }

    fn same(&self, one: &Piece, other: &Piece) -> Result<bool, Error> {
        Ok(one.entry == other.entry && self.digest(one)? == self.digest(other)?)
    }

    /// Whether the package of `one` may take over files of the package of `other` (Policy, section 7.6.1).
    fn replaces(&self, one: &Piece, other: &Piece) -> bool {
        let (Some(one), Some(other)) = (one.owner, other.owner) else { return false };
        let other = &self.packages[other];
        let control = deb822::paragraphs(&self.unpacked[one].deb.control).next();
        let replaced = control.and_then(|control| control.get("Replaces")).unwrap_or_default();
        relations(replaced).flatten().any(|relation| relation.name == other.name && relation.admits(&other.version))
    }

    fn digest(&self, piece: &Piece) -> Result<Digest, Error> {
        let mut hasher = HashingWriter::new(io::sink());
        io::copy(&mut self.open(piece)?, &mut hasher).map_err(Error::Write)?;
        Ok(hasher.finish().1)
    }

    fn open<'t>(&'t self, piece: &'t Piece) -> Result<Box<dyn Read + 't>, Error> {
        Ok(match &piece.content {
            Content::None => Box::new(io::empty()),
            Content::Made(bytes) => Box::new(bytes.as_slice()),
            Content::Packed(package, item) => {
                let Unpacked { deb, contents } = &self.unpacked[*package];
                let item = &deb.items[*item];
                let Kind::File { size } = item.entry.kind else { return Ok(Box::new(io::empty())) };
                // Opened each time: a layer may have more packages than a process may have open files.
                let mut contents = fs::File::open(contents).map_err(Error::Write)?;
                contents.seek(SeekFrom::Start(item.offset)).map_err(Error::Write)?;
                Box::new(contents.take(size))
            }
        })
    }

    /// The content of the file at `path`, where there is one.
    fn content(&self, path: &ArchivePath) -> Result<Option<Vec<u8>>, Error> {
        let Some(piece) = self.pieces.get(path) else { return Ok(None) };
        let mut bytes = Vec::new();
        self.open(piece)?.read_to_end(&mut bytes).map_err(Error::Write)?;
        Ok(Some(bytes))
    }

    /// Adds something that no package brought; what one brought stays.
    fn add(&mut self, entry: Entry) {
        let owner = None;
        self.pieces.entry(entry.path.clone()).or_insert(Piece { entry, content: Content::None, owner });
    }

    fn add_file(&mut self, path: ArchivePath, bytes: Vec<u8>) {
        let entry = Entry::file(path.clone(), bytes.len() as u64, Mode::Plain);
        self.pieces.entry(path).or_insert(Piece { entry, content: Content::Made(bytes), owner: None });
    }

    /// Notes the packages where scanners look for them in images without dpkg: one file for each.
    fn leave_notes(&mut self) -> Result<(), Error> {
        let mut notes = Vec::new();
        for (package, unpacked) in self.packages.iter().zip(&self.unpacked) {
            let place = in_book(package, "status.d", &package.name)?;
            notes.push((place, format!("{}\n", unpacked.deb.control.trim_end())));
        }
        notes.into_iter().for_each(|(place, note)| self.add_file(place, note.into_bytes()));
        Ok(())
    }

    /// Notes the packages as dpkg does (deb822(5), dpkg-query(1)): in its `book`, in place of other versions of them, and in
    /// a list of files for each. Else apt would install them again, and take what needs them for broken.
    fn note_in(&mut self, book: &str) -> Result<(), Error> {
        let field = |text: &str, name: &str| -> Option<String> {
            let control = deb822::paragraphs(text).next()?;
            control.get(name).map(str::to_owned)
        };
        let name_of = |text: &str| (field(text, "Package"), field(text, "Architecture").filter(|name| name != "all"));
        let controls: Vec<_> = self.unpacked.iter().map(|unpacked| unpacked.deb.control.trim().to_owned()).collect();
        let own: BTreeSet<_> = controls.iter().map(|control| name_of(control)).collect();
        let there = book.split("\n\n").map(str::trim).filter(|text| !text.is_empty() && !own.contains(&name_of(text)));
        let mut text: String = there.map(|paragraph| format!("{paragraph}\n\n")).collect();
        for (number, (package, control)) in self.packages.iter().zip(&controls).enumerate() {
            let (first, rest) = control.split_once('\n').unwrap_or((control, ""));
            text.push_str(&format!("{first}\nStatus: install ok installed\n{rest}\n\n"));
            // One that is there for several processors is told by its own.
            let architecture = field(control, "Architecture")
                .filter(|_| field(control, "Multi-Arch").is_some_and(|kind| kind == "same"));
            let name = architecture.map_or_else(|| package.name.clone(), |own| format!("{}:{own}", package.name));
            let files = self.pieces.iter().filter(|(_, piece)| piece.owner == Some(number));
            let files: String = files.map(|(path, _)| format!("/{path}\n")).collect();
            let place = in_book(package, "info", &format!("{name}.list"))?;
            self.add_file(place, format!("/.\n{files}").into_bytes());
        }
        self.add_file(fixed("var/lib/dpkg/status"), text.into_bytes());
        Ok(())
    }

    /// Makes what the maintainer scripts of the packages would have made.
    fn configure(&mut self, session: &Session) -> Result<(), Error> {
        self.configure_alternatives(session);
        self.configure_certificates()?;
        // The second is R's: its script fills in the size of paper, of which the file says itself what it is otherwise.
        for (from, to) in [
            ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
            ("usr/lib/R/etc/Renviron.ucf", "etc/R/Renviron"),
        ] {
            if let Some(bytes) = self.content(&fixed(from))? {
                self.add_file(fixed(to), bytes);
            }
        }
        Ok(())
    }

    fn configure_alternatives(&mut self, session: &Session) {
        let mut all = self.java();
        let has_java = !all.is_empty();
        for (package, unpacked) in self.packages.iter().zip(&self.unpacked) {
            let registered = alternatives::read(&unpacked.deb.postinst);
            if registered.contains(&None) && !(has_java && package.name.starts_with("openjdk-")) {
                session.progress.warn(format!(
                    "the package `{}` works out some of its links in a script, which ekiben does not run: commands that \
                     it names through /etc/alternatives may be missing",
                    package.name
                ));
            }
            all.extend(registered.into_iter().flatten());
        }
        for alternative in alternatives::best(all) {
            for link in std::iter::once(alternative.main).chain(alternative.along) {
                let there = placed(&link.path).is_ok_and(|path| self.pieces.contains_key(&path));
                let Some(place) = placed(&link.link).ok().filter(|_| there) else { continue };
                let chosen = fixed("etc/alternatives").join(&link.name);
                self.add(Entry::symlink(place, format!("/{chosen}")));
                self.add(Entry::symlink(chosen, format!("/{}", link.path)));
            }
        }
    }

    /// The commands of a Java, which its scripts register one by one from a list that it brings.
    fn java(&self) -> Vec<alternatives::Alternative> {
        let folder = fixed("usr/lib/jvm");
        let is_list = |path: &&ArchivePath| path.below(&folder).is_some() && path.as_str().ends_with(".jinfo");
        let lists = self.pieces.keys().filter(is_list).filter_map(|path| self.content(path).ok().flatten());
        lists.flat_map(|list| alternatives::of_java(&String::from_utf8_lossy(&list))).collect()
    }

    /// The bundle of all certificates, as `update-ca-certificates` puts it together, and OpenSSL's default names for it:
    /// those are in the package `openssl`, whose program nothing here needs.
    fn configure_certificates(&mut self) -> Result<(), Error> {
        let folder = fixed("usr/share/ca-certificates");
        let paths: Vec<_> = self
            .pieces
            .keys()
            .filter(|path| path.below(&folder).is_some() && path.as_str().ends_with(".crt"))
            .cloned()
            .collect();
        if paths.is_empty() {
            return Ok(());
        }
        let mut bundle = Vec::new();
        for path in paths {
            bundle.append(&mut self.content(&path)?.unwrap_or_default());
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
        self.add_file(fixed("etc/ssl/certs/ca-certificates.crt"), bundle);
        self.add(Entry::symlink(fixed("usr/lib/ssl/cert.pem"), "/etc/ssl/certs/ca-certificates.crt"));
        self.add(Entry::symlink(fixed("usr/lib/ssl/certs"), "/etc/ssl/certs"));
        Ok(())
    }

    /// Makes what a system has that was set up: links, mount points, users.
    fn furnish(&mut self, platform: Platform, user: Option<&User>) -> Result<(), Error> {
        for name in MERGED {
            if name != "lib64" || platform == Platform::Amd64 {
                self.add(Entry::symlink(fixed(name), format!("usr/{name}")));
            }
        }
        let folders = [("dev", 0o755), ("proc", 0o755), ("root", 0o700), ("run", 0o755), ("sys", 0o755)];
        for (folder, mode) in folders.into_iter().chain([("tmp", 0o1777), ("var/tmp", 0o1777)]) {
            self.pieces.remove(&fixed(folder));
            self.add(Entry { mode, ..Entry::directory(fixed(folder)) });
        }
        // Runtimes mount their own over these, and can only where there is a file.
        for file in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
            self.add_file(fixed(file), Vec::new());
        }
        let masters = fixed("usr/share/base-passwd");
        let mut passwd = self.content(&masters.join(&fixed("passwd.master")))?.unwrap_or_default();
        let mut group = self.content(&masters.join(&fixed("group.master")))?.unwrap_or_default();
        if let Some(user) = user {
            passwd.extend_from_slice(user.passwd().as_bytes());
            group.extend_from_slice(user.group().as_bytes());
            self.add(Entry::directory(user.home.clone()).owned_by(user.uid, user.gid));
        }
        self.add_file(fixed("etc/passwd"), passwd);
        self.add_file(fixed("etc/group"), group);
        Ok(())
    }

    /// What the loader could find in here.
    fn libraries(&self, platform: Platform) -> Result<Libraries, Error> {
        let mut libraries = Libraries::default();
        for (path, piece) in &self.pieces {
            match &piece.entry.kind {
                Kind::Symlink(target) if is_way_to_libraries(path) => {
                    libraries.add_link(path.clone(), target.clone());
                }
                Kind::File { size } if loader::is_settings(path) && *size <= loader::LARGEST_SETTINGS => {
                    let text = self.content(path)?.unwrap_or_default();
                    libraries.add_settings(path.clone(), String::from_utf8_lossy(&text).into_owned());
                }
                Kind::File { size } if loader::is_library_name(path.name()) => {
                    let Content::Packed(package, item) = piece.content else { continue };
                    let Unpacked { deb, contents } = &self.unpacked[package];
                    let file = fs::File::open(contents).map_err(Error::Write)?;
                    let begin = deb.items[item].offset;
                    let read_at = |offset, buffer: &mut [u8]| file.file().read_exact_at(buffer, begin + offset);
                    if let Some(object) = loader::read_object(*size, platform, read_at).map_err(Error::Write)? {
                        libraries.add(path.clone(), object);
                    }
                }
                _ => {}
            }
        }
        Ok(libraries)
    }

    /// Adds the loader's index, which programs ask for libraries by their names.
    fn add_cache(&mut self, bytes: Option<Vec<u8>>) {
        if let Some(bytes) = bytes {
            // A package that brings one knows nothing of the others.
            self.pieces.remove(&fixed(loader::CACHE));
            self.add_file(fixed(loader::CACHE), bytes);
        }
    }

    /// Adds the folders that no package brought, and finds files below what is no folder.
    fn found_folders(&mut self) -> Result<(), Error> {
        let mut missing = Vec::new();
        for (path, piece) in &self.pieces {
            for above in path.ancestors() {
                match self.pieces.get(&above) {
                    Some(Piece { entry: Entry { kind: Kind::Directory, .. }, .. }) => {}
                    None => missing.push(above),
                    Some(there) => {
                        let package = self.owner(if piece.owner.is_some() { piece } else { there });
                        return Err(Error::NotAFolder { package, path: path.clone(), above });
                    }
                }
            }
        }
        missing.into_iter().for_each(|folder| self.add(Entry::directory(folder)));
        Ok(())
    }

    fn write<W: Write>(mut self, writer: &mut Writer<W>) -> Result<(), Error> {
        self.found_folders()?;
        // Of the names of one file the first gets the content, the others are links to it.
        let mut written = BTreeMap::new();
        for (path, piece) in &self.pieces {
            if let Content::Packed(package, item) = piece.content {
                if let Some(first) = written.get(&(package, item)) {
                    let kind = Kind::Hardlink(ArchivePath::clone(first));
                    writer.entry(&Entry { kind, ..piece.entry.clone() }).map_err(Error::Write)?;
                    continue;
                }
                written.insert((package, item), path.clone());
            }
            match piece.entry.kind {
                Kind::File { .. } => writer.file(&piece.entry, self.open(piece)?),
                _ => writer.entry(&piece.entry),
            }
            .map_err(Error::Write)?;
        }
        Ok(())
    }
}

/// Whether a link at `path` may lead the loader to a library: to one by its name, or to a folder with some.
fn is_way_to_libraries(path: &ArchivePath) -> bool {
    let text = path.as_str();
    loader::is_library_name(path.name())
        || path.parent().is_none()
        || ["lib", "usr/lib", "usr/local/lib"].iter().any(|folder| text.starts_with(folder))
}

/// A path that is written in this program.
fn fixed(path: &str) -> ArchivePath {
    match ArchivePath::new(path) {
        Ok(path) => path,
        Err(error) => unreachable!("the path is constant: {error}"),
    }
}

impl Unpacked {
    /// What of the package goes into a layer, where it comes to lie there.
    fn pieces(&self, owner: usize) -> Result<Vec<Piece>, DebError> {
        let mut files = BTreeMap::new();
        let mut pieces = Vec::new();
        for (number, item) in self.deb.items.iter().enumerate() {
            let outside = |error: crate::io::archive::PathError| DebError::Format(error.to_string());
            let mut entry = item.entry.clone();
            // The package base-files brings the links of the merged /usr itself since Debian 13.
            if MERGED.contains(&entry.path.as_str()) && matches!(entry.kind, Kind::Symlink(_)) {
                continue;
            }
            entry.path = placed(&entry.path).map_err(outside)?;
            let content = match &entry.kind {
                Kind::File { size } => {
                    files.insert(entry.path.clone(), (number, *size));
                    Content::Packed(owner, number)
                }
                Kind::Hardlink(target) => {
                    let &(number, size) = files.get(&placed(target).map_err(outside)?).ok_or_else(|| {
                        DebError::Format(format!(
                            "`{}` is a hard link to `{target}`, which it does not have",
                            entry.path
                        ))
                    })?;
                    entry.kind = Kind::File { size };
                    Content::Packed(owner, number)
                }
                Kind::Directory | Kind::Symlink(_) => Content::None,
            };
            if trim::keeps(&entry) {
                pieces.push(Piece { entry, content, owner: Some(owner) });
            }
        }
        Ok(pieces)
    }
}

/// Reads all packages, on all cores, the largest first.
fn unpack(session: &Session, packages: &[Package], scratch: &Path) -> Result<Vec<Unpacked>, Error> {
    let subject = format!("{} Debian packages", packages.len());
    let task = session.progress.task("Unpacking", subject, Unit::Items, Some(packages.len() as u64));
    let mut order: Vec<_> = packages.iter().enumerate().collect();
    order.sort_by_key(|(_, package)| std::cmp::Reverse(package.size));
    let queue = Mutex::new(order.into_iter());
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
            let Some((number, package)) = next else { return Ok(done) };
            let blob = session.store.open_blob(&package.digest)?;
            let failed = |source| Error::Deb { package: package.name.clone(), source };
            let write = |error| failed(DebError::Write(error));
            let path = scratch.join(number.to_string());
            let file = fs::File::create_new(&path).map_err(write)?;
            let mut contents = BufWriter::with_capacity(1 << 18, file);
            let deb = deb::read(io::BufReader::with_capacity(1 << 16, blob), &mut contents).map_err(failed)?;
            contents.flush().map_err(write)?;
            done.push((number, Unpacked { deb, contents: path }));
            task.advance(1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let unpacked = std::thread::scope(|scope| joined((0..threads).map(|_| scope.spawn(work))))?;
    let by_number: BTreeMap<_, _> = unpacked.into_iter().flatten().collect();
    Ok(by_number.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Mirror, file, path, session};
    use super::super::{Archive, fetch};
    use super::*;
    use crate::io::archive::{Limits, Reader};
    use crate::io::http::Network;

    /// The members of a layer, with the text of files.
    type Members = BTreeMap<String, (Entry, String)>;

    fn layer(mirror: &Mirror, packages: &[Package], base: bool) -> Result<Members, Error> {
        layer_upon(mirror, packages, base, "")
    }

    /// Upon a base in which dpkg keeps `book`.
    fn layer_upon(mirror: &Mirror, packages: &[Package], base: bool, book: &str) -> Result<Members, Error> {
        let home = tempfile::tempdir().unwrap();
        let session = session(home.path(), Network::Online);
        fetch(&session, &mirror.source(None), packages)?;
        let mut writer = Writer::new(Vec::new());
        let user = User { name: "ekiben".to_owned(), uid: 1034, gid: 1034, home: path("home/ekiben") };
        match base {
            true => drop(base_layer(&session, packages, Platform::Amd64, Some(&user), &mut writer)?),
            false => {
                drop(packages_layer(&session, packages, Platform::Amd64, &Libraries::default(), book, &mut writer)?)
            }
        }
        let bytes = writer.finish().unwrap();
        let mut members = Members::new();
        let mut order = Vec::new();
        Reader::new(&bytes[..], Limits::default())
            .for_each(|member| {
                let mut text = String::new();
                member.content.read_to_string(&mut text).unwrap();
                order.push(member.entry.path.clone());
                members.insert(member.entry.path.to_string(), (member.entry, text));
                Ok::<_, crate::io::archive::Error>(())
            })
            .unwrap();
        assert!(order.is_sorted(), "{order:?}");
        Ok(members)
    }

    fn link(name: &str, target: &str) -> (Entry, Vec<u8>) {
        (Entry::symlink(path(name), target), Vec::new())
    }

    fn target(members: &Members, name: &str) -> Option<String> {
        match &members.get(name)?.0.kind {
            Kind::Symlink(target) => Some(target.clone()),
            Kind::Hardlink(target) => Some(format!("hard {target}")),
            _ => None,
        }
    }

    fn add(mirror: &mut Mirror, name: &str, fields: &str, postinst: &str, members: &[(Entry, Vec<u8>)]) -> Package {
        mirror.add_deb(Archive::Main, name, "1", fields, postinst, members)
    }

    #[test]
    fn a_base_is_a_whole_small_system() {
        let mut mirror = Mirror::new();
        let certificates =
            [file("usr/share/ca-certificates/b.crt", "B\n"), file("usr/share/ca-certificates/a.crt", "A")];
        let masters = [
            file("usr/share/base-passwd/passwd.master", "root:*:0:0::/root:/bin/sh\n"),
            file("usr/share/base-passwd/group.master", "root:*:0:\n"),
            link("bin", "usr/bin"),
            (Entry { mode: 0o700, ..Entry::directory(path("tmp")) }, Vec::new()),
        ];
        let programs = [
            file("bin/sh", "shell"),
            file("lib/x/libblas/libblas.so.3", "blas"),
            file("usr/share/doc/sh/changelog", "x"),
            file("usr/share/doc/sh/copyright", "free"),
            file("usr/share/libc-bin/nsswitch.conf", "hosts: files dns\n"),
            file("usr/lib/R/etc/Renviron.ucf", "R_LIBS=x\n"),
        ];
        let postinst = "update-alternatives --install /usr/lib/x/libblas.so.3 libblas.so.3-x /usr/lib/x/libblas/libblas.so.3 10\n\
                        update-alternatives --install /usr/bin/gone gone /usr/bin/gone.real 10\n";
        let packages = [
            add(&mut mirror, "base-passwd", "", "", &masters),
            add(&mut mirror, "ca-certificates", "", "", &certificates),
            add(&mut mirror, "sh", "Description: a shell", postinst, &programs),
        ];
        let members = layer(&mirror, &packages, true).unwrap();
        let text = |name: &str| members[name].1.as_str();
        assert_eq!(text("usr/bin/sh"), "shell");
        assert_eq!(text("etc/ssl/certs/ca-certificates.crt"), "A\nB\n");
        assert_eq!(text("etc/nsswitch.conf"), "hosts: files dns\n");
        assert_eq!(text("etc/R/Renviron"), "R_LIBS=x\n");
        assert_eq!(text("etc/passwd"), "root:*:0:0::/root:/bin/sh\nekiben:*:1034:1034::/home/ekiben:/bin/sh\n");
        assert_eq!(text("etc/group"), "root:*:0:\nekiben:*:1034:\n");
        assert_eq!(members["home/ekiben"].0.owner, (1034, 1034));
        assert_eq!(members["tmp"].0.mode, 0o1777);
        assert_eq!(
            text("var/lib/dpkg/status.d/sh"),
            "Package: sh\nVersion: 1\nArchitecture: amd64\nDescription: a shell\n"
        );
        for (name, to) in [
            ("bin", "usr/bin"),
            ("lib64", "usr/lib64"),
            ("usr/lib/x/libblas.so.3", "/etc/alternatives/libblas.so.3-x"),
            ("etc/alternatives/libblas.so.3-x", "/usr/lib/x/libblas/libblas.so.3"),
            ("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
        ] {
            assert_eq!(target(&members, name).as_deref(), Some(to), "{name}");
        }
        assert!(
            members.contains_key("usr/share/doc/sh/copyright") && !members.contains_key("usr/share/doc/sh/changelog")
        );
        assert!(!members.contains_key("etc/alternatives/gone"));
    }

    #[test]
    fn the_commands_of_a_java_are_in_the_path() {
        let mut mirror = Mirror::new();
        let list = "name=java-17\npriority=1711\nsection=main\n\nhl java /usr/lib/jvm/17/bin/java\n\
                    jdkhl javac /usr/lib/jvm/17/bin/javac\nhl jexec /usr/lib/jvm/17/lib/jexec\n";
        let files = [
            file("usr/lib/jvm/.java-17.jinfo", list),
            file("usr/lib/jvm/17/bin/java", "java"),
            file("usr/lib/jvm/17/lib/jexec", ""),
        ];
        let postinst = "for i in java; do update-alternatives --install /usr/bin/$i $i $basedir/bin/$i 1; done\n";
        let packages = [add(&mut mirror, "openjdk-17-jre-headless", "", postinst, &files)];
        let members = layer(&mirror, &packages, false).unwrap();
        assert_eq!(target(&members, "usr/bin/java").as_deref(), Some("/etc/alternatives/java"));
        assert_eq!(target(&members, "etc/alternatives/java").as_deref(), Some("/usr/lib/jvm/17/bin/java"));
        assert!(!members.contains_key("usr/bin/javac") && !members.contains_key("usr/bin/jexec"));
    }

    #[test]
    fn further_packages_bring_only_their_own() {
        let mut mirror = Mirror::new();
        let packages = [add(&mut mirror, "a", "", "", &[file("lib/a.so", "a")])];
        let members = layer(&mirror, &packages, false).unwrap();
        let paths: Vec<_> = members.keys().map(String::as_str).collect();
        let expected = [
            "usr",
            "usr/lib",
            "usr/lib/a.so",
            "var",
            "var/lib",
            "var/lib/dpkg",
            "var/lib/dpkg/status.d",
            "var/lib/dpkg/status.d/a",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn packages_are_noted_in_the_book_of_a_base_that_has_dpkg() {
        let mut mirror = Mirror::new();
        let packages = [
            add(&mut mirror, "a", "Multi-Arch: same\nDescription: new", "", &[file("lib/a.so", "a")]),
            add(&mut mirror, "b", "", "", &[file("usr/bin/b", "b")]),
        ];
        let book = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0\n\n\
                    Package: a\nStatus: install ok installed\nArchitecture: i386\nVersion: 0\n\n\
                    Package: other\nStatus: deinstall ok config-files\nConffiles:\n /etc/o 1\nVersion: 2\n";
        let members = layer_upon(&mirror, &packages, false, book).unwrap();
        let text = |name: &str| members[name].1.as_str();
        assert_eq!(
            text("var/lib/dpkg/status"),
            "Package: a\nStatus: install ok installed\nArchitecture: i386\nVersion: 0\n\n\
             Package: other\nStatus: deinstall ok config-files\nConffiles:\n /etc/o 1\nVersion: 2\n\n\
             Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\nDescription: new\n\n\
             Package: b\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"
        );
        assert_eq!(text("var/lib/dpkg/info/a:amd64.list"), "/.\n/usr/lib/a.so\n");
        assert_eq!(text("var/lib/dpkg/info/b.list"), "/.\n/usr/bin/b\n");
        assert!(!members.keys().any(|path| path.contains("status.d")));
    }

    #[test]
    fn the_first_name_of_a_file_has_its_content() {
        let mut mirror = Mirror::new();
        let hard = |name, to| {
            (Entry { kind: Kind::Hardlink(path(to)), ..Entry::file(path(name), 0, Mode::Plain) }, Vec::new())
        };
        let members = [file("bin/z", "same"), hard("usr/bin/a", "bin/z"), file("usr/e1", ""), file("usr/e2", "")];
        let packages = [add(&mut mirror, "a", "", "", &members)];
        let found = layer(&mirror, &packages, false).unwrap();
        assert_eq!(found["usr/bin/a"].1, "same");
        assert_eq!(target(&found, "usr/bin/z").as_deref(), Some("hard usr/bin/a"));
        assert_eq!(found["usr/e2"].0.kind, Kind::File { size: 0 });
        let lost = [add(&mut mirror, "b", "", "", &[hard("usr/b", "usr/nothing")])];
        assert!(matches!(layer(&mirror, &lost, false), Err(Error::Deb { .. })));
    }

    #[test]
    fn packages_agree_on_a_file_or_say_who_replaces_whom() {
        let mut mirror = Mirror::new();
        let a = add(&mut mirror, "a", "", "", &[file("usr/x", "one"), file("usr/y", "y")]);
        let b = add(&mut mirror, "b", "Replaces: a (<< 2)", "", &[file("usr/x", "two"), file("usr/y", "y")]);
        let c = add(&mut mirror, "c", "Replaces: a (<< 1)", "", &[file("usr/x", "three")]);
        for packages in [[a.clone(), b.clone()], [b, a.clone()]] {
            assert_eq!(layer(&mirror, &packages, false).unwrap()["usr/x"].1, "two");
        }
        let error = layer(&mirror, &[a, c], false).unwrap_err();
        assert_eq!(error.to_string(), "the packages `a` and `c` both bring `/usr/x`");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let mut mirror = Mirror::new();
        let packages = [
            add(&mut mirror, "a", "", "", &[link("usr/out", "/etc")]),
            add(&mut mirror, "b", "", "", &[file("usr/out/passwd", "evil")]),
        ];
        let error = layer(&mirror, &packages, false).unwrap_err();
        assert_eq!(error.to_string(), "the package `b` brings `/usr/out/passwd`, but `/usr/out` is no folder");
    }
}
