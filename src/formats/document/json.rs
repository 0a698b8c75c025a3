//! JSON (RFC 8259) and JSON5 (1.0), from the scanner's tokens.
//!
//! The tree is built here and not by the parser, because its depth has to be bounded before anything recurses, a key
//! that is there twice has to be found, and a strict reader has to say what is beyond JSON.

use std::ops::Range;
use std::sync::Arc;

use jsonc_parser::errors::ParseError;
use jsonc_parser::tokens::Token;
use jsonc_parser::{Scanner, ScannerOptions};

use super::{Entries, Format, Key, MAX_DEPTH, Node, TYPOGRAPHIC, Value, is_hidden_space, too_deep, typographic_json};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};

/// Reads a text of JSON or JSON5, as `format` says. None, with an error in `found`, where there is no tree to go on with.
pub fn parse(source: &Arc<Source>, format: Format, found: &mut Diagnostics) -> Option<Node> {
    let scanner = Scanner::new(source.text(), &ScannerOptions::default());
    let mut reader = Reader { source, scanner, format, found, ahead: None };
    match reader.document() {
        Ok(root) => Some(root),
        Err(error) => {
            found.push(*error);
            None
        }
    }
}

type Found<T> = Result<T, Box<Diagnostic>>;
type Spanned<'a> = (Token<'a>, Range<usize>);

struct Reader<'a, 'f> {
    source: &'a Arc<Source>,
    scanner: Scanner<'a>,
    format: Format,
    found: &'f mut Diagnostics,
    ahead: Option<Option<Spanned<'a>>>,
}

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Found<Node> {
        let root = match self.next()? {
            Some(token) => self.value(token, 1)?,
            None => return Err(self.of(Code::Empty, 0..0, "nothing is written here")),
        };
        match self.next()? {
            None => Ok(root),
            Some((_, span)) => Err(self.of(Code::Syntax, span, "something follows the end of the value")),
        }
    }

    fn of(&self, code: Code, span: Range<usize>, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::new(code, self.source, span, message))
    }

    fn beyond_json(&mut self, span: Range<usize>, what: &str) {
        if self.format == Format::Json {
            let error = self.of(Code::NotStrictJson, span, format!("{what} in a JSON file"));
            self.found.push(error.help("rename the file to `.json5`, or write plain JSON"));
        }
    }

    fn end(&self) -> Range<usize> {
        let end = self.source.text().trim_end().len();
        end..end
    }

    fn peek(&mut self) -> Found<Option<&Spanned<'a>>> {
        if self.ahead.is_none() {
            self.ahead = Some(self.next()?);
        }
        Ok(self.ahead.as_ref().and_then(Option::as_ref))
    }

    /// The next token that is no comment; none at the end.
    fn next(&mut self) -> Found<Option<Spanned<'a>>> {
        if let Some(token) = self.ahead.take() {
            return Ok(token);
        }
        loop {
            let token = match self.scanner.scan() {
                Ok(token) => token,
                Err(error) => return Err(self.scan_error(&error)),
            };
            let span = self.scanner.token_start()..self.scanner.token_end();
            match token {
                Some(Token::CommentLine(_) | Token::CommentBlock(_)) => self.beyond_json(span, "a comment"),
                Some(token) => return Ok(Some((token, span))),
                None => return Ok(None),
            }
        }
    }

    fn value(&mut self, (token, span): Spanned<'a>, depth: usize) -> Found<Node> {
        let value = match token {
            Token::OpenBrace | Token::OpenBracket if depth > MAX_DEPTH => {
                return Err(Box::new(too_deep(self.source, span)));
            }
            Token::OpenBrace => return self.mapping(span, depth),
            Token::OpenBracket => return self.sequence(span, depth),
            Token::String(text) => {
                self.check_string(&span)?;
                Value::String(text.into_owned())
            }
            Token::Boolean(value) => Value::Bool(value),
            Token::Null => Value::Null,
            Token::Number(text) => self.number(text, &span),
            Token::Word(word) => return Err(self.bare_word(word, span)),
            token => {
                let message = format!("a value is expected, and `{}` is there", written(&token));
                return Err(self.of(Code::Syntax, span, message));
            }
        };
        Ok(Node { span, value })
    }

    fn mapping(&mut self, open: Range<usize>, depth: usize) -> Found<Node> {
        let mut entries = Entries::default();
        loop {
            let Some((token, span)) = self.next()? else { return Err(self.unclosed(open)) };
            let key = match token {
                Token::CloseBrace => {
                    return Ok(Node { span: open.start..span.end, value: Value::Mapping(entries.entries) });
                }
                Token::String(text) => {
                    self.check_string(&span)?;
                    text.into_owned()
                }
                Token::Word(word) => {
                    if word.starts_with(TYPOGRAPHIC) {
                        return Err(self.bare_word(word, span));
                    }
                    self.beyond_json(span.clone(), "a key without quotes");
                    word.to_owned()
                }
                // Names of literals are good names of keys in JSON5.
                Token::Boolean(_) | Token::Null => {
                    self.beyond_json(span.clone(), "a key without quotes");
                    written(&token)
                }
                token => {
                    let message = format!("a key is expected, and `{}` is there", written(&token));
                    return Err(self.of(Code::Syntax, span, message));
                }
            };
            let key = Key { span, text: key };
            match self.next()? {
                Some((Token::Colon, _)) => {}
                Some((_, span)) => {
                    let message = format!("a colon is missing after the key `{}`", key.text);
                    return Err(Box::new(self.of(Code::Syntax, span, message).help("write `\"key\": value`")));
                }
                None => return Err(self.unclosed(open)),
            }
            let Some(token) = self.next()? else { return Err(self.unclosed(open)) };
            let node = self.value(token, depth + 1)?;
            let end = node.span.end;
            entries.add(self.source, key, node, self.found);
            self.separator(&open, end, &Token::CloseBrace)?;
        }
    }

    fn sequence(&mut self, open: Range<usize>, depth: usize) -> Found<Node> {
        let mut items = Vec::new();
        loop {
            let Some(token) = self.next()? else { return Err(self.unclosed(open)) };
            if token.0 == Token::CloseBracket {
                return Ok(Node { span: open.start..token.1.end, value: Value::Sequence(items) });
            }
            let node = self.value(token, depth + 1)?;
            let end = node.span.end;
            items.push(node);
            self.separator(&open, end, &Token::CloseBracket)?;
        }
    }

    /// A comma, unless what is open ends here.
    fn separator(&mut self, open: &Range<usize>, before: usize, close: &Token<'_>) -> Found<()> {
        match self.peek()? {
            Some((token, _)) if token == close => Ok(()),
            Some((Token::Comma, span)) => {
                let span = span.clone();
                self.ahead = None;
                if self.peek()?.is_some_and(|(token, _)| token == close) {
                    self.beyond_json(span, "a comma after the last value");
                }
                Ok(())
            }
            Some((Token::CloseBrace | Token::CloseBracket, span)) => {
                let span = span.clone();
                Err(Box::new(self.of(Code::Unclosed, open.clone(), "the bracket is not closed").also(
                    self.source,
                    span,
                    "another kind of bracket closes here",
                )))
            }
            Some(_) => {
                Err(Box::new(self.of(Code::Syntax, before..before, "a comma is missing").label("expected here")))
            }
            None => Err(self.unclosed(open.clone())),
        }
    }

    fn unclosed(&self, open: Range<usize>) -> Box<Diagnostic> {
        Box::new(self.of(Code::Unclosed, open, "the bracket is not closed").also(
            self.source,
            self.end(),
            "the text ends here",
        ))
    }

    /// Single quotes are JSON5's; and a text ends on its line, else the closing quote was forgotten.
    fn check_string(&mut self, span: &Range<usize>) -> Found<()> {
        let raw = self.source.text().get(span.clone()).unwrap_or_default();
        if let Some(end) = raw.match_indices('\n').map(|(at, _)| at).find(|at| {
            // A backslash at the end of the line goes on with the text (JSON5, section 5).
            !raw.get(..*at).is_some_and(|line| line.trim_end_matches('\r').ends_with('\\'))
        }) {
            let line = span.start..span.start + raw.get(..end).map_or(0, |line| line.trim_end().len());
            return Err(self.unclosed_quote(line));
        }
        if raw.starts_with('\'') {
            self.beyond_json(span.clone(), "a text in single quotes");
        }
        Ok(())
    }

    fn unclosed_quote(&self, span: Range<usize>) -> Box<Diagnostic> {
        let mark = self.source.text().get(span.start..span.start + 1).unwrap_or_default();
        let message = "the quote is not closed";
        let help = format!("close it with {mark} on the same line");
        Box::new(self.of(Code::Unclosed, span.start..span.start + 1, message).help(help))
    }

    fn number(&mut self, text: &str, span: &Range<usize>) -> Value {
        let beyond = text.starts_with('+')
            || text.contains(['x', 'X', 'I', 'N'])
            || text.trim_start_matches('-').starts_with('.')
            || text.ends_with('.')
            || text.contains(".e")
            || text.contains(".E");
        if beyond {
            self.beyond_json(span.clone(), "a number as JSON5 writes it");
        }
        match number(text) {
            Some(number) => Value::Number(number),
            None => {
                let error = self.of(Code::NotFinite, span.clone(), "the number is not finite");
                self.found.push(error.help("write a number"));
                Value::Null
            }
        }
    }

    fn bare_word(&self, word: &str, span: Range<usize>) -> Box<Diagnostic> {
        if word.starts_with(TYPOGRAPHIC) {
            return Box::new(typographic_json(self.source, span));
        }
        let help = match word {
            "True" | "TRUE" => "write true".to_owned(),
            "False" | "FALSE" => "write false".to_owned(),
            "None" | "Null" | "NULL" | "undefined" => "write null".to_owned(),
            word => format!("put it in quotes: \"{word}\""),
        };
        Box::new(self.of(Code::Syntax, span, format!("`{word}` is no value")).help(help))
    }

    fn scan_error(&self, error: &ParseError) -> Box<Diagnostic> {
        let range = error.range();
        let text = self.source.text();
        let rest = text.get(range.start..).unwrap_or_default();
        if rest.starts_with(TYPOGRAPHIC) {
            let line = rest.lines().next().unwrap_or_default();
            let first = line.chars().next().map_or(0, char::len_utf8);
            let end = line.get(first..).and_then(|rest| rest.find(TYPOGRAPHIC).map(|at| first + at));
            let length = end.and_then(|at| Some(at + line.get(at..)?.chars().next()?.len_utf8())).unwrap_or(first);
            return Box::new(typographic_json(self.source, range.start..range.start + length));
        }
        if let Some(c) = rest.chars().next().filter(|c| is_hidden_space(*c)) {
            let place = range.start..range.start + c.len_utf8();
            let error = super::syntax::hidden_space(self.source, place, c);
            return Box::new(error.fix(super::quotes::straight(text)));
        }
        if rest.starts_with(['"', '\'']) && matches!(error.kind(), jsonc_parser::errors::ParseErrorKind::String(_)) {
            let line = rest.lines().next().unwrap_or_default();
            let mark = line.get(..1).unwrap_or_default();
            if !line.get(1..).is_some_and(|rest| rest.contains(mark)) {
                return self.unclosed_quote(range.start..range.start + 1);
            }
        }
        if rest.starts_with("/*") {
            return self.of(Code::Unclosed, range.start..range.start + 2, "the comment is not closed");
        }
        if rest.starts_with('#') {
            let error = self.of(Code::Syntax, range.start..range.start + 1, "a comment begins with `//` here");
            return Box::new(error.help("`#` begins a comment in YAML and Python"));
        }
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if word.starts_with(char::is_alphabetic) {
            return self.bare_word(&word, range.start..range.start + word.len());
        }
        let message = error.kind().to_string();
        let mut characters = message.chars();
        let first = characters.next().map(|c| c.to_ascii_lowercase());
        self.of(Code::Syntax, range.start..range.end, first.into_iter().chain(characters).collect::<String>())
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (negative, digits) = match unsigned.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unsigned),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let number = i128::from(u64::from_str_radix(hex, 16).ok()?);
        return serde_json::Number::from_i128(if negative { -number } else { number });
    }
    if let Ok(number) = unsigned.parse::<u64>() {
        return Some(number.into());
    }
    if let Ok(number) = unsigned.parse::<i64>() {
        return Some(number.into());
    }
    // `Infinity` and `NaN` parse as such, and are no numbers of JSON.
    serde_json::Number::from_f64(unsigned.parse().ok()?)
}

fn written(token: &Token<'_>) -> String {
    match token {
        Token::String(text) => text.to_string(),
        Token::Word(word) | Token::Number(word) => (*word).to_owned(),
        Token::Boolean(value) => value.to_string(),
        Token::Null => "null".to_owned(),
        Token::OpenBrace => "{".to_owned(),
        Token::CloseBrace => "}".to_owned(),
        Token::OpenBracket => "[".to_owned(),
        Token::CloseBracket => "]".to_owned(),
        Token::Comma => ",".to_owned(),
        Token::Colon => ":".to_owned(),
        Token::CommentLine(text) | Token::CommentBlock(text) => (*text).to_owned(),
    }
}
