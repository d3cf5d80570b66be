//! Every metric of the program, in one place. Labels are closed sets or configured names, never what a
//! customer sent.

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Distrusted;
use crate::domain::TaskStatus;

/// Seconds from 0.5 ms to 10 min, a bit more than three a decade: web requests and day-long rollouts on one
/// scale.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0,
    300.0, 600.0,
];

/// Sizes of batches.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Metrics as shared by all parts of a process.
pub type SharedMetrics = Arc<Metrics>;

/// The metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What the audit log is to have of what was not believed.
    pub distrusted: Distrusted,
    /// Answers of the HTTP side: `route` (the template), `method`, `status`.
    pub http_requests: HistogramVec,
    /// Requests refused for who sends them, by `code`: token_needed, invalid_token, insufficient_scope,
    /// misdirected, cross_site, quota_exceeded, too_many_wrong_tokens, invitation_over, other_endpoint.
    pub refused: IntCounterVec,
    /// Entries that could not be written into the audit log.
    pub audit_lost: IntCounter,
    /// Submissions by `task_type` and `result`: new, repeated, conflict, busy, unavailable.
    pub submissions: IntCounterVec,
    /// Tasks that tasker should have submitted itself and could not, by who should have (`by`: schedule,
    /// successor), `task_type` - of the task before, for a successor - and `reason`: identifier_taken,
    /// invalid_payload.
    pub unsubmitted: IntCounterVec,
    /// From submission to the answer of the store.
    pub accept_seconds: Histogram,
    /// Submissions recorded in one statement.
    pub accept_batch: Histogram,
    /// Task messages by `task_type` and `result`: confirmed, failed.
    pub publishes: IntCounterVec,
    /// From submission to the broker's confirm.
    pub publish_seconds: Histogram,
    /// Reports of endpoints by `result`: changed, repeated, adopted, unknown, doubled.
    pub responses: IntCounterVec,
    /// Reports written in one transaction.
    pub collect_batch: Histogram,
    /// Time to write a batch of reports.
    pub collect_seconds: Histogram,
    /// Tasks that came to a `status`.
    pub task_moves: IntCounterVec,
    /// Tasks asked for again by `reason`: missing, returned, quiet.
    pub asks: IntCounterVec,
    /// Presence of processes that were not let in because another one has their name.
    pub fenced: IntCounter,
    /// Subscriptions with a second process of the endpoint's name that stands by.
    pub standbys: IntGauge,
    /// Endpoints there whose clocks are further off than is tolerated.
    pub clocks_off: IntGauge,
    /// Endpoints that begin no tasks because of their stop file.
    pub stop_files: IntGauge,
    /// How far the clock of an endpoint that is there is off at most.
    pub clock_offset_seconds: Gauge,
    /// Tasks of work queues that workers were given.
    pub given: IntCounter,
    /// Tasks that went back to their queue since their worker was gone.
    pub taken_back: IntCounter,
    /// Tasks of work queues by `task_type` and `state`: waiting, held, delayed, running.
    pub queued: IntGaugeVec,
    /// 1 while the queue of a `task_type` is paused.
    pub queue_paused: IntGaugeVec,
    /// Tasks that wait for approval, by `task_type`. Each type whose tasks may need approval has a value, also 0.
    pub held_tasks: IntGaugeVec,
    /// Requests that came to a `status`.
    pub requests: IntCounterVec,
    /// Requests that have not ended by `status`.
    pub open_requests: IntGaugeVec,
    /// Attempts of jobs that have ended by `status`: completed, failed, retry, canceled.
    pub jobs: IntCounterVec,
    /// Time to move a batch of requests on.
    pub advance_seconds: Histogram,
    /// From the end of a step's last job until the tasks of the next step are recorded, or the end of the
    /// request.
    pub request_step_seconds: Histogram,
    /// Rollouts that have not ended, by status.
    pub rollouts: IntGaugeVec,
    /// Targets of rollouts that came to a state, by type and state.
    pub rollout_targets: IntCounterVec,
    /// Rollouts that a budget or a gate stopped, by type.
    pub rollout_breaches: IntCounterVec,
    /// Endpoints that rollouts have started, by type.
    pub rollout_admitted: IntCounterVec,
    /// Endpoints that rollouts have in flight.
    pub rollout_holds: IntGauge,
    /// How long rollouts have waited, the longest, by `for`: approval, soak, halted.
    pub rollout_waiting_seconds: IntGaugeVec,
    /// From the last answer of a wave until the next wave is published.
    pub rollout_advance_seconds: Histogram,
    /// Time to move a rollout on.
    pub rollout_pass_seconds: Histogram,
    /// Messages whose sender the broker does not vouch for, by `source` (responses, presence) and `result`:
    /// taken, refused.
    pub unproven: IntCounterVec,
    /// Messages that endpoints have refused for their signatures, by `reason`: the words of
    /// [`crate::domain::SealFault`].
    pub seal_refusals: IntCounterVec,
    /// Messages without a signature that endpoints have taken which look for signatures.
    pub unsigned: IntCounter,
    /// Messages that could not be decoded, by `source`: responses, presence.
    pub undecodable: IntCounterVec,
    /// Messages that were to go to the dead exchange, which did not take them, by `source`.
    pub dead_dropped: IntCounterVec,
    /// Open tasks by `task_type` and `status`.
    pub open_tasks: IntGaugeVec,
    /// Age of the oldest open task by `task_type` and `status`.
    pub oldest_task_seconds: GaugeVec,
    /// Endpoints subscribed by `task_type`.
    pub subscribed: IntGaugeVec,
    /// 1 while the broker can be reached.
    pub broker_up: IntGauge,
    /// 1 while the database can be reached.
    pub database_up: IntGauge,
    /// Operations of the database that were begun anew by `cause`: deadlock, lock_wait, conflict.
    pub store_retries: IntCounterVec,
    /// Operations that the database did not do, by `cause`.
    pub store_refusals: IntCounterVec,
    /// Pieces of the logs of running handlers by `result`: kept, refused, left_out.
    pub log_pieces: IntCounterVec,
    /// Looks at the ledger for what is watched, by what that is (`of`): task, endpoints, queues.
    pub live_reads: IntCounterVec,
    /// Streams of events that are open.
    pub event_streams: IntGauge,
    /// When the process started, in seconds since 1970.
    pub start_time: Gauge,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Panics
    /// Never: names are constants and each is registered once.
    pub fn new() -> SharedMetrics {
        let registry = Registry::new();
        let made = Self::register(&registry).expect("metric names are constants and differ");
        Arc::new(made)
    }

    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let count = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let single = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let http = HistogramOpts::new("tasker_http_request_seconds", "Time to answer a request")
            .buckets(SECONDS.to_vec());
        let http_requests = HistogramVec::new(http, &["route", "method", "status"])?;
        registry.register(Box::new(http_requests.clone()))?;
        let oldest = Opts::new("tasker_oldest_open_task_seconds", "Age of the oldest task in an open status");
        let oldest_task_seconds = GaugeVec::new(oldest, &["task_type", "status"])?;
        registry.register(Box::new(oldest_task_seconds.clone()))?;
        let clock_offset_seconds = Gauge::new(
            "tasker_endpoint_clock_offset_seconds",
            "The largest difference between an endpoint's clock and the database's",
        )?;
        registry.register(Box::new(clock_offset_seconds.clone()))?;
        let start_time = Gauge::new(
            "tasker_process_start_time_seconds",
            "When the process started, in seconds since 1970",
        )?;
        registry.register(Box::new(start_time.clone()))?;
        start_time.set(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        );
        Ok(Self {
            registry: registry.clone(),
            distrusted: Distrusted::default(),
            http_requests,
            refused: counter("tasker_http_refused_total", "Requests refused for who sends them", &["code"])?,
            audit_lost: count(
                "tasker_audit_lost_total",
                "Entries that could not be written into the audit log",
            )?,
            submissions: counter(
                "tasker_submissions_total",
                "Submissions by what became of them",
                &["task_type", "result"],
            )?,
            unsubmitted: counter(
                "tasker_unsubmitted_total",
                "Tasks of schedules and successors that could not be submitted",
                &["by", "task_type", "reason"],
            )?,
            accept_seconds: histogram("tasker_accept_seconds", "Time to record a submission", SECONDS)?,
            accept_batch: histogram(
                "tasker_accept_batch_size",
                "Submissions recorded in one statement",
                SIZES,
            )?,
            publishes: counter(
                "tasker_publishes_total",
                "Task messages by what the broker said",
                &["task_type", "result"],
            )?,
            publish_seconds: histogram(
                "tasker_publish_seconds",
                "Time from submission to the broker's confirm",
                SECONDS,
            )?,
            responses: counter(
                "tasker_responses_total",
                "Reports of endpoints by what they changed",
                &["result"],
            )?,
            collect_batch: histogram(
                "tasker_collect_batch_size",
                "Reports written in one transaction",
                SIZES,
            )?,
            collect_seconds: histogram(
                "tasker_collect_seconds",
                "Time to write a batch of reports",
                SECONDS,
            )?,
            task_moves: counter("tasker_task_moves_total", "Tasks that came to a status", &["status"])?,
            asks: counter("tasker_asks_total", "Task messages sent again, by reason", &["reason"])?,
            fenced: count("tasker_fenced_total", "Presence of second processes of a name, not let in")?,
            standbys: single(
                "tasker_endpoint_standbys",
                "Subscriptions with a second process of the endpoint's name that stands by",
            )?,
            clocks_off: single("tasker_endpoint_clocks_off", "Endpoints whose clock is more than 60 s off")?,
            stop_files: single(
                "tasker_endpoint_stop_files",
                "Endpoints that begin no tasks because of their stop file",
            )?,
            clock_offset_seconds,
            given: count("tasker_queue_given_total", "Tasks of work queues that workers were given")?,
            taken_back: count(
                "tasker_queue_taken_back_total",
                "Tasks that went back to their queue since their worker was gone",
            )?,
            queued: gauge(
                "tasker_queue_tasks",
                "Tasks of work queues that have not ended",
                &["task_type", "state"],
            )?,
            held_tasks: gauge(
                "tasker_held_tasks",
                "Tasks that wait for more persons to sign them",
                &["task_type"],
            )?,
            queue_paused: gauge(
                "tasker_queue_paused",
                "1 while the queue of a type is paused",
                &["task_type"],
            )?,
            requests: counter("tasker_requests_total", "Requests that came to a status", &["status"])?,
            open_requests: gauge("tasker_open_requests", "Requests that have not ended", &["status"])?,
            jobs: counter("tasker_jobs_total", "Attempts of jobs that have ended", &["status"])?,
            advance_seconds: histogram(
                "tasker_advance_seconds",
                "Time to move a batch of requests on",
                SECONDS,
            )?,
            request_step_seconds: histogram(
                "tasker_request_step_seconds",
                "Time from the end of a step's last job until the next step is recorded",
                SECONDS,
            )?,
            rollouts: gauge("tasker_rollouts", "Rollouts that have not ended", &["status"])?,
            rollout_targets: counter(
                "tasker_rollout_targets_total",
                "Targets of rollouts that came to a state",
                &["task_type", "state"],
            )?,
            rollout_breaches: counter(
                "tasker_rollout_breaches_total",
                "Rollouts that a budget or a gate stopped",
                &["task_type", "reason"],
            )?,
            rollout_admitted: counter(
                "tasker_rollout_admitted_total",
                "Endpoints that rollouts have started",
                &["task_type"],
            )?,
            rollout_holds: single("tasker_rollout_holds", "Endpoints that rollouts have in flight")?,
            rollout_waiting_seconds: gauge(
                "tasker_rollout_waiting_seconds",
                "How long rollouts have waited, the longest",
                &["for"],
            )?,
            rollout_advance_seconds: histogram(
                "tasker_rollout_advance_seconds",
                "Time from the last answer of a wave until the next wave is published",
                SECONDS,
            )?,
            rollout_pass_seconds: histogram(
                "tasker_rollout_pass_seconds",
                "Time to move a rollout on",
                SECONDS,
            )?,
            unproven: counter(
                "tasker_unproven_total",
                "Messages that came from another broker user than that of the endpoint that they speak for",
                &["source", "result"],
            )?,
            seal_refusals: counter(
                "tasker_refused_total",
                "Messages that endpoints have refused for their signatures",
                &["reason"],
            )?,
            unsigned: count(
                "tasker_unsigned_total",
                "Messages without a signature that endpoints have taken which look for signatures",
            )?,
            undecodable: counter(
                "tasker_undecodable_total",
                "Messages put on the dead exchange",
                &["source"],
            )?,
            dead_dropped: counter(
                "tasker_dead_dropped_total",
                "Messages lost since the dead exchange did not take them",
                &["source"],
            )?,
            open_tasks: gauge("tasker_open_tasks", "Open tasks", &["task_type", "status"])?,
            oldest_task_seconds,
            subscribed: gauge("tasker_subscribed_endpoints", "Endpoints subscribed", &["task_type"])?,
            broker_up: single("tasker_broker_up", "1 while the broker can be reached")?,
            database_up: single("tasker_database_up", "1 while the database can be reached")?,
            store_retries: counter(
                "tasker_store_retries_total",
                "Operations of the database that were begun anew",
                &["cause"],
            )?,
            store_refusals: counter(
                "tasker_store_refusals_total",
                "Operations that the database did not do",
                &["cause"],
            )?,
            log_pieces: counter(
                "tasker_log_pieces_total",
                "Pieces of the logs of running handlers",
                &["result"],
            )?,
            live_reads: counter(
                "tasker_live_reads_total",
                "Looks at the ledger for what is watched",
                &["of"],
            )?,
            event_streams: single("tasker_event_streams", "Streams of events that are open")?,
            start_time,
        })
    }

    /// Counts tasks by the status they have come to.
    pub fn count_move(&self, status: TaskStatus, tasks: u64) {
        self.task_moves.with_label_values(&[status.as_str()]).inc_by(tasks);
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail, and every metric was checked when it was registered.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new();
        metrics.submissions.with_label_values(&["worker", "new"]).inc();
        metrics.accept_seconds.observe(0.003);
        let text = metrics.render();
        assert!(text.contains("tasker_submissions_total{result=\"new\",task_type=\"worker\"} 1"), "{text}");
        assert!(text.contains("tasker_accept_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
