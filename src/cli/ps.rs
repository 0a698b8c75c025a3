//! `ekiben ps`

use std::io::{self, Write};

use serde::Serialize;

use super::printer::{Report, Table, for_people, moment};
use super::{Context, Exit, Failure};
use crate::run;
use crate::run::container::{State, Status};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben ps\n\
\x20 ekiben ps --all --output json";

/// List containers
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Those that have ended too.
    #[arg(long, short)]
    all: bool,
}

#[derive(Serialize)]
struct Containers {
    containers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    image: Option<String>,
    /// What it serves for `ekiben serve`: the name of a model and its version.
    model: Option<String>,
    status: String,
    exit_code: Option<i32>,
    /// Seconds since 1970.
    created: u64,
    addresses: Vec<String>,
    /// What it reaches beyond itself.
    reaches: Vec<String>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let states = match context.session_if_any()? {
        Some(session) => run::containers(&session)?.list()?,
        None => Vec::new(),
    };
    let containers = states.into_iter().filter(|state| args.all || state.is_live()).map(row).collect();
    context.printer.report(&Containers { containers })?;
    Ok(Exit::Success)
}

fn row(state: State) -> Row {
    let (status, exit_code) = match &state.status {
        Status::Starting => ("starting", None),
        Status::Running => ("running", None),
        Status::Exited { out_of_memory: true, code } => ("out of memory", Some(*code)),
        Status::Exited { code, .. } => ("ended", Some(*code)),
        Status::Failed(_) => ("failed", None),
        Status::Lost => ("lost", None),
    };
    Row {
        image: state.labels.get(run::IMAGE).cloned(),
        model: state.labels.get(run::MODEL).cloned(),
        status: status.to_owned(),
        exit_code,
        created: state.created,
        addresses: state.published.iter().map(|publish| format!("http://{}", publish.host)).collect(),
        reaches: state.ways.iter().map(ToString::to_string).collect(),
        name: state.name,
    }
}

impl Report for Containers {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.containers.is_empty() && for_people() {
            return writeln!(out, "no containers: `ekiben run` starts one");
        }
        let rows = self.containers.iter().map(|row| {
            let code = row.exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
            let model = row.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
            let image = row.image.clone().unwrap_or_default() + &model;
            let status = format!("{}{code}", row.status);
            let (addresses, reaches) = (row.addresses.join(" "), row.reaches.join(" "));
            [row.name.clone(), image, status, moment(row.created), addresses, reaches]
        });
        Table { headings: ["NAME", "IMAGE", "STATUS", "STARTED", "ADDRESS", "REACHES"], rows: rows.collect() }
            .write(out)
    }
}
