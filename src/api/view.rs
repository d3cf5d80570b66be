//! Tasks, responses and endpoints as they are sent: borrowed from what the store gave, payloads as the text they are.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::query::task_cursor;
use crate::config::Schedule;
use crate::domain::{
    AttemptError, Counts, EndpointName, LateAnswer, NewTask, Presence, Queued, Response, ResponseStatus, Task, TaskId, TaskStatus,
    Timestamp,
};
use crate::store::{Census, EndpointRecord, Flaw, QueueRecord, ScheduleRecord, StandbyRecord, SubscriptionRecord};

/// A task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView<'a> {
    /// Our name for it.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: &'a str,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: &'a str,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub start_time: Timestamp,
    /// The endpoints asked for; empty means whoever was subscribed.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Names<'a>,
    /// The customer's data.
    #[schema(value_type = serde_json::Value)]
    pub payload: &'a RawValue,
    /// How its expected endpoints stand.
    #[serde(flatten)]
    pub counts: Counts,
    /// When the broker first confirmed it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub published_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub finished_at: Option<Timestamp>,
    /// When every expected endpoint should have received it.
    #[schema(value_type = String, format = DateTime)]
    pub receive_by: Timestamp,
    /// When it is given up.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Of a work queue; absent for a task that endpoints perform.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub queue: Option<QueuedView<'a>>,
    /// The endpoints that must answer it and have not received it. Only where a single task is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    pub missing: Option<Names<'a>>,
    /// What is allowed but rarely meant, such as an endpoint that was never heard of. Only in the answer to a submission.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

impl<'a> TaskView<'a> {
    /// A task as the ledger has it.
    pub fn of(task: &'a Task) -> Self {
        Self {
            id: task.id,
            identifier: task.identifier.as_str(),
            task_type: task.task_type.as_str(),
            status: task.status,
            start_time: task.start_time,
            endpoints: Names(&task.endpoints),
            payload: &task.payload,
            counts: task.counts,
            published_at: task.published_at,
            finished_at: task.finished_at,
            receive_by: task.receive_by,
            expires_at: task.expires_at,
            queue: task.queued.as_ref().map(QueuedView::of),
            missing: None,
            warnings: Vec::new(),
        }
    }

    /// A task that has just been recorded.
    pub fn accepted(task: &'a NewTask) -> Self {
        Self {
            id: task.id,
            identifier: task.identifier.as_str(),
            task_type: task.task_type.as_str(),
            status: TaskStatus::Created,
            start_time: task.start_time,
            endpoints: Names(&task.endpoints),
            payload: &task.payload,
            counts: Counts::default(),
            published_at: None,
            finished_at: None,
            receive_by: task.receive_by,
            expires_at: task.expires_at,
            queue: task.place.as_ref().map(|place| QueuedView {
                priority: place.priority,
                run_at: place.run_at,
                attempts: &[],
                parent: place.parent,
                replaced_by: None,
                successor_error: None,
            }),
            missing: None,
            warnings: Vec::new(),
        }
    }
}

/// What a task of a work queue has besides.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queued)]
pub struct QueuedView<'a> {
    /// The lower, the sooner.
    priority: i32,
    /// It is not to begin before this time.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    run_at: Option<Timestamp>,
    /// Attempts that were lost with their worker.
    attempts: &'a [AttemptError],
    /// The task after whose success it was queued.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    parent: Option<TaskId>,
    /// The task that took its place while it waited.
    #[schema(value_type = Option<uuid::Uuid>, required = true)]
    replaced_by: Option<TaskId>,
    /// Why nothing was queued after its success, although its type says so.
    #[schema(required = true)]
    successor_error: Option<&'a str>,
}

impl<'a> QueuedView<'a> {
    fn of(queued: &'a Queued) -> Self {
        let Queued { priority, run_at, attempts, parent, replaced_by, successor_error } = queued;
        let successor_error = successor_error.as_deref();
        Self { priority: *priority, run_at: *run_at, attempts, parent: *parent, replaced_by: *replaced_by, successor_error }
    }
}

/// Endpoint names, written without a copy of each.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a>(pub &'a [EndpointName]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(EndpointName::as_str))
    }
}

/// The work queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueList<'a> {
    /// In the order of the configuration.
    pub queues: Vec<QueueView<'a>>,
}

/// How the queue of a task type stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueView<'a> {
    /// The type.
    #[serde(rename = "type")]
    task_type: &'a str,
    /// Since when no tasks are given to workers.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    paused_at: Option<Timestamp>,
    /// Tasks that wait for a worker.
    waiting: u64,
    /// Tasks that wait until fewer with their limit key run.
    held: u64,
    /// Tasks that are not to begin yet.
    delayed: u64,
    /// Tasks that workers have.
    running: u64,
    /// Since when the longest waiting one waits.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    oldest: Option<Timestamp>,
}

impl<'a> QueueView<'a> {
    /// A queue as the ledger has it.
    pub fn of(record: &'a QueueRecord) -> Self {
        let QueueRecord { task_type, paused_at, waiting, held, delayed, running, oldest } = record;
        Self {
            task_type: task_type.as_str(),
            paused_at: *paused_at,
            waiting: *waiting,
            held: *held,
            delayed: *delayed,
            running: *running,
            oldest: *oldest,
        }
    }
}

/// What is submitted at times.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleList<'a> {
    /// In the order of the configuration.
    pub schedules: Vec<ScheduleView<'a>>,
}

/// A task that is submitted at times.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleView<'a> {
    /// Its tasks are called so, with the time.
    name: &'a str,
    /// Of which type they are.
    #[serde(rename = "type")]
    task_type: &'a str,
    /// The pattern of its times.
    cron: &'a str,
    /// By the clocks of where.
    time_zone: &'a str,
    /// What becomes of times that passed while no API process ran: `skip`, `once` or `all`.
    missed: &'a str,
    /// Who is to perform them; empty means whoever is subscribed, or the worker that has room.
    #[schema(value_type = Vec<String>)]
    endpoints: Names<'a>,
    /// Times up to this have been seen to; absent until an API process has seen the schedule.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    done_until: Option<Timestamp>,
    /// When the next task is submitted; null while the schedule is paused, or if the pattern has no more times.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    next: Option<Timestamp>,
    /// The same by the clocks of the time zone.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    next_local: Option<String>,
    /// Since when no tasks are submitted.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    paused_at: Option<Timestamp>,
    /// Why the last task that could not be submitted was not. It stays when others are submitted.
    #[schema(required = true)]
    last_error: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    last_error_at: Option<Timestamp>,
}

impl<'a> ScheduleView<'a> {
    /// A schedule as it is configured, with how far it is.
    pub fn of(schedule: &'a Schedule, record: Option<ScheduleRecord>, now: Timestamp) -> Self {
        let done_until = record.as_ref().map(|record| record.done_until);
        let paused_at = record.as_ref().and_then(|record| record.paused_at);
        let next = if paused_at.is_none() { schedule.next(now) } else { None };
        let (last_error, last_error_at) = record.and_then(|record| record.last_error).unzip();
        Self {
            name: &schedule.name,
            task_type: schedule.task_type.as_str(),
            cron: schedule.cron.as_str(),
            time_zone: schedule.time_zone.name(),
            missed: schedule.missed.as_str(),
            endpoints: Names(&schedule.endpoints),
            done_until,
            next,
            next_local: next.map(|next| schedule.local(next)),
            paused_at,
            last_error,
            last_error_at,
        }
    }
}

/// What one endpoint did with the task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskResponse)]
pub struct ResponseView<'a> {
    /// The task's id, `/`, the endpoint.
    #[schema(value_type = String)]
    id: ResponseId<'a>,
    /// The task.
    #[schema(value_type = uuid::Uuid)]
    task_id: TaskId,
    /// Who answers.
    endpoint: &'a str,
    /// Where it stands.
    status: ResponseStatus,
    /// 0 for success; null until finished.
    #[schema(required = true)]
    errnr: Option<i32>,
    /// What went wrong, empty on success.
    errmsg: &'a str,
    /// What the handler answered.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    payload: Option<&'a RawValue>,
    /// The attempt that decided, from 1; 0 before the first.
    attempt: u32,
    /// What earlier attempts died of.
    attempts: &'a [AttemptError],
    /// Percent done as the handler last said.
    #[schema(required = true)]
    progress: Option<u8>,
    /// The last lines the handler logged.
    #[schema(required = true)]
    log: Option<&'a str>,
    /// When it was learnt that the endpoint has the task.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    start_time: Option<Timestamp>,
    /// When anything here last changed.
    #[schema(value_type = String, format = DateTime)]
    last_modified_time: Timestamp,
    /// Whether the endpoint has received it, has not finished it and is not there any more. It is asked when it returns; if it
    /// does not until the task expires, the response fails with 69.
    vanished: bool,
    /// Another answer, which came after the end and changed nothing; only the first is kept.
    #[schema(required = true)]
    late: Option<&'a LateAnswer>,
}

impl<'a> ResponseView<'a> {
    /// A response as the ledger has it.
    pub fn of(response: &'a Response) -> Self {
        Self {
            id: ResponseId(response.task_id, &response.endpoint),
            task_id: response.task_id,
            endpoint: response.endpoint.as_str(),
            status: response.status,
            errnr: response.errnr,
            errmsg: &response.errmsg,
            payload: response.payload.as_deref(),
            attempt: response.attempt,
            attempts: &response.attempts,
            progress: response.progress,
            log: response.log.as_deref(),
            start_time: response.start_time,
            last_modified_time: response.last_modified_time,
            vanished: response.vanished,
            late: response.late.as_ref(),
        }
    }
}

/// `<task id>/<endpoint>`.
#[derive(Debug)]
pub struct ResponseId<'a>(TaskId, &'a EndpointName);

impl fmt::Display for ResponseId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl Serialize for ResponseId<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A task with what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskWithResponses)]
pub struct TaskWithResponses<'a> {
    /// The task, with the endpoints that are missing.
    pub task: TaskView<'a>,
    /// What its endpoints did, by endpoint.
    #[serde(rename = "taskResponseList")]
    #[schema(value_type = Vec<ResponseView<'a>>)]
    pub responses: Responses<'a>,
}

/// Responses, turned into views one at a time as they are written.
#[derive(Debug, Clone, Copy)]
pub struct Responses<'a>(pub &'a [Response]);

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(ResponseView::of))
    }
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskPage)]
pub struct TaskPage<'a> {
    /// The tasks, newest first.
    pub tasks: Vec<TaskView<'a>>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A page of endpoints.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointPage)]
pub struct EndpointPage<'a> {
    /// The endpoints, by name.
    pub endpoints: Vec<EndpointView<'a>>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// An endpoint as its presence has shown it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub struct EndpointView<'a> {
    /// Its name.
    name: &'a str,
    /// When it was last heard of.
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
    /// Its version of the program.
    version: &'a str,
    /// Milliseconds that its clock is ahead of the database's, negative when it is behind; null while that is not known. Beyond 60,000
    /// either way its types show it as trouble.
    #[schema(required = true)]
    clock_offset_ms: Option<i64>,
    /// The task types it is known for.
    types: Vec<SubscriptionView<'a>>,
}

/// An endpoint that is forgotten.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForgottenEndpoint)]
pub struct ForgottenView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Responses that it still owes: they stay expected until their tasks end.
    pub open: u64,
}

/// Whether an endpoint takes tasks of a type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub struct SubscriptionView<'a> {
    /// The type.
    #[serde(rename = "type")]
    task_type: &'a str,
    /// Whether it does now.
    subscribed: bool,
    /// What is wrong: why it takes none although it is there, such as a full disk, or that its clock is more than 60 s off; null when all
    /// is well.
    #[schema(required = true)]
    trouble: Option<Cow<'a, str>>,
    /// How many tasks a worker performs at the same time, of all its types together: 0 when it takes no more; null for an endpoint.
    #[schema(required = true)]
    slots: Option<u32>,
    /// A second process of this name that takes over when the first is gone; null when there is none.
    #[schema(required = true)]
    standby: Option<StandbyView>,
}

/// A second process of an endpoint's name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Standby)]
pub struct StandbyView {
    /// Which process.
    instance: String,
    /// Since when it stands by.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Until when it stands by if nothing more is heard of it.
    #[schema(value_type = String, format = DateTime)]
    seen_until: Timestamp,
}

/// What is wrong with a clock that is so many milliseconds ahead.
fn clock_trouble(offset_ms: i64) -> Option<String> {
    let off = Duration::from_millis(offset_ms.unsigned_abs());
    let way = if offset_ms > 0 { "ahead of" } else { "behind" };
    (off > Presence::CLOCK_TOLERANCE).then(|| format!("its clock is {} s {way} the database's", off.as_secs()))
}

impl<'a> EndpointView<'a> {
    /// An endpoint as the ledger has it.
    pub fn of(record: &'a EndpointRecord) -> Self {
        let clock = record.clock_offset_ms.and_then(clock_trouble);
        let trouble = |one: &'a SubscriptionRecord| match (&one.trouble, &clock) {
            (Some(trouble), Some(clock)) if one.subscribed => Some(Cow::Owned(format!("{trouble}; {clock}"))),
            (None, Some(clock)) if one.subscribed => Some(Cow::Owned(clock.clone())),
            (trouble, _) => trouble.as_deref().map(Cow::Borrowed),
        };
        let subscription = |one: &'a SubscriptionRecord| SubscriptionView {
            task_type: one.task_type.as_str(),
            subscribed: one.subscribed,
            trouble: trouble(one),
            slots: one.slots,
            standby: one.standby.map(|StandbyRecord { instance, since, seen_until }| {
                let instance = instance.to_string();
                StandbyView { instance, since, seen_until }
            }),
        };
        Self {
            name: record.name.as_str(),
            last_seen: record.last_seen,
            version: &record.version,
            clock_offset_ms: record.clock_offset_ms,
            types: record.subscriptions.iter().map(subscription).collect(),
        }
    }
}

/// The sums of some tasks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Census)]
pub struct CensusView<'a> {
    /// Tasks that were accepted.
    accepted: u64,
    /// Of these, those whose responses add up and that have ended, or are in time and looked after.
    accounted: u64,
    /// The others: tasks that are, or have, less than they should.
    missing: u64,
    /// Responses of all of them.
    expected: u64,
    /// Responses that are not final yet.
    open: u64,
    /// Responses of which a second execution is known, or whose attempts are not numbered without a gap.
    double: u64,
    /// Runs of handlers that began, of responses that have finished: the interrupted ones included.
    executions: u64,
    /// Of these, those that a stop or the end of a process interrupted.
    interrupted: u64,
    /// Responses with more attempts than the type's policy allows.
    excess: u64,
    /// What is wrong; the first 20 of a page.
    flaws: Vec<FlawView<'a>>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// What is wrong with a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Flaw)]
pub struct FlawView<'a> {
    /// The task.
    #[schema(value_type = uuid::Uuid)]
    id: TaskId,
    /// The customer's name for it.
    identifier: &'a str,
    /// For people.
    reason: &'a str,
}

impl<'a> CensusView<'a> {
    /// The sums of a page.
    pub fn of(census: &'a Census) -> Self {
        let Census { accepted, accounted, missing, expected, open, double, executions, interrupted, excess, flaws, next } = census;
        let flaw = |flaw: &'a Flaw| FlawView { id: flaw.id, identifier: flaw.identifier.as_str(), reason: &flaw.reason };
        Self {
            accepted: *accepted,
            accounted: *accounted,
            missing: *missing,
            expected: *expected,
            open: *open,
            double: *double,
            executions: *executions,
            interrupted: *interrupted,
            excess: *excess,
            flaws: flaws.iter().map(flaw).collect(),
            next_cursor: next.map(task_cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;

    fn names(names: &[&str]) -> Vec<EndpointName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    fn task() -> Task {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        Task {
            id: TaskId(uuid::Uuid::from_u128(7)),
            identifier: "e7bd91d0".parse().expect("an identifier"),
            task_type: "backup".parse().expect("a type"),
            status: TaskStatus::Incomplete,
            payload: serde_json::from_str(r#"{"b": 1.0, "a": 12345678901234567890}"#).expect("JSON"),
            endpoints: names(&["console1", "console2"]),
            queued: None,
            counts: Counts { expected: 2, received: 1, finished: 1, failed: 1, ..Counts::default() },
            start_time: time,
            published_at: Some(time),
            finished_at: None,
            receive_by: time,
            expires_at: time,
        }
    }

    #[test]
    fn a_task_has_the_fields_of_the_contract() {
        let task = task();
        let missing = names(&["console2"]);
        let view = TaskView { missing: Some(Names(&missing)), ..TaskView::of(&task) };
        assert_eq!(
            serde_json::to_string(&view).expect("serialises"),
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000007","identifier":"e7bd91d0","type":"backup","status":"INCOMPLETE","#,
                r#""start_time":"2023-11-14T22:13:20.123456Z","endpoints":["console1","console2"],"#,
                r#""payload":{"b": 1.0, "a": 12345678901234567890},"#,
                r#""expected":2,"received":1,"finished":1,"failed":1,"canceled":0,"expired":0,"#,
                r#""published_at":"2023-11-14T22:13:20.123456Z","finished_at":null,"#,
                r#""receive_by":"2023-11-14T22:13:20.123456Z","expires_at":"2023-11-14T22:13:20.123456Z","missing":["console2"]}"#
            )
        );
        assert!(!serde_json::to_string(&TaskView::of(&task)).expect("serialises").contains("missing"));
    }

    #[test]
    fn a_response_has_the_fields_of_the_contract() {
        let response = Response {
            task_id: TaskId(uuid::Uuid::from_u128(7)),
            endpoint: "console1".parse().expect("a name"),
            status: ResponseStatus::Finished,
            errnr: Some(32),
            errmsg: "could not backup!".to_owned(),
            payload: Some(json(&"x")),
            attempt: 2,
            attempts: vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".to_owned() }],
            progress: Some(80),
            log: None,
            start_time: None,
            last_modified_time: Timestamp::from_micros(0),
            vanished: false,
            late: None,
        };
        assert_eq!(
            serde_json::to_string(&ResponseView::of(&response)).expect("serialises"),
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000007/console1","task_id":"00000000-0000-0000-0000-000000000007","#,
                r#""endpoint":"console1","status":"FINISHED","errnr":32,"errmsg":"could not backup!","payload":"x","attempt":2,"#,
                r#""attempts":[{"attempt":1,"errnr":75,"errmsg":"busy"}],"progress":80,"log":null,"start_time":null,"#,
                r#""last_modified_time":"1970-01-01T00:00:00.000000Z","vanished":false,"late":null}"#
            )
        );
    }
}
