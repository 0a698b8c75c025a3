//! The page `docs/diagnostics.md`: every rule, made from the table of them.

use std::fmt::Write as _;

use super::{Code, Severity};

/// The text of the page.
pub fn reference() -> String {
    let mut page = String::from(
        "# Diagnostics\n\n\
         Every rule that `ekiben validate` knows. `ekiben explain EK0201` prints the same. A number is never given to\n\
         another rule.\n\n\
         `ekiben validate` ends with 0 where there is no error, and with 3 where there is one; with `--strict` warnings count\n\
         as errors. `--output` is one of `human`, `json`, `sarif` (2.1.0), `github` (annotations), `gitlab` (code quality)\n\
         and `junit`.\n\
         This page is made from the code: `EKIBEN_BLESS=1 cargo test --test it validate::`.\n",
    );
    let mut hundreds = "";
    for code in Code::ALL {
        let group = code.number().get(2..4).unwrap_or_default();
        if group != hundreds {
            hundreds = group;
            // Writing to a String cannot fail.
            let _ = write!(page, "\n## {}\n", heading(group));
        }
        let severity = match code.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(page, "\n### {code}: {}\n\n*{severity}* · {}\n", code.title(), code.explanation());
    }
    page
}

fn heading(group: &str) -> &'static str {
    match group {
        "00" => "The file as such",
        "01" => "Syntax",
        "02" => "Form",
        "03" => "Files of the project",
        "04" => "The service",
        "05" => "Packages and bases",
        "06" => "The rest of the manifest",
        "07" => "The lock",
        "08" => "Files of models",
        "09" => "Documents of other programs",
        _ => "Dockerfiles",
    }
}
