//! The rollout that undoes another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::create::{self, NewRollout, RolloutRecorded};
use super::records::RolloutRecord;
use super::{lane, read};
use crate::config::span;
use crate::domain::rollout::{
    CatchUp, Plan, PlannedDomain, PlannedWave, Rollback, RollbackOn, RolloutSettings, TargetState, WaveTerms,
};
use crate::domain::{EndpointName, RolloutName, Timestamp, digest, json, value_at};
use crate::store::Retry;
use crate::store::columns::{corrupt, name};
use crate::store::fault::Fault;
use crate::store::sql::{Conn, Row, Statement};

/// What it is called behind the identifier of the rollout that it undoes.
const SUFFIX: &str = "-rollback";
/// Characters of that identifier that it keeps: there is room for the suffix and a number.
const KEPT: usize = 100;
/// When it is given up.
const EXPIRES: Duration = Duration::from_secs(30 * 86_400);
/// Members of `rollback` that its own document has too.
const MEMBERS: [&str; 5] = ["payload", "window", "receive_within", "finish_within", "healthy"];

/// Records the rollout that undoes one: a single wave of the endpoints that have received something, newest
/// first, without budgets and windows. It is due at once.
pub(super) async fn record(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    now: Timestamp,
) -> Result<Uuid, Fault> {
    let missing = || {
        corrupt(format!("rollout {}, column settings", rollout.id), "it is rolled back and does not say how")
    };
    let rollback = rollout.settings.rollback.as_ref().ok_or_else(missing)?;
    let (mut targets, mut domains, mut domain_of) = (Vec::new(), Vec::<PlannedDomain>::new(), HashMap::new());
    for (endpoint, domain) in changed(conn, rollout, rollback.on).await? {
        if let Some((name, places)) = domain {
            let place = domains.iter().position(|domain| domain.name == name).unwrap_or(domains.len());
            if place == domains.len() {
                domains.push(PlannedDomain { name, size: 0, places });
            }
            domains[place].size += 1;
            domain_of.insert(endpoint.clone(), place);
        }
        targets.push(endpoint);
    }
    let size = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let terms = terms(rollback);
    let wave = PlannedWave {
        name: None,
        targets,
        absent: 0,
        window: terms.window.places(size),
        allowed_failed: None,
        allowed_unreachable: None,
        terms,
    };
    let id = Uuid::now_v7();
    let of: String = rollout.identifier.as_str().chars().take(KEPT).collect();
    let number = id.simple().to_string();
    // The first name may be taken by a rollout that somebody has submitted.
    for identifier in
        [format!("{of}{SUFFIX}"), format!("{of}{SUFFIX}-{}", number.get(24..).unwrap_or(&number))]
    {
        let identifier: RolloutName = name(&identifier, || "the identifier of a rollback".to_owned())?;
        let document = document(conn, rollout, rollback, &identifier).await?;
        let new = NewRollout {
            id,
            identifier,
            task_type: rollback.task_type.clone(),
            lane: rollout.lane.clone(),
            subject: rollout.subject.clone(),
            // What is newer than what it undoes is newer than this.
            ranks_at: lane::rank(rollout),
            payload: rollback.payload.clone(),
            digest: digest(document.get(), &[]),
            document,
            settings: RolloutSettings {
                catch_up: CatchUp::Run,
                catch_up_for: rollout.settings.catch_up_for,
                ..RolloutSettings::default()
            },
            plan: Plan {
                waves: vec![wave.clone()],
                allowed_failed: None,
                allowed_unreachable: None,
                max_absent: None,
                domains: domains.clone(),
                domain_of: domain_of.clone(),
                odd: Vec::new(),
            },
            created_by: rollout.created_by.clone(),
            parent: Some(rollout.id),
            created: now,
            start_at: Some(now),
            expires_at: now.after(EXPIRES),
        };
        if create::record(conn, Arc::new(new)).await? == RolloutRecorded::New {
            return Ok(id);
        }
    }
    Err(Fault::Again(
        Retry::Conflict,
        format!("the identifiers of the rollback of rollout {} are taken", rollout.identifier),
    ))
}

/// A failure domain, and how many of its endpoints may be in flight.
type Domain = (String, Option<u32>);

/// The endpoints to roll back, newest first, each with its failure domain.
async fn changed(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    on: RollbackOn,
) -> Result<Vec<(EndpointName, Option<Domain>)>, Fault> {
    let mut select = select_changed(conn, rollout, on);
    let rows = select.push(" ORDER BY wave DESC, position DESC").fetch_all().await?;
    let target = |row: &Row| {
        let domain: Option<String> = row.get(1)?;
        let places = row.get(2)?;
        Ok((row.get(0)?, domain.map(|domain| (domain, places))))
    };
    rows.iter().map(target).collect()
}

/// Whether there is an endpoint to roll back.
pub(super) async fn has_changed(conn: &mut Conn<'_>, rollout: &RolloutRecord) -> Result<bool, Fault> {
    let Some(rollback) = &rollout.settings.rollback else { return Ok(false) };
    let mut select = select_changed(conn, rollout, rollback.on);
    Ok(select.push(" LIMIT 1").fetch_optional().await?.is_some())
}

fn select_changed<'c>(conn: &'c mut Conn<'_>, rollout: &RolloutRecord, on: RollbackOn) -> Statement<'c> {
    let mut select = conn
        .sql("SELECT endpoint, domain, domain_places FROM rollout_target WHERE rollout = ? AND changed = 1");
    select.bind(rollout.id);
    if on == RollbackOn::Failed {
        select.push(" AND state = ?").bind(TargetState::Failed.code());
    }
    select
}

fn terms(rollback: &Rollback) -> WaveTerms {
    WaveTerms {
        window: rollback.window,
        receive_within: rollback.receive_within,
        finish_within: rollback.finish_within,
        healthy: rollback.healthy.clone(),
        failed: None,
        unreachable: None,
        soak: Duration::ZERO,
        probe: None,
        approval: None,
    }
}

/// A document that means the same, for those who read it, change it or rerun it.
async fn document(
    conn: &mut Conn<'_>,
    rollout: &RolloutRecord,
    rollback: &Rollback,
    identifier: &RolloutName,
) -> Result<crate::domain::Json, Fault> {
    let kept = read::document(conn, rollout.id).await?;
    let mut document = BTreeMap::from([
        ("identifier", json(&identifier.as_str())),
        ("type", json(&rollback.task_type.as_str())),
        ("lane", json(&rollout.lane)),
    ]);
    if let Some(subject) = &rollout.subject {
        document.insert("subject", json(subject));
    }
    for member in MEMBERS {
        // To the byte: a handler may tell 6.10 from 6.1.
        if let Some(value) = kept.as_deref().and_then(|kept| value_at(kept, &format!("/rollback/{member}"))) {
            document.insert(member, value.to_owned().into());
        }
    }
    let any = serde_json::json!({"failed": "none", "unreachable": "none"});
    document.insert("budget", json(&serde_json::json!({"wave": any, "total": any})));
    document.insert("waves", json(&["rest"]));
    document.insert("catch_up", json(&CatchUp::Run.as_str()));
    document.insert("catch_up_for", json(&span::format(rollout.settings.catch_up_for)));
    Ok(json(&document))
}
