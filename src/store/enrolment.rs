//! Endpoints that have a broker user of their own, or an invitation to fetch one.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;

use super::batch;
use super::columns::{self, corrupt, name};
use super::fault::Fault;
use super::sql::{Conn, selected};
use super::{Result, Store};
use crate::domain::{EndpointName, SecretHash, TaskType, Timestamp};

/// An invitation to note.
#[derive(Clone)]
pub struct Invited {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The types that its user may consume.
    pub task_types: Vec<TaskType>,
    /// Which of its users this is, from 1.
    pub generation: u32,
    /// The hash of the ticket that the endpoint shows to fetch its user.
    pub ticket: SecretHash,
    /// Its user, sealed.
    pub sealed: Vec<u8>,
    /// When the invitation was made.
    pub at: Timestamp,
    /// Until when the user may be fetched.
    pub expires_at: Timestamp,
}

/// What the holder of a ticket gets for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// The sealed user. No later call returns it again.
    Sealed(Vec<u8>),
    /// The ticket is for another endpoint.
    OfAnother,
    /// The ticket was used, has expired, or never existed.
    Gone,
}

/// An endpoint that was invited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The types that its newest user may consume.
    pub task_types: Vec<TaskType>,
    /// The number of its newest user.
    pub generation: u32,
    /// When it was invited last.
    pub invited_at: Timestamp,
    /// Until when it may fetch its newest user; none once it has fetched it.
    pub expires_at: Option<Timestamp>,
    /// When it last fetched a user.
    pub enrolled_at: Option<Timestamp>,
    /// When its users were deleted.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Notes an invitation. Returns false, and notes nothing, unless the newest user of the endpoint is of
    /// the generation before: somebody else has invited the endpoint meanwhile.
    pub async fn invite(&self, invited: Invited) -> Result<bool> {
        let invited = Arc::new(invited);
        self.transact(move |conn| invite(conn, invited.clone()).boxed()).await
    }

    /// Uses a ticket: returns the sealed user of the endpoint and deletes both from the ledger.
    pub async fn redeem(
        &self,
        endpoint: &EndpointName,
        ticket: SecretHash,
        now: Timestamp,
    ) -> Result<Redeemed> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| redeem(conn, endpoint.clone(), ticket, now).boxed()).await
    }

    /// Notes that the users of an endpoint are deleted: its presence is ignored from now on. Returns whether
    /// it was ever invited.
    pub async fn revoke_enrolment(&self, endpoint: &EndpointName, now: Timestamp) -> Result<bool> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| revoke(conn, endpoint.clone(), now).boxed()).await
    }

    /// All endpoints that were ever invited, by name.
    pub async fn enrolments(&self) -> Result<Vec<Enrolment>> {
        self.run(|conn| all(conn).boxed()).await
    }

    /// The enrolment of one endpoint.
    pub async fn enrolment(&self, endpoint: &EndpointName) -> Result<Option<Enrolment>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| one(conn, endpoint.clone()).boxed()).await
    }
}

selected! {
    /// An enrolment without its secrets.
    EnrolmentColumns<'r> {
        endpoint: EndpointName = "endpoint",
        task_types: Option<&'r str> = "task_types",
        generation: u32 = "generation",
        invited_at: Timestamp = "invited_at",
        expires_at: Option<Timestamp> = "expires_at",
        enrolled_at: Option<Timestamp> = "enrolled_at",
        revoked_at: Option<Timestamp> = "revoked_at",
    }
}

impl EnrolmentColumns<'_> {
    fn decode(self) -> Result<Enrolment> {
        let Self { endpoint, task_types, generation, invited_at, expires_at, enrolled_at, revoked_at } = self;
        let at = || format!("enrolment {endpoint}, column task_types");
        let task_types = match task_types {
            Some(list) => serde_json::from_str(list).map_err(|error| corrupt(at(), error))?,
            None => Vec::new(),
        };
        Ok(Enrolment { endpoint, task_types, generation, invited_at, expires_at, enrolled_at, revoked_at })
    }
}

async fn invite(conn: &mut Conn<'_>, invited: Arc<Invited>) -> Result<bool, Fault> {
    let types = columns::list(&invited.task_types)?;
    let mut insert = conn.insert("enrolment");
    insert
        .row()
        .set("endpoint", &invited.endpoint)
        .set("task_types", types.as_deref())
        .set("generation", invited.generation)
        .set("invited_at", invited.at)
        .set("ticket", invited.ticket.as_bytes().as_slice())
        .set("sealed", invited.sealed.as_slice())
        .set("expires_at", invited.expires_at);
    if invited.generation == 1 && insert.if_new().await? == 1 {
        return Ok(true);
    }
    let mut update = conn.sql(
        "UPDATE enrolment SET task_types = ?, generation = ?, invited_at = ?, ticket = ?, sealed = ?, expires_at = ?, revoked_at = NULL \
         WHERE endpoint = ? AND generation = ?",
    );
    update.bind(types.as_deref()).bind(invited.generation).bind(invited.at);
    update
        .bind(invited.ticket.as_bytes().as_slice())
        .bind(invited.sealed.as_slice())
        .bind(invited.expires_at);
    Ok(update.bind(&invited.endpoint).bind(invited.generation - 1).execute().await? == 1)
}

async fn redeem(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    ticket: SecretHash,
    now: Timestamp,
) -> Result<Redeemed, Fault> {
    let hash = ticket.as_bytes().as_slice();
    let lock = conn.dialect().locked();
    let mut select = conn.sql(format!(
        "SELECT endpoint, sealed FROM enrolment WHERE ticket = ? AND expires_at > ? AND revoked_at IS NULL {lock}"
    ));
    let Some(row) = select.bind(hash).bind(now).fetch_optional().await? else { return Ok(Redeemed::Gone) };
    let (owner, sealed): (&str, Option<&[u8]>) = (row.get(0)?, row.get(1)?);
    let owner: EndpointName = name(owner, || "enrolment, column endpoint".to_owned())?;
    if owner != endpoint {
        return Ok(Redeemed::OfAnother);
    }
    let sealed = sealed.map(<[u8]>::to_vec);
    let mut used = conn.sql(
        "UPDATE enrolment SET ticket = NULL, sealed = NULL, expires_at = NULL, enrolled_at = ? WHERE endpoint = ? AND ticket = ?",
    );
    let used = used.bind(now).bind(&endpoint).bind(hash).execute().await?;
    Ok(match sealed {
        Some(sealed) if used == 1 => Redeemed::Sealed(sealed),
        _ => Redeemed::Gone,
    })
}

async fn revoke(conn: &mut Conn<'_>, endpoint: EndpointName, now: Timestamp) -> Result<bool, Fault> {
    let mut revoke = conn.sql(
        "UPDATE enrolment SET revoked_at = ?, ticket = NULL, sealed = NULL, expires_at = NULL WHERE endpoint = ? AND revoked_at IS NULL",
    );
    let revoked = revoke.bind(now).bind(&endpoint).execute().await? == 1;
    Ok(revoked || one(conn, endpoint).await?.is_some())
}

/// Those of these endpoints that were revoked.
pub(super) async fn revoked(
    conn: &mut Conn<'_>,
    names: &[&EndpointName],
) -> Result<HashSet<EndpointName>, Fault> {
    let mut revoked = HashSet::new();
    for names in names.chunks(batch::KEYS) {
        let mut select =
            conn.sql("SELECT endpoint FROM enrolment WHERE revoked_at IS NOT NULL AND endpoint IN ");
        for row in select.keys(names).fetch_all().await? {
            revoked.insert(row.get(0)?);
        }
    }
    Ok(revoked)
}

async fn all(conn: &mut Conn<'_>) -> Result<Vec<Enrolment>, Fault> {
    let mut select = conn.sql(format!("SELECT {} FROM enrolment ORDER BY endpoint", EnrolmentColumns::LIST));
    let rows = select.fetch_all().await?;
    rows.iter().map(|row| Ok(EnrolmentColumns::read(&mut row.cells())?.decode()?)).collect()
}

async fn one(conn: &mut Conn<'_>, endpoint: EndpointName) -> Result<Option<Enrolment>, Fault> {
    let mut select = conn.sql(format!("SELECT {} FROM enrolment WHERE endpoint = ?", EnrolmentColumns::LIST));
    let row = select.bind(&endpoint).fetch_optional().await?;
    row.map(|row| Ok(EnrolmentColumns::read(&mut row.cells())?.decode()?)).transpose()
}
