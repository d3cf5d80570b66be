//! What is away comes back, and what comes twice is done once.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tasker::farm::TaskStatus;

use super::rig::{Rig, id, task, until};
use super::server::Answer;

#[tokio::test]
async fn work_goes_on_while_the_server_is_away() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&(1..=5).map(|number| task(number, &json!({}))).collect::<Vec<_>>()).await?;
    rig.server.answers(|_| Some(Answer::empty(502)));
    for number in 1..=5 {
        worker.performs(number).await?;
    }
    ensure!(rig.farm.count_updates().await? == 15);
    rig.server.answers(|_| None);
    until("all updates", async || Ok((rig.farm.count_updates().await? == 0).then_some(()))).await?;
    for number in 1..=5 {
        let told: Vec<_> =
            rig.server.updates().into_iter().filter(|update| update["task_id"] == id(number)).collect();
        let last = told.iter().rev().take(3).map(|update| update["task_status"].clone()).collect::<Vec<_>>();
        ensure!(last == [json!("completed"), json!(null), json!("active")], "{last:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_update_that_comes_twice_changes_nothing_more() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({}))]).await?;
    a.gets(1).await?;
    a.reports(1, "failed").await?;
    a.reports(1, "failed").await?;
    ensure!(rig.status(1).await? == TaskStatus::SoftFailed && rig.task(1).await?.failed_by.len() == 1);
    b.gets(1).await?;
    // The first worker is late, and the task is another one's by now.
    ensure!(a.update(1, &json!({"task_status": "completed"})).await? == 409);
    b.reports(1, "completed").await?;
    b.reports(1, "completed").await?;
    ensure!(rig.status(1).await? == TaskStatus::Completed);
    Ok(())
}

#[tokio::test]
async fn a_task_that_was_kept_for_a_worker_that_went_away_is_free_again() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({}))]).await?;
    // The manager died between the choice and the assignment.
    let now = tasker::clock::Clock::system().now();
    let seen = |at| tasker::farm::Seen { at, address: "127.0.0.1".into(), software: String::new() };
    rig.farm.ask(a.id.parse()?, &seen(now)).await?;
    ensure!(b.ask().await?.0 == 204);
    let later = rig.farm.ask(b.id.parse()?, &seen(now.after(Duration::from_secs(6)))).await?;
    ensure!(matches!(later, tasker::store::farm::Asked::Offered(_)), "{later:?}");
    // Whoever comes too late gets nothing.
    ensure!(rig.farm.assign(a.id.parse()?, id(1).parse()?, now).await?.is_none());
    ensure!(rig.farm.assign(b.id.parse()?, id(1).parse()?, now).await?.is_some());
    Ok(())
}
