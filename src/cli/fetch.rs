//! `ekiben fetch`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::printer::{Report, Size};
use super::{Context, Exit, Failure};
use crate::build::fetch;
use crate::bundle::origin::folder::{self, Filled, Others, Wanted};
use crate::io::digest::Digest;
use crate::project::address::Address;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben fetch s3://models/iris/3/ --to /models/iris\n\
\x20 ekiben fetch oci://registry.example/iris-models:3/iris/ --to /models/iris --delete\n\
\x20 ekiben fetch s3://models/iris/3/ --to /models/iris --expect models.json";

/// Fill a folder with the files at addresses: only what changed moves
///
/// For init containers, and jobs that fill a volume. A file gets its name when it is whole and is what it should be, and when
/// one is not, none is changed. What was interrupted is gone on with. Any number of processes may fill the same folder at once,
/// also from several machines: what one fetches, the others wait for. It needs nothing to write to but the folder and /tmp.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the files live: s3://BUCKET/PREFIX/, https://…, hf://OWNER/NAME@REVISION, models:/NAME@ALIAS, oci://HOST/NAME:TAG, or a
    /// path. Files of a folder go to their paths below it.
    #[arg(value_name = "ADDRESS", required = true)]
    addresses: Vec<Address>,
    /// The folder that is filled.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Remove what is at none of the addresses.
    #[arg(long)]
    delete: bool,
    /// What the files have to be: an `ekiben.lock`, or the list that an image without models has in its annotation
    /// `io.ekiben.models`. Others are not fetched.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// The digest that a file has to have; may be repeated.
    #[arg(long, value_name = "NAME=DIGEST", value_parser = named_digest)]
    expect_sha256: Vec<(String, Digest)>,
}

fn named_digest(text: &str) -> Result<(String, Digest), String> {
    let (name, digest) = text.rsplit_once('=').ok_or("write it as NAME=DIGEST")?;
    let digest = digest.parse().or_else(|_| Digest::from_hex(digest));
    Ok((name.to_owned(), digest.map_err(|error| error.to_string())?))
}

#[derive(Serialize)]
struct Fetched {
    folder: PathBuf,
    #[serde(flatten)]
    filled: Filled,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let expected = fetch::expected(args.expect.as_deref(), args.expect_sha256.into_iter().collect());
    if let Err(fetch::Error::NoList { diagnostics, .. }) = &expected {
        crate::build::built::Watch::diagnostics(context, diagnostics);
    }
    let others = if args.delete { Others::AreRemoved } else { Others::Stay };
    let wanted = Wanted { addresses: &args.addresses, folder: &args.to, expected: &expected?, others };
    let filled = folder::fill(&context.client(), &context.progress(), &wanted)?;
    context.printer.report(&Fetched { folder: args.to, filled })?;
    Ok(Exit::Success)
}

impl Report for Fetched {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for file in &self.filled.files {
            let what = if file.fetched { "fetched" } else { "kept" };
            writeln!(out, "{what} {} ({}, {})", file.path, Size(file.size), file.digest)?;
        }
        self.filled.removed.iter().try_for_each(|path| writeln!(out, "removed {path}"))
    }
}
