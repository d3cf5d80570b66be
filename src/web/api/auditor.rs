//! Writes the audit log.
//!
//! `deeds` hands over each change that a request has made. Refused requests, and what was not believed in
//! the fleet, are added up and written once a minute; submissions are added up once an hour.
//!
//! Promise: if an entry cannot be written, its whole content is logged as an ERROR, and it is counted.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::contract::ProblemCode;
use crate::domain::{AuditEntry, Deed, EndpointName, Grain, Timestamp, TokenName, json};
use crate::store::{SharedStore, StoreError, Submissions};
use crate::telemetry::{Distrust, Metrics};

/// The actor of a request without a token.
pub const ANONYMOUS: &str = "anonymous";
/// The actor of what tasker does by itself.
const OURSELVES: &str = "tasker";

/// In the place of a name or an address where there are too many of them.
const SEVERAL: &str = "several";
/// Where messages come from.
const BROKER: &str = "broker";

/// How often refusals are written.
const FLUSHED: Duration = Duration::from_secs(60);
/// Senders in that time whose refusals are entries of their own. Those of further senders share one entry for
/// each reason.
const SENDERS: usize = 50;
/// Requests that the entry of a sender names. Further ones have one number.
const REQUESTS: usize = 16;
/// What these are called.
const OTHERS: &str = "others";
/// How long a submission may be on its way into the ledger after it got its id.
const SETTLED: Duration = Duration::from_secs(300);

/// Writes the audit log.
#[derive(Debug)]
pub struct Audit {
    store: SharedStore,
    clock: Clock,
    metrics: Arc<Metrics>,
    refused: Mutex<HashMap<Sender, BTreeMap<String, u64>>>,
}

/// Whose requests were refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sender {
    peer: Option<IpAddr>,
    token: Option<TokenName>,
    code: ProblemCode,
}

impl Audit {
    /// Writes into this ledger.
    pub fn new(store: SharedStore, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { store, clock, metrics, refused: Mutex::default() })
    }

    /// Adds deeds.
    pub async fn add(&self, deeds: Vec<Deed>) {
        match self.store.audit(deeds.clone(), self.clock.now()).await {
            Ok(entries) => entries.iter().for_each(tell),
            Err(error) => {
                self.metrics.audit_lost.inc_by(deeds.len() as u64);
                tracing::error!(%error, ?deeds, "could not be written into the audit log");
            }
        }
    }

    /// Counts a request, by method and route, that was refused for its sender.
    pub fn refused(&self, code: ProblemCode, peer: Option<IpAddr>, token: Option<TokenName>, request: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = Sender { peer: peer.map(|peer| peer.to_canonical()), token, code };
        let others = Sender { peer: None, token: None, code };
        let known = refused.len() < SENDERS || refused.contains_key(&sender);
        let requests = refused.entry(if known { sender } else { others }).or_default();
        let known = requests.len() < REQUESTS || requests.contains_key(request);
        *requests.entry(if known { request } else { OTHERS }.to_owned()).or_default() += 1;
    }

    /// Writes what is added up and accounts for submissions until told to stop; then once more.
    pub async fn run(self: Arc<Self>, address: SocketAddr, config_sha256: String, stop: CancellationToken) {
        if stop.run_until_cancelled(self.clock.until_set()).await.is_none() {
            return;
        }
        let detail =
            json(&serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "config_sha256": config_sha256}));
        self.add(vec![Deed::new(OURSELVES, "process.start", &address.to_string(), OURSELVES).with(detail)])
            .await;
        loop {
            // Processes that were started together look at different times, and one is enough.
            let pause = FLUSHED.mul_f64(0.75 + 0.5 * fastrand::f64());
            let stopped = stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
            self.flush().await;
            if stopped {
                return;
            }
            if let Err(error) = account(&self.store, self.clock.now(), &stop).await {
                tracing::warn!(%error, "submissions could not be accounted for in the audit log; will try again");
            }
        }
    }

    async fn flush(&self) {
        let refused = std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        let deed = |(Sender { peer, token, code }, requests): (Sender, BTreeMap<String, u64>)| {
            let actor = token.as_ref().map_or(ANONYMOUS, TokenName::as_str);
            let source = peer.map_or_else(|| SEVERAL.to_owned(), |peer| peer.to_string());
            let count: u64 = requests.values().sum();
            Deed::new(actor, "refused", code.as_str(), &source)
                .with(json(&serde_json::json!({"count": count, "requests": requests})))
        };
        let distrust = |((what, endpoint), count): ((Distrust, Option<EndpointName>), u64)| {
            let endpoint = endpoint.as_ref().map_or(SEVERAL, EndpointName::as_str);
            let deed = match what {
                Distrust::Message(fault) => Deed::new(endpoint, "endpoint.refused", fault.as_str(), BROKER),
                Distrust::Sender => Deed::new(ANONYMOUS, "endpoint.unproven", endpoint, BROKER),
            };
            deed.with(json(&serde_json::json!({"count": count})))
        };
        let distrusted = self.metrics.distrusted.take();
        self.add(refused.into_iter().map(deed).chain(distrusted.into_iter().map(distrust)).collect()).await;
    }
}

/// Logs an entry with its hash: an anchor, by which the ledger can be checked later.
fn tell(entry: &AuditEntry) {
    tracing::info!(
        audit_seq = entry.seq,
        audit_hash = %entry.hash,
        actor = entry.actor,
        action = entry.action,
        subject = entry.subject,
        source = entry.source,
        "audited"
    );
}

/// Accounts for the submissions of each hour that is over. The first time it only notes where to begin. After
/// a long pause these are many hours: a process that is to stop leaves the rest to the next one.
async fn account(store: &SharedStore, now: Timestamp, stop: &CancellationToken) -> Result<(), StoreError> {
    loop {
        let begin = store.audited_until().await?;
        let Some(since) = begin else {
            store.audit_submissions(None, None, Grain::Hour.beginning(now), now).await?;
            return Ok(());
        };
        let until = since.after(Grain::Hour.length());
        if stop.is_cancelled() || until.after(SETTLED) > now {
            return Ok(());
        }
        let Submissions { count, sha256 } = store.submissions_between(since, until).await?;
        let detail = json(&serde_json::json!({"count": count, "sha256": sha256}));
        let deed = Deed::new(OURSELVES, "submissions", &since.to_string(), OURSELVES).with(detail);
        if let Some(entry) = store.audit_submissions(Some(deed), begin, until, now).await? {
            tell(&entry);
        }
    }
}
