//! From a submission to the broker's confirm: accept, freeze, mark as published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::batch::{self, padded_rows, sorted};
use super::fault::Fault;
use super::queue::{enter, give};
use super::responses::expect;
use super::sql::Conn;
use super::submissions::{Accepted, Entry, Key, answers, distinct, key};
use super::tasks::{self, HELD, identifier, lock};
use super::{Operation, QueueRule, Result, Retry, Store, columns, without_statements};
use crate::domain::{EndpointName, Json, NewTask, TaskId, TaskStatus, Timestamp, TokenName};

/// The set of endpoints that must answer a task.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Which task.
    pub id: TaskId,
    /// Who must answer.
    pub expected: Vec<EndpointName>,
}

/// That a task does not wait for approval any longer.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// When it is to be published.
    pub due_at: Timestamp,
    /// When every expected endpoint should have received it.
    pub receive_by: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
}

impl Store {
    /// Records submissions, all in one statement; one answer each, in order. New tasks are due at `due_at`:
    /// if the process that accepted them dies before publishing, another one takes over then. Two equal
    /// submissions in one call: the second is `Existing`. Tasks with a place go into the queue of their type,
    /// and take the place of a waiting one with the same unique key, which is canceled; one that was queued
    /// after another yields to such a one instead.
    pub fn accept(
        &self,
        tasks: &[NewTask],
        due_at: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Vec<Accepted>> {
        self.accept_and_give(tasks, &[], due_at, retention)
    }

    /// The same; those that go into one of these queues, which nothing holds back and nobody waits before,
    /// are given to workers that have room: as by [`Self::give`], to be asked for again at `due_at`.
    pub fn accept_and_give(
        &self,
        tasks: &[NewTask],
        rules: &[QueueRule],
        due_at: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Vec<Accepted>> {
        if tasks.is_empty() {
            return without_statements(Ok(Vec::new()));
        }
        if let Err(error) = self.fits(tasks.iter().map(|task| weight(&task))) {
            return without_statements(Err(error));
        }
        let (tasks, rules): (Arc<[NewTask]>, Arc<[QueueRule]>) = (tasks.into(), rules.into());
        self.transact(move |conn| accept(conn, tasks.clone(), rules.clone(), due_at, retention).boxed())
    }

    /// Freezes the expected sets of tasks whose set is not frozen yet: writes the rows, `EXPECTED`, and the
    /// count. Answers the ids frozen by *this* call; a task that is final, gone or frozen already is left
    /// out. Large calls take several transactions; after an error some may be frozen, and are found as due
    /// when their lease runs out.
    pub fn freeze(&self, sets: &[Freeze], now: Timestamp) -> Operation<'_, Vec<TaskId>> {
        let mut rest = sets.to_vec();
        rest.sort_by_key(|set| set.id);
        async move {
            let mut frozen = Vec::new();
            while !rest.is_empty() {
                let batch: Arc<[Freeze]> = rest.as_slice().into();
                let (some, done) =
                    self.transact(move |conn| freeze(conn, batch.clone(), now).boxed()).await?;
                frozen.extend(some);
                rest.drain(..done);
            }
            Ok(frozen)
        }
        .boxed()
    }

    /// Puts a payload with more signatures in the place of the one that a task has which waits for approval.
    /// With `release` the task waits no longer. Answers `false` when it does not wait at `now`, or its payload
    /// is another one meanwhile.
    pub fn approve(
        &self,
        id: TaskId,
        before: &Json,
        after: &Json,
        release: Option<Release>,
        now: Timestamp,
    ) -> Operation<'_, bool> {
        if let Err(error) = self.fits(std::iter::once(256 + after.get().len())) {
            return without_statements(Err(error));
        }
        let (before, after) = (before.clone(), after.clone());
        self.transact(move |conn| approve(conn, id, before.clone(), after.clone(), release, now).boxed())
    }

    /// Notes that the broker has confirmed these tasks: `CREATED` becomes `SENT`, due at its receive
    /// deadline; tasks that have moved on keep their status and learn when they were published. Tasks of a
    /// work queue stay as they are: they become `SENT` by being given. Returns how many became `SENT`.
    pub fn mark_published(&self, ids: &[TaskId], now: Timestamp) -> Operation<'_, u64> {
        let ids = sorted(ids);
        self.transact(move |conn| mark_published(conn, ids.clone(), now).boxed())
    }
}

/// About how many bytes a task takes in a statement.
pub(super) fn weight(task: &&NewTask) -> usize {
    let endpoints: usize = task.endpoints.iter().map(|endpoint| endpoint.as_str().len() + 3).sum();
    256 + task.identifier.as_str().len() + task.payload.get().len() + endpoints
}

pub(super) async fn accept(
    conn: &mut Conn<'_>,
    tasks: Arc<[NewTask]>,
    rules: Arc<[QueueRule]>,
    due_at: Timestamp,
    retention: Duration,
) -> Result<Vec<Accepted>, Fault> {
    let distinct = distinct(&tasks);
    let given = give::give_at_once(conn, rules, &distinct).await?;
    let mut inserted = 0;
    for run in batch::runs(&distinct, batch::WIDE_ROWS, weight) {
        let mut insert = conn.insert("task");
        for task in padded_rows(run, weight) {
            let entry = Entry::of(task, given.contains_key(&task.id), due_at);
            let place = task.place.as_ref();
            insert
                .row()
                .set("id", task.id)
                .set("task_type", &task.task_type)
                .set("identifier", task.identifier.as_str().as_bytes())
                .set("status", entry.status)
                .set("payload", task.payload.get())
                .set("endpoints", columns::list(&task.endpoints)?)
                .set("target", task.target.as_ref().map(columns::json_text).transpose()?)
                .set("rerun_of", task.rerun_of)
                .set("digest", task.digest.as_slice())
                .set("start_time", task.start_time)
                .set("receive_by", task.receive_by)
                .set("expires_at", task.expires_at)
                .set("due_at", entry.due_at)
                .set("priority", place.map(|place| place.priority))
                .set("run_at", place.and_then(|place| place.run_at))
                .set("parent", place.and_then(|place| place.parent))
                .set("expected", entry.expected)
                .set("frozen_at", entry.given_at)
                .set("published_at", entry.given_at)
                .set("submitted_by", task.submitted_by.as_ref().map(TokenName::as_str))
                .set("source", task.source.map(|source| source.to_string()))
                .set("followed", task.followed)
                .set("rollout", task.rollout);
        }
        inserted += insert.if_new().await?;
    }
    let all_new = usize::try_from(inserted) == Ok(distinct.len());
    let recorded = match all_new {
        true => distinct.iter().map(|task| (key(task), (task.id, task.digest))).collect(),
        false => recorded(conn, &distinct).await?,
    };
    let mut have_worker = HashMap::new();
    if distinct.iter().any(|task| task.place.is_some()) {
        let ours = distinct
            .iter()
            .copied()
            .filter(|task| recorded.get(&key(task)).is_some_and(|(id, _)| *id == task.id));
        let queued = ours.filter(|task| task.place.is_some()).collect();
        have_worker = enter::enter(conn, queued, given, all_new, retention).await?;
    }
    answers(&tasks, &recorded, &have_worker).ok_or_else(|| {
        Fault::Again(Retry::Conflict, "a task of the same identifier was forgotten meanwhile".into())
    })
}

/// Who has the keys of these submissions.
async fn recorded(
    conn: &mut Conn<'_>,
    tasks: &[&NewTask],
) -> Result<HashMap<Key, (TaskId, [u8; 32])>, Fault> {
    let index = conn.dialect().index("task_identifier");
    let mut recorded = HashMap::with_capacity(tasks.len());
    for of_type in tasks.chunk_by(|a, b| a.task_type == b.task_type) {
        for chunk in of_type.chunks(batch::KEYS) {
            let Some(first) = chunk.first() else { continue };
            let identifiers: Vec<&[u8]> =
                chunk.iter().map(|task| task.identifier.as_str().as_bytes()).collect();
            let mut select = conn.sql(format!(
                "SELECT id, identifier, digest FROM task {index} WHERE task_type = ? AND identifier IN "
            ));
            for row in select.bind(&first.task_type).keys(&identifiers).fetch_all().await? {
                let id: TaskId = row.get(0)?;
                let digest = columns::sha256(row.get(2)?, || format!("task {id}, column digest"))?;
                recorded.insert((first.task_type.clone(), identifier(row.get(1)?, id)?), (id, digest));
            }
        }
    }
    Ok(recorded)
}

/// Freezes as many as one transaction should; says which, and how many are done.
pub(super) async fn freeze(
    conn: &mut Conn<'_>,
    sets: Arc<[Freeze]>,
    now: Timestamp,
) -> Result<(Vec<TaskId>, usize), Fault> {
    let sets = &sets[..sets.len().min(batch::KEYS)];
    let mut ids: Vec<TaskId> = sets.iter().map(|set| set.id).collect();
    ids.dedup();
    let tasks = lock(conn, &ids).await?;
    let (mut changes, mut rows, mut done) = (Vec::new(), Vec::new(), 0);
    for same in sets.chunk_by(|a, b| a.id == b.id) {
        let Some(set) = same.first() else { continue };
        let mut expected: Vec<&EndpointName> = set.expected.iter().collect();
        expected.sort_unstable();
        expected.dedup();
        if !rows.is_empty() && rows.len() + expected.len() > batch::ROWS {
            break;
        }
        done += same.len();
        let number = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        if let Some(change) = tasks.get(&set.id).and_then(|task| task.freeze(number, now)) {
            changes.push((set.id, change));
            rows.extend(expected.into_iter().map(|endpoint| (set.id, endpoint)));
        }
    }
    expect(conn, &rows, now).await?;
    let frozen = changes.iter().map(|(id, _)| *id).collect();
    tasks::write(conn, changes).await?;
    Ok((frozen, done))
}

/// The digest stays: it is that of the submission, which may be repeated.
async fn approve(
    conn: &mut Conn<'_>,
    id: TaskId,
    before: Json,
    after: Json,
    release: Option<Release>,
    now: Timestamp,
) -> Result<bool, Fault> {
    let (by_key, locked) = (conn.dialect().by_primary_key(), conn.dialect().locked());
    let held = format!("+status = ? AND {HELD} AND expires_at > ? AND id = ?");
    // Compared here: one statement with both payloads can be more than the database takes.
    let mut select = conn.sql(format!("SELECT payload FROM task {by_key} WHERE {held} {locked}"));
    let found = select.bind(TaskStatus::Created).bind(now).bind(id).fetch_optional().await?;
    if found.map(|row| row.get::<&str>(0).map(|payload| payload == before.get())).transpose()? != Some(true) {
        return Ok(false);
    }
    let mut update = conn.sql(format!("UPDATE task {by_key} SET payload = ?"));
    update.bind(after.get());
    if let Some(Release { due_at, receive_by, expires_at }) = release {
        update.push(", due_at = ?, receive_by = ?, expires_at = ?");
        update.bind(due_at).bind(receive_by).bind(expires_at);
    }
    update.push(&format!(" WHERE {held}")).bind(TaskStatus::Created).bind(now).bind(id);
    Ok(update.execute().await? > 0)
}

async fn mark_published(conn: &mut Conn<'_>, ids: Arc<[TaskId]>, now: Timestamp) -> Result<u64, Fault> {
    let (by_key, least) = (conn.dialect().by_primary_key(), conn.dialect().least());
    let (created, sent) = (TaskStatus::Created, TaskStatus::Sent);
    let mut became_sent = 0;
    for ids in ids.chunks(batch::KEYS) {
        // The guard is exact: whatever row it finds, it changes, and this transaction is the one that did. A
        // task of a queue becomes SENT by being given: one that was taken back while it was asked for again
        // waits.
        let mut publish = conn.sql(format!(
            "UPDATE task {by_key} SET published_at = COALESCE(published_at, ?), due_at = {least}(receive_by, expires_at), status = ? \
             WHERE +status = ? AND priority IS NULL AND id IN "
        ));
        let moved = publish.bind(now).bind(sent).bind(created).keys(ids).execute().await?;
        became_sent += moved;
        if usize::try_from(moved) == Ok(ids.len()) {
            continue;
        }
        // An answer was quicker than the confirm: the task keeps its status and learns when it was published.
        let mut note = conn.sql(format!(
            "UPDATE task {by_key} SET published_at = ?, \
             due_at = CASE WHEN status = ? THEN {least}(receive_by, expires_at) ELSE due_at END \
             WHERE published_at IS NULL AND +status <> ? AND id IN "
        ));
        note.bind(now).bind(sent).bind(created).keys(ids).execute().await?;
    }
    Ok(became_sent)
}
