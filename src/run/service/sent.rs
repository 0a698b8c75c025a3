//! What is sent to a service: JSON, or a form with files (RFC 7578).

use crate::io::digest::Digest;
use crate::project::manifest::media_type;

/// The body of a request, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub(super) content_type: String,
    pub(super) bytes: Vec<u8>,
}

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the input.
    pub name: String,
    /// What the file is called; none where the part is a value.
    pub file_name: Option<String>,
    /// Of the file, or the value's text.
    pub content: Vec<u8>,
}

impl Sent {
    /// A text that is JSON.
    pub fn json(text: impl Into<Vec<u8>>) -> Self {
        Self { content_type: "application/json".to_owned(), bytes: text.into() }
    }

    /// The parts of a form.
    pub fn form(parts: &[Part]) -> Self {
        // What no part holds, as far as anybody can tell.
        let digests: String = parts.iter().map(|part| Digest::of(&part.content).hex()).collect();
        let boundary = format!("ekiben-{}", &Digest::of(digests).hex()[..32]);
        let mut bytes = Vec::new();
        for Part { name, file_name, content } in parts {
            let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escaped(name));
            if let Some(file_name) = file_name {
                let kind = media_type(file_name);
                head += &format!("; filename=\"{}\"\r\nContent-Type: {kind}", escaped(file_name));
            }
            bytes.extend(head.into_bytes());
            bytes.extend(b"\r\n\r\n");
            bytes.extend(content);
            bytes.extend(b"\r\n");
        }
        bytes.extend(format!("--{boundary}--\r\n").into_bytes());
        Self { content_type: format!("multipart/form-data; boundary={boundary}"), bytes }
    }
}

/// A name in quotes, as browsers write it (WHATWG HTML, "multipart form data").
fn escaped(name: &str) -> String {
    name.replace('\n', "%0A").replace('\r', "%0D").replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_each_part_between_its_boundaries() {
        let part = |name: &str, file_name: Option<&str>, content: &str| Part {
            name: name.to_owned(),
            file_name: file_name.map(str::to_owned),
            content: content.as_bytes().to_vec(),
        };
        let sent = Sent::form(&[part("n", None, "2"), part("i", Some("a\"\r\n.png"), "x")]);
        let boundary = sent.content_type.rsplit_once('=').unwrap().1.to_owned();
        assert_eq!(
            String::from_utf8(sent.bytes).unwrap().replace(&boundary, "B"),
            "--B\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--B\r\nContent-Disposition: form-data; \
             name=\"i\"; filename=\"a%22%0D%0A.png\"\r\nContent-Type: image/png\r\n\r\nx\r\n--B--\r\n"
        );
    }
}
