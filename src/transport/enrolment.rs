//! Invitations: how a server gets the broker user of its endpoint, so that nobody else can read it.
//!
//! An invitation is 256 random bits that a person carries to the server. Two values are derived from them: a
//! ticket, which the server sends to the API, and a key, which never leaves the server. The ledger keeps the
//! hash of the ticket, and the user sealed with the key. So nobody can read the user from the database or in
//! an API process, and an intercepted ticket does not open it.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::domain::{EndpointName, TaskType};

/// The prefix of invitations: people and secret scanners recognise one by it.
const PREFIX: &str = "tasker_invitation_";

/// The salt of the key derivation: no other program derives the same values from the same bits.
const SALT: &[u8] = b"tasker/enrolment/1";

/// Bytes of an invitation, and of a ticket.
const BYTES: usize = 32;

/// Why an invitation or an identity cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// The text is not an invitation.
    #[error("expected an invitation such as `tasker endpoint invite` prints: `{PREFIX}` and 43 characters")]
    NotAnInvitation,
    /// The invitation is for another identity, or the sealed identity was changed.
    #[error(
        "the invitation does not open what the API answered: it is for another endpoint, or the answer was changed on its way"
    )]
    Sealed,
    /// The sealed bytes are not an identity.
    #[error("the API answered an identity of a version of tasker that this one does not know")]
    Unknown,
    /// The system gives no random numbers, or no key.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// The broker user of an endpoint, as its server keeps it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The types whose tasks the user may consume.
    pub task_types: Vec<TaskType>,
    /// The virtual host of the installation.
    pub virtual_host: String,
    /// The prefix of the installation's exchanges and queues.
    pub exchange: String,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An invitation, and what is derived from it.
pub struct Invitation(Prk);

impl Invitation {
    /// A new one, with its text.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new() -> Result<(Self, Secret), EnrolmentError> {
        let text = Secret::random(PREFIX).ok_or(EnrolmentError::NoRandomNumbers)?;
        Ok((Self::parse(text.reveal())?, text))
    }

    /// The one with this text.
    ///
    /// # Errors
    /// When it is not the text of an invitation.
    pub fn parse(text: &str) -> Result<Self, EnrolmentError> {
        let bytes =
            text.trim().strip_prefix(PREFIX).and_then(|word| BASE64_URL_SAFE_NO_PAD.decode(word).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == BYTES).ok_or(EnrolmentError::NotAnInvitation)?;
        Ok(Self(Salt::new(HKDF_SHA256, SALT).extract(&bytes)))
    }

    /// The ticket, which is sent to the API.
    ///
    /// # Errors
    /// Never in practice: when the length of a ticket is not one that can be derived.
    pub fn ticket(&self) -> Result<String, EnrolmentError> {
        let mut ticket = [0; BYTES];
        self.0
            .expand(&[b"ticket"], HKDF_SHA256)
            .and_then(|derived| derived.fill(&mut ticket))
            .map_err(|_| EnrolmentError::NoRandomNumbers)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(ticket))
    }

    /// Seals an identity.
    ///
    /// # Errors
    /// Never in practice: when there is no key.
    pub fn seal(&self, identity: &Identity) -> Result<Vec<u8>, EnrolmentError> {
        let mut sealed = serde_json::to_vec(identity).map_err(|_| EnrolmentError::Unknown)?;
        let of = identity.endpoint.as_str();
        self.key()?
            .seal_in_place_append_tag(nonce(), Aad::from(of), &mut sealed)
            .map_err(|_| EnrolmentError::Sealed)?;
        Ok(sealed)
    }

    /// Opens the identity of this endpoint.
    ///
    /// # Errors
    /// When it was sealed with another invitation or for another endpoint, or was changed.
    pub fn open(&self, endpoint: &EndpointName, mut sealed: Vec<u8>) -> Result<Identity, EnrolmentError> {
        let opened = self
            .key()?
            .open_in_place(nonce(), Aad::from(endpoint.as_str()), &mut sealed)
            .map_err(|_| EnrolmentError::Sealed)?;
        serde_json::from_slice(opened).map_err(|_| EnrolmentError::Unknown)
    }

    fn key(&self) -> Result<LessSafeKey, EnrolmentError> {
        let key =
            self.0.expand(&[b"key"], &CHACHA20_POLY1305).map_err(|_| EnrolmentError::NoRandomNumbers)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// The same nonce each time, which is safe because a key seals one identity only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(endpoint: &str) -> Identity {
        Identity {
            endpoint: endpoint.parse().expect("a name"),
            task_types: vec!["worker".parse().expect("a type")],
            virtual_host: "/".to_owned(),
            exchange: "tasker".to_owned(),
            username: format!("/:tasker:{endpoint}:1"),
            password: "canary-password".to_owned(),
        }
    }

    #[test]
    fn an_invitation_opens_what_was_sealed_with_it_for_its_endpoint() {
        let (invitation, text) = Invitation::new().expect("random numbers");
        let sealed = invitation.seal(&identity("ep1")).expect("seals");
        assert!(!String::from_utf8_lossy(&sealed).contains("canary"));
        let again = Invitation::parse(&format!(" {}\n", text.reveal())).expect("an invitation");
        let (ep1, ep2) = ("ep1".parse().expect("a name"), "ep2".parse().expect("a name"));
        let opened = again.open(&ep1, sealed.clone()).expect("opens");
        assert_eq!(
            (opened.username.as_str(), opened.password.as_str()),
            ("/:tasker:ep1:1", "canary-password")
        );
        assert!(!format!("{opened:?}").contains("canary"));
        assert_eq!(again.open(&ep2, sealed.clone()).map(drop), Err(EnrolmentError::Sealed));
        let (other, _) = Invitation::new().expect("random numbers");
        assert_eq!(other.open(&ep1, sealed).map(drop), Err(EnrolmentError::Sealed));
        // What the API sees is the same each time, and tells nothing of the invitation.
        let ticket = invitation.ticket().expect("a ticket");
        assert_eq!(ticket, again.ticket().expect("a ticket"));
        assert!(ticket != other.ticket().expect("a ticket") && !text.reveal().contains(&ticket));
    }

    #[test]
    fn other_words_are_not_invitations() {
        let word = "A".repeat(43);
        assert!(Invitation::parse(&format!("{PREFIX}{word}")).is_ok());
        for text in
            ["", PREFIX, &word, &format!("{PREFIX}{word}A"), &format!("{PREFIX}{}", &word[1..]), "tasker_x"]
        {
            assert_eq!(Invitation::parse(text).map(drop), Err(EnrolmentError::NotAnInvitation), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_changed_does_not_open(place in any::<proptest::sample::Index>(), bit in 0u8..8, cut in 0usize..300) {
            let (invitation, _) = Invitation::new().expect("random numbers");
            let sealed = invitation.seal(&identity("ep1")).expect("seals");
            let mut changed = sealed.clone();
            *place.get_mut(&mut changed) ^= 1 << bit;
            let ep1 = "ep1".parse().expect("a name");
            prop_assert!(invitation.open(&ep1, changed).is_err());
            let cut = cut.min(sealed.len() - 1);
            prop_assert!(invitation.open(&ep1, sealed[..cut].to_vec()).is_err());
        }
    }
}
