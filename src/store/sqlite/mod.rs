//! The ledger in an SQLite file.
//!
//! The same files as the MySQL side, in SQLite's words. There is one writer, which takes the file's lock when it begins: so
//! whatever a transaction reads is the latest there is, and rows need no locks of their own. `+status` keeps the planner from
//! the key by status where the primary key is the way.

mod presence;
mod queue;
mod read;
mod report;
mod rows;
mod schedule;
mod schema;
mod session;
mod settle;
mod submit;
mod token;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use uuid::Uuid;

pub use session::SqliteStore;

use super::{
    Accepted, Applied, CancelOutcome, Census, CensusQuery, ClockOffsets, DueTask, EndpointForgotten, EndpointRecord, Freeze, OpenRow,
    OpenTasks, Owed, QueueRecord, QueueRule, ResponseFilter, Result, ScheduleRecord, Seen, Settlement, Store, TakenBack, Tally, TaskQuery,
    TokenCreated, Turns,
};
use crate::domain::{
    EndpointName, Identifier, NewTask, Presence, Report, Response, Task, TaskId, TaskStatus, TaskType, Timestamp, Token, TokenName,
};

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<()> {
        self.change_schema(schema::Work::Migrate).await
    }

    async fn reset(&self) -> Result<()> {
        self.change_schema(schema::Work::Reset).await
    }

    async fn check_schema(&self) -> Result<()> {
        self.run(|conn| schema::check(conn).boxed()).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.run(|conn| read::now(conn).boxed()).await
    }

    fn largest_row(&self) -> usize {
        self.most()
    }

    fn tally(&self) -> &Tally {
        self.counts()
    }

    async fn accept_and_give(
        &self,
        tasks: &[NewTask],
        rules: &[QueueRule],
        due_at: Timestamp,
        retention: Duration,
    ) -> Result<Vec<Accepted>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let (tasks, rules): (Arc<[NewTask]>, Arc<[QueueRule]>) = (tasks.into(), rules.into());
        self.transact(move |conn| submit::accept(conn, tasks.clone(), rules.clone(), due_at, retention).boxed()).await
    }

    async fn freeze(&self, sets: &[Freeze], now: Timestamp) -> Result<Vec<TaskId>> {
        let mut rest = sets.to_vec();
        rest.sort_by_key(|set| set.id);
        let mut frozen = Vec::new();
        while !rest.is_empty() {
            let batch: Arc<[Freeze]> = rest.as_slice().into();
            let (some, done) = self.transact(move |conn| submit::freeze(conn, batch.clone(), now).boxed()).await?;
            frozen.extend(some);
            rest.drain(..done);
        }
        Ok(frozen)
    }

    async fn mark_published(&self, ids: &[TaskId], now: Timestamp) -> Result<u64> {
        let ids = sorted(ids);
        self.transact(move |conn| submit::mark_published(conn, ids.clone(), now).boxed()).await
    }

    async fn claim_due(&self, now: Timestamp, lease_until: Timestamp, limit: u32) -> Result<Vec<DueTask>> {
        self.transact(move |conn| settle::claim_due(conn, now, lease_until, limit).boxed()).await
    }

    async fn settle(&self, settlements: &[Settlement], now: Timestamp, retention: Duration) -> Result<Vec<(TaskId, TaskStatus)>> {
        let mut rest = settlements.to_vec();
        rest.sort_by_key(|settlement| settlement.id);
        let mut moved = Vec::new();
        while !rest.is_empty() {
            let batch: Arc<[Settlement]> = rest.as_slice().into();
            let (some, done) = self.transact(move |conn| settle::settle(conn, batch.clone(), now, retention).boxed()).await?;
            moved.extend(some);
            rest.drain(..done);
        }
        Ok(moved)
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<u64> {
        let mut forgotten = 0;
        let mut rest = sorted(ids).to_vec();
        while !rest.is_empty() {
            let batch: Arc<[TaskId]> = rest.as_slice().into();
            let (some, done) = self.transact(move |conn| settle::forget(conn, batch.clone()).boxed()).await?;
            forgotten += some;
            rest.drain(..done);
        }
        Ok(forgotten)
    }

    async fn missing(&self, id: TaskId) -> Result<Vec<EndpointName>> {
        self.run(move |conn| read::missing(conn, id).boxed()).await
    }

    async fn open_rows(&self, ids: &[TaskId]) -> Result<HashMap<TaskId, Vec<OpenRow>>> {
        let ids = sorted(ids);
        self.run(move |conn| read::open_rows(conn, ids.clone()).boxed()).await
    }

    async fn owed_by(&self, endpoint: &EndpointName, task_types: &[TaskType], after: Option<TaskId>, limit: u32) -> Result<Vec<Owed>> {
        let (endpoint, task_types): (_, Arc<[TaskType]>) = (endpoint.clone(), task_types.into());
        self.run(move |conn| read::owed_by(conn, endpoint.clone(), task_types.clone(), read::OwedRows::All, after, limit).boxed()).await
    }

    async fn owed_anew(
        &self,
        worker: &EndpointName,
        task_types: &[TaskType],
        all: bool,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Owed>> {
        let (worker, task_types): (_, Arc<[TaskType]>) = (worker.clone(), task_types.into());
        let of = if all { read::OwedRows::All } else { read::OwedRows::Anew };
        self.run(move |conn| read::owed_by(conn, worker.clone(), task_types.clone(), of, after, limit).boxed()).await
    }

    async fn forget_endpoint(&self, endpoint: &EndpointName, even_present: bool) -> Result<EndpointForgotten> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| presence::forget(conn, endpoint.clone(), even_present).boxed()).await
    }

    async fn sessions(&self, endpoint: &EndpointName) -> Result<HashMap<TaskType, Uuid>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| presence::sessions(conn, endpoint.clone()).boxed()).await
    }

    async fn apply(&self, reports: &[Report], now: Timestamp, retention: Duration) -> Result<Applied> {
        if reports.is_empty() {
            return Ok(Applied::default());
        }
        let reports: Arc<[Report]> = reports.into();
        self.transact(move |conn| report::apply(conn, reports.clone(), now, retention).boxed()).await
    }

    async fn cancel(&self, id: TaskId, now: Timestamp, retention: Duration) -> Result<Option<CancelOutcome>> {
        self.transact(move |conn| settle::cancel(conn, id, now, retention).boxed()).await
    }

    async fn find_by_identifier(&self, task_type: &TaskType, identifier: &Identifier) -> Result<Option<Task>> {
        let (task_type, identifier) = (task_type.clone(), identifier.clone());
        self.run(move |conn| read::find_by_identifier(conn, task_type.clone(), identifier.clone()).boxed()).await
    }

    async fn submitter(&self, id: TaskId) -> Result<Option<String>> {
        self.run(move |conn| read::submitter(conn, id).boxed()).await
    }

    async fn find(&self, id: TaskId) -> Result<Option<Task>> {
        self.run(move |conn| read::find(conn, id).boxed()).await
    }

    async fn responses(&self, id: TaskId, filter: ResponseFilter, after: Option<EndpointName>, limit: u32) -> Result<Vec<Response>> {
        self.run(move |conn| read::responses(conn, id, filter, after.clone(), limit).boxed()).await
    }

    async fn response_of(&self, id: TaskId, endpoint: &EndpointName) -> Result<Option<Response>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| read::response_of(conn, id, endpoint.clone()).boxed()).await
    }

    async fn list(&self, task_type: &TaskType, query: &TaskQuery) -> Result<Vec<Task>> {
        let (task_type, query) = (task_type.clone(), Arc::new(query.clone()));
        self.run(move |conn| read::list(conn, task_type.clone(), query.clone()).boxed()).await
    }

    async fn see(&self, presences: &[Presence], now: Timestamp) -> Result<Seen> {
        if presences.is_empty() {
            return Ok(Seen::default());
        }
        let presences: Arc<[Presence]> = presences.into();
        self.transact(move |conn| presence::see(conn, presences.clone(), now).boxed()).await
    }

    async fn miss(&self, now: Timestamp) -> Result<u64> {
        self.transact(move |conn| presence::miss(conn, now).boxed()).await
    }

    async fn standbys(&self, now: Timestamp) -> Result<u64> {
        self.run(move |conn| presence::standbys(conn, now).boxed()).await
    }

    async fn clock_offsets(&self) -> Result<ClockOffsets> {
        self.run(|conn| presence::clock_offsets(conn).boxed()).await
    }

    async fn subscribed(&self, task_types: &[TaskType]) -> Result<HashMap<TaskType, Vec<EndpointName>>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| presence::subscribed(conn, task_types.clone()).boxed()).await
    }

    async fn endpoints(&self, after: Option<&EndpointName>, limit: u32) -> Result<Vec<EndpointRecord>> {
        let after = after.cloned();
        self.run(move |conn| presence::endpoints(conn, after.clone(), limit).boxed()).await
    }

    async fn endpoint_names(&self) -> Result<Vec<EndpointName>> {
        self.run(|conn| presence::endpoint_names(conn).boxed()).await
    }

    async fn open_tasks(&self) -> Result<Vec<OpenTasks>> {
        self.run(|conn| read::open_tasks(conn).boxed()).await
    }

    async fn census(&self, task_type: &TaskType, query: &CensusQuery, now: Timestamp) -> Result<Census> {
        let (task_type, query) = (task_type.clone(), Arc::new(query.clone()));
        self.run(move |conn| read::census(conn, task_type.clone(), query.clone(), now).boxed()).await
    }

    async fn give(&self, rules: &[QueueRule], now: Timestamp, ask_at: Timestamp) -> Result<Turns> {
        let rules: Arc<[QueueRule]> = rules.into();
        let queues = rules.clone();
        if !self.run(move |conn| queue::anybody_waits(conn, queues.clone()).boxed()).await? {
            return Ok(Turns::default());
        }
        self.transact(move |conn| queue::give(conn, rules.clone(), now, ask_at).boxed()).await
    }

    async fn take_back(&self, rules: &[QueueRule], now: Timestamp, retention: Duration) -> Result<TakenBack> {
        let rules: Arc<[QueueRule]> = rules.into();
        self.transact(move |conn| queue::take_back(conn, rules.clone(), now, retention).boxed()).await
    }

    async fn make_ready(&self, ids: &[TaskId]) -> Result<()> {
        let ids = sorted(ids);
        self.transact(move |conn| queue::make_ready(conn, ids.clone()).boxed()).await
    }

    async fn release_held(&self, task_types: &[TaskType]) -> Result<()> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.transact(move |conn| queue::release_held(conn, task_types.clone()).boxed()).await
    }

    async fn to_succeed(&self, task_types: &[TaskType]) -> Result<Vec<Task>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| queue::to_succeed(conn, task_types.clone()).boxed()).await
    }

    async fn succeeded(&self, ids: &[TaskId], failed: &[(TaskId, String)]) -> Result<()> {
        let (ids, failed): (_, Arc<[(TaskId, String)]>) = (sorted(ids), failed.into());
        self.transact(move |conn| queue::succeeded(conn, ids.clone(), failed.clone()).boxed()).await
    }

    async fn queues(&self, task_types: &[TaskType]) -> Result<Vec<QueueRecord>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| queue::queues(conn, task_types.clone()).boxed()).await
    }

    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRecord>> {
        let name: Arc<str> = name.into();
        self.run(move |conn| schedule::read(conn, name.clone()).boxed()).await
    }

    async fn set_schedule_done(&self, name: &str, until: Timestamp) -> Result<()> {
        let name: Arc<str> = name.into();
        self.transact(move |conn| schedule::set_done(conn, name.clone(), until).boxed()).await
    }

    async fn set_schedule_error(&self, name: &str, error: &str, at: Timestamp) -> Result<()> {
        let (name, error): (Arc<str>, Arc<str>) = (name.into(), error.into());
        self.transact(move |conn| schedule::set_error(conn, name.clone(), error.clone(), at).boxed()).await
    }

    async fn pause_schedule(&self, name: &str, paused: bool, now: Timestamp) -> Result<bool> {
        let name: Arc<str> = name.into();
        self.transact(move |conn| schedule::pause(conn, name.clone(), paused, now).boxed()).await
    }

    async fn pause(&self, task_type: &TaskType, paused: bool, now: Timestamp) -> Result<bool> {
        let task_type = task_type.clone();
        self.transact(move |conn| queue::pause(conn, task_type.clone(), paused, now).boxed()).await
    }

    async fn create_token(&self, token: &Token) -> Result<TokenCreated> {
        let token = Arc::new(token.clone());
        self.transact(move |conn| token::create(conn, token.clone()).boxed()).await
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        self.run(|conn| token::all(conn).boxed()).await
    }

    async fn delete_token(&self, name: &TokenName) -> Result<bool> {
        let name = name.clone();
        self.transact(move |conn| token::delete(conn, name.clone()).boxed()).await
    }

    async fn close(&self) {
        self.disconnect().await;
    }
}

/// Ids once each, in the order of locks.
fn sorted(ids: &[TaskId]) -> Arc<[TaskId]> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids.into()
}
