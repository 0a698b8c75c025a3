//! Where files of a model live that are not in the project, as a person writes it.

mod mlflow;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

pub use mlflow::{Mlflow, Which};

use crate::image::registry::Reference;
use crate::io::explain::{ErrorKind, Explain, Explanation};

/// The revision of a repository on the hub that is meant where none is named.
const MAIN: &str = "main";

/// Where a file of a model lives, or a folder of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On this machine: a file or a folder, absolute or relative to the project's folder.
    Path(PathBuf),
    /// A file, by HTTP.
    Http(Url),
    /// In an object store that speaks S3's protocol: an object, or all whose key begins with a prefix that ends in `/`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key, or the prefix of several; empty for all of the bucket.
        key: String,
    },
    /// In a repository of models on a hub that speaks Hugging Face's HTTP interface.
    Hub {
        /// `OWNER/NAME`.
        repository: String,
        /// A branch, a tag, or a commit.
        revision: String,
        /// A file, or a folder where it ends in `/`; empty for all of the repository.
        path: String,
    },
    /// In MLflow, at the server of `MLFLOW_TRACKING_URI`.
    Mlflow(Mlflow),
    /// In a registry of images: an artifact of files, or an image with a model.
    Oci {
        /// Which one.
        reference: Reference,
        /// A file, or a folder where it ends in `/`; empty for all.
        path: String,
    },
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// It is empty.
    #[error("an address is not empty")]
    Empty,
    /// It is of a kind that nothing is fetched from.
    #[error("`{scheme}:` is no place that models are fetched from")]
    Scheme {
        /// What stands before the colon.
        scheme: String,
    },
    /// It is no URL.
    #[error("`{text}` cannot be read: {why}")]
    Malformed {
        /// As it was written.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// A secret is in it, which would get into the manifest and the lock.
    #[error("{what} in the address is a secret")]
    Secret {
        /// What it is.
        what: &'static str,
    },
}

impl Explain for NotAnAddress {
    fn explain(&self) -> Explanation {
        let named = |name| ErrorKind::Failure.named(name);
        match self {
            Self::Empty | Self::Malformed { .. } => named("address/malformed"),
            Self::Scheme { .. } => named("address/scheme").hint(KINDS),
            Self::Secret { .. } => named("address/secret").hint("put it into ~/.netrc, or into the environment"),
        }
    }
}

const KINDS: &str = "write a path, https://…, s3://BUCKET/KEY, hf://OWNER/NAME@REVISION/FILE, models:/NAME/VERSION, \
                     models:/NAME@ALIAS, runs:/RUN/PATH, mlflow-artifacts:/PATH or oci://HOST/NAME:TAG";

impl Address {
    /// Whether it stands for all files of a folder, rather than for one.
    pub fn is_folder(&self) -> bool {
        match self {
            Self::Path(path) => path.is_dir(),
            Self::Http(_) => false,
            Self::S3 { key: path, .. } | Self::Hub { path, .. } => path.is_empty() || path.ends_with('/'),
            Self::Mlflow(at) => at.is_folder(),
            Self::Oci { path, .. } => path.is_empty() || path.ends_with('/'),
        }
    }

    /// Its own name: that of the file or folder.
    pub fn name(&self) -> String {
        let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let name = match self {
            Self::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Http(url) => {
                let segment = last(url.path());
                percent_encoding::percent_decode_str(&segment).decode_utf8_lossy().into_owned()
            }
            Self::S3 { key, .. } => last(key),
            Self::Hub { path, .. } | Self::Oci { path, .. } => last(path),
            Self::Mlflow(at) => last(at.path()),
        };
        match self {
            Self::S3 { bucket, .. } if name.is_empty() => bucket.clone(),
            Self::Hub { repository, .. } if name.is_empty() => last(repository),
            Self::Mlflow(at) if name.is_empty() => at.own_name().to_owned(),
            Self::Oci { reference, .. } if name.is_empty() => last(reference.repository()),
            _ => name,
        }
    }

    /// Whether it is to be fetched from somewhere else than this machine.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Path(_))
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        // What stands before an `@` may be a password.
        let shown = text.rsplit_once('@').filter(|_| text.starts_with("http")).map_or(text, |(_, rest)| rest);
        let malformed = |why: &str| NotAnAddress::Malformed { text: shown.to_owned(), why: why.to_owned() };
        if text.is_empty() {
            return Err(NotAnAddress::Empty);
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return Ok(Self::Path(PathBuf::from(text)));
        };
        let behind = rest;
        let rest = rest.strip_prefix("//");
        match (scheme, rest) {
            ("models" | "runs" | "mlflow-artifacts", _) => match Mlflow::read(scheme, behind) {
                Some(at) => Ok(Self::Mlflow(at)),
                None => Err(malformed(match scheme {
                    "models" => "it is written as models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-ID",
                    "runs" => "it is written as runs:/RUN/PATH",
                    _ => "it is written as mlflow-artifacts:/PATH",
                })),
            },
            ("http" | "https", Some(_)) => {
                let url = Url::parse(text).map_err(|error| malformed(&error.to_string()))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(NotAnAddress::Secret { what: "the password" });
                }
                let signed = |(name, _): (std::borrow::Cow<'_, str>, _)| {
                    matches!(&*name.to_ascii_lowercase(), "x-amz-signature" | "x-goog-signature" | "sig" | "signature")
                };
                if url.query_pairs().any(signed) {
                    return Err(NotAnAddress::Secret { what: "the signature" });
                }
                if url.path().ends_with('/') {
                    return Err(malformed("it names no file: folders are not listed by HTTP"));
                }
                Ok(Self::Http(url))
            }
            ("oci", Some(rest)) => {
                let shape = "it is written as oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:DIGEST, with /PATH behind it for a part";
                // No tag and no digest has a slash in it.
                let host = rest.find('/').ok_or_else(|| malformed(shape))?;
                let named = rest.get(host..).and_then(|name| name.find([':', '@'])).ok_or_else(|| malformed(shape))?;
                let end =
                    rest.get(host + named..).and_then(|tag| tag.find('/')).map_or(rest.len(), |end| host + named + end);
                let (reference, path) = rest.split_at(end);
                let path = path.strip_prefix('/').unwrap_or(path);
                let is_path = path.strip_suffix('/').unwrap_or(path).split('/').all(|part| !matches!(part, "." | ".."));
                match reference.parse() {
                    Ok(reference) if is_path => Ok(Self::Oci { reference, path: path.to_owned() }),
                    _ => Err(malformed(shape)),
                }
            }
            ("s3", Some(rest)) => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if bucket.is_empty() || !bucket.chars().all(is_name) {
                    return Err(malformed("it is written as s3://BUCKET/KEY"));
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            ("hf", Some(rest)) => {
                let mut parts = rest.splitn(3, '/');
                let owner = parts.next().unwrap_or_default();
                let named = parts.next().unwrap_or_default();
                let path = parts.next().unwrap_or_default();
                let (name, revision) = named.split_once('@').unwrap_or((named, MAIN));
                let is_name = |text: &str| {
                    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                    !text.is_empty() && text.chars().all(of_name) && !text.starts_with('.')
                };
                let is_path = path.split('/').all(|part| !matches!(part, "." | ".."));
                if !is_name(owner) || !is_name(name) || revision.is_empty() || !is_path {
                    return Err(malformed("it is written as hf://OWNER/NAME@REVISION/FILE"));
                }
                let repository = format!("{owner}/{name}");
                Ok(Self::Hub { repository, revision: revision.to_owned(), path: path.to_owned() })
            }
            _ => Err(NotAnAddress::Scheme { scheme: scheme.to_owned() }),
        }
    }
}

/// Whether a text is the scheme of a URL (RFC 3986, section 3.1); one letter is the drive of a path on Windows.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Http(url) => url.fmt(f),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Hub { repository, revision, path } if path.is_empty() => write!(f, "hf://{repository}@{revision}"),
            Self::Hub { repository, revision, path } => write!(f, "hf://{repository}@{revision}/{path}"),
            Self::Mlflow(at) => at.fmt(f),
            Self::Oci { reference, path } if path.is_empty() => write!(f, "oci://{reference}"),
            Self::Oci { reference, path } => write!(f, "oci://{reference}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, NotAnAddress> {
        text.parse()
    }

    #[test]
    fn addresses_are_read_and_named() {
        for (text, name, is_folder) in [
            ("/data/model.bin", "model.bin", false),
            ("../weights/model.bin", "model.bin", false),
            ("https://example.org/a/model%20one.onnx?download=1", "model one.onnx", false),
            ("s3://models/iris/3/model.ubj", "model.ubj", false),
            ("s3://models/iris/3/", "3", true),
            ("s3://models", "models", true),
            ("hf://owner/name", "name", true),
            ("hf://owner/name@v1/model.safetensors", "model.safetensors", false),
            ("hf://owner/name@v1/onnx/", "onnx", true),
            ("oci://127.0.0.1:5000/models/iris:3", "iris", true),
            ("oci://registry.example/iris:3/onnx/", "onnx", true),
            ("oci://registry.example/iris:3/onnx/model.onnx", "model.onnx", false),
            ("models:/iris/3", "iris", true),
            ("models:/a model@champion", "a model", true),
            ("models:/iris/Production", "iris", true),
            ("models:/iris/latest/model.pkl", "model.pkl", false),
            ("models:/m-0123456789abcdef0123456789abcdef", "m-0123456789abcdef0123456789abcdef", true),
            ("runs:/0123abc/model", "model", true),
            ("runs:/0123abc/model/model.onnx", "model.onnx", false),
            ("mlflow-artifacts:/1/models/v1.5/", "v1.5", true),
        ] {
            let address = address(text).unwrap();
            assert_eq!((address.name().as_str(), address.is_folder()), (name, is_folder), "{text}");
            if text.contains(":/") && !text.contains("://") {
                assert_eq!(address.to_string(), text);
            }
        }
        assert_eq!(address("hf://owner/name").unwrap().to_string(), "hf://owner/name@main");
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("", "an address is not empty"),
            ("ftp://example.org/a", "`ftp:` is no place that models are fetched from"),
            ("https://me:secret@example.org/a", "the password in the address is a secret"),
            ("https://b.example.org/a?X-Amz-Signature=1", "the signature in the address is a secret"),
            ("https://example.org/a/", "folders are not listed by HTTP"),
            ("s3://", "it is written as s3://BUCKET/KEY"),
            ("oci://registry.example/iris", "it is written as oci://HOST/NAME:TAG"),
            ("oci://iris:3", "it is written as oci://HOST/NAME:TAG"),
            ("oci://registry.example/iris:3/../x", "it is written as oci://HOST/NAME:TAG"),
            ("hf://name", "it is written as hf://OWNER/NAME@REVISION/FILE"),
            ("models:/iris", "it is written as models:/NAME/VERSION"),
            ("models://iris/3", "it is written as models:/NAME/VERSION"),
            ("models:/@champion", "it is written as models:/NAME/VERSION"),
            ("models:/iris/3/../../other", "it is written as models:/NAME/VERSION"),
            ("runs:/", "it is written as runs:/RUN/PATH"),
            ("mlflow-artifacts:/", "it is written as mlflow-artifacts:/PATH"),
            ("hf://owner/name/../../other", "it is written as hf://OWNER/NAME@REVISION/FILE"),
        ] {
            let error = address(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret@"), "{text}: {error}");
        }
    }
}
