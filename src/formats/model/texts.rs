//! Models of texts and series that say by their first bytes what they are: vectors in the format of word2vec,
//! tokenizers, and prophet's JSON.

use std::io;

use serde_json::{Value as Json, json};

use super::feed::Feed;
use super::outline::{self, Syntax};
use super::{Column, Format, Model, Origin};

/// What begins with `head`, if it is one of them.
pub fn recognise(head: &[u8]) -> Option<Format> {
    let text = String::from_utf8_lossy(head);
    let spaceless: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if spaceless.starts_with(r#"{"version":"1.0","truncation":"#) {
        Some(Format::Tokenizer)
    } else if spaceless.starts_with(r#"{"growth":"#) && spaceless.contains(r#""n_changepoints":"#) {
        Some(Format::Prophet)
    } else if vectors(head).is_some() {
        Some(Format::WordVectors)
    } else {
        None
    }
}

/// The first word of vectors in the format of word2vec, and whether the numbers are binary: a line with how many words and
/// how many numbers each, then word after word.
fn vectors(head: &[u8]) -> Option<(String, bool)> {
    let line = head.iter().position(|byte| *byte == b'\n').filter(|end| *end < 40)?;
    let (line, rest) = (head.get(..line)?, head.get(line + 1..)?);
    let counts: Vec<u64> = std::str::from_utf8(line)
        .ok()?
        .trim_end_matches('\r')
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let &[1..=u64::MAX, width @ 1..=100_000] = counts.as_slice() else { return None };
    let end = rest.iter().position(|byte| *byte == b' ').filter(|end| *end > 0)?;
    let (word, rest) = (std::str::from_utf8(rest.get(..end)?).ok()?, rest.get(end + 1..)?);
    if word.contains(char::is_control) {
        return None;
    }
    // All but the last of what is there are whole.
    let texts: Vec<&[u8]> = rest.split(|byte| matches!(byte, b' ' | b'\n')).take(width as usize).collect();
    let whole = texts.split_last().map(|(_, whole)| whole).unwrap_or_default();
    let is_number = |text: &&[u8]| std::str::from_utf8(text).is_ok_and(|text| text.trim_end().parse::<f64>().is_ok());
    if !whole.is_empty() && whole.iter().all(is_number) {
        return Some((word.to_owned(), false));
    }
    // Numbers of four bytes, none of which is beyond what vectors have.
    let mut numbers = rest.chunks_exact(4).take(width as usize).map(|bytes| {
        let bytes: [u8; 4] = bytes.try_into().unwrap_or_default();
        f32::from_le_bytes(bytes)
    });
    let is_usual = numbers.len() > 0 && numbers.all(|number| number == 0.0 || (1e-20..1e6).contains(&number.abs()));
    is_usual.then(|| (word.to_owned(), true))
}

/// Reads what is of a format that [`recognise`] gave.
///
/// # Errors
/// When the disk says no.
pub fn inspect(origin: &Origin<'_>, head: &[u8], format: Format) -> io::Result<Model> {
    let mut model = Model::of(format);
    match format {
        Format::WordVectors => {
            let (word, is_binary) = vectors(head).unwrap_or_default();
            model.about.labels = vec![word.into()];
            let kind = if is_binary { "binary" } else { "text" };
            model.about.properties.insert("format".to_owned(), kind.to_owned());
        }
        Format::Tokenizer => {
            let wanted = |name: &str| matches!(name, "version" | "model" | "type");
            let document = outline::read(&mut origin.feed()?, Syntax::Json, &wanted);
            let kind = document.root.pointer("/model/type").and_then(Json::as_str);
            model.about.class = kind.map(str::to_owned);
            model.note(0, document.stop.map_or(Ok(()), Err));
        }
        _ => prophet(&mut origin.feed()?, &mut model),
    }
    Ok(model)
}

/// Notes what a model of prophet's takes: days, what it cannot grow beyond, and regressors.
fn prophet(feed: &mut Feed<'_>, model: &mut Model) {
    let wanted = |name: &str| matches!(name, "growth" | "extra_regressors" | "history_dates" | "__prophet_version");
    let document = outline::read(feed, Syntax::Json, &wanted);
    let text = |name: &str| document.root.get(name).and_then(Json::as_str);
    model.about.version = text("__prophet_version").map(str::to_owned);
    let column =
        |name: &str, example: Json| Column { name: Some(name.to_owned()), example: Some(example), ..Column::default() };
    model.about.columns.push(column("ds", json!("2030-01-01")));
    if text("growth") == Some("logistic") {
        model.about.columns.push(column("cap", json!(1.0)));
    }
    // An ordered dictionary: its keys, and the values by them.
    let regressors = document.root.pointer("/extra_regressors/0").and_then(Json::as_array);
    let names = regressors.into_iter().flatten().filter_map(Json::as_str);
    model.about.columns.extend(names.map(|name| column(name, json!(0.0))));
    model.note(0, document.stop.map_or(Ok(()), Err));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let binary = [&b"24 3\nthe "[..], &[0.25_f32, -0.5, 1e-4].map(f32::to_le_bytes).concat()].concat();
        for (head, format) in [
            (binary.clone(), Some(Format::WordVectors)),
            (b"24 3\nthe 0.25 -0.5 1e-4\nof 0.1 0.2 0.3\n".to_vec(), Some(Format::WordVectors)),
            (b"24 3\nthe quick brown fox jumps over\n".to_vec(), None),
            (b"24 0\nthe 1 2".to_vec(), None),
            (b"{\n \"version\": \"1.0\",\n \"truncation\": null".to_vec(), Some(Format::Tokenizer)),
            (b"{\"growth\": \"linear\", \"n_changepoints\": 25".to_vec(), Some(Format::Prophet)),
            (b"{\"version\": \"1.0\"}".to_vec(), None),
            (b"".to_vec(), None),
        ] {
            assert_eq!(recognise(&head), format, "{}", String::from_utf8_lossy(&head));
        }
        assert_eq!(vectors(&binary), Some(("the".to_owned(), true)));
        assert_eq!(vectors(b"24 3\nthe 0.25 -0.5 1e-4\nof"), Some(("the".to_owned(), false)));
    }

    #[test]
    fn prophet_says_what_it_takes() {
        let text = br#"{"growth": "logistic", "n_changepoints": 25, "history": "{}",
            "extra_regressors": [["price", "rain"], {"price": {}}], "__prophet_version": "1.1.6"}"#;
        let open = || Ok(Box::new(&text[..]) as Box<dyn io::Read + Send>);
        let model = inspect(&Origin::Stream(&open), text, Format::Prophet).unwrap();
        let names: Vec<&str> = model.about.columns.iter().filter_map(|column| column.name.as_deref()).collect();
        assert_eq!((names, model.about.version.as_deref()), (vec!["ds", "cap", "price", "rain"], Some("1.1.6")));
        assert!(model.faults.is_empty(), "{:?}", model.faults);
    }
}
