//! The shared volume that weights lie on, and the job that fills it.

use std::collections::BTreeMap;

use serde_json::json;

use super::Settings;
use super::job;
use super::object::{Metadata, Object};
use super::parts::Pod;
use super::pod::{self};
use super::target::Target;
use crate::bundle::runtime::USER;

/// The claim, where it is to be made, what it stands on, and the job that fills it.
pub fn objects(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    let deploy = settings.deploy;
    let Some(claim) = settings.claim() else { return Vec::new() };
    let mut objects = Vec::new();
    if let Some(storage) = &deploy.storage {
        let metadata = &metadata.called(&claim);
        let mut spec = json!({
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": storage.size}},
        });
        if let Some(class) = &storage.class {
            spec["storageClassName"] = json!(class);
        }
        let mut annotations = BTreeMap::new();
        if !storage.share.is_empty() {
            annotations.insert("trident.netapp.io/shareToNamespace".to_owned(), storage.share.join(","));
        }
        if let Some((namespace, name)) = storage.shared.as_deref().and_then(|shared| shared.split_once('/')) {
            annotations.insert("trident.netapp.io/shareFromPVC".to_owned(), format!("{namespace}/{name}"));
            let body = json!({"spec": {"pvcName": name, "pvcNamespace": namespace}});
            objects.push(Object::new("trident.netapp.io/v1", "TridentVolumeReference", metadata, body));
        }
        if let Some(bucket) = &storage.bucket {
            // A volume of no namespace: its name has to be the only one.
            let namespace = deploy.namespace.as_deref().map(|namespace| format!("{namespace}-")).unwrap_or_default();
            let volume = Metadata { namespace: None, ..metadata.called(format!("{namespace}{claim}")) };
            spec["accessModes"] = json!(["ReadOnlyMany"]);
            spec["storageClassName"] = json!("");
            spec["volumeName"] = json!(volume.name);
            let body = json!({
                "spec": {
                    "accessModes": ["ReadOnlyMany"],
                    "capacity": {"storage": storage.size},
                    "storageClassName": "",
                    "persistentVolumeReclaimPolicy": "Retain",
                    "mountOptions": ["read-only", "allow-other", format!("uid={USER}"), format!("gid={USER}")],
                    "csi": {
                        "driver": "s3.csi.aws.com",
                        "volumeHandle": volume.name,
                        "volumeAttributes": {"bucketName": bucket},
                    },
                },
            });
            objects.push(
                Object::new("v1", "PersistentVolume", &volume, body)
                    .noted(["spec", "capacity"], "Kubernetes wants a size; the bucket has none."),
            );
        }
        objects.push(
            Object::new("v1", "PersistentVolumeClaim", metadata, json!({ "spec": spec })).annotated(&annotations),
        );
    }
    if let (Some(from), Some(fetcher)) = (&deploy.fill, &deploy.fetcher) {
        let Pod { spec, notes } = pod::filling(target, settings, fetcher, from, &claim);
        let metadata = metadata.called(format!("{}-fill", metadata.name));
        objects.push(job::once(spec, &notes, &job::Course::PLAIN, settings, &metadata));
    }
    objects
}
