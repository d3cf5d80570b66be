//! Single values, and leases for what one of several managers does at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::Farm;
use crate::domain::Timestamp;
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result};

impl Farm {
    /// A value.
    pub fn note(&self, name: &'static str) -> Operation<'_, Option<String>> {
        self.store.run(move |conn| read(conn, name).boxed())
    }

    /// Keeps a value.
    pub fn set_note(&self, name: &'static str, value: &str) -> Operation<'_, ()> {
        let value: Arc<str> = value.into();
        self.store.transact(move |conn| write(conn, name, value.clone()).boxed())
    }

    /// Forgets a value.
    pub fn forget_note(&self, name: &'static str) -> Operation<'_, ()> {
        let delete = "DELETE FROM farm_note WHERE name = ?";
        self.store.transact(move |conn| {
            async move { conn.sql(delete).bind(name).execute().await.map(drop) }.boxed()
        })
    }

    /// Takes a lease, or keeps it for longer; whether this holder has it now. Until it runs out or is given
    /// back nobody else gets it.
    pub fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        now: Timestamp,
        hold: Duration,
    ) -> Operation<'_, bool> {
        let holder: Arc<str> = holder.into();
        self.store.transact(move |conn| take(conn, name, holder.clone(), now, now.after(hold)).boxed())
    }

    /// Gives a lease back.
    pub fn return_lease(&self, name: &'static str, holder: &str) -> Operation<'_, ()> {
        let holder: Arc<str> = holder.into();
        let delete = "DELETE FROM farm_note WHERE name = ? AND value = ?";
        self.store.transact(move |conn| {
            let holder = holder.clone();
            async move { conn.sql(delete).bind(name).bind(&*holder).execute().await.map(drop) }.boxed()
        })
    }
}

async fn read(conn: &mut Conn<'_>, name: &'static str) -> Result<Option<String>, Fault> {
    let row = conn.sql("SELECT value FROM farm_note WHERE name = ?").bind(name).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

async fn write(conn: &mut Conn<'_>, name: &'static str, value: Arc<str>) -> Result<(), Fault> {
    let mut insert = conn.insert("farm_note");
    insert.row().set("name", name).set("value", &*value);
    insert.or_update(&["name"]).await
}

async fn take(
    conn: &mut Conn<'_>,
    name: &'static str,
    holder: Arc<str>,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, Fault> {
    let mut insert = conn.insert("farm_note");
    insert.row().set("name", name).set("value", &*holder).set("until", until);
    insert.or_keep("name").await?;
    let mut take = conn.sql("UPDATE farm_note SET value = ?, until = ? WHERE name = ? AND (value = ? OR until IS NULL OR until <= ?)");
    take.bind(&*holder).bind(until).bind(name).bind(&*holder).bind(now).execute().await?;
    Ok(read(conn, name).await?.as_deref() == Some(&*holder))
}
