//! Groups of endpoints: stored selectors.

use std::sync::Arc;

use futures::{FutureExt, TryFutureExt};

use super::columns::{self, corrupt};
use super::fault::Fault;
use super::sql::Conn;
use super::{Operation, Result, Store};
use crate::domain::{GroupName, Groups, Selector, Timestamp, TokenName};

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its name.
    pub name: GroupName,
    /// Which endpoints are in it.
    pub selector: Selector,
    /// The token that has written it last; none where no token was needed.
    pub changed_by: Option<TokenName>,
    /// When that was.
    pub changed_at: Timestamp,
}

/// Groups at most: a submission that names one reads them all.
pub const MAX_GROUPS: usize = 1000;

/// What became of a group that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupWritten {
    /// It is new.
    New,
    /// It was there before.
    Changed,
    /// There are [`MAX_GROUPS`] already.
    TooMany,
}

impl Store {
    /// All groups, by name.
    pub fn groups(&self) -> Operation<'_, Vec<GroupRecord>> {
        self.run(|conn| all(conn).boxed())
    }

    /// The selectors of all groups.
    pub fn group_selectors(&self) -> Operation<'_, Groups> {
        let selectors = |groups: Vec<GroupRecord>| {
            groups.into_iter().map(|record| (record.name, record.selector)).collect()
        };
        self.groups().map_ok(selectors).boxed()
    }

    /// Writes a group, in the place of the one of its name.
    pub fn write_group(&self, group: &GroupRecord) -> Operation<'_, GroupWritten> {
        let group = Arc::new(group.clone());
        self.transact(move |conn| write(conn, group.clone()).boxed())
    }

    /// Deletes a group; whether there was one.
    pub fn delete_group(&self, name: &GroupName) -> Operation<'_, bool> {
        let name = name.clone();
        self.transact(move |conn| delete(conn, name.clone()).boxed())
    }
}

async fn all(conn: &mut Conn<'_>) -> Result<Vec<GroupRecord>, Fault> {
    let rows = conn
        .sql("SELECT name, selector, changed_by, changed_at FROM endpoint_group ORDER BY name")
        .fetch_all()
        .await?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: &str = row.get(0)?;
        let at = |column: &str| format!("group {name}, column {column}");
        let selector: &str = row.get(1)?;
        groups.push(GroupRecord {
            name: columns::name(name, || at("name"))?,
            selector: Selector::stored(selector).map_err(|error| corrupt(at("selector"), error))?,
            changed_by: columns::optional_name(row.get(2)?, || at("changed_by"))?,
            changed_at: row.get(3)?,
        });
    }
    Ok(groups)
}

async fn write(conn: &mut Conn<'_>, group: Arc<GroupRecord>) -> Result<GroupWritten, Fault> {
    let mut names = conn.sql("SELECT name FROM endpoint_group");
    let rows = names.fetch_all().await?;
    let known = rows
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<Vec<&str>, Fault>>()?
        .contains(&group.name.as_str());
    if !known && rows.len() >= MAX_GROUPS {
        return Ok(GroupWritten::TooMany);
    }
    let mut insert = conn.insert("endpoint_group");
    insert
        .row()
        .set("name", group.name.as_str())
        .set("selector", group.selector.to_string())
        .set("changed_by", group.changed_by.as_ref().map(TokenName::as_str))
        .set("changed_at", group.changed_at);
    insert.or_update(&["name"]).await?;
    Ok(if known { GroupWritten::Changed } else { GroupWritten::New })
}

async fn delete(conn: &mut Conn<'_>, name: GroupName) -> Result<bool, Fault> {
    Ok(conn.sql("DELETE FROM endpoint_group WHERE name = ?").bind(name.as_str()).execute().await? > 0)
}
