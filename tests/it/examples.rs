//! The projects in `examples`, each built and asked as its manifest says: what they show is what works.

use crate::home::{Home, copy, names};

#[test]
fn models_in_other_languages_are_built_asked_and_ended() {
    let home = Home::warm();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let projects: Vec<_> = names(&folder).into_iter().filter(|name| folder.join(name).is_dir()).collect();
    assert_eq!(projects, ["c", "r"]);
    for name in projects {
        let project = home.path(&name);
        copy(&folder.join(&name), project.as_ref(), false);
        let tested = home.run(["test", &project]).ok();
        assert!(
            tested.err.contains("all 2 answers as expected") || tested.out.contains("all 2 answers"),
            "{}",
            tested.err
        );
        // It is told to end, and does so before it would be killed.
        let container =
            home.run(["run", &project, "--detach", "--read-only", "-p", "0", "--output", "json"]).ok().json();
        home.run(["stop", container["name"].as_str().unwrap()]).ok();
        let ended = home.run(["ps", "--all", "--output", "json"]).ok().json()["containers"][0]["exit_code"].clone();
        assert_ne!(ended, 137, "{name} was killed");
        home.run(["stop", "--all", "--remove"]).ok();
    }
}
