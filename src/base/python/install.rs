//! From locked packages to the tree of a virtual environment, as it will lie in the image.
//!
//! uv unpacks the wheels; what it writes on its own account (scripts, records of where a package came from, locks) is
//! replaced or removed here, so that the tree follows from the wheels alone. uv links files out of its cache: such a
//! file is never changed, only replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::io::Write as _;

use super::record::{self, Line};
use super::refusal::{Refusal, without_credentials};
use super::{Error, Target, Uv};
use crate::base::python::Package;
use crate::base::requirements::Requirements;
use crate::formats::python::PythonVersion;
use crate::io::archive::ArchivePath;
use crate::io::progress::{Progress, Unit};

/// What is to be installed, and where it will lie.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// All of them: nothing is added.
    pub packages: &'a [Package],
    /// For what.
    pub target: &'a Target,
    /// Says where packages come from (its indexes).
    pub requirements: &'a Requirements,
    /// The project's folder, in which local wheels lie.
    pub project: &'a Path,
    /// The Python in the image, as `/usr/bin/python3.11`.
    pub interpreter: &'a str,
    /// The environment's place in the image, as `/app/.venv`.
    pub place: &'a str,
    /// A folder with the wheels of all that are not the project's own: then no index is asked.
    pub wheels: Option<&'a Path>,
}

/// Folders at the root of an environment that a wheel may fill (its `scripts`, `data` and `headers`).
const ROOT_FOLDERS: [&str; 4] = ["bin", "etc", "include", "share"];
/// From site-packages to the root of the environment.
const UP: &str = "../../../";
/// What installers write about where and how they installed.
const TRACES: [&str; 3] = ["REQUESTED", "direct_url.json", "uv_cache.json"];
/// Largest script, RECORD or list of entry points that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Installs into `venv`, a folder that does not exist yet; `scratch` is an empty one.
///
/// # Errors
/// See [`Error`]; what uv said is [`Error::Refused`]. What `venv` holds then is of no use.
pub fn install(
    uv: &Uv,
    asked: &Installation<'_>,
    venv: &Path,
    scratch: &Path,
    progress: &Progress,
) -> Result<(), Error> {
    let count = asked.packages.len();
    let task = progress.task("Installing", format!("{count} Python packages"), Unit::Items, None);
    let site = venv.join(site_packages(asked.target.python));
    fs::create_dir_all(&site)?;
    unpack(uv, asked, asked.packages, &site, scratch)?;
    // uv unpacks in parallel: of two packages with the same file, either may have won. Once more, one after the other.
    let disputed = disputed(&site)?;
    for package in asked.packages {
        if let Some(info) = disputed.get(&package.name) {
            // Without it, uv does not know that the package is there; its own way (`--reinstall`) asks the index again.
            fs::remove_dir_all(info)?;
            unpack(uv, asked, std::slice::from_ref(package), &site, scratch)?;
        }
    }
    make_own(asked, venv, &site)?;
    task.finish(format!("Installed {count} Python packages"));
    Ok(())
}

/// Where packages lie in an environment, relative to its root.
pub fn site_packages(python: PythonVersion) -> String {
    format!("lib/python{python}/site-packages")
}

/// Has uv put `packages` into `site`.
fn unpack(uv: &Uv, asked: &Installation<'_>, packages: &[Package], site: &Path, scratch: &Path) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    match asked.wheels {
        None => {
            text += &asked.requirements.options_text();
            fs::write(scratch.join("uv.toml"), asked.requirements.locations_text())?;
        }
        Some(_) => fs::write(scratch.join("uv.toml"), "")?,
    }
    for package in packages {
        text += &requirement(package, asked);
    }
    fs::write(scratch.join("requirements.lock.txt"), text)?;
    let command = uv
        .pip("install", scratch)?
        .args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile-bytecode", "--quiet"])
        .args(["--python-version", &asked.target.release(), "--python-platform", &asked.target.uv_platform()])
        .args(["--requirements", "requirements.lock.txt", "--target"])
        .args([site])
        .may_write(site);
    let command = match asked.wheels {
        None => command,
        Some(folder) => command.args(["--no-index", "--find-links"]).args([folder]),
    };
    let output = command.run(scratch)?;
    if !output.status.success() {
        let target = format!("Python {} on {}", asked.target.python, asked.target.platform);
        return Err(Refusal::of(&output.stderr, &target).into());
    }
    Ok(())
}

/// A line of a requirements file with hashes.
fn requirement(package: &Package, asked: &Installation<'_>) -> String {
    let Package { name, version, url, digests } = package;
    let mut line = match url {
        None => format!("{name}=={version}"),
        Some(url) if url.contains("://") && asked.wheels.is_some() => format!("{name}=={version}"),
        Some(url) if url.contains("://") => {
            // With what the project says of who may fetch it.
            let whole = asked.requirements.address(name).filter(|whole| without_credentials(whole) == *url);
            format!("{name} @ {}", whole.unwrap_or(url))
        }
        Some(path) => format!("{name} @ file://{}", asked.project.join(path).display()),
    };
    digests.iter().for_each(|digest| line += &format!(" --hash={digest}"));
    line + "\n"
}

/// The packages that have a file which another one has with other content: their normalised names (PEP 503) and the
/// folders with their RECORDs.
fn disputed(site: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files: BTreeMap<String, (Line, PathBuf)> = BTreeMap::new();
    let mut disputed = BTreeSet::new();
    for info in dist_infos(site)? {
        let record = info.join("RECORD");
        for line in record::read(&read_text(&record)?, &record)? {
            match files.get(&line.path) {
                Some((other, owner)) if *other != line => disputed.extend([owner.clone(), info.clone()]),
                Some(_) => {}
                None => {
                    files.insert(line.path.clone(), (line, info.clone()));
                }
            }
        }
    }
    let named = |info: PathBuf| {
        let stem = info.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.split('-').next().unwrap_or_default().to_lowercase().replace(['_', '.'], "-");
        (name, info)
    };
    Ok(disputed.into_iter().map(named).collect())
}

/// Makes an environment of what uv left, and takes out uv's traces.
fn make_own(asked: &Installation<'_>, venv: &Path, site: &Path) -> Result<(), Error> {
    for folder in ROOT_FOLDERS {
        let from = site.join(folder);
        // A package may have such a name as well.
        if from.is_dir() && !from.join("__init__.py").exists() {
            fs::rename(from, venv.join(folder))?;
        }
    }
    remove_if_there(&site.join(".lock"))?;
    fs::create_dir_all(venv.join("bin"))?;
    for info in dist_infos(site)? {
        own_package(asked, venv, site, &info)?;
    }
    let python = asked.target.python;
    fs::write(
        venv.join("pyvenv.cfg"),
        format!(
            "home = {}\ninclude-system-site-packages = false\nversion = {python}\n",
            asked.interpreter.rsplit_once('/').map_or("/usr/bin", |(folder, _)| folder)
        ),
    )?;
    for (name, target) in [("python", asked.interpreter), ("python3", "python"), (&format!("python{python}"), "python")]
    {
        remove_if_there(&venv.join("bin").join(name))?;
        symlink(target, venv.join("bin").join(name))?;
    }
    Ok(())
}

/// The folders `NAME-VERSION.dist-info`, sorted.
pub(super) fn dist_infos(site: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(site)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") && path.join("RECORD").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Rewrites the scripts and the RECORD of one package.
fn own_package(asked: &Installation<'_>, venv: &Path, site: &Path, info: &Path) -> Result<(), Error> {
    let folder = info.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let record_path = info.join("RECORD");
    let entry_points = entry_points(&read_text(&info.join("entry_points.txt"))?);
    let mut lines = Vec::new();
    for line in record::read(&read_text(&record_path)?, &record_path)? {
        let traced = TRACES.iter().any(|trace| line.path == format!("{folder}/{trace}"));
        let root = line.path.split('/').next().unwrap_or_default();
        if traced {
            remove_if_there(&info.join(&line.path[folder.len() + 1..]))?;
        } else if ROOT_FOLDERS.contains(&root) && !site.join(root).exists() {
            let inside = ArchivePath::relative(&line.path)
                .map_err(|error| Error::Package { path: record_path.clone(), why: error.to_string() })?;
            let path = inside.under(venv);
            let name = line.path.strip_prefix("bin/");
            if let Some(entry) = name.and_then(|name| entry_points.iter().find(|entry| entry.name == name)) {
                let text = entry.script(asked.place);
                replace(&path, text.as_bytes())?;
                lines.push(Line::of(format!("{UP}{}", line.path), text.as_bytes()));
            } else if name.is_some()
                && let Some(text) = with_shebang(&path, asked.place)?
            {
                replace(&path, &text)?;
                lines.push(Line::of(format!("{UP}{}", line.path), &text));
            } else {
                lines.push(line.moved(UP));
            }
        } else {
            lines.push(line);
        }
    }
    replace(&record_path, record::write(lines).as_bytes())
}

/// A console script, as `entry_points.txt` declares it (<https://packaging.python.org/en/latest/specifications/entry-points/>).
struct EntryPoint {
    name: String,
    module: String,
    object: String,
}

impl EntryPoint {
    fn script(&self, place: &str) -> String {
        let Self { module, object, .. } = self;
        let first = object.split('.').next().unwrap_or(object);
        format!(
            "#!{place}/bin/python\nimport sys\n\nfrom {module} import {first}\n\nif __name__ == \"__main__\":\n    \
             sys.exit({object}())\n"
        )
    }
}

fn entry_points(text: &str) -> Vec<EntryPoint> {
    let mut found = Vec::new();
    let mut section = "";
    let dotted = |text: &str| {
        !text.is_empty()
            && text.split('.').all(|name| !name.is_empty() && name.chars().all(|c| c == '_' || c.is_alphanumeric()))
    };
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if matches!(section, "console_scripts" | "gui_scripts")
            && let Some((name, reference)) = line.split_once('=')
            && let Some((module, object)) = reference.split('[').next().unwrap_or_default().split_once(':')
            && dotted(module.trim())
            && dotted(object.trim())
        {
            let [name, module, object] = [name, module, object].map(|text| text.trim().to_owned());
            found.push(EntryPoint { name, module, object });
        }
    }
    found
}

/// A script of a wheel with the shebang of the environment, where it has one of a Python.
fn with_shebang(path: &Path, place: &str) -> Result<Option<Vec<u8>>, Error> {
    if fs::metadata(path)?.len() > LARGEST {
        return Ok(None);
    }
    let text = fs::read(path)?;
    Ok(after_shebang(&text).map(|rest| [format!("#!{place}/bin/python\n").as_bytes(), rest].concat()))
}

/// What follows the lines that start Python: `#!…python`, or, where that path is too long for the kernel, a polyglot
/// of sh and Python that installers write then.
fn after_shebang(script: &[u8]) -> Option<&[u8]> {
    let (first, rest) = line(script);
    if first == b"#!/bin/sh" {
        let (exec, rest) = line(rest);
        let (end, rest) = line(rest);
        return (exec.starts_with(b"'''exec' ") && end == b"' '''").then_some(rest);
    }
    (first.starts_with(b"#!") && first.windows(6).any(|part| part == b"python")).then_some(rest)
}

/// The first line, without its end, and what follows.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Writes a script or a RECORD anew under its name; what was linked there stays as it is.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let executable = path.parent().is_some_and(|folder| folder.ends_with("bin"));
    fs::remove_file(path)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)?;
    Ok(())
}

/// Empty where there is no such file.
fn read_text(path: &Path) -> Result<String, Error> {
    let malformed = |why: &str| Error::Package { path: path.to_owned(), why: why.to_owned() };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Ok(metadata) if metadata.len() > LARGEST => Err(malformed("it is too large")),
        Ok(_) => String::from_utf8(fs::read(path)?).map_err(|_| malformed("it is not UTF-8")),
        Err(error) => Err(error.into()),
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lines_that_start_python_are_found() {
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (b"#!/usr/bin/python3\nprint()\n", Some(b"print()\n")),
            (b"#!python\n", Some(b"")),
            (b"#!/bin/sh\n'''exec' '/long path/python' \"$0\" \"$@\"\n' '''\nprint()\n", Some(b"print()\n")),
            (b"#!/bin/sh\necho\n", None),
            (b"\x7fELF", None),
            (b"", None),
        ];
        for (script, expected) in cases {
            assert_eq!(after_shebang(script), expected, "{}", String::from_utf8_lossy(script));
        }
    }

    #[test]
    fn entry_points_become_scripts() {
        let text = "[other]\nx = y:z\n[console_scripts]\nuvicorn = uvicorn.main:main\nf = a.b:C.run [extra]\n\
                    evil = os:system('x')\n";
        let found = entry_points(text);
        assert_eq!(found.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["uvicorn", "f"]);
        let script = found[1].script("/app/.venv");
        assert!(script.starts_with("#!/app/.venv/bin/python\n") && script.contains("from a.b import C\n"), "{script}");
        assert!(script.ends_with("sys.exit(C.run())\n"));
    }

    #[test]
    fn what_is_linked_from_a_cache_is_replaced_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (cached, linked) = (folder.path().join("cached"), folder.path().join("linked"));
        fs::write(&cached, "cached").unwrap();
        fs::hard_link(&cached, &linked).unwrap();
        replace(&linked, b"other").unwrap();
        assert_eq!(
            (fs::read_to_string(cached).unwrap(), fs::read_to_string(linked).unwrap()),
            ("cached".into(), "other".into())
        );
    }

    #[test]
    fn a_record_that_climbs_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (venv, victim) = (folder.path().join("venv"), folder.path().join("victim"));
        let site = venv.join("lib/python3.11/site-packages");
        fs::create_dir_all(site.join("evil-1.dist-info")).unwrap();
        fs::create_dir_all(site.join("bin")).unwrap();
        fs::write(&victim, "#!python\nuntouched").unwrap();
        fs::write(site.join("evil-1.dist-info/RECORD"), "bin/../../victim,,\n").unwrap();
        let target = Target {
            python: PythonVersion::new(3, 11),
            platform: crate::image::oci::platform::Platform::Amd64,
            glibc: (2, 36),
        };
        let asked = Installation {
            packages: &[],
            target: &target,
            requirements: &Requirements::default(),
            project: folder.path(),
            interpreter: "/usr/bin/python3.11",
            place: "/app/.venv",
            wheels: None,
        };
        assert!(matches!(make_own(&asked, &venv, &site), Err(Error::Package { .. })));
        assert_eq!(fs::read_to_string(victim).unwrap(), "#!python\nuntouched");
    }

    proptest! {
        #[test]
        fn no_script_or_list_makes_it_panic(text in "(#!|python|/bin/sh|\n|'''exec' |' '''|=|:|\\[|\\]|console_scripts|[a-z. ]){0,20}") {
            let _ = (after_shebang(text.as_bytes()), entry_points(&text));
        }
    }
}
