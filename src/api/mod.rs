//! The HTTP interface: the only place with actix.
//!
//! Owns routes, the form of requests and answers, and the way errors leave (`problem`). Decides nothing about tasks: a
//! submission goes to the `acceptor`, everything else is read from the store. `docs/api.md` is the contract in words,
//! `/openapi.json` in schemas.
//!
//! A `POST` comes in by a `door` (with a `certificate`) and passes `request` (id, span, metrics) -> `access` (who may, by the table in `route`, and with `guard` from where) -> `body`
//! (type, size, time) -> `domain::json_check` (is it JSON) -> `submission` (is it a submission) -> `digest` -> acceptor -> `view`. Nothing
//! a client sends, or fails to send, holds more than a bounded amount of memory for a bounded time.

mod access;
mod body;
mod cancel_task;
mod certificate;
mod connections;
mod door;
mod forget_endpoint;
mod guard;
mod health;
mod heard;
mod list_endpoints;
mod list_tasks;
mod openapi;
mod outgoing;
mod percent;
mod problem;
mod query;
mod queues;
mod refusals;
mod request;
mod route;
mod schedules;
mod serve_worker;
mod show_task;
mod submission;
mod submit_task;
mod take_census;
mod tasks;
mod unknown;
mod view;
mod waits;

pub use certificate::CertificateError;
pub use door::{Door, DoorError, check_guarded};
pub use openapi::document;
pub use route::routes;

/// Doors of the fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::submission::parse;
    pub use crate::domain::json_check::check;
}

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, HttpServer, web};
use rustix::net::sockopt::set_tcp_user_timeout;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::acceptor::Acceptor;
use crate::admission::Admission;
use crate::broker::SharedBroker;
use crate::clock::Clock;
use crate::config::{Config, Schedule, TypePolicy};
use crate::contract::ProblemCode;
use crate::domain::{Identifier, Task, TaskId, TaskType, Timestamp};
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::publisher::Publisher;
use crate::queue::Desk;
use crate::store::{SharedStore, StoreError};
use crate::telemetry::Metrics;
use crate::watch::Watch;
use body::{Body, Limit, Rules};
use connections::Connections;
use guard::Hosts;
use heard::Heard;
use outgoing::{Room, Share};
use problem::Problem;
use refusals::Refusals;
use waits::Waits;

/// What the interface works with.
#[derive(Clone)]
pub struct ApiState {
    /// What is configured.
    pub config: Arc<Config>,
    /// What the ledger holds.
    pub store: SharedStore,
    /// Moves tasks.
    pub ledger: Ledger,
    /// For cancels, and to say whether it is there.
    pub broker: SharedBroker,
    /// Tells endpoints to stop what was canceled.
    pub publisher: Arc<Publisher>,
    /// Where submissions go.
    pub acceptor: Acceptor,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who waits for which task.
    pub watch: Watch,
    /// The ledger's time.
    pub clock: Clock,
    /// Where workers wait for tasks.
    pub desk: Desk,
    /// What submissions must satisfy.
    pub admission: Arc<Admission>,
    /// How long and how much.
    pub limits: Limits,
}

/// How long the interface waits for others, and how much it holds for them. The defaults are meant for production; tests are
/// less patient.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the head of a request.
    pub head_timeout: Duration,
    /// For a body, on top of what it earns by arriving.
    pub body_timeout: Duration,
    /// Bytes of all request bodies held at the same time.
    pub body_budget: usize,
    /// For one call of the store. Longer than the store's own time-outs: only a database that hangs gets here.
    pub store_timeout: Duration,
    /// How long a connection may lie idle. Longer than the pools of the usual reverse proxies, lest they reuse a closed one.
    pub keep_alive: Duration,
    /// Connections that one worker serves at the same time, as far as there are files for them; more wait in the listen queue.
    pub connections: usize,
    /// Connections that are kept open for one address between requests; more are closed after an answer each.
    pub kept_per_address: usize,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// Bytes of all long answers held at the same time.
    pub answer_budget: usize,
    /// Reads that wait for the end of a task at the same time.
    pub waits: usize,
    /// Those of them with the same token.
    pub waits_per_token: usize,
    /// Workers with the same token that wait for tasks at the same time.
    pub workers_per_token: usize,
    /// Requests for tasks of one worker that wait at the same time. It needs one; what it has given up may still be open.
    pub waits_per_worker: usize,
    /// How long a request waits for room for its answer.
    pub room_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            body_budget: 256 * 1024 * 1024,
            store_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            connections: 8192,
            kept_per_address: 512,
            write_timeout: Duration::from_secs(30),
            answer_budget: 96 * 1024 * 1024,
            waits: 2000,
            waits_per_token: 500,
            workers_per_token: 2000,
            waits_per_worker: 4,
            room_timeout: Duration::from_secs(5),
        }
    }
}

/// Serves until told to stop, then finishes the requests under way within `api.stop_timeout`; waiting reads are answered
/// at once with what there is. To be called within the runtime that store and broker live in.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(state: ApiState, door: Door, stop: CancellationToken) -> io::Result<()> {
    let stop_timeout = state.config.api.stop_timeout;
    let limits = state.limits.clone();
    let bodies = Arc::new(Semaphore::new(limits.body_budget.min(Semaphore::MAX_PERMITS)));
    let answers = Room::new(limits.answer_budget);
    let waits = Waits::new(&limits);
    let keyring = Keyring::new(state.store.clone(), door.is_local());
    let hosts = Hosts::new(door.address().port(), door.tls.is_some(), &state.config.api.hosts);
    let _refreshing = AbortOnDropHandle::new(tokio::spawn(keyring.clone().run(stop.clone())));
    let (heard, probe, refusals) = (Heard::default(), health::Probe::default(), Refusals::default());
    let hsts = state.config.api.hsts.filter(|_| door.tls.is_some());
    let hsts = hsts.and_then(|span| HeaderValue::from_str(&format!("max-age={}", span.as_secs())).ok());
    let (runtime, stopping) = (Handle::current(), stop.clone());
    let api = Api { state, runtime, stop: stopping, bodies, answers, waits, keyring, hosts, heard, probe, refusals, hsts };
    let api = web::Data::new(api);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let most = connections::per_thread(limits.connections, workers);
    let connections = Connections::new(most.saturating_mul(workers), limits.kept_per_address);
    // Accepted sockets have it from the listener. The system counts from the moment a client takes nothing more, however it was asked for.
    set_tcp_user_timeout(&door.listener, u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX))?;

    // What is wrapped last is entered first.
    let app = move || App::new().app_data(api.clone()).wrap(from_fn(access::admit)).wrap(from_fn(request::observe)).configure(route::mount);
    let server = HttpServer::new(app)
        .workers(workers)
        .max_connections(most)
        .on_connect(move |stream, data| {
            // With TLS it is a stream of another kind, and what is no TLS never gets here.
            let peer = stream.downcast_ref::<TcpStream>().and_then(|stream| stream.peer_addr().ok());
            data.insert(connections.opened(peer));
        })
        .keep_alive(limits.keep_alive)
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(Duration::from_secs(2))
        .shutdown_timeout(stop_timeout.as_secs().max(1))
        // Who has hung up waits for nothing more, and half a connection cannot be told from that.
        .h1_allow_half_closed(false)
        .disable_signals();
    let server = match door.tls {
        Some(tls) => server.listen_rustls_0_23(door.listener, tls)?,
        None => server.listen(door.listener)?,
    };
    let server = server.run();
    let handle = server.handle();
    let stopped = async {
        stop.cancelled().await;
        handle.stop(true).await;
    };
    // The server ends when it has been stopped, and only a defect ends it before.
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = stopped => server.await,
    }
}

/// What handlers see.
struct Api {
    state: ApiState,
    /// Where store and broker are called. A worker of the server has a runtime of its own; a connection of the pool that was
    /// made there would stall when that worker is busy and die when it stops.
    runtime: Handle,
    stop: CancellationToken,
    bodies: Arc<Semaphore>,
    answers: Room,
    waits: Waits,
    keyring: Arc<Keyring>,
    hosts: Hosts,
    heard: Heard,
    probe: health::Probe,
    refusals: Refusals,
    /// `Strict-Transport-Security`, where there is TLS.
    hsts: Option<HeaderValue>,
}

impl Api {
    /// The ledger's time.
    fn now(&self) -> Result<Timestamp, Problem> {
        match self.state.clock.is_set() {
            true => Ok(self.state.clock.now()),
            false => Err(Problem::database_unavailable("the database has not been asked for the time yet")),
        }
    }

    /// Does work with store or broker to its end, whether or not the client stays to hear of it.
    async fn run<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let work = self.runtime.spawn(work.in_current_span());
        match tokio::time::timeout(self.state.limits.store_timeout, work).await {
            Ok(Ok(answer)) => answer.map_err(Into::into),
            Ok(Err(died)) => Err(Problem::internal(died)),
            Err(_) => Err(Problem::database_unavailable("the store did not answer in time")),
        }
    }

    /// Waits for room for an answer of about so many bytes, which that answer then has.
    async fn room(&self, request: &HttpRequest, bytes: usize) -> Result<(), Problem> {
        if bytes <= outgoing::PIECE {
            return Ok(());
        }
        let share = tokio::time::timeout(self.state.limits.room_timeout, self.answers.reserve(bytes)).await.ok().flatten();
        let share = share.ok_or_else(outgoing::no_room)?;
        request.extensions_mut().insert::<Share>(share);
        Ok(())
    }

    /// The body of a request.
    async fn body(&self, request: &HttpRequest, payload: web::Payload, limit: Limit) -> Result<Body, Problem> {
        let rules = Rules { limit, timeout: self.state.limits.body_timeout, budget: &self.bodies };
        body::read(request.headers(), payload, rules).await
    }

    /// The task of this type that a path names.
    async fn find(&self, policy: &TypePolicy, name: &TaskName) -> Result<Task, Problem> {
        let (store, task_type, wanted) = (Arc::clone(&self.state.store), policy.name.clone(), name.clone());
        let found = self.run(async move { wanted.find(&store, &task_type).await }).await?;
        found.ok_or_else(|| Problem::unknown_task(&policy.name, &name.text))
    }

    /// The configured type in the path of a request.
    fn task_type(&self, request: &HttpRequest) -> Result<&TypePolicy, Problem> {
        let name = segment(request, 0)?;
        self.policy(&name).ok_or_else(|| unknown::task_type(self, request, &name))
    }

    /// The configured schedule of a name.
    fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.state.config.schedules.iter().find(|schedule| schedule.name == name)
    }

    /// The configured type of a name.
    fn policy(&self, name: &str) -> Option<&TypePolicy> {
        let task_type: TaskType = name.parse().ok()?;
        self.state.config.policy(&task_type)
    }
}

/// The ways a path may name a task.
#[derive(Debug, Clone)]
struct TaskName {
    text: String,
    identifier: Option<Identifier>,
    id: Option<TaskId>,
}

impl TaskName {
    /// The name in the path of a request. Any text is one, if only one that no task has.
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let text = segment(request, 1)?;
        Ok(Self { identifier: text.parse().ok(), id: text.parse().ok(), text })
    }

    /// Looks for the customer's name first: an identifier may look like an id of ours.
    async fn find(&self, store: &SharedStore, task_type: &TaskType) -> Result<Option<Task>, StoreError> {
        if let Some(identifier) = &self.identifier
            && let Some(task) = store.find_by_identifier(task_type, identifier).await?
        {
            return Ok(Some(task));
        }
        let Some(id) = self.id else { return Ok(None) };
        Ok(store.find(id).await?.filter(|task| task.task_type == *task_type))
    }
}

/// A decoded segment of the path as it was sent. The router's own decoding would turn bytes that are not UTF-8 into
/// replacement characters.
fn segment(request: &HttpRequest, index: usize) -> Result<String, Problem> {
    let raw = request.uri().path().split('/').nth(index + 1).unwrap_or_default();
    let text = percent::decode(raw).filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| Problem::new(ProblemCode::BadPath, "the path must be percent-encoded UTF-8 without control characters"))
}

/// A JSON answer. `capacity` is a guess at its length that saves copies of large ones.
fn answer(status: StatusCode, body: &impl Serialize, capacity: usize) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::build(status).content_type("application/json").body(to_json(body, capacity)?))
}

fn to_json(body: &impl Serialize, capacity: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut bytes, body).map_err(Problem::internal)?;
    Ok(bytes)
}

type Answer = Result<HttpResponse, Problem>;
