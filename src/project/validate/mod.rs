//! Meaning: whether what a manifest says makes sense, beyond its form.
//!
//! Nothing of the project is run, and nothing is asked over a network.

mod commands;
pub mod deploy;
mod entry;
mod imports;
mod java;
pub mod model;
mod packed;
mod requirements;
mod signature;
mod small;
mod training;

use std::collections::BTreeMap;
use std::path::Path;

use pep440_rs::Version;

use crate::base::debian::Suite;
use crate::base::requirements::{Relaxed, Requirements};
use crate::base::{Named, official_python};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::formats::document::{Document, pointer};
use crate::formats::openapi::OpenApi;
use crate::formats::python::PythonVersion;
use crate::formats::schema::load;
use crate::io::archive::ArchivePath;
use crate::io::explain::Explain as _;
use crate::io::suggest::{closest, did_you_mean};
use crate::project::files::Files;
use crate::project::manifest::Manifest;

/// Versions of Python that there are bases and wheels for.
pub const PYTHONS: std::ops::RangeInclusive<PythonVersion> = PythonVersion::new(3, 8)..=PythonVersion::new(3, 15);

/// The same where the base is an image: older ones, for which Ekiben's service has a small form.
pub const PYTHONS_OF_IMAGES: std::ops::RangeInclusive<PythonVersion> =
    PythonVersion::new(3, 6)..=PythonVersion::new(3, 15);

/// What a service answers without being told to: its methods and paths beside those of the functions.
pub const ROUTES: [&str; 7] = ["/healthz", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/"];

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The folder that paths in the manifest are relative to.
    pub root: &'a Path,
    /// What the manifest says.
    pub manifest: &'a Manifest,
    /// The same with its places.
    pub document: &'a Document,
    /// The files that it names.
    pub files: &'a Files,
    /// What Python packages it requires.
    pub requirements: &'a Requirements,
    /// The versions of Python packages that the lock has, by normalised name; empty where there is no lock.
    pub locked: &'a BTreeMap<String, Version>,
    /// The pins that gave way in it.
    pub relaxed: &'a [Relaxed],
    /// Whether the lock is that of the manifest: then these are all packages that there will be.
    pub lock_fits: bool,
}

/// Looks for mistakes of meaning; they go to `found`.
pub fn manifest(subject: &Subject<'_>, found: &mut Diagnostics) {
    service(subject, found);
    entry::check(subject, found);
    signature::check(subject, found);
    java::check(subject, found);
    training::check(subject, found);
    imports::check(subject, found);
    python(subject, found);
    requirements::check(subject, found);
    model::check(subject, found);
    packed::check(subject, found);
    packages(subject, found);
    base(subject, found);
    commands::check(subject, found);
    variables(subject, found);
    addresses(subject, found);
    licenses(subject, found);
    tests(subject, found);
    deploy::check(subject, found);
}

fn service(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Subject { manifest, document, .. } = *subject;
    let service = &manifest.service;
    let openai = service.openai.iter().any(|openai| openai.functions().next().is_some());
    let java = service.java.is_some();
    let named = service.predict.is_some() || !service.functions.is_empty();
    let functions = named || openai || java || service.mlflow.is_some();
    if let Some(path) = &service.openapi {
        description(subject, path, functions, found);
    }
    if service.inherit {
        inherited(manifest, document, functions, found);
        return;
    }
    match (functions, service.command.is_empty()) {
        (true, true) | (false, false) => {}
        (true, false) => {
            let message = "the service has both functions and a command";
            let other = match (service.predict.is_some(), service.functions.is_empty()) {
                (true, _) => "/service/predict",
                (false, false) => "/service/functions",
                (false, true) if java => "/service/java",
                (false, true) if openai => "/service/openai",
                (false, true) => "/service/mlflow",
            };
            found.push(
                document
                    .at_key(Code::ServiceKind, "/service/command", message)
                    .also(&document.source, document.key_span_of(other), "functions that ekiben serves")
                    .help("leave one of them out"),
            );
        }
        (false, true) => found.push(
            document
                .at_key(Code::ServiceKind, "/service", "the service has no way to answer")
                .help("name a function: `predict: src/predict.py:predict`")
                .help("or a server of its own: `command: [python, -m, my_server]`"),
        ),
    }
    if !functions && !service.inputs.is_empty() {
        let message = "inputs are described, and there is no function that takes them";
        found.push(document.at_key(Code::ServiceKind, "/service/inputs", message));
    }
    if java && service.predict.is_some() {
        let (message, first) = ("two things would answer `/predict`", document.key_span_of("/service/predict"));
        let error = document.at_key(Code::RouteTaken, "/service/java", message);
        found.push(error.also(&document.source, first, "the other one").help("leave one of them out"));
    }
    for name in service.functions.keys() {
        let at = pointer(["service", "functions", name.as_str()]);
        let route = format!("/{name}");
        if ROUTES.contains(&route.as_str()) || service.mlflow.is_some() && signature::ROUTES.contains(&route.as_str()) {
            let who = if ROUTES.contains(&route.as_str()) { "every service" } else { "a service with `mlflow`" };
            let message = format!("the function `{name}` would answer `{route}`, which {who} answers itself");
            found.push(document.at_key(Code::RouteTaken, &at, message).help("give it another name"));
        } else if name == "predict" && (service.predict.is_some() || java) {
            let first = document.key_span_of(if java { "/service/java" } else { "/service/predict" });
            found.push(document.at_key(Code::RouteTaken, &at, "two functions would answer `/predict`").also(
                &document.source,
                first,
                "the other one",
            ));
        }
    }
}

/// What says in OpenAPI what a server of its own answers.
fn description(subject: &Subject<'_>, path: &str, functions: bool, found: &mut Diagnostics) {
    if functions {
        let message = "the service describes its functions itself";
        found.push(subject.document.at_key(Code::ServiceKind, "/service/openapi", message).help("leave `openapi` out"));
    }
    let file = ArchivePath::relative(path).ok().and_then(|path| subject.files.get(&path));
    // What is not there was told where files were looked for.
    let Some(file) = file else { return };
    let loaded = load::file::<OpenApi>(&file.host, found);
    if let Some((document, api)) = loaded.and_then(load::Loaded::whole) {
        api.check(&document, found);
    }
}

/// The base starts the server: then nothing else does, and the base is one that can.
fn inherited(manifest: &Manifest, document: &Document, functions: bool, found: &mut Diagnostics) {
    let at = "/service/inherit";
    if functions || !manifest.service.command.is_empty() {
        let message = "the base starts the server, and the service has a way to answer of its own";
        found.push(document.at_key(Code::ServiceKind, at, message).help("leave one of them out"));
    }
    let is_image = manifest.base.meant().map_or(true, |base| matches!(base.named(), Named::Image(_)));
    if manifest.build.file.is_none() && !is_image {
        let message = "the base starts nothing: it is no image of somebody else, and no Dockerfile makes one";
        let help = "name an image as `base`, or a Dockerfile: `build: {file: Dockerfile}`";
        found.push(document.at_key(Code::ServiceKind, at, message).help(help));
    }
}

fn python(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Subject { manifest, document, .. } = *subject;
    let Some(written) = manifest.python.as_ref().and_then(|python| python.version.as_ref()) else { return };
    let at = "/python/version";
    let version = match written.meant() {
        Ok(version) if PYTHONS.contains(version) => *version,
        // What a Dockerfile makes is an image too.
        Ok(version) if PYTHONS_OF_IMAGES.contains(version) => {
            let is_image = manifest.base.meant().is_ok_and(|base| matches!(base.named(), Named::Image(_)));
            if is_image || manifest.build.file.is_some() {
                return small::check(subject, *version, found);
            }
            let message = format!("Python {version} is there on images alone");
            let image = official_python(*version);
            let error = document.at(Code::UnknownPython, at, message);
            found.push(error.help(format!("write `base: {image}`, or a copy of it in your registry")));
            return;
        }
        _ => {
            let message = match written.meant() {
                Ok(version) if version < PYTHONS_OF_IMAGES.start() => format!("Python {version} is not supported"),
                _ => format!("there is no Python `{written}` to build with"),
            };
            let (start, end, older) = (PYTHONS.start(), PYTHONS.end(), PYTHONS_OF_IMAGES.start());
            let known = format!("known are {start} to {end}, and on images {older} and later");
            found.push(document.at(Code::UnknownPython, at, message).help(known));
            return;
        }
    };
    let suite = match manifest.base.meant().map(|base| base.named()) {
        Ok(Named::Debian(suite)) => suite,
        Ok(Named::Auto) if Suite::with_python(version).is_none() => {
            let image = official_python(version);
            let short = image.rsplit('/').next().unwrap_or_default();
            let message = format!("Debian has no Python {version}, so the base is Docker Hub's `{short}`");
            let debian = Suite::ALL.map(|suite| suite.python().to_string());
            found.push(
                document
                    .at(Code::PythonOfHub, at, message)
                    .help(format!("ask for {}, which are assembled from Debian's packages", debian.join(" or ")))
                    .help(format!("or write `base: {image}`, or a copy of it in your registry")),
            );
            return;
        }
        _ => return,
    };
    let has = suite.python();
    if has != version {
        let mut error = document
            .at(Code::PythonNotInBase, at, format!("Debian {suite} has Python {has}, not {version}"))
            .also(&document.source, document.span_of("/base"), "the base");
        if let Some(other) = Suite::with_python(version) {
            error = error.help(format!("`base: debian:{other}` has Python {version}"));
        }
        found.push(error.help(format!("or ask for \"{has}\", or write `base: auto`")));
    }
}

/// Debian policy 4.7, section 5.6.7.
fn packages(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    for (number, name) in manifest.system.packages.written().iter().enumerate() {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if first && name.len() >= 2 && name.chars().all(letters) {
            continue;
        }
        let at = format!("/system/packages/{number}");
        let mut error =
            document.at(Code::BadPackageName, &at, format!("`{name}` cannot be a name of a Debian package"));
        if let Some((name, _)) = name.split_once(['=', '<', '>', ' ']) {
            error = error.help(format!("write `{}`: the lock pins the version", name.trim()));
        }
        found.push(error);
    }
}

fn base(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let Err(wrong) = manifest.base.meant() else { return };
    let mut error = document.at(Code::UnknownBase, "/base", wrong.to_string());
    if let Some(near) = wrong.similar() {
        error = error.label(did_you_mean(near));
    }
    found.push(wrong.explain().hint.into_iter().fold(error, Diagnostic::help));
}

/// POSIX.1-2017, base definitions, section 8.1.
fn variables(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    for (name, value) in &manifest.env {
        let at = pointer(["env", name.as_str()]);
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
            let message = format!("`{name}` cannot be a name of a variable");
            let help = "a name has letters, digits and `_`, and begins with no digit";
            found.push(document.at_key(Code::BadVariable, &at, message).help(help));
        }
        if value.contains('\0') {
            found.push(document.at(Code::BadVariable, &at, "the value of a variable holds a zero byte"));
        }
    }
}

fn addresses(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let debian = &manifest.debian;
    for (at, url) in [
        ("/source", &manifest.source),
        ("/debian/mirror", &debian.mirror),
        ("/debian/security", &debian.security),
        ("/debian/snapshot", &debian.snapshot),
    ] {
        let Some(text) = url else { continue };
        let why = match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => continue,
            Ok(url) => format!("`{}:` is not http or https", url.scheme()),
            Err(error) => error.to_string(),
        };
        let error = document.at(Code::BadUrl, at, format!("`{text}` is not a URL: {why}"));
        found.push(error.help("an address begins with `https://` or `http://`"));
    }
}

/// SPDX specification 3.0, annex B: identifiers joined by `AND`, `OR` and `WITH`, with parentheses.
fn licenses(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let Some(text) = &manifest.licenses else { return };
    if is_spdx(text) {
        return;
    }
    let mut warning = document.at(Code::NotSpdx, "/licenses", format!("`{text}` is not an SPDX expression"));
    if let Some(words) = text.split_once(' ').filter(|_| is_spdx(&text.replace(' ', "-"))) {
        warning = warning.label(did_you_mean(format!("{}-{}", words.0, words.1.replace(' ', "-"))));
    }
    found.push(warning.help("as `Apache-2.0`, `MIT OR Apache-2.0`, `LicenseRef-mine`"));
}

fn is_spdx(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut operand_next) = (0_usize, true);
    for word in spaced.split_whitespace() {
        match word {
            "(" if operand_next => depth += 1,
            ")" if !operand_next && depth > 0 => depth -= 1,
            "AND" | "OR" | "WITH" if !operand_next => operand_next = true,
            "(" | ")" | "AND" | "OR" | "WITH" => return false,
            word if operand_next && word.chars().all(|c| c.is_ascii_alphanumeric() || "-.+:".contains(c)) => {
                operand_next = false;
            }
            _ => return false,
        }
    }
    depth == 0 && !operand_next
}

fn tests(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let service = &manifest.service;
    let mut routes: Vec<String> = service.entries().iter().map(|entry| format!("/{}", entry.name)).collect();
    routes.extend(service.java.iter().map(|_| "/predict".to_owned()));
    // A server of its own answers what it likes.
    if routes.is_empty() {
        return;
    }
    routes.extend(ROUTES.map(str::to_owned));
    routes.extend(service.openai.iter().map(|_| "/v1/models".to_owned()));
    routes.extend(service.mlflow.iter().flat_map(|_| signature::ROUTES.map(str::to_owned)));
    for (number, test) in manifest.tests.iter().enumerate() {
        let path = test.path.split('?').next().unwrap_or_default();
        if routes.iter().any(|route| route == path) {
            continue;
        }
        let at = format!("/tests/{number}/path");
        let mut error = document.at(Code::UnknownRoute, &at, format!("nothing answers `{path}`"));
        if let Some(near) = closest(path, &routes) {
            error = error.label(did_you_mean(near));
        }
        found.push(error.help(format!("the paths are {}", routes.join(", "))));
    }
}

#[cfg(test)]
mod syntax_tests {
    use super::*;

    #[test]
    fn licence_expressions_are_told_from_other_texts() {
        for good in ["MIT", "MIT OR Apache-2.0", "(MIT AND GPL-2.0+) OR LicenseRef-mine", "GPL-2.0 WITH x"] {
            assert!(is_spdx(good), "{good}");
        }
        for bad in ["", "Apache 2.0", "MIT OR", "(MIT", "MIT)", "OR MIT", "MIT, Apache"] {
            assert!(!is_spdx(bad), "{bad}");
        }
    }
}
