//! Libraries that compiled Python packages need: found while building, with the Debian package that has them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::home::{Home, ran};

/// The end of a module's name for the Python of the projects here.
const MODULE: &str = ".cpython-311-x86_64-linux-gnu.so";

/// A library at `path` that needs the libraries `needed` and looks for them in `folder` first.
fn compile(path: &Path, needed: &[&str], folder: Option<&str>) {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("empty.c");
    fs::write(&source, "").unwrap();
    let cc = || {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-nostdlib", "-Wl,--no-as-needed"]);
        cc
    };
    let stubs = needed.iter().map(|name| {
        let stub = work.path().join(name);
        ran(cc().arg(format!("-Wl,-soname,{name}")).arg(&source).arg("-o").arg(&stub)).ok();
        stub
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let stubs: Vec<_> = stubs.collect();
    let soname = format!("-Wl,-soname,{}", path.file_name().unwrap().to_str().unwrap());
    let own = folder.map(|folder| format!("-Wl,-rpath,{folder}"));
    ran(cc().arg(soname).args(own).arg(&source).args(&stubs).arg("-o").arg(path)).ok();
}

/// A project that requires a wheel `quick-1` with the libraries `files`: paths, and what each needs and where it looks.
fn project(home: &Home, files: &[(&str, &[&str], Option<&str>)], more: &str) {
    home.tiny("tiny");
    fs::remove_file(home.path("tiny/ekiben.lock")).unwrap();
    let content = home.folder().join("wheel");
    for (path, needed, folder) in files {
        compile(&content.join(path), needed, *folder);
    }
    let made = "import os, zipfile\n\
                z = zipfile.ZipFile('../tiny/wheels/quick-1-py3-none-any.whl', 'w')\n\
                i = 'quick-1.dist-info/'\n\
                z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: quick\\nVersion: 1\\n')\n\
                z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                record = ''\n\
                for folder, _, names in os.walk('.'):\n\
                \x20   for name in sorted(names):\n\
                \x20       path = os.path.relpath(os.path.join(folder, name))\n\
                \x20       z.write(path)\n\
                \x20       record += path + ',,\\n'\n\
                z.writestr(i + 'RECORD', record)\n";
    fs::create_dir_all(home.path("tiny/wheels")).unwrap();
    ran(Command::new("python3").args(["-c", made]).current_dir(&content)).ok();
    let manifest = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let wanted = "  requirements: [\"quick @ ./wheels/quick-1-py3-none-any.whl\"]\n";
    let manifest = manifest.replace("  version: \"3.11\"\n", &format!("  version: \"3.11\"\n{wanted}"));
    home.write("tiny/ekiben.yaml", format!("{manifest}{more}"));
}

fn set_system(home: &Home, line: &str) {
    let manifest = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let manifest = manifest.split("system:").next().unwrap();
    home.write("tiny/ekiben.yaml", format!("{manifest}{line}"));
}

/// The Debian packages that the lock has on top of the base.
fn locked(home: &Home) -> Vec<String> {
    let lock: Value = serde_json::from_slice(&fs::read(home.path("tiny/ekiben.lock")).unwrap()).unwrap();
    let platform = lock["platforms"].as_object().unwrap().values().next().unwrap();
    let packages = platform["system"].as_array().unwrap();
    packages.iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_library_that_is_nowhere_is_an_error_with_its_package_and_auto_adds_it() {
    let home = Home::warm();
    let module = format!("quick/_quick{MODULE}");
    project(&home, &[(&module, &["libc.so.6", "libgomp.so.1"], None)], "");
    for _ in 0..2 {
        // What was found is remembered, and still an error.
        let failed = home.run(["build", "tiny"]).ends(1);
        let failed = failed.says("Python packages need libraries that the image does not have");
        let line = format!("quick 1: {module} needs libgomp.so.1, which the Debian package `libgomp1` has");
        // Nothing was compiled for it.
        assert!(!failed.err.contains("bytecode"), "{}", failed.err);
        failed.says(&line).says("add `libgomp1` to `packages` below `system` in the manifest, or `auto`");
    }
    let report = home.run(["build", "tiny", "--output", "json"]).ends(1);
    let report: Value = serde_json::from_str(&report.err).unwrap();
    assert_eq!(report["error"]["name"], "build/no-library");
    assert_eq!(home.run(["images", "--output", "json"]).ok().json()["images"].as_array().unwrap().len(), 0);

    set_system(&home, "system: {packages: [libgomp1]}\n");
    home.build("tiny");
    let named = locked(&home);
    assert!(named.contains(&"libgomp1".to_owned()), "{named:?}");

    for form in ["auto", "[auto]"] {
        set_system(&home, &format!("system: {{packages: {form}}}\n"));
        home.build("tiny");
        assert_eq!(locked(&home), named);
        home.run(["build", "tiny", "--locked"]).ok();
    }
    let load = ["run", "tiny:1", "--", "python", "-c", "from ctypes import CDLL; CDLL('libgomp.so.1')"];
    home.run(load).ok();
    home.run(["pack", "tiny", "-o", "tiny.ekiben"]).ok();
    home.run(["build", "tiny.ekiben"]).ok();

    // Others can be named beside it.
    set_system(&home, "system: {packages: [libmagic1, auto]}\n");
    home.run(["lock", "tiny"]).ok();
    assert!(["libgomp1", "libmagic1"].iter().all(|name| locked(&home).contains(&(*name).to_owned())));
}

#[test]
fn what_a_wheel_brings_or_a_driver_has_or_nobody_loads_is_no_error() {
    let home = Home::warm();
    let module = format!("quick/_quick{MODULE}");
    let files: [(&str, &[&str], Option<&str>); 5] = [
        // In its own folder, by another package's loading, and of a driver.
        (&module, &["libown-1.so.1", "libcublas.so.12", "libcuda.so.1", "libm.so.6"], Some("$ORIGIN/../quick.libs")),
        ("quick.libs/libown-1.so.1", &["libc.so.6"], None),
        ("nvidia/cublas/lib/libcublas.so.12", &["libnvidia-ml.so.1"], None),
        // A plugin that nothing names, and a part of the project.
        ("quick/plugins/libqxcb.so", &["libX11.so.6"], None),
        ("quick/_other.abi3.so", &["libmine.so.1"], None),
    ];
    project(&home, &files, "include: [\"libmine.so.1\"]\n");
    home.write("tiny/libmine.so.1", "a library");
    let built = home.run(["build", "tiny"]).ok();
    built.says("quick 1: quick/plugins/libqxcb.so needs libX11.so.6, which is nowhere in the image");
    assert_eq!(locked(&home), Vec::<String>::new());
}

#[test]
fn a_library_that_source_names_is_loaded_and_what_it_needs_through_others_counts() {
    let home = Home::warm();
    let files: [(&str, &[&str], Option<&str>); 2] = [
        ("quick/lib/lib_quick.so", &["libinner.so.1"], Some("$ORIGIN")),
        ("quick/lib/libinner.so.1", &["libsndfile.so.1", "libnobody-has-it.so.7"], None),
    ];
    home.write("wheel/quick/__init__.py", "import ctypes\nNAME = 'lib_quick.so'\n");
    project(&home, &files, "");
    let failed = home.run(["build", "tiny"]).ends(1);
    let failed =
        failed.says("quick/lib/libinner.so.1 needs libsndfile.so.1, which the Debian package `libsndfile1` has");
    // No package of Debian's has it, so there is nothing to be done.
    failed.says("quick/lib/libinner.so.1 needs libnobody-has-it.so.7, which is nowhere in the image");
}
