//! Why no connection can be had, in words that say what to do.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};
use sqlx::{ConnectOptions, Connection};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::verdict::verdict;
use crate::store::fault::{Verdict, Way};
use crate::store::{Refusal, StoreError};

/// How long a look may take: whoever waits for it has waited already.
const LOOK: Duration = Duration::from_millis(500);
/// How long what was seen is taken to be so.
const FRESH: Duration = Duration::from_secs(2);

/// Finds out why the pool had no connection in time. The pool itself does not say: it takes a server that
/// refuses connections for one that is starting.
#[derive(Debug)]
pub(super) struct Lookout {
    options: MySqlConnectOptions,
    way: Way,
    seen: Mutex<Option<(Instant, Seen)>>,
}

#[derive(Debug, Clone)]
enum Seen {
    NoDatabase(String),
    Refused(Refusal, String),
}

impl Lookout {
    pub fn new(options: MySqlConnectOptions, way: Way) -> Self {
        Self { options, way, seen: Mutex::default() }
    }

    /// Looks, or says what has just been seen: many may ask at once, and a server that is short of
    /// connections needs none of ours.
    pub async fn why(&self, safe_url: &str) -> StoreError {
        let mut kept = self.seen.lock().await;
        let seen = match &*kept {
            Some((at, seen)) if at.elapsed() < FRESH => seen.clone(),
            _ => {
                let seen = self.look().await;
                *kept = Some((Instant::now(), seen.clone()));
                seen
            }
        };
        drop(kept);
        let safe_url = safe_url.to_owned();
        match seen {
            Seen::NoDatabase(reason) => StoreError::NoDatabase { safe_url, reason },
            Seen::Refused(cause, reason) => StoreError::Unavailable { safe_url, reason, cause },
        }
    }

    async fn look(&self) -> Seen {
        match timeout(LOOK, self.options.connect()).await {
            Ok(Ok(conn)) => {
                // Only its end is of interest, and the server sees to that as well.
                _ = timeout(LOOK, conn.close()).await;
                let reason = "all connections of this process are in use; more of them are allowed with manager.db.max_connections";
                Seen::Refused(Refusal::Limit, reason.to_owned())
            }
            Ok(Err(error)) => {
                let reason = explain(&error, &self.way).unwrap_or_else(|| error.to_string());
                match verdict(&error) {
                    Verdict::NoDatabase => Seen::NoDatabase(reason),
                    Verdict::Refused(cause) => Seen::Refused(cause, reason),
                    _ => Seen::Refused(Refusal::Other, reason),
                }
            }
            Err(_) => {
                let Way { host, port, .. } = &self.way;
                let reason = match timeout(LOOK, TcpStream::connect((host.as_str(), *port))).await {
                    Ok(Ok(_)) => format!(
                        "something listens at {host}:{port} and does not say hello as MySQL and MariaDB do; correct the port in manager.db.uri, or \
                         look whether the server hangs"
                    ),
                    _ => silent(&self.way),
                };
                Seen::Refused(Refusal::Unreachable, reason)
            }
        }
    }
}

fn silent(Way { host, port, .. }: &Way) -> String {
    format!("{host}:{port} does not answer; check host and port in manager.db.uri, and firewalls on the way")
}

/// What to do about an error; nothing for one that is not about the way in.
pub(super) fn explain(error: &sqlx::Error, way: &Way) -> Option<String> {
    let Way { user, host, port, database } = way;
    match error {
        sqlx::Error::Database(told) => {
            let number = told.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)?;
            let remedy = match number {
                1045 | 1698 => format!(
                    "the server does not let user `{user}` in with this password; check both in manager.db.uri (other characters than \
                     letters and digits percent-encoded), and from which hosts the user may connect"
                ),
                1130 => format!(
                    "the server lets nobody in from this host; allow it: CREATE USER '{user}'@'HOST' IDENTIFIED BY ..., with this host's name \
                     or address, or %"
                ),
                1044 => format!(
                    "user `{user}` may not use the database `{database}`, or there is none; as the administrator: \
                     CREATE DATABASE IF NOT EXISTS {database}; GRANT ALL ON {database}.* TO {user}"
                ),
                1142 | 1143 | 1227 | 1370 => {
                    format!("user `{user}` has too few rights; as the administrator: GRANT ALL ON {database}.* TO {user}")
                }
                1049 => format!(
                    "the server has no database `{database}`; `tasker initialize --database` creates it if user `{user}` may, else as the \
                     administrator: CREATE DATABASE {database}; GRANT ALL ON {database}.* TO {user}"
                ),
                1040 | 1203 => {
                    "the server has no connection left; raise its max_connections, or lower manager.db.max_connections".to_owned()
                }
                3159 => "the server insists on TLS; add ?ssl-mode=VERIFY_IDENTITY to manager.db.uri".to_owned(),
                _ => return None,
            };
            Some(format!("{remedy} ({number}: {})", told.message()))
        }
        sqlx::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Some(format!(
                "nothing listens at {host}:{port} (connection refused); start the server, or correct host and port in manager.db.uri"
            )),
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Some(format!("{} ({error})", silent(way)))
            }
            ErrorKind::UnexpectedEof => Some(format!(
                "{host}:{port} ended the connection without a hello of MySQL; is there a MySQL or MariaDB server behind this port?"
            )),
            // The standard library has no kind for it.
            _ if error.to_string().contains("lookup address") => Some(format!(
                "the host name `{host}` is not known ({error}); correct it in manager.db.uri, or the name service"
            )),
            _ => None,
        },
        sqlx::Error::Tls(error) if error.to_string().contains("does not support TLS") => Some(format!(
            "the server at {host}:{port} does not speak TLS, which ssl-mode in manager.db.uri demands; set it up there, or take \
             ssl-mode=DISABLED on a network that you trust"
        )),
        sqlx::Error::Tls(error) => Some(format!(
            "TLS with {host}:{port} failed: {error}; name the server's CA with ssl-ca=FILE in manager.db.uri, and the server as its \
             certificate does"
        )),
        sqlx::Error::Protocol(error) => Some(format!(
            "{host}:{port} does not speak the protocol of MySQL ({error}); correct the port in manager.db.uri"
        )),
        _ => None,
    }
}
