//! Where models live in MLflow (<https://mlflow.org/docs/latest/ml/model-registry/>, <https://mlflow.org/docs/latest/ml/tracking/artifact-stores/>).

use std::fmt;

/// What an address names of what an MLflow server knows. Each may go on with a path below that, which is empty where all is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mlflow {
    /// A version of a registered model: `models:/NAME/3`, `models:/NAME@ALIAS`.
    Registered {
        /// What it is registered as.
        name: String,
        /// Which of its versions.
        which: Which,
        /// Below it.
        path: String,
    },
    /// A model that a run logged, by its own name: `models:/m-ID` (MLflow 3).
    Logged {
        /// With its `m-`.
        id: String,
        /// Below it.
        path: String,
    },
    /// Artifacts of a run: `runs:/RUN/PATH`.
    Run {
        /// The run's name: 32 hexadecimal digits.
        run: String,
        /// Below the run's artifacts.
        path: String,
    },
    /// Artifacts that the server hands on: `mlflow-artifacts:/PATH`.
    Artifacts {
        /// Below the server's artifacts.
        path: String,
    },
}

/// Which version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Number(u64),
    /// The one that has the alias now.
    Alias(String),
    /// The newest in a stage, as registries before 2.9 have them: `Production`.
    Stage(String),
    /// The newest.
    Latest,
}

/// The word for the newest version.
const LATEST: &str = "latest";

impl Mlflow {
    /// Reads what stands behind the colon of an address with one of its schemes. None where it is of no such shape.
    pub fn read(scheme: &str, rest: &str) -> Option<Self> {
        let rest = rest.strip_prefix('/')?;
        if rest.starts_with('/') || rest.chars().any(char::is_control) {
            return None;
        }
        let is_path = |path: &str| {
            let inner = path.strip_suffix('/').unwrap_or(path);
            path.is_empty() || inner.split('/').all(|part| !matches!(part, "" | "." | ".."))
        };
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let read = match scheme {
            "mlflow-artifacts" => Self::Artifacts { path: rest.to_owned() },
            "runs" if is_name(first) => Self::Run { run: first.to_owned(), path: path.to_owned() },
            "models" if is_id(first) => Self::Logged { id: first.to_owned(), path: path.to_owned() },
            "models" => match first.split_once('@') {
                Some((name, alias)) => {
                    let which = Which::Alias(Some(alias).filter(|alias| is_name(alias))?.to_owned());
                    Self::Registered { name: name.to_owned(), which, path: path.to_owned() }
                }
                None => {
                    let (which, path) = path.split_once('/').unwrap_or((path, ""));
                    let which = match which.parse() {
                        Ok(number) => Which::Number(number),
                        Err(_) if which.eq_ignore_ascii_case(LATEST) => Which::Latest,
                        Err(_) => Which::Stage(Some(which).filter(|stage| is_name(stage))?.to_owned()),
                    };
                    Self::Registered { name: first.to_owned(), which, path: path.to_owned() }
                }
            },
            _ => return None,
        };
        let named = !matches!(&read, Self::Registered { name, .. } if name.is_empty() || name.contains(':'));
        let whole = !matches!(&read, Self::Artifacts { path } if path.is_empty());
        (named && whole && is_path(read.path())).then_some(read)
    }

    /// What is meant below it.
    pub fn path(&self) -> &str {
        match self {
            Self::Registered { path, .. }
            | Self::Logged { path, .. }
            | Self::Run { path, .. }
            | Self::Artifacts { path } => path,
        }
    }

    /// Whether all of a folder is meant: that has no dot in its name, or `/` at the end. The one file without a dot that every
    /// model has is its description.
    pub(super) fn is_folder(&self) -> bool {
        let path = self.path();
        let name = path.rsplit('/').next().unwrap_or_default();
        path.ends_with('/') || !(name.contains('.') || name == "MLmodel")
    }

    /// What it is called where its path says nothing.
    pub(super) fn own_name(&self) -> &str {
        match self {
            Self::Registered { name, .. } => name,
            Self::Logged { id, .. } => id,
            Self::Run { run, .. } => run,
            Self::Artifacts { .. } => "artifacts",
        }
    }
}

/// The name of a model that a run logged.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("m-").unwrap_or_default();
    digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl fmt::Display for Mlflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, which: Which::Alias(alias), .. } => write!(f, "models:/{name}@{alias}")?,
            Self::Registered { name, which: Which::Number(number), .. } => write!(f, "models:/{name}/{number}")?,
            Self::Registered { name, which: Which::Stage(stage), .. } => write!(f, "models:/{name}/{stage}")?,
            Self::Registered { name, which: Which::Latest, .. } => write!(f, "models:/{name}/{LATEST}")?,
            Self::Logged { id, .. } => write!(f, "models:/{id}")?,
            Self::Run { run, .. } => write!(f, "runs:/{run}")?,
            Self::Artifacts { path } => return write!(f, "mlflow-artifacts:/{path}"),
        }
        match self.path() {
            "" => Ok(()),
            path => write!(f, "/{path}"),
        }
    }
}
