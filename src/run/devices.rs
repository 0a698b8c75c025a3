//! GPUs and other devices of this machine for a container, by the Container Device Interface: what a person asks for, the
//! specifications that there are, and what a container needs.
//!
//! `SPEC.md` of the interface, as podman and docker read it: the folders `/etc/cdi` and `/var/run/cdi`, of which a later
//! one counts more; the same device twice in one folder is an error for whoever asks for it.
//!
//! Invariant: nothing of a specification is run. What NVIDIA's hooks do (`create-symlinks`, `update-ldcache`) is done here,
//! as links and as an index of the loader; other hooks are named and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fs_err as fs;
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;

use super::container::{File, Link, Mount, Spec};
use crate::base::{self, loader};
use crate::formats::cdi::{Cdi, ContainerEdits, DeviceNode, Hook};
use crate::formats::diagnostic::{Diagnostic, Diagnostics};
use crate::formats::document::shown;
use crate::image::oci::platform::Platform;
use crate::io::archive::{ArchivePath, Stack};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::finding::{Finding, Level};
use crate::io::suggest::listed;

/// Folders of specifications in the place of the usual ones, separated by colons; a later one counts more.
pub const FOLDERS: &str = "EKIBEN_CDI";

/// The usual folders; a later one counts more.
const USUAL: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Files of specifications that are looked at in one folder. A machine has one or two.
const MOST_FILES: usize = 256;

/// Device nodes and mounts of one container.
const MOST_EDITS: usize = 4096;

/// The class of devices that a number or `all` means.
const GPU: &str = "/gpu";

/// Why a container does not get a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not written as it should be.
    #[error("the devices `{text}` are not written as they should be: {why}")]
    Wanted {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No specification is there, or none of a GPU.
    #[error("no {what} of this machine is described for containers: {}", nowhere(folders, *others))]
    Nothing {
        /// What was asked for: a GPU, or devices of a kind.
        what: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
        /// There are specifications, of others.
        others: bool,
    },
    /// Kinds of GPUs of several vendors are there.
    #[error("there are GPUs of several kinds: {}", kinds.join(", "))]
    Kinds {
        /// The kinds.
        kinds: Vec<String>,
    },
    /// There is no such device.
    #[error("there is no device `{name}`")]
    NoDevice {
        /// Its full name.
        name: String,
        /// Names of those of its kind that are there.
        there: Vec<String>,
    },
    /// There are not so many.
    #[error("{asked} GPUs are asked for, and there {}", if *there == 1 { "is 1".to_owned() } else { format!("are {there}") })]
    Few {
        /// So many are asked for.
        asked: usize,
        /// So many are there.
        there: usize,
    },
    /// Two files of one folder have the device.
    #[error("the device `{name}` is described twice: in {} and in {}", first.display(), second.display())]
    Conflict {
        /// Its full name.
        name: String,
        /// The file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// A specification has a mistake.
    #[error("{place}: {message}")]
    Invalid {
        /// File, and line and column where there are.
        place: String,
        /// What is wrong there.
        message: String,
    },
    /// What a specification names is not there, or is something else.
    #[error("{} {why}, and {} needs it", path.display(), file.display())]
    Host {
        /// On this machine.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The specification.
        file: PathBuf,
    },
    /// The specifications ask for more than any container needs.
    #[error("the devices need {count} device nodes and mounts, which is more than {MOST_EDITS}")]
    Many {
        /// So many.
        count: usize,
    },
    /// A file could not be read. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The image's libraries could not be looked at.
    #[error(transparent)]
    Base(#[from] Box<base::Error>),
}

fn nowhere(folders: &[PathBuf], others: bool) -> String {
    let folders = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" and ");
    match others {
        true => format!("the specifications in {folders} are of others"),
        false => format!("there is no specification in {folders}"),
    }
}

const GENERATE: &str = "the driver's tool writes one, for NVIDIA's: `sudo nvidia-ctk cdi generate \
                        --output=/etc/cdi/nvidia.yaml`";

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Wanted { .. } => ErrorKind::Usage
                .named("run/gpus")
                .hint("write `--gpus all`, a number, `device=0,1`, or a full name as nvidia.com/gpu=0"),
            Self::Nothing { .. } => ErrorKind::Failure.named("run/no-cdi").hint(GENERATE),
            Self::Kinds { kinds } => {
                let names: Vec<_> = kinds.iter().map(|kind| format!("`--gpus {kind}=all`")).collect();
                ErrorKind::Usage.named("run/gpu-kinds").hint(format!("say which: {}", names.join(" or ")))
            }
            Self::NoDevice { there, .. } => {
                ErrorKind::Failure.named("run/no-device").hint(format!("there are: {}", listed(there)))
            }
            Self::Few { .. } => ErrorKind::Failure.named("run/few-gpus").hint("ask for fewer, or for `all`"),
            Self::Conflict { .. } => ErrorKind::Failure.named("run/device-twice").hint("remove one of the two files"),
            Self::Invalid { .. } => ErrorKind::Invalid.named("run/cdi-invalid").hint(GENERATE),
            Self::Host { .. } => ErrorKind::Failure
                .named("run/device-gone")
                .hint(format!("the specification may be older than the driver: {GENERATE}")),
            Self::Many { .. } => ErrorKind::Failure.named("run/many-devices"),
            Self::Io(error) => error.explain(),
            Self::Base(error) => error.explain(),
        }
    }
}

/// Device nodes of GPUs' drivers, and what describes them for containers.
const DRIVERS: [(&str, &str); 2] = [
    ("/dev/nvidiactl", "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` describes it for `--gpus`"),
    ("/dev/kfd", "`sudo amd-ctk cdi generate --output=/etc/cdi/amd.json` describes it for `--gpus`"),
];

/// Which devices containers can get here.
pub fn finding() -> Finding {
    const NAME: &str = "devices";
    let all = match Specifications::read() {
        Ok(all) => all,
        Err(error) => return Finding::of_error(NAME, Level::Warning, &error),
    };
    if let Some(mistake) = all.mistakes().into_iter().next() {
        return Finding::warning(NAME, mistake, format!("repair it: {GENERATE}"));
    }
    let kinds = all.kinds();
    let there: Vec<_> = kinds.iter().map(|(kind, names)| format!("{kind}={}", names.join(","))).collect();
    let driver = DRIVERS.iter().find(|(node, _)| Path::new(node).exists());
    match (there.is_empty(), driver) {
        (false, _) => Finding::ok(NAME, there.join(" ")),
        (true, Some((node, advice))) => {
            Finding::warning(NAME, format!("{node} is there, and no specification"), *advice)
        }
        (true, None) => Finding::ok(NAME, "no GPU is described for containers, and none is seen"),
    }
}

/// What a person asks for with `--gpus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All GPUs.
    All,
    /// So many GPUs, the first ones.
    Count(usize),
    /// GPUs by their names: numbers, or what the vendor calls them.
    Gpus(Vec<String>),
    /// Devices of a kind, by their names.
    Of {
        /// Vendor and class, as `nvidia.com/gpu`.
        kind: String,
        /// The names.
        names: Vec<String>,
    },
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::Wanted { text: text.to_owned(), why };
        // Docker's users write '"device=0,1"', as its option is a row of a table.
        let plain = text.trim_matches('"');
        let names = |list: &str| -> Result<Vec<String>, Error> {
            let names: Vec<_> = list.split(',').map(|name| name.trim().to_owned()).collect();
            match names.iter().any(String::is_empty) {
                true => Err(bad("a name is empty")),
                false => Ok(names),
            }
        };
        match plain.split_once('=') {
            None if plain == "all" => Ok(Self::All),
            None => match plain.parse() {
                Ok(0) => Err(bad("none is asked for by leaving it out")),
                Ok(count) => Ok(Self::Count(count)),
                Err(_) => Err(bad("it is neither `all` nor a number nor names")),
            },
            Some(("device", list)) => Ok(Self::Gpus(names(list)?)),
            Some((kind, list)) if kind.split('/').filter(|part| !part.is_empty()).count() == 2 => {
                Ok(Self::Of { kind: kind.to_owned(), names: names(list)? })
            }
            Some(_) => Err(bad("what stands before `=` is neither `device` nor a kind, as nvidia.com/gpu")),
        }
    }
}

/// The specifications of this machine.
#[derive(Debug)]
pub struct Specifications {
    folders: Vec<PathBuf>,
    /// Those that can be read, with the number of their folder: a higher one counts more.
    files: Vec<(usize, PathBuf, Cdi)>,
    /// What is wrong with others.
    broken: Vec<Diagnostics>,
}

impl Specifications {
    /// Those in the folders that this machine, or a person with [`FOLDERS`], has for them.
    ///
    /// # Errors
    /// When a folder cannot be read. Mistakes in files are told by whoever needs one of them.
    pub fn read() -> Result<Self, Error> {
        let folders = match std::env::var_os(FOLDERS).filter(|folders| !folders.is_empty()) {
            Some(folders) => std::env::split_paths(&folders).collect(),
            None => USUAL.map(PathBuf::from).to_vec(),
        };
        Self::within(folders)
    }

    fn within(folders: Vec<PathBuf>) -> Result<Self, Error> {
        let mut all = Self { folders, files: Vec::new(), broken: Vec::new() };
        for (number, folder) in all.folders.iter().enumerate() {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            let is_one = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json" || ending == "yaml");
            paths.retain(is_one);
            paths.sort();
            for path in paths.into_iter().take(MOST_FILES) {
                let mut found = Diagnostics::new();
                match Cdi::load(&path, &mut found) {
                    Some(cdi) => all.files.push((number, path, cdi)),
                    None => all.broken.push(found),
                }
            }
        }
        Ok(all)
    }

    /// Kinds of devices, and the names of those that there are of each.
    pub fn kinds(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, _, cdi) in &self.files {
            let names = kinds.entry(&cdi.kind).or_default();
            for device in &cdi.devices {
                if !names.contains(&device.name.as_str()) {
                    names.push(&device.name);
                }
            }
        }
        kinds
    }

    /// What is wrong with files that are none, one line each.
    pub fn mistakes(&self) -> Vec<String> {
        let first = self.broken.iter().filter_map(|found| found.sorted().first().copied());
        first.map(|one| format!("{}: {}", place(one), one.message)).collect()
    }

    /// What a container needs that gets all that is `wanted`.
    ///
    /// # Errors
    /// When something of it is not there, or not as the specification has it.
    pub fn devices(&self, wanted: &[Wanted]) -> Result<Devices, Error> {
        let mut names: Vec<(String, String)> = Vec::new();
        for wanted in wanted {
            for name in self.names(wanted)? {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut devices = Devices::default();
        let mut general = BTreeSet::new();
        for (kind, name) in names {
            let (file, cdi, edits) = self.find(&kind, &name)?;
            // What any of a file's devices needs is needed once.
            if general.insert(file) {
                devices.add(&cdi.container_edits, file)?;
            }
            devices.add(edits, file)?;
            devices.names.push(format!("{kind}={name}"));
        }
        let count = devices.nodes.len() + devices.mounts.len();
        if count > MOST_EDITS {
            return Err(Error::Many { count });
        }
        if !wanted.is_empty() {
            // All that was asked for is there without them.
            devices.warnings.extend(self.mistakes().into_iter().map(|text| format!("{text}; the file is left out")));
        }
        Ok(devices)
    }

    /// The full names of what is wanted.
    fn names(&self, wanted: &Wanted) -> Result<Vec<(String, String)>, Error> {
        let (kind, names) = match wanted {
            Wanted::Of { kind, names } => (kind.as_str(), names.clone()),
            Wanted::Gpus(names) => (self.gpu()?, names.clone()),
            Wanted::All => (self.gpu()?, vec![ALL.to_owned()]),
            Wanted::Count(asked) => {
                let kind = self.gpu()?;
                let kinds = self.kinds();
                let names = kinds.get(kind).map(Vec::as_slice).unwrap_or_default();
                let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
                numbers.sort_unstable();
                let mut names: Vec<_> = match numbers.is_empty() {
                    // They may be known by other names alone.
                    true => names.iter().filter(|name| **name != ALL).map(|name| (*name).to_owned()).collect(),
                    false => numbers.iter().map(u64::to_string).collect(),
                };
                if names.len() < *asked {
                    return Err(Error::Few { asked: *asked, there: names.len() });
                }
                names.truncate(*asked);
                (kind, names)
            }
        };
        let has_all = self.kinds().get(kind).is_some_and(|there| there.contains(&ALL));
        let mut full = Vec::new();
        for name in names {
            if name == ALL && !has_all {
                // Not every tool describes a device of this name.
                let all = self.kinds().remove(kind).ok_or_else(|| self.nothing(kind))?;
                full.extend(all.into_iter().map(|name| (kind.to_owned(), name.to_owned())));
            } else {
                full.push((kind.to_owned(), name));
            }
        }
        Ok(full)
    }

    /// The only kind of GPUs that there is.
    fn gpu(&self) -> Result<&str, Error> {
        let kinds: Vec<_> = self.kinds().into_keys().filter(|kind| kind.ends_with(GPU)).collect();
        match kinds.as_slice() {
            [kind] => Ok(kind),
            [] => Err(self.nothing("GPU")),
            kinds => Err(Error::Kinds { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect() }),
        }
    }

    /// Nothing of the kind is there. A file that could not be read may have it.
    fn nothing(&self, what: &str) -> Error {
        match self.broken.first().and_then(|found| found.sorted().first().copied()) {
            Some(mistake) => Error::Invalid { place: place(mistake), message: mistake.message.clone() },
            None => {
                let what = if what.contains('/') { format!("device `{what}`") } else { what.to_owned() };
                Error::Nothing { what, folders: self.folders.clone(), others: !self.files.is_empty() }
            }
        }
    }

    /// The file that counts for a device, and what the device needs.
    fn find(&self, kind: &str, name: &str) -> Result<(&Path, &Cdi, &ContainerEdits), Error> {
        let found = self.files.iter().filter(|(_, _, cdi)| cdi.kind == kind).filter_map(|(folder, path, cdi)| {
            let device = cdi.devices.iter().find(|device| device.name == name)?;
            Some((*folder, path, cdi, &device.container_edits))
        });
        let found: Vec<_> = found.collect();
        let most = found.iter().map(|(folder, ..)| *folder).max();
        let mut counting = found.into_iter().filter(|(folder, ..)| Some(*folder) == most);
        let full = || format!("{kind}={name}");
        match (counting.next(), counting.next()) {
            (Some((_, path, cdi, edits)), None) => Ok((path, cdi, edits)),
            (Some((_, first, ..)), Some((_, second, ..))) => {
                Err(Error::Conflict { name: full(), first: first.clone(), second: second.clone() })
            }
            (None, _) => Err(match self.kinds().remove(kind) {
                Some(there) if self.broken.is_empty() => {
                    Error::NoDevice { name: full(), there: there.into_iter().map(str::to_owned).collect() }
                }
                _ => self.nothing(kind),
            }),
        }
    }
}

/// The name of the device that is all of them.
const ALL: &str = "all";

/// `FILE:LINE:COLUMN`, or the file alone where nothing of it could be read.
fn place(mistake: &Diagnostic) -> String {
    let label = &mistake.primary;
    if label.source.text().is_empty() {
        return label.source.path().to_owned();
    }
    let (line, column) = label.source.position(label.span.start);
    format!("{}:{line}:{column}", label.source.path())
}

/// What a container needs for its devices.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Full names, as `nvidia.com/gpu=0`.
    names: Vec<String>,
    nodes: Vec<Mount>,
    mounts: Vec<Mount>,
    env: Vec<String>,
    links: Vec<Link>,
    /// Folders of libraries that the loader is to look into.
    folders: Vec<String>,
    groups: BTreeSet<u32>,
    /// What a person should know.
    warnings: BTreeSet<String>,
    /// The same for one who asks for more.
    details: BTreeSet<String>,
}

impl Devices {
    /// Full names of the devices, as `nvidia.com/gpu=0`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Variables that the container gets.
    pub fn env(&self) -> &[String] {
        &self.env
    }

    /// What a person should know, and what one who asks for more.
    pub fn remarks(&self) -> (impl Iterator<Item = &str>, impl Iterator<Item = &str>) {
        (self.warnings.iter().map(String::as_str), self.details.iter().map(String::as_str))
    }

    fn add(&mut self, edits: &ContainerEdits, file: &Path) -> Result<(), Error> {
        for node in &edits.device_nodes {
            let mount = self.node(node, file)?;
            self.nodes.retain(|known| known.target != mount.target);
            self.nodes.push(mount);
        }
        for mount in &edits.mounts {
            let source = PathBuf::from(&mount.host_path);
            if !source.exists() {
                return Err(Error::Host { path: source, why: "is not there".to_owned(), file: file.to_owned() });
            }
            let writable = !mount.options.iter().any(|option| option == "ro");
            let target: PathBuf = Path::new(&mount.container_path).components().collect();
            self.mounts.retain(|known| known.target != target);
            self.mounts.push(Mount { source, target, writable });
        }
        for hook in &edits.hooks {
            self.do_hook(hook, file);
        }
        self.env.extend(edits.env.iter().cloned());
        self.groups.extend(&edits.additional_gids);
        for (is_there, what) in
            [(!edits.net_devices.is_empty(), "network devices"), (edits.intel_rdt.is_some(), "a class of `intelRdt`")]
        {
            if is_there {
                self.leave_out(what, file);
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, what: &str, file: &Path) {
        self.warnings.insert(format!("{} has {what}: the container starts without", shown(file)));
    }

    /// The mount of a device node. It is the host's own: what the container may do with it, the kernel finds out by its
    /// permissions.
    fn node(&mut self, node: &DeviceNode, file: &Path) -> Result<Mount, Error> {
        let source = PathBuf::from(node.host_path.as_ref().unwrap_or(&node.path));
        let refused = |why: String| Error::Host { path: source.clone(), why, file: file.to_owned() };
        let metadata = std::fs::metadata(&source).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => refused("is not there".to_owned()),
            _ => refused(format!("cannot be looked at ({error})")),
        })?;
        let kind = metadata.file_type();
        let is_kind = match node.kind.as_deref().unwrap_or_default() {
            "b" => kind.is_block_device(),
            "p" => kind.is_fifo(),
            "" => kind.is_char_device() || kind.is_block_device() || kind.is_fifo(),
            _ => kind.is_char_device(),
        };
        if !is_kind {
            return Err(refused("is no device node of the kind that it should be".to_owned()));
        }
        let (has_major, has_minor) = (major(metadata.rdev()), minor(metadata.rdev()));
        let fits = |said: Option<i64>, has: u64| said.is_none_or(|said| u64::try_from(said) == Ok(has));
        // A specification that leaves them out in Go has 0 in their place.
        if (node.major, node.minor) != (Some(0), Some(0))
            && !(fits(node.major, has_major) && fits(node.minor, has_minor))
        {
            return Err(refused(format!("is another device ({has_major}:{has_minor}) than it should be")));
        }
        let differs = node.file_mode.is_some_and(|mode| mode & 0o777 != metadata.mode() & 0o777)
            || node.uid.is_some_and(|uid| uid != metadata.uid())
            || node.gid.is_some_and(|gid| gid != metadata.gid());
        if differs {
            let text = format!("{} gives {} other permissions: those of the host stay", shown(file), source.display());
            self.details.insert(text);
        }
        let restricts =
            |permissions: &String| !permissions.is_empty() && !["r", "w"].iter().all(|p| permissions.contains(p));
        if node.permissions.as_ref().is_some_and(restricts) {
            let text = format!("{} allows not all of {}: its permissions alone decide", shown(file), source.display());
            self.warnings.insert(text);
        }
        let target = Path::new(&node.path).components().collect();
        Ok(Mount { source, target, writable: true })
    }

    /// Does what a hook does, as far as it is known.
    fn do_hook(&mut self, hook: &Hook, file: &Path) {
        let program = Path::new(&hook.path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_nvidias = ["nvidia-cdi-hook", "nvidia-ctk"].contains(&program);
        let mut args = hook.args.iter().skip(1).map(String::as_str).skip_while(|arg| *arg == "hook");
        let name = args.next().unwrap_or_default();
        let rest: Vec<_> = args.collect();
        match name {
            "create-symlinks" if is_nvidias => {
                for text in options(&rest, "--link") {
                    self.link(text, file);
                }
            }
            "update-ldcache" if is_nvidias => {
                let folders = options(&rest, "--folder").filter(|folder| is_plain(Path::new(folder)));
                self.folders.extend(folders.map(str::to_owned));
            }
            // Folders of devices can be entered by everybody here; and nothing in the container can make a device node.
            "chmod" | "disable-device-node-modification" if is_nvidias => {}
            _ => {
                let what = if is_nvidias { name } else { &hook.path };
                let text = format!("{} has a hook, `{what}`, that is not run", shown(file));
                // With it, programs for a newer driver run on an older one: few need it, and their CUDA says so.
                match is_nvidias && name == "enable-cuda-compat" {
                    true => self.details.insert(text),
                    false => self.warnings.insert(text),
                };
            }
        }
    }

    /// `TARGET::LINK`.
    fn link(&mut self, text: &str, file: &Path) {
        let Some((target, link)) = text.split_once("::").filter(|(_, link)| is_plain(Path::new(link))) else {
            self.leave_out(&format!("a link that is none, `{text}`"), file);
            return;
        };
        let path: PathBuf = Path::new(link).components().collect();
        // What lies there is made with the container, in memory.
        if ["/dev", "/proc", "/sys", "/run", "/tmp"].iter().any(|memory| path.starts_with(memory)) {
            self.details.insert(format!("{} has a link at {link}, which is not made", shown(file)));
            return;
        }
        self.links.push(Link { path, target: target.into() });
    }

    /// Gives the container what it needs. `trees`: its layers, the lowest first.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn give(&self, spec: &mut Spec, trees: &[PathBuf], platform: Platform) -> Result<Vec<String>, Error> {
        if self.names.is_empty() {
            return Ok(Vec::new());
        }
        let mut warnings = Vec::new();
        spec.devices.extend(self.nodes.iter().cloned());
        spec.volumes.extend(self.mounts.iter().cloned());
        let mut groups = self.groups.clone();
        for node in &self.nodes {
            let metadata = fs::metadata(&node.source)?;
            let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
            // An ordinary user's container has what the user has: their groups stay with them.
            if !geteuid().is_root() {
                if rustix::fs::access(&node.source, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_err()
                {
                    let path = node.source.display();
                    warnings
                        .push(format!("you may not open {path}, nor may the container: `ls -l {path}` says who may"));
                }
                continue;
            }
            let may = |shift: u32| (mode >> shift) & 0o6 == 0o6;
            let is_open = may(0) || owner.0 == spec.user.0 && may(6) || owner.1 == spec.user.1 && may(3);
            if !is_open && may(3) && owner.1 != 0 {
                // Such as `render`: whoever is given the device is meant to use it.
                groups.insert(owner.1);
            } else if !is_open {
                let (path, user) = (node.source.display(), spec.user.0);
                warnings
                    .push(format!("the container's user {user} may not open {path}: `chmod o+rw {path}` allows it"));
            }
        }
        if geteuid().is_root() {
            spec.groups.extend(groups);
        } else if let Some(group) = groups.iter().find(|group| !has_group(**group)) {
            warnings.push(format!("the devices need the group {group}, which you are not in"));
        }
        let targets: BTreeSet<_> = spec.volumes.iter().map(|mount| mount.target.clone()).collect();
        let mut links: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        if !self.folders.is_empty() {
            let index = self.index(trees, platform, &mut links)?;
            spec.files.extend(index.map(|content| File { target: Path::new("/").join(loader::CACHE), content }));
        }
        links.extend(self.links.iter().map(|link| (link.path.clone(), link.target.clone())));
        let links = links.into_iter().filter(|(path, _)| !targets.contains(path));
        spec.links.extend(links.map(|(path, target)| Link { path, target }));
        Ok(warnings)
    }

    /// The loader's index of the image's libraries and of those that come with the devices, as `ldconfig` would make it in
    /// the container; and the links by which libraries are found, as it makes them.
    fn index(
        &self,
        trees: &[PathBuf],
        platform: Platform,
        links: &mut BTreeMap<PathBuf, PathBuf>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut libraries = base::libraries(trees, platform).map_err(Box::new)?;
        let stack = Stack::new(trees);
        libraries.add_folders(&self.folders);
        for mount in &self.mounts {
            let (Some(name), Some(folder)) =
                (mount.target.file_name().and_then(|name| name.to_str()), mount.target.parent())
            else {
                continue;
            };
            let is_meant = self.folders.iter().any(|known| Path::new(known) == folder);
            if !is_meant || !loader::is_library_name(name) || !mount.source.is_file() {
                continue;
            }
            let file = fs::File::open(&mount.source)?;
            let size = file.metadata()?.len();
            let read_at = |offset, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
            let Some(object) = loader::read_object(size, platform, read_at)? else { continue };
            // Where the image has the folder: `/lib` may be a link to `/usr/lib`.
            let real = stack.find(folder).map_or_else(|| folder.to_owned(), |(place, _)| place);
            let Ok(place) = ArchivePath::from_path(real.strip_prefix("/").unwrap_or(&real)) else { continue };
            if let Some(soname) = object.soname.clone().filter(|soname| soname != name) {
                links.insert(folder.join(&soname), name.into());
                if let Ok(link) = ArchivePath::new(format!("{place}/{soname}")) {
                    libraries.add_link(link, name);
                }
            }
            if let Ok(path) = ArchivePath::new(format!("{place}/{name}")) {
                libraries.add(path, object);
            }
        }
        Ok(libraries.cache(platform))
    }
}

/// Whether this process is in a group.
fn has_group(group: u32) -> bool {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    groups.iter().any(|known| known.as_raw() == group) || nix::unistd::getegid().as_raw() == group
}

/// Values of an option of a command line: `--link X` or `--link=X`.
fn options<'a>(args: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    args.iter().enumerate().filter_map(move |(at, arg)| match arg.strip_prefix(name)? {
        "" => args.get(at + 1).copied(),
        value => value.strip_prefix('='),
    })
}

/// An absolute path below the root, without `..`.
fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path.file_name().is_some()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read() {
        let read = |text: &str| text.parse::<Wanted>();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("all").unwrap(), Wanted::All);
        assert_eq!(read("2").unwrap(), Wanted::Count(2));
        assert_eq!(read("\"device=0,GPU-1\"").unwrap(), Wanted::Gpus(names(&["0", "GPU-1"])));
        let of = Wanted::Of { kind: "amd.com/gpu".to_owned(), names: names(&["all"]) };
        assert_eq!(read("amd.com/gpu=all").unwrap(), of);
        for bad in ["", "0", "-1", "none", "device=", "device=0,", "x=1", "a/b/c=1", "/gpu=1", "capabilities=gpu"] {
            assert!(matches!(read(bad), Err(Error::Wanted { .. })), "{bad}");
        }
    }

    fn within(folders: [&[(&str, &str)]; 2]) -> (tempfile::TempDir, Specifications) {
        let home = tempfile::tempdir().unwrap();
        let paths = ["etc", "run"].map(|name| home.path().join(name));
        for (folder, files) in paths.iter().zip(folders) {
            fs::create_dir(folder).unwrap();
            for (name, text) in files {
                fs::write(folder.join(name), text).unwrap();
            }
        }
        let all = Specifications::within(paths.to_vec()).unwrap();
        (home, all)
    }

    fn chosen(all: &Specifications, text: &str) -> Result<Vec<String>, Error> {
        Ok(all.devices(&[text.parse().unwrap()])?.names)
    }

    /// A specification without anything to be done.
    fn plain(kind: &str, names: &[&str]) -> String {
        let devices: Vec<_> = names.iter().map(|name| format!("{{name: \"{name}\"}}")).collect();
        format!("cdiVersion: 0.6.0\nkind: {kind}\ndevices: [{}]\n", devices.join(", "))
    }

    #[test]
    fn devices_are_found_by_number_and_by_name() {
        let nvidia = plain("nvidia.com/gpu", &["10", "GPU-a", "2", "0", "all"]);
        let (_home, all) = within([&[("a.yaml", &nvidia), ("b.yaml", &plain("x.com/nic", &["e"]))], &[]]);
        assert_eq!(chosen(&all, "all").unwrap(), ["nvidia.com/gpu=all"]);
        assert_eq!(chosen(&all, "2").unwrap(), ["nvidia.com/gpu=0", "nvidia.com/gpu=2"]);
        assert_eq!(chosen(&all, "device=GPU-a,0").unwrap(), ["nvidia.com/gpu=GPU-a", "nvidia.com/gpu=0"]);
        assert_eq!(chosen(&all, "x.com/nic=all").unwrap(), ["x.com/nic=e"]);
        assert!(matches!(chosen(&all, "4"), Err(Error::Few { asked: 4, there: 3 })));
        assert!(matches!(chosen(&all, "device=7"), Err(Error::NoDevice { there, .. }) if there.len() == 5));
        assert!(matches!(chosen(&all, "amd.com/gpu=0"), Err(Error::Nothing { others: true, .. })));
        let (_home, none) = within([&[], &[]]);
        assert!(matches!(chosen(&none, "all"), Err(Error::Nothing { others: false, .. })));
    }

    #[test]
    fn a_later_folder_counts_more_and_one_folder_has_a_device_once() {
        let with = |value: &str| {
            format!(
                "cdiVersion: 0.6.0\nkind: v.com/gpu\ndevices: [{{name: a, containerEdits: {{env: [A={value}]}}}}]\n"
            )
        };
        let (_home, all) = within([&[("a.yaml", &with("etc"))], &[("b.yaml", &with("run"))]]);
        assert_eq!(all.devices(&[Wanted::All]).unwrap().env, ["A=run"]);
        let (_home, twice) = within([&[("a.yaml", &with("1")), ("b.yaml", &with("2"))], &[]]);
        assert!(matches!(twice.devices(&[Wanted::All]), Err(Error::Conflict { .. })));
        // What counts more decides.
        let (_home, hidden) = within([&[("a.yaml", &with("1")), ("b.yaml", &with("2"))], &[("c.yaml", &with("3"))]]);
        assert_eq!(hidden.devices(&[Wanted::All]).unwrap().env, ["A=3"]);
        let (_home, both) = within([&[("a.yaml", &plain("a.com/gpu", &["0"])), ("b.yaml", &with("2"))], &[]]);
        assert!(matches!(chosen(&both, "all"), Err(Error::Kinds { kinds }) if kinds.len() == 2));
    }

    #[test]
    fn a_file_with_a_mistake_is_told_where_it_may_matter() {
        let (_home, all) = within([&[("a.yaml", "kind: [\n"), ("b.yaml", &plain("v.com/gpu", &["0"]))], &[]]);
        let devices = all.devices(&[Wanted::All]).unwrap();
        assert!(devices.warnings.iter().any(|text| text.contains("a.yaml:")), "{:?}", devices.warnings);
        assert!(matches!(chosen(&all, "device=1"), Err(Error::Invalid { .. })));
        assert!(matches!(chosen(&all, "w.com/gpu=0"), Err(Error::Invalid { .. })));
    }

    #[test]
    fn what_hooks_do_is_done_or_said() {
        let hook = |path: &str, args: &[&str]| Hook {
            hook_name: "createContainer".to_owned(),
            path: path.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            timeout: None,
        };
        let mut devices = Devices::default();
        let ours = "/usr/bin/nvidia-cdi-hook";
        for args in [
            &["nvidia-cdi-hook", "create-symlinks", "--link", "b::/usr/lib/a", "--link=../c::/dev/dri/x"] as &[&str],
            &["nvidia-cdi-hook", "create-symlinks", "--link", "b::/usr/../etc/a"],
            &["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib64", "--folder", "/../x"],
            &["nvidia-cdi-hook", "chmod", "--mode", "755", "--path", "/dev/dri"],
            &["nvidia-cdi-hook", "mystery"],
        ] {
            devices.do_hook(&hook(ours, args), Path::new("x.yaml"));
        }
        devices.do_hook(
            &hook("/usr/bin/nvidia-ctk", &["nvidia-ctk", "hook", "update-ldcache", "--folder", "/lib"]),
            Path::new("x.yaml"),
        );
        devices.do_hook(&hook("/bin/other", &["other", "create-symlinks"]), Path::new("x.yaml"));
        assert_eq!(devices.links, [Link { path: "/usr/lib/a".into(), target: "b".into() }]);
        assert_eq!(devices.folders, ["/usr/lib64", "/lib"]);
        let warnings: Vec<_> = devices.warnings.iter().map(String::as_str).collect();
        assert_eq!(
            warnings,
            [
                "x.yaml has a hook, `/bin/other`, that is not run",
                "x.yaml has a hook, `mystery`, that is not run",
                "x.yaml has a link that is none, `b::/usr/../etc/a`: the container starts without",
            ]
        );
        assert_eq!(devices.details.len(), 1);
    }
}
