//! Alternatives: names like `libblas.so.3` for which one of several packages stands in (update-alternatives(1)).
//!
//! Packages register theirs in the script that dpkg runs after unpacking. Here it is read as text: the lines that call
//! `update-alternatives --install` with plain words. What a shell would have to work out is not guessed at.

use std::collections::BTreeMap;

use crate::io::archive::ArchivePath;

/// A link that a script asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    /// Where the link lies: `usr/lib/x86_64-linux-gnu/libblas.so.3`.
    pub(super) link: ArchivePath,
    /// What the choice is called, below `/etc/alternatives`.
    pub(super) name: ArchivePath,
    /// What it leads to.
    pub(super) path: ArchivePath,
}

/// A choice, with what goes along with it (manual pages and the like).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alternative {
    pub(super) priority: i64,
    pub(super) main: Link,
    pub(super) along: Vec<Link>,
}

/// The alternatives that `script` registers; none for each that only a shell could work out.
pub(super) fn read(script: &str) -> Vec<Option<Alternative>> {
    let joined = script.replace("\\\n", " ");
    let code = joined.lines().filter(|line| !line.trim_ascii_start().starts_with('#'));
    code.filter_map(|line| line.split_once("update-alternatives "))
        .filter_map(|(_, arguments)| arguments.split_once("--install "))
        .map(|(_, arguments)| read_registration(arguments))
        .collect()
}

fn read_registration(arguments: &str) -> Option<Alternative> {
    let mut words = arguments
        .split_ascii_whitespace()
        .take_while(|word| !word.starts_with(['#', ';', '|', '&', '>']))
        .map(|word| word.trim_end_matches(';').trim_matches(['"', '\'']));
    let main = read_link(words.by_ref())?;
    let priority = words.next()?.parse().ok()?;
    let mut along = Vec::new();
    while let Some(word) = words.next() {
        if word == "--slave" {
            along.extend(read_link(words.by_ref()));
        }
    }
    Some(Alternative { priority, main, along })
}

fn read_link<'a>(words: impl Iterator<Item = &'a str>) -> Option<Link> {
    let words: Vec<_> = words.take(3).collect();
    let &[link, name, path] = words.as_slice() else { return None };
    let plain = |word: &str| {
        let path = ArchivePath::new(word).ok()?;
        (!word.contains(['$', '`', '*', '{'])).then_some(path)
    };
    let name = plain(name).filter(|name| name.parent().is_none())?;
    Some(Link { link: plain(link)?, name, path: plain(path)? })
}

/// What a Java of Debian's lists in `/usr/lib/jvm/….jinfo` (java-common, update-java-alternatives(8)): its priority, and for each
/// command a line of its kind, its name and where it lies.
pub(super) fn of_java(list: &str) -> Vec<Alternative> {
    let priority =
        list.lines().find_map(|line| line.strip_prefix("priority=")?.trim().parse().ok()).unwrap_or_default();
    let commands = list.lines().filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let &[_, name, path] = words.as_slice() else { return None };
        let is_command = path.strip_suffix(name).is_some_and(|folder| folder.ends_with("/bin/"));
        let main = read_link([&format!("/usr/bin/{name}"), name, path].into_iter())?;
        is_command.then_some(Alternative { priority, main, along: Vec::new() })
    });
    commands.collect()
}

/// Of each choice the alternative with the highest priority, of equal ones the first.
pub(super) fn best(all: impl IntoIterator<Item = Alternative>) -> impl Iterator<Item = Alternative> {
    let mut best = BTreeMap::<ArchivePath, Alternative>::new();
    for alternative in all {
        let known = best.get(&alternative.main.name);
        if known.is_none_or(|known| known.priority < alternative.priority) {
            best.insert(alternative.main.name.clone(), alternative);
        }
    }
    best.into_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_registrations_are_read_from_scripts() {
        let script = "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n  update-alternatives --quiet --install /usr/bin/awk awk \"/usr/bin/mawk\" 5 \\\n    --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz || true\nfi\nupdate-alternatives --install /usr/lib/$ARCH/x x-$ARCH /y 1\nupdate-alternatives --install /usr/bin/x ../x /y 1\nupdate-alternatives --install /a a\nupdate-alternatives --remove a /b\n";
        let read = read(script);
        assert_eq!(read.len(), 4);
        let found: Vec<_> = read.into_iter().flatten().collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].main.path.as_str(), found[0].priority), ("usr/bin/mawk", 5));
        assert_eq!(found[0].along[0].name.as_str(), "awk.1.gz");
    }

    #[test]
    fn the_highest_priority_wins() {
        let line = |path, priority| format!("update-alternatives --install /usr/bin/a a {path} {priority}\n");
        let all = read(&[line("/one", 1), line("/two", 20), line("/three", 20)].concat()).into_iter().flatten();
        let best: Vec<_> = best(all).map(|alternative| alternative.main.path.to_string()).collect();
        assert_eq!(best, ["two"]);
    }
}
