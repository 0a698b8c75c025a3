//! `ekiben completions`, and what shells are answered that ask for more than options: names of images, of containers, of data
//! sets, and projects.

use std::ffi::OsStr;
use std::path::Path;

use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::CompleteEnv;

use super::typed::SHELLS;
use super::{Context, Exit, Failure, command};
use crate::base::debian::Suite;
use crate::formats::diagnostic::Code;
use crate::image::session::{Making, Session};
use crate::image::store::Store;
use crate::io::http::{Client, Network};
use crate::io::progress::Progress;
use crate::project::manifest;
use crate::run;
use crate::run::container::State;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben completions bash > ~/.local/share/bash-completion/completions/ekiben\n\
\x20 ekiben completions zsh > ~/.zfunc/_ekiben\n\
\x20 ekiben completions fish > ~/.config/fish/completions/ekiben.fish";

/// The variable with which the scripts ask.
const VARIABLE: &str = "EKIBEN_COMPLETE";

/// Print a script that completes commands, options and names in a shell
///
/// The script asks ekiben, which knows the images and containers that there are. Print it again after an upgrade.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let shell = args.shell.to_string();
    if let Some(shell) = SHELLS.completer(&shell) {
        shell.write_registration(VARIABLE, "ekiben", "ekiben", "ekiben", &mut script)?;
    }
    match args.shell {
        // Else bash takes `iris:1.0` for three words.
        clap_complete::Shell::Bash => script.extend_from_slice(b"COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"),
        // Loaded by its name for the first completion, the file is what completes.
        clap_complete::Shell::Zsh => {
            script.extend_from_slice(b"[ \"$funcstack[1]\" = _ekiben ] && _clap_dynamic_completer_ekiben \"$@\"\n");
        }
        _ => {}
    }
    context.printer.raw(&script)?;
    Ok(Exit::Success)
}

/// Answers a shell, and ends the program, if one of the scripts asks.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).shells(SHELLS).complete();
}

/// Names of images.
pub fn images() -> ArgValueCandidates {
    ArgValueCandidates::new(image_names)
}

/// Names of containers, whether they run or have ended.
pub fn containers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| container_names(|_| true))
}

/// Names of containers that run.
pub fn running_containers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| container_names(State::is_live))
}

/// Projects, bundles and bentos, and names of images.
pub fn inputs() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| paths(word).chain(beginning(word, image_names())).collect())
}

/// Any file, and names of images.
pub fn files() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        PathCompleter::any().complete(word).into_iter().chain(beginning(word, image_names())).collect()
    })
}

/// What an image stands on: what is assembled here, and names of images.
pub fn bases() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let assembled = Suite::ALL.into_iter().map(|suite| CompletionCandidate::new(format!("debian:{suite}")));
        assembled.chain(image_names()).collect()
    })
}

/// Names of data sets.
pub fn data() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let kept = session().and_then(|session| session.store.kept().ok()).unwrap_or_default();
        kept.into_iter().map(|kept| CompletionCandidate::new(kept.name)).collect()
    })
}

/// Platforms that are built for.
pub fn platforms() -> ArgValueCandidates {
    words(&["linux/amd64", "linux/arm64"])
}

/// Programs that run containers in the place of this one.
pub fn engines() -> ArgValueCandidates {
    words(&["runc", "crun", "podman", "docker"])
}

/// Codes of diagnostics, with what they are about.
pub fn codes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let code = |code: &Code| CompletionCandidate::new(code.number()).help(Some(code.title().into()));
        Code::ALL.iter().map(code).collect()
    })
}

fn words(words: &'static [&'static str]) -> ArgValueCandidates {
    ArgValueCandidates::new(|| words.iter().map(CompletionCandidate::new).collect())
}

/// The same as [`inputs`], and names of containers that run.
pub fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let names = container_names(State::is_live).into_iter().chain(image_names()).collect();
        paths(word).chain(beginning(word, names)).collect()
    })
}

/// What can be built from, and folders on the way to it.
fn paths(word: &OsStr) -> impl Iterator<Item = CompletionCandidate> + use<> {
    let is_input = |path: &Path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_named = manifest::NAMES.contains(&name) || ["Dockerfile", "Containerfile"].contains(&name);
        path.is_dir() || is_named || name.ends_with(".ekiben") || name.contains(".bento")
    };
    PathCompleter::any().filter(is_input).complete(word).into_iter()
}

fn beginning(word: &OsStr, names: Vec<CompletionCandidate>) -> impl Iterator<Item = CompletionCandidate> + use<> {
    let word = word.to_owned();
    let begins = move |name: &OsStr| name.as_encoded_bytes().starts_with(word.as_encoded_bytes());
    names.into_iter().filter(move |name| begins(name.get_value()))
}

fn image_names() -> Vec<CompletionCandidate> {
    let images = session().and_then(|session| session.store.images().ok()).unwrap_or_default();
    images.into_iter().map(|image| CompletionCandidate::new(image.name.to_string())).collect()
}

fn container_names(is_meant: impl Fn(&State) -> bool) -> Vec<CompletionCandidate> {
    let states = session().and_then(|session| run::containers(&session).ok()?.list().ok()).unwrap_or_default();
    let image = |state: &State| state.labels.get(run::IMAGE).cloned();
    let meant = states.iter().filter(|state| is_meant(state));
    meant.map(|state| CompletionCandidate::new(&state.name).help(image(state).map(Into::into))).collect()
}

/// The store, if there is one. Nothing is made for a shell that asks, and nothing said.
fn session() -> Option<Session> {
    let root = Store::default_root().ok().filter(|root| Store::is_at(root))?;
    Some(Session {
        store: Store::open(&root).ok()?,
        progress: Progress::silent(),
        client: Client::new(Network::Offline),
        making: Making::Compressed,
    })
}
