//! Who a name of a user or group is, in an image: passwd(5) and group(5), read as data.

use serde::{Deserialize, Serialize};

use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::closest;

/// A name that the image does not know.
#[derive(Debug, thiserror::Error)]
#[error("{file} in the image has no `{name}`{}", similar.as_ref().map(|name| format!(", but `{name}`")).unwrap_or_default())]
pub struct Unknown {
    file: &'static str,
    name: String,
    similar: Option<String>,
}

impl Explain for Unknown {
    fn explain(&self) -> Explanation {
        ErrorKind::Invalid
            .named("dockerfile/unknown-user")
            .hint("give the number, or make the user in a step before, with `useradd`")
    }
}

/// The users and groups of an image.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Name, number, group, home.
    users: Vec<(String, u32, u32, String)>,
    /// Name, number, members.
    groups: Vec<(String, u32, Vec<String>)>,
}

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User and group.
    pub user: (u32, u32),
    /// All its groups, `user`'s first: as containers have it since CVE-2023-25173.
    pub groups: Vec<u32>,
    /// The home of the user; `/` where it has none.
    pub home: String,
}

impl Accounts {
    /// Of the texts of `/etc/passwd` and `/etc/group`. Lines that are none are passed over, as the C library does.
    pub fn read(passwd: &str, group: &str) -> Self {
        let user = |line: &str| {
            let [name, _, uid, gid, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
            Some((name.to_owned(), uid.parse().ok()?, gid.parse().ok()?, home.to_owned()))
        };
        let group_of = |line: &str| {
            let [name, _, gid, members, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
            let members = members.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            Some((name.to_owned(), gid.trim().parse().ok()?, members.collect()))
        };
        Self { users: passwd.lines().filter_map(user).collect(), groups: group.lines().filter_map(group_of).collect() }
    }

    /// Whom `USER` means: `NAME`, `NUMBER`, either with `:GROUP`. Nobody is root.
    ///
    /// # Errors
    /// When a name is not known.
    pub fn account(&self, text: &str) -> Result<Account, Unknown> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let known = match user.parse::<u32>() {
            Ok(number) => self.users.iter().find(|(_, uid, ..)| *uid == number),
            Err(_) => Some(self.user(user)?),
        };
        let uid = match known {
            Some((_, uid, ..)) => *uid,
            None => user.parse().unwrap_or_default(),
        };
        let home = known.map(|(.., home)| home.clone()).filter(|home| !home.is_empty());
        let home = home.unwrap_or_else(|| "/".to_owned());
        let Some(group) = group.filter(|group| !group.is_empty()) else {
            let member = |(_, number, members): &(String, u32, Vec<String>)| {
                let is_member = known.is_some_and(|(name, ..)| members.contains(name));
                is_member.then_some(*number)
            };
            let own = known.map_or(0, |(_, _, gid, _)| *gid);
            let more = self.groups.iter().filter_map(member).filter(|group| *group != own);
            return Ok(Account { user: (uid, own), groups: std::iter::once(own).chain(more).collect(), home });
        };
        let group = self.group(group)?;
        Ok(Account { user: (uid, group), groups: vec![group], home })
    }

    /// Whom `--chown` means. The group of a name is its own; that of a number is the same number.
    ///
    /// # Errors
    /// When a name is not known.
    pub fn owner(&self, text: &str) -> Result<(u32, u32), Unknown> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let (uid, own) = match user.parse::<u32>() {
            Ok(number) => (number, number),
            Err(_) if user.is_empty() => (0, 0),
            Err(_) => {
                let (_, uid, gid, _) = self.user(user)?;
                (*uid, *gid)
            }
        };
        Ok((uid, group.filter(|group| !group.is_empty()).map(|group| self.group(group)).transpose()?.unwrap_or(own)))
    }

    fn user(&self, name: &str) -> Result<&(String, u32, u32, String), Unknown> {
        self.users.iter().find(|(known, ..)| known == name).ok_or_else(|| {
            let names: Vec<_> = self.users.iter().map(|(name, ..)| name.clone()).collect();
            Unknown { file: "/etc/passwd", name: name.to_owned(), similar: closest(name, &names).map(str::to_owned) }
        })
    }

    fn group(&self, name: &str) -> Result<u32, Unknown> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let known = self.groups.iter().find(|(known, ..)| known == name).map(|(_, number, _)| *number);
        known.ok_or_else(|| {
            let names: Vec<_> = self.groups.iter().map(|(name, ..)| name.clone()).collect();
            Unknown { file: "/etc/group", name: name.to_owned(), similar: closest(name, &names).map(str::to_owned) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::read(
            "root:x:0:0:root:/root:/bin/bash\nno line\ndaemon:x:1:2::/usr/sbin:\napp:x:1000:1001::/home/app:/bin/sh\n",
            "root:x:0:\nusers:x:100:app,daemon\napp:x:1001:\nbroken:x:a:\n",
        )
    }

    #[test]
    fn users_are_names_or_numbers() {
        let account = |text: &str| accounts().account(text).map(|it| (it.user, it.groups, it.home)).unwrap();
        assert_eq!(account(""), ((0, 0), vec![0], "/root".to_owned()));
        assert_eq!(account("app"), ((1000, 1001), vec![1001, 100], "/home/app".to_owned()));
        assert_eq!(account("1000"), ((1000, 1001), vec![1001, 100], "/home/app".to_owned()));
        assert_eq!(account("app:users"), ((1000, 100), vec![100], "/home/app".to_owned()));
        assert_eq!(account("7"), ((7, 0), vec![0], "/".to_owned()));
        assert_eq!(account("7:9"), ((7, 9), vec![9], "/".to_owned()));
        let unknown = accounts().account("ap").unwrap_err().to_string();
        assert_eq!(unknown, "/etc/passwd in the image has no `ap`, but `app`");
        assert!(accounts().account("app:nobody").unwrap_err().to_string().starts_with("/etc/group in"));
    }

    #[test]
    fn owners_have_a_group_of_their_own() {
        let owner = |text: &str| accounts().owner(text).unwrap();
        assert_eq!(owner("app"), (1000, 1001));
        assert_eq!(owner("5"), (5, 5));
        assert_eq!(owner("5:users"), (5, 100));
        assert_eq!(owner("app:7"), (1000, 7));
    }
}
