//! From a key to a connection: a socket permit, the name, the guard, TCP, perhaps a proxy, perhaps TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Stream};
use super::error::{AttemptFailure, Phase};
use super::key::Key;
use super::network::Network;
use super::proxy::Via;
use super::sockets::{Permit, is_out_of_files};
use super::tls::TlsContext;

/// The answer of a proxy may be this long.
const PROXY_HEAD: usize = 8 << 10;
/// How long to wait when the system has no file left, which other programs or parts of this one may have
/// taken.
const OUT_OF_FILES: Duration = Duration::from_millis(20);

/// Makes a connection. `phase` says where it is, for whoever runs out of time.
pub(super) async fn dial(
    network: &Network,
    key: Arc<Key>,
    tls: &TlsContext,
    phase: &mut Phase,
) -> Result<Connection, AttemptFailure> {
    *phase = Phase::Queue;
    let permit = permit(network).await;
    let settings = &network.settings.transport;
    let via = network.settings.proxy.way_to(key.https, &key.host);
    let limit = settings.connect_timeout;
    let connected = timeout(limit, connect(network, &key, via, permit, phase)).await;
    let (stream, permit) = connected
        .unwrap_or_else(|_| Err(AttemptFailure::Slow { target: key.target(), phase: *phase, limit }))?;
    network.count_dial();
    let begun = |source| AttemptFailure::Exchange {
        target: key.target(),
        phase: Phase::Connect,
        source: Arc::new(source),
    };
    if !key.https {
        return Connection::begin(key.clone(), stream, permit).await.map_err(begun);
    }
    *phase = Phase::Tls;
    let limit = settings.tls_handshake_timeout;
    let shaken = timeout(limit, shake_hands(&key, tls, stream)).await;
    let stream = shaken
        .unwrap_or_else(|_| Err(AttemptFailure::Slow { target: key.target(), phase: Phase::Tls, limit }))?;
    Connection::begin(key.clone(), stream, permit).await.map_err(begun)
}

/// A permit; the oldest idle connection gives way when there is none.
async fn permit(network: &Network) -> Option<Permit> {
    if let Some(permit) = network.sockets.try_take() {
        return Some(permit);
    }
    network.pool.evict();
    network.sockets.take().await
}

async fn connect(
    network: &Network,
    key: &Key,
    via: Option<&Via>,
    mut permit: Option<Permit>,
    phase: &mut Phase,
) -> Result<(Box<dyn Stream>, Permit), AttemptFailure> {
    let began = Instant::now();
    let (host, port) = via.map_or((key.host.as_str(), key.port), |via| (via.host.as_str(), via.port));
    let addresses = addresses(network, host, port, key.https && !key.verify, phase).await?;
    *phase = Phase::Connect;
    let mut failure = None;
    let mut rest = addresses.len();
    for address in addresses {
        // Each address gets its share, so that one that does not answer leaves time for the next.
        let left = network.settings.transport.connect_timeout.saturating_sub(began.elapsed());
        let share = left / u32::try_from(rest).unwrap_or(u32::MAX);
        rest -= 1;
        loop {
            let Some(held) = permit.take() else { return Err(no_permit(key)) };
            match timeout(share, network.settings.connector.connect(SocketAddr::new(address, port))).await {
                Ok(Ok(mut stream)) => {
                    if let Some(via) = via.filter(|_| key.https) {
                        ask_proxy(&mut stream, key, via).await?;
                    }
                    return Ok((stream, held));
                }
                Ok(Err(error)) if is_out_of_files(&error) => {
                    // Somebody else opens files: not the task's fault, so no attempt is spent.
                    network.sockets.shrink();
                    drop(held);
                    network.pool.evict();
                    tokio::time::sleep(OUT_OF_FILES).await;
                    permit = network.sockets.take().await;
                }
                Ok(Err(error)) => {
                    failure = Some(error);
                    permit = Some(held);
                    break;
                }
                Err(_) => {
                    failure = Some(io::ErrorKind::TimedOut.into());
                    permit = Some(held);
                    break;
                }
            }
        }
    }
    let source = Arc::new(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
    Err(AttemptFailure::Connect { target: key.target(), source })
}

fn no_permit(key: &Key) -> AttemptFailure {
    AttemptFailure::Connect {
        target: key.target(),
        source: Arc::new(io::Error::other("the runner has ended")),
    }
}

/// The addresses of a host that may be reached. What is checked here is what is connected to.
async fn addresses(
    network: &Network,
    host: &str,
    port: u16,
    insecure: bool,
    phase: &mut Phase,
) -> Result<Vec<IpAddr>, AttemptFailure> {
    let found: Arc<[IpAddr]> = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Arc::new([address]),
        Err(_) => {
            *phase = Phase::Dns;
            let looked = network.resolver.look_up(host).await;
            looked.map_err(|error| AttemptFailure::Dns { host: host.to_owned(), source: Arc::new(error) })?
        }
    };
    let Some(guard) = &network.settings.guard else { return Ok(found.to_vec()) };
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in found.iter().copied() {
        let checked = guard.check(host, port, address);
        match checked.and_then(|()| if insecure { guard.check_insecure(address) } else { Ok(()) }) {
            Ok(()) => allowed.push(address),
            Err(why) => refused = Some(AttemptFailure::Refused { host: host.to_owned(), address, why }),
        }
    }
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused),
        _ => Ok(allowed),
    }
}

/// Opens a way through a proxy.
async fn ask_proxy(stream: &mut Box<dyn Stream>, key: &Key, via: &Via) -> Result<(), AttemptFailure> {
    let target = key.target();
    let broken =
        |source: io::Error| AttemptFailure::Connect { target: key.target(), source: Arc::new(source) };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credentials) = &via.credentials {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(broken)?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the target.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD {
            return Err(broken(io::Error::other("the proxy's answer is too long")));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    let status = head
        .split(|byte| *byte == b' ')
        .nth(1)
        .and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        other => Err(AttemptFailure::Proxy { target, status: other.unwrap_or_default() }),
    }
}

async fn shake_hands(
    key: &Key,
    tls: &TlsContext,
    stream: Box<dyn Stream>,
) -> Result<tokio_rustls::client::TlsStream<Box<dyn Stream>>, AttemptFailure> {
    let failed = |source: io::Error, target: String| {
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let certificate = matches!(tls, Some(rustls::Error::InvalidCertificate(_)));
        let source = Arc::new(match tls.and_then(lacking) {
            Some(lacking) => io::Error::new(source.kind(), format!("{source}: {lacking}")),
            None => source,
        });
        if certificate {
            AttemptFailure::Certificate { target, source }
        } else {
            AttemptFailure::Tls { target, source }
        }
    };
    let config =
        tls.client(key.verify).await.map_err(|error| failed(io::Error::other(error), key.target()))?;
    let name = ServerName::try_from(key.host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| failed(io::Error::other(error), key.target()))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| failed(error, key.target()))
}

/// What a server would have to offer, when the handshake failed because the two sides have nothing in common.
/// An alert does not say what the server has: old controllers often have TLS 1.0, RSA key exchange or
/// certificates of other curves alone.
fn lacking(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::ProtocolVersion
            | AlertDescription::UnsupportedCertificate,
        ) => Some(
            "the server offers only what this client has not, which has TLS 1.2 and 1.3, key exchange over X25519, P-256 and P-384, and \
             certificates with RSA, P-256, P-384 and Ed25519 keys",
        ),
        Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => Some("only certificates signed with RSA, P-256, P-384 and Ed25519 keys can be verified"),
        _ => None,
    }
}
