//! What several integration tests need.

pub mod clock;
pub mod fleet;
pub mod loader;
pub mod management;
pub mod oracle;
pub mod page;
pub mod place;
pub mod platform;
pub mod power;
mod preload;
pub mod presence;
pub mod proxy;
pub mod queues;
pub mod roller;
pub mod tap;

use tasker::config::{MessageQueue, Secret};

/// Sends a request; answers status and body.
pub fn send(
    runtime: &tokio::runtime::Runtime,
    request: reqwest::RequestBuilder,
) -> anyhow::Result<(u16, String)> {
    runtime.block_on(async {
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

/// The broker of the tests, with a prefix of the test's own.
pub fn message_queue() -> MessageQueue {
    let url = std::env::var("TASKER_TEST_AMQP").expect("TASKER_TEST_AMQP is not set: run `cargo xtask test`");
    message_queue_at(&url)
}

/// The root of a broker, with a prefix of the test's own.
pub fn message_queue_at(url: &str) -> MessageQueue {
    let url: reqwest::Url = url.parse().expect("a broker has an address");
    MessageQueue {
        host: url.host_str().expect("an address has a host").to_owned(),
        port: url.port().unwrap_or(5672),
        username: url.username().to_owned(),
        password: Secret::new(url.password().unwrap_or_default()),
        virtual_host: "/".to_owned(),
        exchange: format!("test-{}", uuid::Uuid::new_v4().simple()),
        queue: None,
        routing_key: None,
        tls: false,
        tls_files: tasker::config::BrokerTls::default(),
    }
}

/// The sessions that a database server has of this user, or in this database (`column`: `user` or `db`).
/// MySQL cannot tell its list of processes while one of them runs a statement with bytes that are no text.
pub async fn sessions(conn: &mut sqlx::MySqlConnection, column: &str, value: &str) -> sqlx::Result<Vec<u64>> {
    let query = match is_mariadb(conn).await? {
        true => format!(
            "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE {column} = ? AND id <> CONNECTION_ID()"
        ),
        false => format!(
            "SELECT processlist_id FROM performance_schema.threads WHERE processlist_{column} = ? AND processlist_id <> CONNECTION_ID()"
        ),
    };
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(value).fetch_all(conn).await
}

/// The sessions that wait for another one's lock.
pub async fn waiting_sessions(conn: &mut sqlx::MySqlConnection) -> sqlx::Result<Vec<u64>> {
    let query = match is_mariadb(conn).await? {
        true => {
            "SELECT CAST(trx_mysql_thread_id AS UNSIGNED) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        }
        false => {
            "SELECT t.processlist_id FROM performance_schema.data_lock_waits AS w \
             JOIN performance_schema.threads AS t ON t.thread_id = w.requesting_thread_id"
        }
    };
    sqlx::query_scalar(query).fetch_all(conn).await
}

async fn is_mariadb(conn: &mut sqlx::MySqlConnection) -> sqlx::Result<bool> {
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(conn).await?;
    Ok(version.contains("MariaDB"))
}
