//! `InRelease`: the signed list of a suite's indexes.

use std::collections::HashMap;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::{Error, Keyring, deb822};
use crate::digest::Digest;

/// What a suite's `InRelease` says, verified.
pub(super) struct Release {
    indexes: HashMap<String, (Digest, u64)>,
    by_hash: bool,
}

impl Release {
    /// Verifies the `InRelease` that came from `url`: signed by one of `keys`, of the suite `suite`, and not too old at
    /// the time `now`.
    pub(super) fn verify(bytes: &[u8], keys: &Keyring, suite: &str, now: SystemTime, url: &str) -> Result<Self, Error> {
        let text = keys.verify(bytes).map_err(|reason| Error::Signature { url: url.to_owned(), reason })?;
        let bad = |reason: String| Error::Release { url: url.to_owned(), reason };
        let paragraph = deb822::paragraphs(&text).next().ok_or_else(|| bad("it is empty".to_owned()))?;
        let named = ["Codename", "Suite"].map(|field| paragraph.get(field));
        if !named.contains(&Some(suite)) {
            return Err(bad(format!("it is of the suite `{}`", named[0].or(named[1]).unwrap_or_default())));
        }
        if let Some(until) = paragraph.get("Valid-Until") {
            let time = NaiveDateTime::parse_from_str(until, "%a, %d %b %Y %H:%M:%S UTC")
                .map_err(|_| bad(format!("`{until}` is no date")))?;
            if time.and_utc() < DateTime::<Utc>::from(now) {
                return Err(Error::Expired { url: url.to_owned(), until: until.to_owned() });
            }
        }
        let mut indexes = HashMap::new();
        for line in deb822::lines(paragraph.get("SHA256").unwrap_or_default()) {
            let mut words = line.split_ascii_whitespace();
            let (Some(digest), Some(size), Some(path)) = (words.next(), words.next(), words.next()) else {
                return Err(bad(format!("`{line}` does not name an index")));
            };
            let digest = Digest::from_hex(digest).map_err(|error| bad(error.to_string()))?;
            let size = size.parse().map_err(|_| bad(format!("`{size}` is no size")))?;
            indexes.insert(path.to_owned(), (digest, size));
        }
        Ok(Self { indexes, by_hash: paragraph.get("Acquire-By-Hash") == Some("yes") })
    }

    /// Of the index at `path`: where it lies from the suite's folder, its digest and size. By its hash where the archive
    /// offers that, as then an update of the mirror cannot come between.
    pub(super) fn index(&self, path: &str) -> Option<(String, Digest, u64)> {
        let (digest, size) = *self.indexes.get(path)?;
        let place = match path.rsplit_once('/') {
            Some((folder, _)) if self.by_hash => format!("{folder}/by-hash/SHA256/{}", digest.hex()),
            _ => path.to_owned(),
        };
        Some((place, digest, size))
    }
}
