//! A bento's template of a Dockerfile (`docker.dockerfile_template`), rendered with BentoML's variables.
//!
//! BentoML's own templates have five blocks, which a person's template extends. Here they are marked lines, so that what the
//! person's blocks add can be told from what BentoML does, and becomes steps upon what Ekiben has made instead.
//!
//! Invariant: a template reads no file but those beside it in the bento, comes to an end, and has no more memory than it may:
//! texts double with each step, so it is rendered by this program started anew, which the kernel holds to that.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::process::{Command, ExitCode, Stdio};

use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{Environment, Error, ErrorKind};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::bundle::runtime::{self, Convention};
use crate::formats::bento::BentoDocker;
use crate::formats::diagnostic::Source;
use crate::formats::dockerfile::{Dockerfile, Kind};
use crate::io::tied::tied;

/// What BentoML's templates are called, whichever of them is meant.
const BASE: &str = "base.j2";

/// What a line begins with that stands for something of ours.
const MARK: &str = "#ekiben";

/// Starts this program for [`take_over`].
const COMMAND: &str = "__template";

/// Bytes of addresses, of which the program itself takes some.
const MOST_MEMORY: u64 = 512 << 20;

/// Seconds of a processor.
const MOST_SECONDS: u64 = 10;

/// Instructions of a template: a person's has some hundreds.
const FUEL: u64 = 200_000;

/// Bytes that a template may become.
const MOST_BYTES: usize = 1 << 20;

/// What a template adds to an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Stages that come first.
    pub stages: String,
    /// The image that everything stands on, where it is another one than BentoML's.
    pub base: Option<String>,
    /// Upon the base.
    pub below: String,
    /// Upon everything.
    pub above: String,
}

/// A template, and what it may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Template {
    /// Its name among the texts.
    pub name: String,
    /// It and what it may include, by their names.
    pub texts: BTreeMap<String, String>,
    /// What the bento says of its image.
    pub docker: BentoDocker,
    /// What BentoML's image stands on.
    pub base: String,
}

impl Template {
    /// Renders it.
    ///
    /// # Errors
    /// Why that cannot be done, in words.
    pub fn rendered(&self) -> Result<Rendered, String> {
        parts(&self.held()?)
    }

    /// Its text with marks, from this program started anew.
    fn held(&self) -> Result<String, String> {
        let ended = || format!("it needs more than {} MB of memory, or than {MOST_SECONDS} s", MOST_MEMORY >> 20);
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = tied(&mut command).spawn().map_err(|error| error.to_string())?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let told = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        // It reads all before it says something; one that has ended says nothing.
        let _ = input.map(|mut input| input.write_all(&told));
        let mut said = Vec::new();
        let read = output.map(|output| output.take(8 * MOST_BYTES as u64).read_to_end(&mut said));
        let _ = child.wait();
        read.transpose().map_err(|error| error.to_string())?;
        serde_json::from_slice::<Result<String, String>>(&said).map_err(|_| ended())?
    }

    fn told(&self) -> Result<String, String> {
        text(self).map_err(|error| told(&error))
    }
}

/// Renders the template that stands on the standard input, where this program was started for that.
pub fn take_over() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != COMMAND {
        return None;
    }
    let rendered = || {
        for (resource, most) in
            [(Resource::RLIMIT_AS, MOST_MEMORY), (Resource::RLIMIT_CPU, MOST_SECONDS), (Resource::RLIMIT_CORE, 0)]
        {
            let (_, hard) = getrlimit(resource)?;
            setrlimit(resource, most.min(hard), most.min(hard))?;
        }
        let template: Template = serde_json::from_reader(io::stdin().lock())?;
        serde_json::to_writer(io::stdout().lock(), &template.told())?;
        Ok::<_, io::Error>(())
    };
    Some(if rendered().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a template with marks adds.
fn parts(text: &str) -> Result<Rendered, String> {
    let mut blocks = Blocks::read(text)?;
    let [first, user, variables, components, entrypoint] = [
        "SETUP_BENTO_BASE_IMAGE",
        "SETUP_BENTO_USER",
        "SETUP_BENTO_ENVARS",
        "SETUP_BENTO_COMPONENTS",
        "SETUP_BENTO_ENTRYPOINT",
    ]
    .map(|name| blocks.take(name));
    let mut rendered = Rendered::default();
    let first = match first.after {
        Some(after) => {
            rendered.stages = first.before;
            after
        }
        None => {
            let (stages, image, rest) = own_base(&first.before)?;
            (rendered.stages, rendered.base) = (stages, Some(image));
            rest
        }
    };
    for (name, block) in [("SETUP_BENTO_USER", &user), ("SETUP_BENTO_COMPONENTS", &components)] {
        if block.after.is_none() {
            return Err(format!("its block {name} leaves out what BentoML does there: call `super()` in it"));
        }
    }
    let path = Convention::Bento.code();
    let arguments = format!(
        "ARG BENTO_USER={0}\nARG BENTO_USER_UID={1}\nARG BENTO_USER_GID={1}\nARG BENTO_PATH={path}\n",
        Convention::Bento.user_name(),
        runtime::USER
    );
    let user_after = user.after.unwrap_or_default();
    let components_after = components.after.unwrap_or_default();
    let variables_after = variables.after.unwrap_or_default();
    let below = [&first, &user.before, &user_after, &variables.before, &variables_after, &components.before];
    let mut kept = String::new();
    let mut has_any = false;
    for part in below {
        for instruction in instructions(part)? {
            has_any = true;
            match instruction.0 {
                Keep::Scope => kept.push_str(&instruction.1),
                Keep::Image | Keep::Not => {}
            }
        }
    }
    if has_any {
        rendered.below = format!(
            "WORKDIR /\n{first}{}{arguments}{user_after}{}WORKDIR {path}\n{variables_after}{}",
            user.before, variables.before, components.before
        );
    }
    // What of them describes the image is said again where nothing hides it.
    let mut said = String::new();
    for part in below {
        let image = instructions(part)?.into_iter().filter(|(keep, _)| *keep == Keep::Image);
        said.extend(image.map(|(_, original)| original));
    }
    let own_user = match &entrypoint.after {
        Some(_) => format!("USER {0}:{0}\n", runtime::USER),
        None => "USER root\n".to_owned(),
    };
    let last = entrypoint.after.unwrap_or_default();
    let is_empty = |part: &str| instructions(part).map(|all| all.is_empty());
    if !(said.is_empty() && is_empty(&components_after)? && is_empty(&entrypoint.before)? && is_empty(&last)?) {
        rendered.above = format!("{arguments}{kept}{said}{components_after}{}{own_user}{last}", entrypoint.before);
    }
    Ok(rendered)
}

/// What becomes of an instruction above the packages and the code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It holds there too, as in the one stage that BentoML has.
    Scope,
    /// It says something of the image.
    Image,
    /// It is done.
    Not,
}

/// The instructions of a part of a stage, each as one line, and what becomes of them.
fn instructions(text: &str) -> Result<Vec<(Keep, String)>, String> {
    let source = Source::new("template", format!("FROM scratch\n{text}"));
    let file = Dockerfile::parse(&source).map_err(|mistakes| {
        let first = mistakes.sorted().first().map(|mistake| mistake.message.clone());
        format!("it becomes no Dockerfile: {}", first.unwrap_or_default())
    })?;
    if file.stages.len() > 1 {
        return Err("it begins another image than in its block SETUP_BENTO_BASE_IMAGE".to_owned());
    }
    let all = file.stages.into_iter().flat_map(|stage| stage.instructions).map(|instruction| {
        let keep = match instruction.kind {
            Kind::Arg(_) | Kind::Shell(_) => Keep::Scope,
            Kind::Label(_)
            | Kind::Expose(_)
            | Kind::Volume(_)
            | Kind::StopSignal(_)
            | Kind::HealthCheck(_)
            | Kind::OnBuild(_)
            | Kind::Maintainer(_) => Keep::Image,
            _ => Keep::Not,
        };
        (keep, format!("{}\n", instruction.original))
    });
    Ok(all.collect())
}

/// A base image of the template's own: the stages before it, its name, and what follows.
fn own_base(text: &str) -> Result<(String, String, String), String> {
    let source = Source::new("template", text);
    let none = || "its block SETUP_BENTO_BASE_IMAGE has no `FROM IMAGE`, and does not call `super()`".to_owned();
    let file = Dockerfile::parse(&source).map_err(|_| none())?;
    let (last, before) = file.stages.split_last().ok_or_else(none)?;
    let image = last.from.image.text().to_owned();
    let is_stage = before.iter().any(|stage| stage.from.name.as_deref() == Some(image.to_lowercase().as_str()));
    if is_stage || image.contains('$') || image == "scratch" {
        return Err(format!("it stands on `{image}`, which is no image that is known before it is built"));
    }
    let end = text
        .get(last.from.span.end..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |at| last.from.span.end + at + 1);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    Ok((part(0..last.from.span.start), image, part(end..text.len())))
}

/// What a block became: all of it, or what stands before and after what BentoML does there.
#[derive(Default)]
struct Block {
    before: String,
    after: Option<String>,
}

struct Blocks(BTreeMap<String, Block>);

impl Blocks {
    fn read(text: &str) -> Result<Self, String> {
        let (mut blocks, mut current): (BTreeMap<String, Block>, Option<String>) = (BTreeMap::new(), None);
        let mut own = None;
        for line in text.lines() {
            let block = current.as_ref().and_then(|name| blocks.get_mut(name));
            match (line.trim().strip_prefix(MARK).map(str::trim), block) {
                (Some("here"), Some(block)) if block.after.is_none() => block.after = Some(String::new()),
                (Some("here"), _) => return Err("it calls `super()` twice in one block".to_owned()),
                (Some(name), _) if name.starts_with("SETUP_") => {
                    blocks.insert(name.to_owned(), Block::default());
                    current = Some(name.to_owned());
                }
                (Some(values), _) => own = Some(values.to_owned()),
                (None, Some(block)) => {
                    let text = block.after.as_mut().unwrap_or(&mut block.before);
                    text.push_str(line);
                    text.push('\n');
                }
                (None, None) => {}
            }
        }
        let expected = values();
        match own {
            None => Err("it does not extend BentoML's (`{% extends bento_base_template %}`)".to_owned()),
            Some(own) if own != expected => Err(format!("it sets other values than `{expected}`: `{own}`")),
            Some(_) => Ok(Self(blocks)),
        }
    }

    fn take(&mut self, name: &str) -> Block {
        self.0.remove(name).unwrap_or_default()
    }
}

/// User, number, home, folder and entrypoint, which a template may not change.
fn values() -> String {
    let (path, user) = (Convention::Bento.code(), Convention::Bento.user_name());
    format!("{user} {} /home/{user}/ {path} {path}/env/docker/entrypoint.sh", runtime::USER)
}

/// The template as a text with marks.
fn text(template: &Template) -> Result<String, Error> {
    let Template { name, texts, docker, base } = template;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    environment.set_syntax(minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    let own = |name: &str| match name {
        "_macros.j2" => Some(include_str!("templates/_macros.j2")),
        BASE => Some(include_str!("templates/base.j2")),
        _ => {
            let (kind, rest) = name.split_once('_')?;
            let is_own = ["base", "python", "cuda", "miniconda"].contains(&kind) && rest.ends_with(".j2");
            is_own.then_some(include_str!("templates/base.j2"))
        }
    };
    let texts = texts.clone();
    environment.set_loader(move |name: &str| Ok(texts.get(name).cloned().or_else(|| own(name).map(str::to_owned))));
    environment.add_filter("bash_quote", |text: String| quoted(&text));
    environment.add_filter("normalize_line", |text: String| text.split_whitespace().collect::<Vec<_>>().join(" "));
    environment.add_function("expands_bento_path", |parts: Rest<String>, options: Kwargs| {
        let path: Option<String> = options.get("bento_path")?;
        let path = path.unwrap_or_else(|| Convention::Bento.code().to_owned());
        Ok::<_, Error>(std::iter::once(path).chain(parts.iter().cloned()).collect::<Vec<_>>().join("/"))
    });
    environment.add_global("bento_base_template", BASE);
    environment.add_global("mark", MARK);
    let options = serde_json::to_value(docker).unwrap_or_default();
    let options = options.as_object().cloned().unwrap_or_default();
    let mut variables: BTreeMap<String, Value> = [
        "distro",
        "python_version",
        "cuda_version",
        "env",
        "system_packages",
        "setup_script",
        "base_image",
        "dockerfile_template",
    ]
    .map(|name| (format!("__options__{name}"), Value::from(())))
    .into();
    let given = options
        .into_iter()
        .map(|(name, value)| (format!("__options__{name}"), Value::from(minijinja::value::Serde(&value))));
    variables.extend(given);
    let user = Convention::Bento.user_name();
    let known = [
        ("bento__uid_gid", Value::from(runtime::USER)),
        ("bento__user", user.into()),
        ("bento__home", format!("/home/{user}/").into()),
        ("bento__path", Convention::Bento.code().into()),
        ("bento__add_header", true.into()),
        ("bento__buildkit_frontend", "docker/dockerfile:1.2.1".into()),
        ("bento__enable_buildkit", true.into()),
        ("__prometheus_port__", 3001.into()),
        ("__base_image__", base.as_str().into()),
        ("__conda_python_version__", docker.python_version.clone().into()),
        ("__is_cuda__", docker.cuda_version.is_some().into()),
    ];
    variables.extend(known.map(|(name, value)| (name.to_owned(), value)));
    let mut output = Bounded(Vec::new());
    environment.get_template(name)?.render_captured_to(Value::from(variables), &mut output)?;
    String::from_utf8(output.0).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// What holds no more than [`MOST_BYTES`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text as one word for a shell, as Python's `shlex.quote` has it.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\"'\"'")),
    }
}

/// What is wrong with a template, in one line.
fn told(error: &Error) -> String {
    match error.kind() {
        ErrorKind::WriteFailure => "it becomes more than a Dockerfile may be".to_owned(),
        ErrorKind::OutOfFuel => "it does not come to an end".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered_of(text: &str) -> Result<Rendered, String> {
        let docker = BentoDocker { python_version: Some("3.11".to_owned()), ..BentoDocker::default() };
        let texts =
            BTreeMap::from([("T".to_owned(), text.to_owned()), ("more.j2".to_owned(), "RUN more\n".to_owned())]);
        let template = Template { name: "T".to_owned(), texts, docker, base: "python:3.11-slim".to_owned() };
        // The tests' program is another one.
        parts(&template.told()?)
    }

    fn block(name: &str, text: &str) -> String {
        format!("{{% extends bento_base_template %}}\n{{% block SETUP_BENTO_{name} %}}\n{text}\n{{% endblock %}}\n")
    }

    #[test]
    fn what_blocks_add_is_found() {
        let found = rendered_of(&block("COMPONENTS", "RUN first\n{{ super() }}\nRUN then")).unwrap();
        assert!(found.below.ends_with("WORKDIR /home/bentoml/bento\nRUN first\n"), "{}", found.below);
        assert!(found.above.ends_with("RUN then\nUSER 1034:1034\n"), "{}", found.above);
        assert_eq!((found.stages.as_str(), found.base), ("", None));
        let found = rendered_of("{% extends 'python_debian.j2' %}").unwrap();
        assert_eq!(found, Rendered::default());
    }

    #[test]
    fn macros_and_files_beside_it_are_there() {
        let text = block(
            "ENTRYPOINT",
            "{{ super() }}\n{% include 'more.j2' %}\n\n{% call common.RUN(__enable_buildkit__) %}{{ common.mount_cache('/c') }}{% endcall %} pip {{ bento__entrypoint }}",
        );
        let found = rendered_of(&text).unwrap();
        let last = "RUN more\nRUN --mount=type=cache,sharing=locked,target=/c  pip /home/bentoml/bento/env/docker/entrypoint.sh\n";
        assert!(found.above.ends_with(last), "{}", found.above);
    }

    #[test]
    fn a_base_of_its_own_takes_the_place_of_bentomls() {
        let text = "FROM golang AS tools\nRUN build\nFROM --platform=linux/amd64 registry.example/cuda:12 as base-container\nENV A=b";
        let found = rendered_of(&block("BASE_IMAGE", text)).unwrap();
        assert_eq!(found.base.as_deref(), Some("registry.example/cuda:12"));
        assert_eq!(found.stages, "FROM golang AS tools\nRUN build\n");
        assert!(found.below.contains("ENV A=b\n") && !found.below.contains("FROM"), "{}", found.below);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, said) in [
            ("FROM scratch\nRUN all", "does not extend"),
            ("{% extends bento_base_template %}\n{% set bento__path = '/tmp' %}", "/tmp"),
            (&block("USER", "RUN useradd me"), "SETUP_BENTO_USER"),
            (&block("COMPONENTS", "RUN pip install"), "super()"),
            (&block("COMPONENTS", "{{ super() }}{{ super() }}"), "twice"),
            (&block("COMPONENTS", "{{ super() }}\nFROM other"), "another image"),
            (&block("COMPONENTS", "{{ super() }}\nNOTHING"), "no Dockerfile"),
            (&block("BASE_IMAGE", "FROM a AS b\nFROM b"), "`b`"),
            (&block("BASE_IMAGE", "FROM $A"), "`$A`"),
            (&block("ENVARS", "{% include '/etc/passwd' %}"), "/etc/passwd"),
            (&block("ENVARS", "{% include '../../bento.yaml' %}"), "bento.yaml"),
            (&block("ENVARS", "{{ nothing.at.all }}"), "undefined"),
            (&block("ENVARS", "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"), "end"),
            (&block("ENVARS", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "recursion"),
            (&block("ENVARS", "{{ 'x' * 2000000 }}"), "more than"),
        ] {
            let error = rendered_of(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn words_are_quoted_as_pythons() {
        assert_eq!(quoted("a-b"), "a-b");
        assert_eq!(quoted("it's"), "'it'\"'\"'s'");
        assert_eq!(quoted(""), "''");
    }
}
