//! What the store holds: shown, removed, and not removed.

use std::fs;

use crate::home::{self, Home, ran, tool};

#[test]
fn containers_that_ended_are_removed_and_those_that_run_are_not() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.build(home.tiny("tiny"));
        let start = |name: &str| drop(home.run(["run", "tiny", "--detach", "-p", "0", "--name", name]).ok());
        for name in ["one", "two", "three"] {
            start(name);
        }
        home.run(["stop", "one", "two"]).ok();
        home.run(["rm", "one", "three"]).ends(1).says("`three` is running").says("rm --force three");
        assert_eq!(home.containers(), ["one", "three", "two"]);
        home.run(["rm", "on"]).ok().says("Removed one");
        let told = home.run(["prune", "--dry-run"]).ok();
        assert!(told.out.contains("\ttwo\n") && !told.out.contains("three"), "{}", told.out);
        assert_eq!(home.containers(), ["three", "two"]);
        assert_eq!(home.run(["prune"]).ok().out, told.out);
        assert_eq!(home.containers(), ["three"]);
        home.run(["rm", "--force", "tiny"]).ok().says("Removed three");
        assert_eq!(home.stored("containers"), [""; 0]);
        home.run(["rm", "three"]).ends(1).says("there is no container `three`");
    }
}

#[test]
fn what_is_told_to_be_freed_is_freed() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    home.run(["run", "tiny", "--", "sh", "-c", ":"]).ok();
    home.run(["tag", "tiny", "tiny:2"]).ok();
    home.run(["rmi", "tiny"]).ends(2).says("tiny:1, tiny:2");
    home.run(["rmi", "tiny:1", "tiny:3"]).ends(1).says("tiny:3");
    home.run(["rmi", "tiny:1", "tiny:2"]).ok().says("Removed tiny:2");
    let df = || home.run(["df", "--output", "json"]).ok().json();
    let sum = |of: &str| df()["kinds"].as_array().unwrap().iter().map(|kind| kind[of].as_u64().unwrap()).sum::<u64>();
    for (args, column) in [(&["prune"][..], "unused"), (&["prune", "--all"], "caches")] {
        let (before, frees) = (sum("bytes"), sum(column));
        assert!(frees > 0, "{}", df());
        let json = |more: &[&str]| home.run(args.iter().chain(&["--output", "json"]).chain(more)).ok().json();
        let told = json(&["--dry-run"]);
        assert_eq!((sum("bytes"), told["bytes"].as_u64().unwrap()), (before, frees));
        assert_eq!(json(&[]), told);
        assert_eq!(sum("bytes"), before - frees);
        assert_eq!(sum(column), 0);
    }
    assert_eq!(sum("bytes"), 0);
    assert_eq!(home.run(["prune", "--all"]).ok().out, "");
}

#[test]
fn people_see_headings_and_programs_see_fields() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    home.run(["run", "tiny", "--detach", "-p", "0", "--name", "mine"]).ok();
    let terminal = |args: &str| {
        let mut script = tool("script");
        script.args([
            "--quiet",
            "--return",
            "--command",
            &format!("{} {args}", home::program().display()),
            "/dev/null",
        ]);
        ran(script.current_dir(home.folder()).env("EKIBEN_HOME", home.store()).env("NO_COLOR", "1")).ok().out
    };
    for (args, heading) in [("images", "NAME    SIZE"), ("ps", "NAME  IMAGE   STATUS   STARTED"), ("df", "KIND ")] {
        let shown = terminal(args);
        assert!(shown.starts_with(heading) && !shown.contains('\t'), "{shown}");
        let lines = home.run([args]).ok().out;
        assert!(!lines.contains(heading) && lines.lines().all(|line| line.contains('\t')), "{lines}");
    }
    assert!(terminal("ps").contains(" s ago") && terminal("images").contains(" ago"));
    let fields = home.run(["ps"]).ok().out;
    let fields: Vec<_> = fields.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[1], fields[2]), ("mine", "tiny:1", "running"));
    assert!(fields[3].ends_with('Z') && fields[4].starts_with("http://127.0.0.1:"), "{fields:?}");
    // A store of old has no notes.
    let index = home.store().join("index.json");
    let old = fs::read_to_string(&index).unwrap().replace("ekiben.named", "of.old");
    fs::write(&index, old).unwrap();
    assert!(home.run(["images"]).ok().out.starts_with("tiny:1\t"));
    home.run(["stop", "mine"]).ok();
    assert_eq!(home.run(["ps"]).ok().out, "");
}
