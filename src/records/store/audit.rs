//! The audit log: entries that are added and never changed.
//!
//! One row, `audit_head`, has the end of the chain. Whoever adds entries locks it, so that they stand one
//! behind the other, whichever process writes them.

use std::sync::Arc;

use futures::FutureExt;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::columns::{corrupt, json, sha256};
use super::fault::Fault;
use super::sql::{Conn, Row, selected};
use super::window::least_id;
use super::{Operation, Result, Retry, Store, without_statements};
use crate::domain::{AuditEntry, AuditHash, Chain, Deed, Timestamp};

/// Submissions that are read at once.
const STEP: u32 = 5000;

/// Which entries to read.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only entries after this one, oldest first; without it, newest first.
    pub after: Option<u64>,
    /// Only entries before this one.
    pub before: Option<u64>,
    /// Only those of this actor.
    pub actor: Option<String>,
    /// Only those whose action begins so.
    pub action: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// The submissions of a span in few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submissions {
    /// How many there are.
    pub count: u64,
    /// SHA-256 of id, digest, token and address of each, in the order of the ids.
    pub sha256: AuditHash,
}

selected! {
    /// An entry as its row has it.
    EntryColumns<'r> {
        seq: i64 = "seq",
        at: Timestamp = "at",
        actor: String = "actor",
        action: String = "action",
        subject: String = "subject",
        detail: Option<String> = "detail",
        source: String = "source",
        request_id: Option<String> = "request_id",
        previous: &'r [u8] = "previous",
        hash: &'r [u8] = "hash",
    }
}

impl EntryColumns<'_> {
    fn decode(self) -> Result<AuditEntry> {
        let at = |column| format!("audit entry {}, column {column}", self.seq);
        Ok(AuditEntry {
            seq: self.seq.unsigned_abs(),
            at: self.at,
            actor: self.actor,
            action: self.action,
            subject: self.subject,
            detail: self.detail.map(|text| json(text, || at("detail"))).transpose()?,
            source: self.source,
            request_id: self.request_id,
            previous: AuditHash::from_bytes(sha256(self.previous, || at("previous"))?),
            hash: AuditHash::from_bytes(sha256(self.hash, || at("hash"))?),
        })
    }
}

impl Store {
    /// Adds deeds to the audit log; answers with their entries.
    pub fn audit(&self, deeds: Vec<Deed>, now: Timestamp) -> Operation<'_, Vec<AuditEntry>> {
        if deeds.is_empty() {
            return without_statements(Ok(Vec::new()));
        }
        let deeds: Arc<[Deed]> = deeds.into();
        self.transact(move |conn| append(conn, deeds.clone(), now).boxed())
    }

    /// Entries of the audit log.
    pub fn audit_entries(&self, query: &AuditQuery) -> Operation<'_, Vec<AuditEntry>> {
        let query = Arc::new(query.clone());
        self.run(move |conn| entries(conn, query.clone()).boxed())
    }

    /// The end of the audit log.
    pub fn audit_head(&self) -> Operation<'_, Chain> {
        self.run(|conn| async move { Ok::<_, Fault>(head(conn, "").await?.0) }.boxed())
    }

    /// Up to when submissions are accounted for in the audit log; none before the first time.
    pub fn audited_until(&self) -> Operation<'_, Option<Timestamp>> {
        self.run(|conn| async move { Ok::<_, Fault>(head(conn, "").await?.1) }.boxed())
    }

    /// Accounts for the submissions between two times, unless another process has since; answers with the
    /// entry. The first time begins the account.
    pub fn audit_submissions(
        &self,
        deed: Option<Deed>,
        since: Option<Timestamp>,
        until: Timestamp,
        now: Timestamp,
    ) -> Operation<'_, Option<AuditEntry>> {
        self.transact(move |conn| account(conn, deed.clone(), since, until, now).boxed())
    }

    /// The submissions between two times that are kept, by the time in their ids. Reads all of them, some at
    /// a time.
    pub fn submissions_between(&self, since: Timestamp, until: Timestamp) -> Operation<'_, Submissions> {
        async move {
            let (mut from, end) = (least_id(since), least_id(until));
            let (mut count, mut hash) = (0, Sha256::new());
            loop {
                let rows = self.run(move |conn| submissions(conn, from, end).boxed()).await?;
                for Submitted { id, digest, by, source } in &rows {
                    hash.update(id.as_bytes());
                    hash.update(digest);
                    for text in [by, source] {
                        AuditHash::add_text(&mut hash, text.as_deref());
                    }
                }
                count += rows.len() as u64;
                match rows.last() {
                    Some(last) if rows.len() == STEP as usize => {
                        from = Uuid::from_u128(last.id.as_u128().saturating_add(1));
                    }
                    _ => break,
                }
            }
            Ok(Submissions { count, sha256: AuditHash::from_bytes(hash.finalize().into()) })
        }
        .boxed()
    }
}

async fn head(conn: &mut Conn<'_>, lock: &str) -> Result<(Chain, Option<Timestamp>), Fault> {
    let mut select =
        conn.sql(format!("SELECT seq, hash, submissions_until FROM audit_head WHERE id = 1 {lock}"));
    let row = select
        .fetch_optional()
        .await?
        .ok_or_else(|| corrupt("table audit_head".to_owned(), "has no row: the audit log has no end"))?;
    let hash = sha256(row.get(1)?, || "audit_head, column hash".to_owned())?;
    let seq: i64 = row.get(0)?;
    Ok((Chain { seq: seq.unsigned_abs(), hash: AuditHash::from_bytes(hash) }, row.get(2)?))
}

/// Adds deeds within a transaction: what is done and its entry are kept together or not at all.
pub(super) async fn append(
    conn: &mut Conn<'_>,
    deeds: Arc<[Deed]>,
    now: Timestamp,
) -> Result<Vec<AuditEntry>, Fault> {
    let lock = conn.dialect().locked();
    let (begin, _) = head(conn, lock).await?;
    let (mut chain, mut added) = (begin, Vec::with_capacity(deeds.len()));
    for deed in deeds.iter() {
        let entry = AuditEntry::after(&chain, deed.clone(), now);
        chain = Chain { seq: entry.seq, hash: entry.hash };
        let mut insert = conn.insert("audit");
        insert
            .row()
            .set("seq", place(entry.seq))
            .set("at", entry.at)
            .set("actor", entry.actor.as_str())
            .set("action", entry.action.as_str())
            .set("subject", entry.subject.as_str())
            .set("detail", entry.detail.as_ref().map(|detail| detail.get()))
            .set("source", entry.source.as_str())
            .set("request_id", entry.request_id.as_deref())
            .set("previous", entry.previous.as_bytes().as_slice())
            .set("hash", entry.hash.as_bytes().as_slice());
        insert.all().await?;
        added.push(entry);
    }
    let mut update = conn.sql("UPDATE audit_head SET seq = ?, hash = ? WHERE id = 1 AND seq = ?");
    update.bind(place(chain.seq)).bind(chain.hash.as_bytes().as_slice()).bind(place(begin.seq));
    match update.execute().await? {
        1 => Ok(added),
        _ => Err(Fault::Again(Retry::Conflict, "the audit log has grown although it was locked".to_owned())),
    }
}

async fn account(
    conn: &mut Conn<'_>,
    deed: Option<Deed>,
    since: Option<Timestamp>,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<AuditEntry>, Fault> {
    let same = conn.dialect().same();
    let mut update = conn.sql(format!(
        "UPDATE audit_head SET submissions_until = ? WHERE id = 1 AND submissions_until {same} ?"
    ));
    if update.bind(until).bind(since).execute().await? != 1 {
        return Ok(None);
    }
    let Some(deed) = deed else { return Ok(None) };
    Ok(append(conn, [deed].into(), now).await?.pop())
}

fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

async fn entries(conn: &mut Conn<'_>, query: Arc<AuditQuery>) -> Result<Vec<AuditEntry>, Fault> {
    let mut select = conn.sql(format!("SELECT {} FROM audit WHERE seq > ? AND seq < ?", EntryColumns::LIST));
    select.bind(place(query.after.unwrap_or(0))).bind(place(query.before.unwrap_or(u64::MAX)));
    if let Some(actor) = &query.actor {
        select.push(" AND actor = ?").bind(actor.as_str());
    }
    if let Some(action) = &query.action {
        select
            .push(" AND SUBSTR(action, 1, ?) = ?")
            .bind(action.chars().count() as i64)
            .bind(action.as_str());
    }
    let order = if query.after.is_some() { "" } else { " DESC" };
    let rows =
        select.push(" ORDER BY seq").push(order).push(" LIMIT ?").bind(query.limit).fetch_all().await?;
    rows.iter().map(|row| Ok(EntryColumns::read(&mut row.cells())?.decode()?)).collect()
}

/// What accounts for a submission.
struct Submitted {
    id: Uuid,
    digest: [u8; 32],
    by: Option<String>,
    source: Option<String>,
}

async fn submissions(conn: &mut Conn<'_>, from: Uuid, end: Uuid) -> Result<Vec<Submitted>, Fault> {
    let by_key = conn.dialect().by_primary_key();
    let mut select = conn.sql(format!(
        "SELECT id, digest, submitted_by, source FROM task {by_key} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    ));
    let read = |row: &Row| {
        let id: Uuid = row.get(0)?;
        let digest = sha256(row.get(1)?, || format!("task {id}, column digest"))?;
        Ok(Submitted { id, digest, by: row.get(2)?, source: row.get(3)? })
    };
    select.bind(from).bind(end).bind(STEP).fetch_all().await?.iter().map(read).collect()
}
