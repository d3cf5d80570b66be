//! Where a server is to listen, as `--listen` says it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::config::Flag;

/// An address, or the part of one that is not to be as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    host: Option<IpAddr>,
    port: Option<u16>,
}

/// The text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as `127.0.0.1:8888`, `localhost:8888`, `[::1]:8888`, or a port such as `8888`"
)]
pub struct InvalidAddress;

impl FromStr for Listen {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let whole = |host, port| Self { host: Some(host), port: Some(port) };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(whole(address.ip(), address.port()));
        }
        if let Some(host) = host(text) {
            return Ok(Self { host: Some(host), port: None });
        }
        let (before, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| InvalidAddress)?;
        match before {
            "" => Ok(Self { host: None, port: Some(port) }),
            name => host(name).map(|host| whole(host, port)).ok_or(InvalidAddress),
        }
    }
}

/// An address without a port. Other names than this one could stand for several addresses, or for another
/// machine's.
fn host(text: &str) -> Option<IpAddr> {
    if text == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse().ok() }
}

impl Listen {
    /// What it sets.
    pub(super) fn flags(self) -> Vec<Flag> {
        let host = self.host.map(|host| Flag { key: "api.host", value: host.to_string(), name: "--listen" });
        let port = self.port.map(|port| Flag { key: "api.port", value: port.to_string(), name: "--listen" });
        host.into_iter().chain(port).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_several_forms() {
        for (text, host, port) in [
            ("127.0.0.1:8888", Some("127.0.0.1"), Some(8888)),
            ("[::1]:8888", Some("::1"), Some(8888)),
            ("localhost:8888", Some("127.0.0.1"), Some(8888)),
            (":8888", None, Some(8888)),
            ("8888", None, Some(8888)),
            ("0", None, Some(0)),
            ("0.0.0.0", Some("0.0.0.0"), None),
            ("::", Some("::"), None),
            ("localhost", Some("127.0.0.1"), None),
        ] {
            let host = host.map(|host| host.parse().expect("an address"));
            assert_eq!(text.parse(), Ok(Listen { host, port }), "{text}");
        }
        for text in [
            "", ":", "nowhere", "nowhere:1", "localhost:", "localhost:http", "65536", "127.0.0.1:65536",
            "::1:x", "[::1]", "-1",
        ] {
            assert_eq!(text.parse::<Listen>(), Err(InvalidAddress), "{text}");
        }
    }
}
