//! The server's lock for a process that has the database for itself.

use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlConnection};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::store::fault::Fault;

/// How often the connection is used, so that neither the server nor anything between takes it for forgotten;
/// and how long an answer may take.
const PING: Duration = Duration::from_secs(10);
/// Seconds to wait for the lock: the server may not have noticed yet that its last holder has ended.
const WAIT: u32 = 5;

/// Takes the lock of the database; `None` while another connection has it. It ends with the connection.
pub(super) async fn take(options: &MySqlConnectOptions) -> Result<Option<MySqlConnection>, Fault> {
    let mut conn = options.connect().await?;
    let lock = "SELECT GET_LOCK(CONCAT('tasker.up.', LEFT(SHA2(DATABASE(), 256), 40)), ?)";
    let got: Option<i64> = sqlx::query_scalar(lock).bind(WAIT).fetch_one(&mut conn).await?;
    Ok((got == Some(1)).then_some(conn))
}

/// Keeps the lock, and takes it again after the connection was lost; says when another one has taken it
/// meanwhile.
pub(super) async fn keep(mut conn: MySqlConnection, options: MySqlConnectOptions, lost: CancellationToken) {
    loop {
        sleep(PING).await;
        if timeout(PING, conn.ping()).await.is_ok_and(|answer| answer.is_ok()) {
            continue;
        }
        match take(&options).await {
            Ok(Some(again)) => conn = again,
            Ok(None) => {
                tracing::error!("another process has taken the database while the connection to it was lost");
                return lost.cancel();
            }
            Err(_) => tracing::debug!("the claim of the database cannot be renewed yet"),
        }
    }
}
