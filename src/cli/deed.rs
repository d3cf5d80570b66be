//! What a command did to the database, for the audit log.

use crate::domain::Deed;

/// What was done here, where nobody but the system knows who does it.
pub(super) fn deed(action: &str, subject: &str) -> Deed {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| {
        // As under cron or systemd.
        let uid = rustix::process::getuid().as_raw();
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        account(&accounts, uid).map_or_else(|| format!("uid {uid}"), str::to_owned)
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Deed::new(&user, action, subject, &format!("command line on {host}"))
}

/// The name of a user in the lines of `/etc/passwd`.
fn account(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        fields.nth(1)?.parse().is_ok_and(|of: u32| of == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nbroken\nadmin:x:10:10::/:/bin/sh\n";
        assert_eq!([0, 10, 1].map(|uid| account(accounts, uid)), [Some("root"), Some("admin"), None]);
    }
}
