//! What the person requires, as uv is given it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
use crate::digest::Digest;
use crate::manifest;

/// The requirements of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// One requirement each.
    list: Vec<String>,
    /// `requirements.txt`, `pyproject.toml` and the like.
    file: Option<PathBuf>,
    /// Lines of requirement files that say where packages come from.
    options: Vec<String>,
    /// What the lines say of the digests of wheels (`--hash=sha256:…`), by normalised name.
    pins: BTreeMap<String, BTreeSet<Digest>>,
}

/// Largest file of requirements that is read, in bytes.
const LARGEST: u64 = 4 << 20;
/// Deepest inclusion of files by `-r`.
const DEEPEST: u8 = 16;

impl Requirements {
    /// The requirements that the manifest in the folder `project` names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn new(requirements: &manifest::Requirements, project: &Path) -> Result<Self, Error> {
        match requirements {
            manifest::Requirements::List(list) => {
                let options = list.iter().filter(|line| line.starts_with('-')).cloned().collect();
                let mut pins = BTreeMap::new();
                list.iter().for_each(|line| read_pins(line, &mut pins));
                Ok(Self { list: list.clone(), options, pins, ..Self::default() })
            }
            manifest::Requirements::File(file) => {
                let file = project.join(file);
                let mut found = Self::default();
                if file.extension().is_none_or(|extension| extension != "toml") {
                    found.read(&file, project, DEEPEST)?;
                }
                Ok(Self { file: Some(file), ..found })
            }
        }
    }

    /// The same and further requirements, as the service has its own.
    pub fn and<T: Into<String>>(mut self, more: impl IntoIterator<Item = T>) -> Self {
        self.list.extend(more.into_iter().map(Into::into));
        self
    }

    /// The file, where there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The list, as the text of a requirements file.
    pub(super) fn list_text(&self) -> String {
        self.list.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The digests that are pinned for the wheels of `package`; none where any will do.
    pub(super) fn pinned(&self, package: &str) -> Option<&BTreeSet<Digest>> {
        self.pins.get(package)
    }

    /// Where packages come from, as the first lines of a requirements file.
    pub(super) fn options_text(&self) -> String {
        self.options.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Collects the lines that name indexes and folders of wheels, and what is pinned, of a file and of those that it
    /// includes.
    fn read(&mut self, file: &Path, project: &Path, depth: u8) -> Result<(), Error> {
        const INDEXES: [&str; 3] = ["-i", "--index-url", "--extra-index-url"];
        const FOLDERS: [&str; 2] = ["-f", "--find-links"];
        const INCLUDES: [&str; 2] = ["-r", "--requirement"];
        if depth == 0 || fs::metadata(file)?.len() > LARGEST {
            return Err(std::io::Error::other(format!("{} is too large or includes itself", file.display())).into());
        }
        for line in logical_lines(&fs::read_to_string(file)?) {
            let (option, value) = match line.split_once([' ', '=', '\t']) {
                Some((option, value)) => (option, value.trim_matches([' ', '=', '\t'])),
                None => (line.as_str(), ""),
            };
            if INDEXES.contains(&option) {
                self.options.push(format!("{option} {value}"));
            } else if FOLDERS.contains(&option) {
                // uv takes a relative path from where the file lies; the line will be in another file.
                let local = file.parent().unwrap_or(project).join(value);
                let place = if local.exists() { local.display().to_string() } else { value.to_owned() };
                self.options.push(format!("{option} {place}"));
            } else if option == "--no-index" {
                self.options.push(option.to_owned());
            } else if INCLUDES.contains(&option) {
                self.read(&file.parent().unwrap_or(project).join(value), project, depth - 1)?;
            } else {
                read_pins(&line, &mut self.pins);
            }
        }
        Ok(())
    }
}

/// The lines of a file of requirements without comments; those that end in a backslash go on in the next.
pub fn logical_lines(text: &str) -> impl Iterator<Item = String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines: Vec<_> = joined.lines().map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect();
    lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The normalised name that a line requires (PEP 503); none for options and paths.
pub fn name(line: &str) -> Option<String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(line.len());
    let name = line.get(..end).filter(|name| !name.is_empty() && !line.starts_with(['-', '.']))?;
    Some(name.to_ascii_lowercase().replace(['_', '.'], "-"))
}

/// Adds the digests that a line pins. Those of other algorithms than sha256 are not known in locks.
fn read_pins(line: &str, pins: &mut BTreeMap<String, BTreeSet<Digest>>) {
    let digests = line.split_whitespace().filter_map(|word| word.strip_prefix("--hash=")?.parse().ok());
    let digests: BTreeSet<Digest> = digests.collect();
    if let Some(name) = name(line).filter(|_| !digests.is_empty()) {
        pins.entry(name).or_default().extend(digests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_included_files_are_found() {
        let project = tempfile::tempdir().unwrap();
        let at = |name: &str| project.path().join(name);
        fs::create_dir_all(at("deps/wheels")).unwrap();
        fs::write(at("requirements.txt"), "--index-url=https://a.example/simple # ours\n-r deps/more.txt\nh11\n")
            .unwrap();
        fs::write(at("deps/more.txt"), "-f wheels\n--extra-index-url https://b.example/simple\n").unwrap();
        let named = manifest::Requirements::File("requirements.txt".into());
        let text = Requirements::new(&named, project.path()).unwrap().options_text();
        let wheels = at("deps/wheels");
        let expected = format!(
            "--index-url https://a.example/simple\n-f {}\n--extra-index-url https://b.example/simple\n",
            wheels.display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_pinned_is_known() {
        let (one, two) = ("0".repeat(64), "f".repeat(64));
        let line = format!("Six==1.16.0 --hash=sha256:{one} --hash=sha256:{two} --hash=md5:00");
        let named = manifest::Requirements::List(vec![line, "h11".to_owned()]);
        let requirements = Requirements::new(&named, Path::new(".")).unwrap();
        assert_eq!(requirements.pinned("six").unwrap().len(), 2);
        assert!(requirements.pinned("h11").is_none());
    }

    #[test]
    fn names_are_those_of_packages() {
        assert_eq!(name("Scikit_Learn==1.5.2").as_deref(), Some("scikit-learn"));
        assert_eq!(name("bentoml[grpc]>=1").as_deref(), Some("bentoml"));
        assert_eq!(name("--index-url x"), None);
        assert_eq!(name("./x.whl"), None);
    }

    #[test]
    fn a_file_that_includes_itself_is_an_error() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("r.txt"), "-r r.txt\n").unwrap();
        assert!(Requirements::new(&manifest::Requirements::File("r.txt".into()), project.path()).is_err());
    }
}
