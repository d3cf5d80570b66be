//! What the Server is still to be told.

use std::sync::Arc;

use futures::FutureExt;

use super::Farm;
use crate::farm::{ObjectId, Update};
use crate::store::columns::{corrupt, json_text};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, batch};

impl Farm {
    /// The updates that wait, the oldest first.
    pub fn updates(&self, most: u32) -> Operation<'_, Vec<Update>> {
        self.store.run(move |conn| oldest(conn, most).boxed())
    }

    /// How many updates wait.
    pub fn count_updates(&self) -> Operation<'_, u64> {
        self.store.run(|conn| {
            async { conn.sql("SELECT COUNT(*) FROM farm_update").fetch_one().await?.count(0) }.boxed()
        })
    }

    /// Whether so many updates wait at least.
    pub fn has_updates(&self, least: u32) -> Operation<'_, bool> {
        self.store.run(move |conn| has(conn, least).boxed())
    }

    /// Forgets updates that the Server has.
    pub fn delete_updates(&self, ids: &[ObjectId]) -> Operation<'_, u64> {
        let ids: Arc<[ObjectId]> = ids.into();
        self.store.transact(move |conn| delete(conn, ids.clone()).boxed())
    }

    /// Forgets all updates; how many there were.
    pub fn delete_all_updates(&self) -> Operation<'_, u64> {
        self.store.transact(|conn| async { conn.sql("DELETE FROM farm_update").execute().await }.boxed())
    }
}

/// Queues updates, unless they are about a task of which the Server knows nothing.
pub(super) async fn queue(conn: &mut Conn<'_>, is_local: bool, updates: &[Update]) -> Result<(), Fault> {
    if is_local {
        return Ok(());
    }
    for update in updates {
        let document = json_text(update)?;
        let mut insert = conn.sql("INSERT INTO farm_update (id, task_id, document) VALUES (?, ?, ?)");
        insert.bind(update.id).bind(update.task).bind(document).execute().await?;
    }
    Ok(())
}

async fn oldest(conn: &mut Conn<'_>, most: u32) -> Result<Vec<Update>, Fault> {
    let mut select = conn.sql("SELECT document, id FROM farm_update ORDER BY number LIMIT ?");
    let read = |row: &crate::store::sql::Row| {
        let document: &str = row.get(0)?;
        let id: ObjectId = row.get(1)?;
        let update = serde_json::from_str(document)
            .map_err(|error| corrupt(format!("update {id}, column document"), error))?;
        Ok((update, document.len()))
    };
    select.bind(i64::from(most)).fetch_within(batch::READ_BYTES, read).await
}

async fn has(conn: &mut Conn<'_>, least: u32) -> Result<bool, Fault> {
    let mut select = conn.sql("SELECT number FROM farm_update ORDER BY number LIMIT 1 OFFSET ?");
    Ok(select.bind(i64::from(least.saturating_sub(1))).fetch_optional().await?.is_some())
}

async fn delete(conn: &mut Conn<'_>, ids: Arc<[ObjectId]>) -> Result<u64, Fault> {
    let mut deleted = 0;
    for ids in ids.chunks(batch::KEYS) {
        deleted += conn.sql("DELETE FROM farm_update WHERE id IN ").keys(ids).execute().await?;
    }
    Ok(deleted)
}
