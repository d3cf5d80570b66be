//! Seals what an API process sends, or a caller of HTTP tasks.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::key::{KeyError, PublicKey, SigningKey};
use crate::domain::{
    Certificate, Command, EnvironmentName, Json, KeyId, Order, OrderSignature, Recipients, Revocations, Seal,
    SealHead, Timestamp, statement,
};

/// How long a copy counts at most. Short, since a thief of the broker can keep copies: the ledger asks again
/// with new ones.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Signs with the key of an API process, or of a caller of HTTP tasks.
#[derive(Debug)]
pub struct Signer {
    environment: EnvironmentName,
    key: SigningKey,
    certificate: Option<Certificate>,
    revocations: Option<Arc<Revocations>>,
}

impl Signer {
    /// Signs for this environment.
    pub const fn new(environment: EnvironmentName, key: SigningKey) -> Self {
        Self { environment, key, certificate: None, revocations: None }
    }

    /// With a certificate, which goes with each seal.
    ///
    /// # Errors
    /// When it is for another key.
    pub fn with_certificate(self, certificate: Certificate) -> Result<Self, KeyError> {
        match certificate.public == *self.key.public().as_bytes() {
            true => Ok(Self { certificate: Some(certificate), ..self }),
            false => Err(KeyError::OtherCertificate { of: KeyId::of(&certificate.public) }),
        }
    }

    /// With a list of keys that count no more, which goes with each welcome.
    ///
    /// # Errors
    /// When its own key is among them: every endpoint would refuse what it signs.
    pub fn with_revocations(self, revocations: Revocations) -> Result<Self, KeyError> {
        let of = self.key();
        match revocations.keys.contains(&of) {
            true => Err(KeyError::Revoked { of }),
            false => Ok(Self { revocations: Some(Arc::new(revocations)), ..self }),
        }
    }

    /// The keys that count no more.
    pub const fn revocations(&self) -> Option<&Arc<Revocations>> {
        self.revocations.as_ref()
    }

    /// The end of its certificate.
    pub fn ends(&self) -> Option<Timestamp> {
        self.certificate.as_ref().map(|certificate| certificate.not_after)
    }

    /// Names its key.
    pub fn key(&self) -> KeyId {
        self.key.public().id()
    }

    /// The seal of a message. `answers` is when the message was sent that this one answers, by the clock of
    /// its receiver.
    pub fn seal(
        &self,
        command: &Command,
        to: Recipients,
        answers: Option<Timestamp>,
        now: Timestamp,
    ) -> Seal {
        let life = match command {
            Command::Task(task) => task.expires_in.min(LIFE),
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => LIFE,
        };
        let until = now.after(life);
        self.seal_with(to, answers, [now, until], |head| statement::of_copy(&self.environment, head, command))
    }

    /// The seal of a message about HTTP tasks that goes this way, and counts for so long.
    pub fn seal_http(&self, way: &str, message: &[u8], life: Duration, now: Timestamp) -> Seal {
        self.seal_with(Recipients::All, None, [now, now.after(life)], |head| {
            statement::of_http(&self.environment, head, way, message)
        })
    }

    fn seal_with(
        &self,
        to: Recipients,
        answers: Option<Timestamp>,
        times: [Timestamp; 2],
        statement: impl FnOnce(&SealHead) -> Vec<u8>,
    ) -> Seal {
        let [issued_at, not_after] = times.map(|time| Timestamp::from_millis(time.as_millis()));
        let head = SealHead { by: self.key(), issued_at, not_after, to, answers };
        let signature = self.key.sign(&statement(&head));
        Seal { head, signature, certificate: self.certificate.clone() }
    }
}

/// The signature of a person on an order with this payload.
pub fn sign_order(key: &SigningKey, order: &Order, payload: &Json) -> OrderSignature {
    let by = key.public().id();
    OrderSignature { by, signature: key.sign(&statement::of_order(order, by, payload)) }
}

/// Certifies a key with the root key of an installation. The signature of `certificate` is made anew.
pub fn certify(root: &SigningKey, environment: &EnvironmentName, certificate: Certificate) -> Certificate {
    let signature = root.sign(&statement::of_certificate(environment, root.public().id(), &certificate));
    Certificate { signature, ..certificate }
}

/// Signs a list of keys that count no more with the root key of an installation. Its signature is made anew.
pub fn revoke(root: &SigningKey, environment: &EnvironmentName, revocations: Revocations) -> Revocations {
    let signature = root.sign(&statement::of_revocations(environment, root.public().id(), &revocations));
    Revocations { signature, ..revocations }
}

/// Whether a list of keys that count no more has the signature of this root key.
pub fn is_of_root(root: &PublicKey, environment: &EnvironmentName, revocations: &Revocations) -> bool {
    root.verifies(&statement::of_revocations(environment, root.id(), revocations), &revocations.signature)
}

/// The list of keys that count no more in a file. Nobody has verified it.
///
/// # Errors
/// When it cannot be read, or is not such a list.
pub fn read_revocations(path: &Path) -> Result<Revocations, KeyError> {
    let bytes = fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| KeyError::Revocations { path: path.to_owned(), reason: error.to_string() })
}

/// The certificate in a file.
///
/// # Errors
/// When it cannot be read, or is not a certificate.
pub fn read_certificate(path: &Path) -> Result<Certificate, KeyError> {
    let bytes = fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| KeyError::Certificate { path: path.to_owned(), reason: error.to_string() })
}
