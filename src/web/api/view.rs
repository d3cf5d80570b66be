//! What the ledger has, as the contract shows it. Texts are moved, never copied: an answer may hold thousands
//! of rows. What the store hands over in the words of the domain (tasks, responses, requests) is shown by the
//! contract itself.

use std::time::Duration;

use super::query::{request_cursor, task_cursor};
use crate::config;
use crate::contract::{
    Census, Endpoint, Flaw, RequestCensus, RequestFlaw, RolloutCensus, RolloutFlaw, Schedule, Standby,
    Subscription,
};
use crate::domain::{Presence, Timestamp};
use crate::store::{self, EndpointRecord, ScheduleRecord, StandbyRecord, SubscriptionRecord};

/// A schedule as it is configured, with how far it is.
pub fn schedule(schedule: &config::Schedule, record: Option<ScheduleRecord>, now: Timestamp) -> Schedule {
    let done_until = record.as_ref().map(|record| record.done_until);
    let paused_at = record.as_ref().and_then(|record| record.paused_at);
    let next = if paused_at.is_none() { schedule.next(now) } else { None };
    let (last_error, last_error_at) = record.and_then(|record| record.last_error).unzip();
    Schedule {
        name: schedule.name.clone(),
        task_type: schedule.task_type.clone(),
        cron: schedule.cron.as_str().to_owned(),
        time_zone: schedule.time_zone.name().to_owned(),
        missed: schedule.missed.as_str().to_owned(),
        endpoints: schedule.endpoints.clone(),
        done_until,
        next,
        next_local: next.map(|next| schedule.local(next)),
        paused_at,
        last_error,
        last_error_at,
    }
}

/// What is shown of a record of the store. Neither the record nor what is shown is of this crate, so `From`
/// cannot be implemented.
pub(super) trait View<Record> {
    fn view(record: Record) -> Self;
}

impl View<EndpointRecord> for Endpoint {
    fn view(record: EndpointRecord) -> Self {
        let EndpointRecord { name, subscriptions, version, last_seen, clock_offset_ms, labels, .. } = record;
        let stopped = !subscriptions.is_empty() && subscriptions.iter().all(|one| one.left);
        let clock = clock_offset_ms.and_then(clock_trouble);
        let types = subscriptions.into_iter().map(|record| subscription(record, clock.as_deref())).collect();
        Self { name, last_seen, version, clock_offset_ms, labels: labels.into(), stopped, types }
    }
}

/// A subscription of an endpoint whose clock may be wrong: then each type that it takes has that trouble too.
fn subscription(record: SubscriptionRecord, clock: Option<&str>) -> Subscription {
    let SubscriptionRecord { task_type, subscribed, trouble, slots, standby, left: _ } = record;
    let trouble = match (trouble, clock.filter(|_| subscribed)) {
        (Some(trouble), Some(clock)) => Some(format!("{trouble}; {clock}")),
        (None, Some(clock)) => Some(clock.to_owned()),
        (trouble, None) => trouble,
    };
    let standby =
        standby.map(|StandbyRecord { instance, since, seen_until }| Standby { instance, since, seen_until });
    Subscription { task_type, subscribed, trouble, slots, standby }
}

/// What is wrong with a clock that is so many milliseconds ahead.
fn clock_trouble(offset_ms: i64) -> Option<String> {
    let off = Duration::from_millis(offset_ms.unsigned_abs());
    let way = if offset_ms > 0 { "ahead of" } else { "behind" };
    (off > Presence::CLOCK_TOLERANCE)
        .then(|| format!("its clock is {} s {way} the database's", off.as_secs()))
}

/// The sums of a page.
impl View<store::Census> for Census {
    fn view(census: store::Census) -> Self {
        let store::Census {
            accepted,
            accounted,
            missing,
            expected,
            open,
            double,
            executions,
            interrupted,
            excess,
            flaws,
            next,
        } = census;
        let flaws = flaws
            .into_iter()
            .map(|store::Flaw { id, identifier, reason }| Flaw { id, identifier, reason })
            .collect();
        let next_cursor = next.map(task_cursor);
        Self {
            accepted,
            accounted,
            missing,
            expected,
            open,
            double,
            executions,
            interrupted,
            excess,
            flaws,
            next_cursor,
        }
    }
}

/// The same of requests.
impl View<store::RequestCensus> for RequestCensus {
    fn view(census: store::RequestCensus) -> Self {
        let store::RequestCensus { accepted, accounted, missing, open, attempts, flaws, next } = census;
        let flaws = flaws
            .into_iter()
            .map(|store::RequestFlaw { token, reason }| RequestFlaw { token, reason })
            .collect();
        let next_cursor = next.map(|(created, token)| request_cursor(created, &token));
        Self { accepted, accounted, missing, open, attempts, flaws, next_cursor }
    }
}

/// The same of rollouts.
impl View<store::RolloutCensus> for RolloutCensus {
    fn view(census: store::RolloutCensus) -> Self {
        let store::RolloutCensus { accepted, accounted, missing, open, flaws, next } = census;
        let flaws = flaws
            .into_iter()
            .map(|store::RolloutFlaw { rollout, reason }| RolloutFlaw { rollout, reason })
            .collect();
        Self { accepted, accounted, missing, open, flaws, next_cursor: next.map(|id| id.to_string()) }
    }
}
