//! The certificate shown to clients, read again when its files have changed.
//!
//! Promise: what does not fit together, or cannot be read any more, changes nothing; the previous certificate
//! stays in use until its files are whole again. No handshake waits for a file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::TlsFiles;
use crate::regular_file;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes that each file may have when it is read again.
const LONGEST_FILE: u64 = 1 << 20;

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
    /// Nobody would read the files again.
    #[error("cannot start the thread that reads the certificate again: {0}")]
    NoThread(#[source] io::Error),
    /// TLS itself refuses.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}

/// The certificate of the files, as they were at the last look.
#[derive(Debug)]
pub struct Certificate {
    provider: Arc<CryptoProvider>,
    /// Locked only to clone or exchange it.
    key: RwLock<Arc<CertifiedKey>>,
}

/// What changes when a file is written or replaced: its inode, time and length.
type Stamp = (u64, (i64, i64), u64);

impl Certificate {
    /// Reads the files for the first time. As long as the certificate is in use, a thread reads them again
    /// when they have changed; a file system that does not answer holds up nothing but that thread, for
    /// which the end of the process does not wait.
    ///
    /// # Errors
    /// When they are not certificate and key, or there is no thread.
    pub fn read(files: TlsFiles) -> Result<Arc<Self>, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Stamps first: what changes while it is read is noticed afterwards.
        let stamps = stamps(&files);
        let key = RwLock::new(Arc::new(key_of(&files, &provider, |path| fs::read(path))?));
        let read = Arc::new(Self { provider, key });
        let kept = Arc::downgrade(&read);
        thread::Builder::new()
            .name("certificate".into())
            .spawn(move || read_again(&files, stamps, &kept))
            .map_err(CertificateError::NoThread)?;
        Ok(read)
    }

    /// The cryptography it was read for.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }
}

/// Reads the files whenever they have changed, until nobody uses the certificate any more.
fn read_again(files: &TlsFiles, mut read: [Option<Stamp>; 2], certificate: &Weak<Certificate>) {
    let mut told = None;
    loop {
        thread::sleep(EVERY);
        let Some(provider) = certificate.upgrade().map(|certificate| certificate.provider()) else { return };
        let stamps = stamps(files);
        if stamps == read {
            continue;
        }
        match key_of(files, &provider, |path| regular_file::read(path, LONGEST_FILE)) {
            Ok(key) => {
                let Some(certificate) = certificate.upgrade() else { return };
                *certificate.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                (read, told) = (stamps, None);
                tracing::info!(certificate = %files.certificate.display(), "the certificate was reloaded");
            }
            // The one file is often written before the other: the next look may find both.
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!(error, "the previous certificate stays in use");
                    told = Some(error);
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), (file.mtime(), file.mtime_nsec()), file.len()))
    })
}

fn key_of(
    files: &TlsFiles,
    provider: &CryptoProvider,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<CertifiedKey, CertificateError> {
    let TlsFiles { certificate, key } = files;
    let read = |path: &Path| {
        read(path).map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
    };
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
