//! `tasker request import`: requests and jobs of the original Tasker Worker, once, out of its database.
//!
//! Reads and checks all rows before it writes one, and refuses while the original changes. At the end it
//! compares the numbers of rows, and whether the original is as it was.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde::Serialize;

use super::database::{Opened, open};
use super::exit::Code;
use super::global::Global;
use super::output::{Failure, note, show};
use super::request_args::ImportRequests;
use crate::config::{Database, Secret, span};
use crate::domain::{
    Job, JobStatus, Request, RequestStatus, RequestToken, Step, Timestamp, json, read_extras, read_params,
    read_steps, too_many_extras,
};
use crate::store::{
    self, OriginalJob, OriginalRequest, OriginalState, OriginalTime, SharedStore, StoreError,
};

/// Requests that are read and written together.
const PAGE: u32 = 200;

/// Problems that are listed.
const LISTED: usize = 20;

/// What helps against rows that change.
const WHAT_TO_DO: &str = "stop the original and its producers, then repeat the import";

/// The error of a job that the original had begun when it was stopped.
const INTERRUPTED: &str = "interrupted: the original had begun it and did not end it";

/// What was found and done.
#[derive(Debug, Default, Serialize)]
struct Imported {
    dry_run: bool,
    requests: u64,
    jobs: u64,
    /// By status.
    by_status: BTreeMap<&'static str, u64>,
    /// Jobs that the original had begun and not ended.
    interrupted: u64,
    /// Requests that are recorded now and were not before.
    new: u64,
    there_already: u64,
}

pub(super) async fn run(global: &Global, args: ImportRequests) -> Result<Code, Failure> {
    let uri = Secret::new(args.from.clone());
    let source =
        store::open_existing(&Database { verbose: false, uri, max_connections: 2 }).map_err(|error| {
            Failure::Usage(format!(
                "--from: {error}; expected mysql://user:password@host:port/database or sqlite:///path"
            ))
        })?;
    let Opened { store, place, .. } = open(global, args.data_dir.as_deref(), false).await?;
    let done = import(&source, &store, &args).await;
    source.close().await;
    store.close().await;
    let imported = done?;
    show(global.json, &imported, |_| told(&imported, &place))?;
    Ok(Code::Ok)
}

async fn import(
    source: &SharedStore,
    store: &SharedStore,
    args: &ImportRequests,
) -> Result<Imported, Failure> {
    store.check_schema().await?;
    let before = until_quiet(source, args).await?;
    let rerun = args.rerun_interrupted;
    let mut problems = Problems::default();
    let (orphans, token) = source.original_orphans().await?;
    if orphans > 0 {
        problems
            .add(format!("{orphans} jobs have no request, such as one of `{}`", token.unwrap_or_default()));
    }
    let now = store.now().await?;
    let mut imported = Imported { dry_run: args.dry_run, ..Imported::default() };
    each_page(source, async |page| {
        for original in &page {
            match converted(original, rerun, now) {
                Ok((request, jobs)) => imported.count(original, &request, &jobs),
                Err(why) => why
                    .into_iter()
                    .for_each(|why| problems.add(format!("request `{}`: {why}", original.token))),
            }
        }
        Ok(())
    })
    .await?;
    // By the counts of the tables: pages pass over an empty token, and over jobs whose token differs from that
    // of their request by what the database takes for equal, such as the case of letters.
    let read = (imported.requests, imported.jobs);
    if problems.count == 0 && read != (before.requests, before.jobs) {
        problems.add(format!(
            "of {} requests and {} jobs, {} and {} can be read: a token must not be empty, and a job has that of its request letter for letter",
            before.requests, before.jobs, read.0, read.1
        ));
    }
    problems.refuse()?;
    let mut counted = (0, 0);
    each_page(source, async |page| {
        let requests: Vec<_> =
            page.iter().filter_map(|original| converted(original, rerun, now).ok()).collect();
        let tokens: Vec<RequestToken> = requests.iter().map(|(request, _)| request.token.clone()).collect();
        if args.dry_run {
            imported.there_already += store.count_requests(&tokens).await?.0;
            return Ok(());
        }
        let number = requests.len() as u64;
        let new = store.import_requests(requests, now).await?;
        imported.new += new;
        imported.there_already += number - new;
        let (requests, jobs) = store.count_requests(&tokens).await?;
        counted = (counted.0 + requests, counted.1 + jobs);
        Ok(())
    })
    .await?;
    // What was there already may have gone on meanwhile, and have more jobs.
    let (requests, jobs) = (imported.requests, imported.jobs);
    let whole =
        counted.0 == requests && (counted.1 == jobs || imported.there_already > 0 && counted.1 > jobs);
    if !args.dry_run && !whole {
        let found = format!("{} requests and {} jobs are there", counted.0, counted.1);
        return Err(Failure::Setup(format!(
            "the original has {requests} requests and {jobs} jobs, but {found}: repeat the import"
        )));
    }
    if source.original_state().await? != before {
        return Err(Failure::Setup(format!("rows of the original changed during the import: {WHAT_TO_DO}")));
    }
    Ok(imported)
}

/// Sees whether the original changes. Answers its state.
///
/// # Errors
/// When it does.
async fn until_quiet(source: &SharedStore, args: &ImportRequests) -> Result<OriginalState, Failure> {
    let span = span::format(args.quiet_for);
    let before = source.original_state().await.map_err(unreadable)?;
    if let Some(newest) = before.newest.as_ref().and_then(OriginalTime::read) {
        let age = source.now().await?.since(newest);
        if age < args.quiet_for {
            let ago = age.as_secs();
            return Err(Failure::Setup(format!(
                "rows of the original changed {ago}s ago, and it must be quiet for {span}: {WHAT_TO_DO}"
            )));
        }
    }
    if !args.quiet_for.is_zero() {
        note(&format!("watching for {span} whether the original still changes"));
        tokio::time::sleep(args.quiet_for).await;
    }
    match source.original_state().await? == before {
        true => Ok(before),
        false => Err(Failure::Setup(format!("rows of the original changed within {span}: {WHAT_TO_DO}"))),
    }
}

/// Why the original cannot be read. What makes our tables does not make those of the original.
fn unreadable(error: StoreError) -> Failure {
    Failure::Setup(match error {
        StoreError::Missing { reason } => {
            format!(
                "--from: {reason}; expected the tables `requests` and `jobs` of the original Tasker Worker"
            )
        }
        error => format!("--from: {error}"),
    })
}

/// Reads all requests of the original, some at a time.
async fn each_page(
    source: &SharedStore,
    mut act: impl AsyncFnMut(Vec<OriginalRequest>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let page = source.original_requests(&after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.token);
        act(page).await?;
    }
}

impl Imported {
    fn count(&mut self, original: &OriginalRequest, request: &Request, jobs: &[Job]) {
        self.requests += 1;
        self.jobs += jobs.len() as u64;
        *self.by_status.entry(request.status.as_str()).or_default() += 1;
        self.interrupted +=
            original.jobs.iter().filter(|job| job.status == i64::from(JobStatus::Inprogress.code())).count()
                as u64;
    }
}

/// What is wrong with the original.
#[derive(Debug, Default)]
struct Problems {
    count: usize,
    listed: Vec<String>,
}

impl Problems {
    fn add(&mut self, problem: String) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(problem);
        }
    }

    fn refuse(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let more = if self.count > self.listed.len() {
            format!("\n  and {} more", self.count - self.listed.len())
        } else {
            String::new()
        };
        let text = format!(
            "nothing was imported: correct or delete these rows of the original\n  {}{more}",
            self.listed.join("\n  ")
        );
        Err(Failure::Setup(text))
    }
}

/// A request of the original as ours, with its jobs.
///
/// # Errors
/// All that is wrong with it.
fn converted(
    original: &OriginalRequest,
    rerun: bool,
    now: Timestamp,
) -> Result<(Request, Vec<Job>), Vec<String>> {
    let mut wrong = Vec::new();
    let token =
        original.token.parse::<RequestToken>().map_err(|error| wrong.push(format!("token: {error}"))).ok();
    let steps = read_steps(&original.steps).map_err(|why| wrong.extend(why)).unwrap_or_default();
    let params = original.params.clone().unwrap_or_else(|| "{}".to_owned());
    let params = read_params(params).map_err(|why| wrong.push(why)).unwrap_or_else(|()| json(&()));
    let extras = read_extras(original.extras.as_deref()).map_err(|why| wrong.push(why)).unwrap_or_default();
    wrong.extend(too_many_extras(&extras));
    let status = u8::try_from(original.status).ok().and_then(RequestStatus::from_code);
    let status = status.filter(|status| *status != RequestStatus::Canceled);
    if status.is_none() {
        wrong.push(format!(
            "status: {} is not one of 0 Queuing, 1 Inprogress, 2 Completed, 3 Failed",
            original.status
        ));
    }
    let status = status.unwrap_or(RequestStatus::Failed);
    let step = usize::try_from(original.step).ok().filter(|step| steps.is_empty() || *step < steps.len());
    if step.is_none() {
        wrong.push(format!("step: {} is not a place in {} steps", original.step, steps.len()));
    }
    let created = time("created", &original.created, &mut wrong);
    let completed = original.completed.as_ref().map(|completed| time("completed", completed, &mut wrong));
    let mut tries: HashMap<(i64, &str), u32> = HashMap::new();
    let mut jobs = Vec::with_capacity(original.jobs.len());
    for job in &original.jobs {
        let attempt = tries.entry((job.step, &job.name)).or_default();
        *attempt += 1;
        match converted_job(job, *attempt, &steps, status.is_final(), rerun, now) {
            Ok(job) => jobs.push(job),
            Err(why) => wrong.extend(why.into_iter().map(|why| format!("job {}: {why}", job.id))),
        }
    }
    let (Some(token), true) = (token, wrong.is_empty()) else { return Err(wrong) };
    // The original may have been stopped between the rows of the first jobs and that of the request.
    let begun = status == RequestStatus::Queuing && !jobs.is_empty();
    let request = Request {
        token,
        request_token: original.request_token.clone(),
        action: original.action.clone(),
        status: if begun { RequestStatus::Inprogress } else { status },
        error: None,
        step: u32::try_from(original.step).unwrap_or_default(),
        steps,
        params,
        extras,
        flaw: None,
        created,
        completed: completed.or_else(|| status.is_final().then_some(created)),
        expires_at: None,
    };
    Ok((request, jobs))
}

fn converted_job(
    original: &OriginalJob,
    attempt: u32,
    steps: &[Step],
    over: bool,
    rerun: bool,
    now: Timestamp,
) -> Result<Job, Vec<String>> {
    let mut wrong = Vec::new();
    let step = usize::try_from(original.step).ok().and_then(|place| steps.get(place));
    match step {
        _ if steps.is_empty() => {}
        None => wrong.push(format!("step: {} is not a place in {} steps", original.step, steps.len())),
        Some(step) if !step.jobs.contains(&original.name) => {
            wrong.push(format!(
                "`{}` is not a job of the step `{}` ({})",
                original.name,
                step.name,
                step.jobs.join(", ")
            ));
        }
        Some(_) => {}
    }
    let status = u8::try_from(original.status)
        .ok()
        .and_then(JobStatus::from_code)
        .filter(|status| *status != JobStatus::Canceled);
    if status.is_none() {
        wrong.push(format!(
            "status: {} is not one of 0 new, 1 inprogress, 2 completed, 3 failed, 4 retry",
            original.status
        ));
    }
    let created = time("created", &original.created, &mut wrong);
    let completed = original.completed.as_ref().map(|completed| time("completed", completed, &mut wrong));
    let (Some(status), true) = (status, wrong.is_empty()) else { return Err(wrong) };
    let (status, error) = match status {
        JobStatus::Inprogress if rerun && !over => (JobStatus::New, original.error.clone()),
        JobStatus::Inprogress => (JobStatus::Failed, Some(INTERRUPTED.to_owned())),
        JobStatus::New if over => (JobStatus::Canceled, original.error.clone()),
        status => (status, original.error.clone()),
    };
    Ok(Job {
        id: 0,
        name: original.name.clone(),
        step: u32::try_from(original.step).unwrap_or_default(),
        attempt,
        last_attempt: None,
        status,
        error,
        extras: None,
        created,
        due_at: None,
        completed: completed.or_else(|| status.is_final().then_some(now)),
        task_id: None,
    })
}

fn time(column: &str, time: &OriginalTime, wrong: &mut Vec<String>) -> Timestamp {
    time.read().unwrap_or_else(|| {
        wrong.push(format!("{column}: `{}` is not a time", time.0));
        Timestamp::from_micros(0)
    })
}

fn told(imported: &Imported, place: &str) -> String {
    let Imported { dry_run, requests, jobs, by_status, interrupted, new, there_already } = imported;
    let states =
        by_status.iter().map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "the original has {requests} requests ({states}) and {jobs} jobs; all of them can be imported\n"
    );
    if *interrupted > 0 {
        _ = writeln!(
            text,
            "{interrupted} jobs were interrupted: they fail, or run again with --rerun-interrupted"
        );
    }
    _ = match dry_run {
        true => writeln!(
            text,
            "nothing was imported (--dry-run): {there_already} requests are in {place} already"
        ),
        false => writeln!(
            text,
            "{new} requests were imported into {place}, {there_already} were there already; the counts are equal"
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> OriginalRequest {
        let time = || OriginalTime("2024-07-12 10:00:00".to_owned());
        let job = |id, name: &str, step, status| OriginalJob {
            id,
            name: name.to_owned(),
            step,
            error: (status > 2).then(|| "no".to_owned()),
            status,
            created: time(),
            completed: None,
        };
        OriginalRequest {
            token: "a1".to_owned(),
            request_token: None,
            action: "remove".to_owned(),
            params: Some(r#"{"id": 333}"#.to_owned()),
            extras: None,
            steps: r#"[{"name": "look", "jobs": ["get"]}, {"name": "delete", "jobs": ["del1", "del2"]}]"#
                .to_owned(),
            step: 1,
            status: 1,
            created: time(),
            completed: None,
            jobs: vec![job(1, "get", 0, 2), job(2, "del1", 1, 4), job(3, "del2", 1, 1), job(4, "del1", 1, 0)],
        }
    }

    fn states(original: &OriginalRequest, rerun: bool) -> Vec<(String, u32, &'static str)> {
        let (_, jobs) = converted(original, rerun, Timestamp::from_micros(0)).expect("it can be imported");
        jobs.into_iter().map(|job| (job.name, job.attempt, job.status.as_str())).collect()
    }

    #[test]
    fn attempts_are_counted_and_interrupted_jobs_fail_or_run_again() {
        let row = |name: &str, attempt, status| (name.to_owned(), attempt, status);
        let wanted = |interrupted| {
            [
                row("get", 1, "completed"),
                row("del1", 1, "retry"),
                row("del2", 1, interrupted),
                row("del1", 2, "new"),
            ]
        };
        assert_eq!(states(&original(), false), wanted("failed"));
        assert_eq!(states(&original(), true), wanted("new"));
        let (request, jobs) =
            converted(&original(), false, Timestamp::from_micros(0)).expect("it can be imported");
        assert_eq!(
            (request.status, request.step, request.params.get()),
            (RequestStatus::Inprogress, 1, r#"{"id": 333}"#)
        );
        assert_eq!((jobs[1].error.as_deref(), jobs[2].error.as_deref()), (Some("no"), Some(INTERRUPTED)));
        // What has ended does not begin again.
        let over = OriginalRequest { status: 3, ..original() };
        assert_eq!(states(&over, true)[2..], [row("del2", 1, "failed"), row("del1", 2, "canceled")]);
    }

    #[test]
    fn a_request_that_was_begun_in_part_is_in_progress() {
        let begun = OriginalRequest {
            status: 0,
            step: 0,
            jobs: original().jobs.into_iter().take(1).collect(),
            ..original()
        };
        let (request, _) = converted(&begun, false, Timestamp::from_micros(0)).expect("it can be imported");
        assert_eq!(request.status, RequestStatus::Inprogress);
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let text = |text: &str| Some(text.to_owned());
        let job = |change: fn(&mut OriginalJob)| {
            let mut original = original();
            change(&mut original.jobs[1]);
            original
        };
        for (original, word) in [
            (OriginalRequest { token: "a b".to_owned(), ..original() }, "token: "),
            (OriginalRequest { steps: "{".to_owned(), ..original() }, "steps: not a list"),
            (
                OriginalRequest { steps: "[]".to_owned(), jobs: Vec::new(), ..original() },
                "/steps must have at least one step",
            ),
            (OriginalRequest { step: 2, ..original() }, "step: 2 is not a place in 2 steps"),
            (OriginalRequest { status: 4, ..original() }, "status: 4 is not one of"),
            (OriginalRequest { params: text("no"), ..original() }, "params: not JSON"),
            (
                OriginalRequest { extras: text(r#"{"a": 1}"#), ..original() },
                "extras: not an object of strings",
            ),
            (
                OriginalRequest { created: OriginalTime("0000-00-00 00:00:00".to_owned()), ..original() },
                "created: `0000",
            ),
            (
                job(|job| job.name = "get".to_owned()),
                "job 2: `get` is not a job of the step `delete` (del1, del2)",
            ),
            (job(|job| job.step = 7), "job 2: step: 7 is not a place"),
            (job(|job| job.status = 9), "job 2: status: 9 is not one of"),
        ] {
            let wrong = converted(&original, false, Timestamp::from_micros(0)).expect_err(word);
            assert!(wrong.iter().any(|why| why.contains(word)), "{word}: {wrong:?}");
        }
    }
}
