//! Limits on memory, processors and processes, by control groups of version 1 or 2.
//!
//! Linux `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`. The supervisor goes into the group, starts the
//! container, and goes back out: so it is the container that runs out of memory, never its supervisor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Failure;
use super::rootfs::failed;
use super::spec::Limits;
use crate::io::finding::Finding;

/// The groups of one container: one folder per version 1 hierarchy, or a single one of version 2.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Group {
    folder: PathBuf,
    /// Where the supervisor was before.
    home: PathBuf,
}

/// What the group below the one with the limits is called, of version 2.
const INSIDE: &str = "inside";

/// Takes a note of the groups that there are about to be.
type Note<'a> = &'a dyn Fn(&Cgroup) -> std::io::Result<()>;

impl Cgroup {
    /// Makes groups called `name` with `limits` and goes into them. Before each is made, `note` learns of it, so that
    /// whoever tidies up after a killed supervisor knows them all. On failure, says why, and nothing stays.
    pub(crate) fn enter(&mut self, name: &str, limits: &Limits, note: Note) -> Result<(), String> {
        let made = self.make(name, limits, note);
        if made.is_err() {
            self.leave();
            self.remove();
            self.groups.clear();
        }
        made
    }

    fn make(&mut self, name: &str, limits: &Limits, note: Note) -> Result<(), String> {
        let hierarchies = hierarchies()?;
        let mut left: Vec<Setting> = settings(limits);
        for hierarchy in &hierarchies {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|setting| hierarchy.controllers.iter().any(|has| has == setting.controller));
            left = elsewhere;
            if here.is_empty() {
                continue;
            }
            let home = hierarchy.mount.join(&hierarchy.own);
            if hierarchy.unified {
                self.make_unified(name, &hierarchy.mount, &home, &here, note)?;
            } else {
                self.make_group(name, &home, &home, note)?;
                self.apply(&here, false)?;
            }
        }
        match left.first() {
            Some(setting) => Err(format!("the kernel has no {} controller here", setting.controller)),
            None => Ok(()),
        }
    }

    /// A group of version 2 needs a parent that holds no processes itself and hands its controllers down.
    fn make_unified(
        &mut self,
        name: &str,
        mount: &Path,
        home: &Path,
        settings: &[Setting],
        note: Note,
    ) -> Result<(), String> {
        let mut why = String::new();
        for parent in home.ancestors().take_while(|parent| parent.starts_with(mount)) {
            let control = parent.join("cgroup.subtree_control");
            let mut handed_down = Vec::new();
            let attempt = settings
                .iter()
                .try_for_each(|setting| {
                    let before = fs::read_to_string(&control).map_err(text)?;
                    if !before.split_whitespace().any(|has| has == setting.controller) {
                        fs::write(&control, format!("+{}", setting.controller)).map_err(text)?;
                        handed_down.push(setting.controller);
                    }
                    Ok(())
                })
                .and_then(|()| self.make_group(name, parent, home, note))
                .and_then(|()| self.apply(settings, true))
                .and_then(|()| self.make_inside(note));
            match attempt {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
            // A group with processes of its own that hands controllers down could have no other groups below it.
            handed_down.iter().for_each(|controller| drop(fs::write(&control, format!("-{controller}"))));
            self.leave();
            self.remove();
            self.groups.clear();
        }
        Err(why)
    }

    /// Goes into a group below the one of version 2 that has the limits, to which that hands no controllers down. The
    /// container runtime hands all on that there are, and where a group with processes does that, none below it may have
    /// any (`Documentation/admin-guide/cgroup-v2.rst`, "No Internal Process Constraint" and "Threads").
    fn make_inside(&mut self, note: Note) -> Result<(), String> {
        let Some(Group { folder, home }) = self.groups.last().cloned() else { return Ok(()) };
        let folder = folder.join(INSIDE);
        self.groups.insert(0, Group { folder: folder.clone(), home });
        note(self).map_err(text)?;
        fs::create_dir(&folder).map_err(text)?;
        go_into(&folder).map_err(text)
    }

    fn make_group(&mut self, name: &str, parent: &Path, home: &Path, note: Note) -> Result<(), String> {
        let folder = parent.join(name);
        self.groups.push(Group { folder: folder.clone(), home: home.to_owned() });
        note(self).map_err(text)?;
        fs::create_dir(&folder).map_err(text)?;
        go_into(&folder).map_err(text)
    }

    fn apply(&self, settings: &[Setting], unified: bool) -> Result<(), String> {
        let Some(group) = self.groups.last() else { return Ok(()) };
        for setting in settings {
            for (file, value) in if unified { &setting.unified } else { &setting.legacy } {
                let path = group.folder.join(file);
                // The files for swap are missing where the kernel does not count it.
                if path.exists() || !file.contains("sw") {
                    fs::write(path, value).map_err(text)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the group that the container runtime will make below the one that the supervisor is in now.
    pub(super) fn expect_inner(&mut self, name: &str) {
        if let Some(home) = own_unified() {
            self.groups.insert(0, Group { folder: home.join(name), home });
        }
    }

    /// Ways into those of the groups that a process is in: whoever writes `0` to each of these files is in them too.
    ///
    /// # Errors
    /// When this user may not move processes there.
    pub(crate) fn doors(&self, process: u32) -> std::io::Result<Vec<fs::File>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
        let folders = parse_hierarchies(&mounts, &groups).into_iter().map(|found| found.mount.join(found.own));
        let is_own = |folder: &PathBuf| self.groups.iter().any(|group| folder.starts_with(&group.folder));
        folders.filter(is_own).map(|folder| fs::OpenOptions::new().write(true).open(door(&folder))).collect()
    }

    /// Takes the supervisor back out. Where the system does not let it, it stays.
    pub(crate) fn leave(&self) {
        for group in &self.groups {
            let _ = go_into(&group.home);
        }
    }

    /// Whether the kernel killed a process of the container for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let kills = |text: String| {
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        };
        self.groups.iter().any(|group| {
            ["memory.events", "memory.oom_control"]
                .iter()
                .any(|file| fs::read_to_string(group.folder.join(file)).is_ok_and(kills))
        })
    }

    /// Kills what is still in the groups and removes them.
    pub(super) fn remove(&self) {
        for group in &self.groups {
            // The kernel needs a moment to let go of a process that has just ended.
            for _ in 0..50 {
                match fs::remove_dir(&group.folder) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {}
                    _ => break,
                }
                let processes = fs::read_to_string(group.folder.join("cgroup.procs")).unwrap_or_default();
                for process in processes.lines().filter_map(|line| line.parse().ok()) {
                    if process != std::process::id() as i32 {
                        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::SIGKILL);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Removes the groups beside or above this process's whose names `fit`, and kills what is still in them.
pub(crate) fn remove_named(fit: &dyn Fn(&str) -> bool) {
    let mut cgroup = Cgroup::default();
    for hierarchy in hierarchies().unwrap_or_default() {
        let home = hierarchy.mount.join(&hierarchy.own);
        for parent in home.ancestors().take_while(|parent| parent.starts_with(&hierarchy.mount)) {
            let names = std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name());
            for name in names.filter(|name| name.to_str().is_some_and(fit)) {
                let folder = parent.join(name);
                let group = |folder: PathBuf| Group { folder, home: home.clone() };
                cgroup.groups.extend([group(folder.join(INSIDE)), group(folder)]);
            }
        }
    }
    cgroup.groups.retain(|group| group.folder.is_dir());
    cgroup.remove();
}

/// Whether limits can be set here. No group is made.
pub(super) fn finding() -> Finding {
    const NAME: &str = "control groups";
    const ADVICE: &str = "`--memory` and `--cpus` have no effect then; run ekiben as root, or with groups of its own: \
                          `systemd-run --user --scope -p Delegate=yes ekiben …`";
    let hierarchies = match hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(why) => return Finding::warning(NAME, why, ADVICE),
    };
    let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let missing: Vec<_> = ["memory", "cpu", "pids"]
        .into_iter()
        .filter(|controller| {
            let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|has| has == controller);
            !hierarchies.iter().find(has).is_some_and(|hierarchy| {
                let home = hierarchy.mount.join(&hierarchy.own);
                match hierarchy.unified {
                    false => may_write(&home),
                    // The group is made in a parent that may hand the controller down.
                    true => home
                        .ancestors()
                        .take_while(|parent| parent.starts_with(&hierarchy.mount))
                        .any(|parent| may_write(parent) && may_write(&parent.join("cgroup.subtree_control"))),
                }
            })
        })
        .collect();
    let version = match (hierarchies.iter().any(|one| one.unified), hierarchies.iter().any(|one| !one.unified)) {
        (true, false) => "version 2",
        (false, _) => "version 1",
        (true, true) => "versions 1 and 2",
    };
    match missing.is_empty() {
        true => Finding::ok(NAME, format!("limits of memory, processors and processes can be set ({version})")),
        false => Finding::warning(NAME, format!("{version}; no limit can be set of: {}", missing.join(", ")), ADVICE),
    }
}

/// Moves this process, which has a single thread.
fn go_into(group: &Path) -> std::io::Result<()> {
    fs::write(door(group), "0")
}

/// The file by which a process that has a single thread goes into a group, with `0` for itself.
fn door(group: &Path) -> PathBuf {
    // Of version 1. A thread that moves itself does not have to wait until no process of the machine is just being
    // started: 12 ms as against 0.05, measured with Linux 6.18 (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c).
    let thread = group.join("tasks");
    if thread.exists() { thread } else { group.join("cgroup.procs") }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// One limit: the files in which it is set, and what is written.
struct Setting {
    controller: &'static str,
    legacy: Vec<(&'static str, String)>,
    unified: Vec<(&'static str, String)>,
}

fn settings(limits: &Limits) -> Vec<Setting> {
    const PERIOD: u32 = 100_000;
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory {
        settings.push(Setting {
            controller: "memory",
            legacy: vec![
                ("memory.limit_in_bytes", bytes.to_string()),
                ("memory.memsw.limit_in_bytes", bytes.to_string()),
            ],
            unified: vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())],
        });
    }
    if let Some(cpus) = limits.cpus {
        // The kernel takes no less than a millisecond per period.
        let quota = (cpus * f64::from(PERIOD)).max(1000.0) as u64;
        settings.push(Setting {
            controller: "cpu",
            legacy: vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
            unified: vec![("cpu.max", format!("{quota} {PERIOD}"))],
        });
    }
    if let Some(pids) = limits.pids {
        let file = vec![("pids.max", pids.to_string())];
        settings.push(Setting { controller: "pids", legacy: file.clone(), unified: file });
    }
    settings
}

/// A tree of groups that is mounted here.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    unified: bool,
    controllers: Vec<String>,
    mount: PathBuf,
    /// The group of this process, below `mount`.
    own: PathBuf,
}

/// The folder of the version 2 group that this process is in, where that is mounted.
fn own_unified() -> Option<PathBuf> {
    let unified = hierarchies().ok()?.into_iter().find(|hierarchy| hierarchy.unified)?;
    Some(unified.mount.join(unified.own))
}

/// Lets the container runtime see nothing of the control groups but that of version 2 which this process is in. So it
/// makes one group below it, or none where it may not: going through all hierarchies of version 1, as it does where it
/// sees them, needs root.
pub(super) fn show_own() -> Result<(), Failure> {
    let place = "/sys/fs/cgroup";
    let shown = match own_unified() {
        Some(folder) => mount(Some(&folder), place, None::<&str>, MsFlags::MS_BIND, None::<&str>),
        None => unshare(CloneFlags::CLONE_NEWCGROUP)
            .and_then(|()| mount(Some("cgroup"), place, Some("cgroup2"), MsFlags::empty(), None::<&str>)),
    };
    shown.map_err(|error| failed("the control groups could not be hidden", error))
}

/// Those of version 1 first: a controller that is in one of them is not in version 2.
fn hierarchies() -> Result<Vec<Hierarchy>, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(text)?;
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(text)?;
    let mut found = parse_hierarchies(&mounts, &groups);
    for hierarchy in found.iter_mut().filter(|hierarchy| hierarchy.unified) {
        let controllers = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).map_err(text)?;
        hierarchy.controllers = controllers.split_whitespace().map(str::to_owned).collect();
    }
    if found.is_empty() { Err("no control groups are mounted here".to_owned()) } else { Ok(found) }
}

/// `mounts` is `/proc/self/mountinfo` (proc(5)), `groups` is `/proc/self/cgroup` (cgroups(7)).
fn parse_hierarchies(mounts: &str, groups: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, own) = (parts.next()?, parts.next()?, parts.next()?);
            let unified = names.is_empty();
            let controllers: Vec<String> = names.split(',').map(str::to_owned).collect();
            let (root, mount) = mounts.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                let mut after = after.split(' ');
                let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
                let fits = match kind {
                    "cgroup2" => unified,
                    "cgroup" => !unified && controllers.iter().all(|name| options.split(',').any(|has| has == name)),
                    _ => false,
                };
                let mut before = before.split(' ').skip(3);
                fits.then_some((before.next()?, before.next()?))
            })?;
            let own = Path::new(own).strip_prefix(root).ok()?.to_owned();
            Some(Hierarchy { unified, controllers, mount: mount.into(), own })
        })
        .collect();
    found.sort_by_key(|hierarchy| hierarchy.unified);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw\n";
        let found = parse_hierarchies(mounts, "4:memory:/a/b\n1:cpu:/\n0::/\n");
        let memory = Hierarchy {
            unified: false,
            controllers: vec!["memory".to_owned()],
            mount: "/sys/fs/cgroup/memory".into(),
            own: "a/b".into(),
        };
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], memory);
        assert_eq!((found[1].unified, found[1].own.as_path()), (true, Path::new("")));
    }
}
