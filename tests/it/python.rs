//! Real packages: locked, installed and compiled, twice, with the same bytes; and why it fails when it does.
//!
//! Needs a package index (as uv and pip are configured) and a `python3`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::home::{Home, session};
use ekiben::base::python::Package;
use ekiben::base::python::{
    self, Aim, Files, Installation, Loader, Refusal, Resolution, Runner, StandIn, Stored, Target, Uv, bytecode,
};
use ekiben::base::requirements::{Asked, Requirements};
use ekiben::formats::diagnostic::Diagnostics;
use ekiben::formats::python::PythonVersion;
use ekiben::image::oci::platform::Platform;
use ekiben::image::session::Session;
use ekiben::io::digest::Digest;
use ekiben::io::explain::Explain as _;
use ekiben::io::http::{Client, Network};
use ekiben::io::progress::{Event, Progress, Sink, Unit};

const PYTHON: PythonVersion = PythonVersion::new(3, 11);

/// The program, in whose place the test's own binary would be asked.
fn stand_in() -> StandIn {
    StandIn::program(env!("CARGO_BIN_EXE_ekiben"))
}

struct Place {
    home: tempfile::TempDir,
    session: Session,
    uv: Uv,
}

impl Place {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let session = session(&home.path().join("store"));
        let uv = Uv::find(&session, stand_in()).unwrap();
        Self { home, session, uv }
    }

    fn resolve(&self, list: &[&str], target: &Target, preferred: &[Package]) -> Result<Vec<Package>, python::Error> {
        let list: Vec<_> = list.iter().map(|line| (*line).to_owned()).collect();
        let mut found = Diagnostics::new();
        let requirements = Requirements::read(Asked::List(&list), self.home.path(), None, &mut found);
        assert!(found.is_empty(), "{found:?}");
        let scratch = self.session.store.scratch().unwrap();
        let asked =
            Resolution { requirements: &requirements, target, project: self.home.path(), preferred, aim: Aim::Newest };
        python::resolve(&self.uv, &asked, scratch.path(), &self.session.progress)
    }

    fn install(&self, packages: &[Package], target: &Target, name: &str) -> Result<PathBuf, python::Error> {
        let venv = self.home.path().join(name);
        let scratch = self.session.store.scratch().unwrap();
        let requirements = Requirements::default();
        let asked = Installation {
            packages,
            target,
            requirements: &requirements,
            project: self.home.path(),
            interpreter: &format!("/usr/bin/python{}", target.python),
            place: "/app/.venv",
            wheels: None,
        };
        python::install(&self.uv, &asked, &venv, scratch.path(), &self.session.progress)?;
        Ok(venv)
    }
}

fn target(platform: Platform) -> Target {
    Target { python: PYTHON, platform, glibc: (2, 36) }
}

/// The host's Python in place of the base's.
struct Host;

impl Runner for Host {
    fn python(&self, arguments: &[&str], _: &Path) -> std::io::Result<Output> {
        Command::new("python3").args(arguments).output()
    }
}

/// The files of an environment, with the bytecode that `runner` makes of them; it lies in `work`.
fn compiled(venv: &Path, runner: &dyn Runner, work: &Path) -> Files {
    std::fs::create_dir(work).unwrap();
    let mut files = python::files(venv).unwrap();
    bytecode::add(&mut files, runner, PYTHON, "/app/.venv", work, &Progress::silent()).unwrap();
    files
}

/// Everything of an environment that ends up in an image.
fn content(venv: &Path, files: &Files) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for group in python::split(files, venv, PYTHON, "/app/.venv").unwrap() {
        for (entry, stored) in group.entries {
            let bytes = stored.map(|stored| Digest::of(bytes(&stored)).to_string());
            all.insert(entry.path.to_string(), format!("{:o} {:?} {bytes:?}", entry.mode, entry.kind));
        }
    }
    all
}

fn bytes(stored: &Stored) -> Vec<u8> {
    let mut bytes = Vec::new();
    stored.open().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

const TINY: [&str; 2] = ["uvicorn==0.30.6", "numpy==1.26.4"];

#[test]
fn the_same_lock_gives_the_same_tree_for_either_platform() {
    let place = Place::new();
    for platform in Platform::ALL {
        let target = target(platform);
        let packages = place.resolve(&TINY, &target, &[]).unwrap();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["click", "h11", "numpy", "uvicorn"]);
        assert!(packages.iter().all(|package| package.digests.len() == 1 && package.url.is_none()), "{packages:?}");

        let first = place.install(&packages, &target, &format!("{}-1", platform.architecture())).unwrap();
        let second =
            place.install(&packages, &target, &format!("a/longer/path/{}-2", platform.architecture())).unwrap();
        let [files, again] = [&first, &second].map(|venv| compiled(venv, &Host, &venv.with_extension("bytecode")));
        let tree = content(&first, &files);
        assert_eq!(tree, content(&second, &again));

        let names: Vec<&str> = tree.keys().map(String::as_str).collect();
        for trace in ["REQUESTED", "direct_url.json", "uv_cache.json", ".lock"] {
            assert!(!names.iter().any(|name| name.ends_with(trace)), "{trace}");
        }
        let site = first.join("lib/python3.11/site-packages");
        let record = std::fs::read_to_string(site.join("uvicorn-0.30.6.dist-info/RECORD")).unwrap();
        let script = std::fs::read(first.join("bin/uvicorn")).unwrap();
        assert!(script.starts_with(b"#!/app/.venv/bin/python\n"));
        assert!(record.contains("../../../bin/uvicorn,sha256=") && record.contains(&format!(",{}\n", script.len())));
        assert_eq!(std::fs::read_link(first.join("bin/python")).unwrap(), Path::new("/usr/bin/python3.11"));
        let machine = format!("_multiarray_umath.cpython-311-{}-linux-gnu.so", platform.machine());
        assert!(site.join("numpy/core").join(machine).exists());
        // Compiled, but not the tests of packages; paths are those in the image.
        let compiled = |name: &str| names.iter().any(|path| path.contains(&format!("{name}/__pycache__/")));
        assert!(compiled("site-packages/uvicorn") && !compiled("numpy/core/tests"));
        let pyc = files.iter().find(|(path, _)| path.as_str().contains("uvicorn/__pycache__/"));
        let bytes = bytes(pyc.unwrap().1.1.as_ref().unwrap());
        assert!(bytes.windows(23).any(|part| part == b"/app/.venv/lib/python3."));
        assert_eq!(bytes[4..8], [1, 0, 0, 0], "unchecked hash");
    }
}

#[test]
fn locked_versions_stay_until_they_may_move() {
    let place = Place::new();
    let target = target(Platform::Amd64);
    let old = place.resolve(&["h11==0.14.0"], &target, &[]).unwrap();
    assert_eq!(place.resolve(&["h11"], &target, &old).unwrap(), old);
    assert_ne!(place.resolve(&["h11"], &target, &[]).unwrap(), old);
}

#[test]
fn a_package_without_a_wheel_is_named() {
    let place = Place::new();
    let error = place.resolve(&["mysqlclient==2.2.4"], &target(Platform::Amd64), &[]).unwrap_err();
    assert!(
        matches!(&error, python::Error::Refused(Refusal::NoWheel { package, .. }) if package == "mysqlclient==2.2.4"),
        "{error:?}"
    );
    assert!(error.explain().hint.is_some_and(|hint| hint.contains("wheel")));
}

#[test]
fn other_bytes_than_those_locked_are_refused() {
    let place = Place::new();
    let target = target(Platform::Amd64);
    let mut packages = place.resolve(&["h11==0.16.0"], &target, &[]).unwrap();
    packages[0].digests = vec![Digest::of("something else")];
    let error = place.install(&packages, &target, "venv").unwrap_err();
    assert!(matches!(&error, python::Error::Refused(Refusal::OtherBytes { .. })), "{error:?}");
}

#[test]
fn a_local_wheel_is_locked_by_its_path_in_the_project() {
    let place = Place::new();
    let wheels = place.home.path().join("wheels");
    let status = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "h11==0.16.0", "--dest"])
        .arg(&wheels)
        .status();
    assert!(status.unwrap().success());
    let target = target(Platform::Amd64);
    let packages = place.resolve(&["h11 @ ./wheels/h11-0.16.0-py3-none-any.whl"], &target, &[]).unwrap();
    assert_eq!(packages[0].url.as_deref(), Some("wheels/h11-0.16.0-py3-none-any.whl"));
    let venv = place.install(&packages, &target, "venv").unwrap();
    let tree = content(&venv, &python::files(&venv).unwrap());
    assert!(tree.keys().any(|path| path.ends_with("h11/__init__.py")));
    assert!(!tree.keys().any(|path| path.ends_with("direct_url.json")));
}

/// A wheel `NAME-1-py3-none-any.whl` with a file `shared/x.txt` that says `name`, and a script.
fn make_wheel(folder: &Path, name: &str) {
    let script = format!(
        "import zipfile\nz = zipfile.ZipFile('{name}-1-py3-none-any.whl', 'w')\n\
         i = '{name}-1.dist-info/'\n\
         z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n')\n\
         z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         z.writestr('shared/x.txt', '{name}' * 50000)\n\
         z.writestr('{name}-1.data/scripts/run-{name}', '#!python\\nprint(1)\\n')\n\
         z.writestr(i + 'RECORD', 'shared/x.txt,sha256={name},1\\n{name}-1.data/scripts/run-{name},,\\n')\n"
    );
    std::fs::create_dir_all(folder).unwrap();
    assert!(Command::new("python3").args(["-c", &script]).current_dir(folder).status().unwrap().success());
}

#[test]
fn of_two_packages_with_the_same_file_the_later_name_wins() {
    let place = Place::new();
    let names = ["aa", "bb", "cc", "dd"];
    names.iter().for_each(|name| make_wheel(&place.home.path().join("wheels"), name));
    let target = target(Platform::Amd64);
    let list = names.map(|name| format!("{name} @ ./wheels/{name}-1-py3-none-any.whl"));
    let packages = place.resolve(&list.each_ref().map(String::as_str), &target, &[]).unwrap();
    for round in 0..3 {
        let venv = place.install(&packages, &target, &format!("venv{round}")).unwrap();
        let shared = std::fs::read_to_string(venv.join("lib/python3.11/site-packages/shared/x.txt")).unwrap();
        assert!(shared.starts_with("dd"), "{}", &shared[..2]);
        let script = std::fs::read_to_string(venv.join("bin/run-aa")).unwrap();
        assert_eq!(script, "#!/app/.venv/bin/python\nprint(1)\n");
    }
}

/// The root of the host in place of an unpacked base, on a Debian that has Python.
#[test]
fn the_python_of_a_base_is_lent_through_its_own_loader() {
    let found =
        (9..20).map(|minor| PythonVersion::new(3, minor)).find(|v| Path::new(&format!("/usr/bin/python{v}")).exists());
    let Some(version) = found else { return };
    let loader = Loader::new(Path::new("/"), version).unwrap();
    let output = loader.python(&["-c", "import sys; print(sys.version)"], Path::new("/tmp")).unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&version.to_string()));
    let place = Place::new();
    let target = target(Platform::Arm64);
    let packages = place.resolve(&["h11==0.16.0"], &target, &[]).unwrap();
    let venv = place.install(&packages, &target, "venv").unwrap();
    let files = compiled(&venv, &loader, &place.home.path().join("bytecode"));
    assert!(files.keys().any(|path| path.as_str().contains("site-packages/h11/__pycache__/")));
    assert!(matches!(Loader::new(place.home.path(), PYTHON), Err(python::Error::NoPython { .. })));
}

#[test]
fn settings_in_the_projects_folder_count_and_those_above_it_do_not() {
    let place = Place::new();
    std::fs::write(place.home.path().join("uv.toml"), "[pip]\nno-index = true\n").unwrap();
    let project = place.home.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("requirements.txt"), "h11==0.16.0\n").unwrap();
    std::fs::write(place.home.path().join("requirements.txt"), "h11==0.16.0\n").unwrap();
    let named = Asked::File("requirements.txt");
    let target = target(Platform::Amd64);
    let resolve = |project: &Path| {
        let scratch = place.session.store.scratch().unwrap();
        let requirements = Requirements::read(named, project, None, &mut Diagnostics::new());
        let asked =
            Resolution { requirements: &requirements, target: &target, project, preferred: &[], aim: Aim::Newest };
        python::resolve(&place.uv, &asked, scratch.path(), &Progress::silent())
    };
    assert_eq!(resolve(&project).unwrap().len(), 1);
    assert!(resolve(place.home.path()).is_err());
}

#[test]
fn a_pyproject_is_resolved_and_its_packages_installed_from_its_indexes() {
    let place = Place::new();
    let project = place.home.path().join("project");
    make_wheel(&project.join("wheels"), "aa");
    let text = "[project]\nname = 'mine'\nversion = '1'\ndependencies = ['aa', 'h11==0.16.0']\n\
                [tool.uv]\nconstraint-dependencies = ['aa<2']\n\
                [[tool.uv.index]]\nname = 'own'\nurl = './wheels'\nformat = 'flat'\nexplicit = true\n\
                [tool.uv.sources]\naa = { index = 'own' }\n";
    let text = text.replace("./wheels", &format!("file://{}", project.join("wheels").display()));
    std::fs::write(project.join("pyproject.toml"), text).unwrap();
    let named = Asked::File("pyproject.toml");
    let mut found = Diagnostics::new();
    let requirements = Requirements::read(named, &project, None, &mut found);
    assert!(found.is_empty(), "{found:?}");
    let target = target(Platform::Amd64);
    let scratch = || place.session.store.scratch().unwrap();
    let asked = Resolution {
        requirements: &requirements,
        target: &target,
        project: &project,
        preferred: &[],
        aim: Aim::Newest,
    };
    let packages = python::resolve(&place.uv, &asked, scratch().path(), &Progress::silent()).unwrap();
    assert_eq!(packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["aa", "h11"]);
    let asked = Installation {
        packages: &packages,
        target: &target,
        requirements: &requirements,
        project: &project,
        interpreter: "/usr/bin/python3.11",
        place: "/app/.venv",
        wheels: None,
    };
    let venv = place.home.path().join("venv");
    python::install(&place.uv, &asked, &venv, scratch().path(), &Progress::silent()).unwrap();
    assert!(venv.join("lib/python3.11/site-packages/shared/x.txt").exists());
}

#[test]
fn uv_is_fetched_once_without_pip_or_python() {
    let home = tempfile::tempdir().unwrap();
    let session = session(&home.path().join("store"));
    let offline = Session { client: Client::new(Network::Offline), ..session.clone() };
    let refused = Uv::pinned(&offline, stand_in()).unwrap_err();
    assert!(matches!(refused, python::Error::UvOffline));
    #[derive(Default)]
    struct Bar {
        total: AtomicU64,
        done: AtomicU64,
    }
    impl Sink for Bar {
        fn event(&self, event: Event) {
            match event {
                Event::Started { verb: "Fetching", unit: Unit::Bytes, total: Some(total), .. } => {
                    self.total.store(total, Ordering::Relaxed);
                }
                Event::Advanced { by, .. } => drop(self.done.fetch_add(by, Ordering::Relaxed)),
                _ => {}
            }
        }
    }
    let bar = Arc::new(Bar::default());
    Uv::pinned(&Session { progress: Progress::new(bar.clone()), ..session.clone() }, stand_in()).unwrap();
    let [total, done] = [&bar.total, &bar.done].map(|count| count.load(Ordering::Relaxed));
    assert!(total > 10_000_000 && total == done, "{done} of {total} bytes");
    // And from then on without the network.
    Uv::pinned(&offline, stand_in()).unwrap();
}

#[test]
fn a_package_that_is_not_there_is_named_with_its_place() {
    let home = Home::fetched();
    home.write(
        "p/ekiben.yaml",
        "name: p\nservice: {command: [python, -V]}\npython: {version: '3.11', requirements: requirements.txt}\n",
    );
    home.write("p/requirements.txt", "six\nsklearn-nope-nope>=1\n");
    home.run(["lock", "p"]).ends(1).says("error: p/requirements.txt:2:1: there is no package `sklearn-nope-nope`");
    home.write("p/ekiben.yaml", "name: p\nservice: {command: [python, -V]}\npython: {version: '3.11', requirements: [six, sklearn-nope-nope]}\n");
    let said =
        home.run(["lock", "p"]).ends(1).says("error: p/ekiben.yaml:3:47: there is no package `sklearn-nope-nope`");
    assert!(!said.err.contains("cause:"), "{said:?}");
}
