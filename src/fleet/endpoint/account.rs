//! The user that executables run as, when it is not the one of this process.
//!
//! Looked up in `/etc/passwd` and `/etc/group`; users of a directory service go by their numbers. Only root
//! can become somebody else here: another user with the right to do so would hand its own supplementary
//! groups down.

use std::fs;

use rustix::process::{getegid, geteuid};

/// The capabilities that it takes: to become the user and the group, and to end what runs as them.
const NEEDED: [(&str, u32); 3] = [("CAP_KILL", 5), ("CAP_SETGID", 6), ("CAP_SETUID", 7)];

/// A user with a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
    /// Its name, or its number again.
    pub(super) name: String,
    /// Its home directory, as far as that is known.
    pub(super) home: String,
}

impl Account {
    /// The account that `user` or `user:group` names, names or numbers, if this process can run handlers as
    /// it.
    pub(super) fn usable(text: &str) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let account = Self::look_up(text, &read("/etc/passwd"), &read("/etc/group"))?;
        let own = geteuid().as_raw();
        if (account.user, account.group) == (own, getegid().as_raw()) {
            return Ok(account);
        }
        if own != 0 {
            return Err(format!("tasker runs as user {own}, and only root can run handlers as `{text}`"));
        }
        let lacking = lacking(&read("/proc/self/status"));
        if lacking.is_empty() {
            Ok(account)
        } else {
            Err(format!("to run handlers as `{text}`, tasker lacks {}", lacking.join(", ")))
        }
    }

    fn look_up(text: &str, passwd: &str, groups: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let number: Option<u32> = user.parse().ok();
        let of_user = |line: &Vec<&str>| {
            line[0] == user || number.is_some() && line.get(2).and_then(|uid| uid.parse().ok()) == number
        };
        let line = passwd.lines().map(fields).find(of_user);
        let (uid, primary, name, home) = match (&line, number) {
            (Some(line), _) => {
                let number = |at: usize| line.get(at).and_then(|field| field.parse::<u32>().ok());
                let uid =
                    number(2).ok_or_else(|| format!("/etc/passwd has no number for the user `{user}`"))?;
                (uid, number(3), line[0], line.get(5).copied().unwrap_or("/"))
            }
            (None, Some(uid)) => (uid, None, user, "/"),
            (None, None) => {
                return Err(format!("/etc/passwd has no user `{user}`: name one that is there, or a number"));
            }
        };
        let gid = match group {
            None => primary.ok_or_else(|| {
                format!("/etc/passwd has no user {uid}, so its group has to be said: `{uid}:GROUP`")
            })?,
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => groups
                    .lines()
                    .map(fields)
                    .find(|line| line[0] == group)
                    .and_then(|line| line.get(2)?.parse().ok())
                    .ok_or_else(|| {
                        format!("/etc/group has no group `{group}`: name one that is there, or a number")
                    })?,
            },
        };
        Ok(Self { user: uid, group: gid, name: name.to_owned(), home: home.to_owned() })
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

/// What is not among the effective capabilities of a `/proc/PID/status`.
fn lacking(status: &str) -> Vec<&'static str> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    NEEDED.iter().filter(|(_, bit)| mask >> bit & 1 == 0).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbuilder:x:1001:1002:Builds:/srv/builder:/bin/sh\nodd:x:minus:1:::\n";
    const GROUP: &str = "root:x:0:\ndocker:x:990:builder\nbuilder:x:1002:\n";

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let account = |user, group, name: &str, home: &str| Account {
            user,
            group,
            name: name.into(),
            home: home.into(),
        };
        let table = [
            ("builder", Ok(account(1001, 1002, "builder", "/srv/builder"))),
            ("builder:docker", Ok(account(1001, 990, "builder", "/srv/builder"))),
            ("builder:7", Ok(account(1001, 7, "builder", "/srv/builder"))),
            ("1001", Ok(account(1001, 1002, "builder", "/srv/builder"))),
            ("4242:docker", Ok(account(4242, 990, "4242", "/"))),
            ("4242", Err("its group has to be said: `4242:GROUP`")),
            ("nobody-here", Err("/etc/passwd has no user `nobody-here`")),
            ("builder:wheel", Err("/etc/group has no group `wheel`")),
            ("odd", Err("no number for the user `odd`")),
            ("-1", Err("has no user `-1`")),
        ];
        for (text, expected) in table {
            match (Account::look_up(text, PASSWD, GROUP), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn lacking_capabilities_are_named() {
        assert_eq!(lacking("CapInh:\t0\nCapEff:\t00000000000000e0\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t0000000000000040\n"), ["CAP_KILL", "CAP_SETUID"]);
        assert_eq!(lacking("").len(), 3);
    }
}
