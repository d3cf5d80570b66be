//! Seals what an API process sends, or a caller of HTTP tasks.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::key::{KeyError, PublicKey, SigningKey};
use crate::domain::{
    BatchPath, Certificate, Command, EnvironmentName, Json, KeyId, Order, OrderSignature, Purpose,
    Recipients, Revocations, Seal, SealHead, Timestamp, statement, tree,
};

/// How long a copy counts at most. Short, since a thief of the broker can keep copies: the ledger asks again
/// with new ones.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// A copy of a message that has no seal yet.
#[derive(Debug, Clone)]
pub struct Unsealed<'a> {
    /// The message, as its receivers read it.
    pub command: &'a Command,
    /// For whom it is.
    pub to: Recipients,
    /// When the message was sent that this one answers, by the clock of its receiver.
    pub answers: Option<Timestamp>,
}

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

    /// With a certificate, which goes with each seal, for what this signer signs.
    ///
    /// # Errors
    /// When it is for another key, or for something else.
    pub fn with_certificate(self, certificate: Certificate, wanted: Purpose) -> Result<Self, KeyError> {
        let (of, purpose) = (KeyId::of(&certificate.public), certificate.purpose);
        if certificate.public != *self.key.public().as_bytes() {
            return Err(KeyError::OtherCertificate { of });
        }
        match purpose == wanted {
            true => Ok(Self { certificate: Some(certificate), ..self }),
            false => Err(KeyError::OtherPurpose { of, purpose, wanted }),
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
        let (head, statement) = self.draft(Unsealed { command, to, answers }, now);
        self.signed(head, &statement)
    }

    /// The seals of copies that go out together, in order. They share signatures, one for each
    /// [`BatchPath::MOST`] of them; one that is alone is sealed as by [`Self::seal`].
    pub fn seal_together(&self, copies: Vec<Unsealed<'_>>, now: Timestamp) -> Vec<Seal> {
        let mut seals = Vec::with_capacity(copies.len());
        let mut drafts = copies.into_iter().map(|copy| self.draft(copy, now));
        loop {
            let batch: Vec<_> = drafts.by_ref().take(BatchPath::MOST).collect();
            if batch.len() < 2 {
                seals.extend(batch.into_iter().map(|(head, statement)| self.signed(head, &statement)));
                return seals;
            }
            let (root, paths) = tree(batch.iter().map(|(_, statement)| statement.as_slice()));
            let of_batch = statement::of_batch(&self.environment, self.key(), batch.len(), &root);
            let signature = self.key.sign(&of_batch);
            seals.extend(batch.into_iter().zip(paths).map(|((head, _), path)| Seal {
                head,
                signature,
                batch: Some(path),
                certificate: self.certificate.clone(),
            }));
        }
    }

    /// What the seal of a copy says, and the statement that it is of.
    fn draft(&self, Unsealed { command, to, answers }: Unsealed<'_>, now: Timestamp) -> (SealHead, Vec<u8>) {
        let life = match command {
            Command::Task(task) => task.expires_in.min(LIFE),
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => LIFE,
        };
        let head = self.head(to, answers, [now, now.after(life)]);
        let statement = statement::of_copy(&self.environment, &head, command);
        (head, statement)
    }

    /// The seal of a message about HTTP tasks that goes this way, and counts for so long.
    pub fn seal_http(&self, way: &str, message: &[u8], life: Duration, now: Timestamp) -> Seal {
        let head = self.head(Recipients::All, None, [now, now.after(life)]);
        let statement = statement::of_http(&self.environment, &head, way, message);
        self.signed(head, &statement)
    }

    fn head(&self, to: Recipients, answers: Option<Timestamp>, times: [Timestamp; 2]) -> SealHead {
        let [issued_at, not_after] = times.map(|time| Timestamp::from_millis(time.as_millis()));
        SealHead { by: self.key(), issued_at, not_after, to, answers }
    }

    fn signed(&self, head: SealHead, statement: &[u8]) -> Seal {
        let signature = self.key.sign(statement);
        Seal { head, signature, batch: None, certificate: self.certificate.clone() }
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
