//! A word of a Dockerfile as it was written, and what it becomes when its variables are known.
//!
//! The rules are those of BuildKit's `frontend/dockerfile/shell`: quotes as in a shell, `$x` and `${x}` with the
//! modifiers `:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/` and `//`. Invariants: what a word becomes is at
//! most [`MOST`] bytes, however often a variable is in itself, and `${…}` within `${…}` is at most [`DEEPEST`] deep.

use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Bytes that a word may become: a variable that is made of itself twice doubles with each line.
const MOST: usize = 1 << 20;

/// Levels of `${…}` within `${…}`.
const DEEPEST: usize = 64;

/// What variables have as their values; none where one is not set.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The character that takes its meaning from the next one, and at the end of a line continues it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``, for paths of Windows.
    Backtick,
}

impl Escape {
    /// The character.
    pub fn character(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// A word as it was written: with its quotes, escapes and variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    text: String,
    span: Range<usize>,
    escape: Escape,
}

/// Why a word cannot become anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpansionError {
    /// A quote is not closed.
    #[error("the quote {0} is not closed")]
    Unclosed(char),
    /// `${` is not closed.
    #[error("`${{` is not closed: `}}` is missing")]
    NoBrace,
    /// `${x/a` has no second `/`.
    #[error("`${{{0}/…` needs a second `/`, before what is put in its place")]
    NoSlash(String),
    /// `${` is followed by no name.
    #[error("`${{` is followed by no name of a variable")]
    NoName,
    /// Something after the name that has no meaning.
    #[error("`{0}` means nothing after the name of a variable in `${{…}}`")]
    Modifier(String),
    /// `${x:?…}` of a variable that has no value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the person wrote about it.
        message: String,
    },
    /// A pattern that cannot be one.
    #[error("`{0}` is no pattern: `\\` stands before `*`, `?`, `\\`, `/` or `}}`")]
    Pattern(String),
    /// Deeper than [`DEEPEST`].
    #[error("`${{…}}` is nested more than {DEEPEST} deep")]
    TooDeep,
    /// Longer than [`MOST`].
    #[error("the text becomes longer than 1 MiB")]
    TooLong,
}

impl Explain for ExpansionError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Required { .. } => ErrorKind::Invalid.named("dockerfile/variable-required"),
            Self::Unclosed(_)
            | Self::NoBrace
            | Self::NoSlash(_)
            | Self::NoName
            | Self::Modifier(_)
            | Self::Pattern(_)
            | Self::TooDeep
            | Self::TooLong => ErrorKind::Invalid.named("dockerfile/no-expansion"),
        }
    }
}

impl Word {
    pub(super) fn new(text: impl Into<String>, span: Range<usize>, escape: Escape) -> Self {
        Self { text: text.into(), span, escape }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it stands, in bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The text that it stands for: without quotes, and with the values of its variables. One that is not set is empty.
    ///
    /// # Errors
    /// When a quote or brace is not closed, or a variable that has to be set is not.
    pub fn expand(&self, variables: &Variables<'_>) -> Result<String, ExpansionError> {
        Ok(self.lexer(variables).until(None, false)?.0)
    }

    /// The same, split where spaces stand outside of quotes, also in values of variables.
    ///
    /// # Errors
    /// As [`Word::expand`].
    pub fn expand_to_words(&self, variables: &Variables<'_>) -> Result<Vec<String>, ExpansionError> {
        Ok(self.lexer(variables).until(None, false)?.1)
    }

    /// The variables in it that have no value, and nothing that stands in for one, in their order.
    pub fn missing(&self, variables: &Variables<'_>) -> Vec<String> {
        missing(self.lexer(variables))
    }

    fn lexer<'a>(&'a self, variables: &'a Variables<'a>) -> Lexer<'a> {
        Lexer::new(&self.text, self.escape, variables)
    }
}

/// A text in which variables are replaced and quotes are letters like others: the content of a heredoc.
pub(super) fn expand_content(text: &str, variables: &Variables<'_>) -> Result<String, ExpansionError> {
    let lexer = Lexer { quotes: Quotes::Letters, ..Lexer::new(text, Escape::Backslash, variables) };
    Ok({ lexer }.until(None, false)?.0)
}

/// The variables in such a text that have no value, and nothing that stands in for one.
pub(super) fn missing_in_content(text: &str, variables: &Variables<'_>) -> Vec<String> {
    missing(Lexer { quotes: Quotes::Letters, ..Lexer::new(text, Escape::Backslash, variables) })
}

fn missing(mut lexer: Lexer<'_>) -> Vec<String> {
    // Where it ends in a mistake, that is said elsewhere.
    drop(lexer.until(None, false));
    let mut names: Vec<String> = Vec::new();
    for name in lexer.missing {
        // Parameters of a shell are never set, and a Dockerfile has no use for them.
        if !names.contains(&name) && name.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            names.push(name);
        }
    }
    names
}

/// The words of a line in which nothing is replaced; with their quotes and escapes where `quotes` are kept.
pub(super) fn words(line: &str, quotes: Quotes) -> Result<Vec<String>, ExpansionError> {
    let lexer = Lexer { quotes, keeps_unset: true, ..Lexer::new(line, Escape::Backslash, &|_| None) };
    let keeps_escapes = quotes == Quotes::Kept(Escapes::Kept);
    Ok({ lexer }.until(None, keeps_escapes)?.1)
}

/// What becomes of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They go.
    Removed,
    /// They hold words together, and stay.
    Kept(Escapes),
    /// They are letters.
    Letters,
}

/// What becomes of characters that escape others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// They go.
    Removed,
    /// They stay.
    Kept,
}

struct Lexer<'a> {
    characters: Peekable<Chars<'a>>,
    escape: char,
    variables: &'a Variables<'a>,
    quotes: Quotes,
    /// Whether `$x` stays where x is not set.
    keeps_unset: bool,
    /// Whether what escapes stays, at this place.
    keeps_escapes: bool,
    depth: usize,
    /// Variables that were looked for in vain, where nothing stands in for them.
    missing: Vec<String>,
}

/// Words as they come together.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
    within: bool,
}

impl Words {
    /// A letter, which ends a word where it is a space.
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.raw(letter);
        } else if self.within && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.within = false;
        }
    }

    /// A letter of a word, whatever it is.
    fn raw(&mut self, letter: char) {
        self.word.push(letter);
        self.within = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: Escape, variables: &'a Variables<'a>) -> Self {
        Self {
            characters: text.chars().peekable(),
            escape: escape.character(),
            variables,
            quotes: Quotes::Removed,
            keeps_unset: false,
            keeps_escapes: false,
            depth: 0,
            missing: Vec::new(),
        }
    }

    /// All up to `stop`, which goes too, or the end: as one text, and as words.
    fn until(&mut self, stop: Option<char>, keeps_escapes: bool) -> Result<(String, Vec<String>), ExpansionError> {
        if self.depth > DEEPEST {
            return Err(ExpansionError::TooDeep);
        }
        self.depth += 1;
        let outside = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let result = self.pieces(stop);
        self.keeps_escapes = outside;
        self.depth -= 1;
        result
    }

    fn pieces(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpansionError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(letter) = self.characters.next() {
            if Some(letter) == stop {
                return Ok((text, words.finish()));
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| words.letter(letter));
                    text.push_str(&value);
                }
                '\'' | '"' if self.quotes != Quotes::Letters => {
                    let quoted = if letter == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.word.push_str(&quoted);
                    words.within = true;
                    text.push_str(&quoted);
                }
                '<' => {
                    let arrows = self.arrows();
                    words.word.push_str(&arrows);
                    words.within = true;
                    text.push_str(&arrows);
                }
                letter if letter == self.escape => {
                    if self.keeps_escapes {
                        words.raw(letter);
                        text.push(letter);
                    }
                    // At the end it means nothing, and goes.
                    let Some(letter) = self.characters.next() else { break };
                    words.raw(letter);
                    text.push(letter);
                }
                letter => {
                    words.letter(letter);
                    text.push(letter);
                }
            }
            if text.len() > MOST {
                return Err(ExpansionError::TooLong);
            }
        }
        match stop {
            Some('/') => Err(ExpansionError::NoSlash(String::new())),
            Some(_) => Err(ExpansionError::NoBrace),
            None => Ok((text, words.finish())),
        }
    }

    /// `<`, or `<<` with the spaces that a person may have written before the name of a heredoc.
    fn arrows(&mut self) -> String {
        let mut arrows = "<".to_owned();
        if let Some(second) = self.characters.next_if_eq(&'<') {
            arrows.push(second);
            while let Some(space) = self.characters.next_if(|letter| matches!(letter, '\t' | '\r' | ' ')) {
                arrows.push(space);
            }
        }
        arrows
    }

    fn keeps_quotes(&self) -> bool {
        matches!(self.quotes, Quotes::Kept(_))
    }

    fn single_quoted(&mut self) -> Result<String, ExpansionError> {
        let mut text = String::new();
        text.extend(self.keeps_quotes().then_some('\''));
        loop {
            match self.characters.next().ok_or(ExpansionError::Unclosed('\''))? {
                '\'' => break,
                letter => text.push(letter),
            }
        }
        text.extend(self.keeps_quotes().then_some('\''));
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<String, ExpansionError> {
        let mut text = String::new();
        text.extend(self.keeps_quotes().then_some('"'));
        loop {
            match self.characters.next().ok_or(ExpansionError::Unclosed('"'))? {
                '"' => break,
                '$' => text.push_str(&self.dollar()?),
                letter if letter == self.escape => {
                    text.extend(self.keeps_escapes.then_some(letter));
                    let escape = self.escape;
                    // Before any other letter it is one like others; at the end it goes.
                    match self.characters.next_if(|next| matches!(next, '"' | '$') || *next == escape) {
                        Some(escaped) => text.push(escaped),
                        None if self.characters.peek().is_none() => {}
                        None => text.push(letter),
                    }
                }
                letter => text.push(letter),
            }
            if text.len() > MOST {
                return Err(ExpansionError::TooLong);
            }
        }
        text.extend(self.keeps_quotes().then_some('"'));
        Ok(text)
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, ExpansionError> {
        if self.characters.next_if_eq(&'{').is_some() {
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match (self.variables)(&name) {
            Some(value) => value,
            None => {
                self.missing.push(name.clone());
                if self.keeps_unset { format!("${name}") } else { String::new() }
            }
        })
    }

    /// What follows `${`.
    fn braces(&mut self) -> Result<String, ExpansionError> {
        match self.characters.peek() {
            None => return Err(ExpansionError::NoBrace),
            Some('{' | '}' | ':') => return Err(ExpansionError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        let value = |this: &Self| (this.variables)(&name);
        let modifier = match self.characters.next() {
            Some('}') => {
                return Ok(match value(self) {
                    Some(value) => value,
                    None => {
                        self.missing.push(name.clone());
                        if self.keeps_unset { format!("${{{name}}}") } else { String::new() }
                    }
                });
            }
            Some('/') => return self.replacement(&name),
            Some(modifier) => modifier,
            None => return Err(ExpansionError::NoBrace),
        };
        // With a colon, what is empty counts as not set.
        let (modifier, colon) = match modifier {
            ':' => (self.characters.next().ok_or(ExpansionError::NoBrace)?, ":"),
            modifier => (modifier, ""),
        };
        let written = format!("{colon}{modifier}");
        let trims = matches!(modifier, '#' | '%');
        if !matches!(modifier, '-' | '+' | '?' | '#' | '%') || trims && !colon.is_empty() {
            return Err(ExpansionError::Modifier(written));
        }
        let (word, _) = self.until(Some('}'), trims)?;
        let value = value(self);
        if value.is_none() && trims {
            self.missing.push(name.clone());
        }
        if value.is_none() && self.keeps_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let is_set = value.as_ref().is_some_and(|value| colon.is_empty() || !value.is_empty());
        let given = value.unwrap_or_default();
        match modifier {
            '-' => Ok(if is_set { given } else { word }),
            '+' => Ok(if is_set { word } else { String::new() }),
            '?' if is_set => Ok(given),
            '?' => {
                let message = if word.is_empty() { "it has to have a value".to_owned() } else { word };
                Err(ExpansionError::Required { name, message })
            }
            '#' => trim_prefix(&word, given),
            _ => trim_suffix(&word, &given),
        }
    }

    /// What follows `${x/`.
    fn replacement(&mut self, name: &str) -> Result<String, ExpansionError> {
        let all = self.characters.next_if_eq(&'/').is_some();
        let named = |error| match error {
            ExpansionError::NoSlash(_) => ExpansionError::NoSlash(name.to_owned()),
            error => error,
        };
        let (pattern, _) = self.until(Some('/'), true).map_err(named)?;
        let (instead, _) = self.until(Some('}'), true)?;
        let Some(value) = (self.variables)(name) else {
            self.missing.push(name.to_owned());
            return Ok(if self.keeps_unset { format!("${{{name}/{pattern}/{instead}}}") } else { String::new() });
        };
        let expression = expression(&pattern, Greed::Longest, Anchor::Anywhere)?;
        let mut text = String::new();
        let mut done = 0;
        let most = if all { usize::MAX } else { 1 };
        for found in expression.find_iter(&value).take(most) {
            text.push_str(value.get(done..found.start()).unwrap_or_default());
            text.push_str(&instead);
            done = found.end();
            if text.len() > MOST {
                return Err(ExpansionError::TooLong);
            }
        }
        text.push_str(value.get(done..).unwrap_or_default());
        Ok(text)
    }

    /// Letters, digits and `_`; a number; or one of the parameters that a shell has, none of which is ever set.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.characters.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.characters.next_if(|letter| letter.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.characters.next()),
            _ => {
                while let Some(letter) = self.characters.next_if(|letter| letter.is_alphanumeric() || *letter == '_') {
                    name.push(letter);
                }
            }
        }
        name
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greed {
    Shortest,
    Longest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Anywhere,
}

/// A pattern with `*` and `?`, as an expression.
fn expression(pattern: &str, greed: Greed, anchor: Anchor) -> Result<regex::Regex, ExpansionError> {
    let wrong = || ExpansionError::Pattern(pattern.chars().take(80).collect());
    let mut text = String::with_capacity(pattern.len() + 4);
    if anchor == Anchor::Start {
        text.push('^');
    }
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' if greed == Greed::Longest => text.push_str(".*"),
            '*' => text.push_str(".*?"),
            '?' => text.push('.'),
            // These had to be escaped to stand within `${…}`.
            '\\' if matches!(letters.peek(), Some('}' | '/')) => {}
            '\\' => match letters.next() {
                Some(letter @ ('*' | '?' | '\\')) => text.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
                _ => return Err(wrong()),
            },
            letter => text.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    regex::Regex::new(&text).map_err(|_| wrong())
}

/// How much a pattern takes, by whether its sign was there twice; and the rest of the pattern.
fn greed(word: &str, sign: char) -> (Greed, &str) {
    match word.strip_prefix(sign) {
        Some(rest) => (Greed::Longest, rest),
        None => (Greed::Shortest, word),
    }
}

fn trim_prefix(word: &str, mut value: String) -> Result<String, ExpansionError> {
    let (greed, pattern) = greed(word, '#');
    if let Some(found) = expression(pattern, greed, Anchor::Start)?.find(&value) {
        value.drain(..found.end());
    }
    Ok(value)
}

/// Expressions find what is leftmost: so both are turned around.
fn trim_suffix(word: &str, value: &str) -> Result<String, ExpansionError> {
    let (greed, pattern) = greed(word, '%');
    let mut turned = String::with_capacity(pattern.len());
    let mut tokens = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        tokens.push(match letter {
            '\\' => letters.next().map_or_else(|| "\\".to_owned(), |next| format!("\\{next}")),
            letter => letter.to_string(),
        });
    }
    turned.extend(tokens.into_iter().rev());
    let value: String = value.chars().rev().collect();
    let end = expression(&turned, greed, Anchor::Start)?.find(&value).map_or(0, |found| found.end());
    Ok(value.get(end..).unwrap_or_default().chars().rev().collect())
}
