//! The container's root: an overlay of its layers, read-only unless memory is laid over them, with mount points for what
//! is put on top.
//!
//! Invariant: mounts are made in a mount namespace of the supervisor's own, so that they go when it goes, however it
//! goes; the layers are never written to. Mount points that the layers lack lie in a small folder that is laid over
//! them. What the container reads of its mounts (`/proc/self/mountinfo`) names no path of the host: layers have short
//! names that are relative to this folder, and so have the folders of mounted files, see [`hide`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::Failure;
use super::spec::{Mount, Spec};

/// Mounts the container's root at `rootfs` in the current folder, which is the container's own. Returns what is left to be
/// mounted in it, with the sources that it is to be mounted from.
pub(super) fn assemble(spec: &Spec, in_user_namespace: bool) -> Result<Spec, Failure> {
    // Short names, because all options of a mount must fit in one page, and free of the colons and commas that mean
    // something there.
    for folder in ["l", "top", "rootfs", "m", "s", "s/none"] {
        fs::create_dir(folder)?;
    }
    dress(Path::new("top"), spec, in_user_namespace)?;
    let mut layers = "top".to_owned();
    for (number, layer) in spec.lower.iter().enumerate().rev() {
        // The kernel takes no folder twice, and of a layer that comes again only the upper one shows.
        if spec.lower.iter().skip(number + 1).any(|above| above == layer) {
            continue;
        }
        symlink(layer, format!("l/{number}"))?;
        layers.push_str(&format!(":l/{number}"));
    }
    overlay(&layers, None, spec, in_user_namespace)?;
    let root = open("rootfs", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| failed("the root could not be opened", error))?;
    let mut spec = spec.clone();
    if spec.writable.is_some() {
        let tmp = Path::new("/tmp");
        let is_there = inside(&root, Path::new("tmp")).is_ok_and(|tmp| is_folder(&tmp));
        spec.tmpfs.retain(|tmpfs| tmpfs.target != tmp || !is_there);
    }
    let wanted = missing(&spec, &root)?;
    drop(root);
    hide(&mut spec.mounts, in_user_namespace)?;
    if wanted.is_empty() && spec.writable.is_none() {
        return Ok(spec);
    }
    umount2("rootfs", MntFlags::empty()).map_err(|error| failed("the root could not be unmounted", error))?;
    make_all(wanted, !in_user_namespace)?;
    overlay(&layers, spec.writable, &spec, in_user_namespace)?;
    Ok(spec)
}

/// Makes what the layers lack in `top`, parents first.
pub(crate) fn make_all(wanted: BTreeSet<(PathBuf, Kind)>, owners: bool) -> Result<(), Failure> {
    // Last, so that nothing is made through them.
    let (links, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, kind)| matches!(kind, Kind::Link { .. }));
    for (path, kind) in others.into_iter().chain(links) {
        let path = Path::new("top").join(path);
        match kind {
            Kind::Link { target } => symlink(target, &path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::Mount {
                    target: path.strip_prefix("top").map_or_else(|_| path.clone(), |place| Path::new("/").join(place)),
                    why: "a link is to be where something else is to be, too".to_owned(),
                },
                _ => error.into(),
            })?,
            Kind::Folder { mode, owner } => {
                fs::create_dir_all(&path)?;
                // Where there is one user, all belongs to that.
                if owners {
                    chown(&path, Some(owner.0), Some(owner.1))?;
                }
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            Kind::File => drop(fs::File::create(&path)?),
        }
    }
    Ok(())
}

/// Gives files and folders that are mounted to be read other sources, which name no path of the host.
///
/// The kernel shows of a mounted file where it lies in its file system. So the folder of each file becomes the only layer
/// of an overlay of its own (two are the least that there must be; the other is empty), from which the file is mounted:
/// the file system is then that overlay, the path in it the file's name. No byte is copied; reading and mapping go to the
/// file itself. Where the kernel lays nothing over a folder's file system (one that is an overlay of overlays itself, a
/// few in user space), the file is mounted from where it is, and its path can be seen.
fn hide(mounts: &mut [Mount], in_user_namespace: bool) -> Result<(), Failure> {
    let mut known: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    let here = std::env::current_dir()?;
    for mount in mounts.iter_mut().filter(|mount| !mount.writable) {
        let (folder, file) = match (mount.source.is_dir(), mount.source.parent(), mount.source.file_name()) {
            (false, Some(folder), Some(file)) => (folder.to_owned(), Path::new(file).to_owned()),
            _ => (mount.source.clone(), PathBuf::new()),
        };
        let number = known.len();
        let shown = match known.get(&folder) {
            Some(shown) => shown.clone(),
            None => {
                let (layer, place) = (format!("s/{number}"), format!("m/{number}"));
                symlink(&folder, &layer)?;
                fs::create_dir(&place)?;
                let options = format!("lowerdir={layer}:s/none{}", attributes(in_user_namespace));
                let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_RDONLY;
                let mounted =
                    nix::mount::mount(Some("overlay"), place.as_str(), Some("overlay"), flags, Some(options.as_str()));
                let shown = mounted.is_ok().then(|| here.join(&place));
                known.insert(folder, shown.clone());
                shown
            }
        };
        if let Some(shown) = shown {
            mount.source = if file.as_os_str().is_empty() { shown } else { shown.join(file) };
        }
    }
    Ok(())
}

/// The extended attributes `trusted.*`, in which overlays usually note deleted folders, cannot be read in a user namespace.
fn attributes(in_user_namespace: bool) -> &'static str {
    if in_user_namespace { ",userxattr" } else { "" }
}

fn is_folder(place: &OwnedFd) -> bool {
    fs::metadata(format!("/proc/self/fd/{}", place.as_raw_fd())).is_ok_and(|metadata| metadata.is_dir())
}

/// Gives the uppermost folder, which is the container's root, the mode and owner that the layers have for it.
fn dress(top: &Path, spec: &Spec, in_user_namespace: bool) -> io::Result<()> {
    if let Some(root) = spec.root.filter(|_| !in_user_namespace) {
        chown(top, Some(root.owner.0), Some(root.owner.1))?;
    }
    fs::set_permissions(top, Permissions::from_mode(spec.root.map_or(0o755, |root| root.mode)))
}

/// Lays the layers over each other; on top of them, `writable` bytes of memory to write to.
fn overlay(layers: &str, writable: Option<u64>, spec: &Spec, in_user_namespace: bool) -> Result<(), Failure> {
    let mut options = format!("lowerdir={layers}{}", attributes(in_user_namespace));
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    if let Some(bytes) = writable {
        fs::create_dir("memory")?;
        let size = format!("size={bytes},mode=755");
        mount(Some("tmpfs"), "memory", Some("tmpfs"), flags, Some(size.as_str()))
            .map_err(|error| failed("no memory could be laid over the layers", error))?;
        fs::create_dir("memory/upper")?;
        fs::create_dir("memory/work")?;
        // The uppermost folder is the container's root.
        dress(Path::new("memory/upper"), spec, in_user_namespace)?;
        options.push_str(",upperdir=memory/upper,workdir=memory/work");
    } else {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(Some("overlay"), "rootfs", Some("overlay"), flags, Some(options.as_str())).map_err(|error| match error {
        Errno::ENODEV => Failure::NoSandbox {
            why: "the kernel has no overlay file system".to_owned(),
            hint: "load it with: sudo modprobe overlay".to_owned(),
        },
        Errno::EPERM if in_user_namespace => Failure::NoSandbox {
            why: "this kernel does not let an ordinary user mount an overlay (Linux does since 5.11)".to_owned(),
            hint: "run ekiben as root, or on a newer kernel".to_owned(),
        },
        error => failed("the layers could not be laid over each other", error),
    })
}

/// A mount point that the layers lack, or a folder on the way to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// With these permission bits, of this user and group.
    Folder {
        mode: u32,
        owner: (u32, u32),
    },
    File,
    Link {
        target: PathBuf,
    },
}

/// What must be added to the layers, parents first.
fn missing(spec: &Spec, root: &OwnedFd) -> Result<BTreeSet<(PathBuf, Kind)>, Failure> {
    let mut wanted = BTreeSet::new();
    let fixed = ["/proc", "/sys", "/dev"].map(|path| (PathBuf::from(path), true));
    let tmpfs = spec.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), true));
    let binds = spec.mounts.iter().chain(&spec.volumes).map(|mount| (mount.target.clone(), mount.source.is_dir()));
    for (target, is_folder) in fixed.into_iter().chain(tmpfs).chain(binds) {
        // What lies in a file system of memory is made there, when it is mounted.
        let in_memory = |other: &Path| target.starts_with(other) && target != other;
        if in_memory(Path::new("/dev")) || spec.tmpfs.iter().any(|tmpfs| in_memory(&tmpfs.target)) {
            continue;
        }
        // runc gives what it mounts there the permissions of the folder below it.
        let mode = spec.tmpfs.iter().any(|tmpfs| tmpfs.target == target).then_some(0o1777);
        add_missing(root, &target, is_folder, mode, &mut wanted)?;
    }
    for link in &spec.links {
        add_link(root, &link.path, &link.target, &mut wanted)?;
    }
    Ok(wanted)
}

/// Adds what `target` needs to be there: a folder, which has the permissions `mode` where some are given, or a file. Returns
/// where that is, from the root and through no links.
pub(crate) fn add_missing(
    root: &OwnedFd,
    target: &Path,
    is_folder: bool,
    mode: Option<u32>,
    wanted: &mut BTreeSet<(PathBuf, Kind)>,
) -> Result<PathBuf, Failure> {
    let refused = |why: &str| Failure::Mount { target: target.to_owned(), why: why.to_owned() };
    let names: Vec<_> = target
        .components()
        .skip(1)
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(refused("the path contains `..`")),
        })
        .collect::<Result<_, _>>()?;
    if !target.is_absolute() || names.is_empty() {
        return Err(refused("the path is not an absolute one below the root"));
    }
    // The longest part of the way that is there, with symbolic links followed as the container would.
    let mut there = names.len();
    let found = loop {
        let path: PathBuf = names.iter().take(there).collect();
        let path = if there == 0 { Path::new(".") } else { &path };
        match inside(root, path) {
            Ok(found) => break found,
            Err(Errno::ENOENT) if there > 0 => there -= 1,
            Err(error) => return Err(refused(error.desc())),
        }
    };
    let metadata = fs::metadata(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    if there == names.len() {
        if metadata.is_dir() != is_folder {
            return Err(refused("one is a file and the other a folder"));
        }
        if mode.is_none_or(|mode| metadata.mode() & 0o7777 == mode) {
            return place_of(&found);
        }
    }
    if !metadata.is_dir() {
        return Err(refused("a part of the path is a file in the layers"));
    }
    let mut path = place_of(&found)?;
    keep_folders(&path, wanted)?;
    let last = names.len() - 1;
    for (number, name) in names.iter().enumerate().skip(there) {
        path.push(name);
        let folder = Kind::Folder { mode: 0o755, owner: (0, 0) };
        wanted.insert((path.clone(), if number == last && !is_folder { Kind::File } else { folder }));
    }
    if let Some(mode) = mode {
        // Of two for one folder, the later has the last word.
        wanted.insert((path.clone(), Kind::Folder { mode, owner: (0, 0) }));
    }
    Ok(path)
}

/// Adds a symbolic link, which hides a file or a link that the layers have there.
fn add_link(root: &OwnedFd, link: &Path, target: &Path, wanted: &mut BTreeSet<(PathBuf, Kind)>) -> Result<(), Failure> {
    let refused = |why: &str| Failure::Mount { target: link.to_owned(), why: why.to_owned() };
    let (Some(folder), Some(name)) = (link.parent(), link.file_name()) else {
        return Err(refused("the path is not one below the root"));
    };
    let place = match folder == Path::new("/") {
        true => PathBuf::new(),
        false => add_missing(root, folder, true, None, wanted)?,
    };
    if std::fs::symlink_metadata(Path::new("rootfs").join(&place).join(name)).is_ok_and(|there| there.is_dir()) {
        return Err(refused("a folder of the layers is there"));
    }
    if Path::new("rootfs").join(&place).exists() {
        keep_folders(&place, wanted)?;
    }
    wanted.insert((place.join(name), Kind::Link { target: target.to_owned() }));
    Ok(())
}

/// Where in the root a file or folder is that was found there.
fn place_of(found: &OwnedFd) -> Result<PathBuf, Failure> {
    let absolute = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let base = std::env::current_dir()?.join("rootfs");
    Ok(absolute.strip_prefix(&base).map_err(io::Error::other)?.to_owned())
}

/// Folders that are laid over others give them their permissions.
fn keep_folders(path: &Path, wanted: &mut BTreeSet<(PathBuf, Kind)>) -> Result<(), Failure> {
    for above in path.ancestors().filter(|above| !above.as_os_str().is_empty()) {
        let metadata = fs::metadata(Path::new("rootfs").join(above))?;
        let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
        wanted.insert((above.to_owned(), Kind::Folder { mode, owner }));
    }
    Ok(())
}

pub(crate) fn inside(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root, path, how)
}

/// Whether a `/sys` can be mounted: not in a network namespace that belongs to somebody else, and not in a user
/// namespace within a container that shows only parts of it.
pub(super) fn can_mount_sys() -> bool {
    // As libcontainer does it, which makes the mount read-only in a second step: that is too late where the one of the
    // container around this process is read-only.
    let mounted = mount(Some("sysfs"), "top", Some("sysfs"), MsFlags::empty(), None::<&str>).is_ok();
    mounted && umount2("top", MntFlags::MNT_DETACH).is_ok()
}

pub(crate) fn failed(what: &str, error: Errno) -> Failure {
    Failure::Io { message: format!("{what}: {}", error.desc()) }
}
