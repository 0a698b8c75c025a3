//! How a service is reached from outside the cluster: a route of a Gateway, or an Ingress.

use serde_json::{Value, json};

use super::Settings;
use super::object::{Metadata, Object};
use super::target::Target;
use crate::project::manifest::deploy::Expose;

/// The port at which KEDA's HTTP add-on takes requests in.
const INTERCEPTOR: u16 = 8080;

/// What leads to the service, where it is exposed. Requests that are counted go through KEDA's HTTP add-on: it keeps them while
/// there is no pod.
pub fn objects(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Vec<Object> {
    let Some(expose) = &settings.deploy.expose else { return Vec::new() };
    let root = target.service.root.as_deref().unwrap_or("/");
    let path = expose.path.as_deref().unwrap_or(root);
    let is_counted = settings.deploy.counts_requests();
    match &expose.gateway {
        Some(gateway) if is_counted => {
            let (namespace, name) = expose.interceptor();
            let backend = json!({"name": name, "namespace": namespace, "port": INTERCEPTOR});
            let granted = grant(namespace, name, metadata);
            granted.into_iter().chain([route(gateway, expose, (path, root), &backend, metadata)]).collect()
        }
        Some(gateway) => {
            let backend = json!({"name": metadata.name, "port": 80});
            vec![route(gateway, expose, (path, root), &backend, metadata)]
        }
        None if is_counted => {
            let (namespace, name) = expose.interceptor();
            // An Ingress leads to Services of its own namespace alone.
            let there = metadata.called(format!("{}-keda", metadata.name));
            let body = json!({
                "spec": {
                    "type": "ExternalName",
                    "externalName": format!("{name}.{namespace}.svc.cluster.local"),
                    "ports": [{"name": "http", "port": INTERCEPTOR, "protocol": "TCP"}],
                },
            });
            let ingress = ingress(target, expose, (path, root), &there.name, metadata);
            vec![Object::new("v1", "Service", &there, body), ingress]
        }
        None => vec![ingress(target, expose, (path, root), &metadata.name, metadata)],
    }
}

/// What lets a route lead to a Service of another namespace: a ReferenceGrant there.
fn grant(namespace: &str, service: &str, metadata: &Metadata) -> Option<Object> {
    let own = metadata.namespace.as_deref().filter(|own| *own != namespace)?;
    let there =
        Metadata { namespace: Some(namespace.to_owned()), ..metadata.called(format!("{own}-{}", metadata.name)) };
    let body = json!({
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": own}],
            "to": [{"group": "", "kind": "Service", "name": service}],
        },
    });
    Some(Object::new("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", &there, body))
}

/// An HTTPRoute (gateway.networking.k8s.io/v1). What stands before `root` in the path is taken away.
fn route(gateway: &str, expose: &Expose, (path, root): (&str, &str), backend: &Value, metadata: &Metadata) -> Object {
    let parent = match gateway.split_once('/') {
        Some((namespace, name)) => json!({"name": name, "namespace": namespace}),
        None => json!({"name": gateway}),
    };
    let mut rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [backend],
    });
    if path != root {
        let rewrite = json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": root}});
        rule["filters"] = json!([{"type": "URLRewrite", "urlRewrite": rewrite}]);
    }
    let body = json!({"spec": {"parentRefs": [parent], "hostnames": [expose.host], "rules": [rule]}});
    Object::new("gateway.networking.k8s.io/v1", "HTTPRoute", metadata, body)
}

fn ingress(target: &Target, expose: &Expose, (path, root): (&str, &str), service: &str, metadata: &Metadata) -> Object {
    let backend = json!({"service": {"name": service, "port": {"name": "http"}}});
    let mut annotations = expose.annotations.clone();
    let mut place = json!({"path": path, "pathType": "Prefix", "backend": backend});
    let is_nginx = expose.ingress.as_deref() == Some("nginx");
    if is_nginx {
        let of = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        // It takes 1 MB where nothing is said.
        let body = target.service.request.div_ceil(1_000_000);
        annotations.entry(of("proxy-body-size")).or_insert_with(|| format!("{body}m"));
        if path != root {
            place["path"] = json!(format!("{path}(/|$)(.*)"));
            place["pathType"] = json!("ImplementationSpecific");
            annotations.entry(of("use-regex")).or_insert_with(|| "true".to_owned());
            let rest = format!("{}/$2", root.trim_end_matches('/'));
            annotations.entry(of("rewrite-target")).or_insert(rest);
        }
    }
    let mut spec = json!({"rules": [{"host": expose.host, "http": {"paths": [place]}}]});
    let class = expose.ingress.as_ref().map(|class| ("ingressClassName", json!(class)));
    let tls = expose.tls.as_ref().map(|secret| ("tls", json!([{"hosts": [expose.host], "secretName": secret}])));
    for (key, value) in [class, tls].into_iter().flatten() {
        spec[key] = value;
    }
    let body: Value = json!({ "spec": spec });
    Object::new("networking.k8s.io/v1", "Ingress", metadata, body).annotated(&annotations)
}
