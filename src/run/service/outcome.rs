//! How an example request went: the answer beside the one expected.

use std::fmt;

use base64::Engine as _;
use serde::Serialize;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::credentials::Credentials;
use crate::formats::document::{Format, Layout, pointer};
use crate::io::digest::Digest;
use crate::project::manifest::{Manifest, Nearness, Test};

/// An example request: a test of a manifest, with all that the manifest says of it.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Which of the manifest's tests it is, from 1.
    pub number: usize,
    /// What is asked, and what is expected.
    pub test: &'a Test,
    nearness: Nearness,
}

impl<'a> Example<'a> {
    /// Those of a manifest, in its order. Files that it names are sent as they are written there: see
    /// [`Manifest::with_files`].
    pub fn of(manifest: &'a Manifest) -> impl Iterator<Item = Self> {
        (1..).zip(&manifest.tests).map(|(number, test)| Self { number, test, nearness: manifest.nearness(test) })
    }

    /// The first that sends something and is answered with success: the one to try a service with.
    pub fn first_request(manifest: &'a Manifest) -> Option<Self> {
        let is_one = |test: &Test| test.request.is_some() && (200..300).contains(&test.wanted_status());
        Self::of(manifest).find(|example| is_one(example.test))
    }

    /// What is sent: JSON on a line.
    pub fn json(&self) -> Option<String> {
        self.test.request.as_ref().map(ToString::to_string)
    }
}

/// How an example request went.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Which of the manifest's tests it is, from 1.
    pub number: usize,
    /// The name of the example.
    pub name: String,
    /// What there is to say of the answer.
    pub verdict: Verdict,
    /// How long the answer took, in seconds.
    pub seconds: f64,
    /// The status that came back; none where nothing did.
    pub status: Option<u16>,
    /// What came back, without credentials; none where nothing did.
    #[serde(flatten)]
    pub body: Option<Body>,
    /// In what the answer differs from the one expected; empty when it does not.
    pub differences: Vec<Difference>,
    /// By which the service's log knows the request.
    pub request_id: Option<String>,
    /// Lines of the log that belong to the request, where it failed.
    pub log: Vec<String>,
    /// The answer's JSON as it came.
    #[serde(skip)]
    pub(super) answer: Option<Value>,
    /// The status that was expected.
    #[serde(skip)]
    pub(super) wanted: u16,
}

/// What there is to say of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is the one expected.
    AsExpected,
    /// Nothing was expected but an answer.
    Answered,
    /// It is another than the one expected, or none.
    Different,
}

/// The body of an answer, for a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Body {
    /// What the service says that it is.
    pub content_type: Option<String>,
    /// How `body` stands for the bytes: `json`, `text` or `base64`.
    pub encoding: &'static str,
    /// All of it.
    pub body: Value,
}

impl Body {
    /// The body in `bytes`, in the first of the encodings that it has.
    pub fn new(content_type: Option<String>, bytes: Vec<u8>) -> Self {
        let (encoding, body) = match (serde_json::from_slice(&bytes), String::from_utf8(bytes)) {
            (Ok(value), _) => ("json", value),
            (Err(_), Ok(text)) => ("text", Value::String(text)),
            (Err(_), Err(error)) => {
                ("base64", Value::String(base64::engine::general_purpose::STANDARD.encode(error.as_bytes())))
            }
        };
        Self { content_type, encoding, body }
    }

    /// The same, as somebody may see it who may not see `hidden`.
    fn without(content_type: Option<String>, bytes: &[u8], hidden: &Credentials) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::new(content_type, hidden.hide_in(text).into_bytes()),
            // What is no text holds a credential only where it is one.
            Err(_) if hidden.is_empty() => Self::new(content_type, bytes.to_vec()),
            Err(_) => Self::new(content_type, hidden.hide_in(&String::from_utf8_lossy(bytes)).into_bytes()),
        }
    }

    /// For a person, in lines of at most `width` columns as far as texts are no longer.
    pub fn text(&self, width: usize) -> String {
        match (&self.body, self.encoding) {
            (body, "json") => Layout { format: Format::Json, width }.flow(body, 0, 0),
            (Value::String(text), "text") => text.clone(),
            (body, _) => format!("{} bytes that are no text", body.as_str().map_or(0, |text| text.len() / 4 * 3)),
        }
    }
}

/// One place where an answer is not as expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// A JSON pointer (RFC 6901) into the answer, or `status`.
    pub at: String,
    /// What was expected there.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// What was expected there, where it is a place in the answer.
    #[serde(skip)]
    pub(super) value: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { "answer" } else { &self.at };
        write!(f, "{at}: expected {}, got {}", self.expected, self.actual)
    }
}

/// A line of the answer and of the one expected, laid side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffLine {
    /// It is in both.
    Same(String),
    /// It was expected.
    Expected(String),
    /// It came.
    Actual(String),
    /// So many lines are left out, which are in both.
    LeftOut(usize),
}

/// What came back of a request.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
    /// Where it redirects to, if that is another server.
    pub(super) location: Option<String>,
    pub(super) request_id: Option<String>,
}

impl Outcome {
    /// Judges what came back of an example, or why nothing did. A service may say what it was given: `hidden` is shown
    /// nowhere.
    pub(super) fn new(example: Example<'_>, hidden: &Credentials, seconds: f64, reply: Result<Reply, String>) -> Self {
        let Example { number, test, .. } = example;
        let wanted = test.wanted_status();
        let outcome = Self {
            number,
            name: test.name(number),
            verdict: Verdict::Different,
            seconds,
            status: None,
            body: None,
            differences: Vec::new(),
            request_id: None,
            log: Vec::new(),
            answer: None,
            wanted,
        };
        let at_status = |actual: String| {
            let expected = wanted.to_string();
            vec![Difference { at: "status".to_owned(), expected, actual, value: None }]
        };
        let Reply { status, content_type, body, location, request_id } = match reply {
            Ok(reply) => reply,
            Err(why) => return Self { differences: at_status(why), ..outcome },
        };
        let body = together(content_type.as_deref(), body);
        let answer = serde_json::from_slice(&body).ok().or_else(|| described(content_type.as_deref(), &body));
        let differences = match (&test.expect, &answer) {
            _ if status != wanted => at_status(match location {
                Some(location) => format!("{status}, which leads to {}", hidden.hide_in(&location)),
                None => status.to_string(),
            }),
            (Some(expected), Some(answer)) => Comparison::new(example.nearness, hidden).compare(expected, answer),
            (Some(expected), None) => {
                let text = hidden.hide_in(&String::from_utf8_lossy(&body));
                let (expected, actual) = (shown(expected.to_string()), shown(format!("no JSON: {text}")));
                vec![Difference { at: String::new(), expected, actual, value: None }]
            }
            (None, _) => Vec::new(),
        };
        let verdict = match (differences.is_empty(), test.expects_something()) {
            (false, _) => Verdict::Different,
            (true, true) => Verdict::AsExpected,
            (true, false) => Verdict::Answered,
        };
        let body = Some(Body::without(content_type, &body, hidden));
        Self { verdict, status: Some(status), body, differences, request_id, answer, ..outcome }
    }

    /// The answer and the one expected as lines of at most `width` columns: the lines that differ, with those around them.
    /// Empty where there is nothing to lay side by side.
    pub fn diff(&self, width: usize) -> Vec<DiffLine> {
        /// Lines around one that differs.
        const AROUND: usize = 2;
        let Some(Body { encoding: "json", body, .. }) = &self.body else { return Vec::new() };
        let in_answer = self.differences.iter().all(|difference| difference.value.is_some());
        if self.differences.is_empty() || !in_answer || !(body.is_array() || body.is_object()) {
            return Vec::new();
        }
        let mut wanted = body.clone();
        for Difference { at, value, .. } in &self.differences {
            put(&mut wanted, at, value.clone().unwrap_or_default());
        }
        let text = |value: &Value| Layout { format: Format::Json, width }.flow(value, 0, 0) + "\n";
        let (wanted, came) = (text(&wanted), text(body));
        let diff = TextDiff::from_lines(&wanted, &came);
        let mut lines = Vec::new();
        let mut seen = 0;
        for group in diff.grouped_ops(AROUND) {
            let start = group.first().map_or(seen, |first| first.old_range().start);
            if start > seen {
                lines.push(DiffLine::LeftOut(start - seen));
            }
            for op in &group {
                seen = op.old_range().end;
                lines.extend(diff.iter_changes(op).map(|change| {
                    let line = change.value().trim_end().to_owned();
                    match change.tag() {
                        ChangeTag::Equal => DiffLine::Same(line),
                        ChangeTag::Delete => DiffLine::Expected(line),
                        ChangeTag::Insert => DiffLine::Actual(line),
                    }
                }));
            }
        }
        let left = wanted.lines().count() - seen;
        if left > 0 {
            lines.push(DiffLine::LeftOut(left));
        }
        lines
    }

    /// The answer as it came, if it is JSON that holds none of the credentials; of one that is neither JSON nor text, what
    /// can be expected of it.
    pub fn answer(&self) -> Option<&Value> {
        self.answer.as_ref()
    }

    /// Whether what came back is what [`Outcome::body`] shows, or was hidden in part.
    pub fn is_shown_whole(&self) -> bool {
        self.answer.is_none()
            || self.body.as_ref().is_some_and(|body| body.encoding == "base64")
            || self.body.as_ref().map(|body| &body.body) == self.answer.as_ref()
    }

    /// Whether the service failed, though nobody expected it to.
    pub fn is_broken(&self) -> bool {
        self.status.is_none_or(|status| status >= 500 && status != self.wanted)
    }

    /// The status that was expected.
    pub fn wanted_status(&self) -> u16 {
        self.wanted
    }
}

/// What stands for an answer that is neither JSON nor text.
fn described(content_type: Option<&str>, body: &[u8]) -> Option<Value> {
    let kind = content_type?.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/") || kind == "application/json" || kind.ends_with("+json");
    (!is_text).then(|| json!({ "content_type": kind, "sha256": Digest::of(body).hex(), "size": body.len() }))
}

/// An answer that came in parts, as the list of them.
fn together(content_type: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    if !content_type.is_some_and(|text| text.starts_with("application/x-ndjson")) {
        return body;
    }
    let parts: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&body).into_iter().collect();
    parts.map_or(body, |parts| Value::Array(parts).to_string().into_bytes())
}

/// Puts `value` where the pointer leads, also as a new key of what is there.
fn put(target: &mut Value, at: &str, value: Value) {
    let Some((parent, last)) = at.rsplit_once('/') else {
        *target = value;
        return;
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Object(entries)) => drop(entries.insert(last, value)),
        Some(Value::Array(items)) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|number| items.get_mut(number)) {
                *item = value;
            }
        }
        _ => {}
    }
}

/// An answer that is compared with the one expected.
struct Comparison<'a> {
    nearness: Nearness,
    hidden: &'a Credentials,
    at: String,
    differences: Vec<Difference>,
}

impl<'a> Comparison<'a> {
    fn new(nearness: Nearness, hidden: &'a Credentials) -> Self {
        Self { nearness, hidden, at: String::new(), differences: Vec::new() }
    }

    fn compare(mut self, expected: &Value, actual: &Value) -> Vec<Difference> {
        self.values(expected, actual);
        self.differences
    }

    /// Objects may hold more than was expected, lists may not; numbers may be off by as much as the manifest says.
    fn values(&mut self, expected: &Value, actual: &Value) {
        let length = self.at.len();
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                for (key, value) in expected {
                    self.at.push_str(&pointer([key.as_str()]));
                    match actual.get(key) {
                        Some(actual) => self.values(value, actual),
                        None => self.differ(value, shown(value.to_string()), "nothing".to_owned()),
                    }
                    self.at.truncate(length);
                }
            }
            (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
                for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                    self.at.push_str(&format!("/{index}"));
                    self.values(expected, actual);
                    self.at.truncate(length);
                }
            }
            (Value::Array(items), Value::Array(actual)) => {
                let count =
                    |items: &[Value]| format!("{} item{}", items.len(), if items.len() == 1 { "" } else { "s" });
                self.differ(expected, count(items), count(actual));
            }
            (Value::Number(one), Value::Number(other)) if self.is_near(one.as_f64(), other.as_f64()) => {}
            (expected, actual) if expected == actual => {}
            (expected, actual) => {
                let came = shown(self.hidden.hide_in(&actual.to_string()));
                self.differ(expected, shown(expected.to_string()), came);
            }
        }
    }

    fn is_near(&self, expected: Option<f64>, actual: Option<f64>) -> bool {
        expected.zip(actual).is_some_and(|(expected, actual)| self.nearness.holds(expected, actual))
    }

    fn differ(&mut self, value: &Value, expected: String, actual: String) {
        self.differences.push(Difference { at: self.at.clone(), expected, actual, value: Some(value.clone()) });
    }
}

fn shown(text: String) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(test: Value, hidden: &Credentials, status: u16, body: &[u8]) -> Outcome {
        let manifest: Manifest =
            serde_json::from_value(json!({ "name": "x", "service": {}, "tests": [test] })).unwrap();
        let example = Example::of(&manifest).next().unwrap();
        let reply = Reply { status, content_type: None, body: body.to_vec(), location: None, request_id: None };
        Outcome::new(example, hidden, 0.0, Ok(reply))
    }

    fn differences(expected: Value, actual: Value) -> Vec<String> {
        let outcome =
            outcome(json!({ "expect": expected }), &Credentials::default(), 200, actual.to_string().as_bytes());
        outcome.differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_answer_in_parts_is_compared_as_a_list() {
        let lines = Some("application/x-ndjson");
        assert_eq!(together(lines, b"1\n\"a\"\n{\"b\":[2]}\n".to_vec()), br#"[1,"a",{"b":[2]}]"#);
        assert_eq!(together(lines, Vec::new()), b"[]");
        // What is none stays what it is.
        assert_eq!(together(lines, b"1\n{".to_vec()), b"1\n{");
        assert_eq!(together(Some("text/plain"), b"1\n2\n".to_vec()), b"1\n2\n");
    }

    #[test]
    fn answers_are_compared_as_a_person_would() {
        assert!(differences(json!([0, 1.0]), json!([0, 1.000_000_1])).is_empty());
        assert!(differences(json!({"a": 1}), json!({"a": 1, "b": 2})).is_empty());
        assert_eq!(differences(json!([0]), json!([1])), ["/0: expected 0, got 1"]);
        assert_eq!(differences(json!([0]), json!([0, 1])), ["answer: expected 1 item, got 2 items"]);
        assert_eq!(differences(json!({"a/b": 1}), json!({})), ["/a~1b: expected 1, got nothing"]);
        assert_eq!(differences(json!("x"), json!(null)), ["answer: expected \"x\", got null"]);
    }

    #[test]
    fn a_wrong_status_shows_the_body() {
        let outcome = outcome(json!({ "status": 422 }), &Credentials::default(), 500, b"oops");
        assert_eq!(outcome.differences[0].to_string(), "status: expected 422, got 500");
        assert_eq!(outcome.body.as_ref().unwrap().text(80), "oops");
        assert!(outcome.is_broken());
    }

    #[test]
    fn a_test_that_expects_nothing_is_answered() {
        let verdict = |test: Value, status: u16| outcome(test, &Credentials::default(), status, b"[0]").verdict;
        assert_eq!(verdict(json!({}), 200), Verdict::Answered);
        assert_eq!(verdict(json!({ "expect": null }), 200), Verdict::Answered);
        assert_eq!(verdict(json!({ "status": 200 }), 200), Verdict::AsExpected);
        assert_eq!(verdict(json!({ "expect": [0] }), 200), Verdict::AsExpected);
        assert_eq!(verdict(json!({}), 422), Verdict::Different);
    }

    #[test]
    fn only_what_differs_is_laid_side_by_side() {
        let answer = json!({ "label": "b", "more": [1], "score": 0.5, "z": 1 });
        let test = json!({ "expect": { "label": "a", "score": 0.5, "lost": 1 } });
        let outcome = outcome(test, &Credentials::default(), 200, answer.to_string().as_bytes());
        let lines = outcome.diff(20);
        let (same, expected, actual) = (
            |text: &str| DiffLine::Same(text.to_owned()),
            |text: &str| DiffLine::Expected(text.to_owned()),
            |text: &str| DiffLine::Actual(text.to_owned()),
        );
        assert_eq!(
            lines,
            [
                same("{"),
                expected("  \"label\": \"a\","),
                expected("  \"lost\": 1,"),
                actual("  \"label\": \"b\","),
                same("  \"more\": [1],"),
                same("  \"score\": 0.5,"),
                DiffLine::LeftOut(2),
            ]
        );
    }

    #[test]
    fn a_service_that_repeats_a_credential_does_not_show_it() {
        let hidden = Credentials::parse(["TOKEN=a\"secret"], |_| None).unwrap();
        for (status, body) in [(200, r#"{"token": "a\"secret"}"#), (500, "no a\"secret"), (200, "a\"secret")] {
            let outcome = outcome(json!({ "expect": { "token": 1 } }), &hidden, status, body.as_bytes());
            let told = serde_json::to_string(&outcome).unwrap();
            assert!(!told.contains("secret") && told.contains("***"), "{told}");
            assert!(outcome.answer().is_none() || !outcome.is_shown_whole());
        }
    }
}
