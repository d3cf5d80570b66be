//! Judges the whole ledger after everything has come to rest, through the public door and by what the
//! handlers themselves marked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use tasker::broker::{envelope, wire};
use tasker::domain::Command;

use super::fleet::{Fleet, TYPE};
use super::loader::{Taken, marks, prefix_of};
use super::queues::Queues;

/// The endpoint process ended while the attempt ran.
const INTERRUPTED: i64 = 71;
/// The handler asked for another try.
const TRY_AGAIN: i64 = 75;
/// Attempts that the platform of the tests allows.
const ATTEMPTS: i64 = 3;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Tasks in the ledger.
    pub tasks: usize,
    /// Rows of endpoints.
    pub responses: usize,
    /// Executions that began, as handlers have marked on disk before they did anything else.
    pub begun: usize,
    /// Attempts in the ledger.
    pub recorded: usize,
    /// Attempts that the end of their process ended, or that went with their worker.
    pub interrupted: usize,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tasks, responses, begun, recorded, interrupted } = self;
        write!(
            f,
            "{tasks} tasks, {responses} responses, {begun} executions began for {recorded} attempts recorded, {interrupted} of them \
             interrupted, 0 double, 0 missing"
        )
    }
}

/// Waits for rest, then asserts what is promised about every task. Everything that is wrong is said, not only
/// the first.
///
/// # Errors
/// When something was lost, doubled or left over.
pub fn judge(fleet: &mut Fleet, taken: &BTreeMap<String, Taken>) -> anyhow::Result<Verdict> {
    judge_those(fleet, taken, "")
}

/// The same about the tasks of one loader alone.
///
/// # Errors
/// The same.
pub fn judge_one(fleet: &mut Fleet, taken: &BTreeMap<String, Taken>) -> anyhow::Result<Verdict> {
    judge_those(fleet, taken, prefix_of(taken))
}

fn judge_those(fleet: &mut Fleet, taken: &BTreeMap<String, Taken>, prefix: &str) -> anyhow::Result<Verdict> {
    fleet.until("every task has ended", |fleet| {
        for task_type in fleet.queues().iter().map(String::as_str).chain([TYPE]) {
            let (status, page) =
                fleet.get(&format!("/{task_type}?status=CREATED,SENT,INCOMPLETE&limit=5"))?;
            ensure!(status == 200 && page["tasks"] == json!([]), "{status}: {page}");
        }
        Ok(())
    })?;
    let mut ledger = ledger(fleet, prefix)?;
    // `Roller` judges these.
    ledger
        .retain(|body| !body["task"]["identifier"].as_str().is_some_and(|name| name.starts_with("rollout-")));
    for queue in fleet.queues() {
        ledger.extend(ledger_of(fleet, queue, prefix)?);
    }
    let mut marks = Marks::read(&marks(fleet))?;
    let mut wrong = Vec::new();
    let mut verdict = Verdict { tasks: ledger.len(), ..Verdict::default() };
    let known: BTreeMap<&str, &Value> =
        ledger.iter().filter_map(|body| Some((body["task"]["identifier"].as_str()?, body))).collect();
    if known.len() != ledger.len() {
        wrong.push(format!("{} tasks have {} identifiers", ledger.len(), known.len()));
    }
    for identifier in taken.keys().filter(|identifier| !known.contains_key(identifier.as_str())) {
        wrong.push(format!("{identifier} was taken and is not in the ledger"));
    }
    for (identifier, body) in known {
        match taken.get(identifier) {
            Some(task) if task.queued => {
                check_queued(body, task, &mut marks, &mut verdict)
                    .unwrap_or_else(|error| wrong.push(format!("{error:#}: {}", shown(body))));
            }
            Some(task) => check(body, task, &mut marks, &mut verdict)
                .unwrap_or_else(|error| wrong.push(format!("{error:#}: {}", shown(body)))),
            None => wrong.push(format!("{identifier} is in the ledger and nobody was told so")),
        }
    }
    // Those that are left belong to no task, or to one that was not looked at.
    if prefix.is_empty() {
        for (task, executed) in &marks.left {
            wrong.extend(
                executed
                    .keys()
                    .map(|endpoint| format!("{endpoint} executed {task}: it is not in the ledger")),
            );
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} violations, the first of them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    // What the platform says of itself must be the same.
    let url = fleet.urls().into_iter().next().context("there is no API process")?;
    fleet.platform.tasker(&["verify", "--ended", "--api", &url])?;
    Ok(verdict)
}

/// Stops all processes, which gives back what they held, and finds every queue empty of work and of what came
/// of it.
///
/// # Errors
/// When a process does not stop, or a message is left over.
pub fn nothing_is_left(fleet: &mut Fleet) -> anyhow::Result<()> {
    let mut names: Vec<String> = fleet.endpoints().iter().map(|name| format!("it.{TYPE}.{name}")).collect();
    let workers = fleet.workers();
    names.extend(
        fleet.queues().iter().flat_map(|queue| workers.iter().map(move |name| format!("it.{queue}.{name}"))),
    );
    names.extend(["it.responses".to_owned(), "it.dead".to_owned()]);
    fleet.stop()?;
    let platform = &fleet.platform;
    platform.block_on(async {
        let queues = Queues::of(platform).await?;
        for name in names {
            let mut left = queues.drain(&name).await?;
            // The answer to a sign of life that came just before the stop: it is for a session that is over,
            // and no work.
            left.retain(|body| !is_welcome(body));
            let texts: Vec<_> = left.iter().take(5).map(|body| String::from_utf8_lossy(body)).collect();
            ensure!(
                left.is_empty(),
                "{} messages are left in {name}, the first of them: {texts:#?}",
                left.len()
            );
        }
        Ok(())
    })
}

fn is_welcome(body: &[u8]) -> bool {
    let items = envelope::items(&body.to_vec().into());
    items.iter().all(|item| matches!(wire::decode_command(item), Ok(Command::Welcome { .. })))
}

/// All tasks whose identifiers begin so, with their responses.
pub fn ledger(fleet: &Fleet, prefix: &str) -> anyhow::Result<Vec<Value>> {
    ledger_of(fleet, TYPE, prefix)
}

fn ledger_of(fleet: &Fleet, task_type: &str, prefix: &str) -> anyhow::Result<Vec<Value>> {
    let (mut identifiers, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = fleet.get(&format!("/{task_type}?limit=1000&identifier={prefix}{cursor}"))?;
        ensure!(status == 200, "{status}: {page}");
        let tasks = page["tasks"].as_array().context("no page of tasks")?;
        identifiers.extend(tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let http = tasker::https::client().build()?;
    let url = fleet.urls().into_iter().next().context("there is no API process")?;
    let read = |id: String| {
        let request = http.get(format!("{url}/{task_type}/{id}"));
        async move { anyhow::Ok(request.send().await?.error_for_status()?.json().await?) }
    };
    let answers = futures::stream::iter(identifiers.into_iter().map(read)).buffered(8).collect::<Vec<_>>();
    fleet.platform.block_on(answers).into_iter().collect()
}

fn check(body: &Value, taken: &Taken, marks: &mut Marks, verdict: &mut Verdict) -> anyhow::Result<()> {
    let responses = body["taskResponseList"].as_array().context("no responses")?;
    let mut executed = marks.take(&taken.id, verdict);
    let task = &body["task"];
    let count = |name: &str| task[name].as_u64().with_context(|| format!("no {name}"));
    ensure!(task["id"] == *taken.id, "{} was answered", taken.id);
    ensure!(task["status"] == "DONE", "it is not done");
    ensure!(
        count("expected")? == count("finished")? + count("canceled")? + count("expired")?,
        "the counts do not add up"
    );
    ensure!(count("finished")? == count("expected")? && count("expected")? > 0, "somebody did not finish");
    ensure!(responses.len() as u64 == count("expected")?, "{} responses", responses.len());
    let endpoints: BTreeSet<_> =
        responses.iter().filter_map(|response| response["endpoint"].as_str()).collect();
    ensure!(endpoints.len() == responses.len(), "two responses of one endpoint");
    let listed: BTreeSet<_> = taken.endpoints.iter().map(String::as_str).collect();
    ensure!(listed.is_empty() || listed == endpoints, "others answered than were asked");
    let failed = responses.iter().filter(|response| response["errnr"] != 0).count();
    ensure!(failed as u64 == count("failed")?, "{failed} failed");
    for response in responses {
        let endpoint = response["endpoint"].as_str().context("no endpoint")?;
        let executed = executed.remove(endpoint).unwrap_or_default();
        check_attempts(response, taken.errnr, &executed, verdict)
            .with_context(|| format!("{endpoint}, which executed {executed:?}"))?;
    }
    ensure!(executed.is_empty(), "others executed it than were expected: {executed:?}");
    Ok(())
}

/// One worker has performed it, however many had it before. That it went wrong can only be because workers
/// ended while they ran it. Each execution belongs to an attempt of that worker, or went with a lease that is
/// recorded as lost.
fn check_queued(body: &Value, taken: &Taken, marks: &mut Marks, verdict: &mut Verdict) -> anyhow::Result<()> {
    verdict.responses += 1;
    let executed = marks.take(&taken.id, verdict);
    let (task, responses) = (&body["task"], body["taskResponseList"].as_array().context("no responses")?);
    ensure!(task["id"] == *taken.id, "{} was answered", taken.id);
    ensure!(
        task["status"] == "DONE" && task["expected"] == 1 && task["finished"] == 1,
        "it is not done once"
    );
    let [response] = &responses[..] else { bail!("{} responses", responses.len()) };
    ensure!(response["status"] == "FINISHED", "it has not finished");
    ensure!(response["errnr"] == taken.errnr || response["errnr"] == INTERRUPTED, "it failed");
    let (worker, last) = (
        response["endpoint"].as_str().context("no worker")?,
        response["attempt"].as_i64().context("no attempt")?,
    );
    let lost = task["queue"]["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let lost_by = |name: &str| {
        let of = format!("the worker {name} ");
        lost.iter()
            .filter(|attempt| attempt["errmsg"].as_str().is_some_and(|text| text.contains(&of)))
            .count()
    };
    verdict.recorded += lost.len() + usize::try_from(last)?;
    verdict.interrupted +=
        lost.len() + usize::try_from(last)?.saturating_sub(usize::from(response["errnr"] == taken.errnr));
    for (name, attempts) in &executed {
        let lost = lost_by(name);
        for (attempt, times) in attempts {
            ensure!(
                *times <= 1 + lost,
                "attempt {attempt} was executed more than once by {name}, of {executed:?}"
            );
            ensure!(
                lost > 0 || name == worker && (1..=last).contains(attempt),
                "an attempt ran that is not recorded, by {name}, of {executed:?}"
            );
        }
    }
    let ran = executed.get(worker).is_some_and(|attempts| attempts.contains_key(&last));
    ensure!(ran || response["errnr"] == INTERRUPTED, "attempt {last} did not run, only {executed:?}");
    Ok(())
}

/// An answer of the API, without what makes it long.
fn shown(body: &Value) -> String {
    let text = body.to_string();
    match text.char_indices().nth(4000) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// Attempts are numbered without a gap, and each began once: only one that was interrupted may have been
/// ended before the handler began.
fn check_attempts(
    response: &Value,
    errnr: i64,
    executed: &Executed,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    verdict.responses += 1;
    ensure!(response["status"] == "FINISHED", "it has not finished");
    let last = response["attempt"].as_i64().context("no attempt")?;
    let ended = response["errnr"].as_i64().context("no errnr")?;
    let earlier = response["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let mut errnrs = Vec::new();
    for (place, attempt) in earlier.iter().enumerate() {
        ensure!(
            attempt["attempt"].as_i64() == i64::try_from(place + 1).ok(),
            "attempts are not numbered from 1"
        );
        let errnr = attempt["errnr"].as_i64().context("an attempt without errnr")?;
        ensure!(errnr == INTERRUPTED || errnr == TRY_AGAIN, "an attempt that nobody asked to be repeated");
        errnrs.push(errnr);
    }
    errnrs.push(ended);
    ensure!(i64::try_from(errnrs.len()).ok() == Some(last), "the deciding attempt is not the next");
    ensure!(
        ended == errnr || last == ATTEMPTS && [INTERRUPTED, TRY_AGAIN].contains(&ended),
        "it ended with another error number than {errnr}"
    );
    for (number, errnr) in (1..).zip(&errnrs) {
        ensure!(executed.contains_key(&number) || *errnr == INTERRUPTED, "attempt {number} did not run");
    }
    for (number, times) in executed {
        ensure!(*times == 1, "attempt {number} was executed more than once");
        ensure!((1..=last).contains(number), "an attempt ran that is not recorded");
    }
    verdict.recorded += errnrs.len();
    verdict.interrupted += errnrs.iter().filter(|errnr| **errnr == INTERRUPTED).count();
    Ok(())
}

/// What one endpoint executed of a task: how often each attempt began.
type Executed = BTreeMap<i64, usize>;

/// What handlers executed: by task and endpoint, the attempts.
#[derive(Default)]
struct Marks {
    left: BTreeMap<String, BTreeMap<String, Executed>>,
}

impl Marks {
    fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        let mut marks = Self::default();
        for line in fs::read_to_string(path).with_context(|| path.display().to_string())?.lines() {
            let [id, endpoint, attempt] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("no mark: {line}")
            };
            let executed =
                marks.left.entry(id.to_owned()).or_default().entry(endpoint.to_owned()).or_default();
            *executed.entry(attempt.parse()?).or_default() += 1;
        }
        Ok(marks)
    }

    /// All executions of a task that began.
    fn take(&mut self, task: &str, verdict: &mut Verdict) -> BTreeMap<String, Executed> {
        let executed = self.left.remove(task).unwrap_or_default();
        verdict.begun += executed.values().flat_map(Executed::values).sum::<usize>();
        executed
    }
}
