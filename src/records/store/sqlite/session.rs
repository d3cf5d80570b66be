//! Connections, and how an operation runs on one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::RwLock;

use super::schema;
use super::verdict::verdict;
use super::writer::{Writer, enclosed};
use crate::config;
use crate::store::attempt::attempt;
use crate::store::claim::{self, Claim};
use crate::store::fault::{ACQUIRE, Fault, MIGRATION_PATIENCE, PATIENCE, Site, Way, retried};
use crate::store::migrations::Change;
use crate::store::sql::{Conn, Deed};
use crate::store::{Refusal, Result, StoreError, Tally};

/// Connections that read. They never wait for the one that writes, nor it for them.
const READERS: u32 = 4;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// Connections to a file that is read-only are made anew so often at most: everybody waits for it.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How a file is reached.
#[derive(Debug)]
pub(in crate::store) struct Session {
    /// One connection: SQLite has one writer, and a queue in front of it is fairer than its lock.
    writing: SqlitePool,
    writer: Writer,
    readers: SqlitePool,
    /// Held by every operation, and alone by whoever closes all connections: when that was done last.
    renewed: Arc<RwLock<Instant>>,
    site: Arc<Site>,
}

/// The longest text that SQLite takes, with room for the rest of its row.
const LARGEST_ROW: usize = 900_000_000;

impl Session {
    /// Prepares to open the file, which is made here if that is wanted and it is not there.
    ///
    /// # Errors
    /// [`StoreError::Address`] when the address cannot be used.
    pub fn new(database: &config::Database, make: bool) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(database.uri.reveal());
        let options = options.map_err(|error| StoreError::Address { reason: error.to_string() })?;
        let file = options.get_filename().display().to_string();
        let safe_url = format!("sqlite://{file}");
        if make {
            keep_private(options.get_filename());
        }
        // FULL: what was accepted or acknowledged is on the disk, also when the power goes.
        let mut options = options
            .create_if_missing(make)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .disable_statement_logging();
        if let (true, Ok(level)) = (database.verbose, "info".parse()) {
            options = options.log_statements(level);
        }
        let place = Arc::new(Place::new(options.get_filename().to_owned()));
        let pool = |connections| {
            let place = place.clone();
            SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false).before_acquire(
                move |_, connection| {
                    let same = place.has_been_there_for(connection.age);
                    async move { Ok(same) }.boxed()
                },
            )
        };
        // Whoever writes waits for those before, and each of them may wait for another process.
        let longest_wait = ACQUIRE + BUSY;
        let writing = pool(1).acquire_timeout(longest_wait).connect_lazy_with(options.clone());
        let readers = pool(READERS).acquire_timeout(ACQUIRE).connect_lazy_with(options);
        let writer =
            Writer::start(writing.clone(), longest_wait).map_err(|error| StoreError::Unavailable {
                safe_url: safe_url.clone(),
                reason: error.to_string(),
                cause: Refusal::Limit,
            })?;
        let way = Way { database: file, ..Way::default() };
        let site = Arc::new(Site { safe_url, tally: Tally::default(), verdict, way, explain });
        Ok(Self { writing, writer, readers, renewed: Arc::new(RwLock::new(Instant::now())), site })
    }

    /// What went wrong so far.
    pub fn tally(&self) -> &Tally {
        &self.site.tally
    }

    /// Bytes that a row may have.
    #[expect(clippy::unused_self, reason = "a server has to be asked")]
    pub const fn largest_row(&self) -> usize {
        LARGEST_ROW
    }

    /// Claims the database, by a lock on a file beside it: SQLite has locks of its own on the file itself.
    pub fn claim(&self) -> Result<Option<Claim>> {
        claim::lock(Path::new(&format!("{}.lock", self.site.way.database)))
    }

    /// Runs statements that only read.
    pub fn run(&self, deed: Deed) -> BoxFuture<'_, Result<()>> {
        self.run_on(&self.readers, PATIENCE, move |conn| alone(conn, deed.clone()).boxed())
    }

    fn run_on<F>(&self, pool: &SqlitePool, patience: Duration, work: F) -> BoxFuture<'_, Result<()>>
    where
        F: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), Fault>> + Send + Sync + 'static,
    {
        let (pool, renewed, work) = (pool.clone(), self.renewed.clone(), Arc::new(work));
        let again = move || {
            let (pool, renewed, work) = (pool.clone(), renewed.clone(), work.clone());
            async move {
                let _held = renewed.read().await;
                attempt(pool.acquire().await?, patience, verdict, move |conn| work(conn)).await
            }
        };
        self.renewed_after(retried(self.site.clone(), again)).boxed()
    }

    /// Runs statements in a transaction, one operation after the other.
    pub fn transact(&self, deed: Deed) -> BoxFuture<'_, Result<()>> {
        let (writer, renewed) = (self.writer.clone(), self.renewed.clone());
        let again = move || {
            let (writer, renewed, deed) = (writer.clone(), renewed.clone(), deed.clone());
            async move {
                let _held = renewed.read().await;
                writer.write(deed).await
            }
        };
        self.renewed_after(retried(self.site.clone(), again)).boxed()
    }

    /// What came of an operation, once the connections are renewed if it was refused for theirs.
    async fn renewed_after(&self, operation: impl Future<Output = Result<()>>) -> Result<()> {
        let since = Instant::now();
        let done = operation.await;
        self.renew_after(&done, since).await;
        done
    }

    /// Closes all connections at the same time after an operation was refused because the file is read-only.
    /// Those of one process share the file's shared memory as the first of them has opened it. If that was
    /// while nothing could be written, a new connection beside an old one could not write either, although
    /// everybody else can by now.
    async fn renew_after(&self, done: &Result<()>, since: Instant) {
        if !matches!(done, Err(StoreError::Unavailable { cause: Refusal::ReadOnly, .. })) {
            return;
        }
        let spared = |renewed: Instant| renewed > since || renewed.elapsed() < RENEW_EVERY;
        // A look first: a waiting writer holds up all readers.
        if spared(*self.renewed.read().await) {
            return;
        }
        let mut renewed = self.renewed.write().await;
        if spared(*renewed) {
            return;
        }
        // Waited for: one that has spoiled its connection has it closed in the background.
        if let Ok(writing) = self.writing.acquire().await {
            let _ = writing.close().await;
        }
        while let Some(reader) = self.readers.try_acquire() {
            let _ = reader.close().await;
        }
        *renewed = Instant::now();
    }

    /// Changes the schema, however long that takes.
    pub async fn change_schema(&self, change: Change) -> Result<()> {
        let patience = MIGRATION_PATIENCE;
        self.run_on(&self.writing, patience, move |conn| {
            enclosed(conn, move |conn| schema::change(conn, change).boxed()).boxed()
        })
        .await
    }

    /// Whether the schema is this program's.
    pub async fn check_schema(&self) -> Result<()> {
        self.run_on(&self.readers, PATIENCE, |conn| schema::check(conn).boxed()).await
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writing.close().await;
    }
}

async fn alone(conn: &mut SqliteConnection, deed: Deed) -> Result<(), Fault> {
    deed(&mut Conn::Sqlite(conn)).await
}

/// Where the file is. One that is removed or replaced stays as it is for whoever has it open: what is written
/// there is lost.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Which file was last seen there, and since when.
    seen: Mutex<(Option<(u64, u64)>, Instant)>,
}

impl Place {
    fn new(path: PathBuf) -> Self {
        let seen = Mutex::new((identity(&path), Instant::now()));
        Self { path, seen }
    }

    /// Whether the file that is there now was there when a connection of this age was opened.
    fn has_been_there_for(&self, age: Duration) -> bool {
        let now = identity(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != now {
            *seen = (now, Instant::now());
        }
        age <= seen.1.elapsed()
    }
}

/// Device and number of a file; none when there is none.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// What to do about a file that cannot be used.
fn explain(error: &sqlx::Error, way: &Way) -> Option<String> {
    let sqlx::Error::Database(told) = error else { return None };
    let remedy = match told.code()?.parse::<i32>().ok()? & 0xff {
        14 => {
            "the file or its directory may not be read and written by this user, or is not there; correct the path, or its owner and rights"
        }
        8 => "the file or its directory may not be written by this user; correct its owner and rights",
        26 => "the file is not an SQLite database; correct the path",
        _ => return None,
    };
    Some(format!("{}: {remedy} ({})", way.database, told.message()))
}

/// Makes the file for its owner alone, or takes the rights of others away: it holds all payloads and answers.
/// SQLite gives the files beside it the same mode. What cannot be done is left to the first use to tell.
fn keep_private(file: &Path) {
    // No file: a database in memory, or an address of SQLite's own kind.
    let name = file.to_string_lossy();
    if name == ":memory:" || name.starts_with("file:") {
        return;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    if made.is_ok() {
        return;
    }
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut path = file.as_os_str().to_owned();
        path.push(end);
        let mode = fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o077 != 0 && fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).is_ok() {
            let mode = format!("{:04o}", mode & 0o7777);
            tracing::warn!(path = %Path::new(&path).display(), mode, "the database file was readable by others; its mode is now 0600");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_not_used_for_another_file_than_it_has_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "first").expect("writes");
        let place = Place::new(path.clone());
        assert!(place.has_been_there_for(Duration::ZERO));
        std::fs::write(directory.path().join("other"), "second").expect("writes");
        std::fs::rename(directory.path().join("other"), &path).expect("renames");
        assert!(!place.has_been_there_for(Duration::from_secs(60)));
        assert!(place.has_been_there_for(Duration::ZERO), "opened after it was replaced");
        std::fs::remove_file(&path).expect("removes");
        assert!(!place.has_been_there_for(Duration::from_secs(60)));
    }
}
