//! What the person requires, as uv is given it.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
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
                Ok(Self { list: list.clone(), options, ..Self::default() })
            }
            manifest::Requirements::File(file) => {
                let file = project.join(file);
                let mut options = Vec::new();
                if file.extension().is_none_or(|extension| extension != "toml") {
                    read_options(&file, project, DEEPEST, &mut options)?;
                }
                Ok(Self { file: Some(file), options, ..Self::default() })
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

    /// Where packages come from, as the first lines of a requirements file.
    pub(super) fn options_text(&self) -> String {
        self.options.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Collects the lines that name indexes and folders of wheels, of a file and of those that it includes.
fn read_options(file: &Path, project: &Path, depth: u8, options: &mut Vec<String>) -> Result<(), Error> {
    const INDEXES: [&str; 3] = ["-i", "--index-url", "--extra-index-url"];
    const FOLDERS: [&str; 2] = ["-f", "--find-links"];
    const INCLUDES: [&str; 2] = ["-r", "--requirement"];
    if depth == 0 || fs::metadata(file)?.len() > LARGEST {
        return Err(std::io::Error::other(format!("{} is too large or includes itself", file.display())).into());
    }
    for line in fs::read_to_string(file)?.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        let (option, value) = match line.split_once([' ', '=', '\t']) {
            Some((option, value)) => (option, value.trim_matches([' ', '=', '\t'])),
            None => (line, ""),
        };
        if INDEXES.contains(&option) {
            options.push(format!("{option} {value}"));
        } else if FOLDERS.contains(&option) {
            // uv takes a relative path from where the file lies; the line will be in another file.
            let local = file.parent().unwrap_or(project).join(value);
            let place = if local.exists() { local.display().to_string() } else { value.to_owned() };
            options.push(format!("{option} {place}"));
        } else if option == "--no-index" {
            options.push(option.to_owned());
        } else if INCLUDES.contains(&option) {
            read_options(&file.parent().unwrap_or(project).join(value), project, depth - 1, options)?;
        }
    }
    Ok(())
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
    fn a_file_that_includes_itself_is_an_error() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("r.txt"), "-r r.txt\n").unwrap();
        assert!(Requirements::new(&manifest::Requirements::File("r.txt".into()), project.path()).is_err());
    }
}
