//! `ekiben batch`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::inputs::{How, Inputs};
use super::printer::{NAME, Report, Time};
use super::{Context, Exit, Failure, completions, running};
use crate::build::workflow;
use crate::formats::document::shown;
use crate::io::explain::ErrorKind;
use crate::project::manifest::Manifest;
use crate::run::batch::{Batch, Start};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben batch iris rows.csv -o answers.jsonl\n\
\x20 ekiben batch . requests.jsonl -o answers.csv --id key    with the name of each record\n\
\x20 ekiben batch picture cats/ -o small.jsonl -f smaller     files in, files out\n\
\x20 ekiben batch iris rows.csv -o answers.jsonl --resume     go on after Ctrl-C";

/// Answer the records of files with a model, without a server
///
/// Each record is answered as a request to the model's service is, in a sandbox that sees nothing but these files and has no
/// network: a line of JSON with the request, a row of a table (CSV), an item of a JSON array, or a file where the function takes
/// one. Results are in the order of the records, one for each, with its number and its answer or error. The output appears when
/// it is whole; until then it lies beside it, and --resume goes on there. Ends with 4 where some records have no answer.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A project's folder, its manifest, a bundle, the address of a model, or the name of an image.
    #[arg(value_name = "PATH", add = completions::inputs())]
    path: PathBuf,
    /// Files with records (.jsonl, .json, .csv, .tsv, each also .gz), files that are one each, or folders of these.
    #[arg(value_name = "INPUT", required = true)]
    input: Vec<PathBuf>,
    /// Where results go: .jsonl, or .csv where answers are flat.
    #[arg(long = "write", short = 'o', value_name = "FILE")]
    file: PathBuf,
    /// The function that answers: predict, or the only one, where nothing is said.
    #[arg(long, short, value_name = "NAME")]
    function: Option<String>,
    /// The member or column that names a record; it goes with the answer.
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// What the files are, where their names do not tell.
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "json", "csv", "file"])]
    format: Option<String>,
    /// Give the function so many rows at once, as `service.batch` in the manifest does.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    together: Option<u32>,
    /// Go on behind what an earlier run has done.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Begin anew where something is there already.
    #[arg(long)]
    overwrite: bool,
    /// End with the first record that has no answer.
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    build: How,
    #[command(flatten)]
    how: running::How,
}

#[derive(Serialize)]
struct Answered {
    output: PathBuf,
    records: u64,
    failed: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let start = match (args.resume, args.overwrite) {
        (true, _) => Start::Resumed,
        (_, true) => Start::Over,
        _ => Start::Anew,
    };
    let Some(batch) = Batch::new(&args.input, &args.file, start)? else {
        context.printer.status("Answered", format!("{NAME}{}{NAME:#} is whole already", shown(&args.file)));
        return Ok(Exit::Success);
    };
    let session = context.session_for_running()?;
    let devices = args.how.devices(context)?;
    let gate = args.how.gate(context)?;
    let request = Inputs { path: args.path, how: args.build }.request(context)?;
    let built = workflow::image(&session, request, context)?;
    if built.manifest.as_ref().is_some_and(|manifest| !Manifest::serves_functions(manifest)) {
        let explanation =
            ErrorKind::Usage.named("batch/command").hint("`ekiben run` starts it, `ekiben invoke` asks it");
        return Err(Failure::new(
            explanation,
            "it serves by a command of its own, and has no function to give records to",
        ));
    }
    let mut options = args.how.options(built.manifest.as_ref().map(|manifest| &manifest.resources), devices)?;
    options.volumes.extend(batch.volumes());
    options.args = batch.arguments();
    let together = args.together.map(|rows| rows.to_string());
    for (name, value) in [("function", args.function), ("id", args.id), ("format", args.format), ("together", together)]
    {
        options.args.extend(value.map(|value| format!("--{name}={value}")));
    }
    options.args.extend(args.fail_fast.then(|| "--fail-fast".to_owned()));
    let _alone = batch.begin()?;
    let mut running =
        match running::start(context, &session, &built, gate.as_ref(), options, false, running::Signals::PassedOn) {
            Ok(running) => running,
            Err(failure) => {
                // What is empty goes again; why it did not start is what counts.
                let _ = batch.end();
                return Err(failure);
            }
        };
    let mut counted = Counted::default();
    // The records that are under way are answered first.
    running.be_patient();
    let followed = running.follow(context, &mut |line| counted.takes(line));
    let ended = batch.end();
    let advice = "what is answered is kept where there is anything: `--resume` goes on";
    let exit = followed.map_err(|failure| failure.or_hint(advice))?;
    let Some(output) = ended? else {
        context.printer.advise(advice);
        return Ok(Exit::Container(exit.code));
    };
    let Counted { records, failed, seconds, rate } = counted;
    let time = Time(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    let errors = if failed == 0 { String::new() } else { format!(", {failed} of them with an error") };
    context.printer.status("Answered", format!("{records} records in {time}{errors} ({rate:.0} in a second)"));
    context.printer.report(&Answered { output, records, failed })?;
    Ok(if exit.code == 0 { Exit::Success } else { Exit::Container(exit.code) })
}

/// What the container says at its end of what it has done.
#[derive(Default)]
struct Counted {
    records: u64,
    failed: u64,
    seconds: f64,
    rate: f64,
}

impl Counted {
    /// Whether a line is its last word, which is told in other words.
    fn takes(&mut self, line: &str) -> bool {
        let entry: Value = serde_json::from_str(line).unwrap_or_default();
        let number = |name: &str| entry.get(name).and_then(Value::as_u64);
        let Some((records, failed)) = number("records").zip(number("failed")) else { return false };
        let measured = |name: &str| entry.get(name).and_then(Value::as_f64).unwrap_or_default();
        *self = Self { records, failed, seconds: measured("seconds"), rate: measured("records_per_second") };
        entry.get("message").and_then(Value::as_str).is_some_and(|message| message.ends_with(": done"))
    }
}

impl Report for Answered {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", shown(&self.output))
    }
}
