//! `policy.json` of containers (podman, skopeo, cri-o): `containers-policy.json(5)`, as far as it names sigstore keys. What it
//! demands and cannot be verified here (GPG, Fulcio, PKI) is missing. Where signatures lie needs no `registries.d`: they are
//! looked for beside the image, which that only switches off.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::read_key;
use super::{Demand, Identity, Name, Signed};
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::{Document, MAX_BYTES, pointer};
use crate::formats::schema::Kind;
use crate::formats::schema::load::{self, Described};
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

/// A policy of containers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What images need that are in no scope.
    default: Requirements,
    /// What those need that are in one, by the transport and the scope: `docker`, `registry.example/team`.
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Requirements>>,
}

/// What an image needs, all of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Requirements(#[schemars(length(min = 1))] Vec<Written>);

/// One of the things that an image needs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    r#type: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_path: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_paths: Vec<String>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_datas: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_identity: Option<SignedIdentity>,
    /// What is known here, and verified nowhere here.
    #[serde(skip_serializing_if = "Option::is_none")]
    fulcio: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pki: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rekor_public_key_path: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rekor_public_key_paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rekor_public_key_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rekor_public_key_datas: Vec<String>,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Type {
    InsecureAcceptAnything,
    Reject,
    SignedBy,
    SigstoreSigned,
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

/// What a signature must call the image, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum SignedIdentity {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference { docker_reference: String },
    ExactRepository { docker_repository: String },
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl Described for File {
    const KIND: Kind = Kind::ContainersPolicy;
}

/// Whether a file is one: JSON with `default` or `transports`, whatever it is called.
pub fn is_policy(path: &Path) -> bool {
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    let value = || serde_json::from_slice::<Value>(&read(path).ok()?).ok();
    is_json && value().is_some_and(|value| ["default", "transports"].iter().any(|key| value.get(key).is_some()))
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
        let (document, file) = load::file::<File>(path, found)?.whole()?;
        let policy = Self::of(file, &document, found);
        (!found.has_errors()).then_some(policy)
    }

    fn of(file: File, document: &Document, found: &mut Diagnostics) -> Self {
        let mut all = |keys: &[&str], written: &Requirements| -> Vec<Requirement> {
            let mut read = |(number, written): (usize, &Written)| {
                let at = pointer(keys.iter().copied().chain([number.to_string().as_str()]));
                requirement(written).map_err(|why| found.push(document.at(Code::WrongForm, &at, why))).ok()
            };
            written.0.iter().enumerate().filter_map(&mut read).collect()
        };
        let scopes = file.transports.get("docker").into_iter().flatten();
        let docker = scopes.map(|(scope, written)| (scope.clone(), all(&["transports", "docker", scope], written)));
        Self { docker: docker.collect(), default: all(&["default"], &file.default), file }
    }

    /// The same file, whose keys are no files. Of transports, only what is read here.
    pub(super) fn with_keys(&self) -> Value {
        let portable = |written: &Requirements, read: &[Requirement]| -> Requirements {
            let both = written.0.iter().zip(read);
            let portable = both.map(|(written, read)| match read {
                Requirement::Signed(keys, _) => Written {
                    key_path: None,
                    key_paths: Vec::new(),
                    key_data: None,
                    key_datas: keys.iter().map(|(_, key)| BASE64.encode(key.write())).collect(),
                    ..written.clone()
                },
                _ => written.clone(),
            });
            Requirements(portable.collect())
        };
        let scopes = self.file.transports.get("docker").into_iter().flatten();
        let docker: BTreeMap<_, _> =
            scopes.filter_map(|(scope, written)| Some((scope, portable(written, self.docker.get(scope)?)))).collect();
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

fn requirement(written: &Written) -> Result<Requirement, String> {
    let refuse = |why: &str| Ok(Requirement::Refuse(format!("the policy {why}")));
    match written.r#type {
        Type::InsecureAcceptAnything => Ok(Requirement::Accept),
        Type::Reject => refuse("rejects images of this name"),
        Type::SignedBy => refuse("demands a signature of GPG, which is not verified here"),
        Type::SigstoreSigned if written.fulcio.is_some() || written.pki.is_some() => {
            refuse("demands certificates (Fulcio, PKI), which are not verified here")
        }
        Type::SigstoreSigned if written.demands_rekor() => {
            refuse("demands an entry in Rekor, which is not verified here")
        }
        Type::SigstoreSigned => sigstore(written),
    }
}

impl Written {
    fn demands_rekor(&self) -> bool {
        let lists = [&self.rekor_public_key_paths, &self.rekor_public_key_datas];
        self.rekor_public_key_path.is_some()
            || self.rekor_public_key_data.is_some()
            || lists.iter().any(|list| !list.is_empty())
    }
}

fn sigstore(written: &Written) -> Result<Requirement, String> {
    let mut keys = Vec::new();
    for path in written.key_path.iter().chain(&written.key_paths) {
        keys.push((path.clone(), PublicKey::read(&read_key(Path::new(path))?, path).map_err(|e| e.to_string())?));
    }
    for data in written.key_data.iter().chain(&written.key_datas) {
        let pem = BASE64.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pem = pem.ok_or("`keyData` is no base64 of PEM")?;
        keys.push(("keyData".to_owned(), PublicKey::read(&pem, "keyData").map_err(|error| error.to_string())?));
    }
    if keys.is_empty() {
        return Err("`sigstoreSigned` names no key".to_owned());
    }
    let matches = match written.signed_identity.clone() {
        None | Some(SignedIdentity::MatchExact | SignedIdentity::MatchRepoDigestOrExact) => Match::Own,
        Some(SignedIdentity::MatchRepository) => Match::Repository,
        Some(SignedIdentity::ExactReference { docker_reference }) => Match::Identity(Identity::Exact(docker_reference)),
        Some(SignedIdentity::ExactRepository { docker_repository }) => {
            Match::Identity(Identity::Repository(docker_repository))
        }
        Some(SignedIdentity::RemapIdentity { .. }) => {
            return Err("`remapIdentity` is no identity that is known here".to_owned());
        }
    };
    Ok(Requirement::Signed(keys, matches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::policy::Facts;

    fn policy(text: &str) -> Result<Policy, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        fs_err::write(&path, text).unwrap();
        let mut found = Diagnostics::new();
        Policy::read(&path, &mut found).ok_or_else(|| format!("{found:?}"))
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
            r#"{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
            r#"{"transports": {}}"#,
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
        let misspelt = policy(r#"{"default": [{"type": "reject", "keyPaht": "/k"}]}"#).unwrap_err();
        assert!(misspelt.contains("there is no key `keyPaht`") && misspelt.contains("keyPath"), "{misspelt}");
    }
}
