//! How a command ends: named exit codes, and the one look of an error.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use serde_json::json;

use super::printer::{ERROR, HINT, Output, Printer};
use crate::base::{debian, python};

/// How the program ends. The numbers are part of the interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// Something failed that has no number of its own.
    Failure,
    /// The command line is wrong (clap uses the same number).
    Usage,
    /// A document has mistakes.
    Invalid,
    /// A model's answer was not the one expected, or metadata does not fit other metadata.
    Mismatch,
    /// The network, a mirror or a registry failed.
    Unavailable,
    /// No container can be started here.
    Sandbox,
    /// The lock does not fit the manifest, or names what is gone.
    Stale,
    /// As the container in the foreground ended.
    Container(i32),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Mismatch => 4,
            Self::Unavailable => 5,
            Self::Sandbox => 6,
            Self::Stale => 7,
            Self::Container(code) => u8::try_from(code).unwrap_or(u8::MAX),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error on its way to the person.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure that is none of the library's, with its own exit code.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(text.into()), hint: None }
    }

    /// The same with the next thing to try.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the next thing to try, unless there is one already.
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Shows it, and says how the program ends.
    pub fn present(self, printer: &Printer) -> Exit {
        // Whoever closed the pipe has seen enough: `ekiben images | head -1`.
        let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if self.error.chain().any(|cause| cause.downcast_ref().is_some_and(closed)) {
            return self.exit;
        }
        let mut causes: Vec<String> = Vec::new();
        for cause in self.error.chain() {
            let text = cause.to_string();
            // An error that only hands on another says the same as that one.
            if causes.last().is_none_or(|last| !last.ends_with(&text)) {
                causes.push(text);
            }
        }
        if printer.output() == Output::Json {
            let (message, causes) = causes.split_first().map(|(m, c)| (m.clone(), c)).unwrap_or_default();
            let document = json!({ "error": { "message": message, "causes": causes, "hint": self.hint, "exit_code": self.exit.code() } });
            printer.line(&document.to_string());
            return self.exit;
        }
        let mut lines = causes.iter();
        if let Some(first) = lines.next() {
            printer.line(&format!("{ERROR}error{ERROR:#}: {first}"));
        }
        for cause in lines {
            printer.line(&format!("{ERROR}cause{ERROR:#}: {cause}"));
        }
        if let Some(hint) = &self.hint {
            printer.line(&format!(" {HINT}hint{HINT:#}: {hint}"));
        }
        self.exit
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let (exit, hint) = judge(&error);
        Self { exit, error, hint }
    }
}

/// An error, and the one that it carries where it is one of reading or writing: the chain of causes passes that over.
fn with_inner<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Some(error.downcast_ref::<io::Error>()?.get_ref()? as _))
}

/// Asks every error of the chain that the library knows; the outermost that has an answer wins.
fn judge(error: &anyhow::Error) -> (Exit, Option<String>) {
    let mut exit = Exit::Failure;
    let mut hint = None;
    for cause in error.chain().flat_map(with_inner) {
        macro_rules! ask {
            ($($kind:ty => $exit:expr),* $(,)?) => {
                $(if let Some(known) = cause.downcast_ref::<$kind>() {
                    hint = hint.or_else(|| known.hint());
                    let judge: fn(&$kind) -> Exit = $exit;
                    if exit == Exit::Failure {
                        exit = judge(known);
                    }
                })*
            };
        }
        ask! {
            crate::base::Error => of_base,
            crate::bundle::Error => |_| Exit::Failure,
            crate::check::project_metadata::Error => |_| Exit::Failure,
            crate::run::container::Error => |_| Exit::Failure,
            crate::run::container::Failure => |failure| match failure {
                crate::run::container::Failure::NoSandbox { .. } => Exit::Sandbox,
                _ => Exit::Failure,
            },
            crate::io::confine::Error => |error| match error {
                crate::io::confine::Error::NoMeans { .. } => Exit::Sandbox,
                _ => Exit::Failure,
            },
            crate::io::content::Error => |_| Exit::Failure,
            debian::Error => |error| match error {
                debian::Error::Gone { .. } => Exit::Stale,
                debian::Error::Signature { .. }
                | debian::Error::Release { .. }
                | debian::Error::Expired { .. }
                | debian::Error::Tampered { .. }
                | debian::Error::Index { .. } => Exit::Unavailable,
                _ => Exit::Failure,
            },
            crate::image::download::Error => |_| Exit::Unavailable,
            crate::bundle::generate::Error => |_| Exit::Failure,
            crate::image::Error => of_image,
            crate::bundle::import::bento::Error => |error| match error {
                crate::bundle::import::bento::Error::Malformed { .. } | crate::bundle::import::bento::Error::NoDescription { .. } => {
                    Exit::Invalid
                }
                _ => Exit::Failure,
            },
            crate::bundle::extract::Error => |_| Exit::Failure,
            crate::build::Error => |error| match error {
                crate::build::Error::Base(error) => of_base(error),
                _ => Exit::Failure,
            },
            crate::project::init::Error => |_| Exit::Failure,
            crate::run::Error => |error| match error {
                crate::run::Error::Registry(error) => of_registry(error),
                _ => Exit::Failure,
            },
            crate::image::layer::Error => |_| Exit::Failure,
            crate::build::input::Error => |error| match error {
                crate::build::input::Error::Malformed { .. } => Exit::Invalid,
                _ => Exit::Failure,
            },
            python::Error => |error| match error {
                python::Error::UvOffline | python::Error::FetchUv { .. } => Exit::Unavailable,
                _ => Exit::Failure,
            },
            python::Refusal => |refusal| match refusal {
                python::Refusal::OtherBytes { .. } => Exit::Stale,
                python::Refusal::Offline { .. }
                | python::Refusal::Unreachable { .. }
                | python::Refusal::Unauthorized { .. } => Exit::Unavailable,
                _ => Exit::Failure,
            },
            crate::image::registry::Error => of_registry,
            crate::build::resolve::Error => |error| match error {
                crate::build::resolve::Error::Stale | crate::build::resolve::Error::Missing => Exit::Stale,
                crate::build::resolve::Error::Malformed(_) => Exit::Invalid,
                crate::build::resolve::Error::Base(error) => of_base(error),
                _ => Exit::Failure,
            },
            crate::run::service::CredentialError => |_| Exit::Usage,
            crate::run::service::Error => |error| match error {
                crate::run::service::Error::Transport { .. } | crate::run::service::Error::Offline { .. } => Exit::Unavailable,
                crate::run::service::Error::Address { .. } => Exit::Usage,
                _ => Exit::Failure,
            },
            crate::image::store::Error => |_| Exit::Failure,
            crate::build::toolchain::Error => |_| Exit::Failure,
        }
    }
    (exit, hint)
}

// Transparent errors hide those that they hold from the chain.

fn of_registry(error: &crate::image::registry::Error) -> Exit {
    use crate::image::registry::Error;
    match error {
        Error::Store(_) | Error::Layer(_) | Error::Io(_) | Error::File { .. } | Error::NoImage { .. } => Exit::Failure,
        _ => Exit::Unavailable,
    }
}

fn of_image(error: &crate::image::Error) -> Exit {
    match error {
        crate::image::Error::Registry(error) => of_registry(error),
        _ => Exit::Failure,
    }
}

fn of_base(error: &crate::base::Error) -> Exit {
    match error {
        crate::base::Error::Image(error) => of_image(error),
        crate::base::Error::Registry(error) => of_registry(error),
        crate::base::Error::Unreadable { .. } | crate::base::Error::NotThere { .. } => Exit::Invalid,
        _ => Exit::Failure,
    }
}
