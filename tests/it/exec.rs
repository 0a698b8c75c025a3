//! Commands and shells in running containers: what they get, what holds them, and who cannot get at them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use ekiben::io::progress::Progress;
use ekiben::run::container::{Container, Containers, Launcher, Mount, Name, Spec};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::home::images::busybox;
use crate::home::{Home, Ran, line, program, ran, somebody_runs, tool, wait_until};

/// A container `box` in each of two homes, root's and an ordinary user's. It has busybox in `/opt`.
fn homes() -> [Home; 2] {
    [Home::warm(), Home::warm().of_a_user()].map(|home| {
        home.build(home.tiny("tiny"));
        start(&home, "box", &[], &["python", "-c", "import time; print('up', flush=True); time.sleep(600)"]);
        home
    })
}

fn start(home: &Home, name: &str, options: &[&str], command: &[&str]) {
    let volume = format!("{}:/opt/busybox:ro", busybox().display());
    let fixed = ["run", "tiny:1", "--detach", "--name", name, "--volume", &volume];
    home.run(fixed.iter().chain(options).chain(&["--"]).chain(command)).ok();
    wait_until("the program runs", || home.run(["logs", name]).ok().out.contains("up"));
}

/// A script of Python's in the container.
fn python(home: &Home, script: &str) -> Ran {
    home.run(["exec", "box", "--", "python", "-c", script])
}

/// Runs the program with something on its standard input.
fn fed(mut command: Command, input: &[u8]) -> Ran {
    let line = line(&command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command need not read it all.
    let _ = writer.join().unwrap();
    Ran::new(line, output)
}

fn state(home: &Home, name: &str) -> (PathBuf, serde_json::Value) {
    let path = home.store().join("containers").join(name).join("state.json");
    let state = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (path, state)
}

#[test]
fn a_command_gives_its_output_and_exit_code() {
    for home in homes() {
        let said = python(&home, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)").ends(7);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
        python(&home, "import os; os.kill(os.getpid(), 9)").ends(137);
        let missing = home.run(["exec", "box", "--", "nonesuch"]).ends(127).says("there is no such program");
        assert_eq!(missing.out, "");
        home.run(["exec", "box", "--", "/opt/nonesuch"]).ends(127);
        home.run(["exec", "box", "--", "/etc/passwd"]).ends(126).says("it is not executable");
        home.run(["exec", "box", "--", "/etc"]).ends(126).says("it is a folder");
        let json = home.run(["exec", "box", "--output", "json", "--", "nonesuch"]).ends(127);
        let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
        assert_eq!((&error["error"]["name"], &error["error"]["exit_code"]), (&"container/command".into(), &127.into()));
        // More than all pipes on the way hold.
        let long = python(&home, "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 300_000)").ok();
        assert_eq!((long.out.len(), long.err.len()), (3_000_000, 300_000));
        home.run(["exec", "box"]).ends(2);
        // It is not what runs in it that is listed or logged.
        assert_eq!(home.run(["logs", "box"]).ok().out, "up\n");
    }
}

#[test]
fn it_reads_what_it_is_given_and_nothing_else() {
    for home in homes() {
        let input: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
        let command = home.command(["exec", "-i", "box", "--", "/opt/busybox", "md5sum"]);
        let inside = fed(command, &input).ok().out;
        let outside = fed(Command::new("md5sum"), &input).ok().out;
        assert_eq!(inside, outside);
        assert_eq!(
            fed(home.command(["exec", "-i", "box", "--", "/opt/busybox", "head", "-c3"]), b"abcdef").ok().out,
            "abc"
        );
        // As in a loop of a shell that reads something itself.
        assert_eq!(fed(home.command(["exec", "box", "--", "/opt/busybox", "cat"]), b"not this").ok().out, "");
        // Who has seen enough ends it.
        let mut endless = home.command(["exec", "box", "--", "/opt/busybox", "yes"]);
        let mut endless = endless.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        endless.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
        assert_eq!(endless.wait().unwrap().code(), Some(128 + 13));
    }
}

#[test]
fn it_finds_what_the_containers_program_finds() {
    for home in homes() {
        let place = "import os; print(os.getcwd(), os.path.realpath('/proc/1/cwd'))
def environ(pid): return set(open(f'/proc/{pid}/environ').read().split('\\0'))
print(environ('self') - environ(1), len(environ('self')) > 3)
# What the shell of the entrypoint adds.
print({text.split('=')[0] for text in environ(1) - environ('self')} - {'PWD', 'OLDPWD', 'SHLVL', '_'})";
        assert_eq!(python(&home, place).ok().out, "/app /app\nset() True\nset()\n");
        let script = "import os; print(os.getcwd(), os.environ['LEVEL'], os.environ['HOME'])";
        let place = ["--workdir", "/tmp", "-e", "LEVEL=7", "-e", "HOME=/x"];
        let said = home.run([&["exec"], &place[..], &["box", "--", "python", "-c", script]].concat()).ok();
        assert_eq!(said.out, "/tmp 7 /x\n");
        home.run(["exec", "box", "-e", "no", "--", "true"]).ends(2);
        home.run(["exec", "box", "--workdir", "/none", "--", "true"])
            .ends(1)
            .says("/none cannot be the working folder");
        // By no way out (CVE-2024-21626).
        for way in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/fd/0", "/proc/self/root", "/proc/self/cwd"] {
            home.run(["exec", "box", "--workdir", way, "--", "true"]).ends(1).says("cannot be the working folder");
        }
    }
}

/// What of a process is compared with another, from within.
const RIGHTS: &str = "import os, re
def rights(pid):
    status = open(f'/proc/{pid}/status').read()
    names = 'Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters Umask'.split()
    found = [re.search(rf'^{name}:.*$', status, re.M).group(0) for name in names]
    found += [open(f'/proc/{pid}/{name}').read() for name in ('limits', 'cgroup', 'oom_score_adj', 'mountinfo')]
    names = [name for name in os.listdir(f'/proc/{pid}/ns')]
    return found + [os.readlink(f'/proc/{pid}/ns/{name}') for name in sorted(names)]
for ours, theirs in zip(rights('self'), rights(1), strict=True):
    if ours != theirs: print('DIFFERENT', ours, theirs)
print(os.path.realpath('/proc/self/root'), len(rights(1)))
print(*rights(1)[2:9], sep='\\n')
print([os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in (0, 1, 2)])
print(sorted(set(os.listdir('/proc/self/fd')) - {'3'}), os.path.exists('/proc/self/fd/3'))
";

#[test]
fn it_has_the_rights_of_the_containers_program_and_nothing_of_the_host() {
    for home in homes() {
        // A caller who has more than that: groups, a folder that is open, a lower limit of files.
        let program = program().to_str().unwrap();
        let command = ["exec", "box", "--", "python", "-c", RIGHTS];
        let script = "exec 5</ 7</etc/passwd; umask 077; cd /; nice \"$@\"";
        let caller = home.command(command);
        let mut wrapped = tool("sh");
        wrapped.args(["-c", script, "sh"]).args(home.as_user()).arg(program).args(command);
        caller.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(wrapped.env(name, value)),
            None => drop(wrapped.env_remove(name)),
        });
        let said = ran(&mut wrapped).ok().out;
        assert!(!said.contains("DIFFERENT"), "{said}");
        let mut expected = "/ 26\nGroups:\t \n".to_owned();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            expected.push_str(&format!("{set}:\t0000000000000000\n"));
        }
        expected.push_str("NoNewPrivs:\t1\n['pipe', 'pipe', 'pipe']\n['0', '1', '2'] False\n");
        assert_eq!(said, expected);
        // As the host has it: the same control groups, and the same user.
        let (_, state) = state(&home, "box");
        let first = state["process"]["id"].as_u64().unwrap();
        let mut sleeper = home.command(["exec", "box", "--", "/opt/busybox", "sleep", "61.25"]).spawn().unwrap();
        let place = |process: u64| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
            let status = read("status");
            let lines = status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"));
            (read("cgroup"), lines.map(str::to_owned).collect::<Vec<_>>())
        };
        let mut found = None;
        wait_until("the command runs", || {
            found = process("sleep\x0061.25", sleeper.id());
            found.is_some()
        });
        let (theirs, ours) = (place(first), place(found.unwrap()));
        // An ordinary user's are made where they may: else it is counted where it was started.
        if !home.is_a_users() {
            assert_eq!(theirs, ours);
            assert!(theirs.0.contains("/ekiben-box-"), "{}", theirs.0);
        }
        assert_eq!(theirs.1, ours.1);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

/// The process with this in its command line that descends from `ancestor`.
fn process(text: &str, ancestor: u32) -> Option<u64> {
    let children = |process: u64| {
        let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        listed.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<u64>>()
    };
    let mut left = children(u64::from(ancestor));
    while let Some(process) = left.pop() {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            return Some(process);
        }
        left.extend(children(process));
    }
    None
}

#[test]
fn groups_of_whoever_starts_it_are_not_the_containers() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    let script = "import re; print(re.search('Groups:.*', open('/proc/self/status').read()).group(0))";
    let with_groups = |args: &[&str]| {
        let command = home.command(args);
        let mut wrapped = tool("setpriv");
        wrapped.args(["--groups", "27,100"]).arg(command.get_program()).args(command.get_args());
        ran(wrapped.env("EKIBEN_HOME", home.store()).current_dir(home.folder())).ok().out
    };
    assert_eq!(with_groups(&["run", "tiny:1", "--", "python", "-c", script]), "Groups:\t \n");
    start(&home, "box", &[], &["python", "-c", "import time; print('up', flush=True); time.sleep(600)"]);
    assert_eq!(with_groups(&["exec", "box", "--", "python", "-c", script]), "Groups:\t \n");
}

#[test]
fn an_ordinary_users_new_groups_are_not_taken_along() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let [_, home] = homes();
    let command = home.command(["exec", "box", "--", "true"]);
    let mut wrapped = tool("setpriv");
    wrapped.args([format!("--reuid={}", crate::home::USER), format!("--regid={}", crate::home::USER)]);
    wrapped.args(["--groups", "27"]).arg(command.get_program()).args(command.get_args());
    let refused = ran(wrapped.env("EKIBEN_HOME", home.store()).current_dir(home.folder()));
    refused.ends(1).says("it is not in your group 27");
}

#[test]
fn what_it_uses_up_is_counted_as_the_containers() {
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.build(home.tiny("tiny"));
        let sleep = ["python", "-c", "import time; print('up', flush=True); time.sleep(600)"];
        // An ordinary user has no control group here; the kernel counts processes without.
        let memory: &[&str] = if home.is_a_users() { &[] } else { &["--memory", "64Mi"] };
        start(&home, "box", &[memory, &["--pids-limit", "8"]].concat(), &sleep);
        let script = "import os, time
count = 0
try:
    while count < 50:
        if os.fork() == 0: time.sleep(20); os._exit(0)
        count += 1
except OSError: pass
print(count, flush=True)
os.killpg(0, 9)";
        let count: u32 = python(&home, script).ends(137).out.trim().parse().unwrap();
        assert!((1..8).contains(&count), "{count}");
        if !home.is_a_users() {
            // The kernel may kill the one or the other: both are in one account.
            let hog = python(&home, "x = b'x' * (200 << 20); print(len(x))").ends(137);
            assert_eq!(hog.out, "");
        }
    }
}

/// A program on a terminal of the test's.
struct OnTerminal {
    child: Child,
    master: std::os::fd::OwnedFd,
    slave: std::os::fd::OwnedFd,
    said: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        let pair = nix::pty::openpty(Some(&size(30, 100)), None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "vt100");
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                rustix::process::ioctl_tiocsctty(std::io::stdin().as_fd())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut reader, heard) = (fs::File::from(pair.master.try_clone().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                *heard.lock().unwrap() += &String::from_utf8_lossy(&piece[..count]);
            }
        });
        Self { child, master: pair.master, slave: pair.slave, said }
    }

    fn types(&self, text: &str) {
        nix::unistd::write(&self.master, text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let started = std::time::Instant::now();
        while !self.said.lock().unwrap().contains(text) {
            let said = self.said.lock().unwrap().clone();
            assert!(started.elapsed().as_secs() < 30, "`{text}` is not shown:\n{said}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Whether what is typed comes line by line and is shown, as a shell leaves it.
    fn is_as_before(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = size(rows, columns);
        let size = rustix::termios::Winsize { ws_row: size.ws_row, ws_col: size.ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).unwrap();
    }

    fn ends(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn size(rows: u16, columns: u16) -> nix::pty::Winsize {
    nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// As what a shell starts in the background ignores SIGINT.
#[test]
fn what_is_ignored_here_is_not_ignored_within() {
    let [home, _] = homes();
    let within = ["--", "/opt/busybox", "grep", "SigIgn", "/proc/self/status"];
    let volume = format!("{}:/opt/busybox:ro", busybox().display());
    for args in [&["exec", "box"][..], &["run", "tiny:1", "--volume", &volume]] {
        let command = home.command([args, &within].concat());
        let mut ignoring = tool("env");
        ignoring.args(["--ignore-signal=INT", "--ignore-signal=HUP"]).arg(command.get_program());
        ignoring.args(command.get_args()).current_dir(home.folder()).env("EKIBEN_HOME", home.store());
        let said = ran(&mut ignoring).ok().out;
        let ignored = u64::from_str_radix(said.trim_end().rsplit('\t').next().unwrap(), 16).unwrap();
        // The C library keeps two of the real-time signals (32 and 33) to itself.
        assert_eq!(ignored & ((1 << 31) - 1), 0, "{args:?}: {said}");
    }
}

#[test]
fn on_a_terminal_it_gets_one_of_its_own() {
    for home in homes() {
        let mut terminal = OnTerminal::start(home.command(["exec", "box", "--", "/opt/busybox", "sh"]));
        terminal.types("echo $((40+2)) $TERM $(/opt/busybox tty) $(/opt/busybox stty size)\n");
        terminal.shows("42 vt100 /dev/pts/0 30 100");
        assert!(!terminal.is_as_before());
        terminal.resize(31, 101);
        terminal.types("/opt/busybox sleep 0.2; echo now $(/opt/busybox stty size)\n");
        terminal.shows("now 31 101");
        // Ctrl-C ends what runs in the container, and neither the shell there nor the command here.
        terminal.types("/opt/busybox sleep 500; echo interrupted $?\n");
        wait_until("it sleeps", || somebody_runs("/opt/busybox\0sleep\x00500"));
        terminal.types("\x03");
        terminal.types("echo after $((100+11))\n");
        terminal.shows("after 111");
        terminal.types("exit 5\n");
        assert_eq!(terminal.ends(), Some(5));
        assert!(terminal.is_as_before());

        // A program that looks at its size is told when it changes.
        let script = "import signal, os, sys
signal.signal(signal.SIGWINCH, lambda *_: print('size', os.get_terminal_size(), flush=True))
print('ready', flush=True)
while True: signal.pause()";
        let mut terminal = OnTerminal::start(home.command(["exec", "box", "--", "python", "-c", script]));
        terminal.shows("ready");
        terminal.resize(41, 77);
        terminal.shows("columns=77, lines=41");
        // However it ends, the terminal is what it was.
        kill(Pid::from_raw(terminal.child.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(terminal.ends(), Some(128 + 15));
        assert!(terminal.is_as_before());

        // Nothing of the person's terminal is in the container.
        let script =
            "import os; print('has', *[os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)], os.ttyname(0))";
        let mut terminal = OnTerminal::start(home.command(["exec", "box", "--", "python", "-c", script]));
        terminal.shows("has /dev/pts/0 /dev/pts/0 /dev/pts/0 /dev/pts/0");
        assert_eq!(terminal.ends(), Some(0));
        // A program that is not there leaves it alone too.
        let mut terminal = OnTerminal::start(home.command(["exec", "box", "--", "nonesuch"]));
        assert_eq!(terminal.ends(), Some(127));
        assert!(terminal.is_as_before());
    }
}

#[test]
fn a_terminal_can_be_asked_for_where_there_is_none() {
    for home in homes() {
        let said = home.run([
            "exec",
            "-t",
            "box",
            "--",
            "/opt/busybox",
            "sh",
            "-c",
            "/opt/busybox tty; /opt/busybox stty size",
        ]);
        assert_eq!(said.ok().out, "/dev/pts/0\r\n24 80\r\n");
        let counted = fed(home.command(["exec", "-it", "box", "--", "/opt/busybox", "wc", "-l"]), b"a\nb\n").ok().out;
        assert!(counted.ends_with("2\r\n"), "{counted}");
    }
}

#[test]
fn a_terminal_that_somebody_made_up_is_none() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::empty();
    let root = with_programs(&home, &[(busybox(), "sleep"), (busybox(), "true")]);
    let place = home.write("pts/ptmx", "").parent().unwrap().to_owned();
    fs::set_permissions(place.join("ptmx"), fs::Permissions::from_mode(0o666)).unwrap();
    let mount = Mount { source: place.clone(), target: "/dev/pts".into(), writable: true };
    let _container = library_container(&home, &root, &["sleep", "600"], |spec| spec.volumes.push(mount));
    let exec = || home.run(["exec", "-t", "box", "--", "true"]);
    exec().ends(1).says("/dev/pts/ptmx is not the kernel's");
    for other in ["/dev/null", "/dev/ptmx", "/proc/self/exe"] {
        fs::remove_file(place.join("ptmx")).unwrap();
        std::os::unix::fs::symlink(other, place.join("ptmx")).unwrap();
        exec().ends(1).says("the container has no terminals");
    }
    // Nobody is on its other side.
    fs::remove_file(place.join("ptmx")).unwrap();
    nix::unistd::mkfifo(&place.join("ptmx"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(place.join("ptmx"), fs::Permissions::from_mode(0o666)).unwrap();
    exec().ends(1).says("/dev/pts/ptmx is not the kernel's");
}

#[test]
fn signals_reach_the_command() {
    for home in homes() {
        let script = "import signal, sys
def end(number, _): print('told', number, flush=True); sys.exit(9)
for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(one, end)
print('ready', flush=True)
while True: signal.pause()";
        for (signal, number) in [(Signal::SIGTERM, 15), (Signal::SIGINT, 2), (Signal::SIGHUP, 1)] {
            let mut command = home.command(["exec", "box", "--", "python", "-c", script]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut out = child.stdout.take().unwrap();
            out.read_exact(&mut [0; 6]).unwrap();
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            let mut said = String::new();
            out.read_to_string(&mut said).unwrap();
            assert_eq!((said, child.wait().unwrap().code()), (format!("told {number}\n"), Some(9)));
        }
    }
}

#[test]
fn it_ends_with_whoever_started_it_and_with_the_container() {
    for home in homes() {
        let sleeps = || {
            python(&home, "import glob; print(sum(b'sleep' in open(x, 'rb').read() and b'61.5' in open(x, 'rb').read() for x in glob.glob('/proc/[0-9]*/cmdline') if x != '/proc/%d/cmdline' % __import__('os').getpid()))").ok().out
        };
        let sleep = ["exec", "box", "--", "/opt/busybox", "sleep", "61.5"];
        let mut child = home.command(sleep).spawn().unwrap();
        wait_until("it runs", || sleeps() == "1\n");
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("it is gone", || sleeps() == "0\n");

        let child = home.command(sleep).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it runs again", || sleeps() == "1\n");
        // It holds up nobody who tidies.
        home.run(["prune"]).ok();
        home.run(["stop", "box"]).ok();
        let ended = Ran::new("exec".to_owned(), child.wait_with_output().unwrap()).ends(137);
        ended.says("the container `box` has ended");
        home.run(["exec", "box", "--", "true"]).ends(1).says("`box` is not running").says("`ekiben ps`");
        home.run(["shell", "box"]).ends(1).says("`box` is not running");
        home.run(["exec", "other", "--", "true"]).ends(1).says("there is no container `other`").says("box");
    }
}

#[test]
fn another_process_that_has_the_number_is_not_joined() {
    for home in homes() {
        let (path, mut known) = state(&home, "box");
        let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        let true_id = known["process"]["id"].clone();
        let mut with = |id: serde_json::Value, started: Option<serde_json::Value>| {
            known["process"]["id"] = id;
            if let Some(started) = started {
                known["process"]["started"] = started;
            }
            fs::write(&path, known.to_string()).unwrap();
            home.run(["exec", "box", "--", "/opt/busybox", "touch", "/tmp/joined"])
        };
        // A process of the host's, the container's own but another start, and one of the host's as if it were the one.
        with(sleeper.id().into(), None).ends(1).says("`box` is not running");
        with(true_id, Some(7.into())).ends(1).says("`box` is not running");
        let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).unwrap();
        let started: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        let refused = with(sleeper.id().into(), Some(started.into())).ends(1);
        assert!(refused.err.contains("not in namespaces of its own") || home.is_a_users(), "{}", refused.err);
        assert!(!Path::new("/tmp/joined").exists());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

/// The hostile program, statically linked.
fn attacker() -> &'static Path {
    static ATTACKER: OnceLock<PathBuf> = OnceLock::new();
    ATTACKER.get_or_init(|| {
        let path = program().with_file_name(format!("attack-{}", std::process::id()));
        ran(tool("cc").args(["-static", "-O1", "tests/it/home/attack.c", "-o"]).arg(&path)).ok();
        path
    })
}

/// A folder with these programs in its `bin`.
fn with_programs(home: &Home, programs: &[(&Path, &str)]) -> PathBuf {
    let root = home.folder().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    for (from, name) in programs {
        fs::copy(from, root.join("bin").join(name)).unwrap();
    }
    root
}

/// A container `box` with this root, as the library starts it.
fn library_container(home: &Home, root: &Path, args: &[&str], change: impl FnOnce(&mut Spec)) -> Container {
    let folder = home.store().join("containers");
    fs::create_dir_all(&folder).unwrap();
    let containers = Containers::new(&folder, Launcher::program(program()), Progress::silent());
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut spec = Spec::new(Name::Exactly("box".to_owned()), vec![root.to_owned()], args);
    spec.keep = true;
    change(&mut spec);
    containers.start(&spec).unwrap()
}

#[test]
fn nothing_in_the_container_gets_at_what_comes_in() {
    let attack = |home: &Home, command: &[&str]| {
        // It looks when it is its turn: where nothing was seen, nothing was tried.
        wait_until("the attacker has seen enough", || {
            for _ in 0..6 {
                home.run([&["exec", "box", "--"], command].concat()).ok();
                home.run([&["exec", "-t", "box", "--"], command].concat()).ok();
            }
            let said = home.run(["logs", "box"]).ok().out;
            assert!(!said.contains("GOT"), "{said}");
            let seen = said.lines().filter(|line| line.starts_with("SEEN")).count();
            seen >= 8
        });
    };
    let mounted = format!("{}:/opt/attack:ro", attacker().display());
    for home in [Home::warm(), Home::warm().of_a_user()] {
        home.build(home.tiny("tiny"));
        start(&home, "box", &["--volume", &mounted], &["/opt/attack"]);
        attack(&home, &["/opt/busybox", "true"]);
    }
    if nix::unistd::geteuid().is_root() {
        // As root of the machine, without its rights.
        let home = Home::empty();
        let root = with_programs(&home, &[(attacker(), "attack"), (busybox(), "true")]);
        let _container = library_container(&home, &root, &["attack"], |spec| spec.user = (0, 0));
        attack(&home, &["true"]);
    }
}

#[test]
fn the_hidden_command_is_for_sealed_copies_alone() {
    let home = Home::empty();
    let refused = ran(home.command(["__enter"]).stdin(Stdio::null()));
    assert_eq!((refused.code, refused.out.as_str(), refused.err.as_str()), (Some(1), "", ""));
    // Who would tell it what to do learns why it does not.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let refused = ran(home.command(["__enter"]).stdin(std::os::fd::OwnedFd::from(theirs)));
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert_eq!((refused.code, said.as_str()), (Some(1), r#"{"Entry":{"why":"this program can be changed"}}"#));
}

#[test]
fn a_shell_is_the_images_own_or_one_that_is_lent() {
    for home in homes() {
        // It has a shell, but nothing to run in it: where this machine has nothing either, that is said.
        let mut own = home.command(["shell", "box", "-e", "X=5"]);
        own.env("PATH", "/nonesuch");
        let said = fed(own, b"echo $0 $X; exit 4\n").ends(4).says("hint: with Debian's package busybox-static");
        assert_eq!(said.out, "/bin/sh 5\n");
        let with = |mut command: Command| {
            command.env("PATH", busybox().parent().unwrap());
            command
        };
        let lent = fed(with(home.command(["shell", "box"])), b"echo $0; ls -d /usr; python -c 'print(7)'\n").ok();
        assert_eq!((lent.out.as_str(), lent.err.as_str()), ("sh\n/usr\n7\n", ""));
        // So is a command; what busybox does not know is missing, as before.
        let exec = |args: &[&str]| home.command([&["exec", "box", "--"], args].concat());
        let lent = ran(&mut with(exec(&["ls", "-d", "/app"]))).ok().says("the image has no `ls`: it is busybox's");
        assert_eq!(lent.out, "/app\n");
        ran(&mut with(exec(&["nonesuch"]))).ends(127).says("there is no such program");
        ran(exec(&["ls"]).env("PATH", "/nonesuch")).ends(127).says("hint: with Debian's package busybox-static");
        let mut terminal = OnTerminal::start(home.command(["shell", "box"]));
        terminal.types("echo $((40+2))\n");
        terminal.shows("42");
        terminal.types("exit\n");
        assert_eq!(terminal.ends(), Some(0));

        let remove = "import os, time; os.remove('/bin/sh'); print('up', flush=True); time.sleep(600)";
        if home.is_a_users() {
            // All in it is the user's, and it may be written to.
            start(&home, "bare", &[], &["python", "-c", remove]);
            is_lent_a_shell(&home, "bare");
        }
    }
    if nix::unistd::geteuid().is_root() {
        let home = Home::empty();
        let root = with_programs(&home, &[(busybox(), "sleep")]);
        let _container = library_container(&home, &root, &["sleep", "600"], |_| {});
        is_lent_a_shell(&home, "box");
    }
}

fn is_lent_a_shell(home: &Home, name: &str) {
    let shell = |input: &[u8]| {
        let mut command = home.command(["shell", name]);
        command.env("PATH", busybox().parent().unwrap());
        fed(command, input)
    };
    let script = b"echo $0; ls -d /proc; ps | grep -c '[s]leep'; which sh || echo none; cat /proc/self/comm\n";
    assert_eq!(shell(script).ok().out, "sh\n/proc\n1\nnone\ncat\n");
    // It is nowhere in the container, and cannot be changed.
    let written =
        shell(b"readlink /proc/self/exe; find / -xdev -name busybox ! -path '/opt/*'; echo x > /proc/$$/exe\n");
    assert_eq!(written.out, "/memfd:program (deleted)\n");
    assert_ne!(written.code, Some(0));
    shell(b"grep -q 'CapBnd:\t0000000000000000' /proc/self/status && exit 6\n").ends(6);
    // Where this machine has none, or one that needs libraries.
    let without = |path: &Path| ran(home.command(["shell", name]).env("PATH", path)).ends(1);
    without(Path::new("/nonesuch")).says("the image has no shell").says("busybox-static");
    let dynamic = home.write("bin/busybox", fs::read(std::env::current_exe().unwrap()).unwrap());
    fs::set_permissions(&dynamic, fs::Permissions::from_mode(0o755)).unwrap();
    without(dynamic.parent().unwrap()).says("needs libraries that are not in it");
}

#[test]
fn other_engines_do_it_their_way() {
    let home = Home::warm();
    home.build(home.tiny("tiny"));
    let sleep = ["python", "-c", "import time; print('up', flush=True); time.sleep(600)"];
    // An OCI runtime's is gone into as our own, and held as it is: but for the filter, which is two of ours.
    for home in [&home, &homes()[1]] {
        start(home, "other", &["--engine", "runc"], &sleep);
        let rights = RIGHTS.replace(" Seccomp_filters", "");
        let said = home.run(["exec", "other", "--", "python", "-c", &rights]).ok().out;
        assert!(!said.contains("DIFFERENT") && said.contains("CapBnd:\t0000000000000000"), "{said}");
        home.run(["exec", "other", "--", "sh", "-c", "exit 7"]).ends(7);
        home.run(["stop", "other", "--remove"]).ok();
        home.run(["exec", "other", "--", "true"]).ends(1);
    }
    if nix::unistd::geteuid().is_root() {
        start(&home, "box", &["--engine", "podman"], &sleep);
        let place = ["-e", "LEVEL=7", "--workdir", "/tmp"];
        let script = "echo $LEVEL $PWD; read line; echo $line >&2; exit 7";
        let said =
            fed(home.command([&["exec", "-i"], &place[..], &["box", "--", "sh", "-c", script]].concat()), b"in\n");
        let said = said.ends(7);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("7 /tmp\n", "in\n"));
        assert_eq!(fed(home.command(["shell", "box"]), b"echo $0\n").ok().out, "/bin/sh\n");
        home.run(["stop", "box", "--remove"]).ok();
    }
}
