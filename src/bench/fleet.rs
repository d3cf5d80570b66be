//! Simulated endpoints: many names on few links, the same protocol as the real agent, no journal and no work.
//!
//! What is measured behind them - API, broker, store - is real.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::broker::{Address, BrokerError, Delivery, Message, Origin, SharedBroker, Source, envelope, wire};
use crate::domain::{
    Command, EndpointName, Labels, Presence, PresenceState, Report, ReportEvent, TaskId, TaskMessage,
    TaskType, WireVersion, json,
};

/// Deliveries a link takes before the first is acknowledged, and in one go.
const PREFETCH: u16 = 1000;
/// How often a fleet says that it is there; as often as the API asks of the largest.
const PRESENCE: Duration = Duration::from_secs(30);
/// Presence messages published in one go.
const CHUNK: usize = 500;

/// How many copies of each task each endpoint got. More than one is no fault: the ledger may ask again, and a
/// repeat is answered again.
type Copies = HashMap<TaskId, HashMap<EndpointName, u32>>;

/// The names of a simulated fleet: `sim-00000` and on.
pub fn names(count: usize) -> Vec<EndpointName> {
    (0..count).filter_map(|number| format!("sim-{number:05}").parse().ok()).collect()
}

/// The labels of an endpoint: as many as a server has of which somebody takes care.
fn labels(name: &EndpointName) -> Labels {
    let number: usize = name.as_str().trim_start_matches("sim-").parse().unwrap_or_default();
    let label = |key: &str, values: usize| (key.to_owned(), format!("{key}-{}", number % values));
    let kinds = [
        ("site", 5),
        ("role", 7),
        ("rack", 40),
        ("zone", 3),
        ("kernel", 11),
        ("owner", 13),
        ("tier", 2),
        ("model", 17),
        ("batch", 100),
        ("ring", 4),
    ];
    Labels::believed(kinds.into_iter().map(|(key, values)| label(key, values)).collect())
}

/// A selector that looks at several labels, and chooses few of a fleet.
pub const SELECTOR: &str =
    "site=site-3 and not role=role-1 and rack in (rack-3, rack-13, rack-23) and name=sim-*";

/// A fleet that answers at once.
#[derive(Debug)]
pub struct Fleet {
    size: usize,
    welcomed: watch::Receiver<usize>,
    copies: Arc<Mutex<Copies>>,
    stop: CancellationToken,
    links: TaskTracker,
}

impl Fleet {
    /// Joins the names to the type, spread evenly over the links.
    ///
    /// # Errors
    /// When a link is closed.
    pub async fn join(
        links: &[SharedBroker],
        task_type: &TaskType,
        names: &[EndpointName],
    ) -> Result<Self, BrokerError> {
        let (welcomes, welcomed) = watch::channel(0);
        let (copies, stop, tracker) =
            (Arc::new(Mutex::new(Copies::new())), CancellationToken::new(), TaskTracker::new());
        let share = names.len().div_ceil(links.len().max(1)).max(1);
        for (link, names) in links.iter().zip(names.chunks(share)) {
            let subscriptions = names.iter().map(|name| (task_type.clone(), name.clone())).collect();
            let mut consumer = link.consume(Source::Tasks(subscriptions), PREFETCH).await?;
            let member = Member {
                link: link.clone(),
                task_type: task_type.clone(),
                instance: Uuid::new_v4(),
                session: Uuid::new_v4(),
                welcomes: welcomes.clone(),
                copies: copies.clone(),
                known: HashSet::new(),
            };
            let (names, stop) = (names.to_vec(), stop.clone());
            tracker.spawn(async move {
                if consumer.link.wait_for(|link| link.up).await.is_ok() {
                    stop.run_until_cancelled(member.run(&mut consumer.deliveries, &names)).await;
                }
            });
        }
        tracker.close();
        Ok(Self { size: names.len(), welcomed, copies, stop, links: tracker })
    }

    /// Completes when every endpoint has been welcomed.
    pub async fn welcomed(&mut self) {
        let size = self.size;
        // The sender lives as long as a link runs.
        let _ = self.welcomed.wait_for(|count| *count >= size).await;
    }

    /// How many copies of each task each endpoint got.
    pub fn copies(&self) -> Copies {
        self.copies.lock().map(|copies| copies.clone()).unwrap_or_default()
    }

    /// Lets go.
    pub async fn stop(self) {
        self.stop.cancel();
        self.links.wait().await;
    }
}

/// The endpoints of one link.
struct Member {
    link: SharedBroker,
    task_type: TaskType,
    instance: Uuid,
    session: Uuid,
    welcomes: watch::Sender<usize>,
    copies: Arc<Mutex<Copies>>,
    /// Who has been welcomed.
    known: HashSet<EndpointName>,
}

impl Member {
    async fn run(mut self, deliveries: &mut tokio::sync::mpsc::Receiver<Delivery>, names: &[EndpointName]) {
        self.say(names, PresenceState::Joined).await;
        let mut presence = tokio::time::interval_at(tokio::time::Instant::now() + PRESENCE, PRESENCE);
        let mut batch = Vec::with_capacity(usize::from(PREFETCH));
        loop {
            tokio::select! {
                _ = presence.tick() => self.say(names, PresenceState::Alive).await,
                taken = deliveries.recv_many(&mut batch, usize::from(PREFETCH)) => {
                    if taken == 0 {
                        return;
                    }
                    self.answer(&batch).await;
                    batch.clear();
                }
            }
        }
    }

    async fn say(&self, names: &[EndpointName], state: PresenceState) {
        for chunk in names.chunks(CHUNK) {
            let messages = chunk.iter().map(|endpoint| {
                let presence = Presence {
                    endpoint: endpoint.clone(),
                    instance: self.instance,
                    home: self.instance,
                    session: self.session,
                    task_types: vec![self.task_type.clone()],
                    refused: Vec::new(),
                    state,
                    interval: PRESENCE,
                    sent_at: None,
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    trouble: None,
                    slots: None,
                    reads: WireVersion::NEWEST,
                    labels: labels(endpoint),
                };
                Message {
                    reads: WireVersion::NEWEST,
                    ..Message::new(Address::Presence, wire::encode_presence(&presence))
                }
            });
            self.link.publish(messages.collect()).await;
        }
    }

    async fn answer(&mut self, batch: &[Delivery]) {
        let mut reports = Vec::with_capacity(batch.len());
        for delivery in batch {
            let (Origin::All(_, endpoint) | Origin::Named(_, endpoint) | Origin::Control(_, endpoint)) =
                &delivery.origin
            else {
                continue;
            };
            for item in envelope::items(&delivery.body) {
                match wire::decode_command(&item) {
                    Ok(Command::Welcome { session, .. })
                        if session == self.session && self.known.insert(endpoint.clone()) =>
                    {
                        self.welcomes.send_modify(|count| *count += 1);
                    }
                    Ok(Command::Task(TaskMessage { work, .. })) if self.known.contains(endpoint) => {
                        self.count(work.id, endpoint);
                        reports.push(self.finished(work.id, endpoint));
                    }
                    _ => {}
                }
            }
        }
        self.link.publish(reports).await;
        if let Some(last) = batch.last() {
            last.acker.ack_through().await;
        }
    }

    fn count(&self, id: TaskId, endpoint: &EndpointName) {
        if let Ok(mut copies) = self.copies.lock() {
            *copies.entry(id).or_default().entry(endpoint.clone()).or_default() += 1;
        }
    }

    fn finished(&self, task_id: TaskId, endpoint: &EndpointName) -> Message {
        let event = ReportEvent::Finished {
            errnr: 0,
            errmsg: String::new(),
            payload: Some(json(&"simulated")),
            attempt: 1,
            attempts: Vec::new(),
            log: None,
            run: Some(Uuid::new_v4()),
        };
        let report = Report {
            task_id,
            task_type: self.task_type.clone(),
            endpoint: endpoint.clone(),
            home: self.instance,
            event,
        };
        Message {
            persistent: true,
            reads: WireVersion::NEWEST,
            ..Message::new(Address::Responses, wire::encode_report(&report))
        }
    }
}
