//! Ekiben's own image: the program in it works, as nobody's user, with little to write to.

use std::fs;

use crate::home::registry::{Registry, is_whole, skopeo_ok};
use crate::home::{self, Home, program, ran, tool};
use serde_json::Value;

#[test]
fn the_program_works_in_its_own_image() {
    let registry = Registry::start();
    let home = Home::warm();
    let reference = registry.reference("ekiben:1");
    let digest = home.run(["self", "image", "-t", &reference, "--push"]).ok().out;
    is_whole(&reference);
    // From another store, and of a program that lies elsewhere.
    let other = Home::warm();
    home::install(program(), other.path("moved"));
    let mut moved = tool("env");
    moved.arg(other.path("moved")).args(["self", "image"]).env("EKIBEN_HOME", other.store());
    assert_eq!(ran(&mut moved).ok().out, digest);

    let args = ["inspect", "--config", "--tls-verify=false", &format!("docker://{reference}")];
    let config: Value = serde_json::from_str(&skopeo_ok(&args)).unwrap();
    let config = &config["config"];
    assert_eq!(config["User"], "1034:1034");
    assert_eq!(config["Entrypoint"][0], "/usr/local/bin/ekiben");
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "ekiben");

    // In a container, as a pod would: its root is read-only, its home a volume.
    let volume = home.folder().join("volume");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::chown(&volume, Some(1034), Some(1034)).unwrap();
    let within = |args: &[&str]| {
        let volume = format!("{}:/home/ekiben", volume.display());
        let run = ["run", &reference, "--read-only", "--volume", &volume, "--"];
        home.run([&run[..], args].concat())
    };
    assert!(within(&["--version"]).ok().out.starts_with("ekiben "));
    let manifest =
        "name: w\nversion: \"1\"\nbase: scratch\nmodel: {files: [w.bin]}\nservice: {command: [/bin/serve]}\n";
    fs::create_dir(volume.join("w")).unwrap();
    fs::write(volume.join("w/ekiben.yaml"), manifest).unwrap();
    fs::write(volume.join("w/w.bin"), "weights").unwrap();
    std::os::unix::fs::chown(volume.join("w"), Some(1034), Some(1034)).unwrap();
    home.write("w/ekiben.yaml", manifest);
    home.write("w/w.bin", "weights");
    let inside = within(&["build", "w", "--offline"]).ok().out;
    assert_eq!(inside.lines().last(), Some(home.build("w").as_str()));

    // What belongs to it goes along.
    let beside = home.write("beside/ekiben-operator", fs::read(program()).unwrap());
    let session = crate::home::session(&home.store());
    let two = ekiben::build::itself::image(&session, program(), beside.parent()).unwrap();
    let name = "both:1".parse().unwrap();
    session.store.tag(&name, two.save(&session.store).unwrap().1).unwrap();
    let listed = home.run(["export", "both:1", "both"]).ok();
    assert!(!listed.out.is_empty());
    let unpacked = home.path("tree");
    ran(tool("umoci").args(["unpack", "--image", &format!("{}:1", home.path("both")), &unpacked])).ok();
    for name in ["ekiben", "ekiben-operator"] {
        let said = ran(tool("env").arg(format!("{unpacked}/rootfs/usr/local/bin/{name}")).arg("--version")).ok();
        assert!(said.out.starts_with("ekiben "), "{said:?}");
    }
}

#[test]
fn what_no_base_can_start_is_no_image() {
    let home = Home::warm();
    let session = crate::home::session(&home.store());
    let script = home.write("program", "#!/bin/sh\n");
    let error = ekiben::build::itself::image(&session, &script, None).unwrap_err().to_string();
    assert!(error.contains("is no program for linux/"), "{error}");
    // The same program, which asks for a C library that nobody has yet.
    let mut bytes = fs::read(program()).unwrap();
    let name = b"\0GLIBC_2.2.5\0";
    let at = bytes.windows(name.len()).position(|part| part == name).unwrap();
    bytes[at + 1..at + 12].copy_from_slice(b"GLIBC_2.999");
    let newer = home.write("newer", bytes);
    let error = ekiben::build::itself::image(&session, &newer, None).unwrap_err().to_string();
    assert!(error.contains("needs version 2.999 of the C library") && error.contains("has 2.41"), "{error}");
}
