//! The word that was probably meant.

/// The one of `known` that is most like `word`; none where none is like it.
pub fn closest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let folded = fold(word);
    let allowed = folded.chars().count().div_ceil(3).min(3);
    known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(&folded, &fold(other)), other))
        .filter(|(distance, other)| *distance <= allowed && *other != word)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other.as_str())
}

/// What people confuse becomes the same. Long words are cut: the comparison takes time by the square of the length.
fn fold(word: &str) -> String {
    word.chars().take(64).flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect()
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
    }
}
