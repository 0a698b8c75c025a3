//! Ctrl-C and SIGTERM at any moment of what runs a container: it ends at once, says so and nothing else, and leaves nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::home::{Home, Ran, line, processes_in, wait_until};

/// Longer than all that is tried with it.
const LONG: &str = "time.sleep(300)";

/// A home with `tiny`, whose code sleeps where it is imported, where it answers, or where it is told to.
fn home(import: &str, answer: &str) -> Home {
    let home = Home::warm();
    home.tiny("tiny");
    let code = format!(
        "import os\nimport time\n\nprint('imported', flush=True)\n{import}\n\n\ndef predict(x: float) -> float:\n    \
         print('asked', flush=True)\n    {answer}\n    return 3.0 * x + 1.0\n\n\n\
         def explain() -> dict:\n    return {{'formula': '3.0 x + 1.0'}}\n"
    );
    home.write("tiny/src/predict.py", code);
    home.build("tiny");
    home
}

/// The program under way, and what it says.
struct Started {
    line: String,
    child: Child,
    said: PathBuf,
}

impl Started {
    fn new(home: &Home, args: &[&str]) -> Self {
        let (mut command, said) = (home.command(args), home.folder().join("said"));
        command.stdout(Stdio::piped()).stderr(fs::File::create(&said).unwrap());
        Self { line: line(&command), child: command.spawn().unwrap(), said }
    }

    /// Waits until its container has said `text`, and it knows that it runs.
    fn wait_for(&self, home: &Home, text: &str) {
        wait_until(text, || has_said(home, text));
        wait_until("its start", || self.line.contains("json") || self.said().contains("Started "));
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn end(self) -> Ran {
        let ran = Ran::new(self.line, self.child.wait_with_output().unwrap());
        Ran { err: fs::read_to_string(&self.said).unwrap(), ..ran }
    }
}

fn tell(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Whether SIGINT is handled.
fn hears(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    u64::from_str_radix(caught, 16).unwrap() >> (Signal::SIGINT as u32 - 1) & 1 == 1
}

/// Whether a container has said something.
fn has_said(home: &Home, text: &str) -> bool {
    let log = |name: &String| fs::read_to_string(home.store().join("containers").join(name).join("log"));
    home.store().join("containers").exists()
        && home.stored("containers").iter().any(|name| log(name).is_ok_and(|log| log.contains(text)))
}

/// Sends `signal` once the container has said `text`, and waits for the end, which has to come soon.
pub fn interrupted(home: &Home, args: &[&str], text: &str, signal: Signal) -> Ran {
    let started = Started::new(home, args);
    started.wait_for(home, text);
    tell(&started.child, signal);
    let since = Instant::now();
    let ran = started.end();
    // A service has a second to end by itself.
    assert!(since.elapsed() < Duration::from_secs(60), "`{}` took {:?}", ran.line, since.elapsed());
    ran
}

/// It ended as a process that the signal ends, told it, and nothing of its container is left.
#[track_caller]
pub fn is_over(home: &Home, ran: Ran, signal: Signal) {
    assert_eq!(ran.signal, Some(signal as i32), "`{}` ({:?}):\n{}\n{}", ran.line, ran.code, ran.out, ran.err);
    assert_eq!(ran.out, "", "{}", ran.line);
    let last = ran.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    let told = if signal == Signal::SIGINT { "error: interrupted" } else { "error: interrupted by SIGTERM" };
    assert_eq!(last, told, "{}", ran.err);
    assert!(!ran.err.contains("exit code") && !ran.err.contains("--accept"), "{}", ran.err);
    assert_eq!((home.stored("containers"), home.stored("scratch")), (vec![], vec![]), "{}", ran.line);
    assert_eq!(processes_in(&home.store()), [""; 0]);
}

#[test]
fn what_is_not_ready_ends_at_once() {
    for home in [home(LONG, "pass"), home(LONG, "pass").of_a_user()] {
        let commands = [
            &["test", "tiny"][..],
            &["run", "tiny"],
            &["run", "tiny", "--detach"],
            &["run", "tiny", "--watch"],
            &["invoke", "./tiny", "x=2"],
        ];
        for (args, signal) in commands.iter().zip([Signal::SIGINT, Signal::SIGTERM].into_iter().cycle()) {
            // What the service has said until then is for `run`'s reader.
            let mut ran = interrupted(&home, args, "imported", signal);
            ran.out = ran.out.replace("imported\n", "");
            is_over(&home, ran, signal);
        }
    }
}

#[test]
fn an_answer_that_was_not_waited_for_is_no_wrong_one() {
    let home = home("", LONG);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        is_over(&home, interrupted(&home, &["test", "tiny"], "asked", signal), signal);
        is_over(&home, interrupted(&home, &["invoke", "./tiny", "x=2"], "asked", signal), signal);
    }
    // For a program, too; and a manifest stays what it was.
    let manifest = fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap();
    let told = interrupted(&home, &["test", "tiny", "--accept", "--output", "json"], "asked", Signal::SIGINT);
    assert_eq!((told.signal, told.out.as_str()), (Some(2), ""), "{}", told.err);
    let error: serde_json::Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!((&error["error"]["name"], &error["error"]["exit_code"]), (&"run/interrupted".into(), &130.into()));
    assert_eq!(fs::read_to_string(home.path("tiny/ekiben.yaml")).unwrap(), manifest);
}

/// Whenever it comes: while the container is started, while it gets ready, while it is asked, while it ends.
#[test]
fn at_no_moment_is_it_taken_for_something_else() {
    let home = home("", "pass");
    for step in 0..24 {
        let signal = if step % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
        let started = Started::new(&home, &["test", "tiny"]);
        std::thread::sleep(Duration::from_millis(step * 25));
        tell(&started.child, signal);
        let ran = started.end();
        let is_told = ran.out.contains("all 3 answers as expected");
        // It may end the process also after that.
        assert!((is_told && ran.code == Some(0)) || ran.signal == Some(signal as i32), "after {step}: {ran:?}");
        assert!(is_told || ran.out.is_empty(), "after {step}: {ran:?}");
        // One that was about to start ends when it learns that nobody waits for it.
        wait_until("its end", || home.containers().is_empty());
    }
    wait_until("their ends", || processes_in(&home.store()).is_empty());
    // What was killed while it was started is taken away by the next one.
    home.run(["test", "tiny"]).ok();
    assert_eq!(home.stored("containers"), [""; 0]);
}

#[test]
fn one_in_the_background_lives_once_it_is_told_of() {
    for home in [home("", "pass"), home("", "pass").of_a_user()] {
        let name = home.run(["run", "tiny", "--detach"]).ok().out.trim().to_owned();
        // What has started it is gone.
        home.run(["invoke", &name, "x=2"]).ok();
        home.run(["stop", "--remove", &name]).ok();
        // Also a command that has ended by then.
        let name = home.run(["run", "tiny:1", "--detach", "--", "true"]).ok().out.trim().to_owned();
        wait_until("its end", || home.run(["ps"]).ok().out.is_empty());
        home.run(["rm", &name]).ok();
    }
}

/// Held up as it says that the container has started.
#[test]
fn one_in_the_background_is_not_told_of_once_a_signal_has_ended_it() {
    let home = home("", "pass");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    writer.write_all(&vec![b'\n'; size.try_into().unwrap()]).unwrap();
    let mut command = home.command(["run", "tiny:1", "--detach", "--", "sh", "-c", "echo up; sleep 300"]);
    let child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop(command);
    wait_until("its start", || has_said(&home, "up") && hears(&child));
    tell(&child, Signal::SIGINT);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let ran = Ran::new("run --detach".into(), child.wait_with_output().unwrap());
    is_over(&home, Ran { err: said, ..ran }, Signal::SIGINT);
}

/// Held up as it writes the answer, when the container is gone.
#[test]
fn one_that_comes_after_the_end_ends_what_goes_on() {
    let home = home("", "pass");
    let code = fs::read_to_string(home.path("tiny/src/predict.py")).unwrap();
    home.write("tiny/src/predict.py", code.replace("'3.0 x + 1.0'", "'x' * 500_000"));
    let args = ["invoke", "./tiny", "/explain", "-d", "{}", "--output", "json"];
    let mut child = home.command(args).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert_eq!(home.stored("containers"), [""; 0]);
    tell(&child, Signal::SIGTERM);
    wait_until("its end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_second_signal_does_not_wait() {
    let home = home("", "pass");
    let deaf = "import signal, time; signal.signal(15, lambda *_: print('told', flush=True)); print('deaf', flush=True); \
                time.sleep(300)";
    let started = Started::new(&home, &["run", "tiny:1", "--", "python", "-c", deaf]);
    started.wait_for(&home, "deaf");
    tell(&started.child, Signal::SIGINT);
    started.wait_for(&home, "told");
    tell(&started.child, Signal::SIGINT);
    let since = Instant::now();
    let ran = started.end();
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!((ran.signal, ran.out.as_str()), (Some(2), "deaf\ntold\n"), "{}", ran.err);
    assert_eq!(home.stored("containers"), [""; 0]);
    // One that heeds it says itself how it ends.
    let heeds = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); print('heeds', flush=True); time.sleep(300)";
    interrupted(&home, &["run", "tiny:1", "--", "python", "-c", heeds], "heeds", Signal::SIGINT).ends(3);
}

#[test]
fn a_batch_keeps_what_is_answered() {
    let home = home("", "time.sleep(0.2)");
    home.write("rows.jsonl", "{\"x\": 1}\n".repeat(60));
    let args = ["batch", "tiny", "rows.jsonl", "-o", "answers.jsonl"];
    let ran = interrupted(&home, &args, "asked", Signal::SIGINT).says("`--resume` goes on");
    is_over(&home, ran, Signal::SIGINT);
    home.run([&args[..], &["--resume"]].concat()).ok();
    assert_eq!(fs::read_to_string(home.path("answers.jsonl")).unwrap().lines().count(), 60);
}

/// What cannot be tidied up hides nothing.
#[test]
fn a_batch_says_why_it_did_not_start() {
    let home = home("", "pass");
    home.write("rows.jsonl", "{\"x\": 1}\n");
    fs::create_dir_all(home.path(".answers.jsonl.ekiben/out/answers.jsonl")).unwrap();
    let args = ["batch", "tiny", "rows.jsonl", "-o", "answers.jsonl", "--resume", "--engine", "none"];
    home.run(args).ends(1).says("`none` is not installed");
}

#[test]
fn a_command_in_a_container_is_told() {
    let home = home("", "pass");
    let name = home.run(["run", "tiny", "--detach"]).ok().out.trim().to_owned();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let script = "import signal, time; signal.signal(2, signal.SIG_DFL); print('up', flush=True); time.sleep(300)";
        let mut command = home.command(["exec", &name, "--", "python", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        tell(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal as i32));
    }
    home.run(["stop", "--remove", &name]).ok();
}
