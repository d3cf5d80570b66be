//! A broker for a worker that reaches nothing but the API: reports and presence are posted there, tasks are
//! asked for with requests that wait (`docs/queues.md` has the exchange).
//!
//! What it promises is what every [`Broker`] does: an `Ok` says that the API has put the message on its own
//! broker. What it gives out is read from the ledger, so any API process can answer, and what was not
//! received is given out again with the next session.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Acker, Address, Broker, BrokerError, Consumer, Delivery, Link, Message, Origin, Refusals, Sender, Source,
    wire,
};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::contract::{TasksWanted, WorkerReports};
use crate::domain::{Command, EndpointName, PresenceState, ReportEvent, TaskId, TaskMessage, TaskType};

/// How long the API may hold a request for tasks.
const WAIT: Duration = Duration::from_secs(25);
/// Bytes of reports in one request at most, unless a single one is larger.
const REPORT_BYTES: usize = 1 << 20;
/// How often to ask for everything that is owed, received or not: finds reports that were taken and lost.
const ALL_EVERY: Duration = Duration::from_secs(300);
/// How long a task or cancel that was given is not asked for again. Later it is, because the worker may have
/// refused it: a forged copy may have come in place of that of the API.
const AGAIN: Duration = Duration::from_secs(30);

/// The link of one worker to the API.
#[derive(Debug)]
pub struct ApiBroker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    worker: EndpointName,
    link: watch::Sender<Link>,
    /// The session that the last presence told, of the present link, and the types that it is there for.
    session: watch::Sender<Option<Told>>,
    held: Mutex<Held>,
    closed: CancellationToken,
}

/// What the worker has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    session: Uuid,
    types: BTreeSet<TaskType>,
    /// How often it has said that it joins: whoever does so waits for a welcome.
    joined: u64,
}

/// What the worker was sent with the present link.
#[derive(Debug, Default)]
struct Held {
    /// With the time when it last was.
    known: HashMap<TaskId, (TaskType, Instant)>,
    stopped: HashMap<TaskId, Instant>,
}

impl ApiBroker {
    /// A link for this worker; it is made once somebody consumes.
    pub fn start(client: Client, worker: EndpointName) -> Arc<Self> {
        let shared = Shared {
            client,
            worker,
            link: watch::Sender::new(Link::default()),
            session: watch::Sender::new(None),
            held: Mutex::default(),
            closed: CancellationToken::new(),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post_reports(&self, bodies: &[Bytes]) -> Result<(), BrokerError> {
        let unreadable = |error: serde_json::Error| BrokerError::Refused { reason: error.to_string() };
        let reports = bodies
            .iter()
            .map(|body| serde_json::from_slice(body))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        self.client.report_tasks(&self.worker, &WorkerReports { reports }).await.map_err(undone)?;
        let mut held = self.held();
        for report in bodies.iter().filter_map(|body| wire::decode_report(body).ok()) {
            if matches!(report.event, ReportEvent::Finished { .. } | ReportEvent::Canceled) {
                held.known.remove(&report.task_id);
                held.stopped.remove(&report.task_id);
            }
        }
        Ok(())
    }

    /// Posts reports, and in halves where the API refuses the whole: one that it never takes, such as one of a
    /// type that the token is not good for any more, holds back no others.
    async fn report(&self, bodies: &[Bytes]) -> Vec<Result<(), BrokerError>> {
        let mut results = Vec::with_capacity(bodies.len());
        let mut parts = vec![bodies];
        while let Some(part) = parts.pop() {
            match self.post_reports(part).await {
                Err(BrokerError::Refused { .. }) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                result => {
                    results.extend(part.iter().map(|_| result.clone()));
                    if let Err(error) = result
                        && !matches!(error, BrokerError::Refused { .. })
                    {
                        results.resize(bodies.len(), Err(error));
                        break;
                    }
                }
            }
        }
        results
    }

    async fn post_presence(&self, body: &Bytes) -> Result<(), BrokerError> {
        self.client.say_presence(&self.worker, body.clone()).await.map_err(undone)?;
        if let Ok(presence) = wire::decode_presence(body) {
            self.session.send_if_modified(|told| {
                let mut types: BTreeSet<_> = presence.task_types.into_iter().collect();
                let before = told.as_ref().filter(|told| told.session == presence.session);
                let mut joined = before.map_or(0, |before| before.joined);
                if presence.state == PresenceState::Joined {
                    joined += 1;
                    // Who joins names the types that are not welcomed yet, and may be there for others.
                    types.extend(before.iter().flat_map(|before| before.types.iter().cloned()));
                }
                let now = Some(Told { session: presence.session, types, joined });
                std::mem::replace(told, now.clone()) != now
            });
        }
        Ok(())
    }

    /// Asks for tasks until closed. Every failure ends a link; the next one begins with a session of its own.
    async fn fetch(&self, types: &[TaskType], deliveries: mpsc::Sender<Delivery>) {
        let mut failures = 0u32;
        while !deliveries.is_closed() {
            match self.on_one_link(types, &deliveries, &mut failures).await {
                Ok(()) => return,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let was_up = self.link.send_if_modified(|link| std::mem::take(&mut link.up));
                    if was_up || failures == 1 {
                        tracing::warn!(api = self.client.url(), %error, "the API gives no tasks");
                    }
                    tokio::time::sleep(Backoff::CONNECTION.jittered(failures)).await;
                }
            }
        }
    }

    /// From the first answer to the first failure; ends well when nobody takes deliveries any more.
    async fn on_one_link(
        &self,
        types: &[TaskType],
        deliveries: &mpsc::Sender<Delivery>,
        failures: &mut u32,
    ) -> Result<(), BrokerError> {
        // An answer to whatever it is: there is no session to ask with yet.
        let nothing = TasksWanted {
            session: Uuid::nil(),
            types: types.to_vec(),
            all: false,
            known: vec![],
            stopped: vec![],
            wait_ms: 0,
        };
        self.client.fetch_tasks(&self.worker, &nothing).await.map_err(undone)?;
        *self.held() = Held::default();
        let mut sessions = self.session.subscribe();
        self.session.send_replace(None);
        self.link.send_modify(|link| *link = link.renewed());
        tracing::info!(api = self.client.url(), "connected to the API");
        let mut asked_for_all: Option<(Told, Instant)> = None;
        loop {
            // A worker that is there for nothing yet has nothing to ask for.
            let told =
                sessions.wait_for(|told| told.as_ref().is_some_and(|told| !told.types.is_empty())).await;
            let Ok(Some(told)) = told.map(|told| told.clone()) else { return Ok(()) };
            let (session, types): (_, Vec<TaskType>) = (told.session, told.types.iter().cloned().collect());
            let all = asked_for_all.as_ref().is_none_or(|(of, at)| *of != told || at.elapsed() > ALL_EVERY);
            let (known, stopped) = {
                let (held, now) = (self.held(), Instant::now());
                let lately = |at: &Instant| now.saturating_duration_since(*at) < AGAIN;
                let known = held.known.iter().filter(|(_, (_, at))| lately(at)).map(|(id, _)| *id);
                let stopped = held.stopped.iter().filter(|(_, at)| lately(at)).map(|(id, _)| *id);
                (known.collect(), stopped.collect())
            };
            let wait_ms = wire::millis(WAIT);
            let wanted = TasksWanted { session, types: types.clone(), all, known, stopped, wait_ms };
            let given = self.client.fetch_tasks(&self.worker, &wanted).await.map_err(undone)?;
            *failures = 0;
            for command in given.commands {
                let body = Bytes::from(Box::<str>::from(command).into_string());
                let (origins, welcome) = self.origins(&body, &types);
                if welcome {
                    asked_for_all = Some((told.clone(), Instant::now()));
                }
                for origin in origins {
                    let delivery = Delivery {
                        origin,
                        sender: Sender::Api,
                        body: body.clone(),
                        redelivered: false,
                        acker: Box::new(Unneeded),
                    };
                    if deliveries.send(delivery).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// How a command came, as if a broker had brought it, and whether it is a welcome. A welcome that names no
    /// type is for all types.
    fn origins(&self, body: &[u8], types: &[TaskType]) -> (Vec<Origin>, bool) {
        let (mut held, now) = (self.held(), Instant::now());
        let worker = || self.worker.clone();
        match wire::decode_command(body) {
            Ok(Command::Task(TaskMessage { work, .. })) => {
                held.known.insert(work.id, (work.task_type.clone(), now));
                (vec![Origin::Named(work.task_type, worker())], false)
            }
            Ok(Command::Cancel { task_id }) => {
                held.stopped.insert(task_id, now);
                let known = held.known.get(&task_id).map(|(task_type, _)| task_type);
                let task_type = known.or(types.first()).cloned();
                (task_type.into_iter().map(|task_type| Origin::Control(task_type, worker())).collect(), false)
            }
            // For endpoints: a task of a work queue has one worker, and is canceled.
            Ok(Command::Withdraw { .. }) => (Vec::new(), false),
            Ok(Command::Welcome { task_type: Some(task_type), .. }) => {
                (vec![Origin::Named(task_type, worker())], true)
            }
            Ok(Command::Welcome { task_type: None, .. }) => {
                (types.iter().map(|task_type| Origin::Named(task_type.clone(), worker())).collect(), true)
            }
            Err(error) => {
                tracing::error!(%error, "the API sent something that is not a command");
                (Vec::new(), false)
            }
        }
    }
}

/// What became of messages that the API did not take, in the terms of a broker.
fn undone(error: ClientError) -> BrokerError {
    match error {
        ClientError::Unreachable { url, reason } => BrokerError::ApiUnreachable { url, reason },
        // What is wrong with the request does not get better; everything else may.
        ClientError::Refused { status: 400 | 413 | 422, problem } => {
            BrokerError::Refused { reason: problem.to_string() }
        }
        // The token is good, and not for this.
        ClientError::Locked { problem, .. } if problem.status == 403 => {
            BrokerError::Refused { reason: problem.to_string() }
        }
        error => BrokerError::Unconfirmed { reason: error.to_string() },
    }
}

#[async_trait]
impl Broker for ApiBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let shared = &self.shared;
        let mut results: Vec<Result<(), BrokerError>> = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            match message.to {
                Address::Responses => {
                    let mut bytes = message.body.len();
                    let mut bodies = vec![message.body];
                    while let Some(next) = messages.next_if(|next| {
                        next.to == Address::Responses && bytes + next.body.len() <= REPORT_BYTES
                    }) {
                        bytes += next.body.len();
                        bodies.push(next.body);
                    }
                    results.extend(shared.report(&bodies).await);
                }
                Address::Presence => results.push(shared.post_presence(&message.body).await),
                Address::Dead { reason } => {
                    tracing::error!(why = %reason, bytes = message.body.len(), "the API sent something that this worker cannot use");
                    results.push(Ok(()));
                }
                other => results.push(Err(BrokerError::Refused {
                    reason: format!("a worker does not publish to {other:?}"),
                })),
            }
        }
        results
    }

    async fn consume(&self, source: Source, prefetch: u16) -> Result<Consumer, BrokerError> {
        let Source::Tasks(subscriptions) = source else {
            return Err(BrokerError::Refused { reason: "a worker consumes nothing but tasks".into() });
        };
        let types: Vec<TaskType> = subscriptions.into_iter().map(|(task_type, _)| task_type).collect();
        let (sender, deliveries) = mpsc::channel(usize::from(prefetch.max(1)));
        let shared = self.shared.clone();
        tokio::spawn(async move { shared.closed.run_until_cancelled(shared.fetch(&types, sender)).await });
        Ok(Consumer {
            deliveries,
            link: self.shared.link.subscribe(),
            refused: watch::Sender::new(Refusals::new()).subscribe(),
        })
    }

    /// Only an API process admits endpoints.
    async fn admit(&self, subscriptions: Vec<(TaskType, EndpointName)>) -> Vec<Result<(), BrokerError>> {
        vec![Ok(()); subscriptions.len()]
    }

    /// The ledger gives tasks to those alone that say they are there.
    async fn dismiss(&self, _subscriptions: Vec<(TaskType, EndpointName)>) -> Result<(), BrokerError> {
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    async fn close(&self) {
        self.shared.closed.cancel();
    }
}

/// What is acknowledged here is what the worker reports as received.
#[derive(Debug)]
struct Unneeded;

#[async_trait]
impl Acker for Unneeded {
    async fn ack_through(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers requests as the API does that does not take the report `5`; tells the reports that it takes and
    /// the number of requests.
    async fn serve(listener: TcpListener, told: watch::Sender<(Vec<u64>, usize)>) {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let head = String::from_utf8(head).expect("text").to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
            stream.read_exact(&mut body).await.expect("a body");
            let posted: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let reports = posted["reports"].as_array().expect("reports").iter();
            let reports: Vec<u64> = reports.map(|report| report.as_u64().expect("a number")).collect();
            let status = if reports.contains(&5) { "403 Forbidden" } else { "204 No Content" };
            told.send_modify(|(taken, requests)| {
                taken.extend(reports.iter().filter(|_| status.starts_with('2')));
                *requests += 1;
            });
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("answered");
        }
    }

    #[tokio::test]
    async fn a_refused_report_holds_back_no_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (tell, told) = watch::channel(Default::default());
        let server = tokio::spawn(serve(listener, tell));
        let client = Client::new(&url).expect("an address");
        let broker = ApiBroker::start(client, "w1".parse().expect("a name"));
        let report = |number: u64| Message::new(Address::Responses, Bytes::from(number.to_string()));
        let results = broker.publish((0..8).map(report).collect()).await;
        let refused: Vec<_> =
            results.iter().map(|result| matches!(result, Err(BrokerError::Refused { .. }))).collect();
        assert_eq!(refused, [0, 1, 2, 3, 4, 5, 6, 7].map(|number| number == 5), "{results:?}");
        assert!(results.iter().filter(|result| result.is_ok()).count() == 7, "{results:?}");
        // The whole, its halves, and so on: not each for itself.
        assert_eq!(*told.borrow(), (vec![0, 1, 2, 3, 4, 6, 7], 7));
        server.abort();
    }
}
