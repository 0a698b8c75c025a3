//! How a service is reached from outside the cluster: a route of a Gateway, or an Ingress.

use serde_json::{Value, json};

use super::Settings;
use super::object::{Metadata, Object};
use super::target::Target;
use crate::project::manifest::deploy::Expose;

/// The object that leads to the service, where it is exposed.
pub fn objects(target: &Target, settings: &Settings<'_>, metadata: &Metadata) -> Option<Object> {
    let expose = settings.deploy.expose.as_ref()?;
    let root = target.service.root.as_deref().unwrap_or("/");
    let path = expose.path.as_deref().unwrap_or(root);
    Some(match &expose.gateway {
        Some(gateway) => route(gateway, expose, path, root, metadata),
        None => ingress(target, expose, path, root, metadata),
    })
}

/// An HTTPRoute (gateway.networking.k8s.io/v1).
fn route(gateway: &str, expose: &Expose, path: &str, root: &str, metadata: &Metadata) -> Object {
    let parent = match gateway.split_once('/') {
        Some((namespace, name)) => json!({"name": name, "namespace": namespace}),
        None => json!({"name": gateway}),
    };
    let mut rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": metadata.name, "port": 80}],
    });
    if path != root {
        let rewrite = json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": root}});
        rule["filters"] = json!([{"type": "URLRewrite", "urlRewrite": rewrite}]);
    }
    let body = json!({"spec": {"parentRefs": [parent], "hostnames": [expose.host], "rules": [rule]}});
    Object::new("gateway.networking.k8s.io/v1", "HTTPRoute", metadata, body)
}

fn ingress(target: &Target, expose: &Expose, path: &str, root: &str, metadata: &Metadata) -> Object {
    let backend = json!({"service": {"name": metadata.name, "port": {"name": "http"}}});
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
