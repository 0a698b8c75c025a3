//! The files of a bundle that tell others what is in it and how to build it: BentoML's readers by `bento.yaml`,
//! docker and buildah by the Dockerfile, people by the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Api, GeneratedFile, document, yaml};
use crate::bundle::runtime::{self, Convention};
use crate::image::oci::platform::Platform;
use crate::io::archive::{ArchivePath, epoch};
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
        GeneratedFile::new("apis/openapi.yaml", yaml::write(&document(facts.manifest, facts.version, facts.api))),
        GeneratedFile::new("bento.yaml", yaml::write(&bento(facts))),
        GeneratedFile::new("env/docker/Dockerfile", dockerfile(facts)),
    ];
    if !facts.weights.is_empty() {
        let models = format!("models/{}", facts.manifest.name);
        files.extend([
            GeneratedFile::new(format!("{models}/{}/model.yaml", facts.version), yaml::write(&model(facts))),
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
    let time = rfc3339(epoch());
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
    let python = facts.lock.python.as_deref().unwrap_or_default();
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
        "creation_time": rfc3339(epoch()),
    })
}

/// Seconds since 1970 as a date of RFC 3339, in the spelling that Python's `fromisoformat` has always read.
fn rfc3339(seconds: u64) -> String {
    // Years that begin in March end with the leap day.
    // <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

/// Builds an equivalent image with docker, buildah or podman: what changes least comes first.
fn dockerfile(facts: &Facts<'_>) -> String {
    let Facts { manifest, version, lock, .. } = facts;
    let mut text = String::from(
        "# Builds the image with other tools than Ekiben, from this unpacked bundle:\n\
         #   docker build -f env/docker/Dockerfile .\n\
         # BASE may be any Debian image with this Python, its pip and its venv.\n",
    );
    // Writing to a String cannot fail.
    let mut line = |line: String| text += &format!("{line}\n");
    line(format!("ARG BASE={}", base(facts)));
    line("FROM ${BASE}".to_owned());
    let (user, name) = (runtime::USER, runtime::USER_NAME);
    line(format!(
        "RUN echo '{name}:x:{user}:{user}::/home/{name}:/usr/sbin/nologin' >> /etc/passwd && \\\n    \
         echo '{name}:x:{user}:' >> /etc/group"
    ));
    let system: BTreeSet<&str> = manifest.system.packages.iter().map(String::as_str).collect();
    if !system.is_empty() {
        let packages: Vec<&str> = system.into_iter().collect();
        line(format!(
            "RUN apt-get update && apt-get install -y --no-install-recommends {} && \\\n    rm -rf /var/lib/apt/lists/*",
            packages.join(" ")
        ));
    }
    if let Some(python) = &lock.python {
        let build = "/tmp/ekiben";
        line(copy("env/python/requirements.lock.txt", &format!("{build}/requirements.lock.txt")));
        let wheels: BTreeSet<&str> = lock
            .platforms
            .values()
            .flat_map(|locked| locked.python.iter().filter_map(|package| package.url.as_deref()))
            .filter(|url| !url.contains("://"))
            .collect();
        wheels.iter().for_each(|wheel| line(copy(wheel, &format!("{build}/{wheel}"))));
        line("ARG PIP_INDEX_URL".to_owned());
        line(format!(
            "RUN python{python} -m venv --without-pip {venv} && cd {build} && \\\n    \
             python{python} -m pip --python {venv}/bin/python install --no-cache-dir --no-deps --require-hashes \\\n    \
             --only-binary :all: -r requirements.lock.txt && \\\n    \
             rm -rf {build}",
            venv = runtime::VENV,
        ));
    }
    for weight in facts.weights {
        let folder = runtime::model(&manifest.name);
        line(copy(&format!("models/{}/{version}/{weight}", manifest.name), &format!("{folder}/{weight}")));
    }
    for code in facts.code {
        line(copy(code.as_str(), &format!("{}/{code}", runtime::CODE)));
    }
    if facts.api.is_served() {
        line(copy("ekiben_service", runtime::SERVICE));
    }
    line(copy("env/docker/entrypoint.sh", runtime::ENTRYPOINT));
    for (name, value) in Convention::Ekiben.environment(manifest) {
        line(format!("ENV {name}={}", docker_quoted(&value)));
    }
    for (name, value) in labels(manifest, version) {
        line(format!("LABEL {}={}", docker_quoted(&name), docker_quoted(&value)));
    }
    line(format!("WORKDIR {}", runtime::CODE));
    line(format!("USER {user}:{user}"));
    line(format!("EXPOSE {}", manifest.service.port));
    line(format!("ENTRYPOINT {}", json!([runtime::ENTRYPOINT])));
    text
}

/// What the manifest names; where that is none of a registry's, the official image of the Python.
fn base(facts: &Facts<'_>) -> String {
    let (base, python) = (facts.manifest.base.as_str(), facts.lock.python.as_deref());
    let local = base == "auto" || ["oci:", "docker-archive:"].iter().any(|kind| base.starts_with(kind));
    match (base.strip_prefix("debian:"), python) {
        (Some(suite), Some(python)) => format!("docker.io/library/python:{python}-slim-{suite}"),
        (Some(suite), None) => format!("docker.io/library/debian:{suite}-slim"),
        (None, Some(python)) if local => {
            let suite = match python {
                "3.9" => "-bullseye",
                "3.11" => "-bookworm",
                "3.13" => "-trixie",
                _ => "",
            };
            format!("docker.io/library/python:{python}-slim{suite}")
        }
        (None, None) if local => "docker.io/library/debian:stable-slim".to_owned(),
        (None, _) => base.to_owned(),
    }
}

fn copy(from: &str, to: &str) -> String {
    format!("COPY {}", json!([from, to]))
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

fn readme(facts: &Facts<'_>) -> String {
    let Facts { manifest, version, api, .. } = facts;
    let mut text = format!("# {} {version}\n", manifest.name);
    if let Some(description) = &manifest.description {
        let _ = write!(text, "\n{description}\n");
    }
    text += "\nA bundle made by Ekiben: a model with all that it needs to answer.\n\n```console\n";
    let _ =
        write!(text, "$ ekiben run {0}-{version}.ekiben\n$ ekiben build {0}-{version}.ekiben\n```\n", manifest.name);
    text += "\nOr, unpacked, with other tools: `docker build -f env/docker/Dockerfile .`\n";
    if api.is_served() {
        let port = manifest.service.port;
        let _ = write!(text, "\nIt listens on port {port} (`PORT` changes that) and answers:\n\n");
        for route in &api.routes {
            let summary = route.signature.as_ref().and_then(|signature| signature.docstring.as_deref()?.lines().next());
            let _ = writeln!(
                text,
                "- `POST {}`{}",
                route.path,
                summary.map(|line| format!(": {line}")).unwrap_or_default()
            );
        }
        text += "- `GET /readyz`, `/livez`, `/healthz`, `/metrics`, `/openapi.json` and `/docs`\n";
        let example = manifest.tests.iter().find(|test| (200..300).contains(&test.status) && test.request.is_some());
        if let Some((test, request)) = example.and_then(|test| Some((test, test.request.as_ref()?))) {
            let request = request.to_string().replace('\'', r"'\''");
            let _ = write!(
                text,
                "\n```console\n$ curl -s localhost:{port}{} -H 'content-type: application/json' -d '{request}'\n```\n",
                test.path
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(rfc3339(315_532_800), "1980-01-01T00:00:00+00:00");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56+00:00");
        assert_eq!(rfc3339(1_795_248_000), "2026-11-21T08:00:00+00:00");
    }

    #[test]
    fn values_are_literal_in_a_dockerfile() {
        assert_eq!(docker_quoted("a \"b\" $c \\ d"), r#""a \"b\" \$c \\ d""#);
    }
}
