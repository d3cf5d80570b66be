//! A server that is there and does not do what it is asked: nothing of that is a fault of what was to be
//! written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker::domain::{NewTask, Presence, PresenceState, Report, ReportEvent, TaskId, TaskStatus, json};
use tasker::store::{Freeze, Refusal, SharedStore, StoreError};
use tasker_services::MariaDb;
use uuid::Uuid;

use super::ledger::{RETENTION, at, config, finished, name, noon, task};
use super::presence::presence;

/// A ledger on a server of its own, with a user who may nothing but use it.
struct Site {
    _server: MariaDb,
    root: MySqlConnection,
    uri: String,
    store: SharedStore,
    is_mariadb: bool,
}

impl Site {
    async fn with(arguments: &'static [&'static str]) -> Result<Self> {
        let server = tokio::task::spawn_blocking(move || MariaDb::start_with(arguments)).await??;
        let mut root = MySqlConnection::connect(&server.url()).await?;
        for statement in [
            "CREATE DATABASE ledger",
            "CREATE USER tasker@'127.0.0.1' IDENTIFIED BY 'secret'",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES, DROP ON ledger.* TO tasker@'127.0.0.1'",
        ] {
            root.execute(statement).await?;
        }
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut root).await?;
        let uri = format!("mysql://tasker:secret@127.0.0.1:{}/ledger", server.port());
        let store = tasker::store::open(&config(&uri))?;
        store.migrate().await?;
        let there = Presence {
            instance: Uuid::nil(),
            session: Uuid::nil(),
            ..presence("a", &["worker"], PresenceState::Alive)
        };
        store.see(&[there], noon()).await?;
        Ok(Self { _server: server, root, uri, store, is_mariadb: version.contains("MariaDB") })
    }

    /// Says something to the server, and goes on in new sessions: those that were there keep what it said
    /// when they began.
    async fn turns(&mut self, statement: &str) -> Result<()> {
        self.root.execute(AssertSqlSafe(statement.to_owned())).await.with_context(|| statement.to_owned())?;
        self.store.close().await;
        self.store = tasker::store::open(&config(&self.uri))?;
        Ok(())
    }

    async fn expected(&self, identifier: &str) -> Result<TaskId> {
        let task = task(identifier);
        self.store.accept(std::slice::from_ref(&task), at(10), RETENTION).await?;
        self.store.freeze(&[Freeze { id: task.id, expected: vec![name("a")] }], noon()).await?;
        Ok(task.id)
    }

    async fn report(&self, report: &Report) -> Result<(), StoreError> {
        self.store.apply(std::slice::from_ref(report), &Default::default(), at(1), RETENTION).await.map(drop)
    }

    /// Until it is done; a session that began in another mood costs a try.
    async fn reported_in_the_end(&self, report: &Report) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.report(report).await {
            ensure!(error.is_transient() && begun.elapsed() < Duration::from_secs(20), "{error}");
        }
        ensure!(self.store.find(report.task_id).await?.context("it is there")?.status == TaskStatus::Done);
        Ok(())
    }
}

fn with_payload(id: TaskId, bytes: usize) -> Report {
    let mut report = finished(id, "a", 0);
    if let ReportEvent::Finished { payload, .. } = &mut report.event {
        *payload = Some(json(&"x".repeat(bytes)));
    }
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_refuses_can_be_written_later() -> Result<()> {
    let mut site = Site::with(&[]).await?;
    let mut moods = vec![
        ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0", "read_only"),
        ("SET GLOBAL max_prepared_stmt_count = 0", "SET GLOBAL max_prepared_stmt_count = 16382", "limit"),
        (
            "REVOKE UPDATE, INSERT ON ledger.* FROM tasker@'127.0.0.1'",
            "GRANT UPDATE, INSERT ON ledger.* TO tasker@'127.0.0.1'",
            "denied",
        ),
        ("LOCK TABLES ledger.task READ, ledger.response READ, ledger.schedule READ", "UNLOCK TABLES", "busy"),
    ];
    if site.is_mariadb {
        moods.push(("SET GLOBAL tx_read_only = 1", "SET GLOBAL tx_read_only = 0", "read_only"));
    } else {
        moods.push((
            "SET GLOBAL transaction_read_only = 1",
            "SET GLOBAL transaction_read_only = 0",
            "read_only",
        ));
        moods.push(("ALTER SCHEMA ledger READ ONLY = 1", "ALTER SCHEMA ledger READ ONLY = 0", "read_only"));
    }
    for (number, (begin, end, cause)) in moods.into_iter().enumerate() {
        let report = finished(site.expected(&format!("task {number}")).await?, "a", 0);
        site.turns(begin).await?;
        let count = |site: &Site| {
            site.store.tally().refusals().find(|(name, _)| *name == cause).map_or(0, |(_, count)| count)
        };
        let before = count(&site);
        let new = [NewTask { ..task(&format!("new {number}")) }];
        let (reported, submitted, shown) = tokio::join!(
            site.report(&report),
            site.store.accept(&new, at(10), RETENTION),
            site.store.prove_writable(noon())
        );
        for error in [reported.err(), submitted.err(), shown.err()] {
            let error = error.with_context(|| format!("{begin}: it is done all the same"))?;
            ensure!(error.is_transient() && !error.is_row_fault(), "{begin}: {error}");
        }
        ensure!(
            count(&site) > before,
            "{begin} is not counted as {cause}: {:?}",
            site.store.tally().refusals().collect::<Vec<_>>()
        );
        // Sessions that began in that mood are not used again.
        site.root.execute(end).await?;
        site.reported_in_the_end(&report).await.context(begin)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_a_mode_of_its_own() -> Result<()> {
    let mut site = Site::with(&[]).await?;
    let mut modes = vec![
        "ANSI_QUOTES",
        "NO_BACKSLASH_ESCAPES",
        "ONLY_FULL_GROUP_BY",
        "PAD_CHAR_TO_FULL_LENGTH",
        "TRADITIONAL",
        "ANSI",
        "",
    ];
    if site.is_mariadb {
        modes.extend(["EMPTY_STRING_IS_NULL", "ORACLE", "SIMULTANEOUS_ASSIGNMENT"]);
    }
    for mode in modes {
        site.turns(&format!("SET GLOBAL sql_mode = '{mode}'")).await?;
        let id = site.expected(&format!("back\\slash \"{mode}\"  ")).await.context(mode)?;
        site.reported_in_the_end(&finished(id, "a", 0)).await.context(mode)?;
        ensure!(
            site.store.find(id).await?.context("it is there")?.identifier.as_str()
                == format!("back\\slash \"{mode}\"  ")
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_longer_than_a_packet_is_at_fault_alone() -> Result<()> {
    let mut site = Site::with(&[]).await?;
    site.turns("SET GLOBAL max_allowed_packet = 1048576").await?;
    site.store.now().await?;
    ensure!(site.store.largest_row() < 1 << 20, "{}", site.store.largest_row());
    let (long, short) = (site.expected("long").await?, site.expected("short").await?);
    let error =
        site.report(&with_payload(long, 2 << 20)).await.err().context("it is longer than a packet")?;
    ensure!(error.is_row_fault() && error.to_string().contains("max_allowed_packet"), "{error}");
    site.reported_in_the_end(&with_payload(short, 600_000)).await?;
    // Many that fit one by one, but not together, are no reason to lose any: halves of them fit.
    let mut reports = Vec::new();
    for number in 0..16 {
        reports.push(with_payload(site.expected(&format!("part {number}")).await?, 100_000));
    }
    let error = site
        .store
        .apply(&reports, &Default::default(), at(1), RETENTION)
        .await
        .err()
        .context("together they are longer than a packet")?;
    ensure!(error.is_row_fault(), "{error}");
    for half in reports.chunks(4) {
        ensure!(site.store.apply(half, &Default::default(), at(1), RETENTION).await?.changed == 4);
    }
    let large = NewTask { payload: json(&"x".repeat(2 << 20)), ..task("large") };
    let error =
        site.store.accept(&[large], at(10), RETENTION).await.err().context("it is longer than a packet")?;
    ensure!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    // One of these fits into a packet, and two of them do not.
    let payload = |bytes| json(&"x".repeat(bytes));
    let held = NewTask { payload: payload(700_000), ..task("held").held_until(at(3600)) };
    site.store.accept(std::slice::from_ref(&held), at(10), RETENTION).await?;
    let signed = payload(700_001);
    ensure!(site.store.approve(held.id, &held.payload, &signed, None, at(2)).await?);
    let refused = site.store.approve(held.id, &signed, &payload(2 << 20), None, at(2)).await;
    ensure!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_no_fault_of_rows() -> Result<()> {
    let site =
        Site::with(&["--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:60M"])
            .await?;
    let id = site.expected("before").await?;
    for number in 0..200 {
        let large = NewTask { payload: json(&"x".repeat(1 << 20)), ..task(&format!("large {number}")) };
        let Err(error) = site.store.accept(&[large], at(10), RETENTION).await else { continue };
        // MariaDB 11 ends itself when its own tables have no room.
        let cause = |refusal| matches!(&error, StoreError::Unavailable { cause, .. } if *cause == refusal);
        ensure!(cause(Refusal::Full) || cause(Refusal::Unreachable), "{error:?}");
        let report = site.report(&with_payload(id, 4 << 20)).await;
        ensure!(matches!(&report, Err(error) if error.is_transient()), "{report:?}");
        return Ok(());
    }
    anyhow::bail!("200 MB fit into 60 MB")
}
