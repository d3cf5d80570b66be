//! Where the interface is entered: a listener, with TLS or without.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::ServerConfig;

use super::certificate::{Certificate, CertificateError};
use crate::config::TlsFiles;
use crate::store::{SharedStore, StoreError};

/// Connections that wait to be taken. The listeners of std have 128: when all workers of a fleet come back at
/// once, the system would drop the others' greetings, which are repeated after seconds, and reset some. The
/// system cuts it at its own limit (`net.core.somaxconn`).
const WAITING: i32 = 4096;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It must not be open to others while nobody guards it.
    #[error(
        "{address} can be reached by others, and without any token whoever reaches the API can run tasks: create one first with \
         `{command}`, or listen on a loopback address such as 127.0.0.1:{port}",
        port = address.port()
    )]
    Unguarded {
        /// Where it was to listen.
        address: SocketAddr,
        /// What creates a token.
        command: String,
    },
    /// Nobody knows whether there is a token.
    #[error(transparent)]
    Tokens(#[from] StoreError),
    /// The certificate cannot be shown.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The listener cannot be used.
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] io::Error),
}

/// Where the interface is entered.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<ServerConfig>,
    address: SocketAddr,
}

impl Door {
    /// The door at a listener.
    ///
    /// # Errors
    /// When the certificate cannot be shown, or the listener cannot be used.
    pub fn new(listener: TcpListener, tls: Option<&TlsFiles>) -> Result<Self, DoorError> {
        let address = listener.local_addr()?;
        rustix::net::listen(&listener, WAITING).map_err(io::Error::from)?;
        let tls = tls.map(|files| Certificate::read(files.clone())).transpose()?.map(server);
        Ok(Self { listener, tls: tls.transpose()?, address })
    }

    /// What it consists of, for another server than [`super::serve`].
    pub fn into_parts(self) -> (TcpListener, Option<ServerConfig>) {
        (self.listener, self.tls)
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nobody but this machine comes through it.
    pub fn is_local(&self) -> bool {
        is_local(self.address.ip())
    }
}

/// Refuses an address that others can reach as long as there is no token. `command` creates one.
///
/// # Errors
/// [`DoorError::Unguarded`], or that the tokens cannot be read.
pub async fn check_guarded(address: SocketAddr, store: &SharedStore, command: &str) -> Result<(), DoorError> {
    if is_local(address.ip()) || !store.tokens().await?.is_empty() {
        return Ok(());
    }
    Err(DoorError::Unguarded { address, command: command.to_owned() })
}

/// Whether an address leads to this machine from this machine alone.
fn is_local(ip: IpAddr) -> bool {
    // An IPv4 address in IPv6 clothes is the same place.
    ip.to_canonical().is_loopback()
}

fn server(certificate: Arc<Certificate>) -> Result<ServerConfig, CertificateError> {
    let builder = ServerConfig::builder_with_provider(certificate.provider());
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(CertificateError::Tls)?;
    Ok(builder.with_no_client_auth().with_cert_resolver(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each waits for a second at least once no more are let in.
    #[test]
    fn a_thousand_connections_may_wait() {
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let door = Door::new(TcpListener::bind("127.0.0.1:0").expect("a free port"), None).expect("a door");
        let connect =
            |_| std::net::TcpStream::connect_timeout(&door.address(), std::time::Duration::from_millis(900));
        let waiting: Vec<_> = (0..most.unwrap_or(1000).min(1000)).map(connect).collect();
        assert_eq!(waiting.iter().filter(|waiting| waiting.is_err()).count(), 0);
    }

    #[test]
    fn tells_this_machine_from_others() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_local(local.parse().expect("an address")), "{local}");
        }
        for open in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"] {
            assert!(!is_local(open.parse().expect("an address")), "{open}");
        }
    }

    #[test]
    fn says_what_to_do() {
        let address = "0.0.0.0:8888".parse().expect("an address");
        let error = DoorError::Unguarded {
            address,
            command: "tasker token create --name NAME --scope admin".to_owned(),
        };
        let text = error.to_string();
        assert!(
            text.contains("0.0.0.0:8888 can be reached")
                && text.contains("tasker token create")
                && text.contains("127.0.0.1:8888"),
            "{text}"
        );
    }
}
