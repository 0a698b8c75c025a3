//! Licences, as packages say what theirs are, as expressions of SPDX.
//!
//! Invariant: an expression is valid by the specification's grammar (SPDX 2.3, annex D). What is no licence of SPDX's list is
//! in it as a `LicenseRef`, with the words that the package has for it; what is not known is no expression.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spdx::{Expression, ParseMode};

use crate::formats::deb822;

/// Longest text that is taken for the name of a licence, in bytes: others are the licence itself.
const LONGEST_NAME: usize = 100;

/// As the specification has it, but for old names of licences, which are still on its list.
const MODE: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };

/// A licence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// As SPDX writes it; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// What the references in it stand for, in the words of who wrote them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
}

/// Names of licences that are none of SPDX's, and mean one of them: in Debian's files, and in classifiers of Python packages.
const ALIASES: [(&str, &str); 36] = [
    ("apache license 2.0", "Apache-2.0"),
    ("apache license, version 2.0", "Apache-2.0"),
    ("apache software license", "Apache-2.0"),
    ("apache 2.0", "Apache-2.0"),
    ("apache-2", "Apache-2.0"),
    ("apache2", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("bsd 2-clause", "BSD-2-Clause"),
    ("bsd 3-clause", "BSD-3-Clause"),
    ("bsd 3-clause license", "BSD-3-Clause"),
    ("3-clause bsd license", "BSD-3-Clause"),
    ("new bsd", "BSD-3-Clause"),
    ("modified bsd license", "BSD-3-Clause"),
    ("boost software license 1.0 (bsl-1.0)", "BSL-1.0"),
    ("expat", "MIT"),
    ("gnu affero general public license v3", "AGPL-3.0-only"),
    ("gnu affero general public license v3 or later (agplv3+)", "AGPL-3.0-or-later"),
    ("gnu general public license v2 (gplv2)", "GPL-2.0-only"),
    ("gnu general public license v2 or later (gplv2+)", "GPL-2.0-or-later"),
    ("gnu general public license v3 (gplv3)", "GPL-3.0-only"),
    ("gnu general public license v3 or later (gplv3+)", "GPL-3.0-or-later"),
    ("gnu lesser general public license v2 (lgplv2)", "LGPL-2.0-only"),
    ("gnu lesser general public license v2 or later (lgplv2+)", "LGPL-2.0-or-later"),
    ("gnu lesser general public license v3 (lgplv3)", "LGPL-3.0-only"),
    ("gnu lesser general public license v3 or later (lgplv3+)", "LGPL-3.0-or-later"),
    ("isc license (iscl)", "ISC"),
    ("isc license", "ISC"),
    ("mit license", "MIT"),
    ("the mit license", "MIT"),
    ("mit no attribution license (mit-0)", "MIT-0"),
    ("mozilla public license 2.0 (mpl 2.0)", "MPL-2.0"),
    ("mpl-2", "MPL-2.0"),
    ("psf", "PSF-2.0"),
    ("psf-2", "PSF-2.0"),
    ("python software foundation license", "PSF-2.0"),
    ("the unlicense (unlicense)", "Unlicense"),
];

impl Licence {
    /// The one that `text` names: an expression, or a name that means one of SPDX's, or any.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case("unknown") {
            return Self::default();
        }
        match known(text) {
            Some(expression) => Self { expression: Some(expression), named: BTreeMap::new() },
            None => Self::named(text),
        }
    }

    /// Whether it is enough that the licences hold which `is_fine` says of (SPDX specification 2.3, annex D): of `AND` all
    /// must, of `OR` one. Never where none is known.
    pub fn holds(&self, mut is_fine: impl FnMut(&str) -> bool) -> bool {
        let expression = self.expression.as_deref().and_then(|text| Expression::parse_mode(text, MODE).ok());
        expression.is_some_and(|expression| expression.evaluate(|one| is_fine(&one.to_string())))
    }

    /// One that SPDX does not know.
    fn named(text: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
        let name: String = text.chars().take(LONGEST_NAME).map(plain).collect();
        let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        if name.is_empty() {
            return Self::default();
        }
        let reference = format!("LicenseRef-{name}");
        let words = text.chars().take(LONGEST_NAME).collect();
        Self { expression: Some(reference.clone()), named: BTreeMap::from([(reference, words)]) }
    }

    /// What holds where each of `all` does for a part; none where there are none.
    fn joined(all: Vec<Self>, word: &str) -> Self {
        let (mut expressions, mut named) = (BTreeSet::new(), BTreeMap::new());
        for one in all {
            named.extend(one.named);
            expressions.extend(one.expression);
        }
        let several = expressions.len() > 1;
        let bracketed = |text: String| match several && (text.contains(" AND ") || text.contains(" OR ")) {
            true => format!("({text})"),
            false => text,
        };
        let joined = expressions.into_iter().map(bracketed).collect::<Vec<_>>().join(word);
        Self { expression: Some(joined).filter(|text| !text.is_empty()), named }
    }

    /// What the copyright file of a Debian package says (Debian's machine-readable format, DEP-5): that all licences of its
    /// files hold. None where it is not written in that format.
    pub fn of_copyright(text: &str) -> Self {
        let mut paragraphs = deb822::paragraphs(text);
        let is_readable = paragraphs.next().is_some_and(|header| {
            header.get("Format").or_else(|| header.get("Format-Specification")).is_some_and(|format| !format.is_empty())
        });
        if !is_readable {
            return Self::default();
        }
        let names: BTreeSet<&str> = paragraphs
            .filter(|paragraph| paragraph.get("Files").is_some())
            .filter_map(|paragraph| paragraph.get("License")?.lines().next())
            .map(str::trim)
            .collect();
        Self::joined(names.into_iter().map(Self::of_debian).collect(), " AND ")
    }

    /// A line as `GPL-2+ or Artistic, and BSD-3-clause`: a comma binds less than the words (DEP-5, "Syntax").
    fn of_debian(line: &str) -> Self {
        let mut whole: Option<Self> = None;
        for part in line.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (word, part) = match part.split_once(' ') {
                Some(("and", rest)) => (" AND ", rest),
                Some(("or", rest)) => (" OR ", rest),
                _ => (" AND ", part),
            };
            let either = part.split(" or ").map(|one| {
                let all = one.split(" and ").map(|name| Self::of(name.trim())).collect();
                Self::joined(all, " AND ")
            });
            let part = Self::joined(either.collect(), " OR ");
            whole = Some(match whole {
                None => part,
                Some(before) => Self::joined(vec![before, part], word),
            });
        }
        whole.unwrap_or_default()
    }

    /// What a Python package says in its metadata: an expression (PEP 639), else the name of one, else classifiers.
    pub fn of_metadata<'a>(fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let all = |name: &'static str| fields.clone().filter(move |field| field.0.eq_ignore_ascii_case(name));
        let one =
            |name| all(name).map(|(_, value)| value.trim()).find(|value| !value.is_empty() && *value != "UNKNOWN");
        if let Some(expression) = one("License-Expression") {
            return Self::of(expression);
        }
        let is_name = |text: &&str| !text.contains('\n') && text.len() <= LONGEST_NAME;
        let named = one("License").filter(is_name);
        if let Some(expression) = named.and_then(known) {
            return Self { expression: Some(expression), named: BTreeMap::new() };
        }
        let classifiers = all("Classifier").filter_map(|(_, value)| value.trim().strip_prefix("License ::"));
        let classifiers: Vec<_> = classifiers
            .filter_map(|value| value.rsplit("::").next())
            .map(str::trim)
            .filter(|name| *name != "OSI Approved")
            .map(Self::of)
            .collect();
        match (classifiers.is_empty(), named) {
            (true, Some(name)) => Self::of(name),
            (true, None) => Self::default(),
            (false, _) => Self::joined(classifiers, " AND "),
        }
    }
}

/// The expression that `text` is or means; none where it is none of SPDX's.
fn known(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, name)) = ALIASES.iter().find(|(alias, _)| *alias == lower) {
        return Some((*name).to_owned());
    }
    // `GPL-2.0` alone is an old name, which does not say whether later ones do.
    if let Some(name) = gnu(&lower) {
        return Some(name);
    }
    if text.len() <= 1000 && text.matches('(').count() < 20 && Expression::parse_mode(text, MODE).is_ok() {
        return Some(text.split_ascii_whitespace().map(operator).collect::<Vec<_>>().join(" "));
    }
    let mut listed = spdx::identifiers::LICENSES.iter().map(|license| license.name);
    listed.find(|name| name.eq_ignore_ascii_case(text)).map(str::to_owned)
}

/// Operators are capitals.
fn operator(word: &str) -> String {
    match ["and", "or", "with"].contains(&word) {
        true => word.to_ascii_uppercase(),
        false => word.to_owned(),
    }
}

/// A licence of GNU's as Debian and others write it: `gpl-2+`, `lgplv2.1`, `gpl-3.0+`.
fn gnu(text: &str) -> Option<String> {
    let kind = ["agpl", "lgpl", "gfdl", "gpl"].into_iter().find(|kind| text.starts_with(kind))?;
    let version = text.get(kind.len()..)?.trim_start_matches('-').trim_start_matches('v');
    let (version, word) = match version.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (version, "only"),
    };
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let name = format!("{}-{version}-{word}", kind.to_ascii_uppercase());
    spdx::license_id(&name).map(|found| found.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(licence: &Licence) -> &str {
        licence.expression.as_deref().unwrap_or("-")
    }

    #[test]
    fn names_become_expressions() {
        for (text, wanted) in [
            ("MIT", "MIT"),
            ("mit", "MIT"),
            ("Expat", "MIT"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-3", "GPL-3.0-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("LGPLv2.1", "LGPL-2.1-only"),
            ("GFDL-1.3", "GFDL-1.3-only"),
            ("GPL-9", "LicenseRef-GPL-9"),
            ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
            ("MIT and (bsd-3-clause)", "LicenseRef-MIT-and-bsd-3-clause"),
            ("MIT or Apache-2.0", "MIT OR Apache-2.0"),
            ("bsd-3-clause", "BSD-3-Clause"),
            ("public-domain", "LicenseRef-public-domain"),
            ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
            ("UNKNOWN", "-"),
            ("  ", "-"),
            ("é…", "-"),
        ] {
            let found = Licence::of(text);
            assert_eq!(expression(&found), wanted, "{text}");
            if let Some(text) = &found.expression {
                assert!(Expression::parse_mode(text, ParseMode::LAX).is_ok(), "{text}");
            }
        }
    }

    #[test]
    fn copyright_files_are_read() {
        let text = "Format: https://example.org/format/1.0/\nLicense: ignored\n\nFiles: *\nCopyright: x\nLicense: GPL-2+ or Artistic\n text\n\n\
                    Files: debian/*\nLicense: Expat\n\nFiles: b\nLicense: A or MIT, and zlib\n\nLicense: GPL-2+\n long\n";
        let found = Licence::of_copyright(text);
        assert_eq!(
            expression(&found),
            "((LicenseRef-A OR MIT) AND Zlib) AND (Artistic-1.0-Perl OR GPL-2.0-or-later) AND MIT"
        );
        assert_eq!(found.named["LicenseRef-A"], "A");
        assert_eq!(Licence::of_copyright("This is free software.\n\nLicense: MIT\nFiles: *\n"), Licence::default());
        assert_eq!(Licence::of_copyright("").expression, None);
    }

    #[test]
    fn metadata_is_read_in_the_order_of_what_is_said_best() {
        let of = |fields: &[(&str, &str)]| expression(&Licence::of_metadata(fields.iter().copied())).to_owned();
        let classifier = ("Classifier", "License :: OSI Approved :: BSD License");
        assert_eq!(of(&[("License-Expression", "MIT"), ("License", "x"), classifier]), "MIT");
        assert_eq!(of(&[("License", "BSD-3-Clause"), classifier]), "BSD-3-Clause");
        assert_eq!(of(&[("License", "Copyright\n  long"), classifier]), "LicenseRef-BSD-License");
        assert_eq!(of(&[("License", "our own")]), "LicenseRef-our-own");
        assert_eq!(of(&[("License", "UNKNOWN"), ("Classifier", "License :: OSI Approved")]), "-");
        let two = ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License"];
        assert_eq!(of(&two.map(|text| ("Classifier", text))), "Apache-2.0 AND MIT");
    }

    proptest::proptest! {
        #[test]
        fn any_words_give_a_valid_expression(text in "(GPL|MIT|-2|\\+|\\(|\\)| or | and | with |,|[a-zé.: /]){0,12}") {
            for found in [Licence::of(&text), Licence::of_debian(&text)] {
                if let Some(text) = &found.expression {
                    proptest::prop_assert!(Expression::parse_mode(text, ParseMode::LAX).is_ok(), "{}", text);
                }
            }
        }
    }
}
