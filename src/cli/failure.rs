//! How a command ends: named exit codes, and the one look of an error.

use std::error::Error;
use std::process::ExitCode;

use nix::libc;
use serde_json::json;

use super::printer::{CLOSED, DIM, ERROR, HINT, Output, Printer};
use crate::formats::diagnostic::{self, Diagnostics};
use crate::io::explain::{ErrorKind, Explain, Explanation, words};
use crate::io::http::Broken;
use crate::run::container::end_by;

/// How the program ends. The numbers are part of the interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// Something is not.
    Error(ErrorKind),
    /// As the container in the foreground ended.
    Container(i32),
    /// As one that this signal ends.
    Signal(i32),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Error(kind) => match kind {
                ErrorKind::Failure => 1,
                // clap uses the same number.
                ErrorKind::Usage => 2,
                ErrorKind::Invalid => 3,
                ErrorKind::Mismatch => 4,
                ErrorKind::Unavailable => 5,
                ErrorKind::Sandbox => 6,
                ErrorKind::Stale => 7,
                ErrorKind::Refused => 8,
            },
            Self::Container(code) => u8::try_from(code).unwrap_or(u8::MAX),
            // What a shell says of it.
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// Ends the program so, where that is by a signal, or says how `main` has to end.
    pub fn leave(self) -> ExitCode {
        if let Self::Signal(signal) = self {
            end_by(signal);
        }
        ExitCode::from(self.code())
    }
}

/// An error on its way to the person.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    explanation: Explanation,
    /// How the program ends, where the error's kind does not say it.
    exit: Option<Exit>,
    /// What is wrong with what was named, for programs: people were told.
    diagnostics: Diagnostics,
}

impl Failure {
    /// A failure that is none of the library's.
    pub fn new(explanation: Explanation, text: impl Into<String>) -> Self {
        Self { error: text.into().into(), explanation, exit: None, diagnostics: Diagnostics::new() }
    }

    /// A signal has ended what was going on, and nothing is left of it.
    pub fn interrupted(signal: i32) -> Self {
        let text = match signal {
            libc::SIGINT => "interrupted",
            libc::SIGHUP => "interrupted, as the terminal is gone",
            _ => "interrupted by SIGTERM",
        };
        Self::new(ErrorKind::Failure.named("run/interrupted"), text).ending(Some(Exit::Signal(signal)))
    }

    /// The same with the next thing to try, unless there is one already.
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.explanation.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The same with the next thing to try, where something better is known than the error knows itself.
    pub fn with_remedy(mut self, remedy: Option<String>) -> Self {
        self.explanation.hint = remedy.or(self.explanation.hint);
        self
    }

    /// The same ending the program so, where something is said.
    pub fn ending(self, exit: Option<Exit>) -> Self {
        Self { exit, ..self }
    }

    /// The same with what is wrong with what was named: JSON has it, people were told before.
    pub fn with_diagnostics(self, diagnostics: Diagnostics) -> Self {
        Self { diagnostics, ..self }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.explanation.kind
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let found = self.diagnostics.sorted().into_iter().map(|one| one.message.clone());
        words(&*self.error).chain(found).collect::<Vec<_>>().join(": ")
    }

    /// Shows it, and says how the program ends.
    pub fn present(self, printer: &Printer) -> Exit {
        let Explanation { kind, name, hint } = self.explanation;
        let exit = self.exit.unwrap_or(Exit::Error(kind));
        if name == CLOSED {
            return Exit::Signal(libc::SIGPIPE);
        }
        let rest = broken(&*self.error).filter(|_| printer.is_verbose()).map(Broken::rest).unwrap_or_default();
        let mut words = words(&*self.error);
        let message = words.next().unwrap_or_default();
        let causes: Vec<_> = words.collect();
        if printer.output() == Output::Json {
            let mut error =
                json!({ "name": name, "message": message, "causes": causes, "hint": hint, "exit_code": exit.code() });
            let mut found = printer.kept();
            found.extend(self.diagnostics.sorted().into_iter().cloned());
            let diagnostics: Vec<_> = found.sorted().into_iter().map(diagnostic::Json::from).collect();
            if let Some(error) = error.as_object_mut().filter(|_| !diagnostics.is_empty()) {
                error.insert("diagnostics".to_owned(), json!(diagnostics));
            }
            printer.line(&json!({ "error": error }).to_string());
            return exit;
        }
        printer.line(&format!("{ERROR}error{ERROR:#}: {message}"));
        for cause in causes {
            printer.line(&format!("{ERROR}cause{ERROR:#}: {cause}"));
        }
        for said in rest {
            printer.line(&format!("{DIM}       {said}{DIM:#}"));
        }
        if let Some(hint) = hint {
            printer.line(&format!(" {HINT}hint{HINT:#}: {hint}"));
        }
        exit
    }
}

/// Why the network gave no answer, if that is what an error is about.
fn broken<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Broken> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// The only way in: an error that cannot explain itself does not compile here.
impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { explanation: error.explain(), error: Box::new(error), exit: None, diagnostics: Diagnostics::new() }
    }
}
