//! Takes in what endpoints report and writes it to the ledger, in batches.
//!
//! Promise: a report is acknowledged only after its transaction has committed; repeats, stragglers and any
//! order give the same ledger; one report that cannot be read or written goes alone to the dead exchange. An
//! endpoint that reports a canceled task as received is told to stop it. An endpoint that received a task
//! while it was withdrawn is told of the withdrawal again, also when the process that wrote the receipt ended
//! before it did so. While the database is away the broker keeps the reports, for a process that reaches it:
//! at most `PREFETCH` messages lie here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::dead::{Buried, DeadLetter, DeadLetters};
use crate::broker::{BrokerError, Consumer, Delivery, Link, Sender, SharedBroker, Source, envelope, wire};
use crate::config::Proof;
use crate::domain::{EndpointName, ReasonCode, Report, ReportEvent, TaskId, TaskType};
use crate::ledger::Ledger;
use crate::publisher::{Publisher, Stop};
use crate::service::Running;
use crate::store::{Applied, LoggedLines, SharedStore, StoreError};
use crate::telemetry::{Distrust, LINE_EVERY, LogPace, SharedMetrics};

/// Messages the broker hands out before the first is acknowledged; each may hold many reports.
const PREFETCH: u16 = 1000;
/// Reports in one transaction at most.
const BATCH: usize = 500;
/// Bytes of reports in one transaction at most, unless a single one is larger: a quarter of MySQL's default
/// packet.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Pieces of logs that are kept of one transaction at most, and their bytes: each is read and written with up
/// to 64 KiB that came before.
const PIECES: usize = 64;
const PIECES_BYTES: usize = 256 << 10;

/// Writes reports to the ledger.
#[derive(Debug)]
pub struct Collector {
    store: SharedStore,
    ledger: Ledger,
    broker: SharedBroker,
    publisher: Arc<Publisher>,
    metrics: SharedMetrics,
    unproven: Proof,
}

impl Collector {
    /// A collector; several may run at once, in one process or in many.
    pub fn new(
        store: SharedStore,
        ledger: Ledger,
        broker: SharedBroker,
        publisher: Arc<Publisher>,
        metrics: SharedMetrics,
        unproven: Proof,
    ) -> Self {
        Self { store, ledger, broker, publisher, metrics, unproven }
    }

    /// Collects until told to stop; the batch in hand is finished.
    ///
    /// # Errors
    /// When the broker is closed before it could start.
    pub fn run(self, stop: CancellationToken) -> Running<Result<(), BrokerError>> {
        Box::pin(async move {
            let (broker, store, metrics) = (self.broker.clone(), self.store.clone(), self.metrics.clone());
            let dead = DeadLetters::new(broker.clone(), "responses");
            let unproven = Unproven::new(self.unproven);
            Batches { broker, store, metrics, from: Source::Responses, dead, unproven }
                .run(&self, &stop)
                .await
        })
    }

    async fn apply(&self, reports: &[Report]) -> Result<(), StoreError> {
        let started = Instant::now();
        let applied = self.ledger.apply(reports).await?;
        let Applied {
            moved: _,
            ended: _,
            room: _,
            followed: _,
            rollouts: _,
            changed,
            repeated,
            adopted,
            unknown,
            unsubscribed,
            foreign,
            late,
            contradicting,
            doubled,
            to_stop,
            to_withdraw,
        } = applied;
        crate::failpoint::COLLECTOR_WRITTEN.reach();
        self.metrics.collect_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.collect_batch.observe(reports.len() as f64);
        for (label, count) in [
            ("changed", changed),
            ("repeated", repeated),
            ("adopted", adopted),
            ("unknown", unknown),
            ("unsubscribed", unsubscribed),
            ("foreign", foreign),
            ("late", late),
            ("contradicting", contradicting),
            ("doubled", doubled),
        ] {
            self.metrics.responses.with_label_values(&[label]).inc_by(count);
        }
        if unsubscribed + foreign > 0 {
            tracing::warn!(
                unsubscribed,
                foreign,
                reason = %ReasonCode::NotExpected,
                "reports were refused: their endpoint is not subscribed, or another one has the task"
            );
        }
        if doubled > 0 {
            tracing::error!(responses = doubled, "tasks were run twice: a second execution reported its end");
        }
        if !to_stop.is_empty() {
            self.publisher.stop(by_task(to_stop)).await;
        }
        if !to_withdraw.is_empty() {
            self.publisher.withdraw(by_task(to_withdraw)).await;
        }
        Ok(())
    }
}

impl Collector {
    /// Keeps the lines that running handlers have logged, after all else of a batch and within bounds:
    /// answers never wait for many of them, and never fail with them. Those that are left out show by their
    /// numbers.
    async fn keep_lines(&self, reports: &[Report]) {
        let (mut lines, mut bytes, mut left_out) = (Vec::new(), 0, 0);
        for Report { task_id, endpoint, home, event, .. } in reports {
            let ReportEvent::Log(piece) = event else { continue };
            bytes += piece.text.len();
            if lines.len() < PIECES && bytes <= PIECES_BYTES {
                let (task_id, endpoint, home, piece) = (*task_id, endpoint.clone(), *home, piece.clone());
                lines.push(LoggedLines { task_id, endpoint, home, piece });
            } else {
                left_out += 1;
            }
        }
        let pieces = lines.len() as u64;
        match self.ledger.append_logs(&lines).await {
            Ok(kept) => {
                self.metrics.log_pieces.with_label_values(&["kept"]).inc_by(kept);
                self.metrics.log_pieces.with_label_values(&["refused"]).inc_by(pieces - kept);
            }
            Err(error) => {
                tracing::debug!(%error, "lines of running handlers are left out");
                left_out += pieces;
            }
        }
        self.metrics.log_pieces.with_label_values(&["left_out"]).inc_by(left_out);
    }
}

fn by_task(to_stop: Vec<(TaskType, TaskId, EndpointName)>) -> Vec<Stop> {
    let mut stops: BTreeMap<TaskId, Stop> = BTreeMap::new();
    for (task_type, task_id, endpoint) in to_stop {
        stops
            .entry(task_id)
            .or_insert_with(|| Stop { task_type, task_id, endpoints: Vec::new() })
            .endpoints
            .push(endpoint);
    }
    stops.into_values().collect()
}

#[async_trait]
impl Sink for Collector {
    type Item = Report;

    fn decode(&self, body: &[u8], _sender: &Sender) -> Result<Report, wire::WireError> {
        wire::decode_report(body)
    }

    fn speaker<'a>(&self, report: &'a Report) -> Option<&'a EndpointName> {
        Some(&report.endpoint)
    }

    async fn write(&self, reports: &[Report]) -> Result<(), StoreError> {
        self.apply(reports).await?;
        self.keep_lines(reports).await;
        Ok(())
    }

    /// Repeats withdrawals. The receipt of a withdrawn task may be in the ledger although the endpoint was
    /// not told of the withdrawal. Only receipts that the broker delivers again are answered so: an endpoint
    /// that has begun sends another receipt for each withdrawal.
    async fn make_up(&self, reports: &[Report]) -> Result<(), StoreError> {
        let receipts: HashMap<(TaskId, &EndpointName), &Report> = reports
            .iter()
            .filter(|report| matches!(report.event, ReportEvent::Received))
            .map(|report| ((report.task_id, &report.endpoint), report))
            .collect();
        if receipts.is_empty() {
            return Ok(());
        }
        let ids: Vec<TaskId> = receipts.keys().map(|(id, _)| *id).collect();
        let mut untold = Vec::new();
        for (id, rows) in self.store.open_rows(&ids).await? {
            for row in rows.into_iter().filter(|row| row.withdrawn && row.home.is_some()) {
                if let Some(receipt) = receipts.get(&(id, &row.endpoint)) {
                    untold.push((receipt.task_type.clone(), id, row.endpoint));
                }
            }
        }
        if !untold.is_empty() {
            self.publisher.withdraw(by_task(untold)).await;
        }
        Ok(())
    }

    /// The work was done, so its response ends, if not with the answer.
    fn reduced(&self, report: &Report, error: &StoreError) -> Option<Report> {
        let ReportEvent::Finished { errnr, attempt, run, .. } = report.event else { return None };
        let bare = ReportEvent::Finished {
            errnr,
            errmsg: String::new(),
            payload: None,
            attempt,
            attempts: Vec::new(),
            log: None,
            run,
        };
        let event = bare.without_answer(&format!("the ledger does not take what was reported: {error}"));
        Some(Report { event, ..report.clone() })
    }
}

/// Where batches of one kind of message go.
#[async_trait]
pub trait Sink: Sync {
    /// The message as a value.
    type Item: Clone + Send + Sync;
    /// Reads one body that came from a sender.
    fn decode(&self, body: &[u8], sender: &Sender) -> Result<Self::Item, wire::WireError>;
    /// The endpoint that an item speaks for.
    fn speaker<'a>(&self, item: &'a Self::Item) -> Option<&'a EndpointName>;
    /// Writes a batch, all or nothing.
    async fn write(&self, items: &[Self::Item]) -> Result<(), StoreError>;
    /// Does once more what follows from writing items that the broker has delivered again: the process that
    /// wrote them may have ended before it did that.
    async fn make_up(&self, _items: &[Self::Item]) -> Result<(), StoreError> {
        Ok(())
    }
    /// What is to be kept of an item that the store does not take, if anything can be.
    fn reduced(&self, _item: &Self::Item, _error: &StoreError) -> Option<Self::Item> {
        None
    }
    /// What goes on beside a consumer, from its start until nobody listens to it any more.
    async fn accompany(&self, _link: watch::Receiver<Link>, _deaf: &CancellationToken) {}
}

/// Takes deliveries in batches: decode, write, acknowledge. Shared by reports and presence.
pub struct Batches {
    /// Where the reports come from.
    pub broker: SharedBroker,
    /// Where reports that nobody can read are told of.
    pub store: SharedStore,
    /// What is counted.
    pub metrics: SharedMetrics,
    /// Which of the broker's queues.
    pub from: Source,
    /// Where those go that cannot be read or written, by the name of their source.
    pub dead: DeadLetters,
    /// What becomes of those whose sender is not the endpoint that they speak for.
    pub unproven: Unproven,
}

/// Messages whose sender is not the endpoint that they speak for.
pub struct Unproven {
    proof: Proof,
    /// Of the line about them.
    line: Mutex<LogPace>,
}

impl Unproven {
    /// None so far.
    pub const fn new(proof: Proof) -> Self {
        Self { proof, line: Mutex::new(LogPace::new()) }
    }

    /// Counts some. Whoever has stolen a user can send any number, so the log tells of them now and then.
    fn count(&self, count: u64, source: &str, metrics: &SharedMetrics) {
        if count == 0 {
            return;
        }
        let result = match self.proof {
            Proof::Warn => "taken",
            Proof::Enforce => "refused",
        };
        metrics.unproven.with_label_values(&[source, result]).inc_by(count);
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.proof == Proof::Enforce && line.is_due(LINE_EVERY) {
            tracing::warn!(
                source,
                messages = count,
                "refused messages whose broker user is not that of the endpoint they speak for; tasker_unproven_total counts them"
            );
        }
    }
}

impl Batches {
    /// Takes batches until told to stop. While the store takes nothing it does not consume: what was not
    /// acknowledged comes again, to whoever consumes then, which may be a process that reaches the store.
    pub async fn run<S: Sink>(self, sink: &S, stop: &CancellationToken) -> Result<(), BrokerError> {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let Consumer { deliveries, link, .. } = self.broker.consume(self.from.clone(), PREFETCH).await?;
            let deaf = stop.child_token();
            let listen = async {
                let written = self.take_from(deliveries, sink, stop).await;
                deaf.cancel();
                written
            };
            let (written, ()) = tokio::join!(listen, sink.accompany(link, &deaf));
            failures = if written { 1 } else { failures + 1 };
            self.until_the_store_answers(failures, stop).await;
        }
        Ok(())
    }

    /// Until told to stop, or until the store takes nothing. Answers whether anything was written.
    async fn take_from<S: Sink>(
        &self,
        mut deliveries: mpsc::Receiver<Delivery>,
        sink: &S,
        stop: &CancellationToken,
    ) -> bool {
        let mut batch = Vec::with_capacity(BATCH);
        let mut written = false;
        loop {
            let taken = stop.run_until_cancelled(deliveries.recv_many(&mut batch, BATCH)).await;
            if taken.is_none_or(|count| count == 0) || self.take(sink, &batch, stop).await.is_none() {
                return written;
            }
            written = true;
            batch.clear();
        }
    }

    /// Waits after the store took nothing for so many times: at least for a moment, and until it answers.
    async fn until_the_store_answers(&self, failures: u32, stop: &CancellationToken) {
        for failures in failures.. {
            let pause = tokio::time::sleep(Backoff::CONNECTION.jittered(failures));
            if stop.run_until_cancelled(pause).await.is_none() || self.store.now().await.is_ok() {
                return;
            }
        }
    }

    /// `None` when told to stop, or left by the store, before all was written.
    async fn take<S: Sink>(&self, sink: &S, batch: &[Delivery], stop: &CancellationToken) -> Option<()> {
        let mut items = Vec::with_capacity(batch.len());
        let (mut unreadable, mut unwritable, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let mut unproven = 0;
        for Delivery { sender, body, redelivered, .. } in batch {
            for body in envelope::items(body) {
                let item = match sink.decode(&body, sender) {
                    Ok(item) => item,
                    Err(error) => {
                        unreadable.push(DeadLetter::new(body, error.to_string()));
                        continue;
                    }
                };
                let falsely = sink.speaker(&item).filter(|endpoint| !sender.vouches_for(endpoint));
                unproven += u64::from(falsely.is_some());
                if let Some(endpoint) = falsely.filter(|_| self.unproven.proof == Proof::Enforce) {
                    self.metrics.distrusted.add(Distrust::Sender, endpoint, 1);
                } else {
                    again.extend(redelivered.then(|| item.clone()));
                    items.push((item, body));
                }
            }
        }
        self.unproven.count(unproven, self.dead.source(), &self.metrics);
        let write = async {
            let (mut some, mut bytes) = (Vec::new(), 0);
            for (item, body) in items {
                bytes += body.len();
                some.push((item, body));
                if bytes >= BATCH_BYTES || some.len() >= BATCH {
                    self.write(sink, std::mem::take(&mut some), &mut unwritable).await?;
                    bytes = 0;
                }
            }
            self.write(sink, some, &mut unwritable).await
        };
        // Side by side: what can be read does not wait until the rest is put aside.
        let (buried, written) = tokio::join!(self.bury(unreadable, stop), write);
        buried?;
        written?;
        if !again.is_empty()
            && let Err(error) = sink.make_up(&again).await
        {
            tracing::warn!(source = self.dead.source(), %error, "cannot read the ledger; the broker keeps the messages");
            return None;
        }
        self.bury(unwritable, stop).await?;
        if let Some(delivery) = batch.last() {
            delivery.acker.ack_through().await;
        }
        Some(())
    }

    /// Writes all; halves a batch that one row spoils. `None` when the store takes nothing now: whatever is
    /// not said of the rows themselves is no reason to give one up.
    async fn write<S: Sink>(
        &self,
        sink: &S,
        items: Vec<(S::Item, Bytes)>,
        unwritable: &mut Vec<DeadLetter>,
    ) -> Option<()> {
        let (values, bodies): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let all = 0..values.len();
        let mut spans = vec![all];
        while let Some(span) = spans.pop() {
            if span.is_empty() {
                continue;
            }
            match sink.write(&values[span.clone()]).await {
                Ok(()) => {}
                Err(error) if !error.is_row_fault() => {
                    tracing::warn!(source = self.dead.source(), messages = span.len(), %error, "cannot write; the broker keeps the messages");
                    return None;
                }
                Err(error) if span.len() == 1 => {
                    unwritable.extend(
                        self.write_less(sink, &values[span.start], &bodies[span.start], error).await?,
                    );
                }
                Err(_) => {
                    let middle = span.start + span.len() / 2;
                    spans.push(middle..span.end);
                    spans.push(span.start..middle);
                }
            }
        }
        Some(())
    }

    /// Writes what is left of one item that the store refuses; answers the whole as a dead letter if nothing
    /// is, or if that is refused as well. `None` when the store takes nothing now.
    async fn write_less<S: Sink>(
        &self,
        sink: &S,
        item: &S::Item,
        body: &Bytes,
        error: StoreError,
    ) -> Option<Option<DeadLetter>> {
        if let Some(less) = sink.reduced(item, &error) {
            tracing::warn!(source = self.dead.source(), bytes = body.len(), %error, "a report was written without its answer: the database refused it");
            match sink.write(&[less]).await {
                Ok(()) => return Some(None),
                Err(error) if !error.is_row_fault() => return None,
                Err(_) => {}
            }
        }
        Some(Some(DeadLetter::new(body.clone(), error.to_string())))
    }

    /// Puts messages aside. They may be acknowledged then, whatever became of them; `None` when told to stop
    /// before.
    async fn bury(&self, letters: Vec<DeadLetter>, stop: &CancellationToken) -> Option<()> {
        let Buried { kept, dropped } = stop.run_until_cancelled(self.dead.bury(letters)).await?;
        self.metrics.undecodable.with_label_values(&[self.dead.source()]).inc_by(kept);
        self.metrics.dead_dropped.with_label_values(&[self.dead.source()]).inc_by(dropped);
        Some(())
    }
}
