//! A requirement of a Python package (PEP 508).

pub use pep508_rs::VersionOrUrl;
use pep508_rs::{Pep508Error, Pep508ErrorSource, VerbatimUrl};

/// A package, with the versions that will do, or the address where it lies.
pub type Requirement = pep508_rs::Requirement<VerbatimUrl>;

/// Why a text is no requirement, and where in it.
pub type NoRequirement = Pep508Error<VerbatimUrl>;

/// Reads a requirement. That a name or an extra ends with a letter or digit is seen here: `pep508_rs` 0.9 panics where
/// one does not, and something follows.
///
/// # Errors
/// When the text is none.
pub fn parse(text: &str) -> Result<Requirement, NoRequirement> {
    let names = text.split(['<', '>', '=', '!', '~', '@', '(', ';']).next().unwrap_or_default();
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_last = |at: usize| !names.get(at + 1..).unwrap_or_default().starts_with(in_name);
    let mut marks = names.char_indices().filter(|(_, c)| matches!(c, '-' | '_' | '.'));
    if let Some((start, last)) = marks.find(|(at, _)| is_last(*at)) {
        let message = format!("Package name must end with an alphanumeric character, not '{last}'");
        let message = Pep508ErrorSource::String(message);
        return Err(Pep508Error { message, start, len: 1, input: text.to_owned() });
    }
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_end_in_a_mark_are_none() {
        for text in [
            "a-",
            "a_ >= 1",
            "a.[b]",
            "a[b-]",
            "a[b-,c]==1",
            "a- @ https://example.org/a.whl",
            "a-; python_version > '3'",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("A_b[c-d] >= 1; python_version > '3'").unwrap().name.as_ref(), "a-b");
    }
}
