//! Who is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{MySqlConnection, Row};
use uuid::Uuid;

use super::rows::{Query, datetime, optional_time, push_names, time};
use crate::domain::{EndpointName, Presence, TaskType, Timestamp};
use crate::store::batch::{self, padded_rows};
use crate::store::clock_offset::{ClockOffset, ClockOffsets};
use crate::store::fault::Fault;
use crate::store::presence::{self, Heard, Standby, Subscription, SubscriptionState};
use crate::store::{EndpointForgotten, EndpointRecord, Seen, StandbyRecord, SubscriptionRecord, columns};

pub(super) async fn see(conn: &mut MySqlConnection, presences: Arc<[Presence]>, now: Timestamp) -> Result<Seen, Fault> {
    let names: Vec<&EndpointName> = presences.iter().map(|presence| &presence.endpoint).collect::<BTreeSet<_>>().into_iter().collect();
    let (mut known, mut clocks) = (HashMap::new(), HashMap::new());
    for names in names.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT endpoint, task_type, state, instance, session, seen_until, home, trouble, slots, previous_home, first_seen, last_seen, \
             standby, standby_home, standby_since, standby_until FROM subscription WHERE endpoint IN ",
        );
        push_names(&mut query, names.iter().map(|name| name.as_str()));
        query.push(" ORDER BY endpoint, task_type FOR UPDATE");
        for row in query.build().fetch_all(&mut *conn).await? {
            let subscription = Subscription {
                state: columns::subscription_state(row.try_get(2)?)?,
                instance: row.try_get(3)?,
                session: row.try_get(4)?,
                seen_until: time(&row, 5)?,
                home: row.try_get(6)?,
                trouble: row.try_get(7)?,
                slots: row.try_get(8)?,
                previous_home: row.try_get(9)?,
                first_seen: optional_time(&row, 10)?,
                last_seen: time(&row, 11)?,
                standby: match row.try_get::<Option<Uuid>, _>(12)? {
                    Some(instance) => {
                        let (home, since, seen_until) = (row.try_get(13)?, time(&row, 14)?, time(&row, 15)?);
                        Some(Standby { instance, home, since, seen_until })
                    }
                    None => None,
                },
            };
            known.insert((columns::endpoint(row.try_get(0)?)?, columns::task_type(row.try_get(1)?)?), subscription);
        }
        let mut query = Query::new("SELECT name, clock_offset_ms, clock_lower_ms, clock_readings FROM endpoint WHERE name IN ");
        push_names(&mut query, names.iter().map(|name| name.as_str()));
        query.push(" ORDER BY name FOR UPDATE");
        for row in query.build().fetch_all(&mut *conn).await? {
            let clock = ClockOffset { ms: row.try_get(1)?, lower_ms: row.try_get(2)?, readings: row.try_get(3)? };
            clocks.insert(columns::endpoint(row.try_get(0)?)?, clock);
        }
    }
    let changes = presence::see(&known, &clocks, &presences, now);
    let subscriptions: Vec<_> = changes.subscriptions.iter().collect();
    for run in subscriptions.chunks(batch::WIDE_ROWS) {
        let mut query = Query::new(
            "INSERT INTO subscription (endpoint, task_type, state, instance, session, seen_until, last_seen, home, trouble, slots, previous_home, \
             first_seen, standby, standby_home, standby_since, standby_until) VALUES ",
        );
        for (at, ((endpoint, task_type), subscription)) in padded_rows(run, |_| 0).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            let mut values = query.separated(", ");
            values.push_bind(endpoint.as_str()).push_bind(task_type.as_str()).push_bind(subscription.state.code());
            values.push_bind(subscription.instance).push_bind(subscription.session);
            values.push_bind(datetime(subscription.seen_until)).push_bind(datetime(subscription.last_seen));
            values.push_bind(subscription.home).push_bind(subscription.trouble.as_deref()).push_bind(subscription.slots);
            values.push_bind(subscription.previous_home).push_bind(subscription.first_seen.map(datetime));
            let standby = subscription.standby;
            values.push_bind(standby.map(|it| it.instance)).push_bind(standby.map(|it| it.home));
            values.push_bind(standby.map(|it| datetime(it.since))).push_bind(standby.map(|it| datetime(it.seen_until)));
            query.push(")");
        }
        query.push(
            " ON DUPLICATE KEY UPDATE state = VALUES(state), instance = VALUES(instance), session = VALUES(session), \
             seen_until = VALUES(seen_until), last_seen = VALUES(last_seen), home = VALUES(home), trouble = VALUES(trouble), \
             slots = VALUES(slots), previous_home = VALUES(previous_home), first_seen = VALUES(first_seen), \
             standby = VALUES(standby), standby_home = VALUES(standby_home), \
             standby_since = VALUES(standby_since), standby_until = VALUES(standby_until)",
        );
        query.build().execute(&mut *conn).await?;
    }
    let endpoints: Vec<_> = changes.endpoints.iter().collect();
    for run in endpoints.chunks(batch::WIDE_ROWS) {
        let mut query =
            Query::new("INSERT INTO endpoint (name, version, last_seen, clock_offset_ms, clock_lower_ms, clock_readings) VALUES ");
        for (at, (name, Heard { version, clock })) in padded_rows(run, |_| 0).enumerate() {
            query.push(if at == 0 { "(" } else { ", (" });
            let mut values = query.separated(", ");
            values.push_bind(name.as_str()).push_bind(version.as_str()).push_bind(datetime(now));
            values.push_bind(clock.ms).push_bind(clock.lower_ms).push_bind(clock.readings);
            query.push(")");
        }
        query.push(
            " ON DUPLICATE KEY UPDATE version = VALUES(version), last_seen = VALUES(last_seen), clock_offset_ms = VALUES(clock_offset_ms), \
             clock_lower_ms = VALUES(clock_lower_ms), clock_readings = VALUES(clock_readings)",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(changes.seen)
}

pub(super) async fn miss(conn: &mut MySqlConnection, now: Timestamp) -> Result<u64, Fault> {
    // Looked for without locks: an update without a key would lock and release every row of a fleet that is well.
    let (from, until) = presence::in_time(now);
    let overdue =
        sqlx::query("SELECT DISTINCT endpoint FROM subscription WHERE state = 1 AND (seen_until < ? OR seen_until > ?) ORDER BY endpoint")
            .bind(datetime(from))
            .bind(datetime(until))
            .fetch_all(&mut *conn)
            .await?;
    let names: Vec<&str> = overdue.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut missed = 0;
    for names in names.chunks(batch::KEYS) {
        // As `Subscription::handed_over` does it. In this order, since MySQL assigns one after the other.
        let mut query = Query::new(
            "UPDATE subscription FORCE INDEX (PRIMARY) SET instance = standby, session = standby, \
             previous_home = IF(home <=> standby_home, previous_home, COALESCE(home, previous_home)), home = standby_home, seen_until = standby_until, trouble = NULL, slots = IF(slots IS NULL, NULL, 0), standby = NULL, standby_home = NULL, \
             standby_since = NULL, standby_until = NULL WHERE state = 1 AND seen_until < ",
        );
        query.push_bind(datetime(from)).push(" AND standby_until > ").push_bind(datetime(now)).push(" AND endpoint IN ");
        push_names(&mut query, names.iter().copied());
        query.build().execute(&mut *conn).await?;
        let mut query = Query::new("UPDATE subscription FORCE INDEX (PRIMARY) SET state = ");
        query.push_bind(SubscriptionState::Missed.code()).push(" WHERE state = 1 AND (seen_until < ").push_bind(datetime(from));
        query.push(" OR seen_until > ").push_bind(datetime(until)).push(") AND endpoint IN ");
        push_names(&mut query, names.iter().copied());
        missed += query.build().execute(&mut *conn).await?.rows_affected();
    }
    Ok(missed)
}

pub(super) async fn standbys(conn: &mut MySqlConnection, now: Timestamp) -> Result<u64, Fault> {
    let count = sqlx::query("SELECT COUNT(*) FROM subscription WHERE standby_until > ?").bind(datetime(now)).fetch_one(conn).await?;
    Ok(count.try_get::<i64, _>(0)?.try_into().unwrap_or_default())
}

pub(super) async fn clock_offsets(conn: &mut MySqlConnection) -> Result<ClockOffsets, Fault> {
    let offsets = sqlx::query(
        "SELECT COUNT(CASE WHEN ABS(clock_offset_ms) > ? THEN 1 END), MAX(ABS(clock_offset_ms)) FROM endpoint \
         WHERE EXISTS (SELECT 1 FROM subscription WHERE endpoint = name AND state = 1)",
    )
    .bind(i64::try_from(Presence::CLOCK_TOLERANCE.as_millis()).unwrap_or(i64::MAX))
    .fetch_one(conn)
    .await?;
    let (beyond, largest): (i64, Option<i64>) = (offsets.try_get(0)?, offsets.try_get(1)?);
    Ok(ClockOffsets { beyond: beyond.unsigned_abs(), largest: Duration::from_millis(largest.unwrap_or_default().unsigned_abs()) })
}

pub(super) async fn forget(conn: &mut MySqlConnection, endpoint: EndpointName, even_present: bool) -> Result<EndpointForgotten, Fault> {
    let states = sqlx::query("SELECT state FROM subscription WHERE endpoint = ? FOR UPDATE");
    let states = states.bind(endpoint.as_str()).fetch_all(&mut *conn).await?;
    for state in &states {
        if !even_present && columns::subscription_state(state.try_get(0)?)? == SubscriptionState::Online {
            return Ok(EndpointForgotten::Present);
        }
    }
    sqlx::query("DELETE FROM subscription WHERE endpoint = ?").bind(endpoint.as_str()).execute(&mut *conn).await?;
    let gone = sqlx::query("DELETE FROM endpoint WHERE name = ?").bind(endpoint.as_str()).execute(&mut *conn).await?;
    if states.is_empty() && gone.rows_affected() == 0 {
        return Ok(EndpointForgotten::Unknown);
    }
    let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM response WHERE owed_to = ?").bind(endpoint.as_str()).fetch_one(conn).await?;
    Ok(EndpointForgotten::Gone { open: open.unsigned_abs() })
}

pub(super) async fn sessions(conn: &mut MySqlConnection, endpoint: EndpointName) -> Result<HashMap<TaskType, Uuid>, Fault> {
    let rows = sqlx::query("SELECT task_type, session FROM subscription WHERE endpoint = ? AND state = 1");
    let rows = rows.bind(endpoint.as_str()).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((columns::task_type(row.try_get(0)?)?, row.try_get(1)?))).collect()
}

pub(super) async fn subscribed(
    conn: &mut MySqlConnection,
    task_types: Arc<[TaskType]>,
) -> Result<HashMap<TaskType, Vec<EndpointName>>, Fault> {
    let mut subscribed: HashMap<TaskType, Vec<EndpointName>> = HashMap::new();
    for task_type in task_types.iter().collect::<BTreeSet<_>>() {
        let names = sqlx::query(
            "SELECT endpoint FROM subscription FORCE INDEX (subscription_type) WHERE task_type = ? AND state = 1 ORDER BY endpoint",
        )
        .bind(task_type.as_str())
        .fetch_all(&mut *conn)
        .await?;
        let names = names.iter().map(|row| Ok(columns::endpoint(row.try_get(0)?)?)).collect::<Result<_, Fault>>()?;
        subscribed.insert(task_type.clone(), names);
    }
    Ok(subscribed)
}

pub(super) async fn endpoints(conn: &mut MySqlConnection, after: Option<EndpointName>, limit: u32) -> Result<Vec<EndpointRecord>, Fault> {
    let rows = sqlx::query("SELECT name, version, last_seen, clock_offset_ms FROM endpoint WHERE name > ? ORDER BY name LIMIT ?")
        .bind(after.as_ref().map_or("", EndpointName::as_str))
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
    let mut endpoints = Vec::with_capacity(rows.len());
    for row in &rows {
        endpoints.push(EndpointRecord {
            name: columns::endpoint(row.try_get(0)?)?,
            subscriptions: Vec::new(),
            version: row.try_get(1)?,
            last_seen: time(row, 2)?,
            clock_offset_ms: row.try_get(3)?,
        });
    }
    let mut subscriptions = Vec::new();
    for run in endpoints.chunks(batch::KEYS) {
        let mut query = Query::new(
            "SELECT endpoint, task_type, state, trouble, slots, standby, standby_since, standby_until FROM subscription WHERE endpoint IN ",
        );
        push_names(&mut query, run.iter().map(|record| record.name.as_str()));
        query.push(" ORDER BY endpoint, task_type");
        for row in query.build().fetch_all(&mut *conn).await? {
            let state = columns::subscription_state(row.try_get(2)?)?;
            let subscription = SubscriptionRecord {
                task_type: columns::task_type(row.try_get(1)?)?,
                subscribed: state == SubscriptionState::Online,
                trouble: row.try_get(3)?,
                slots: row.try_get(4)?,
                standby: match row.try_get::<Option<Uuid>, _>(5)? {
                    Some(instance) => Some(StandbyRecord { instance, since: time(&row, 6)?, seen_until: time(&row, 7)? }),
                    None => None,
                },
            };
            subscriptions.push((columns::endpoint(row.try_get(0)?)?, subscription));
        }
    }
    Ok(columns::endpoint_records(endpoints, subscriptions))
}

pub(super) async fn endpoint_names(conn: &mut MySqlConnection) -> Result<Vec<EndpointName>, Fault> {
    let rows = sqlx::query("SELECT name FROM endpoint ORDER BY name").fetch_all(conn).await?;
    rows.iter().map(|row| Ok(columns::endpoint(row.try_get(0)?)?)).collect()
}
