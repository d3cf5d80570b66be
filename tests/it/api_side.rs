//! What the API does to an endpoint, for tests of an endpoint alone: welcomes it, sends it tasks, hears its
//! reports.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tasker::backoff::Backoff;
use tasker::broker::memory::MemoryBroker;
use tasker::broker::{Address, Consumer, Message, SharedBroker, Source, envelope, wire};
use tasker::config::{self, Body, OnStop, Output, TypePolicy};
use tasker::domain::{
    Audience, Command, EndpointName, Labels, Presence, PresenceState, Report, ReportEvent, TaskId,
    TaskMessage, TaskType, WireVersion, WorkPart,
};
use tasker::endpoint::{Agent, AgentConfig, AgentError, AgentHandle, JournalError, Registry};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take at most before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Gives up on what does not happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Looks until something is as wanted.
pub async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let look = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, look).await;
}

pub fn task_type(name: &str) -> TaskType {
    name.parse().expect("a task type")
}

pub fn policy(name: &str) -> TypePolicy {
    TypePolicy {
        name: task_type(name),
        attempts: 3,
        backoff: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(50) },
        time_limit: PATIENCE,
        expires_after: Duration::from_secs(3600),
        on_stop: OnStop::Rerun,
        output: Output::Auto,
        concurrency: 4,
        persistent: false,
        wait_for_endpoints_timeout: Duration::from_secs(30),
        expect: tasker::domain::Expect::Subscribed,
        body: Body::Envelope,
        trim: false,
        schema: None,
        run_as: None,
        ignored: tasker::domain::Ignored::default(),
        queue: None,
    }
}

/// One endpoint's place on disk, its broker, and the API's end of it.
pub struct ApiSide {
    pub broker: MemoryBroker,
    pub link: SharedBroker,
    pub dir: TempDir,
    responses: Consumer,
    presence: Consumer,
    /// Reports that came with others and were not looked at.
    reports: VecDeque<Report>,
}

/// An endpoint that runs.
pub struct Running {
    pub handle: AgentHandle,
    pub stop: CancellationToken,
    pub join: JoinHandle<Result<(), AgentError>>,
}

impl ApiSide {
    pub async fn new() -> Self {
        let broker = MemoryBroker::new();
        let link = broker.connect();
        let responses = link.consume(Source::Responses, 500).await.expect("consumes");
        let presence = link.consume(Source::Presence, 500).await.expect("consumes");
        Self {
            broker,
            link,
            dir: TempDir::new().expect("a directory"),
            responses,
            presence,
            reports: VecDeque::new(),
        }
    }

    pub fn handlers_dir(&self) -> PathBuf {
        self.dir.path().join("handlers")
    }

    pub fn config(&self, task_types: Vec<TypePolicy>) -> AgentConfig {
        let settings = config::Endpoint {
            data_dir: self.dir.path().join("data"),
            handlers_dir: Some(self.handlers_dir()),
            presence_interval: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(30),
            remember: Duration::from_secs(3600),
            journal_limit: 256 << 20,
            labels: Labels::default(),
            labels_file: None,
            pass_env: Vec::new(),
            run_as: None,
            output_limit: 256 << 10,
            signatures: config::Signatures::Off,
            trust: self.dir.path().join("trust.yaml"),
            clock_tolerance: Duration::from_secs(60),
            stop_file: self.dir.path().join("stop"),
            http: config::Http::default(),
        };
        AgentConfig {
            grace: Duration::from_millis(300),
            ..AgentConfig::new("console1".parse().expect("a name"), task_types, settings)
        }
    }

    /// Starts an endpoint. The one before may still be letting go of its directory.
    pub async fn start(&self, config: AgentConfig, registry: Registry) -> Running {
        let open = async {
            loop {
                match Agent::open(config.clone(), self.broker.connect(), registry.clone()) {
                    Err(AgentError::Journal(JournalError::InUse { .. })) => {
                        tokio::time::sleep(Duration::from_millis(5)).await
                    }
                    other => break other.expect("opens"),
                }
            }
        };
        let agent = soon("the directory", open).await;
        let (handle, stop) = (agent.handle(), CancellationToken::new());
        let join = tokio::spawn(agent.run(stop.clone()));
        Running { handle, stop, join }
    }

    /// Starts an endpoint with the built-in handlers, and welcomes it.
    pub async fn started(&mut self, task_types: &[&str]) -> Running {
        let policies = task_types.iter().map(|name| policy(name)).collect();
        self.started_as(self.config(policies)).await
    }

    pub async fn started_as(&mut self, config: AgentConfig) -> Running {
        let builtin = tasker::handlers::builtin(&config.settings);
        let mut running = self.start(config, builtin).await;
        self.welcome().await;
        assert!(soon("the welcome", running.handle.wait_for(|state| state.welcomed)).await, "it ended");
        running
    }

    pub async fn presence(&mut self) -> Presence {
        let delivery = soon("presence", self.presence.deliveries.recv()).await.expect("the broker lives");
        delivery.acker.ack_through().await;
        wire::decode_presence(&delivery.body).expect("presence")
    }

    /// Waits for the endpoint to join and welcomes it.
    pub async fn welcome(&mut self) -> Presence {
        loop {
            let presence = self.presence().await;
            if presence.state == PresenceState::Joined {
                self.welcome_session(&presence).await;
                return presence;
            }
        }
    }

    /// Welcomes an endpoint to the interval that it keeps anyway.
    pub async fn welcome_session(&self, presence: &Presence) {
        let (session, presence_interval) = (presence.session, presence.interval);
        for task_type in &presence.task_types {
            let command = Command::Welcome {
                session,
                presence_interval,
                reads: WireVersion::NEWEST,
                task_type: Some(task_type.clone()),
                revocations: None,
            };
            self.send(Address::Named(task_type.clone(), vec![presence.endpoint.clone()]), &command).await;
        }
    }

    pub async fn send(&self, to: Address, command: &Command) {
        self.send_bytes(to, wire::encode_command(command, WireVersion::NEWEST)).await;
    }

    pub async fn send_bytes(&self, to: Address, body: bytes::Bytes) {
        let message = Message::new(to, body);
        for result in self.link.publish(vec![message]).await {
            result.expect("published");
        }
    }

    pub fn task(name: &str, payload: &str) -> TaskMessage {
        let id = TaskId::new();
        TaskMessage {
            work: WorkPart {
                id,
                task_type: task_type(name),
                identifier: format!("the customer's {id}").parse().expect("an identifier"),
                audience: Some(Audience::All),
                not_after: None,
                payload: serde_json::from_str(payload).expect("JSON"),
            },
            expires_in: Duration::from_secs(3600),
            received: false,
            attempts: vec![],
        }
    }

    /// Sends a task to all endpoints of its type.
    pub async fn send_task(&self, task: &TaskMessage) {
        self.send(Address::All(task.work.task_type.clone()), &Command::Task(task.clone())).await;
    }

    pub async fn submit(&self, name: &str, payload: &str) -> TaskId {
        let task = Self::task(name, payload);
        self.send_task(&task).await;
        task.work.id
    }

    pub async fn cancel(&self, name: &str, task_id: TaskId) {
        let to: Vec<EndpointName> = vec!["console1".parse().expect("a name")];
        self.send(Address::Control(task_type(name), to), &Command::Cancel { task_id }).await;
    }

    /// Takes a task back, unless it has begun.
    pub async fn withdraw(&self, name: &str, task_id: TaskId) {
        let to: Vec<EndpointName> = vec!["console1".parse().expect("a name")];
        self.send(Address::Control(task_type(name), to), &Command::Withdraw { task_id }).await;
    }

    pub async fn report(&mut self) -> Report {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            let body = self.body().await;
            self.reports.extend(reports(&body));
        }
    }

    /// The next receipt. Progress of 0 percent is passed over: it says that a task has begun whose receipt went first.
    pub async fn receipt(&mut self) -> Report {
        loop {
            let report = self.report().await;
            match report.event {
                ReportEvent::Received | ReportEvent::Begun => return report,
                ReportEvent::Progress { percent: 0 } => {}
                _ => panic!("no receipt: {report:?}"),
            }
        }
    }

    /// The next message with reports.
    pub async fn body(&mut self) -> bytes::Bytes {
        let delivery = soon("a report", self.responses.deliveries.recv()).await.expect("the broker lives");
        delivery.acker.ack_through().await;
        delivery.body
    }

    /// The next report that ends a task; receipts and progress are passed over.
    pub async fn end(&mut self) -> Report {
        loop {
            let report = self.report().await;
            if matches!(report.event, ReportEvent::Finished { .. } | ReportEvent::Canceled) {
                return report;
            }
        }
    }

    /// The next report that ends a task, which must be this one: number, text, answer.
    pub async fn finished(&mut self, id: TaskId) -> (i32, String, Option<String>) {
        let report = self.end().await;
        match report.event {
            ReportEvent::Finished { errnr, errmsg, payload, .. } if report.task_id == id => {
                (errnr, errmsg, payload.map(|payload| payload.get().to_owned()))
            }
            _ => panic!("another report came: {report:?}"),
        }
    }

    /// Reports that have come and were not looked at.
    pub fn unexpected(&mut self) -> Vec<Report> {
        while let Ok(delivery) = self.responses.deliveries.try_recv() {
            self.reports.extend(reports(&delivery.body));
        }
        self.reports.drain(..).collect()
    }
}

/// The reports in a body.
pub fn reports(body: &bytes::Bytes) -> Vec<Report> {
    envelope::items(body).iter().map(|item| wire::decode_report(item).expect("a report")).collect()
}

impl Running {
    /// Ends it as the end of its process would: nothing is finished, nothing is said.
    pub async fn kill(self) {
        self.join.abort();
        let _ = self.join.await;
    }

    pub async fn stopped(self) {
        self.stop.cancel();
        soon("the endpoint to stop", self.join).await.expect("no panic").expect("a good end");
    }
}

/// Lines of a file that a handler appends to.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
