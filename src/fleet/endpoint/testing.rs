//! What the unit tests of several modules begin with.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::Registry;
use super::boot::Boot;
use super::journal::{Journal, Options, StoredTask};
use super::labels::OwnLabels;
use super::lane::Lane;
use super::performer::Core;
use super::stop_file::StopFile;
use crate::backoff::Backoff;
use crate::broker::{Broker, BrokerError, Consumer, Link, Message, Source, wire};
use crate::clock::Clock;
use crate::config::{Body, OnStop, Output, TypePolicy};
use crate::domain::{
    Command, EndpointName, Expect, Ignored, Labels, TaskId, TaskMessage, TaskType, WireVersion, WorkPart,
    json,
};

pub(super) fn policy() -> TypePolicy {
    TypePolicy {
        name: "worker".parse().expect("a type"),
        attempts: 3,
        backoff: Backoff { first: Duration::from_secs(2), max: Duration::from_secs(60) },
        time_limit: Duration::from_secs(600),
        expires_after: Duration::from_secs(24 * 3600),
        on_stop: OnStop::Rerun,
        output: Output::Auto,
        concurrency: 1,
        persistent: false,
        wait_for_endpoints_timeout: Duration::from_secs(30),
        expect: Expect::Subscribed,
        body: Body::Envelope,
        trim: false,
        schema: None,
        run_as: None,
        ignored: Ignored::default(),
        queue: None,
    }
}

/// A task of the type of [`policy`] that may begin now and has an hour.
pub(super) fn stored() -> StoredTask {
    let (id, now) = (TaskId::new(), Clock::system().now());
    let work = WorkPart {
        id,
        task_type: policy().name,
        identifier: "1".parse().expect("an identifier"),
        audience: None,
        not_after: None,
        payload: json(&1),
    };
    let task = TaskMessage { work, expires_in: Duration::from_secs(60), received: false, attempts: vec![] };
    StoredTask {
        id,
        // By the clock it has a day, whatever was done to that.
        expires_at: now.after(Duration::from_secs(24 * 3600)),
        not_before: now,
        started: 0,
        attempts: vec![],
        deadline: Boot::current().deadline(Duration::from_secs(3600)),
        restarting: None,
        message: encoded(task),
    }
}

fn encoded(task: TaskMessage) -> Bytes {
    wire::encode_command(&Command::Task(task), WireVersion::NEWEST)
}

/// What the parts of an agent share, with a journal in this directory. With slots, of a worker.
pub(super) fn core(dir: &Path, lane: Arc<Lane>, slots: Option<u32>) -> Core {
    let (journal, _) =
        Journal::open(dir, Options::new(1 << 20, Duration::from_secs(60)), &[]).expect("opens");
    Core::new(
        "console1".parse().expect("a name"),
        Uuid::nil(),
        journal,
        HashMap::from([(policy().name, lane)]),
        Registry::new(),
        None,
        1000,
        Duration::from_secs(1),
        slots,
        OwnLabels::new(Labels::default(), None),
        None,
        StopFile::at(dir.join("stop")),
        Clock::system(),
    )
}

/// What becomes of a message.
type Answer = dyn Fn(&Message) -> Result<(), BrokerError> + Send + Sync;

/// A broker that takes messages for as long as it has confirms, and answers as it is told.
pub(super) struct Scripted {
    /// What was published, and when, also if the confirm hangs.
    pub(super) published: watch::Sender<Vec<(Instant, Message)>>,
    /// How many more calls are answered.
    pub(super) confirms: Semaphore,
    answer: Box<Answer>,
    link: watch::Sender<Link>,
}

impl Scripted {
    pub(super) fn new(
        confirms: usize,
        answer: impl Fn(&Message) -> Result<(), BrokerError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            published: watch::Sender::default(),
            confirms: Semaphore::new(confirms),
            answer: Box::new(answer),
            link: watch::Sender::default(),
        })
    }
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for Scripted {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let now = Instant::now();
        self.published.send_modify(|all| all.extend(messages.iter().map(|one| (now, one.clone()))));
        self.confirms.acquire().await.expect("open").forget();
        messages.iter().map(&self.answer).collect()
    }

    async fn consume(&self, _: Source, _: u16) -> Result<Consumer, BrokerError> {
        Err(BrokerError::Closed)
    }

    async fn admit(&self, _: Vec<(TaskType, EndpointName)>) -> Vec<Result<(), BrokerError>> {
        Vec::new()
    }

    async fn dismiss(&self, _: Vec<(TaskType, EndpointName)>) -> Result<(), BrokerError> {
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {}
}
