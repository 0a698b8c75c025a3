//! Building where a pod of Kubernetes may do little: as an ordinary user without capabilities, without namespaces, with a root
//! that is read-only. Ekiben's own image runs with the filter of system calls that Docker and containerd have.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use crate::home::{Home, Ran, copy};

const USER: u32 = 1034;

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// A pod's volumes, and a home whose store has Ekiben's image.
struct Pod {
    home: Home,
}

impl Pod {
    fn new() -> Self {
        let home = Home::fetched();
        home.run(["self", "image", "-t", "ekiben:1"]).ok();
        for volume in ["cache", "tmp"] {
            fs::create_dir(home.path(volume)).unwrap();
            fs::set_permissions(home.path(volume), fs::Permissions::from_mode(0o777)).unwrap();
        }
        // All downloads of the base, and nothing that was made of them.
        let fetched = Home::fetched();
        for part in ["blobs", "memory"] {
            copy(&fetched.store().join(part), &home.folder().join("cache/store").join(part), false);
        }
        Self { home }
    }

    fn run(&self, args: &[&str]) -> Ran {
        give(&self.home.folder().join("cache"));
        let volume = |from: &str, to: &str| ["--volume".to_owned(), format!("{}:{to}", self.home.path(from))];
        let mut run: Vec<String> = ["run", "ekiben:1", "--read-only", "--network", "host"].map(str::to_owned).into();
        run.extend([volume("cache", "/cache"), volume("tmp", "/tmp")].concat());
        // Whom this machine trusts, as a cluster would give it.
        let authorities = "/etc/ssl/certs/ca-certificates.crt";
        if Path::new(authorities).exists() {
            run.extend(["--volume".to_owned(), format!("{authorities}:{authorities}:ro")]);
        }
        run.extend(["-e", "EKIBEN_HOME=/cache/store", "-e", "HOME=/nowhere"].map(str::to_owned));
        for name in
            ["EKIBEN_DEBIAN_MIRROR", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "https_proxy"]
        {
            if let Ok(value) = std::env::var(name) {
                run.extend(["-e".to_owned(), format!("{name}={value}")]);
            }
        }
        run.push("--".to_owned());
        self.home.run(run.into_iter().chain(args.iter().map(|text| (*text).to_owned())))
    }
}

/// A copy of `fixtures/tiny` that needs a package.
fn with_package(home: &Home) {
    let project = home.tiny("tiny");
    let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    home.write("tiny/ekiben.yaml", manifest.replace("\"3.11\"", "\"3.11\"\n  requirements: [six==1.16.0]"));
    fs::remove_file(project.join("ekiben.lock")).unwrap();
}

#[test]
fn a_restricted_pod_builds_the_same_image() {
    let pod = Pod::new();
    with_package(&pod.home);
    let digest = pod.home.build("tiny");
    copy(&pod.home.folder().join("tiny"), &pod.home.folder().join("cache/tiny"), false);
    let said = pod.run(&["build", "-v", "/cache/tiny"]).ok();
    assert!(said.out.contains("bytecode is compiled outside of a sandbox"), "{}", said.out);
    assert_eq!(said.out.lines().last(), Some(digest.as_str()), "{}", said.out);
    // A bundle too.
    pod.home.run(["pack", "tiny", "-o", "cache/tiny.ekiben"]).ok();
    let said = pod.run(&["build", "/cache/tiny.ekiben", "-t", "bundle:1"]).ok();
    assert_eq!(said.out.lines().last(), Some(digest.as_str()), "{}", said.out);
    // What uv fetched lies where it can, and is removed with all else that is there for speed.
    let uv = pod.home.folder().join("cache/store/caches/uv");
    assert!(fs::read_dir(&uv).unwrap().next().is_some());
    pod.run(&["prune", "--all"]).ok();
    assert!(!uv.exists());
}
