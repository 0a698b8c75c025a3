//! How the store and the disk below it are: looked at, and nothing changed.

use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::sys::statfs::statfs;
use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::fs::Access;

use super::Store;
use crate::io::finding::{Finding, Level};

/// With less space than this, in bytes, a small image cannot be built.
const LEAST: u64 = 1 << 30;
/// With less than this, an image with a large library cannot.
const LITTLE: u64 = 5 << 30;

/// Names of file systems by their numbers (statfs(2)), and whether they are such as files of a store should not lie on:
/// those of other machines, where locks and links may not hold.
const FILE_SYSTEMS: [(i64, &str, bool); 14] = [
    (0xef53, "ext4", false),
    (0x9123_683e, "btrfs", false),
    (0x5846_5342, "xfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x794c_7630, "overlay", false),
    (0x2fc1_2fc1, "zfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0xca45_1a4e, "bcachefs", false),
    (0x6969, "NFS", true),
    (0xff53_4d42, "CIFS", true),
    (0xfe53_4d42, "SMB", true),
    (0x0102_1997, "9p", true),
    (0x6573_5546, "FUSE", true),
    (0x00c3_6400, "Ceph", true),
];

impl Store {
    /// How the store at `root` is, whether it is there yet or not, and how much space there is for it and for temporary files.
    pub fn findings(root: &Path) -> Vec<Finding> {
        vec![store(root), disk(root)]
    }
}

/// The longest part of the way to `path` that is there.
fn there(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn store(root: &Path) -> Finding {
    const NAME: &str = "store";
    const ADVICE: &str = "set EKIBEN_HOME to a folder that you can write to";
    let (shown, place) = (root.display(), there(root));
    let (kind, is_remote) = file_system(&place);
    if statvfs(&place).is_ok_and(|there| there.flags().contains(FsFlags::ST_RDONLY)) {
        return Finding::problem(NAME, format!("{shown} is on a file system that is mounted read-only"), ADVICE);
    }
    let is_there = root.exists();
    if is_there && !root.is_dir() {
        return Finding::problem(NAME, format!("{shown} is no folder"), ADVICE);
    }
    let folders = ["", "blobs/sha256", "trees", "memory", "containers", "scratch"];
    let own = folders.iter().map(|folder| root.join(folder)).filter(|folder| folder.exists());
    for folder in std::iter::once(place).chain(own.filter(|_| is_there)) {
        if let Err(error) = rustix::fs::access(&folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            let why = std::io::Error::from(error);
            let text = format!("{} cannot be read and written to ({why})", folder.display());
            return Finding::problem(
                NAME,
                text,
                format!("`ls -ld {}` says whose it is; or {ADVICE}", folder.display()),
            );
        }
    }
    if !is_there {
        return Finding::ok(NAME, format!("{shown}, which is made when it is needed ({kind})"));
    }
    for (file, is_one) in [("oci-layout", has_version as fn(&serde_json::Value) -> bool), ("index.json", |_| true)] {
        let path = root.join(file);
        let Ok(bytes) = fs::read(&path) else { continue };
        if !serde_json::from_slice(&bytes).is_ok_and(|value| is_one(&value)) {
            let advice = format!("if nothing else uses the folder, remove {}, and build again", path.display());
            return Finding::problem(NAME, format!("{} is not what it should be", path.display()), advice);
        }
    }
    match is_remote {
        true => {
            let text = format!("{shown} is on {kind}, where locks and links may not hold and all takes long");
            Finding::warning(NAME, text, "set EKIBEN_HOME to a folder on a disk of this machine")
        }
        false => Finding::ok(NAME, format!("{shown} ({kind})")),
    }
}

fn has_version(layout: &serde_json::Value) -> bool {
    layout.get("imageLayoutVersion").and_then(serde_json::Value::as_str) == Some("1.0.0")
}

fn file_system(path: &Path) -> (String, bool) {
    let number = statfs(path).map_or(0, |there| there.filesystem_type().0);
    let known = FILE_SYSTEMS.iter().find(|(known, ..)| i128::from(*known) == i128::from(number));
    known.map_or_else(|| (format!("file system {number:#x}"), false), |(_, name, remote)| ((*name).to_owned(), *remote))
}

fn disk(root: &Path) -> Finding {
    const NAME: &str = "disk";
    let free = |path: &Path| {
        let there = statvfs(path).ok()?;
        Some(there.blocks_available().saturating_mul(there.fragment_size()))
    };
    let temporary = std::env::temp_dir();
    let gigabytes = |bytes: u64| format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
    let Some(stored) = free(&there(root)) else {
        return Finding::warning(NAME, "it is not known how much space there is", "`df -h` may tell");
    };
    let mut text = format!("{} free for the store", gigabytes(stored));
    let mut level = match stored {
        0..LEAST => Level::Problem,
        LEAST..LITTLE => Level::Warning,
        _ => Level::Ok,
    };
    match free(&temporary) {
        Some(bytes) => {
            text.push_str(&format!(", {} in {}", gigabytes(bytes), temporary.display()));
            // uv and others put little there.
            if bytes < LEAST / 8 {
                level = level.max(Level::Warning);
            }
        }
        None => {
            let text = format!("there is no folder {} for temporary files", temporary.display());
            return Finding::problem(NAME, text, "set TMPDIR to a folder that is there");
        }
    }
    let advice =
        (level > Level::Ok).then(|| "`ekiben prune` frees what no image needs, `ekiben df` says how much".to_owned());
    Finding { name: NAME, level, fact: text, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_makes_nothing_and_tells_what_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("a/b");
        assert_eq!(store(&root).level, Level::Ok);
        assert!(!home.path().join("a").exists());
        fs::create_dir_all(&root).unwrap();
        assert_eq!(store(&root).level, Level::Ok);
        for (file, text, level) in [
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#, Level::Ok),
            ("index.json", "{", Level::Problem),
            ("oci-layout", r#"{"imageLayoutVersion":"9"}"#, Level::Problem),
        ] {
            fs::write(root.join(file), text).unwrap();
            assert_eq!(store(&root).level, level, "{file}");
        }
        assert_eq!(store(&root.join("index.json")).level, Level::Problem);
        assert!(disk(&root).fact.contains("free for the store"));
    }
}
