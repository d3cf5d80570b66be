//! The tokens of the ledger, as an API process knows them.
//!
//! They are kept in memory, so that a request costs no query, and read again every few seconds, and at once
//! when somebody comes with a secret that is not known: a token works as soon as it was created, and stops to
//! within seconds of being revoked.
//!
//! Promise: a database that is away changes nothing, the tokens read last stay in force. Until they have been
//! read once, nobody is let in. Where one was ever seen, one is needed until the process ends: revoking the
//! last token opens no door.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::{SecretHash, Token, TokenName};
use crate::service::Running;
use crate::store::SharedStore;

/// How often the tokens are read again: what a revoked token may still do.
const EVERY: Duration = Duration::from_secs(3);

/// The least time between two reads: what people with wrong secrets can make the database do.
const GAP: Duration = Duration::from_millis(500);

/// What is known of whoever comes.
#[derive(Debug, Clone)]
pub enum Found {
    /// The tokens have not been read yet.
    Unread,
    /// There is no token, and none is needed here.
    NoneNeeded,
    /// No token has this secret, or none was shown.
    Nobody,
    /// The one with this token.
    Known(Arc<Token>),
}

/// The tokens as they were read last.
#[derive(Debug)]
pub struct Keyring {
    store: SharedStore,
    /// Whether none is needed as long as there is none.
    open: bool,
    known: RwLock<Known>,
    /// When the last read began. Held while reading, so that there is one at a time.
    begun: tokio::sync::Mutex<Option<Instant>>,
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    tokens: Option<Vec<Arc<Token>>>,
    /// Whether there ever was one.
    seen: bool,
    /// How many rows cannot be read.
    unreadable: usize,
}

impl Keyring {
    /// A keyring that knows nothing yet. `open` says whether those without a token are let in as long as
    /// there is none.
    pub fn new(store: SharedStore, open: bool) -> Arc<Self> {
        Arc::new(Self {
            store,
            open,
            known: RwLock::default(),
            begun: tokio::sync::Mutex::default(),
            failing: AtomicBool::new(false),
        })
    }

    /// Reads them again and again until told to stop.
    pub fn run(self: Arc<Self>, stop: CancellationToken) -> Running {
        Box::pin(async move {
            loop {
                self.refresh(Instant::now()).await;
                if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                    return;
                }
            }
        })
    }

    /// Looks for a secret. Takes the same time for all that are not known.
    pub fn look(&self, secret: Option<&SecretHash>) -> Found {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tokens) = &known.tokens else { return Found::Unread };
        if self.open && !known.seen {
            return Found::NoneNeeded;
        }
        let mut found = Found::Nobody;
        if let Some(secret) = secret {
            // To the end in any case: where the search stops must not be told by the time it takes.
            for token in tokens {
                if token.hash.matches(secret) {
                    found = Found::Known(token.clone());
                }
            }
        }
        found
    }

    /// Whether a token is still there, as far as is known.
    pub fn holds(&self, token: &Token) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tokens.iter().flatten().any(|held| held.id == token.id)
    }

    /// Whether a token may be used for the worker of this name: one that is for it alone, or any that is for
    /// no worker while none is for this one. An expired token keeps the name until it is revoked.
    pub fn fits(&self, token: &Token, worker: &str) -> bool {
        if let Some(own) = &token.worker {
            return own.as_str() == worker;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        !known
            .tokens
            .iter()
            .flatten()
            .any(|held| held.worker.as_ref().is_some_and(|taken| taken.as_str() == worker))
    }

    /// Makes sure that the tokens have been read, or tried to be, since this moment.
    ///
    /// All who wait for it at the same time share one read, and reads keep their distance.
    pub async fn refresh(&self, since: Instant) {
        let mut begun = self.begun.lock().await;
        if begun.is_some_and(|begun| begun >= since) {
            return;
        }
        if let Some(begun) = *begun {
            tokio::time::sleep_until(begun + GAP).await;
        }
        *begun = Some(Instant::now());
        match self.store.readable_tokens().await {
            Ok((tokens, unreadable)) => {
                self.failing.store(false, Ordering::Relaxed);
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if known.unreadable != unreadable.len() {
                    known.unreadable = unreadable.len();
                    for error in &unreadable {
                        tracing::error!(%error, "a token cannot be read: nobody gets in with it here");
                    }
                }
                known.seen |= !tokens.is_empty() || !unreadable.is_empty();
                known.tokens = Some(in_force(tokens).into_iter().map(Arc::new).collect());
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the tokens cannot be read; those read last stay in force");
                }
            }
        }
    }
}

/// These tokens without the sessions whose own token is gone. A session goes by the name of that token: whose
/// task it is and what a log says of it is a matter of the token that somebody was given.
fn in_force(tokens: Vec<Token>) -> Vec<Token> {
    let names: HashMap<Uuid, TokenName> = tokens
        .iter()
        .filter(|token| !token.is_session())
        .map(|token| (token.id, token.name.clone()))
        .collect();
    let named = |token: Token| match token.parent {
        None => Some(token),
        Some(parent) => names.get(&parent).map(|name| Token { name: name.clone(), ..token }),
    };
    tokens.into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn token(id: u128, name: &str, parent: Option<u128>) -> Token {
        Token {
            id: Uuid::from_u128(id),
            name: name.parse().expect("a name"),
            hash: SecretHash::of(name.as_bytes()),
            scopes: [crate::domain::Scope::Read].into(),
            task_types: Vec::new(),
            created_at: Timestamp::from_micros(0),
            expires_at: None,
            worker: None,
            parent: parent.map(Uuid::from_u128),
            quota: crate::domain::Quota::default(),
        }
    }

    #[test]
    fn a_session_has_the_name_of_its_token_and_ends_with_it() {
        let tokens = vec![
            token(1, "ci", None),
            token(2, "session-a", Some(1)),
            token(3, "session-b", Some(9)),
            token(4, "s", Some(2)),
        ];
        let left: Vec<_> =
            in_force(tokens).into_iter().map(|token| (token.id.as_u128(), token.name.to_string())).collect();
        assert_eq!(left, [(1, "ci".to_owned()), (2, "ci".to_owned())]);
    }
}
