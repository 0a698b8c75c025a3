//! Projects that BentoML builds bentos from, since its 1.2: a class with `@bentoml.service`, and what it stands on
//! (<https://docs.bentoml.com/en/latest/reference/bentoml/bento-build-options.html>).

use std::path::Path;

use serde_json::Value as Json;

use super::document::text;
use super::serve::{Answering, Default, OWN, calling, chain, first_of, texts, toml_table};
use super::{Proposal, plain_name};
use crate::formats::bento::BENTOFILES;
use crate::formats::classes::{Attribute, Call, Class, Method, Operand};
use crate::formats::source;

/// The file that a service is in, where nothing else is said.
const SERVICE: &str = "service.py";

/// A project of BentoML's.
#[derive(Debug)]
pub struct Service {
    /// What is proposed.
    pub proposal: Proposal,
    /// The models of BentoML's store that it names: `NAME:VERSION`, or `NAME:latest`.
    pub models: Vec<String>,
}

/// What describes the project: the name of the file, and what it says.
fn description(folder: &Path) -> Option<(String, Json)> {
    first_of(folder, &BENTOFILES).or_else(|| {
        let table = toml_table(&folder.join("pyproject.toml"), &["tool", "bentoml", "build"])?;
        Some(("pyproject.toml".to_owned(), table))
    })
}

/// Whether a folder is one: by its description, or by a class in `service.py`.
pub fn is_service(folder: &Path) -> bool {
    let described = || description(folder).is_some();
    folder.join(SERVICE).is_file()
        && (described() || Answering::read(folder, SERVICE).is_some_and(|one| find(&one, None).is_some()))
        || described()
}

/// The class of a service: the one of this name, or the last.
fn find<'a>(answering: &'a Answering, name: Option<&str>) -> Option<(&'a Class, &'a Call)> {
    let of = |class: &'a Class| Some((class, class.decorators.iter().find(|call| call.last_name() == "service")?));
    let mut all =
        answering.classes.classes.iter().filter_map(of).filter(|(class, _)| name.is_none_or(|name| class.name == name));
    all.next_back()
}

/// The proposal for the project in `folder`, whose files will lie beside our code. None where it cannot be read.
pub fn propose(folder: &Path) -> Option<Service> {
    let (who, said) = description(folder).unwrap_or_else(|| (SERVICE.to_owned(), Json::Null));
    let mut proposal = Proposal::empty("BentoML");
    let entry = text(&said, "/service").unwrap_or("service");
    let (path, name) = match entry.split_once(':') {
        Some((path, name)) => (path, Some(name)),
        None => (entry, None),
    };
    let path = if path == "." { "service" } else { path };
    let answering = Answering::read(folder, path);
    let found = answering.as_ref().and_then(|answering| find(answering, name));
    let mut models: Vec<String> = texts(&said, "/models").into_iter().map(str::to_owned).collect();
    let tags =
        said.get("models").and_then(Json::as_array).into_iter().flatten().filter_map(|model| text(model, "/tag"));
    models.extend(tags.map(str::to_owned));
    let mut python = text(&said, "/docker/python_version").map(str::to_owned);
    proposal.require_lines(texts(&said, "/python/packages").into_iter(), &format!("{who} names it"));
    if let Some(file) = text(&said, "/python/requirements_txt") {
        proposal.require_file(folder, file);
    }
    proposal.use_packages(texts(&said, "/docker/system_packages").into_iter(), &who);
    for key in ["setup_script", "dockerfile_template", "base_image"] {
        if let Some(value) = text(&said, &format!("/docker/{key}")) {
            let value = super::plain_path(value);
            proposal
                .open
                .push(format!("{who} has `{key}: {value}`, which nothing here uses: do what it does in another way"));
        }
    }
    let variables = said.get("envs").and_then(Json::as_array).into_iter().flatten();
    for variable in variables {
        let (name, value) = (text(variable, "/name").unwrap_or_default(), text(variable, "/value"));
        let name = plain_name(name);
        match value {
            Some(value) => proposal.env.push((name, value.to_owned())),
            None => {
                proposal.unknown.push(format!("the value of the variable {name}: `ekiben run --env {name}=…` gives it"))
            }
        }
    }
    let Some((answering, (class, decorator))) = answering.as_ref().zip(found) else {
        let why = format!(
            "{} has no class with `@bentoml.service`: call what it has in src/predict.py",
            super::plain_path(path)
        );
        proposal.use_python(python.as_deref(), &who);
        proposal.leave_open("call the service here", why);
        return Some(Service { proposal, models });
    };
    let image = match decorator.argument("image", None) {
        Some(Operand::Name(name)) => {
            let named = answering.classes.names.iter().rev().find(|one| &one.name == name);
            named.map(|one| &one.value)
        }
        other => other,
    };
    if let Some(Operand::Call(image)) = image {
        for step in chain(image) {
            let given = step.arguments.iter().filter(|argument| argument.name.is_none());
            let given: Vec<&str> = given
                .filter_map(|argument| match &argument.value {
                    Operand::Value(Json::String(text)) => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            match step.last_name() {
                "Image" | "PythonImage" => python = step.text("python_version", None).map(str::to_owned).or(python),
                "requirements_file" => given.iter().for_each(|file| proposal.require_file(folder, file)),
                "python_packages" => {
                    proposal.require_lines(given.into_iter(), &format!("{} names it", answering.path));
                }
                "system_packages" => proposal.use_packages(given.into_iter(), answering.path.as_str()),
                "run" | "run_script" => proposal.open.push(format!(
                    "{} runs commands while it builds, which nothing here does: do what they do in another way",
                    answering.path
                )),
                _ => {}
            }
        }
    } else if proposal.requirements.is_empty() && folder.join("requirements.txt").is_file() {
        proposal.require_file(folder, "requirements.txt");
    }
    proposal.use_python(
        python.as_deref(),
        if python.is_some() && text(&said, "/docker/python_version").is_none() {
            answering.path.as_str()
        } else {
            &who
        },
    );
    proposal.require_unless("bentoml", &format!("{} imports it", answering.path));
    proposal.class = Some(plain_name(&class.name));
    let made = class.fields.iter().chain(&class.attributes).chain(&answering.classes.names);
    for call in made.filter_map(called) {
        let given = call.argument("tag", Some(0)).or_else(|| call.argument("model_id", None));
        let given = match given {
            Some(Operand::Name(name)) => {
                let named = answering.classes.names.iter().rev().find(|one| &one.name == name);
                named.map(|one| &one.value)
            }
            given => given,
        };
        let given = match given {
            Some(Operand::Value(Json::String(text))) => Some(text.as_str()),
            _ => None,
        };
        match (call.last_name(), given) {
            ("BentoModel", Some(tag)) => models.push(tag.to_owned()),
            ("get" | "load_model", Some(tag)) if call.function.starts_with("bentoml.") => models.push(tag.to_owned()),
            ("HuggingFaceModel", model) => {
                let model =
                    model.map_or_else(|| "a model".to_owned(), |model| format!("`{}`", super::plain_path(model)));
                proposal.open.push(format!(
                    "{} gets {model} from the Hugging Face Hub when it starts, and a container has no network: \
                     `--network host` gives it one, or load the model from files that lie beside the code",
                    answering.path
                ));
            }
            _ => {}
        }
    }
    models.sort();
    models.dedup();
    let apis: Vec<&Method> = class
        .methods
        .iter()
        .filter(|method| method.decorators.iter().any(|call| matches!(call.last_name(), "api" | "task")))
        .collect();
    if apis.is_empty() {
        let why = format!(
            "{} of {} has no method with `@bentoml.api`: call what it has in src/predict.py",
            class.name, answering.path
        );
        proposal.leave_open("call the service here", why);
        return Some(Service { proposal, models });
    }
    let functions = apis.iter().map(|method| {
        let name = method.signature.name.clone();
        let function =
            calling(answering, &name, &format!("service.{name}"), method, 1, |parameter| default(method, parameter));
        (name, function)
    });
    let functions = functions.collect();
    let home = "# It asks nobody who uses it.\nos.environ.setdefault(\"BENTOML_DO_NOT_TRACK\", \"True\")\n";
    let store = "import tempfile\n# BentoML writes into its home; the models there are those that were packed.\n\
                 home = Path(tempfile.mkdtemp())\n(home / \"models\").symlink_to(MODEL / \"models\")\n\
                 os.environ[\"BENTOML_HOME\"] = str(home)\n";
    let before = if models.is_empty() { home.to_owned() } else { format!("{store}{home}") };
    proposal.answer_with(answering, &before, &format!("service = {OWN}.{}()", class.name), functions);
    Some(Service { proposal, models })
}

/// What an attribute is made by.
fn called(attribute: &Attribute) -> Option<&Call> {
    match &attribute.value {
        Operand::Call(call) => Some(call),
        _ => None,
    }
}

/// What a parameter has by default: what is not known here knows the method.
fn default(method: &Method, parameter: &source::Parameter) -> (Default, Option<Vec<Json>>) {
    let given = method.defaults.iter().find(|default| default.name == parameter.name);
    (
        match given.map(|default| &default.value) {
            None => Default::None,
            Some(Operand::Value(value)) => Default::Value(value.clone()),
            // pydantic's `Field(…)`, of which the default is the first.
            Some(Operand::Call(call)) if call.last_name() == "Field" => match call.argument("default", Some(0)) {
                None => Default::None,
                Some(Operand::Value(value)) => Default::Value(value.clone()),
                Some(_) => Default::Unknown,
            },
            Some(_) => Default::Unknown,
        },
        None,
    )
}
