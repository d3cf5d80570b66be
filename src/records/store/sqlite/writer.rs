//! The one that writes: a thread with a queue in front of it.
//!
//! Promise: an operation is answered once it is on the disk, or undone. What waits while the thread is at
//! work is written in one transaction, in the order of its coming, so that the disk is waited for once and
//! not once for each; to each operation it is as if it had come after those before it. When one of them fails
//! all are undone, and each is done alone: nobody fails for the sake of another.
//!
//! A thread of its own, because an operation goes to SQLite's thread and back with every statement: among the
//! tasks of the runtime each of these steps would wait for whatever else is to be polled, with the file
//! locked and everybody waiting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::verdict::verdict;
use crate::store::attempt::{attempt, ended};
use crate::store::fault::{Fault, PATIENCE, panicked};
use crate::store::sql::{Conn, Deed};

/// Operations in one transaction at most: each may be as long as a transaction should be.
const TOGETHER: usize = 16;

struct Operation {
    deed: Deed,
    since: Instant,
    answer: oneshot::Sender<Result<(), Fault>>,
}

/// The entrance; clones lead to the same thread, which ends when the last of them is gone.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::UnboundedSender<Operation>);

impl Writer {
    /// Starts it on a pool, which it uses one connection of. An operation waits for its turn so long at most.
    ///
    /// # Errors
    /// When the machine has no thread for it.
    pub fn start(pool: SqlitePool, longest_wait: Duration) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (entrance, operations) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("ledger".into())
            .spawn(move || runtime.block_on(serve(operations, pool, longest_wait)))?;
        Ok(Self(entrance))
    }

    /// Does something in a transaction.
    pub async fn write(self, deed: Deed) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send(Operation { deed, since: Instant::now(), answer });
        answered.await.unwrap_or(Err(Fault::Sql(sqlx::Error::WorkerCrashed)))
    }
}

async fn serve(mut operations: mpsc::UnboundedReceiver<Operation>, pool: SqlitePool, longest_wait: Duration) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while operations.recv_many(&mut waiting, TOGETHER).await > 0 {
        let all: Arc<[Deed]> = waiting.iter().map(|operation| operation.deed.clone()).collect();
        let written = all.len() > 1 && transaction(&pool, all).await.is_ok();
        for Operation { deed, since, answer } in waiting.drain(..) {
            let done = match written {
                true => Ok(()),
                false if since.elapsed() > longest_wait => Err(Fault::Sql(sqlx::Error::PoolTimedOut)),
                false => transaction(&pool, Arc::new([deed])).await,
            };
            // Whoever asked may be gone.
            let _ = answer.send(done);
        }
    }
}

/// One after the other, all or nothing.
async fn transaction(pool: &SqlitePool, deeds: Arc<[Deed]>) -> Result<(), Fault> {
    let conn = pool.acquire().await?;
    let done = attempt(conn, PATIENCE, verdict, move |conn| {
        enclosed(conn, move |conn| in_order(conn, deeds)).boxed()
    });
    // A panic is a mistake in one operation, and this thread is everybody's.
    AssertUnwindSafe(done).catch_unwind().await.unwrap_or_else(|_| Err(panicked().into()))
}

/// Runs it in a transaction. `IMMEDIATE`, because one that begins by reading is refused at its first write,
/// without any wait, when another process has written meanwhile.
pub(super) async fn enclosed<F>(conn: &mut SqliteConnection, work: F) -> Result<(), Fault>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Fault>> + Send + Sync,
{
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    let done = work(&mut transaction).await;
    ended(transaction, done).await
}

fn in_order(conn: &mut SqliteConnection, deeds: Arc<[Deed]>) -> BoxFuture<'_, Result<(), Fault>> {
    async move {
        for deed in deeds.iter() {
            deed(&mut Conn::Sqlite(&mut *conn)).await?;
        }
        Ok(())
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use tokio::sync::Notify;

    use super::*;
    use crate::store::Retry;

    async fn started(directory: &std::path::Path) -> (SqlitePool, Writer) {
        let options =
            SqliteConnectOptions::new().filename(directory.join("ledger.db")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        sqlx::query("CREATE TABLE done (number INTEGER)").execute(&pool).await.expect("a table");
        let writer = Writer::start(pool.clone(), Duration::from_secs(60)).expect("a thread");
        (pool, writer)
    }

    async fn insert(conn: &mut Conn<'_>, number: i64) -> Result<(), Fault> {
        conn.sql("INSERT INTO done VALUES (?)").bind(number).execute().await?;
        match number {
            7 => Err(Fault::Again(Retry::Conflict, "seven".into())),
            13 => panic!("thirteen"),
            _ => Ok(()),
        }
    }

    #[tokio::test]
    async fn nobody_fails_for_the_sake_of_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let (pool, writer) = started(directory.path()).await;
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gate = (begun.clone(), go.clone());
        let first = writer.clone().write(Arc::new(move |_: &mut Conn<'_>| {
            let (begun, go) = gate.clone();
            async move {
                begun.notify_one();
                go.notified().await;
                Ok(())
            }
            .boxed()
        }));
        let first = tokio::spawn(first);
        begun.notified().await;
        // These wait together, and are tried together.
        let others = [1, 7, 2, 13, 3].map(|number| {
            let writer = writer.clone();
            tokio::spawn(writer.write(Arc::new(move |conn: &mut Conn<'_>| insert(conn, number).boxed())))
        });
        tokio::task::yield_now().await;
        go.notify_one();
        assert!(first.await.expect("no panic here").is_ok());
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.expect("no panic here").is_ok());
        }
        assert_eq!(answers, [true, false, true, false, true]);
        let done: Vec<i64> = sqlx::query_scalar("SELECT number FROM done ORDER BY number")
            .fetch_all(&pool)
            .await
            .expect("rows");
        assert_eq!(done, [1, 2, 3], "each once, and nothing of those that failed");
    }
}
