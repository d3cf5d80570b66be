//! Schema, addresses, and a database that is not there.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker::store::{Accepted, StoreError};
use uuid::Uuid;

use super::ledger::{Ledger, RETENTION, admin, at, config, task, together};

const TABLES: [&str; 29] = [
    "_sqlx_migrations", "audit", "audit_head", "ended", "endpoint", "endpoint_group", "enrolment",
    "farm_barred", "farm_note", "farm_parent", "farm_task", "farm_update", "farm_worker", "jobs", "queue",
    "queued_task", "requests", "response", "response_log", "rollout", "rollout_event", "rollout_hold",
    "rollout_target", "rollout_wave", "schedule", "subscription", "task", "throughput", "token",
];

fn schema_reason(result: Result<(), StoreError>) -> String {
    match result {
        Err(error @ (StoreError::Schema { .. } | StoreError::Missing { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

pub async fn migrates_once_when_three_start_together(ledger: &Ledger) -> Result<()> {
    for _ in 0..3 {
        ledger.revert(0).await?;
        let stores = [ledger.another()?, ledger.another()?, ledger.another()?];
        let runs = stores.iter().cloned().map(|store| async move {
            store.migrate().await?;
            store.check_schema().await?;
            Ok(())
        });
        together(runs.collect::<Vec<_>>()).await?;
        for store in stores {
            store.close().await;
        }
    }
    assert_eq!(ledger.store.accept(&[task("a")], at(10), RETENTION).await?, [Accepted::New]);
    Ok(())
}

pub async fn refuses_a_schema_that_does_not_fit(ledger: &Ledger) -> Result<()> {
    ledger.store.check_schema().await?;
    ledger.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 4").await?;
    for reason in
        [schema_reason(ledger.store.check_schema().await), schema_reason(ledger.store.migrate().await)]
    {
        assert!(reason.contains("9999") && reason.contains("tasker initialize --database"), "{reason}");
    }
    ledger.execute("UPDATE _sqlx_migrations SET version = 4, success = 0 WHERE version = 9999").await?;
    for reason in
        [schema_reason(ledger.store.check_schema().await), schema_reason(ledger.store.migrate().await)]
    {
        assert!(reason.contains('4') && reason.contains("tasker initialize --database"), "{reason}");
    }
    ledger.execute("UPDATE _sqlx_migrations SET success = 1").await?;
    ledger.store.check_schema().await?;

    ledger.revert(1).await?;
    let older = schema_reason(ledger.store.check_schema().await);
    assert!(older.contains("tasker initialize --database"), "{older}");
    ledger.execute("DROP TABLE _sqlx_migrations").await?;
    ledger.execute("DROP TABLE task").await?;
    let none = ledger.store.check_schema().await;
    assert!(
        matches!(&none, Err(error @ StoreError::NoTables { database })
            if !database.is_empty() && error.to_string().contains("tasker initialize --database")),
        "{none:?}"
    );
    let used = schema_reason(ledger.store.accept(&[task("a")], at(10), RETENTION).await.map(drop));
    assert!(used.contains("tasker initialize --database"), "{used}");
    Ok(())
}

pub async fn goes_down_and_up_again(ledger: &Ledger) -> Result<()> {
    ledger.store.accept(&[task("a")], at(10), RETENTION).await?;
    ledger.revert(0).await?;
    assert_eq!(ledger.tables().await?, ["_sqlx_migrations"]);
    ledger.store.migrate().await?;
    assert_eq!(ledger.tables().await?, TABLES);
    ledger.store.check_schema().await?;
    assert_eq!(ledger.store.accept(&[task("a")], at(10), RETENTION).await?, [Accepted::New]);
    Ok(())
}

pub async fn resets_everything(ledger: &Ledger) -> Result<()> {
    ledger.store.accept(&[task("a")], at(10), RETENTION).await?;
    ledger.execute("CREATE TABLE stranger (id INTEGER)").await?;
    ledger.execute("UPDATE _sqlx_migrations SET success = 0 WHERE version = 2").await?;
    ledger.store.reset().await?;
    ledger.store.check_schema().await?;
    let mut tables = [TABLES.as_slice(), &["stranger"]].concat();
    tables.sort_unstable();
    assert_eq!(ledger.tables().await?, tables);
    assert_eq!(ledger.store.accept(&[task("a")], at(10), RETENTION).await?, [Accepted::New]);
    Ok(())
}

pub async fn is_claimed_by_one_at_a_time(ledger: &Ledger) -> Result<()> {
    let other = ledger.another()?;
    let claim = ledger.store.claim().await?.expect("nobody has it");
    assert!(other.claim().await?.is_none());
    assert!(!claim.lost().is_cancelled());
    drop(claim);
    assert!(other.claim().await?.is_some(), "it ends with the claim");
    other.close().await;
    Ok(())
}

pub async fn tells_the_time(ledger: &Ledger) -> Result<()> {
    let before = tasker::clock::Clock::system().now();
    let now = ledger.store.now().await?;
    let after = tasker::clock::Clock::system().now();
    let slack = Duration::from_secs(2);
    assert!(before.before(slack) <= now && now <= after.after(slack), "{before} {now} {after}");
    Ok(())
}

#[tokio::test]
async fn creates_the_database_it_is_told_to_use() -> Result<()> {
    let (admin, name) = (admin()?, format!("store_{}", Uuid::new_v4().simple()));
    let store = tasker::store::open(&config(&format!("{admin}/{name}")))?;
    let error = store.check_schema().await.expect_err("there is none");
    assert!(matches!(error, StoreError::NoDatabase { .. }) && error.needs_setup(), "{error:?}");
    assert!(error.to_string().contains("tasker initialize --database"), "{error}");
    store.migrate().await?;
    store.check_schema().await?;
    store.close().await;
    let mut conn = MySqlConnection::connect(&admin).await?;
    conn.execute(AssertSqlSafe(format!("DROP DATABASE {name}"))).await?;
    Ok(())
}

#[tokio::test]
async fn says_soon_that_the_database_is_away() -> Result<()> {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // Takes connections and says nothing, as behind a network that swallows packets.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    for address in [refusing, silent.local_addr()?] {
        let store = tasker::store::open(&config(&format!("mysql://somebody:s3cr3t@{address}/ledger")))?;
        let started = Instant::now();
        let error = store.now().await.expect_err("nobody is there");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_transient(), "{error:?}");
        assert!(
            error.to_string().contains(&address.to_string())
                && !format!("{error} {error:?}").contains("s3cr3t"),
            "{error}"
        );
    }
    let directory = tempfile::tempdir()?;
    let store = tasker::store::open(&config(&format!(
        "sqlite://{}/no/such/directory.sqlite",
        directory.path().display()
    )))?;
    let error = store.migrate().await.expect_err("there is no such directory");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn refuses_an_address_that_is_none() {
    for uri in
        ["postgres://a:s3cr3t@b/c", "mysql://a:s3cr3t@b", "mysql://a:s3cr3t@b:port/c", "ledger.sqlite", ""]
    {
        let error = tasker::store::open(&config(uri)).map(drop).expect_err(uri);
        assert!(matches!(error, StoreError::Address { .. }), "{error:?}");
        assert!(!error.is_transient() && !format!("{error} {error:?}").contains("s3cr3t"), "{error}");
    }
}
