//! `ekiben explain`

use std::io::{self, Write};

use serde::Serialize;

use super::printer::{ERROR, Report, WARNING};
use super::{Context, Exit, Failure, completions};
use crate::formats::diagnostic::{Code, Severity};

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben explain\n\
\x20 ekiben explain EK0802\n\
\x20 ekiben explain ek0201";

/// Explain a diagnostic: why it is one, and what to do; or list all that there are
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Its code, as `EK0201`. Absent: all are listed.
    #[arg(value_name = "CODE", add = completions::codes())]
    code: Option<Code>,
}

#[derive(Serialize)]
struct Explained {
    code: Code,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
}

impl From<Code> for Explained {
    fn from(code: Code) -> Self {
        Self { code, severity: code.severity(), title: code.title(), explanation: code.explanation() }
    }
}

/// All of them.
#[derive(Serialize)]
#[serde(transparent)]
struct Listed(Vec<Explained>);

pub fn run(context: &Context, Args { code }: Args) -> Result<Exit, Failure> {
    match code {
        Some(code) => context.printer.report(&Explained::from(code))?,
        None => context.printer.report(&Listed(Code::ALL.iter().copied().map(Explained::from).collect()))?,
    }
    Ok(Exit::Success)
}

impl Report for Listed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for Explained { code, severity, title, .. } in &self.0 {
            match severity {
                Severity::Error => writeln!(out, "{ERROR}{code}{ERROR:#} {title}")?,
                Severity::Warning => writeln!(out, "{WARNING}{code}{WARNING:#} {title}")?,
            }
        }
        Ok(())
    }
}

impl Report for Explained {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { code, title, .. } = self;
        match self.severity {
            Severity::Error => writeln!(out, "{ERROR}error[{code}]{ERROR:#}: {title}\n")?,
            Severity::Warning => writeln!(out, "{WARNING}warning[{code}]{WARNING:#}: {title}\n")?,
        }
        for line in wrapped(self.explanation, 80) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// Lines of at most `width` characters, unless a word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
