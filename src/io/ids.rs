//! A user namespace with users of its own: which ids of the host stand behind them, and processes that work within it.
//!
//! user_namespaces(7), subuid(5), newuidmap(1). A process within believes that it is root, sets owners and modes, and is
//! nobody on the host. What it makes belongs to ids there that no user of the host has, so that only a process within, or
//! the host's root, can change or remove it.
//!
//! Invariant: behind an id within stands no user of the host, but where there are no ids to be had ([`Ids::One`]): then
//! root within is the ordinary user who started this. It is never the host's root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use fs_err as fs;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// How many ids there are within, where there is a range: all that images use (`nobody` is 65534).
pub const COUNT: u32 = 65_536;

/// Where root looks for ids, if nobody has given it any: behind those that systemd hands to containers, before those
/// that are no numbers of users to some programs (<https://systemd.io/UIDS-GIDS/>).
const HIGH: std::ops::Range<u32> = 1_900_000_000..2_100_000_000;

/// The hidden command that makes this program work within.
pub const COMMAND: &str = "__within";

/// The job of removing a folder of the current one.
pub const REMOVE: &str = "remove";

/// Longest job or answer, in bytes.
const MOST: u64 = 64 << 20;

/// The ids of the host that stand behind those within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// [`COUNT`] users and groups that are nobody's.
    Range {
        /// The first user on the host.
        user: u32,
        /// The first group on the host.
        group: u32,
    },
    /// Only root, behind which stands the user who starts it. What needs another fails within: changing owners, groups of
    /// a process, users of their own as package managers have them.
    One {
        /// Why there is no more, and what to do about it.
        why: String,
    },
}

impl Ids {
    /// Those that this user has.
    pub fn of_this_user() -> Self {
        let user = range("/etc/subuid", "/etc/passwd", "uid_map");
        let group = range("/etc/subgid", "/etc/group", "gid_map");
        match (user, group) {
            (Ok(user), Ok(group)) => Self::Range { user, group },
            (Err(why), _) | (_, Err(why)) => Self::One { why },
        }
    }

    /// What trees that are made within differ in.
    pub fn mapping(&self) -> (u32, u32, u32) {
        match self {
            Self::Range { user, group } => (*user, *group, COUNT),
            Self::One { .. } => (geteuid().as_raw(), getegid().as_raw(), 1),
        }
    }
}

/// The first of the ids that this user was given in the file `given`, or, for root, of some that are in none.
fn range(given: &str, known: &str, map: &str) -> Result<u32, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (given_text, known_text, own) = (read(given), read(known), read(&format!("/proc/self/{map}")));
    let me = geteuid();
    let name = nix::unistd::User::from_uid(me).ok().flatten().map(|user| user.name).unwrap_or_default();
    let mine = given_ranges(&given_text)
        .filter(|(who, _, count)| (*who == name || *who == me.to_string()) && *count >= COUNT)
        .map(|(_, first, _)| first);
    let mut found = mine.filter(|first| is_free(*first, &known_text));
    if me.is_root() {
        let is_nobodys = |first: u32| {
            is_free(first, &known_text)
                && given_ranges(&given_text)
                    .all(|(_, start, count)| first + COUNT <= start || start.saturating_add(count) <= first)
        };
        let high = HIGH.step_by(COUNT as usize).filter(|first| is_nobodys(*first));
        return found.chain(high).find(|first| is_mapped(*first, &own)).ok_or_else(|| {
            "this system gives its root too few ids: start the container around it with a range of more than 131,072"
                .to_owned()
        });
    }
    if let Some(missing) = ["newuidmap", "newgidmap"].into_iter().find(|program| find(program).is_none()) {
        return Err(format!("`{missing}` is not installed (Debian's package `uidmap` has it)"));
    }
    found.next().ok_or_else(|| {
        let option = if map == "uid_map" { "--add-subuids" } else { "--add-subgids" };
        format!("{given} gives `{name}` no range of {COUNT} ids: `sudo usermod {option} 100000-165535 {name}` does")
    })
}

/// Who was given which ids: name or number, first, and how many (subuid(5)).
fn given_ranges(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?, parts.next()?.trim().parse().ok()?, parts.next()?.trim().parse().ok()?))
    })
}

/// Whether none of the ids from `first` on is one of `known`, which is `/etc/passwd` or `/etc/group`.
fn is_free(first: u32, known: &str) -> bool {
    let mut ids = known.lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
    first != 0 && !ids.any(|id| (first..first.saturating_add(COUNT)).contains(&id))
}

/// Whether this process's own namespace knows all ids from `first` on.
fn is_mapped(first: u32, own: &str) -> bool {
    own.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(start)), Some(_), Some(Ok(count))) => {
                start <= u64::from(first) && u64::from(first) + u64::from(COUNT) <= start + count
            }
            _ => false,
        }
    })
}

/// Whether this process's own namespace has more users than its root.
pub fn has_others() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    // Where it cannot be read, there is no namespace either.
    map.is_empty() || counts.sum::<u64>() > 1
}

/// A program with the right to write maps, which is not looked for where anybody could have put one.
fn find(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", "/run/wrappers/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// The program that can work within: one whose `main` knows [`COMMAND`].
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program knows [`COMMAND`]. The first to say so is believed.
pub fn register(program: &Path) {
    let _ = PROGRAM.set(program.to_owned());
}

/// A process that works within, seen from outside.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    /// What it is told, and what it says. It ends when this is closed.
    pub line: UnixStream,
}

impl Worker {
    /// Starts the job `job` with what it needs to know, which it reads before it is within. `output` becomes both of its
    /// output streams, and its current folder is `folder`.
    ///
    /// # Errors
    /// When no process can be started, or the kernel gives it no user namespace.
    pub fn start(
        ids: &Ids,
        job: &str,
        told: &[u8],
        folder: Option<&Path>,
        output: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let program = PROGRAM.get().ok_or_else(|| io::Error::other("no program is known that could work within"))?;
        let (line, other) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args([COMMAND, job]).stdin(OwnedFd::from(other)).env_remove("LISTEN_FDS");
        match output {
            Some(output) => command.stderr(output.try_clone()?).stdout(output),
            None => command.stderr(Stdio::null()).stdout(Stdio::null()),
        };
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let child = command.spawn()?;
        // The command holds the other end, and its output, too.
        drop(command);
        let mut worker = Self { child, line };
        worker.tell(told)?;
        match worker.hear()?.as_deref() {
            Some([]) => {}
            Some(why) => return Err(io::Error::other(String::from_utf8_lossy(why).into_owned())),
            None => return Err(io::Error::other("the process that was to work in a user namespace ended early")),
        }
        write_maps(ids, worker.child.id())?;
        worker.tell(&serde_json::to_vec(ids)?)?;
        Ok(worker)
    }

    /// Its number on the host.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says something to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, text: &[u8]) -> io::Result<()> {
        send(&self.line, text)
    }

    /// What it says next; none when it has ended.
    ///
    /// # Errors
    /// When it says too much.
    pub fn hear(&mut self) -> io::Result<Option<Vec<u8>>> {
        receive(&self.line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when nobody is there to hear it.
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says `text` over `line`.
///
/// # Errors
/// When the other side has ended.
pub fn send(mut line: impl io::Write, text: &[u8]) -> io::Result<()> {
    line.write_all(&(text.len() as u64).to_le_bytes())?;
    line.write_all(text)
}

/// What the other side of `line` says next; none when it has ended.
///
/// # Errors
/// When it says too much, or half of something.
pub fn receive(mut line: impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match line.read_exact(&mut length) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        read => read?,
    }
    let length = u64::from_le_bytes(length);
    if length > MOST {
        return Err(io::Error::other("the other side says too much"));
    }
    let mut text = vec![0; length as usize];
    line.read_exact(&mut text)?;
    Ok(Some(text))
}

/// Gives the user namespace of the process `id` its users and groups.
fn write_maps(ids: &Ids, id: u32) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{id}/{file}"), text);
    match ids {
        Ids::One { .. } => {
            write("setgroups", "deny".to_owned())?;
            write("uid_map", format!("0 {} 1", geteuid()))?;
            write("gid_map", format!("0 {} 1", getegid()))
        }
        Ids::Range { user, group } if geteuid().is_root() => {
            write("uid_map", format!("0 {user} {COUNT}"))?;
            write("gid_map", format!("0 {group} {COUNT}"))
        }
        Ids::Range { user, group } => {
            for (program, first) in [("newuidmap", user), ("newgidmap", group)] {
                let path = find(program).ok_or_else(|| io::Error::other(format!("`{program}` is not installed")))?;
                let numbers = [id.to_string(), "0".to_owned(), first.to_string(), COUNT.to_string()];
                let output = Command::new(path).args(numbers).stdin(Stdio::null()).output()?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(io::Error::other(format!("{program} gives no ids: {said}")));
                }
            }
            Ok(())
        }
    }
}

/// In a worker: goes into a user namespace and a mount namespace of its own, of which this process is root then. What it
/// needs of the host is opened by `prepare`, which still has the rights to look for it, and mounts that it can use.
///
/// # Errors
/// Those of `prepare`, and when the kernel says no; whoever started this knows.
pub fn enter<T>(line: &UnixStream, prepare: impl FnOnce() -> io::Result<T>) -> io::Result<(Ids, T)> {
    let refused = |error: nix::Error| {
        io::Error::new(io::Error::from(error).kind(), format!("the kernel gives no user namespace: {}", error.desc()))
    };
    let prepared =
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(refused).and_then(|()| prepare());
    match &prepared {
        Ok(_) => send(line, &[])?,
        Err(error) => send(line, error.to_string().as_bytes())?,
    }
    let prepared = prepared?;
    let told = receive(line)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let ids: Ids = serde_json::from_slice(&told)?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    if matches!(ids, Ids::Range { .. }) {
        setgroups(&[])?;
    }
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // The kernel hides from a process whose user changed what it keeps of it in `/proc`.
    nix::sys::prctl::set_dumpable(true)?;
    Ok((ids, prepared))
}

/// Removes what is at `name` in the folder `parent`, which this user owns, where what is in it belongs to ids of a
/// namespace. Gives the number of files and their bytes.
///
/// # Errors
/// When it cannot be done within, either.
pub(super) fn remove(parent: impl AsFd, name: &OsStr) -> io::Result<(u64, u64)> {
    use std::os::fd::AsRawFd as _;
    let mode = nix::sys::stat::Mode::from_bits_truncate(rustix::fs::fstat(&parent)?.st_mode);
    // Root within is nobody here.
    nix::sys::stat::fchmod(parent.as_fd(), nix::sys::stat::Mode::from_bits_truncate(0o777))?;
    let folder = format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd());
    let removed = (|| {
        let told = name.as_encoded_bytes();
        let mut worker = Worker::start(&Ids::of_this_user(), REMOVE, told, Some(Path::new(&folder)), None)?;
        let said = worker.hear()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        serde_json::from_slice::<Result<(u64, u64), String>>(&said)?.map_err(io::Error::other)
    })();
    nix::sys::stat::fchmod(parent.as_fd(), mode)?;
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_somebody_are_not_taken() {
        let known = "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh\nodd:x:100500:5::/:/bin/sh\n";
        assert!(!is_free(0, known) && !is_free(1, known) && !is_free(100_000, known) && !is_free(100_500, known));
        assert!(is_free(100_501, known) && is_free(165_536, known));
        let given: Vec<_> = given_ranges("me:100000:65536\nbad\n1001:200000:10\n").collect();
        assert_eq!(given, [("me", 100_000, 65_536), ("1001", 200_000, 10)]);
    }

    #[test]
    fn ids_that_this_namespace_lacks_are_not_taken() {
        assert!(is_mapped(HIGH.start, "         0          0 4294967295\n"));
        assert!(!is_mapped(HIGH.start, "0 100000 65536\n") && is_mapped(0, "0 100000 65536\n"));
        assert!(!is_mapped(1, "0 100000 65536\n") && !is_mapped(0, ""));
    }
}
