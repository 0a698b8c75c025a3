//! fastText's models (`FastText::saveModel`, version 12): a magic number, arguments, a dictionary of words and labels, then
//! the matrices, of which nothing is read.

use super::About;
use super::feed::{Feed, Stop};

/// Words and labels that are gone through.
const MOST_ENTRIES: u64 = 4_000_000;

/// Labels that are remembered.
const MOST_LABELS: usize = 10_000;

/// What such a label begins with, which is no part of its name.
const LABEL: &str = "__label__";

/// Whether it is this format that begins with `head`.
pub fn recognise(head: &[u8]) -> bool {
    // 793712314, then the version.
    head.starts_with(&[0xba, 0x16, 0x4f, 0x2f]) && matches!(head.get(4..8), Some([1..=12, 0, 0, 0]))
}

/// Reads what comes before the matrices.
pub fn read(feed: &mut Feed<'_>, size: u64, about: &mut About) -> Result<(), Stop> {
    feed.skip(4)?;
    about.version = Some(feed.number(4)?.to_string());
    let mut arguments = [0; 12];
    for argument in &mut arguments {
        *argument = feed.number(4)?;
    }
    let [width, _, epochs, _, _, words, loss, kind, ..] = arguments;
    feed.skip(8)?;
    let (entries, known, labels) = (feed.number(4)?, feed.number(4)?, feed.number(4)?);
    feed.skip(16)?;
    if known.checked_add(labels) != Some(entries) || entries > size {
        return Err(Stop::Malformed("its words and labels are not as many as it says".to_owned()));
    }
    let kind = match kind {
        1 => "cbow",
        2 => "skipgram",
        3 => "supervised",
        _ => return Err(Stop::Malformed("it is of no kind that there is".to_owned())),
    };
    let loss = ["", "hs", "ns", "softmax", "ova"].get(loss as usize).copied().unwrap_or_default();
    about.class = Some(format!("fastText ({kind})"));
    let said = [("model", kind.to_owned()), ("loss", loss.to_owned()), ("dim", width.to_string())];
    let more = [("wordNgrams", words.to_string()), ("epoch", epochs.to_string()), ("words", known.to_string())];
    about.properties.extend(said.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)));
    if kind != "supervised" {
        return Ok(());
    }
    about.classes = Some(labels);
    // Labels may stand among the words; more of both than this are not looked at.
    for _ in 0..entries.min(MOST_ENTRIES) {
        let mut word = Vec::new();
        loop {
            match feed.byte()? {
                0 => break,
                byte if word.len() < 1024 => word.push(byte),
                _ => {}
            }
        }
        feed.skip(8)?;
        if feed.byte()? == 1 && about.labels.len() < MOST_LABELS {
            let word = String::from_utf8_lossy(&word);
            about.labels.push(word.strip_prefix(LABEL).unwrap_or(&word).into());
        }
    }
    Ok(())
}
