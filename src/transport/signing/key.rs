//! Ed25519 keys in PEM files, as OpenSSL writes and reads them too.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::config::Secret;
use crate::domain::{KeyId, Purpose, Signature};

/// Bytes of a public key.
const PUBLIC: usize = 32;

/// What a public key begins with in DER: that it is for Ed25519.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Bytes of a key file at most.
const LONGEST: u64 = 4096;

const OTHERS: u32 = 0o077;

/// Points of small order, in all their spellings: for such a "key" signatures can be made that fit many
/// messages.
const WEAK: [[u8; PUBLIC]; 14] = [
    spelt(0x00, 0x00, 0x00),
    spelt(0x00, 0x00, 0x80),
    spelt(0x01, 0x00, 0x00),
    spelt(0x01, 0x00, 0x80),
    spelt(0xec, 0xff, 0x7f),
    spelt(0xec, 0xff, 0xff),
    spelt(0xed, 0xff, 0x7f),
    spelt(0xed, 0xff, 0xff),
    spelt(0xee, 0xff, 0x7f),
    spelt(0xee, 0xff, 0xff),
    of_order_8(&EIGHTH, 0x7a),
    of_order_8(&EIGHTH, 0xfa),
    of_order_8(&OTHER_EIGHTH, 0x05),
    of_order_8(&OTHER_EIGHTH, 0x85),
];

const EIGHTH: [u8; PUBLIC - 1] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
    0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03,
];
const OTHER_EIGHTH: [u8; PUBLIC - 1] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
    0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc,
];

/// The first byte, all in between, and the last one.
const fn spelt(first: u8, between: u8, last: u8) -> [u8; PUBLIC] {
    let mut point = [between; PUBLIC];
    point[0] = first;
    point[PUBLIC - 1] = last;
    point
}

const fn of_order_8(point: &[u8; PUBLIC - 1], last: u8) -> [u8; PUBLIC] {
    let mut whole = [last; PUBLIC];
    let mut at = 0;
    while at < PUBLIC - 1 {
        whole[at] = point[at];
        at += 1;
    }
    whole
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key {path} cannot be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may have read it.
    #[error(
        "the key {path} may be read by others on this machine (mode {mode:04o}); expected 0600: make a new key if they could have read it"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file has something else.
    #[error(
        "{path} is not a private key; expected PKCS#8 in PEM for Ed25519, as `tasker key create` writes it"
    )]
    Private {
        /// Which.
        path: PathBuf,
    },
    /// Not a public key.
    #[error("not a public key; expected PEM or base64 for Ed25519, as `tasker key create` writes it")]
    Public,
    /// A key for which anybody can sign.
    #[error(
        "the public key is a point of small order, for which anybody can sign: it comes from an attacker or a broken program"
    )]
    Weak,
    /// The file has something else.
    #[error("{path} is not a certificate of a key, as `tasker key certify` writes it: {reason}")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file has something else.
    #[error("{path} is not a list of revoked keys, as `tasker key revoke` writes it: {reason}")]
    Revocations {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not a file that a key is kept in.
    #[error("the key {path} is not a regular file")]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else can change the key.
    #[error(
        "the key {path} belongs to user {owner}; expected root or user {own}, which tasker runs as: `chown` it"
    )]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// The certificate is for another key.
    #[error(
        "the certificate is for the key {of}, which is not the one that signs here: certify the right one"
    )]
    OtherCertificate {
        /// The key that it is for.
        of: KeyId,
    },
    /// The certificate is for something else.
    #[error(
        "the certificate of the key {of} is for {purpose}, and not for {wanted}: certify the key with `tasker key certify --for {wanted}`"
    )]
    OtherPurpose {
        /// The key.
        of: KeyId,
        /// What it is for.
        purpose: Purpose,
        /// What it is to be for.
        wanted: Purpose,
    },
    /// A key that signs is on the list of those that count no more.
    #[error(
        "the key {of}, which signs here, is revoked in security.revocations: endpoints would refuse all that it signs; set security.signing_key to another one"
    )]
    Revoked {
        /// The key.
        of: KeyId,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PUBLIC]);

impl PublicKey {
    /// # Errors
    /// When it is not 32 bytes long, or a key for which anybody can sign.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; PUBLIC] = bytes.try_into().map_err(|_| KeyError::Public)?;
        if WEAK.contains(&bytes) { Err(KeyError::Weak) } else { Ok(Self(bytes)) }
    }

    /// The key in a PEM or base64 text.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        match from_pem(text, "PUBLIC KEY") {
            Some(der) => Self::new(der.strip_prefix(&SPKI[..]).ok_or(KeyError::Public)?),
            None => Self::new(&STANDARD.decode(text).map_err(|_| KeyError::Public)?),
        }
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; PUBLIC] {
        &self.0
    }

    /// Names it.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// Whether a statement was signed with the private half.
    pub fn verifies(&self, statement: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(statement, signature).is_ok()
    }

    /// The text of a file with it.
    pub fn pem(&self) -> String {
        to_pem(&[&SPKI[..], &self.0].concat(), "PUBLIC KEY")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

/// A key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new one, with the text of its file.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn create() -> Result<(Self, Secret), KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomNumbers)?;
        let pem = to_pem(document.as_ref(), "PRIVATE KEY");
        let key = Self::parse(&pem).ok_or(KeyError::NoRandomNumbers)?;
        Ok((key, Secret::new(pem)))
    }

    /// The one in a file that only its owner can read.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it has no such key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        // A pipe that nobody writes to would hold us up.
        let not_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(not_waiting).open(path).map_err(failed)?;
        // Of the opened file: what is at the path may be exchanged.
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(KeyError::Kind { path: path.to_owned() });
        }
        let (owner, own) = (found.uid(), geteuid().as_raw());
        if owner != 0 && owner != own {
            return Err(KeyError::Owner { path: path.to_owned(), owner, own });
        }
        let mode = found.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).ok_or_else(|| KeyError::Private { path: path.to_owned() })
    }

    fn parse(pem: &str) -> Option<Self> {
        // OpenSSL writes no public half beside the private one.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&from_pem(pem, "PRIVATE KEY")?).ok()?;
        let public = PublicKey::new(pair.public_key().as_ref()).ok()?;
        Some(Self { pair, public })
    }

    /// Its public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a statement.
    ///
    /// # Panics
    /// Never: signatures of this kind have 64 bytes.
    pub fn sign(&self, statement: &[u8]) -> Signature {
        self.pair.sign(statement).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public.id()).finish()
    }
}

/// The first block of this label.
fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

fn to_pem(der: &[u8], label: &str) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("server.key");
        let (key, pem) = SigningKey::create().expect("a key");
        fs::write(&path, pem.reveal()).expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        for open in [0o640, 0o604, 0o601] {
            mode(open);
            assert!(matches!(SigningKey::read(&path), Err(KeyError::Exposed { .. })), "{open:o}");
        }
        mode(0o600);
        let read = SigningKey::read(&path).expect("a key");
        assert_eq!(read.public(), key.public());
        let signature = read.sign(b"a statement");
        assert!(key.public().verifies(b"a statement", &signature));
        assert!(!key.public().verifies(b"another", &signature));
        let (other, _) = SigningKey::create().expect("a key");
        assert!(!other.public().verifies(b"a statement", &signature));
        assert!(!format!("{key:?}").contains(&key.public().to_string()));
        for wrong in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", &key.public().pem()]
        {
            fs::write(&path, wrong).expect("written");
            assert!(matches!(SigningKey::read(&path), Err(KeyError::Private { .. })), "{wrong}");
        }
        assert!(matches!(SigningKey::read(dir.path()), Err(KeyError::Kind { .. })));
        let pipe = dir.path().join("pipe.key");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert!(matches!(SigningKey::read(&pipe), Err(KeyError::Kind { .. })));
        // Only root can give a file to others.
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12345), None).expect("changed");
            assert!(matches!(SigningKey::read(&path), Err(KeyError::Owner { owner: 12345, .. })));
        }
    }

    #[test]
    fn a_public_key_is_pem_or_base64() {
        let (key, _) = SigningKey::create().expect("a key");
        let public = *key.public();
        for text in [public.pem(), public.to_string(), format!(" {public}\n")] {
            assert_eq!(PublicKey::parse(&text).expect("a key"), public, "{text}");
        }
        for text in ["", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert!(matches!(PublicKey::parse(text), Err(KeyError::Public)), "{text}");
        }
    }

    /// With such a key, one signature fits every message, and the library alone does not object.
    #[test]
    fn keys_of_small_order_are_refused() {
        let identity = spelt(1, 0, 0);
        let mut signature = [0; 64];
        signature[0] = 1;
        for statement in [&b"one"[..], b"another"] {
            assert!(UnparsedPublicKey::new(&ED25519, &identity).verify(statement, &signature).is_ok());
        }
        for weak in WEAK {
            assert!(matches!(PublicKey::new(&weak), Err(KeyError::Weak)), "{weak:x?}");
        }
    }
}
