//! A temporary home for the real program: a store, projects, and the way to call it.
//!
//! Downloads are fetched once: [`Home::warm`] begins with what a store below the target folder knows, which a first
//! build of `fixtures/tiny` has filled. Blobs are shared by hard links; they are never written again.

pub mod cluster;
pub mod engines;
pub mod front;
pub mod images;
pub mod registry;
pub mod restricted;
pub mod servers;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use ekiben::image::session::{Making, Session};
use ekiben::image::store::Store;
use ekiben::io::http::{Client, Network};
use ekiben::io::progress::Progress;

/// The ordinary user and group of tests that run as root.
pub const USER: u32 = 61_034;

/// A temporary folder with a store in `store`. Containers that are left in it are stopped when it is dropped.
pub struct Home {
    folder: tempfile::TempDir,
    user: bool,
}

impl Home {
    /// With an empty store.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("ekiben-test-").tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self { folder, user: false }
    }

    /// With a store that knows all that `fixtures/tiny` is built from, and no image.
    pub fn warm() -> Self {
        let home = Self::empty();
        for part in ["blobs", "memory"] {
            copy(&kitchen().join("store").join(part), &home.store().join(part), true);
        }
        home
    }

    /// With a store that has all downloads of `fixtures/tiny`, and has built nothing.
    pub fn fetched() -> Self {
        let home = Self::empty();
        copy(&kitchen().join("store/blobs"), &home.store().join("blobs"), true);
        copy(&kitchen().join("store/memory"), &home.store().join("memory"), true);
        home.forget_work();
        home
    }

    /// Takes the memories of all work but downloads away, and the images.
    pub fn forget_work(&self) {
        let downloads = ["debian-index", "debian-packages", "debian-release", "debian-resolution", "uv"];
        self.forget(|kind| !downloads.iter().any(|download| kind.starts_with(download)));
    }

    /// Takes memories of some kinds away, and the images.
    pub fn forget(&self, is_forgotten: impl Fn(&str) -> bool) {
        for kind in self.stored("memory").iter().filter(|kind| is_forgotten(kind)) {
            fs::remove_dir_all(self.store().join("memory").join(kind)).unwrap();
        }
        for name in ["index.json", "index.lock"] {
            let _ = fs::remove_file(self.store().join(name));
        }
        let _ = fs::remove_dir_all(self.store().join("trees"));
    }

    /// The same home, but an ordinary user's. Where the tests are not run by root, it is one anyway.
    pub fn of_a_user(mut self) -> Self {
        self.user = nix::unistd::geteuid().is_root();
        if self.user {
            let linked = self.folder().join("linked");
            for part in ["blobs", "memory"].map(|part| self.store().join(part)).iter().filter(|part| part.exists()) {
                // No links: who owns a file, owns all its names.
                fs::rename(part, &linked).unwrap();
                copy(&linked, part, false);
                fs::remove_dir_all(&linked).unwrap();
            }
            self.give(self.folder.path());
        }
        self
    }

    /// Whether the program runs as an ordinary user in it, though the tests run as root.
    pub fn is_a_users(&self) -> bool {
        self.user || !nix::unistd::geteuid().is_root()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn store(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// A path in the folder, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.folder().join(name).to_str().unwrap().to_owned()
    }

    /// A copy of `fixtures/tiny` with its lock, as the folder `name`.
    pub fn tiny(&self, name: &str) -> PathBuf {
        let project = self.folder().join(name);
        copy(&kitchen().join("tiny"), &project, false);
        self.give(&project);
        project
    }

    /// Writes a file of the home.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    /// Makes the home's user the owner of all that lies at `path`.
    fn give(&self, path: &Path) {
        if self.user {
            chown(path, Some(USER), Some(USER)).unwrap();
            if path.is_dir() {
                fs::read_dir(path).unwrap().for_each(|entry| self.give(&entry.unwrap().path()));
            }
        }
    }

    /// The program, about to be run in the folder with the home's store.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program());
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "SOURCE_DATE_EPOCH", "EKIBEN_OFFLINE", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.folder()).env("EKIBEN_HOME", self.store()).stdin(Stdio::null());
        if self.user {
            command.uid(USER).gid(USER).env("HOME", self.folder()).env("USER", "somebody");
        }
        command
    }

    /// In front of a command's line, for one that root starts for the home's user.
    pub fn as_user(&self) -> Vec<String> {
        match self.user {
            true => {
                vec!["setpriv".into(), format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into()]
            }
            false => Vec::new(),
        }
    }

    /// Runs the program to its end.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        ran(&mut self.command(args))
    }

    /// Runs the program with less memory (`most` bytes of addresses) than a large input would need if it were believed; it
    /// must end in time.
    pub fn frugal(&self, args: &[&str], most: u64) -> Ran {
        let command = self.command(args);
        let mut limited = tool("prlimit");
        limited.arg(format!("--as={most}")).arg("--").arg(command.get_program()).args(args);
        limited.current_dir(self.folder()).env("EKIBEN_HOME", self.store());
        let started = Instant::now();
        let ran = ran(&mut limited);
        assert_eq!(ran.signal, None, "`{}` was killed:\n{}", ran.line, ran.err);
        assert!(started.elapsed() < PATIENCE, "`{}` took {:?}", ran.line, started.elapsed());
        ran
    }

    /// The digest of what `ekiben build` makes of `path`.
    pub fn build(&self, path: impl AsRef<OsStr>) -> String {
        self.run([OsStr::new("build"), path.as_ref()]).ok().out.trim().to_owned()
    }

    /// Containers that are not tidied away, by name.
    pub fn containers(&self) -> Vec<String> {
        let report = self.run(["ps", "--all", "--output", "json"]).ok().json();
        let rows = report["containers"].as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What lies in a folder of the store, by name.
    pub fn stored(&self, folder: &str) -> Vec<String> {
        names(&self.store().join(folder))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.store().join("containers").exists() {
            let _ = self.command(["stop", "--all", "--grace", "1"]).output();
        }
    }
}

/// What the library's steps are handed, with a store in `folder` and the network.
pub fn session(folder: &Path) -> Session {
    let (store, client) = (Store::open(folder).unwrap(), Client::new(Network::Online));
    Session { store, progress: Progress::silent(), client, making: Making::Compressed }
}

/// The program, where everybody can read it.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("ekiben-tests-{}", nix::unistd::geteuid()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        // Another test may be running the one that is there.
        let new = tempfile::NamedTempFile::new_in(&folder).unwrap().into_temp_path();
        fs::copy(env!("CARGO_BIN_EXE_ekiben"), &new).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        let program = folder.join("ekiben");
        new.persist(&program).unwrap();
        program
    })
}

/// A folder with a store and a locked copy of `fixtures/tiny`, built once so that all downloads are there.
fn kitchen() -> &'static Path {
    static KITCHEN: OnceLock<PathBuf> = OnceLock::new();
    KITCHEN.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kitchen");
        fs::create_dir_all(&folder).unwrap();
        // Test programs that run at the same time wait here for each other.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        copy(Path::new("fixtures/tiny"), &folder.join("tiny"), false);
        let mut build = Command::new(program());
        build.arg("build").arg(folder.join("tiny")).env("EKIBEN_HOME", folder.join("store"));
        ran(&mut build).ok();
        folder
    })
}

/// Copies a folder into another; a file that is there is left if it has the same bytes.
pub fn copy(from: &Path, to: &Path, link: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to, link);
        } else if link && fs::hard_link(&from, &to).is_ok() {
            // Where the temporary folder is on another file system, there are copies.
        } else if fs::read(&to).ok() != fs::read(&from).ok() {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub line: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn new(line: String, output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (code, signal) = (output.status.code(), output.status.signal());
        Self { line, code, signal, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It must have ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "`{}` ended with {:?} (signal {:?}), not {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.signal,
            self.out,
            self.err
        );
        self
    }

    /// It must have ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ends(0)
    }

    /// Its stderr must have `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "`{}` does not say `{text}`:\n{}", self.line, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("`{}`: {error}\n{}", self.line, self.out))
    }
}

/// Runs a command to its end. A panic of the program fails the test, whatever was expected.
#[track_caller]
pub fn ran(command: &mut Command) -> Ran {
    let line = line(command);
    let output = command.output().unwrap_or_else(|error| panic!("`{line}`: {error}"));
    let ran = Ran::new(line, output);
    assert!(ran.code != Some(101) && !ran.err.contains("panicked at"), "`{}` panicked:\n{}", ran.line, ran.err);
    ran
}

/// A command for a person.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Another program that a test needs. `scripts/test.sh` installs them.
#[track_caller]
pub fn tool(name: &str) -> Command {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    match found {
        Some(path) => {
            let mut command = Command::new(path);
            command.stdin(Stdio::null());
            command
        }
        None => panic!("this test needs `{name}`: scripts/test.sh installs it"),
    }
}

/// A program of a package of the package index, in a virtual environment below the target folder. Installed once.
pub fn python_program(program: &str, requirement: &str) -> PathBuf {
    python_programs(program, &[requirement])
}

/// The same of the first of several packages.
pub fn python_programs(program: &str, requirements: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    let path = folder.join("bin").join(program);
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !path.exists() {
        let _ = fs::remove_dir_all(&folder);
        // Debian's Python cannot put pip into an environment, but its pip can install into one.
        let script = "venv=$1; shift; python3 -m venv --without-pip \"$venv\"; \
                      python3 -m pip -q --disable-pip-version-check --python \"$venv/bin/python\" install \"$@\"";
        ran(tool("sh").args(["-ec", script, "sh"]).arg(&folder).args(requirements)).ok();
    }
    path
}

/// Processes whose command line names a folder.
pub fn processes_in(folder: &Path) -> Vec<String> {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}

/// How long a test waits for what should come about, or end, at once: a busy machine is slow, and what hangs hangs longer.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until something is so; fails when patience ends.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until there is nothing of what `left` says; names what there is where that takes too long.
pub fn wait_until_none(what: &str, mut left: impl FnMut() -> Vec<String>) {
    let started = Instant::now();
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tells how long a part of a test took.
pub fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    println!("{what}: {:.2} s", started.elapsed().as_secs_f64());
    result
}

/// The first user who was given ids in /etc/subuid, as `useradd` gives them.
pub fn user_with_ids() -> nix::unistd::User {
    let given = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut names = given.lines().filter_map(|line| line.split(':').next());
    let user = |name| nix::unistd::User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root());
    names.find_map(user).expect("a user in /etc/subuid")
}

/// Copies a program that will be started. Another process does so: no process that is started meanwhile has it open to be
/// written then, while which the kernel would not start it.
pub fn install(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let new = to.with_extension(std::process::id().to_string());
    ran(tool("cp").arg(from).arg(&new)).ok();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&new, to).unwrap();
}

/// Asks a service, and gives status and body.
pub fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    asked(address, method, path, body).unwrap_or_else(|error| panic!("no answer from {address}: {error}"))
}

/// Whether a service answers 200, whatever becomes of the connection otherwise.
pub fn is_ready(address: &str, path: &str) -> bool {
    asked(address, "GET", path, "").is_ok_and(|(status, _)| status == 200)
}

fn asked(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut connection = std::net::TcpStream::connect(host)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\n");
    // In one piece: what comes behind an answer that needed none of it resets the connection.
    connection.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other(format!("{answer:?} is no answer")))?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

/// Whether a process on this machine has `text` in its command line.
pub fn somebody_runs(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text) && entry.file_name() != *"self")
    })
}

/// A port of the loopback interface that nobody listens on: none of those that the kernel gives to whoever asks for any,
/// which would be another's before it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    // Another run of the tests begins elsewhere.
    let start = u16::try_from(std::process::id() * 61 % u32::from(PORTS)).unwrap();
    let mut tried = (0..PORTS).map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS);
    tried.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
