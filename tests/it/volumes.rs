//! Files of the host in a container, and variables from files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::home::Home;

#[test]
fn a_container_sees_what_it_is_given_and_nothing_else() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.build(home.tiny("tiny"));
        home.write("data/in", "from outside");
        fs::set_permissions(home.path("data"), Permissions::from_mode(0o777)).unwrap();
        let run = |volume: &str, script: &str| home.run(["run", "tiny", "--volume", volume, "--", "sh", "-c", script]);
        assert_eq!(run("data:/data", "read x < /data/in; echo $x; echo y > /data/out").ok().out, "from outside\n");
        assert_eq!(fs::read_to_string(home.path("data/out")).unwrap(), "y\n");
        run("./data:/data:ro", "echo z > /data/no").ends(2);
        assert!(!home.folder().join("data/no").exists());
        let file = format!("{}:/new/place/one:ro", home.path("data/in"));
        assert_eq!(
            run(&file, "read x < /new/place/one; echo $x; echo /new/place/*").ok().out,
            "from outside\n/new/place/one\n"
        );
        run("nothing:/data", ":").ends(2).says("nothing is not there");
        run("data:/proc", ":").ends(2).says("would hide what the kernel shows");
        run("data:data", ":").ends(2).says("an absolute path");
        run("data:/app", ":").says("hides the image's own /app/env/docker/entrypoint.sh");
        run("data:/models", ":").says("hides the image's own /models/");
        fs::set_permissions(home.path("data"), Permissions::from_mode(0o000)).unwrap();
        run("data:/data:ro", ":").ends(2).says("cannot be read by the container's user");
        fs::set_permissions(home.path("data"), Permissions::from_mode(0o755)).unwrap();
        // The folder is root's, and the container's user another one.
        run("data:/data", ": > /data/mine").ends(2).says("cannot write to");
        home.write("env", "# comment\nA=one\nB=two\nC\n");
        let mut command =
            home.command(["run", "tiny", "--env-file", "env", "-e", "B=3", "--", "sh", "-c", "echo $A $B $C"]);
        assert_eq!(crate::home::ran(command.env("C", "mine")).ok().out, "one 3 mine\n");
        home.write("env", "A=1\nno good=2\n");
        home.run(["run", "tiny", "--env-file", "env"]).ends(2).says("env:2: ");
    }
}
