//! A cluster: objects applied by the server under the operator's own name, listed, deleted.
//!
//! Invariant: what belongs to nobody, or to another resource, is never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Error;
use super::definition::Definition;
use super::resource::Resource;
use crate::project::manifest::deploy::KubernetesVersion;

/// Who sets the fields of objects and of a status.
pub const MANAGER: &str = "ekiben-operator";

/// The label that says who looks after a slice of a Service's addresses.
pub const SLICES_OF: &str = "endpointslice.kubernetes.io/managed-by";

/// Where it is told that a resource is to be looked at.
pub type Knocks = mpsc::UnboundedSender<ObjectRef<DynamicObject>>;

/// Seconds that an answer may take to begin. Watches say something more often than that.
const PATIENCE: Duration = Duration::from_secs(295);

/// Kinds of objects: apiVersion, kind, plural.
const KINDS: [(&str, &str, &str); 9] = [
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("v1", "Service", "services"),
    ("apps/v1", "Deployment", "deployments"),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("networking.k8s.io/v1", "Ingress", "ingresses"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
];

/// The oldest version that objects are written for: 1.25.
const OLDEST: u16 = 25;

/// What clusters of before 1.25 have in the place of newer versions, of the same shape as far as it is used here.
const OLDER: [(&str, &str); 3] = [
    ("autoscaling/v2", "autoscaling/v2beta2"),
    ("policy/v1", "policy/v1beta1"),
    ("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
];

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The versions of groups that it has.
    served: BTreeSet<String>,
    /// Its own.
    version: KubernetesVersion,
}

impl Cluster {
    /// The cluster of a kubeconfig; without one, that in which this runs, or that of `KUBECONFIG` and ~/.kube/config.
    ///
    /// # Errors
    /// When none is known, or it does not answer.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, Error> {
        let unknown = |why: String| Error::NoCluster { why };
        let mut config = match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| unknown(error.to_string()))?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| unknown(error.to_string()))?
            }
            None => Config::infer().await.map_err(|error| unknown(error.to_string()))?,
        };
        config.read_timeout = Some(PATIENCE);
        let client = Client::try_from(config).map_err(|error| unknown(error.to_string()))?;
        let groups = client.list_api_groups().await.map_err(Error::api("the cluster's groups"))?;
        let versions = groups.groups.into_iter().flat_map(|group| group.versions);
        let served = versions.map(|version| version.group_version).chain(["v1".to_owned()]).collect();
        let about = client.apiserver_version().await.map_err(Error::api("the cluster's version"))?;
        // As `20+`. What is older than all that is written for gets what that gets.
        let minor: String = about.minor.chars().take_while(char::is_ascii_digit).collect();
        let version = KubernetesVersion(minor.parse().unwrap_or(OLDEST).max(OLDEST));
        Ok(Self { client, served, version })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its version, as far as objects differ by it.
    pub fn kubernetes(&self) -> KubernetesVersion {
        self.version
    }

    /// The version that it has of `api_version`, as far as it has one.
    fn version<'a>(&self, api_version: &'a str) -> &'a str {
        let older = OLDER.iter().find(|(newer, _)| *newer == api_version).map(|(_, older)| *older);
        older.filter(|older| !self.served.contains(api_version) && self.served.contains(*older)).unwrap_or(api_version)
    }

    /// How the API has a kind of those that models are made of.
    fn kind(&self, kind: &str) -> Option<ApiResource> {
        let (api_version, kind, plural) = KINDS.into_iter().find(|(_, known, _)| *known == kind)?;
        Some(resource(self.version(api_version), kind, plural))
    }

    /// Objects of a kind in a namespace.
    ///
    /// # Errors
    /// When the kind is none of those that models are made of.
    pub fn objects(&self, kind: &str, namespace: &str) -> Result<Api<DynamicObject>, Error> {
        let found = self.kind(kind).ok_or_else(|| Error::UnknownKind(kind.to_owned()))?;
        Ok(Api::namespaced_with(self.client.clone(), namespace, &found))
    }

    /// Applies an object for `resource`, whose it is from then on.
    ///
    /// # Errors
    /// When another object of this name is not the resource's, or the API server says no.
    pub async fn apply(&self, owner: &Owner<'_>, object: &Value) -> Result<DynamicObject, Error> {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let api = self.objects(kind, &owner.resource.namespace)?;
        let what = || format!("{kind} {name}");
        let there = api.get_metadata_opt(name).await.map_err(Error::api(what()))?;
        if there.is_some_and(|there| !owner.owns(&there.metadata)) {
            return Err(Error::Taken { what: what() });
        }
        let mut object = object.clone();
        object["apiVersion"] = json!(self.version(text(&object["apiVersion"])));
        object["metadata"]["namespace"] = json!(owner.resource.namespace);
        for (key, value) in owner.labels() {
            object["metadata"]["labels"][key] = json!(value);
        }
        if let Some(reference) = owner.reference() {
            object["metadata"]["ownerReferences"] = json!([reference]);
        }
        let how = PatchParams::apply(MANAGER).force();
        api.patch(name, &how, &Patch::Apply(&object)).await.map_err(Error::api(what()))
    }

    /// Deletes what belongs to the resource and is not among `kept`, kinds with names.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn prune(&self, owner: &Owner<'_>, kept: &BTreeSet<(String, String)>) -> Result<(), Error> {
        for (_, kind, _) in KINDS {
            let api = self.objects(kind, &owner.resource.namespace)?;
            let list = match api.list_metadata(&ListParams::default().labels(&owner.selector())).await {
                // A kind that this cluster does not have, or that nobody let the operator see.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => continue,
                list => list.map_err(Error::api(kind))?,
            };
            for object in list {
                let name = object.name_any();
                // Kubernetes' own slices of a Service have its labels.
                let is_slice = kind == "EndpointSlice" && object.labels().get(SLICES_OF).is_none_or(|of| of != MANAGER);
                let is_kept = is_slice || kept.contains(&(kind.to_owned(), name.clone()));
                if owner.owns(&object.metadata) && object.metadata.deletion_timestamp.is_none() && !is_kept {
                    gone(api.delete(&name, &background()).await).map_err(Error::api(format!("{kind} {name}")))?;
                }
            }
        }
        Ok(())
    }

    /// The pods with these labels.
    ///
    /// # Errors
    /// When the API server says no.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<DynamicObject>, Error> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource("v1", "Pod", "pods"));
        Ok(api.list(&ListParams::default().labels(selector)).await.map_err(Error::api("pods"))?.items)
    }

    /// Jobs of a namespace, or of all.
    pub fn jobs(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let job = resource("batch/v1", "Job", "jobs");
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &job),
            None => Api::all_with(self.client.clone(), &job),
        }
    }

    /// How a Deployment is asked for, and a Job: what is watched.
    pub fn watched() -> [ApiResource; 2] {
        [resource("apps/v1", "Deployment", "deployments"), resource("batch/v1", "Job", "jobs")]
    }
}

fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Whose objects are.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// Its kind.
    pub definition: &'a Definition,
    /// Where its objects are.
    pub place: Place,
}

/// Where the objects of a resource are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its own cluster, which deletes them with it.
    Same,
    /// In another one.
    Other,
}

impl Owner<'_> {
    /// What tells its objects from others.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let label = |name: &str, value: &str| (self.definition.key(name), value.to_owned());
        // A label takes 63 letters, and a name may have more.
        BTreeMap::from([label("uid", &self.resource.uid), label("operated", "true")])
    }

    /// How the controller names the resource.
    pub fn object(&self) -> ObjectRef<DynamicObject> {
        ObjectRef::new_with(&self.resource.name, self.definition.resource()).within(&self.resource.namespace)
    }

    fn selector(&self) -> String {
        format!("{}={}", self.definition.key("uid"), self.resource.uid)
    }

    fn owns(&self, metadata: &kube::core::ObjectMeta) -> bool {
        let labels = metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.get(&self.definition.key("uid")) == Some(&self.resource.uid))
    }

    /// What the garbage collector goes by.
    pub fn reference(&self) -> Option<Value> {
        (self.place == Place::Same).then(|| {
            json!({
                "apiVersion": self.definition.api_version(),
                "kind": self.definition.kind(),
                "name": self.resource.name,
                "uid": self.resource.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            })
        })
    }
}

/// Deletes what belongs to an object after it.
pub fn background() -> DeleteParams {
    DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() }
}

/// What is gone already is as good as deleted.
pub fn gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

/// A text in a value; empty where it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
