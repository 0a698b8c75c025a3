//! Where the artifacts of versions, models and runs lie, and which there are.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;

use super::{Error, Server};
use crate::bundle::origin::{At, MOST_FILES, Remote, encoded_path};
use crate::io::archive::ArchivePath;
use crate::io::http::{self as transport, Client, Verdict, is_loopback};
use crate::project::address::{Mlflow, Which};

/// Folders within folders of artifacts.
const DEEPEST: usize = 32;

/// Addresses that lead to another: a version to a model, that to a run.
const LONGEST_TRAIL: usize = 6;

/// Where artifacts lie.
#[derive(Clone, Debug)]
pub(in crate::bundle::origin) struct Located {
    /// What tells them from others: a version, a model, a run.
    pub version: String,
    pub place: Place,
}

/// How artifacts are had.
#[derive(Clone, Debug)]
pub(in crate::bundle::origin) enum Place {
    /// From the server itself, below this path.
    Server(Box<Server>, String),
    /// From an object store.
    S3 { bucket: String, key: String },
    /// From a folder of this machine.
    Folder(PathBuf),
}

impl Server {
    /// The artifacts below `path`.
    pub(in crate::bundle::origin) fn artifacts(&self, path: &str, about: &str) -> Result<Vec<Remote>, Error> {
        let mut found = Vec::new();
        self.list(path.trim_matches('/'), "", 0, about, &mut found)?;
        Ok(found)
    }

    /// The artifact at `path`.
    pub(in crate::bundle::origin) fn artifact(&self, path: &str, about: &str) -> Result<Remote, Error> {
        let path = path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let one = self.listing(folder, about)?.into_iter().find(|entry| entry.path == name && !entry.is_dir);
        let entry = one.ok_or_else(|| Error::Refused {
            server: self.address(),
            about: about.to_owned(),
            status: 404,
            verdict: Verdict::Final,
            message: "there is no such file".to_owned(),
        })?;
        Ok(self.remote(path, name.to_owned(), &entry))
    }

    fn listing(&self, path: &str, about: &str) -> Result<Vec<Entry>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Listing {
            files: Vec<Entry>,
        }
        Ok(self.get::<Listing>("mlflow-artifacts/artifacts", &[("path", path)], about)?.files)
    }

    fn remote(&self, path: &str, name: String, entry: &Entry) -> Remote {
        let url = self.endpoint(&format!("mlflow-artifacts/artifacts/{}", encoded_path(path)));
        let size = entry.file_size.as_ref().and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
        Remote { name, at: At::Url(url), size, digest: None, version: None }
    }

    fn list(&self, root: &str, below: &str, depth: usize, about: &str, found: &mut Vec<Remote>) -> Result<(), Error> {
        let joined = |one: &str, other: &str| match (one, other) {
            ("", path) | (path, "") => path.to_owned(),
            (one, other) => format!("{one}/{other}"),
        };
        for entry in self.listing(&joined(root, below), about)? {
            // A path that leads elsewhere is none.
            let Some(name) = ArchivePath::new(&entry.path).ok().filter(|name| !name.as_str().contains('/')) else {
                return Err(self.puzzling(about, format!("`{}` is no name of an artifact", entry.path.escape_debug())));
            };
            let name = joined(below, name.as_str());
            if entry.is_dir {
                if depth == DEEPEST {
                    return Err(
                        self.puzzling(about, format!("there are more than {DEEPEST} folders within each other"))
                    );
                }
                self.list(root, &name, depth + 1, about, found)?;
            } else {
                found.push(self.remote(&joined(root, &name), name, &entry));
            }
            if found.len() > MOST_FILES {
                return Err(self.puzzling(about, format!("there are more than {MOST_FILES} artifacts")));
            }
        }
        Ok(())
    }
}

/// An artifact in a listing, or a folder of some.
#[derive(Deserialize)]
struct Entry {
    /// Its name in the folder that was listed.
    path: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<Json>,
}

/// The address that means for ever what `at` means now.
pub(in crate::bundle::origin) fn pinned(client: &Client, at: &Mlflow) -> Result<Mlflow, Error> {
    Ok(match at {
        Mlflow::Registered { name, which, path } if !matches!(which, Which::Number(_)) => {
            let version = Server::of_models(client, &at.to_string())?.version(name, which)?;
            Mlflow::Registered { name: name.clone(), which: Which::Number(version.version), path: path.clone() }
        }
        other => other.clone(),
    })
}

/// Where what an address names lies now.
pub(in crate::bundle::origin) fn locate(client: &Client, at: &Mlflow) -> Result<Located, Error> {
    let about = at.to_string();
    match at {
        Mlflow::Registered { name, which, path } => {
            let server = Server::of_models(client, &about)?;
            let version = server.version(name, which)?;
            let number = version.version.to_string();
            let query = [("name", name.as_str()), ("version", &number)];
            let uri: Uri = server.get("mlflow/model-versions/get-download-uri", &query, &about)?;
            let place = trace(client, &server, &uri.artifact_uri, path, &about, 0)?;
            Ok(Located { version: format!("{name}/{number}"), place })
        }
        Mlflow::Logged { id, path } => {
            let server = Server::of_runs(client, &about)?;
            let uri = format!("models:/{id}");
            Ok(Located { version: id.clone(), place: trace(client, &server, &uri, path, &about, 0)? })
        }
        Mlflow::Run { run, path } => {
            let server = Server::of_runs(client, &about)?;
            let uri = format!("runs:/{run}");
            Ok(Located { version: run.clone(), place: trace(client, &server, &uri, path, &about, 0)? })
        }
        Mlflow::Artifacts { path } => {
            let server = Server::of_runs(client, &about)?;
            Ok(Located { version: about, place: Place::Server(Box::new(server), path.clone()) })
        }
    }
}

/// Where artifacts lie.
#[derive(Deserialize)]
struct Uri {
    artifact_uri: String,
}

/// Follows what `server` says of where artifacts lie, `path` below that.
fn trace(client: &Client, server: &Server, uri: &str, path: &str, about: &str, steps: usize) -> Result<Place, Error> {
    #[derive(Deserialize)]
    struct Logged {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        info: Uri,
    }
    #[derive(Deserialize)]
    struct Run {
        run: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        info: Uri,
    }
    if steps == LONGEST_TRAIL {
        return Err(server.puzzling(about, "its artifacts are said to be where others are, and so on"));
    }
    let below = |above: &str| {
        let (above, path) = (above.trim_end_matches('/'), path.trim_end_matches('/'));
        let whole = if path.is_empty() { above.to_owned() } else { format!("{above}/{path}") };
        whole.trim_start_matches('/').to_owned()
    };
    let elsewhere = |why| Error::Elsewhere {
        about: about.to_owned(),
        place: uri.rsplit_once('@').map_or(uri, |(_, at)| at).to_owned(),
        why,
    };
    let (scheme, rest) = uri.split_once(':').unwrap_or(("file", uri));
    match scheme {
        "mlflow-artifacts" => {
            let rest = match rest.strip_prefix("//") {
                Some(rest) => {
                    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
                    if !host.is_empty() && host != transport::authority(&server.url) {
                        return Err(elsewhere("which is another server than the one that was asked"));
                    }
                    rest
                }
                None => rest,
            };
            Ok(Place::Server(Box::new(server.clone()), below(rest)))
        }
        "s3" => {
            let (bucket, key) =
                rest.trim_start_matches('/').split_once('/').ok_or_else(|| elsewhere("which is no key"))?;
            Ok(Place::S3 { bucket: bucket.to_owned(), key: below(key) })
        }
        "models" | "runs" => {
            // Those are found on the server that knows runs.
            let server = Server::of_runs(client, about)?;
            let (next, more) = match Mlflow::read(scheme, rest) {
                Some(Mlflow::Logged { id, path }) => {
                    let found: Logged = server.get(&format!("mlflow/logged-models/{id}"), &[], about)?;
                    (found.model.info.artifact_uri, path)
                }
                Some(Mlflow::Run { run, path }) => {
                    let found: Run = server.get("mlflow/runs/get", &[("run_id", &run)], about)?;
                    (found.run.info.artifact_uri, path)
                }
                _ => return Err(server.puzzling(about, format!("`{}` is no address", uri.escape_debug()))),
            };
            let path = match (more.as_str(), path) {
                ("", path) => path.to_owned(),
                (more, "") => more.to_owned(),
                (more, path) => format!("{more}/{path}"),
            };
            trace(client, &server, &next, &path, about, steps + 1)
        }
        "file" => {
            let folder = Path::new(rest.strip_prefix("//").unwrap_or(rest));
            // A server elsewhere must not choose files of this machine.
            if !is_loopback(server.url.host_str().unwrap_or_default()) {
                return Err(elsewhere("which is on the server's own disk"));
            }
            let folder = if path.is_empty() { folder.to_owned() } else { folder.join(path) };
            match folder.join("MLmodel").is_file() {
                true => Ok(Place::Folder(folder)),
                false => Err(elsewhere("where no model is on this machine")),
            }
        }
        _ => Err(elsewhere("where nothing is fetched from")),
    }
}

/// The files of a model's folder on this machine. A link is none.
pub(in crate::bundle::origin) fn listed(folder: &Path) -> std::io::Result<Vec<Remote>> {
    let mut found = Vec::new();
    for entry in ignore::WalkBuilder::new(folder).standard_filters(false).max_depth(Some(DEEPEST)).build() {
        let entry = entry.map_err(std::io::Error::other)?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let name = entry.path().strip_prefix(folder).map_err(std::io::Error::other)?;
        let name = ArchivePath::from_path(name).map_err(std::io::Error::other)?;
        let size = entry.metadata().map_err(std::io::Error::other)?.len();
        found.push(Remote {
            name: name.to_string(),
            at: At::Path(entry.path().to_owned()),
            size: Some(size),
            digest: None,
            version: None,
        });
        if found.len() > MOST_FILES {
            break;
        }
    }
    Ok(found)
}
