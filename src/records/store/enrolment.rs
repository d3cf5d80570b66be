//! Endpoints that have a broker user of their own, or an invitation to fetch one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::FutureExt;

use super::columns::{self, corrupt, name};
use super::fault::Fault;
use super::sql::{Conn, selected};
use super::{Operation, Result, Store};
use super::{audit, batch};
use crate::domain::{Deed, EndpointName, SecretHash, TaskType, Timestamp};

/// An invitation to note.
#[derive(Clone)]
pub struct Invited {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The types that its user may consume.
    pub task_types: Vec<TaskType>,
    /// The types that this user may not consume and an older one may.
    pub earlier_types: Vec<TaskType>,
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
    /// The types that its newest user may not consume and an older one may that is not deleted.
    pub earlier_types: Vec<TaskType>,
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
    /// Notes an invitation and the deed. Returns false, and notes nothing, unless the newest user of the
    /// endpoint is of the generation before: somebody else has invited the endpoint meanwhile.
    pub fn invite(&self, invited: Invited, deed: Deed) -> Operation<'_, bool> {
        let invited = Arc::new(invited);
        self.transact(move |conn| invite(conn, invited.clone(), deed.clone()).boxed())
    }

    /// Uses a ticket: returns the sealed user of the endpoint and deletes both from the ledger.
    pub fn redeem(
        &self,
        endpoint: &EndpointName,
        ticket: SecretHash,
        now: Timestamp,
    ) -> Operation<'_, Redeemed> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| redeem(conn, endpoint.clone(), ticket, now).boxed())
    }

    /// Notes that the users of an endpoint are deleted, up to this generation, and the deed: its presence is
    /// ignored from now on. Returns false, and notes nothing, when there is a newer user, or the endpoint was
    /// never invited. Once more changes nothing.
    pub fn revoke_enrolment(
        &self,
        endpoint: &EndpointName,
        generation: u32,
        deed: Deed,
        now: Timestamp,
    ) -> Operation<'_, bool> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| revoke(conn, endpoint.clone(), generation, deed.clone(), now).boxed())
    }

    /// Notes that the users of an endpoint before this generation are deleted, and the deed: only what its
    /// newest user may consume counts from now on. Returns false, and notes nothing, when there is a newer
    /// user.
    pub fn end_earlier_users(
        &self,
        endpoint: &EndpointName,
        generation: u32,
        deed: Deed,
        now: Timestamp,
    ) -> Operation<'_, bool> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| end_earlier(conn, endpoint.clone(), generation, deed.clone(), now).boxed())
    }

    /// All endpoints that were ever invited, by name.
    pub fn enrolments(&self) -> Operation<'_, Vec<Enrolment>> {
        self.run(|conn| all(conn).boxed())
    }

    /// The enrolment of one endpoint.
    pub fn enrolment(&self, endpoint: &EndpointName) -> Operation<'_, Option<Enrolment>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| one(conn, endpoint.clone()).boxed())
    }
}

selected! {
    /// An enrolment without its secrets.
    EnrolmentColumns<'r> {
        endpoint: EndpointName = "endpoint",
        task_types: Option<&'r str> = "task_types",
        earlier_types: Option<&'r str> = "earlier_types",
        generation: u32 = "generation",
        invited_at: Timestamp = "invited_at",
        expires_at: Option<Timestamp> = "expires_at",
        enrolled_at: Option<Timestamp> = "enrolled_at",
        revoked_at: Option<Timestamp> = "revoked_at",
    }
}

impl EnrolmentColumns<'_> {
    fn decode(self) -> Result<Enrolment> {
        let Self { endpoint, generation, invited_at, expires_at, enrolled_at, revoked_at, .. } = self;
        let task_types = types(self.task_types, &endpoint)?;
        let earlier_types = types(self.earlier_types, &endpoint)?;
        Ok(Enrolment {
            endpoint,
            task_types,
            earlier_types,
            generation,
            invited_at,
            expires_at,
            enrolled_at,
            revoked_at,
        })
    }
}

/// A list of types as its column has it.
fn types(list: Option<&str>, endpoint: &EndpointName) -> Result<Vec<TaskType>> {
    let corrupt = |error| corrupt(format!("enrolment {endpoint}, its types"), error);
    list.map_or(Ok(Vec::new()), |list| serde_json::from_str(list).map_err(corrupt))
}

async fn invite(conn: &mut Conn<'_>, invited: Arc<Invited>, deed: Deed) -> Result<bool, Fault> {
    let noted = note(conn, &invited).await?;
    if noted {
        audit::append(conn, [deed].into(), invited.at).await?;
    }
    Ok(noted)
}

async fn note(conn: &mut Conn<'_>, invited: &Invited) -> Result<bool, Fault> {
    let (types, earlier) = (columns::list(&invited.task_types)?, columns::list(&invited.earlier_types)?);
    let mut insert = conn.insert("enrolment");
    insert
        .row()
        .set("endpoint", &invited.endpoint)
        .set("task_types", types.as_deref())
        .set("earlier_types", earlier.as_deref())
        .set("generation", invited.generation)
        .set("invited_at", invited.at)
        .set("ticket", invited.ticket.as_bytes().as_slice())
        .set("sealed", invited.sealed.as_slice())
        .set("expires_at", invited.expires_at);
    if invited.generation == 1 && insert.if_new().await? == 1 {
        return Ok(true);
    }
    let mut update = conn.sql(
        "UPDATE enrolment SET task_types = ?, earlier_types = ?, generation = ?, invited_at = ?, ticket = ?, sealed = ?, expires_at = ?, revoked_at = NULL \
         WHERE endpoint = ? AND generation = ?",
    );
    update.bind(types.as_deref()).bind(earlier.as_deref()).bind(invited.generation).bind(invited.at);
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

async fn revoke(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    generation: u32,
    deed: Deed,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut revoke = conn.sql(
        "UPDATE enrolment SET revoked_at = ?, ticket = NULL, sealed = NULL, expires_at = NULL \
         WHERE endpoint = ? AND generation = ? AND revoked_at IS NULL",
    );
    if revoke.bind(now).bind(&endpoint).bind(generation).execute().await? == 1 {
        audit::append(conn, [deed].into(), now).await?;
        return Ok(true);
    }
    Ok(one(conn, endpoint).await?.is_some_and(|now| now.generation == generation))
}

async fn end_earlier(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    generation: u32,
    deed: Deed,
    now: Timestamp,
) -> Result<bool, Fault> {
    let lock = conn.dialect().locked();
    let mut newest = conn.sql(format!("SELECT generation FROM enrolment WHERE endpoint = ? {lock}"));
    let newest = newest.bind(&endpoint).fetch_optional().await?;
    if newest.map(|row| row.get::<u32>(0)).transpose()? != Some(generation) {
        return Ok(false);
    }
    let mut end = conn.sql("UPDATE enrolment SET earlier_types = NULL WHERE endpoint = ? AND generation = ?");
    end.bind(&endpoint).bind(generation).execute().await?;
    audit::append(conn, [deed].into(), now).await?;
    Ok(true)
}

/// What the presence of an endpoint that was invited may say.
pub(super) enum Standing {
    /// Nothing: its users are deleted.
    Revoked,
    /// That it performs these types.
    For(BTreeSet<TaskType>),
}

/// Of these endpoints, those that were invited.
pub(super) async fn standings(
    conn: &mut Conn<'_>,
    names: &[&EndpointName],
) -> Result<HashMap<EndpointName, Standing>, Fault> {
    let mut standings = HashMap::new();
    for names in names.chunks(batch::KEYS) {
        let mut select =
            conn.sql(format!("SELECT {} FROM enrolment WHERE endpoint IN ", EnrolmentColumns::LIST));
        for row in select.keys(names).fetch_all().await? {
            let one = EnrolmentColumns::read(&mut row.cells())?.decode()?;
            let standing = match one.revoked_at {
                Some(_) => Standing::Revoked,
                None => Standing::For(one.task_types.into_iter().chain(one.earlier_types).collect()),
            };
            standings.insert(one.endpoint, standing);
        }
    }
    Ok(standings)
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
