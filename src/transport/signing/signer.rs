//! Seals what an API process sends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::key::{KeyError, SigningKey};
use crate::domain::{
    Certificate, Command, EnvironmentName, Json, KeyId, Order, OrderSignature, Recipients, Seal, SealHead,
    Timestamp, statement,
};

/// How long a copy counts at most. Short, since a thief of the broker can keep copies: the ledger asks again
/// with new ones.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Signs with the key of an API process.
#[derive(Debug)]
pub struct Signer {
    environment: EnvironmentName,
    key: SigningKey,
    certificate: Option<Certificate>,
}

impl Signer {
    /// Signs for this environment.
    pub const fn new(environment: EnvironmentName, key: SigningKey) -> Self {
        Self { environment, key, certificate: None }
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
        let [issued_at, not_after] =
            [now, now.after(life)].map(|time| Timestamp::from_millis(time.as_millis()));
        let head = SealHead { by: self.key(), issued_at, not_after, to, answers };
        let signature = self.key.sign(&statement::of_copy(&self.environment, &head, command));
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

/// The certificate in a file.
///
/// # Errors
/// When it cannot be read, or is not a certificate.
pub fn read_certificate(path: &Path) -> Result<Certificate, KeyError> {
    let bytes = fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| KeyError::Certificate { path: path.to_owned(), reason: error.to_string() })
}
