//! Texts that stand in the Dockerfile itself: `<<NAME` in an instruction, and the lines below it up to one that is NAME.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::word::{Escapes, ExpansionError, Quotes, Variables, expand_content, missing_in_content, words};

/// A text that was written below its instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// What ends it, and what the file is called that `COPY` makes of it.
    pub name: String,
    /// The descriptor that a shell would open it as: the `3` of `3<<NAME`.
    pub descriptor: Option<u32>,
    /// Whether variables in it are replaced by `COPY` and `ADD`: its name is not quoted.
    pub expands: bool,
    /// Whether tabs at the beginning of its lines go: it is written `<<-NAME`.
    pub strips_tabs: bool,
    /// The lines as they stand in the file, with the ends that they have there.
    pub raw: Arc<str>,
    /// Where its lines stand, in bytes of the file.
    pub span: Range<usize>,
}

impl Heredoc {
    /// The text, without tabs at the beginning of its lines where these go.
    pub fn content(&self) -> Cow<'_, str> {
        match self.strips_tabs {
            true => self.raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
            false => Cow::Borrowed(&self.raw),
        }
    }

    /// The text with the values of variables, where it is one in which they are replaced.
    ///
    /// # Errors
    /// When `${` is not closed, or a variable that has to be set is not.
    pub fn expand(&self, variables: &Variables<'_>) -> Result<String, ExpansionError> {
        match self.expands {
            true => expand_content(&self.content(), variables),
            false => Ok(self.content().into_owned()),
        }
    }

    /// The variables in it that would be replaced and have no value, and nothing that stands in for one.
    pub fn missing(&self, variables: &Variables<'_>) -> Vec<String> {
        if self.expands { missing_in_content(&self.content(), variables) } else { Vec::new() }
    }

    /// What a word begins: none where it is not `<<NAME`. Its lines are still to be read.
    pub(super) fn begun_by(word: &str) -> Option<Self> {
        let (descriptor, rest) = word.split_once("<<")?;
        if !descriptor.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let (strips_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let [name] = <[String; 1]>::try_from(words(rest, Quotes::Removed).ok()?).ok()?;
        // With quotes around it, or a part of it, variables in the text are left alone.
        let [raw] = <[String; 1]>::try_from(words(rest, Quotes::Kept(Escapes::Removed)).ok()?).ok()?;
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        let expands = quotes(&name) == quotes(&raw);
        Some(Self { expands, name, descriptor: descriptor.parse().ok(), strips_tabs, raw: Arc::default(), span: 0..0 })
    }

    /// All that a line begins. None where its quotes are not in order: it is for a shell to say so.
    pub(super) fn all_begun_by(line: &str) -> Vec<Self> {
        let words = words(line, Quotes::Kept(Escapes::Kept)).unwrap_or_default();
        words.iter().filter_map(|word| Self::begun_by(word)).collect()
    }

    /// Whether a line, without its end, is the end of the text.
    pub(super) fn is_ended_by(&self, line: &str) -> bool {
        let line = if self.strips_tabs { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}
