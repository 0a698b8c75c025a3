//! The dynamic loader's index of libraries, `/etc/ld.so.cache`, written from what is known of the files of an image;
//! and what a library says of itself.
//!
//! Without it the loader finds libraries in its default folders alone, and `ctypes.util.find_library` finds none: it
//! asks `ldconfig -p`, which prints this file. Here it comes from the names and links of an image and from the SONAMEs in
//! its libraries, which are read as data; nothing of the image is executed. The same libraries and settings give the
//! same bytes, and those are ldconfig's own, but for what it says of itself at the end.
//!
//! After ldconfig(8) and the format "glibc-ld.so.cache1.1" of glibc 2.33 and later, which 2.31 reads as well: see
//! [`cache`]. Folders of the older scheme of hardware capabilities (`tls`, `haswell`) are not looked into: glibc gave it
//! up with 2.37, and no package of Debian's has one.

mod cache;
mod elf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use elf::tests::{library, linked};
pub use elf::{Linkage, Object, machine, read_linkage, read_object, read_versions};

use crate::image::oci::platform::Platform;
use crate::io::archive::{ArchivePath, Walk};
use cache::Row;

/// Where the index lies.
pub const CACHE: &str = "etc/ld.so.cache";

/// The loader's settings: which folders it looks into.
pub const SETTINGS: &str = "etc/ld.so.conf";

/// Where Debian's packages put more of them.
pub const MORE_SETTINGS: &str = "etc/ld.so.conf.d";

/// Largest file of settings that is read, in bytes.
pub const LARGEST_SETTINGS: u64 = 64 << 10;

/// Most files of settings, patterns of them, and folders that are looked at: an image has a handful of each.
pub const MOST_SETTINGS: usize = 1000;

/// What is known of an image's libraries, by path from its root. The paths of files lead through no links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    found: BTreeMap<ArchivePath, Found>,
    settings: BTreeMap<ArchivePath, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Found {
    /// A library, or a link at whose end is one.
    Library {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soname: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        link: bool,
    },
    /// A link to a folder, or to something else that is in here.
    Link(String),
}

/// Whether a file of this name may be a library, or a link to one.
pub fn is_library_name(name: &str) -> bool {
    name.contains(".so")
}

/// Whether the file at `path` is one of the loader's settings.
pub fn is_settings(path: &ArchivePath) -> bool {
    path.as_str() == SETTINGS || path.parent().is_some_and(|folder| folder.as_str() == MORE_SETTINGS)
}

impl Libraries {
    /// Adds a library.
    pub fn add(&mut self, path: ArchivePath, object: Object) {
        self.found.insert(path, Found::Library { soname: object.soname, link: false });
    }

    /// Adds a link to a library that is somewhere else than in here.
    pub fn add_linked(&mut self, path: ArchivePath, object: Object) {
        self.found.insert(path, Found::Library { soname: object.soname, link: true });
    }

    /// Adds a link, to a folder or to a library in here.
    pub fn add_link(&mut self, path: ArchivePath, target: impl Into<String>) {
        self.found.insert(path, Found::Link(target.into()));
    }

    /// Adds the text of a file of settings.
    pub fn add_settings(&mut self, path: ArchivePath, text: String) {
        self.settings.insert(path, text);
    }

    /// Adds folders to those that the loader is told to look into, as a file of settings would.
    pub fn add_folders(&mut self, folders: &[String]) {
        let Ok(path) = ArchivePath::new(SETTINGS) else { return };
        let text = self.settings.entry(path).or_default();
        for folder in folders {
            text.push_str(&format!("\n{folder}\n"));
        }
    }

    /// These with `upper` laid over them.
    pub fn below(&self, upper: &Self) -> Self {
        let mut all = self.clone();
        all.found.extend(upper.found.clone());
        all.settings.extend(upper.settings.clone());
        all
    }

    /// The bytes of the index; none where there is no library to be found.
    pub fn cache(&self, platform: Platform) -> Option<Vec<u8>> {
        let rows = self.listed(platform);
        (!rows.is_empty()).then(|| cache::encode(rows, platform))
    }

    /// The names under which the loader finds a library.
    pub fn names(&self, platform: Platform) -> BTreeSet<String> {
        let mut names: BTreeSet<_> = self.listed(platform).into_iter().map(|row| row.soname).collect();
        // What is not in the index by its name, as `libgomp.so.1.0.0`, is found as a file.
        for place in self.folders(platform).iter().filter_map(|folder| self.resolve(folder)) {
            names.extend(self.below_folder(&place).filter(|name| !name.contains('/')).map(str::to_owned));
        }
        names
    }

    fn listed(&self, platform: Platform) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut known = BTreeSet::new();
        for folder in self.folders(platform) {
            let Some(place) = self.resolve(&folder).filter(|place| known.insert(place.clone())) else { continue };
            let hardware = format!("{folder}/glibc-hwcaps");
            let levels: BTreeSet<_> = self
                .resolve(&hardware)
                .iter()
                .flat_map(|above| self.below_folder(above))
                .filter_map(|rest| rest.split_once('/').map(|(level, _)| level.to_owned()))
                .collect();
            for level in levels {
                let folder = format!("{hardware}/{level}");
                if let Some(place) = self.resolve(&folder).filter(|place| known.insert(place.clone())) {
                    let found = self.search(&place).into_iter();
                    // They are no links by their SONAME, so the file itself is named.
                    rows.extend(found.map(|(soname, name)| Row {
                        path: format!("{folder}/{name}"),
                        soname,
                        level: Some(level.clone()),
                    }));
                }
            }
            for (soname, name) in self.search(&place) {
                // The link by the SONAME outlives the file that it leads to.
                let file = if self.has(&place, &soname) { &soname } else { &name };
                rows.push(Row { path: format!("{folder}/{file}"), soname, level: None });
            }
        }
        rows
    }

    /// Names of libraries and where they lie, as the index has them.
    #[cfg(test)]
    pub(crate) fn rows(&self, platform: Platform) -> Vec<String> {
        let bytes = self.cache(platform).unwrap_or_default();
        cache::decode(&bytes).into_iter().map(|(name, path)| format!("{name} {path}")).collect()
    }

    /// The folders that the loader looks into, from the root, in their order: ldconfig(8), `/etc/ld.so.conf`. Those that
    /// are built into Debian's come last.
    pub fn folders(&self, platform: Platform) -> Vec<String> {
        let mut folders = Vec::new();
        if let Ok(path) = ArchivePath::new(SETTINGS) {
            self.read_settings(&path, &mut BTreeSet::new(), &mut 0, &mut folders);
        }
        folders.truncate(MOST_SETTINGS);
        let multiarch = platform.multiarch();
        folders.extend([format!("/lib/{multiarch}"), format!("/usr/lib/{multiarch}")]);
        folders.extend(["/lib".to_owned(), "/usr/lib".to_owned()]);
        folders
    }

    fn read_settings<'a>(
        &'a self,
        path: &'a ArchivePath,
        read: &mut BTreeSet<&'a ArchivePath>,
        patterns: &mut usize,
        folders: &mut Vec<String>,
    ) {
        let Some(text) = self.settings.get(path).filter(|_| read.insert(path)) else { return };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let (word, rest) = line.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((line, ""));
            match word {
                "" | "hwcap" => {}
                "include" => {
                    for pattern in rest.split_ascii_whitespace().take(MOST_SETTINGS.saturating_sub(*patterns)) {
                        *patterns += 1;
                        let folder = path.parent().map(|folder| format!("{folder}/")).unwrap_or_default();
                        let pattern = pattern.strip_prefix('/').map_or(format!("{folder}{pattern}"), str::to_owned);
                        let Ok(glob) = GlobBuilder::new(&pattern).literal_separator(true).build() else { continue };
                        let glob = glob.compile_matcher();
                        let named = |path: &&ArchivePath| glob.is_match(path.as_str()) && !path.name().starts_with('.');
                        for included in self.settings.keys().filter(named) {
                            self.read_settings(included, read, patterns, folders);
                        }
                    }
                }
                _ => {
                    // `=libc6` behind a folder is of times when there were several C libraries.
                    let folder = line.split('=').next().unwrap_or_default().trim_end().trim_end_matches('/');
                    if folder.starts_with('/') {
                        folders.push(folder.to_owned());
                    }
                }
            }
        }
    }

    /// Where `path`, from the root, leads to through the links that are known.
    fn resolve(&self, path: &str) -> Option<ArchivePath> {
        let mut walk = Walk::new(Path::new(path));
        while let Some(at) = walk.step() {
            if let Some(Found::Link(target)) = self.found.get(&ArchivePath::from_path(at).ok()?) {
                walk.follow(Path::new(target)).ok()?;
            }
        }
        ArchivePath::from_path(&walk.into_place()).ok()
    }

    /// What is known below a folder, by the rest of the paths.
    fn below_folder<'a>(&'a self, folder: &'a ArchivePath) -> impl Iterator<Item = &'a str> {
        // `.` comes before `/`: other names that begin alike may lie in between.
        let from = self.found.range(folder..).map(|(path, _)| path.as_str());
        let from = from.take_while(move |path| path.starts_with(folder.as_str()));
        from.filter_map(move |path| path.strip_prefix(folder.as_str())?.strip_prefix('/'))
    }

    fn has(&self, folder: &ArchivePath, name: &str) -> bool {
        ArchivePath::relative(name).is_ok_and(|name| self.found.contains_key(&folder.join(&name)))
    }

    /// The libraries of a folder: each SONAME, and the name of the file that stands for it.
    fn search(&self, folder: &ArchivePath) -> BTreeMap<String, String> {
        let mut found = BTreeMap::<String, (bool, String)>::new();
        for name in self.below_folder(folder).filter(|name| !name.contains('/') && is_searched(name)) {
            let Ok(path) = ArchivePath::relative(name).map(|name| folder.join(&name)) else { continue };
            let (soname, mut link) = match self.found.get(&path) {
                Some(Found::Library { soname, link }) => (soname, *link),
                Some(Found::Link(_)) => match self.resolve(path.as_str()).and_then(|end| self.found.get(&end)) {
                    Some(Found::Library { soname, .. }) => (soname, true),
                    _ => continue,
                },
                None => continue,
            };
            let mut soname = soname.as_deref().unwrap_or(name);
            // A link by the SONAME, and one for the compiler, stand for themselves; another is as good as a file.
            link &= name == soname || (name.ends_with(".so") && soname.starts_with(name));
            if link {
                soname = name;
            }
            let newer = |(there, other): &(bool, String)| match (link, *there) {
                (false, true) => true,
                (true, false) => false,
                _ => cache::compare_names(other, name).is_lt(),
            };
            if found.get(soname).is_none_or(newer) {
                found.insert(soname.to_owned(), (link, name.to_owned()));
            }
        }
        found.into_iter().map(|(soname, (_, name))| (soname, name)).collect()
    }
}

/// Whether ldconfig looks at a file of this name.
fn is_searched(name: &str) -> bool {
    is_library_name(name) && (name.starts_with("lib") || name.starts_with("ld-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ArchivePath {
        ArchivePath::new(text).unwrap()
    }

    /// `PATH=SONAME` is a library, `PATH` one without, `PATH->TARGET` a link.
    fn libraries(all: &[&str]) -> Libraries {
        let mut libraries = Libraries::default();
        for text in all {
            match (text.split_once("->"), text.split_once('=')) {
                (Some((link, target)), _) => libraries.add_link(path(link), target),
                (_, Some((file, name))) => libraries.add(path(file), Object { soname: Some(name.to_owned()) }),
                _ => libraries.add(path(text), Object { soname: None }),
            }
        }
        libraries
    }

    fn rows(libraries: &Libraries) -> Vec<String> {
        libraries.rows(Platform::Amd64)
    }

    #[test]
    fn a_name_leads_to_the_link_that_outlives_the_file() {
        let found = libraries(&[
            "lib->usr/lib",
            "usr/lib/x86_64-linux-gnu/libsndfile.so.1->libsndfile.so.1.0.35",
            "usr/lib/x86_64-linux-gnu/libsndfile.so.1.0.35=libsndfile.so.1",
            "usr/lib/x86_64-linux-gnu/libsndfile.so->libsndfile.so.1",
            "usr/lib/x86_64-linux-gnu/libplain-2.31.so",
            "usr/lib/x86_64-linux-gnu/libblas.so.3->/etc/alternatives/libblas.so.3-x86_64-linux-gnu",
            "etc/alternatives/libblas.so.3-x86_64-linux-gnu->/usr/lib/x86_64-linux-gnu/blas/libblas.so.3",
            "usr/lib/x86_64-linux-gnu/blas/libblas.so.3=libblas.so.3",
            "usr/lib/x86_64-linux-gnu/module.so=libmodule.so.1",
            "usr/lib/x86_64-linux-gnu/libgone.so.1->nowhere.so",
            "usr/lib/x86_64-linux-gnu/libround.so.1->libround.so.1",
            "usr/lib/x86_64-linux-gnu/libmoved.so.9.1=libmoved.so.9",
        ]);
        let folder = "/lib/x86_64-linux-gnu";
        assert_eq!(
            rows(&found),
            [
                format!("libsndfile.so.1 {folder}/libsndfile.so.1"),
                format!("libsndfile.so {folder}/libsndfile.so"),
                format!("libplain-2.31.so {folder}/libplain-2.31.so"),
                // Where there is no link by the SONAME, the file itself is named.
                format!("libmoved.so.9 {folder}/libmoved.so.9.1"),
                format!("libblas.so.3 {folder}/libblas.so.3"),
            ]
        );
    }

    #[test]
    fn folders_come_in_the_order_of_the_settings_and_each_once() {
        let mut found = libraries(&["lib->usr/lib", "opt/b/liba.so.1=liba.so.1", "usr/local/lib/liba.so.1=liba.so.1"]);
        found.add_settings(path("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/opt/b/ # last\n".to_owned());
        found.add_settings(
            path("etc/ld.so.conf.d/libc.conf"),
            "/usr/local/lib\nhwcap 0 nosegneg\nrelative\ninclude libc.conf /etc/*\n".to_owned(),
        );
        found.add_settings(path("etc/ld.so.conf.d/a.conf"), "/usr/lib/a=libc6\t\n".to_owned());
        found.add_settings(path("etc/ld.so.conf.d/.hidden.conf"), "/hidden\n".to_owned());
        found.add_settings(path("etc/ld.so.conf.d/a.conf.bak"), "/backup\n".to_owned());
        assert_eq!(
            found.folders(Platform::Arm64),
            [
                "/usr/lib/a",
                "/usr/local/lib",
                "/opt/b",
                "/lib/aarch64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
                "/lib",
                "/usr/lib"
            ]
        );
        assert_eq!(rows(&found), ["liba.so.1 /usr/local/lib/liba.so.1", "liba.so.1 /opt/b/liba.so.1"]);
    }

    #[test]
    fn what_lies_above_takes_the_place_of_what_lies_below() {
        let lower = libraries(&["usr/lib/libz.so.1->libz.so.1.2", "usr/lib/libz.so.1.2=libz.so.1"]);
        let upper = libraries(&["usr/lib/libz.so.1->libz.so.1.3", "usr/lib/libz.so.1.3=libz.so.1"]);
        let both = lower.below(&upper);
        assert_eq!(both.search(&path("usr/lib"))["libz.so.1"], "libz.so.1.3");
        assert_eq!(rows(&both), ["libz.so.1 /usr/lib/libz.so.1"]);
        assert_eq!(lower.below(&Libraries::default()), lower);
        assert_eq!(Libraries::default().cache(Platform::Amd64), None);
        let again: Libraries = serde_json::from_str(&serde_json::to_string(&both).unwrap()).unwrap();
        assert_eq!(again, both);
    }

    #[test]
    fn libraries_for_better_processors_come_before_those_for_all() {
        let found = libraries(&[
            "usr/lib/liba.so.1=liba.so.1",
            "usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1.0=liba.so.1",
            "usr/lib/glibc-hwcaps/x86-64-v2/liba.so.1.0=liba.so.1",
        ]);
        assert_eq!(
            rows(&found),
            [
                "liba.so.1 /usr/lib/glibc-hwcaps/x86-64-v2/liba.so.1.0",
                "liba.so.1 /usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1.0",
                "liba.so.1 /usr/lib/liba.so.1"
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_settings_and_links_end(text: String, links: Vec<(String, String)>) {
            let mut found = Libraries::default();
            found.add_settings(path(SETTINGS), text);
            for (link, target) in links {
                if let Ok(link) = ArchivePath::new(link) {
                    found.add_link(link, target);
                }
            }
            let _ = found.cache(Platform::Amd64);
        }
    }
}
