//! The Server or the database is away, and the manager is a process of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tasker::store::farm::Farm;
use tasker_services::Home;
use tokio::time::Instant;

use super::manager::Manager;
use super::rig::{Worker, id, register, send_get, store_at, task, until};
use super::scheduling::known_task;
use super::server::{Answer, Server};
use crate::store_conformance::ledger::Ledger;
use crate::support::clock::Shift;
use crate::support::proxy::Proxy;

/// A worker waits for three seconds; a busy machine may add to the time that the manager takes.
const ANSWERED: Duration = Duration::from_secs(5);

/// Asks, and has to be answered in time.
async fn in_time<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    let begin = Instant::now();
    let answer = asked.await?;
    ensure!(begin.elapsed() < ANSWERED, "{:?}", begin.elapsed());
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_away_and_comes_back() -> Result<()> {
    let (ledger, server) = (Ledger::on_mysql().await?, Server::start().await?);
    let target: reqwest::Url = ledger.uri.parse()?;
    let proxy = Proxy::to(([127, 0, 0, 1], target.port().context("a port")?).into()).await;
    let uri = ledger
        .uri
        .replace(&format!(":{}", target.port().context("a port")?), &format!(":{}", proxy.address().port()));
    let manager = Manager::start(&format!(
        "flamenco: {}\ndatabase_url: {uri}\ntask_update_push_max_interval: 0s",
        server.url
    ))?;
    let farm = Farm::new(ledger.store.clone());
    farm.download(&[known_task(1), known_task(2)]).await?;
    let worker = register(&manager.url, "a", &["sleep"]).await?;
    worker.gets(1).await?;
    for (round, away) in [Proxy::refuse as fn(&Proxy), Proxy::black_hole].into_iter().enumerate() {
        away(&proxy);
        // A worker that runs a task goes on; one that has something to say keeps it, since 500 says so.
        ensure!(in_time(worker.may_run(1)).await? == json!({"may_keep_running": true}));
        ensure!(in_time(worker.ask()).await?.0 == 500);
        ensure!(in_time(worker.update(1, &json!({"activity": "lost"}))).await? == 500);
        let (status, body) = in_time(worker.gives_back(2)).await?;
        ensure!(status == 500 && body.is_object(), "{status} {body}");
        ensure!(in_time(send_get(&manager.url)).await?.0 == 500);
        proxy.pass();
        let activity = format!("round {round}");
        until("the database", async || {
            Ok((worker.update(1, &json!({"activity": activity})).await? == 204).then_some(()))
        })
        .await?;
        server.until_update("what was said then", |update| update["activity"] == activity.as_str()).await?;
    }
    worker.reports(1, "completed").await?;
    worker.performs(2).await?;
    until("all updates", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    for number in [1, 2] {
        let mut told = server
            .updates()
            .into_iter()
            .filter(|update| update["task_id"] == id(number) && update.get("task_status").is_some());
        ensure!(told.next().context("a first")?["task_status"] == "active");
        ensure!(told.next_back().context("a last")?["task_status"] == "completed");
    }
    let log = manager.log()?;
    ensure!(
        log.contains("the manager cannot use its database") || log.contains("could not be answered"),
        "{log}"
    );
    ensure!(!log.contains("panicked"), "{log}");
    drop(manager);
    ledger.drop().await
}

/// Gets a task, brings a long log, and performs it.
async fn perform(worker: &Worker) -> Result<()> {
    let (status, body) = in_time(worker.ask()).await?;
    ensure!(status == 200, "{status} {body}");
    let path = format!("tasks/{}/update", body["_id"].as_str().context("an id")?);
    let log = "a line of the log\n".repeat(200);
    for report in [
        json!({"activity": "rendering", "log": log}),
        json!({"activity": "done", "task_status": "completed"}),
    ] {
        let (status, body) = in_time(worker.post(&path, &report)).await?;
        ensure!(status == 204, "{status} {body}");
    }
    Ok(())
}

/// An hour on the clock, and what a farm of ten workers does in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_away_for_an_hour() -> Result<()> {
    const WORKERS: u32 = 10;
    const EACH: u32 = 15;
    let (server, home) = (Server::start().await?, Home::new("flamenco")?);
    let clock = Shift::new(&home, "clock")?;
    let tasks: Vec<Value> = (1..=WORKERS * EACH).map(|number| task(number, &json!({}))).collect();
    let body = json!({"depsgraph": tasks});
    server.answers(move |asked| (asked.call() == "depsgraph").then(|| Answer::json(&body)));
    let database = format!("sqlite://{}", home.join("flamenco-manager.sqlite").display());
    let settings = format!(
        "flamenco: {}\ntask_update_push_max_count: 500\ndownload_task_sleep: 1h\ndownload_task_recheck_throttle: -1s",
        server.url
    );
    let manager = Manager::start_in(home, &settings, clock.environment.clone())?;
    let farm = Farm::new(store_at(&database).await?);
    until("the tasks", async || Ok((farm.count_tasks().await? == u64::from(WORKERS * EACH)).then_some(())))
        .await?;
    let url = manager.url.as_str();
    let workers = try_join_all(
        (0..WORKERS).map(|number| async move { register(url, &format!("w{number}"), &["sleep"]).await }),
    )
    .await?;
    let perform_each = async |times: u32| {
        try_join_all(workers.iter().map(|worker| async move {
            for _ in 0..times {
                perform(worker).await?;
            }
            anyhow::Ok(())
        }))
        .await
    };
    // It refuses, and after an hour it hangs.
    server.answers(|_| Some(Answer::empty(502)));
    let pushes = server.asked("task-update-batch").len();
    perform_each(EACH - 2).await?;
    clock.set(3600)?;
    server.answers(|_| Some(Answer { after: Duration::from_secs(3600), ..Answer::empty(204) }));
    perform_each(1).await?;
    // The manager looks at the clock of its database now and then.
    let first = farm.updates(1).await?[0].queued_at;
    until("the hour", async || {
        let (status, _) = workers[0].get("status-change").await?;
        ensure!(status == 204);
        let seen = farm.worker(workers[0].id.parse()?).await?.context("the worker")?.last_activity;
        Ok(seen.filter(|seen| seen.since(first) >= Duration::from_secs(3600)))
    })
    .await?;
    server.answers(|_| Some(Answer::empty(502)));
    perform_each(1).await?;
    let waiting = farm.count_updates().await?;
    ensure!(waiting == u64::from(WORKERS * EACH * 4), "{waiting}");
    ensure!(server.asked("task-update-batch").len() - pushes < 100, "it is not asked again and again");
    let peak = manager.peak_mib()?;
    ensure!(peak < 100, "{peak} MiB while updates waited");

    let refused = server.asked("task-update-batch").len();
    server.answers(|_| None);
    until("all updates", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    let pushed: Vec<Vec<Value>> = server.asked("task-update-batch")[refused..]
        .iter()
        .map(|push| push.json().as_array().cloned().unwrap_or_default())
        .collect();
    ensure!(pushed.iter().all(|push| push.len() <= 500));
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut times = Vec::new();
    for update in pushed.into_iter().flatten() {
        times.push(DateTime::parse_from_rfc3339(update["received_on_manager"].as_str().context("a time")?)?);
        told.entry(update["task_id"].as_str().context("a task")?.to_owned())
            .or_default()
            .push(update["task_status"].clone());
    }
    ensure!(times.last().context("a last")?.signed_duration_since(times[0]).num_seconds() >= 3600);
    ensure!(told.len() == (WORKERS * EACH) as usize);
    for (task, statuses) in told {
        ensure!(
            statuses == [json!("active"), Value::Null, Value::Null, json!("completed")],
            "{task}: {statuses:?}"
        );
    }
    let peak = manager.peak_mib()?;
    ensure!(peak < 100, "{peak} MiB at the end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_while_the_server_hangs_and_keeps_what_was_not_taken() -> Result<()> {
    let server = Server::start().await?;
    server.answers(|_| Some(Answer { after: Duration::from_secs(3600), ..Answer::empty(204) }));
    let mut manager = Manager::start(&format!("flamenco: {}", server.url))?;
    let farm = Farm::new(
        store_at(&format!("sqlite://{}", manager.home.join("flamenco-manager.sqlite").display())).await?,
    );
    farm.download(&[known_task(1)]).await?;
    let worker = register(&manager.url, "a", &["sleep"]).await?;
    worker.gets(1).await?;
    server.until_asked("task-update-batch", 1).await?;
    manager.stop()?;
    ensure!(farm.count_updates().await? == 2);
    server.answers(|_| None);
    manager.restart()?;
    worker.reports(1, "completed").await?;
    until("all updates", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    let told: Vec<_> = server
        .updates()
        .into_iter()
        .filter_map(|update| update["task_status"].as_str().map(str::to_owned))
        .collect();
    ensure!(told == ["active", "completed"], "{told:?}");
    Ok(())
}
