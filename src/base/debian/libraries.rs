//! Which package has a library: by a table of those that wheels usually need (`scripts/debian-libraries.py` makes it), and
//! for the rest by Debian's own index of contents.
//!
//! The index of bookworm has 11 MB compressed, and 25 thousand libraries among its lines: those are kept in the store under
//! the digest of the index, so that it is downloaded and read through once, and only if the table does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use super::packages::find_index;
use super::{Archive, Error, Source, Suite};
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::io::progress::Unit;

/// Lines of a library and its packages, by suite in the order of [`Suite::ALL`]; `-` where none has it.
const USUAL: &str = include_str!("libraries.txt");

/// Memories of what was kept of an index of contents. The number changes with what [`reduced`] keeps.
const CONTENTS: &str = "debian-contents-1";

/// The packages of `suite` that have the libraries `names` where the loader finds them. Those that no package has are not
/// in it.
///
/// # Errors
/// When the index of contents is needed, and cannot be had or is not signed.
pub fn with_libraries(
    session: &Session,
    source: &Source,
    suite: Suite,
    platform: Platform,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut found = usual_packages(suite, names);
    let others: BTreeSet<_> = names.iter().copied().filter(|name| !found.contains_key(*name)).collect();
    if others.is_empty() {
        return Ok(found);
    }
    let subject = format!("contents of Debian {suite}");
    let task = session.progress.task("Reading", subject, Unit::Items, None);
    let path = format!("main/Contents-{}.gz", platform.architecture());
    let index = find_index(session, source, Archive::Main, suite.name(), &path)?;
    let kept = index.read_once(session, CONTENTS, |text| reduced(text, platform))?;
    let pairs = kept.lines().filter_map(|line| line.split_once(' ')).filter(|(library, _)| others.contains(library));
    found.extend(pairs.map(|(library, package)| (library.to_owned(), package.to_owned())));
    task.finish(format!("Read which packages of Debian {suite} have which libraries"));
    Ok(found)
}

/// As [`with_libraries`], as far as the table knows, which needs no network.
pub fn usual_packages(suite: Suite, names: &BTreeSet<&str>) -> BTreeMap<String, String> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), usual(suite, name)?.to_owned()))).collect()
}

/// The package of a library that is in the table.
fn usual(suite: Suite, library: &str) -> Option<&'static str> {
    let column = Suite::ALL.iter().position(|known| *known == suite)?;
    let mut words = USUAL.lines().map(str::split_ascii_whitespace);
    let packages = words.find_map(|mut words| (words.next() == Some(library)).then_some(words));
    packages?.nth(column).filter(|package| *package != "-")
}

/// The libraries among the lines of an index of contents (a path, and the packages that have it), each with one package,
/// as lines.
fn reduced(text: &mut dyn BufRead, platform: Platform) -> io::Result<String> {
    let multiarch = platform.multiarch();
    let folders = [format!("usr/lib/{multiarch}"), format!("lib/{multiarch}"), "usr/lib".to_owned(), "lib".to_owned()];
    let mut found = BTreeMap::<String, String>::new();
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? > 0 {
        let parts = std::str::from_utf8(&line).ok().and_then(|line| line.trim_end().rsplit_once([' ', '\t']));
        if let Some((path, packages)) = parts
            && let Some((folder, name)) = path.trim_end().rsplit_once('/')
            && name.contains(".so")
            && !name.contains(' ')
            && folders.iter().any(|known| known == folder)
        {
            // Of several, the shortest name is that of the library's own package.
            let names = packages.split(',').filter_map(|package| package.rsplit('/').next());
            // What those bring is for linkers, and links to what they depend on.
            let names = names.filter(|name| !name.ends_with("-dev"));
            if let Some(package) =
                names.chain(found.get(name).map(String::as_str)).min_by_key(|name| (name.len(), *name))
            {
                let package = package.to_owned();
                found.insert(name.to_owned(), package);
            }
        }
        line.clear();
    }
    Ok(found.into_iter().map(|(library, package)| format!("{library} {package}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::debian::testing::{Mirror, session};
    use crate::io::http::Network;

    #[test]
    fn the_table_names_the_package_of_each_suite() {
        let of = |library| Suite::ALL.map(|suite| usual(suite, library).unwrap_or("-"));
        assert_eq!(of("libgomp.so.1"), ["libgomp1"; 3]);
        assert_eq!(of("libglib-2.0.so.0"), ["libglib2.0-0", "libglib2.0-0", "libglib2.0-0t64"]);
        assert_eq!(of("libssl.so.3"), ["-", "libssl3", "libssl3t64"]);
        assert_eq!(of("libnobody.so.1"), ["-"; 3]);
        for line in USUAL.lines().skip(1) {
            assert_eq!(line.split(' ').count(), 1 + Suite::ALL.len(), "{line}");
        }
    }

    #[test]
    fn of_contents_the_libraries_are_kept_that_the_loader_finds() {
        let text = "usr/lib/x86_64-linux-gnu/libone.so.1              libs/libone-extra,libs/libone1\n\
                    lib/x86_64-linux-gnu/libz.so.1 libs/zlib1g\n\
                    usr/lib/x86_64-linux-gnu/private/libtwo.so.1 libs/two\n\
                    usr/lib/aarch64-linux-gnu/libthree.so.1 libs/three\n\
                    usr/lib/libfour.so.4\tcontrib/libs/four\n\
                    usr/lib/x86_64-linux-gnu/libtorch.so libdevel/libtorch-dev\n\
                    usr/share/doc/libfive.so.5 doc/five\nusr/lib/x.so\n";
        let bytes = [text.as_bytes(), b"\xff\xff\n"].concat();
        let kept = reduced(&mut bytes.as_slice(), Platform::Amd64).unwrap();
        assert_eq!(kept, "libfour.so.4 four\nlibone.so.1 libone1\nlibz.so.1 zlib1g\n");
    }

    #[test]
    fn what_the_table_lacks_is_looked_up_once_and_known_offline_from_then_on() {
        let home = tempfile::tempdir().unwrap();
        let mirror = Mirror::new();
        mirror.publish();
        let online = session(home.path(), Network::Online);
        let ask = |session: &Session, names: &[&str]| {
            let names = names.iter().copied().collect();
            with_libraries(session, &mirror.source(None), Suite::Bookworm, Platform::Amd64, &names)
        };
        let found = ask(&online, &["libone.so.1", "libgomp.so.1", "libnobody.so.1"]).unwrap();
        let pair = |library: &str, package: &str| (library.to_owned(), package.to_owned());
        assert_eq!(found, [pair("libone.so.1", "one1"), pair("libgomp.so.1", "libgomp1")].into());
        let index = mirror.suite_folder("bookworm").join("main/Contents-amd64.gz");
        fs_err::remove_file(&index).unwrap();
        assert_eq!(ask(&online, &["libone.so.1"]).unwrap(), [pair("libone.so.1", "one1")].into());
        // Without the memory, what is not there is told; what the table knows needs none of it.
        let fresh = tempfile::tempdir().unwrap();
        let fresh = session(fresh.path(), Network::Online);
        assert!(matches!(ask(&fresh, &["libone.so.1"]), Err(Error::Index { .. })));
        assert!(ask(&fresh, &["libgomp.so.1"]).is_ok());
        fs_err::write(&index, "other bytes").unwrap();
        assert!(matches!(ask(&fresh, &["libone.so.1"]), Err(Error::Tampered { .. })));
    }
}
