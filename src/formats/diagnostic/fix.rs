//! Repairs that are safe: they change how something is written, not what was meant.

use std::ops::Range;

/// A repair of the text that a diagnostic is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What it does, as `write two equals signs`.
    pub title: String,
    /// The changes; none of them overlaps another.
    pub edits: Vec<Edit>,
}

/// A change of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that go.
    pub span: Range<usize>,
    /// What comes instead.
    pub text: String,
}

impl Fix {
    /// One change.
    pub fn replace(title: impl Into<String>, span: Range<usize>, text: impl Into<String>) -> Self {
        Self { title: title.into(), edits: vec![Edit { span, text: text.into() }] }
    }
}

/// The text after the fixes. Of two that overlap the first holds; the other may still apply to what came of it.
pub fn apply<'a>(text: &str, fixes: impl IntoIterator<Item = &'a Fix>) -> String {
    let mut edits: Vec<&Edit> = Vec::new();
    for fix in fixes {
        let overlaps = |edit: &Edit| {
            edits.iter().any(|e| e.span.start < edit.span.end && edit.span.start < e.span.end || e.span == edit.span)
        };
        if fix.edits.iter().all(|edit| text.get(edit.span.clone()).is_some() && !overlaps(edit)) {
            edits.extend(&fix.edits);
        }
    }
    edits.sort_by_key(|edit| edit.span.start);
    let mut fixed = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        fixed.push_str(text.get(at..edit.span.start).unwrap_or_default());
        fixed.push_str(&edit.text);
        at = edit.span.end;
    }
    fixed + text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_overlap_the_first_holds() {
        let fixes = [Fix::replace("", 4..7, "x"), Fix::replace("", 5..6, "y"), Fix::replace("", 0..1, "zz")];
        assert_eq!(apply("abcdefgh", &fixes), "zzbcdxh");
        assert_eq!(apply("é", [&Fix::replace("", 1..2, "x")]), "é");
    }
}
