//! Secrets of workers: how they are stored and checked.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::SecretHash;
use crate::farm::ObjectId;

/// Bytes of salt before the hash.
const SALT: usize = 16;
/// Bytes of the hash.
const HASH: usize = 32;
/// Rounds: some milliseconds.
const ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).expect("more than none");
/// Workers whose secrets are remembered.
const REMEMBERED: usize = 10_000;

/// The stored form of a secret: a salt, and the slow hash of salt and secret.
///
/// # Errors
/// When the system has no random bytes.
pub(super) fn hashed(secret: &str) -> Result<Vec<u8>, ring::error::Unspecified> {
    let mut kept = vec![0; SALT + HASH];
    let (salt, hash) = kept.split_at_mut(SALT);
    SystemRandom::new().fill(salt)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret.as_bytes(), hash);
    Ok(kept)
}

/// Whether a secret fits its stored form.
fn fits(kept: &[u8], secret: &str) -> bool {
    let Some((salt, hash)) = kept.split_at_checked(SALT) else { return false };
    pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret.as_bytes(), hash).is_ok()
}

/// Secrets that have fitted. Workers send theirs with every request; the slow hash protects against a stolen
/// database only.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    fitted: Mutex<HashMap<ObjectId, (Vec<u8>, SecretHash)>>,
}

impl Secrets {
    /// Whether a worker's secret fits its stored form.
    pub async fn fits(&self, worker: ObjectId, kept: Vec<u8>, secret: String) -> bool {
        let quick = SecretHash::of(secret.as_bytes());
        {
            let fitted = self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
            if fitted.get(&worker).is_some_and(|(then, hash)| *then == kept && hash.matches(&quick)) {
                return true;
            }
        }
        let (slow, text) = (kept.clone(), secret);
        let fits = tokio::task::spawn_blocking(move || fits(&slow, &text)).await.unwrap_or(false);
        if fits {
            let mut fitted = self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
            if fitted.len() >= REMEMBERED {
                fitted.clear();
            }
            fitted.insert(worker, (kept, quick));
        }
        fits
    }
}

/// The worker and the secret in an `Authorization` header of the basic scheme.
pub(super) fn basic(header: Option<&str>) -> Option<(ObjectId, String)> {
    let (scheme, text) = header?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    let (user, secret) = text.split_once(':')?;
    Some((user.parse().ok()?, secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn a_secret_fits_what_was_kept_of_it() {
        let (kept, other) =
            (hashed("s3cr3t").expect("random bytes"), hashed("s3cr3t").expect("random bytes"));
        assert_ne!(kept, other, "each has its salt");
        assert!(!kept.windows(6).any(|part| part == b"s3cr3t"));
        let (secrets, worker) = (Secrets::default(), ObjectId::new(Timestamp::from_micros(0)));
        for _ in 0..2 {
            assert!(secrets.fits(worker, kept.clone(), "s3cr3t".into()).await);
            assert!(!secrets.fits(worker, kept.clone(), "S3cr3t".into()).await);
        }
        assert!(
            !secrets.fits(worker, hashed("new").expect("random bytes"), "s3cr3t".into()).await,
            "it registered anew"
        );
        assert!(!secrets.fits(worker, vec![1], "s3cr3t".into()).await);
    }

    #[test]
    fn reads_the_header() {
        let id = "5e90aa11bb22cc33dd44ee00";
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(
            basic(Some(&header(&format!("{id}:a:b")))),
            Some((id.parse().expect("an id"), "a:b".to_owned()))
        );
        for wrong in [
            None,
            Some(header("x:y")),
            Some(header(id)),
            Some("Basic ???".to_owned()),
            Some("Bearer x".to_owned()),
            Some(String::new()),
        ] {
            assert_eq!(basic(wrong.as_deref()), None, "{wrong:?}");
        }
    }
}
