//! What pods have because of training and messages: the claim, the data set, the broker.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::parts::{PARTS, Pod, Role, Volumes};
use super::target::Target;
use crate::bundle::runtime::TRAINED;
use crate::project::manifest::deploy::{Access, Broker, Deploy, Fetcher, TrainingThere};

/// What the volume of the claim is called.
const VOLUME: &str = "trained";

/// Seconds for which a training is waited for where nothing is said.
const TIME: u64 = 3600;

/// Where the broker's certificates lie.
const CERTIFICATES: &str = "/etc/broker";

/// The key of the secret that has them.
const CA: &str = "ca.crt";

/// What the secret says of the broker, by variables; and whether it has to.
const SAID: [(&str, &str, bool); 3] =
    [("URL", "url", true), ("USERNAME", "username", false), ("PASSWORD", "password", false)];

/// Seconds for which a training is waited for.
pub fn seconds(deploy: &Deploy) -> u64 {
    let time = deploy.training.as_ref().and_then(|training| training.time.as_ref()?.meant().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a period is not negative")]
    time.map_or(TIME, |time| time.seconds().ceil() as u64)
}

/// What a pod has because of training and messages.
#[derive(Debug, Default)]
pub struct More<'a> {
    /// Variables.
    pub variables: BTreeMap<String, Value>,
    /// The data set that has to be there before.
    pub awaited: Option<Awaited<'a>>,
}

/// A data set that is waited for, or fetched.
#[derive(Debug)]
pub struct Awaited<'a> {
    /// The folder on the claim.
    pub folder: String,
    /// The file in it.
    pub path: String,
    /// How the claim is mounted.
    pub mount: Value,
    /// Where it comes from, and what fetches it.
    pub from: Option<(&'a str, &'a Fetcher)>,
}

/// What a pod of this role has of it.
pub fn of_pod<'a>(target: &Target, settings: &Settings<'a>, role: Role, volumes: &mut Volumes) -> More<'a> {
    let mut more = More::default();
    if role.is_of_training() && settings.is_trained_there(target) {
        let claim = said(settings).claim.clone().unwrap_or_else(|| claim(settings));
        volumes.add(VOLUME, json!({"persistentVolumeClaim": {"claimName": claim}}), json!({"mountPath": TRAINED}));
    }
    if let (Role::Trains, Some(data)) = (role, &target.duties.data) {
        let folder = format!("{TRAINED}/data");
        let path = format!("{folder}/{data}");
        let from = settings.deploy.training.as_ref().and_then(|training| training.data.as_deref());
        more.variables.insert("EKIBEN_DATA".to_owned(), json!({ "value": path }));
        more.awaited = Some(Awaited {
            folder,
            path,
            mount: json!({"name": VOLUME, "mountPath": TRAINED}),
            from: from.zip(settings.deploy.fetcher.as_ref()),
        });
    }
    if let (Role::Consumes | Role::Learns, Some(Broker { secret: Some(secret), ca, .. })) =
        (role, &settings.deploy.messages)
    {
        for (variable, key, is_needed) in SAID {
            let mut from = json!({"name": secret, "key": key});
            if !is_needed {
                from["optional"] = json!(true);
            }
            more.variables.insert(format!("EKIBEN_AMQP_{variable}"), json!({"valueFrom": {"secretKeyRef": from}}));
        }
        if *ca {
            volumes.add(
                "broker",
                json!({"secret": {"secretName": secret, "items": [{"key": CA, "path": CA}], "defaultMode": 0o440}}),
                json!({"mountPath": CERTIFICATES, "readOnly": true}),
            );
            more.variables.insert("EKIBEN_AMQP_CA".to_owned(), json!({"value": format!("{CERTIFICATES}/{CA}")}));
        }
    }
    more
}

/// A claim that only one node can mount: all pods of the model are to be there.
pub fn together(pod: &mut Pod, target: &Target, settings: &Settings<'_>) {
    if !settings.is_trained_there(target) || said(settings).access == Some(Access::ReadWriteMany) {
        return;
    }
    let names: Vec<_> = [Role::Serves].into_iter().chain(PARTS).map(|role| settings.named(role)).collect();
    let term = json!({
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {
            "matchExpressions": [{"key": "app.kubernetes.io/instance", "operator": "In", "values": names}],
        },
    });
    let all = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    pod.spec.insert("affinity".to_owned(), all);
    pod.note(["affinity"], "The claim can be mounted on one node: `training: {access: ReadWriteMany}` says otherwise.");
}

/// What the claim is called that is made.
pub fn claim(settings: &Settings<'_>) -> String {
    format!("{}-trained", settings.name)
}

/// What is said of the training.
pub fn said<'a>(settings: &Settings<'a>) -> Cow<'a, TrainingThere> {
    settings.deploy.training.as_ref().map_or_else(Default::default, Cow::Borrowed)
}
