//! A cluster, and who talks to it for us: `kubectl`, or the API server is asked itself. And the way to a service in it.

use std::ffi::OsString;

use serde_json::Value;
use url::Url;

use super::api::Api;
use super::kubectl::{Error, Force, Forwarding, Kubectl};
use super::object::Object;
use crate::io::http::{Client, Settings};
use crate::run::service::{self, Service};

/// A cluster.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// The one that `kubectl` knows.
    Kubectl(Kubectl),
    /// The one with this API server.
    Api(Api),
}

/// The way to a service of a cluster. It is open for as long as this lives.
#[derive(Debug)]
pub struct Way {
    /// The service at its end.
    pub service: Service,
    forwarding: Option<Forwarding>,
}

impl Way {
    /// The same, which leads to where all paths begin with `root`, if there is one.
    #[must_use]
    pub fn below(self, root: Option<&str>) -> Self {
        let Self { service, forwarding } = self;
        Self { service: service.below(root), forwarding }
    }
}

impl Cluster {
    /// The cluster at `server` (`K8S_API` of DPM360's service builder), as whom it knows by `token` (`K8S_API_KEY`), where both are said;
    /// else that of `kubectl`; else, where there is no such program and this runs in a pod, the pod's own.
    ///
    /// # Errors
    /// When the address is none.
    pub fn of(client: &Client, said: Option<(String, String)>, passed: Vec<OsString>) -> Result<Self, url::ParseError> {
        if let Some((server, token)) = said {
            return Ok(Self::Api(Api::at(client, Url::parse(&server)?, token)));
        }
        let kubectl = Kubectl::new(passed);
        Ok(match Api::inside(client).filter(|_| !kubectl.is_there()) {
            Some(api) => Self::Api(api),
            None => Self::Kubectl(kubectl),
        })
    }

    /// The same, whose objects are in `namespace` where they say none.
    #[must_use]
    pub fn within(self, namespace: Option<&str>) -> Self {
        match self {
            Self::Api(api) => Self::Api(api.within(namespace)),
            kubectl @ Self::Kubectl(_) => kubectl,
        }
    }

    /// As [`Kubectl::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, objects: &[Object], force: Force) -> Result<Vec<String>, Error> {
        match self {
            Self::Kubectl(kubectl) => kubectl.apply(objects, force),
            Self::Api(api) => api.apply(objects, force),
        }
    }

    /// As [`Kubectl::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, objects: &[Object]) -> Result<Vec<String>, Error> {
        match self {
            Self::Kubectl(kubectl) => kubectl.delete(objects),
            Self::Api(api) => api.delete(objects),
        }
    }

    /// As [`Kubectl::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, objects: &[Object], seconds: u64) -> Result<(), Error> {
        match self {
            Self::Kubectl(kubectl) => kubectl.wait(objects, seconds),
            Self::Api(api) => api.wait(objects, seconds),
        }
    }

    /// What the cluster has of an object. None where there is none.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn find(&self, object: &Object) -> Result<Option<Value>, Error> {
        match self {
            Self::Kubectl(kubectl) => kubectl.find(object),
            Self::Api(api) => api.find(object),
        }
    }

    /// The namespace in which an object is that was applied.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn namespace_of(&self, object: &Object) -> Result<String, Error> {
        match (self, object.namespace()) {
            (_, Some(namespace)) => Ok(namespace.to_owned()),
            (Self::Api(api), None) => Ok(api.namespace_of(object).to_owned()),
            (Self::Kubectl(kubectl), None) => {
                let found = kubectl.find(object)?.unwrap_or_default();
                Ok(found["metadata"]["namespace"].as_str().unwrap_or("default").to_owned())
            }
        }
    }

    /// The way to the Service `service`, whose port is `http`: its name in a pod of the cluster, else through `kubectl port-forward`,
    /// else through the API server.
    ///
    /// # Errors
    /// When there is none.
    pub fn way(&self, service: &Object, settings: &Settings) -> Result<Way, Error> {
        let at = |url: &Url| Service::at(url, settings).map_err(nowhere);
        let direct = |service| Way { service, forwarding: None };
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty()) {
            let host = format!("{}.{}.svc", service.name(), self.namespace_of(service)?);
            let url = Url::parse(&format!("http://{host}")).map_err(|error| Error::NoWay { why: error.to_string() })?;
            return Ok(direct(at(&url)?));
        }
        match self {
            Self::Kubectl(kubectl) => {
                let forwarding = kubectl.forward(service)?;
                Ok(Way { service: Service::new(forwarding.address), forwarding: Some(forwarding) })
            }
            Self::Api(api) => {
                let (url, secrets) = api.through(service)?;
                Ok(direct(at(&url)?.knowing(secrets)))
            }
        }
    }
}

fn nowhere(error: service::Error) -> Error {
    Error::NoWay { why: error.to_string() }
}
