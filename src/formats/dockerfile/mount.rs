//! `RUN --mount=…`: what lies in a step's file system only while it runs.
//!
//! Values of its keys may have variables, so that what it is can be said for sure once these are known: so it is read
//! twice, first with its variables as letters, where there are none.

use std::ops::Range;

use super::word::{Escape, ExpansionError, Variables, Word};
use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest;

/// A mount as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    text: String,
    span: Range<usize>,
    escape: Escape,
}

/// A mount, its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// Where it lies in the step, as written: relative to its working folder.
    pub target: Option<String>,
    /// What of `from` is mounted; for a secret the file that it comes from, as `id` says it too.
    pub source: Option<String>,
    /// A stage, its number, or an image; the context where nothing is said.
    pub from: Option<String>,
    /// Of a cache, secret or agent.
    pub id: Option<String>,
    /// Whether it is not written to.
    pub read_only: bool,
    /// Of a cache; shared where nothing is said.
    pub sharing: Option<Sharing>,
    /// Of a secret or agent: whether the step fails without it.
    pub required: bool,
    /// Of a secret: the variable that has it; an empty name is that of the secret.
    pub variable: Option<String>,
    /// Of a `tmpfs`, in bytes.
    pub size: Option<u64>,
    /// Of a cache, secret or agent.
    pub mode: Option<u32>,
    /// Of a cache, secret or agent.
    pub user: Option<u32>,
    /// Of a cache, secret or agent.
    pub group: Option<u32>,
}

/// What a mount is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A folder that is kept for other builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret, as a file or variable.
    Secret,
    /// The socket of an agent of SSH.
    Ssh,
}

/// Who has a cache at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All that want it.
    Shared,
    /// One; another one has another cache.
    Private,
    /// One; another one waits.
    Locked,
}

const KINDS: &[(&str, MountKind)] = &[
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: &[(&str, Sharing)] =
    &[("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Why a mount cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Quotes that are not in order.
    #[error("the quotes in `{0}` are not in order")]
    Quotes(String),
    /// No such key.
    #[error("a mount has no `{key}`")]
    Key {
        /// What was written.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A key without a value.
    #[error("`{0}` of a mount needs a value, as `{0}=…`")]
    NoValue(String),
    /// A value that cannot be one.
    #[error("`{value}` is no {key} of a mount: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What can be written.
        expected: &'static str,
    },
    /// A key that mounts of other kinds have.
    #[error("a {kind} mount has no `{key}`")]
    NotOfKind {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A secret without any name.
    #[error("a secret mount needs an `id`, a `source` or a `target`")]
    NamelessSecret,
    /// Two keys that say the same.
    #[error("a secret mount has an `id` or a `source`, not both")]
    TwoSources,
    /// Variables where none are replaced.
    #[error("variables are not replaced in `from` of a mount")]
    VariableInFrom,
    /// A variable that cannot be replaced.
    #[error(transparent)]
    Expansion(#[from] ExpansionError),
}

impl MountError {
    /// What may help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key { meant: Some(meant), .. } => Some(suggest::did_you_mean(meant)),
            Self::VariableInFrom => Some("give the image a name with `FROM … AS NAME`, and name that".to_owned()),
            _ => None,
        }
    }
}

impl Explain for MountError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Expansion(error) => error.explain(),
            Self::Quotes(_)
            | Self::Key { .. }
            | Self::NoValue(_)
            | Self::Value { .. }
            | Self::NotOfKind { .. }
            | Self::NamelessSecret
            | Self::TwoSources
            | Self::VariableInFrom => ErrorKind::Invalid.named("dockerfile/no-mount").maybe(self.hint()),
        }
    }
}

impl MountFlag {
    pub(super) fn new(text: String, span: Range<usize>, escape: Escape) -> Self {
        Self { text, span, escape }
    }

    /// As it was written, without quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it stands, in bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What it is with these variables.
    ///
    /// # Errors
    /// When it is none: keys or values that have no meaning, or do not go together.
    pub fn expand(&self, variables: &Variables<'_>) -> Result<Mount, MountError> {
        self.read(|value| Ok(Word::new(value, self.span(), self.escape).expand(variables)?))
    }

    /// The stage, number or image that it is of: in that, no variables are replaced.
    pub fn from(&self) -> Option<String> {
        let fields = fields(&self.text).ok()?;
        let mut pairs = fields.iter().filter_map(|field| field.split_once('='));
        pairs.rfind(|(key, _)| key.eq_ignore_ascii_case("from")).map(|(_, from)| from.to_owned())
    }

    /// The variables in it that have no value, and nothing that stands in for one.
    pub fn missing(&self, variables: &Variables<'_>) -> Vec<String> {
        Word::new(&*self.text, self.span(), self.escape).missing(variables)
    }

    /// What can be told before variables are known: all where there are none.
    pub(super) fn check(&self) -> Result<(), MountError> {
        if !self.text.contains(['$', '\'', self.escape.character()]) {
            return self.read(|value| Ok(value.to_owned())).map(drop);
        }
        for field in fields(&self.text)? {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            let key = key.to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) && key != "z" && key != "relabel" {
                return Err(unknown(&key));
            }
            if key == "from" && value.strip_suffix('$').unwrap_or(value).contains('$') {
                return Err(MountError::VariableInFrom);
            }
        }
        Ok(())
    }

    fn read(&self, expand: impl Fn(&str) -> Result<String, MountError>) -> Result<Mount, MountError> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in fields(&self.text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
                None => (field.to_ascii_lowercase(), None),
            };
            // What SELinux is to do, in Buildah's and Podman's dialect: no label of it is in an image.
            if matches!((key.as_str(), value), ("z", None) | ("relabel", Some("shared" | "private"))) {
                continue;
            }
            let value = match value {
                _ if !KEYS.contains(&key.as_str()) => return Err(unknown(&key)),
                Some(value) => expand(value)?,
                None if matches!(key.as_str(), "readonly" | "ro" | "readwrite" | "rw" | "required") => {
                    "true".to_owned()
                }
                None => return Err(MountError::NoValue(key)),
            };
            match key.as_str() {
                "type" => mount.kind = choice("type", value, KINDS, "it is bind, cache, tmpfs, secret or ssh")?,
                "from" => mount.from = Some(value),
                "source" | "src" => mount.source = Some(value),
                "target" | "dst" | "destination" => mount.target = Some(value),
                "readonly" | "ro" => read_only = Some(truth("readonly", value)?),
                "readwrite" | "rw" => read_only = Some(!truth("readwrite", value)?),
                "required" if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => {
                    mount.required = truth("required", value)?;
                }
                "size" if mount.kind == MountKind::Tmpfs => mount.size = Some(size(value)?),
                "required" | "size" => return Err(not_of(mount.kind, key)),
                "id" => mount.id = Some(value),
                "sharing" => {
                    mount.sharing = Some(choice("sharing", value, SHARINGS, "it is shared, private or locked")?);
                }
                "mode" => mount.mode = Some(number("mode", value, 8)?),
                "uid" => mount.user = Some(number("uid", value, 10)?),
                "gid" => mount.group = Some(number("gid", value, 10)?),
                _ => mount.variable = Some(value),
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.whole()
    }
}

impl Mount {
    /// Itself, where its parts go together.
    fn whole(self) -> Result<Self, MountError> {
        let is_secret = self.kind == MountKind::Secret;
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.user), ("gid", self.group)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(not_of(self.kind, key.to_owned()));
            }
        }
        if is_secret && self.from.is_some() {
            return Err(not_of(self.kind, "from".to_owned()));
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(not_of(self.kind, "sharing".to_owned()));
        }
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if is_secret && !given(&self.source) && !given(&self.target) && !given(&self.id) {
            return Err(MountError::NamelessSecret);
        }
        if is_secret && given(&self.source) && given(&self.id) {
            return Err(MountError::TwoSources);
        }
        Ok(self)
    }
}

fn unknown(key: &str) -> MountError {
    let meant = suggest::closest(key, KEYS.iter().copied()).map(str::to_owned);
    MountError::Key { key: key.chars().take(80).collect(), meant }
}

fn not_of(kind: MountKind, key: String) -> MountError {
    let kind = KINDS.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| *name);
    MountError::NotOfKind { kind, key }
}

fn choice<T: Copy>(
    key: &'static str,
    value: String,
    known: &[(&str, T)],
    expected: &'static str,
) -> Result<T, MountError> {
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value));
    found.map(|(_, choice)| *choice).ok_or(MountError::Value { key, value, expected })
}

/// As Go's `strconv.ParseBool` reads them.
fn truth(key: &'static str, value: String) -> Result<bool, MountError> {
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::Value { key, value, expected: "it is true or false" }),
    }
}

fn number(key: &'static str, value: String, base: u32) -> Result<u32, MountError> {
    let digits = value.chars().all(|digit| digit.is_digit(base));
    let expected = if base == 8 { "it is an octal number, as 0755" } else { "it is a number" };
    u32::from_str_radix(&value, base).ok().filter(|_| digits).ok_or(MountError::Value { key, value, expected })
}

/// Bytes, as `64m`, `1.5GiB` or `4096`.
fn size(value: String) -> Result<u64, MountError> {
    let read = || {
        let (number, unit) = value.split_at(value.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))? + 1);
        let unit = unit.to_ascii_lowercase();
        let factor = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
            "" if !unit.ends_with("ib") => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return None,
        };
        let number: f64 = number.trim_end().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
        let bytes = number * (1_u64 << factor) as f64;
        (bytes < i64::MAX as f64).then_some(bytes as u64)
    };
    read().ok_or_else(|| MountError::Value { key: "size", value: value.clone(), expected: "it is bytes, as 64m" })
}

/// The fields of a line of comma-separated values (RFC 4180).
fn fields(line: &str) -> Result<Vec<String>, MountError> {
    let wrong = || MountError::Quotes(line.chars().take(80).collect());
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(field, after)| (field, Some(after)));
            if field.contains('"') {
                return Err(wrong());
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (text, after) = quoted.split_once('"').ok_or_else(wrong)?;
            field.push_str(text);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    quoted = after;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(after) => rest = after,
            None if quoted.is_empty() => return Ok(fields),
            None => return Err(wrong()),
        }
    }
}
