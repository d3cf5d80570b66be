//! Whether requests add up: each that has ended with all that it needs, each that is open with somebody who
//! moves it on.
//!
//! The rows of a request, its jobs and their tasks are read in one statement, so that what changes meanwhile
//! is seen as a whole. Only the steps, which never change, are read after them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::domain::{JobStatus, RequestStatus, Step, TaskStatus, Timestamp, read_steps};
use crate::store::batch;
use crate::store::fault::Fault;
use crate::store::sql::{Cells, Conn, Row};
use crate::store::{Operation, Result, Store};

/// Whether requests add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCensus {
    /// Requests that were recorded or inserted.
    pub accepted: u64,
    /// Of these, those that add up and have ended, or are in time and looked after.
    pub accounted: u64,
    /// The others.
    pub missing: u64,
    /// Requests that have not ended.
    pub open: u64,
    /// Attempts of jobs of all of them.
    pub attempts: u64,
    /// What is wrong, some of it.
    pub flaws: Vec<RequestFlaw>,
    /// Where to go on; none at the end.
    pub next: Option<(Timestamp, String)>,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFlaw {
    /// Its name as the row has it: a producer may have inserted one that is no token.
    pub token: String,
    /// For people.
    pub reason: String,
}

/// Which requests to add up, oldest first.
#[derive(Debug, Clone, Default)]
pub struct RequestCensusQuery {
    /// Only requests recorded at or after this.
    pub since: Option<Timestamp>,
    /// Only requests recorded before this.
    pub until: Option<Timestamp>,
    /// Only requests after this one: the cursor.
    pub after: Option<(Timestamp, String)>,
    /// Requests at most.
    pub limit: u32,
    /// How long an ended task is kept: that of a job that ended longer ago may be gone.
    pub retention: Duration,
}

impl Store {
    /// Adds up requests, each with its jobs and their tasks as they are at one moment. Reads all of their
    /// rows.
    pub fn request_census(&self, query: &RequestCensusQuery, now: Timestamp) -> Operation<'_, RequestCensus> {
        let query = Arc::new(query.clone());
        self.run(move |conn| census(conn, query.clone(), now).boxed())
    }
}

/// How late a request may be looked after: changes that somebody makes with SQL are found once a minute,
/// processes restart, and clocks are set.
const PATIENCE: Duration = Duration::from_secs(120);

/// Flaws told in full of one page; the others are counted.
const FLAWS: usize = 20;

/// A request with what its jobs and their tasks say.
#[derive(Debug, Clone)]
struct Audit {
    token: String,
    status: Option<RequestStatus>,
    step: u32,
    created: Timestamp,
    completed: Option<Timestamp>,
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// Its steps; none when they cannot be read.
    steps: Vec<Step>,
    jobs: Vec<Job>,
}

/// All attempts of a job of a step.
#[derive(Debug, Clone, Default)]
struct Job {
    step: u32,
    name: String,
    attempts: u64,
    new: u64,
    in_progress: u64,
    completed: u64,
    /// Whether some were made since the failed jobs of the request were begun anew.
    anew: bool,
    /// The number of its first row.
    first: u64,
    /// When the first of those begins that are new.
    begins: Option<Timestamp>,
    /// When a row last changed.
    changed: Option<Timestamp>,
    /// Attempts in progress without a task.
    taskless: u64,
    /// When the first task ended of those that are in progress.
    over: Option<Timestamp>,
    /// Attempts whose task has another end.
    otherwise: u64,
    /// Attempts that have ended and whose task has not.
    going: u64,
    /// Attempts that have ended lately and whose task is gone.
    forgotten: u64,
}

impl Job {
    const fn open(&self) -> bool {
        self.new + self.in_progress > 0
    }

    /// What is wrong with its attempts and their tasks, as the rest of a sentence.
    fn flaw(&self, now: Timestamp) -> Option<&'static str> {
        let late = |at: Option<Timestamp>| at.is_some_and(|at| at.after(PATIENCE) < now);
        match self {
            _ if self.taskless > 0 => Some("is in progress and its task is missing"),
            _ if late(self.over) => Some("is in progress, its task has ended and nobody has looked at it"),
            _ if self.otherwise > 0 => Some("has another end than its task"),
            _ if self.going > 0 => Some("has ended and its task has not"),
            _ if self.forgotten > 0 => Some("has ended and its task is missing"),
            _ => None,
        }
    }
}

impl Audit {
    /// What is wrong with it.
    fn flaw(&self, now: Timestamp) -> Option<String> {
        let Some(status) = self.status else { return Some("its status is not one of 0 to 4".to_owned()) };
        let told = |job: &Job, what: &str| format!("job `{}` of step {} {what}", job.name, job.step + 1);
        let of_jobs = self.jobs.iter().find_map(|job| Some(told(job, job.flaw(now)?)));
        let stray = || {
            self.jobs
                .iter()
                .find(|job| !self.has(job))
                .map(|job| told(job, "is not in the steps of the request"))
        };
        of_jobs.or_else(|| self.flaw_of_status(status, told, now)).or_else(stray).or_else(|| self.disorder())
    }

    fn flaw_of_status(
        &self,
        status: RequestStatus,
        told: impl Fn(&Job, &str) -> String,
        now: Timestamp,
    ) -> Option<String> {
        let late = |at: Timestamp| at.after(PATIENCE) < now;
        let open = |job: &&Job| job.open();
        match status {
            RequestStatus::Queuing => {
                let begun = self.jobs.first().map(|job| told(job, "is there before the request has begun"));
                begun.or_else(|| late(self.created).then(|| "no process has begun it".to_owned()))
            }
            RequestStatus::Inprogress => {
                let mut of_step = self.jobs.iter().filter(|job| job.step == self.step);
                if let Some(job) = self.jobs.iter().filter(open).find(|job| job.step != self.step) {
                    return Some(told(
                        job,
                        &format!("is open while the request is at step {}", self.step + 1),
                    ));
                }
                if self.expires_at.is_some_and(late) {
                    return Some("it is open after its time was over".to_owned());
                }
                if let Some(job) = self.jobs.iter().find(|job| job.begins.is_some_and(late)) {
                    return Some(told(job, "is due and has not begun"));
                }
                if !of_step.any(|job| job.open()) && late(self.changed()) {
                    return Some("all jobs of its step have ended and no process moves it on".to_owned());
                }
                let looked_at = self.due_at.unwrap_or_else(|| self.changed());
                late(looked_at).then(|| "it is due and no process looks after it".to_owned())
            }
            // Jobs that run when another one fails go on to their end.
            RequestStatus::Failed => self
                .jobs
                .iter()
                .find(|job| job.new > 0)
                .map(|job| told(job, "is new, and the request has ended")),
            RequestStatus::Completed | RequestStatus::Canceled => {
                let open =
                    self.jobs.iter().find(open).map(|job| told(job, "is open, and the request has ended"));
                open.or_else(|| if status == RequestStatus::Completed { self.incomplete() } else { None })
            }
        }
        .or_else(|| {
            (status.is_final() && self.completed.is_none()).then(|| "it has ended without a time".to_owned())
        })
    }

    /// The first job without which it is Completed.
    fn incomplete(&self) -> Option<String> {
        let steps = self.steps.iter().enumerate().filter(|(_, step)| step.when.admits(false));
        let mut jobs = steps.flat_map(|(place, step)| step.jobs.iter().map(move |name| (place, name)));
        let done = |place: usize, name: &str| {
            self.jobs
                .iter()
                .any(|job| usize::try_from(job.step) == Ok(place) && job.name == name && job.completed > 0)
        };
        let (place, name) = jobs.find(|(place, name)| !done(*place, name))?;
        Some(format!("it is Completed and job `{name}` of step {} is not", place + 1))
    }

    /// Whether its steps, if they can be read, have a job.
    fn has(&self, job: &Job) -> bool {
        let step = usize::try_from(job.step).ok().and_then(|place| self.steps.get(place));
        self.steps.is_empty() || step.is_some_and(|step| step.jobs.contains(&job.name))
    }

    /// A step that has begun before another one that stands before it. After a retry, steps that were left
    /// out run behind those after them.
    fn disorder(&self) -> Option<String> {
        if self.jobs.iter().any(|job| job.anew) {
            return None;
        }
        let mut before: Option<(u32, u64)> = None;
        for of_step in self.jobs.chunk_by(|a, b| a.step == b.step) {
            let firsts = || of_step.iter().map(|job| job.first);
            let (step, first, last) = (of_step.first()?.step, firsts().min()?, firsts().max()?);
            if let Some((earlier, _)) = before.filter(|(_, last)| *last > first) {
                return Some(format!("step {} has begun before step {}", step + 1, earlier + 1));
            }
            before = Some((step, last));
        }
        None
    }

    /// When it last changed, as far as its rows tell.
    fn changed(&self) -> Timestamp {
        self.jobs.iter().filter_map(|job| job.changed).fold(self.created, Ord::max)
    }
}

/// Adds up a page of requests.
fn sum_up(audits: Vec<Audit>, more: bool, now: Timestamp) -> RequestCensus {
    let next = audits.last().filter(|_| more).map(|last| (last.created, last.token.clone()));
    let mut census = RequestCensus { next, ..RequestCensus::default() };
    for audit in audits {
        census.accepted += 1;
        census.open += u64::from(audit.status.is_some_and(|status| !status.is_final()));
        census.attempts += audit.jobs.iter().map(|job| job.attempts).sum::<u64>();
        let Some(reason) = audit.flaw(now) else {
            census.accounted += 1;
            continue;
        };
        census.missing += 1;
        if census.flaws.len() < FLAWS {
            census.flaws.push(RequestFlaw { token: audit.token, reason });
        }
    }
    census
}

async fn census(
    conn: &mut Conn<'_>,
    wanted: Arc<RequestCensusQuery>,
    now: Timestamp,
) -> Result<RequestCensus, Fault> {
    let index = conn.dialect().index("requests_list");
    let (new, running, completed) =
        (JobStatus::New.code(), JobStatus::Inprogress.code(), JobStatus::Completed.code());
    let retry = JobStatus::Retry.code();
    let sum = |condition: &str| format!("CAST(COALESCE(SUM({condition}), 0) AS SIGNED)");
    let columns = [
        sum(&format!("j.status = {new}")),
        sum(&format!("j.status = {running}")),
        sum(&format!("j.status = {completed}")),
        sum("j.last_try IS NOT NULL"),
        "COALESCE(MIN(j.id), 0)".to_owned(),
        format!("MIN(CASE WHEN j.status = {new} THEN COALESCE(j.due_at, j.created) END)"),
        "MAX(COALESCE(j.completed, j.created))".to_owned(),
        sum(&format!("j.status = {running} AND t.id IS NULL")),
        format!("MIN(CASE WHEN j.status = {running} THEN t.finished_at END)"),
        sum(&format!(
            "(j.status = {completed} AND (t.status <> ? OR t.failed > 0)) OR (j.status = {retry} AND t.status = ? AND t.failed = 0)"
        )),
        sum(&format!("j.status NOT IN ({new}, {running}) AND t.id IS NOT NULL AND t.finished_at IS NULL")),
        sum(&format!(
            "j.status IN ({completed}, {retry}) AND j.task_id IS NOT NULL AND t.id IS NULL AND j.completed > ?"
        )),
    ];
    let mut select = conn.sql(format!(
        "SELECT r.token, r.created, r.status, r.step, r.completed, r.due_at, r.expires_at, COUNT(j.id), j.step, j.name, {} \
         FROM (SELECT token, created, status, step, completed, due_at, expires_at FROM requests {index} WHERE 1 = 1",
        columns.join(", ")
    ));
    select.bind(TaskStatus::Done).bind(TaskStatus::Done).bind(now.before(wanted.retention).after(PATIENCE));
    if let Some((created, token)) = &wanted.after {
        select
            .push(" AND created >= ? AND (created > ? OR token > ?)")
            .bind(*created)
            .bind(*created)
            .bind(token.as_str());
    }
    if let Some(since) = wanted.since {
        select.push(" AND created >= ?").bind(since);
    }
    if let Some(until) = wanted.until {
        select.push(" AND created < ?").bind(until);
    }
    select.push(" ORDER BY created, token LIMIT ?").bind(wanted.limit);
    select.push(
        ") AS r LEFT JOIN jobs AS j ON j.token = r.token LEFT JOIN task AS t ON t.id = j.task_id \
         GROUP BY r.token, r.created, r.status, r.step, r.completed, r.due_at, r.expires_at, j.step, j.name \
         ORDER BY r.created, r.token, j.step, j.name",
    );
    let rows = select
        .fetch_within(batch::READ_BYTES, |row| audit(row).map(|(audit, job)| ((audit, job), ROW_BYTES)))
        .await?;
    let cut = rows.len() * ROW_BYTES >= batch::READ_BYTES;
    let mut audits: Vec<Audit> = Vec::new();
    for (audit, job) in rows {
        match audits.last_mut() {
            Some(last) if last.token == audit.token => last.jobs.extend(job),
            _ => audits.push(Audit { jobs: job.into_iter().collect(), ..audit }),
        }
    }
    // The last one may have more jobs; alone it is taken as far as it was read.
    if cut && audits.len() > 1 {
        audits.pop();
    }
    let more = cut || u32::try_from(audits.len()).is_ok_and(|read| read >= wanted.limit);
    read_all_steps(conn, &mut audits).await?;
    Ok(sum_up(audits, more, now))
}

/// What a job of a page takes while it is read, about.
const ROW_BYTES: usize = 256;

async fn read_all_steps(conn: &mut Conn<'_>, audits: &mut [Audit]) -> Result<(), Fault> {
    for audits in audits.chunks_mut(STEPS_AT_ONCE) {
        let tokens: Vec<&str> = audits.iter().map(|audit| audit.token.as_str()).collect();
        let mut select = conn.sql("SELECT token, steps FROM requests WHERE token IN ");
        let mut steps: HashMap<String, Vec<Step>> = HashMap::new();
        for row in select.keys(&tokens).fetch_all().await? {
            steps.insert(row.get(0)?, read_steps(row.get(1)?).unwrap_or_default());
        }
        for audit in audits {
            audit.steps = steps.remove(&audit.token).unwrap_or_default();
        }
    }
    Ok(())
}

/// Requests whose steps are read together: those of one may take two megabytes.
const STEPS_AT_ONCE: usize = 16;

fn audit(row: &Row) -> Result<(Audit, Option<Job>), Fault> {
    let mut cells = row.cells();
    let audit = Audit {
        token: cells.take()?,
        created: cells.take()?,
        status: RequestStatus::from_code(cells.take()?),
        step: cells.take()?,
        completed: cells.take()?,
        due_at: cells.take()?,
        expires_at: cells.take()?,
        steps: Vec::new(),
        jobs: Vec::new(),
    };
    let number = |cells: &mut Cells<'_>| Ok::<_, Fault>(cells.take::<i64>()?.unsigned_abs());
    let attempts = number(&mut cells)?;
    let (Some(step), Some(name)) = (cells.take()?, cells.take()?) else { return Ok((audit, None)) };
    let job = Job {
        step,
        name,
        attempts,
        new: number(&mut cells)?,
        in_progress: number(&mut cells)?,
        completed: number(&mut cells)?,
        anew: number(&mut cells)? > 0,
        first: number(&mut cells)?,
        begins: cells.take()?,
        changed: cells.take()?,
        taskless: number(&mut cells)?,
        over: cells.take()?,
        otherwise: number(&mut cells)?,
        going: number(&mut cells)?,
        forgotten: number(&mut cells)?,
    };
    Ok((audit, Some(job)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::When;
    use crate::store::census::tests::assert_flaw;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    fn job(step: u32, name: &str) -> Job {
        Job {
            step,
            name: name.to_owned(),
            attempts: 1,
            first: u64::from(step) + 1,
            changed: Some(at(10)),
            ..Job::default()
        }
    }

    fn done(step: u32, name: &str) -> Job {
        Job { completed: 1, ..job(step, name) }
    }

    fn running(step: u32, name: &str) -> Job {
        Job { in_progress: 1, ..job(step, name) }
    }

    /// Two steps and one for failures; recorded in second 0, to be looked at in second 1000.
    fn request(status: RequestStatus, step: u32, jobs: Vec<Job>) -> Audit {
        let named = |name: &str, jobs: &[&str], when| Step {
            name: name.to_owned(),
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
            when,
        };
        Audit {
            token: "t".to_owned(),
            status: Some(status),
            step,
            created: at(0),
            completed: status.is_final().then(|| at(20)),
            due_at: (!status.is_final()).then(|| at(1000)),
            expires_at: Some(at(1000)),
            steps: vec![
                named("look", &["get"], When::AllOk),
                named("delete", &["del1", "del2"], When::AllOk),
                named("tell", &["mail"], When::AnyFailed),
            ],
            jobs,
        }
    }

    #[test]
    fn finds_each_flaw_and_no_other() {
        use RequestStatus as S;
        let all = || vec![done(0, "get"), done(1, "del1"), done(1, "del2")];
        let with = |change: fn(&mut Audit), mut audit: Audit| {
            change(&mut audit);
            audit
        };
        let table = [
            (request(S::Queuing, 0, vec![]), 120, None),
            (request(S::Queuing, 0, vec![]), 121, Some("no process has begun it")),
            (request(S::Queuing, 0, vec![running(0, "get")]), 1, Some("before the request has begun")),
            (request(S::Inprogress, 0, vec![running(0, "get")]), 1120, None),
            (request(S::Inprogress, 0, vec![running(0, "get")]), 1121, Some("after its time was over")),
            (
                with(|it| it.due_at = Some(at(100)), request(S::Inprogress, 0, vec![running(0, "get")])),
                221,
                Some("no process looks after"),
            ),
            (with(|it| it.due_at = None, request(S::Inprogress, 0, vec![running(0, "get")])), 130, None),
            (
                with(|it| it.due_at = None, request(S::Inprogress, 0, vec![running(0, "get")])),
                131,
                Some("no process looks after"),
            ),
            (request(S::Inprogress, 0, vec![done(0, "get")]), 130, None),
            (request(S::Inprogress, 0, vec![done(0, "get")]), 131, Some("no process moves it on")),
            (
                request(S::Inprogress, 1, vec![running(0, "get"), done(1, "del1")]),
                1,
                Some("job `get` of step 1 is open while"),
            ),
            (
                request(S::Inprogress, 0, vec![Job { new: 1, begins: Some(at(60)), ..job(0, "get") }]),
                180,
                None,
            ),
            (
                request(S::Inprogress, 0, vec![Job { new: 1, begins: Some(at(60)), ..job(0, "get") }]),
                181,
                Some("due and has not begun"),
            ),
            (request(S::Completed, 1, all()), 5000, None),
            (
                request(S::Completed, 1, vec![done(0, "get"), done(1, "del1")]),
                50,
                Some("Completed and job `del2` of step 2 is not"),
            ),
            (with(|it| it.completed = None, request(S::Completed, 1, all())), 50, Some("without a time")),
            (
                with(|it| it.jobs[2].new = 1, request(S::Completed, 1, all())),
                50,
                Some("is open, and the request has ended"),
            ),
            (
                with(|it| it.jobs[2].otherwise = 1, request(S::Completed, 1, all())),
                50,
                Some("job `del2` of step 2 has another end"),
            ),
            (
                with(|it| it.jobs[0].forgotten = 1, request(S::Completed, 1, all())),
                50,
                Some("has ended and its task is missing"),
            ),
            (
                with(|it| it.jobs[0].going = 1, request(S::Canceled, 1, all())),
                50,
                Some("has ended and its task has not"),
            ),
            (
                with(|it| it.jobs[2].step = 7, request(S::Failed, 1, all())),
                50,
                Some("job `del2` of step 8 is not in the steps"),
            ),
            (
                with(|it| it.jobs[0].first = 9, request(S::Failed, 1, all())),
                50,
                Some("step 2 has begun before step 1"),
            ),
            (
                with(|it| (it.jobs[0].first, it.jobs[0].anew) = (9, true), request(S::Failed, 1, all())),
                50,
                None,
            ),
            (with(|it| it.steps.clear(), request(S::Failed, 0, vec![])), 5000, None),
            (request(S::Failed, 0, vec![running(0, "get")]), 5000, None),
            (
                request(S::Failed, 0, vec![Job { new: 1, ..job(0, "get") }]),
                50,
                Some("is new, and the request has ended"),
            ),
            (
                request(S::Inprogress, 0, vec![Job { taskless: 1, ..running(0, "get") }]),
                1,
                Some("its task is missing"),
            ),
            (request(S::Failed, 0, vec![Job { over: Some(at(30)), ..running(0, "get") }]), 150, None),
            (
                request(S::Failed, 0, vec![Job { over: Some(at(30)), ..running(0, "get") }]),
                151,
                Some("nobody has looked at it"),
            ),
            (with(|it| it.status = None, request(S::Failed, 0, vec![])), 1, Some("status is not one of")),
        ];
        for (audit, now, flaw) in table {
            assert_flaw(audit.flaw(at(now)).as_deref(), flaw, &format!("{audit:?} at {now}"));
        }
    }

    #[test]
    fn adds_up() {
        let good = request(RequestStatus::Inprogress, 0, vec![running(0, "get")]);
        let bad = request(RequestStatus::Completed, 0, vec![Job { attempts: 3, ..done(0, "get") }]);
        let census = sum_up(vec![good, bad], true, at(50));
        let RequestCensus { accepted, accounted, missing, open, attempts, flaws, next } = census;
        assert_eq!((accepted, accounted, missing, open, attempts, flaws.len()), (2, 1, 1, 1, 4, 1));
        assert_eq!(next, Some((at(0), "t".to_owned())));
    }
}
