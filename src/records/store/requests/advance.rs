//! Moving requests on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::records::{Advanced, Answer, DueRequest, JobChange, RequestChange, RequestView, Standing};
use super::rows::{REQUEST, column_id, extras_text, job, job_of_request, request};
use crate::domain::{
    Job, JobStatus, NewTask, Request, RequestStatus, RequestToken, ResponseStatus, TaskId, TaskStatus,
    Timestamp,
};
use crate::store::batch;
use crate::store::columns;
use crate::store::fault::Fault;
use crate::store::settle::{self, CancelOutcome};
use crate::store::sql::{Conn, Row};
use crate::store::submit;
use crate::store::tasks::{all_of, lock};
use crate::store::{Accepted, Operation, QueueRule, Result, Retry, Store};

/// Decides the changes of a request; none when nothing changes.
pub type Plan = dyn Fn(&RequestView) -> Option<RequestChange> + Send + Sync;

/// New requests are at least one of so many that are moved at the same time.
const NEW_SHARE: u32 = 8;
/// What is wrong when a row of a request is not as it was read although the request is locked.
const MOVED: &str = "a request was changed by another although it was locked";
/// Names of endpoints without the task that are read at most.
const NAMED: u32 = 10;

/// What recording the tasks of jobs needs to know.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What holds for the queues.
    pub rules: Arc<[QueueRule]>,
    /// Until when the process that records a task has to publish it before any other may.
    pub lease_until: Timestamp,
    /// How long an ended task is kept.
    pub retention: Duration,
}

impl Store {
    /// Requests that are to be looked at: with a task that has ended, due, or new, at most `limit` of each
    /// kind; fewer new ones while there are others.
    pub fn due_requests(&self, now: Timestamp, limit: u32) -> Operation<'_, Vec<DueRequest>> {
        self.run(move |conn| due(conn, now, limit).boxed())
    }

    /// Makes the requests in progress due that nothing would lead to, since somebody has inserted or changed
    /// rows with SQL: those without a time, those with a new job that is due, and those of which no job is in
    /// progress. Answers how many.
    pub fn sweep_requests(&self, now: Timestamp) -> Operation<'_, u64> {
        self.transact(move |conn| sweep(conn, now).boxed())
    }

    /// Moves requests on, each as the plan says of what is read while its row is locked: its row, its jobs
    /// and the tasks of those, all in one transaction. Requests that another process has locked are left to
    /// it.
    pub fn advance(
        &self,
        due: &[DueRequest],
        plan: Arc<Plan>,
        terms: &Terms,
        now: Timestamp,
    ) -> Operation<'_, Advanced> {
        let (due, terms): (Arc<[DueRequest]>, _) = (due.into(), terms.clone());
        self.transact(move |conn| advance(conn, due.clone(), plan.clone(), terms.clone(), now).boxed())
    }

    /// Ends a request that cannot be moved on, for example since its row cannot be read, with its open jobs and
    /// their tasks.
    pub fn fail_request(
        &self,
        due: &DueRequest,
        error: &str,
        now: Timestamp,
        retention: Duration,
    ) -> Operation<'_, Advanced> {
        let (due, error): (_, Arc<str>) = (Arc::new(due.clone()), error.into());
        self.transact(move |conn| fail(conn, due.clone(), error.clone(), now, retention).boxed())
    }

    /// Removes requests that ended before this, with their jobs, so many at most; answers how many.
    pub fn forget_requests(&self, before: Timestamp, limit: u32) -> Operation<'_, u64> {
        self.transact(move |conn| forget(conn, before, limit).boxed())
    }
}

async fn due(conn: &mut Conn<'_>, now: Timestamp, limit: u32) -> Result<Vec<DueRequest>, Fault> {
    let mut found: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    let mut orphans = Vec::new();
    let mut ended =
        conn.sql("SELECT e.task_id, j.token FROM ended AS e LEFT JOIN jobs AS j ON j.task_id = e.task_id ORDER BY e.task_id LIMIT ?");
    for row in ended.bind(limit).fetch_all().await? {
        match row.get::<Option<String>>(1)? {
            Some(token) => found.entry(token).or_default().push(row.get(0)?),
            None => orphans.push(row.get(0)?),
        }
    }
    let index = conn.dialect().index("requests_due");
    let mut timely = conn.sql(format!(
        "SELECT token FROM requests {index} WHERE status = ? AND due_at <= ? ORDER BY due_at LIMIT ?"
    ));
    for row in timely.bind(RequestStatus::Inprogress.code()).bind(now).bind(limit).fetch_all().await? {
        found.entry(row.get(0)?).or_default();
    }
    // What has begun is moved on first, so that requests do not all wait for each other. New ones have a
    // share in any case.
    let begun = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let share = limit.saturating_sub(begun).max(limit / NEW_SHARE).max(1);
    let index = conn.dialect().index("requests_state");
    let mut new = conn
        .sql(format!("SELECT token FROM requests {index} WHERE status = ? ORDER BY created, token LIMIT ?"));
    for row in new.bind(RequestStatus::Queuing.code()).bind(share).fetch_all().await? {
        found.entry(row.get(0)?).or_default();
    }
    let mut due: Vec<_> =
        found.into_iter().map(|(token, ended)| DueRequest { token: Some(token), ended }).collect();
    due.extend((!orphans.is_empty()).then_some(DueRequest { token: None, ended: orphans }));
    Ok(due)
}

async fn sweep(conn: &mut Conn<'_>, now: Timestamp) -> Result<u64, Fault> {
    let mut update = conn.sql(
        "UPDATE requests SET due_at = ? WHERE status = ? AND (due_at IS NULL OR due_at > ? AND ( \
         EXISTS (SELECT 1 FROM jobs AS j WHERE j.token = requests.token AND j.step = requests.step AND j.status = ? \
         AND (j.due_at IS NULL OR j.due_at <= ?)) \
         OR NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.token = requests.token AND j.step = requests.step AND j.status = ?)))",
    );
    update.bind(now).bind(RequestStatus::Inprogress.code()).bind(now).bind(JobStatus::New.code()).bind(now);
    update.bind(JobStatus::Inprogress.code()).execute().await
}

async fn advance(
    conn: &mut Conn<'_>,
    due: Arc<[DueRequest]>,
    plan: Arc<Plan>,
    terms: Terms,
    now: Timestamp,
) -> Result<Advanced, Fault> {
    let (requests, rest) = lock_requests(conn, &due).await?;
    let mut jobs = open_jobs(conn, &requests).await?;
    let mut views: Vec<RequestView> = Vec::with_capacity(requests.len());
    for request in requests {
        let jobs = jobs.remove(&request.token).unwrap_or_default();
        views.push(RequestView { request, jobs, standing: HashMap::new() });
    }
    let running = |jobs: &[Job]| -> Vec<TaskId> {
        jobs.iter().filter(|job| job.status == JobStatus::Inprogress).filter_map(|job| job.task_id).collect()
    };
    let tasks: Vec<TaskId> = views.iter().flat_map(|view| running(&view.jobs)).collect();
    let (mut standing, unread) = standing(conn, &batch::sorted(&tasks)).await?;
    let mut advanced =
        Advanced { looked_at: views.len(), more: rest || !unread.is_empty(), ..Advanced::default() };
    let mut written = Written::default();
    // Not those of requests that another process has: it may have looked before they ended.
    let mine: HashSet<String> = views.iter().map(|view| view.request.token.as_str().to_owned()).collect();
    for mut view in views {
        for id in running(&view.jobs) {
            view.standing.extend(standing.remove(&id).map(|standing| (id, standing)));
        }
        if let Some(change) = plan(&view) {
            if change.status != view.request.status {
                advanced.moved.push((view.request.token.clone(), change.status));
            }
            if change.step != view.request.step || change.status.is_final() {
                advanced.steps.extend(view.standing.values().filter_map(Standing::ended_at).max());
            }
            written.add(view.request, change);
        }
    }
    advanced.stopped = cancel(conn, &written.withdrawn, &written.canceled, now, terms.retention).await?;
    advanced.tasks = written.write(conn, &terms, now).await?;
    advanced.jobs = written.ended.into_iter().collect();
    let is_seen = |due: &&DueRequest| due.token.as_ref().is_none_or(|token| mine.contains(token));
    let seen = due.iter().filter(is_seen).flat_map(|due| &due.ended);
    let seen: Vec<TaskId> = seen.copied().filter(|id| !unread.contains(id)).collect();
    for ids in seen.chunks(batch::KEYS) {
        conn.sql("DELETE FROM ended WHERE task_id IN ").keys(ids).execute().await?;
    }
    Ok(advanced)
}

/// Locks the requests that no other process has, fewer where they are long. Answers whether some were left
/// for another time.
async fn lock_requests(conn: &mut Conn<'_>, due: &[DueRequest]) -> Result<(Vec<Request>, bool), Fault> {
    let lock = conn.dialect().locked_unless_taken();
    let tokens: Vec<&str> = due.iter().filter_map(|due| due.token.as_deref()).collect();
    let (mut requests, mut bytes) = (Vec::with_capacity(tokens.len()), 0);
    for tokens in tokens.chunks(batch::KEYS) {
        let mut select = conn.sql(format!("SELECT {REQUEST} FROM requests AS r WHERE r.token IN "));
        select.keys(tokens).push(" ORDER BY r.token ").push(lock);
        let read = |row: &Row| {
            let request = request(row)?;
            let extras: usize = request.extras.iter().map(|(key, text)| key.len() + text.len()).sum();
            let names: usize = request.steps.iter().flat_map(|step| &step.jobs).map(String::len).sum();
            let bytes = request.params.get().len() + extras + names;
            Ok(((request, bytes), bytes))
        };
        for (request, length) in select.fetch_within(batch::READ_BYTES - bytes, read).await? {
            requests.push(request);
            bytes += length;
        }
        if bytes >= batch::READ_BYTES {
            return Ok((requests, true));
        }
    }
    Ok((requests, false))
}

/// The attempts of the steps that run and of later ones, by request, in the order of their numbers.
async fn open_jobs(
    conn: &mut Conn<'_>,
    requests: &[Request],
) -> Result<HashMap<RequestToken, Vec<Job>>, Fault> {
    let steps: HashMap<&RequestToken, u32> =
        requests.iter().map(|request| (&request.token, request.step)).collect();
    let least = steps.values().min().copied().unwrap_or_default();
    let tokens: Vec<&str> = requests.iter().map(|request| request.token.as_str()).collect();
    let mut jobs: HashMap<RequestToken, Vec<Job>> = HashMap::new();
    for tokens in tokens.chunks(batch::KEYS) {
        let mut select =
            conn.sql(format!("SELECT {} FROM jobs AS j WHERE j.step >= ? AND j.token IN ", job_of_request()));
        for row in select.bind(least).keys(tokens).push(" ORDER BY j.id").fetch_all().await? {
            let (token, job) = job(&row)?;
            if steps.get(&token).is_some_and(|step| job.step >= *step) {
                jobs.entry(token).or_default().push(job);
            }
        }
    }
    Ok(jobs)
}

/// How tasks stand; and those whose answers are left for another time, since all together are long.
async fn standing(
    conn: &mut Conn<'_>,
    ids: &[TaskId],
) -> Result<(HashMap<TaskId, Standing>, Vec<TaskId>), Fault> {
    let (mut standing, mut ended, mut late) = (HashMap::with_capacity(ids.len()), Vec::new(), Vec::new());
    for ids in ids.chunks(batch::KEYS) {
        let mut select = conn.sql(
            "SELECT id, status, expected, finished, received, finished_at, failed FROM task WHERE id IN ",
        );
        for row in select.keys(ids).fetch_all().await? {
            let id: TaskId = row.get(0)?;
            let status = columns::task_status(row.get(1)?, || format!("task {id}, column status"))?;
            let (expected, finished, received): (u32, u32, u32) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let known = match status {
                _ if status.is_final() => {
                    ended.push(id);
                    Standing::Ended {
                        status,
                        at: row.get(5)?,
                        unfinished: expected.saturating_sub(finished),
                        failed: row.get(6)?,
                        answers: Vec::new(),
                    }
                }
                TaskStatus::Created => Standing::Waits,
                TaskStatus::Incomplete => {
                    late.push(id);
                    Standing::Runs { missing: (Vec::new(), expected.saturating_sub(received)) }
                }
                _ => Standing::Runs { missing: (Vec::new(), 0) },
            };
            standing.insert(id, known);
        }
    }
    for id in late {
        let by_key = conn.dialect().by_primary_key();
        let mut select =
            conn.sql(format!("SELECT endpoint FROM response {by_key} WHERE start_time IS NULL AND task_id = ? ORDER BY endpoint LIMIT ?"));
        let rows = select.bind(id).bind(NAMED).fetch_all().await?;
        if let Some(Standing::Runs { missing: (names, _) }) = standing.get_mut(&id) {
            *names = rows.iter().map(|row| row.get(0)).collect::<Result<_, Fault>>()?;
        }
    }
    ended.sort_unstable();
    let unread = answers(conn, &ended, &mut standing).await?;
    Ok((standing, unread))
}

/// Reads the answers to tasks that have ended. A task whose answers do not fit is left as running until the
/// next pass.
async fn answers(
    conn: &mut Conn<'_>,
    ended: &[TaskId],
    standing: &mut HashMap<TaskId, Standing>,
) -> Result<Vec<TaskId>, Fault> {
    let mut unread = Vec::new();
    for ids in ended.chunks(batch::KEYS) {
        let by_key = conn.dialect().by_primary_key();
        let mut select =
            conn.sql(format!("SELECT task_id, endpoint, status, errnr, errmsg, payload FROM response {by_key} WHERE task_id IN "));
        select.keys(ids).push(" ORDER BY task_id, endpoint");
        let rows = select
            .fetch_within(batch::READ_BYTES, |row| {
                answer(row).map(|(id, answer)| ((id, answer), length(row)))
            })
            .await?;
        let bytes: usize = rows
            .iter()
            .map(|(_, answer)| {
                answer.payload.as_ref().map_or(0, |payload| payload.get().len()) + answer.errmsg.len()
            })
            .sum();
        let last = rows.last().map(|(id, _)| *id).filter(|_| bytes >= batch::READ_BYTES);
        let first = rows.first().map(|(id, _)| *id);
        for (id, answer) in rows {
            if let Some(Standing::Ended { answers, .. }) = standing.get_mut(&id) {
                answers.push(answer);
            }
        }
        // The last one that was begun may have more; alone it is taken as far as it was read.
        for id in ids.iter().filter(|id| last.is_some_and(|last| **id >= last && Some(**id) != first)) {
            standing.insert(*id, Standing::Runs { missing: (Vec::new(), 0) });
            unread.push(*id);
        }
    }
    Ok(unread)
}

fn answer(row: &Row) -> Result<(TaskId, Answer), Fault> {
    let id: TaskId = row.get(0)?;
    let status = columns::response_status(row.get(2)?, || format!("response to task {id}, column status"))?;
    let errnr = row.get::<Option<i32>>(3)?.filter(|_| status == ResponseStatus::Finished);
    let payload = row
        .get::<Option<String>>(5)?
        .map(|text| columns::json(text, || format!("response to task {id}, column payload")));
    Ok((
        id,
        Answer {
            endpoint: row.get(1)?,
            errnr,
            errmsg: row.get::<Option<String>>(4)?.unwrap_or_default(),
            payload: payload.transpose()?,
        },
    ))
}

fn length(row: &Row) -> usize {
    let text = |at| row.get::<Option<&str>>(at).ok().flatten().map_or(0, str::len);
    text(4) + text(5)
}

/// Cancels tasks of jobs. A task in `withdrawn` must not have been given to a worker.
async fn cancel(
    conn: &mut Conn<'_>,
    withdrawn: &[TaskId],
    canceled: &[TaskId],
    now: Timestamp,
    retention: Duration,
) -> Result<Vec<CancelOutcome>, Fault> {
    let withdrawn = batch::sorted(withdrawn);
    let tasks = lock(conn, &withdrawn).await?;
    if tasks.values().any(|task| task.status != TaskStatus::Created) {
        return Err(Fault::Again(
            Retry::Conflict,
            "a task that was to be withdrawn has been given to a worker meanwhile".into(),
        ));
    }
    let all: Vec<TaskId> = withdrawn.iter().chain(canceled).copied().collect();
    let mut outcomes = Vec::new();
    for id in batch::sorted(&all).iter() {
        outcomes.extend(settle::cancel(conn, *id, now, retention).await?.filter(|outcome| outcome.changed));
    }
    Ok(outcomes)
}

/// What is to be written of several requests.
#[derive(Default)]
struct Written {
    requests: Vec<(Request, RequestChange)>,
    withdrawn: Vec<TaskId>,
    canceled: Vec<TaskId>,
    ended: BTreeMap<JobStatus, u64>,
}

impl Written {
    fn add(&mut self, request: Request, change: RequestChange) {
        self.withdrawn.extend(&change.withdrawn);
        self.canceled.extend(&change.canceled);
        let ended = change.jobs.iter().map(|job| job.to).chain(change.new_jobs.iter().map(|job| job.status));
        for status in ended.filter(|status| status.is_final()) {
            *self.ended.entry(status).or_default() += 1;
        }
        self.requests.push((request, change));
    }

    async fn write(
        &self,
        conn: &mut Conn<'_>,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Vec<(NewTask, Option<crate::domain::EndpointName>)>, Fault> {
        let mut tasks: Vec<NewTask> = Vec::new();
        for (_, change) in &self.requests {
            tasks.extend(change.jobs.iter().filter_map(|job| job.task.as_deref()).cloned());
            tasks.extend(change.new_jobs.iter().filter_map(|job| job.task.as_deref()).cloned());
        }
        tasks.sort_unstable_by_key(|task| task.id);
        let tasks: Arc<[NewTask]> = tasks.into();
        let accepted = match tasks.is_empty() {
            true => Vec::new(),
            false => {
                submit::accept(conn, tasks.clone(), terms.rules.clone(), terms.lease_until, terms.retention)
                    .await?
            }
        };
        let mut refused: HashMap<TaskId, String> = HashMap::new();
        let mut recorded = Vec::with_capacity(tasks.len());
        for (task, accepted) in tasks.iter().zip(accepted) {
            match accepted {
                Accepted::New => recorded.push((task.clone(), None)),
                Accepted::Given(worker) => recorded.push((task.clone(), Some(worker))),
                Accepted::Existing { id, .. } => {
                    let told = format!("no task: its identifier {} is taken by task {id}", task.identifier);
                    refused.insert(task.id, told);
                }
            }
        }
        self.write_jobs(conn, &refused, now).await?;
        self.write_new_jobs(conn, &refused, now).await?;
        self.write_requests(conn, !refused.is_empty(), now).await?;
        Ok(recorded)
    }

    /// One statement for all attempts that end alike without a word; one for each of the others.
    async fn write_jobs(
        &self,
        conn: &mut Conn<'_>,
        refused: &HashMap<TaskId, String>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut alike: BTreeMap<(JobStatus, JobStatus), Vec<i64>> = BTreeMap::new();
        for job in self.requests.iter().flat_map(|(_, change)| &change.jobs) {
            let plain = job.error.is_none() && job.extras.is_none() && job.task.is_none();
            match plain {
                true => alike.entry((job.from, job.to)).or_default().push(column_id(job.id)),
                false => write_job(conn, job, refused, now).await?,
            }
        }
        for ((from, to), mut ids) in alike {
            ids.sort_unstable();
            for ids in ids.chunks(batch::KEYS) {
                let mut update =
                    conn.sql("UPDATE jobs SET status = ?, completed = ? WHERE status = ? AND id IN ");
                let completed = to.is_final().then_some(now);
                let changed =
                    update.bind(to.code()).bind(completed).bind(from.code()).keys(ids).execute().await?;
                all_of(changed, ids, MOVED)?;
            }
        }
        Ok(())
    }

    async fn write_new_jobs(
        &self,
        conn: &mut Conn<'_>,
        refused: &HashMap<TaskId, String>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let jobs: Vec<_> = self
            .requests
            .iter()
            .flat_map(|(request, change)| change.new_jobs.iter().map(|job| (&request.token, job)))
            .collect();
        for run in jobs.chunks(batch::WIDE_ROWS) {
            let mut insert = conn.insert("jobs");
            // Not filled up with repeats: each row takes a number.
            for (token, job) in run {
                let task = job.task.as_ref().map(|task| task.id);
                let told = task.and_then(|task| refused.get(&task));
                let status = if told.is_some() { JobStatus::Failed } else { job.status };
                insert
                    .row()
                    .set("name", job.name.as_str())
                    .set("token", token.as_str())
                    .set("step", job.step)
                    .set("error", told.or(job.error.as_ref()).map(String::as_str))
                    .set("status", status.code())
                    .set("created", now)
                    .set("completed", status.is_final().then_some(now))
                    .set("try", job.attempt)
                    .set("last_try", job.last_attempt)
                    .set("task_id", task.filter(|_| told.is_none()))
                    .set("due_at", job.due_at);
            }
            insert.all().await?;
        }
        Ok(())
    }

    async fn write_requests(&self, conn: &mut Conn<'_>, again: bool, now: Timestamp) -> Result<(), Fault> {
        type Alike<'a> = (RequestStatus, RequestStatus, u32, Option<Timestamp>, Option<Timestamp>);
        let mut alike: BTreeMap<Alike<'_>, Vec<&str>> = BTreeMap::new();
        for (request, change) in &self.requests {
            // A job that could not be given a task has failed, which has to be looked at.
            let due_at = if again && !change.status.is_final() { Some(now) } else { change.due_at };
            let plain = change.extras.is_none()
                && change.error == request.error
                && request.expires_at == Some(change.expires_at);
            if plain {
                let key = (request.status, change.status, change.step, change.completed, due_at);
                alike.entry(key).or_default().push(request.token.as_str());
                continue;
            }
            let mut update = conn.sql(
                "UPDATE requests SET status = ?, step = ?, completed = ?, due_at = ?, expires_at = ?, error = ?, \
                 extras = COALESCE(?, extras) WHERE status = ? AND token = ?",
            );
            update.bind(change.status.code()).bind(change.step).bind(change.completed);
            update
                .bind(due_at.unwrap_or(change.expires_at))
                .bind(change.expires_at)
                .bind(change.error.as_deref());
            update
                .bind(change.extras.as_ref().map(extras_text))
                .bind(request.status.code())
                .bind(request.token.as_str());
            all_of(update.execute().await?, &[()], MOVED)?;
        }
        for ((from, to, step, completed, due_at), tokens) in alike {
            for tokens in tokens.chunks(batch::KEYS) {
                let mut update = conn.sql(
                    "UPDATE requests SET status = ?, step = ?, completed = ?, due_at = COALESCE(?, expires_at) WHERE status = ? AND token IN ",
                );
                update.bind(to.code()).bind(step).bind(completed).bind(due_at).bind(from.code());
                // What sqlx asks the server for is the number of rows found, so a row that stays as it is
                // counts.
                all_of(update.keys(tokens).execute().await?, tokens, MOVED)?;
            }
        }
        Ok(())
    }
}

async fn write_job(
    conn: &mut Conn<'_>,
    job: &JobChange,
    refused: &HashMap<TaskId, String>,
    now: Timestamp,
) -> Result<(), Fault> {
    let task = job.task.as_ref().map(|task| task.id);
    let told = task.and_then(|task| refused.get(&task));
    let to = if told.is_some() { JobStatus::Failed } else { job.to };
    let mut update = conn.sql(
        "UPDATE jobs SET status = ?, completed = ?, error = ?, extras = ?, task_id = COALESCE(?, task_id) WHERE status = ? AND id = ?",
    );
    update
        .bind(to.code())
        .bind(to.is_final().then_some(now))
        .bind(told.or(job.error.as_ref()).map(String::as_str));
    update.bind(job.extras.as_ref().map(extras_text)).bind(task.filter(|_| told.is_none()));
    all_of(update.bind(job.from.code()).bind(column_id(job.id)).execute().await?, &[job.id], MOVED)
}

async fn fail(
    conn: &mut Conn<'_>,
    due: Arc<DueRequest>,
    error: Arc<str>,
    now: Timestamp,
    retention: Duration,
) -> Result<Advanced, Fault> {
    let mut advanced = Advanced { looked_at: 1, ..Advanced::default() };
    if let Some(token) = &due.token {
        let mut update = conn
            .sql("UPDATE requests SET status = ?, error = ?, completed = ?, due_at = NULL WHERE status < ? AND token = ?");
        update.bind(RequestStatus::Failed.code()).bind(&*error).bind(now);
        let failed = update.bind(RequestStatus::Completed.code()).bind(token.as_str()).execute().await? > 0;
        let token_read = token.parse().ok().filter(|_| failed);
        advanced.moved.extend(token_read.map(|token| (token, RequestStatus::Failed)));
        advanced.stopped = end_jobs(conn, token, now, retention).await?;
    }
    for ids in due.ended.chunks(batch::KEYS) {
        conn.sql("DELETE FROM ended WHERE task_id IN ").keys(ids).execute().await?;
    }
    Ok(advanced)
}

/// Ends the open jobs of a request that is locked, and cancels their tasks. Answers what is to be stopped.
pub(super) async fn end_jobs(
    conn: &mut Conn<'_>,
    token: &str,
    now: Timestamp,
    retention: Duration,
) -> Result<Vec<CancelOutcome>, Fault> {
    let mut select =
        conn.sql("SELECT task_id FROM jobs WHERE task_id IS NOT NULL AND status = ? AND token = ?");
    let rows = select.bind(JobStatus::Inprogress.code()).bind(token).fetch_all().await?;
    let tasks: Vec<TaskId> = rows.iter().map(|row| row.get(0)).collect::<Result<_, Fault>>()?;
    let stopped = cancel(conn, &[], &tasks, now, retention).await?;
    let mut end = conn.sql("UPDATE jobs SET status = ?, completed = ? WHERE status < ? AND token = ?");
    end.bind(JobStatus::Canceled.code()).bind(now).bind(JobStatus::Completed.code()).bind(token);
    end.execute().await?;
    Ok(stopped)
}

async fn forget(conn: &mut Conn<'_>, before: Timestamp, limit: u32) -> Result<u64, Fault> {
    let index = conn.dialect().index("requests_end");
    let mut select = conn
        .sql(format!("SELECT token FROM requests {index} WHERE completed < ? ORDER BY completed LIMIT ?"));
    let rows = select.bind(before).bind(limit).fetch_all().await?;
    let tokens = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<&str>, Fault>>()?;
    let mut forgotten = 0;
    for tokens in tokens.chunks(batch::KEYS) {
        // Not the jobs of one that was begun anew meanwhile.
        let mut gone = conn.sql("DELETE FROM requests WHERE completed < ? AND token IN ");
        let went = gone.bind(before).keys(tokens).execute().await?;
        if usize::try_from(went) != Ok(tokens.len()) {
            return Err(Fault::Again(
                Retry::Conflict,
                "a request was begun anew when it was to be forgotten".into(),
            ));
        }
        conn.sql("DELETE FROM jobs WHERE token IN ").keys(tokens).execute().await?;
        forgotten += went;
    }
    Ok(forgotten)
}
