//! What is shown on the way from what a person names to an image.

use std::time::Duration;

use super::Context;
use super::printer::{NAME, Output, Size, dim_time};
use crate::base::LockedBase;
use crate::build::built::{Step, Watch};
use crate::formats::diagnostic::{Diagnostics, Rendering};
use crate::formats::document::shown;
use crate::project::lock::Lock;

/// Prints diagnostics; where results are JSON, they become part of the document with which the program ends.
pub fn show(context: &Context, diagnostics: &Diagnostics) {
    if context.printer.output() == Output::Json {
        return context.printer.keep(diagnostics);
    }
    let rendering = Rendering { colour: context.printer.colors(), width: width() };
    for diagnostic in diagnostics.sorted() {
        context.printer.line(rendering.render(diagnostic).trim_end());
    }
}

/// Columns that a result may have: those of the terminal on stdout; 80 where there is none.
pub fn result_width() -> usize {
    indicatif::TermLike::width(&console::Term::stdout()).into()
}

/// Columns of the terminal; 80 where there is none.
pub fn width() -> usize {
    indicatif::TermLike::width(&console::Term::stderr()).into()
}

impl Watch for Context {
    fn diagnostics(&self, found: &Diagnostics) {
        show(self, found);
    }

    fn done(&self, step: Step<'_>, took: Duration) {
        let (verb, text) = match step {
            Step::Validated(name) => ("Validated", format!("{NAME}{name}{NAME:#}")),
            Step::Read(name) => ("Read", format!("{NAME}{name}{NAME:#}")),
            Step::Locked(lock) => ("Locked", summary(lock)),
            Step::DockerfileLocked(path) => ("Locked", format!("{NAME}{}{NAME:#}", shown(path))),
            Step::Built(name, image) => {
                // Of what is not compressed yet nobody knows what it will have.
                let size = if image.is_draft() { String::new() } else { format!(", {}", Size(image.size())) };
                ("Built", format!("{NAME}{name}{NAME:#} {} layers{size}", image.layers().len()))
            }
        };
        self.printer.status(verb, format!("{text} {}", dim_time(took)));
    }
}

/// How many packages a lock names.
fn summary(lock: &Lock) -> String {
    let count = |number: usize, what: &str| format!("{number} {what} package{}", if number == 1 { "" } else { "s" });
    let Some(locked) = lock.platforms.values().next() else { return String::new() };
    let debian = match &locked.base {
        LockedBase::Debian { packages, .. } => packages.len() + locked.system.len(),
        LockedBase::Image { .. } => locked.system.len(),
        LockedBase::Scratch => 0,
    };
    let packages = format!("{}, {}", count(debian, "Debian"), count(locked.python.len(), "Python"));
    match lock.models.iter().map(|model| model.files.len()).sum::<usize>() {
        0 => packages,
        1 => format!("{packages}, 1 file of the model"),
        files => format!("{packages}, {files} files of the model"),
    }
}
