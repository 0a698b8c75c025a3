//! `ekiben unpack`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure};
use crate::build::input::Input;
use crate::build::workflow::{Goal, Opened, Request};
use crate::bundle::Bundle;
use crate::image::session::Session;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben unpack iris-1.0.ekiben              into the folder iris-1.0\n\
\x20 ekiben unpack iris-1.0.ekiben /srv/iris\n\
\x20 ekiben unpack --generated bearing.zip      what Ekiben writes around the model";

/// Unpack a bundle into a folder, verifying every file
///
/// The folder appears when all is right, or not at all.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bundle's file; with --generated a project, or an archive with a manifest.json.
    bundle: PathBuf,
    /// Where to put its files; must not be there or be empty. Without it: NAME-VERSION.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Only what Ekiben writes for a project: its service, the entrypoint, a Dockerfile, the API's description. Without a folder:
    /// NAME-VERSION-generated.
    #[arg(long)]
    generated: bool,
}

#[derive(Serialize)]
struct Unpacked {
    folder: PathBuf,
    name: String,
    version: String,
    files: usize,
    size: u64,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    if args.generated {
        return generated(context, &session, args);
    }
    let bundle = Bundle::open(&session, &args.bundle)?;
    let (name, version, size) = (bundle.name().to_owned(), bundle.version().to_owned(), bundle.bytes());
    let folder = args.folder.unwrap_or_else(|| PathBuf::from(format!("{name}-{version}")));
    let started = Instant::now();
    bundle.unpack(&session, &folder)?;
    let files = bundle.members().len() + bundle.weights().len();
    let text =
        format!("{NAME}{}{NAME:#} {files} files, {} {}", folder.display(), Size(size), dim_time(started.elapsed()));
    context.printer.status("Unpacked", text);
    context.printer.report(&Unpacked { folder, name, version, files, size })?;
    Ok(Exit::Success)
}

/// What is written for a project.
fn generated(context: &Context, session: &Session, args: Args) -> Result<Exit, Failure> {
    let input = Opened::open(session, Request::of(args.bundle), context)?.input(session, &[], Goal::Bundle, context)?;
    let Input { bundle, generated, .. } = input;
    if generated.is_empty() {
        let explanation = ErrorKind::Usage.named("unpack/no-project").hint("without --generated all of it is unpacked");
        return Err(Failure::new(explanation, "what is generated is told apart in a project alone"));
    }
    let (name, version) = (bundle.name().to_owned(), bundle.version().to_owned());
    let folder = args.folder.unwrap_or_else(|| PathBuf::from(format!("{name}-{version}-generated")));
    let files = bundle.unpack_some(session, &folder, &|path| generated.contains(path))?;
    let members = bundle.members().iter().filter(|(path, _)| generated.contains(path));
    let size = members.map(|(_, member)| member.content.size()).sum();
    context.printer.status("Unpacked", format!("{NAME}{}{NAME:#} {files} files, {}", folder.display(), Size(size)));
    context.printer.report(&Unpacked { folder, name, version, files, size })?;
    Ok(Exit::Success)
}

impl Report for Unpacked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.folder.display())
    }
}
