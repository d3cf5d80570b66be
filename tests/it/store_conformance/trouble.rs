//! What a network, a server and other programs do to an operation.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, SqliteConnection};
use tasker::domain::{Counts, TaskStatus};
use tasker::store::StoreError;

use crate::support::{sessions, waiting_sessions};

use super::ledger::{Ledger, RETENTION, at, finished, fleet, noon, received, task, tasks, together};

pub async fn outlives_callers_that_go_away(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(400);
    let id = ledger.frozen(&[task("a")], &endpoints).await?[0];
    for batch in endpoints.chunks(10) {
        let reports: Vec<_> = batch.iter().map(|endpoint| finished(id, endpoint.as_str(), 0)).collect();
        let store = ledger.store.clone();
        let caller =
            tokio::spawn(async move { store.apply(&reports, &Default::default(), at(1), RETENTION).await });
        for _ in 0..fastrand::u32(0..30) {
            tokio::task::yield_now().await;
        }
        caller.abort();
    }
    // Each batch is in or not, and nothing keeps a lock.
    let reports: Vec<_> = endpoints.iter().map(|endpoint| finished(id, endpoint.as_str(), 0)).collect();
    ledger.store.apply(&reports, &Default::default(), at(1), RETENTION).await?;
    let counts = Counts { expected: 400, received: 400, finished: 400, ..Counts::default() };
    assert_eq!((ledger.task(id).await?.status, ledger.task(id).await?.counts), (TaskStatus::Done, counts));
    Ok(())
}

pub async fn outlives_deadlocks(ledger: &Ledger) -> Result<()> {
    if !ledger.is_mysql() {
        return Ok(());
    }
    let ids = ledger.frozen(&tasks(2), &fleet(1)).await?;
    let bystanders = ledger.frozen(&[task("x"), task("y"), task("z")], &[]).await?;
    let mut conn = MySqlConnection::connect(&ledger.uri).await?;
    let mut rival = conn.begin().await?;
    let lock = "SELECT id FROM task WHERE id = ? FOR UPDATE";
    // The server ends the one that has written less.
    for id in bystanders {
        sqlx::query("UPDATE task SET asks = asks + 1 WHERE id = ?").bind(id.0).execute(&mut *rival).await?;
    }
    sqlx::query(lock).bind(ids[1].0).execute(&mut *rival).await?;
    let store = ledger.store.clone();
    let reports = [received(ids[0], "ep0"), received(ids[1], "ep0")];
    let applying =
        tokio::spawn(async move { store.apply(&reports, &Default::default(), at(1), RETENTION).await });
    let mut watcher = MySqlConnection::connect(&ledger.uri).await?;
    loop {
        let ours = sessions(&mut watcher, "db", ledger.name()).await?;
        let waiting = waiting_sessions(&mut watcher).await?;
        if waiting.iter().any(|id| ours.contains(id)) {
            break;
        }
        // The server renews what this table tells only when nobody has looked at it for a tenth of a second.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    sqlx::query(lock).bind(ids[0].0).execute(&mut *rival).await?;
    rival.rollback().await?;
    let applied = applying.await??;
    assert_eq!(applied.changed, 2);
    assert_eq!(ledger.task(ids[0]).await?.counts.received, 1);
    Ok(())
}

pub async fn outlives_long_locks(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["ep0"]).await?;
    let store = ledger.store.clone();
    let applying =
        async move { Ok(store.apply(&[received(id, "ep0")], &Default::default(), at(1), RETENTION).await?) };
    // Longer than a statement waits for a lock, so that it has to begin anew.
    let held = Duration::from_secs(6);
    let applied = if ledger.is_mysql() {
        let mut conn = MySqlConnection::connect(&ledger.uri).await?;
        let mut rival = conn.begin().await?;
        sqlx::query("SELECT id FROM task WHERE id = ? FOR UPDATE").bind(id.0).execute(&mut *rival).await?;
        let applying = tokio::spawn(applying);
        tokio::time::sleep(held).await;
        rival.rollback().await?;
        applying.await?
    } else {
        let mut conn = SqliteConnection::connect(&ledger.uri).await?;
        let rival = conn.begin_with("BEGIN IMMEDIATE").await?;
        let applying = tokio::spawn(applying);
        tokio::time::sleep(held).await;
        rival.rollback().await?;
        applying.await?
    };
    let applied: tasker::store::Applied = applied.map_err(|error: anyhow::Error| error)?;
    assert_eq!(applied.changed, 1);
    Ok(())
}

pub async fn outlives_lost_connections(ledger: &Ledger) -> Result<()> {
    if !ledger.is_mysql() {
        return Ok(());
    }
    let id = ledger.one("a", &["ep0"]).await?;
    let finding = (0..6).map(|_| {
        let store = ledger.store.clone();
        async move { Ok(store.find(id).await?.is_some()) }
    });
    assert!(together(finding).await?.into_iter().all(|found| found));
    let mut admin = MySqlConnection::connect(&ledger.uri).await?;
    let others = sessions(&mut admin, "db", ledger.name()).await?;
    for other in others {
        // It may have gone by itself.
        let _ = admin.execute(AssertSqlSafe(format!("KILL {other}"))).await;
    }
    let started = Instant::now();
    loop {
        match ledger.store.find(id).await {
            Ok(found) => break assert!(found.is_some()),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it does not heal");
    }
    Ok(())
}

pub async fn reports_a_row_it_cannot_read(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["ep0"]).await?;
    ledger.execute("UPDATE task SET status = 77").await?;
    let error = ledger.store.find(id).await.expect_err("77 is no status");
    assert!(
        matches!(&error, StoreError::Corrupt { reason } if reason.contains(&id.to_string()) && reason.contains("status")),
        "{error:?}"
    );
    assert!(matches!(ledger.store.cancel(id, noon(), RETENTION).await, Err(StoreError::Corrupt { .. })));
    Ok(())
}
