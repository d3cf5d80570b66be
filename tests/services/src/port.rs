//! A loopback port that stays ours while its server is down.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::Context;
use rustix::process::getpid;

/// A free port on 127.0.0.1, kept for its owner among everybody who takes ports here.
///
/// It lies below the range from which the kernel takes ports for outgoing connections. A port of that range
/// could be taken by any client while its server is restarted, even by a client of that very server: one that
/// tries again and again to connect to a closed port of the range ends up connected to itself.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// A socket in the abstract namespace is a lock that the kernel lifts with the process and that leaves no
    /// file behind.
    _lock: UnixListener,
}

impl Port {
    const LOWEST: u16 = 12_000;

    /// Takes a port that nobody listens on.
    pub fn free() -> anyhow::Result<Self> {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .context("reading the range of outgoing ports")?;
        let outgoing: u16 = range
            .split_whitespace()
            .next()
            .and_then(|first| first.parse().ok())
            .context("no range of outgoing ports")?;
        // A machine that uses nearly all ports for outgoing connections leaves no safe place: any free port
        // has to do.
        let end = if outgoing > Self::LOWEST + 1_000 { outgoing } else { u16::MAX };
        // Processes that start together begin at different places, so that they rarely meet.
        let first =
            Self::LOWEST + (getpid().as_raw_nonzero().get() * 37 % i32::from(end - Self::LOWEST)) as u16;
        (first..end)
            .chain(Self::LOWEST..first)
            .find_map(Self::take)
            .with_context(|| format!("no free port from {} to {end}", Self::LOWEST))
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn take(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("tasker-port-{number}")).ok()?;
        let lock = UnixListener::bind_addr(&name).ok()?;
        // The wildcard is refused when anybody listens on any address of this machine.
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}
