//! Why uv says no, told apart by its words. Its standard error is foreign text: colours and frames are taken off, and
//! what is kept is bounded.

use std::fmt::Write as _;

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// What uv refused, in variants that somebody can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The index has no wheel of the package for this Python and platform.
    #[error("`{package}` has no wheel for {target}: {words}")]
    NoWheel {
        /// As `numpy==1.19.0`.
        package: String,
        /// As `Python 3.11 on linux/arm64`.
        target: String,
        /// uv's explanation.
        words: String,
    },
    /// The index does not know the package.
    #[error("there is no package `{package}`: {words}")]
    NotFound {
        /// Its name.
        package: String,
        /// uv's explanation.
        words: String,
    },
    /// The index has the package, and no version that is asked for.
    #[error("`{package}` is required, and {there}")]
    NoVersion {
        /// As it is required: `numpy>=99`.
        package: String,
        /// What the index has of it, in uv's words: `only numpy<=2.4.0 is available`.
        there: String,
    },
    /// The bytes that the index gave are not those that were locked.
    #[error("the wheel of `{package}` is not the one that was locked: {words}")]
    OtherBytes {
        /// As `numpy==1.26.4`.
        package: String,
        /// uv's explanation.
        words: String,
    },
    /// A requirement is malformed.
    #[error("{words}")]
    Malformed {
        /// uv's explanation, with the place.
        words: String,
    },
    /// It is not in uv's cache, and the network is off.
    #[error("the network is off (--offline), and uv's cache does not have all that is needed: {words}")]
    Offline {
        /// uv's explanation.
        words: String,
    },
    /// The index did not answer.
    #[error("the package index could not be reached: {words}")]
    Unreachable {
        /// uv's explanation, with the URL.
        words: String,
    },
    /// The index wants a name and a password, or does not take those it got.
    #[error("the package index refused access: {words}")]
    Unauthorized {
        /// uv's explanation, with the URL.
        words: String,
    },
    /// The requirements cannot all be met.
    #[error("the requirements cannot be met together: {words}")]
    Conflict {
        /// uv's explanation.
        words: String,
    },
    /// Anything else.
    #[error("uv failed: {words}")]
    Other {
        /// uv's explanation.
        words: String,
    },
}

/// What helps where a version such as `2.3.0+cpu` is not there.
const LOCAL: &str = "a version with a `+`, as `+cpu`, lies in an index of its own: name that in requirements.txt, as \
                     `--extra-index-url https://…`, or by UV_INDEX";

/// Whether a version with a local part (PEP 440) is asked for.
fn has_local_version(words: &str) -> bool {
    words.split("==").skip(1).any(|rest| {
        let version = rest.split(|c: char| c.is_whitespace() || ",;".contains(c)).next().unwrap_or_default();
        version.split_once('+').is_some_and(|(_, local)| local.starts_with(|c: char| c.is_ascii_alphanumeric()))
    })
}

/// What helps where `package` has no wheel.
fn instead_of(package: &str) -> String {
    let name = package.split(['=', '<', '>', '~', '!', ' ']).next().unwrap_or(package);
    format!(
        "try another version of `{name}` or of Python; or build a wheel where a compiler is (`pip wheel {package}`), put \
         it into the project, and require it by its path: `{name} @ ./wheels/…whl`"
    )
}

impl Explain for Refusal {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoWheel { package, .. } => ErrorKind::Failure.named("python/no-wheel").hint(instead_of(package)),
            Self::NotFound { .. } => ErrorKind::Failure.named("python/no-package").hint(
                "look at the spelling; for a package of a private index, name the index in requirements.txt \
                 (--index-url) or by UV_INDEX",
            ),
            Self::NoVersion { package, .. } => {
                let local = has_local_version(package).then(|| LOCAL.to_owned());
                let name = package.split(|c: char| "=<>~![ ".contains(c)).next().unwrap_or(package);
                let open = format!("look at the version; `{name}` alone takes the newest that fits the others");
                ErrorKind::Failure.named("python/no-version").hint(local.unwrap_or(open))
            }
            Self::OtherBytes { .. } => ErrorKind::Stale
                .named("python/other-bytes")
                .hint("`ekiben lock --update` takes what the index has now, if you trust it"),
            Self::Malformed { .. } => ErrorKind::Failure.named("python/malformed-requirement"),
            Self::Offline { .. } => ErrorKind::Unavailable.named("python/offline").hint("run once with the network on"),
            Self::Unreachable { .. } => ErrorKind::Unavailable.named("python/unreachable").hint(
                "look at the network, at proxies (HTTPS_PROXY) and certificates (SSL_CERT_FILE), or name another \
                 index by UV_DEFAULT_INDEX",
            ),
            Self::Unauthorized { .. } => ErrorKind::Unavailable
                .named("python/unauthorized")
                .hint("put the name and password into ~/.netrc, or log in with `uv auth login`"),
            Self::Conflict { words } => {
                ErrorKind::Failure.named("python/conflict").maybe(has_local_version(words).then(|| LOCAL.to_owned()))
            }
            Self::Other { .. } => ErrorKind::Failure.named("python/uv-failed"),
        }
    }
}

impl Refusal {
    /// Whether another Python, or another version, may be had where this cannot: what is there has no wheel for this one.
    pub fn is_about_wheels(&self) -> bool {
        /// uv's words for what the index has, but not for this Python.
        const WORDS: [&str; 4] =
            ["no usable wheels", "no wheels with a matching", "Python version (", "no wheels are available"];
        match self {
            Self::NoWheel { .. } => true,
            Self::Conflict { words } => WORDS.iter().any(|part| words.contains(part)),
            _ => false,
        }
    }

    /// Tells apart what uv wrote when it failed.
    pub(super) fn of(stderr: &[u8], target: &str) -> Self {
        let words = words(stderr);
        let has = |part: &str| words.contains(part);
        let before = |part: &str| words.split(part).next().and_then(|text| text.split_whitespace().next_back());
        let tidy = |package: &str| package.trim_matches(['`', ',', ':']).to_owned();
        for part in [" has no usable wheels", " has no wheels with a matching"] {
            // In the middle of a longer chain it is one reason among several: a conflict.
            if has(part) && words.matches("And because").count() == 0 {
                let package = tidy(before(part).unwrap_or_default());
                return Self::NoWheel { package, target: target.to_owned(), words };
            }
        }
        if has("network was disabled") || has("network connectivity is disabled") {
            Self::Offline { words }
        } else if has("a lack of valid authentication credentials") {
            // Whether the package is there, nobody says then.
            Self::Unauthorized { words }
        } else if has(" was not found in the package registry") {
            let package = tidy(before(" was not found in the package registry").unwrap_or_default());
            Self::NotFound { package, words }
        } else if let Some((_, rest)) = words.split_once("Hash mismatch for `") {
            Self::OtherBytes { package: rest.split('`').next().unwrap_or_default().to_owned(), words }
        } else if has("Couldn't parse requirement") || has("Failed to parse") {
            Self::Malformed { words }
        } else if has("401 Unauthorized") || has("403 Forbidden") {
            Self::Unauthorized { words }
        } else if has("error sending request") || has("Failed to fetch") {
            Self::Unreachable { words }
        } else if has("No solution found") {
            let words = words.replace("No solution found when resolving dependencies: ", "");
            match lone(&words) {
                Some((there, package)) => Self::NoVersion { package: package.to_owned(), there: there.to_owned() },
                None => Self::Conflict { words },
            }
        } else {
            Self::Other { words }
        }
    }
}

/// What there is of a package, and the requirement that asks for other versions of it, where nothing else is in the way.
fn lone(words: &str) -> Option<(&str, &str)> {
    let (why, rest) = words.strip_prefix("Because ")?.split_once(" and you require ")?;
    let (required, conclusion) = rest.split_once(", we can conclude that ")?;
    let is_missing =
        why.starts_with("there is no version of ") || why.starts_with("only ") && why.ends_with(" available");
    let is_alone = conclusion == "your requirements are unsatisfiable." && !required.contains(" and ");
    (is_missing && is_alone).then_some((why, required))
}

/// Most that is kept of a program's words, in characters.
const MOST: usize = 1500;

/// What a program wrote, in one line: without colours, frames, warnings and progress, and bounded.
pub(super) fn words(stderr: &[u8]) -> String {
    let tail = stderr.get(stderr.len().saturating_sub(64 << 10)..).unwrap_or_default();
    let text = without_escapes(&String::from_utf8_lossy(tail));
    // What comes before the error are warnings and progress.
    let start = ["error: ", "ERROR: ", "  × "].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(0);
    let mut line = String::new();
    for word in text.get(start..).unwrap_or_default().split_whitespace() {
        let framing = ["×", "╰─▶", "│", "├─▶", "error:", "ERROR:", "cause:", "hint:"].contains(&word);
        if framing {
            // A cause follows the sentence that it explains.
            if matches!(word, "╰─▶" | "├─▶" | "cause:") && line.ends_with(|c: char| c.is_alphanumeric() || c == '`')
            {
                line.push(':');
            }
            continue;
        }
        let _ = write!(line, "{}{}", if line.is_empty() { "" } else { " " }, without_credentials(word));
    }
    let line = line.replace("dependencies:: ", "dependencies: ");
    let shortened: String = line.chars().take(MOST).collect();
    if shortened.len() < line.len() { shortened + " …" } else { shortened }
}

/// A word without the name and password of a URL in it.
pub(super) fn without_credentials(word: &str) -> String {
    let mut plain = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(['/', '?', '#', '`', '\'', '"', ')']).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        plain = plain + before + "://" + authority.rsplit('@').next().unwrap_or_default();
        rest = behind;
    }
    plain + rest
}

/// Takes off terminal control sequences (ECMA-48, 5.4) and other control characters.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: &str = "Python 3.13 on linux/amd64";

    fn of(text: &str) -> Refusal {
        Refusal::of(text.as_bytes(), TARGET)
    }

    #[test]
    fn a_package_without_a_wheel_is_named_whatever_the_frame() {
        let old = include_str!("../../../fixtures/uv/no-wheel-0.9.txt");
        let new = include_str!("../../../fixtures/uv/no-wheel-0.13.txt");
        for text in [old, new] {
            let Refusal::NoWheel { package, words, .. } = of(text) else { panic!("{:?}", of(text)) };
            assert_eq!(package, "mysqlclient==2.2.4");
            assert!(words.starts_with("No solution found when resolving dependencies: Because mysqlclient"), "{words}");
        }
        let tag = of(include_str!("../../../fixtures/uv/no-tag.txt"));
        assert!(matches!(&tag, Refusal::NoWheel { package, .. } if package == "torch==1.8.0"), "{tag:?}");
        assert!(tag.explain().hint.is_some_and(|hint| hint.contains("`torch @ ./wheels/")));
    }

    #[test]
    fn other_refusals_are_told_apart() {
        let conflict = of(include_str!("../../../fixtures/uv/conflict.txt"));
        assert!(
            matches!(&conflict, Refusal::Conflict { words } if words.starts_with("Because scikit-learn==1.5.2 depends on numpy>=1.19.5 and")),
            "{conflict:?}"
        );
        let missing = of(include_str!("../../../fixtures/uv/not-found.txt"));
        assert!(matches!(&missing, Refusal::NotFound { package, .. } if package == "sklearn-nope"), "{missing:?}");
        let malformed = of(include_str!("../../../fixtures/uv/malformed.txt"));
        assert!(
            matches!(&malformed, Refusal::Malformed { words } if words.contains("no such comparison")),
            "{malformed:?}"
        );
        let offline = of(include_str!("../../../fixtures/uv/offline.txt"));
        assert!(matches!(&offline, Refusal::Offline { .. }), "{offline:?}");
        let unreachable = of(include_str!("../../../fixtures/uv/unreachable.txt"));
        assert!(matches!(&unreachable, Refusal::Unreachable { .. }), "{unreachable:?}");
        let other = of(include_str!("../../../fixtures/uv/other-bytes.txt"));
        assert!(
            matches!(&other, Refusal::OtherBytes { package, .. } if package == "annotated-doc==0.0.7"),
            "{other:?}"
        );
    }

    #[test]
    fn a_version_that_is_not_there_is_no_conflict() {
        const SAID: &str = "  × No solution found when resolving dependencies:\n  ╰─▶ ";
        for (words, required) in [
            (
                "Because there is no version of scikit-learn==9.9.9 and you require scikit-learn==9.9.9, we can conclude that \
                 your requirements are unsatisfiable.",
                Some("scikit-learn==9.9.9"),
            ),
            (
                "Because only numpy<=2.4.0 is available and you require numpy>=9, we can conclude that your requirements are \
                 unsatisfiable.",
                Some("numpy>=9"),
            ),
            (
                "Because there is no version of a==9 and b depends on a==9, we can conclude that b cannot be used. And because \
                 you require b, we can conclude that your requirements are unsatisfiable.",
                None,
            ),
            (
                "Because there is no version of a==9 and you require a==9, we can conclude that your requirements are \
                 unsatisfiable. Pre-releases are available for `a`",
                None,
            ),
            (
                "Because you require a==1 and you require a==2, we can conclude that your requirements are unsatisfiable.",
                None,
            ),
        ] {
            match (of(&format!("{SAID}{words}")), required) {
                (Refusal::NoVersion { package, .. }, Some(required)) => assert_eq!(package, required),
                (Refusal::Conflict { .. }, None) => {}
                (refusal, _) => panic!("{refusal:?}"),
            }
        }
    }

    #[test]
    fn a_local_version_is_in_an_index_of_its_own() {
        let hint = |words: &str| {
            Refusal::Conflict { words: words.to_owned() }
                .explain()
                .hint
                .is_some_and(|hint| hint.contains("--extra-index-url"))
        };
        assert!(hint(
            "Because there is no version of torch==2.3.0+cpu and you require torch==2.3.0+cpu, we can conclude"
        ));
        assert!(!hint("Because there is no version of torch==99 and a+b==1, you require torch==99"));
    }

    #[test]
    fn colours_and_warnings_go() {
        let text = "warning: old\n\u{1b}[1m\u{1b}[31merror\u{1b}[39m\u{1b}[0m: bad\u{7} thing\n  cause: rotten";
        assert_eq!(words(text.as_bytes()), "bad thing: rotten");
        let text = "error: `https://me:p@ss@i.example/simple/x` (http://u@h) a@b://c";
        assert_eq!(words(text.as_bytes()), "`https://i.example/simple/x` (http://h) a@b://c");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Refusal::of(&bytes, TARGET);
        }
    }
}
