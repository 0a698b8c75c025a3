//! Types of Python as JSON Schemas (2020-12), as the service checks them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::formats::source::{Array, Class, File, Form, Member, Orient, Type};
use crate::project::manifest::NotANumber;

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// From a caller, within JSON.
    In,
    /// From a caller, as parts of a form: files are there as they are.
    Form,
    /// To a caller, within JSON.
    Out(&'a Answers),
}

/// How answers are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    nan: Option<NotANumber>,
    /// The classes that look otherwise in an answer than in a request.
    classes: BTreeSet<String>,
}

impl Answers {
    /// Those of a service with these classes; `nan` is what stands in them for what JSON has no number for; null where it is none.
    pub fn new<'a>(nan: Option<NotANumber>, classes: impl Iterator<Item = (&'a String, &'a Class)> + Clone) -> Self {
        let mut answers = Self { nan, classes: BTreeSet::new() };
        loop {
            // With each that is another, those that hold it are others as well.
            let is_other = |class| component(class, Way::In) != component(class, Way::Out(&answers));
            let others: BTreeSet<_> =
                classes.clone().filter(|(_, class)| is_other(class)).map(|(name, _)| name.clone()).collect();
            if others == answers.classes {
                return answers;
            }
            answers.classes = others;
        }
    }
}

/// Where a schema stands in the document.
pub fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// What the schema of a class of the project is called.
pub fn name_of(class: &str, way: Way) -> String {
    match way {
        Way::Out(answers) if answers.classes.contains(class) => format!("{class}-Output"),
        _ => class.to_owned(),
    }
}

/// The schema of a type.
pub fn schema(of: &Type, way: Way) -> Value {
    match of {
        Type::Any | Type::Other(_) => json!({}),
        Type::None => json!({ "type": "null" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Int => json!({ "type": "integer" }),
        Type::Float => number(way),
        Type::Str => json!({ "type": "string" }),
        Type::Decimal if matches!(way, Way::Out(_)) => json!({ "type": "string" }),
        Type::Decimal => json!({ "anyOf": [{ "type": "number" }, { "type": "string", "pattern": DECIMAL }] }),
        Type::Text(format) => json!({ "type": "string", "format": format }),
        Type::List(items) => json!({ "type": "array", "items": schema(items, way) }),
        // Repetitions are taken, and left out.
        Type::Set(items) if !matches!(way, Way::Out(_)) => json!({ "type": "array", "items": schema(items, way) }),
        Type::Set(items) => json!({ "type": "array", "items": schema(items, way), "uniqueItems": true }),
        Type::Tuple(items) => row(items.iter().map(|item| schema(item, way)).collect(), items.len()),
        // In a form, only what is a part itself is as it is.
        Type::Dict(values) => {
            let way = if way == Way::Form { Way::In } else { way };
            json!({ "type": "object", "additionalProperties": schema(values, way) })
        }
        Type::Union(types) if way == Way::Form && of.file().is_some() => {
            // A part that is left out is `None`.
            let some: Vec<_> = types.iter().filter(|one| **one != Type::None).map(|one| schema(one, way)).collect();
            if let [one] = some.as_slice() { one.clone() } else { json!({ "anyOf": some }) }
        }
        Type::Union(types) => json!({ "anyOf": types.iter().map(|one| schema(one, way)).collect::<Vec<_>>() }),
        Type::Literal(values) => choice(values),
        Type::File(file) => match way {
            Way::Form => json!({ "type": "string", "format": "binary" }),
            Way::In => written(file),
            Way::Out(_) => data_url(),
        },
        Type::Array(array) => self::array(array, way),
        Type::Frame(orient) => frame(*orient, way),
        Type::Series => json!({ "type": "array", "items": {} }),
        Type::Class(name) => json!({ "$ref": reference(&name_of(name, way)) }),
        Type::Bounded(inner, bounds) => {
            let mut all = schema(inner, way);
            if let Some(all) = all.as_object_mut() {
                all.extend(bounds.clone());
            }
            all
        }
    }
}

/// The schema of a class of the project.
pub fn component(class: &Class, way: Way) -> Value {
    let mut schema = match &class.form {
        Form::Unknown => json!({}),
        Form::Values(values) => choice(values),
        Form::Row(members) => {
            let required = members.iter().filter(|member| member.required).count();
            row(members.iter().map(|item| member(item, way)).collect(), required)
        }
        Form::Object { members, is_open } => {
            let properties: Map<_, _> = members.iter().map(|one| (one.name.clone(), member(one, way))).collect();
            let required: Vec<_> = members.iter().filter(|one| one.required).map(|one| one.name.as_str()).collect();
            object(properties, &required, *is_open)
        }
    };
    if let Some(text) = &class.docstring {
        schema["description"] = text.as_str().into();
    }
    schema
}

/// An object with these members; any others only where it `is_open`.
pub fn object(properties: Map<String, Value>, required: &[&str], is_open: bool) -> Value {
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": is_open });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

/// One of these values, and what all of them are, which JSON Schema does not ask for and people and programs like to know.
fn choice(values: &[Value]) -> Value {
    let mut choice = json!({ "enum": values });
    if values.iter().all(Value::is_string) {
        choice["type"] = "string".into();
    } else if values.iter().all(|value| value.is_i64() || value.is_u64()) {
        choice["type"] = "integer".into();
    }
    choice
}

fn member(member: &Member, way: Way) -> Value {
    // Of a class of pydantic's own, bytes are its text.
    let mut schema = match &member.of {
        of if of.takes_files() => json!({}),
        of => schema(of, way),
    };
    if let Some(default) = &member.default {
        schema["default"] = default.clone();
    }
    schema
}

fn row(items: Vec<Value>, least: usize) -> Value {
    json!({ "type": "array", "prefixItems": items, "minItems": least, "maxItems": items.len() })
}

/// Base64 (RFC 4648, section 4), whose bits that are left over are 0.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
const DATA_URL: &str = "^data:[^,]*,";
/// As Python's `decimal` writes and reads them, and pydantic describes them.
const DECIMAL: &str = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$";

/// A file within JSON.
fn written(file: &File) -> Value {
    let mut base64 = json!({ "type": "string", "contentEncoding": "base64", "pattern": BASE64 });
    if let [kind] = media_types(file).as_slice() {
        base64["contentMediaType"] = (*kind).into();
    }
    let kinds: Vec<_> = file.media_types.iter().map(|kind| escaped(kind)).collect();
    let pattern = match kinds.is_empty() {
        true => DATA_URL.to_owned(),
        false => format!("^data:({})[;,]", kinds.join("|")),
    };
    let url = json!({ "type": "string", "pattern": pattern, "description": "a `data:` URL (RFC 2397)" });
    let mut written = json!({ "anyOf": [base64, url], "description": "a file: base64, or a `data:` URL" });
    if let Some(example) = example(file) {
        written["examples"] = json!([example]);
    }
    written
}

/// One that can be tried as it is; tools would make up one from the pattern.
fn example(file: &File) -> Option<&'static str> {
    let takes_png = media_types(file).iter().all(|kind| ["image/png", "image/*", "*/*"].contains(kind));
    match file.is_picture() {
        true => takes_png.then_some(RED),
        false => file.media_types.is_empty().then_some("aGVsbG8="),
    }
}

/// A picture of one red point.
const RED: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

/// A kind of files as a regular expression.
fn escaped(kind: &str) -> String {
    kind.replace('.', r"\.").replace('+', r"\+").replace('*', "[^;,]+")
}

fn data_url() -> Value {
    let example = "data:application/octet-stream;base64,aGVsbG8=";
    let pattern = "^data:[^,]*;base64,";
    json!({ "type": "string", "pattern": pattern, "description": "a file, as a `data:` URL", "examples": [example] })
}

/// The kinds that a file may have; none where any will do.
pub fn media_types(file: &File) -> Vec<&str> {
    match (file.media_types.as_slice(), file.is_picture()) {
        ([], true) => vec!["image/*"],
        (kinds, _) => kinds.iter().map(String::as_str).collect(),
    }
}

/// JSON has neither NaN nor infinity, which may be in an answer.
fn number(way: Way) -> Value {
    match way {
        Way::Out(Answers { nan: None, .. }) => json!({ "type": ["number", "null"] }),
        Way::Out(Answers { nan: Some(NotANumber::Text), .. }) => {
            json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
        }
        _ => json!({ "type": "number" }),
    }
}

/// An array with a shape is lists in lists; without one, how deep they are is not known.
fn array(array: &Array, way: Way) -> Value {
    let item = match array.dtype.as_deref() {
        Some(dtype) if dtype.starts_with("float") => number(way),
        Some(dtype) if dtype.starts_with("int") || dtype.starts_with("uint") => integer(dtype),
        Some("bool") => json!({ "type": "boolean" }),
        Some(dtype) if dtype.starts_with("str") => json!({ "type": "string" }),
        _ => json!({}),
    };
    match &array.shape {
        None => json!({ "type": "array", "items": {} }),
        Some(shape) => shape.iter().rev().fold(item, |items, length| {
            let mut list = json!({ "type": "array", "items": items });
            if let Some(length) = length {
                list["minItems"] = (*length).into();
                list["maxItems"] = (*length).into();
            }
            list
        }),
    }
}

/// Those that have room in a type of numpy.
fn integer(dtype: &str) -> Value {
    let bits = dtype.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<u32>().ok();
    match (bits, dtype.starts_with('u')) {
        (Some(bits @ (8 | 16 | 32)), true) => {
            json!({ "type": "integer", "minimum": 0, "maximum": (1_u64 << bits) - 1 })
        }
        (Some(bits @ (8 | 16 | 32)), false) => {
            let half = 1_i64 << (bits - 1);
            json!({ "type": "integer", "minimum": -half, "maximum": half - 1 })
        }
        (_, true) => json!({ "type": "integer", "minimum": 0 }),
        (_, false) => json!({ "type": "integer" }),
    }
}

fn frame(orient: Orient, way: Way) -> Value {
    let rows = json!({ "type": "array", "items": { "type": "object" } });
    let lists = json!({ "type": "array", "items": { "type": "array", "items": {} } });
    let columns = json!({ "type": "object", "additionalProperties": { "type": "array", "items": {} } });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let split = || {
        let members = [("columns", list(json!({}))), ("data", list(list(json!({})))), ("index", list(json!({})))];
        let members = members.into_iter().map(|(name, schema)| (name.to_owned(), schema));
        object(members.collect(), &["columns", "data"], false)
    };
    match (way, orient) {
        (Way::Out(_), Orient::Records) => rows,
        (Way::Out(_), Orient::Columns) => columns,
        (Way::Out(_), Orient::Split) => split(),
        (Way::In | Way::Form, _) => json!({ "anyOf": [rows, lists, columns, split()] }),
    }
}
