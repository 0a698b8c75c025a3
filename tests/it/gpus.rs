//! Devices of this machine in a container, by the Container Device Interface. Nodes that every machine has stand in for
//! GPUs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::home::{self, Home, Ran, ran};

/// `/dev/full` as a GPU, with all that one comes with.
const SPEC: &str = "cdiVersion: 0.6.0
kind: test.example/gpu
devices:
- name: '0'
  containerEdits:
    env: [WHICH=zero]
    deviceNodes: [{path: /dev/fake0, hostPath: /dev/full, type: c, major: 1, minor: 7, permissions: rw}]
- name: '1'
  containerEdits:
    env: [WHICH=one]
    deviceNodes: [{path: /dev/fake/1, hostPath: /dev/zero}]
containerEdits:
  env: [DRIVER=42]
  deviceNodes: [{path: /dev/fakectl, hostPath: /dev/null}]
  mounts:
  - {hostPath: FOLDER/libfake.so.42, containerPath: /usr/lib/fake/libfake.so.42, options: [ro, nosuid, nodev, bind]}
  - {hostPath: FOLDER/shared, containerPath: /opt/shared, options: [bind]}
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, create-symlinks, --link, libfake.so.1::/usr/lib/fake/libfake.so, --link, there::/new/place/link]
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib/fake]
";

/// A home with `tiny`, and a way to run it with the specifications in `cdi`.
struct Machine {
    home: Home,
}

impl Machine {
    fn of(home: Home) -> Self {
        home.build(home.tiny("tiny"));
        fs::create_dir(home.folder().join("cdi")).unwrap();
        Self { home }
    }

    /// With what [`SPEC`] names.
    fn described(home: Home) -> Self {
        let machine = Self::of(home);
        machine.library();
        machine.home.write("shared/in", "from outside");
        fs::set_permissions(machine.home.path("shared"), Permissions::from_mode(0o777)).unwrap();
        machine.spec("a.yaml", SPEC);
        machine
    }

    fn spec(&self, name: &str, text: &str) {
        self.home.write(&format!("cdi/{name}"), text.replace("FOLDER", &self.home.path("")));
    }

    fn clear(&self) {
        fs::remove_dir_all(self.home.folder().join("cdi")).unwrap();
        fs::create_dir(self.home.folder().join("cdi")).unwrap();
    }

    /// A real library that calls itself `libfake.so.1`.
    fn library(&self) {
        let path = self.home.path("libfake.so.42");
        let mut compiler = home::tool("cc");
        compiler.args(["-shared", "-nostdlib", "-Wl,-soname,libfake.so.1", "-x", "c", "/dev/null", "-o", &path]);
        ran(&mut compiler).ok();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("EKIBEN_CDI", self.home.path("cdi"));
        command
    }

    /// Runs a script of Python's in the container.
    fn run(&self, gpus: &str, script: &str) -> Ran {
        ran(&mut self.command(&["run", "tiny", "--gpus", gpus, "--", "python3", "-c", script]))
    }
}

/// Says what a container sees of [`SPEC`].
const SEES: &str = "
import ctypes, ctypes.util, os
def tried(text, action):
    try: print(text, action())
    except OSError as error: print(text, error.strerror)
def write(path): return open(path, 'w', buffering=1).write('x\\n')
print(*sorted(os.listdir('/dev')))
print(os.environ['WHICH'], os.environ['DRIVER'])
tried('full', lambda: write('/dev/fake0'))
tried('ctl', lambda: write('/dev/fakectl'))
tried('in', lambda: open('/opt/shared/in').read())
tried('out', lambda: write('/opt/shared/out'))
tried('library', lambda: write('/usr/lib/fake/libfake.so.42'))
for path in '/usr/lib/fake/libfake.so', '/usr/lib/fake/libfake.so.1', '/new/place/link': print(os.readlink(path))
print(ctypes.CDLL('libfake.so.1')._name, ctypes.util.find_library('fake'))
";

const SEEN: &str = "zero 42
full No space left on device
ctl 2
in from outside
out 2
library Read-only file system
libfake.so.1
libfake.so.42
there
libfake.so.1 libfake.so.1
";

#[test]
fn a_container_gets_what_is_described_and_nothing_else() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        let machine = Machine::described(home);
        let devices = "import os; print(*sorted(os.listdir('/dev'))); print(os.path.exists('/opt/shared'))";
        let usual = ran(&mut machine.home.command(["run", "tiny", "--", "python3", "-c", devices])).ok().out;
        let (usual, others) = usual.split_once('\n').unwrap();
        assert_eq!(others, "False\n");
        let seen = machine.run("device=0", SEES).ok().out;
        let (devices, rest) = seen.split_once('\n').unwrap();
        let beyond: Vec<_> = devices.split(' ').filter(|name| !usual.split(' ').any(|usual| usual == *name)).collect();
        assert_eq!(beyond, ["fake0", "fakectl"]);
        assert_eq!(rest, SEEN);
        assert_eq!(fs::read_to_string(machine.home.path("shared/out")).unwrap(), "x\n");
        // No option of the container's is another one.
        let script = "
import os, re
print(os.environ['WHICH'], open('/dev/fake/1', 'rb').read(2), os.path.exists('/dev/fake0'))
try: os.mknod('/tmp/x', 0o20666, os.makedev(1, 3))
except PermissionError: print('none')
print(*re.findall('(?:NoNewPrivs|Seccomp|CapEff):.*', open('/proc/self/status').read()))
";
        let said = machine.run("2", script).ok().out;
        let expected = "one b'\\x00\\x00' True\nnone\nCapEff:\t0000000000000000 NoNewPrivs:\t1 Seccomp:\t2\n";
        assert_eq!(said, expected);
        let only = machine
            .run("test.example/gpu=1", "import os; print(os.path.exists('/dev/fake0'), os.path.exists('/dev/fake/1'))");
        assert_eq!(only.ok().out, "False True\n");
        // A person's own variables count most.
        let script = "import os; print(os.environ['WHICH'])";
        let args = ["run", "tiny", "--gpus", "all", "-e", "WHICH=mine", "--", "python3", "-c", script];
        assert_eq!(ran(&mut machine.command(&args)).ok().out, "mine\n");
        for command in [&["test", "tiny"] as &[&str], &["invoke", "./tiny"]] {
            let args = [command, &["--gpus", "1"]].concat();
            ran(&mut machine.command(&args)).ok();
        }
    }
}

#[test]
fn other_runtimes_give_the_same() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        let machine = Machine::described(home);
        let args = ["run", "tiny", "--gpus", "device=0", "--engine", "runc", "--", "python3", "-c", SEES];
        let seen = ran(&mut machine.command(&args)).ok().out;
        assert_eq!(seen.split_once('\n').unwrap().1, SEEN);
    }
}

#[test]
fn what_is_not_there_is_told_before_anything_is_built() {
    let machine = Machine::of(Home::warm().of_a_user());
    let nothing = machine.run("all", "").ends(1).says("no GPU of this machine is described");
    assert!(nothing.err.contains("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"), "{}", nothing.err);
    assert!(!nothing.err.contains("Built"), "{}", nothing.err);
    machine.run("nvidia.com/gpu=0", "").ends(1).says("no device `nvidia.com/gpu`");
    for bad in ["0", "some", "device=", "a=b"] {
        machine.run(bad, "").ends(2).says("--gpus all");
    }
    machine.library();
    machine.home.write("shared/in", "");
    machine.spec("a.yaml", SPEC);
    machine.run("device=7", "").ends(1).says("there is no device `test.example/gpu=7`").says("there are: 0, 1");
    machine.run("3", "").ends(1).says("3 GPUs are asked for, and there are 2");
    machine.run("other.example/gpu=0", "").ends(1).says("are of others");
    machine.spec("b.yaml", &SPEC.replace("'1'", "'2'"));
    machine.run("device=0", "").ends(1).says("is described twice").says("a.yaml").says("b.yaml");
    machine.run("device=1", "").ok();
    // In a folder that counts more, the same is no conflict.
    fs::create_dir(machine.home.path("more")).unwrap();
    fs::rename(machine.home.path("cdi/b.yaml"), machine.home.path("more/b.yaml")).unwrap();
    let mut command = machine.command(&["run", "tiny", "--gpus", "device=0", "--", "python3", "-c", ""]);
    command.env("EKIBEN_CDI", format!("{}:{}", machine.home.path("cdi"), machine.home.path("more")));
    ran(&mut command).ok();
    machine.spec("b.yaml", &SPEC.replace("test.example", "other.example"));
    machine.run("all", "").ends(2).says("`--gpus other.example/gpu=all` or `--gpus test.example/gpu=all`");
    machine.clear();
    for (from, to, said) in [
        ("/dev/full", "/dev/gone", "/dev/gone is not there"),
        ("/dev/full", "/etc/passwd", "/etc/passwd is no device node"),
        ("minor: 7", "minor: 8", "/dev/full is another device (1:7)"),
        ("type: c", "type: b", "/dev/full is no device node"),
        ("FOLDER/shared", "FOLDER/nothing", "nothing is not there"),
    ] {
        machine.spec("a.yaml", &SPEC.replace(from, to));
        machine.run("device=0", "").ends(1).says(said).says("a.yaml needs it");
    }
}

#[test]
fn what_is_not_done_is_said() {
    let machine = Machine::described(Home::warm());
    machine.spec("a.yaml", &SPEC.replace("update-ldcache", "mystery"));
    machine.run("device=0", "").ok().says("has a hook, `mystery`, that is not run");
    machine.spec("a.yaml", &SPEC.replace("/usr/bin/nvidia-cdi-hook", "/bin/touch"));
    machine.run("device=0", "").ok().says("has a hook, `/bin/touch`, that is not run");
    machine.spec("a.yaml", &SPEC.replace("permissions: rw", "permissions: r"));
    machine.run("device=0", "").ok().says("its permissions alone decide");
    let groups = "containerEdits:\n  additionalGids: [4711]";
    machine.spec("a.yaml", &SPEC.replace("\ncontainerEdits:", &format!("\n{groups}")));
    assert!(machine.run("device=0", "import os; print(os.getgroups())").ok().out.contains("4711"));
}

#[test]
fn a_device_that_is_for_a_group_is_for_the_container_that_is_given_it() {
    // Only where nodes can be made.
    let machine = Machine::described(Home::warm());
    let node = machine.home.path("render");
    ran(home::tool("mknod").args([&node, "c", "1", "3"])).ok();
    ran(home::tool("chgrp").args(["4712", &node])).ok();
    fs::set_permissions(&node, Permissions::from_mode(0o660)).unwrap();
    machine.spec("a.yaml", &SPEC.replace("/dev/full, type: c, major: 1, minor: 7", &node));
    let script = "open('/dev/fake0', 'w').write('x')";
    machine.run("device=0", script).ok();
    fs::set_permissions(&node, Permissions::from_mode(0o600)).unwrap();
    machine.run("device=0", script).ends(1).says("may not open").says("chmod o+rw");
}

#[test]
fn an_ordinary_user_keeps_the_groups_that_a_device_is_for() {
    let machine = Machine::described(Home::warm().of_a_user());
    let node = machine.home.path("render");
    ran(home::tool("mknod").args([&node, "c", "1", "3"])).ok();
    ran(home::tool("chgrp").args(["4712", &node])).ok();
    fs::set_permissions(&node, Permissions::from_mode(0o660)).unwrap();
    machine.spec("a.yaml", &SPEC.replace("/dev/full, type: c, major: 1, minor: 7", &node));
    let script = "open('/dev/fake0', 'w').write('x')";
    machine.run("device=0", script).ends(1).says("you may not open");
    let command = machine.command(&["run", "tiny", "--gpus", "device=0", "--", "python3", "-c", script]);
    let user = home::USER.to_string();
    let mut member = home::tool("setpriv");
    member
        .args(["--reuid", &user, "--regid", &user, "--groups", "4712"])
        .arg(command.get_program())
        .args(command.get_args());
    member.current_dir(machine.home.folder()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = ran(&mut member).ok();
    assert!(!ran.err.contains("may not open"), "{}", ran.err);
}

#[test]
fn hostile_specifications_are_refused() {
    let machine = Machine::described(Home::warm());
    let root = machine.home.path("shared");
    for (from, to, said) in [
        ("/dev/fake0", "/dev/../etc/fake0", "contains `..`"),
        ("/dev/fake0", "/etc/fake0", "is not in `/dev`"),
        ("/dev/fake0", "/dev/null", "the container's own devices"),
        ("/dev/fake0", "/dev/pts/0", "the container's own devices"),
        ("/opt/shared", "/opt/../../shared", "contains `..`"),
        ("/opt/shared", "/proc/self", "would hide"),
        ("/opt/shared", "/dev", "would hide"),
        ("/opt/shared", "/", "no absolute one"),
        ("FOLDER/shared", "shared", "no absolute one"),
        ("env: [DRIVER=42]", "env: [\"A\\0=1\"]", "is not NAME=VALUE"),
        ("kind: test.example/gpu", "kind: ../gpu", "wrong form"),
        ("'1'", "'0'", "two devices are called `0`"),
        ("deviceNodes", "deviceNods", "no key `deviceNods`"),
        ("0.6.0", "9.6.0", "wrong form"),
    ] {
        assert!(SPEC.contains(from));
        machine.spec("a.yaml", &SPEC.replace(from, to));
        machine.run("device=0", "").ends(3).says(said).says("a.yaml:");
    }
    // A link that would lead out, were it made before what lies below it; one over a folder of the image.
    let link = "there::/new/place/link";
    for (links, code, said) in [
        (format!("{root}::/opt"), 1, "nothing can be mounted at /opt"),
        (format!("{root}::/usr"), 1, "a folder of the layers is there"),
        (format!("{root}::/a/b/c, --link, {root}::/a/b"), 1, ""),
    ] {
        machine.spec("a.yaml", &SPEC.replace(link, &links));
        machine.run("device=0", "").ends(code).says(said);
    }
    machine.spec("a.yaml", &SPEC.replace(link, "x::/opt/../x"));
    machine.run("device=0", "open('/x')").ends(1).says("a link that is none");
    assert_eq!(home::names(&machine.home.folder().join("shared")), ["in"]);
    machine.clear();
    // Sizes.
    let many: String = (0..1_000_000).map(|number| format!("- {{name: '{number}'}}\n")).collect();
    machine.spec("a.yaml", &format!("cdiVersion: 0.6.0\nkind: test.example/gpu\ndevices:\n{many}"));
    machine.run("device=0", "").ends(3).says("the file has more than 1 MiB");
    let nodes: String = (0..8000).map(|number| format!("{{path: /dev/f{number}, hostPath: /dev/null}}, ")).collect();
    let one = format!(
        "cdiVersion: 0.6.0\nkind: test.example/gpu\ndevices: [{{name: a, containerEdits: {{deviceNodes: [{nodes}]}}}}]"
    );
    machine.spec("a.yaml", &one);
    machine.run("all", "").ends(1).says("more than 4096");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    machine.spec("a.yaml", &deep);
    machine.run("all", "").ends(3).says("nested");
    machine.clear();
    symlink("/dev/zero", machine.home.path("cdi/a.yaml")).unwrap();
    machine.run("all", "").ends(3).says("not a regular file");
    machine.clear();
    ran(home::tool("mkfifo").arg(machine.home.path("cdi/a.json"))).ok();
    machine.run("all", "").ends(3).says("not a regular file");
}

#[test]
fn a_path_through_a_link_of_the_image_stays_in_the_container() {
    let machine = Machine::described(Home::warm());
    // `/bin` and `/lib` are links in the image.
    for (target, place) in [("/bin/fake", "/usr/bin/fake"), ("/lib/fake", "/usr/lib/fake")] {
        machine.spec("a.yaml", &SPEC.replace("/opt/shared", target));
        let script = format!("print(open('{place}/in').read())");
        assert_eq!(machine.run("device=0", &script).ok().out, "from outside\n");
    }
    // A link that leads to a folder of the host leads to one of the container's.
    let outside = machine.home.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o777)).unwrap();
    machine.home.write("evil/file", "");
    symlink(&outside, machine.home.path("evil/out")).unwrap();
    for (from, to) in [("/opt/shared", "/evil/out/shared"), ("/usr/lib/fake/libfake.so.42", "/evil/out/lib.so")] {
        machine.spec("a.yaml", &SPEC.replace(from, to));
        let volume = format!("{}:/evil", machine.home.path("evil"));
        let script = "import os; print(os.listdir('/'))";
        ran(&mut machine.command(&["run", "tiny", "--gpus", "all", "--volume", &volume, "--", "python3", "-c", script]));
        assert_eq!(home::names(&outside), [""; 0]);
    }
}
