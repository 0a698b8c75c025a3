//! What a release consists of, as far as that can be held without building one: versions that agree, files that are in the crate.
//! `scripts/release` and `scripts/test-dist.sh` do the rest.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::home::{Home, ran, tool};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn all_files_name_the_version_of_the_crate() {
    let wheel = format!("ekiben=={VERSION}");
    let hooks = read("pyproject.toml");
    assert!(hooks.contains(&format!("version = \"{VERSION}\"\n")), "{hooks}");
    assert!(hooks.contains(&format!("dependencies = [\"{wheel}\"]")), "{hooks}");
    for file in ["action.yml", "templates/ekiben.yml"] {
        assert!(read(file).contains(&format!("default: {wheel}\n")), "{file}");
    }
}

#[test]
fn the_crate_has_all_that_it_is_built_from() {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--no-verify"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let packed: Vec<_> = listed.lines().collect();
    let tracked = ran(tool("git").args([
        "ls-files",
        "src",
        "schemas",
        "Cargo.lock",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ]));
    for file in tracked.ok().out.lines() {
        assert!(packed.contains(&file), "{file} is not in the crate");
    }
    // What only those need who work on it.
    for folder in ["fixtures/", "packaging/", "scripts/", "tests/"] {
        assert!(!packed.iter().any(|file| file.starts_with(folder)), "{folder} is in the crate");
    }
}

/// pip makes of the repository, for its hooks, what asks for the wheel, without fetching anything.
#[test]
fn hooks_are_installed_without_a_compiler() {
    let home = Home::empty();
    let pip = |args: &[&str]| {
        ran(tool("python3").args(["-m", "pip"]).args(args).env("PIP_NO_INDEX", "1").env_remove("PIP_FIND_LINKS"))
    };
    let into = home.path("wheels");
    pip(&["wheel", "--quiet", "--no-deps", "--wheel-dir", &into, env!("CARGO_MANIFEST_DIR")]).ok();
    let wheel = Path::new(&into).join(format!("ekiben_hooks-{VERSION}-py3-none-any.whl"));
    let script = "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]).decode())";
    let metadata = format!("ekiben_hooks-{VERSION}.dist-info/METADATA");
    let said = ran(tool("python3").args(["-c", script]).arg(&wheel).arg(&metadata)).ok().out;
    assert!(said.contains(&format!("Requires-Dist: ekiben=={VERSION}\n")), "{said}");
}

#[test]
fn each_command_has_a_manual_page() {
    let home = Home::empty();
    let folder = home.path("man");
    home.run(["self", "man", &folder]).ok();
    let page = fs::read_to_string(Path::new(&folder).join("ekiben-self-man.1")).unwrap();
    assert!(page.contains(".TH ekiben-self-man 1") && page.contains("manual pages of this program"), "{page}");
    // As many as docs/cli.md has headings, which is held to `--help`.
    let headings = read("docs/cli.md").lines().filter(|line| line.starts_with("##")).count();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), headings);
}
