//! The arguments of builds from Dockerfiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::base::BaseName;
use crate::build::dockerfile::{self, Allowed, Context, Request};
use crate::bundle::import::analytics;
use crate::image::registry::Reference;
use crate::io::explain::ErrorKind;
use crate::project::manifest;

use super::Failure;

/// A Dockerfile, and what it is given.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Build this Dockerfile, with PATH as its context. A folder that has a Dockerfile and no manifest is built so without it.
    #[arg(long, short, value_name = "DOCKERFILE", help_heading = HEADING)]
    file: Option<PathBuf>,
    /// The stage that becomes the image, by name or number. Without it: the last one.
    #[arg(long, value_name = "STAGE", help_heading = HEADING)]
    target: Option<String>,
    /// A value of an ARG; without VALUE, that of the environment's variable NAME. May be repeated.
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = HEADING)]
    build_arg: Vec<String>,
    /// What stands in under a name in FROM and --from: a folder, an image (docker-image://…), an OCI layout
    /// (oci-layout://PATH), or a base as in a manifest (debian:bookworm is put together from Debian's packages). May be
    /// repeated.
    #[arg(long, value_name = "NAME=WHAT", help_heading = HEADING)]
    build_context: Vec<String>,
    /// A secret for --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE. May be repeated.
    #[arg(long, value_name = "id=NAME,…", help_heading = HEADING)]
    secret: Vec<Secret>,
    /// An agent of SSH for --mount=type=ssh: default, or NAME=SOCKET. May be repeated.
    #[arg(long, value_name = "default|NAME=SOCKET", help_heading = HEADING)]
    ssh: Vec<String>,
    /// A repository from which layers are taken that commands led to by the lock, rather than execute them; where --push pushes to
    /// is one. May be repeated.
    #[arg(long, value_name = "HOST/NAME", help_heading = HEADING)]
    cache_from: Vec<Reference>,
    /// Execute each command twice, and fail where it does not lead to the same files.
    #[arg(long, requires = "allow_run", help_heading = HEADING)]
    verify_run: bool,
    /// Where a command fails, open a shell in what was there before it, as its user and with its variables and mounts.
    #[arg(long, requires = "allow_run", help_heading = HEADING)]
    debug_shell: bool,
}

const HEADING: &str = "Dockerfiles";

/// `id=NAME,src=FILE`
#[derive(Clone)]
struct Secret {
    id: String,
    from: From,
}

#[derive(Clone)]
enum From {
    File(PathBuf),
    Variable(String),
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut from) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", name)) if !name.is_empty() => id = Some(name.to_owned()),
                Some(("src" | "source", path)) => from = Some(From::File(path.into())),
                Some(("env", name)) => from = Some(From::Variable(name.to_owned())),
                Some(("type", "file" | "env")) => {}
                _ => return Err(format!("`{part}` is none of id=NAME, src=FILE and env=VARIABLE")),
            }
        }
        let id = id.ok_or("it has no id=NAME")?;
        let from = from.unwrap_or_else(|| match std::env::var_os(&id) {
            Some(_) => From::Variable(id.clone()),
            None => From::File(PathBuf::from(&id)),
        });
        Ok(Self { id, from })
    }
}

impl Args {
    /// Whether `path` is to be built from a Dockerfile.
    pub fn are_meant(&self, path: &Path) -> bool {
        let has_manifest =
            || manifest::NAMES.iter().any(|name| path.join(name).exists()) || analytics::is_archive(path);
        self.file.is_some() || path.is_dir() && !has_manifest() && dockerfile::file_in(path).is_some()
    }

    /// Those that are given for what is executed: for whoever executes nothing, or not in all ways.
    pub fn given(&self) -> Vec<&'static str> {
        let given = [
            ("--target", self.target.is_some()),
            ("--build-arg", !self.build_arg.is_empty()),
            ("--build-context", !self.build_context.is_empty()),
            ("--secret", !self.secret.is_empty()),
            ("--ssh", !self.ssh.is_empty()),
            ("--cache-from", !self.cache_from.is_empty()),
            ("--verify-run", self.verify_run),
            ("--debug-shell", self.debug_shell),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }

    /// Whether a shell is wanted where a command fails.
    pub fn wants_shell(&self) -> bool {
        self.debug_shell
    }

    /// As the library takes them, with the context `path`.
    pub fn request(self, path: PathBuf, allowed: Allowed, anew: bool) -> Result<Request, Failure> {
        let usage = |text: String| Failure::new(ErrorKind::Usage.named("dockerfile/argument"), text);
        let mut arguments = BTreeMap::new();
        for text in self.build_arg {
            match text.split_once('=') {
                Some((name, value)) => drop(arguments.insert(name.to_owned(), value.to_owned())),
                None => {
                    if let Ok(value) = std::env::var(&text) {
                        arguments.insert(text, value);
                    }
                }
            }
        }
        let mut contexts = BTreeMap::new();
        for text in self.build_context {
            let (name, what) =
                text.split_once('=').ok_or_else(|| usage(format!("--build-context {text}: write it as NAME=WHAT")))?;
            contexts.insert(
                name.to_owned(),
                stand_in(what).map_err(|why| usage(format!("--build-context {text}: {why}")))?,
            );
        }
        let mut secrets = BTreeMap::new();
        for Secret { id, from } in self.secret {
            let content = match from {
                From::File(path) => fs_err::read(path)?,
                From::Variable(name) => std::env::var(&name)
                    .map_err(|_| usage(format!("--secret id={id}: there is no variable `{name}` in the environment")))?
                    .into_bytes(),
            };
            secrets.insert(id, content);
        }
        let mut agents = BTreeMap::new();
        for text in self.ssh {
            let (name, socket) = match text.split_once('=') {
                Some((name, socket)) => (name.to_owned(), PathBuf::from(socket)),
                None => {
                    let socket = std::env::var_os("SSH_AUTH_SOCK");
                    let socket = socket
                        .ok_or_else(|| usage("--ssh: there is no SSH_AUTH_SOCK in the environment".to_owned()))?;
                    (text, socket.into())
                }
            };
            agents.insert(name, socket);
        }
        let Self { file, target, cache_from, verify_run: verify, .. } = self;
        Ok(Request {
            file,
            context: path,
            target,
            arguments,
            contexts,
            secrets,
            agents,
            cache_from,
            allowed,
            anew,
            verify,
        })
    }
}

/// What stands in under a name.
fn stand_in(text: &str) -> Result<Context, String> {
    let base = |text: &str| {
        let name: BaseName = text.parse().map_err(|error: crate::base::BaseNameError| error.to_string())?;
        Ok(Context::Image(name.absolute().map_err(|error| error.to_string())?))
    };
    if let Some(name) = text.strip_prefix("docker-image://") {
        return base(name);
    }
    if let Some(path) = text.strip_prefix("oci-layout://") {
        return base(&format!("oci:{path}"));
    }
    match Path::new(text).is_dir() {
        true => Ok(Context::Folder(text.into())),
        false => base(text),
    }
}
