//! How much each token uses of what it may, and how often an address has shown a wrong one.
//!
//! Each API process counts in its own memory, and so grants the whole quota. A token without limits costs one
//! look at its fields. An address that has shown too many wrong tokens is refused further wrong tokens only:
//! behind a proxy all clients have one address, and valid tokens are accepted from there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
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
/// The span in which wrong tokens are counted.
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are counted in a span; those of a larger attack are not kept apart any more.
const ADDRESSES: usize = 10_000;

/// What tokens have used.
#[derive(Debug)]
pub struct Quotas {
    begun: Instant,
    used: Mutex<HashMap<Uuid, Used>>,
    wrong: Mutex<Wrong>,
    /// Wrong tokens of an address in [`SPAN`].
    most_wrong: u32,
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

impl Opened {
    fn is_believed(&self, now: Duration) -> bool {
        now.saturating_sub(self.read_at) < BELIEVED
    }
}

/// The addresses of wrong tokens.
#[derive(Debug, Default)]
struct Wrong {
    begun: Duration,
    by_address: HashMap<IpAddr, u32>,
}

impl Quotas {
    /// Nothing is used; an address may show so many wrong tokens in a minute.
    pub fn new(most_wrong: u32) -> Self {
        Self { begun: Instant::now(), used: Mutex::default(), wrong: Mutex::default(), most_wrong }
    }

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

    /// Counts a body that has not said how long it is before it was read.
    pub fn owe(&self, token: &Token, bytes: usize) {
        let Some(flow) = token.quota.body_bytes() else { return };
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(token.given()).or_default();
        used.bytes.get_or_insert_with(|| Bucket::full(flow, now)).owe(bytes as f64);
    }

    /// Whether a token that nobody knows may be looked up for this address.
    ///
    /// # Errors
    /// When it has shown too many wrong ones.
    pub fn may_be_wrong(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let now = self.begun.elapsed();
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now.saturating_sub(wrong.begun) >= SPAN;
        let count = peer.and_then(|peer| wrong.by_address.get(&network(peer))).copied().unwrap_or(0);
        if over || count < self.most_wrong {
            return Ok(());
        }
        Err(Problem::new(
            ProblemCode::TooManyWrongTokens,
            format!("{} wrong tokens came from this address within a minute; wait", self.most_wrong),
        )
        .retry_after(seconds(SPAN.saturating_sub(now.saturating_sub(wrong.begun)))))
    }

    /// Counts a wrong token.
    pub fn was_wrong(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer.map(network) else { return };
        let now = self.begun.elapsed();
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(wrong.begun) >= SPAN {
            *wrong = Wrong { begun: now, by_address: HashMap::new() };
        }
        if wrong.by_address.len() < ADDRESSES || wrong.by_address.contains_key(&peer) {
            *wrong.by_address.entry(peer).or_default() += 1;
        }
    }

    /// Adds tasks to the open ones of a token, or says why it may have no more. Answers nothing if the number
    /// of open tasks has to be read from the ledger first.
    pub fn add_open(&self, token: &Token, most: u32, more: u32) -> Option<Result<(), Problem>> {
        let now = self.begun.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(token.given()).or_default();
        let open = used.open.as_mut().filter(|open| open.is_believed(now))?;
        if open.count + u64::from(more) <= u64::from(most) {
            open.count += u64::from(more);
            return Some(Ok(()));
        }
        let may = format!("this token may have {most} open tasks and has {}", open.count);
        used.tell(token, now, &may);
        Some(Err(exceeded(format!("{may}: wait until some have ended, or cancel them"), BELIEVED)))
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
fn seconds(wait: Duration) -> u32 {
    (wait.as_secs_f64().ceil() as u32).max(1)
}

/// What one customer of a provider has: of IPv6 a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Quota, Scope, SecretHash, Timestamp};

    #[test]
    fn requests_that_read_the_ledger_at_the_same_time_forget_no_task() {
        let quotas = Quotas::new(1);
        let token = Token {
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
        };
        let add = || quotas.add_open(&token, 1, 1).map(|verdict| verdict.is_ok());
        assert_eq!(add(), None, "it has to be read");
        // Two requests have read that no task is open.
        quotas.keep_open(&token, 0);
        assert_eq!(add(), Some(true));
        quotas.keep_open(&token, 0);
        assert_eq!(add(), Some(false));
    }

    #[test]
    fn an_address_is_counted_with_its_network() {
        let quotas = Quotas::new(2);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"].map(|text| text.parse().ok());
        quotas.was_wrong(one);
        assert!(quotas.may_be_wrong(same).is_ok());
        quotas.was_wrong(same);
        assert!(quotas.may_be_wrong(one).is_err() && quotas.may_be_wrong(same).is_err());
        assert!(quotas.may_be_wrong(other).is_ok() && quotas.may_be_wrong(None).is_ok());
        let (mapped, plain) = ("::ffff:192.0.2.1".parse().ok(), "192.0.2.1".parse().ok());
        quotas.was_wrong(mapped);
        quotas.was_wrong(plain);
        assert!(quotas.may_be_wrong(plain).is_err());
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_room() {
        let quotas = Quotas::new(1);
        for number in 0..2 * ADDRESSES as u32 {
            quotas.was_wrong(Some(std::net::Ipv4Addr::from_bits(number).into()));
        }
        assert_eq!(quotas.wrong.lock().expect("no panic").by_address.len(), ADDRESSES);
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (millis, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_500, 60)] {
            assert_eq!(seconds(Duration::from_millis(millis)), told);
        }
    }
}
