//! Whom to believe and who we are, in TLS.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::{CertificateResult, load_native_certs};
use tokio::sync::OnceCell;
use tracing::warn;

/// Whether a server has to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// Yes: the task fails otherwise.
    #[default]
    Verify,
    /// No: whoever answers is believed. For this task only.
    Insecure,
}

/// Which certificates a chain may end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those of the system and of the bundle.
    #[default]
    SystemAndBundle,
    /// Those of the bundle.
    Only,
}

/// What to do when a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InsecureFallback {
    /// The task fails.
    #[default]
    Never,
    /// It goes on without looking at the certificate. For nothing but certificates: a status, a refusal or a
    /// time-out never leads here, since whoever can break a handshake could then ask for the credentials.
    OnCertificateError {
        /// The hosts for which this holds, without port.
        hosts: Vec<String>,
        /// Whether headers that carry credentials are sent nevertheless.
        send_credentials: bool,
    },
}

/// Whom to believe and who we are. Everything in it has been read and found good.
#[derive(Clone, Default)]
pub struct TlsConfig {
    roots: Roots,
    bundle: Vec<CertificateDer<'static>>,
    identity: Option<Arc<Identity>>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// What is wrong with certificates or keys. No text shows any part of them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate to trust was found.
    #[error("the bundle contains no certificate")]
    EmptyBundle,
    /// A certificate to trust is none.
    #[error("certificate {number} of the bundle cannot be read")]
    Bundle {
        /// Which one, from 1.
        number: usize,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Half of an identity, or a part that is none.
    #[error("the client identity needs a certificate and its key: {0}")]
    Identity(String),
    /// The system's certificates cannot be read.
    #[error("no system certificate could be read: {reason}")]
    SystemRoots {
        /// What the system said.
        reason: String,
    },
    /// TLS itself does not accept it.
    #[error("invalid TLS configuration")]
    Refused(#[source] rustls::Error),
}

impl TlsConfig {
    /// The system's certificates and no identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds certificates to trust.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn ca_bundle_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let before = self.bundle.len();
        let mut probe = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem.as_ref()).enumerate() {
            let number = index + 1;
            let certificate =
                certificate.map_err(|error| TlsError::Bundle { number, source: error.into() })?;
            probe
                .add(certificate.clone())
                .map_err(|error| TlsError::Bundle { number, source: error.into() })?;
            self.bundle.push(certificate);
        }
        if self.bundle.len() == before { Err(TlsError::EmptyBundle) } else { Ok(self) }
    }

    /// Which certificates a chain may end in.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Who we are, for servers that ask.
    ///
    /// # Errors
    /// When one half is missing or cannot be read, or they do not belong together.
    pub fn client_identity_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_ref())
            .collect::<Result<_, _>>()
            // The error would quote the text, which may have the key too.
            .map_err(|_| TlsError::Identity("the certificate cannot be read".to_owned()))?;
        if chain.is_empty() {
            return Err(TlsError::Identity("there is no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|_| TlsError::Identity("there is no key".to_owned()))?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        // Tells now whether they belong together.
        self.build(&Verifier::Nobody)?;
        Ok(self)
    }

    fn build(&self, verifier: &Verifier) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(TlsError::Refused)?;
        let builder = match verifier {
            Verifier::Roots(roots) => builder.with_root_certificates(roots.clone()),
            Verifier::Nobody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider)))
            }
        };
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| TlsError::Identity(error.to_string()))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsConfig");
        shown
            .field("roots", &self.roots)
            .field("bundle", &self.bundle.len())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

enum Verifier {
    Roots(Arc<RootCertStore>),
    Nobody,
}

/// What connections are made with. A runner has one at a time; a change is a new one, so that no connection
/// made under the old one serves a task launched under the new one.
pub(super) struct TlsContext {
    config: TlsConfig,
    /// Tells contexts apart in the keys of the pool.
    pub(super) generation: u64,
    /// Reads the system's certificates.
    system: fn() -> CertificateResult,
    /// Made when the first `https` task comes: reading the system's certificates takes time and memory. A
    /// failure may pass, so it is not kept.
    verified: OnceCell<Arc<ClientConfig>>,
    insecure: OnceCell<Arc<ClientConfig>>,
}

impl TlsContext {
    pub(super) fn new(config: TlsConfig, generation: u64) -> Self {
        let (system, verified, insecure) = (load_native_certs, OnceCell::new(), OnceCell::new());
        Self { config, generation, system, verified, insecure }
    }

    pub(super) async fn client(&self, verify: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let made = match verify {
            true => {
                let make = async || self.config.build(&Verifier::Roots(self.roots().await?));
                self.verified.get_or_try_init(make).await
            }
            false => self.insecure.get_or_try_init(async || self.config.build(&Verifier::Nobody)).await,
        };
        made.cloned()
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        if self.config.roots == Roots::SystemAndBundle {
            // Hundreds of files on some systems.
            let read = tokio::task::spawn_blocking(self.system).await;
            let CertificateResult { certs, errors, .. } = read.unwrap_or_default();
            roots.add_parsable_certificates(certs);
            let first = errors.first().map(ToString::to_string);
            if roots.is_empty() && self.config.bundle.is_empty() {
                let reason = first.unwrap_or_else(|| "the system has none".to_owned());
                return Err(TlsError::SystemRoots { reason });
            }
            if let Some(first) = first {
                warn!(
                    errors = errors.len(),
                    first,
                    certificates = roots.len(),
                    "some of the system's certificates cannot be read"
                );
            }
        }
        for (index, certificate) in self.config.bundle.iter().enumerate() {
            roots
                .add(certificate.clone())
                .map_err(|error| TlsError::Bundle { number: index + 1, source: error.into() })?;
        }
        Ok(Arc::new(roots))
    }
}

/// Believes everybody. Signatures are not looked at either: the certificates of old controllers are often
/// such that they cannot be.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Also those that cannot be verified here: nothing is, and a server that has no other would not answer.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]);
        schemes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Whether the system's files can be read, by the one test that asks.
    static READABLE: AtomicBool = AtomicBool::new(false);

    /// Rather many files are open, or one.
    fn system() -> CertificateResult {
        let mut read = CertificateResult::default();
        if READABLE.load(Ordering::Relaxed) {
            return load_native_certs();
        }
        read.errors.push(rustls_native_certs::Error {
            context: "failed to open file",
            kind: rustls_native_certs::ErrorKind::Io {
                inner: std::io::Error::other("too many open files"),
                path: "/etc/ssl/certs".into(),
            },
        });
        read
    }

    #[tokio::test]
    async fn certificates_that_could_not_be_read_once_are_read_again() {
        let context = TlsContext { system, ..TlsContext::new(TlsConfig::new(), 1) };
        for _ in 0..2 {
            let error = context.client(true).await.expect_err("nothing is to be had");
            assert!(error.to_string().contains("too many open files"), "{error}");
        }
        context.client(false).await.expect("needs none");
        READABLE.store(true, Ordering::Relaxed);
        context.client(true).await.expect("the system has some");
    }
}
