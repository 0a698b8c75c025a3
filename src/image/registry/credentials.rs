//! Credentials where docker and podman keep them: their files, and the helpers that those files name.
//!
//! Read in podman's order (`containers-auth.json(5)`), then docker's file. A helper that is not installed is passed
//! over: it must not stop a pull that needs no credentials. Written is docker's file, which podman and skopeo read as
//! well, or the one that `REGISTRY_AUTH_FILE` names. Secrets go to helpers through stdin and never become arguments.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Error;
use super::reference::HUB;
use crate::io::confine;
use crate::io::progress::Progress;

/// Under what name docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Largest file of credentials, and longest answer of a helper, in bytes.
const LARGEST: u64 = 4 << 20;

/// Who somebody is to a registry. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, which buys others (OAuth 2.0, RFC 6749, section 6).
    Identity(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// The parts of a file of credentials that matter here.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AuthFile {
    auths: std::collections::BTreeMap<String, Entry>,
    cred_helpers: std::collections::BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Entry {
    fn credential(self) -> Option<Credential> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = filled(self.identitytoken) {
            return Some(Credential::Identity(token));
        }
        if let Some(auth) = filled(self.auth) {
            let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            // Docker pads old passwords with zeros.
            let password = password.trim_end_matches('\0').to_owned();
            return Some(Credential::Password { user: user.to_owned(), password });
        }
        Some(Credential::Password { user: filled(self.username)?, password: filled(self.password)? })
    }
}

/// The credential for `repository` of `registry`, if there is one.
///
/// # Errors
/// When a file is there that cannot be read, or a helper is there that fails.
pub(super) fn find(registry: &str, repository: &str, progress: &Progress) -> Result<Option<Credential>, Error> {
    for path in files() {
        let Some(file) = read(&path)? else { continue };
        let file: AuthFile = serde_json::from_value(file).map_err(|error| unusable(&path, error))?;
        if let Some(credential) = of_file(file, registry, repository, progress)? {
            return Ok(Some(credential));
        }
    }
    Ok(None)
}

/// The registries that the files have something for, by name.
///
/// # Errors
/// When a file is there that cannot be read.
pub(super) fn known() -> Result<Vec<String>, Error> {
    let mut names = std::collections::BTreeSet::new();
    for path in files() {
        let Some(file) = read(&path)? else { continue };
        let file: AuthFile = serde_json::from_value(file).map_err(|error| unusable(&path, error))?;
        names.extend(file.auths.keys().chain(file.cred_helpers.keys()).map(|key| host_of(key)));
    }
    Ok(names.into_iter().collect())
}

fn of_file(
    mut file: AuthFile,
    registry: &str,
    repository: &str,
    progress: &Progress,
) -> Result<Option<Credential>, Error> {
    let helper = file.cred_helpers.iter().find(|(key, _)| host_of(key) == host_of(registry));
    if let Some((key, helper)) = helper
        && let Some(credential) = ask(helper, key, progress)?
    {
        return Ok(Some(credential));
    }
    // Podman has entries for repositories too: the longest that fits wins.
    let place = format!("{}/{repository}", host_of(registry));
    let fits = |key: &str| {
        let key = normal(key);
        place == key || place.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut keys: Vec<_> = file.auths.keys().filter(|key| fits(key)).cloned().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(normal(key).len()));
    for key in keys {
        if let Some(credential) = file.auths.remove(&key).and_then(Entry::credential) {
            return Ok(Some(credential));
        }
    }
    match file.creds_store {
        Some(helper) => ask(&helper, key_of(registry), progress),
        None => Ok(None),
    }
}

/// A key without scheme, version and slashes at its end; Docker Hub under its one name.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

fn host_of(key: &str) -> String {
    normal(key).split('/').next().unwrap_or_default().to_owned()
}

/// Under what name credentials for a registry are kept.
fn key_of(registry: &str) -> &str {
    if registry == HUB { HUB_KEY } else { registry }
}

/// Where credentials may lie, in order.
fn files() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = std::env::home_dir();
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let runtime = variable("XDG_RUNTIME_DIR");
    let mut files: Vec<_> =
        [runtime, config].into_iter().flatten().map(|dir| dir.join("containers/auth.json")).collect();
    files.extend(docker_file());
    files
}

fn docker_file() -> Option<PathBuf> {
    let variable = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable.or_else(|| std::env::home_dir().map(|home| home.join(".docker")))?;
    Some(folder.join("config.json"))
}

/// The content of a file; none where there is no file, or an empty one.
fn read(path: &Path) -> Result<Option<Value>, Error> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, LARGEST), &mut text)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::File { path: path.display().to_string(), source: why.into() }
}

/// Asks a helper (protocol: docker-credential-helpers) for what it has under `key`.
fn ask(helper: &str, key: &str, progress: &Progress) -> Result<Option<Credential>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Some(output) = call(helper, "get", key.as_bytes())? else {
        progress.detail(format!("the credential helper docker-credential-{helper} is not installed: passed over"));
        return Ok(None);
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        // What all helpers say when they simply have nothing; others just fail where there is no desktop.
        if !text.contains("not found") {
            progress.detail(format!("the credential helper docker-credential-{helper} has nothing for {key}"));
        }
        return Ok(None);
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| Error::Helper {
        program: format!("docker-credential-{helper}"),
        message: "its answer is not what the protocol says".to_owned(),
    })?;
    Ok(match answer.username.as_str() {
        "" => None,
        "<token>" => Some(Credential::Identity(answer.secret)),
        _ => Some(Credential::Password { user: answer.username, password: answer.secret }),
    })
}

/// Runs a helper; none where it is not installed.
fn call(helper: &str, verb: &str, input: &[u8]) -> Result<Option<std::process::Output>, Error> {
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        return Err(Error::Helper { program, message: "its name is a path".to_owned() });
    }
    let Some(path) = confine::on_path(&program) else { return Ok(None) };
    let mut command = Command::new(path);
    // What it finds where it starts is nothing of a project's.
    command.arg(verb).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        child => child?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read ends with an error of its own.
        let _ = stdin.write_all(input);
    }
    Ok(Some(child.wait_with_output()?))
}

/// Keeps a credential for `registry`, and says where: a file, or the helper that docker's configuration names.
///
/// # Errors
/// When the file cannot be read or written, or the helper fails.
pub(super) fn keep(registry: &str, credential: &Credential) -> Result<String, Error> {
    let path = own_file()?;
    let key = key_of(registry);
    let (user, secret) = match credential {
        Credential::Password { user, password } => (user.as_str(), password.as_str()),
        Credential::Identity(token) => ("<token>", token.as_str()),
    };
    if let Some(helper) = helper_of(&object(&path)?, registry) {
        let input = json!({ "ServerURL": key, "Username": user, "Secret": secret }).to_string();
        if let Some(output) = call(&helper, "store", input.as_bytes())? {
            let program = format!("docker-credential-{helper}");
            if !output.status.success() {
                let message = String::from_utf8_lossy(&output.stdout).trim().chars().take(200).collect();
                return Err(Error::Helper { program, message });
            }
            return Ok(program);
        }
    }
    let entry = match credential {
        Credential::Password { user, password } => json!({ "auth": STANDARD.encode(format!("{user}:{password}")) }),
        Credential::Identity(token) => json!({ "identitytoken": token }),
    };
    change(&path, |document| {
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        let auths = auths.as_object_mut().ok_or_else(|| unusable(&path, "`auths` in it is no object"))?;
        auths.insert(key.to_owned(), entry);
        Ok(true)
    })?;
    Ok(path.display().to_string())
}

/// Removes the credentials for `registry` from all files and helpers; says whether there were any.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn forget(registry: &str) -> Result<bool, Error> {
    let mut found = false;
    for path in files() {
        if !path.exists() {
            continue;
        }
        if let Some(helper) = helper_of(&object(&path)?, registry) {
            let output = call(&helper, "erase", key_of(registry).as_bytes())?;
            found |= output.is_some_and(|output| output.status.success());
        }
        found |= change(&path, |document| {
            let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(false) };
            let before = auths.len();
            auths.retain(|key, _| normal(key) != normal(registry));
            Ok(auths.len() < before)
        })?;
    }
    Ok(found)
}

fn own_file() -> Result<PathBuf, Error> {
    let variable = std::env::var_os("REGISTRY_AUTH_FILE").filter(|value| !value.is_empty()).map(PathBuf::from);
    variable
        .or_else(docker_file)
        .ok_or_else(|| io::Error::other("there is no home directory: set DOCKER_CONFIG").into())
}

fn helper_of(document: &Map<String, Value>, registry: &str) -> Option<String> {
    let helpers = document.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| host_of(key) == host_of(registry)));
    let helper = own.map(|(_, helper)| helper).or_else(|| document.get("credsStore"))?;
    helper.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn object(path: &Path) -> Result<Map<String, Value>, Error> {
    match read(path)? {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(unusable(path, "it holds no object")),
    }
}

/// Changes a file, where `change` says that it did, while no other of us does: whole or not at all, and for nobody else to read. Says
/// whether it did.
fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> Result<bool, Error>) -> Result<bool, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let lock = fs::File::open(folder)?;
    lock.file().lock()?;
    let mut document = object(path)?;
    if !change(&mut document)? {
        return Ok(false);
    }
    // A link, as people have for their settings, stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A temporary file has the mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(folder))?;
    file.write_all(serde_json::to_string_pretty(&document).map_err(io::Error::from)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str, repository: &str) -> Option<Credential> {
        of_file(serde_json::from_str(text).unwrap(), registry, repository, &Progress::silent()).unwrap()
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn credentials_are_found_as_docker_and_podman_write_them() {
        let auth = |text: &str| STANDARD.encode(text);
        let docker = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"registry.example:5000":{{"auth":"{}"}},
               "ghcr.example":{{"identitytoken":"t"}}}}}}"#,
            auth("hub:a:b"),
            auth("me:secret")
        );
        assert_eq!(found(&docker, HUB, "library/python"), password("hub", "a:b"));
        assert_eq!(found(&docker, "registry.example:5000", "iris"), password("me", "secret"));
        assert_eq!(found(&docker, "ghcr.example", "iris"), Some(Credential::Identity("t".to_owned())));
        assert_eq!(found(&docker, "registry.example", "iris"), None);
        assert_eq!(found(&docker, "xregistry.example:5000", "iris"), None);
        let podman = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}},"r.example/team":{{"auth":"{}"}}}}}}"#,
            auth("all:1"),
            auth("team:2")
        );
        assert_eq!(found(&podman, "r.example", "team/iris"), password("team", "2"));
        assert_eq!(found(&podman, "r.example", "teams/iris"), password("all", "1"));
    }

    #[test]
    fn a_missing_helper_is_passed_over() {
        let text = r#"{"credsStore":"is-not-installed","credHelpers":{"r.example":"is-not-either"}}"#;
        assert_eq!(found(text, "r.example", "iris"), None);
        assert_eq!(found(text, "other.example", "iris"), None);
    }

    #[test]
    fn nothing_shows_a_secret() {
        assert!(!format!("{:?}", password("me", "hunter2")).contains("hunter2"));
    }
}
