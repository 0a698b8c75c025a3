//! The word that was probably meant, in place of one that nothing is called by.

use std::fmt;

/// Mistakes in a word that are taken for slips: one in three letters, and no more than this.
const MOST_MISTAKES: usize = 3;

/// The one of `known` that is most like `word`; of several the first, none where none is like it.
///
/// A letter too many, missing, another one, or two in the wrong order is one mistake. Case, and `-` for `_`, is none.
pub fn closest<'a, W: AsRef<str> + ?Sized + 'a>(word: &str, known: impl IntoIterator<Item = &'a W>) -> Option<&'a str> {
    let folded = fold(word);
    let length = folded.chars().count();
    let allowed = length.div_ceil(3).min(MOST_MISTAKES);
    known
        .into_iter()
        .map(AsRef::as_ref)
        // Of a whole archive's names most are told apart by their lengths alone.
        .filter(|other| *other != word && other.chars().count().min(MOST_LETTERS).abs_diff(length) <= allowed)
        .map(|other| (strsim::damerau_levenshtein(&folded, &fold(other)), other))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// What a person is asked who wrote another word than `meant`.
pub fn did_you_mean(meant: impl fmt::Display) -> String {
    format!("did you mean `{meant}`?")
}

/// Names of what there is, for a person: not all, where there are very many.
pub fn listed<W: AsRef<str>>(names: &[W]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = names.iter().take(MOST).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Letters of a word that are compared: the comparison takes time by the square of the length.
const MOST_LETTERS: usize = 64;

/// What people confuse becomes the same.
fn fold(word: &str) -> String {
    word.chars().take(MOST_LETTERS).flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_others_are_not() {
        let known = ["requirements", "version", "model"].map(str::to_owned);
        assert_eq!(closest("requirments", &known), Some("requirements"));
        assert_eq!(closest("Version", &known), Some("version"));
        assert_eq!(closest("ports", &known), None);
        assert_eq!(closest("", &known), None);
        assert_eq!(closest("mien", ["mine"]).map(did_you_mean).as_deref(), Some("did you mean `mine`?"));
        assert_eq!(closest(&"x".repeat(900), [&*"X".repeat(800)]).map(str::len), Some(800));
    }
}
