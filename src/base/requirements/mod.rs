//! Python requirements as data: what a manifest lists, requirements files with all that they include (pip,
//! "Requirements File Format"), and the dependencies of a `pyproject.toml` (PEP 621) with uv's settings beside them.
//!
//! Invariant: an installer that is given what is accepted here has nothing to run. Editable installations, folders,
//! repositories, source archives and options for builds are named with their place, before anything is started; of
//! settings that lie in a project, those are handed on that say which packages are meant and where they lie.

mod file;
mod line;
mod pin;
mod project;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pep440_rs::VersionSpecifiers;

use crate::formats::diagnostic::{Diagnostics, Source};
use crate::formats::document::Document;
use crate::io::archive::ArchivePath;
use crate::io::digest::Digest;

pub use line::{logical_lines, required_name};
pub use pin::Relaxed;

/// Where requirements stand.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// In a list, one requirement (PEP 508) each.
    List(&'a [String]),
    /// In a file, by its path in the project.
    File(&'a str),
}

/// A requirement.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The package, with its name normalised (PEP 503).
    pub name: String,
    /// The versions that will do.
    pub versions: VersionSpecifiers,
    /// As it is written.
    pub text: String,
    /// The text that it was read from, for diagnostics.
    pub source: Arc<Source>,
    /// Where in it.
    pub span: Range<usize>,
    /// For which environments: as it is written.
    pub marker: String,
    /// As an installer is given it: one line, local wheels by their absolute paths.
    line: String,
    /// Of wheels that will do (`--hash=sha256:…`); empty where any will.
    digests: BTreeSet<Digest>,
}

impl Wanted {
    /// Where it stands, as `requirements.txt:2:1`.
    pub fn place(&self) -> String {
        let (line, column) = self.source.position(self.span.start);
        format!("{}:{line}:{column}", self.source.path())
    }
}

/// All that a project requires.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// In the order in which they are written.
    pub wanted: Vec<Wanted>,
    /// The files that they stand in, relative to the project's folder, the one that the manifest names first.
    pub files: Vec<(ArchivePath, Arc<Source>)>,
    constraints: Vec<Wanted>,
    /// Lines that say where packages come from.
    options: Vec<String>,
    /// Further requirements, which are not the project's.
    own: Vec<String>,
    /// What an installer is given in the place of a `pyproject.toml`.
    project: Option<toml::Table>,
    /// What uv is given in the place of a `uv.toml`.
    settings: toml::Table,
}

impl Requirements {
    /// What `asked` means in the project's folder `root`. Mistakes go to `found`; what could be read is returned.
    /// `listed` is the manifest, for the places of requirements that stand in it.
    pub fn read(asked: Asked<'_>, root: &Path, listed: Option<&Document>, found: &mut Diagnostics) -> Self {
        let mut requirements = Self::default();
        match asked {
            Asked::List(list) => file::read_list(list, root, listed, &mut requirements, found),
            Asked::File(name) if name.ends_with(".toml") => {
                project::read(name, root, &mut requirements, found);
            }
            Asked::File(name) => file::read_named(name, root, &mut requirements, found),
        }
        settings::read_own(root, &mut requirements, found);
        requirements
    }

    /// The same and further requirements, as the service has its own.
    #[must_use]
    pub fn and<T: Into<String>>(mut self, more: impl IntoIterator<Item = T>) -> Self {
        self.own.extend(more.into_iter().map(Into::into));
        self
    }

    /// A requirements file of all of them, for an installer. What a `pyproject.toml` requires is not in it.
    pub fn list_text(&self) -> String {
        let wanted = self.wanted.iter().filter(|_| self.project.is_none()).map(|wanted| wanted.line.as_str());
        let options = self.options.iter().map(String::as_str);
        lines(options.chain(wanted).chain(self.own.iter().map(String::as_str)))
    }

    /// A file of constraints; empty where there are none.
    pub fn constraints_text(&self) -> String {
        lines(self.constraints.iter().map(|wanted| wanted.line.as_str()))
    }

    /// Where packages come from, as the first lines of a requirements file.
    pub fn options_text(&self) -> String {
        lines(self.options.iter().map(String::as_str))
    }

    /// A `pyproject.toml` with the dependencies of the project's own, where that is what the manifest names.
    pub fn project_text(&self) -> Option<String> {
        self.project.as_ref().map(ToString::to_string)
    }

    /// A `uv.toml` with the settings of the project's own that are taken from there.
    pub fn settings_text(&self) -> String {
        self.settings.to_string()
    }

    /// A `uv.toml` that says where packages lie, for those whose digests are known: then it does not matter which index
    /// gives them.
    pub fn locations_text(&self) -> String {
        const LOCATIONS: [&str; 5] = ["extra-index-url", "find-links", "index", "index-url", "no-index"];
        let project = self.project.as_ref().and_then(|project| project.get("tool")?.get("uv")?.as_table());
        let mut locations = toml::Table::new();
        for settings in [project, Some(&self.settings)].into_iter().flatten() {
            for (key, value) in settings.iter().filter(|(key, _)| LOCATIONS.contains(&key.as_str()) || *key == "pip") {
                locations.insert(key.clone(), value.clone());
            }
        }
        let mut is_explicit = false;
        for index in locations.get_mut("index").and_then(toml::Value::as_array_mut).into_iter().flatten() {
            is_explicit |= index.as_table_mut().is_some_and(|index| index.remove("explicit").is_some());
        }
        if is_explicit {
            locations.insert("index-strategy".to_owned(), "unsafe-best-match".into());
        }
        locations.to_string()
    }

    /// Whether they say of other packages what these require: then not even a package's own description holds.
    pub fn overrule_packages(&self) -> bool {
        let project = self.project.as_ref().and_then(|project| project.get("tool")?.get("uv")?.as_table());
        let overrules = |settings: &toml::Table| {
            ["override-dependencies", "dependency-metadata"].iter().any(|key| settings.contains_key(*key))
        };
        project.into_iter().chain([&self.settings]).any(overrules)
    }

    /// The address that a package is required by, with what is written in it of name and password.
    pub fn address(&self, package: &str) -> Option<&str> {
        let lines = self.wanted.iter().filter(|wanted| wanted.name == package);
        lines.filter_map(|wanted| wanted.line.split_once(" @ ")?.1.split([' ', '#']).next()).next()
    }

    /// The digests that are pinned for the wheels of `package`; none where any will do.
    pub fn pinned(&self, package: &str) -> Option<BTreeSet<Digest>> {
        let mut pins: BTreeMap<&str, BTreeSet<Digest>> = BTreeMap::new();
        for wanted in self.wanted.iter().chain(&self.constraints).filter(|wanted| !wanted.digests.is_empty()) {
            pins.entry(&wanted.name).or_default().extend(&wanted.digests);
        }
        pins.remove(package)
    }

    /// The texts of the files, as the lock depends on them.
    pub fn texts(&self) -> Vec<&str> {
        self.files.iter().map(|(_, source)| source.text()).collect()
    }
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("{line}\n")).collect()
}

/// A local file that a line names, from the folder `from`: where it lies, if that is inside of `root`.
fn inside(text: &str, from: &Path, root: &Path) -> Result<PathBuf, Outside> {
    let path = from.join(text);
    let real = fs_err::canonicalize(&path).map_err(|_| Outside::Missing)?;
    let root = fs_err::canonicalize(root).map_err(|_| Outside::Missing)?;
    if real.starts_with(&root) { Ok(real) } else { Err(Outside::Elsewhere) }
}

/// Whether `name` is a file of the project in `root`, also behind links.
fn is_own_file(name: &str, root: &Path) -> bool {
    inside(name, root, root).is_ok_and(|path| path.is_file())
}

/// Why a file is not one of the project's.
enum Outside {
    Missing,
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use proptest::prelude::*;

    fn read(files: &[(&str, &str)], named: &str) -> (Requirements, Vec<String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut found = Diagnostics::new();
        let asked = Asked::File(named);
        let requirements = Requirements::read(asked, folder.path(), None, &mut found);
        let said = found.sorted().into_iter().map(|d| {
            let (line, column) = d.primary.source.position(d.primary.span.start);
            let file = d.primary.source.path().rsplit('/').next().unwrap_or_default();
            format!("{file}:{line}:{column} {} {}", d.code.number(), d.message)
        });
        (requirements, said.collect(), folder)
    }

    #[test]
    fn what_would_run_code_is_named_with_its_place() {
        let text = "six==1.16.0\n-e ./sub\n--editable=./sub\n./sub\n  sub/\nfile:///tmp/sub\ngit+https://h.example/a.git\n\
                    a @ git+ssh://git@h.example/a.git ; python_version > '3'\nb @ https://h.example/b-1.tar.gz\n\
                    https://h.example/c.zip\n--no-binary :all:\nd==1 --config-settings x=y\n";
        let (requirements, said, _folder) = read(&[("r.txt", text), ("sub/setup.py", "")], "r.txt");
        assert_eq!(requirements.wanted.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["six"]);
        let places: Vec<_> = said.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        let expected = (2..=12).map(|line| format!("r.txt:{line}:{} EK0507", if line == 5 { 3 } else { 1 }));
        assert_eq!(places, expected.collect::<Vec<_>>(), "{said:#?}");
        assert!(requirements.list_text().lines().eq(["six==1.16.0"]), "{}", requirements.list_text());
    }

    #[test]
    fn files_that_are_included_count_as_if_they_stood_there() {
        let files = [
            (
                "requirements.txt",
                "--index-url=https://a.example/simple # ours\n-r deps/more.txt\nh11\n-c deps/pins.txt\n",
            ),
            ("deps/more.txt", "-f wheels\n--extra-index-url https://b.example/simple\n-e ../sub\nattrs\n"),
            ("deps/pins.txt", "attrs==23.1.0\n"),
            ("deps/wheels/x", ""),
        ];
        let (requirements, said, folder) = read(&files, "requirements.txt");
        let wheels = fs::canonicalize(folder.path().join("deps/wheels")).unwrap();
        let options = format!(
            "--index-url https://a.example/simple\n-f {}\n--extra-index-url https://b.example/simple\n",
            wheels.display()
        );
        assert_eq!(requirements.options_text(), options);
        assert_eq!(requirements.list_text(), format!("{options}attrs\nh11\n"));
        assert_eq!(requirements.constraints_text(), "attrs==23.1.0\n");
        let files: Vec<_> = requirements.files.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(files, ["requirements.txt", "deps/more.txt", "deps/pins.txt"]);
        assert!(said.len() == 1 && said[0].starts_with("more.txt:3:1 EK0507"), "{said:?}");
    }

    #[test]
    fn files_that_cannot_be_included_are_errors() {
        let text =
            "-r r.txt\n-r ../outside.txt\n-r missing.txt\n-r https://h.example/r.txt\n--frobnicate\n-c /etc/passwd\n";
        let (_, said, _folder) = read(&[("r.txt", text)], "r.txt");
        let codes: Vec<_> = said.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(codes, ["EK0501", "EK0303", "EK0304", "EK0501", "EK0501", "EK0303"], "{said:#?}");
    }

    #[test]
    fn local_wheels_are_named_by_where_they_lie() {
        let text = "./wheels/h11-0.16.0-py3-none-any.whl\nsix @ ./wheels/six-1.16.0-py3-none-any.whl ; python_version>'3'\n\
                    gone @ ./wheels/gone-1-py3-none-any.whl\nd @ https://x.example/d-1-py3-none-any.whl\n\
                    e @ file:///etc/hostname-1-py3-none-any.whl\n";
        let wheels = [("wheels/h11-0.16.0-py3-none-any.whl", ""), ("wheels/six-1.16.0-py3-none-any.whl", "")];
        let (requirements, said, folder) = read(&[wheels[0], wheels[1], ("r.txt", text)], "r.txt");
        let at = fs::canonicalize(folder.path().join("wheels")).unwrap().display().to_string();
        let expected = format!(
            "h11 @ file://{at}/h11-0.16.0-py3-none-any.whl\n\
             six @ file://{at}/six-1.16.0-py3-none-any.whl ; python_version>'3'\n\
             d @ https://x.example/d-1-py3-none-any.whl\n"
        );
        assert_eq!(requirements.list_text(), expected);
        let codes: Vec<_> = said.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(codes, ["EK0304", "EK0304"], "{said:?}");
    }

    #[test]
    fn names_end_with_a_letter_or_digit() {
        for line in ["A- ;", "a.>=1", "a_", "a[b-]==1", "a[b, c.] ; python_version > '3'", "a-\u{e9}"] {
            let (requirements, said, _folder) = read(&[("r.txt", line)], "r.txt");
            assert!(
                requirements.wanted.is_empty() && said.len() == 1 && said[0].contains("EK0501"),
                "{line}: {said:?}"
            );
        }
        let (requirements, said, _folder) = read(&[("r.txt", "a-b.c[d-e, f]==1.* ; extra == 'g-h'\n")], "r.txt");
        assert!(said.is_empty() && requirements.wanted.len() == 1, "{said:?}");
    }

    #[test]
    fn what_is_pinned_is_known() {
        let (one, two) = ("0".repeat(64), "f".repeat(64));
        let text = format!("Six==1.16.0 \\\n  --hash=sha256:{one} \\\n  --hash=sha256:{two} --hash=md5:00\nh11\n");
        let (requirements, said, _folder) = read(&[("r.txt", &text)], "r.txt");
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(requirements.pinned("six").unwrap().len(), 2);
        assert!(requirements.pinned("h11").is_none());
        assert_eq!(requirements.list_text(), "Six==1.16.0\nh11\n");
    }

    #[test]
    fn a_pyproject_gives_its_dependencies_and_the_settings_that_say_what_is_meant() {
        let text = r#"
[project]
name = "mine"
version = "1"
dependencies = ["six==1.16.0", "torch>=2", "bad @ git+https://h.example/x"]
[build-system]
build-backend = "evil"
backend-path = ["."]
[tool.uv]
cache-dir = "/tmp/elsewhere"
keyring-provider = "subprocess"
find-links = ["wheels"]
[[tool.uv.index]]
name = "cpu"
url = "https://i.example/cpu"
explicit = true
[tool.uv.sources]
torch = { index = "cpu" }
other = { path = "../other", editable = true }
six = { workspace = true }
"#;
        let (requirements, said, folder) = read(&[("pyproject.toml", text), ("wheels/x", "")], "pyproject.toml");
        let codes: Vec<_> = said.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        let expected = ["5:45 EK0507", "10:1 EK0508", "11:1 EK0508", "20:7 EK0507"];
        assert_eq!(codes, expected.map(|place| format!("pyproject.toml:{place}")), "{said:#?}");
        let written: toml::Table = requirements.project_text().unwrap().parse().unwrap();
        assert_eq!(written["project"]["dependencies"].as_array().unwrap().len(), 2);
        assert!(!written.contains_key("build-system"));
        let uv = written["tool"]["uv"].as_table().unwrap();
        assert_eq!(uv.keys().collect::<Vec<_>>(), ["find-links", "index", "sources"]);
        assert_eq!(uv["sources"].as_table().unwrap().keys().collect::<Vec<_>>(), ["torch"]);
        let wheels = fs::canonicalize(folder.path().join("wheels")).unwrap();
        assert_eq!(uv["find-links"][0].as_str(), wheels.to_str());
        assert_eq!(requirements.list_text(), "");
    }

    #[test]
    fn a_pyproject_that_only_a_build_could_read_is_refused() {
        for (text, code) in [
            ("[project]\nname = 'a'\ndynamic = ['dependencies']\n", "EK0507"),
            ("[tool.poetry.dependencies]\nsix = '*'\n", "EK0507"),
            ("[project\n", "EK0501"),
        ] {
            let (_, said, _folder) = read(&[("pyproject.toml", text)], "pyproject.toml");
            assert!(said.len() == 1 && said[0].contains(code), "{text}: {said:?}");
        }
    }

    #[test]
    fn variables_are_filled_in_for_the_installer_alone() {
        let variables = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let filled = line::filled_in("--index-url https://${TOKEN}@h.example/${OTHER}/${lower}", &variables);
        assert_eq!(filled, "--index-url https://s3cret@h.example/${OTHER}/${lower}");
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "(-e |-r |-c |-f |--hash=sha256:|a==1|@| |\n|\\\\\n|#|\\$\\{A\\}|git\\+|file://|\\./|\\.whl|;|\\[|\\]|[\\PC]){0,40}") {
            let (requirements, _, _folder) = read(&[("r.txt", &text)], "r.txt");
            let _ = (requirements.list_text(), requirements.pinned("a"));
        }

        #[test]
        fn no_pyproject_makes_it_panic(text in "(\\[project\\]|\\[tool.uv\\]|\\[tool.uv.sources\\]|\\[\\[tool.uv.index\\]\\]|dependencies|name|path|git|url|index|=|'a'|\\{|\\}|\\[|\\]|\n| |,){0,40}") {
            let (requirements, _, _folder) = read(&[("pyproject.toml", &text)], "pyproject.toml");
            let _ = (requirements.project_text(), requirements.settings_text());
        }
    }
}
