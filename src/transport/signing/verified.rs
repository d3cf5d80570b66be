//! Remembers signatures that were found good, so that the many copies which share one cost one verification, and
//! a certificate that comes with each message is verified once.
//!
//! What is remembered is arithmetic: that this signature of exactly these bytes is one of this key. Whether the
//! key counts, what it may sign and until when is not, and is judged anew each time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::key::PublicKey;
use crate::domain::Signature;

/// Signatures of a generation. Two of them take some 100 KiB.
const GENERATION: usize = 1024;

/// A memory of good signatures. What is not asked for is forgotten first.
#[derive(Debug, Default)]
pub struct Verified {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Proven>,
    old: HashSet<Proven>,
}

/// The SHA-256 of key, signature and statement. Those two have one length each, so different ones are different
/// bytes.
type Proven = [u8; 32];

impl Verified {
    /// One that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a statement was signed with the private half of a key: see [`PublicKey::verifies`], whose answer
    /// this is.
    pub fn verifies(&self, key: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
        let hash = Sha256::new().chain_update(key.as_bytes()).chain_update(signature);
        let proven = hash.chain_update(statement).finalize().into();
        if self.with(|generations| generations.know(&proven)) {
            return true;
        }
        // Others need not wait for this: at worst two do the same work.
        let good = key.verifies(statement, signature);
        if good {
            self.with(|generations| generations.note(proven));
        }
        good
    }

    fn with<T>(&self, act: impl FnOnce(&mut Generations) -> T) -> T {
        act(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generations {
    fn know(&mut self, proven: &Proven) -> bool {
        if self.young.contains(proven) {
            return true;
        }
        let known = self.old.remove(proven);
        if known {
            self.note(*proven);
        }
        known
    }

    fn note(&mut self, proven: Proven) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(proven);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::SigningKey;
    use proptest::prelude::*;

    fn size(verified: &Verified) -> usize {
        verified.with(|Generations { young, old }| young.len() + old.len())
    }

    #[test]
    fn only_good_signatures_are_remembered() {
        let [ours, other] = [(); 2].map(|()| SigningKey::create().expect("a key").0);
        let verified = Verified::new();
        let (statement, signature) = (b"a statement", ours.sign(b"a statement"));
        let wrong = [
            (&other, &statement[..], signature),
            (&ours, b"another statement", signature),
            (&ours, b"", signature),
            (&ours, statement, other.sign(statement)),
            (&ours, statement, [0; 64]),
        ];
        // Before it is known and after, and again.
        for known in [0, 1, 1] {
            for (key, statement, signature) in &wrong {
                assert!(!verified.verifies(key.public(), statement, signature), "{statement:?}");
            }
            assert_eq!(size(&verified), known);
            assert!(verified.verifies(ours.public(), statement, &signature));
            assert_eq!(size(&verified), 1);
        }
        // The same bytes, divided at another place, are something else.
        let (first, rest) = (signature[63], [&signature[63..], &statement[..]].concat());
        let mut shifted = [first; 64];
        shifted[1..].copy_from_slice(&signature[..63]);
        assert!(!verified.verifies(ours.public(), &rest, &shifted));
    }

    #[test]
    fn it_does_not_grow_and_keeps_what_is_asked_for() {
        let key = SigningKey::create().expect("a key").0;
        let verified = Verified::new();
        let proven = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        let certificate = key.sign(b"a certificate");
        assert!(verified.verifies(key.public(), b"a certificate", &certificate));
        for number in 0..10 * GENERATION as u64 {
            verified.with(|generations| generations.note(proven(number)));
            assert!(verified.verifies(key.public(), b"a certificate", &certificate));
            assert!(size(&verified) <= 2 * GENERATION);
        }
        assert!(!verified.with(|generations| generations.know(&proven(0))), "it was never asked for");
    }

    proptest! {
        /// Whatever was asked before, the answer is that of the key.
        #[test]
        fn the_answer_is_that_of_the_key(asked in proptest::collection::vec((0usize..2, 0usize..2, 0u8..3, any::<bool>()), 1..30)) {
            let keys = [(); 2].map(|()| SigningKey::create().expect("a key").0);
            let verified = Verified::new();
            for (signer, claimed, statement, spoilt) in asked {
                let (statement, key) = ([statement], keys[claimed].public());
                let mut signature = keys[signer].sign(&statement);
                signature[7] ^= u8::from(spoilt);
                let expected = key.verifies(&statement, &signature);
                prop_assert_eq!(expected, signer == claimed && !spoilt);
                prop_assert_eq!(verified.verifies(key, &statement, &signature), expected);
            }
        }
    }
}
