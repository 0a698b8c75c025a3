//! The root of a command: its trees with an upper folder on the disk over them, and what is mounted in it.
//!
//! Mount points that the trees lack lie in a folder of their own (`top`) between the trees and the upper folder, so that
//! neither they nor their parents are in what the command leaves. What is made for the command lies in memory (`t`), so
//! that no path of the host is seen in `/proc/self/mountinfo` for it. Linux `Documentation/filesystems/overlayfs.rst`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{chdir, pivot_root};

use super::host::{dress, open_all, paths};
use super::job::Run;
use super::{File, Mount};
use crate::io::archive::Attributes;
use crate::run::container::rootfs::{self, failed};
use crate::run::container::{Failure, probe};

/// Devices of the host that hold nothing.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What `/proc` and `/sys` hide: as other runtimes have it (`oci_spec::runtime::get_default_maskedpaths`, and Docker's
/// additions).
const HIDDEN: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/proc/sysrq-trigger",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/dev/block",
];

/// What of `/proc` can only be read.
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

const NONE: Option<&str> = None;

/// What is needed of the host, open.
#[derive(Debug)]
pub(super) struct Host {
    lower: Vec<OwnedFd>,
    caches: Vec<OwnedFd>,
    /// The trees of each mount, in the order of these.
    binds: Vec<Vec<OwnedFd>>,
}

impl Host {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn open(run: &Run) -> io::Result<Self> {
        let binds = run.command.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { trees, .. } => Some(open_all(&trees.lower)),
            _ => None,
        });
        let binds = binds.collect::<io::Result<_>>()?;
        Ok(Self { lower: open_all(&run.lower)?, caches: open_all(&run.caches)?, binds })
    }
}

/// What came of it.
pub(super) struct Root {
    /// Sockets on which SSH agents are to answer.
    pub(super) listeners: Vec<OwnedFd>,
    /// What the command reads.
    pub(super) input: OwnedFd,
}

/// Something that is mounted: where, and from where.
struct Place {
    target: PathBuf,
    source: PathBuf,
    is_folder: bool,
    flags: MsFlags,
}

/// Mounts the root of `run` at `rootfs` in the current folder.
pub(super) fn assemble(run: &Run, host: &Host, has_range: bool) -> Result<Root, Failure> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(probe::refused)?;
    for folder in ["root", "w", "rootfs", "top", "n", "n/a", "n/b", "t", "b"] {
        fs::create_dir(folder)?;
    }
    memory("t", "mode=755,size=256m")?;
    let mut listeners = Vec::new();
    let places = places(run, host, &mut listeners)?;

    dress(Path::new("root"), run.root)?;
    dress(Path::new("top"), run.root)?;
    let lower = paths(&host.lower);
    overlay(&lower, None, "rootfs")?;
    let wanted = wanted(&places, &run.command.mounts)?;
    umount2("rootfs", MntFlags::empty()).map_err(|error| failed("the root could not be unmounted", error))?;
    rootfs::make_all(wanted, has_range)?;
    let mut layers = lower;
    layers.push("top".into());
    overlay(&layers, Some("root"), "rootfs")?;

    let root = open_root()?;
    kernel(&root)?;
    for place in &places {
        bind(&root, place)?;
    }
    for mount in &run.command.mounts {
        if let Mount::Tmpfs { target, size } = mount {
            let place = place(&root, target, true)?;
            memory(&place, &format!("size={size},mode=1777"))?;
        }
    }
    let input = Path::new("t/input");
    fs::write(input, &run.command.input)?;
    let input =
        open(input, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|error| failed("no input", error))?;
    Ok(Root { listeners, input })
}

fn open_root() -> Result<OwnedFd, Failure> {
    open("rootfs", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| failed("the root could not be opened", error))
}

fn memory(place: impl AsRef<Path>, options: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), place.as_ref(), Some("tmpfs"), flags, Some(options))
        .map_err(|error| failed("no memory could be mounted", error))
}

/// Lays `lower`, the lowest first, over each other at `place`; with `upper`, that can be written to.
fn overlay(lower: &[PathBuf], upper: Option<&str>, place: &str) -> Result<(), Failure> {
    // The kernel takes no folder twice, and no fewer than two that are only read.
    let mut layers: Vec<String> = Vec::new();
    for layer in lower.iter().rev().map(|layer| layer.display().to_string()) {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    layers.extend(["n/a", "n/b"].into_iter().take(2usize.saturating_sub(layers.len())).map(str::to_owned));
    let mut options = format!("lowerdir={},userxattr", layers.join(":"));
    let mut flags = MsFlags::MS_NODEV;
    match upper {
        Some(upper) => options.push_str(&format!(",upperdir={upper},workdir=w")),
        None => flags |= MsFlags::MS_RDONLY,
    }
    let mounted = |options: &str| mount(Some("overlay"), place, Some("overlay"), flags, Some(options));
    let result = match upper {
        // What a command leaves is no layer before it is read, so nothing needs to wait for the disk: package managers do
        // for each file. Kernels before 5.10 do not know it.
        Some(_) => mounted(&format!("{options},volatile")).or_else(|error| match error {
            Errno::EINVAL => mounted(&options),
            error => Err(error),
        }),
        None => mounted(&options),
    };
    result.map_err(|error| match error {
        Errno::ENODEV => Failure::NoSandbox {
            why: "the kernel has no overlay file system".to_owned(),
            hint: "load it with: sudo modprobe overlay".to_owned(),
        },
        Errno::EPERM => Failure::NoSandbox {
            why: "this kernel mounts no overlay in a user namespace (Linux does since 5.11)".to_owned(),
            hint: "run ekiben on a newer kernel".to_owned(),
        },
        error => failed("the layers could not be laid over each other", error),
    })
}

/// Makes what the command is given, and says where it goes.
fn places(run: &Run, host: &Host, listeners: &mut Vec<OwnedFd>) -> Result<Vec<Place>, Failure> {
    let command = &run.command;
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mut places = Vec::new();
    let mut number = 0;
    let mut made = |file: &File| -> Result<Place, Failure> {
        number += 1;
        let source = PathBuf::from(format!("t/{number}"));
        fs::write(&source, &file.content)?;
        fs::set_permissions(&source, PermissionsExt::from_mode(file.mode))?;
        owned(&source, file.owner)?;
        Ok(Place { target: file.target.clone(), source, is_folder: false, flags: read_only })
    };
    let own = |target: &str, text: String| File {
        target: target.into(),
        content: text.into_bytes(),
        mode: 0o644,
        owner: (0, 0),
    };
    let mut hosts = format!("127.0.0.1 localhost {}\n::1 localhost ip6-localhost ip6-loopback\n", command.hostname);
    command.hosts.iter().for_each(|line| hosts.push_str(&format!("{line}\n")));
    places.push(made(&own("/etc/hosts", hosts))?);
    places.push(made(&own("/etc/hostname", format!("{}\n", command.hostname)))?);
    places.push(made(&own("/etc/resolv.conf", run.resolver.clone().unwrap_or_default()))?);
    for file in &command.files {
        places.push(made(file)?);
    }
    let (mut caches, mut binds) = (host.caches.iter(), host.binds.iter().enumerate());
    for mount in &command.mounts {
        match mount {
            Mount::Secret(file) => places.push(made(file)?),
            Mount::Tmpfs { .. } => {}
            Mount::Cache { target, mode, owner, .. } => {
                let Some(slot) = caches.next() else { continue };
                let source = PathBuf::from(format!("/proc/self/fd/{}/root", slot.as_raw_fd()));
                if !source.exists() {
                    fs::create_dir(&source)?;
                    fs::set_permissions(&source, PermissionsExt::from_mode(*mode))?;
                    owned(&source, *owner)?;
                }
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                places.push(Place { target: target.clone(), source, is_folder: true, flags });
            }
            Mount::Bind { trees, path, target, writable } => {
                let Some((number, open)) = binds.next() else { continue };
                let source = tree(number, &paths(open), trees.root, path, *writable)?;
                let flags = if *writable { MsFlags::MS_NOSUID | MsFlags::MS_NODEV } else { read_only };
                places.push(Place { target: target.clone(), is_folder: source.is_dir(), source, flags });
            }
            Mount::Ssh { target, mode, owner, .. } => {
                let source = PathBuf::from(format!("t/ssh{}", listeners.len()));
                let listener = UnixListener::bind(&source)?;
                fs::set_permissions(&source, PermissionsExt::from_mode(*mode))?;
                owned(&source, *owner)?;
                listeners.push(listener.into());
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                places.push(Place { target: target.clone(), source, is_folder: false, flags });
            }
        }
    }
    Ok(places)
}

fn owned(path: &Path, owner: (u32, u32)) -> Result<(), Failure> {
    if owner == (0, 0) {
        return Ok(());
    }
    chown(path, Some(owner.0), Some(owner.1)).map_err(|error| Failure::Io {
        message: format!("a file cannot be given to the user {}:{}: {error}", owner.0, owner.1),
    })
}

/// Other trees, and where in them something lies.
fn tree(
    number: usize,
    lower: &[PathBuf],
    root: Option<Attributes>,
    path: &Path,
    writable: bool,
) -> Result<PathBuf, Failure> {
    let place = format!("b/{number}");
    fs::create_dir(&place)?;
    overlay(lower, None, &place)?;
    if writable {
        // Over what was just laid out, as there are no two overlays with one folder for their work.
        let (upper, work) = (format!("b/{number}u"), format!("b/{number}w"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        dress(Path::new(&upper), root)?;
        umount2(place.as_str(), MntFlags::empty()).map_err(|error| failed("a mount could not be undone", error))?;
        let mut layers: Vec<String> = lower.iter().rev().map(|layer| layer.display().to_string()).collect();
        layers.push("n/a".to_owned());
        let options = format!("lowerdir={},userxattr,upperdir={upper},workdir={work}", layers.join(":"));
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        mount(Some("overlay"), place.as_str(), Some("overlay"), flags, Some(options.as_str()))
            .map_err(|error| failed("trees could not be laid over each other", error))?;
    }
    let root = open(place.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| failed("a mount could not be opened", error))?;
    let inner = path.strip_prefix("/").unwrap_or(path);
    let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
    let found = rootfs::inside(&root, inner).map_err(|error| Failure::Mount {
        target: path.to_owned(),
        why: format!("it is not there: {}", error.desc()),
    })?;
    // Open as long as this process is.
    let source = format!("/proc/self/fd/{}", found.as_raw_fd()).into();
    std::mem::forget(found);
    Ok(source)
}

/// What must be added to the trees, so that there is something to mount over.
fn wanted(places: &[Place], mounts: &[Mount]) -> Result<BTreeSet<(PathBuf, rootfs::Kind)>, Failure> {
    let root = open_root()?;
    let mut wanted = BTreeSet::new();
    let fixed = ["/proc", "/sys", "/dev"].map(|path| (Path::new(path), true));
    let memory = mounts.iter().filter_map(|mount| match mount {
        Mount::Tmpfs { target, .. } => Some((target.as_path(), true)),
        _ => None,
    });
    let all: Vec<_> = fixed
        .into_iter()
        .chain(places.iter().map(|place| (place.target.as_path(), place.is_folder)))
        .chain(memory)
        .collect();
    for (target, is_folder) in &all {
        // What lies in something that is mounted is made there.
        let is_within = all.iter().any(|(other, _)| target.starts_with(other) && target != other);
        if !is_within && *target != Path::new("/") {
            rootfs::add_missing(&root, target, *is_folder, None, &mut wanted)?;
        }
    }
    Ok(wanted)
}

/// Where `target` is in the root, to be mounted over; in what was mounted before, it is made.
fn place(root: &OwnedFd, target: &Path, is_folder: bool) -> Result<PathBuf, Failure> {
    let refused = |why: &str| Failure::Mount { target: target.to_owned(), why: why.to_owned() };
    let names: Vec<_> = target
        .components()
        .skip(1)
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(refused("the path contains `..`")),
        })
        .collect::<Result<_, _>>()?;
    let how = || OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let mut path = PathBuf::from(".");
    let mut found = openat2(root, &path, how()).map_err(|error| refused(error.desc()))?;
    for (number, name) in names.iter().enumerate() {
        path.push(name);
        found = match openat2(root, &path, how()) {
            Err(Errno::ENOENT) => {
                let made = match is_folder || number + 1 < names.len() {
                    true => mkdirat(&found, *name, Mode::from_bits_truncate(0o755)),
                    false => {
                        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                        openat(&found, *name, flags, Mode::from_bits_truncate(0o644)).map(drop)
                    }
                };
                made.map_err(|error| refused(error.desc()))?;
                openat2(root, &path, how())
            }
            found => found,
        }
        .map_err(|error| refused(error.desc()))?;
    }
    let place = format!("/proc/self/fd/{}", found.as_raw_fd()).into();
    // Open as long as this process is.
    std::mem::forget(found);
    Ok(place)
}

fn bind(root: &OwnedFd, what: &Place) -> Result<(), Failure> {
    let refused = |error: Errno| Failure::Mount { target: what.target.clone(), why: error.desc().to_owned() };
    let target = place(root, &what.target, what.is_folder)?;
    mount(Some(&what.source), &target, NONE, MsFlags::MS_BIND, NONE).map_err(refused)?;
    // What was just mounted is found anew: the place is what lies below it.
    let target = place(root, &what.target, what.is_folder)?;
    restrict(&target, what.flags).map_err(refused)
}

/// As the kernel has it (`linux/statfs.h`): musl leaves it out.
const ST_RELATIME: nix::libc::c_ulong = 0x1000;

fn restrict(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
    match mount(NONE, target, NONE, all, NONE) {
        // Flags of the host's mount that must stay.
        Err(Errno::EPERM) => {
            let known = nix::sys::statvfs::statvfs(target)?.flags().bits();
            let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
            let kept = MsFlags::from_bits_truncate(known) & (kept | MsFlags::MS_RDONLY | MsFlags::MS_NODIRATIME);
            let relatime = if known & ST_RELATIME != 0 { MsFlags::MS_RELATIME } else { MsFlags::empty() };
            mount(NONE, target, NONE, all | kept | relatime, NONE)
        }
        result => result,
    }
}

/// What the kernel shows: processes, devices, itself.
fn kernel(root: &OwnedFd) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let refused = |what: &'static str| move |error: Errno| probe::explained(format!("{what}: {}", error.desc()));
    let proc = place(root, Path::new("/proc"), true)?;
    mount(Some("proc"), &proc, Some("proc"), flags, NONE).map_err(refused("the processes cannot be shown"))?;
    let sys = place(root, Path::new("/sys"), true)?;
    mount(Some("sysfs"), &sys, Some("sysfs"), flags | MsFlags::MS_RDONLY, NONE)
        .map_err(refused("the devices cannot be shown"))?;
    let dev = place(root, Path::new("/dev"), true)?;
    mount(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=755,size=64k"))
        .map_err(|error| failed("no memory could be mounted", error))?;
    for name in DEVICES {
        let target = PathBuf::from("/dev").join(name);
        let place = place(root, &target, false)?;
        mount(Some(&Path::new("/dev").join(name)), &place, NONE, MsFlags::MS_BIND, NONE)
            .map_err(|error| failed("a device could not be mounted", error))?;
    }
    let shm = place(root, Path::new("/dev/shm"), true)?;
    mount(Some("tmpfs"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=64m"))
        .map_err(|error| failed("no memory could be mounted", error))?;
    let pts = place(root, Path::new("/dev/pts"), true)?;
    let mut mounted = Err(Errno::EINVAL);
    // The group is not known where there is one id.
    for options in ["newinstance,ptmxmode=0666,mode=620,gid=5", "newinstance,ptmxmode=0666,mode=620"] {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mounted = mounted.or_else(|_| mount(Some("devpts"), &pts, Some("devpts"), flags, Some(options)));
    }
    mounted.map_err(|error| failed("no terminals could be mounted", error))?;
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, Path::new("rootfs/dev").join(name))?;
    }
    for path in HIDDEN {
        let real = Path::new("rootfs").join(path.trim_start_matches('/'));
        let Ok(metadata) = std::fs::metadata(&real) else { continue };
        let hidden = match metadata.is_dir() {
            true => mount(Some("tmpfs"), &real, Some("tmpfs"), flags | MsFlags::MS_RDONLY, Some("size=0k")),
            false => mount(Some("/dev/null"), &real, NONE, MsFlags::MS_BIND, NONE),
        };
        hidden.map_err(|error| failed("a part of the kernel could not be hidden", error))?;
    }
    for path in READ_ONLY {
        let real = Path::new("rootfs").join(path.trim_start_matches('/'));
        if real.exists() {
            mount(Some(&real), &real, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
                .and_then(|()| restrict(&real, flags | MsFlags::MS_RDONLY))
                .map_err(|error| failed("a part of the kernel could not be protected", error))?;
        }
    }
    Ok(())
}

/// Makes the assembled root that of this process, in a namespace that has nothing else.
pub(super) fn become_root() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| chdir("rootfs"))
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| umount2(".", MntFlags::MNT_DETACH))
        .and_then(|()| chdir("/"))
        .map_err(|error| failed("the root could not be entered", error))
}
