//! Where tasks may go: an allow-list of hosts, held against every address that is about to be connected to.
//!
//! A host that is named may resolve to anything that lies outside the own machine and its surroundings.
//! Addresses that lead inside - loopback, link-local and with it the metadata services of clouds,
//! carrier-grade NAT, and IPv6 forms that carry an IPv4 address - have to be listed themselves: a name's
//! owner decides what it resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Says whether a connection may be made. Asked for each address, right before it is connected to; redirects
/// included.
pub trait Guard: Send + Sync {
    /// `Err` has the reason, and what would have to change.
    ///
    /// # Errors
    /// When the address may not be reached.
    fn check(&self, host: &str, port: u16, address: IpAddr) -> Result<(), String>;

    /// Says whether TLS may be spoken there without a look at the certificate, as a task asks for. Unless
    /// said otherwise it may.
    ///
    /// # Errors
    /// When it may not.
    fn check_insecure(&self, _address: IpAddr) -> Result<(), String> {
        Ok(())
    }
}

/// An allow-list of hosts; an empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    allowed: Vec<Allowed>,
    /// Where the list is set, for the text of a refusal.
    key: String,
    /// Where it is set that certificates need not be looked at outside this machine, when it is not.
    verified: Option<String>,
}

/// One entry: `bmc1.example.org`, `*.example.org`, `*`, `10.1.2.3`, `10.0.0.0/8`, `[fd00::]/8`; each may end
/// in `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    what: What,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// Every name and address that does not lead inside.
    Any,
    Host(String),
    /// Names that end in this, a dot first.
    Below(String),
    Net(IpAddr, u8),
}

impl Reach {
    /// One with these entries; `key` is where they are set.
    pub fn new(allowed: impl IntoIterator<Item = Allowed>, key: impl Into<String>) -> Self {
        Self { allowed: allowed.into_iter().collect(), key: key.into(), verified: None }
    }

    /// Whatever a task asks for, certificates are looked at but on loopback addresses; `key` is where that
    /// would be set otherwise.
    #[must_use]
    pub fn verified(mut self, key: impl Into<String>) -> Self {
        self.verified = Some(key.into());
        self
    }
}

impl Guard for Reach {
    fn check(&self, host: &str, port: u16, address: IpAddr) -> Result<(), String> {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let literal = host.parse::<IpAddr>().is_ok();
        let entries = || self.allowed.iter().filter(|entry| entry.port.is_none_or(|only| only == port));
        if entries().any(|entry| entry.what.covers(address)) {
            return Ok(());
        }
        let named = entries().any(|entry| match &entry.what {
            What::Any => true,
            What::Host(name) => !literal && *name == host,
            What::Below(suffix) => !literal && host.ends_with(suffix.as_str()),
            What::Net(..) => false,
        });
        let key = &self.key;
        match (named, inside(address)) {
            (true, None) => Ok(()),
            (true, Some(kind)) => {
                Err(format!("it is {kind}; list the address itself under {key} if that is meant"))
            }
            (false, _) => Err(format!("neither the host nor the address is listed under {key}")),
        }
    }

    fn check_insecure(&self, address: IpAddr) -> Result<(), String> {
        match &self.verified {
            Some(key) if !address.to_canonical().is_loopback() => {
                Err(format!("its certificate has to be verified; set {key} if tasks may choose not to"))
            }
            _ => Ok(()),
        }
    }
}

impl What {
    fn covers(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Net(IpAddr::V4(net), length), IpAddr::V4(address)) => {
                same_beginning(u128::from(net.to_bits()) << 96, u128::from(address.to_bits()) << 96, *length)
            }
            (Self::Net(IpAddr::V6(net), length), IpAddr::V6(address)) => {
                same_beginning(net.to_bits(), address.to_bits(), *length)
            }
            _ => false,
        }
    }
}

fn same_beginning(a: u128, b: u128, length: u8) -> bool {
    length == 0 || (a ^ b) >> (128 - u32::from(length)) == 0
}

/// Why an address needs an entry of its own.
fn inside(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => inside_v4(address),
        IpAddr::V6(address) => inside_v6(address),
    }
}

fn inside_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        // Metadata and agent services that clouds keep outside the link-local range.
        [168, 63, 129, 16] | [192, 0, 0, _] => Some("a metadata address"),
        [100, b, ..] if b & 0xc0 == 64 => Some("a carrier-grade NAT address"),
        [0, ..] => Some("an address of this host"),
        [first, ..] if first >= 224 => Some("a multicast, broadcast or reserved address"),
        _ => None,
    }
}

fn inside_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an address of this host"),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some("an IPv4 address in an IPv6 form"),
        [0x64, 0xff9b, ..] => Some("a NAT64 address"),
        [0x2002, ..] => Some("a 6to4 address"),
        [0x2001, 0, ..] => Some("a Teredo address"),
        [0xfd00, 0x0ec2, ..] => Some("a metadata address"),
        [first, ..] if first & 0xffc0 == 0xfe80 || first & 0xffc0 == 0xfec0 => Some("a link-local address"),
        [first, ..] if first >= 0xff00 => Some("a multicast address"),
        _ => None,
    }
}

/// What an entry of the list should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host, `*.domain`, address or network (each may end in `:port`)")]
pub struct InvalidAllowed(String);

impl FromStr for Allowed {
    type Err = InvalidAllowed;

    fn from_str(text: &str) -> Result<Self, InvalidAllowed> {
        let wrong = || InvalidAllowed(text.to_owned());
        // A bare IPv6 address is full of colons; only what does not read as a network has a port.
        if let Some(what) = net(text) {
            return Ok(Self { what, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                (host, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        let what = match net(host) {
            Some(what) => what,
            None if host == "*" => What::Any,
            None => match host.strip_prefix('*') {
                Some(suffix) if suffix.starts_with('.') && is_name(&suffix[1..]) => {
                    What::Below(suffix.to_ascii_lowercase())
                }
                None if is_name(host) => What::Host(host.to_ascii_lowercase()),
                _ => return Err(wrong()),
            },
        };
        Ok(Self { what, port })
    }
}

fn net(text: &str) -> Option<What> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address)
        .parse()
        .ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length <= whole).then(|| What::Net(address, length.unwrap_or(whole)))
}

fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
        // All digits and dots is a mistyped address.
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Any => f.write_str("*")?,
            What::Host(name) => f.write_str(name)?,
            What::Below(suffix) => write!(f, "*{suffix}")?,
            What::Net(IpAddr::V4(net), length) => write!(f, "{net}/{length}")?,
            What::Net(IpAddr::V6(net), length) => write!(f, "[{net}]/{length}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(entries: &[&str]) -> Reach {
        Reach::new(entries.iter().map(|entry| entry.parse().expect("an entry")), "endpoint.http.allow")
    }

    fn allows(entries: &[&str], host: &str, port: u16, address: &str) -> bool {
        reach(entries).check(host, port, address.parse().expect("an address")).is_ok()
    }

    #[test]
    fn nothing_is_allowed_unless_listed() {
        let why = reach(&[]).check("bmc1", 443, "10.0.0.1".parse().expect("an address")).expect_err("empty");
        assert!(why.contains("endpoint.http.allow"), "{why}");
    }

    #[test]
    fn names_domains_networks_and_ports() {
        assert!(allows(&["bmc1.example.org"], "BMC1.example.org.", 443, "10.0.0.1"));
        assert!(!allows(&["bmc1.example.org"], "bmc2.example.org", 443, "10.0.0.1"));
        assert!(allows(&["*.example.org"], "bmc2.example.org", 443, "10.0.0.1"));
        assert!(!allows(&["*.example.org"], "example.org", 443, "10.0.0.1"));
        assert!(!allows(&["*.example.org"], "evilexample.org", 443, "10.0.0.1"));
        assert!(
            allows(&["bmc1:8443"], "bmc1", 8443, "10.0.0.1")
                && !allows(&["bmc1:8443"], "bmc1", 443, "10.0.0.1")
        );
        assert!(
            allows(&["10.0.0.0/8"], "anything", 80, "10.255.0.1")
                && !allows(&["10.0.0.0/8"], "anything", 80, "11.0.0.1")
        );
        assert!(
            allows(&["10.1.2.3:80"], "10.1.2.3", 80, "10.1.2.3")
                && !allows(&["10.1.2.3:80"], "10.1.2.3", 81, "10.1.2.3")
        );
        assert!(
            allows(&["[fd00::]/8"], "[fd12::1]", 80, "fd12::1")
                && allows(&["fd12::1"], "[fd12::1]", 80, "fd12::1")
        );
        assert!(allows(&["0.0.0.0/0"], "x", 80, "127.0.0.1") && !allows(&["0.0.0.0/0"], "x", 80, "::1"));
    }

    #[test]
    fn what_leads_inside_needs_an_entry_of_its_own() {
        let addresses = [
            "127.0.0.1", "127.8.8.8", "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16",
            "192.0.0.192", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1",
            "::ffff:8.8.8.8", "::7f00:1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
            "2001:0:1::1", "fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254",
        ];
        for address in addresses {
            assert!(!allows(&["*"], "host", 80, address), "{address}");
            assert!(!allows(&["host"], "host", 80, address), "{address}");
            assert!(allows(&[address], "host", 80, address), "{address}");
        }
        for address in ["8.8.8.8", "10.0.0.1", "192.168.1.1", "100.128.0.1", "2600::1", "fd12::1"] {
            assert!(allows(&["*"], "host", 80, address), "{address}");
        }
    }

    #[test]
    fn entries_are_read_or_refused() {
        for wrong in [
            "", "*x", "*.", "host:", "host:0", "host:99999", "10.0.0.0/33", "10.0.0", "a b", "http://host",
            "ho/st", "*.a*",
        ] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
        for right in ["*", "host", "*.example.org", "10.0.0.0/8:80", "[fd00::]/8:443"] {
            assert_eq!(right.parse::<Allowed>().map(|entry| entry.to_string()).as_deref(), Ok(right));
        }
    }

    #[test]
    fn certificates_are_looked_at_outside_this_machine() {
        let reach = Reach::new([], "list");
        let verified = reach.clone().verified("endpoint.http.insecure");
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert!(reach.check_insecure(address).is_ok(), "{address}");
            assert_eq!(verified.check_insecure(address).is_ok(), here, "{address}");
        }
        let why = verified.check_insecure([10, 0, 0, 1].into()).expect_err("outside");
        assert!(why.contains("endpoint.http.insecure"), "{why}");
    }
}
