//! The way of one task: attempts, waits between them, and inside an attempt redirects and the fallback.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::ask::Ask;
use super::body::{self, Unread};
use super::carrier::{Carried, Carrier, Parcel};
use super::completion::{AttemptOutcome, AttemptSummary, Timings, Trust};
use super::connection::{Connection, HEAD_LIMIT, Traffic};
use super::dial::dial;
use super::error::{AttemptFailure, Last, Phase, TaskError};
use super::key::Key;
use super::network::Network;
use super::observer::Event;
use super::progress::Stage;
use super::response::Response;
use super::retry::{RetryPolicy, did_nothing, is_transient, retry_after};
use super::room::Place;
use super::scheduler::Slot;
use super::task::{HEADERS_LIMIT, Task, is_credential};
use super::ticket::{Record, Ticket};
use super::tls::{InsecureFallback, TlsContext, TlsMode};

/// Runs a task to its completion.
pub(super) async fn run(network: Arc<Network>, mut ticket: Ticket, slot: Slot<Ticket>) {
    let began = Instant::now();
    let batch = ticket.batch().clone();
    ticket.record.timings.queued = began - batch.launched;
    ticket.move_to(Stage::Running);
    let task = &batch.tasks[ticket.index() as usize];
    network.settings.tell(&Event::Started { id: task.id });
    let deadline = network.settings.deadline_of(task, batch.launched, began);
    let tls = network.tls();
    let mut course = Course {
        network: &network,
        task,
        ticket: &mut ticket,
        slot: Some(slot),
        tls,
        deadline,
        phase: Phase::Queue,
        wire: None,
        reused: false,
        last: None,
        acted: false,
        fell_back: None,
    };
    let result = match timeout_at(deadline, course.run()).await {
        Ok(result) => result,
        Err(_) => Err(course.out_of_time()),
    };
    let slot = course.slot.take();
    drop(course);
    ticket.record.timings.total = began.elapsed();
    // Before the completion: whoever launches the next list when this one has ended finds its connections and
    // slots.
    drop(slot);
    ticket.finish(result);
}

/// Has a task performed elsewhere. It counts as queued until somebody there has begun.
pub(super) async fn run_elsewhere(
    network: Arc<Network>,
    carrier: Arc<dyn Carrier>,
    mut ticket: Ticket,
    slot: Slot<Ticket>,
) {
    let began = Instant::now();
    let batch = ticket.batch().clone();
    let task = &batch.tasks[ticket.index() as usize];
    let timeout = network.settings.deadline_of(task, batch.launched, began).saturating_duration_since(began);
    let result = match Parcel::of(&network.settings, task, timeout) {
        Err(error) => Err(TaskError::Invalid { field: error.field, why: error.why }),
        Ok(parcel) => {
            let (started, has_started) = oneshot::channel();
            let mut carrying = carrier.carry(parcel, started);
            let carried = tokio::select! {
                biased;
                carried = &mut carrying => carried,
                Ok(()) = has_started => {
                    ticket.record.timings.queued = batch.launched.elapsed();
                    ticket.move_to(Stage::Running);
                    network.settings.tell(&Event::Started { id: task.id });
                    carrying.await
                }
            };
            let Carried { result, attempts, history, timings, trust, worker } = carried;
            let host = task.url.as_ref().and_then(Url::host_str).unwrap_or_default();
            for (attempt, summary) in (1..).zip(&history) {
                network.settings.tell(&Event::Attempt {
                    id: task.id,
                    attempt,
                    host,
                    outcome: summary.outcome,
                });
            }
            if trust == Trust::InsecureFallback {
                network.count_fallback();
            }
            let timings = Timings { queued: ticket.record.timings.queued, total: began.elapsed(), ..timings };
            ticket.record = Record { attempts, history, timings, trust, worker };
            result
        }
    };
    drop(slot);
    ticket.finish(result);
}

struct Course<'a> {
    network: &'a Network,
    task: &'a Task,
    ticket: &'a mut Ticket,
    /// Given back in waits.
    slot: Option<Slot<Ticket>>,
    tls: Arc<TlsContext>,
    deadline: Instant,
    phase: Phase,
    /// The connection in use, to tell how far a request has come.
    wire: Option<Wire>,
    reused: bool,
    last: Option<Last>,
    /// Whether a redirect has taken the request for done: what follows only fetches the outcome, so that
    /// doing all of it again would do it twice.
    acted: bool,
    /// The host whose certificate is not looked at any more.
    fell_back: Option<String>,
}

struct Wire {
    traffic: Arc<Traffic>,
    written: u64,
    read: u64,
    body: u64,
}

impl Wire {
    fn untouched(&self) -> bool {
        self.traffic.written() == self.written
    }

    fn unanswered(&self) -> bool {
        self.traffic.read() == self.read
    }

    /// Headers are a hundred bytes at least: more than the body means all of it, as far as can be seen from
    /// here.
    fn sent(&self) -> bool {
        self.traffic.written() - self.written > self.body
    }
}

/// How an attempt ended.
enum End {
    Response(Response),
    TooLong(Response, usize),
    Invalid(TaskError),
    Failure {
        failure: AttemptFailure,
        /// Whether no byte of the request had left.
        untouched: bool,
        /// Whether the server had begun to answer: it has done what it was asked for.
        answered: bool,
    },
}

impl Course<'_> {
    async fn run(&mut self) -> Result<Response, TaskError> {
        let policy = self.network.settings.policy_of(self.task);
        let limit = self.task.attempt_timeout.or(self.network.settings.attempt_timeout);
        loop {
            self.ticket.record.attempts += 1;
            self.wire = None;
            self.acted = false;
            let began = Instant::now();
            // Boxed, as is the reading of the body below: a future has room for each of its states side by
            // side, and thousands of them wait for an answer at the same time.
            let attempt = Box::pin(self.attempt(&policy));
            let end = match limit {
                None => attempt.await,
                Some(limit) => match timeout(limit, attempt).await {
                    Ok(end) => end,
                    Err(_) => self.slow(limit),
                },
            };
            let attempts = self.ticket.record.attempts;
            self.note(&end, began.elapsed());
            let left = attempts < policy.attempts();
            let (method, headers) = (&self.task.method, &self.task.headers);
            let repeatable = |done: bool| {
                self.task.repeatable
                    || if done {
                        policy.may_ask_again(method, headers)
                    } else {
                        policy.may_repeat(method, headers)
                    }
            };
            let (last, again, asked) = match end {
                End::Invalid(error) => return Err(error),
                End::TooLong(partial, limit) => {
                    return Err(TaskError::BodyTooLarge { limit, partial: Box::new(partial) });
                }
                End::Response(response) if !is_transient(response.status) => return Ok(response),
                End::Response(response) => {
                    let again = repeatable(self.acted) || did_nothing(response.status) && !self.acted;
                    let asked = retry_after(response.status, &response.headers, SystemTime::now());
                    (Last::Response(Box::new(response)), again, asked)
                }
                End::Failure { failure, untouched, answered } => {
                    if !failure.is_retryable()
                        || !(untouched && !self.acted || repeatable(answered || self.acted))
                    {
                        return Err(TaskError::Failed(failure));
                    }
                    (Last::Failure(failure), true, None)
                }
            };
            let asked = asked.map(|asked| policy.retry_after_max.map_or(asked, |most| asked.min(most)));
            let remaining = self.deadline.saturating_duration_since(Instant::now());
            if !left || !again || asked.is_some_and(|asked| asked > remaining) {
                return match last {
                    Last::Response(response) if policy.deliver_last => Ok(*response),
                    last => Err(TaskError::RetriesExhausted { attempts, last }),
                };
            }
            self.last = Some(last);
            self.wait(asked.unwrap_or_else(|| policy.wait(attempts - 1, fastrand::f64()))).await?;
        }
    }

    /// Waits without a slot, and comes back ahead of those that have not begun.
    async fn wait(&mut self, wait: Duration) -> Result<(), TaskError> {
        if let Some(summary) = self.ticket.record.history.last_mut() {
            summary.wait = Some(wait);
        }
        self.network.settings.tell(&Event::Waiting { id: self.task.id, wait });
        self.phase = Phase::Backoff;
        self.wire = None;
        self.ticket.move_to(Stage::Waiting);
        let lane = self.slot.as_ref().map(Slot::lane).unwrap_or_default();
        self.slot = None;
        let began = Instant::now();
        // Boxed: most tasks never wait, and all of them would carry it.
        Box::pin(tokio::time::sleep(wait)).await;
        self.ticket.record.timings.waited += began.elapsed();
        self.phase = Phase::Queue;
        self.slot =
            Some(Box::pin(self.ticket.batch().scheduler.slot_again(lane)).await.ok_or(TaskError::ShutDown)?);
        self.ticket.move_to(Stage::Running);
        Ok(())
    }

    fn note(&mut self, end: &End, took: Duration) {
        let outcome = match end {
            End::Response(response) | End::TooLong(response, _) => AttemptOutcome::Status(response.status),
            End::Invalid(_) => AttemptOutcome::Failed("invalid"),
            End::Failure { failure, .. } => AttemptOutcome::Failed(failure.kind()),
        };
        let attempt = self.ticket.record.attempts;
        let host = self.host();
        match end {
            End::Failure { failure, .. } => {
                let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(http_task = %self.task.id, attempt, host, kind = failure.kind(), cause, "an HTTP attempt failed");
            }
            _ => tracing::trace!(http_task = %self.task.id, attempt, host, ?outcome, "an HTTP attempt ended"),
        }
        self.network.settings.tell(&Event::Attempt { id: self.task.id, attempt, host, outcome });
        self.ticket.record.history.push(AttemptSummary { outcome, took, reused: self.reused, wait: None });
    }

    fn host(&self) -> &str {
        self.task.url.as_ref().and_then(Url::host_str).unwrap_or_default()
    }

    /// The phase, as exactly as the connection tells.
    fn phase(&self) -> Phase {
        match (self.phase, &self.wire) {
            (Phase::Send, Some(wire)) if wire.sent() => Phase::Headers,
            (phase, _) => phase,
        }
    }

    fn slow(&self, limit: Duration) -> End {
        let target = self.task.url.as_ref().map(|url| Key::of(url, true, 0).target()).unwrap_or_default();
        let untouched = self.wire.as_ref().is_none_or(Wire::untouched);
        let answered = self.wire.as_ref().is_some_and(|wire| !wire.unanswered());
        End::Failure {
            failure: AttemptFailure::Slow { target, phase: self.phase(), limit },
            untouched,
            answered,
        }
    }

    fn out_of_time(&mut self) -> TaskError {
        TaskError::Timeout {
            phase: self.phase(),
            attempts: self.ticket.record.attempts,
            last: self.last.take(),
        }
    }

    /// One attempt, with the redirects it leads to.
    async fn attempt(&mut self, policy: &RetryPolicy) -> End {
        let mut ask = match Ask::of(self.task) {
            Ok(ask) => ask,
            Err(error) => return End::Invalid(error),
        };
        let most = self.network.settings.transport.max_redirects;
        let mut followed = 0;
        let mut replayed = false;
        loop {
            let connecting = Instant::now();
            let mut connection = match self.connection(&ask.url, replayed).await {
                Ok(connection) => connection,
                Err(failure @ AttemptFailure::Certificate { .. }) if self.may_fall_back(&ask.url) => {
                    self.fall_back(&ask.url, &failure);
                    continue;
                }
                Err(failure) => return End::Failure { failure, untouched: true, answered: false },
            };
            self.ticket.record.timings.connect =
                if connection.used { Duration::ZERO } else { connecting.elapsed() };
            self.reused = connection.used;
            let sending = Instant::now();
            let head = match self.head(&ask, &mut connection).await {
                Ok(head) => head,
                Err(Lost::Unusable(error)) => return End::Invalid(error),
                Err(Lost::Failure(failure)) => {
                    let (untouched, unanswered) =
                        self.wire.as_ref().map_or((true, true), |wire| (wire.untouched(), wire.unanswered()));
                    let repeatable =
                        self.task.repeatable || policy.may_repeat(&ask.method, &self.task.headers);
                    let stale = connection.used && unanswered && !failure.is_timeout();
                    if stale && !replayed && (untouched || repeatable) {
                        // The server had closed it before it saw the request: no fault of the task's, so no
                        // attempt is spent.
                        replayed = true;
                        continue;
                    }
                    return End::Failure { failure, untouched, answered: !unanswered };
                }
            };
            self.ticket.record.timings.headers = sending.elapsed();
            self.phase = Phase::Body;
            let (head, body) = head.into_parts();
            let reusable = self.network.settings.transport.keep_alive && keeps_alive(&head);
            if most > 0
                && let Some(location) = Ask::redirect(&head)
            {
                if followed == most {
                    return failed(AttemptFailure::Redirect { why: format!("stopped after {most} of them") });
                }
                followed += 1;
                let next = match ask.follow(head.status, location) {
                    Ok(next) => next,
                    Err(why) => return failed(AttemptFailure::Redirect { why }),
                };
                if body::drain(body).await && reusable {
                    self.keep(connection);
                }
                self.acted |= next.method != ask.method;
                self.wire = None;
                ask = next;
                continue;
            }
            return Box::pin(self.content(ask, head, body, connection, reusable)).await;
        }
    }

    /// A connection for a URL: the one that came with the slot, one from the pool, or a new one.
    async fn connection(&mut self, url: &Url, fresh: bool) -> Result<Connection, AttemptFailure> {
        let fell_back = self.has_fallen_back(url);
        let verify = self.task.tls_mode == TlsMode::Verify && !fell_back;
        self.ticket.record.trust = match (url.scheme() == "https", verify, fell_back) {
            (false, ..) => Trust::Plain,
            (true, true, _) => Trust::Verified,
            (true, false, true) => Trust::InsecureFallback,
            (true, false, false) => Trust::InsecureRequested,
        };
        let kept = self.slot.as_mut().and_then(|slot| slot.connection().take());
        if let Some(kept) = kept {
            if !fresh && kept.is_open() && kept.key.fits(url, verify, self.tls.generation) {
                return Ok(*kept);
            }
            self.network.rest(*kept);
        }
        let key = Key::of(url, verify, self.tls.generation);
        if !fresh && let Some(connection) = self.network.pool.take(&key) {
            return Ok(connection);
        }
        // Boxed, so that its memory is free while the request waits for its answer.
        Box::pin(dial(self.network, Arc::new(key), &self.tls, &mut self.phase)).await
    }

    fn keep(&mut self, mut connection: Connection) {
        connection.used = true;
        if let Some(slot) = &mut self.slot {
            slot.keep(connection);
        }
    }

    fn has_fallen_back(&self, url: &Url) -> bool {
        self.fell_back.is_some() && self.fell_back.as_deref() == url.host_str()
    }

    fn may_fall_back(&self, url: &Url) -> bool {
        let allowed = match &self.network.settings.fallback {
            InsecureFallback::Never => false,
            InsecureFallback::OnCertificateError { hosts, .. } => url
                .host_str()
                .is_some_and(|host| hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))),
        };
        allowed && !self.has_fallen_back(url)
    }

    fn fall_back(&mut self, url: &Url, failure: &AttemptFailure) {
        let host = url.host_str().unwrap_or_default();
        let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(http_task = %self.task.id, host, cause, "a server's certificate is not verified");
        self.network.count_fallback();
        self.network.settings.tell(&Event::Fallback { id: self.task.id, host });
        self.fell_back = Some(host.to_owned());
    }

    /// Sends the request and waits for the head of the response.
    async fn head(
        &mut self,
        ask: &Ask,
        connection: &mut Connection,
    ) -> Result<hyper::Response<hyper::body::Incoming>, Lost> {
        let settings = &self.network.settings;
        let keeps_secrets =
            !matches!(settings.fallback, InsecureFallback::OnCertificateError { send_credentials: true, .. });
        let bare = self.has_fallen_back(&ask.url) && keeps_secrets;
        let via =
            if connection.key.https { None } else { settings.proxy.way_to(false, &connection.key.host) };
        let service = self.task.service.as_deref().unwrap_or(&settings.service);
        let request = ask.request(service, settings.transport.gzip, via, bare).map_err(Lost::Unusable)?;
        self.phase = Phase::Send;
        let traffic = connection.traffic.clone();
        let (written, read) = (traffic.written(), traffic.read());
        self.wire = Some(Wire { traffic, written, read, body: ask.body.len() as u64 });
        let sender = &mut connection.sender;
        let answered = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answered = match settings.transport.response_header_timeout {
            None => answered.await,
            Some(limit) => match timeout(limit, answered).await {
                Ok(answered) => answered,
                Err(_) => {
                    let failure =
                        AttemptFailure::Slow { target: connection.key.target(), phase: self.phase(), limit };
                    return Err(Lost::Failure(failure));
                }
            },
        };
        answered.map_err(|error| {
            let (target, phase) = (connection.key.target(), self.phase());
            Lost::Failure(if is_too_large(&error) {
                let why = format!(
                    "its head has more than {HEADERS_LIMIT} headers, or is longer than {HEAD_LIMIT} bytes"
                );
                AttemptFailure::Head { target, why }
            } else {
                AttemptFailure::Exchange { target, phase, source: Arc::new(error) }
            })
        })
    }

    /// Reads the body; the connection is kept when all of it has been read.
    async fn content(
        &mut self,
        ask: Ask,
        mut head: hyper::http::response::Parts,
        body: hyper::body::Incoming,
        connection: Connection,
        reusable: bool,
    ) -> End {
        let reading = Instant::now();
        head.headers = compact(&head.headers);
        let limit = self.task.body_limit.unwrap_or(self.network.settings.body_limit);
        let gzip = ask.inflates(self.network.settings.transport.gzip, &head.headers);
        let read = body::read(body, limit, gzip, Place::in_room(self.task.room.clone())).await;
        self.ticket.record.timings.body = reading.elapsed();
        let content = match read {
            Ok(content) => content,
            Err(unread) => {
                let target = connection.key.target();
                return failed(match unread {
                    Unread::Broken(error) => {
                        AttemptFailure::Exchange { target, phase: Phase::Body, source: Arc::new(error) }
                    }
                    Unread::NotGzip(error) => AttemptFailure::Inflate { target, source: Arc::new(error) },
                });
            }
        };
        if gzip {
            // They spoke of what went over the wire.
            head.headers.remove(hyper::header::CONTENT_ENCODING);
            head.headers.remove(hyper::header::CONTENT_LENGTH);
        }
        if !content.cut && reusable {
            self.keep(connection);
        }
        let response = Response {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: content.bytes,
            truncated: content.cut,
            url: ask.url,
        };
        if content.cut && !self.task.truncate {
            End::TooLong(response, limit)
        } else {
            End::Response(response)
        }
    }
}

/// Why there is no head of a response.
enum Lost {
    Unusable(TaskError),
    Failure(AttemptFailure),
}

/// Whether more was answered than is taken in. hyper has a method for it, but for servers only.
fn is_too_large(error: &hyper::Error) -> bool {
    error.is_parse() && error.to_string().ends_with("head is too large")
}

/// An attempt that failed when the head of the response was there.
fn failed(failure: AttemptFailure) -> End {
    End::Failure { failure, untouched: false, answered: true }
}

/// The same headers in memory of their own. What hyper gives are slices of the connection's read buffer: a
/// completion that is kept would keep all of that, and the connection would have to get another.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let mut values = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    let mut own = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        values.extend_from_slice(value.as_bytes());
        // The same bytes were a value before.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(values.split().freeze()) {
            copy.set_sensitive(is_credential(name));
            own.append(name, copy);
        }
    }
    own
}

fn keeps_alive(head: &hyper::http::response::Parts) -> bool {
    let close = head.headers.get_all(hyper::header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    });
    head.version == hyper::Version::HTTP_11 && !close
}
