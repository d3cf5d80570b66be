//! The certificate shown to clients, read again when its files have changed.
//!
//! Promise: what does not fit together, or cannot be read any more, changes nothing; the previous certificate
//! stays in use until its files are whole again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::TlsFiles;

/// How often a handshake looks whether the files have changed.
const EVERY: Duration = Duration::from_secs(1);

/// What is wrong with certificate or key. No text shows any part of them.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in the file, or one that is none.
    #[error("{path} is not a file of certificates in PEM", path = path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// There is no key in the file, or one that needs a password.
    #[error("{path} is not a private key in PEM, without a password", path = path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// They do not belong together, or are of a kind that TLS here does not know.
    #[error("cannot use the certificate {certificate} with the key {key}: {source}", certificate = certificate.display(), key = key.display())]
    Unfit {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS itself refuses.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}

/// The certificate of the files, as they are now.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    key: Arc<CertifiedKey>,
    /// What the files looked like when it was read.
    stamps: [Option<Stamp>; 2],
    looked: Instant,
}

/// What changes when a file is written or replaced: its inode, time and length.
type Stamp = (u64, (i64, i64), u64);

impl Certificate {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When they are not certificate and key.
    pub fn read(files: TlsFiles) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Stamps first: what changes while it is read is noticed afterwards.
        let stamps = stamps(&files);
        let held = Held { key: Arc::new(key_of(&files, &provider)?), stamps, looked: Instant::now() };
        Ok(Self { files, provider, held: RwLock::new(held) })
    }

    /// The cryptography it was read for.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            if held.looked.elapsed() < EVERY {
                return held.key.clone();
            }
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        // Another handshake may have looked meanwhile.
        if held.looked.elapsed() >= EVERY {
            held.looked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != held.stamps {
                match key_of(&self.files, &self.provider) {
                    Ok(key) => {
                        (held.key, held.stamps) = (Arc::new(key), stamps);
                        tracing::info!(certificate = %self.files.certificate.display(), "the certificate was reloaded");
                    }
                    // The one file is often written before the other: the next look may find both.
                    Err(error) => tracing::warn!(%error, "the previous certificate stays in use"),
                }
            }
        }
        held.key.clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), (file.mtime(), file.mtime_nsec()), file.len()))
    })
}

fn key_of(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let TlsFiles { certificate, key } = files;
    let no_certificate = || CertificateError::NoCertificate { path: certificate.clone() };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    // What exactly is wrong with a key is not told, lest a part of it be.
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| CertificateError::NoKey { path: key.clone() })?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|source| CertificateError::Unfit {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
}
