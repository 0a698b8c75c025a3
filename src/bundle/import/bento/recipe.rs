//! What `bento.yaml` says of its image, as a manifest.
//!
//! `bentoml containerize` makes a Dockerfile of it, and runs commands; what can be had without running any is taken so,
//! other commands are steps that somebody may allow, and all else is named. BentoML to 1.3 writes the sections `docker`, `python` and `conda`, from 1.4 on (`spec: 2`)
//! the section `image`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

use crate::base::requirements::{logical_lines, required_name};
use crate::base::{BaseName, debian};
use crate::bundle::runtime::Convention;
use crate::formats::bento::{Bento, BentoDocker, BentoImage, BentoVariable};
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::dockerfile::Excerpt;
use crate::formats::document::Document;
use crate::formats::document::Written;
use crate::formats::model::globals::is_listed;
use crate::io::archive::ArchivePath;
use crate::project::manifest::{
    Build, Manifest, Model, Python, Requirements, Service, System, SystemPackages, Test, Version,
};

use super::steps::{self, Steps};
use super::template::Template;

/// What the image of a bento is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// All that can be had without executing anything.
    pub manifest: Manifest,
    /// What has to be executed.
    pub steps: Steps,
}

/// Files of a bento.
pub struct Files<'a> {
    /// Their paths.
    pub names: BTreeSet<&'a ArchivePath>,
    /// Reads a small one; none where it is not there.
    pub read: &'a dyn Fn(&str) -> Option<String>,
}

impl Files<'_> {
    /// Whether a file is there; where none is known, it may be.
    fn has(&self, path: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.as_str() == path)
    }

    fn wheels(&self, folder: &str) -> impl Iterator<Item = &str> {
        let inside = move |path: &&str| path.strip_prefix(folder).is_some_and(|name| !name.contains('/'));
        self.names.iter().map(|path| path.as_str()).filter(inside).filter(|path| path.ends_with(".whl"))
    }
}

/// Who runs a bento's service.
const USER: &str = "bentoml";

/// The folder in which BentoML to 1.3 puts wheels.
const WHEELS: &str = "env/python/wheels/";

/// What the image of a bento is made of, with `base` in place of the bento's own base. What cannot be had is a mistake, which
/// goes to `found`.
pub(super) fn recipe(
    bento: &Bento,
    document: &Document,
    files: &Files<'_>,
    base: Option<&BaseName>,
    found: &mut Diagnostics,
) -> Recipe {
    let mut recipe = Translation { bento, document, files, replaced: base.is_some(), found };
    let mut parts = match &bento.image {
        Some(image) => recipe.of_image(image),
        None => recipe.of_docker(),
    };
    recipe.refuse_downloads();
    parts.steps.replaced = base.is_some();
    if !parts.steps.are_none() {
        recipe.equip(&mut parts);
    }
    // BentoML writes down where whoever built the bento had wheels.
    let gone = |line: &String| {
        line.split_once("--find-links ").is_some_and(|(_, place)| place.starts_with('/') && !Path::new(place).exists())
    };
    let requirements: Vec<_> = parts.requirements.into_iter().filter(|line| !gone(line)).collect();
    let labels = bento.labels.iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
    let manifest = Manifest {
        name: bento.name.clone(),
        version: Some(Version::Text(bento.version.clone())),
        description: None,
        labels: labels.collect(),
        licenses: None,
        source: None,
        model: Model { files: Vec::new(), allow: recipe.allowed(&requirements) },
        python: Some(Python {
            version: parts.python.map(Written::from),
            requirements: Requirements::List(requirements),
        }),
        system: System { packages: SystemPackages::Named(sorted(parts.packages)), run: Vec::new() },
        build: Build::default(),
        base: base.map_or_else(|| parts.base.into(), |base| Written::Meant(base.clone())),
        debian: Default::default(),
        include: Vec::new(),
        service: Service {
            command: vec!["bentoml".to_owned(), "serve".to_owned()],
            port: 3000,
            ready: "/readyz".to_owned(),
            ..Service::default()
        },
        training: None,
        env: parts.env,
        metadata: Vec::new(),
        platforms: Vec::new(),
        resources: Default::default(),
        deploy: None,
        tests: tests(),
        approximately: None,
    };
    Recipe { manifest, steps: parts.steps }
}

/// What every bento answers, whatever its model is.
fn tests() -> Vec<Test> {
    let answers = |(name, path): (&str, &str)| Test {
        name: Some(name.to_owned()),
        path: path.to_owned(),
        request: None,
        status: Some(200),
        expect: None,
        approximately: None,
        tolerance: None,
    };
    [("is ready", "/readyz"), ("describes itself", "/docs.json"), ("counts requests", "/metrics")].map(answers).into()
}

/// What a manifest needs of the description.
struct Parts {
    base: String,
    python: Option<String>,
    requirements: Vec<String>,
    packages: Vec<String>,
    env: BTreeMap<String, String>,
    steps: Steps,
}

struct Translation<'a> {
    bento: &'a Bento,
    document: &'a Document,
    files: &'a Files<'a>,
    /// Another base is taken than the bento's.
    replaced: bool,
    found: &'a mut Diagnostics,
}

impl Translation<'_> {
    fn refuse(&mut self, at: &str, message: String, help: &str) {
        self.found.push(self.document.at(Code::NotMade, at, message).help(help));
    }

    /// The layout of 1.4 and later.
    fn of_image(&mut self, image: &BentoImage) -> Parts {
        let python = image.python_version.as_deref().map(minor);
        let slim = python.as_ref().map(|python| format!("python:{python}-slim"));
        let base = match &image.base_image {
            Some(base) if Some(base) != slim.as_ref() => reference(base),
            // BentoML's own choice, which nobody made: a base with the same Python that is smaller.
            _ => "auto".to_owned(),
        };
        let (mut packages, mut steps) = (Vec::new(), Steps::default());
        let own = |name: &str| format!("COPY --chown={USER}:{USER} ./{name} ./{name}/\n");
        for (number, command) in image.commands.iter().enumerate() {
            match apt(command) {
                Some(names) => packages.extend(names),
                None => {
                    let at = format!("/image/commands/{number}");
                    let files = if steps.base.is_empty() { own("env/docker") } else { String::new() };
                    steps.base.extend(self.command(&at, &files, command));
                }
            }
        }
        for (number, command) in image.post_commands.iter().enumerate() {
            let at = format!("/image/post_commands/{number}");
            let mut files = String::new();
            if steps.packages.is_empty() {
                files = own("env/docker") + &own("env/python");
                let included = image.build_include.iter();
                files.extend(included.map(|name| format!("COPY --chown={USER}:{USER} ./src/{name} ./src/{name}\n")));
            }
            steps.packages.extend(self.command(&at, &files, command));
        }
        steps.secrets = self.secrets().filter_map(|it| Some((it.name.clone(), it.value.clone()?))).collect();
        // Paths in it are meant from the folder of the code.
        let text = (self.files.read)("env/python/requirements.txt").or_else(|| image.python_requirements.clone());
        let requirements = lines(&text.unwrap_or_default(), "src");
        Parts { base, python, requirements, packages, env: self.env(), steps }
    }

    /// What loading the models may import. BentoML's own way to save any object is cloudpickle, which writes code into
    /// the pickle: no more can be in it than in the code of the bento. And a package that Ekiben knows nothing of is
    /// run by the service anyway, where it is required.
    fn allowed(&self, requirements: &[String]) -> Vec<String> {
        let own =
            self.bento.all_models().iter().any(|(_, model)| model.module.as_deref() == Some("bentoml.picklable_model"));
        let names =
            ["cloudpickle.*", "builtins.classmethod", "builtins.getattr", "builtins.map", "builtins.staticmethod"];
        let packages = requirements.iter().filter_map(|line| {
            // `NAME-VERSION-TAGS.whl`
            let wheel = line.strip_suffix(".whl").and_then(|path| path.rsplit('/').next()?.split('-').next());
            let module = wheel.map(str::to_owned).or_else(|| required_name(line))?.replace('-', "_");
            (!is_listed(&module)).then(|| format!("{module}.*"))
        });
        names.into_iter().filter(|_| own).map(str::to_owned).chain(packages).collect()
    }

    /// Models that BentoML fetches when it makes the image.
    fn refuse_downloads(&mut self) {
        for (at, model) in self.bento.all_models() {
            if let Some(registry) = model.registry.as_deref().filter(|registry| *registry != "bentoml") {
                let message =
                    format!("the model `{}` is not in the bento, but in the registry `{registry}`", model.tag);
                self.refuse(
                    &format!("{at}/registry"),
                    message,
                    "save the model in BentoML's store, and build the bento again",
                );
            }
        }
    }

    /// A command as BentoML writes it into a Dockerfile, after `before`; none where it cannot stand there.
    fn command(&mut self, at: &str, before: &str, command: &str) -> Option<Excerpt> {
        if let Some(script) = self.lost_script(command) {
            let help = "BentoML loses the scripts of `run_script` in a service's image: name the file in `build_include`, and call it \
                        with `run`";
            self.refuse(at, format!("there is no {script} in the bento"), help);
            return None;
        }
        let (mut mounts, mut exports) = (String::new(), String::new());
        for BentoVariable { name, .. } in self.secrets() {
            mounts.push_str(&format!("--mount=type=secret,id={name},required=true "));
            exports.push_str(&format!("{name}=\"$(cat /run/secrets/{name})\" "));
        }
        self.excerpt(at, format!("{before}RUN {mounts}{exports}{command}\n"))
    }

    /// A script that a command calls and that is not there: BentoML 1.4 loses those of `run_script` where the image is that of a
    /// service (`attrs.evolve` forgets `Image.scripts`).
    fn lost_script<'a>(&self, command: &'a str) -> Option<&'a str> {
        let mut words = command.split_whitespace().filter_map(|word| word.strip_prefix("./"));
        words.find(|word| word.starts_with("env/docker/script__") && !self.files.has(word))
    }

    /// Variables that only the build has.
    fn secrets(&self) -> impl Iterator<Item = &BentoVariable> {
        let envs = self.bento.envs.iter().flatten();
        envs.filter(|variable| variable.stage.as_deref() == Some("build"))
    }

    /// Instructions that follow from what stands at `at`; none where they are not any.
    fn excerpt(&mut self, at: &str, text: String) -> Option<Excerpt> {
        if let Some(mistake) = steps::mistake(&text) {
            let help = "BentoML puts it into a Dockerfile, where it means nothing";
            self.refuse(at, format!("this cannot be executed: {mistake}"), help);
            return None;
        }
        let source = &self.document.source;
        let (line, _) = source.position(self.document.span_of(at).start);
        Some(Excerpt { place: format!("{}:{line}", source.path()), text })
    }

    /// The script of a bento to 1.3, which BentoML executes when all else is done.
    fn script(&mut self, docker: &BentoDocker) -> Steps {
        const SCRIPT: &str = "env/docker/setup_script";
        let mut steps = Steps::default();
        if docker.setup_script.is_none() {
            return steps;
        }
        let at = "/docker/setup_script";
        if !self.files.has(SCRIPT) {
            self.refuse(at, format!("there is no {SCRIPT} in the bento"), "build the bento again");
            return steps;
        }
        let path = format!("{}/{SCRIPT}", Convention::Bento.code());
        let text = format!("ARG DEBIAN_FRONTEND=noninteractive\nRUN chmod +x {path}\nRUN {path}\n");
        steps.whole.extend(self.excerpt(at, text));
        steps
    }

    /// Adds what a template adds; gives the image that it stands on, where it names another one.
    fn template(&mut self, docker: &BentoDocker, steps: &mut Steps) -> Option<String> {
        const FOLDER: &str = "env/docker/";
        const TEMPLATE: &str = "Dockerfile.template";
        docker.dockerfile_template.as_ref()?;
        // Of a description alone it is not known.
        if self.files.names.is_empty() {
            return None;
        }
        let at = "/docker/dockerfile_template";
        let beside = self.files.names.iter().filter_map(|path| path.as_str().strip_prefix(FOLDER));
        let texts = beside.filter_map(|name| Some((name.to_owned(), (self.files.read)(&format!("{FOLDER}{name}"))?)));
        let python = docker.python_version.as_deref().unwrap_or_default();
        let base = docker.base_image.clone().unwrap_or_else(|| format!("python:{python}-slim"));
        let template = Template { name: TEMPLATE.to_owned(), texts: texts.collect(), docker: docker.clone(), base };
        let rendered = match template.rendered() {
            Ok(rendered) => rendered,
            Err(why) => {
                let help = "a template extends BentoML's, and adds to its blocks; another Dockerfile is built with \
                            `ekiben build --file`";
                self.refuse(at, format!("the template of the bento's Dockerfile cannot be used: {why}"), help);
                return None;
            }
        };
        let line = |text: String| Excerpt { place: format!("{FOLDER}{TEMPLATE}"), text };
        let some = |text: String| Some(text).filter(|text| !text.trim().is_empty()).map(line);
        steps.stages = some(rendered.stages);
        steps.base.extend(some(rendered.below));
        steps.whole.extend(some(rendered.above));
        rendered.base
    }

    /// Gives commands what they have with BentoML: the programs that Debian calls essential, and the packages that it installs
    /// for whatever may be built; and the image of its own choice, where they need what only that has.
    fn equip(&self, parts: &mut Parts) {
        if self.replaced {
            return;
        }
        parts.packages.extend(debian::ESSENTIAL.iter().chain(TOOLS_OF_COMMANDS).map(|&name| name.to_owned()));
        let is_script = |path: &&&ArchivePath| path.as_str().starts_with("env/docker/") && path.name() != "Dockerfile";
        let scripts = self.files.names.iter().filter(is_script).filter_map(|path| (self.files.read)(path.as_str()));
        let needs_apt = parts.steps.texts().any(calls_apt) || scripts.into_iter().any(|text| calls_apt(&text));
        if let Some(python) = parts.python.as_ref().filter(|_| needs_apt && parts.base == "auto") {
            parts.base = reference(&format!("python:{python}-slim"));
        }
    }

    /// The layout of 1.0 to 1.3, which 1.4 still writes where the other cannot say what is wanted.
    fn of_docker(&mut self) -> Parts {
        let bento = self.bento;
        let docker = bento.docker.clone().unwrap_or_default();
        let mut steps = self.script(&docker);
        let own_base = self.template(&docker, &mut steps);
        let python = docker.python_version.as_deref().map(minor);
        let python = python.or_else(|| (self.files.read)("env/python/version.txt").map(|text| minor(text.trim())));
        let base = match &own_base {
            Some(image) => reference(image),
            None => self.docker_base(&docker),
        };
        if let Some(conda) = &bento.conda
            && conda.values().any(|value| !is_nothing(value))
        {
            let help = "name the packages as requirements of Python, and build the bento again";
            self.refuse("/conda", "the bento's image is made with conda".to_owned(), help);
        }
        let options = bento.python.clone().unwrap_or_default();
        let mut requirements = Vec::new();
        requirements.extend(options.index_url.iter().map(|url| format!("--index-url {url}")));
        requirements.extend(options.extra_index_url.iter().flatten().map(|url| format!("--extra-index-url {url}")));
        requirements.extend(options.find_links.iter().flatten().map(|place| format!("--find-links {place}")));
        requirements.extend(options.no_index.filter(|no| *no).map(|_| "--no-index".to_owned()));
        requirements.extend(pip_arguments(options.pip_args.as_deref().unwrap_or_default()));
        let text = ["requirements.lock.txt", "requirements.txt"]
            .iter()
            .find_map(|name| (self.files.read)(&format!("env/python/{name}")));
        requirements.extend(lines(&text.unwrap_or_default(), "env/python"));
        requirements.extend(self.files.wheels(WHEELS).map(|path| format!("./{path}")));
        let names: BTreeSet<String> = requirements.iter().filter_map(|line| required_name(line)).collect();
        let version = bento.bentoml_version.as_deref().unwrap_or_default();
        if !names.contains("bentoml") && !version.is_empty() {
            requirements.push(format!("bentoml=={}", version.split('+').next().unwrap_or(version)));
        }
        // BentoML to 1.3 imports pkg_resources, which images of Python to 3.11 bring, and newer setuptools lack.
        let pinned =
            |line: &String| required_name(line).as_deref() == Some("setuptools") && line.contains(['=', '<', '>', '~']);
        if ["1.0.", "1.1.", "1.2.", "1.3."].iter().any(|old| version.starts_with(old))
            && !requirements.iter().any(pinned)
        {
            requirements.push("setuptools<81".to_owned());
        }
        // As BentoML, which leaves them out of an image on a base of the person's choice.
        let is_own = docker.base_image.is_some() || own_base.is_some();
        let packages = docker.system_packages.filter(|_| !is_own).unwrap_or_default();
        let mut env = self.env();
        match docker.env {
            Some(Json::Object(variables)) => {
                env.extend(variables.into_iter().filter_map(|(name, value)| Some((name, text_of(&value)?))));
            }
            Some(Json::Array(lines)) => {
                let lines = lines.iter().filter_map(|line| line.as_str()?.split_once('='));
                env.extend(lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            _ => {}
        }
        Parts { base, python, requirements, packages, env, steps }
    }

    fn docker_base(&mut self, docker: &BentoDocker) -> String {
        let replace = "name another base with `--base`; `--base auto` is Debian with the bento's Python";
        if let Some(base) = &docker.base_image {
            return reference(base);
        }
        let distribution = docker.distro.as_deref().filter(|name| *name != "debian");
        let packages = docker.system_packages.as_ref().is_some_and(|packages| !packages.is_empty());
        if let Some(name) = distribution.filter(|_| !self.replaced || packages) {
            let (message, help) = match packages {
                true => (format!("the bento asks for packages of {name}"), "only packages of Debian can be installed"),
                false => (format!("the bento's image stands on {name}"), replace),
            };
            self.refuse("/docker/distro", message, help);
        }
        if let Some(version) = docker.cuda_version.as_ref().and_then(text_of).filter(|_| !self.replaced) {
            self.refuse("/docker/cuda_version", format!("the bento's image stands on CUDA {version}"), replace);
        }
        "auto".to_owned()
    }

    /// Variables of the environment, as far as they belong into the image.
    fn env(&self) -> BTreeMap<String, String> {
        let all = |variable: &&BentoVariable| variable.stage.as_deref().is_none_or(|stage| stage == "all");
        let pair = |variable: &BentoVariable| Some((variable.name.clone(), variable.value.clone()?));
        self.bento.envs.iter().flatten().filter(all).filter_map(pair).collect()
    }
}

/// The lines of a file of requirements, whose relative paths are meant from `folder` of the bento.
fn lines(text: &str, folder: &str) -> Vec<String> {
    logical_lines(text).map(|line| placed(&line, folder)).collect()
}

/// A requirement whose relative path, where it has one, is meant from the bento's root.
fn placed(line: &str, folder: &str) -> String {
    let (before, path) = match line.split_once(char::is_whitespace) {
        Some((option @ ("-f" | "--find-links" | "-r" | "-c" | "--requirement" | "--constraint"), path)) => {
            (format!("{option} "), path.trim())
        }
        _ => (String::new(), line),
    };
    match path.strip_prefix("./") {
        Some(inside) => format!("{before}./{folder}/{inside}"),
        None => line.to_owned(),
    }
}

/// What of pip's arguments says where packages come from.
fn pip_arguments(text: &str) -> Vec<String> {
    const WITH_VALUE: [&str; 5] = ["-i", "--index-url", "--extra-index-url", "-f", "--find-links"];
    let mut words = text.split_whitespace().flat_map(|word| match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => vec![option, value],
        _ => vec![word],
    });
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word) {
            options.extend(words.next().map(|value| format!("{word} {value}")));
        } else if word == "--no-index" {
            options.push(word.to_owned());
        }
    }
    options
}

/// What BentoML 1.4 installs into each image on Debian, for building packages that have no wheels. Wheels are all that
/// is installed here, so nothing of it is needed.
const TOOLS: &str = "apt-get update && apt-get install -q -y --no-install-recommends --allow-remove-essential \
                     ca-certificates gnupg2 bash build-essential git";

/// What of that and of BentoML to 1.3 commands find.
const TOOLS_OF_COMMANDS: &[&str] = &["build-essential", "ca-certificates", "curl", "git", "gnupg"];

/// The Debian packages that a command installs; none where it does anything else.
fn apt(command: &str) -> Option<Vec<String>> {
    if command.split_whitespace().eq(TOOLS.split_whitespace()) {
        return Some(Vec::new());
    }
    let mut packages = Vec::new();
    for part in command.split("&&") {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["apt-get" | "apt", rest @ ..] => {
                let mut rest = rest.iter().filter(|word| !is_flag(word));
                match rest.next() {
                    Some(&"update" | &"clean") if rest.next().is_none() => {}
                    Some(&"install") => packages.extend(rest.map(|name| name.trim_matches('\'').to_owned())),
                    _ => return None,
                }
            }
            ["rm", "-rf", "/var/lib/apt/lists/*"] | ["export", "DEBIAN_FRONTEND=noninteractive"] => {}
            _ => return None,
        }
    }
    let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    packages.iter().all(plain).then_some(packages)
}

/// Whether commands call Debian's package manager, which bases do not have that are put together here.
fn calls_apt(text: &str) -> bool {
    let is_in_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let mut words = text.split(|letter| !is_in_word(letter));
    words.any(|word| {
        ["apt", "aptitude", "dpkg"].contains(&word) || word.starts_with("apt-") || word.starts_with("dpkg-")
    })
}

/// `-y`, `--no-install-recommends`, and the value of `-o`.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') || word.starts_with("Dpkg::Options::=")
}

/// An image as Docker understands it. Debian's own is assembled.
fn reference(base: &str) -> String {
    match (base.strip_prefix("debian:"), base.split_once('/')) {
        (Some(suite), _) => format!("debian:{}", suite.strip_suffix("-slim").unwrap_or(suite)),
        (None, None) => format!("docker.io/library/{base}"),
        (None, Some(_)) => base.to_owned(),
    }
}

/// `3.11` of `3.11.7`.
fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn is_nothing(value: &Json) -> bool {
    matches!(value, Json::Null) || value.as_array().is_some_and(Vec::is_empty)
}

fn sorted(mut packages: Vec<String>) -> Vec<String> {
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_in_what_bentoml_writes() {
        assert_eq!(apt(TOOLS), Some(vec![]));
        let command = "apt-get install -q -y -o Dpkg::Options::=--force-confdef libsodium23 'libgomp1'";
        assert_eq!(apt(command), Some(vec!["libsodium23".to_owned(), "libgomp1".to_owned()]));
        assert_eq!(apt("apt-get update && apt-get install -y git && rm -rf /var/lib/apt/lists/*").unwrap(), ["git"]);
        assert_eq!(apt("apt-get install -y $(cat packages)"), None);
        assert_eq!(apt("curl example.org | sh"), None);
        assert_eq!(apt("apt-get install -y git; rm -rf /"), None);
        assert_eq!(apt("apt-get install -y git || true"), None);
    }

    #[test]
    fn scripts_that_call_a_package_manager_are_known() {
        for text in
            ["apt-get update", "x=$(dpkg-query -W sl)", "echo y|apt install sl", "apt-mark hold sl", "dpkg -i a.deb"]
        {
            assert!(calls_apt(text), "{text}");
        }
        assert!(!calls_apt("adapt-get; cat aptly /opt/my-apt dpkg_list"));
    }

    #[test]
    fn paths_are_meant_from_where_bentoml_installs() {
        assert_eq!(placed("./wheels/a-1.whl", "src"), "./src/wheels/a-1.whl");
        assert_eq!(placed("--find-links ./wheels", "src"), "--find-links ./src/wheels");
        assert_eq!(placed("scikit-learn==1.5.2", "src"), "scikit-learn==1.5.2");
    }

    #[test]
    fn bases_are_what_docker_takes_them_for() {
        assert_eq!(reference("debian:bookworm-slim"), "debian:bookworm");
        assert_eq!(reference("python:3.11-slim"), "docker.io/library/python:3.11-slim");
        assert_eq!(reference("ghcr.io/a/b:1"), "ghcr.io/a/b:1");
    }

    #[test]
    fn of_pips_arguments_only_the_sources_count() {
        let options = pip_arguments("--pre --extra-index-url=https://a.example -i https://b.example");
        assert_eq!(options, ["--extra-index-url https://a.example", "-i https://b.example"]);
    }
}
