//! Form: a document against its JSON Schema, in plain words and at its places.
//!
//! The checking is done by the `jsonschema` crate, all mistakes at once; its findings are put into words here. What a
//! pattern means in words stands beside it in the schema as `patternErrorMessage`, which editors show as well.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use jsonschema::types::JsonType;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Fix, Source};
use crate::formats::document::{Document, Format, Layout, Node, Value, pointer, steps};
use crate::formats::schema::Schema;
use crate::io::suggest::{closest, did_you_mean};

/// What documents of a kind are read into.
pub trait Described: DeserializeOwned {
    /// Its schema.
    const KIND: super::Kind;

    /// What is said in the place of all else: that the document is of a version that is not known here.
    fn of_other_version(_document: &Document) -> Option<Diagnostic> {
        None
    }
}

/// Keys that are meant first where a value stands in the place of a mapping, and several would take it.
const USUAL: [&str; 5] = ["files", "version", "requirements", "packages", "predict"];

/// What was read of a document.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The document, with its places.
    pub document: Document,
    /// The value; none where not even a part of it makes sense.
    pub value: Option<T>,
    /// Whether the form is right. If not, what was wrong is left out of the value, which is then good for nothing but
    /// looking for further mistakes.
    pub sound: bool,
}

impl<T> Loaded<T> {
    /// Document and value, if the form is right.
    pub fn whole(self) -> Option<(Document, T)> {
        Some((self.document, self.value.filter(|_| self.sound)?))
    }
}

/// Reads the file `path`: its syntax, its form, its value. Mistakes go to `found`; none where there is no document.
pub fn file<T: Described>(path: &Path, found: &mut Diagnostics) -> Option<Loaded<T>> {
    let document = Document::read(path, &crate::formats::document::shown(path), T::KIND.most(), found)?;
    of_document(document, found)
}

/// Reads a text that is known as `shown`, as [`file`] does; the name of its file tells its syntax.
pub fn bytes<T: Described>(bytes: &[u8], shown: &str, name: &str, found: &mut Diagnostics) -> Option<Loaded<T>> {
    if bytes.len() as u64 > T::KIND.most() {
        let message = format!("the file has more than {} MiB", T::KIND.most() >> 20);
        found.push(Diagnostic::of_file(Code::TooLarge, shown, message));
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let source = Source::new(shown, text.strip_prefix('\u{feff}').unwrap_or(&text));
    let document = Document::parse(&source, Format::of(Path::new(name)), found)?;
    of_document(document, found)
}

fn of_document<T: Described>(document: Document, found: &mut Diagnostics) -> Option<Loaded<T>> {
    if let Some(error) = T::of_other_version(&document) {
        found.push(error);
        return None;
    }
    let (value, sound) = checked(&document, super::of(T::KIND), found);
    Some(Loaded { document, value, sound })
}

/// Checks the form of `document`, and reads it; the second says whether the form is right. Mistakes go to `found`.
pub fn checked<T: DeserializeOwned>(
    document: &Document,
    schema: &Schema,
    found: &mut Diagnostics,
) -> (Option<T>, bool) {
    let mut json = document.root.to_json();
    // What the syntax has to say about a place is enough.
    let said = found.errors_in(&document.source);
    let mut form =
        SchemaCheck { document, schema, found, said, meant: HashSet::new(), tries: 8, wrong: Vec::new(), sound: true };
    let mut errors: Vec<_> = schema.validator.iter_errors(&json).collect();
    // A key that is missing may be there, misspelt: so the unknown ones come first.
    errors.sort_by_key(|error| matches!(error.kind(), Kind::Required { .. }));
    errors.iter().for_each(|error| form.say(error));
    drop(errors);
    if form.sound {
        match T::deserialize(&json) {
            Ok(value) => return (Some(value), true),
            Err(error) => form.unread::<T>(&json, &error.to_string()),
        }
    } else {
        form.fractions(&json);
    }
    let mut wrong = form.wrong;
    // From the leaves to the root, so that a part is not looked for in what is gone already.
    wrong.sort_by_key(|(pointer, _)| std::cmp::Reverse(pointer.matches('/').count()));
    for (pointer, instead) in wrong {
        replace(&mut json, &pointer, instead);
    }
    (serde_json::from_value(json).ok(), false)
}

/// Puts a fraction in the place of each whole number that is written as one, as `1.0`, and notes where.
fn break_whole(json: &mut Json, at: &str, places: &mut HashSet<String>) {
    match json {
        Json::Number(number) if number.is_f64() && number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
            places.insert(at.to_owned());
            *json = 0.5.into();
        }
        Json::Array(items) => {
            let items = items.iter_mut().enumerate();
            items.for_each(|(number, item)| break_whole(item, &format!("{at}/{number}"), places));
        }
        Json::Object(entries) => entries
            .iter_mut()
            .for_each(|(key, value)| break_whole(value, &(at.to_owned() + &pointer([key.as_str()])), places)),
        _ => {}
    }
}

/// The innermost key without which something else, or nothing, keeps a value from being read.
fn culprit<T: DeserializeOwned>(json: &Json, why: &str) -> String {
    /// Keys of a mapping that are tried; nobody writes so many.
    const MOST: usize = 100;
    let mut place = String::new();
    while let Some(Json::Object(entries)) = json.pointer(&place) {
        let below = entries.keys().take(MOST).map(|key| place.clone() + &pointer([key.as_str()])).find(|below| {
            let mut without = json.clone();
            replace(&mut without, below, None);
            T::deserialize(&without).err().is_none_or(|error| error.to_string() != why)
        });
        match below {
            Some(below) => place = below,
            None => break,
        }
    }
    place
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

struct SchemaCheck<'a> {
    document: &'a Document,
    schema: &'a Schema,
    found: &'a mut Diagnostics,
    /// Places that there are errors at already.
    said: Vec<Range<usize>>,
    /// Keys that are there, misspelt, as pointers.
    meant: HashSet<String>,
    /// How many values more are tried in a mapping: each is held against the schema a few dozen times.
    tries: u8,
    /// What cannot be read as it stands, with what to put there instead.
    wrong: Vec<(String, Option<Json>)>,
    sound: bool,
}

impl<'a> SchemaCheck<'a> {
    fn say(&mut self, error: &ValidationError<'_>) {
        let at = error.instance_path().as_str();
        let rule = self.rule(error.evaluation_path().as_str());
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().for_each(|key| self.unknown_key(at, key, rule));
            }
            Kind::Required { property } => self.missing_key(at, property.as_str().unwrap_or_default(), rule),
            Kind::Type { .. } => self.wrong_type(at, rule, &types_of(error)),
            Kind::Pattern { pattern } => {
                let message = format!("`{}` has a wrong form", self.text(at));
                self.push(self.document.at(Code::WrongForm, at, message).label(in_words(rule, pattern)));
            }
            Kind::PropertyNames { error } => {
                let key = error.instance().as_str().unwrap_or_default();
                let rule = self.rule(error.evaluation_path().as_str());
                let place = at.to_owned() + &pointer([key]);
                let message = format!("`{}` cannot be a name here", short(key));
                self.push(self.document.at_key(Code::WrongForm, &place, message).label(in_words(rule, "another form")));
            }
            Kind::Enum { .. } | Kind::Constant { .. } => self.unknown_choice(at, &choices_of(error)),
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.none_of(at, rule, context),
            Kind::Minimum { .. }
            | Kind::Maximum { .. }
            | Kind::ExclusiveMinimum { .. }
            | Kind::ExclusiveMaximum { .. } => {
                let message = format!("{} is out of range", self.written(at));
                let error = self.document.at(Code::OutOfRange, at, message);
                self.refuse(error.label(limits(rule, "minimum", "maximum", "")), at);
            }
            Kind::MinLength { .. } | Kind::MaxLength { .. } => {
                let message = match error.instance().as_str().map_or(0, |text| text.chars().count()) {
                    0 => "the text is empty".to_owned(),
                    length => format!("the text has {length} characters"),
                };
                let error = self.document.at(Code::OutOfRange, at, message);
                self.push(error.label(limits(rule, "minLength", "maxLength", " characters")));
            }
            Kind::MinItems { .. } | Kind::MaxItems { .. } => {
                let length = error.instance().as_array().map_or(0, Vec::len);
                let error = self.document.at(Code::OutOfRange, at, format!("the list has {length} items"));
                self.push(error.label(limits(rule, "minItems", "maxItems", " items")));
            }
            _ => self.refuse(self.document.at(Code::NotDescribed, at, error.to_string()), at),
        }
    }

    /// Says what keeps a value from being read that has the form: `why` is for programmers.
    fn unread<T: DeserializeOwned>(&mut self, json: &Json, why: &str) {
        self.fractions(json);
        if self.sound {
            let at = culprit::<T>(json, why);
            let error = self.document.at(Code::NotDescribed, &at, "what is written here cannot be used");
            self.refuse(error, &at);
        }
    }

    /// Says which numbers have to be whole and are written as fractions: JSON Schema takes 1.0 for a whole number, and nothing
    /// that reads one does.
    fn fractions(&mut self, json: &Json) {
        let (mut broken, mut places) = (json.clone(), HashSet::new());
        break_whole(&mut broken, "", &mut places);
        places.retain(|place| !self.wrong.iter().any(|(said, _)| said == place));
        if places.is_empty() {
            return;
        }
        let of_kind = |error: &ValidationError<'_>| {
            matches!(error.kind(), Kind::Type { .. } | Kind::AnyOf { .. } | Kind::OneOfNotValid { .. })
        };
        let is_new = |error: &ValidationError<'_>| places.contains(error.instance_path().as_str());
        let errors = self.schema.validator.iter_errors(&broken).filter(|error| of_kind(error) && is_new(error));
        errors.for_each(|error| self.say(&error));
    }

    /// Says what is wrong with a value that can be read nevertheless.
    fn push(&mut self, diagnostic: Diagnostic) {
        self.sound = false;
        let place = &diagnostic.primary.span;
        if !self.said.iter().any(|said| said.start <= place.end && place.start <= said.end) {
            self.found.push(diagnostic);
        }
    }

    /// Says what is wrong with a value that cannot be read.
    fn refuse(&mut self, diagnostic: Diagnostic, at: &str) {
        self.wrong.push((at.to_owned(), None));
        self.push(diagnostic);
    }

    /// The part of the schema that holds the keyword at the end of `path`.
    fn rule(&self, path: &str) -> &'a Json {
        let keyword = path.rfind('/').unwrap_or_default();
        let mut rule = &self.schema.json;
        for step in steps(path.get(..keyword).unwrap_or_default()) {
            let next = match step.as_str() {
                "$ref" => Some(self.resolved(rule)),
                step => rule.get(step).or_else(|| rule.get(step.parse::<usize>().ok()?)),
            };
            match next {
                Some(next) => rule = next,
                None => return &Json::Null,
            }
        }
        rule
    }

    /// The rule, or the one that it refers to, directly or (beside a description) as the only one of `allOf`.
    fn resolved(&self, rule: &'a Json) -> &'a Json {
        let rule = match rule.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
            Some([only]) => only,
            _ => rule,
        };
        let name = rule.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix('#'));
        name.and_then(|name| self.schema.json.pointer(name)).unwrap_or(rule)
    }

    fn node(&self, at: &str) -> Option<&'a Node> {
        steps(at).try_fold(&self.document.root, |node, step| node.get(&step))
    }

    /// The value as the person wrote it.
    fn written(&self, at: &str) -> String {
        short(self.document.source.text().get(self.document.span_of(at)).unwrap_or_default())
    }

    /// The value without its quotes.
    fn text(&self, at: &str) -> String {
        match self.node(at).map(|node| &node.value) {
            Some(Value::String(text)) => short(text),
            _ => self.written(at),
        }
    }

    /// The place of a text without its quotes, if it stands there as it was read.
    fn bare(&self, span: Range<usize>, text: &str) -> Option<Range<usize>> {
        let written = self.document.source.text().get(span.clone())?;
        let quotes = if written.len() == text.len() { 0 } else { 1 };
        let bare = span.start + quotes..span.end.checked_sub(quotes)?;
        (self.document.source.text().get(bare.clone())? == text).then_some(bare)
    }

    fn unknown_key(&mut self, parent: &str, key: &str, rule: &'a Json) {
        let known: Vec<String> = properties(rule).map(|(key, _)| key.clone()).collect();
        let place = parent.to_owned() + &pointer([key]);
        let mut error =
            self.document.at_key(Code::UnknownKey, &place, format!("there is no key `{}` here", short(key)));
        let meant = closest(key, &known);
        if let Some(meant) = meant {
            let meant_at = parent.to_owned() + &pointer([meant]);
            error = error.label(did_you_mean(meant));
            let taken = self.node(&meant_at).is_some() || !self.meant.insert(meant_at);
            if let Some(span) = self.bare(self.document.key_span_of(&place), key).filter(|_| !taken) {
                error = error.fix(Fix::replace(format!("write `{meant}`"), span, meant));
            }
        } else if let Some(above) = self.elsewhere(key, rule) {
            error = error.help(format!("`{key}` belongs to `{above}`"));
        }
        // A person who is told what was meant needs no long list.
        if !known.is_empty() && known.len() <= if meant.is_some() { 8 } else { 24 } {
            error = error.help(format!("the keys are {}", list(&known, "and")));
        }
        self.refuse(error, &place);
    }

    /// The key beside which `key` stands, and whose mapping has such a key.
    fn elsewhere(&self, key: &str, rule: &'a Json) -> Option<&'a str> {
        let has = |rule: &'a Json| properties(self.resolved(rule)).any(|(inner, _)| inner == key);
        let alternatives = |rule: &'a Json| rule.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        properties(rule).find(|(_, rule)| has(rule) || alternatives(rule).any(has)).map(|(name, _)| name.as_str())
    }

    fn missing_key(&mut self, parent: &str, key: &str, rule: &'a Json) {
        let property = properties(rule).find(|(name, _)| *name == key).map(|(_, rule)| rule);
        let at = parent.to_owned() + &pointer([key]);
        match property.and_then(|rule| stand_in(self.resolved(rule))) {
            Some(instead) => self.wrong.push((at.clone(), Some(instead))),
            None => self.wrong.push((parent.to_owned(), None)),
        }
        self.sound = false;
        if self.meant.contains(&at) {
            return;
        }
        let mut error = self.document.at_key(Code::MissingKey, parent, format!("the key `{key}` is missing"));
        // Where unknown keys are let be, a misspelt one is found only here.
        let unknown: Vec<String> = match self.node(parent).map(|node| &node.value) {
            Some(Value::Mapping(entries)) => {
                let known = |key: &str| properties(rule).any(|(name, _)| name == key);
                entries.iter().map(|(key, _)| key.text.clone()).filter(|key| !known(key)).collect()
            }
            _ => Vec::new(),
        };
        if let Some(meant) = closest(key, &unknown) {
            let span = self.document.key_span_of(&(parent.to_owned() + &pointer([meant])));
            error.primary.span = span.clone();
            error = error.label(did_you_mean(key));
            if let Some(bare) = self.bare(span, meant) {
                error = error.fix(Fix::replace(format!("write `{key}`"), bare, key));
            }
        }
        if let Some(about) = property.and_then(|rule| rule.get("description")).and_then(Json::as_str) {
            error = error.help(format!("`{key}`: {}", about.replace('\n', " ")));
        }
        self.push(error);
    }

    fn wrong_type(&mut self, at: &str, rule: &'a Json, types: &[JsonType]) {
        let Some(value) = self.node(at).map(|node| &node.value) else { return };
        let written = self.written(at);
        let mut instead = None;
        let (there, help) = match value {
            Value::Null => ("nothing is there".to_owned(), Some("write a value, or leave the key out".to_owned())),
            Value::Bool(_) | Value::Number(_) if types.contains(&JsonType::String) => {
                (format!("`{written}` is no text"), Some(format!("put it in quotes: \"{written}\"")))
            }
            Value::Bool(_) => (format!("`{written}` is a truth value"), None),
            Value::Number(number) if types.contains(&JsonType::Integer) => match whole(number) {
                Some(whole) => {
                    instead = Some(whole.to_string());
                    (format!("`{written}` is not written as one"), Some(format!("write {whole}")))
                }
                None if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
                    (format!("`{written}` has a fraction"), None)
                }
                None => (format!("`{written}` is too large"), None),
            },
            Value::Number(_) => (format!("`{written}` is a number"), None),
            Value::String(text) => ("a text is there".to_owned(), unquoted(text, types)),
            Value::Sequence(_) => ("a list is there".to_owned(), None),
            Value::Mapping(_) => ("a mapping is there".to_owned(), None),
        };
        let error =
            if at.ends_with("/version") && matches!(value, Value::Number(_)) && types.contains(&JsonType::String) {
                self.document.at(Code::VersionAsNumber, at, format!("the version `{written}` is read as a number"))
            } else {
                self.document.at(Code::WrongType, at, format!("expected {}, and {there}", expected(types)))
            };
        let is_tried = types.contains(&JsonType::Object) && self.tries > 0;
        self.tries -= u8::from(is_tried);
        let form = || is_tried.then(|| self.wrapped(at, rule))?;
        let mut error = help.or_else(form).into_iter().fold(error, Diagnostic::help);
        // Quotes keep what was written, such as the zero of 3.10; a number in JSON's other notations would be lost.
        let is_version = error.code == Code::VersionAsNumber;
        let kept =
            |c: char| c.is_ascii_digit() || c == '.' || !is_version && (c.is_ascii_alphabetic() || "-+".contains(c));
        let simple = |text: &str| text.chars().all(kept);
        if matches!(value, Value::Bool(_) | Value::Number(_)) && types.contains(&JsonType::String) && simple(&written) {
            let span = self.document.span_of(at);
            error = error.fix(Fix::replace("put it in quotes", span, format!("\"{written}\"")));
        } else if let Some(whole) = instead {
            let span = self.document.span_of(at);
            error = error.fix(Fix::replace(format!("write `{whole}`"), span, whole));
        }
        self.refuse(error, at);
    }

    /// How a value is written that stands in the place of a mapping which has a key for it.
    fn wrapped(&self, at: &str, rule: &'a Json) -> Option<String> {
        /// Bytes of a document that is tried: nobody writes so many.
        const MOST: usize = 64 << 10;
        if self.document.source.text().len() > MOST {
            return None;
        }
        let (value, written) = (self.node(at)?.to_json(), self.written(at));
        let mut forms = vec![value.clone(), Json::Array(vec![value.clone()])];
        forms.extend((value.is_number() || value.is_boolean()).then_some(Json::String(written)));
        let whole = self.document.root.to_json();
        let mistakes = |whole: &Json| self.schema.validator.iter_errors(whole).count();
        let before = mistakes(&whole);
        let fits = |mapping: &Json| {
            let mut changed = whole.clone();
            if let Some(place) = changed.pointer_mut(at) {
                place.clone_from(mapping);
            }
            mistakes(&changed) < before
        };
        let form_of = |key: &str| forms.iter().map(|form| json!({ key: form })).find(fits);
        let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| rule.get(key)?.as_array()).flatten();
        let keys: BTreeSet<&str> = std::iter::once(rule)
            .chain(alternatives)
            .flat_map(|rule| properties(self.resolved(rule)).map(|(key, _)| key.as_str()))
            .collect();
        let usual = USUAL.into_iter().filter(|usual| keys.contains(usual)).find_map(form_of);
        let mapping =
            usual.or_else(|| match keys.into_iter().filter_map(form_of).collect::<Vec<_>>().as_mut_slice() {
                [only] => Some(only.take()),
                _ => None,
            })?;
        let layout = Layout { format: self.document.format, width: usize::MAX };
        Some(format!("write it as {}", short(&layout.flow(&mapping, 0, 0))))
    }

    fn unknown_choice(&mut self, at: &str, choices: &[String]) {
        let text = self.text(at);
        let mut error = self.document.at(Code::UnknownChoice, at, format!("`{text}` is none of the choices"));
        if let Some(near) = closest(&text, choices) {
            error = error.label(did_you_mean(near));
        }
        self.refuse(error.help(format!("write {}", list(choices, "or"))), at);
    }

    /// None of some alternatives fits: what is said is what is wrong with the one that was meant, which is the one of
    /// the right type, with the right keys.
    fn none_of(&mut self, at: &str, rule: &'a Json, context: &[Vec<ValidationError<'static>>]) {
        // Alternatives that are told apart by a key, as `type`: the one that it names was meant.
        let tags = |errors: &[ValidationError<'static>]| -> Vec<(String, Vec<String>)> {
            let tag = |e: &&ValidationError<'_>| {
                matches!(e.kind(), Kind::Enum { .. } | Kind::Constant { .. })
                    && e.instance_path().as_str().rsplit_once('/').is_some_and(|(parent, _)| parent == at)
            };
            errors.iter().filter(tag).map(|e| (e.instance_path().as_str().to_owned(), choices_of(e))).collect()
        };
        let told: Vec<_> = context.iter().map(|errors| tags(errors)).collect();
        if told.iter().any(|tags| !tags.is_empty()) {
            let meant: Vec<_> = context.iter().zip(&told).filter(|(_, tags)| tags.is_empty()).collect();
            match meant.as_slice() {
                [(errors, _)] => return errors.iter().for_each(|error| self.say(error)),
                [] => {
                    let choices: Vec<String> = told.iter().flatten().flat_map(|(_, choices)| choices.clone()).collect();
                    if let Some((place, _)) = told.iter().flatten().next() {
                        self.unknown_choice(place, &choices);
                        return self.wrong.push((at.to_owned(), None));
                    }
                }
                _ => {}
            }
        }
        let here = |error: &ValidationError<'_>| error.instance_path().as_str() == at;
        let of_type: Vec<_> = context
            .iter()
            .filter(|errors| !errors.iter().any(|e| here(e) && matches!(e.kind(), Kind::Type { .. })))
            .collect();
        let choices: Vec<String> = of_type.iter().flat_map(|errors| errors.iter().flat_map(choices_of)).collect();
        let with_keys: Vec<_> = of_type
            .iter()
            .filter(|errors| !errors.iter().any(|e| here(e) && matches!(e.kind(), Kind::Required { .. })))
            .collect();
        if let [errors] = of_type.as_slice() {
            errors.iter().for_each(|error| self.say(error));
        } else if let [errors] = with_keys.as_slice() {
            errors.iter().for_each(|error| self.say(error));
        } else if !choices.is_empty() {
            self.unknown_choice(at, &choices);
        } else if of_type.is_empty() {
            let types: Vec<JsonType> = context.iter().flatten().filter(|e| here(e)).flat_map(types_of).collect();
            self.wrong_type(at, rule, &types);
        } else {
            let error = self.document.at(Code::NotDescribed, at, "none of the forms that are allowed here fits");
            let about = rule.get("description").and_then(Json::as_str);
            self.refuse(about.into_iter().fold(error, Diagnostic::help), at);
        }
    }
}

/// The whole number that a fraction such as `3000.0` is, where it is exactly that.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
    #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
    Some(number as i64)
}

/// What to do with a text where none is expected.
fn unquoted(text: &str, types: &[JsonType]) -> Option<String> {
    let number = types.contains(&JsonType::Integer) && text.parse::<i64>().is_ok()
        || types.contains(&JsonType::Number) && text.parse::<f64>().is_ok_and(f64::is_finite);
    if number {
        Some(format!("leave out the quotes: {text}"))
    } else if types.contains(&JsonType::Array) {
        Some(format!("write it as a list: [{}]", short(text)))
    } else {
        None
    }
}

fn in_words(rule: &Json, pattern: &str) -> String {
    format!("expected {}", rule.get("patternErrorMessage").and_then(Json::as_str).unwrap_or(pattern))
}

fn choices_of(error: &ValidationError<'_>) -> Vec<String> {
    match error.kind() {
        Kind::Constant { expected_value } => vec![shown(expected_value)],
        Kind::Enum { options } => options.as_array().into_iter().flatten().map(shown).collect(),
        _ => Vec::new(),
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
    let mut words: Vec<&str> = Vec::new();
    for one in types {
        let word = match one {
            JsonType::Array => "a list",
            JsonType::Boolean => "`true` or `false`",
            JsonType::Integer => "a whole number",
            JsonType::Number => "a number",
            JsonType::Object => "a mapping (`key: value`)",
            JsonType::String => "a text",
            JsonType::Null => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}

fn limits(rule: &Json, least: &str, most: &str, unit: &str) -> String {
    match (rule.get(least), rule.get(most)) {
        (Some(least), Some(most)) => format!("expected {} to {}{unit}", shown(least), shown(most)),
        (Some(least), None) => format!("expected at least {}{}", shown(least), counted(least, unit)),
        (None, Some(most)) => format!("expected at most {}{}", shown(most), counted(most, unit)),
        (None, None) => "expected another value".to_owned(),
    }
}

/// The unit of a count, where that is one as of one.
fn counted<'a>(count: &Json, unit: &'a str) -> &'a str {
    if count.as_u64() == Some(1) { unit.strip_suffix('s').unwrap_or(unit) } else { unit }
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| number.to_string()),
    }
}

fn list(words: &[String], last_joined_by: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {last_joined_by} {last}", first.join(", ")),
    }
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}
