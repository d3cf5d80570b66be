//! How much each token uses of what it may.
//!
//! Each API process counts in its own memory, and so grants the whole quota. A token without limits costs one
//! look at its fields.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::problem::Problem;
use crate::config::size;
use crate::contract::ProblemCode;
use crate::domain::{Bucket, Flow, Token};

/// How long a number of open tasks is believed that was read from the ledger.
const BELIEVED: Duration = Duration::from_secs(1);
/// How often the log tells that a token uses more than it may.
const TOLD: Duration = Duration::from_secs(60);

/// What tokens have used.
#[derive(Debug)]
pub struct Quotas {
    begun: Instant,
    used: Mutex<HashMap<Uuid, Used>>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { begun: Instant::now(), used: Mutex::default() }
    }
}

/// What one token has used.
#[derive(Debug, Default)]
struct Used {
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
    open: Option<Opened>,
    /// When the log was told last that it uses too much.
    told: Option<Duration>,
}

/// The open tasks of a token.
#[derive(Debug, Clone, Copy)]
struct Opened {
    read_at: Duration,
    /// As many as there were, and those accepted since.
    count: u64,
}

/// Tasks that were added to the open ones.
#[derive(Debug, Clone, Copy)]
pub struct Added {
    /// When the number was read that they were added to.
    since: Duration,
    count: u32,
}

impl Opened {
    fn is_believed(&self, now: Duration) -> bool {
        now.saturating_sub(self.read_at) < BELIEVED
    }
}

impl Quotas {
    /// Counts a request whose body has said how long it is.
    ///
    /// # Errors
    /// When the token has used what it may.
    pub fn enter(&self, token: &Token, body: Option<u64>) -> Result<(), Problem> {
        if token.quota.rate.is_none() && token.quota.bytes.is_none() {
            return Ok(());
        }
        let (requests, bytes) = (token.quota.requests(), token.quota.body_bytes());
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(token.given()).or_default();
        let taken = take(&mut used.requests, requests, 1.0, now).map_err(|wait| {
            let rate = token.quota.rate.map(|rate| rate.to_string()).unwrap_or_default();
            (wait, format!("this token may send {rate} requests"))
        });
        let taken = taken.and_then(|()| {
            take(&mut used.bytes, bytes, body.unwrap_or_default() as f64, now).map_err(|wait| {
                let most = size::format(token.quota.bytes.unwrap_or_default());
                (wait, format!("this token may send bodies of {most} a second"))
            })
        });
        taken.map_err(|(wait, may)| {
            used.tell(token, now, &may);
            exceeded(format!("{may}; send this one again"), wait)
        })
    }

    /// Counts what has arrived of a body that has not said how long it is.
    pub fn owe(&self, token: &Token, bytes: usize) {
        let Some(flow) = token.quota.body_bytes() else { return };
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(token.given()).or_default();
        used.bytes.get_or_insert_with(|| Bucket::full(flow, now)).owe(bytes as f64);
    }

    /// Adds tasks to the open ones of a token, or says why it may have no more. Answers nothing if the number
    /// of open tasks has to be read from the ledger first.
    pub fn add_open(&self, token: &Token, most: u32, more: u32) -> Option<Result<Added, Problem>> {
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(token.given()).or_default();
        let open = used.open.as_mut().filter(|open| open.is_believed(now))?;
        if open.count + u64::from(more) <= u64::from(most) {
            open.count += u64::from(more);
            return Some(Ok(Added { since: open.read_at, count: more }));
        }
        let may = format!("this token may have {most} open tasks and has {}", open.count);
        used.tell(token, now, &may);
        Some(Err(exceeded(format!("{may}: wait until some have ended, or cancel them"), BELIEVED)))
    }

    /// Takes back tasks that were added, of which only so many are new. What the ledger has told since does
    /// not contain the others.
    pub fn take_back(&self, token: &Token, added: &Added, new: u32) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let open = used.get_mut(&token.given()).and_then(|used| used.open.as_mut());
        if let Some(open) = open.filter(|open| open.read_at == added.since) {
            open.count = open.count.saturating_sub(u64::from(added.count.saturating_sub(new)));
        }
    }

    /// Notes how many open tasks a token has, as the ledger says. Of requests that read it at the same time
    /// the first one decides: a later one would forget what was accepted since.
    pub fn keep_open(&self, token: &Token, count: u64) {
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut used.entry(token.given()).or_default().open;
        if open.is_none_or(|open| !open.is_believed(now)) {
            *open = Some(Opened { read_at: now, count });
        }
    }
}

impl Used {
    fn tell(&mut self, token: &Token, now: Duration, may: &str) {
        if self.told.is_none_or(|told| now.saturating_sub(told) >= TOLD) {
            self.told = Some(now);
            tracing::warn!(token = %token.name, "over its quota: {may}");
        }
    }
}

fn take(bucket: &mut Option<Bucket>, flow: Option<Flow>, amount: f64, now: Duration) -> Result<(), Duration> {
    let Some(flow) = flow else { return Ok(()) };
    bucket.get_or_insert_with(|| Bucket::full(flow, now)).take(flow, amount, now)
}

fn exceeded(detail: String, wait: Duration) -> Problem {
    Problem::new(ProblemCode::QuotaExceeded, detail).retry_after(seconds(wait))
}

/// Whole seconds, rounded up: who comes back earlier is refused again.
pub(super) fn seconds(wait: Duration) -> u32 {
    (wait.as_secs_f64().ceil() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Quota, Scope, SecretHash, Timestamp};

    fn token() -> Token {
        Token {
            id: Uuid::from_u128(1),
            name: "shop".parse().expect("a name"),
            hash: SecretHash::of(b"secret"),
            scopes: [Scope::Submit].into(),
            task_types: Vec::new(),
            created_at: Timestamp::from_micros(0),
            expires_at: None,
            worker: None,
            parent: None,
            quota: Quota::default(),
        }
    }

    #[test]
    fn requests_that_read_the_ledger_at_the_same_time_forget_no_task() {
        let (quotas, token) = (Quotas::default(), token());
        let add = || quotas.add_open(&token, 1, 1).map(|verdict| verdict.is_ok());
        assert_eq!(add(), None, "it has to be read");
        // Two requests have read that no task is open.
        quotas.keep_open(&token, 0);
        assert_eq!(add(), Some(true));
        quotas.keep_open(&token, 0);
        assert_eq!(add(), Some(false));
    }

    #[test]
    fn what_was_there_before_is_taken_back_once() {
        let (quotas, token) = (Quotas::default(), token());
        quotas.keep_open(&token, 1);
        let added = quotas.add_open(&token, 3, 2).expect("it was read").expect("there is room");
        assert!(quotas.add_open(&token, 3, 1).expect("it was read").is_err());
        quotas.take_back(&token, &added, 1);
        assert!(quotas.add_open(&token, 3, 1).expect("it was read").is_ok());
        // A number that was read since knows nothing of them.
        let since = added.since + Duration::from_nanos(1);
        quotas.take_back(&token, &Added { since, ..added }, 0);
        assert!(quotas.add_open(&token, 3, 1).expect("it was read").is_err());
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (millis, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_500, 60)] {
            assert_eq!(seconds(Duration::from_millis(millis)), told);
        }
    }
}
