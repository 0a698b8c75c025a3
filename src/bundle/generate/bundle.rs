//! The files of a bundle that tell others what is in it and how to build it: BentoML's readers by `bento.yaml`,
//! docker and buildah by the Dockerfile, people by the README.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Value, json};

use super::{Api, GeneratedFile, document};
use crate::base::debian::Suite;
use crate::base::{Named, Place};
use crate::bundle::runtime::{self, Convention};
use crate::formats::document::yaml;
use crate::image::oci::platform::Platform;
use crate::io::archive::{ArchivePath, epoch_date};
use crate::io::digest::Digest;
use crate::project::lock::Lock;
use crate::project::manifest::{Manifest, Requirements};

/// What the files tell about, beyond the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the model is.
    pub manifest: &'a Manifest,
    /// Its version, written or derived.
    pub version: &'a str,
    /// What it resolved to.
    pub lock: &'a Lock,
    /// What it answers.
    pub api: &'a Api,
    /// Folders and files at the top of the bundle that belong to the code, as `src`; each lies in the image below
    /// [`runtime::CODE`] under the same name.
    pub code: &'a [ArchivePath],
    /// The model's files, relative to `models/NAME/VERSION` in the bundle and to `/models/NAME` in the image.
    pub weights: &'a [ArchivePath],
    /// What a requirements file says, where the manifest names one.
    pub requirements: Option<&'a str>,
}

/// All files but the manifest, the lock, and those of [`super::service`], which the Dockerfile expects beside them.
pub fn bundle(facts: &Facts<'_>) -> Vec<GeneratedFile> {
    let mut files = vec![
        GeneratedFile::new("README.md", readme(facts)),
        GeneratedFile::new("apis/openapi.yaml", yaml(&document(facts.manifest, facts.version, facts.api))),
        GeneratedFile::new("bento.yaml", yaml(&bento(facts))),
        GeneratedFile::new("env/docker/Dockerfile", dockerfile(facts)),
    ];
    if !facts.weights.is_empty() {
        let models = format!("models/{}", facts.manifest.name);
        files.extend([
            GeneratedFile::new(format!("{models}/{}/model.yaml", facts.version), yaml(&model(facts))),
            GeneratedFile::new(format!("{models}/latest"), facts.version),
        ]);
    }
    if let Some(python) = &facts.lock.python {
        files.extend([
            GeneratedFile::new("env/python/requirements.lock.txt", requirements_lock(facts.lock)),
            GeneratedFile::new("env/python/requirements.txt", requirements(facts)),
            GeneratedFile::new("env/python/version.txt", format!("{python}\n")),
        ]);
    }
    files
}

/// As the person wrote them.
fn requirements(facts: &Facts<'_>) -> String {
    match (facts.requirements, facts.manifest.python.as_ref().map(|python| &python.requirements)) {
        (Some(text), _) => text.to_owned(),
        (None, Some(Requirements::List(list))) => list.iter().map(|line| format!("{line}\n")).collect(),
        (None, _) => String::new(),
    }
}

/// With all wheels that will do, for pip and uv; what only some platforms need is marked.
fn requirements_lock(lock: &Lock) -> String {
    #[derive(Default)]
    struct Wheels<'a> {
        platforms: BTreeSet<Platform>,
        digests: BTreeSet<&'a Digest>,
    }
    let mut packages: BTreeMap<_, Wheels<'_>> = BTreeMap::new();
    for (platform, locked) in &lock.platforms {
        for package in &locked.python {
            let wheels = packages.entry((&package.name, &package.version, &package.url)).or_default();
            wheels.platforms.insert(*platform);
            wheels.digests.extend(&package.digests);
        }
    }
    let mut text = String::new();
    for ((name, version, url), wheels) in packages {
        text += &match url {
            None => format!("{name}=={version}"),
            Some(url) if url.contains("://") => format!("{name} @ {url}"),
            Some(path) => format!("./{path}"),
        };
        if wheels.platforms.len() < lock.platforms.len() {
            let machines: Vec<String> =
                wheels.platforms.iter().map(|one| format!("platform_machine == '{}'", one.machine())).collect();
            text += &format!(" ; {}", machines.join(" or "));
        }
        wheels.digests.iter().for_each(|digest| text += &format!(" \\\n    --hash={digest}"));
        text.push('\n');
    }
    text
}

/// The version of BentoML whose form the files have.
const BENTOML: &str = "1.1.0";

/// What BentoML 1.0 to 1.4 must find to recognise a bento, and what its listings show.
fn bento(facts: &Facts<'_>) -> Value {
    let Facts { manifest, version, api, .. } = facts;
    let time = for_python(epoch_date());
    let model = json!({ "tag": format!("{}:{version}", manifest.name), "module": "ekiben", "creation_time": time });
    let models = if facts.weights.is_empty() { vec![] } else { vec![model] };
    let apis: Vec<Value> = api
        .routes
        .iter()
        .map(|route| json!({ "name": route.path.trim_start_matches('/'), "input_type": "JSON", "output_type": "JSON" }))
        .collect();
    json!({
        "service": "ekiben_service.app:application",
        "name": manifest.name,
        "version": version,
        "bentoml_version": BENTOML,
        "creation_time": time,
        "labels": manifest.labels,
        "models": models,
        "runners": [],
        "apis": apis,
    })
}

/// What BentoML must find beside a bento's model.
fn model(facts: &Facts<'_>) -> Value {
    let python = facts.lock.python.map(|python| python.to_string()).unwrap_or_default();
    json!({
        "name": facts.manifest.name,
        "version": facts.version,
        "module": "ekiben",
        "labels": {},
        "options": {},
        "metadata": {},
        "context": {
            "framework_name": "",
            "framework_versions": {},
            "bentoml_version": BENTOML,
            "python_version": python,
        },
        "signatures": {},
        "api_version": "v1",
        "creation_time": for_python(epoch_date()),
    })
}

/// A date of RFC 3339 in the spelling that Python's `fromisoformat` has always read: a `Z` it knows since 3.11 only.
fn for_python(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// What fills the templates in. It leaves out the line break at a template's end.
fn filler<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.add_filter("json", |words: Vec<String>| json!(words).to_string());
    environment.add_filter("docker_quoted", |value: String| docker_quoted(&value));
    environment
}

/// Builds an equivalent image with docker, buildah or podman.
fn dockerfile(facts: &Facts<'_>) -> String {
    let Facts { manifest, version, lock, .. } = facts;
    // In the order of their names, each once.
    let mut system: BTreeSet<&str> = manifest.system.packages.names().collect();
    if manifest.system.packages.are_found() {
        let found = lock.platforms.values().flat_map(|locked| &locked.system);
        system.extend(found.map(|package| package.name.as_str()));
    }
    let locked = lock.platforms.values().flat_map(|locked| &locked.python);
    let urls = locked.filter_map(|package| package.url.as_deref());
    let wheels: BTreeSet<&str> = urls.filter(|url| !url.contains("://")).collect();
    let pairs = |map: BTreeMap<String, String>| map.into_iter().map(|(name, value)| vec![name, value]).collect();
    let environment: Vec<Vec<String>> = pairs(Convention::Ekiben.environment(manifest));
    let labels: Vec<Vec<String>> = pairs(labels(manifest, version));
    minijinja::render!(
        in filler(),
        include_str!("templates/env/docker/Dockerfile.j2"),
        environment => Serde(&environment),
        labels => Serde(&labels),
        version => *version,
        name => manifest.name.as_str(),
        base => base(facts),
        user => runtime::USER,
        user_name => runtime::USER_NAME,
        system => Serde(&system),
        python => Serde(&lock.python),
        wheels => Serde(&wheels),
        venv => runtime::VENV,
        weights => Serde(&texts(facts.weights)),
        model => runtime::model(&manifest.name),
        code => Serde(&texts(facts.code)),
        app => runtime::CODE,
        is_served => facts.api.is_served(),
        service => runtime::SERVICE,
        entrypoint => runtime::ENTRYPOINT,
        port => manifest.service.port,
    ) + "\n"
}

fn texts(paths: &[ArchivePath]) -> Vec<&str> {
    paths.iter().map(ArchivePath::as_str).collect()
}

/// What the manifest names; where that is none of a registry's, the official image of the Python.
fn base(facts: &Facts<'_>) -> String {
    let (base, python) = (&facts.manifest.base, facts.lock.python);
    match (base.meant().map(|base| base.named()), python) {
        (Ok(Named::Debian(suite)), Some(python)) => format!("docker.io/library/python:{python}-slim-{suite}"),
        (Ok(Named::Debian(suite)), None) => format!("docker.io/library/debian:{suite}-slim"),
        (Ok(Named::Auto | Named::Image(Place::Layout(_) | Place::DockerArchive(_))), Some(python)) => {
            let suite = Suite::with_python(python).map(|suite| format!("-{suite}")).unwrap_or_default();
            format!("docker.io/library/python:{python}-slim{suite}")
        }
        (Ok(Named::Auto | Named::Image(Place::Layout(_) | Place::DockerArchive(_))), None) => {
            "docker.io/library/debian:stable-slim".to_owned()
        }
        _ => base.to_string(),
    }
}

/// Labels of the image: the person's, and OCI's annotations (image specification 1.1, `annotations.md`).
fn labels(manifest: &Manifest, version: &str) -> BTreeMap<String, String> {
    let oci = |name: &str, value: Option<&str>| {
        value.map(|value| (format!("org.opencontainers.image.{name}"), value.to_owned()))
    };
    let mut labels: BTreeMap<String, String> = [
        oci("title", Some(&manifest.name)),
        oci("version", Some(version)),
        oci("description", manifest.description.as_deref()),
        oci("licenses", manifest.licenses.as_deref()),
        oci("source", manifest.source.as_deref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    labels.extend(manifest.labels.clone());
    labels
}

/// A value in a Dockerfile, taken literally. A line break, which its format cannot hold, becomes a space.
fn docker_quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            '\n' | '\r' => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// What people read first, with a request of the manifest's tests as an example.
fn readme(facts: &Facts<'_>) -> String {
    let Facts { manifest, version, api, .. } = facts;
    let routes = api.routes.iter().chain(&api.mlflow).map(|route| {
        let docstring = route.signature.as_ref().and_then(|signature| signature.docstring.as_deref());
        [Some(route.path.as_str()), docstring.and_then(|text| text.lines().next())].to_vec()
    });
    let answered =
        manifest.tests.iter().filter(|test| test.files().is_empty() && (200..300).contains(&test.wanted_status()));
    let example = answered.filter_map(|test| Some((test, test.request.as_ref()?))).next();
    // In the shell's single quotes.
    let example = example.map(|(test, request)| vec![test.path.clone(), request.to_string().replace('\'', r"'\''")]);
    minijinja::render!(
        in filler(),
        include_str!("templates/README.md.j2"),
        example => Serde(&example),
        version => *version,
        name => manifest.name.as_str(),
        description => manifest.description.as_deref(),
        is_served => api.is_served(),
        port => manifest.service.port,
        routes => Serde(&routes.collect::<Vec<_>>()),
    ) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_that_every_python_reads() {
        let date = |seconds| for_python(Timestamp::from_second(seconds).unwrap());
        assert_eq!(date(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(date(315_532_800), "1980-01-01T00:00:00+00:00");
        assert_eq!(date(951_827_696), "2000-02-29T12:34:56+00:00");
        assert_eq!(date(1_795_248_000), "2026-11-21T08:00:00+00:00");
    }

    #[test]
    fn values_are_literal_in_a_dockerfile() {
        assert_eq!(docker_quoted("a \"b\" $c \\ d"), r#""a \"b\" \$c \\ d""#);
    }
}
