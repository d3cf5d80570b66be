//! Who is there.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, TryFutureExt};
use serde::Deserialize;
use uuid::Uuid;

use super::batch::{self, padded_rows};
use super::clock_offset::ClockOffset;
use super::enrolment::Standing;
use super::fault::Fault;
use super::sql::{Conn, Row, selected};
use super::subscription::{self, Heard, Noted, Seen, Standby, Subscription, SubscriptionState};
use super::{ClockOffsets, Operation, Result, Store, columns, enrolment, without_statements};
use crate::domain::{
    Attendance, EndpointName, Expect, Labels, Member, Presence, ReasonCode, TaskType, Timestamp, WireVersion,
};

/// What became of an endpoint that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointForgotten {
    /// It was never seen, or is forgotten already.
    Unknown,
    /// It is there; nothing was done.
    Present,
    /// It is not known any more.
    Gone {
        /// Responses that it still owes: they stay open until it is back, or until their tasks end.
        open: u64,
    },
}

/// What went silent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// How many subscriptions.
    pub subscriptions: u64,
    /// Whose they are, by name.
    pub endpoints: Vec<EndpointName>,
}

/// An endpoint as presence has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Its name.
    pub name: EndpointName,
    /// The types it is known for.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// Its version of the program.
    pub version: String,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Milliseconds that its clock is ahead of the ledger's; none while that is not known.
    pub clock_offset_ms: Option<i64>,
    /// When its presence last came from another broker user than its own.
    pub unproven_at: Option<Timestamp>,
    /// What it says of itself.
    pub labels: Labels,
}

/// Whether an endpoint takes tasks of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The type.
    pub task_type: TaskType,
    /// Whether it is there now.
    pub subscribed: bool,
    /// Whether it has said goodbye.
    pub left: bool,
    /// Why it takes none although it is there.
    pub trouble: Option<String>,
    /// How many tasks a worker performs at the same time, of all its types together.
    pub slots: Option<u32>,
    /// The process of the same name that takes over when this one is gone.
    pub standby: Option<StandbyRecord>,
}

/// A second process of an endpoint's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyRecord {
    /// Which process.
    pub instance: Uuid,
    /// Since when it stands by.
    pub since: Timestamp,
    /// Until when it stands by if nothing more is heard of it.
    pub seen_until: Timestamp,
}

/// Those who are there for a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribers {
    /// Their names, in order.
    pub names: Vec<EndpointName>,
    /// The version of messages that all of them read.
    pub read: WireVersion,
}

impl SubscriptionRecord {
    fn of(task_type: TaskType, subscription: Subscription) -> Self {
        let Subscription { state, trouble, slots, standby, .. } = subscription;
        let standby = standby.map(|Standby { instance, since, seen_until, .. }| StandbyRecord {
            instance,
            since,
            seen_until,
        });
        let (subscribed, left) = (state == SubscriptionState::Online, state == SubscriptionState::Left);
        Self { task_type, subscribed, left, trouble, slots, standby }
    }
}

impl Store {
    /// Notes who is there. A process whose name is taken by one with another memory is fenced off until that
    /// one has left, or has been silent for three of its intervals: both could hold the same task. It stands
    /// by meanwhile, and so does a process that says that its queue is held; when the first leaves, tasks are
    /// expected of the one that stands by, without a gap. Presence of revoked endpoints is ignored, and
    /// a restricted endpoint is there only for the types that it was invited for.
    pub fn see(&self, presences: &[Presence], now: Timestamp) -> Operation<'_, Seen> {
        if presences.is_empty() {
            return without_statements(Ok(Seen::default()));
        }
        let presences: Arc<[Presence]> = presences.into();
        self.transact(move |conn| see(conn, presences.clone(), now).boxed())
    }

    /// Marks subscriptions as gone whose presence is overdue, and hands those over to a process that stands
    /// by. Called only by a process that has itself been collecting presence for longer than the longest
    /// interval: silence after our own outage proves nothing.
    pub fn miss(&self, now: Timestamp) -> Operation<'_, Missed> {
        self.transact(move |conn| miss(conn, now).boxed())
    }

    /// Subscriptions with a process that stands by, see [`StandbyRecord`].
    pub fn standbys(&self, now: Timestamp) -> Operation<'_, u64> {
        self.run(move |conn| standbys(conn, now).boxed())
    }

    /// How many endpoints that are there begin no tasks because of their stop file.
    pub fn stopped_by_file(&self) -> Operation<'_, u64> {
        self.run(|conn| stopped_by_file(conn).boxed())
    }

    /// How far the clocks of the endpoints that are there are off.
    pub fn clock_offsets(&self) -> Operation<'_, ClockOffsets> {
        self.run(|conn| clock_offsets(conn).boxed())
    }

    /// The endpoints subscribed now, by type and name.
    pub fn subscribed(&self, task_types: &[TaskType]) -> Operation<'_, HashMap<TaskType, Vec<EndpointName>>> {
        let names = |found: HashMap<_, Subscribers>| {
            found.into_iter().map(|(task_type, Subscribers { names, .. })| (task_type, names)).collect()
        };
        self.subscribers(task_types, Expect::Subscribed).map_ok(names).boxed()
    }

    /// The same, or all that are known, with the version of messages that all of them read.
    pub fn subscribers(
        &self,
        task_types: &[TaskType],
        expect: Expect,
    ) -> Operation<'_, HashMap<TaskType, Subscribers>> {
        let task_types: Arc<[TaskType]> = task_types.into();
        self.run(move |conn| subscribers(conn, task_types.clone(), expect).boxed())
    }

    /// How many endpoints are known for a task type that are not subscribed to it now.
    pub fn away(&self, task_type: &TaskType) -> Operation<'_, u64> {
        let task_type = task_type.clone();
        self.run(move |conn| away(conn, task_type.clone()).boxed())
    }

    /// The subscriptions of these endpoints, present or not, each with what its process reads.
    pub fn readers(
        &self,
        endpoints: BTreeSet<EndpointName>,
    ) -> Operation<'_, HashMap<(TaskType, EndpointName), WireVersion>> {
        let endpoints: Arc<[EndpointName]> = endpoints.into_iter().collect();
        self.run(move |conn| readers(conn, endpoints.clone()).boxed())
    }

    /// The types that an endpoint is subscribed to at present, each with the session that has said so and what
    /// that reads.
    pub fn sessions(&self, endpoint: &EndpointName) -> Operation<'_, HashMap<TaskType, (Uuid, WireVersion)>> {
        let endpoint = endpoint.clone();
        self.run(move |conn| sessions(conn, endpoint.clone()).boxed())
    }

    /// All endpoints ever seen and not forgotten, by name, after a cursor.
    pub fn endpoints(&self, after: Option<&EndpointName>, limit: u32) -> Operation<'_, Vec<EndpointRecord>> {
        let after = after.cloned();
        self.run(move |conn| endpoints(conn, after.clone(), limit).boxed())
    }

    /// The endpoint of a name.
    pub fn endpoint(&self, name: &EndpointName) -> Operation<'_, Option<EndpointRecord>> {
        let name = name.clone();
        self.run(move |conn| endpoint(conn, name.clone()).boxed())
    }

    /// All endpoints known for a task type, present or not, by name.
    pub fn members(&self, task_type: &TaskType) -> Operation<'_, Vec<Member>> {
        let task_type = task_type.clone();
        self.run(move |conn| members(conn, task_type.clone()).boxed())
    }

    /// Endpoints that have been away since before a time, by name: as many as this.
    pub fn gone_since(&self, before: Timestamp, limit: u32) -> Operation<'_, Vec<EndpointName>> {
        self.run(move |conn| gone_since(conn, before, limit).boxed())
    }

    /// Their names alone, all of them.
    pub fn endpoint_names(&self) -> Operation<'_, Vec<EndpointName>> {
        self.run(|conn| endpoint_names(conn).boxed())
    }

    /// Forgets an endpoint and what it is subscribed to, unless it is there and `even_present` is false. It
    /// is expected no more by tasks to come. What it owes stays open: should it come back, it is asked for
    /// that.
    pub fn forget_endpoint(
        &self,
        endpoint: &EndpointName,
        even_present: bool,
    ) -> Operation<'_, EndpointForgotten> {
        let endpoint = endpoint.clone();
        self.transact(move |conn| forget(conn, endpoint.clone(), even_present).boxed())
    }
}

selected! {
    /// A subscription with its key.
    SubscriptionColumns<'r> {
        endpoint: EndpointName = "endpoint",
        task_type: TaskType = "task_type",
        state: u8 = "state",
        instance: Uuid = "instance",
        session: Uuid = "session",
        home: Option<Uuid> = "home",
        previous_home: Option<Uuid> = "previous_home",
        first_seen: Option<Timestamp> = "first_seen",
        last_seen: Timestamp = "last_seen",
        seen_until: Timestamp = "seen_until",
        trouble: Option<&'r str> = "trouble",
        slots: Option<u32> = "slots",
        reads: u8 = "wire",
        standby: Option<Uuid> = "standby",
        standby_home: Option<Uuid> = "standby_home",
        standby_since: Option<Timestamp> = "standby_since",
        standby_until: Option<Timestamp> = "standby_until",
    }
}

impl SubscriptionColumns<'_> {
    fn decode(self) -> Result<((EndpointName, TaskType), Subscription)> {
        let standby = || {
            let (instance, home) = (self.standby?, self.standby_home?);
            Some(Standby { instance, home, since: self.standby_since?, seen_until: self.standby_until? })
        };
        let subscription = Subscription {
            state: columns::subscription_state(self.state)?,
            instance: self.instance,
            session: self.session,
            home: self.home,
            previous_home: self.previous_home,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            seen_until: self.seen_until,
            trouble: self.trouble.map(str::to_owned),
            slots: self.slots,
            reads: WireVersion::up_to(self.reads.into()),
            standby: standby(),
        };
        Ok(((self.endpoint, self.task_type), subscription))
    }
}

/// The subscriptions of these endpoints, by name and type; locked where asked for.
async fn subscriptions(
    conn: &mut Conn<'_>,
    names: &[&EndpointName],
    lock: &str,
) -> Result<Vec<((EndpointName, TaskType), Subscription)>, Fault> {
    let mut select =
        conn.sql(format!("SELECT {} FROM subscription WHERE endpoint IN ", SubscriptionColumns::LIST));
    select.keys(names).push(" ORDER BY endpoint, task_type ").push(lock);
    let rows = select.fetch_all().await?;
    rows.iter().map(|row| Ok(SubscriptionColumns::read(&mut row.cells())?.decode()?)).collect()
}

async fn see(conn: &mut Conn<'_>, presences: Arc<[Presence]>, now: Timestamp) -> Result<Seen, Fault> {
    let names: BTreeSet<&EndpointName> = presences.iter().map(|presence| &presence.endpoint).collect();
    let names: Vec<&EndpointName> = names.into_iter().collect();
    let lock = conn.dialect().locked();
    let (mut known, mut noted) = (HashMap::new(), HashMap::new());
    for names in names.chunks(batch::KEYS) {
        known.extend(subscriptions(conn, names, lock).await?);
        let mut select = conn
            .sql("SELECT name, clock_offset_ms, clock_lower_ms, clock_readings, unproven_at FROM endpoint WHERE name IN ");
        select.keys(names).push(" ORDER BY name ").push(lock);
        for row in select.fetch_all().await? {
            let clock = ClockOffset { ms: row.get(1)?, lower_ms: row.get(2)?, readings: row.get(3)? };
            noted.insert(row.get(0)?, Noted { clock, unproven_at: row.get(4)? });
        }
    }
    let standings = enrolment::standings(conn, &names).await?;
    let mut barred = BTreeSet::new();
    let presences: Cow<'_, [Presence]> = match standings.is_empty() {
        true => Cow::Borrowed(&presences[..]),
        false => presences
            .iter()
            .filter_map(|presence| match standings.get(&presence.endpoint) {
                Some(Standing::Revoked) => {
                    subscription::within(presence.clone(), &BTreeSet::new(), &mut barred);
                    None
                }
                Some(Standing::For(types)) => {
                    Some(subscription::within(presence.clone(), types, &mut barred))
                }
                None => Some(presence.clone()),
            })
            .collect(),
    };
    let mut changes = subscription::see(&known, &noted, &presences, now);
    changes.seen.barred = barred;
    let subscriptions: Vec<_> = changes.subscriptions.iter().collect();
    for run in subscriptions.chunks(batch::WIDE_ROWS) {
        let mut insert = conn.insert("subscription");
        for ((endpoint, task_type), subscription) in padded_rows(run, |_| 0) {
            insert
                .row()
                .set("endpoint", endpoint)
                .set("task_type", task_type)
                .set("state", subscription.state)
                .set("instance", subscription.instance)
                .set("session", subscription.session)
                .set("home", subscription.home)
                .set("previous_home", subscription.previous_home)
                .set("first_seen", subscription.first_seen)
                .set("last_seen", subscription.last_seen)
                .set("seen_until", subscription.seen_until)
                .set("trouble", subscription.trouble.as_deref())
                .set("slots", subscription.slots)
                .set("wire", subscription.reads.number())
                .set("standby", subscription.standby.map(|it| it.instance))
                .set("standby_home", subscription.standby.map(|it| it.home))
                .set("standby_since", subscription.standby.map(|it| it.since))
                .set("standby_until", subscription.standby.map(|it| it.seen_until));
        }
        insert.or_update(&["endpoint", "task_type"]).await?;
    }
    let endpoints: Vec<_> = changes.endpoints.iter().collect();
    for run in endpoints.chunks(batch::WIDE_ROWS) {
        let mut insert = conn.insert("endpoint");
        for (name, Heard { version, clock, unproven_at, labels }) in padded_rows(run, |_| 0) {
            insert
                .row()
                .set("name", *name)
                .set("version", version.as_str())
                .set("last_seen", now)
                .set("clock_offset_ms", clock.ms)
                .set("clock_lower_ms", clock.lower_ms)
                .set("clock_readings", clock.readings)
                .set("unproven_at", *unproven_at)
                .set("labels", columns::labels(labels)?);
        }
        insert.or_update(&["name"]).await?;
    }
    Ok(changes.seen)
}

async fn miss(conn: &mut Conn<'_>, now: Timestamp) -> Result<Missed, Fault> {
    let (from, until) = subscription::in_time(now);
    let online = SubscriptionState::Online;
    // Looked for without locks: an update without a key would lock and release every row of a fleet that is
    // well.
    let mut overdue = conn.sql(
        "SELECT endpoint, COUNT(CASE WHEN seen_until < ? AND standby_until > ? THEN NULL ELSE 1 END) FROM subscription \
         WHERE state = ? AND (seen_until < ? OR seen_until > ?) GROUP BY endpoint ORDER BY endpoint",
    );
    let overdue = overdue.bind(from).bind(now).bind(online).bind(from).bind(until).fetch_all().await?;
    let names: Vec<&str> = overdue.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let mut missed = Missed::default();
    for row in &overdue {
        if row.count(1)? > 0 {
            missed.endpoints.push(row.get(0)?);
        }
    }
    let (by_key, same) = (conn.dialect().by_primary_key(), conn.dialect().same());
    for names in names.chunks(batch::KEYS) {
        // As `Subscription::handed_over` does it. In this order, since MySQL assigns one after the other.
        let mut hand_over = conn.sql(format!(
            "UPDATE subscription {by_key} SET instance = standby, session = standby, \
             previous_home = CASE WHEN home {same} standby_home THEN previous_home ELSE COALESCE(home, previous_home) END, \
             home = standby_home, seen_until = standby_until, trouble = NULL, \
             slots = CASE WHEN slots IS NULL THEN NULL ELSE 0 END, wire = 1, \
             standby = NULL, standby_home = NULL, standby_since = NULL, standby_until = NULL \
             WHERE state = ? AND seen_until < ? AND standby_until > ? AND endpoint IN "
        ));
        hand_over.bind(online).bind(from).bind(now).keys(names).execute().await?;
        let mut miss = conn.sql(format!(
            "UPDATE subscription {by_key} SET state = ? WHERE state = ? AND (seen_until < ? OR seen_until > ?) AND endpoint IN "
        ));
        missed.subscriptions += miss
            .bind(SubscriptionState::Missed)
            .bind(online)
            .bind(from)
            .bind(until)
            .keys(names)
            .execute()
            .await?;
    }
    Ok(missed)
}

async fn standbys(conn: &mut Conn<'_>, now: Timestamp) -> Result<u64, Fault> {
    conn.sql("SELECT COUNT(*) FROM subscription WHERE standby_until > ?")
        .bind(now)
        .fetch_one()
        .await?
        .count(0)
}

async fn stopped_by_file(conn: &mut Conn<'_>) -> Result<u64, Fault> {
    // What is told first has the code.
    let mut select =
        conn.sql("SELECT COUNT(DISTINCT endpoint) FROM subscription WHERE state = ? AND trouble LIKE ?");
    let told = ReasonCode::StopFile.told("%");
    select.bind(SubscriptionState::Online).bind(told.as_str()).fetch_one().await?.count(0)
}

async fn clock_offsets(conn: &mut Conn<'_>) -> Result<ClockOffsets, Fault> {
    let mut select = conn.sql(
        "SELECT COUNT(CASE WHEN ABS(clock_offset_ms) > ? THEN 1 END), MAX(ABS(clock_offset_ms)) FROM endpoint \
         WHERE EXISTS (SELECT 1 FROM subscription WHERE endpoint = name AND state = ?)",
    );
    let tolerated = i64::try_from(Presence::CLOCK_TOLERANCE.as_millis()).unwrap_or(i64::MAX);
    let offsets = select.bind(tolerated).bind(SubscriptionState::Online).fetch_one().await?;
    let largest: Option<i64> = offsets.get(1)?;
    Ok(ClockOffsets {
        beyond: offsets.count(0)?,
        largest: Duration::from_millis(largest.unwrap_or_default().unsigned_abs()),
    })
}

async fn forget(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
    even_present: bool,
) -> Result<EndpointForgotten, Fault> {
    let (lock, owed_by) = (conn.dialect().locked(), conn.dialect().owed_by());
    let mut states = conn.sql(format!("SELECT state FROM subscription WHERE endpoint = ? {lock}"));
    let states = states.bind(&endpoint).fetch_all().await?;
    for state in &states {
        if !even_present && columns::subscription_state(state.get(0)?)? == SubscriptionState::Online {
            return Ok(EndpointForgotten::Present);
        }
    }
    conn.sql("DELETE FROM subscription WHERE endpoint = ?").bind(&endpoint).execute().await?;
    let gone = conn.sql("DELETE FROM endpoint WHERE name = ?").bind(&endpoint).execute().await?;
    if states.is_empty() && gone == 0 {
        return Ok(EndpointForgotten::Unknown);
    }
    let mut open = conn.sql(format!("SELECT COUNT(*) FROM response AS r WHERE {owed_by} = ?"));
    Ok(EndpointForgotten::Gone { open: open.bind(&endpoint).fetch_one().await?.count(0)? })
}

async fn sessions(
    conn: &mut Conn<'_>,
    endpoint: EndpointName,
) -> Result<HashMap<TaskType, (Uuid, WireVersion)>, Fault> {
    let mut select =
        conn.sql("SELECT task_type, session, wire FROM subscription WHERE endpoint = ? AND state = ?");
    let rows = select.bind(&endpoint).bind(SubscriptionState::Online).fetch_all().await?;
    let reads = |number: u8| WireVersion::up_to(number.into());
    rows.iter().map(|row| Ok((row.get(0)?, (row.get(1)?, reads(row.get(2)?))))).collect()
}

/// Of a subscription `s`: its endpoint is away altogether. One that is there for other types does not perform
/// this one any more, or cannot. The states are named one by one, so that of the index only their rows are
/// read.
const AWAY: &str = "(state IN (?, ?) AND NOT EXISTS (SELECT 1 FROM subscription AS o WHERE o.endpoint = s.endpoint AND o.state = ?))";

async fn away(conn: &mut Conn<'_>, task_type: TaskType) -> Result<u64, Fault> {
    let index = conn.dialect().index("subscription_type");
    let mut select =
        conn.sql(format!("SELECT COUNT(*) FROM subscription AS s {index} WHERE task_type = ? AND {AWAY}"));
    let select = select
        .bind(&task_type)
        .bind(SubscriptionState::Missed)
        .bind(SubscriptionState::Left)
        .bind(SubscriptionState::Online);
    select.fetch_one().await?.count(0)
}

async fn subscribers(
    conn: &mut Conn<'_>,
    task_types: Arc<[TaskType]>,
    expect: Expect,
) -> Result<HashMap<TaskType, Subscribers>, Fault> {
    let index = conn.dialect().index("subscription_type");
    let mut subscribers = HashMap::new();
    for task_type in task_types.iter().collect::<BTreeSet<_>>() {
        let states = match expect {
            Expect::Subscribed => "state = ?".to_owned(),
            Expect::Known => format!("(state = ? OR {AWAY})"),
        };
        let mut select =
            conn.sql(format!("SELECT endpoint, wire FROM subscription AS s {index} WHERE task_type = ? AND {states} ORDER BY endpoint"));
        select.bind(task_type).bind(SubscriptionState::Online);
        if expect == Expect::Known {
            select
                .bind(SubscriptionState::Missed)
                .bind(SubscriptionState::Left)
                .bind(SubscriptionState::Online);
        }
        let rows = select.fetch_all().await?;
        let mut those = Subscribers { names: Vec::with_capacity(rows.len()), read: WireVersion::NEWEST };
        for row in &rows {
            those.names.push(row.get(0)?);
            those.read = those.read.min(WireVersion::up_to(row.get::<u8>(1)?.into()));
        }
        subscribers.insert(task_type.clone(), those);
    }
    Ok(subscribers)
}

async fn readers(
    conn: &mut Conn<'_>,
    endpoints: Arc<[EndpointName]>,
) -> Result<HashMap<(TaskType, EndpointName), WireVersion>, Fault> {
    let names: Vec<&EndpointName> = endpoints.iter().collect();
    let mut readers = HashMap::new();
    for names in names.chunks(batch::KEYS) {
        let mut select = conn.sql("SELECT task_type, endpoint, wire FROM subscription WHERE endpoint IN ");
        for row in select.keys(names).fetch_all().await? {
            let reads = WireVersion::up_to(row.get::<u8>(2)?.into());
            readers.insert((row.get(0)?, row.get(1)?), reads);
        }
    }
    Ok(readers)
}

async fn endpoints(
    conn: &mut Conn<'_>,
    after: Option<EndpointName>,
    limit: u32,
) -> Result<Vec<EndpointRecord>, Fault> {
    let mut select = conn.sql(format!("{ENDPOINT} WHERE name > ? ORDER BY name LIMIT ?"));
    let rows = select.bind(after.as_ref().map_or("", EndpointName::as_str)).bind(limit).fetch_all().await?;
    with_subscriptions(conn, &rows).await
}

async fn endpoint(conn: &mut Conn<'_>, name: EndpointName) -> Result<Option<EndpointRecord>, Fault> {
    let rows = conn.sql(format!("{ENDPOINT} WHERE name = ?")).bind(&name).fetch_all().await?;
    Ok(with_subscriptions(conn, &rows).await?.pop())
}

/// What to select for [`with_subscriptions`].
const ENDPOINT: &str = "SELECT name, version, last_seen, clock_offset_ms, labels, unproven_at FROM endpoint";

/// The endpoints of these rows, with what they are subscribed to.
async fn with_subscriptions(conn: &mut Conn<'_>, rows: &[Row]) -> Result<Vec<EndpointRecord>, Fault> {
    let mut endpoints = Vec::with_capacity(rows.len());
    for row in rows {
        endpoints.push(EndpointRecord {
            name: row.get(0)?,
            subscriptions: Vec::new(),
            version: row.get(1)?,
            last_seen: row.get(2)?,
            clock_offset_ms: row.get(3)?,
            labels: columns::labels_of(row.get(4)?)?,
            unproven_at: row.get(5)?,
        });
    }
    let names: Vec<EndpointName> = endpoints.iter().map(|record| record.name.clone()).collect();
    let names: Vec<&EndpointName> = names.iter().collect();
    let mut by_name: HashMap<EndpointName, Vec<SubscriptionRecord>> = HashMap::new();
    for names in names.chunks(batch::KEYS) {
        for ((endpoint, task_type), subscription) in subscriptions(conn, names, "").await? {
            by_name.entry(endpoint).or_default().push(SubscriptionRecord::of(task_type, subscription));
        }
    }
    for record in &mut endpoints {
        record.subscriptions = by_name.remove(&record.name).unwrap_or_default();
    }
    Ok(endpoints)
}

/// A [`Member`] as the database writes it: name, version, labels, state, trouble, and whether the endpoint is
/// there for any type.
#[derive(Deserialize)]
struct MemberCells<'a>(&'a str, String, Option<Labels>, u8, Option<String>, u8);

impl MemberCells<'_> {
    fn decode(self) -> Result<Member> {
        let Self(name, version, labels, state, trouble, there) = self;
        let attendance = match (columns::subscription_state(state)?, there) {
            (SubscriptionState::Online, _) => Attendance::Subscribed,
            (_, 0) => Attendance::Away,
            _ => Attendance::OtherTypes,
        };
        Ok(Member {
            name: columns::endpoint(name)?,
            version,
            labels: labels.unwrap_or_default(),
            attendance,
            trouble,
        })
    }
}

/// Along the keys of both tables, which have the same order: a fleet is read from one end to the other,
/// whatever part of it performs the type.
pub(super) async fn members(conn: &mut Conn<'_>, task_type: TaskType) -> Result<Vec<Member>, Fault> {
    let (in_order, then) = (conn.dialect().in_order(), conn.dialect().then());
    // Put together by hand: labels are JSON already, and would be wrapped as a text and unwrapped again.
    let member = conn.dialect().gathered(
        "CONCAT('[\"', e.name, '\",', JSON_QUOTE(e.version), ',', COALESCE(e.labels, 'null'), ',', s.state, ',', \
         COALESCE(JSON_QUOTE(s.trouble), 'null'), ',', \
         CASE WHEN s.state = ? THEN 1 ELSE EXISTS (SELECT 1 FROM subscription AS o WHERE o.endpoint = s.endpoint AND o.state = ?) END, ']')",
    );
    let mut select = conn.sql(format!(
        "SELECT {in_order} {member} FROM endpoint AS e {then} subscription AS s ON s.endpoint = e.name WHERE s.task_type = ?"
    ));
    let rows = select
        .bind(SubscriptionState::Online)
        .bind(SubscriptionState::Online)
        .bind(&task_type)
        .fetch_all()
        .await?;
    let mut members = Vec::new();
    for row in &rows {
        let cells: Vec<MemberCells<'_>> =
            serde_json::from_str(row.get(0)?).map_err(|error| columns::corrupt("endpoint".into(), error))?;
        members.extend(cells.into_iter().map(MemberCells::decode).collect::<Result<Vec<_>>>()?);
    }
    members.sort_unstable_by(|one: &Member, other| one.name.cmp(&other.name));
    Ok(members)
}

async fn gone_since(conn: &mut Conn<'_>, before: Timestamp, limit: u32) -> Result<Vec<EndpointName>, Fault> {
    let mut select = conn.sql(
        "SELECT name FROM endpoint WHERE last_seen < ? AND NOT EXISTS (SELECT 1 FROM subscription WHERE endpoint = name AND state = ?) \
         ORDER BY name LIMIT ?",
    );
    let rows = select.bind(before).bind(SubscriptionState::Online).bind(limit).fetch_all().await?;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn endpoint_names(conn: &mut Conn<'_>) -> Result<Vec<EndpointName>, Fault> {
    let rows = conn.sql("SELECT name FROM endpoint ORDER BY name").fetch_all().await?;
    rows.iter().map(|row| row.get(0)).collect()
}
