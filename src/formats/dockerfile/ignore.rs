//! `.dockerignore`: what of a context is left out, and what of that is not. The rules are those of moby's
//! `patternmatcher`: the last pattern that fits a path, or a folder above it, decides.

use super::pattern::{Pattern, PatternError, clean};
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// Patterns that are read: nobody writes more.
const MOST: usize = 10_000;

/// What is left out.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// Whether what fits is taken up again: it begins with `!`.
    excepts: bool,
    /// The folders that it begins with, up to the first that is a pattern.
    literal: Vec<String>,
}

/// Why patterns cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// One is none.
    #[error("line {line}: {error}")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        error: PatternError,
    },
    /// A `!` alone.
    #[error("line {line}: nothing follows `!`")]
    Nothing {
        /// The line, from 1.
        line: usize,
    },
    /// More than anybody writes.
    #[error("there are more than {MOST} patterns")]
    TooMany,
}

impl IgnoreError {
    /// The line that is wrong, from 1.
    pub fn line(&self) -> usize {
        match self {
            Self::Pattern { line, .. } | Self::Nothing { line } => *line,
            Self::TooMany => 1,
        }
    }

    /// What is wrong, without the line.
    pub fn reason(&self) -> String {
        match self {
            Self::Pattern { error, .. } => error.to_string(),
            Self::Nothing { .. } => "nothing follows `!`".to_owned(),
            Self::TooMany => self.to_string(),
        }
    }
}

impl Explain for IgnoreError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Pattern { .. } | Self::Nothing { .. } | Self::TooMany => {
                ErrorKind::Invalid.named("dockerfile/no-ignore-pattern")
            }
        }
    }
}

impl Ignore {
    /// What a file says, one pattern on a line.
    ///
    /// # Errors
    /// When a line is no pattern.
    pub fn read(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::of(lines.map(|(number, line)| (number + 1, line)))
    }

    /// What patterns say, as those of `--exclude`.
    ///
    /// # Errors
    /// When one is none; the line is its number, from 1.
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        Self::of(patterns.into_iter().enumerate().map(|(number, pattern)| (number + 1, pattern)))
    }

    fn of<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let text = text.trim();
            let (excepts, text) = match text.strip_prefix('!') {
                Some(text) => (true, text.trim()),
                None => (false, text),
            };
            if text.is_empty() {
                if excepts {
                    return Err(IgnoreError::Nothing { line });
                }
                continue;
            }
            if rules.len() == MOST {
                return Err(IgnoreError::TooMany);
            }
            let cleaned = clean(text);
            let text = cleaned.strip_prefix('/').filter(|text| !text.is_empty()).unwrap_or(&cleaned);
            let pattern = Pattern::across(text).map_err(|error| IgnoreError::Pattern { line, error })?;
            let literal = text.split('/').take_while(|part| !part.contains(['*', '?', '[', '\\']));
            rules.push(Rule { pattern, excepts, literal: literal.map(str::to_owned).collect() });
        }
        Ok(Self { rules })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path, relative to the context, is left out.
    pub fn is_left_out(&self, path: &str) -> bool {
        let mut left_out = false;
        for rule in &self.rules {
            if rule.excepts == left_out && rule.fits(path) {
                left_out = !rule.excepts;
            }
        }
        left_out
    }

    /// Whether a folder, relative to the context, is left out with all that is in it: nobody needs to look into it.
    pub fn is_left_out_as_a_whole(&self, folder: &str) -> bool {
        let parts: Vec<&str> = folder.split('/').collect();
        let reaches = |rule: &Rule| rule.literal.iter().zip(&parts).all(|(literal, part)| literal == part);
        self.is_left_out(folder) && !self.rules.iter().any(|rule| rule.excepts && reaches(rule))
    }
}

impl Rule {
    /// Whether it fits a path or a folder above it.
    fn fits(&self, path: &str) -> bool {
        let folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        self.pattern.is_match(path) || folders.into_iter().any(|folder| self.pattern.is_match(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_fits_decides() {
        let ignore =
            Ignore::read("# no\n\n /build/ \n*.log\n!keep.log\n! docs/**/README.md\ndocs\n!docs/a/b.md\n").unwrap();
        for (path, left_out) in [
            ("build", true),
            ("build/a/b", true),
            ("a/build", false),
            ("x.log", true),
            ("a/x.log", false),
            ("keep.log", false),
            ("docs/README.md", true),
            ("docs/a/b.md", false),
            ("docs/a/c.md", true),
        ] {
            assert_eq!(ignore.is_left_out(path), left_out, "{path}");
        }
        assert!(ignore.is_left_out_as_a_whole("build") && !ignore.is_left_out_as_a_whole("docs"));
        assert!(!ignore.is_left_out_as_a_whole("docs/z") && !ignore.is_left_out_as_a_whole("src"));
    }

    #[test]
    fn everything_but_some() {
        let ignore = Ignore::read("**\n!src\n!**/*.toml\n").unwrap();
        assert!(!ignore.is_left_out("src/main.rs") && !ignore.is_left_out("a/b.toml") && ignore.is_left_out("a/b.rs"));
        assert!(!ignore.is_left_out_as_a_whole("target"), "there may be a .toml in it");
        let ignore = Ignore::read("*\n!src/lib\n").unwrap();
        assert!(ignore.is_left_out_as_a_whole("target") && !ignore.is_left_out_as_a_whole("src"));
        assert!(ignore.is_left_out_as_a_whole("src/bin") && !ignore.is_left_out("src/lib/x"));
    }

    #[test]
    fn mistakes_have_their_lines() {
        assert_eq!(Ignore::read("a\n!\n").unwrap_err().line(), 2);
        assert_eq!(Ignore::read("\n\n[a\n").unwrap_err().line(), 3);
        assert!(matches!(Ignore::read(&"a\n".repeat(MOST + 1)), Err(IgnoreError::TooMany)));
    }
}
