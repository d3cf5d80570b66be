//! The answers to a task, in groups of equal ones.

use futures::FutureExt;

use super::columns;
use super::fault::Fault;
use super::sql::{Conn, Row};
use super::{Operation, Result, Store};
use crate::domain::{AnswerDigest, EndpointName, Json, TaskId};

/// Endpoints that gave the same answer.
#[derive(Debug, Clone)]
pub struct AnswerGroup {
    /// The name of the group.
    pub digest: AnswerDigest,
    /// How many they are.
    pub count: u64,
    /// The first of them by name.
    pub endpoint: EndpointName,
    /// Its error number.
    pub errnr: i32,
    /// Its message.
    pub errmsg: String,
    /// What it answered, where that is no longer than asked for.
    pub payload: Option<Json>,
    /// Whether it answered more than that.
    pub payload_omitted: bool,
}

/// The groups of a task.
#[derive(Debug, Clone, Default)]
pub struct AnswerGroups {
    /// The largest ones, in order of size.
    pub groups: Vec<AnswerGroup>,
    /// How many groups there are.
    pub total: u64,
    /// How many endpoints all groups have.
    pub answered: u64,
}

impl Store {
    /// The largest groups of equal answers to a task, each with the answer of one endpoint, whose payload may
    /// have so many characters.
    pub fn answers(&self, id: TaskId, limit: u32, payload: u32) -> Operation<'_, AnswerGroups> {
        self.run(move |conn| answers(conn, id, limit, payload).boxed())
    }
}

async fn answers(conn: &mut Conn<'_>, id: TaskId, limit: u32, payload: u32) -> Result<AnswerGroups, Fault> {
    let (key, answered, by_key) =
        (conn.dialect().by_answer(), conn.dialect().answered(), conn.dialect().by_primary_key());
    let characters = conn.dialect().characters();
    let mut select = conn.sql(format!(
        "SELECT g.answer, g.number, g.total, g.answered, e.endpoint, e.errnr, e.errmsg, \
         CASE WHEN {characters}(e.payload) <= ? THEN e.payload END, COALESCE({characters}(e.payload), 0) > ? \
         FROM (SELECT c.answer, c.number, c.exemplar, COUNT(*) OVER () AS total, \
         CAST(SUM(c.number) OVER () AS SIGNED) AS answered \
         FROM (SELECT r.answer, COUNT(*) AS number, MIN(r.endpoint) AS exemplar FROM response AS r {key} \
         WHERE {answered} AND r.task_id = ? GROUP BY r.answer) AS c ORDER BY c.number DESC, c.answer LIMIT ?) AS g \
         JOIN response AS e {by_key} ON e.task_id = ? AND e.endpoint = g.exemplar ORDER BY g.number DESC, g.answer"
    ));
    let rows = select.bind(payload).bind(payload).bind(id).bind(limit).bind(id).fetch_all().await?;
    let mut groups = AnswerGroups::default();
    for row in &rows {
        (groups.total, groups.answered) = (row.count(2)?, row.count(3)?);
        groups.groups.push(group(row, id)?);
    }
    Ok(groups)
}

fn group(row: &Row, id: TaskId) -> Result<AnswerGroup, Fault> {
    let payload: Option<String> = row.get(7)?;
    Ok(AnswerGroup {
        digest: row.get(0)?,
        count: row.count(1)?,
        endpoint: row.get(4)?,
        errnr: row.get(5)?,
        errmsg: row.get::<Option<String>>(6)?.unwrap_or_default(),
        payload: payload
            .map(|text| columns::json(text, || format!("response to task {id}, column payload")))
            .transpose()?,
        payload_omitted: row.get(8)?,
    })
}
