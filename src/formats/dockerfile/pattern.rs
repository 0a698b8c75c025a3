//! Patterns of paths, as Go's `filepath.Match` and moby's `patternmatcher` have them.
//!
//! Paths are relative and divided by `/`. `*` and `?` stay within one folder, `[a-z]` and `[^a-z]` are one letter, `\`
//! takes the meaning of the next letter away. Matching takes time by the length of the path.

use regex::Regex;

/// A pattern of whole paths.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// The text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern: a `[` is not closed, or a `\\` ends it")]
pub struct PatternError(String);

impl Pattern {
    /// A pattern of `COPY` and `ADD`: `**` is as `*`.
    ///
    /// # Errors
    /// When the text is none.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Self::compiled(text, Stars::Within)
    }

    /// A pattern of `.dockerignore`, `--exclude` and `--parents`: `**` is any number of folders.
    ///
    /// # Errors
    /// When the text is none.
    pub fn across(text: &str) -> Result<Self, PatternError> {
        Self::compiled(text, Stars::Across)
    }

    /// Whether it is the pattern of this path as a whole.
    pub fn is_match(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    fn compiled(text: &str, stars: Stars) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.chars().take(200).collect());
        let expression = expression(text, stars).ok_or_else(wrong)?;
        Regex::new(&expression).map(Self).map_err(|_| wrong())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stars {
    Within,
    Across,
}

fn expression(text: &str, stars: Stars) -> Option<String> {
    let mut out = "^".to_owned();
    let mut letters = text.chars().peekable();
    let literal = |out: &mut String, letter: char| out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
    let mut first = true;
    while let Some(letter) = letters.next() {
        match letter {
            '*' if stars == Stars::Across && letters.next_if_eq(&'*').is_some() => {
                letters.next_if_eq(&'/');
                // In front, and before letters alone, it is about the end of the path: `**foo` is also `a/bfoo`.
                let plain = !letters.clone().any(|letter| matches!(letter, '*' | '?' | '[' | ']' | '\\'));
                match letters.peek() {
                    None => out.push_str(".*"),
                    Some(_) if first && plain && !text.starts_with("**/") => out.push_str(".*"),
                    Some(_) => out.push_str("(?:.*/)?"),
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => literal(&mut out, letters.next()?),
            '[' => {
                let mut class = String::new();
                let negated = letters.next_if_eq(&'^').is_some();
                let mut ranges = 0;
                while ranges == 0 || letters.next_if_eq(&']').is_none() {
                    let low = member(&mut letters)?;
                    let high = if letters.next_if_eq(&'-').is_some() { member(&mut letters)? } else { low };
                    if low <= high {
                        class.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
                    }
                    ranges += 1;
                }
                match (negated, class.is_empty()) {
                    (false, false) => out.push_str(&format!("[{class}]")),
                    (true, false) => out.push_str(&format!("[^{class}]")),
                    (false, true) => out.push_str("[^\\x00-\\x{10ffff}]"),
                    (true, true) => out.push_str("(?s:.)"),
                }
            }
            letter => literal(&mut out, letter),
        }
        first = false;
    }
    out.push('$');
    Some(out)
}

/// A letter between brackets.
fn member(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match letters.next()? {
        '-' | ']' => None,
        '\\' => letters.next(),
        letter => Some(letter),
    }
}

/// The shortest path that means the same, as Go's `path.Clean` has it; `.` for nothing.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_their_folder_or_cross_it() {
        let within = |pattern: &str, path: &str| Pattern::new(pattern).unwrap().is_match(path);
        assert!(within("*.txt", "a.txt") && !within("*.txt", "a/b.txt"));
        assert!(within("a/*/c", "a/b/c") && !within("a/**/c", "a/c") && !within("a/**/c", "a/b/d/c"));
        assert!(within("[a-c]?\\*", "bx*") && !within("[^a-c]x", "bx") && !within("[b-a]", "b"));
        assert!(within("a.b(c)+{d}", "a.b(c)+{d}") && !within("a.b", "axb"));
        let across = |pattern: &str, path: &str| Pattern::across(pattern).unwrap().is_match(path);
        assert!(across("**", "a/b") && across("a/**", "a/b/c") && !across("a/**", "a"));
        assert!(across("**/foo", "foo") && across("**/foo", "a/b/foo") && !across("**/foo", "afoo"));
        assert!(across("**foo", "a/bfoo") && across("a**b", "ab") && across("a**b", "ax/b") && !across("a**b", "axb"));
        assert!(across("**/*.py", "a/b.py") && across("**/*.py", "b.py") && across("a/**/b", "a/b"));
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for pattern in ["[", "[a", "[]a]", "[-]", "[a-]", "a\\", "[\\"] {
            assert!(Pattern::new(pattern).is_err() && Pattern::across(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn paths_become_short() {
        let cases = [("", "."), ("./a//b/", "a/b"), ("a/../b", "b"), ("../a", "../a"), ("/../a", "/a"), ("/", "/")];
        for (path, short) in cases {
            assert_eq!(clean(path), short);
        }
    }
}
