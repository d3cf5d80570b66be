//! The ledger: all SQL, and the only place with sqlx.
//!
//! One trait, two implementations, one conformance suite. What a method promises is said here once; how each database
//! keeps the promise is said there. All times come from the caller's [`crate::clock::Clock`], which follows the database's.
//!
//! Order of locks, the same in every method that writes: task rows by id, then response rows by (task, endpoint). Whoever
//! holds the lock of a task row decides alone about that task, so counts and states are derived from what was read under
//! the lock and never from affected rows.

mod batch;
mod census;
mod clock_offset;
mod columns;
mod fault;
mod ledger;
mod migrations;
mod mysql;
mod presence;
mod scratch;
mod sqlite;
mod submissions;
mod tally;
mod tokens;
mod turns;
mod window;

pub use clock_offset::ClockOffsets;
pub use mysql::MySqlStore;
pub use scratch::{drop_scratch, scratch};
pub use sqlite::SqliteStore;
pub use tally::{Refusal, Retry, Tally};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::{
    EndpointName, Identifier, NewTask, Presence, Report, Response, Task, TaskEvent, TaskId, TaskStatus, TaskType, Timestamp, Token,
    TokenName,
};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configured address is none.
    #[error("the address of the database cannot be used: {reason}")]
    Address {
        /// What is wrong with it, without the address.
        reason: String,
    },
    /// The database cannot be reached, or does not do it now: it is full, read-only, short of something. Trying again later can help.
    #[error("cannot use the database at {safe_url}: {reason}")]
    Unavailable {
        /// The address without password.
        safe_url: String,
        /// What the driver said.
        reason: String,
        /// Which of these it is.
        cause: Refusal,
    },
    /// The server has no database of this name.
    #[error("cannot use the database at {safe_url}: {reason}")]
    NoDatabase {
        /// The address without password.
        safe_url: String,
        /// How it can be made.
        reason: String,
    },
    /// A deadlock or lock time-out that persisted through all retries.
    #[error("the database was too busy: {reason}")]
    Busy {
        /// What the database said.
        reason: String,
    },
    /// The schema is missing, older or newer than this program; or a migration was interrupted.
    #[error("the database schema does not fit this program: {reason}")]
    Schema {
        /// What is wrong and which command mends it.
        reason: String,
    },
    /// The database can be written, and does not take these rows, now or later.
    #[error("the database refused these rows: {reason}")]
    Rows {
        /// What the database said.
        reason: String,
    },
    /// The database can be written, and no statement may be as long as one with these rows.
    #[error("{bytes} bytes are more than the database accepts in one statement ({most}, max_allowed_packet)")]
    TooLarge {
        /// About how many they are.
        bytes: usize,
        /// How many it takes.
        most: usize,
    },
    /// A row holds what this program cannot read.
    #[error("a row of the database cannot be read: {reason}")]
    Corrupt {
        /// Table, key and column.
        reason: String,
    },
    /// A statement of ours is wrong for this database: a defect.
    #[error("a statement failed: {reason}")]
    Statement {
        /// What the database said.
        reason: String,
    },
}

impl StoreError {
    /// Whether trying again later, unchanged, can help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }

    /// Whether the database has to be set up for this program first, so that no wait helps.
    pub const fn needs_setup(&self) -> bool {
        matches!(self, Self::Schema { .. } | Self::NoDatabase { .. })
    }

    /// Whether somebody has to change the configuration or the rights of its user: waiting helps only if that happens.
    pub const fn is_denied(&self) -> bool {
        matches!(self, Self::Unavailable { cause: Refusal::Denied, .. })
    }

    /// Whether the rows that the operation is about are at fault, so that others can be written and these never will be. Of many rows in
    /// one operation it may be a single one, or their number.
    pub const fn is_row_fault(&self) -> bool {
        matches!(self, Self::Rows { .. } | Self::TooLarge { .. } | Self::Corrupt { .. })
    }
}

/// Shorthand of this module.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Recorded now.
    New,
    /// Recorded now, and given to this worker.
    Given(EndpointName),
    /// The type has a task of this identifier already.
    Existing {
        /// That task.
        id: TaskId,
        /// Whether its digest is the same, so that this was a repeat.
        same: bool,
    },
}

/// What became of a new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCreated {
    /// It is there.
    New,
    /// Another one has its name.
    NameTaken,
    /// Another one has its secret.
    SecretTaken,
}

/// The set of endpoints that must answer a task.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Which task.
    pub id: TaskId,
    /// Who must answer.
    pub expected: Vec<EndpointName>,
}

/// A task that somebody has to look at, claimed until the lease runs out.
#[derive(Debug, Clone)]
pub struct DueTask {
    /// The task as it stands.
    pub task: Task,
    /// Whether its expected set has been frozen.
    pub frozen: bool,
    /// How often it was asked for again.
    pub asks: u32,
}

/// What to do with a due task, decided by the reconciler.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which task.
    pub id: TaskId,
    /// What happened to it, if anything did. [`TaskEvent::Expire`] also gives up its open rows.
    pub event: Option<TaskEvent>,
    /// How often it has been asked for again by now.
    pub asks: u32,
    /// When to look again. Ignored if the task is final afterwards: then it is when it may be forgotten.
    pub due_at: Timestamp,
}

/// What a batch of reports did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Tasks whose status changed, with the status they have now.
    pub moved: Vec<(TaskId, TaskStatus)>,
    /// Reports that changed a row.
    pub changed: u64,
    /// Reports that were repeats or stragglers.
    pub repeated: u64,
    /// Reports of endpoints that were not expected: adopted into the set of an open task without a list.
    pub adopted: u64,
    /// Reports for tasks the ledger does not know, of another type than the task's, or of endpoints that are not expected and
    /// not adopted.
    pub unknown: u64,
    /// Reports of endpoints that were never subscribed to the type.
    pub unsubscribed: u64,
    /// Reports of another memory than the one that has the task, or the endpoint's name.
    pub foreign: u64,
    /// Answers that came after their response was given up; the first of a response is kept.
    pub late: u64,
    /// Answers that differ from the one that decided; the first of a response is kept.
    pub contradicting: u64,
    /// Rows that were found to have been run twice: a second execution reported its end.
    pub doubled: u64,
    /// Endpoints that say they have a task whose row was withdrawn: they must be told to stop.
    pub to_stop: Vec<(TaskType, TaskId, EndpointName)>,
}

/// A task that an endpoint has to answer.
#[derive(Debug, Clone)]
pub struct Owed {
    /// The task.
    pub task: Task,
    /// How far the endpoint's response is, as the ledger knows.
    pub row: OpenRow,
}

/// A response that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRow {
    /// Who must answer.
    pub endpoint: EndpointName,
    /// The endpoint's memory that has received the task; none until it has.
    pub home: Option<Uuid>,
    /// When the row last changed.
    pub last_modified_time: Timestamp,
}

/// What presence messages did.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Endpoints that must be welcomed and asked for what they owe: they were not subscribed before, have a new session, or
    /// still say `Joined` since no welcome has reached them.
    pub newcomers: Vec<Presence>,
    /// Processes that were not let in: another one with the same name and another memory was heard of a moment ago.
    pub fenced: Vec<Presence>,
}

/// What became of an endpoint that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointForgotten {
    /// It was never seen, or is forgotten already.
    Unknown,
    /// It is there; nothing was done.
    Present,
    /// It is not known any more.
    Gone {
        /// Responses that it still owes: they stay open until it is back, or until their tasks end.
        open: u64,
    },
}

/// What a cancel did.
#[derive(Debug, Clone)]
pub struct CancelOutcome {
    /// The task afterwards.
    pub task: Task,
    /// Whether this call ended it; false for a repeat.
    pub changed: bool,
    /// Whether it had ended otherwise (done, expired), so that there was nothing to cancel.
    pub refused: bool,
    /// Endpoints that have not finished, or to which it may be on its way: they must be told to stop it or never to start it.
    pub to_stop: Vec<EndpointName>,
}

/// What holds for the queue of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRule {
    /// The type.
    pub task_type: TaskType,
    /// Attempts a task has, those included that are lost with their worker.
    pub attempts: u32,
    /// Tasks that may run at the same time.
    pub max_running: Option<u32>,
    /// Tasks with the same limit key that may run at the same time; none when the type has no such key.
    pub max_per_key: Option<u32>,
}

/// A task that a worker was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// The task.
    pub task: Task,
    /// Who is to perform it.
    pub worker: EndpointName,
}

/// What a look at the queues did.
#[derive(Debug, Default)]
pub struct Turns {
    /// Tasks whose turn it was.
    pub given: Vec<Given>,
    /// Tasks whose time was over before their turn came: to be settled as expired.
    pub expired: Vec<TaskId>,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// What became of tasks whose worker is gone.
#[derive(Debug, Default)]
pub struct TakenBack {
    /// Tasks that wait again.
    pub returned: u64,
    /// Tasks whose status changed.
    pub moved: Vec<(TaskId, TaskStatus)>,
}

/// How far a schedule is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Its times up to this have been seen to.
    pub done_until: Timestamp,
    /// Why the last task that could not be submitted was not, and when that was.
    pub last_error: Option<(String, Timestamp)>,
    /// Since when it submits nothing.
    pub paused_at: Option<Timestamp>,
}

/// How the queue of a type stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// The type.
    pub task_type: TaskType,
    /// Since when no task of it is given to workers.
    pub paused_at: Option<Timestamp>,
    /// Tasks that wait for a worker.
    pub waiting: u64,
    /// Tasks that wait until fewer of their key run.
    pub held: u64,
    /// Tasks that are not to begin yet.
    pub delayed: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// Since when the longest waiting one waits.
    pub oldest: Option<Timestamp>,
}

impl QueueRecord {
    fn empty(task_type: &TaskType) -> Self {
        Self { task_type: task_type.clone(), paused_at: None, waiting: 0, held: 0, delayed: 0, running: 0, oldest: None }
    }

    /// Adds tasks of a state of the queue, see the migration.
    fn count(&mut self, state: u8, count: u64, oldest: Timestamp) {
        match state {
            0 => (self.waiting, self.oldest) = (count, Some(oldest)),
            1 => self.held = count,
            2 => self.delayed = count,
            3 => self.running = count,
            // They have ended; only their successor is still to be queued.
            _ => {}
        }
    }
}

/// Which responses of a task to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseFilter {
    /// Every one.
    #[default]
    All,
    /// Those finished with an error.
    Failed,
    /// Those of endpoints that have not received it.
    Missing,
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Only these states; empty means all.
    pub status: Vec<TaskStatus>,
    /// Only identifiers that begin so.
    pub identifier_prefix: Option<String>,
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// Only tasks older than this one: the cursor.
    pub before: Option<TaskId>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

/// An endpoint as presence has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Its name.
    pub name: EndpointName,
    /// The types it is known for.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// Its version of the program.
    pub version: String,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Milliseconds that its clock is ahead of the ledger's; none while that is not known.
    pub clock_offset_ms: Option<i64>,
}

/// Whether an endpoint takes tasks of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The type.
    pub task_type: TaskType,
    /// Whether it is there now.
    pub subscribed: bool,
    /// Why it takes none although it is there.
    pub trouble: Option<String>,
    /// How many tasks a worker performs at the same time, of all its types together.
    pub slots: Option<u32>,
    /// The process of the same name that takes over when this one is gone.
    pub standby: Option<StandbyRecord>,
}

/// A second process of an endpoint's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyRecord {
    /// Which process.
    pub instance: Uuid,
    /// Since when it stands by.
    pub since: Timestamp,
    /// Until when it stands by if nothing more is heard of it.
    pub seen_until: Timestamp,
}

/// Whether tasks add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Tasks that were accepted.
    pub accepted: u64,
    /// Of these, those whose responses add up and that have ended, or are in time and looked after.
    pub accounted: u64,
    /// The others.
    pub missing: u64,
    /// Responses of all of them.
    pub expected: u64,
    /// Responses that are not final yet.
    pub open: u64,
    /// Responses of which a second execution is known, or whose attempts are not numbered without a gap.
    pub double: u64,
    /// Runs of handlers that began, of responses that have finished: the interrupted ones included.
    pub executions: u64,
    /// Of these, those that a stop or the end of a process interrupted.
    pub interrupted: u64,
    /// Responses with more attempts than the type's policy allows.
    pub excess: u64,
    /// What is wrong, some of it.
    pub flaws: Vec<Flaw>,
    /// Where to go on; none at the end.
    pub next: Option<TaskId>,
}

/// What is wrong with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Which task.
    pub id: TaskId,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// For people.
    pub reason: String,
}

/// Which tasks to add up, oldest first.
#[derive(Debug, Clone, Default)]
pub struct CensusQuery {
    /// Only tasks accepted at or after this.
    pub since: Option<Timestamp>,
    /// Only tasks accepted before this.
    pub until: Option<Timestamp>,
    /// Only tasks after this one: the cursor.
    pub after: Option<TaskId>,
    /// Tasks at most.
    pub limit: u32,
    /// Attempts that the type allows; whatever it is when absent.
    pub attempts: Option<u32>,
}

/// A number of tasks and the age of the oldest, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTasks {
    /// Their type.
    pub task_type: TaskType,
    /// Their status, one of the open ones.
    pub status: TaskStatus,
    /// How many.
    pub count: u64,
    /// When the oldest was accepted.
    pub oldest: Timestamp,
}

/// Bytes of payload that one list has, beyond those of its last task.
pub const LIST_BYTES: usize = 1 << 20;

/// The ledger.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Brings the schema up to date. Safe when several processes start at once: one works, the others wait.
    async fn migrate(&self) -> Result<()>;

    /// Drops everything this program made and migrates anew.
    async fn reset(&self) -> Result<()>;

    /// Fails with [`StoreError::Schema`] unless the schema is exactly this program's.
    async fn check_schema(&self) -> Result<()>;

    /// The database's time of day; also proves that it answers.
    async fn now(&self) -> Result<Timestamp>;

    /// Proves that the database can be written, by doing so: one small row, always the same.
    async fn prove_writable(&self, now: Timestamp) -> Result<()> {
        // No schedule has this name: names of schedules have no slash.
        self.set_schedule_done("/ready", now).await
    }

    /// Bytes that one report or submission may have at most; what is larger is [`StoreError::TooLarge`]. Without a limit until the
    /// database was reached for the first time.
    fn largest_row(&self) -> usize;

    /// What went wrong so far.
    fn tally(&self) -> &Tally;

    /// Records submissions, all in one statement; one answer each, in order. New tasks are due at `due_at`: if whoever
    /// accepted them dies before publishing, another process takes over then. Two equal submissions in one call: the
    /// second is `Existing`. Tasks with a place go into the queue of their type, and take the place of a waiting one with the same
    /// unique key, which is canceled; one that was queued after another yields to such a one instead.
    async fn accept(&self, tasks: &[NewTask], due_at: Timestamp, retention: Duration) -> Result<Vec<Accepted>> {
        self.accept_and_give(tasks, &[], due_at, retention).await
    }

    /// The same; those that go into one of these queues, which nothing holds back and nobody waits before, are given to workers that have
    /// room: as by [`Self::give`], to be asked for again at `due_at`.
    async fn accept_and_give(
        &self,
        tasks: &[NewTask],
        rules: &[QueueRule],
        due_at: Timestamp,
        retention: Duration,
    ) -> Result<Vec<Accepted>>;

    /// Freezes the expected sets of tasks whose set is not frozen yet: writes the rows, `EXPECTED`, and the count. Answers
    /// the ids frozen by *this* call; a task that is final, gone or frozen already is left out. Large calls take several
    /// transactions; after an error some may be frozen, and are found as due when their lease runs out.
    async fn freeze(&self, sets: &[Freeze], now: Timestamp) -> Result<Vec<TaskId>>;

    /// Notes that the broker has confirmed these tasks: `CREATED` becomes `SENT`, due at its receive deadline; tasks that
    /// have moved on keep their status and learn when they were published. Returns how many became `SENT`.
    async fn mark_published(&self, ids: &[TaskId], now: Timestamp) -> Result<u64>;

    /// Claims tasks that are due, oldest first, by moving their due time to `lease_until`; rows locked by others are
    /// skipped, so processes never wait for each other. Bounded and served by an index.
    async fn claim_due(&self, now: Timestamp, lease_until: Timestamp, limit: u32) -> Result<Vec<DueTask>>;

    /// Writes what the reconciler decided, guarded by the states found under the lock. Returns the tasks whose status
    /// changed. `retention` says how long a final task is kept. Of the rows given up at the end of a task, those whose
    /// endpoint has received it and is not there with the same memory fail as lost ([`errnr::LOST`](crate::domain::errnr::LOST)), the others expire.
    async fn settle(&self, settlements: &[Settlement], now: Timestamp, retention: Duration) -> Result<Vec<(TaskId, TaskStatus)>>;

    /// Removes final tasks with their responses.
    async fn forget(&self, ids: &[TaskId]) -> Result<u64>;

    /// Endpoints that must answer a task and have not received it, by name; of an ended task those that never did.
    async fn missing(&self, id: TaskId) -> Result<Vec<EndpointName>>;

    /// Responses of these tasks that are not final, by name of the endpoint.
    async fn open_rows(&self, ids: &[TaskId]) -> Result<HashMap<TaskId, Vec<OpenRow>>>;

    /// Tasks of these types that an endpoint must answer and has not finished, oldest first, after a cursor. Also those that
    /// were cancelled after the endpoint had received them. At most `limit`, fewer where payloads are large, none at the end.
    async fn owed_by(&self, endpoint: &EndpointName, task_types: &[TaskType], after: Option<TaskId>, limit: u32) -> Result<Vec<Owed>>;

    /// What a worker that fetches its tasks is to be told: of these types, tasks that are its own and that it has not received, and
    /// those that were cancelled meanwhile; with `all`, also those it has received. Oldest first, after a cursor. At most `limit`, fewer
    /// where payloads are large, none at the end.
    async fn owed_anew(
        &self,
        worker: &EndpointName,
        task_types: &[TaskType],
        all: bool,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Owed>>;

    /// The types that an endpoint is subscribed to at present, each with the session that has said so.
    async fn sessions(&self, endpoint: &EndpointName) -> Result<HashMap<TaskType, Uuid>>;

    /// Applies what endpoints report: rows through [`crate::domain::ResponseStatus::next`], counts, task states through
    /// [`TaskStatus::next`], all in one transaction. Repeats and stragglers change nothing; of
    /// answers that come after the end and tell something else, the first is kept beside ([`Response::late`]). A report counts only if the task is
    /// of its type and if it comes of the memory that has the task, or, while none has it, of the memory that has the endpoint's name
    /// or had it before; no endpoint has answered that was never subscribed to the type. A report from an endpoint that
    /// is not expected is adopted into the set when the task has no list and is frozen, and a copy can have come through the fanout:
    /// the endpoint was known by the time it was published; of a task that has ended only one that has finished. A report about a
    /// task with a list never is. A cancel that nobody asked for ends its response as failed ([`errnr::STOPPED`](crate::domain::errnr::STOPPED)).
    async fn apply(&self, reports: &[Report], now: Timestamp, retention: Duration) -> Result<Applied>;

    /// Cancels a task: the row first, whoever runs it is told by the caller. Responses nobody has received are withdrawn at
    /// once; those that were received stay open until their endpoints report. `None` when there is no such task.
    async fn cancel(&self, id: TaskId, now: Timestamp, retention: Duration) -> Result<Option<CancelOutcome>>;

    /// The task of this type with this identifier, by unique key.
    async fn find_by_identifier(&self, task_type: &TaskType, identifier: &Identifier) -> Result<Option<Task>>;

    /// The name of the token that a task was submitted with, if it was one.
    async fn submitter(&self, id: TaskId) -> Result<Option<String>>;

    /// The task with this id, by primary key.
    async fn find(&self, id: TaskId) -> Result<Option<Task>>;

    /// Responses of a task by endpoint name, from the first one after `after` on, so many at most: they can be large, and thousands.
    async fn responses(&self, id: TaskId, filter: ResponseFilter, after: Option<EndpointName>, limit: u32) -> Result<Vec<Response>>;

    /// The response that an endpoint owes or has given to a task.
    async fn response_of(&self, id: TaskId, endpoint: &EndpointName) -> Result<Option<Response>>;

    /// Tasks of a type, newest first. Fewer than asked for where their payloads together are [`LIST_BYTES`] or more.
    async fn list(&self, task_type: &TaskType, query: &TaskQuery) -> Result<Vec<Task>>;

    /// Notes who is there. A process whose name is taken by one with another memory is fenced off until that one has left,
    /// or has been silent for three of its intervals: both could hold the same task. It stands by meanwhile, and so does a process
    /// that says that its queue is held; when the first leaves, tasks are expected of the one that stands by, without a gap.
    async fn see(&self, presences: &[Presence], now: Timestamp) -> Result<Seen>;

    /// Marks subscriptions as gone whose presence is overdue, and hands those over to a process that stands by. Called only by a process that has itself been collecting
    /// presence for longer than the longest interval: silence after our own outage proves nothing. Returns how many.
    async fn miss(&self, now: Timestamp) -> Result<u64>;

    /// Subscriptions with a process that stands by, see [`StandbyRecord`].
    async fn standbys(&self, now: Timestamp) -> Result<u64>;

    /// How far the clocks of the endpoints that are there are off.
    async fn clock_offsets(&self) -> Result<ClockOffsets>;

    /// The endpoints subscribed now, by type and name.
    async fn subscribed(&self, task_types: &[TaskType]) -> Result<HashMap<TaskType, Vec<EndpointName>>>;

    /// All endpoints ever seen and not forgotten, by name, after a cursor.
    async fn endpoints(&self, after: Option<&EndpointName>, limit: u32) -> Result<Vec<EndpointRecord>>;

    /// Their names alone, all of them.
    async fn endpoint_names(&self) -> Result<Vec<EndpointName>>;

    /// Forgets an endpoint and what it is subscribed to, unless it is there and `even_present` is false. It is expected no more by
    /// tasks to come. What it owes stays open: should it come back, it is asked for that.
    async fn forget_endpoint(&self, endpoint: &EndpointName, even_present: bool) -> Result<EndpointForgotten>;

    /// Open tasks by type and status; bounded cost however much history there is.
    async fn open_tasks(&self) -> Result<Vec<OpenTasks>>;

    /// Adds up tasks of a type, each with its responses as they are at one moment. Reads all of their rows.
    async fn census(&self, task_type: &TaskType, query: &CensusQuery, now: Timestamp) -> Result<Census>;

    /// Gives the tasks whose turn it is to workers that have room: a response row for each, and the task is `SENT`, due at
    /// `ask_at`. The best of all types goes first. Bounded; never waits for another process that does the same.
    async fn give(&self, rules: &[QueueRule], now: Timestamp, ask_at: Timestamp) -> Result<Turns>;

    /// Takes tasks back from workers that are gone, or are there without the memory of what they had received: they wait
    /// again in their old place, unless that was the last attempt. Bounded.
    async fn take_back(&self, rules: &[QueueRule], now: Timestamp, retention: Duration) -> Result<TakenBack>;

    /// Puts delayed tasks whose time has come into line.
    async fn make_ready(&self, ids: &[TaskId]) -> Result<()>;

    /// Looks anew at tasks that wait until fewer of their key run: the limits may be others than when they were held.
    async fn release_held(&self, task_types: &[TaskType]) -> Result<()>;

    /// Tasks of these types that have succeeded and whose successor is to be queued, bounded.
    async fn to_succeed(&self, task_types: &[TaskType]) -> Result<Vec<Task>>;

    /// Notes that the successors of these tasks have been seen to. Those of `failed`, which are among them, could not be queued for the
    /// reason that stands beside each.
    async fn succeeded(&self, ids: &[TaskId], failed: &[(TaskId, String)]) -> Result<()>;

    /// How the queues of these types stand, in their order. Counts every task that has not ended.
    async fn queues(&self, task_types: &[TaskType]) -> Result<Vec<QueueRecord>>;

    /// How far a schedule is; none for one that has not begun yet.
    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>>;

    /// Notes up to when the times of a schedule have been submitted; never goes back.
    async fn set_schedule_done(&self, name: &str, until: Timestamp) -> Result<()>;

    /// Notes why a schedule that has begun could not submit a task.
    async fn set_schedule_error(&self, name: &str, error: &str, at: Timestamp) -> Result<()>;

    /// Stops submitting the tasks of a schedule, or goes on with the times to come: what passed meanwhile is not submitted. Answers whether
    /// that changed anything.
    async fn pause_schedule(&self, name: &str, paused: bool, now: Timestamp) -> Result<bool>;

    /// Stops giving tasks of a type to workers, or goes on. Running ones go on. Answers whether that changed anything.
    async fn pause(&self, task_type: &TaskType, paused: bool, now: Timestamp) -> Result<bool>;

    /// Keeps a token, unless there is one of its name or its secret.
    async fn create_token(&self, token: &Token) -> Result<TokenCreated>;

    /// All tokens by name, those whose time is over included.
    async fn tokens(&self) -> Result<Vec<Token>>;

    /// Removes a token; whether there was one.
    async fn delete_token(&self, name: &TokenName) -> Result<bool>;

    /// Ends the connections.
    async fn close(&self);
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;

/// The store of an address: `mysql://` (also `mariadb://`) or `sqlite://`. Connects at the first operation, so a database
/// that is away does not keep a process from starting.
///
/// # Errors
/// [`StoreError::Address`] when the address cannot be used.
pub fn open(database: &crate::config::Database) -> Result<SharedStore> {
    match database.uri.reveal().split_once("://").map(|(scheme, _)| scheme) {
        Some("mysql" | "mariadb") => Ok(Arc::new(MySqlStore::new(database)?)),
        Some("sqlite") => Ok(Arc::new(SqliteStore::new(database)?)),
        _ => Err(StoreError::Address { reason: "it begins neither with `mysql://` nor with `sqlite://`".into() }),
    }
}
