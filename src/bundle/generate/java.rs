//! What a model in Java takes and gives, as a function of Python would declare it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::GeneratedFile;
use crate::bundle::runtime;
use crate::formats::mojo::{Column, Mojo};
use crate::formats::source::{Class, Form, Member, Parameter, ParameterKind, Position, Signature, Type};
use crate::project::manifest::Manifest;
use crate::project::manifest::java::Java;

/// Words of a column that the description lists; of more it says that they are texts.
const MOST_WORDS: usize = 1000;

/// The name of the route, and of the function that other functions' would be.
pub const NAME: &str = "predict";

/// What several rows are given as.
const ROWS: &str = "rows";

/// What `java` takes and gives; `mojo` is what is known of its model.
pub fn declared(java: &Java, mojo: Option<&Mojo>) -> Signature {
    match (java.model.is_some(), mojo) {
        (false, _) => {
            let parameters = java.parameters.iter().map(|name| parameter(name.clone(), Type::Any, true)).collect();
            signature(parameters, None, BTreeMap::new())
        }
        (true, None) => {
            let any =
                Parameter { kind: ParameterKind::AnyKeywords, ..parameter("columns".to_owned(), Type::Any, false) };
            signature(vec![any], None, BTreeMap::new())
        }
        (true, Some(mojo)) => of_columns(mojo),
    }
}

/// The sources of what answers with a model of h2o's; the Java in the image compiles them.
pub fn scoring() -> [GeneratedFile; 26] {
    [
        copied!("ekiben_service/scoring/Body.java"),
        copied!("ekiben_service/scoring/Busy.java"),
        copied!("ekiben_service/scoring/Columns.java"),
        copied!("ekiben_service/scoring/Connection.java"),
        copied!("ekiben_service/scoring/Exchange.java"),
        copied!("ekiben_service/scoring/Head.java"),
        copied!("ekiben_service/scoring/Json.java"),
        copied!("ekiben_service/scoring/Later.java"),
        copied!("ekiben_service/scoring/Load.java"),
        copied!("ekiben_service/scoring/Log.java"),
        copied!("ekiben_service/scoring/Loop.java"),
        copied!("ekiben_service/scoring/Metrics.java"),
        copied!("ekiben_service/scoring/Mistake.java"),
        copied!("ekiben_service/scoring/Model.java"),
        copied!("ekiben_service/scoring/Pipe.java"),
        copied!("ekiben_service/scoring/Reader.java"),
        copied!("ekiben_service/scoring/Refusal.java"),
        copied!("ekiben_service/scoring/Response.java"),
        copied!("ekiben_service/scoring/Rows.java"),
        copied!("ekiben_service/scoring/Score.java"),
        copied!("ekiben_service/scoring/Serve.java"),
        copied!("ekiben_service/scoring/Service.java"),
        copied!("ekiben_service/scoring/Settings.java"),
        copied!("ekiben_service/scoring/Shared.java"),
        copied!("ekiben_service/scoring/Utf8.java"),
        copied!("ekiben_service/scoring/Work.java"),
    ]
}

/// What the service is told of it.
pub fn settings(manifest: &Manifest, java: &Java) -> Value {
    let mut settings = match (&java.jar, &java.model) {
        (Some(jar), _) => json!({ "jar": jar, "parameters": java.parameters }),
        (None, model) => {
            let model = model.clone().unwrap_or_default();
            let packed = format!("{}/{model}", runtime::model(&manifest.name));
            json!({ "model": model, "packed": packed, "genmodel": java.genmodel() })
        }
    };
    if !java.options.is_empty() {
        settings["options"] = json!(java.options);
    }
    settings
}

fn of_columns(mojo: &Mojo) -> Signature {
    let mut parameters: Vec<_> =
        mojo.columns.iter().map(|column| parameter(column.name.clone(), of(column), false)).collect();
    let members = mojo.columns.iter().map(|column| member(&column.name, of(column), false)).collect();
    let (row, prediction) = ("Row".to_owned(), "Prediction".to_owned());
    let mut classes = BTreeMap::from([
        (row.clone(), Class { docstring: None, form: Form::Object { members, is_open: false } }),
        (prediction.clone(), Class { docstring: None, form: Form::Object { members: answer(mojo), is_open: true } }),
    ]);
    let mut returns = Type::Class(prediction.clone());
    if mojo.columns.iter().all(|column| column.name != ROWS) {
        parameters.push(parameter(ROWS.to_owned(), Type::List(Box::new(Type::Class(row))), false));
        returns = Type::Union(vec![returns, Type::List(Box::new(Type::Class(prediction)))]);
    } else {
        classes.remove(&row);
    }
    signature(parameters, Some(returns), classes)
}

/// A value may be missing.
fn of(column: &Column) -> Type {
    let of = match &column.values {
        None => Type::Float,
        Some(values) if (1..=MOST_WORDS).contains(&values.len()) => {
            Type::Literal(values.iter().map(|value| value.as_str().into()).collect())
        }
        Some(_) => Type::Str,
    };
    Type::Union(vec![of, Type::None])
}

/// The members of an answer, as `scoring/Model.java` writes them.
fn answer(mojo: &Mojo) -> Vec<Member> {
    let float = |name| member(name, Type::Float, true);
    match mojo.category.as_str() {
        "Binomial" | "Multinomial" | "Ordinal" => {
            let label = match mojo.labels.is_empty() || mojo.labels.len() > MOST_WORDS {
                true => Type::Str,
                false => Type::Literal(mojo.labels.iter().map(|label| label.as_str().into()).collect()),
            };
            let probabilities = member("probabilities", Type::Dict(Box::new(Type::Float)), true);
            vec![member("label", label, true), probabilities]
        }
        "Regression" | "CoxPH" => vec![float("value")],
        "Clustering" => vec![member("cluster", Type::Int, true)],
        "DimReduction" => vec![member("dimensions", Type::List(Box::new(Type::Float)), true)],
        "AutoEncoder" => vec![float("error")],
        "AnomalyDetection" => vec![float("score"), float("normalized"), member("anomaly", Type::Bool, false)],
        _ => Vec::new(),
    }
}

/// Nothing of it stands in a source.
const NOWHERE: Position = Position { line: 1, column: 1 };

fn signature(parameters: Vec<Parameter>, returns: Option<Type>, classes: BTreeMap<String, Class>) -> Signature {
    Signature {
        name: NAME.to_owned(),
        parameters,
        returns,
        parts: None,
        classes,
        docstring: None,
        is_async: true,
        decorated: false,
        position: NOWHERE,
        unwritten: None,
    }
}

fn parameter(name: String, of: Type, required: bool) -> Parameter {
    let kind = ParameterKind::Named;
    Parameter { name, kind, annotation: Some(of), required, default: None, position: NOWHERE }
}

fn member(name: &str, of: Type, required: bool) -> Member {
    Member { name: name.to_owned(), of, required, default: None }
}
