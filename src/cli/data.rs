//! `ekiben data`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::Serialize;

use super::printer::{NAME, Report, Size, Table, moment};
use super::{Context, Exit, Failure, completions};
use crate::image::store::{Kept, KeptAs, Store};
use crate::io::archive::ArchivePath;
use crate::io::atomic;
use crate::io::explain::ErrorKind;
use crate::io::suggest::{closest, did_you_mean, listed};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben data add vibration.csv\n\
\x20 ekiben data add measured-in-may.csv --name vibration.csv\n\
\x20 ekiben data ls\n\
\x20 ekiben data get bearing-wear-model -o model.pkl\n\
\x20 ekiben data rm vibration.csv";

/// Keep data sets by name for `ekiben train`, and take out what was trained
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Keep a data set: its bytes are copied into the store
    Add {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What it is called, as manifests name it. Without it: as the file is.
        #[arg(long)]
        name: Option<String>,
    },
    /// List data sets, and models that were trained
    Ls,
    /// Take one off the list; `ekiben prune` then frees the space
    Rm {
        /// Names: of a model with `@` and the beginning of its digest, where there are several.
        #[arg(value_name = "NAME", required = true, add = completions::data())]
        names: Vec<String>,
    },
    /// Write one into a file
    Get {
        /// Its name: of a model the newest of that name, or NAME@DIGEST.
        #[arg(value_name = "NAME", add = completions::data())]
        name: String,
        /// Where to. Without it: under the file's own name.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct List {
    kept: Vec<Kept>,
}

#[derive(Serialize)]
struct Written {
    path: PathBuf,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let store = context.session()?.store;
    match args.action {
        Action::Add { file, name } => add(context, &store, &file, name),
        Action::Ls => {
            context.printer.report(&List { kept: store.kept()? })?;
            Ok(Exit::Success)
        }
        Action::Rm { names } => {
            let all = names.iter().map(|name| found(&store, name, true)).collect::<Result<Vec<_>, _>>()?;
            for kept in all {
                store.forget(&kept)?;
                context.printer.status("Removed", format!("{NAME}{}{NAME:#}", kept.name));
            }
            Ok(Exit::Success)
        }
        Action::Get { name, out } => {
            let kept = found(&store, &name, false)?;
            let own = kept.file.as_deref().unwrap_or(&kept.name);
            let path = out.unwrap_or_else(|| own.rsplit('/').next().unwrap_or(own).into());
            let mut blob = store.open_blob(&kept.digest)?;
            atomic::write(&path, |to| io::copy(&mut blob, to).map(drop))?;
            context.printer.report(&Written { path })?;
            Ok(Exit::Success)
        }
    }
}

fn add(context: &Context, store: &Store, file: &std::path::Path, name: Option<String>) -> Result<Exit, Failure> {
    let name = name.unwrap_or_else(|| file.file_name().unwrap_or_default().to_string_lossy().into_owned());
    if ArchivePath::relative(&name).is_err() {
        let explanation = ErrorKind::Usage.named("data/name").hint("as `measurements.csv`: --name says it");
        return Err(Failure::new(explanation, format!("`{name}` cannot be the name of a data set")));
    }
    if !fs::metadata(file)?.is_file() {
        let explanation = ErrorKind::Usage.named("data/no-file").hint("put what is in a folder into one archive");
        return Err(Failure::new(explanation, format!("{} is not a file", file.display())));
    }
    let (digest, size) = store.put_file(file)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    store.keep(&Kept { kind: KeptAs::Data, name: name.clone(), digest, size, since, file: None })?;
    context.printer.status("Kept", format!("{NAME}{name}{NAME:#} {}", Size(size)));
    Ok(Exit::Success)
}

/// What a person means; where one is to go and several are meant, an error.
fn found(store: &Store, text: &str, is_to_go: bool) -> Result<Kept, Failure> {
    let (name, digest) = text.rsplit_once('@').unwrap_or((text, ""));
    let all = store.kept()?;
    let mut meant = all.iter().filter(|kept| kept.name == name && kept.digest.hex().starts_with(digest));
    let (first, more) = (meant.next(), meant.count());
    match first {
        Some(_) if is_to_go && more > 0 => {
            let explanation = ErrorKind::Usage
                .named("data/ambiguous")
                .hint(format!("say which: {name}@DIGEST; `ekiben data ls` shows them"));
            Err(Failure::new(explanation, format!("`{name}` may be any of {}", more + 1)))
        }
        Some(kept) => Ok(kept.clone()),
        None => {
            let names: Vec<String> = all.into_iter().map(|kept| kept.name).collect();
            let explanation = ErrorKind::Failure.named("data/none");
            let explanation = match closest(name, &names) {
                Some(near) => explanation.hint(did_you_mean(near)),
                None if names.is_empty() => explanation.hint("nothing is kept: `ekiben data add FILE`"),
                None => explanation.hint(format!("there are {}", listed(&names))),
            };
            Err(Failure::new(explanation, format!("nothing that is kept is called `{text}`")))
        }
    }
}

impl Report for List {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |kept: &Kept| {
            let kind = match kept.kind {
                KeptAs::Data => "data",
                KeptAs::Model => "model",
            };
            let (digest, size) = (kept.digest.short(), Size(kept.size).to_string());
            [kept.name.clone(), kind.to_owned(), digest, size, moment(kept.since)]
        };
        Table { headings: ["NAME", "KIND", "DIGEST", "SIZE", "SINCE"], rows: self.kept.iter().map(row).collect() }
            .write(out)
    }
}

impl Report for Written {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.path.display())
    }
}
