//! The lines of a Dockerfile: those that are continued as one, comments and blank lines left out, each heredoc with the
//! line that begins it, and the directives in front of all.
//!
//! Invariant: of each byte of a line it is known where it stands in the file.

use std::ops::Range;

use super::heredoc::Heredoc;
use super::word::Escape;

/// Bytes of one line of the file: BuildKit reads no longer ones either.
pub(super) const LONGEST: usize = (64 << 10) - 1;

/// One line, put together.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub text: String,
    /// From which byte of the text on which byte of the file is meant.
    pieces: Vec<(usize, usize)>,
    /// What it covers in the file, with its heredocs.
    pub span: Range<usize>,
    pub heredocs: Vec<Heredoc>,
    /// Blank lines within it.
    pub blanks: Vec<Range<usize>>,
}

impl Line {
    fn push(&mut self, text: &str, start: usize) {
        self.pieces.push((self.text.len(), start));
        self.text.push_str(text);
        self.span.end = start + text.len();
    }

    /// Where a part of it stands in the file.
    pub fn place(&self, part: Range<usize>) -> Range<usize> {
        let at = |offset: usize| {
            let piece = self.pieces.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
            self.pieces.get(piece).map_or(self.span.start, |(start, place)| place + offset.saturating_sub(*start))
        };
        let start = at(part.start);
        // The end is that of its last byte: the next one may stand on another line.
        start..if part.end > part.start { at(part.end - 1) + 1 } else { start }
    }
}

/// A directive: `# NAME=VALUE` before anything else.
#[derive(Debug)]
pub(super) struct Directive {
    pub name: String,
    pub value: String,
    pub span: Range<usize>,
    pub value_span: Range<usize>,
}

/// Why lines cannot be told apart.
#[derive(Debug)]
pub(super) enum Broken {
    /// The same directive a second time.
    Twice(Directive),
    /// A character that cannot escape.
    NoEscape(Directive),
    /// A line of more than [`LONGEST`] bytes.
    TooLong(Range<usize>),
    /// A heredoc, begun in a line, without its end.
    Endless { heredoc: Heredoc, line: Range<usize> },
}

/// Goes through a file, line by line.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    pub escape: Escape,
    pub directives: Vec<Directive>,
    /// Whether there can be no directive any more.
    begun: bool,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, escape: Escape::default(), directives: Vec::new(), begun: false }
    }

    /// One line of the file without its end, and where it begins.
    fn physical(&mut self) -> Result<Option<(&'a str, usize)>, Broken> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let Some(line) = rest.split_inclusive('\n').next() else { return Ok(None) };
        self.at += line.len();
        if line.len() > LONGEST {
            return Err(Broken::TooLong(start..start + line.len()));
        }
        Ok(Some((line.trim_end_matches(['\r', '\n']), start)))
    }

    /// The next line that is neither blank nor a comment. None at the end.
    pub fn next(&mut self, begins_heredocs: impl Fn(&str) -> bool) -> Result<Option<Line>, Broken> {
        let mut line = loop {
            let Some((text, start)) = self.physical()? else { return Ok(None) };
            let start = start + (text.len() - text.trim_start().len());
            let text = text.trim_start();
            if self.directive(text, start)? {
                continue;
            }
            if text.starts_with('#') {
                continue;
            }
            let (part, goes_on) = self.continued(text);
            if part.is_empty() && !goes_on {
                continue;
            }
            let mut line = Line { span: start..start, ..Line::default() };
            line.push(part, start);
            if !goes_on {
                break line;
            }
            self.continuation(&mut line)?;
            break line;
        };
        if line.text.contains("<<") && begins_heredocs(&line.text) {
            for mut heredoc in Heredoc::all_begun_by(&line.text) {
                if !self.heredoc(&mut heredoc)? {
                    return Err(Broken::Endless { heredoc, line: line.span });
                }
                line.span.end = self.at;
                line.heredocs.push(heredoc);
            }
            let covered = self.text.get(line.span.clone()).unwrap_or_default();
            line.span.end = line.span.start + covered.trim_end_matches(['\r', '\n']).len();
        }
        Ok(Some(line))
    }

    fn continuation(&mut self, line: &mut Line) -> Result<(), Broken> {
        while let Some((text, start)) = self.physical()? {
            if text.trim_start().starts_with('#') {
                continue;
            }
            if text.trim_start().is_empty() {
                line.blanks.push(start..start + text.len());
                continue;
            }
            let (part, goes_on) = self.continued(text);
            line.push(part, start);
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// A line without the character that continues it, and whether that was there. One before it, and it is none.
    fn continued(&self, text: &'a str) -> (&'a str, bool) {
        let escape = self.escape.character();
        match text.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(part) if !part.ends_with(escape) => (part, true),
            _ => (text, false),
        }
    }

    /// Reads the lines of a heredoc, and whether there was an end to them.
    fn heredoc(&mut self, heredoc: &mut Heredoc) -> Result<bool, Broken> {
        let start = self.at;
        loop {
            let end = self.at;
            let Some((text, _)) = self.physical()? else { return Ok(false) };
            if heredoc.is_ended_by(text) {
                heredoc.span = start..end;
                heredoc.raw = self.text.get(start..end).unwrap_or_default().into();
                return Ok(true);
            }
        }
    }

    /// Whether a line is a directive.
    fn directive(&mut self, text: &str, start: usize) -> Result<bool, Broken> {
        const NAMES: &[&str] = &["syntax", "escape", "check"];
        if self.begun {
            return Ok(false);
        }
        let read = || {
            let (name, value) = text.strip_prefix('#')?.split_once('=')?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            (NAMES.contains(&name.as_str()) && !value.is_empty()).then_some((name, value))
        };
        let Some((name, value)) = read() else {
            self.begun = true;
            return Ok(false);
        };
        let value_start = start + text.trim_end().len() - value.len();
        let directive = Directive {
            name,
            value: value.to_owned(),
            span: start..start + text.trim_end().len(),
            value_span: value_start..value_start + value.len(),
        };
        if self.directives.iter().any(|other| other.name == directive.name) {
            return Err(Broken::Twice(directive));
        }
        if directive.name == "escape" {
            self.escape = match value {
                "\\" => Escape::Backslash,
                "`" => Escape::Backtick,
                _ => return Err(Broken::NoEscape(directive)),
            };
        }
        self.directives.push(directive);
        Ok(true)
    }
}
