//! The customer's side: posts tasks over HTTP and waits for their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::StatusCode;

use super::figures::{Metrics, Spans};
use super::line::Line;
use crate::client::{Client, Query, RequestQuery, TaskName};
use crate::contract::{Endpoint, Preview, Request, Responses, Submission, Task};
use crate::domain::{Counts, TaskStatus, json};

/// How often the API is asked how far it is.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How long the API may hold a question for the end of a task.
const WAIT: Duration = Duration::from_secs(30);

/// A customer of one API.
#[derive(Debug, Clone)]
pub struct Customer {
    client: Client,
}

impl Customer {
    /// A customer of the API at this base URL.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(url)? })
    }

    /// What it asks the API with.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Posts one task; answers how long that took.
    ///
    /// # Errors
    /// When the answer is not 201.
    pub async fn post(&self, task_type: &str, identifier: &str, payload: &str) -> anyhow::Result<Duration> {
        let mut line = Line::open(&self.client.url(), &format!("/{task_type}")).await?;
        post(&mut line, submission(identifier, payload)?).await
    }

    /// Asks whom a selector chooses, as a dry run; answers how many it chooses, and how long that took.
    ///
    /// # Errors
    /// When the answer is not that of a dry run.
    pub async fn preview(&self, task_type: &str, selector: &str) -> anyhow::Result<(usize, Duration)> {
        let mut line = Line::open(&self.client.url(), &format!("/{task_type}?dry_run=true")).await?;
        let asked =
            Submission { selectors: vec![selector.to_owned()], ..Submission::new("preview".parse()?, None) };
        let body = serde_json::to_string(&asked)?;
        let started = Instant::now();
        let (status, answer) = line.post(body).await?;
        let span = started.elapsed();
        if status != StatusCode::OK {
            bail!("a dry run was answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok((serde_json::from_slice::<Preview>(&answer)?.endpoints.len(), span))
    }

    /// Posts so many tasks named `<prefix>-<number>`, as [`Self::post_each`] does.
    ///
    /// # Errors
    /// As [`Self::post_each`].
    pub async fn post_many(&self, task_type: &str, prefix: &str, load: Load) -> anyhow::Result<Spans> {
        let (payload, prefix) = ("x".repeat(load.payload_bytes), prefix.to_owned());
        self.post_each(&format!("/{task_type}"), load, move |number| {
            submission(&format!("{prefix}-{number}"), &payload)
        })
        .await
    }

    /// Posts so many bodies to a path, so many at a time. With a `rate` a second they are spread evenly, and
    /// the time a post waits for its turn counts as part of its span.
    ///
    /// # Errors
    /// The first that fails ends the bench: a lost submission must not be averaged away.
    pub async fn post_each(
        &self,
        path: &str,
        load: Load,
        body: impl Fn(usize) -> anyhow::Result<String> + Send + Sync + 'static,
    ) -> anyhow::Result<Spans> {
        let (next, body) = (Arc::new(AtomicUsize::new(0)), Arc::new(body));
        let started = Instant::now();
        let workers = (0..load.concurrency.max(1)).map(|_| {
            let (me, next, body, path) = (self.clone(), next.clone(), body.clone(), path.to_owned());
            tokio::spawn(async move {
                let mut line = Line::open(&me.client.url(), &path).await?;
                let mut spans = Spans::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= load.count {
                        return Ok::<_, anyhow::Error>(spans);
                    }
                    let planned =
                        load.rate.map(|rate| started + Duration::from_secs_f64(number as f64 / rate));
                    if let Some(planned) = planned {
                        tokio::time::sleep_until(planned.into()).await;
                    }
                    let span = post(&mut line, body(number)?).await?;
                    spans.push(planned.map_or(span, |planned| planned.elapsed()));
                }
            })
        });
        let mut spans = Spans::default();
        for worker in workers.collect::<Vec<_>>() {
            spans.extend(worker.await??);
        }
        Ok(spans)
    }

    /// Waits until a task has ended.
    ///
    /// # Errors
    /// When it cannot be read, or does not end in time.
    pub async fn wait(&self, task_type: &str, identifier: &str, patience: Duration) -> anyhow::Result<Task> {
        let deadline = Instant::now() + patience;
        let name = TaskName { task_type: Some(task_type.parse()?), id: identifier.to_owned() };
        loop {
            let task = self.client.status(&name, Some(WAIT), Responses::None).await?.task;
            if task.status.is_final() {
                return Ok(task);
            }
            if Instant::now() > deadline {
                bail!("task {identifier} is {} after {patience:?}: {task:?}", task.status.as_str());
            }
        }
    }

    /// All tasks of a type.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list(&self, task_type: &str) -> anyhow::Result<Vec<Task>> {
        let (mut tasks, task_type) = (Vec::new(), task_type.parse()?);
        let mut query = Query { limit: Some(1000), ..Query::default() };
        loop {
            let page = self.client.list(Some(&task_type), &query).await.context("a page of tasks")?;
            tasks.extend(page.tasks);
            if page.next_cursor.is_none() {
                return Ok(tasks);
            }
            query.cursor = page.next_cursor;
        }
    }

    /// All requests, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn requests(&self) -> anyhow::Result<Vec<Request>> {
        let (mut requests, mut query) =
            (Vec::new(), RequestQuery { limit: Some(1000), ..RequestQuery::default() });
        loop {
            let page = self.client.requests(&query).await.context("a page of requests")?;
            requests.extend(page.requests);
            if page.next_cursor.is_none() {
                return Ok(requests);
            }
            query.cursor = page.next_cursor;
        }
    }

    /// The metrics of the API process.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.client.metrics().await?))
    }

    /// How many tasks the API process has brought to this status so far.
    ///
    /// # Errors
    /// When its metrics cannot be read.
    pub async fn moved_to(&self, status: &str) -> anyhow::Result<u64> {
        Ok(self.metrics().await?.count(&format!("tasker_task_moves_total{{status=\"{status}\"}}")))
    }

    /// Waits until so many tasks are `DONE`, or the patience is over; answers how long that took since
    /// `started`.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn until_done(
        &self,
        count: usize,
        started: Instant,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + patience;
        loop {
            let done = self.moved_to("DONE").await?;
            if done >= count as u64 || Instant::now() > deadline {
                return Ok(started.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How often handlers of a type have run.
    ///
    /// # Errors
    /// When that cannot be counted, tasks do not add up, or some are known to have been run twice.
    pub async fn executions(&self, task_type: &str) -> anyhow::Result<u64> {
        let (mut double, mut executions, mut cursor, task_type) = (0, 0, None, task_type.parse()?);
        loop {
            let census = self.client.census(&task_type, None, None, cursor).await.context("a census")?;
            if census.missing > 0 {
                bail!("{} tasks do not add up", census.missing);
            }
            (double, executions) = (double + census.double, executions + census.executions);
            cursor = census.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        if double > 0 {
            bail!("{double} tasks were run twice");
        }
        Ok(executions)
    }

    /// Waits until an endpoint is subscribed to something.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn subscribed(&self, endpoint: &str, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let seen = self.client.endpoints(None, Some(1000), None).await?.endpoints;
            let there =
                |row: &Endpoint| row.name.as_str() == endpoint && row.types.iter().any(|one| one.subscribed);
            if seen.iter().any(there) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("endpoint {endpoint} was not subscribed within {patience:?}")
    }

    /// Waits until the API is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn ready(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.client.ready().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the API at {} was not ready within {patience:?}", self.client.url())
    }
}

/// The body that submits a task.
fn submission(identifier: &str, payload: &str) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Submission::new(identifier.parse()?, Some(json(&payload))))?)
}

async fn post(line: &mut Line, submission: String) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (status, answer) = line.post(submission).await?;
    if status != StatusCode::CREATED {
        bail!("a submission was answered {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(started.elapsed())
}

/// Whether so many endpoints were to perform a task, and each did it without an error.
pub fn is_done_by(task: &Task, endpoints: usize) -> bool {
    let Counts { expected, finished, failed, .. } = task.counts;
    task.status == TaskStatus::Done
        && failed == 0
        && [expected, finished].iter().all(|count| *count as usize == endpoints)
}

/// Checks that so many tasks are in the ledger, each done by one.
///
/// # Errors
/// The first that is not.
pub fn each_is_done(tasks: &[Task], count: usize) -> anyhow::Result<()> {
    if tasks.len() != count {
        bail!("{count} tasks were accepted, the ledger has {}", tasks.len());
    }
    if let Some(task) = tasks.iter().find(|task| !is_done_by(task, 1)) {
        bail!("not every task was done by one, without an error: {task:?}");
    }
    Ok(())
}

/// What to say of tasks that were posted within `posted`, with `posts` a span each, and were done within
/// `done`.
pub fn rates(tasks: &[Task], posted: Duration, posts: &Spans, done: Duration) -> String {
    let rate = |span: Duration| tasks.len() as f64 / span.as_secs_f64();
    let mut latencies = Spans::default();
    for task in tasks {
        latencies.push(task.finished_at.map(|end| end.since(task.start_time)).unwrap_or_default());
    }
    let (post, end_to_end) = (rate(posted), rate(done));
    format!(
        "POST         {post:.0}/s; {posts}\nend to end   {end_to_end:.0}/s; from accepted to DONE {latencies}\n"
    )
}

/// What to post, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Submissions in all.
    pub count: usize,
    /// Posts under way at a time.
    pub concurrency: usize,
    /// Submissions a second; as fast as they go when absent.
    pub rate: Option<f64>,
    /// Length of the payload, a JSON string.
    pub payload_bytes: usize,
}
