//! Which worker gets which task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tasker::farm::TaskStatus;
use tokio::time::Instant;

use super::rig::{JOB, Rig, id, task, until};
use super::server::Answer;

#[tokio::test]
async fn c10_a_worker_without_types_gets_406() -> Result<()> {
    let rig = Rig::start().await?;
    ensure!(rig.worker("a", &[]).await?.ask().await?.0 == 406);
    Ok(())
}

#[tokio::test]
async fn c11_an_idle_worker_has_tasks_fetched_now_and_then() -> Result<()> {
    for (throttle, expected) in [("10s", 2), ("-1s", 1)] {
        let rig = Rig::with(&format!("download_task_recheck_throttle: {throttle}"), |_| ()).await?;
        let worker = rig.worker("a", &["sleep"]).await?;
        rig.server.until_asked("depsgraph", 1).await?;
        for _ in 0..5 {
            ensure!(worker.ask().await?.0 == 204);
        }
        rig.server.until_asked("depsgraph", expected).await?;
        ensure!(worker.ask().await?.0 == 204);
        ensure!(rig.server.asked("depsgraph").len() == expected);
    }
    Ok(())
}

#[tokio::test]
async fn c12_tasks_come_in_the_order_of_their_priorities() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    let of = |number, job, own| task(number, &json!({"job_priority": job, "priority": own}));
    rig.tasks(&[of(1, 10, 50), of(3, 10, 90), of(2, 10, 90), of(9, 20, 1)]).await?;
    for number in [9, 2, 3, 1] {
        worker.performs(number).await?;
    }
    ensure!(worker.ask().await?.0 == 204);
    Ok(())
}

#[tokio::test]
async fn c13_tasks_of_other_types_are_left_out() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep", "blender-render"]).await?);
    rig.tasks(&[task(1, &json!({"task_type": "blender-render"}))]).await?;
    ensure!(a.ask().await?.0 == 204);
    b.gets(1).await?;
    Ok(())
}

#[tokio::test]
async fn no_worker_starves_behind_tasks_of_another_type() -> Result<()> {
    let rig = Rig::start().await?;
    let mut tasks: Vec<_> = (1..2000).map(|number| task(number, &json!({"job_priority": 90}))).collect();
    tasks.push(task(5000, &json!({"task_type": "rare", "job_priority": 1})));
    rig.tasks(&tasks).await?;
    rig.worker("a", &["rare"]).await?.gets(5000).await?;
    Ok(())
}

#[tokio::test]
async fn c14_children_wait_for_their_parents() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["child"]).await?);
    let child = |number: u32, parents: &[u32]| {
        let parents: Vec<_> = parents.iter().map(|parent| id(*parent)).collect();
        task(number, &json!({"task_type": "child", "parents": parents}))
    };
    rig.tasks(&[task(1, &json!({"status": "completed"})), task(2, &json!({})), child(3, &[1, 2])]).await?;
    ensure!(b.ask().await?.0 == 204);
    a.gets(2).await?;
    ensure!(b.ask().await?.0 == 204);
    a.reports(2, "completed").await?;
    b.performs(3).await?;
    // A parent that nobody knows counts as completed; one that comes later does not.
    rig.tasks(&[child(5, &[77])]).await?;
    b.performs(5).await?;
    rig.tasks(&[child(6, &[78])]).await?;
    rig.tasks(&[task(78, &json!({"status": "paused"}))]).await?;
    ensure!(b.ask().await?.0 == 204);
    Ok(())
}

#[tokio::test]
async fn c15_asks_the_server_whether_a_task_has_changed() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[
        task(1, &json!({"_etag": "aa11"})),
        task(2, &json!({"job_type": "manager-local", "job_priority": 1})),
    ])
    .await?;
    worker.performs(1).await?;
    let asked = rig.server.asked("tasks");
    ensure!(
        asked.len() == 1 && asked[0].path.ends_with(&id(1)) && asked[0].headers["if-none-match"] == "aa11",
        "{asked:?}"
    );
    // The Server knows nothing of what was made here.
    worker.performs(2).await?;
    ensure!(rig.server.asked("tasks").len() == 1);
    rig.server.until_update("the end of the first", |update| update["task_status"] == "completed").await?;
    ensure!(rig.server.updates().iter().all(|update| update["task_id"] == id(1)));
    Ok(())
}

#[tokio::test]
async fn c16_a_task_that_has_changed_is_not_handed_out() -> Result<()> {
    for (status, expected) in
        [(200, TaskStatus::Canceled), (404, TaskStatus::Canceled), (204, TaskStatus::Canceled)]
    {
        let rig = Rig::start().await?;
        let worker = rig.worker("a", &["sleep"]).await?;
        rig.tasks(&[task(1, &json!({})), task(2, &json!({}))]).await?;
        rig.server.answers(move |asked| {
            let body = task(1, &json!({"status": "canceled", "_etag": "new"}));
            let answer = if status == 200 { Answer::json(&body) } else { Answer::empty(status) };
            (asked.call() == "tasks" && asked.path.ends_with(&id(1))).then_some(answer)
        });
        worker.gets(2).await?;
        ensure!(rig.status(1).await? == expected, "{status}");
        ensure!(rig.server.updates().iter().all(|update| update["task_id"] != id(1)));
    }
    Ok(())
}

#[tokio::test]
async fn c17_a_server_that_is_away_or_hangs_keeps_no_worker_waiting() -> Result<()> {
    let rig = Rig::with("", |settings| {
        // The real limits.
        settings.times.check = tasker::flamenco::Times::default().check;
    })
    .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({})), task(2, &json!({}))]).await?;
    rig.server.answers(|asked| (asked.call() == "tasks").then(|| Answer::empty(500)));
    worker.performs(1).await?;
    rig.server.answers(|asked| {
        (asked.call() == "tasks").then(|| Answer { after: Duration::from_secs(10), ..Answer::empty(304) })
    });
    let asked = Instant::now();
    worker.gets(2).await?;
    ensure!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    // Others are not kept waiting either.
    let asked = Instant::now();
    ensure!(rig.worker("b", &["sleep"]).await?.ask().await?.0 == 204);
    ensure!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn c17_a_server_that_refuses_connections_keeps_no_task_back() -> Result<()> {
    let rig = Rig::with("", |settings| settings.server = "http://127.0.0.1:1/".parse().expect("an address"))
        .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.farm.download(&[known_task(1)]).await?;
    worker.performs(1).await
}

/// A task that came before the Server went away.
pub fn known_task(number: u32) -> tasker::farm::Task {
    tasker::farm::Task {
        etag: "e".into(),
        job: JOB.parse().ok(),
        name: format!("task {number}"),
        last_updated: Some(tasker::clock::Clock::system().now()),
        ..tasker::farm::Task::new(id(number).parse().expect("an id"), "sleep", "sleep")
    }
}

#[tokio::test]
async fn c18_a_server_that_changes_everything_is_asked_three_times() -> Result<()> {
    let rig = Rig::with("cancel_task_fetch_max_interval: 1h", |settings| {
        settings.push_interval = Duration::from_secs(3600)
    })
    .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    let pushes = rig.server.until_asked("task-update-batch", 1).await?.len();
    let downloads = rig.server.asked("depsgraph").len();
    let version = AtomicUsize::new(0);
    rig.server.answers(move |asked| {
        let etag = format!("v{}", version.fetch_add(1, Ordering::SeqCst));
        (asked.call() == "tasks").then(|| Answer::json(&task(1, &json!({"_etag": etag}))))
    });
    ensure!(worker.ask().await?.0 == 204);
    ensure!(rig.server.asked("tasks").len() == 3);
    rig.server.until_asked("task-update-batch", pushes + 1).await?;
    rig.server.until_asked("depsgraph", downloads + 1).await?;
    Ok(())
}

#[tokio::test]
async fn c19_c20_assignment() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    let got = worker.gets(1).await?;
    ensure!(got["status"] == "active" && got["_etag"] == "etag1" && got["job"] == JOB, "{got}");
    for internal in ["worker_id", "last_worker_ping", "last_updated"] {
        ensure!(got.get(internal).is_none(), "{got}");
    }
    let kept = rig.task(1).await?;
    ensure!(
        kept.status == TaskStatus::Active && kept.worker == "a" && kept.worker_id == worker.id.parse().ok()
    );
    ensure!(rig.record(&worker).await?.current_task == Some(kept.id));
    rig.server.until_update("the assignment", |update| update["activity"].is_string()).await?;
    let updates = rig.server.updates();
    ensure!(
        updates.len() == 2 && updates[0]["task_status"] == "active" && updates[0]["worker"] == "",
        "{updates:?}"
    );
    ensure!(updates[1].get("task_status").is_none() && updates[1]["log_tail"].is_string(), "{updates:?}");
    // The same again, whatever else there is.
    rig.tasks(&[task(2, &json!({"job_priority": 99}))]).await?;
    worker.gets(1).await?;
    ensure!(rig.status(2).await? == TaskStatus::ClaimedByManager);
    Ok(())
}

#[tokio::test]
async fn c21_one_task_goes_to_one_of_twenty() -> Result<()> {
    let rig = Arc::new(Rig::start().await?);
    rig.tasks(&[task(1, &json!({}))]).await?;
    let mut asking = Vec::new();
    for number in 0..20 {
        let worker = rig.worker(&format!("w{number}"), &["sleep"]).await?;
        asking.push(tokio::spawn(async move { worker.ask().await }));
    }
    let mut statuses = Vec::new();
    for asked in asking {
        statuses.push(asked.await??.0);
    }
    statuses.sort_unstable();
    ensure!(statuses[0] == 200 && statuses[1..].iter().all(|status| *status == 204), "{statuses:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_workers_at_once_get_each_task_once() -> Result<()> {
    let rig = Arc::new(Rig::start().await?);
    rig.tasks(&(1..=150).map(|number| task(number, &json!({}))).collect::<Vec<_>>()).await?;
    let mut workers = Vec::new();
    for number in 0..200 {
        workers.push(rig.registered(&format!("w{number}"), &["sleep"]).await?);
    }
    let asking: Vec<_> =
        workers.into_iter().map(|worker| tokio::spawn(async move { worker.ask().await })).collect();
    let mut got = Vec::new();
    for asked in asking {
        let (status, body) = asked.await??;
        match status {
            200 => got.push(body["_id"].as_str().unwrap_or_default().to_owned()),
            other => ensure!(other == 204, "{other} {body}"),
        }
    }
    ensure!(got.len() == 150 && got.iter().collect::<BTreeSet<_>>().len() == 150, "{}", got.len());
    Ok(())
}

#[tokio::test]
async fn c22_c23_variables_and_numbers() -> Result<()> {
    let variables = "_meta: {version: 2}\nvariables:\n  v: {direction: oneway, values: [{audience: workers, platform: linux, value: /x}]}\n  \
                     u: {direction: oneway, values: [{audience: users, platform: linux, value: /u}]}\n  \
                     r: {direction: twoway, values: [{platform: linux, value: /y/}]}";
    let rig = Rig::with(variables, |_| ()).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    let settings = json!({"t": "{v}{v} {r}/a {u} {nope}", "{v}": [1, "{v}"], "n": {"deep": "{v}"}, "a": 3, "b": 1.0, "c": 0.5});
    rig.tasks(&[task(1, &json!({"commands": [{"name": "echo", "settings": settings}]}))]).await?;
    let got = worker.gets(1).await?["commands"][0]["settings"].clone();
    let expected = json!({"t": "/x/x /y/a {u} {nope}", "{v}": [1, "{v}"], "n": {"deep": "{v}"}, "a": 3, "b": 1, "c": 0.5});
    ensure!(got == expected, "{got}");
    ensure!(rig.task(1).await?.commands[0].settings["t"] == "{v}{v} {r}/a {u} {nope}");
    Ok(())
}

#[tokio::test]
async fn c38_failures_and_the_blacklist() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[
        task(1, &json!({})),
        task(2, &json!({})),
        task(3, &json!({})),
        task(4, &json!({"job": "5e90c0000000000000000c02", "job_priority": 1})),
    ])
    .await?;
    for number in [1, 2, 3] {
        a.gets(number).await?;
        a.reports(number, "failed").await?;
        ensure!(rig.status(number).await? == TaskStatus::SoftFailed);
    }
    let update =
        rig.server.until_update("the first failure", |update| update["task_status"] == "soft-failed").await?;
    ensure!(update["failed_by_workers"] == json!([{"id": a.id, "identifier": "127.0.0.1 (a)"}]), "{update}");
    let barred = rig.farm.barred(tasker::clock::Clock::system().now()).await?;
    ensure!(barred.len() == 1 && barred[0].worker.to_string() == a.id && barred[0].task_type == "sleep");
    ensure!(rig.status(1).await? == TaskStatus::SoftFailed && rig.status(2).await? == TaskStatus::SoftFailed);
    // Other jobs are still served.
    a.performs(4).await?;
    ensure!(a.ask().await?.0 == 204);
    b.gets(1).await?;
    b.reports(1, "failed").await?;
    ensure!(rig.status(1).await? == TaskStatus::Failed);
    let update =
        rig.server.until_update("the last failure", |update| update["task_status"] == "failed").await?;
    ensure!(update["failed_by_workers"].as_array().map(Vec::len) == Some(2), "{update}");
    // Whoever is let in again gets the rest, but nothing that failed on it.
    let form = format!("action=forget-blacklist-line&job_id={JOB}&task_type=sleep");
    ensure!(rig.action(&a, &form).await? == 204 && rig.action(&a, &form).await? == 400);
    rig.tasks(&[task(8, &json!({}))]).await?;
    a.gets(8).await?;
    Ok(())
}

#[tokio::test]
async fn c38_the_last_worker_fails_what_waits_for_another() -> Result<()> {
    let rig = Rig::with("blacklist_threshold: 2", |_| ()).await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({})), task(2, &json!({}))]).await?;
    a.gets(1).await?;
    a.reports(1, "failed").await?;
    ensure!(rig.status(1).await? == TaskStatus::SoftFailed);
    ensure!(rig.action(&b, "action=forget-worker").await? == 204);
    a.gets(2).await?;
    a.reports(2, "failed").await?;
    ensure!(rig.status(2).await? == TaskStatus::Failed && rig.status(1).await? == TaskStatus::Failed);
    rig.server
        .until_update("the first, too", |update| {
            update["task_status"] == "failed" && update["task_id"] == id(1)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn c38_a_task_that_failed_on_three_workers_is_given_up() -> Result<()> {
    let rig = Rig::start().await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    let mut workers = Vec::new();
    for number in 0..4 {
        workers.push(rig.worker(&format!("w{number}"), &["sleep"]).await?);
    }
    for (worker, expected) in
        workers.iter().zip([TaskStatus::SoftFailed, TaskStatus::SoftFailed, TaskStatus::Failed])
    {
        worker.gets(1).await?;
        worker.reports(1, "failed").await?;
        ensure!(rig.status(1).await? == expected);
    }
    ensure!(workers[3].ask().await?.0 == 204);
    Ok(())
}

#[tokio::test]
async fn c37_timeouts() -> Result<()> {
    let short = |settings: &mut tasker::flamenco::Settings| {
        settings.times.timeouts = Duration::from_millis(30);
        settings.task_timeout = Duration::from_millis(1);
        settings.worker_timeout = Duration::from_millis(1);
    };
    // Nothing times out while workers may not have been able to call: five minutes, which nobody can set.
    ensure!(tasker::flamenco::Times::default().grace == Duration::from_secs(300));
    let rig = Rig::with("", short).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure!(rig.status(1).await? == TaskStatus::Active);

    let rig = Rig::with("", |settings| {
        short(settings);
        settings.times.grace = Duration::from_millis(200);
        settings.worker_timeout = Duration::from_secs(3600);
    })
    .await?;
    let (worker, asleep) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    ensure!(asleep.post_nothing("ack-status-change/asleep").await?.0 == 204);
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    until("the timeout", async || Ok((rig.status(1).await? == TaskStatus::Failed).then_some(()))).await?;
    let record = rig.record(&worker).await?;
    ensure!(
        record.status == tasker::farm::WorkerStatus::Timeout
            && record.requested == Some(tasker::farm::Request::Awake)
    );
    rig.server.until_update("the failure", |update| update["task_status"] == "failed").await?;
    let told: Vec<_> = rig
        .server
        .updates()
        .iter()
        .filter_map(|update| update["task_status"].as_str().map(str::to_owned))
        .collect();
    ensure!(told == ["active", "claimed-by-manager", "failed"], "{told:?}");
    ensure!(worker.ask().await? == (423, json!({"status_requested": "awake"})));
    ensure!(rig.record(&asleep).await?.status == tasker::farm::WorkerStatus::Asleep);
    Ok(())
}

#[tokio::test]
async fn c37_a_silent_worker_loses_its_task() -> Result<()> {
    let rig = Rig::with("", |settings| {
        settings.times.timeouts = Duration::from_millis(30);
        settings.times.grace = Duration::from_millis(100);
        settings.worker_timeout = Duration::from_millis(1);
    })
    .await?;
    let (worker, asleep) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    ensure!(asleep.post_nothing("ack-status-change/asleep").await?.0 == 204);
    rig.tasks(&[task(1, &json!({}))]).await?;
    // It may have timed out in between.
    until("the task", async || {
        let (status, _) = worker.ask().await?;
        if status == 423 {
            worker.post_nothing("ack-status-change/awake").await?;
        }
        Ok((status == 200).then_some(()))
    })
    .await?;
    let update = rig
        .server
        .until_update("the task that was taken back", |update| update["task_status"] == "claimed-by-manager")
        .await?;
    ensure!(update["worker"] == "-", "{update}");
    ensure!(rig.status(1).await? != TaskStatus::Failed);
    until("the timeout", async || {
        Ok((rig.record(&worker).await?.status == tasker::farm::WorkerStatus::Timeout).then_some(()))
    })
    .await?;
    ensure!(worker.ask().await? == (423, json!({"status_requested": "awake"})));
    // One that sleeps is silent by right, even for much longer than the other.
    let record = rig.record(&asleep).await?;
    ensure!(record.status == tasker::farm::WorkerStatus::Asleep && record.requested.is_none(), "{record:?}");
    Ok(())
}
