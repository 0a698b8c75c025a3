//! Objects applied, waited for and deleted by asking the API server itself: inside a cluster there is no `kubectl`, and one request
//! each is all that it takes. Applied is by the server, under the same name as by `kubectl` (Kubernetes' "Server-Side Apply": a PATCH
//! of the type `application/apply-patch+yaml`).
//!
//! Invariant: the token goes to that server alone. It is read for each request, as the kubelet renews its file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::kubectl::{Error, Force, MANAGER, reason};
use super::object::{Object, resource};
use super::progress::{PAUSE, Progress, progress};
use crate::io::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use crate::io::http::{self, Answer, Client, Method, Patience, Payload, Request};

/// Where the kubelet puts what a pod's service account is known by.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Bytes of an answer.
const LARGEST: u64 = 32 << 20;

/// How long an answer is waited for.
const PATIENCE: Patience = Patience::within(Duration::from_secs(60));

/// The API server of a cluster, and who asks it.
#[derive(Clone, Debug)]
pub struct Api {
    url: Url,
    token: Token,
    /// Of objects that say none.
    namespace: String,
    client: Client,
}

#[derive(Clone)]
enum Token {
    Said(String),
    In(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(_) => f.write_str("***"),
            Self::In(path) => path.fmt(f),
        }
    }
}

impl Api {
    /// The API server of the cluster in whose pod this program runs, as the pod's service account. None where it runs elsewhere, or the
    /// pod has no token.
    pub fn inside(client: &Client) -> Option<Self> {
        let folder = Path::new(ACCOUNT);
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (host, token) = (set("KUBERNETES_SERVICE_HOST")?, folder.join("token"));
        let port = set("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let url = Url::parse(&format!("https://{host}:{port}")).ok()?;
        let namespace = std::fs::read_to_string(folder.join("namespace")).ok()?;
        let client = client.trusting_also(vec![folder.join("ca.crt")]);
        let namespace = namespace.trim().to_owned();
        token.is_file().then_some(Self { url, token: Token::In(token), namespace, client })
    }

    /// The API server at `url`, which knows who asks by `token`.
    pub fn at(client: &Client, url: Url, token: String) -> Self {
        Self { url, token: Token::Said(token), namespace: "default".to_owned(), client: client.clone() }
    }

    /// The same, whose objects are in `namespace` where they say none.
    #[must_use]
    pub fn within(self, namespace: Option<&str>) -> Self {
        let namespace = namespace.map_or(self.namespace, str::to_owned);
        Self { namespace, ..self }
    }

    /// The namespace of an object.
    pub fn namespace_of<'a>(&'a self, object: &'a Object) -> &'a str {
        object.namespace().unwrap_or(&self.namespace)
    }

    /// As [`super::kubectl::Kubectl::apply`].
    ///
    /// # Errors
    /// When the server cannot be reached or refuses one; those before it are applied.
    pub fn apply(&self, objects: &[Object], force: Force) -> Result<Vec<String>, Error> {
        let apply = |object: &Object| {
            let mut url = self.address(object);
            let force = if force == Force::TakeOver { "true" } else { "false" };
            url.query_pairs_mut().extend_pairs([
                ("fieldManager", MANAGER),
                ("force", force),
                ("fieldValidation", "Strict"),
            ]);
            let body = object.value().to_string();
            self.ask(&Method::PATCH, &url, Some(body))?;
            Ok(format!("{}/{} serverside-applied", resource(object), object.name()))
        };
        objects.iter().map(apply).collect()
    }

    /// As [`super::kubectl::Kubectl::find`].
    ///
    /// # Errors
    /// As [`Api::apply`].
    pub fn find(&self, object: &Object) -> Result<Option<Value>, Error> {
        self.ask(&Method::GET, &self.address(object), None)
    }

    /// As [`super::kubectl::Kubectl::delete`].
    ///
    /// # Errors
    /// As [`Api::apply`].
    pub fn delete(&self, objects: &[Object]) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for object in objects.iter().rev() {
            let mut url = self.address(object);
            url.query_pairs_mut().append_pair("propagationPolicy", "Background");
            if self.ask(&Method::DELETE, &url, None)?.is_some() {
                lines.push(format!("{} \"{}\" deleted", resource(object), object.name()));
            }
        }
        Ok(lines)
    }

    /// As [`super::kubectl::Kubectl::wait`].
    ///
    /// # Errors
    /// When one does not become ready, with what its pods say.
    pub fn wait(&self, objects: &[Object], seconds: u64) -> Result<(), Error> {
        let mut waited_for = objects.iter().filter(|object| becomes_ready(object));
        waited_for.try_for_each(|object| self.wait_for(object, Duration::from_secs(seconds)))
    }

    fn wait_for(&self, object: &Object, most: Duration) -> Result<(), Error> {
        let until = Instant::now() + most;
        let url = self.address(object);
        loop {
            let found = self.ask(&Method::GET, &url, None);
            let why = match found.map(|found| progress(object, &found.unwrap_or_default())) {
                Ok(Progress::Ready) => return Ok(()),
                Ok(Progress::Never(why)) => return Err(self.not_ready(object, why)),
                Ok(Progress::NotYet) => format!("{} s were not enough", most.as_secs()),
                // It is asked again in a moment: an API server may be started anew.
                Err(error @ Error::Unreachable { .. }) if Instant::now() >= until => return Err(error),
                Err(Error::Unreachable { .. }) => String::new(),
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return Err(self.not_ready(object, why));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn not_ready(&self, object: &Object, why: String) -> Error {
        let what = format!("{}/{}", resource(object), object.name());
        Error::NotReady { what, why: self.pods(object).unwrap_or(why) }
    }

    /// What the pods of an object wait for.
    fn pods(&self, object: &Object) -> Option<String> {
        let mut url = self.url.clone();
        url.set_path(&format!("api/v1/namespaces/{}/pods", self.namespace_of(object)));
        url.query_pairs_mut().append_pair("labelSelector", &object.of_pods()?);
        let pods = self.ask(&Method::GET, &url, None).ok()??;
        let reasons: Vec<_> = pods["items"].as_array()?.iter().filter_map(reason).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Where the requests to a service go that the API server hands on, and what it knows by that they may.
    ///
    /// # Errors
    /// When the token cannot be had.
    pub fn through(&self, service: &Object) -> Result<(Url, HeaderMap), Error> {
        let mut url = self.address(service);
        url.set_path(&format!("{}:http/proxy", url.path()));
        Ok((url, self.secrets()?))
    }

    fn address(&self, object: &Object) -> Url {
        let version = object.value()["apiVersion"].as_str().unwrap_or_default();
        let group = if version.contains('/') { "apis" } else { "api" };
        let (namespace, plural, name) = (self.namespace_of(object), object.plural(), object.name());
        let mut url = self.url.clone();
        let above = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{above}/{group}/{version}/namespaces/{namespace}/{plural}/{name}"));
        url
    }

    fn secrets(&self) -> Result<HeaderMap, Error> {
        let token = match &self.token {
            Token::Said(token) => token.clone(),
            Token::In(path) => std::fs::read_to_string(path)
                .map_err(|source| Error::Token { path: path.clone(), source })?
                .trim()
                .to_owned(),
        };
        Ok(http::authorization(&format!("Bearer {token}")).unwrap_or_default())
    }

    /// Asks, and gives what is answered; none where there is no such object.
    fn ask(&self, method: &Method, url: &Url, body: Option<String>) -> Result<Option<Value>, Error> {
        let unreachable = |source| Error::Unreachable { server: http::authority(&self.url), source };
        let secrets = self.secrets()?;
        let send = || {
            let request = Request::new(method.clone()).patience(PATIENCE).header(ACCEPT, "application/json");
            let mut request = match &body {
                Some(body) => request
                    .header(CONTENT_TYPE, "application/apply-patch+yaml")
                    .carrying(Payload::Bytes(body.clone().into())),
                None => request,
            };
            // Each of them can be done twice.
            self.client.send(url, &mut request, &secrets)
        };
        let answer = self.client.retrying(send).map_err(unreachable)?;
        let (status, is_success) = (answer.status, answer.is_success());
        let said: Value = serde_json::from_slice(&body_of(answer).map_err(unreachable)?).unwrap_or_default();
        if is_success {
            return Ok(Some(said));
        }
        let words = said["message"].as_str().map_or_else(|| format!("it answers with {status}"), str::to_owned);
        match (status, said["reason"].as_str()) {
            // Of a namespace that is not there it says that, too.
            (404, _) if *method != Method::PATCH => Ok(None),
            (409, Some("Conflict")) if *method == Method::PATCH => Err(Error::Conflict { said: words }),
            _ => Err(Error::Denied { said: words }),
        }
    }
}

fn body_of(answer: Answer) -> Result<Vec<u8>, http::Error> {
    answer.bytes(LARGEST)
}

/// Whether an object is not ready from the beginning. The others are not looked at: nobody has to be allowed to.
fn becomes_ready(object: &Object) -> bool {
    match object.kind() {
        "Deployment" | "Job" | "InferenceService" => true,
        // Knative's.
        "Service" => object.value()["apiVersion"] != "v1",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::Metadata;
    use crate::io::http::Network;

    fn object(api: &str, kind: &str) -> Object {
        let metadata = Metadata { name: "iris".to_owned(), namespace: None, labels: Default::default() };
        Object::new(api, kind, &metadata, json!({}))
    }

    #[test]
    fn each_object_has_its_address() {
        let url = Url::parse("https://cluster.example:6443/k8s/").unwrap();
        let api = Api::at(&Client::new(Network::Offline), url, "secret".to_owned()).within(Some("models"));
        assert!(!format!("{api:?}").contains("secret"));
        for (version, kind, path) in [
            ("v1", "Service", "/k8s/api/v1/namespaces/models/services/iris"),
            ("apps/v1", "Deployment", "/k8s/apis/apps/v1/namespaces/models/deployments/iris"),
            ("networking.k8s.io/v1", "Ingress", "/k8s/apis/networking.k8s.io/v1/namespaces/models/ingresses/iris"),
        ] {
            assert_eq!(api.address(&object(version, kind)).path(), path);
        }
    }
}
