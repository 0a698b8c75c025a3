//! What a person calls images, containers and projects, and what a shell completes.

use std::fs;

use crate::home::{Home, ran, tool};

#[test]
fn a_name_without_a_tag_is_that_of_the_project_or_the_only_one() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    home.build("tiny");
    let digest = |query: &str| home.run(["inspect", query, "--output", "json"]).ok().json()["name"].clone();
    assert_eq!(digest("tiny"), "tiny:1");
    home.run(["tag", "tiny", "tiny:0"]).ok();
    home.run(["export", "tiny", "x.tar"]).ends(2).says("any of 2 images").says("tiny:0, tiny:1");
    home.run(["export", "wine", "x.tar"]).ends(1).says("there are: tiny:0, tiny:1");
    // In the project's folder, its version is meant.
    let here = |args: &[&str]| ran(home.command(args).current_dir(&project)).ok();
    assert_eq!(here(&["inspect", "tiny", "--output", "json"]).json()["name"], "tiny:1");
    home.run(["tag", "tiny:0", "tiny:latest"]).ok();
    assert_eq!(digest("tiny"), "tiny:latest");
}

#[test]
fn a_build_says_whose_name_it_takes() {
    let home = Home::warm();
    home.tiny("first");
    let second = home.tiny("second");
    let digest = home.build("first");
    // The same image is nobody's loss.
    let same = home.run(["build", "second"]).ok();
    assert!(same.out.trim() == digest && !same.err.contains("warning"), "{}", same.err);
    home.build("first");
    let change = |project: &str| {
        let path = home.path(&format!("{project}/src/predict.py"));
        fs::write(&path, fs::read_to_string(&path).unwrap() + "\n# Changed.\n").unwrap();
    };
    change("second");
    let told = home.run(["build", "second", "--output", "json"]).ok();
    let told: serde_json::Value = serde_json::from_str(&told.err).unwrap();
    assert!(told["warning"].as_str().unwrap().starts_with("`tiny:1` was the image of"), "{told}");
    home.build("first");
    let taken = home.run(["build", "second"]).ok().says("warning: `tiny:1` was the image of").says("/first until now");
    assert!(
        taken.err.contains("another name or version in its manifest") && !taken.err.contains("`-t`"),
        "{}",
        taken.err
    );
    let other = home.run(["build", "second", "--tag", "mine:1"]).ok();
    assert!(!other.err.contains("warning") && other.out == taken.out && other.out.trim() != digest);
    // Where it was built is no part of the image.
    home.run(["export", "tiny", "layout"]).ok();
    let index = fs::read_to_string(home.path("layout/index.json")).unwrap();
    assert!(!index.contains("second") && !index.contains("origin"), "{index}");
    home.run(["build", "second"]).ok();
    fs::rename(&second, home.path("third")).unwrap();
    change("third");
    let moved = home.run(["build", "third"]).ok();
    assert!(!moved.err.contains("warning"), "{}", moved.err);
}

#[test]
fn containers_are_found_by_their_images_and_their_beginnings() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    let start = |name: &str| drop(home.run(["run", "tiny", "--detach", "-p", "0", "--name", name]).ok());
    start("first");
    assert_eq!(home.run(["invoke", "tiny:1", "-d", r#"{"x": 2}"#]).ok().out.trim(), "7.0");
    assert!(home.run(["logs", "fi"]).ok().out.contains("/predict"));
    start("second");
    home.run(["logs", "tiny"]).ends(2).says("any of 2 containers").says("first, second");
    home.run(["stop", "wine"]).ends(1).says("there are: first, second");
    home.run(["stop", "fir"]).ok().says("Stopped first");
    home.run(["stop", "tiny"]).ok().says("Stopped second");
}

#[test]
fn shells_complete_names() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    home.write("tiny.txt", "");
    home.write("bash", home.run(["completions", "bash"]).ok().out);
    let program = crate::home::program().parent().unwrap().display().to_string();
    let complete = |words: &str| {
        let script = format!(
            "PATH={program}:$PATH; source ./bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             _clap_complete_ekiben ekiben \"${{COMP_WORDS[COMP_CWORD]}}\" x; echo ${{COMPREPLY[@]}}"
        );
        let mut bash = tool("bash");
        ran(bash.args(["-c", &script]).current_dir(home.folder()).env("EKIBEN_HOME", home.store())).ok().out
    };
    assert_eq!(complete("ekiben va"), "validate\n");
    assert_eq!(complete("ekiben build --no-c"), "--no-cache\n");
    assert_eq!(complete("ekiben push ti"), "tiny:1\n");
    assert_eq!(complete("ekiben push tiny:"), "tiny:1\n");
    assert_eq!(complete("ekiben run ti"), "tiny/ tiny:1\n");
    home.run(["run", "tiny", "--detach", "-p", "0", "--name", "mine"]).ok();
    assert_eq!(complete("ekiben logs m"), "mine\n");
    assert_eq!(complete("ekiben stop m"), "mine\n");
    // What has ended cannot be stopped, asked or gone into; its log is there, and it can be removed.
    home.run(["stop", "mine"]).ok();
    for command in ["stop", "invoke", "exec", "shell"] {
        assert_eq!(complete(&format!("ekiben {command} m")), "\n", "{command}");
    }
    assert_eq!(complete("ekiben logs m") + &complete("ekiben rm m"), "mine\nmine\n");
    // A shell that asks makes no store.
    let empty = Home::empty();
    let mut ask = empty.command(["--", "ekiben", "push", ""]);
    ran(ask.env("EKIBEN_COMPLETE", "fish")).ok();
    assert!(!empty.store().exists());
}
