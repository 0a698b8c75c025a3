//! What the YAML parser complains about, in words that help, at the place of the cause where that can be told.
//!
//! A parser notices a mistake where it cannot go on, which is seldom where the mistake is. So the text before that place
//! is searched for what people usually get wrong, the surest signs first.

use std::ops::Range;
use std::sync::Arc;

use super::{is_hidden_space, too_deep};
use crate::formats::diagnostic::{Code, Diagnostic, Fix, Source};

/// The diagnostic for a complaint: what the parser says, and the byte at which it says it.
pub fn explain(source: &Arc<Source>, info: &str, offset: usize) -> Diagnostic {
    let line = source.position(offset).0;
    let range = source.line(line);
    let text = source.text();
    let rest = text.get(offset..range.end).unwrap_or_default();
    let here = offset..offset + rest.chars().next().map_or(0, char::len_utf8);
    let complaint = Complaint { source, text, info, line, range, rest, here };
    complaint
        .plain()
        .or_else(|| complaint.tab())
        .or_else(|| complaint.special_space())
        .or_else(|| complaint.quote())
        .or_else(|| complaint.bracket())
        .or_else(|| complaint.dash())
        .or_else(|| complaint.no_colon())
        .or_else(|| complaint.second_colon())
        .or_else(|| complaint.indentation())
        .unwrap_or_else(|| complaint.of(Code::Syntax, complaint.here.clone(), info))
}

struct Complaint<'a> {
    source: &'a Arc<Source>,
    text: &'a str,
    info: &'a str,
    /// Where it is made: the line, its bytes, what is left of it, and the character.
    line: usize,
    range: Range<usize>,
    rest: &'a str,
    here: Range<usize>,
}

impl<'a> Complaint<'a> {
    fn of(&self, code: Code, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, self.source, span, message)
    }

    /// Complaints that say what is wrong, where it is.
    fn plain(&self) -> Option<Diagnostic> {
        let here = self.here.clone();
        if self.info.contains("recursion limit") {
            return Some(too_deep(self.source, here));
        }
        if self.info.contains("unknown anchor") {
            let name = self.rest.split([' ', ',', ']', '}']).next().unwrap_or_default();
            let message = format!("`{name}` is an alias to YAML, and no such anchor comes before");
            let error = self.of(Code::UnknownAlias, here.start..here.start + name.len(), message);
            return Some(error.help(format!("put a text that begins with `*` in quotes: \"{name}\"")));
        }
        self.rest.starts_with(['@', '`', '%']).then(|| {
            self.of(Code::Syntax, here, "a text may not begin with this character").help("put the text in quotes")
        })
    }

    /// A tab that the parser names. A text without quotes may go on in the next line, and then it complains of where the
    /// text began.
    fn tab(&self) -> Option<Diagnostic> {
        if !self.info.contains("tab") {
            return None;
        }
        let after = self.text.get(self.here.start..)?.find('\t').map(|at| self.here.start + at);
        let place = after.or_else(|| self.text.get(..self.here.start)?.rfind('\t'))?;
        Some(self.tab_at(place..place + 1))
    }

    fn tab_at(&self, place: Range<usize>) -> Diagnostic {
        self.of(Code::Tab, place.clone(), "a tab where YAML wants spaces")
            .help("replace each tab by two spaces")
            .fix(Fix::replace("write two spaces", place, "  "))
    }

    /// A tab or another special space in the indentation of the line, or of the one before that the parser ran past.
    fn special_space(&self) -> Option<Diagnostic> {
        [self.line, self.line.saturating_sub(1)].into_iter().find_map(|line| {
            let range = self.source.line(line);
            let content = self.text.get(range.clone())?;
            let blank = content.get(..content.len() - content.trim_start().len())?;
            let (at, c) = blank.char_indices().find(|(_, c)| *c == '\t' || is_hidden_space(*c))?;
            let place = range.start + at..range.start + at + c.len_utf8();
            Some(match c {
                '\t' => self.tab_at(place),
                c => hidden_space(self.source, place, c),
            })
        })
    }

    fn quote(&self) -> Option<Diagnostic> {
        let open = (1..=self.line).find_map(|line| open_quote(self.text, self.source.line(line)));
        if let Some(open) = open {
            let mark = self.text.get(open..open + 1).unwrap_or_default();
            let error = self.of(Code::Unclosed, open..open + 1, "the quote is not closed");
            return Some(error.help(format!("close it with {mark} on the same line")));
        }
        self.info.contains("trailing content").then(|| {
            let error = self.of(Code::Syntax, self.here.clone(), "something follows the closing quote");
            match open_bracket(self.text, self.here.start) {
                Some(_) => error.help("put a comma between two items"),
                None => error.help("put the whole text into the other kind of quotes"),
            }
        })
    }

    fn bracket(&self) -> Option<Diagnostic> {
        let here = self.here.clone();
        let Some(open) = open_bracket(self.text, here.start) else {
            let closes = self.rest.starts_with([']', '}']);
            return closes.then(|| self.of(Code::Syntax, here, "a bracket closes that was not opened"));
        };
        let close = if self.text.get(open..).is_some_and(|rest| rest.starts_with('[')) { ']' } else { '}' };
        if brackets(self.text, here.start..self.text.len()).1 == Some(close) {
            return Some(self.of(Code::Syntax, here, "a comma is missing between two items").label("before this"));
        }
        let error = self.of(Code::Unclosed, open..open + 1, "the bracket is not closed");
        Some(error.also(self.source, here, "reading ended here"))
    }

    /// The last line above with something on it.
    fn above(&self) -> Option<&'a str> {
        let before = self.text.get(..self.range.start)?;
        before.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
    }

    fn content(&self) -> &'a str {
        self.text.get(self.range.clone()).unwrap_or_default().trim()
    }

    /// Where a line stands that [`Complaint::above`] or [`Complaint::content`] gave.
    fn place(&self, line: &str) -> Range<usize> {
        let before = self.text.get(..self.range.end).unwrap_or_default();
        let start = before.rfind(line).unwrap_or(self.here.start);
        start..start + line.len()
    }

    fn dash(&self) -> Option<Diagnostic> {
        let line = self.above()?;
        let item = line.strip_prefix('-').filter(|item| item.starts_with(char::is_alphanumeric))?;
        let start = self.place(line).start;
        let error = self.of(Code::Syntax, start..start + 1, "an item of a list needs a space after the dash");
        Some(error.help(format!("write `- {item}`")))
    }

    /// A line without a colon becomes one text with the lines after it: the complaint comes at the next colon.
    fn no_colon(&self) -> Option<Diagnostic> {
        let colon = |line: &str| line.contains(": ") || line.ends_with(':');
        let line = if colon(self.content()) { self.above()? } else { self.content() };
        if line.is_empty() || colon(line) || line.starts_with(['-', '[', '{', ']', '}', '"', '\'']) {
            return None;
        }
        if let Some(colon) = line.find(":\t") {
            let tab = self.place(line).start + colon + 1;
            return Some(self.tab_at(tab..tab + 1));
        }
        let error = self.of(Code::Syntax, self.place(line), "neither `key: value` nor an item of a list");
        Some(match line.split_once(':') {
            Some((key, value)) => error.help(format!("put a space after the colon: `{key}: {}`", value.trim())),
            None => error
                .help("write a colon and a space after the key")
                .help("or, if it goes on with the text of the line above, put the whole in quotes"),
        })
    }

    fn second_colon(&self) -> Option<Diagnostic> {
        let before = self.text.get(self.range.start..self.here.start)?;
        (self.info.contains("mapping values") && before.contains(": ")).then(|| {
            self.of(Code::Syntax, self.here.clone(), "a second colon on the line")
                .help("put the value in quotes if the colon belongs to it")
        })
    }

    fn indentation(&self) -> Option<Diagnostic> {
        let signs = ["indent", "block", "mapping values", "expected"];
        signs.iter().any(|sign| self.info.contains(sign)).then(|| {
            let Range { start, end } = self.place(self.content());
            let message = "the line is indented neither as the one above nor as its content";
            self.of(Code::Indentation, start..end.min(start + 1), message)
                .help("keys of the same mapping begin in the same column")
        })
    }
}

/// What to say about a space that YAML takes for a letter.
pub(super) fn hidden_space(source: &Arc<Source>, place: Range<usize>, c: char) -> Diagnostic {
    let message = format!("a special space (U+{:04X}) that is taken for a letter", u32::from(c));
    Diagnostic::new(Code::HiddenSpace, source, place.clone(), message)
        .help("replace it by an ordinary space")
        .fix(Fix::replace("write an ordinary space", place, " "))
}

/// The first quote of a line that opens a text and is not closed on the line.
///
/// A text in quotes may go on over lines in YAML. Nobody writes that in a manifest on purpose, and this is asked only
/// once the parser has complained.
fn open_quote(text: &str, line: Range<usize>) -> Option<usize> {
    let content = text.get(line.clone())?;
    let mut open: Option<(usize, char)> = None;
    let mut before = ' ';
    let mut characters = content.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match open {
            Some((_, '"')) if c == '\\' => drop(characters.next()),
            Some((_, '\'')) if c == '\'' && characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
            }
            Some((_, quote)) if c == quote => open = None,
            Some(_) => {}
            None if c == '#' && before == ' ' => break,
            None if matches!(c, '"' | '\'') && matches!(before, ' ' | '[' | '{' | ',') => open = Some((at, c)),
            None => {}
        }
        before = c;
    }
    open.map(|(at, _)| line.start + at)
}

/// The innermost bracket that is open at `end` in flow style, outside of quotes and comments.
fn open_bracket(text: &str, end: usize) -> Option<usize> {
    brackets(text, 0..end).0
}

/// The innermost bracket that is opened in `range` and not closed there, and the first that closes one of before.
fn brackets(text: &str, range: Range<usize>) -> (Option<usize>, Option<char>) {
    let (mut open, mut closes) = (Vec::new(), None);
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in text.get(range.clone()).unwrap_or_default().char_indices() {
        match quote {
            Some('#') if c == '\n' => quote = None,
            Some(mark) if c == mark && mark != '#' && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') && matches!(before, ' ' | '[' | '{' | ',') => quote = Some(c),
            None if c == '#' && before.is_whitespace() => quote = Some('#'),
            None if matches!(c, '[' | '{') && (!open.is_empty() || before.is_whitespace()) => {
                open.push(range.start + at);
            }
            None if matches!(c, ']' | '}') && open.pop().is_none() => {
                closes.get_or_insert(c);
            }
            None => {}
        }
        before = c;
    }
    (open.pop(), closes)
}
