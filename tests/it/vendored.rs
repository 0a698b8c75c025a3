//! Bundles with all that a build fetches, built where there is no network: the same image, and nothing that the lock does not name.

use std::fs;
use std::process::Command;

use crate::home::registry::Registry;
use crate::home::{Home, Ran, program, ran, timed, tool};

/// Runs `ekiben` as whoever is root in a user namespace of one user, in a network of its own, which leads nowhere, with a home of its own, and no cache of any other program's.
fn apart(home: &Home, args: &[&str]) -> Ran {
    let mut command: Command = tool("unshare");
    command
        .args(["--map-root-user", "--net", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"])
        .arg(program())
        .args(args);
    command.current_dir(home.folder()).env("EKIBEN_HOME", home.store()).env("HOME", home.folder().join("person"));
    for variable in ["UV_CACHE_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "EKIBEN_DEBIAN_MIRROR"] {
        command.env_remove(variable);
    }
    ran(&mut command)
}

#[test]
fn a_bundle_with_all_that_a_build_fetches_is_built_without_a_network() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    home.run(["lock", "tiny"]).ok();
    let digest = home.build(&project);
    home.run(["pack", "tiny", "-o", "plain.ekiben"]).ok();
    timed("pack with all", || home.run(["pack", "--vendor", "tiny", "-o", "whole.ekiben"]).ok());
    home.run(["pack", "--vendor", "tiny", "-o", "again.ekiben"]).ok();
    let bundle = fs::read(home.path("whole.ekiben")).unwrap();
    assert!(bundle == fs::read(home.path("again.ekiben")).unwrap(), "the same inputs give other bytes");

    // It is the same bundle, and the same files for whoever unpacks it.
    let of = |name: &str| home.run(["inspect", name, "--verify", "--output", "json"]).ok().json();
    let (plain, whole) = (of("plain.ekiben"), of("whole.ekiben"));
    assert_eq!(plain["digest"], whole["digest"]);
    assert_eq!((plain["vendored"]["files"].as_u64(), plain["members"].clone()), (Some(0), whole["members"].clone()));
    let said = home.run(["inspect", "whole.ekiben"]).ok();
    assert!(said.out.contains("would have fetched") && whole["vendored"]["files"].as_u64().unwrap() > 40, "{said:?}");
    home.run(["unpack", "whole.ekiben", "unpacked"]).ok();
    assert!(!home.folder().join("unpacked/env/vendor").exists());
    // A bundle of a bundle keeps what is in it.
    home.run(["pack", "whole.ekiben", "-o", "copied.ekiben"]).ok();
    assert!(bundle == fs::read(home.path("copied.ekiben")).unwrap());
    home.run(["pack", "--vendor", "tiny", "-o", "x.bento"]).ends(2).says("bundle of Ekiben's alone");

    let other = Home::empty();
    other.write("plain.ekiben", fs::read(home.path("plain.ekiben")).unwrap());
    apart(&other, &["build", "--offline", "plain.ekiben"]).ends(5).says("--offline");
    other.write("whole.ekiben", &bundle);
    let built = timed("build without a network", || apart(&other, &["build", "--offline", "whole.ekiben"]).ok());
    assert_eq!(built.out.trim(), digest);
    apart(&other, &["test", "--offline", "whole.ekiben"]).ok();
}

#[test]
fn a_damaged_part_of_it_is_named_and_what_the_lock_does_not_name_is_not_used() {
    let home = Home::warm();
    home.tiny("tiny");
    home.run(["pack", "--vendor", "tiny", "-o", "whole.ekiben"]).ok();
    // Wheels are compressed already, so they lie in the bundle as they are; any will do.
    let listed = ran(tool("tar").args(["--zstd", "-tf", "whole.ekiben"]).current_dir(home.folder())).ok().out;
    let wheel = listed.lines().find(|line| line.contains("/wheels/")).unwrap();
    let read = format!("tar --zstd -xOf whole.ekiben {wheel} | head -c 64 | od -An -v -tx1 | tr -d ' \n'");
    let head = ran(tool("sh").args(["-c", &read]).current_dir(home.folder())).ok().out;
    let head: Vec<u8> =
        (0..head.len() / 2).map(|at| u8::from_str_radix(&head[2 * at..2 * at + 2], 16).unwrap()).collect();
    let mut bytes = fs::read(home.path("whole.ekiben")).unwrap();
    let at = bytes.windows(head.len()).position(|window| window == head).unwrap();
    bytes[at + 40] ^= 1;
    home.write("damaged.ekiben", &bytes);
    home.run(["inspect", "--verify", "damaged.ekiben"]).ends(1).says("`env/vendor/").says("is damaged");
    let other = Home::empty();
    other.write("damaged.ekiben", &bytes);
    apart(&other, &["build", "--offline", "damaged.ekiben"]).ends(1).says("damaged");
    assert_eq!(other.run(["images"]).ok().out.lines().count(), 0);
}

#[test]
fn the_layers_of_a_base_and_what_commands_made_travel_along() {
    let registry = Registry::start();
    let home = Home::empty();
    home.write(
        "busy/Dockerfile",
        "FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nCOPY --chmod=755 busybox /bin/sh\n",
    );
    fs::copy(crate::home::images::busybox(), home.path("busy/busybox")).unwrap();
    let base = registry.reference("base:1");
    home.run(["build", "busy", "--tag", &base, "--push"]).ok();
    for (name, more, allow) in
        [("upon", "", &[][..]), ("made", "system: {run: ['busybox touch /made']}\n", &["--allow-run"][..])]
    {
        home.write(&format!("{name}/w.bin"), "weights");
        let manifest = format!(
            "name: {name}\nversion: '1'\nbase: {base}\nplatforms: [linux/amd64]\nmodel: {{files: [w.bin]}}\n{more}\
             service: {{command: [/bin/busybox, 'true']}}\n"
        );
        home.write(&format!("{name}/ekiben.yaml"), manifest);
        let file = format!("{name}.ekiben");
        let digest = home.run([&["build", name], allow].concat()).ok().out;
        home.run([&["pack", "--vendor", name, "-o", &file], allow].concat()).ok();
        let other = Home::empty();
        other.write(&file, fs::read(home.path(&file)).unwrap());
        let built = apart(&other, &[&["build", "--offline", &file], allow].concat()).ok();
        assert_eq!(built.out, digest, "{name}");
        apart(&other, &["export", name, "oci:image"]).ok();
    }
}
