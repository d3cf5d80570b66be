//! A host as it stands in addresses and in the header `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host, and its port where it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host, as it is spelt, without a dot at its end.
    pub name: &'a [u8],
    /// Its port.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// None for what is not a host with or without a port.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let end = match text.first()? {
            b'[' => text.iter().position(|byte| *byte == b']')? + 1,
            _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
        };
        let (name, port) = text.split_at(end);
        let port = match port {
            b"" => None,
            [b':', digits @ ..]
                if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) =>
            {
                Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        // With a dot at its end a name is the same, and absolute.
        let name = name.strip_suffix(b".").unwrap_or(name);
        let formed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(byte);
        (!name.is_empty() && name.iter().all(formed)).then_some(Self { name, port })
    }

    fn ipv4(&self) -> Option<Ipv4Addr> {
        std::str::from_utf8(self.name).ok()?.parse().ok()
    }

    fn ipv6(&self) -> Option<Ipv6Addr> {
        std::str::from_utf8(self.name.strip_prefix(b"[")?.strip_suffix(b"]")?).ok()?.parse().ok()
    }

    /// Whether it is an address, which nobody can have resolved to another.
    pub fn is_address(&self) -> bool {
        self.ipv4().is_some() || self.ipv6().is_some()
    }

    /// Whether it is this machine, seen from itself.
    pub fn is_local(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"localhost")
            || self.ipv4().is_some_and(|ip| ip.is_loopback())
            || self.ipv6().is_some_and(|ip| ip.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        let parse = |text: &'static str| Authority::parse(text.as_bytes());
        assert_eq!(
            parse("tasker.example.:8443"),
            Some(Authority { name: b"tasker.example", port: Some(8443) })
        );
        assert_eq!(parse("[::1]"), Some(Authority { name: b"[::1]", port: None }));
        for bad in [
            "", ".", "*", "http://tasker.example", "a b", "a:", "a:x", "a:70000", "a:1:2", "[::1", "a/b",
            "u@a",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let local = |text| parse(text).is_some_and(|host| host.is_local());
        assert!(
            ["localhost", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::ffff:127.0.0.1]"].into_iter().all(local)
        );
        assert!(!["127.1", "localhost.example", "10.0.0.1", "[::2]", "0.0.0.0"].into_iter().any(local));
    }
}
