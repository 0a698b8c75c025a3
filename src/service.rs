//! Talking to a model's service: waiting until it is ready, asking it, and comparing its answers.

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::manifest::Test;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The time is up.
    #[error("the service did not become ready within {} s: {last}", waited.as_secs())]
    NotReady {
        /// How long it had.
        waited: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// The container ended.
    #[error("the service ended with exit code {code} before it was ready")]
    Ended {
        /// Its exit code.
        code: i32,
    },
    /// No connection to it could be set up.
    #[error("{url} could not be asked")]
    Transport {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
}

impl Error {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { .. } => Some("its log says what it waits for; `--timeout` gives it longer".to_owned()),
            Self::Ended { .. } => Some("its log above says why".to_owned()),
            Self::Transport { .. } => None,
        }
    }
}

/// Largest answer that is looked at, in bytes.
const LARGEST_ANSWER: u64 = 64 << 20;

/// A service that listens on this machine.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    client: reqwest::blocking::Client,
}

/// How an example request went.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The name of the example.
    pub name: String,
    /// How long the answer took, in seconds.
    pub seconds: f64,
    /// The status that came back; none where nothing did.
    pub status: Option<u16>,
    /// In what the answer differs from the one expected; empty when it does not.
    pub differences: Vec<Difference>,
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
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { "answer" } else { &self.at };
        write!(f, "{at}: expected {}, got {}", self.expected, self.actual)
    }
}

impl Service {
    /// The service at `address`. Proxies of the environment are not used: it is on this machine.
    ///
    /// # Errors
    /// When no client can be set up.
    pub fn new(address: SocketAddr) -> Result<Self, Error> {
        crate::fetch::install_tls();
        let client = reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build();
        let client = client.map_err(|source| Error::Transport { url: format!("http://{address}"), source })?;
        Ok(Self { address, client })
    }

    /// Where it is, for a person.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `path` answers with a status of 2xx; `ended` tells the exit code if the container has ended.
    ///
    /// # Errors
    /// [`Error::Ended`] when it ends, [`Error::NotReady`] when the time is up.
    pub fn wait_ready(
        &self,
        path: &str,
        timeout: Duration,
        mut ended: impl FnMut() -> Option<i32>,
    ) -> Result<Duration, Error> {
        let started = Instant::now();
        let url = format!("{}{path}", self.url());
        loop {
            let last = match self.client.get(&url).timeout(Duration::from_secs(5)).send() {
                Ok(response) if response.status().is_success() => return Ok(started.elapsed()),
                Ok(response) => format!("{path} answered {}", response.status()),
                Err(_) => "it does not listen yet".to_owned(),
            };
            if let Some(code) = ended() {
                return Err(Error::Ended { code });
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(Error::NotReady { waited, last });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks an example request and compares the answer.
    pub fn ask(&self, test: &Test) -> Outcome {
        let started = Instant::now();
        let url = format!("{}{}", self.url(), test.path);
        let request = match &test.request {
            Some(body) => self.client.post(&url).json(body),
            None => self.client.get(&url),
        };
        let answer = request.send().map(|response| {
            let status = response.status().as_u16();
            let mut body = Vec::new();
            // A body that breaks off compares as what it is: not the one expected.
            let _ = response.take(LARGEST_ANSWER).read_to_end(&mut body);
            (status, body)
        });
        let seconds = started.elapsed().as_secs_f64();
        let (status, differences) = match answer {
            Ok((status, body)) => (Some(status), compare(test, status, &body)),
            Err(error) => {
                let actual = error.without_url().to_string();
                (None, vec![Difference { at: "status".to_owned(), expected: test.status.to_string(), actual }])
            }
        };
        Outcome { name: test.name.clone(), seconds, status, differences }
    }
}

fn compare(test: &Test, status: u16, body: &[u8]) -> Vec<Difference> {
    let mut differences = Vec::new();
    if status != test.status {
        let shown: String = String::from_utf8_lossy(body).chars().take(300).collect();
        let actual = if shown.is_empty() { status.to_string() } else { format!("{status} with {shown}") };
        differences.push(Difference { at: "status".to_owned(), expected: test.status.to_string(), actual });
        return differences;
    }
    if let Some(expected) = &test.expect {
        match serde_json::from_slice(body) {
            Ok(actual) => compare_values(expected, &actual, test.tolerance, &mut String::new(), &mut differences),
            Err(_) => differences.push(Difference {
                at: String::new(),
                expected: expected.to_string(),
                actual: format!("no JSON: {}", String::from_utf8_lossy(body).chars().take(300).collect::<String>()),
            }),
        }
    }
    differences
}

/// Objects may hold more than was expected, lists may not; numbers may be off by `tolerance`.
fn compare_values(expected: &Value, actual: &Value, tolerance: f64, at: &mut String, out: &mut Vec<Difference>) {
    let length = at.len();
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                match actual.get(key) {
                    Some(actual) => compare_values(value, actual, tolerance, at, out),
                    None => out.push(difference(at, value.to_string(), "nothing".to_owned())),
                }
                at.truncate(length);
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                at.push_str(&format!("/{index}"));
                compare_values(expected, actual, tolerance, at, out);
                at.truncate(length);
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            out.push(difference(at, format!("{} items", expected.len()), format!("{} items", actual.len())));
        }
        (Value::Number(expected), Value::Number(actual)) if near(expected.as_f64(), actual.as_f64(), tolerance) => {}
        (expected, actual) if expected == actual => {}
        (expected, actual) => out.push(difference(at, shown(expected), shown(actual))),
    }
}

fn near(expected: Option<f64>, actual: Option<f64>, tolerance: f64) -> bool {
    let (Some(expected), Some(actual)) = (expected, actual) else { return false };
    (expected - actual).abs() <= tolerance * expected.abs().max(1.0)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn difference(at: &str, expected: String, actual: String) -> Difference {
    Difference { at: at.to_owned(), expected, actual }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(expected: Value, actual: Value) -> Vec<String> {
        let mut out = Vec::new();
        compare_values(&expected, &actual, 1e-6, &mut String::new(), &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn answers_are_compared_as_a_person_would() {
        assert!(differences(json!([0, 1.0]), json!([0, 1.000_000_1])).is_empty());
        assert!(differences(json!({"a": 1}), json!({"a": 1, "b": 2})).is_empty());
        assert_eq!(differences(json!([0]), json!([1])), ["/0: expected 0, got 1"]);
        assert_eq!(differences(json!([0]), json!([0, 1])), ["answer: expected 1 items, got 2 items"]);
        assert_eq!(differences(json!({"a/b": 1}), json!({})), ["/a~1b: expected 1, got nothing"]);
        assert_eq!(differences(json!("x"), json!(null)), ["answer: expected \"x\", got null"]);
    }

    #[test]
    fn a_wrong_status_shows_the_body() {
        let test: Test = serde_json::from_value(json!({"name": "t", "status": 422})).unwrap();
        let differences = compare(&test, 500, b"oops");
        assert_eq!(differences[0].to_string(), "status: expected 422, got 500 with oops");
    }
}
