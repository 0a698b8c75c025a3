//! Python requirements: whether any version satisfies all of them, and the lock does.

use pep440_rs::{Version, VersionSpecifiers};

use super::Subject;
use crate::base::requirements::Wanted;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};

/// Looks whether they can be met; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let wanted = &subject.requirements.wanted;
    contradictions(wanted, found);
    locked_otherwise(subject, wanted, found);
}

/// Requirements of the same package that no version satisfies.
fn contradictions(wanted: &[Wanted], found: &mut Diagnostics) {
    for (number, later) in wanted.iter().enumerate() {
        if !satisfiable([&later.versions]) {
            let message = format!("no version of `{}` satisfies `{}`", later.name, later.text);
            found.push(Diagnostic::new(Code::Contradiction, &later.source, later.span.clone(), message));
            continue;
        }
        let same = |earlier: &&Wanted| earlier.name == later.name && earlier.marker == later.marker;
        let clash = |earlier: &&Wanted| !satisfiable([&earlier.versions, &later.versions]);
        if let Some(earlier) = wanted.iter().take(number).filter(same).find(clash) {
            let message = format!("no version of `{}` satisfies both requirements", later.name);
            found.push(
                Diagnostic::new(Code::Contradiction, &later.source, later.span.clone(), message)
                    .label("this one")
                    .also(&earlier.source, earlier.span.clone(), "and this one")
                    .help("keep one of them"),
            );
        }
    }
}

/// Whether some version satisfies all. Only versions named in the specifiers, and those just beside them, can decide.
fn satisfiable<'a>(all: impl IntoIterator<Item = &'a VersionSpecifiers> + Clone) -> bool {
    let named =
        all.clone().into_iter().flat_map(|versions| versions.iter()).map(|specifier| specifier.version().clone());
    let mut candidates: Vec<Version> = vec![Version::new([0]), Version::new([1_000_000])];
    for version in named {
        let release = version.release().to_vec();
        let beside = |index: usize, up: bool| {
            let mut release = release.clone();
            release.resize(release.len().max(3), 0);
            let part = release.get_mut(index)?;
            *part = if up { part.checked_add(1)? } else { part.checked_sub(1)? };
            Some(Version::new(release))
        };
        for index in 0..release.len().max(3) {
            candidates.extend([true, false].into_iter().filter_map(|up| beside(index, up)));
        }
        let mut longer = release.clone();
        longer.extend([0, 1]);
        candidates.push(Version::new(longer));
        // Between 1.2 and 1.3 lies 1.2.999; `~=` and `.*` are met by the version itself.
        let mut below = release;
        below.extend([999_999]);
        candidates.push(Version::new(below));
        candidates.push(version);
    }
    candidates.iter().any(|version| all.clone().into_iter().all(|versions| versions.contains(version)))
}

fn locked_otherwise(subject: &Subject<'_>, wanted: &[Wanted], found: &mut Diagnostics) {
    for wanted in wanted.iter().filter(|wanted| wanted.marker.is_empty()) {
        let Some(locked) = subject.locked.get(&wanted.name) else { continue };
        let is_relaxed = subject.relaxed.iter().any(|one| one.before == wanted.text);
        if !is_relaxed && !wanted.versions.contains(locked) {
            let message = format!("the lock has {} {locked}, which `{}` excludes", wanted.name, wanted.text);
            let warning = Diagnostic::new(Code::LockedOtherwise, &wanted.source, wanted.span.clone(), message);
            found.push(warning.help("renew the lock: `ekiben lock`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn what_no_version_satisfies_is_told_from_what_some_does() {
        let parse = |text: &str| VersionSpecifiers::from_str(text).unwrap();
        for (one, other) in [("==1.3", "==1.5"), (">=3", "<2"), ("==1.*", ">=2"), ("~=1.4.2", ">=1.5"), (">2", "<=2")] {
            assert!(!satisfiable([&parse(one), &parse(other)]), "{one} {other}");
        }
        for (one, other) in [
            (">=1.2", "<1.3"),
            (">1.2", "<1.3"),
            ("==1.*", ">=1.9"),
            ("~=1.4.2", "<1.5"),
            ("!=2", ">=2"),
            (">=2,<3", "!=2.0"),
            (">1.2.3", "<1.2.4"),
            ("<2", "!=1"),
            ("", "==2.0.0rc1"),
        ] {
            assert!(satisfiable([&parse(one), &parse(other)]), "{one} {other}");
        }
    }
}
