//! Diagnostics as a JUnit report: a test case for each file, with a failure where it has errors (the form that
//! Jenkins's and GitLab's readers have in common).

use std::fmt::Write as _;

use super::{Diagnostic, Rendering, Severity};

/// The report on `files`, each with what was found in it.
pub fn junit(files: &[(String, Vec<&Diagnostic>)]) -> String {
    let failed = |diagnostics: &[&Diagnostic]| diagnostics.iter().any(|d| d.severity() == Severity::Error);
    let failures = files.iter().filter(|(_, diagnostics)| failed(diagnostics)).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"0\"", files.len());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(xml, "<testsuites name=\"ekiben validate\" {counts}>");
    let _ = writeln!(xml, "  <testsuite name=\"ekiben validate\" {counts}>");
    for (file, diagnostics) in files {
        let name = escaped(file);
        if diagnostics.is_empty() {
            let _ = writeln!(xml, "    <testcase classname=\"ekiben.validate\" name=\"{name}\" time=\"0\"/>");
            continue;
        }
        let _ = writeln!(xml, "    <testcase classname=\"ekiben.validate\" name=\"{name}\" time=\"0\">");
        let text: Vec<String> = diagnostics.iter().map(|d| Rendering::PLAIN.render(d)).collect();
        let text = escaped(&text.join("\n"));
        let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity() == Severity::Error).collect();
        match errors.first() {
            Some(first) => {
                let (kind, message) = (first.code, escaped(&first.message));
                let _ = writeln!(xml, "      <failure message=\"{message}\" type=\"{kind}\">{text}</failure>");
            }
            None => {
                let _ = writeln!(xml, "      <system-out>{text}</system-out>");
            }
        }
        xml.push_str("    </testcase>\n");
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// XML 1.0, section 2.2 and 2.4: some characters cannot be written at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
