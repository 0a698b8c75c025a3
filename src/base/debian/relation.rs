//! What packages say of one another (Policy, section 7.1): `libc6 (>= 2.35), media-types | mime-support`.

use std::fmt;
use std::str::FromStr as _;

use debversion::Version;

/// One alternative of a relationship.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation<'a> {
    /// The name that is asked for.
    pub name: &'a str,
    version: Option<(&'a str, &'a str)>,
}

/// The relationships in the value of a field, each with its alternatives.
pub fn relations(value: &str) -> impl Iterator<Item = impl Iterator<Item = Relation<'_>> + Clone> {
    value.split(',').filter(|all| !all.trim_ascii().is_empty()).map(|all| all.split('|').map(Relation::new))
}

impl<'a> Relation<'a> {
    /// Architectures and build profiles do not occur between built packages; an architecture behind the name (`:any`)
    /// makes no difference where there is only one.
    fn new(text: &'a str) -> Self {
        let (name, version) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.split(')').next().unwrap_or_default().trim_ascii())),
            None => (text, None),
        };
        let name = name.trim_ascii();
        let version = version.map(|text| {
            let (operator, version) = text.split_at(text.find(|c| !"<=>".contains(c)).unwrap_or(text.len()));
            (operator, version.trim_ascii())
        });
        Self { name: name.split(':').next().unwrap_or(name), version }
    }

    /// Whether a package of the version `version` will do. What cannot be compared will not.
    pub(super) fn admits(&self, version: &str) -> bool {
        let Some((operator, wanted)) = self.version else { return true };
        let (Ok(version), Ok(wanted)) = (Version::from_str(version), Version::from_str(wanted)) else { return false };
        match operator {
            "<<" => version < wanted,
            // Policy keeps `<` and `>` with these meanings for old packages.
            "<=" | "<" => version <= wanted,
            "=" => version == wanted,
            ">=" | ">" => version >= wanted,
            ">>" => version > wanted,
            _ => false,
        }
    }

    /// The version that a `Provides` gives to a name, which may have none.
    pub(super) fn provided_version(&self) -> Option<&'a str> {
        self.version.map(|(_, version)| version)
    }

    /// Whether something that is provided in the version `version` will do: one without will only if any will.
    pub(super) fn admits_provided(&self, version: Option<&str>) -> bool {
        version.map_or(self.version.is_none(), |version| self.admits(version))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.version.map_or(Ok(()), |(operator, version)| write!(f, " ({operator} {version})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read() {
        let read: Vec<Vec<_>> = relations("libc6 (>= 2.35), a:any|b(<<1:2) , ,c").map(Iterator::collect).collect();
        let plain = |name, version| Relation { name, version };
        let expected = [
            vec![plain("libc6", Some((">=", "2.35")))],
            vec![plain("a", None), plain("b", Some(("<<", "1:2")))],
            vec![plain("c", None)],
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn versions_are_compared_as_dpkg_does() {
        for (relation, version, admitted) in [
            ("a (>= 1.0)", "1.0~rc1", false),
            ("a (<< 1.0)", "1.0~rc1", true),
            ("a (>= 1.10)", "1:0.1", true),
            ("a (= 2.0-1)", "2.0-1+b1", false),
            ("a (>> 1.9)", "1.10", true),
            ("a (>= 1", "1", true),
            ("a (?? 1)", "1", false),
            ("a (>= )", "1", false),
            ("a", "garbage!", true),
        ] {
            let found = relations(relation).next().unwrap().next().unwrap().admits(version);
            assert_eq!(found, admitted, "{relation} {version}");
        }
    }
}
