//! Two managers as processes of their own, on one database, for one farm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tasker::farm::TaskStatus;
use tasker::store::farm::Farm;

use super::manager::Manager;
use super::rig::{Worker, id, register, task, until};
use super::scheduling::known_task;
use super::server::{Answer, Server};
use crate::store_conformance::ledger::Ledger;

const WORKERS: usize = 60;
const TASKS: u32 = 120;

/// What the Server has acknowledged: the id, the task and the status of each update, in their order.
type Acknowledged = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Has the Server hand out tasks once, and take updates as long as it does not refuse.
fn script(server: &Server, tasks: &[Value], refuses: &Arc<AtomicBool>) -> Acknowledged {
    let acknowledged = Acknowledged::default();
    let (body, refuses, kept) = (json!({"depsgraph": tasks}), refuses.clone(), acknowledged.clone());
    server.answers(move |asked| match asked.call() {
        "depsgraph" if !asked.headers.contains_key("x-flamenco-if-updated-since") => Some(Answer {
            headers: vec![("X-Flamenco-Last-Updated", "then".to_owned())],
            ..Answer::json(&body)
        }),
        "task-update-batch" if refuses.load(Ordering::SeqCst) => Some(Answer::empty(503)),
        "task-update-batch" => {
            let mut kept = kept.lock().expect("no panic");
            for update in asked.json().as_array().into_iter().flatten() {
                let text = |key: &str| update[key].as_str().unwrap_or_default().to_owned();
                kept.push((text("_id"), text("task_id"), update["task_status"].clone()));
            }
            None
        }
        _ => None,
    });
    acknowledged
}

/// By which address each push came, in their order: each manager has its own.
fn pushers(server: &Server) -> Vec<String> {
    server
        .asked("task-update-batch")
        .iter()
        .map(|push| push.headers["host"].split(':').next().unwrap_or_default().to_owned())
        .collect()
}

/// Asks for tasks, each time at another manager, and performs them, until there are no more. Answers which it
/// got.
async fn work(
    worker: Worker,
    urls: [String; 2],
    left: Arc<AtomicUsize>,
    mut turn: usize,
) -> Result<Vec<String>> {
    let mut got = Vec::new();
    let at = |turn: usize| Worker { url: urls[turn % 2].clone(), ..worker.clone() };
    while left.load(Ordering::SeqCst) > 0 {
        turn += 1;
        let (status, body) = at(turn).ask().await?;
        // Nothing to do; or a database that sixty workers keep busy on a busy machine, where they ask again.
        if status == 204 || status == 500 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        ensure!(status == 200, "{status} {body}");
        let task = body["_id"].as_str().context("an id")?.to_owned();
        let report = json!({"task_status": "completed", "activity": "done", "log": "all of it"});
        until("the update", async || {
            let (status, body) = at(turn + 1).post(&format!("tasks/{task}/update"), &report).await?;
            ensure!(status == 204 || status == 500, "{status} {body}");
            Ok((status == 204).then_some(()))
        })
        .await?;
        got.push(task);
        left.fetch_sub(1, Ordering::SeqCst);
    }
    Ok(got)
}

/// Has all workers work until so many tasks are done. Each of the tasks was given to one worker.
async fn perform(workers: &[Worker], urls: [&str; 2], numbers: std::ops::RangeInclusive<u32>) -> Result<()> {
    let (left, urls) = (Arc::new(AtomicUsize::new(numbers.clone().count())), urls.map(str::to_owned));
    let working = workers
        .iter()
        .enumerate()
        .map(|(turn, worker)| work(worker.clone(), urls.clone(), left.clone(), turn));
    let got: Vec<String> = try_join_all(working).await?.into_iter().flatten().collect();
    let expected: BTreeSet<String> = numbers.map(id).collect();
    ensure!(
        got.len() == expected.len() && got.iter().cloned().collect::<BTreeSet<_>>() == expected,
        "{} {got:?}",
        got.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_managers_give_each_task_once_and_one_pushes_until_it_is_killed() -> Result<()> {
    let (ledger, server, logs) = (Ledger::on_mysql().await?, Server::start().await?, tempfile::tempdir()?);
    let farm = Farm::new(ledger.store.clone());
    let refuses = Arc::new(AtomicBool::new(false));
    let tasks: Vec<Value> = (1..=TASKS).map(|number| task(number, &json!({}))).collect();
    let acknowledged = script(&server, &tasks, &refuses);
    let hosts = ["127.0.0.1", "localhost"];
    let mut managers = Vec::new();
    for host in hosts {
        managers.push(Manager::start(&format!(
            "flamenco: {}\ndatabase_url: {}\ntask_logs_path: {}\ntask_update_push_max_interval: 0s",
            server.url.replace("127.0.0.1", host),
            ledger.uri,
            logs.path().display()
        ))?);
    }
    let addresses = [managers[0].url.clone(), managers[1].url.clone()];
    let urls = [&*addresses[0], &*addresses[1]];
    until("the tasks", async || Ok((farm.count_tasks().await? == u64::from(TASKS)).then_some(()))).await?;
    let workers =
        try_join_all((0..WORKERS).map(|number| async move {
            register(urls[number % 2], &format!("w{number}"), &["sleep"]).await
        }))
        .await?;

    perform(&workers, urls, 1..=TASKS).await?;
    until("all updates", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    let before: BTreeSet<String> = pushers(&server).into_iter().collect();
    ensure!(before.len() == 1, "one at a time: {before:?}");
    let pusher = hosts.iter().position(|host| before.contains(*host)).context("a manager")?;

    // What the Server has acknowledged is forgotten before the next push, which is refused.
    refuses.store(true, Ordering::SeqCst);
    let pushes = server.asked("task-update-batch").len();
    server.until_asked("task-update-batch", pushes + 1).await?;
    let more = TASKS + 1..=TASKS + 40;
    farm.download(&more.clone().map(known_task).collect::<Vec<_>>()).await?;
    perform(&workers, urls, more).await?;
    let pushes = server.asked("task-update-batch").len();
    server.until_asked("task-update-batch", pushes + 1).await?;
    managers[pusher].kill()?;
    let alone = pushers(&server).len();
    ensure!(pushers(&server).iter().all(|host| host == hosts[pusher]));
    refuses.store(false, Ordering::SeqCst);
    let last = TASKS + 41..=TASKS + 60;
    farm.download(&last.clone().map(known_task).collect::<Vec<_>>()).await?;
    perform(&workers, [urls[1 - pusher]; 2], last).await?;
    // Once the lease of the other one is over.
    until("all updates of both", async || Ok((farm.count_updates().await? == 0).then_some(()))).await?;
    ensure!(pushers(&server)[alone..].iter().all(|host| host == hosts[1 - pusher]));

    let acknowledged = acknowledged.lock().expect("no panic").clone();
    let ids: BTreeSet<&String> = acknowledged.iter().map(|(id, ..)| id).collect();
    ensure!(ids.len() == acknowledged.len(), "an update that the Server has is not pushed again");
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, task, status) in acknowledged {
        told.entry(task).or_default().push(status);
    }
    ensure!(told.len() == TASKS as usize + 60);
    for (task, statuses) in told {
        ensure!(statuses == [json!("active"), Value::Null, json!("completed")], "{task}: {statuses:?}");
        ensure!(farm.task(task.parse()?).await?.context("the task")?.status == TaskStatus::Completed);
    }
    drop(managers);
    ledger.drop().await
}
