//! A database beside the configured one, for the bench: made, filled, measured, dropped.

use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::{Result, StoreError};
use crate::config::{Database, Secret};

/// What the name of every scratch database has in it. Nothing without it is ever dropped.
const MARK: &str = "_bench_";

/// The same server and user with a database name of its own. Nothing is created yet: `migrate` does that.
///
/// # Errors
/// [`StoreError::Address`] when the address names no MySQL database.
pub fn scratch(database: &Database) -> Result<Database> {
    let unusable =
        || StoreError::Address { reason: "the bench needs mysql://user:password@host:port/database".into() };
    let (address, parameters) = match database.uri.reveal().split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (database.uri.reveal(), String::new()),
    };
    if !address.starts_with("mysql://") && !address.starts_with("mariadb://") {
        return Err(unusable());
    }
    let name = format!("{}{MARK}{:08x}", address.rsplit_once('/').ok_or_else(unusable)?.1, fastrand::u32(..));
    let server = address.rsplit_once('/').ok_or_else(unusable)?.0;
    Ok(Database { uri: Secret::new(format!("{server}/{name}{parameters}")), ..database.clone() })
}

/// Drops a database that [`scratch`] named.
///
/// # Errors
/// [`StoreError::Address`] for any other database; [`StoreError::Statement`] when it could not be dropped.
pub async fn drop_scratch(database: &Database) -> Result<()> {
    let refused = |reason: &str| StoreError::Address { reason: reason.to_owned() };
    let options =
        MySqlConnectOptions::from_str(database.uri.reveal()).map_err(|error| refused(&error.to_string()))?;
    let name = options.get_database().unwrap_or_default().to_owned();
    if !name.contains(MARK) {
        return Err(refused("not a scratch database"));
    }
    let drop = async {
        let mut conn = options.connect().await?;
        conn.execute(AssertSqlSafe(format!("DROP DATABASE `{}`", name.replace('`', "``")))).await?;
        conn.close().await
    };
    drop.await.map_err(|error| StoreError::Statement { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_server_user_and_parameters() {
        let database = |uri: &str| Database { verbose: false, uri: Secret::new(uri), max_connections: 4 };
        let made = scratch(&database("mysql://u:p@h:3306/tasker?ssl-mode=DISABLED")).expect("an address");
        let uri = made.uri.reveal();
        assert!(
            uri.starts_with("mysql://u:p@h:3306/tasker_bench_") && uri.ends_with("?ssl-mode=DISABLED"),
            "{uri}"
        );
        assert!(scratch(&database("sqlite:///x")).is_err());
    }

    #[tokio::test]
    async fn never_drops_another_database() {
        let real = Database {
            verbose: false,
            uri: Secret::new("mysql://u:p@127.0.0.1:1/tasker"),
            max_connections: 4,
        };
        assert!(matches!(drop_scratch(&real).await, Err(StoreError::Address { .. })));
    }
}
