//! Who may use the API.

use std::sync::Arc;

use sqlx::{MySqlConnection, Row};

use super::rows::{datetime, optional_time, time};
use crate::domain::{EndpointName, Token, TokenName};
use crate::store::fault::Fault;
use crate::store::tokens::{self, TokenColumns};
use crate::store::{TokenCreated, columns};

pub(super) async fn create(conn: &mut MySqlConnection, token: Arc<Token>) -> Result<TokenCreated, Fault> {
    let made = sqlx::query(
        "INSERT INTO token (id, name, hash, scopes, task_types, created_at, expires_at, worker) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE id = id",
    );
    made.bind(token.id)
        .bind(token.name.as_str())
        .bind(token.hash.as_bytes().as_slice())
        .bind(tokens::scopes(&token.scopes))
        .bind(columns::list(&token.task_types)?)
        .bind(datetime(token.created_at))
        .bind(token.expires_at.map(datetime))
        .bind(token.worker.as_ref().map(EndpointName::as_str))
        .execute(&mut *conn)
        .await?;
    // Not by the number of rows: what it counts for a row that was there depends on the server and the driver.
    let holders = sqlx::query("SELECT id, name FROM token WHERE name = ? OR hash = ?")
        .bind(token.name.as_str())
        .bind(token.hash.as_bytes().as_slice())
        .fetch_all(conn)
        .await?;
    let holders = holders.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(tokens::created(&token, &holders))
}

pub(super) async fn all(conn: &mut MySqlConnection) -> Result<Vec<Token>, Fault> {
    let rows = sqlx::query("SELECT id, name, hash, scopes, task_types, created_at, expires_at, worker FROM token ORDER BY name")
        .fetch_all(conn)
        .await?;
    let mut tokens = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = TokenColumns {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            hash: row.try_get(2)?,
            scopes: row.try_get(3)?,
            task_types: row.try_get(4)?,
            created_at: time(row, 5)?,
            expires_at: optional_time(row, 6)?,
            worker: row.try_get(7)?,
        };
        tokens.push(columns.decode()?);
    }
    Ok(tokens)
}

pub(super) async fn delete(conn: &mut MySqlConnection, name: TokenName) -> Result<bool, Fault> {
    let deleted = sqlx::query("DELETE FROM token WHERE name = ?").bind(name.as_str()).execute(conn).await?;
    Ok(deleted.rows_affected() > 0)
}
