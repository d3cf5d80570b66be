//! What an AMQP connection runs on: TCP, or TLS over it.
//!
//! The TLS of the client library comes with 41 more libraries, which read keys in forms that no setting here can
//! name. So the client library is given streams of the TLS library that all other links use. Errors name the file
//! that cannot be used.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::{AsyncRead, AsyncWrite, Stream as Items};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use tokio_util::either::Either;
use tracing::warn;

use crate::config::BrokerTls;

/// What AMQP is spoken over.
pub(super) type Stream = Compat<Either<TcpStream, TlsStream<TcpStream>>>;

/// The runtime of the process, with these streams.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Streams>> {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), Streams(tokio)))
}

/// A connection to a host.
///
/// # Errors
/// When nobody answers there, whatever its addresses are.
pub(super) async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    // Resolved at each attempt: the name may point elsewhere by now.
    let tcp = TcpStream::connect((host, port)).await?;
    // A frame is written whole, and a confirm must not wait for the next one.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// TLS over the connection, with a host that proves to have this name; without a configuration, the connection as
/// it is.
///
/// # Errors
/// When the host does not prove it, or does not speak TLS.
pub(super) async fn over(tcp: TcpStream, host: &str, tls: Option<Arc<ClientConfig>>) -> io::Result<Stream> {
    let Some(config) = tls else { return Ok(Either::Left(tcp).compat()) };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let secured = TlsConnector::from(config).connect(name, tcp).await?;
    Ok(Either::Right(secured).compat())
}

/// Reads the certificates of the system and the TLS files of the configuration. Waits for the disk, on a thread
/// for such work.
///
/// # Errors
/// When a file cannot be used; the error names it, and quotes nothing of it.
pub(super) async fn tls(files: BrokerTls) -> io::Result<Arc<ClientConfig>> {
    tokio::task::spawn_blocking(move || tls_of(&files)).await?
}

fn tls_of(files: &BrokerTls) -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(files.ca.as_deref())?);
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            // The error would quote what it cannot read, which may be the key.
            let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| unusable(key, "there is no private key in PEM without a password"))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(key, error))?
        }
    };
    Ok(Arc::new(config))
}

/// Whom to believe: the certificates of the system, and those of a file.
fn roots(ca: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    if let Some(error) = system.errors.first() {
        warn!(%error, "some certificates of the system cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(ca) = ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| unusable(ca, error))?;
        }
    }
    Ok(roots)
}

/// The certificates in a file; at least one.
fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    // As with a key, the error would quote the file, which may have a key too.
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(unusable(path, "there are no certificates in PEM")),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("manager.message_queue.tls: {}: {error}", path.display()))
}

/// Tokio, which tells the client library of what kind the streams are.
#[derive(Debug, Clone)]
pub(super) struct Streams(Tokio);

impl Reactor for Streams {
    type TcpStream = Stream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, span: Duration) -> Self::Sleep {
        self.0.sleep(span)
    }

    fn interval(&self, span: Duration) -> impl Items<Item = Instant> + Send + 'static {
        self.0.interval(span)
    }

    #[expect(clippy::manual_async_fn, reason = "the future outlives the reactor")]
    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        async move { Ok(Either::Left(TcpStream::connect(address).await?).compat()) }
    }
}
