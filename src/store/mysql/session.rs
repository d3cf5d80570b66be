//! Connections, and how an operation runs on one.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection, MySqlPool};

use super::schema;
use super::trouble::{self, Lookout};
use crate::config;
use crate::domain::Timestamp;
use crate::store::attempt::{attempt, ended};
use crate::store::fault::{ACQUIRE, Fault, MIGRATION_PATIENCE, PATIENCE, Site, Verdict, Way, retried};
use crate::store::migrations::Change;
use crate::store::sql::{Conn, Work};
use crate::store::{Refusal, Result, Retry, StoreError, Tally, batch};

/// Said to every new connection. sqlx itself sets UTC and utf8mb4. Strict: a value that does not fit is an error and not a shorter value;
/// nothing of the server's own mode is left. Waiting for a lock of a row or a table longer than a batch takes means that its holder hangs.
const HELLO: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                     SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 5, \
                     sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'";
/// What a packet has beside the rows of a statement, generously: see [`batch::padded_rows`].
const PACKET_REST: usize = 320 << 10;
/// A connection that lay longer than this is asked whether it lives before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Statements remembered on each connection: more than there are shapes, see `batch`.
const STATEMENTS: usize = 256;

/// How a server is reached.
#[derive(Debug)]
pub(in crate::store) struct Session {
    pool: MySqlPool,
    options: MySqlConnectOptions,
    site: Arc<Site>,
    lookout: Arc<Lookout>,
    /// The longest packet that the server takes, as the newest connection knows it; [`usize::MAX`] before there was one.
    packet: Arc<AtomicUsize>,
}

impl Session {
    /// Prepares to connect; nothing is sent before the first operation.
    ///
    /// # Errors
    /// [`StoreError::Address`] when the address cannot be used.
    pub fn new(database: &config::Database) -> Result<Self> {
        let unusable = |reason: String| StoreError::Address { reason };
        let options = MySqlConnectOptions::from_str(database.uri.reveal()).map_err(|error| unusable(error.to_string()))?;
        let Some(name) = options.get_database() else {
            return Err(unusable("it names no database: mysql://user:password@host:port/database".into()));
        };
        let name = name.to_owned();
        let safe_url = format!("mysql://{}@{}:{}/{name}", options.get_username(), options.get_host(), options.get_port());
        let mut options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        if let (true, Ok(level)) = (database.verbose, "info".parse()) {
            options = options.log_statements(level);
        }
        let packet = Arc::new(AtomicUsize::new(usize::MAX));
        let known = packet.clone();
        let pool = MySqlPoolOptions::new()
            .max_connections(database.max_connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|conn, lay| {
                async move {
                    if lay.idle_for > TRUSTED {
                        conn.ping().await?;
                    }
                    Ok(true)
                }
                .boxed()
            })
            .after_connect(move |conn, _| {
                let known = known.clone();
                async move {
                    conn.execute(HELLO).await?;
                    let packet: u64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS UNSIGNED)").fetch_one(conn).await?;
                    known.store(usize::try_from(packet).unwrap_or(usize::MAX), Ordering::Relaxed);
                    Ok(())
                }
                .boxed()
            })
            .connect_lazy_with(options.clone());
        let (user, host) = (options.get_username().to_owned(), options.get_host().to_owned());
        let way = Way { user, host, port: options.get_port(), database: name };
        let lookout = Arc::new(Lookout::new(options.clone(), way.clone()));
        let site = Arc::new(Site { safe_url, tally: Tally::default(), verdict, way, explain: trouble::explain });
        Ok(Self { pool, options, site, lookout, packet })
    }

    /// What went wrong so far.
    pub fn tally(&self) -> &Tally {
        &self.site.tally
    }

    /// Bytes that a row may have.
    pub fn largest_row(&self) -> usize {
        let packet = self.packet.load(Ordering::Relaxed);
        packet - PACKET_REST.min(packet / 4)
    }

    /// Refuses rows of these sizes when they do not fit into statements that the server takes. It would close the connection over them,
    /// at times before it has said why.
    pub fn fits(&self, sizes: impl Iterator<Item = usize>) -> Result<()> {
        let most = self.largest_row();
        // Short rows go together into statements of so many bytes.
        let bytes = if most < batch::BYTES { sizes.sum() } else { sizes.max().unwrap_or_default() };
        if bytes <= most { Ok(()) } else { Err(StoreError::TooLarge { bytes, most }) }
    }

    /// Runs statements that need no transaction around them.
    pub async fn run<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T> {
        let work = Arc::new(work);
        self.run_within(PATIENCE, move |conn| alone(conn, work.clone()).boxed()).await
    }

    /// Runs statements in a transaction. After any error it is rolled back and never used again: after a deadlock the
    /// server has rolled back already, and a further statement would commit on its own.
    pub async fn transact<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T> {
        let work = Arc::new(work);
        self.run_within(PATIENCE, move |conn| enclosed(conn, work.clone()).boxed()).await
    }

    /// Runs statements, which may take longer than any of ours, as migrations do.
    async fn run_within<T, F>(&self, patience: Duration, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        let (pool, work) = (self.pool.clone(), Arc::new(work));
        let (site, lookout) = (self.site.clone(), self.lookout.clone());
        let again = move || {
            let (pool, site, lookout, work) = (pool.clone(), site.clone(), lookout.clone(), work.clone());
            async move {
                match pool.acquire().await {
                    Ok(conn) => attempt(conn, patience, verdict, move |conn| work(conn)).await,
                    Err(sqlx::Error::PoolTimedOut) => Err(Fault::Told(lookout.why(&site.safe_url).await)),
                    Err(error) => Err(Fault::Sql(error)),
                }
            }
        };
        retried(self.site.clone(), again).await
    }

    /// The server's time of day.
    pub async fn now(&self) -> Result<Timestamp> {
        self.run(|conn| async { conn.sql("SELECT UTC_TIMESTAMP(6)").fetch_one().await?.get(0) }.boxed()).await
    }

    /// Creates the database if the server has none of this name and the user may.
    async fn create_database(&self) -> Result<()> {
        let error = match self.run_within(PATIENCE, |_| async { Ok(()) }.boxed()).await {
            Err(error @ StoreError::NoDatabase { .. }) => error,
            other => return other,
        };
        let options = self.options.clone();
        let name = options.get_database().unwrap_or_default().replace('`', "``");
        let created = retried(self.site.clone(), move || {
            let (options, name) = (options.clone(), name.clone());
            async move {
                let mut conn = options.database("").connect().await?;
                let statement = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
                conn.execute(AssertSqlSafe(statement)).await?;
                conn.close().await?;
                Ok(())
            }
        });
        // That the database is missing says more than that we may not make it.
        created.await.map_err(|_| error)
    }

    /// Changes the schema, however long that takes. A database that is not there yet is made.
    pub async fn change_schema(&self, change: Change) -> Result<()> {
        self.create_database().await?;
        self.run_within(MIGRATION_PATIENCE, move |conn| schema::change(conn, change).boxed()).await
    }

    /// Whether the schema is this program's.
    pub async fn check_schema(&self) -> Result<()> {
        self.run_within(PATIENCE, |conn| schema::check(conn).boxed()).await
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn alone<T>(conn: &mut MySqlConnection, work: Arc<impl Work<T>>) -> Result<T, Fault> {
    work(&mut Conn::MySql(conn)).await
}

async fn enclosed<T>(conn: &mut MySqlConnection, work: Arc<impl Work<T>>) -> Result<T, Fault> {
    let mut transaction = conn.begin().await?;
    let done = work(&mut Conn::MySql(&mut transaction)).await;
    ended(transaction, done).await
}

/// What an error means.
pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(database) = error else { return Verdict::of_driver(error) };
    let number = database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
    of_number(number.unwrap_or_default(), database.code().as_deref().unwrap_or_default(), database.message())
}

fn of_number(number: u16, sqlstate: &str, message: &str) -> Verdict {
    match number {
        1213 | 1614 => Verdict::Again(Retry::Deadlock),
        1205 => Verdict::Again(Retry::LockWait),
        // A transaction that is too large for the cluster or its log; smaller ones get through.
        1105 if message.contains("writeset size") => Verdict::Rows,
        1180 if message.contains("error 90") => Verdict::Rows,
        1118 | 1197 => Verdict::Rows,
        // Snapshot too old, Galera's refusal of a commit, a changed table, a statement to be prepared anew, a certification that failed.
        1020 | 1180 | 1412 | 1615 | 3101 => Verdict::Again(Retry::Conflict),
        // Longer than a packet, or its result.
        1153 | 1301 => Verdict::Rows,
        // Null, double, without its parent or with children, no text of its character set, cut short, against a check.
        1048 | 1062 | 1216 | 1217 | 1264 | 1265 | 1300 | 1366 | 1406 | 1451 | 1452 | 3819 | 4025 => Verdict::Rows,
        1049 => Verdict::NoDatabase,
        // No such table, column, key; a column without a value or too many of them.
        1051 | 1054 | 1136 | 1146 | 1176 | 1364 => Verdict::Schema,
        // Syntax, an ambiguous name, an unknown function, too many values in one statement.
        1052 | 1064 | 1149 | 1305 | 1390 => Verdict::Defect,
        // SQLSTATE 22: data exceptions.
        _ if sqlstate.starts_with("22") => Verdict::Rows,
        1290 | 1792 | 1836 | 1874 | 3989 => Verdict::Refused(Refusal::ReadOnly),
        1021 | 1026 | 1114 => Verdict::Refused(Refusal::Full),
        1030 if message.contains("error 28") => Verdict::Refused(Refusal::Full),
        1030 | 1033 | 1034 | 1035 | 1194 | 1195 | 1932 => Verdict::Refused(Refusal::Storage),
        1037 | 1038 | 1040 | 1041 | 1135 | 1203 | 1206 | 1226 | 1461 | 1637 => Verdict::Refused(Refusal::Limit),
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1698 | 3118 | 3159 => Verdict::Refused(Refusal::Denied),
        1317 | 1927 | 1969 | 3024 => Verdict::Refused(Refusal::Interrupted),
        1047 | 1053 | 1077..=1079 | 1129 | 1152 | 1154..=1161 | 3168 => Verdict::Refused(Refusal::Unreachable),
        _ => Verdict::Refused(Refusal::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_list_is_about_rows() {
        let about_rows: Vec<u16> = (0..u16::MAX).filter(|number| of_number(*number, "HY000", "") == Verdict::Rows).collect();
        let listed = [1048, 1062, 1118, 1153, 1197, 1216, 1217, 1264, 1265, 1300, 1301, 1366, 1406, 1451, 1452, 3819, 4025];
        assert_eq!(about_rows, listed);
        // Whatever a server comes with that nobody has listed.
        assert_eq!(of_number(9999, "22032", ""), Verdict::Rows);
        assert_eq!(of_number(9999, "HY000", ""), Verdict::Refused(Refusal::Other));
    }

    #[test]
    fn what_the_state_of_the_server_forbids_is_told_from_what_rows_are() {
        use Refusal::{Denied, Full, Interrupted, Limit, Other, ReadOnly, Storage, Unreachable};
        for (number, message, cause) in [
            (1021, "", Full),
            (1114, "The table 'response' is full", Full),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB", Full),
            (1030, "Got error 168 from storage engine", Storage),
            (1206, "", Limit),
            (1461, "", Limit),
            (1040, "", Limit),
            (1792, "", ReadOnly),
            (1290, "", ReadOnly),
            (3989, "", ReadOnly),
            (1969, "", Interrupted),
            (3024, "", Interrupted),
            (1045, "", Denied),
            (1047, "", Unreachable),
            (3572, "", Other),
            (4031, "", Other),
            (1243, "", Other),
            (1099, "", Other),
        ] {
            let verdict = of_number(number, "HY000", message);
            assert_eq!(verdict, Verdict::Refused(cause), "{number}");
            assert!(verdict.spoils());
        }
        for (number, retry) in [(1213, Retry::Deadlock), (1205, Retry::LockWait), (1615, Retry::Conflict), (1412, Retry::Conflict)] {
            assert_eq!(of_number(number, "HY000", ""), Verdict::Again(retry));
        }
        assert_eq!(of_number(1180, "HY000", "Got error 90 \"Message too long\" during COMMIT"), Verdict::Rows);
        assert_eq!(of_number(1049, "42000", ""), Verdict::NoDatabase);
        for number in [1054, 1146, 1364] {
            assert_eq!(of_number(number, "42S02", ""), Verdict::Schema);
        }
        for number in [1064, 1305] {
            assert_eq!(of_number(number, "42000", ""), Verdict::Defect);
        }
    }

    #[tokio::test]
    async fn rows_have_to_fit_into_a_packet() {
        let database = config::Database { verbose: false, uri: config::Secret::new("mysql://u:p@127.0.0.1:1/tasker"), max_connections: 1 };
        let store = Session::new(&database).expect("an address");
        assert!(store.fits([usize::MAX - (1 << 20)].into_iter()).is_ok(), "nothing is known yet");
        store.packet.store(16 << 20, Ordering::Relaxed);
        assert!(store.fits(std::iter::repeat_n(1 << 20, 64)).is_ok(), "they go into several statements");
        let error = store.fits([1, 20 << 20].into_iter()).expect_err("it is longer than a packet");
        assert!(error.is_row_fault() && error.to_string().contains("20971520"), "{error}");
        store.packet.store(1 << 20, Ordering::Relaxed);
        assert!(store.fits(std::iter::repeat_n(1 << 17, 8)).is_err_and(|error| error.is_row_fault()));
        assert!(store.fits(std::iter::repeat_n(1 << 17, 4)).is_ok(), "half as many fit");
    }
}
