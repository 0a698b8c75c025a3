//! `ekiben self`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use fs_err as fs;
use serde::Serialize;

use super::printer::{NAME, Report, Size, dim_time};
use super::{Context, Exit, Failure, command, push};
use crate::build::itself;
use crate::image::store::ImageName;
use crate::io::digest::Digest;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben self image\n\
\x20 ekiben self image -t registry.example/ekiben:1.0 --push\n\
\x20 ekiben self man ~/.local/share/man/man1";

/// Make an image of this program, for clusters and CI, or its manual pages
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Image(ImageArgs),
    Man(ManArgs),
}

/// Write the manual pages of this program into a folder
///
/// One for each command; `man ekiben-build` shows one where the folder is in `man`'s path. Wheels, archives and packages have them.
#[derive(clap::Args)]
struct ManArgs {
    /// The folder; it is made if it is not there.
    #[arg(value_name = "FOLDER")]
    into: PathBuf,
}

/// Build the image of this program, on a base of Debian packages that has the C library it needs
///
/// What it needs to fetch, pack, build and push is inside; it runs as user 1034, with nothing to write to but its home folder
/// /home/ekiben, where a volume may be mounted, and /tmp. `ekiben-operator` goes along where it lies beside this program.
/// Prints the digest. The same program gives the same image, on the same packages.
#[derive(clap::Args)]
struct ImageArgs {
    /// What the image is called in the store; may be repeated. Without it: ekiben:VERSION.
    #[arg(long, short, value_name = "NAME[:TAG]")]
    tag: Vec<ImageName>,
    /// Push it to where the tags say.
    #[arg(long, requires = "tag")]
    push: bool,
}

#[derive(Serialize)]
struct Made {
    name: ImageName,
    digest: Digest,
    size: u64,
    layers: usize,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.command {
        Command::Image(args) => image(context, args),
        Command::Man(args) => {
            fs::create_dir_all(&args.into)?;
            clap_mangen::generate_to(command(), &args.into)?;
            context.printer.status("Wrote", format!("manual pages to {}", args.into.display()));
            Ok(Exit::Success)
        }
    }
}

fn image(context: &Context, args: ImageArgs) -> Result<Exit, Failure> {
    let started = Instant::now();
    let targets = match args.push {
        true => args.tag.iter().map(|name| push::target(&name.to_string())).collect::<Result<Vec<_>, _>>()?,
        false => Vec::new(),
    };
    let session = context.session()?;
    let image = itself::of_this(&session)?;
    let (digest, descriptor) = image.save(&session.store)?;
    let names = match args.tag.is_empty() {
        true => vec![format!("ekiben:{}", env!("CARGO_PKG_VERSION")).parse()?],
        false => args.tag,
    };
    for name in &names {
        session.store.tag(name, descriptor.clone())?;
    }
    let (size, layers) = (image.size(), image.layers().len());
    for name in &names {
        let text = format!("{NAME}{name}{NAME:#} {layers} layers, {} {}", Size(size), dim_time(started.elapsed()));
        context.printer.status("Built", text);
    }
    push::push(context, &session, &digest, &targets)?;
    if let Some(name) = names.into_iter().next() {
        context.printer.report(&Made { name, digest, size, layers })?;
    }
    Ok(Exit::Success)
}

impl Report for Made {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.digest)
    }
}
