//! All registries, as one command knows them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::credentials::{self, Credential};
use super::host::{Host, Target};
use super::reference::Reference;
use super::repository::Repository;
use super::{Error, lock};
use crate::image::session::Session;
use crate::io::explain::with_causes;
use crate::io::finding::{Finding, Level};
use crate::io::http::{self, Client, Method, Patience, Request, is_loopback};
use crate::io::progress::Progress;

/// All registries, as one command knows them. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    progress: Progress,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Registries {
    /// Registries as `session` may reach them. No connection is opened yet.
    pub fn new(session: &Session) -> Self {
        Self::of(&session.client, &session.progress)
    }

    /// Registries as `client` may reach them.
    pub fn of(client: &Client, progress: &Progress) -> Self {
        let client = client.looking_below(certificates());
        Self { inner: Arc::new(Inner { client, progress: progress.clone(), hosts: Mutex::default() }) }
    }

    /// The registries that something is kept to log in to, by name.
    ///
    /// # Errors
    /// When a file with credentials cannot be read.
    pub fn logins(&self) -> Result<Vec<String>, Error> {
        credentials::known()
    }

    /// Whether what is kept to log in to `registry` still does.
    pub fn finding(&self, registry: &str) -> Finding {
        const NAME: &str = "registry";
        if self.inner.client.is_offline() {
            return Finding::ok(NAME, format!("{registry}, not asked (--offline)"));
        }
        let host = self.host(registry, None);
        let target = Target::Path("/v2/".to_owned());
        let asked = host.ask(&target, &mut Request::new(Method::GET).patience(Patience::within(http::SHORT)), &[]);
        let failed = |error: Error| Finding {
            fact: format!("{registry}: {}", with_causes(&error)),
            ..Finding::of_error(NAME, Level::Warning, &error)
        };
        match asked {
            Ok(answer) if answer.status == 200 && host.asks_who() => {
                Finding::ok(NAME, format!("{registry}: the login works"))
            }
            Ok(answer) if answer.status == 200 => Finding::ok(NAME, format!("{registry}: it asks for no login")),
            Ok(answer) => failed(host.judge_login(answer)),
            Err(error) => failed(error),
        }
    }

    /// The repository of `reference`.
    pub fn repository(&self, reference: &Reference) -> Repository {
        let mut hosts = lock(&self.inner.hosts);
        let name = reference.registry();
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(self.host(name, None)));
        Repository::new(host.clone(), reference.repository())
    }

    fn host(&self, name: &str, given: Option<Credential>) -> Host {
        let Inner { client, progress, .. } = &*self.inner;
        let host = name.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(name, |(host, _)| host);
        let schemes = match () {
            () if client.settings().plain_http.iter().any(|plain| plain == name) => vec!["http"],
            () if is_loopback(host) => vec!["http", "https"],
            () => vec!["https"],
        };
        Host::new(name, client, progress, schemes, given)
    }

    /// Finds out whether `registry` knows somebody, and keeps the credential if it does. Says where.
    ///
    /// # Errors
    /// [`Error::Denied`] when it does not.
    pub fn login(&self, registry: &str, credential: Credential) -> Result<String, Error> {
        let host = self.host(registry, Some(credential.clone()));
        let target = Target::Path("/v2/".to_owned());
        let answer = self.inner.client.retrying(|| host.ask(&target, &mut Request::new(Method::GET), &[]))?;
        if answer.status != 200 {
            return Err(host.judge_login(answer));
        }
        // A registry that asks nobody has checked nothing.
        if !host.asks_who() {
            let why = "it asks for no credentials, so these were not checked";
            self.inner.progress.warn(format!("{registry}: {why}"));
        }
        credentials::keep(registry, &credential)
    }
}

/// Removes what is kept to log in to `registry`; says whether there was something.
///
/// # Errors
/// When a file cannot be changed.
pub fn logout(registry: &str) -> Result<bool, Error> {
    credentials::forget(registry)
}

/// Docker's and podman's folders, in which each registry may have one with certificates of its own.
fn certificates() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let below = |path: &str| home.as_ref().map(|home| home.join(path));
    [
        Some(PathBuf::from("/etc/docker/certs.d")),
        Some(PathBuf::from("/etc/containers/certs.d")),
        below(".docker/certs.d"),
        below(".config/docker/certs.d"),
        below(".config/containers/certs.d"),
    ]
    .into_iter()
    .flatten()
    .collect()
}
