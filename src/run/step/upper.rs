//! What a command left in the upper folder of its overlay: put in order, and told as entries of a layer.
//!
//! Linux `Documentation/filesystems/overlayfs.rst`: what is deleted is a character device 0/0, and a folder that shows
//! nothing of those below has the attribute `user.overlay.opaque`. Only the upper folder is gone through.
//!
//! What changes from one time to the next, and what no later command counts on, is taken out ([`is_volatile`]), or made
//! to say nothing of the time ([`settle`]). It is taken out of the upper folder itself, so that the next command sees
//! what it would see over the unpacked layer.
//!
//! | path | what becomes of it |
//! |---|---|
//! | files below `/var/log` | left out: logs, `btmp`, `wtmp`, `lastlog` |
//! | `/var/cache/ldconfig/aux-cache` | left out: it holds inodes, and `ldconfig` makes it again |
//! | `/var/cache/apt/archives/*.deb`, `/var/cache/apt/*.bin` | left out: fetched, or made, again |
//! | `.cache/pip` and `.wget-hsts` in a home | left out: fetched, or noted, again |
//! | `/etc/machine-id`, `/var/lib/dbus/machine-id` | emptied: the first start makes a number |
//! | `/etc/shadow` and `/etc/shadow-` | the days of changes in new or changed lines become that of the one time |
//! | `.pyc` with the time of its source | has the time that the source has in the layer, in the order of [`pyc`] |
//!
//! What stays, though it changes: `/tmp`, `/var/tmp` and apt's lists, which later commands of a Dockerfile may need.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::job::{Packed, Settled, say};
use crate::base::python::put_in_order;
use crate::io::archive::{self, ArchivePath, Entry, Kind, Stack, WHITEOUT, is_opaque};

/// Homes in which programs keep caches.
fn in_home(path: &str) -> Option<&str> {
    path.strip_prefix("root/").or_else(|| path.strip_prefix("home/")?.split_once('/').map(|(_, rest)| rest))
}

/// Whether a file, seen from the root, is taken out.
fn is_volatile(path: &str) -> bool {
    let cached = |rest: &str| {
        !rest.contains('/') && rest.ends_with(".bin")
            || rest.strip_prefix("archives/").is_some_and(|rest| rest.ends_with(".deb"))
    };
    path.starts_with("var/log/")
        || path == "var/cache/ldconfig/aux-cache"
        || path.strip_prefix("var/cache/apt/").is_some_and(cached)
        || in_home(path).is_some_and(|rest| rest == ".wget-hsts" || rest.starts_with(".cache/pip/"))
}

/// What lies in the upper folder, seen from its root.
struct Found {
    path: PathBuf,
    metadata: std::fs::Metadata,
}

/// All that lies in `root`, in the order of their paths.
fn walk(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let (path, metadata) = (folder.join(entry.file_name()), fs::symlink_metadata(entry.path())?);
            if metadata.is_dir() {
                todo.push(path.clone());
            }
            found.push(Found { path, metadata });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Puts the upper folder `root` over the trees `lower` in order: all files get the time `epoch`, and what no layer holds is
/// taken out.
pub(super) fn settle(root: &Path, lower: &[PathBuf], epoch: u64) -> io::Result<Settled> {
    let below = Stack::new(lower);
    let mut changed = false;
    let time = Timespec { tv_sec: epoch.cast_signed(), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut folders = Vec::new();
    let mut left_out = Vec::new();
    for Found { path, metadata } in walk(root)? {
        let real = root.join(&path);
        let kind = metadata.file_type();
        if let Some(why) = unspeakable(&real, &path, &metadata) {
            if left_out.iter().any(|(gone, _): &(PathBuf, String)| path.starts_with(gone)) {
                continue;
            }
            archive::remove(&real)?;
            // What it was in the place of does not come back.
            if below.entry(&path).is_some() {
                mknod(&real, SFlag::S_IFCHR, Mode::empty(), 0)?;
                changed = true;
            }
            left_out.push((path, why));
            continue;
        }
        if kind.is_dir() {
            changed |= is_opaque(&real) || !is_same_folder(&real, &metadata, below.entry(&path).as_deref());
            folders.push(real);
            continue;
        }
        if is_whiteout(&metadata) {
            match below.entry(&path) {
                Some(_) => changed = true,
                // A mount point, or something that came and went.
                None => fs::remove_file(&real)?,
            }
            continue;
        }
        if kind.is_file() {
            let text = path.to_str().unwrap_or_default();
            if is_volatile(text) {
                fs::remove_file(&real)?;
                continue;
            }
            match text {
                "etc/machine-id" | "var/lib/dbus/machine-id" if metadata.len() > 0 => rewrite(&real, &[])?,
                "etc/shadow" | "etc/shadow-" => {
                    let before = below.entry(&path).and_then(|lower| std::fs::read(lower).ok()).unwrap_or_default();
                    let now = fs::read(&real)?;
                    let dated = dated(&before, &now, epoch);
                    if dated != now {
                        rewrite(&real, &dated)?;
                    }
                }
                _ if path.extension() == Some(OsStr::new("pyc")) => compiled(root, &path, &below, epoch)?,
                _ => {}
            }
        }
        changed = true;
        rustix::fs::utimensat(CWD, &real, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    for folder in folders.iter().chain([&root.to_owned()]) {
        rustix::fs::utimensat(CWD, folder, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let left_out = left_out.into_iter().map(|(_, why)| why).collect();
    Ok(Settled { changes: changed, left_out })
}

/// Why no layer holds something, where that is so.
fn unspeakable(real: &Path, path: &Path, metadata: &std::fs::Metadata) -> Option<String> {
    let kind = metadata.file_type();
    let shown = path.display();
    if let Err(error) = ArchivePath::from_path(path) {
        return Some(error.to_string());
    }
    let what = if kind.is_symlink() {
        let target = fs::read_link(real).ok()?;
        return target.to_str().is_none().then(|| format!("`{shown}` is a link to a name that is no UTF-8"));
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else if (kind.is_char_device() || kind.is_block_device()) && !is_whiteout(metadata) {
        "device node"
    } else {
        return None;
    };
    Some(format!("`{shown}` is a {what}"))
}

fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a folder of the upper folder, but for what lies in it, is what the layers have there.
fn is_same_folder(real: &Path, metadata: &std::fs::Metadata, below: Option<&Path>) -> bool {
    let Some(lower) = below.and_then(|below| fs::symlink_metadata(below).ok().filter(std::fs::Metadata::is_dir)) else {
        return false;
    };
    let same = |of: fn(&std::fs::Metadata) -> u32| of(&lower) == of(metadata);
    let attributes = |path: &Path| attributes(path).unwrap_or_default();
    let is_same = same(|one| one.mode()) && same(|one| one.uid()) && same(|one| one.gid());
    is_same && below.is_some_and(|below| attributes(below) == attributes(real))
}

/// Writes other bytes into a file, which stays the same one.
fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Its owner may not have the right to.
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(bytes)
}

/// The lines of shadow(5) in `now` with the day of `epoch` as that of the last change, where `before` has not the same line.
fn dated(before: &[u8], now: &[u8], epoch: u64) -> Vec<u8> {
    let known: Vec<&[u8]> = before.split(|&byte| byte == b'\n').collect();
    let day = (epoch / 86_400).to_string();
    let lines = now.split(|&byte| byte == b'\n').map(|line| {
        let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        // Zero means that the password must be changed; nothing, that there is no day.
        let has_day = fields.get(2).is_some_and(|day| !day.is_empty() && *day != b"0");
        if has_day && !known.contains(&line) {
            fields[2] = day.as_bytes();
        }
        fields.join(&b':')
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Makes bytecode that is checked by the time of its source have the time that the source has in the image, and the bytes
/// that any other run would have come to. PEP 552: magic number, flags, time and size of the source, the object.
fn compiled(root: &Path, path: &Path, below: &Stack, epoch: u64) -> io::Result<()> {
    const TIMED: [u8; 4] = [0; 4];
    const UNCHECKED: [u8; 4] = [1, 0, 0, 0];
    let real = root.join(path);
    let before = fs::read(&real)?;
    if before.get(4..8) != Some(&TIMED) || before.len() < 16 {
        return Ok(());
    }
    let mut after = before.clone();
    let header: Vec<u8> = after[..16].to_vec();
    // Those are the ones of which the order is known to do no harm.
    after[4..8].copy_from_slice(&UNCHECKED);
    put_in_order(&mut after);
    after[..16].copy_from_slice(&header);
    let source = source_of(path);
    let is_here = source.as_ref().is_some_and(|source| root.join(source).is_file());
    let below = || std::fs::metadata(below.entry(source.as_deref()?)?).ok().map(|found| found.mtime().cast_unsigned());
    if let Some(time) = if is_here { Some(epoch) } else { below() } {
        after[8..12].copy_from_slice(&(time as u32).to_le_bytes());
    }
    if after != before {
        rewrite(&real, &after)?;
    }
    Ok(())
}

/// Where the source of `__pycache__/NAME.TAG.pyc` (PEP 3147) or `NAME.pyc` is.
fn source_of(path: &Path) -> Option<PathBuf> {
    let (folder, name) = (path.parent()?, path.file_stem()?.to_str()?);
    if folder.file_name() != Some(OsStr::new("__pycache__")) {
        return Some(path.with_extension("py"));
    }
    let name = name.split_once(".cpython-").or_else(|| name.split_once(".pypy")).map(|(name, _)| name)?;
    Some(folder.parent()?.join(format!("{name}.py")))
}

/// The extended attributes that belong into a layer.
fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    // Most have none, and some file systems have none at all.
    let mut names = match rustix::fs::llistxattr(path, &mut [0u8; 0][..]) {
        Ok(length) if length > 0 => vec![0; 64 << 10],
        _ => return Ok(Vec::new()),
    };
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        let belongs = name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.");
        if !belongs {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_owned(), if name == "security.capability" { everywhere(value) } else { value }));
    }
    found.sort();
    Ok(found)
}

/// Capabilities of a program as they hold in any namespace: `struct vfs_ns_cap_data` has the root of one as its last
/// number, which the kernel shows where it is another's, and writes itself (capabilities(7), "File capability
/// versioning").
fn everywhere(mut value: Vec<u8>) -> Vec<u8> {
    const REVISION_3: u8 = 3;
    const REVISION_2: u8 = 2;
    if value.len() == 24 && value[3] == REVISION_3 {
        value.truncate(20);
        value[3] = REVISION_2;
    }
    value
}

/// Tells the entries of the upper folder `root`, which was put in order, and the bytes of files behind each.
pub(super) fn tell(root: &Path, lower: &[PathBuf], line: &mut impl io::Write) -> io::Result<()> {
    let below = Stack::new(lower);
    let mut first_names: BTreeMap<(u64, u64), ArchivePath> = BTreeMap::new();
    let named = |path: &Path| ArchivePath::from_path(path).map_err(io::Error::other);
    let mark =
        |path: &Path| -> io::Result<Packed> { Ok(Packed::Entry(Entry::file(named(path)?, 0, archive::Mode::Plain))) };
    for Found { path, metadata } in walk(root)? {
        let real = root.join(&path);
        let kind = metadata.file_type();
        if is_whiteout(&metadata) {
            let file = [WHITEOUT.as_bytes(), path.file_name().unwrap_or_default().as_bytes()].concat();
            say(&mut *line, &mark(&path.with_file_name(OsStr::from_bytes(&file)))?)?;
            continue;
        }
        let name = named(&path)?;
        let entry = |kind| -> io::Result<Entry> {
            let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
            let attributes = if matches!(kind, Kind::Hardlink(_)) { Vec::new() } else { attributes(&real)? };
            Ok(Entry { path: name.clone(), mode, owner, kind, attributes })
        };
        if kind.is_dir() {
            say(&mut *line, &Packed::Entry(entry(Kind::Directory)?))?;
            // Where there is nothing below, it hides nothing.
            if is_opaque(&real) && below.entry(&path).is_some() {
                say(&mut *line, &mark(&path.join(format!("{WHITEOUT}{WHITEOUT}.opq")))?)?;
            }
            continue;
        }
        let kind = if kind.is_symlink() {
            let target = fs::read_link(&real)?.into_os_string().into_string();
            Kind::Symlink(
                target.map_err(|_| io::Error::other(format!("`{name}` is a link to a name that is no UTF-8")))?,
            )
        } else if kind.is_file() {
            match first_names.get(&(metadata.dev(), metadata.ino())) {
                Some(first) => Kind::Hardlink(first.clone()),
                None => {
                    if metadata.nlink() > 1 {
                        first_names.insert((metadata.dev(), metadata.ino()), name.clone());
                    }
                    Kind::File { size: metadata.len() }
                }
            }
        } else {
            return Err(io::Error::other(format!("`{name}` is nothing that a layer holds")));
        };
        let entry = entry(kind)?;
        say(&mut *line, &Packed::Entry(entry.clone()))?;
        if let Kind::File { size } = entry.kind {
            let copied = io::copy(&mut fs::File::open(&real)?.take(size), line)?;
            if copied != size {
                return Err(io::Error::other(format!("`{name}` has become shorter")));
            }
        }
    }
    say(&mut *line, &Packed::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_volatile_is_that_alone() {
        for path in [
            "var/log/apt/history.log",
            "var/log/wtmp",
            "var/cache/ldconfig/aux-cache",
            "var/cache/apt/archives/hello_1_amd64.deb",
            "var/cache/apt/pkgcache.bin",
            "root/.cache/pip/http-v2/a",
            "home/me/.wget-hsts",
        ] {
            assert!(is_volatile(path), "{path}");
        }
        for path in [
            "var/lib/apt/lists/a",
            "tmp/a",
            "var/tmp/a",
            "var/logs",
            "var/cache/apt/archives/lock",
            "app/var/log/a",
            "home/.wget-hsts",
            "root/.cache/other",
            "srv/a.deb",
        ] {
            assert!(!is_volatile(path), "{path}");
        }
    }

    #[test]
    fn new_lines_of_shadow_have_the_one_day() {
        let before = b"root:*:19000:0:99999:7:::\nold:*:19001::::::\n";
        let now =
            b"root:*:19000:0:99999:7:::\nold:!:20000::::::\nnew:!:20000:0:99999:7:::\nmust:!:0::::::\nno:!:::::::\n";
        let dated = String::from_utf8(dated(before, now, 86_400 * 3652 + 5)).unwrap();
        let expected =
            "root:*:19000:0:99999:7:::\nold:!:3652::::::\nnew:!:3652:0:99999:7:::\nmust:!:0::::::\nno:!:::::::\n";
        assert_eq!(dated, expected);
    }

    #[test]
    fn sources_of_bytecode_are_found() {
        let of = |path: &str| source_of(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(of("a/__pycache__/m.cpython-311.pyc").as_deref(), Some("a/m.py"));
        assert_eq!(of("a/__pycache__/m.x.cpython-311.opt-1.pyc").as_deref(), Some("a/m.x.py"));
        assert_eq!(of("a/m.pyc").as_deref(), Some("a/m.py"));
    }

    #[test]
    fn capabilities_hold_everywhere() {
        let mut three = vec![1, 0, 0, 3];
        three.extend([7; 16]);
        let mut two = three.clone();
        two[3] = 2;
        three.extend(100_000u32.to_le_bytes());
        assert_eq!(everywhere(three), two);
        assert_eq!(everywhere(two.clone()), two);
    }
}
