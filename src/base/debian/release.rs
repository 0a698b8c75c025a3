//! `InRelease`: the signed list of a suite's indexes.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::{Error, Keyring};
use crate::formats::deb822;
use crate::io::digest::Digest;

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
            let time = DateTime::strptime("%a, %d %b %Y %H:%M:%S UTC", until)
                .and_then(|time| Offset::UTC.to_timestamp(time))
                .map_err(|_| bad(format!("`{until}` is no date")))?;
            if SystemTime::from(time) < now {
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

#[cfg(test)]
mod tests {
    use super::super::testing::Mirror;
    use super::*;
    use crate::io::explain::Explain as _;

    const NOW: &str = "Date: Sat, 21 Nov 2026 08:00:00 UTC\n";

    fn verify(bytes: &[u8], keys: &Keyring) -> Result<Release, Error> {
        Release::verify(bytes, keys, "bookworm", SystemTime::now(), "http://m.example/InRelease")
    }

    fn release(more: &str) -> String {
        format!("Codename: bookworm\n{NOW}{more}SHA256:\n {} 7 main/x/Packages.xz\n", Digest::of("x").hex())
    }

    #[test]
    fn a_signed_release_names_its_indexes() {
        let mirror = Mirror::new();
        let found = verify(mirror.signed(&release("")).as_bytes(), &mirror.keyring()).unwrap();
        let index = ("main/x/Packages.xz".to_owned(), Digest::of("x"), 7);
        assert_eq!(found.index("main/x/Packages.xz"), Some(index));
        assert_eq!(found.index("main/y/Packages.xz"), None);
        let found = verify(mirror.signed(&release("Acquire-By-Hash: yes\n")).as_bytes(), &mirror.keyring()).unwrap();
        let place = found.index("main/x/Packages.xz").unwrap().0;
        assert_eq!(place, format!("main/x/by-hash/SHA256/{}", Digest::of("x").hex()));
    }

    #[test]
    fn what_debian_did_not_sign_is_refused() {
        let mirror = Mirror::new();
        let signed = mirror.signed(&release(""));
        for (message, keys) in [
            (signed.replace(" 7 ", " 8 "), mirror.keyring()),
            (signed.replace("Codename", "Origin: x\nCodename"), mirror.keyring()),
            (signed.clone(), Mirror::new().keyring()),
            (signed.clone(), Keyring::debian().unwrap()),
            (release(""), mirror.keyring()),
            (signed[..signed.len() / 2].to_owned(), mirror.keyring()),
            (String::new(), mirror.keyring()),
        ] {
            let result = verify(message.as_bytes(), &keys);
            assert!(matches!(result, Err(Error::Signature { .. })), "{message}");
        }
    }

    #[test]
    fn nothing_around_the_signed_text_counts() {
        let mirror = Mirror::new();
        let signed = mirror.signed(&release(""));
        for message in [format!("Codename: bookworm\n\n{signed}"), format!("{signed}\nSHA256:\n x 1 y\n")] {
            if let Ok(found) = verify(message.as_bytes(), &mirror.keyring()) {
                assert_eq!(found.indexes.len(), 1);
            }
        }
    }

    #[test]
    fn an_old_or_foreign_release_is_refused() {
        let mirror = Mirror::new();
        let signed = |text: &str| mirror.signed(text);
        let expired = signed(&release("Valid-Until: Sat, 01 Aug 2020 00:00:00 UTC\n"));
        let result = verify(expired.as_bytes(), &mirror.keyring());
        let Err(error @ Error::Expired { .. }) = result else { panic!("it is expired") };
        assert!(error.to_string().contains("valid until Sat, 01 Aug 2020"), "{error}");
        assert!(error.explain().hint.unwrap().contains("clock"));
        assert!(
            verify(signed(&release("Valid-Until: Mon, 01 Aug 2095 00:00:00 UTC\n")).as_bytes(), &mirror.keyring())
                .is_ok()
        );
        for text in [
            release("Valid-Until: tomorrow\n"),
            release("").replace("Codename: bookworm", "Codename: buster"),
            release("").replace(" 7 ", " many "),
            release("").replace(" 7 main/x/Packages.xz", ""),
        ] {
            assert!(
                matches!(verify(signed(&text).as_bytes(), &mirror.keyring()), Err(Error::Release { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn any_bytes_can_be_looked_at() {
        let mirror = Mirror::new();
        let keys = mirror.keyring();
        let message = mirror.signed(&release("")).into_bytes();
        proptest::proptest!(|(bytes: Vec<u8>, at in 0..message.len(), byte: u8)| {
            proptest::prop_assert!(verify(&bytes, &keys).is_err());
            let mut changed = message.clone();
            changed[at] = byte;
            // Not all bytes of the envelope are signed, but what is read always is.
            if let Ok(found) = verify(&changed, &keys) {
                proptest::prop_assert_eq!(found.index("main/x/Packages.xz").map(|found| found.1), Some(Digest::of("x")));
            }
        });
    }
}
