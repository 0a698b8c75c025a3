//! Diagnostics as GitHub shows them beside the lines of a pull request (GitHub's documentation, "Workflow commands").

use super::{Diagnostic, Severity};

/// A line for each: `::error file=…,line=…,col=…::…`.
pub fn github<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> String {
    diagnostics.into_iter().map(line).collect()
}

fn line(diagnostic: &Diagnostic) -> String {
    let source = &diagnostic.primary.source;
    let word = match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut place = format!("file={}", property(source.path()));
    if !source.text().is_empty() {
        let (start, end) =
            (source.position(diagnostic.primary.span.start), source.position(diagnostic.primary.span.end));
        place += &format!(",line={},col={}", start.0, start.1);
        // Columns make sense within one line only.
        if start.0 == end.0 {
            place += &format!(",endLine={},endColumn={}", end.0, end.1);
        }
    }
    let title = property(&format!("{} {}", diagnostic.code, diagnostic.code.title()));
    let mut message = diagnostic.message.clone();
    for help in std::iter::once(&diagnostic.primary.text).filter(|text| !text.is_empty()).chain(&diagnostic.help) {
        message = message + "\n" + help;
    }
    format!("::{word} {place},title={title}::{}\n", escaped(&message))
}

/// As the runner reads data.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As the runner reads properties.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}
