//! What of a package does not go into an image: nothing that a program opens to do its work.

use crate::io::archive::{Entry, Kind};

/// Folders that are read by people or by tools that are not there: documentation, translations, completions, checks.
/// Programs say their texts in English without their catalogues, which is what the locale `C.UTF-8` has anyway.
const LEFT_OUT: [&str; 21] = [
    "usr/lib/valgrind",
    "usr/share/applications",
    "usr/share/apport",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/fish",
    "usr/share/gdb",
    "usr/share/gtk-doc",
    "usr/share/help",
    "usr/share/info",
    "usr/share/linda",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/zsh",
    // Copies of all time zones for programs that count leap seconds, and under their old name.
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    // Asks whether to restart services.
    "usr/share/debconf",
];

/// The character sets that iconv(3) keeps. Python has codecs of its own, and UTF-8 and ASCII are in the C library; the
/// other 250 sets take 8 MB. A program that asks for one of them is told that it is unknown.
const CHARACTER_SETS: [&str; 7] =
    ["CP1252.so", "ISO8859-1.so", "ISO8859-15.so", "UNICODE.so", "UTF-16.so", "UTF-32.so", "UTF-7.so"];

/// Whether `entry`, whose path is already that in a merged /usr, goes into an image.
///
/// Of the documentation the copyright files stay: the licences ask for it.
pub(super) fn keeps(entry: &Entry) -> bool {
    let path = entry.path.as_str();
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below("usr/share/doc") {
        // A package may share the folder of another through a link.
        let links_folder = matches!(entry.kind, Kind::Symlink(_)) && path.split('/').count() == 4;
        return links_folder || entry.path.name() == "copyright";
    }
    if let Some((_, module)) = path.split_once("/gconv/").filter(|_| path.ends_with(".so")) {
        return CHARACTER_SETS.contains(&module);
    }
    !LEFT_OUT.iter().any(|folder| below(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::archive::ArchivePath;
    use crate::io::archive::Mode;

    #[test]
    fn what_people_read_is_left_out_and_licences_stay() {
        let keeps = |path: &str| keeps(&Entry::file(ArchivePath::new(path).unwrap(), 0, Mode::Plain));
        for path in [
            "usr/share/doc/a/copyright",
            "usr/share/locale-langpack",
            "usr/lib/locale/C.utf8/LC_CTYPE",
            "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
            "usr/lib/x86_64-linux-gnu/gconv/gconv-modules",
            "usr/share/zoneinfo/Europe/Berlin",
        ] {
            assert!(keeps(path), "{path}");
        }
        for path in [
            "usr/share/doc",
            "usr/share/doc/a/changelog.gz",
            "usr/share/man/man1/a.1.gz",
            "usr/share/locale",
            "usr/lib/x86_64-linux-gnu/gconv/EUC-TW.so",
            "usr/share/zoneinfo/right/UTC",
        ] {
            assert!(!keeps(path), "{path}");
        }
    }
}
