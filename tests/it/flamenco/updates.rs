//! What workers say about their tasks, and their logs.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use tasker::farm::TaskStatus;

use super::rig::{Rig, id, reqwest_client, send, task};

#[tokio::test]
async fn c24_an_update_is_taken_and_passed_on() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    let body = json!({"activity": "half", "task_progress_percentage": 50, "current_command_idx": 1, "metrics": {"timing": {"total": 2.5}}, "task_id": id(7)});
    ensure!(worker.update(1, &body).await? == 204);
    let update = rig.server.until_update("the update", |update| update["activity"] == "half").await?;
    ensure!(
        update["worker"] == "127.0.0.1 (a)"
            && update["task_id"] == id(1)
            && update["task_progress_percentage"] == 50,
        "{update}"
    );
    ensure!(
        update["current_command_idx"] == 1 && update["current_command_index"] == 1,
        "both names of the Server"
    );
    ensure!(
        update["metrics"] == json!({"timing": {"total": 2.5}})
            && update.get("task_status").is_none()
            && update["received_on_manager"].is_string()
    );
    let kept = rig.task(1).await?;
    ensure!(kept.activity == "half" && kept.timing.is_some_and(|timing| timing["total"] == 2.5));
    // A status that nobody knows keeps nothing else back.
    ensure!(
        worker.update(1, &json!({"task_status": "dancing", "activity": "odd", "metrics": null})).await?
            == 204
    );
    ensure!(rig.task(1).await?.activity == "odd" && rig.status(1).await? == TaskStatus::Active);
    Ok(())
}

#[tokio::test]
async fn c25_updates_of_others_and_of_nothing() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({}))]).await?;
    a.gets(1).await?;
    ensure!(b.update(1, &json!({"task_status": "completed", "log": "x"})).await? == 409);
    ensure!(rig.status(1).await? == TaskStatus::Active && !fs::read_to_string(rig.log(1))?.contains('x'));
    ensure!(a.update(9, &json!({})).await? == 404 && a.post("tasks/xyz/update", &json!({})).await?.0 == 404);
    ensure!(a.update(1, &json!({"log": 3})).await? == 400);
    // Every answer to a return is JSON, or nothing.
    let (status, body) = a.gives_back(9).await?;
    ensure!(status == 404 && body.is_object());
    ensure!(b.gives_back(1).await?.0 == 204 && rig.status(1).await? == TaskStatus::Active);
    ensure!(a.gives_back(1).await?.0 == 204 && rig.status(1).await? == TaskStatus::ClaimedByManager);
    Ok(())
}

#[tokio::test]
async fn c26_late_updates_bring_their_logs_and_nothing_else() -> Result<()> {
    for status in [TaskStatus::Failed, TaskStatus::CancelRequested] {
        let rig = Rig::start().await?;
        let worker = rig.worker("a", &["sleep"]).await?;
        rig.tasks(&[task(1, &json!({}))]).await?;
        worker.gets(1).await?;
        match status {
            TaskStatus::Failed => worker.reports(1, "failed").await?,
            _ => drop(rig.farm.cancel(&[id(1).parse()?], tasker::clock::Clock::system().now()).await?),
        }
        ensure!(rig.status(1).await? == status);
        let activity = rig.task(1).await?.activity;
        for reported in ["completed", "active"] {
            let (log, tail) = (format!("the rest of {reported}"), format!("the rest of {reported}\n"));
            let late = json!({"task_status": reported, "activity": "late", "log": log, "task_progress_percentage": 70});
            ensure!(worker.update(1, &late).await? == 204);
            ensure!(rig.status(1).await? == status && rig.task(1).await?.activity == activity);
            ensure!(fs::read_to_string(rig.log(1))?.ends_with(&tail));
            let update =
                rig.server.until_update("the late one", |update| update["log_tail"] == tail.as_str()).await?;
            ensure!(update.get("task_status").is_none() && update.get("activity").is_none(), "{update}");
            ensure!(update["task_progress_percentage"] == 70, "{update}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn c27_c28_logs_and_their_ends() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    let lines: Vec<String> = (1..=15).map(|line| format!("line {line}")).collect();
    ensure!(worker.update(1, &json!({"log": lines.join("\n"), "task_status": "active"})).await? == 204);
    let log = fs::read_to_string(rig.log(1))?;
    ensure!(log.ends_with(&format!("{}\n", lines.join("\n"))), "{log}");
    let expected = format!("{}\n", lines[5..].join("\n"));
    let update =
        rig.server.until_update("the end of the log", |update| update["log_tail"] == expected).await?;
    ensure!(update.get("log").is_none(), "{update}");
    worker.reports(1, "completed").await?;
    // Queued anew.
    rig.server.until_update("the end", |update| update["task_status"] == "completed").await?;
    rig.tasks(&[task(1, &json!({"_etag": "again"}))]).await?;
    worker.gets(1).await?;
    let (old, new) =
        (fs::read_to_string(format!("{}.1", rig.log(1).display()))?, fs::read_to_string(rig.log(1))?);
    ensure!(old.contains("line 15") && !new.contains("line"), "{new}");
    // People can read it.
    let (status, text) =
        send(reqwest_client().get(format!("{}/logfile/{}/{}", rig.url, super::rig::JOB, id(1)))).await?;
    ensure!(status == 200 && text == new);
    ensure!(
        send(reqwest_client().get(format!("{}/logfile/{}/{}", rig.url, super::rig::JOB, id(9)))).await?.0
            == 404
    );
    Ok(())
}
