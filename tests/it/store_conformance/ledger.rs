//! A database of one test, and makers of what goes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, SqliteConnection};
use tasker::config::{Database, Secret};
use tasker::domain::{
    EndpointName, NewTask, Presence, PresenceState, Report, ReportEvent, TaskId, TaskType, Timestamp, json,
};
use tasker::store::{Freeze, SharedStore, StoreError};
use uuid::Uuid;

use super::presence::presence;

/// How long tasks are kept after their end.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long processes that claim at the same time may take: what one has locked the others pass over, and
/// they ask again.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// More responses than any task here has.
pub const ALL: u32 = 1000;

/// A database of one test.
pub struct Ledger {
    pub store: SharedStore,
    pub uri: String,
    /// The administrator's address and the database's name, or the directory.
    place: Place,
}

enum Place {
    Server { admin: String, name: String },
    Directory(tempfile::TempDir),
}

/// The administrator of a private server.
pub fn admin() -> Result<String> {
    std::env::var("TASKER_TEST_MYSQL").context("TASKER_TEST_MYSQL is not set: run `cargo xtask test`")
}

/// A configuration with this address.
pub fn config(uri: &str) -> Database {
    Database { verbose: false, uri: Secret::new(uri), max_connections: 8 }
}

impl Ledger {
    /// A migrated database on the private server.
    pub async fn on_mysql() -> Result<Self> {
        let (admin, name) = (admin()?, format!("store_{}", Uuid::new_v4().simple()));
        let mut conn = MySqlConnection::connect(&admin).await?;
        // A server's own default must not matter.
        conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name} CHARACTER SET latin1"))).await?;
        conn.close().await?;
        let uri = format!("{}/{name}", admin.trim_end_matches('/'));
        Self::at(uri, Place::Server { admin, name }).await
    }

    /// A migrated database in a file.
    pub async fn on_sqlite() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let uri = format!("sqlite://{}", directory.path().join("ledger.sqlite").display());
        Self::at(uri, Place::Directory(directory)).await
    }

    async fn at(uri: String, place: Place) -> Result<Self> {
        let store = tasker::store::open(&config(&uri))?;
        store.migrate().await?;
        Ok(Self { store, uri, place })
    }

    pub const fn is_mysql(&self) -> bool {
        matches!(self.place, Place::Server { .. })
    }

    /// The name of the database on its server.
    pub fn name(&self) -> &str {
        self.uri.rsplit('/').next().unwrap_or_default()
    }

    /// The same ledger as another process sees it.
    pub fn another(&self) -> Result<SharedStore> {
        Ok(tasker::store::open(&config(&self.uri))?)
    }

    /// Goes back to an older schema.
    pub async fn revert(&self, to: i64) -> Result<(), StoreError> {
        tasker::store::open(&config(&self.uri))?.revert(to).await
    }

    /// Says something to the database that the store cannot.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        if self.is_mysql() {
            let mut conn = MySqlConnection::connect(&self.uri).await?;
            conn.execute(AssertSqlSafe(statement.to_owned())).await?;
            conn.close().await?;
        } else {
            let mut conn = SqliteConnection::connect(&self.uri).await?;
            conn.execute(AssertSqlSafe(statement.to_owned())).await?;
            conn.close().await?;
        }
        Ok(())
    }

    /// The tables there are.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut tables: Vec<String> = if self.is_mysql() {
            let mut conn = MySqlConnection::connect(&self.uri).await?;
            let query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()";
            sqlx::query_scalar(query).fetch_all(&mut conn).await?
        } else {
            let mut conn = SqliteConnection::connect(&self.uri).await?;
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
                .fetch_all(&mut conn)
                .await?
        };
        tables.sort();
        Ok(tables)
    }

    /// Rows that the server has read from a table so far; `None` where nothing counts them.
    pub async fn rows_read(&self, table: &str) -> Result<Option<u64>> {
        let Place::Server { admin, name } = &self.place else { return Ok(None) };
        let mut conn = MySqlConnection::connect(admin).await?;
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut conn).await?;
        let query = if version.contains("MariaDB") {
            conn.execute("SET GLOBAL userstat = 1").await?;
            "SELECT CAST(COALESCE(SUM(rows_read), 0) AS UNSIGNED) FROM information_schema.table_statistics WHERE table_schema = ? AND table_name = ?"
        } else {
            "SELECT CAST(COALESCE(SUM(count_read), 0) AS UNSIGNED) FROM performance_schema.table_io_waits_summary_by_table \
             WHERE object_schema = ? AND object_name = ?"
        };
        Ok(Some(sqlx::query_scalar(query).bind(name).bind(table).fetch_one(&mut conn).await?))
    }

    /// Takes the database away.
    pub async fn drop(self) -> Result<()> {
        self.store.close().await;
        match self.place {
            Place::Server { admin, name } => {
                let mut conn = MySqlConnection::connect(&admin).await?;
                conn.execute(AssertSqlSafe(format!("DROP DATABASE {name}"))).await?;
                conn.close().await?;
            }
            Place::Directory(directory) => directory.close()?,
        }
        Ok(())
    }

    /// Has these endpoints been there and gone: reports of others are not believed.
    pub async fn known(&self, endpoints: &[EndpointName], now: Timestamp) -> Result<()> {
        let says = |state| {
            endpoints.iter().map(move |endpoint| Presence {
                instance: Uuid::nil(),
                session: Uuid::nil(),
                ..presence(endpoint.as_str(), &[worker().as_str()], state)
            })
        };
        let said: Vec<Presence> = says(PresenceState::Alive).chain(says(PresenceState::Leaving)).collect();
        self.store.see(&said, now).await?;
        Ok(())
    }

    /// Records tasks and freezes each with these endpoints.
    pub async fn frozen(&self, tasks: &[NewTask], endpoints: &[EndpointName]) -> Result<Vec<TaskId>> {
        self.known(endpoints, noon()).await?;
        self.store.accept(tasks, noon(), RETENTION).await?;
        let sets: Vec<Freeze> =
            tasks.iter().map(|task| Freeze { id: task.id, expected: endpoints.to_vec() }).collect();
        let mut frozen = self.store.freeze(&sets, noon()).await?;
        frozen.sort_unstable();
        anyhow::ensure!(frozen.len() == tasks.len(), "frozen {} of {}", frozen.len(), tasks.len());
        Ok(tasks.iter().map(|task| task.id).collect())
    }

    /// One task, recorded and frozen.
    pub async fn one(&self, identifier: &str, endpoints: &[&str]) -> Result<TaskId> {
        Ok(self.frozen(&[task(identifier)], &names(endpoints)).await?[0])
    }

    /// One task with a list, recorded and frozen.
    pub async fn one_listed(&self, identifier: &str, endpoints: &[&str]) -> Result<TaskId> {
        let task = NewTask { endpoints: names(endpoints), ..task(identifier) };
        Ok(self.frozen(&[task], &names(endpoints)).await?[0])
    }

    /// The task as it stands.
    pub async fn task(&self, id: TaskId) -> Result<tasker::domain::Task> {
        self.store.find(id).await?.context("the task is gone")
    }
}

/// The time at which tests begin.
pub fn noon() -> Timestamp {
    static NOON: std::sync::OnceLock<Timestamp> = std::sync::OnceLock::new();
    *NOON.get_or_init(|| tasker::clock::Clock::system().now())
}

/// Seconds after [`noon`].
pub fn at(seconds: u64) -> Timestamp {
    noon().after(Duration::from_secs(seconds))
}

pub fn worker() -> TaskType {
    "worker".parse().expect("a type")
}

pub fn name(text: &str) -> EndpointName {
    text.parse().expect("a name")
}

pub fn names(texts: &[&str]) -> Vec<EndpointName> {
    texts.iter().map(|text| name(text)).collect()
}

/// Names of a fleet.
pub fn fleet(count: usize) -> Vec<EndpointName> {
    (0..count).map(|number| name(&format!("ep{number}"))).collect()
}

/// A submission without a list: received by second 30, given up at second 3600.
pub fn task(identifier: &str) -> NewTask {
    NewTask {
        id: TaskId::new(),
        task_type: worker(),
        identifier: identifier.parse().expect("an identifier"),
        payload: json(&"some data"),
        endpoints: Vec::new(),
        target: None,
        rerun_of: None,
        digest: [7; 32],
        place: None,
        start_time: noon(),
        receive_by: at(30),
        expires_at: at(3600),
        submitted_by: None,
        source: None,
        followed: false,
        rollout: None,
        held: false,
    }
}

pub fn tasks(count: usize) -> Vec<NewTask> {
    (0..count).map(|number| task(&format!("task {number}"))).collect()
}

pub fn report(task_id: TaskId, endpoint: &str, event: ReportEvent) -> Report {
    Report { task_id, task_type: worker(), endpoint: name(endpoint), home: Uuid::nil(), event }
}

pub fn received(task_id: TaskId, endpoint: &str) -> Report {
    report(task_id, endpoint, ReportEvent::Received)
}

pub fn finished(task_id: TaskId, endpoint: &str, errnr: i32) -> Report {
    let errmsg = if errnr == 0 { String::new() } else { format!("could not: {errnr}") };
    let event = ReportEvent::Finished {
        errnr,
        errmsg,
        payload: Some(json(&errnr)),
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: None,
    };
    report(task_id, endpoint, event)
}

/// Runs at the same time, each in a task of its own, and returns what they answered.
pub async fn together<T: Send + 'static, F>(runs: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    F: std::future::Future<Output = Result<T>> + Send + 'static,
{
    let running: Vec<_> = runs.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for run in running {
        done.push(run.await??);
    }
    Ok(done)
}

/// Claims in several runs at the same time until there are so many in all, and answers what they got.
pub async fn claim_together<T: Send + 'static, C, F>(
    total: usize,
    runs: impl IntoIterator<Item = C>,
) -> Result<Vec<T>>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: std::future::Future<Output = Result<Vec<T>>> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let runs = runs.into_iter().map(|claim| {
        let count = count.clone();
        async move {
            let mut claimed = Vec::new();
            while count.load(Ordering::Relaxed) < total {
                let more = claim().await?;
                count.fetch_add(more.len(), Ordering::Relaxed);
                claimed.extend(more);
            }
            Ok(claimed)
        }
    });
    let claimed = tokio::time::timeout(PATIENCE, together(runs)).await;
    let claimed =
        claimed.with_context(|| format!("{count:?} of {total} are claimed after {PATIENCE:?}"))??;
    Ok(claimed.into_iter().flatten().collect())
}

/// Shares a list between runs.
pub fn shared<T>(items: Vec<T>) -> Arc<[T]> {
    items.into()
}
