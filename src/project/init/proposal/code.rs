//! The files of a project as texts: `ekiben.yaml`, `requirements.txt`, and `src/predict.py`, put together of what a
//! proposal knows.

use serde_json::{Value as Json, json};

use super::input::{Array, Column};
use super::scoring::{self, Scoring};
use super::{Example, Proposal, literal};
use crate::formats::model::globals;
use crate::formats::python::PythonVersion;

/// What stands for the model's input in the statements of a [`Function`].
pub(super) const VALUE: &str = "{value}";

/// The service's module, in parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub imports: Vec<String>,
    /// Statements that make `model`.
    pub load: String,
    /// What the functions are given.
    pub parameters: Vec<Parameter>,
    /// How what is given is prepared.
    pub preparation: Preparation,
    /// What becomes of what was prepared before the model gets it: expressions around [`VALUE`], the innermost first.
    pub conversions: Vec<String>,
    /// The first is `predict`, the others have routes of their own.
    pub functions: Vec<Function>,
    /// The module as a whole, where it is not made of the rest.
    pub text: Option<String>,
}

/// A parameter of the functions, and a key of the request's JSON.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: String,
    /// Its type, as Python writes it; with a default, where it has one.
    pub hint: String,
    /// What it is, for a person.
    pub description: String,
}

/// A function of the service.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub name: String,
    /// Its body, with [`VALUE`] where the model's input goes; lines after the first are indented.
    pub statements: String,
}

/// How what is given is checked, and made what the model takes.
#[derive(Clone, Debug, Default)]
pub(super) enum Preparation {
    /// It goes to the model as it is.
    #[default]
    None,
    /// Rows have to have so many values.
    Width(usize),
    /// A table with these columns.
    Table(Vec<Column>),
    /// Arrays of these types and shapes.
    Arrays(Vec<Array>),
    /// What a function makes of it that is written for this model.
    Function {
        /// Its name.
        name: &'static str,
        /// Its definition.
        definition: String,
    },
}

impl Preparation {
    /// The function that does it.
    fn call(&self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Width(_) => "checked",
            Self::Table(_) => "table",
            Self::Arrays(_) => "tensors",
            Self::Function { name, .. } => name,
        })
    }

    /// What the model is given, as an expression.
    fn value(&self, parameters: &[Parameter]) -> String {
        let first = parameters.first().map(|parameter| parameter.name.as_str()).unwrap_or_default();
        match self {
            Self::None => first.to_owned(),
            Self::Width(_) => format!("checked({first})"),
            Self::Table(_) => format!("table({first})"),
            Self::Function { name, .. } => format!("{name}({first})"),
            Self::Arrays(arrays) => {
                let named =
                    |(array, parameter): (&Array, &Parameter)| format!("{}: {}", literal(&array.name), parameter.name);
                let given: Vec<String> = arrays.iter().zip(parameters).map(named).collect();
                let all = format!("tensors({{{}}})", given.join(", "));
                match arrays.as_slice() {
                    [array] => format!("{all}[{}]", literal(&array.name)),
                    _ => all,
                }
            }
        }
    }

    /// Constants that the code needs for it.
    fn constants(&self) -> String {
        match self {
            Self::None | Self::Width(_) | Self::Function { .. } => String::new(),
            Self::Table(columns) => {
                let (start, end) = if is_cast(columns) { ("{", "}") } else { ("[", "]") };
                let line = |column: &Column| match (&column.dtype, is_cast(columns)) {
                    (_, false) => format!("    {},\n", literal(&column.name)),
                    (dtype, true) => {
                        format!("    {}: {},\n", literal(&column.name), dtype.as_deref().unwrap_or("\"object\""))
                    }
                };
                let lines: String = columns.iter().map(line).collect();
                let types = if is_cast(columns) { ", with their types" } else { "" };
                let why = format!("# The columns of a row, in the order that the model was trained with{types}.");
                format!("{why}\nCOLUMNS = {start}\n{lines}{end}")
            }
            Self::Arrays(arrays) => {
                let line = |array: &Array| {
                    let (dtype, shape) = (array.dtype_in_python(), array.shape_in_python());
                    format!("    {}: ({dtype}, {shape}),\n", literal(&array.name))
                };
                let lines: String = arrays.iter().map(line).collect();
                format!("# What the model takes: type and shape of each; None is any number.\nINPUTS = {{\n{lines}}}")
            }
        }
    }

    /// Functions that the code needs for it.
    fn functions(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Function { definition, .. } => definition.clone(),
            Self::Width(width) => format!(
                "def checked(rows):\n    \
                 \"\"\"Rows of {width} values each; a ValueError is answered with status 422.\"\"\"\n    \
                 if any(len(row) != {width} for row in rows):\n        \
                 raise ValueError(\"each row has to have {width} values\")\n    \
                 return rows"
            ),
            Self::Table(columns) => {
                let made = if is_cast(columns) {
                    "frame = pandas.DataFrame(rows, columns=list(COLUMNS))\n    \
                     for column, dtype in COLUMNS.items():\n        \
                     try:\n            \
                     cast = frame[column].astype(dtype)\n        \
                     except (TypeError, ValueError) as error:\n            \
                     raise ValueError(f\"{column}: {error}\") from error\n        \
                     if cast.dtype.kind in \"iu\" and (cast != frame[column]).any():\n            \
                     raise ValueError(f\"{column}: whole numbers are asked for\")\n        \
                     frame[column] = cast\n    \
                     return frame"
                } else {
                    "return pandas.DataFrame(rows, columns=COLUMNS)"
                };
                format!(
                    "def table(rows):\n    \
                     \"\"\"A table of the rows; a ValueError is answered with status 422.\"\"\"\n    \
                     missing = sorted({{column for row in rows for column in COLUMNS if column not in row}})\n    \
                     if missing:\n        \
                     raise ValueError(f\"columns are missing: {{missing}}\")\n    \
                     {made}"
                )
            }
            Self::Arrays(_) => "def tensors(given):\n    \
                 \"\"\"Arrays of what is given, by the model's names; a ValueError is answered with status 422.\"\"\"\n    \
                 arrays = {}\n    \
                 for name, (dtype, shape) in INPUTS.items():\n        \
                 array = numpy.array(given[name], dtype=dtype)\n        \
                 if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape)):\n            \
                 raise ValueError(f\"{name} has to be of shape {shape}, not {array.shape}\")\n        \
                 arrays[name] = array\n    \
                 return arrays"
                .to_owned(),
        }
    }
}

/// Whether a column is to be made one of a certain type.
fn is_cast(columns: &[Column]) -> bool {
    columns.iter().any(|column| column.dtype.is_some())
}

/// The texts of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// `ekiben.yaml`.
    pub manifest: String,
    /// `requirements.txt`.
    pub requirements: String,
    /// `src/predict.py`.
    pub code: String,
}

/// What the manifest says beside what is proposed.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Which version of it that is. None: the first.
    pub version: Option<&'a str>,
    /// The model's files and folders, relative to the project.
    pub files: &'a [String],
    /// Where they live, and where they go, in the place of files in the project.
    pub elsewhere: Option<(&'a str, &'a str)>,
    /// What loading may import though nobody here knows it.
    pub allow: &'a [String],
    /// The file with the service's functions.
    pub source: &'a str,
    /// Whether the functions are the proposed ones, so that their input and tests are known.
    pub ours: bool,
    /// Below which path all is served.
    pub root: Option<&'a str>,
    /// Where an editor finds the schema.
    pub schema: Option<&'a str>,
}

impl Proposal {
    /// The files of a project.
    ///
    /// # Errors
    /// When a template is wrong: a mistake in Ekiben.
    pub fn texts(&self, words: &Words<'_>) -> Result<Texts, minijinja::Error> {
        let lines = self.requirements.iter().map(|pin| format!("{}  # {}\n", pin.text, pin.reason));
        Ok(Texts { manifest: ended(self.manifest(words)?), requirements: lines.collect(), code: ended(self.module()?) })
    }

    fn manifest(&self, words: &Words<'_>) -> Result<String, minijinja::Error> {
        let Words { name, version, files, elsewhere, allow, source, ours, root, schema } = *words;
        let others = self.code.functions.iter().skip(1);
        let first = self.tests.first().filter(|test| !test.refused);
        // What takes something else has no example here.
        let same = others.clone().filter(|_| self.code.text.is_none());
        let of_others = same.filter_map(|function| Some((Some(&function.name), first?)));
        let tests = self.tests.iter().map(|test| (None, test)).chain(of_others);
        let tests: Vec<Json> = tests
            .map(|(function, Example { name, request, refused, path })| {
                let name = function.map_or_else(|| name.clone(), |function| format!("{name}, for {function}"));
                let path = function.map(|function| format!("/{function}")).or_else(|| path.map(str::to_owned));
                // MLflow's clients know no 422.
                let refusal = if path.is_some() { 400 } else { 422 };
                json!({
                    "name": quote(&name),
                    "path": path.map(|path| quote(&path)),
                    "request": request.to_string(),
                    "status": refused.then_some(refusal),
                })
            })
            .collect();
        let description = match &self.class {
            Some(class) => format!("A {class} of {}", self.framework),
            None => format!("What {name} does, in a sentence"),
        };
        let inputs: Vec<Json> = self
            .code
            .parameters
            .iter()
            .map(|Parameter { name, description, .. }| json!({ "name": name, "description": quote(description) }))
            .collect();
        let entry = |function: &str| quote(&format!("{source}:{function}"));
        let functions: Vec<Json> =
            others.map(|function| json!({ "name": function.name, "entry": entry(&function.name) })).collect();
        minijinja::Environment::new().render_str(
            include_str!("ekiben.yaml.j2"),
            minijinja::context! {
                schema, ours, root,
                tests => minijinja::value::Serde(&tests),
                name => quote(name),
                version => literal(version.unwrap_or("0.1.0")),
                elsewhere => elsewhere.map(|(from, path)| (quote(from), quote(path))),
                predict => entry(self.code.functions.first().map_or("predict", |function| &function.name)),
                env => self.env.iter().map(|(name, value)| (name.clone(), literal(value))).collect::<Vec<_>>(),
                functions => minijinja::value::Serde(&functions),
                description => quote(&description),
                files => files.iter().map(|file| quote(file)).collect::<Vec<_>>(),
                allow => allow.iter().map(|global| quote(global)).collect::<Vec<_>>(),
                python => minijinja::value::Serde(&self.python),
                packages => minijinja::value::Serde(&self.packages),
                inputs => minijinja::value::Serde(&inputs),
                mlflow => minijinja::value::Serde(&self.scoring.as_ref().map(Scoring::members)),
                invocations => entry(scoring::FUNCTION),
            },
        )
    }

    fn module(&self) -> Result<String, minijinja::Error> {
        let code = &self.code;
        if let Some(text) = &code.text {
            return Ok(text.clone());
        }
        let usual = ["import os", "from pathlib import Path"].map(str::to_owned);
        let mut imports: Vec<String> = code.imports.iter().cloned().chain(usual).collect();
        imports.sort_by_key(|import| (!import.starts_with("import"), import.clone()));
        imports.dedup();
        let (standard, others): (Vec<_>, Vec<_>) =
            imports.into_iter().partition(|import| import.split([' ', '.']).nth(1).is_some_and(globals::is_standard));
        let value = code.preparation.value(&code.parameters);
        let value = code.conversions.iter().fold(value, |value, around| around.replace(VALUE, &value));
        let parameters: Vec<String> =
            code.parameters.iter().map(|Parameter { name, hint, .. }| format!("{name}: {hint}")).collect();
        let functions: Vec<Json> = code
            .functions
            .iter()
            .map(|Function { name, statements }| {
                json!({ "name": name, "statements": statements.replace(VALUE, &value) })
            })
            .collect();
        let scoring = self.scoring.as_ref();
        let names = code.functions.iter().map(|function| function.name.as_str());
        let names = names.chain(scoring.map(|_| scoring::FUNCTION));
        let routes: Vec<String> = names.map(|name| format!("POST /{name}")).collect();
        // What prepares is there for whoever calls it.
        let is_used = functions.iter().any(|function| {
            let statements = function.get("statements").and_then(Json::as_str).unwrap_or_default();
            code.preparation.call().is_some_and(|call| statements.contains(&format!("{call}(")))
        });
        let preparation = if is_used { code.preparation.functions() } else { String::new() };
        minijinja::Environment::new().render_str(
            include_str!("predict.py.j2"),
            minijinja::context! {
                standard, others, preparation,
                invocations => scoring.map(|scoring| &scoring.definition),
                constants => code.preparation.constants(),
                load => &code.load,
                parameters => match parameters.join(", ") {
                    short if short.len() < 90 => short,
                    _ => format!("\n    {},\n", parameters.join(",\n    ")),
                },
                functions => minijinja::value::Serde(&functions),
                routes => routes.join(", "),
                // Python 3.8 has no `list[…]`.
                old => PythonVersion::of_release(&self.python.text).is_some_and(|python| python < PythonVersion::new(3, 9)),
                input => minijinja::value::Serde(&self.input_in_words()),
            },
        )
    }

    /// What the functions take: a sentence of one parameter, a list of several.
    fn input_in_words(&self) -> Json {
        match self.code.parameters.as_slice() {
            [one] => one.description.clone().into(),
            several => several.iter().map(|one| json!({ "name": one.name, "description": one.description })).collect(),
        }
    }
}

/// A text as YAML takes it anywhere.
fn quote(text: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let word = matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    let spaced = |c: char| simple(c) || " (),".contains(c);
    let sentence = text.chars().all(spaced) && !text.contains(": ") && !text.ends_with([' ', ':']);
    if (begins || text.starts_with('/')) && !word && sentence {
        return text.to_owned();
    }
    literal(text)
}

/// Templates lose their last newline.
fn ended(text: String) -> String {
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}
