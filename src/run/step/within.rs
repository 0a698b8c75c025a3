//! The process in the user namespace: this program, started anew with a hidden command.
//!
//! It opens what it needs of the host by its path before it is root within, as it may not look for anything there
//! afterwards: then it is nobody on the host, and works in its current folder, where everybody may make files.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fs_err as fs;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use serde::Serialize;

use super::host::{dress, open_all, paths};
use super::job::{JOB, Job, PIECE, Packed, Unpack, say};
use super::{process, upper};
use crate::io::archive::{self, Below, Facts, Stack};
use crate::io::ids;

/// Works within, if this program was started to do so, and returns its exit code. To be called in `main`, before there is
/// a second thread.
pub fn take_over() -> Option<ExitCode> {
    // Of this program it is known now that it can: where it removes trees, it may have to.
    ids::register(Path::new("/proc/self/exe"));
    let mut args = std::env::args_os().skip(1);
    if args.next()? != ids::COMMAND {
        return None;
    }
    // SAFETY: standard input is this process's own, and used for nothing else.
    let line = unsafe { UnixStream::from_raw_fd(libc::STDIN_FILENO) };
    let result = work(&args.next().unwrap_or_default().to_string_lossy(), &line);
    // What comes to standard input's place is nobody's.
    std::mem::forget(line);
    Some(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An error means that nobody could be told.
fn work(job: &str, line: &UnixStream) -> io::Result<()> {
    umask(Mode::from_bits_truncate(0o022));
    let told = ids::receive(line)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if job == ids::REMOVE {
        ids::enter(line, || Ok(()))?;
        let path = Path::new(".").join(OsString::from_vec(told));
        return answer(line, archive::remove(&path));
    }
    let job = match job {
        JOB => serde_json::from_slice(&told).map_err(|error| error.to_string()),
        other => Err(format!("`{other}` is no job")),
    };
    let job = match job {
        Ok(job) => job,
        Err(why) => return ids::enter(line, || Err::<(), _>(io::Error::other(why))).map(drop),
    };
    match job {
        Job::Unpack(told) => {
            let below = enter_with(line, &told.below)?;
            answer(line, unpack(line, &told, &below))
        }
        Job::Settle(told) => {
            let lower = enter_with(line, &told.lower)?;
            answer(line, upper::settle(Path::new("root"), &paths(&lower), told.epoch))
        }
        Job::Pack(told) => {
            let lower = enter_with(line, &told.lower)?;
            // An entry is a few bytes, and so are most files.
            let mut line = io::BufWriter::with_capacity(PIECE, line);
            let told = upper::tell(Path::new("root"), &paths(&lower), &mut line);
            told.or_else(|error| say(&mut line, &Packed::Failed(error.to_string())))?;
            line.flush()
        }
        Job::Clear => {
            ids::enter(line, || Ok(()))?;
            answer(line, clear())
        }
        Job::Run(run) => process::supervise(*run, line),
    }
}

/// Goes into the namespace with the folders `paths` open.
fn enter_with(line: &UnixStream, paths: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    Ok(ids::enter(line, || open_all(paths))?.1)
}

/// Answers with what came of a job.
fn answer(line: &UnixStream, result: io::Result<impl Serialize>) -> io::Result<()> {
    say(line, &result.map_err(|error| error.to_string()))
}

fn unpack(line: &UnixStream, told: &Unpack, below: &[OwnedFd]) -> io::Result<Facts> {
    fs::create_dir("root")?;
    let stack = Stack::new(&paths(below));
    let mut archive = io::BufReader::with_capacity(1 << 20, line);
    let root = Path::new("root");
    let facts = archive::unpack_layer(&mut archive, root, Below::Layers(&stack), archive::Limits::default())
        .map_err(|error| io::Error::other(said_with_causes(&error)))?;
    // So that whoever sends it has sent all.
    io::copy(&mut archive.by_ref(), &mut io::sink())?;
    if facts.root.is_none() {
        dress(root, told.root)?;
    }
    Ok(facts)
}

fn said_with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn clear() -> io::Result<()> {
    for entry in fs::read_dir(".")? {
        let name = entry?.file_name();
        if name != "root" {
            archive::remove(&Path::new(".").join(name))?;
        }
    }
    // It becomes a tree that can be read.
    File::open("root").map(drop)
}
