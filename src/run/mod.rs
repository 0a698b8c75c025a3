//! From an image to a container: which layers are unpacked, what is mounted where it lies, and how it is started.
//!
//! Weights are not copied: a layer of files that lie on this machine is mounted file by file, read-only, as long as
//! the files are those that the image was built from.

pub mod batch;
pub mod container;
pub mod devices;
pub mod ended;
mod holdings;
pub mod machine;
pub mod named;
pub mod service;
pub mod shell;
pub mod step;
pub mod training;
mod user;
pub mod volume;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::TempDir;

use crate::image::layer::{self, Layer, Trees};
use crate::image::registry;
use crate::image::session::Session;
use crate::image::store::{ImageName, Store};
use crate::image::{self, Image, export};
use crate::io::archive::Stack;
use crate::io::content::Content;
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::progress::Unit;
use container::{Container, Containers, Engine, Launcher, Limits, Mount, Name, Network, Publish, Spec, Way, engine};
use devices::Devices;
use user::User;
use volume::Volume;

pub use holdings::{prune, usage};

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer cannot be had.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The image cannot be read or exported.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A layer is in a registry, and stays there.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The container did not start.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// A file could not be read or written. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What the container was to see of the host.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A device that the container was to get.
    #[error(transparent)]
    Devices(#[from] devices::Error),
    /// The image does not say what to run.
    #[error("the image has no command to run")]
    NoCommand,
    /// The image is for another processor.
    #[error("the image is for {image}, this machine is {host}")]
    Platform {
        /// Of the image.
        image: String,
        /// Of this machine.
        host: String,
    },
    /// Ways out are asked for of an engine that has its own networks.
    #[error("{engine} opens no single way out of a container")]
    Ways {
        /// The engine.
        engine: String,
    },
    /// The image says who its program runs as, and does not know them.
    #[error("the image's user `{user}` is not in its {book}")]
    User {
        /// As the image has it.
        user: String,
        /// Where they should be.
        book: &'static str,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Layer(error) => error.explain(),
            Self::Image(error) => error.explain(),
            Self::Registry(error) => error.explain(),
            Self::Container(error) => error.explain(),
            Self::Io(error) => error.explain(),
            Self::Volume(error) => error.explain(),
            Self::Devices(error) => error.explain(),
            Self::NoCommand => ErrorKind::Failure.named("run/no-command").hint("say what to run after `--`"),
            Self::Platform { host, .. } => ErrorKind::Failure
                .named("run/platform")
                .hint(format!("build it with `--platform {host}`; nothing is emulated")),
            Self::Ways { .. } => ErrorKind::Usage
                .named("run/ways")
                .hint("leave out `--engine`, or take runc or crun: `--connect` opens that way and no other there"),
            Self::User { .. } => ErrorKind::Failure.named("run/user"),
        }
    }
}

/// How an image is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the container is called; the image's name with letters behind it where none is given.
    pub name: Option<String>,
    /// Ports that answer on this machine: host address and port in the container.
    pub publish: Vec<Publish>,
    /// The container shares the host's network.
    pub host_network: bool,
    /// What it reaches beyond itself.
    pub ways: Vec<Way>,
    /// What it may use up.
    pub limits: Limits,
    /// It can write into temporary folders alone, and not wherever its user may.
    pub read_only: bool,
    /// Files and folders of this machine that it sees.
    pub volumes: Vec<Volume>,
    /// Devices of this machine that it gets.
    pub devices: Devices,
    /// Variables beyond those of the image, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Arguments in place of the image's.
    pub args: Vec<String>,
    /// Another program than Ekiben itself to run it: `runc`, `crun`, `podman`, `docker` or a path.
    pub engine: Option<String>,
    /// The container's state and log stay after its end.
    pub keep: bool,
    /// What whoever starts it notes with it, beside the image's name.
    pub labels: BTreeMap<String, String>,
}

/// The label of a container that has the name of its image.
pub const IMAGE: &str = "image";

/// The label of a container that has the name and version of the model that it serves for `ekiben serve`.
pub const MODEL: &str = "model";

/// An image's layer of more files than this is unpacked rather than mounted file by file.
const MOST_MOUNTS: usize = 64;

/// What a container may write into its root, in bytes. It lies in memory, and is gone when the container ends.
const WRITABLE: u64 = 1 << 30;

/// Where they lie in the store.
const CONTAINERS: &str = "containers";

/// The containers of a store.
///
/// # Errors
/// When this program does not know which it is.
pub fn containers(session: &Session) -> std::io::Result<Containers> {
    Ok(Containers::new(&session.store.root().join(CONTAINERS), Launcher::this()?, session.progress.clone()))
}

/// Starts `image`, known as `image_name`, and returns when its program runs.
///
/// # Errors
/// When a layer cannot be had, or no container be started.
pub fn start(session: &Session, image_name: &ImageName, image: &Image, options: &Options) -> Result<Container, Error> {
    let host = crate::image::oci::platform::Platform::host().map(|host| host.to_string()).unwrap_or_default();
    if image.platform().to_string() != host {
        return Err(Error::Platform { image: image.platform().to_string(), host });
    }
    let manager = options.engine.as_deref().filter(|engine| engine::MANAGERS.contains(engine));
    if let Some(engine) = manager.filter(|_| !options.ways.is_empty()) {
        return Err(Error::Ways { engine: engine.to_owned() });
    }
    let config = image.config();
    let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut args = given(config.entrypoint());
    args.extend(if options.args.is_empty() { given(config.cmd()) } else { options.args.clone() });
    if args.is_empty() {
        return Err(Error::NoCommand);
    }
    registry::fetch(session, image.layers())?;
    let name = match &options.name {
        Some(name) => Name::Exactly(name.clone()),
        None => Name::Like(image_name.repository().rsplit('/').next().unwrap_or("container").to_owned()),
    };
    let user = config.user().as_deref().unwrap_or_default();
    let mut spec = Spec::new(name, Vec::new(), args);
    let (engine, _archive) = engine(session, image_name, image, options)?;
    spec.engine = engine;
    let has = |env: &[String], name: &str| env.iter().any(|variable| variable.split('=').next() == Some(name));
    let is_managed = matches!(spec.engine, Engine::Manager { .. });
    // Managers read the same specifications.
    let devices = if is_managed { Devices::default() } else { options.devices.clone() };
    let env = given(config.env()).into_iter().chain(devices.env().iter().cloned()).chain(options.env.iter().cloned());
    let env = last_of_each(env);
    // As other engines do, an image that says nothing of it has the usual one.
    spec.env.retain(|variable| variable.starts_with("PATH=") && !has(&env, "PATH"));
    spec.env.extend(env);
    let user = match is_managed && user::is_numeric(user) {
        // Managers look the rest up by themselves, and unpack layers where they keep theirs.
        true => User::find(user, &[])?,
        false => known_user(session, image, user)?,
    };
    spec.user = (user.uid, user.gid);
    if !is_managed {
        let (trees, mounts) = root(session, image, &user)?;
        (spec.lower, spec.mounts) = (trees.lower, mounts);
        spec.root = trees.root;
        let lower = spec.lower.clone();
        for warning in devices.give(&mut spec, &lower, image.platform())? {
            session.progress.warn(warning);
        }
        if !has(&spec.env, "HOME") {
            spec.env.push(format!("HOME={}", user.home));
        }
    }
    for volume in &options.volumes {
        let (mount, warning) = volume.mount((user.uid, user.gid))?;
        warning.into_iter().for_each(|warning| session.progress.warn(warning));
        // It is what was asked for, and mostly not what was meant.
        let program = spec.args.first().map(PathBuf::from).into_iter();
        let own = program.chain(spec.mounts.iter().map(|mount| mount.target.clone()));
        for path in own.filter(|path| volume.hides(path)) {
            let (over, path) = (volume.target().display(), path.display());
            session.progress.warn(format!("the volume at {over} hides the image's own {path}"));
        }
        spec.volumes.push(mount);
    }
    spec.cwd = config.working_dir().as_deref().filter(|folder| !folder.is_empty()).unwrap_or("/").into();
    // What is written is memory too: before that is used up, the program is told that there is no space left.
    let most = options.limits.memory.map_or(WRITABLE, |memory| WRITABLE.min(memory / 2));
    spec.writable = (!options.read_only).then_some(most);
    spec.limits = options.limits;
    spec.keep = options.keep;
    spec.network = match options.host_network {
        true => Network::Host,
        false => Network::Isolated { publish: options.publish.clone(), ways: options.ways.clone() },
    };
    spec.labels = options.labels.clone();
    spec.labels.insert(IMAGE.to_owned(), image_name.to_string());
    let containers = containers(session)?;
    // What a killed command has left is in nobody's way, but grows.
    if let Err(error) = containers.sweep() {
        session.progress.detail(format!("what killed commands have left stays: {error}"));
    }
    Ok(containers.start(&spec)?)
}

/// The variables, each once: of two with one name, the later one counts. (Of two in an environment, programs take either.)
fn last_of_each(env: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in env {
        match all.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => all.push(variable),
        }
    }
    all
}

/// The port on which the image's service listens: the one that a variable names, else the lowest that the image declares,
/// as BentoML's images declare one for metrics too.
pub fn port(image: &Image, env: &[String]) -> u16 {
    let named = env.iter().rev().find_map(|variable| variable.strip_prefix("PORT="));
    let declared = image.config().exposed_ports().iter().flatten();
    let declared = declared.filter_map(|port| port.split('/').next()?.parse().ok()).min();
    named.and_then(|port| port.parse().ok()).or(declared).unwrap_or(3000)
}

/// A free port of the loopback interface that leads to `port` of the container.
pub fn any_port(port: u16) -> Publish {
    Publish { host: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), container: port }
}

/// Who the image's program runs as. The books of users are in no layer of weights, and which of those can be mounted is
/// not known before.
fn known_user(session: &Session, image: &Image, text: &str) -> Result<User, Error> {
    let mut layers = Vec::new();
    for layer in image.layers() {
        if layer.files(&session.store)?.is_none() {
            layers.push(layer);
        }
    }
    User::find(text, &unpack(session, &layers)?.lower)
}

fn unpack(session: &Session, layers: &[&Layer]) -> Result<Trees, Error> {
    let missing = layers.iter().filter(|layer| !layer.is_unpacked(&session.store));
    let work = missing.map(|layer| layer.size).sum::<u64>();
    let task = (work > 0).then(|| session.progress.task("Unpacking", "layers", Unit::Bytes, Some(work)));
    let done = |layer: &Layer| task.iter().for_each(|task| task.advance(layer.size));
    Ok(layer::unpack_all(&session.store, &session.progress, layers, done)?)
}

/// Unpacked layers, and what is mounted on them.
fn root(session: &Session, image: &Image, user: &User) -> Result<(Trees, Vec<Mount>), Error> {
    let mut mountable = image
        .layers()
        .iter()
        .map(|layer| mounts(&session.store, layer, (user.uid, user.gid)))
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        let both = || image.layers().iter().zip(&mountable);
        let unpacked: Vec<_> = both().filter(|(_, mounts)| mounts.is_none()).map(|(layer, _)| layer).collect();
        let trees = unpack(session, &unpacked)?;
        // What an upper layer replaces or deletes must not be mounted over it.
        let mut above = trees.each.as_slice();
        let mut hidden = None;
        for (number, mounts) in mountable.iter().enumerate() {
            let Some(mounts) = mounts else {
                above = above.get(1..).unwrap_or_default();
                continue;
            };
            let upper = Stack::new(above);
            let inside = |mount: &Mount| mount.target.strip_prefix("/").map(Path::to_owned).unwrap_or_default();
            if mounts.iter().any(|mount| upper.hides(&inside(mount))) {
                hidden = Some(number);
            }
        }
        match hidden.and_then(|number| mountable.get_mut(number)) {
            Some(mounts) => *mounts = None,
            None => return Ok((trees, mountable.into_iter().flatten().flatten().collect())),
        }
    }
}

/// The files of a layer as mounts, where it is one of files that lie here and that the container may read.
fn mounts(store: &Store, layer: &Layer, user: (u32, u32)) -> Result<Option<Vec<Mount>>, Error> {
    if layer.is_unpacked(store) {
        return Ok(None);
    }
    let Some(files) = layer.files(store)? else { return Ok(None) };
    if files.len() > MOST_MOUNTS {
        return Ok(None);
    }
    let mut mounts = Vec::new();
    for file in files {
        let Content::File(stamp) = &file.content else { return Ok(None) };
        stamp.open().map_err(layer::Error::from)?;
        if !readable(&stamp.path, user)? {
            return Ok(None);
        }
        let target = PathBuf::from(format!("/{}", file.path));
        mounts.push(Mount { source: stamp.path.clone(), target, writable: false });
    }
    Ok(Some(mounts))
}

/// Whether the container's user can read a file. For an ordinary user that is they themselves; root's containers run
/// as another user, for whom the file's permissions count as for anybody.
fn readable(path: &Path, user: (u32, u32)) -> Result<bool, Error> {
    let metadata = fs::metadata(path)?;
    let bit = match (metadata.uid() == user.0, metadata.gid() == user.1) {
        (true, _) => 0o400,
        (_, true) => 0o040,
        _ => 0o004,
    };
    Ok(!nix::unistd::geteuid().is_root() || metadata.mode() & bit != 0)
}

/// The engine that was asked for. Those that manage images themselves read this one from an archive, which is there as
/// long as the folder that comes with it.
fn engine(
    session: &Session,
    name: &ImageName,
    image: &Image,
    options: &Options,
) -> Result<(Engine, Option<TempDir>), Error> {
    let Some(asked) = options.engine.as_deref() else { return Ok((Engine::Embedded, None)) };
    let program = engine::find(asked)?;
    if !engine::MANAGERS.contains(&asked) {
        return Ok((Engine::Runtime { program }, None));
    }
    let folder = session.store.scratch().map_err(layer::Error::from)?;
    let archive = folder.path().join("image.tar");
    crate::io::atomic::write(&archive, |file| {
        export::to_archive(&session.store, &session.progress, image, Some(name), file).map(drop)
    })?;
    let devices = options.devices.names().to_vec();
    Ok((Engine::Manager { program, archive, image: name.to_string(), devices }, Some(folder)))
}
