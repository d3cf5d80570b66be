//! Posts numbered tasks over HTTP and keeps its own record of what was answered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, QUEUE, TYPE};
use super::platform::PATIENCE;

/// Submissions on their way at once at most.
const IN_FLIGHT: usize = 64;

/// What the identifiers of the loader begin with that posted these.
pub fn prefix_of(taken: &BTreeMap<String, Taken>) -> &str {
    taken.keys().next().and_then(|identifier| identifier.split_once('-')).map_or("", |(prefix, _)| prefix)
}

/// A task that was answered with 201, or with 200 after an answer was lost.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The platform's name for it.
    pub id: String,
    /// The endpoints it names.
    pub endpoints: Vec<String>,
    /// The error number that its handler ends with.
    pub errnr: i64,
    /// Whether one worker performs it.
    pub queued: bool,
}

/// What a loader does.
#[derive(Debug, Clone)]
struct Plan {
    urls: Vec<String>,
    endpoints: Vec<String>,
    /// Whether there are workers.
    queue: bool,
    marks: PathBuf,
    every: Duration,
    prefix: String,
    demand: Arc<Demand>,
}

/// What new tasks ask of those who perform them, besides the usual.
#[derive(Debug, Default)]
struct Demand {
    large: AtomicBool,
    long: AtomicBool,
}

/// Of every so many tasks one has a large answer, while there are some, or takes long.
const LARGE: u64 = 5;
const LONG: u64 = 7;
/// How long such a task takes: longer than a process of [`Fleet::with_short_stop`] may take to stop.
const LONG_SECONDS: f64 = 3.0;

impl Plan {
    /// What a task says is to be done, and the error number that it ends with.
    fn work(&self, number: u64, queued: bool) -> (Value, i64) {
        let (mut payload, errnr) = match number % 8 {
            _ if queued => (json!({"seconds": 0.05}), 0),
            0 => (json!({"do": "retry", "times": 1, "after_ms": 50}), 0),
            1 => (json!({"do": "fail", "errnr": 9}), 9),
            2 => (json!({"do": "ok", "seconds": 0.5}), 0),
            3 | 4 => (json!({"do": "ok", "seconds": 0.05}), 0),
            _ => (json!({"do": "ok"}), 0),
        };
        if self.demand.large.load(Ordering::Relaxed) && number.is_multiple_of(LARGE) && errnr == 0 {
            // Of three, two up to 60 KB and one up to 900 KB.
            let most = if (number / LARGE).is_multiple_of(3) { 880 } else { 40 };
            payload =
                json!({"do": "ok", "seconds": 0.05, "bytes": (20 + number / LARGE * 7919 % most) * 1000});
        }
        if self.demand.long.load(Ordering::Relaxed) && number.is_multiple_of(LONG) {
            payload["seconds"] = json!(LONG_SECONDS);
        }
        payload["mark"] = json!(self.marks);
        (payload, errnr)
    }
}

/// Load on a fleet, from a thread of its own.
pub struct Loader {
    stop: CancellationToken,
    taken: Arc<AtomicU64>,
    demand: Arc<Demand>,
    thread: JoinHandle<anyhow::Result<BTreeMap<String, Taken>>>,
}

impl Loader {
    /// Posts so many tasks a second, by turns to all API processes.
    pub fn start(fleet: &Fleet, per_second: u32) -> Self {
        let demand = Arc::<Demand>::default();
        let plan = Plan {
            demand: demand.clone(),
            urls: fleet.urls(),
            endpoints: fleet.endpoints(),
            queue: !fleet.workers().is_empty(),
            marks: marks(fleet),
            every: Duration::from_secs(1) / per_second,
            prefix: uuid::Uuid::new_v4().simple().to_string(),
        };
        let (stop, taken) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (until, count) = (stop.clone(), taken.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(post_until(plan, until, count))
        });
        Self { stop, taken, demand, thread }
    }

    /// Whether some of the next tasks are to have answers of 20 KB to 900 KB.
    pub fn large(&self, large: bool) {
        self.demand.large.store(large, Ordering::Relaxed);
    }

    /// Whether some of the next tasks are to take longer than a process may take to stop.
    pub fn long(&self, long: bool) {
        self.demand.long.store(long, Ordering::Relaxed);
    }

    /// Tasks that were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Posts nothing new; waits until everything that was begun is answered, and tells what was taken.
    pub fn finish(self, fleet: &mut Fleet) -> anyhow::Result<BTreeMap<String, Taken>> {
        self.stop.cancel();
        fleet.until("every submission is answered", |_| {
            if self.thread.is_finished() { Ok(()) } else { bail!("not yet") }
        })?;
        self.thread.join().map_err(|_| anyhow!("the loader panicked"))?
    }
}

/// The file in which handlers mark what they execute.
pub fn marks(fleet: &Fleet) -> PathBuf {
    fleet.platform.home().join("marks")
}

async fn post_until(
    plan: Plan,
    stop: CancellationToken,
    count: Arc<AtomicU64>,
) -> anyhow::Result<BTreeMap<String, Taken>> {
    let http = tasker::https::client().timeout(Duration::from_secs(5)).build()?;
    let plan = Arc::new(plan);
    let mut ticks = tokio::time::interval(plan.every);
    let (mut posts, mut taken) = (JoinSet::new(), BTreeMap::new());
    let mut number = 0_u64;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if posts.len() >= IN_FLIGHT
            && let Some(done) = posts.join_next().await
        {
            keep(done, &mut taken)?;
        }
        posts.spawn(post(http.clone(), plan.clone(), number));
        number += 1;
        while let Some(done) = posts.try_join_next() {
            keep(done, &mut taken)?;
        }
        count.store(taken.len() as u64, Ordering::Relaxed);
    }
    while let Some(done) = posts.join_next().await {
        keep(done, &mut taken)?;
    }
    Ok(taken)
}

type Answered = anyhow::Result<(String, Taken)>;

fn keep(
    done: Result<Answered, tokio::task::JoinError>,
    taken: &mut BTreeMap<String, Taken>,
) -> anyhow::Result<()> {
    let (identifier, task) = done??;
    taken.insert(identifier, task);
    Ok(())
}

/// Posts until there is an answer that says what became of it: the same identifier, so that a repeat is
/// recognised.
async fn post(http: reqwest::Client, plan: Arc<Plan>, number: u64) -> Answered {
    let identifier = format!("{}-{number}", plan.prefix);
    // Most name their endpoints, so that it is known who must answer; the others go to whoever is subscribed.
    let endpoints = match number % 3 {
        0 => vec![],
        1 => plan.endpoints.clone(),
        _ => vec![plan.endpoints[usize::try_from(number)? % plan.endpoints.len()].clone()],
    };
    let queued = plan.queue && number % 4 == 3;
    let (task_type, endpoints) = if queued { (QUEUE, Vec::new()) } else { (TYPE, endpoints) };
    let (payload, errnr) = plan.work(number, queued);
    let mut body = json!({"identifier": identifier, "payload": payload});
    if !queued {
        body["endpoints"] = json!(endpoints);
    }
    let begin = Instant::now();
    let mut turn = usize::try_from(number)?;
    loop {
        turn += 1;
        let url = format!("{}/{task_type}", plan.urls[turn % plan.urls.len()]);
        let trouble = match attempt(http.post(url).json(&body)).await {
            Ok((200 | 201, task)) => {
                let id = task["id"].as_str().with_context(|| task.to_string())?.to_owned();
                return Ok((identifier, Taken { id, endpoints, errnr, queued }));
            }
            Ok((status @ (429 | 500..), answer)) => format!("{status}: {answer}"),
            Ok((status, answer)) => bail!("{identifier} is refused with {status}: {answer}"),
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > PATIENCE {
            bail!("{identifier} is not taken within {PATIENCE:?}: {trouble}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn attempt(request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}
