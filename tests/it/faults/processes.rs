//! Processes are killed: between every two steps, and at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::DateTime;
use futures::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker::failpoint::{self, Failpoint};
use tokio_util::sync::CancellationToken;

use super::{all_is_accounted_for, load_for};
use crate::security::orders::ORDER_FAILPOINTS;
use crate::support::fleet::{API_FAILPOINTS, ENDPOINT_FAILPOINTS, Fleet, QUEUE, TYPE};
use crate::support::loader::{Loader, Taken, marks};
use crate::support::platform::Platform;
use crate::support::roller::{Pace, Rolled, Roller};

/// Between which steps an API process can be killed that has work queues and schedules.
const QUEUE_FAILPOINTS: [Failpoint; 3] =
    [failpoint::DISPATCHER_GIVEN, failpoint::SUCCESSORS_QUEUED, failpoint::SCHEDULER_SUBMITTED];

/// Between which steps an API process can be killed that moves requests on.
const REQUEST_FAILPOINTS: [Failpoint; 1] = [failpoint::ADVANCER_MOVED];

/// Between which steps an API process can be killed that moves rollouts on.
const ROLLOUT_FAILPOINTS: [Failpoint; 3] =
    [failpoint::ROLLOUT_DECIDED, failpoint::ROLLOUT_COMMITTED, failpoint::ROLLOUT_PUBLISHED];

/// Between which steps one can be killed that takes tasks of a rollout back.
const WITHDRAWAL_FAILPOINTS: [Failpoint; 1] = [failpoint::ROLLOUT_WITHDRAWN];

/// The type of the tasks that follow those of [`QUEUE`].
const AFTER: &str = "after";

#[test]
fn every_failpoint_ends_a_process_in_a_test() {
    let killed = API_FAILPOINTS
        .iter()
        .chain(&ENDPOINT_FAILPOINTS)
        .chain(&QUEUE_FAILPOINTS)
        .chain(&REQUEST_FAILPOINTS)
        .chain(&ROLLOUT_FAILPOINTS);
    let killed = killed.chain(&WITHDRAWAL_FAILPOINTS).chain(&ORDER_FAILPOINTS);
    let killed: BTreeSet<&str> = killed.map(|point| point.name()).collect();
    let missed = failpoint::ALL.iter().filter(|point| !killed.contains(point.name()));
    let missed: Vec<_> = missed.map(|point| format!("{}: {}", point.name(), point.after())).collect();
    assert!(missed.is_empty(), "no test kills a process at these: {missed:#?}");
}

/// Gives a process a life for each of the failpoints, and again, so that it dies at one of these times.
fn dies_at_each_of(
    fleet: &mut Fleet,
    name: &str,
    failpoints: &[Failpoint],
    times: [u32; 2],
) -> anyhow::Result<()> {
    let deaths = times.into_iter().flat_map(|time| failpoints.iter().map(move |point| (*point, time)));
    fleet.arm(name, deaths)?;
    fleet.until_lives_are_spent()
}

/// The same under load, and what became of the tasks.
fn dies_under_load(name: &str, failpoints: &[Failpoint]) -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 40);
    dies_at_each_of(&mut fleet, name, failpoints, [10, 2])?;
    load_for(&mut fleet, &loader, 60)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

#[test]
fn an_api_process_dies_between_every_two_steps() -> anyhow::Result<()> {
    dies_under_load("api1", &API_FAILPOINTS)
}

#[test]
fn an_endpoint_dies_between_every_two_steps() -> anyhow::Result<()> {
    dies_under_load("console1", &ENDPOINT_FAILPOINTS)
}

/// Tasks come from clients and, each second, from a schedule; a limit makes all of them wait for the
/// dispatcher, and each has a successor. There must be one task for each second, and one successor for each
/// task.
#[test]
fn an_api_process_dies_between_every_two_steps_of_a_queue() -> anyhow::Result<()> {
    let limited =
        json!({"name": QUEUE, "delivery": "queue", "attempts": 100, "max_running": 4, "then": AFTER});
    let after = json!({"name": AFTER, "delivery": "queue", "attempts": 100});
    let fleet = Fleet::with_queues(Platform::idle()?, vec![limited, after])?;
    let payload = json!({"seconds": 0, "mark": marks(&fleet)}).to_string();
    let tick =
        json!({"name": "tick", "type": QUEUE, "cron": "* * * * * *", "missed": "all", "payload": payload});
    let schedule = |fleet: &Fleet, schedules: Value| {
        fleet.configure(|config| {
            config["schedules"] = schedules;
            Ok(())
        })
    };
    schedule(&fleet, json!([tick]))?;
    let mut fleet = fleet.with_processes()?;
    let loader = Loader::start(&fleet, 20);
    dies_at_each_of(&mut fleet, "api1", &QUEUE_FAILPOINTS, [3, 1])?;
    load_for(&mut fleet, &loader, 60)?;
    let mut taken = loader.finish(&mut fleet)?;
    // A schedule that goes on would never let the ledger come to rest.
    schedule(&fleet, json!([]))?;
    for name in ["api1", "api2"] {
        fleet.ask(name, Signal::TERM)?;
        fleet.until_left(name)?;
    }
    fleet.ready()?;
    taken.extend(scheduled(&fleet)?);
    let queued: Vec<String> = taken.values().filter(|task| task.queued).map(|task| task.id.clone()).collect();
    for before in queued {
        let identifier = format!("after-{before}");
        let successor = fleet.until("the task has a successor", |fleet| {
            let (status, body) = fleet.get(&format!("/{AFTER}/{identifier}"))?;
            ensure!(status == 200, "{before} has none: {status}: {body}");
            performed_by_worker(&body["task"])
        })?;
        taken.insert(identifier, successor);
    }
    all_is_accounted_for(fleet, &taken)
}

/// What a producer does with the database.
fn produce(fleet: &Fleet, statement: String) -> anyhow::Result<()> {
    fleet.platform.block_on(async {
        let mut producer = MySqlConnection::connect(&fleet.platform.database()).await?;
        producer.execute(AssertSqlSafe(statement)).await?;
        Ok(producer.close().await?)
    })
}

/// A producer inserts requests with SQL. Each must complete, each of its jobs run once.
#[test]
fn an_api_process_dies_between_every_two_steps_of_requests() -> anyhow::Result<()> {
    const REQUESTS: usize = 40;
    let fleet = Fleet::with_queue(Platform::idle()?)?;
    let job = json!({"type": QUEUE, "payload": json!({"seconds": 0, "mark": marks(&fleet)}).to_string()});
    let jobs = ["first", "a", "b", "c", "last"];
    fleet.configure(|config| {
        config["requests"] = json!({"jobs": jobs.iter().map(|name| ((*name).to_owned(), job.clone())).collect::<serde_json::Map<_, _>>()});
        Ok(())
    })?;
    let mut fleet = fleet.with_processes()?;
    let insert = |from: usize| {
        let steps = r#"[{"name": "1", "jobs": ["first"]}, {"name": "2", "jobs": ["a", "b", "c"]}, {"name": "3", "jobs": ["last"]}]"#;
        let row = |at: usize| format!("('r{at}', 'x', 'go', '{{}}', '{steps}')");
        let rows: Vec<String> = (from..from + REQUESTS).map(row).collect();
        format!(
            "INSERT INTO requests (token, request_token, action, params, steps) VALUES {}",
            rows.join(", ")
        )
    };
    produce(&fleet, insert(0))?;
    dies_at_each_of(&mut fleet, "api1", &REQUEST_FAILPOINTS, [3, 1])?;
    fleet.ready()?;
    // While no process moves them on, producers do not wait.
    for name in ["api1", "api2"] {
        fleet.ask(name, Signal::TERM)?;
        fleet.until_left(name)?;
    }
    produce(&fleet, insert(REQUESTS))?;
    fleet.ready()?;
    let database = tasker::config::Database {
        verbose: false,
        uri: tasker::config::Secret::new(fleet.platform.database()),
        max_connections: 2,
    };
    let store = fleet.platform.block_on(async { tasker::store::open(&database) })?;
    let mut taken = BTreeMap::new();
    for at in 0..2 * REQUESTS {
        let token = format!("r{at}").parse()?;
        let request = fleet.until("the request completes", |fleet| {
            let request = fleet.platform.block_on(store.request(&token))?.context("it is gone")?;
            ensure!(request.status == tasker::domain::RequestStatus::Completed, "{request:?}");
            Ok(request)
        })?;
        ensure!(request.step == 2 && request.error.is_none(), "{request:?}");
        let done = fleet.platform.block_on(store.jobs(&token))?;
        let names: Vec<&str> = done.iter().map(|job| job.name.as_str()).collect();
        ensure!(names == jobs && done.iter().all(|job| job.attempt == 1), "{done:?}");
        for job in done {
            let identifier = format!("{token}.{}.{}.1", job.step, job.name);
            let id = job.task_id.context("no task")?.to_string();
            taken.insert(identifier, Taken { id, endpoints: Vec::new(), errnr: 0, queued: true });
        }
    }
    fleet.platform.block_on(store.close());
    all_is_accounted_for(fleet, &taken)
}

/// The tasks that the schedule submitted: one for each second from the first to the last.
fn scheduled(fleet: &Fleet) -> anyhow::Result<BTreeMap<String, Taken>> {
    let (_, page) = fleet.get(&format!("/{QUEUE}?limit=1000&identifier=tick-"))?;
    let (mut seconds, mut taken) = (BTreeSet::new(), BTreeMap::new());
    for task in page["tasks"].as_array().with_context(|| page.to_string())? {
        let identifier = task["identifier"].as_str().context("a name")?;
        let time = DateTime::parse_from_rfc3339(identifier.trim_start_matches("tick-"))?;
        ensure!(seconds.insert(time.timestamp()), "two tasks for {time}");
        taken.insert(identifier.to_owned(), performed_by_worker(task)?);
    }
    let (first, last) =
        (seconds.first().context("the schedule submitted nothing")?, seconds.last().context("no last")?);
    ensure!(
        i64::try_from(seconds.len())? == last - first + 1,
        "a second from {first} to {last} has no task: {seconds:?}"
    );
    Ok(taken)
}

/// A task of a work queue that succeeds.
fn performed_by_worker(task: &Value) -> anyhow::Result<Taken> {
    let id = task["id"].as_str().with_context(|| task.to_string())?.to_owned();
    Ok(Taken { id, endpoints: Vec::new(), errnr: 0, queued: true })
}

/// Kills one of these again and again, after a random time each.
fn killed_at_random(names: &[&str], seed: u64) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::with_workers(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 30);
    for _ in 0..6 {
        fleet.pass(Duration::from_millis(random.u64(300..2000)))?;
        fleet.kill(names[random.usize(..names.len())])?;
    }
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken).with_context(|| format!("seed {seed}"))
}

#[test]
fn api_processes_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["api1", "api2"], 3)
}

#[test]
fn workers_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["worker1", "worker2"], 5)
}

#[test]
fn endpoints_die_at_any_time() -> anyhow::Result<()> {
    killed_at_random(&["console1", "console2"], 4)
}

/// A process dies before it tells endpoints of withdrawals. An endpoint is frozen now and then: otherwise it
/// would have received most tasks by the time that their rollout pauses. It is thawed before its silence
/// counts.
fn dies_when_it_withdraws(fleet: &mut Fleet) -> anyhow::Result<()> {
    fleet.arm("api1", [2, 1].map(|time| (WITHDRAWAL_FAILPOINTS[0], time)))?;
    fleet.tend()?;
    for _ in 0..40 {
        if fleet.lives().is_empty() {
            break;
        }
        fleet.freeze("console2")?;
        fleet.pass(Duration::from_secs(1))?;
        fleet.thaw("console2")?;
        fleet.pass(Duration::from_secs(1))?;
    }
    fleet.until_lives_are_spent()
}

/// Rollouts of two waves each over the endpoints, one after the other for as long as a process is to die.
/// Some are paused at once, so that what was just sent is taken back. Each must be done, and each endpoint
/// has run its task once, however often the process dies that moves them.
#[test]
fn an_api_process_dies_between_every_two_steps_of_rollouts() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let (urls, mark, stop) = (fleet.urls(), marks(&fleet), CancellationToken::new());
    let (told, executed) = (stop.clone(), mark.clone());
    let submitter = std::thread::spawn(move || -> anyhow::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = tasker::https::client().timeout(Duration::from_secs(5)).build()?;
        runtime.block_on(async {
            let act = async |url: &str, n: usize, action: &str| {
                let answer = http.post(format!("{url}/rollouts/r{n}/{action}")).json(&json!({})).send().await;
                answer.ok().map(|answer| answer.status())
            };
            let mut count = 0;
            while !told.is_cancelled() {
                let document = json!({
                    "identifier": format!("r{count}"), "type": TYPE, "payload": {"do": "ok", "mark": mark.with_extension(count.to_string())}, "lane": format!("lane{}", count % 3),
                    "targets": {"max_absent": "none"}, "waves": [1, "rest"],
                    // A process that dies publishes late, and a slow machine is no reason to halt.
                    "receive_within": "2m",
                });
                // One that got no answer is submitted again.
                for url in &urls {
                    let answer = http.post(format!("{url}/rollouts")).json(&document).send().await;
                    if answer.is_ok_and(|answer| answer.status().is_success()) {
                        // It can be paused as soon as it runs. What a death takes of this is made up for
                        // below.
                        for _ in 0..20 {
                            if count % 2 == 0 || act(url, count, "pause").await.is_none_or(|status| status.is_success()) {
                                break;
                            }
                        }
                        if count % 2 == 1 {
                            act(url, count, "resume").await;
                        }
                        count += 1;
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            for n in 0..count {
                while !join_all(urls.iter().map(|url| act(url, n, "resume"))).await.into_iter().flatten().any(|status| status.as_u16() < 500) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Ok(count)
        })
    });
    let died = dies_at_each_of(&mut fleet, "api1", &ROLLOUT_FAILPOINTS, [2, 1])
        .and_then(|()| dies_when_it_withdraws(&mut fleet));
    stop.cancel();
    let count = submitter.join().map_err(|_| anyhow::anyhow!("the submitter panicked"))??;
    died?;
    for n in 0..count {
        fleet.until("the rollout is done", |fleet| {
            let (status, rollout) = fleet.get(&format!("/rollouts/r{n}"))?;
            ensure!(status == 200 && rollout["status"] == "DONE", "{status}: {rollout}");
            Ok(())
        })?;
        let (_, targets) = fleet.get(&format!("/rollouts/r{n}/targets"))?;
        let targets = targets["targets"].as_array().context("targets")?;
        ensure!(targets.len() == 2 && targets.iter().all(|target| target["state"] == "OK"), "{targets:?}");
        ensure!(n % 2 == 1 || targets.iter().all(|target| target["round"] == 1), "{targets:?}");
        let executions = std::fs::read_to_string(executed.with_extension(n.to_string()))?;
        ensure!(executions.lines().count() == 2, "each endpoint once: {executions}");
    }
    fleet.stop()
}

/// A hundred rollouts at once, moved by two processes of which one is killed again and again: the other one
/// goes on.
#[test]
fn an_api_process_dies_in_the_midst_of_a_hundred_rollouts() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let roller = Roller::start(&fleet, Pace { every: Duration::ZERO, most: 100, lanes: 100 });
    for _ in 0..5 {
        fleet.pass(Duration::from_secs(1))?;
        fleet.kill("api1")?;
    }
    roller.until_submitted(&mut fleet)?;
    let rolled = roller.finish(&mut fleet)?;
    let once = Rolled { rollouts: 100, targets: [("OK".to_owned(), 200)].into(), executions: 200 };
    ensure!(rolled == once, "{rolled:?}");
    fleet.stop()
}

/// From the death of the process that has started most of a wave until another one starts the next endpoint.
/// What it has recorded and not published waits for its lease; everything else only until another process
/// looks.
#[test]
fn another_api_process_takes_a_rollout_over() -> anyhow::Result<()> {
    let mut fleet = Fleet::usual(Platform::idle()?)?;
    let more: Vec<String> = (3..=8).map(|n| format!("console{n}")).collect();
    for name in &more {
        fleet.start_endpoint(name, &[])?;
    }
    fleet.ready()?;
    let mark = marks(&fleet);
    let mut took = Vec::new();
    for n in 0..4 {
        let (name, mark) = (format!("over{n}"), mark.with_extension(n.to_string()));
        let document = json!({
            "identifier": name, "type": TYPE, "payload": {"do": "ok", "seconds": 0.2, "mark": mark}, "waves": ["rest"],
            "window": 1, "targets": {"max_absent": "none"}, "receive_within": "2m",
        });
        let (_, before) = fleet.foremost(ADMITTED)?;
        let (status, answer) = fleet.platform.block_on(post(&fleet.urls()[0], "/rollouts", &document))?;
        ensure!(status == 201, "{status}: {answer}");
        let leader = fleet.until("it is amid its wave", |fleet| {
            let (leader, started) = fleet.foremost(ADMITTED)?;
            ensure!(started >= before + 3, "{} of 8 were started", started - before);
            Ok(leader)
        })?;
        fleet.kill(&leader)?;
        let killed = chrono::Utc::now();
        // Nobody starts it again meanwhile.
        let deadline = std::time::Instant::now() + TAKEN_OVER;
        let next = loop {
            if let Some(next) = started_after(&fleet, &name, killed)? {
                break next;
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "{leader} was killed, and no other went on with {name} within {TAKEN_OVER:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        took.push((next - killed).to_std()?);
        fleet.until("it is done", |fleet| {
            let (status, rollout) = fleet.get(&format!("/rollouts/{name}"))?;
            ensure!(status == 200 && rollout["status"] == "DONE", "{status}: {rollout}");
            Ok(())
        })?;
        let executions = std::fs::read_to_string(&mark)?;
        ensure!(executions.lines().count() == 8, "each endpoint once: {executions}");
        fleet.ready()?;
    }
    println!("from the death of a process to the next endpoint that another starts: {took:?}");
    ensure!(took.iter().all(|took| *took < TAKEN_OVER), "{took:?}");
    fleet.stop()
}

/// Counts the endpoints that an API process has started in rollouts.
const ADMITTED: &str = "tasker_rollout_admitted_total";
/// The lease of a batch that was not published (5 s), a look of another process, and what a busy machine takes.
const TAKEN_OVER: Duration = Duration::from_secs(10);

async fn post(url: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let http = tasker::https::client().timeout(Duration::from_secs(20)).build()?;
    let answer = http.post(format!("{url}{path}")).json(body).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// When the first endpoint of a rollout was started after a time; none before that.
fn started_after(
    fleet: &Fleet,
    rollout: &str,
    time: DateTime<chrono::Utc>,
) -> anyhow::Result<Option<DateTime<chrono::Utc>>> {
    let (status, page) = fleet.get(&format!("/{TYPE}?limit=1000"))?;
    ensure!(status == 200, "{status}: {page}");
    let prefix = format!("rollout-{rollout}-w");
    let mut first = None;
    for task in page["tasks"].as_array().context("tasks")? {
        if task["identifier"].as_str().is_some_and(|identifier| identifier.starts_with(&prefix)) {
            let began: DateTime<chrono::Utc> = task["start_time"].as_str().context("a time")?.parse()?;
            first = first.into_iter().chain((began > time).then_some(began)).min();
        }
    }
    Ok(first)
}

/// A hundred open rollouts on four API processes: all end, and none waits long for its next wave.
#[test]
fn four_api_processes_move_a_hundred_rollouts() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    for name in ["api1", "api2", "api3", "api4"] {
        fleet.start_api(name, &[])?;
    }
    for n in 1..=4 {
        fleet.start_endpoint(&format!("console{n}"), &[])?;
    }
    fleet.ready()?;
    let roller = Roller::start(&fleet, Pace { every: Duration::ZERO, most: 100, lanes: 100 });
    roller.until_submitted(&mut fleet)?;
    let rolled = roller.finish(&mut fleet)?;
    let once = Rolled { rollouts: 100, targets: [("OK".to_owned(), 400)].into(), executions: 400 };
    ensure!(rolled == once, "{rolled:?}");
    let mut within = BTreeMap::<String, u64>::new();
    for text in fleet.metrics()? {
        for line in
            text.lines().filter_map(|line| line.strip_prefix("tasker_rollout_advance_seconds_bucket{le=\""))
        {
            let (bound, count) = line.split_once("\"} ").context("a bucket")?;
            *within.entry(bound.to_owned()).or_default() += count.parse::<u64>()?;
        }
    }
    println!(
        "from the last answer of a wave in the ledger to the publish of the next, rollouts within seconds: {within:?}"
    );
    let seen = within.get("+Inf").copied().unwrap_or_default();
    ensure!((1..=100).contains(&seen), "each has one next wave: {within:?}");
    fleet.stop()
}
