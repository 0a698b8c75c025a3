//! `policy.json` of containers (podman, skopeo, cri-o): `containers-policy.json(5)`, as far as it names sigstore keys. What it
//! demands and cannot be verified here (GPG, Fulcio, PKI) is missing. Where signatures lie needs no `registries.d`: they are
//! looked for beside the image, which that only switches off.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::config::read_key;
use super::{Demand, Identity, Name, Signed};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{MAX_BYTES, shown};
use crate::image::sign::PublicKey;

/// Which images need what, with the keys read.
#[derive(Debug)]
pub struct Policy {
    default: Vec<Requirement>,
    /// Scopes of images in registries.
    docker: BTreeMap<String, Vec<Requirement>>,
    /// As it was written.
    file: File,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Vec<Value>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
}

/// One of those that all must be fulfilled.
#[derive(Clone, Debug)]
enum Requirement {
    Accept,
    Refuse(String),
    Signed(Vec<(String, PublicKey)>, Match),
}

/// What a signature must call the image.
#[derive(Clone, Debug)]
enum Match {
    Own,
    Repository,
    Identity(Identity),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SigstoreSigned {
    #[serde(rename = "type")]
    _type: String,
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    signed_identity: Option<SignedIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignedIdentity {
    r#type: String,
    docker_reference: Option<String>,
    docker_repository: Option<String>,
}

/// Whether a file is one: JSON with `default`, whatever it is called.
pub fn is_policy(path: &Path) -> bool {
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    let value = || serde_json::from_slice::<Value>(&read(path).ok()?).ok();
    is_json && value().is_some_and(|value| value.get("default").is_some_and(Value::is_array))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Policy {
    /// Reads the file `path`. Mistakes go to `found`; none where there are some.
    pub fn read(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let read = read(path).map_err(|error| (Code::Unreadable, error.to_string()));
        let file = read.and_then(|bytes| {
            serde_json::from_slice::<File>(&bytes).map_err(|error| (Code::NotDescribed, error.to_string()))
        });
        let policy = file.and_then(|file| Self::of(file).map_err(|why| (Code::WrongForm, why)));
        match policy {
            Ok(policy) => Some(policy),
            Err((code, why)) => {
                found.push(Diagnostic::of_file(code, shown(path), why));
                None
            }
        }
    }

    fn of(file: File) -> Result<Self, String> {
        let all = |values: Vec<Value>| match values.is_empty() {
            true => Err("a scope needs a requirement".to_owned()),
            false => values.into_iter().map(requirement).collect::<Result<Vec<_>, _>>(),
        };
        let docker = file.transports.get("docker").cloned().unwrap_or_default();
        let docker = docker.into_iter().map(|(scope, values)| Ok((scope, all(values)?)));
        Ok(Self { docker: docker.collect::<Result<_, String>>()?, default: all(file.default.clone())?, file })
    }

    /// The same file, whose keys are no files. Of transports, only what is read here.
    pub(super) fn with_keys(&self) -> Value {
        let portable = |values: &[Value], read: &[Requirement]| -> Vec<Value> {
            let both = values.iter().zip(read);
            both.map(|(value, read)| match (value.clone(), read) {
                (Value::Object(mut value), Requirement::Signed(keys, _)) => {
                    for name in ["keyPath", "keyPaths", "keyData"] {
                        value.remove(name);
                    }
                    let keys: Vec<_> = keys.iter().map(|(_, key)| BASE64.encode(key.write())).collect();
                    value.insert("keyDatas".to_owned(), json!(keys));
                    Value::Object(value)
                }
                (value, _) => value,
            })
            .collect()
        };
        let scopes = self.file.transports.get("docker").into_iter().flatten();
        let docker: BTreeMap<_, _> =
            scopes.filter_map(|(scope, values)| Some((scope, portable(values, self.docker.get(scope)?)))).collect();
        json!({"default": portable(&self.file.default, &self.default), "transports": {"docker": docker}})
    }

    /// What an image of this name needs. Only images of registries have scopes; of others the default counts.
    pub(super) fn demand(&self, name: &Name) -> Demand {
        let scoped = scopes(name).into_iter().find_map(|scope| self.docker.get(&scope));
        let mut demand = Demand::default();
        for requirement in scoped.unwrap_or(&self.default) {
            match requirement {
                Requirement::Accept => {}
                Requirement::Refuse(why) => demand.refused = Some(why.clone()),
                Requirement::Signed(by, matches) => {
                    let identity = match matches {
                        Match::Own => Identity::Own,
                        Match::Repository => Identity::Repository(name.place()),
                        Match::Identity(identity) => identity.clone(),
                    };
                    demand.signed.push(Signed { by: by.clone(), max_age: None, identity });
                }
            }
        }
        demand
    }
}

/// The scopes that an image is in, the narrowest first: name with tag or digest, repository, namespaces, host, `*.domains`.
fn scopes(name: &Name) -> Vec<String> {
    let Name::Registry(reference) = name else { return Vec::new() };
    let mut scopes = Vec::new();
    match reference.digest() {
        Some(digest) => scopes.push(format!("{}@{digest}", reference.place())),
        None => scopes.extend(name.tagged()),
    }
    let mut place = reference.place();
    loop {
        scopes.push(place.clone());
        let Some((above, _)) = place.rsplit_once('/') else { break };
        place = above.to_owned();
    }
    let host = reference.registry().split(':').next().unwrap_or_default();
    let mut rest = host;
    while let Some((_, domain)) = rest.split_once('.') {
        scopes.push(format!("*.{domain}"));
        rest = domain;
    }
    scopes.push(String::new());
    scopes
}

fn requirement(value: Value) -> Result<Requirement, String> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "insecureAcceptAnything" => Ok(Requirement::Accept),
        "reject" => Ok(Requirement::Refuse("the policy rejects images of this name".to_owned())),
        "sigstoreSigned" if value.get("fulcio").is_some() || value.get("pki").is_some() => Ok(Requirement::Refuse(
            "the policy demands certificates (Fulcio, PKI), which are not verified here".to_owned(),
        )),
        "sigstoreSigned" if value.get("rekorPublicKeyPath").is_some() || value.get("rekorPublicKeyData").is_some() => {
            Ok(Requirement::Refuse("the policy demands an entry in Rekor, which is not verified here".to_owned()))
        }
        "sigstoreSigned" => sigstore(value),
        "signedBy" => {
            Ok(Requirement::Refuse("the policy demands a signature of GPG, which is not verified here".to_owned()))
        }
        _ => Err(format!("`{kind}` is no requirement that is known")),
    }
}

fn sigstore(value: Value) -> Result<Requirement, String> {
    let signed: SigstoreSigned = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let mut keys = Vec::new();
    for path in signed.key_path.into_iter().chain(signed.key_paths.unwrap_or_default()) {
        keys.push((path.clone(), PublicKey::read(&read_key(Path::new(&path))?, &path).map_err(|e| e.to_string())?));
    }
    for data in signed.key_data.into_iter().chain(signed.key_datas.unwrap_or_default()) {
        let pem = BASE64.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pem = pem.ok_or("`keyData` is no base64 of PEM")?;
        keys.push(("keyData".to_owned(), PublicKey::read(&pem, "keyData").map_err(|error| error.to_string())?));
    }
    if keys.is_empty() {
        return Err("`sigstoreSigned` names no key".to_owned());
    }
    let Some(identity) = signed.signed_identity else { return Ok(Requirement::Signed(keys, Match::Own)) };
    let lacks = |key: &str| format!("`{}` needs `{key}`", identity.r#type);
    let matches = match identity.r#type.as_str() {
        "matchRepoDigestOrExact" | "matchExact" => Match::Own,
        "matchRepository" => Match::Repository,
        "exactReference" => {
            let exact = identity.docker_reference.clone().ok_or_else(|| lacks("dockerReference"))?;
            Match::Identity(Identity::Exact(exact))
        }
        "exactRepository" => {
            let exact = identity.docker_repository.clone().ok_or_else(|| lacks("dockerRepository"))?;
            Match::Identity(Identity::Repository(exact))
        }
        other => return Err(format!("`{other}` is no identity that is known")),
    };
    Ok(Requirement::Signed(keys, matches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::policy::Facts;

    fn policy(text: &str) -> Result<Policy, String> {
        Policy::of(serde_json::from_str(text).map_err(|error| error.to_string())?)
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let text = r#"{"default": [{"type": "reject"}], "transports": {"docker": {
            "h.example/a/b:1": [{"type": "reject"}], "h.example/a": [{"type": "insecureAcceptAnything"}],
            "*.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}],
            "h.example/gone": [{"type": "sigstoreSigned", "fulcio": {}}]
        }}}"#;
        let policy = policy(text).unwrap();
        let missing = |name: &str| {
            let name = Name::Registry(name.parse().unwrap());
            policy.demand(&name).missing(&name, &Facts::default()).join(" ")
        };
        assert!(missing("h.example/a/b:1").contains("rejects"));
        assert_eq!(missing("h.example/a/b:2"), "");
        assert!(missing("h.example/x").contains("GPG"));
        assert!(missing("h.example/gone").contains("Fulcio"));
        assert!(missing("elsewhere.org/x").contains("rejects"));
        assert!(!policy.demand(&Name::Store("iris:1".parse().unwrap())).refused.unwrap().is_empty());
    }

    #[test]
    fn with_its_keys_within_it_demands_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let key = crate::image::sign::PrivateKey::new(crate::image::sign::Algorithm::Ed25519).public().unwrap();
            let path = folder.path().join(name);
            fs_err::write(&path, key.write()).unwrap();
            (path, key)
        });
        let text = json!({"default": [{"type": "reject"}], "transports": {"docker": {"h.example": [
            {"type": "sigstoreSigned", "keyPaths": [one.0, two.0], "signedIdentity": {"type": "matchRepository"}},
            {"type": "sigstoreSigned", "keyData": BASE64.encode(two.1.write())},
        ]}, "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}}});
        let read = policy(&text.to_string()).unwrap();
        let portable = read.with_keys();
        drop(folder);
        let again = policy(&portable.to_string()).unwrap();
        assert_eq!(again.with_keys(), portable);
        let demanded = |policy: &Policy| {
            let signed = policy.demand(&Name::Registry("h.example/a:1".parse().unwrap())).signed;
            let of = |signed: &Signed| {
                let keys: Vec<_> = signed.by.iter().map(|(_, key)| key.write()).collect();
                (keys, signed.identity.clone())
            };
            signed.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(demanded(&again), demanded(&read));
        assert_eq!(demanded(&read)[0].0, [one.1.write(), two.1.write()]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            r#"{"default": []}"#,
            r#"{"default": [{"type": "maybe"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keyData": "x"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/nowhere"}]}"#,
            r#"{"default": [{"type": "reject"}], "more": 1}"#,
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
    }
}
