//! What a service says while it is asked: line by line, each with the request that it belongs to.
//!
//! Ekiben's own service marks what it logs with the id of the request. What has no mark, as all that another server says,
//! belongs to the request that was asked when it was read.

use std::collections::VecDeque;

use serde_json::Value;

use super::request_id::RequestId;
use super::traceback::{Detail, Extent, folded, is_dump};

/// What a service has said, as far back as it is kept.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: VecDeque<Line>,
    /// Bytes in them.
    size: usize,
    /// The beginning of a line.
    open: Vec<u8>,
    /// The ids of the requests that were asked.
    asked: Vec<String>,
    is_under_way: bool,
}

#[derive(Debug)]
struct Line {
    text: String,
    /// The id of its request.
    of: Option<String>,
}

/// Bytes that are kept of what a service says: what it said last.
const MOST: usize = 4 << 20;

impl Transcript {
    /// From now on, what has no mark belongs to the request `id`.
    pub fn ask(&mut self, id: &RequestId) {
        self.asked.push(id.as_str().to_owned());
        self.is_under_way = true;
    }

    /// From now on, what has no mark belongs to no request.
    pub fn finish(&mut self) {
        self.is_under_way = false;
    }

    /// Takes what the service said next.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.open.len() > MOST / 4 {
                self.close();
            }
        }
    }

    /// The service says no more: what it said last is a line, even without an end.
    pub fn end(&mut self) {
        if !self.open.is_empty() {
            self.close();
        }
    }

    fn close(&mut self) {
        let text = String::from_utf8_lossy(&self.open).trim_end_matches(['\n', '\r']).to_owned();
        self.open.clear();
        let marked = entry(&text).and_then(|entry| Some(entry.get("request_id")?.as_str()?.to_owned()));
        let named = || self.asked.iter().rev().find(|id| text.contains(id.as_str()));
        let under_way = || self.asked.last().filter(|_| self.is_under_way);
        let of = marked.or_else(|| named().or_else(under_way).cloned());
        self.size += text.len();
        self.lines.push_back(Line { text, of });
        while self.size > MOST
            && let Some(line) = self.lines.pop_front()
        {
            self.size -= line.text.len();
        }
    }

    /// The lines that belong to a request that is known by any of `ids`.
    pub fn of(&self, ids: &[&str]) -> Vec<String> {
        let is_of = |line: &&Line| line.of.as_deref().is_some_and(|id| ids.contains(&id));
        self.lines.iter().filter(is_of).map(|line| line.text.clone()).collect()
    }

    /// Whether Ekiben's own service has said all that it says of a request.
    pub fn is_done(&self, id: &RequestId) -> bool {
        let is_last = |line: &Line| line.of.as_deref() == Some(id.as_str()) && is_access(&line.text);
        self.lines.iter().rev().any(is_last)
    }

    /// Whether a process has said where it is.
    pub fn has_dump(&self) -> bool {
        self.lines.iter().any(|line| is_dump(&line.text))
    }

    /// All lines that are kept, or the last `most`.
    pub fn last(&self, most: usize) -> Vec<String> {
        let skipped = self.lines.len().saturating_sub(most);
        self.lines.iter().skip(skipped).map(|line| line.text.clone()).collect()
    }
}

/// A line of Ekiben's own service, as it logs.
fn entry(line: &str) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_str(line) {
        Ok(Value::Object(entry)) => Some(entry),
        _ => None,
    }
}

/// Whether the line says of a request no more than how it was answered.
fn is_access(line: &str) -> bool {
    entry(line).is_some_and(|entry| entry.get("message") == Some(&"answered".into()) && entry.contains_key("status"))
}

/// The lines of a failed request without the one that says how it was answered.
pub fn without_access(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !is_access(line)).collect()
}

/// Lines of a service's log for a person: message and exception of those of Ekiben's own service, the others as they are.
pub fn readable(lines: &[&str], detail: Detail) -> Vec<String> {
    let mut shown = Vec::new();
    let mut plain: Vec<&str> = Vec::new();
    let flush = |plain: &mut Vec<&str>, shown: &mut Vec<String>| match detail {
        Detail::Folded => shown.extend(folded(&std::mem::take(plain), Extent::Line)),
        Detail::Whole => shown.extend(std::mem::take(plain).into_iter().map(str::to_owned)),
    };
    for line in lines {
        let entry = entry(line).unwrap_or_default();
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let (Some(level), Some(message)) = (text("level"), text("message")) else {
            plain.push(line);
            continue;
        };
        flush(&mut plain, &mut shown);
        let request = || Some((text("method")?, text("path")?, entry.get("status")?));
        match request().filter(|_| message == "answered") {
            Some((method, path, status)) => shown.push(format!("{level}: {method} {path} answered {status}")),
            None => shown.push(format!("{level}: {message}")),
        }
        let exception: Vec<&str> = text("exception").unwrap_or_default().lines().collect();
        match detail {
            Detail::Folded => shown.extend(folded(&exception, Extent::Text)),
            Detail::Whole => shown.extend(exception.into_iter().map(str::to_owned)),
        }
    }
    flush(&mut plain, &mut shown);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_belongs_to_its_request() {
        let (one, two) = (RequestId::random(), RequestId::random());
        let mut transcript = Transcript::default();
        transcript.take(b"at the start\n");
        transcript.ask(&one);
        transcript.take(b"printed\n{\"message\": \"x\", ");
        transcript.take(format!("\"request_id\": \"{}\"}}\n", one.as_str()).as_bytes());
        assert!(!transcript.is_done(&one));
        transcript.ask(&two);
        let answered =
            format!("{{\"message\": \"answered\", \"status\": 500, \"request_id\": \"{}\"}}\n", one.as_str());
        transcript.take(answered.as_bytes());
        transcript.take(format!("late: {}\nother\n{{\"request_id\": \"theirs\"}}\nthat is", one.as_str()).as_bytes());
        transcript.finish();
        transcript.take(b" at all\nshutting down\nno end");
        transcript.end();
        assert!(transcript.is_done(&one) && !transcript.is_done(&two));
        let first = transcript.of(&[one.as_str()]);
        assert_eq!((first.len(), first[0].as_str(), without_access(&first).len()), (4, "printed", 3), "{first:?}");
        assert_eq!(transcript.of(&[two.as_str()]), ["other"]);
        assert_eq!(transcript.of(&[two.as_str(), "theirs"]).len(), 2);
        assert_eq!(transcript.last(1), ["no end"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut transcript = Transcript::default();
        for _ in 0..100 {
            transcript.take(&[b'x'; 1 << 17]);
        }
        transcript.take(b"last\n");
        assert!(transcript.size <= MOST && transcript.last(1)[0].ends_with("last"));
    }
}
