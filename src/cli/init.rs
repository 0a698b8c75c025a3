//! `ekiben init`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use super::convert::{hardware, reasons};
use super::printer::{HINT, Report, Size};
use super::{Context, Exit, Failure, watch};
use crate::base::requirements::Relaxed;
use crate::build::adopt;
use crate::build::fit::{self, Fit};
use crate::bundle::import::analytics::{self, Archive};
use crate::formats::diagnostic::{Diagnostics, Json};
use crate::io::explain::quoted;
use crate::io::{alone, atomic};
use crate::project::Project;
use crate::project::address::Address;
use crate::project::init::proposal::Proposal;
use crate::project::init::{self, Placed, Placing, Rules, Start};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben init                                   models are looked for here\n\
\x20 ekiben init --from model.pkl\n\
\x20 ekiben init --from ~/models/iris.pkl iris     makes the folder iris/ with the model in it\n\
\x20 ekiben init --from hub/all-MiniLM-L6-v2 embed";

/// Make a project from what is already there: a manifest that teaches, and a function to fill in
///
/// A model's file is read as data and never loaded: requirements, Python, function and example requests are what it says
/// of itself. Where the package index answers, versions that have no wheel for the Python are loosened to the nearest that has,
/// which is said. A dangerous model is refused, as `ekiben validate` would. No file that is there is changed, and where it
/// fails, nothing is left. For many models there is `ekiben convert`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The project's folder. It is made, if it is not there.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// The model: a file, a folder as MLflow, transformers, spaCy, TensorFlow and others save one, or an archive with `manifest.json`
    /// (docs/analytics.md). One that lies elsewhere is linked
    /// into the project (a hard link), where that is on the same file system, else copied. Without it, models are looked
    /// for in the project's folder.
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// What the model is called. Without it: after the project's folder, where one is named, else after the model's file.
    #[arg(long)]
    name: Option<String>,
    /// What loading the model may import though it is dangerous or unknown: `package.module.Name` or `package.*`. It is
    /// written into the manifest's `model.allow`; may be repeated.
    #[arg(long, value_name = "GLOBAL")]
    allow: Vec<String>,
    /// Copy the model, rather than link it: whoever writes into the original does not change the project.
    #[arg(long)]
    copy: bool,
    /// Ask for packages that use graphics processors, where there are smaller ones without.
    #[arg(long)]
    gpu: bool,
}

#[derive(Serialize)]
struct Started<'a> {
    /// The project's folder as a command names it: nothing where that is the current one.
    #[serde(skip)]
    folder: String,
    written: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    placed: Vec<Brought>,
    /// Requirements that were changed, as the index has no such wheels.
    loosened: Vec<Relaxed>,
    /// Bytes of the model's files.
    size: u64,
    proposal: Proposal,
    diagnostics: Vec<Json<'a>>,
}

/// A file that was brought into the project.
#[derive(Serialize)]
struct Brought {
    path: PathBuf,
    how: Placed,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if let Some(archive) = args.from.as_ref().or(Some(&args.path)).filter(|path| analytics::is_archive(path)) {
        return from_archive(context, archive, &args);
    }
    let Args { path, from, name, allow, copy, gpu } = args;
    let placing = if copy { Placing::Copy } else { Placing::Link };
    let rules = Rules { allow, placing, hardware: hardware(gpu) };
    let folder = argument(&path);
    let mut found = Diagnostics::new();
    let project = path.clone();
    let name = name.or_else(|| init::name_of(&path));
    // Another one that begins here comes first, or waits.
    let there = path.is_dir().then(|| fs::File::open(&path)).transpose()?;
    if let Some(there) = &there {
        alone::lock(there.file(), &context.progress(), "another process, which begins a project here")?;
    }
    let address = from.as_deref().and_then(Path::to_str).and_then(|text| text.parse::<Address>().ok());
    let made = match address.filter(Address::is_remote) {
        Some(address) => {
            let session = context.session()?;
            let shelf = adopt::shelf(&session, &address)?;
            let own = shelf.start.name.clone();
            let start = Start { folder: path, name: name.or(own), rules, ..shelf.start.clone() };
            init::start(&start, &mut found)
        }
        None => init::start(&Start { folder: path, model: from, name, rules, ..Start::default() }, &mut found),
    };
    // In JSON they are part of the result, or of the error.
    if context.printer.output() == super::Output::Human {
        watch::show(context, &found);
    }
    let mut made = match made {
        Ok(made) => made,
        Err(error) => return Err(Failure::from(error).with_diagnostics(found)),
    };
    for path in &made.kept {
        context.printer.status("Kept", path.display().to_string());
    }
    for (verb, how) in [("Linked", Placed::Linked), ("Copied", Placed::Copied)] {
        let mut paths = made.placed.iter().filter(|(_, placed)| *placed == how).map(|(path, _)| path);
        if let Some(first) = paths.next() {
            let more = match paths.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            // The model's files come first; of the code beside them nobody asks how much it is.
            let is_model = made.size > 0 && made.placed.first().is_some_and(|(path, _)| path == first);
            let size = if is_model { format!(", {}", Size(made.size)) } else { String::new() };
            context.printer.status(verb, format!("{}{more}{size}", first.display()));
        }
    }
    let loosened = if made.written.iter().any(|path| path.ends_with("requirements.txt")) {
        try_requirements(context, &project, &mut made.proposal)
    } else {
        Vec::new()
    };
    context.printer.report(&Started {
        folder,
        written: made.written,
        kept: made.kept,
        placed: made.placed.into_iter().map(|(path, how)| Brought { path, how }).collect(),
        size: made.size,
        loosened,
        proposal: made.proposal,
        diagnostics: found.sorted().into_iter().map(Json::from).collect(),
    })?;
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Translated<'a> {
    /// The project's folder as a command names it: nothing where that is the current one.
    #[serde(skip)]
    folder: String,
    #[serde(skip)]
    is_trained: bool,
    written: Vec<PathBuf>,
    diagnostics: Vec<Json<'a>>,
}

/// Makes a project of an archive of the AI Analytics Runtime; of a folder of that format in its place, where no other is named.
fn from_archive(context: &Context, archive: &Path, args: &Args) -> Result<Exit, Failure> {
    let mut found = Diagnostics::new();
    let mut make = || -> Result<Vec<PathBuf>, adopt::Error> {
        let opened = Archive::open(archive)?;
        let is_same = fs::canonicalize(archive).ok() == fs::canonicalize(&args.path).ok();
        let shown = |path: &str| args.path.strip_prefix(".").unwrap_or(&args.path).join(path);
        let written = opened.translated(&mut found)?;
        let paths = written.iter().map(|(path, _)| shown(path)).collect();
        if is_same {
            for (path, text) in written {
                fs::File::create_new(args.path.join(path))?.write_all(text.as_bytes())?;
            }
        } else {
            atomic::folder(&args.path, |folder| opened.write(folder, &written))?;
        }
        Ok(paths)
    };
    let made = make();
    if context.printer.output() == super::Output::Human {
        watch::show(context, &found);
    }
    let written = made.map_err(|error| Failure::from(error).with_diagnostics(found.clone()))?;
    let is_trained = Project::manifest_in(&args.path).is_some_and(|manifest| manifest.training.is_some());
    let folder = argument(&args.path);
    let diagnostics = found.sorted().into_iter().map(Json::from).collect();
    context.printer.report(&Translated { folder, is_trained, written, diagnostics })?;
    Ok(Exit::Success)
}

impl Report for Translated<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for path in &self.written {
            writeln!(out, "{}", path.display())?;
        }
        let verb = if self.is_trained { "train" } else { "test" };
        writeln!(out, "{HINT}next{HINT:#}: `ekiben {verb}{}`", self.folder)
    }
}

/// A project's folder as a command is given it; nothing where that is the current one.
fn argument(folder: &Path) -> String {
    if folder.as_os_str() == "." { String::new() } else { format!(" {}", quoted(&folder.display().to_string())) }
}

/// Tries the requirements of a new project, and says what became of those that cannot be had. Nobody waits for an index that
/// does not answer.
fn try_requirements(context: &Context, project: &Path, proposal: &mut Proposal) -> Vec<Relaxed> {
    // Whoever has no place for a store has a project all the same.
    let Ok(session) = context.session() else { return Vec::new() };
    match fit::fit(&session, project, fit::PATIENCE) {
        Fit::Fits(loosened) => {
            for one in &loosened {
                context.printer.status("Loosened", format!("{} to {}: {}", one.before, one.after, one.why));
                for pin in proposal.requirements.iter_mut().filter(|pin| pin.text == one.before) {
                    pin.text.clone_from(&one.after);
                    pin.reason = format!("in the place of {}: {}", one.before, one.why);
                }
            }
            loosened
        }
        Fit::Unfit(why) => {
            context.printer.warn(&format!("the requirements cannot be had as they are: {why}"));
            Vec::new()
        }
        Fit::Unknown if session.client.is_offline() => {
            context.printer.status("Untried", "requirements, as the network is off (--offline)");
            Vec::new()
        }
        Fit::Unknown | Fit::Untried => Vec::new(),
    }
}

impl Report for Started<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for path in &self.written {
            writeln!(out, "{}", path.display())?;
        }
        reasons(out, &self.proposal)?;
        let test = format!("`ekiben test{}`", self.folder);
        let next = match (self.proposal.is_ready(), self.proposal.tests.is_empty()) {
            (true, false) => {
                format!("{test} asks the model the example requests; with `--accept` it writes its answers down")
            }
            (true, true) => format!("describe an example under `tests:`, then {test}"),
            (false, has_none) => {
                let first = if self.proposal.is_unwritten() { "fill in the function" } else { "do what is left to do" };
                let example = if has_none { ", describe an example under `tests:`" } else { "" };
                format!("{first}{example}, then {test}")
            }
        };
        writeln!(out, "{HINT}next{HINT:#}: {next}")
    }
}
