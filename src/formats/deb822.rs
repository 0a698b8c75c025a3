//! The text format of Debian's control data: paragraphs of `Name: value` lines (deb822(5), Policy section 5.1).
//!
//! A scanner, not a tree: `Packages` of a whole suite has 50 MB, and all is borrowed from the text. It has no errors:
//! what is no field is passed over, and whoever needs a field finds that it is missing.

/// One paragraph.
#[derive(Clone, Copy, Debug)]
pub struct Paragraph<'a>(&'a str);

/// The paragraphs of `text`, which are separated by blank lines. None is empty.
pub fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = 0;
        let mut begun = false;
        for line in rest.split_inclusive('\n') {
            if line.trim_ascii().is_empty() {
                if begun {
                    break;
                }
            } else {
                begun = true;
            }
            end += line.len();
        }
        let (paragraph, after) = rest.split_at(end);
        rest = after;
        begun.then_some(Paragraph(paragraph))
    })
}

impl<'a> Paragraph<'a> {
    /// Its fields in order. A value that goes on over several lines keeps its line breaks, and may hold comments.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let mut lines = rest.split_inclusive('\n');
                let first = lines.next()?;
                let more: usize = lines.take_while(|line| line.starts_with([' ', '\t', '#'])).map(str::len).sum();
                let (field, after) = rest.split_at(first.len() + more);
                rest = after;
                if first.starts_with([' ', '\t', '#']) {
                    continue;
                }
                if let Some((name, value)) = field.split_once(':') {
                    return Some((name, value.trim_ascii()));
                }
            }
        })
    }

    /// The value of the field `name`, in any case.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The lines of a value without its comments.
pub fn lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().filter(|line| !line.starts_with('#')).map(str::trim_ascii).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_fields_are_found() {
        let text = "\n# a comment\nA: 1\nb:2\n c\n# in between\n d\n\n\nC: 3";
        let found: Vec<Vec<_>> = paragraphs(text).map(|paragraph| paragraph.fields().collect()).collect();
        assert_eq!(found, [vec![("A", "1"), ("b", "2\n c\n# in between\n d")], vec![("C", "3")]]);
        let first = paragraphs(text).next().unwrap();
        assert_eq!(first.get("B").map(|value| lines(value).collect()), Some(vec!["2", "c", "d"]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_scanned(text in "[a:# \t\r\n\u{e9}]{0,200}") {
            let fields = paragraphs(&text).map(|paragraph| paragraph.fields().count()).sum::<usize>();
            proptest::prop_assert!(fields <= text.lines().count());
        }
    }
}
