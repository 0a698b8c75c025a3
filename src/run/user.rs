//! Who an image's program runs as: what `USER` says, looked up in the image's own books as Docker does it.
//!
//! passwd(5), group(5). The image is foreign: its books are bounded, and lines that make no sense are passed over.

use std::path::PathBuf;

use super::Error;
use crate::base;
use crate::io::explain::carry;

/// A user of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// The number.
    pub(super) uid: u32,
    /// The group's number.
    pub(super) gid: u32,
    /// The home as `/etc/passwd` has it. `/` where it has none.
    pub(super) home: String,
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Whether `text` needs no book to be understood: it is empty, `1034`, or `1034:1034`.
pub(super) fn is_numeric(text: &str) -> bool {
    text.split(':').all(|part| part.is_empty() || part.parse::<u32>().is_ok())
}

impl User {
    /// The user that `text`, as `USER` has it, is in an image whose unpacked layers are `trees`, the lowest first: a name or
    /// a number, with a group behind a colon or that of the book; nothing is root.
    ///
    /// # Errors
    /// When a name is in no book.
    pub(super) fn find(text: &str, trees: &[PathBuf]) -> Result<Self, Error> {
        let book = |path: &str| -> Result<String, Error> {
            Ok(String::from_utf8_lossy(&base::file(trees, path).map_err(carry)?).into_owned())
        };
        Self::among(text, &book("etc/passwd")?, || book("etc/group"))
    }

    fn among(text: &str, accounts: &str, groups: impl Fn() -> Result<String, Error>) -> Result<Self, Error> {
        let unknown = |book| Error::User { user: text.to_owned(), book };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        // A name wins over a number, as in Docker: a user can be called 12.
        let mut known = accounts.lines().filter_map(account);
        let known = known.find(|known| known.name == user || number == Some(known.uid));
        let uid = known.as_ref().map(|known| known.uid).or(number).ok_or_else(|| unknown("/etc/passwd"))?;
        let gid = match group {
            None => known.as_ref().map_or(0, |known| known.gid),
            Some(group) => match group.parse() {
                Ok(number) => number,
                Err(_) => groups()?
                    .lines()
                    .filter_map(|line| {
                        let mut parts = line.split(':');
                        (parts.next()? == group).then(|| parts.nth(1)?.parse().ok())?
                    })
                    .next()
                    .ok_or_else(|| unknown("/etc/group"))?,
            },
        };
        let home = known.map(|known| known.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
        Ok(Self { uid, gid, home })
    }
}

fn account(line: &str) -> Option<Account<'_>> {
    let mut parts = line.split(':');
    let (name, _, uid, gid, _, home) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nmodel:x:1034:50::/home/model:/bin/sh\n\
                            homeless:x:7:8:::/bin/sh\n12:x:99:98::/twelve:/bin/sh\n";

    fn found(text: &str) -> Result<(u32, u32, String), String> {
        let groups = || Ok("root:x:0:\nstaff:x:50:model\nbad:x:y:\n".to_owned());
        let found = User::among(text, ACCOUNTS, groups).map_err(|error| error.to_string())?;
        Ok((found.uid, found.gid, found.home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (text, expected) in [
            ("", (0, 0, "/root")),
            ("model", (1034, 50, "/home/model")),
            ("1034", (1034, 50, "/home/model")),
            ("1034:1034", (1034, 1034, "/home/model")),
            ("model:staff", (1034, 50, "/home/model")),
            ("root:staff", (0, 50, "/root")),
            ("4711", (4711, 0, "/")),
            ("4711:12", (4711, 12, "/")),
            ("homeless", (7, 8, "/")),
            ("12", (99, 98, "/twelve")),
        ] {
            let (uid, gid, home) = expected;
            assert_eq!(found(text), Ok((uid, gid, home.to_owned())), "{text}");
        }
        assert_eq!(found("nobody"), Err("the image's user `nobody` is not in its /etc/passwd".to_owned()));
        assert_eq!(found("model:wheel"), Err("the image's user `model:wheel` is not in its /etc/group".to_owned()));
        assert!(found("model:bad").is_err());
        assert!(is_numeric("") && is_numeric("1:2") && !is_numeric("model") && !is_numeric("1:staff"));
    }
}
