//! The flags of an instruction, `--name=value`, and the words after them.

use std::ops::Range;

use super::word::Escape;

/// A flag as it was written, its quotes and escapes gone.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without the dashes.
    pub name: String,
    /// None where there is no `=`.
    pub value: Option<String>,
    /// Where it stands in the line.
    pub span: Range<usize>,
    /// Where its value does.
    pub value_span: Range<usize>,
}

/// A line cut into the name of its instruction, the flags, and the rest.
#[derive(Debug)]
pub(super) struct Parts {
    /// The name of the instruction.
    pub name: Range<usize>,
    /// The flags, in their order.
    pub flags: Vec<Flag>,
    /// The rest, without spaces around it.
    pub rest: Range<usize>,
}

/// The spaces that words of a line are divided by.
pub(super) fn is_space(letter: char) -> bool {
    matches!(letter, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// A part of a text without spaces around it.
pub(super) fn trimmed(text: &str, part: Range<usize>) -> Range<usize> {
    let inner = text.get(part.clone()).unwrap_or_default();
    let start = part.start + (inner.len() - inner.trim_start().len());
    start..start + inner.trim().len()
}

/// Cuts the part `line` of a text.
pub(super) fn cut(text: &str, line: Range<usize>, escape: Escape) -> Parts {
    let line = trimmed(text, line);
    let inner = text.get(line.clone()).unwrap_or_default();
    let Some(end) = inner.find(is_space) else {
        return Parts { name: line.clone(), flags: Vec::new(), rest: line.end..line.end };
    };
    let name = line.start..line.start + end;
    let (flags, rest) = flags(text, name.end..line.end, escape.character());
    Parts { name, flags, rest: trimmed(text, rest) }
}

fn flags(text: &str, part: Range<usize>, escape: char) -> (Vec<Flag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = part.start;
    loop {
        let rest = text.get(at..part.end).unwrap_or_default();
        at += rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, at..part.end);
        }
        let (length, flag) = flag(rest, at, escape);
        at += length;
        match flag {
            // What comes after it is none, whatever it begins with.
            Some(flag) if flag.name.is_empty() && flag.value.is_none() => return (flags, at..part.end),
            flag => flags.extend(flag),
        }
    }
}

/// The flag that a text begins with, and its length as it was written.
fn flag(text: &str, start: usize, escape: char) -> (usize, Option<Flag>) {
    let mut plain = String::new();
    let mut equals = None;
    let mut quote = None;
    let mut letters = text.char_indices();
    let mut length = text.len();
    while let Some((at, letter)) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                length = at;
                break;
            }
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ if letter == escape => plain.extend(letters.next().map(|(_, letter)| letter)),
            _ => {
                if letter == '=' && equals.is_none() {
                    equals = Some((plain.len(), at + 1));
                }
                plain.push(letter);
            }
        }
    }
    let span = start..start + length;
    let flag = match equals {
        Some((equals, value)) => Flag {
            name: plain.get(2..equals).unwrap_or_default().to_owned(),
            value: Some(plain.get(equals + 1..).unwrap_or_default().to_owned()),
            value_span: start + value..span.end,
            span,
        },
        None => Flag {
            name: plain.get(2..).unwrap_or_default().to_owned(),
            value: None,
            value_span: span.end..span.end,
            span,
        },
    };
    (length, Some(flag))
}

/// The words of a part, divided by spaces whatever stands around them.
pub(super) fn plain_words(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let inner = text.get(part.clone()).unwrap_or_default();
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in inner.char_indices() {
        match (is_space(letter), start) {
            (true, Some(from)) => {
                words.push(part.start + from..part.start + at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| part.start + from..part.end));
    words
}

/// The words of a part, with the quotes that hold them together, and escapes.
pub(super) fn quoted_words(text: &str, part: Range<usize>, escape: Escape) -> Vec<Range<usize>> {
    let escape = escape.character();
    let inner = text.get(part.clone()).unwrap_or_default();
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = part.end;
    let mut letters = inner.char_indices();
    while let Some((at, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            words.extend(start.take().map(|from: usize| part.start + from..part.start + at));
            continue;
        }
        start.get_or_insert(at);
        // Nothing is escaped between single quotes.
        if letter == escape && quote != Some('\'') {
            if letters.next().is_none() {
                end = part.start + at;
            }
        } else if quote == Some(letter) {
            quote = None;
        } else if quote.is_none() && matches!(letter, '\'' | '"') {
            quote = Some(letter);
        }
    }
    words.extend(start.map(|from| part.start + from..end).filter(|word| !word.is_empty()));
    words
}

/// What a part is that may be a list of JSON.
#[derive(Debug)]
pub(super) enum List {
    /// It is none.
    None,
    /// Texts, and where they stand.
    Texts(Vec<(String, Range<usize>)>),
    /// It holds something else than texts.
    Other,
}

/// Reads a list of JSON.
pub(super) fn list(text: &str, part: Range<usize>) -> List {
    let part = trimmed(text, part);
    let inner = text.get(part.clone()).unwrap_or_default();
    if !inner.starts_with('[') {
        return List::None;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(inner) else { return List::None };
    let mut texts = Vec::new();
    let mut at = 0;
    for value in values {
        let serde_json::Value::String(value) = value else { return List::Other };
        // Nothing but texts came before it: so the next quote begins it.
        let start = at + inner.get(at..).and_then(|rest| rest.find('"')).unwrap_or_default();
        let mut end = start + 1;
        let mut bytes = inner.bytes().skip(end);
        while let Some(byte) = bytes.next() {
            end += 1;
            match byte {
                b'"' => break,
                b'\\' => end += usize::from(bytes.next().is_some()),
                _ => {}
            }
        }
        at = end;
        texts.push((value, part.start + start..part.start + end));
    }
    List::Texts(texts)
}
