//! `ekiben df`

use std::io::{self, Write};

use serde::Serialize;

use super::printer::{Report, Size, Table};
use super::{Context, Exit, Failure};
use crate::image::store::{Kind, Store, Usage};
use crate::run;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben df\n\
\x20 ekiben df --output json        bytes, exactly";

/// Show what the store holds, and what `ekiben prune` would free
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

#[derive(Serialize)]
struct Holdings {
    store: String,
    kinds: Vec<Usage>,
}

pub fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let (root, kinds) = match context.session_if_any()? {
        Some(session) => (session.store.root().to_owned(), run::usage(&session)?),
        None => (Store::default_root()?, Vec::new()),
    };
    context.printer.report(&Holdings { store: root.display().to_string(), kinds })?;
    Ok(Exit::Success)
}

impl Report for Holdings {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |name: &str, items: u64, sizes: [u64; 3]| {
            let [bytes, unused, caches] = sizes.map(|size| Size(size).to_string());
            [name.to_owned(), items.to_string(), bytes, unused, caches]
        };
        let mut rows = Vec::new();
        for Usage { kind, items, bytes, unused, caches } in self.kinds.iter().copied() {
            let name = match kind {
                Kind::Blobs => "images and downloads",
                Kind::Unpacked => "unpacked layers",
                Kind::Results => "results of earlier work",
                Kind::Containers => "containers",
            };
            rows.push(row(name, items, [bytes, unused, caches]));
        }
        let sum = |of: &dyn Fn(&Usage) -> u64| self.kinds.iter().map(of).sum();
        let sizes = [sum(&|usage| usage.bytes), sum(&|usage| usage.unused), sum(&|usage| usage.caches)];
        rows.push(row("all", sum(&|usage| usage.items), sizes));
        Table { headings: ["KIND", "ITEMS", "SIZE", "PRUNE FREES", "PRUNE --ALL FREES"], rows }.write(out)
    }
}
