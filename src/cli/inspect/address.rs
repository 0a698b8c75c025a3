//! What is shown of a model at an address.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value as Json;

use crate::build::afar::{Afar, File, Saved};
use crate::cli::printer::{DIM, HINT, NAME, Report, Size, plain};
use crate::formats::diagnostic;

/// A model at an address, with what is wrong with it for programs: people were told.
#[derive(Serialize)]
pub struct AddressReport {
    #[serde(flatten)]
    pub afar: Afar,
    pub diagnostics: Vec<Json>,
}

impl AddressReport {
    pub fn new(afar: Afar) -> Self {
        let found = afar.diagnostics.sorted().into_iter().map(diagnostic::Json::from);
        let diagnostics = found.filter_map(|one| serde_json::to_value(one).ok()).collect();
        Self { afar, diagnostics }
    }
}

impl Report for AddressReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Afar { address, pinned, size, files, mlflow, licences, .. } = &self.afar;
        let count = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
        write!(out, "{NAME}{}{NAME:#} {count}, {}", plain(address), Size(*size))?;
        match pinned == address {
            true => writeln!(out)?,
            false => writeln!(out, ", now {}", plain(pinned))?,
        }
        let width = files.iter().map(|file| plain(&file.name).chars().count()).max().unwrap_or_default();
        for file in files {
            line(out, file, width)?;
        }
        if let Some(saved) = mlflow {
            described(out, saved)?;
        }
        if !licences.is_empty() {
            writeln!(out, "licence: {}", plain(&licences.join(", ")))?;
        }
        if files.iter().any(|file| file.is_left_out) {
            writeln!(
                out,
                "{HINT}note{HINT:#}: large files are looked into when they are fetched: `ekiben lock`, `ekiben build`"
            )?;
        }
        Ok(())
    }
}

fn line(out: &mut dyn Write, file: &File, width: usize) -> io::Result<()> {
    let size = file.size.map_or_else(|| "?".to_owned(), |size| Size(size).to_string());
    let name = plain(&file.name).to_string();
    write!(out, "  {name:width$} {size:>8}")?;
    let words = [file.format.as_deref(), file.class.as_deref(), file.is_left_out.then_some("not looked into")];
    let words: Vec<String> = words.into_iter().flatten().map(|word| plain(word).to_string()).collect();
    if !words.is_empty() {
        write!(out, " {DIM}{}{DIM:#}", words.join(", "))?;
    }
    writeln!(out)
}

fn described(out: &mut dyn Write, saved: &Saved) -> io::Result<()> {
    let version = saved.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    writeln!(out, "saved by MLflow{}: {}", plain(&version), plain(&saved.flavors.join(", ")))?;
    for (what, columns) in [("takes", &saved.inputs), ("answers", &saved.outputs)] {
        let Some(columns) = columns.as_ref().and_then(Json::as_array) else { continue };
        let words: Vec<String> = columns.iter().map(column).collect();
        writeln!(out, "  {what} {}", plain(&words.join(", ")))?;
    }
    Ok(())
}

/// A column of a signature in words.
fn column(column: &Json) -> String {
    let text = |pointer: &str| column.pointer(pointer).and_then(Json::as_str);
    let shape = column.pointer("/tensor-spec/shape").map(|shape| format!("{} ", shape.to_string().replace("-1", "n")));
    let kind = text("/tensor-spec/dtype").or_else(|| text("/type")).unwrap_or("?");
    let kind = format!("{}{kind}", shape.unwrap_or_default());
    text("/name").map_or_else(|| kind.clone(), |name| format!("{name} ({kind})"))
}
