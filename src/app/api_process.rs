//! The API role: HTTP in front, the loops of the ledger behind.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acceptor::Acceptor;
use crate::admission::Admission;
use crate::api::{self, ApiState, Door, Limits};
use crate::broker::SharedBroker;
use crate::clock::Clock;
use crate::collector::Collector;
use crate::config::{Config, Security};
use crate::domain::{Purpose, Timestamp};
use crate::ledger::Ledger;
use crate::observer::Observer;
use crate::presence::PresenceWatch;
use crate::publisher::Publisher;
use crate::queue::{Desk, Dispatcher, rules};
use crate::reconciler::Reconciler;
use crate::requests::{Advancer, Calls};
use crate::rollouts::Controller;
use crate::scheduler::Scheduler;
use crate::sealing::Sealer;
use crate::service::Service;
use crate::signing::{Approvers, Signer, SigningKey, Trust, read_certificate, read_revocations};
use crate::store::farm::Farm;
use crate::store::{self, SharedStore};
use crate::telemetry::Metrics;
use crate::throughput::Recorder;
use crate::watch::Watch;

/// Tasks that may wait in memory between acceptor and publisher; what finds no place is published by the
/// reconciler.
const HAND_OVER: usize = 8192;

/// How long each part of a stop may take that begins when the time of all is over: to say goodbye, not to
/// finish.
const LEAST: Duration = Duration::from_secs(1);

/// How often a certificate that ends is warned of.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long before its end a certificate is warned of.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// A running API role.
#[derive(Debug)]
pub struct ApiProcess {
    /// Where it listens.
    pub address: SocketAddr,
    /// What submissions must be.
    pub(super) admission: Arc<Admission>,
    died: CancellationToken,
    http: Service,
    schedule: Service,
    accept: JoinHandle<()>,
    publish: JoinHandle<()>,
    loops: Vec<Service>,
    throughput: Service,
    store: SharedStore,
    /// Of the render farm, if it is not the ledger.
    farm: Option<SharedStore>,
    broker: SharedBroker,
    within: Duration,
}

impl ApiProcess {
    /// Starts all parts.
    ///
    /// # Errors
    /// When the listener has no address, or a schema or a schedule cannot be used.
    pub fn start(
        config: Arc<Config>,
        store: SharedStore,
        broker: SharedBroker,
        listener: TcpListener,
    ) -> anyhow::Result<Self> {
        let admission = Arc::new(Admission::read(&config)?);
        let farm = config.farm()?.map(store::open_existing).transpose()?;
        let (clock, metrics, watch, died) =
            (Clock::unset(), Metrics::new(), Watch::default(), CancellationToken::new());
        let retention = config.tasks.retention;
        let door = Door::new(listener, config.api.tls.as_ref()).map_err(std::io::Error::other)?;
        let address = door.address();
        let desk = Desk::default();
        let ledger = Ledger::new(
            store.clone(),
            clock.clone(),
            metrics.clone(),
            watch.clone(),
            config.ignored(),
            retention,
        );
        let signer = signer(&config.security)?.map(Arc::new);
        let sealer = Sealer::new(signer.clone(), broker.clone(), clock.clone());
        let publisher = Publisher::new(
            config.clone(),
            store.clone(),
            ledger.clone(),
            broker.clone(),
            sealer.clone(),
            clock.clone(),
            metrics.clone(),
            desk.clone(),
        );
        let (outgoing, accepted) = mpsc::channel(HAND_OVER);
        let (acceptor, accept) =
            Acceptor::new(ledger.clone(), clock.clone(), metrics.clone(), outgoing, rules(&config));
        let scheduler = Scheduler::new(
            config.clone(),
            admission.clone(),
            store.clone(),
            acceptor.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let (calls, requests) = (Arc::new(Calls::new(config.clone(), admission.clone())), Watch::default());
        let advancer = Advancer::new(
            config.clone(),
            calls.clone(),
            store.clone(),
            ledger.clone(),
            publisher.clone(),
            clock.clone(),
            metrics.clone(),
            requests.clone(),
        );
        let approvers = approvers(&config.security, signer.as_deref())?.map(Arc::new);
        // Tasks of work queues do not wait.
        let approved = approvers.iter().flat_map(|known| {
            config.of_delivery(false).map(|policy| &policy.name).filter(|name| known.approves(name)).cloned()
        });
        let approved = approved.collect();
        let rollouts = Watch::default();
        let controller = Controller::new(
            store.clone(),
            ledger.clone(),
            publisher.clone(),
            clock.clone(),
            metrics.clone(),
            rollouts.clone(),
            retention,
        );
        let state = ApiState {
            config: config.clone(),
            store: store.clone(),
            ledger: ledger.clone(),
            broker: broker.clone(),
            sealer: sealer.clone(),
            publisher: publisher.clone(),
            acceptor,
            metrics: metrics.clone(),
            watch,
            requests,
            rollouts,
            calls,
            clock: clock.clone(),
            desk,
            farm: Farm::new(farm.clone().unwrap_or_else(|| store.clone())),
            admission: admission.clone(),
            approvers,
            limits: Limits::default(),
        };
        let observer = Observer::new(
            config.clone(),
            store.clone(),
            broker.clone(),
            clock.clone(),
            metrics.clone(),
            approved,
        );
        let collector = Collector::new(
            store.clone(),
            ledger.clone(),
            broker.clone(),
            publisher.clone(),
            metrics.clone(),
            config.security.reports,
        );
        let presence = PresenceWatch::new(
            config.clone(),
            store.clone(),
            ledger.clone(),
            broker.clone(),
            sealer.clone(),
            publisher.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let reconciler =
            Reconciler::new(store.clone(), ledger.clone(), publisher.clone(), clock.clone(), retention);
        let recorder = Recorder::new(ledger.meter(), store.clone(), clock.clone());
        let dispatcher = Dispatcher::new(
            &config,
            admission.clone(),
            store.clone(),
            ledger,
            publisher.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let mut loops = vec![
            Service::start("presence", &died, |stop| {
                in_time(clock.clone(), stop.clone(), log_end("presence", presence.run(stop)))
            }),
            Service::start("collector", &died, |stop| {
                in_time(clock.clone(), stop.clone(), log_end("collector", collector.run(stop)))
            }),
            Service::start("reconciler", &died, |stop| {
                in_time(clock.clone(), stop.clone(), reconciler.run(stop))
            }),
            Service::start("dispatcher", &died, |stop| {
                in_time(clock.clone(), stop.clone(), dispatcher.run(stop))
            }),
            Service::start("advancer", &died, |stop| {
                in_time(clock.clone(), stop.clone(), advancer.run(stop))
            }),
            Service::start("rollouts", &died, |stop| {
                in_time(clock.clone(), stop.clone(), controller.run(stop))
            }),
            Service::start("observer", &died, |stop| observer.run(stop)),
        ];
        let certified = signer.filter(|signer| signer.ends().is_some());
        loops.extend(
            certified.map(|signer| Service::start("certificate", &died, |stop| warn_of_end(signer, stop))),
        );
        let throughput = Service::start("throughput", &died, |stop| {
            in_time(clock.clone(), stop.clone(), recorder.run(stop))
        });
        Ok(Self {
            address,
            admission,
            http: Service::start("http", &died, |stop| log_end("http", api::serve(state, door, stop))),
            schedule: Service::start("scheduler", &died, |stop| {
                in_time(clock.clone(), stop.clone(), scheduler.run(stop))
            }),
            died,
            accept: tokio::spawn(accept),
            publish: tokio::spawn(publisher.run(accepted)),
            loops,
            throughput,
            store,
            farm,
            broker,
            within: config.api.stop_timeout,
        })
    }

    /// Canceled when a part has ended on its own: the process should end too.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// Stops in the order of a task's way: no new requests, what was accepted is published, the loops finish
    /// what they hold, then the connections are closed. Bounded by `api.stop_timeout` for all of it, and by
    /// [`LEAST`] for each part that comes when that is over.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.within;
        let left = || deadline.saturating_duration_since(Instant::now()).max(LEAST);
        self.schedule.stop(left()).await;
        self.http.stop(left()).await;
        // The last acceptor went with the HTTP side; its loop records what waits and closes the publisher's
        // channel.
        let drained = async {
            let _ = self.accept.await;
            let _ = self.publish.await;
        };
        if tokio::time::timeout(left(), drained).await.is_err() {
            tracing::warn!("not everything accepted was published in time; other processes will");
        }
        futures::future::join_all(self.loops.into_iter().map(|part| part.stop(left()))).await;
        // After those who move tasks.
        self.throughput.stop(left()).await;
        let closed = async {
            self.broker.close().await;
            self.store.close().await;
            if let Some(farm) = &self.farm {
                farm.close().await;
            }
        };
        let _ = tokio::time::timeout(left(), closed).await;
    }
}

/// What signs messages to endpoints; none where they are not signed.
fn signer(security: &Security) -> anyhow::Result<Option<Signer>> {
    let Some(signing) = &security.signing else { return Ok(None) };
    let signer = Signer::new(signing.environment.clone(), SigningKey::read(&signing.key)?);
    tracing::info!(key = %signer.key(), environment = %signing.environment, "messages to endpoints are signed");
    let signer = match &security.revocations {
        Some(path) => signer.with_revocations(read_revocations(path)?)?,
        None => signer,
    };
    let Some(path) = &signing.certificate else { return Ok(Some(signer)) };
    Ok(Some(signer.with_certificate(read_certificate(path)?, Purpose::Tasks)?))
}

/// The persons who approve tasks; none without `security.trust`. A file that endpoints would not accept is an
/// error: otherwise tasks would wait for approvals that never count.
fn approvers(security: &Security, signer: Option<&Signer>) -> anyhow::Result<Option<Approvers>> {
    let Some(path) = &security.trust else { return Ok(None) };
    let trust = Trust::read(path)?;
    if let Some(signing) =
        security.signing.as_ref().filter(|signing| signing.environment != trust.environment)
    {
        anyhow::bail!(
            "the environment of the trust file {} is `{}`, but security.environment is `{}`: both must be the same",
            path.display(),
            trust.environment,
            signing.environment
        );
    }
    let mut revoked = BTreeSet::new();
    if let Some(list) = &security.revocations {
        // What signs here has read it already.
        let revocations = match signer.and_then(Signer::revocations) {
            Some(known) => Arc::clone(known),
            None => Arc::new(read_revocations(list)?),
        };
        if !trust.vouches_for(&revocations) {
            anyhow::bail!(
                "the list of revoked keys {} is not signed with the root key of the trust file {}: endpoints ignore it",
                list.display(),
                path.display()
            );
        }
        revoked.extend(&revocations.keys);
    }
    Ok(Some(Approvers::new(trust, revoked)))
}

/// Warns of the end of the certificate of the signing key, now and once a day.
async fn warn_of_end(signer: Arc<Signer>, stop: CancellationToken) {
    let mut days = tokio::time::interval(DAY);
    while stop.run_until_cancelled(days.tick()).await.is_some() {
        let left = signer.ends().and_then(|until| days_left(until, Clock::system().now()));
        if let Some(days) = left {
            tracing::warn!(key = %signer.key(), days, "the certificate of the signing key ends soon or has ended: then endpoints refuse what this process sends. Certify the key again and restart the API");
        }
    }
}

/// The days until a certificate ends, 0 after that; none while there is time.
fn days_left(until: Timestamp, now: Timestamp) -> Option<u64> {
    let left = until.since(now);
    (left < SOON).then(|| left.as_secs() / DAY.as_secs())
}

/// Runs a part that compares deadlines: not before it is known what time it is.
async fn in_time(clock: Clock, stop: CancellationToken, part: impl Future<Output = ()>) {
    if stop.run_until_cancelled(clock.until_set()).await.is_some() {
        part.await;
    }
}

async fn log_end<E: std::fmt::Display>(part: &'static str, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        tracing::error!(part, %error, "ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_in_its_last_week_and_after_that() {
        let at = |days: f64| Timestamp::from_micros((days * 86_400.0) as i64 * 1_000_000);
        for (now, wanted) in
            [(1.0, None), (22.9, None), (23.1, Some(6)), (29.5, Some(0)), (30.0, Some(0)), (90.0, Some(0))]
        {
            assert_eq!(days_left(at(30.0), at(now)), wanted, "{now}");
        }
    }
}
