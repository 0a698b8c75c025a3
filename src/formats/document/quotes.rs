//! JSON that went through a web page or a word processor: curly quotes for straight ones, special spaces, a blank line
//! after each line. What stands inside of the quotes stays as it is.

use super::{TYPOGRAPHIC, is_hidden_space};
use crate::formats::diagnostic::{Edit, Fix};

/// The repair of a whole text.
pub fn straight(text: &str) -> Fix {
    let blank = blank_lines(text);
    let removed = |at: usize| {
        blank
            .binary_search_by(|line| {
                if line.start > at {
                    std::cmp::Ordering::Greater
                } else if line.end <= at {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Equal
                }
            })
            .is_ok()
    };
    let mut edits: Vec<Edit> = blank.iter().map(|span| Edit { span: span.clone(), text: String::new() }).collect();
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let span = at..at + c.len_utf8();
        let typographic = TYPOGRAPHIC.contains(&c);
        let mut write = |text: &str| edits.push(Edit { span: span.clone(), text: text.to_owned() });
        match quote {
            None if typographic => {
                write("\"");
                quote = Some('“');
            }
            None if c == '"' => quote = Some('"'),
            None if is_hidden_space(c) && !removed(at) => write(" "),
            None => {}
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some('"') if c == '"' => quote = None,
            Some('“') if typographic || c == '"' => {
                let next = text.get(span.end..).unwrap_or_default();
                let next = next.chars().find(|c| !c.is_whitespace() && !is_hidden_space(*c));
                // An apostrophe within a text is followed by more of it.
                if matches!(next, None | Some(',' | ':' | '}' | ']')) {
                    if typographic {
                        write("\"");
                    }
                    quote = None;
                } else if c == '"' {
                    write("\\\"");
                }
            }
            Some(_) => {}
        }
    }
    edits.sort_by_key(|edit| edit.span.start);
    Fix { title: "write straight quotes and ordinary spaces".to_owned(), edits }
}

/// The lines without content, if there is one after each line: a web page made paragraphs of them.
fn blank_lines(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut blank = Vec::new();
    let (mut full, mut start) = (0_usize, 0);
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if line.chars().all(|c| c.is_whitespace() || is_hidden_space(c)) {
            blank.push(start..end);
        } else {
            full += 1;
        }
        start = end;
    }
    if full > 2 && blank.len() + 2 >= full { blank } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::diagnostic::apply;

    #[test]
    fn what_a_web_page_made_of_json_is_json_again() {
        let pasted =
            "{\n\n“name”:\u{a0}“a ‘b’ and \"c\"”,\n\n\u{a0}\u{a0}„x”: [1, “it’s”],\n\n\"y\": \"“kept”\"\n\n}\n";
        let fixed = apply(pasted, [&straight(pasted)]);
        assert_eq!(fixed, "{\n\"name\": \"a ‘b’ and \\\"c\\\"\",\n  \"x\": [1, \"it’s\"],\n\"y\": \"“kept”\"\n}\n");
        assert!(serde_json::from_str::<serde_json::Value>(&fixed).is_ok());
    }
}
