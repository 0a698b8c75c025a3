//! Repositories of models on a hub with Hugging Face's HTTP interface, at `HF_ENDPOINT`. `HF_TOKEN` says who asks.

use serde::Deserialize;
use url::Url;

use super::{Access, At, Error, MOST_FILES, Place, Remote, encoded, encoded_path};
use crate::io::digest::Digest;

/// The hub where no other is named.
const PUBLIC: &str = "https://huggingface.co";

/// A token of the environment, or the one that its own client keeps.
pub(super) fn access() -> Access {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let kept = || {
        let home = set("HF_HOME").map(std::path::PathBuf::from).or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(std::path::PathBuf::from);
            Some(cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("huggingface"))
        })?;
        fs_err::read_to_string(home.join("token")).ok()
    };
    let token = set("HF_TOKEN").or_else(kept).map(|token| token.trim().to_owned());
    token.filter(|token| !token.is_empty()).map_or(Access::Nobody, Access::Bearer)
}

/// A revision of a repository (`/api/models/REPOSITORY/revision/REVISION`).
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// An entry of a listing (`/api/models/REPOSITORY/tree/REVISION`).
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: u64,
    lfs: Option<Large>,
}

/// A file that Git LFS keeps.
#[derive(Deserialize)]
struct Large {
    /// Its sha256.
    oid: String,
    size: u64,
}

fn endpoint(place: &Place<'_>, rest: &str) -> Result<Url, Error> {
    let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
    let endpoint = endpoint.as_deref().unwrap_or(PUBLIC).trim_end_matches('/');
    Url::parse(&format!("{endpoint}/{rest}")).map_err(|error| place.answer(error))
}

/// The commit that a revision of a repository is now.
pub(super) fn commit(place: &Place<'_>, repository: &str, revision: &str) -> Result<String, Error> {
    let revision = encoded(revision);
    let (_, bytes) = place.page(&endpoint(place, &format!("api/models/{repository}/revision/{revision}"))?)?;
    let Revision { sha: commit } = serde_json::from_slice(&bytes).map_err(|error| place.answer(error))?;
    if commit.len() > 64 || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(place.answer("the commit has no name"));
    }
    Ok(commit)
}

/// The files of a repository, at the commit that a revision is now.
pub(super) fn find(place: &Place<'_>, repository: &str, revision: &str, path: &str) -> Result<Vec<Remote>, Error> {
    let url = |rest: &str| endpoint(place, rest);
    let commit = commit(place, repository, revision)?;
    let is_folder = path.is_empty() || path.ends_with('/');
    let folder = if is_folder { path } else { path.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let folder = folder.trim_matches('/');
    let within = if folder.is_empty() { String::new() } else { format!("/{}", encoded_path(folder)) };
    let mut next = Some(url(&format!("api/models/{repository}/tree/{commit}{within}?recursive=true"))?);
    let mut found = Vec::new();
    while let Some(listing) = next.take() {
        let (after, bytes) = place.page(&listing)?;
        let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|error| place.answer(error))?;
        if entries.is_empty() {
            break;
        }
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            let name = match is_folder {
                false if entry.path != path => continue,
                false => entry.path.rsplit('/').next().unwrap_or_default(),
                true if folder.is_empty() => entry.path.as_str(),
                true => match entry.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
                    Some(name) => name,
                    None => continue,
                },
            };
            let digest = entry.lfs.as_ref().map(|large| Digest::from_hex(&large.oid)).transpose();
            let digest = digest.map_err(|_| place.answer("a digest is none"))?;
            found.push(Remote {
                name: name.to_owned(),
                at: At::Url(url(&format!("{repository}/resolve/{commit}/{}", encoded_path(&entry.path)))?),
                size: Some(entry.lfs.map_or(entry.size, |large| large.size)),
                digest,
                version: Some(commit.clone()),
            });
        }
        if found.len() > MOST_FILES {
            return Err(Error::TooMany(place.from.clone()));
        }
        // Only the hub that was asked says where its listing goes on.
        next = after.filter(|after| after.origin() == listing.origin());
    }
    Ok(found)
}
