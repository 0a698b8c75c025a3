//! Code of the person's own that answers already, for another server: what its functions take, and a module of ours that calls
//! them.
//!
//! Invariant: the code is parsed, never run. Names get into ours only where they are names of Python's.

use serde_json::{Value as Json, json};

use super::code::{Function, Parameter};
use super::document::read;
use super::{Example, Pin, Proposal, literal, plain_name, releases};
use crate::formats::classes::{Call, Classes, Method, Operand};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::document::{MAX_BYTES, read_text};
use crate::formats::python::PythonVersion;
use crate::formats::source::{self, Handed, ParameterKind, Type};
use crate::io::archive::ArchivePath;
use crate::project::validate::PYTHONS;

use std::path::Path;

/// What the person's module is called in ours, where a function may have its name.
pub(super) const OWN: &str = "own";

/// A module of the person's that answers.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    /// As it is imported.
    pub module: String,
    /// Its path in the folder.
    pub path: ArchivePath,
    pub classes: Classes,
}

impl Answering {
    /// The module at `path` in `folder`: `predict.py`, or `app.service`. None where it cannot be read.
    pub fn read(folder: &Path, path: &str) -> Option<Self> {
        let stem = path.strip_suffix(".py").unwrap_or(path).trim_start_matches("./").replace('/', ".");
        if stem.is_empty() || !stem.split('.').all(is_name) {
            return None;
        }
        let path = ArchivePath::relative(format!("{}.py", stem.replace('.', "/"))).ok()?;
        let text = read_text(&path.under(folder), path.as_str(), MAX_BYTES, &mut Diagnostics::new())?;
        let classes = crate::formats::classes::classes(text.text()).ok()?;
        Some(Self { module: stem, path, classes })
    }

    /// Whether a class of it is one of pydantic's.
    fn is_model(&self, name: &str) -> bool {
        let is_base = |base: &String| base.rsplit('.').next() == Some("BaseModel");
        self.classes.classes.iter().any(|class| class.name == name && class.bases.iter().any(is_base))
    }
}

/// Whether a text is a name of Python's.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A function of ours, which calls one of the person's.
pub(super) struct Calling {
    text: String,
    parameters: Vec<Parameter>,
    /// Values that it takes; none where they are not known.
    example: Option<serde_json::Map<String, Json>>,
    imports: Vec<&'static str>,
}

/// What a parameter is given by default.
pub(super) enum Default {
    /// It has none.
    None,
    /// A value.
    Value(Json),
    /// One that only the code knows.
    Unknown,
}

/// Makes the function `name`, which calls `call` with all parameters of `method` but the first `skip`; `default` says what
/// each has by default, and `choices` which values it takes, where these are few.
pub(super) fn calling(
    answering: &Answering,
    name: &str,
    call: &str,
    method: &Method,
    skip: usize,
    default: impl Fn(&source::Parameter) -> (Default, Option<Vec<Json>>),
) -> Calling {
    let mut made = Calling {
        text: String::new(),
        parameters: Vec::new(),
        example: Some(serde_json::Map::new()),
        imports: Vec::new(),
    };
    let (mut declared, mut given, mut optional) = (Vec::new(), Vec::new(), Vec::new());
    let taken = method.signature.parameters.iter().skip(skip);
    // What has no default goes first in Python, whatever order theirs is.
    let taken: Vec<_> = taken.filter(|one| one.kind == ParameterKind::Named && is_name(&one.name)).collect();
    for parameter in &taken {
        let own = &parameter.name;
        if matches!(&parameter.annotation, Some(Type::Other(text)) if text.ends_with("Context")) {
            continue;
        }
        let (default, choices) = default(parameter);
        let (mut hint, value, import) = hint(answering, parameter.annotation.as_ref(), own);
        made.imports.extend(import);
        let mut example = example(parameter.annotation.as_ref());
        if let Some(choices) = choices.filter(|choices| !choices.is_empty()) {
            example = choices.first().cloned();
            let choices: Vec<String> = choices.iter().map(in_python).collect();
            hint = format!("Literal[{}]", choices.join(", "));
            made.imports.push("from typing import Literal");
        }
        match default {
            Default::None => {
                made.example = made.example.take().zip(example).map(|(mut all, one)| {
                    all.insert(own.clone(), one);
                    all
                });
                declared.push((0, format!("{own}: {hint}")));
                given.push(format!("{own}={value}"));
            }
            Default::Value(Json::Null) => {
                declared.push((1, format!("{own}: {hint} | None = None")));
                // Code of the person's may tell nothing from something.
                let value = if &value == own { value } else { format!("None if {own} is None else {value}") };
                given.push(format!("{own}={value}"));
            }
            Default::Value(default) => {
                declared.push((1, format!("{own}: {hint} = {}", in_python(&default))));
                given.push(format!("{own}={value}"));
            }
            Default::Unknown => {
                declared.push((1, format!("{own}: {hint} | None = None")));
                optional.push((own, value));
            }
        }
        made.parameters.push(Parameter {
            name: own.clone(),
            hint: hint.clone(),
            description: described(parameter, method)
                .unwrap_or_else(|| format!("as `{}` takes it", method.signature.name)),
        });
    }
    declared.sort_by_key(|(order, _)| *order);
    let declared: Vec<String> = declared.into_iter().map(|(_, text)| text).collect();
    let mut body = String::new();
    if !optional.is_empty() {
        body = "    given = {}\n".to_owned();
        for (name, value) in optional {
            body += &format!("    if {name} is not None:\n        given[{}] = {value}\n", literal(name));
        }
        given.push("**given".to_owned());
    }
    let called = format!("{call}({})", given.join(", "));
    let is_async = method.signature.is_async;
    let returns = match &method.signature.returns {
        Some(Type::Other(text)) => text.trim_matches(['"', '\'']).rsplit('.').next().unwrap_or_default().to_owned(),
        Some(Type::Class(name)) => name.clone(),
        _ => String::new(),
    };
    let is_named_so = |kind: &&str| returns.split('[').next().is_some_and(|name| name.ends_with(*kind));
    let is_parts = method.signature.parts.is_some() || ["Iterator", "Generator", "Iterable"].iter().any(is_named_so);
    let all =
        if is_async && is_parts { format!("[part async for part in {called}]") } else { format!("list({called})") };
    let answer = match (is_parts, is_async) {
        (true, _) if returns.contains("Concatenate") => format!("\"\".join({all})"),
        (true, _) => all,
        (false, true) => format!("await {called}"),
        (false, false) => called,
    };
    let answer = if answering.is_model(&returns) { format!("({answer}).model_dump(mode=\"json\")") } else { answer };
    let what = method.signature.docstring.as_deref().and_then(|text| text.lines().next()).map(plain_text);
    let what = what.filter(|what| !what.is_empty()).unwrap_or_else(|| format!("Calls `{}`.", method.signature.name));
    made.text = format!(
        "{}def {name}({}):\n    \"\"\"{what}\"\"\"\n{body}    return {answer}\n",
        if is_async { "async " } else { "" },
        declared.join(", "),
    );
    made
}

/// Words of a person's as they may stand in a docstring.
fn plain_text(text: &str) -> String {
    let plain = |c: char| if c == '"' || c == '\\' || c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(90).collect::<String>().trim().to_owned()
}

/// What the code says of a parameter, in `Input(description="…")` or `Field(description="…")`.
fn described(parameter: &source::Parameter, method: &Method) -> Option<String> {
    let default = method.defaults.iter().find(|default| default.name == parameter.name)?;
    let Operand::Call(call) = &default.value else { return None };
    call.text("description", None).map(plain_text).filter(|text| !text.is_empty())
}

/// The hint for a type, how a value gets to the person's code, and what has to be imported for that.
fn hint(answering: &Answering, annotation: Option<&Type>, name: &str) -> (String, String, Option<&'static str>) {
    let as_it_is = |hint: &str, import| (hint.to_owned(), name.to_owned(), import);
    let any = Some("from typing import Any");
    let Some(annotation) = annotation else { return as_it_is("Any", any) };
    if let Some(hint) = plain_hint(annotation, 0) {
        return as_it_is(&hint, if hint.contains("Any") { any } else { None });
    }
    let made = |call: &str, import| ("Any".to_owned(), format!("{call}({name})"), Some(import));
    match annotation {
        Type::Bounded(of, _) => hint(answering, Some(of), name),
        Type::File(file) => match file.handed {
            Handed::Bytes => as_it_is("bytes", None),
            Handed::Path => as_it_is("Path", None),
            Handed::Reader => as_it_is("BinaryIO", Some("from typing import BinaryIO")),
            Handed::Picture => as_it_is("PIL.Image.Image", Some("import PIL.Image")),
        },
        Type::Array(_) => made("numpy.asarray", "import numpy\nfrom typing import Any"),
        Type::Frame(_) => made("pandas.DataFrame", "import pandas\nfrom typing import Any"),
        Type::Series => made("pandas.Series", "import pandas\nfrom typing import Any"),
        Type::Class(class) if answering.is_model(class) => {
            ("dict[str, Any]".to_owned(), format!("{OWN}.{class}(**{name})"), any)
        }
        Type::Other(text) => match text.trim_matches(['"', '\'']) {
            "Path" | "cog.Path" => as_it_is("Path", None),
            "Image" | "Image.Image" | "PILImage.Image" | "PIL_Image.Image" => {
                as_it_is("PIL.Image.Image", Some("import PIL.Image"))
            }
            "np.ndarray" | "NDArray" => made("numpy.asarray", "import numpy\nfrom typing import Any"),
            "pd.DataFrame" => made("pandas.DataFrame", "import pandas\nfrom typing import Any"),
            "torch.Tensor" => made("torch.tensor", "import torch\nfrom typing import Any"),
            class if answering.is_model(class) => {
                ("dict[str, Any]".to_owned(), format!("{OWN}.{class}(**{name})"), any)
            }
            _ => as_it_is("Any", any),
        },
        _ => as_it_is("Any", any),
    }
}

/// The hint for a type that JSON has.
fn plain_hint(annotation: &Type, depth: u8) -> Option<String> {
    let inner = |one: &Type| if depth < 8 { plain_hint(one, depth + 1) } else { None };
    Some(match annotation {
        Type::Any => "Any".to_owned(),
        Type::None => "None".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int => "int".to_owned(),
        Type::Float => "float".to_owned(),
        Type::Str => "str".to_owned(),
        Type::List(of) => format!("list[{}]", inner(of)?),
        Type::Dict(of) => format!("dict[str, {}]", inner(of)?),
        Type::Union(all) => all.iter().map(inner).collect::<Option<Vec<_>>>()?.join(" | "),
        _ => return None,
    })
}

/// A value of a type.
fn example(annotation: Option<&Type>) -> Option<Json> {
    Some(match annotation? {
        Type::Bool => json!(true),
        Type::Int => json!(1),
        Type::Float => json!(0.5),
        Type::Str => json!("an example"),
        // How long the rows of a matrix are nobody here knows.
        Type::List(of) if !matches!(**of, Type::List(_)) => json!([example(Some(of))?]),
        Type::Literal(values) => values.first()?.clone(),
        Type::Union(all) => all.iter().find_map(|one| example(Some(one)))?,
        Type::Bounded(of, _) => example(Some(of))?,
        _ => return None,
    })
}

/// A value as Python writes it.
fn in_python(value: &Json) -> String {
    match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Array(items) => format!("[{}]", items.iter().map(in_python).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

impl Proposal {
    /// Answers with functions that call the person's: the first is `predict` too. `setup` are statements that make what is
    /// called, after `module` is there to be imported.
    pub(super) fn answer_with(
        &mut self,
        answering: &Answering,
        before: &str,
        setup: &str,
        functions: Vec<(String, Calling)>,
    ) {
        let mut imports: Vec<String> = vec!["import os".to_owned(), "from pathlib import Path".to_owned()];
        let more = functions.iter().flat_map(|(_, calling)| &calling.imports).flat_map(|lines| lines.lines());
        imports.extend(more.map(str::to_owned));
        imports.extend(before.lines().filter(|line| line.starts_with("import ")).map(str::to_owned));
        imports.sort_by_key(|import| (!import.starts_with("import"), import.clone()));
        imports.dedup();
        let before: String =
            before.lines().filter(|line| !line.starts_with("import ")).map(|line| format!("{line}\n")).collect();
        let routes: Vec<String> = functions.iter().map(|(name, _)| format!("POST /{name}")).collect();
        let texts: String = functions.iter().map(|(_, calling)| format!("\n\n{}", calling.text)).collect();
        // Python 3.9 has no `int | None`, but where nobody evaluates it.
        let is_old =
            PythonVersion::of_release(&self.python.text).is_some_and(|python| python < PythonVersion::new(3, 10));
        let old = if is_old { "from __future__ import annotations\n\n" } else { "" };
        self.code.text = Some(format!(
            "\"\"\"Answers {} with {}. Ekiben serves it; the parameters of a function are the keys of the request's JSON.\"\"\"\n\n\
             {old}{}\n\n# Where the model's files lie in the container.\n\
             MODEL = Path(os.environ.get(\"EKIBEN_MODEL_DIR\", Path(__file__).parent.parent))\n{before}\
             # The code finds its files from where it lies.\nos.chdir(Path(__file__).parent)\n\n\
             import {} as {OWN}  # noqa: E402\n{}{texts}",
            routes.join(", "),
            answering.path,
            imports.join("\n"),
            answering.module,
            if setup.is_empty() {
                String::new()
            } else {
                format!("\n# Made once, when the service starts.\n{setup}\n")
            },
        ));
        if let Some((first, calling)) = functions.first() {
            self.code.parameters.clone_from(&calling.parameters);
            let words: Vec<String> =
                calling.parameters.iter().map(|one| format!("{}: {}", one.name, one.hint)).collect();
            self.input = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
            let first = first.clone();
            if let Some(request) = calling.example.clone() {
                let name = "an example".to_owned();
                self.tests = vec![Example { name, request: request.into(), refused: false, path: None }];
                self.unknown.push("what the model answers: the example request has no `expect`".to_owned());
            } else {
                self.unknown.push("what a good request is, so there is no example".to_owned());
            }
            self.code.functions.push(Function { name: first.clone(), statements: String::new() });
            // It has a route of its own name as well.
            let all = functions.into_iter().map(|(name, _)| name).filter(|name| *name != first || first != "predict");
            self.code.functions.extend(all.map(|name| Function { name, statements: String::new() }));
        }
    }

    /// Requires what a file of requirements lists, or a list of them; `who` says so.
    pub(super) fn require_lines<'a>(&mut self, lines: impl Iterator<Item = &'a str>, who: &str) {
        let mut joined = String::new();
        for line in lines.take(2000) {
            joined += line.strip_suffix('\\').unwrap_or(line);
            if line.ends_with('\\') {
                continue;
            }
            let line = std::mem::take(&mut joined);
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') || line.chars().any(char::is_control) {
                continue;
            }
            // Other files lie with the code.
            let file =
                ["-r ", "-c ", "--requirement ", "--constraint "].iter().find_map(|option| line.strip_prefix(option));
            let text = match file {
                Some(file) => format!("{} src/{}", line.split(' ').next().unwrap_or_default(), file.trim()),
                None => line.to_owned(),
            };
            self.requirements.push(Pin::new(text, who));
        }
    }

    /// Says that something is missing that the code asks for: `what` is a sentence of it.
    pub fn miss(&mut self, what: &str) {
        self.open.push(format!("{what}: put it there, and make the project again"));
    }

    /// Requires what a file of `folder` lists.
    pub(super) fn require_file(&mut self, folder: &Path, file: &str) {
        let file = file.trim_start_matches("./");
        let path = ArchivePath::relative(file).ok();
        let text = path.and_then(|path| read_text(&path.under(folder), file, MAX_BYTES, &mut Diagnostics::new()));
        match text {
            Some(text) => self.require_lines(text.text().lines(), &format!("{} lists it", super::plain_path(file))),
            None => self
                .open
                .push(format!("{} is not there: name its packages in requirements.txt", super::plain_path(file))),
        }
    }

    /// Requires a package, unless it is required.
    pub(super) fn require_unless(&mut self, package: &str, reason: &str) {
        let is = |pin: &Pin| {
            let name: String =
                pin.text.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
            name.eq_ignore_ascii_case(package)
        };
        if !self.requirements.iter().any(is) {
            self.requirements.push(Pin::new(package, reason));
        }
    }

    /// Takes the Python that `who` names.
    pub(super) fn use_python(&mut self, text: Option<&str>, who: &str) {
        let Some(text) = text else {
            self.python = releases::python(&[], &format!("{who} names none")).0;
            return;
        };
        match PythonVersion::of_release(text).filter(|python| PYTHONS.contains(python)) {
            Some(python) => self.python = Pin::new(python.to_string(), format!("{who} names it")),
            None => {
                self.open.push(format!("{who} asks for Python {}, with which no image can be built", plain_name(text)))
            }
        }
    }

    /// Debian packages that `who` names.
    pub(super) fn use_packages<'a>(&mut self, names: impl Iterator<Item = &'a str>, who: &str) {
        let is_name =
            |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) && name.len() < 100;
        self.packages.extend(names.filter(is_name).take(500).map(|name| Pin::new(name, format!("{who} names it"))));
    }
}

/// The table of a TOML document.
pub(super) fn toml_table(path: &Path, keys: &[&str]) -> Option<Json> {
    let text = read_text(path, "pyproject.toml", MAX_BYTES, &mut Diagnostics::new())?;
    let table: toml::Table = toml::from_str(text.text()).ok()?;
    let value = serde_json::to_value(table).ok()?;
    keys.iter().try_fold(&value, |value, key| value.get(key)).cloned()
}

/// Texts of a list in a document.
pub(super) fn texts<'a>(document: &'a Json, pointer: &str) -> Vec<&'a str> {
    let list = document.pointer(pointer).and_then(Json::as_array);
    list.into_iter().flatten().filter_map(Json::as_str).collect()
}

/// A document of a folder by the first of its names that there is.
pub(super) fn first_of(folder: &Path, names: &[&str]) -> Option<(String, Json)> {
    names.iter().find_map(|name| Some(((*name).to_owned(), read(&folder.join(name))?)))
}

/// A call and those that it is a method of, the first that is made first.
pub(super) fn chain(call: &Call) -> Vec<&Call> {
    let mut all: Vec<&Call> = std::iter::successors(Some(call), |call| call.on.as_deref()).take(50).collect();
    all.reverse();
    all
}
