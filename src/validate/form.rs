//! Form: a document against its JSON Schema, in plain words and at its places.
//!
//! The checking is done by the `jsonschema` crate, all mistakes at once; its findings are put into words here. What a
//! pattern means in words stands beside it in the schema as `patternErrorMessage`, which editors show as well.

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use jsonschema::types::JsonType;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::near;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Document, Node, Value, pointer};
use crate::schema::Schema;

/// What was read of a document.
#[derive(Debug)]
pub struct Reading<T> {
    /// The value; none where not even a part of it makes sense.
    pub value: Option<T>,
    /// Whether the form is right. If not, what was wrong is left out of the value, which is then good for nothing but
    /// looking for further mistakes.
    pub sound: bool,
}

/// Checks the form of `document`, and reads it. Mistakes go to `found`.
pub fn read<T: DeserializeOwned>(document: &Document, schema: &Schema, found: &mut Diagnostics) -> Reading<T> {
    let mut json = document.root.to_json();
    let mut form = FormCheck { document, schema: &schema.json, found, wrong: Vec::new() };
    for error in schema.validator.iter_errors(&json) {
        form.say(&error);
    }
    let mut wrong = form.wrong;
    if wrong.is_empty() {
        return match serde_json::from_value(json) {
            Ok(value) => Reading { value: Some(value), sound: true },
            Err(error) => {
                found.push(document.at(Code::NotDescribed, "", error.to_string()));
                Reading { value: None, sound: false }
            }
        };
    }
    // From the leaves to the root, so that a part is not looked for in what is gone already.
    wrong.sort_by_key(|(pointer, _)| std::cmp::Reverse(pointer.matches('/').count()));
    for (pointer, instead) in wrong {
        replace(&mut json, &pointer, instead);
    }
    Reading { value: serde_json::from_value(json).ok(), sound: false }
}

/// What stands for a missing key in a value that is only looked at for further mistakes.
fn stand_in(schema: &Json) -> Option<Json> {
    match schema.get("type")?.as_str()? {
        "string" => Some("missing".into()),
        "object" => Some(Json::Object(serde_json::Map::new())),
        "array" => Some(Json::Array(Vec::new())),
        _ => None,
    }
}

/// Puts `instead` where the pointer leads, or takes away what is there. Of a list all goes, or the numbers of its items
/// would no longer be those of the document.
fn replace(json: &mut Json, pointer: &str, instead: Option<Json>) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    match (json.pointer_mut(parent), instead) {
        (Some(Json::Object(entries)), instead) => {
            let key = last.replace("~1", "/").replace("~0", "~");
            match instead {
                Some(value) => drop(entries.insert(key, value)),
                None => drop(entries.remove(&key)),
            }
        }
        (Some(Json::Array(_)), _) => replace(json, parent, None),
        _ => {}
    }
}

struct FormCheck<'a> {
    document: &'a Document,
    schema: &'a Json,
    found: &'a mut Diagnostics,
    /// What cannot be read as it stands, with what to put there instead.
    wrong: Vec<(String, Option<Json>)>,
}

impl<'a> FormCheck<'a> {
    fn say(&mut self, error: &ValidationError<'_>) {
        let at = error.instance_path().as_str().to_owned();
        let rule = self.rule(error.evaluation_path().as_str());
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                let known: Vec<String> = properties(rule).map(|(key, _)| key.clone()).collect();
                for key in unexpected {
                    self.unknown_key(&at, key, &known);
                }
            }
            Kind::Required { property } => self.missing_key(&at, property.as_str().unwrap_or_default(), rule),
            Kind::Type { kind } => {
                let types: Vec<JsonType> = match kind {
                    TypeKind::Single(one) => vec![*one],
                    TypeKind::Multiple(set) => set.iter().collect(),
                };
                self.wrong_type(&at, &types);
            }
            Kind::Pattern { pattern } => {
                let words = rule.get("patternErrorMessage").and_then(Json::as_str).map(str::to_owned);
                let words = words.unwrap_or_else(|| format!("expected the form `{pattern}`"));
                self.wrong_form(&at, &words);
            }
            Kind::PropertyNames { error } => {
                let rule = self.rule(error.evaluation_path().as_str());
                let words = rule.get("patternErrorMessage").and_then(Json::as_str).unwrap_or("is not allowed");
                let key = error.instance().as_str().unwrap_or_default().to_owned();
                let place = at.clone() + &pointer([key.as_str()]);
                let message = format!("`{}` cannot be a name here", short(&key));
                self.push(self.document.at_key(Code::WrongForm, &place, message).help(words), &place, None);
            }
            Kind::Enum { options } => {
                let choices = options.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(shown).collect();
                self.unknown_choice(&at, choices);
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.none_of(&at, rule, context),
            Kind::Minimum { .. }
            | Kind::Maximum { .. }
            | Kind::ExclusiveMinimum { .. }
            | Kind::ExclusiveMaximum { .. } => {
                let limits = limits(rule, "minimum", "maximum", "");
                self.out_of_range(&at, format!("{} is out of range", self.written(&at)), &limits);
            }
            Kind::MinLength { .. } | Kind::MaxLength { .. } => {
                let limits = limits(rule, "minLength", "maxLength", " characters");
                let length = error.instance().as_str().map_or(0, |text| text.chars().count());
                let what = if length == 0 {
                    "the text is empty".to_owned()
                } else {
                    format!("the text has {length} characters")
                };
                self.out_of_range(&at, what, &limits);
            }
            Kind::MinItems { .. } | Kind::MaxItems { .. } => {
                let limits = limits(rule, "minItems", "maxItems", " items");
                let length = error.instance().as_array().map_or(0, Vec::len);
                self.out_of_range(&at, format!("the list has {length} items"), &limits);
            }
            Kind::Constant { expected_value } => self.unknown_choice(&at, vec![shown(expected_value)]),
            _ => {
                let message = error.to_string();
                self.push(self.document.at(Code::NotDescribed, &at, message), &at, None);
            }
        }
    }

    fn push(&mut self, diagnostic: Diagnostic, at: &str, instead: Option<Json>) {
        self.found.push(diagnostic);
        self.wrong.push((at.to_owned(), instead));
    }

    /// The part of the schema that holds the keyword at the end of `path`.
    fn rule(&self, path: &str) -> &'a Json {
        let keyword = path.rfind('/').unwrap_or_default();
        let mut rule = self.schema;
        for step in path.get(..keyword).unwrap_or_default().split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = if step == "$ref" {
                rule.get("$ref").and_then(Json::as_str).and_then(|name| self.schema.pointer(name.strip_prefix('#')?))
            } else {
                rule.get(&step).or_else(|| rule.get(step.parse::<usize>().ok()?))
            };
            match next {
                Some(next) => rule = next,
                None => return &Json::Null,
            }
        }
        rule
    }

    /// The rule, or the one that it refers to.
    fn resolved(&self, rule: &'a Json) -> &'a Json {
        let name = rule.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix('#'));
        name.and_then(|name| self.schema.pointer(name)).unwrap_or(rule)
    }

    fn node(&self, at: &str) -> Option<&Node> {
        at.split('/')
            .skip(1)
            .try_fold(&self.document.root, |node, step| node.get(&step.replace("~1", "/").replace("~0", "~")))
    }

    /// The value as the person wrote it.
    fn written(&self, at: &str) -> String {
        let text = self.document.source.text().get(self.document.span_of(at)).unwrap_or_default();
        short(text)
    }

    fn unknown_key(&mut self, parent: &str, key: &str, known: &[String]) {
        let place = parent.to_owned() + &pointer([key]);
        let mut error =
            self.document.at_key(Code::UnknownKey, &place, format!("there is no key `{}` here", short(key)));
        if let Some(near) = near(key, known) {
            error = error.label(format!("did you mean `{near}`?"));
        } else if let Some((above, _)) = self.elsewhere(key, known) {
            error = error.help(format!("`{key}` belongs to `{above}`"));
        }
        if !known.is_empty() && known.len() <= 24 {
            error = error.help(format!("the keys are {}", list(known)));
        }
        self.push(error, &place, None);
    }

    /// One of the `known` keys whose mapping has `key`.
    fn elsewhere(&self, key: &str, known: &[String]) -> Option<(String, &'a Json)> {
        let all = properties(self.schema).filter(|(name, _)| known.contains(name));
        for (name, rule) in all {
            let alternatives = rule.get("anyOf").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
            for rule in std::iter::once(rule).chain(alternatives) {
                if properties(self.resolved(rule)).any(|(inner, _)| inner == key) {
                    return Some((name.clone(), rule));
                }
            }
        }
        None
    }

    fn missing_key(&mut self, parent: &str, key: &str, rule: &'a Json) {
        let property = properties(rule).find(|(name, _)| *name == key).map(|(_, rule)| rule);
        let about = property.and_then(|rule| rule.get("description")).and_then(Json::as_str).map(str::to_owned);
        let instead = property.and_then(|rule| stand_in(self.resolved(rule)));
        let mut error = self.document.at_key(Code::MissingKey, parent, format!("the key `{key}` is missing"));
        if let Some(about) = about {
            error = error.help(format!("`{key}`: {about}"));
        }
        match instead {
            Some(_) => self.push(error, &(parent.to_owned() + &pointer([key])), instead),
            None => self.push(error, parent, None),
        }
    }

    fn wrong_type(&mut self, at: &str, types: &[JsonType]) {
        let written = self.written(at);
        let expected = expected(types);
        let text = types.contains(&JsonType::String);
        let Some(node) = self.node(at) else { return };
        let (there, help) = match &node.value {
            Value::Null => ("nothing is there".to_owned(), Some("write a value, or leave the key out".to_owned())),
            Value::Bool(_) | Value::Number(_) if text => {
                (format!("`{written}` is no text"), Some(format!("put it in quotes: \"{written}\"")))
            }
            Value::Bool(_) => (format!("`{written}` is a truth value"), None),
            Value::Number(_) => (format!("`{written}` is a number"), None),
            Value::String(value) => {
                let number = types.contains(&JsonType::Integer) && value.parse::<i64>().is_ok()
                    || types.contains(&JsonType::Number) && value.parse::<f64>().is_ok();
                let help = if number {
                    Some(format!("leave out the quotes: {value}"))
                } else if types.contains(&JsonType::Array) {
                    Some(format!("write it as a list: [{}]", short(value)))
                } else {
                    None
                };
                ("a text is there".to_owned(), help)
            }
            Value::Sequence(_) => ("a list is there".to_owned(), None),
            Value::Mapping(_) => ("a mapping is there".to_owned(), None),
        };
        let version = at.ends_with("/version") && matches!(node.value, Value::Number(_));
        let mut error = if version {
            self.document.at(Code::VersionAsNumber, at, format!("the version `{written}` is read as a number"))
        } else {
            self.document.at(Code::WrongType, at, format!("expected {expected}, and {there}"))
        };
        if let Some(help) = help {
            error = error.help(help);
        }
        self.push(error, at, None);
    }

    fn wrong_form(&mut self, at: &str, words: &str) {
        // The value has its type, so all that follows can be looked at with it.
        self.push(
            self.document.at(Code::WrongForm, at, format!("`{}` has a wrong form", self.text(at))).label(words),
            at,
            None,
        );
        if let Some((_, instead)) = self.wrong.last_mut() {
            *instead = self.document.root.to_json().pointer(at).cloned();
        }
    }

    fn text(&self, at: &str) -> String {
        match self.node(at).map(|node| &node.value) {
            Some(Value::String(text)) => short(text),
            _ => self.written(at),
        }
    }

    fn unknown_choice(&mut self, at: &str, choices: Vec<String>) {
        let text = self.text(at);
        let mut error = self.document.at(Code::UnknownChoice, at, format!("`{text}` is none of the choices"));
        if let Some(near) = near(&text, &choices) {
            error = error.label(format!("did you mean `{near}`?"));
        }
        self.push(error.help(format!("write {}", list(&choices).replace(" and ", " or "))), at, None);
    }

    fn out_of_range(&mut self, at: &str, message: String, limits: &str) {
        self.push(self.document.at(Code::OutOfRange, at, message).label(format!("expected {limits}")), at, None);
    }

    /// None of some alternatives fits: what is said is what is wrong with the one that was meant, which is the one of
    /// the right type.
    fn none_of(&mut self, at: &str, rule: &Json, context: &[Vec<ValidationError<'static>>]) {
        let of_type = |errors: &&Vec<ValidationError<'_>>| {
            !errors.iter().any(|e| matches!(e.kind(), Kind::Type { .. }) && e.instance_path().as_str() == at)
        };
        let fitting: Vec<_> = context.iter().filter(of_type).collect();
        let constants = |errors: &Vec<ValidationError<'_>>| match errors.first().map(ValidationError::kind) {
            Some(Kind::Constant { expected_value }) => vec![shown(expected_value)],
            Some(Kind::Enum { options }) => options.as_array().into_iter().flatten().map(shown).collect(),
            _ => Vec::new(),
        };
        let choices: Vec<String> = fitting.iter().flat_map(|errors| constants(errors)).collect();
        if !choices.is_empty() {
            return self.unknown_choice(at, choices);
        }
        if let [errors] = fitting.as_slice() {
            return errors.iter().for_each(|error| self.say(error));
        }
        let types: Vec<JsonType> = context.iter().flatten().flat_map(types_of).collect();
        if fitting.is_empty() && !types.is_empty() {
            return self.wrong_type(at, &types);
        }
        let about = rule.get("description").and_then(Json::as_str).map(str::to_owned);
        let mut error = self.document.at(Code::NotDescribed, at, "none of the forms that are allowed here fits");
        if let Some(about) = about {
            error = error.help(about);
        }
        self.push(error, at, None);
    }
}

fn types_of(error: &ValidationError<'_>) -> Vec<JsonType> {
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(one) } => vec![*one],
        Kind::Type { kind: TypeKind::Multiple(set) } => set.iter().collect(),
        _ => Vec::new(),
    }
}

fn properties(rule: &Json) -> impl Iterator<Item = (&String, &Json)> {
    rule.get("properties").and_then(Json::as_object).into_iter().flatten()
}

fn expected(types: &[JsonType]) -> String {
    let words: Vec<&str> = types
        .iter()
        .filter_map(|one| match one {
            JsonType::Array => Some("a list"),
            JsonType::Boolean => Some("`true` or `false`"),
            JsonType::Integer => Some("a whole number"),
            JsonType::Number => Some("a number"),
            JsonType::Object => Some("a mapping (`key: value`)"),
            JsonType::String => Some("a text"),
            JsonType::Null => None,
        })
        .collect();
    words.join(" or ")
}

fn limits(rule: &Json, least: &str, most: &str, unit: &str) -> String {
    match (rule.get(least), rule.get(most)) {
        (Some(least), Some(most)) => format!("{} to {}{unit}", shown(least), shown(most)),
        (Some(least), None) => format!("at least {}{unit}", shown(least)),
        (None, Some(most)) => format!("at most {}{unit}", shown(most)),
        (None, None) => "another value".to_owned(),
    }
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}
