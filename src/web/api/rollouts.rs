//! `/rollouts`: changing a fleet in waves.
//!
//! A token that is limited to some task types sees and moves only rollouts of these types. A token without
//! the scope `read` moves only rollouts that were submitted with it, and its answers have only the status and
//! the counts of a rollout.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use uuid::Uuid;

use super::body::{self, Limit};
use super::problem::Problem;
use super::query::{self, Query};
use super::rollout_document;
use super::rollout_edit::{Turns, edit_of, waves_of_rerun};
use super::segment::segment;
use super::until_ended::{MAX_WAIT, until_ended};
use super::view::View;
use super::{Answer, Api, access, allowance, answer, deeds, target};
use crate::config::TypePolicy;
use crate::contract::{
    self, AbortRollout, EditRollout, FreedHold, NewTargets, PickTargets, ProblemCode, ProblemItem, RerunOnly,
    RerunRollout, ResumeRollout, Rollout, RolloutCommand, RolloutDocument, RolloutEvents, RolloutHoldPage,
    RolloutPage, RolloutPlan, RolloutTargetPage,
};
use crate::domain::likeness::quoted;
use crate::domain::rollout::{
    Allow, Asker, Command, NewEvent, Order, Plan, PlanFault, PlannedDomain, Refusal, RolloutStatus,
    RolloutTerms, Start, TargetState, WaveTerms, WavesAnew, chosen, current, plan as plan_of, still_waits,
};
use crate::domain::{EndpointName, Json, RolloutName, Scope, TaskType, TokenName, digest, json_check};
use crate::request_body::Body;
use crate::store::{
    Commanded, LIST_BYTES, NewRollout, RolloutOfLane, RolloutPick, RolloutQuery, RolloutRecord,
    RolloutRecorded, RolloutTargetQuery, RolloutTargetRecord,
};

/// Entries on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;
/// Bytes of a document at most: fifty thousand names.
const LONGEST_DOCUMENT: usize = 8 << 20;
/// Bytes of a command at most.
const LONGEST_COMMAND: usize = 8 << 20;
/// Bytes that a rerun may have: an identifier and a few words.
const LONGEST_RERUN: usize = 64 << 10;
/// Identifiers that paths use.
const TAKEN: [&str; 2] = ["plan", "holds"];
/// What an endpoint or a wave may take while it is read and written.
const ROOM_EACH: usize = 512;

fn invalid(problems: Vec<ProblemItem>) -> Problem {
    Problem::invalid(ProblemCode::InvalidSubmission, problems)
}

/// A document that was sent, with its text.
struct Sent {
    terms: RolloutTerms,
    body: Body,
}

async fn read(api: &Api, request: &HttpRequest, payload: web::Payload) -> Result<Sent, Problem> {
    let body = api.body(request, payload, Limit { bytes: LONGEST_DOCUMENT, setting: None }).await?;
    let terms = rollout_document::parse(body::json(&body)?, &api.state.config).map_err(invalid)?;
    check_identifier(&terms.identifier)?;
    access::check_types(request, std::iter::once(&terms.task_type).chain(other_types(&terms)))?;
    Ok(Sent { terms, body })
}

/// The types of the rollback and of the probes of a document.
fn other_types(terms: &RolloutTerms) -> impl Iterator<Item = &TaskType> {
    let rollback = terms.settings.rollback.iter().map(|rollback| &rollback.task_type);
    rollback
        .chain(terms.waves.iter().filter_map(|wave| wave.terms.probe.as_ref()).map(|probe| &probe.task_type))
}

/// The policy of a type of a document that was read.
fn policy_of<'a>(api: &'a Api, name: &TaskType) -> Result<&'a TypePolicy, Problem> {
    api.state.config.policy(name).ok_or_else(|| Problem::internal("a type that was there"))
}

/// Refuses identifiers that are paths of the API.
fn check_identifier(name: &RolloutName) -> Result<(), Problem> {
    if !TAKEN.contains(&name.as_str()) {
        return Ok(());
    }
    Err(invalid(vec![ProblemItem::new(
        "/identifier",
        format!("is `{name}`, which is a path of the API; choose another"),
    )]))
}

/// The answer to a document whose identifier is known. It is looked for before the waves are planned: the
/// fleet may have changed since then.
async fn repeated(
    api: &Api,
    request: &HttpRequest,
    name: &RolloutName,
    digest: [u8; 32],
) -> Result<Option<HttpResponse>, Problem> {
    let (store, wanted) = (Arc::clone(&api.state.store), name.clone());
    match api.run(async move { store.rollout_digest(&wanted).await }).await? {
        None => Ok(None),
        Some((id, known)) => {
            let (store, wanted) = (Arc::clone(&api.state.store), name.clone());
            let found = api.run(async move { store.rollout(&wanted).await }).await?;
            let found = found.ok_or_else(|| unknown_rollout(name))?;
            if !access::covers(request, found.task_type.as_str()) || is_of_another(request, &found) {
                return Err(another(name));
            }
            if known != digest {
                return Err(conflict(name, id));
            }
            deeds::nothing(request);
            shown(api, request, found, StatusCode::OK).await.map(Some)
        }
    }
}

/// Whether a rollout is one of which the token of a request may know nothing.
fn is_of_another(request: &HttpRequest, rollout: &RolloutRecord) -> bool {
    access::blind(request).is_some_and(|own| rollout.created_by.as_ref() != Some(&own))
}

fn another(name: &RolloutName) -> Problem {
    let text = quoted(name.as_str());
    let detail = format!(
        "the identifier {text} is taken by a rollout that was not submitted with this token; choose another"
    );
    Problem::new(ProblemCode::RolloutConflict, detail)
}

fn conflict(name: &RolloutName, id: Uuid) -> Problem {
    let text = quoted(name.as_str());
    let detail = format!(
        "the identifier {text} is that of rollout {id}, which was made of another document; choose another"
    );
    Problem::new(ProblemCode::RolloutConflict, detail).about(name.as_str(), None)
}

/// The payload as the type has it, and the waves.
async fn planned(
    api: &Api,
    request: &HttpRequest,
    terms: RolloutTerms,
) -> Result<(RolloutTerms, Plan), Problem> {
    let terms = resolved(api, terms).await?;
    let plan = plan_of(&terms, &target::members(api, policy_of(api, &terms.task_type)?).await?);
    let mut plan = plan.map_err(faults)?;
    plan.odd.extend(not_asked_for(&terms, &plan));
    plan.odd.extend(may_overwrite(api, request, &terms).await?);
    Ok((terms, plan))
}

/// A warning of other rollouts of the lane that may change the same, where the last one to come to an endpoint
/// would win.
async fn may_overwrite(
    api: &Api,
    request: &HttpRequest,
    terms: &RolloutTerms,
) -> Result<Option<String>, Problem> {
    // To a token that may not read, those of others are unknown.
    if access::blind(request).is_some() {
        return Ok(None);
    }
    let (store, lane) = (Arc::clone(&api.state.store), terms.lane.clone());
    let open = api.run(async move { store.rollouts_of_lane(&lane).await }).await?;
    let may = |other: &RolloutOfLane| {
        other.identifier != terms.identifier
            && (terms.subject.is_none() || other.subject.is_none())
            && access::covers(request, other.task_type.as_str())
    };
    let mut others = open.into_iter().filter(may);
    let Some(RolloutOfLane { identifier, status, .. }) = others.next() else { return Ok(None) };
    let more = match others.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let who = if terms.subject.is_some() { "not both have a" } else { "this document has no" };
    Ok(Some(format!(
        "`{identifier}` ({}){more} of the lane `{}` can change the same endpoints, and {who} `subject`: the last rollout that reaches an endpoint \
         wins there, even if it is the older one. Give rollouts that change the same thing the same `subject`, or abort the older one",
        status.as_str(),
        terms.lane
    )))
}

/// A warning of approvals that nobody is asked for, since no endpoint is left for their waves.
fn not_asked_for(terms: &RolloutTerms, plan: &Plan) -> Option<String> {
    let last = plan.waves.last().and_then(|wave| wave.terms.approval.as_ref());
    let mut empty = terms.waves.iter().enumerate().skip(plan.waves.len());
    let (at, _) =
        empty.find(|(_, wave)| wave.terms.approval.is_some() && wave.terms.approval.as_ref() != last)?;
    Some(format!("no endpoint is left for wave {}: its approval is not asked for", at + 1))
}

/// The refusal of a document that does not fit the fleet.
fn faults(faults: Vec<PlanFault>) -> Problem {
    invalid(faults.into_iter().map(|fault| ProblemItem::new(fault.pointer, fault.message)).collect())
}

/// The terms with payloads as their types have them, and with the selectors of groups.
async fn resolved(api: &Api, mut terms: RolloutTerms) -> Result<RolloutTerms, Problem> {
    let policy = policy_of(api, &terms.task_type)?;
    // What the type does not admit would fail at every endpoint.
    terms.payload = admitted(api, &terms.identifier, policy, terms.payload, "/payload")?;
    if let Some(rollback) = &mut terms.settings.rollback {
        let policy = policy_of(api, &rollback.task_type)?;
        rollback.payload =
            admitted(api, &terms.identifier, policy, rollback.payload.clone(), "/rollback/payload")?;
    }
    for (at, wave) in terms.waves.iter_mut().enumerate() {
        let Some(probe) = &mut wave.terms.probe else { continue };
        let policy = policy_of(api, &probe.task_type)?;
        let place =
            if wave.own.probe { format!("/waves/{at}/probe/payload") } else { "/probe/payload".to_owned() };
        probe.payload = admitted(api, &terms.identifier, policy, probe.payload.clone(), &place)?;
    }
    with_groups(api, terms).await
}

/// The terms with the selectors of groups.
async fn with_groups(api: &Api, mut terms: RolloutTerms) -> Result<RolloutTerms, Problem> {
    if terms.groups_named().next().is_some() {
        let groups = target::groups(api).await?;
        let unknown = terms.groups_named().filter(|(_, name)| !groups.contains_key(*name));
        let unknown: Vec<_> =
            unknown.map(|(at, name)| ProblemItem::new(at, target::unknown_group(name, &groups))).collect();
        if !unknown.is_empty() {
            return Err(invalid(unknown));
        }
        terms = terms
            .with_groups(&groups)
            .map_err(|name| Problem::internal(format!("group {name} that was there")))?;
    }
    Ok(terms)
}

/// A payload as its type has it.
fn admitted(
    api: &Api,
    identifier: &RolloutName,
    policy: &TypePolicy,
    payload: Json,
    at: &str,
) -> Result<Json, Problem> {
    let name = format!("rollout-{identifier}").parse().map_err(Problem::internal)?;
    let task =
        api.state.admission.task(policy, name, payload, crate::admission::Asked::default(), api.now()?);
    let task = task.map_err(|faults| {
        let item = |fault: crate::admission::Fault| {
            ProblemItem::new(at, format!("the type does not admit it: {fault}"))
        };
        invalid(faults.into_iter().map(item).collect())
    })?;
    Ok(task.payload)
}

/// Records a rollout and starts it, unless the document says otherwise.
///
/// The endpoints and their waves are frozen now; labels that change later change nothing. The same document
/// again under its identifier answers 200 with the rollout that is there.
#[utoipa::path(
    post, path = "/rollouts", operation_id = "submitRollout", tag = "rollouts",
    request_body(content = RolloutDocument, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = Rollout, headers(("Location" = String, description = "Where to read the rollout"))),
        (status = 200, description = "The same document was submitted before: the rollout as it stands", body = Rollout),
        (status = 409, description = "`rollout_conflict`: another document under this identifier", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let Sent { terms, body } = read(&api, &request, payload).await?;
    let text = body::json(&body)?;
    let digest = digest(text, &[]);
    if let Some(answered) = repeated(&api, &request, &terms.identifier, digest).await? {
        return Ok(answered);
    }
    let document = rollout_document::kept(text)
        .ok_or_else(|| Problem::internal("a document that was read is not JSON"))?;
    drop(body);
    let (terms, plan) = planned(&api, &request, terms).await?;
    record(&api, &request, New { terms, plan, document, digest, parent: None }).await
}

/// What a document would do: its waves with all numbers resolved. Nothing is recorded.
#[utoipa::path(
    post, path = "/rollouts/plan", operation_id = "planRollout", tag = "rollouts",
    request_body(content = RolloutDocument, content_type = "application/json"),
    responses(
        (status = 200, description = "The plan", body = RolloutPlan),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn plan(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let Sent { terms, body } = read(&api, &request, payload).await?;
    drop(body);
    let (terms, plan) = planned(&api, &request, terms).await?;
    let waves = (1u32..).zip(&plan.waves).map(|(number, wave)| contract::RolloutPlanWave {
        wave: number,
        name: wave.name.clone(),
        size: wave.size(),
        absent: wave.absent,
        window: wave.window,
        allowed_failed: wave.allowed_failed,
        allowed_unreachable: wave.allowed_unreachable,
        gates: gates(&wave.terms),
        endpoints: wave.targets.clone(),
    });
    let domain = |domain: PlannedDomain| contract::RolloutPlanDomain {
        domain: domain.name,
        size: domain.size,
        max_in_flight: domain.places,
    };
    let size = plan.size();
    let room = 4096
        + usize::try_from(size).unwrap_or(usize::MAX).saturating_mul(32)
        + plan.domains.len() * ROOM_EACH;
    let answered = RolloutPlan {
        waves: waves.collect(),
        size,
        absent: plan.absent(),
        max_absent: plan.max_absent,
        allowed_failed: plan.allowed_failed,
        allowed_unreachable: plan.allowed_unreachable,
        domains: plan.domains.into_iter().map(domain).collect(),
        warnings: plan.odd,
        next_window: crate::rollouts::next_opening(&terms.settings.windows, api.now()?),
        identifier: terms.identifier,
        task_type: terms.task_type,
        lane: terms.lane,
        subject: terms.subject,
    };
    api.room(&request, room).await?;
    answer(StatusCode::OK, &answered, room)
}

/// A rollout to be recorded.
struct New {
    terms: RolloutTerms,
    plan: Plan,
    document: Json,
    digest: [u8; 32],
    parent: Option<Uuid>,
}

async fn record(api: &Api, request: &HttpRequest, new: New) -> Answer {
    allowance::check_unbounded(request, "rollouts")?;
    let New { terms, plan, document, digest, parent } = new;
    let now = api.now()?;
    let new = NewRollout {
        id: Uuid::now_v7(),
        identifier: terms.identifier.clone(),
        task_type: terms.task_type,
        lane: terms.lane,
        subject: terms.subject,
        ranks_at: None,
        payload: terms.payload,
        document,
        digest,
        settings: terms.settings,
        plan,
        created_by: access::token_name(request),
        parent,
        created: now,
        start_at: match terms.start {
            Start::Now => Some(now),
            Start::At(time) => Some(time),
            Start::Manual => None,
        },
        expires_at: now.after(terms.expires_after),
    };
    let made = json!({
        "rollout": new.identifier, "type": new.task_type, "lane": new.lane, "endpoints": new.plan.size(),
    });
    let (ledger, warnings) = (api.state.ledger.clone(), new.plan.odd.clone());
    let recorded = api.run(async move { ledger.record_rollout(new).await }).await?;
    if !matches!(recorded, RolloutRecorded::New) {
        // Somebody has submitted one of this identifier since it was looked for.
        let known = repeated(api, request, &terms.identifier, digest).await?;
        return known.ok_or_else(|| unknown_rollout(&terms.identifier));
    }
    deeds::tell(request, made);
    let found = find(api, request, &terms.identifier).await?;
    let mut answered = warned(api, request, found, StatusCode::CREATED, warnings).await?;
    let location = format!("/rollouts/{}", terms.identifier).parse().map_err(Problem::internal)?;
    answered.headers_mut().insert(header::LOCATION, location);
    Ok(answered)
}

/// What a list of rollouts may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct ListQuery {
    /// Only these states, separated by commas
    #[param(example = "RUNNING,HALTED")]
    status: Option<String>,
    /// Rollouts on a page, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// Lists rollouts, newest first, without their documents.
///
/// A page may be shorter than `limit`; the list has ended only when `next_cursor` is null.
#[utoipa::path(
    get, path = "/rollouts", operation_id = "listRollouts", tag = "rollouts",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of rollouts", body = RolloutPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let wanted = RolloutQuery {
        status: query
            .take("status", |text| query::words(text, &RolloutStatus::ALL, RolloutStatus::as_str))
            .unwrap_or_default(),
        before: query.take("cursor", query::read_rollout_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;
    api.room(&request, 2 * LIST_BYTES).await?;
    let store = Arc::clone(&api.state.store);
    let (found, more) = api.run(async move { store.rollouts(&wanted).await }).await?;
    let next_cursor = found.last().filter(|_| more).map(|last| last.id.to_string());
    let covered = found.into_iter().filter(|rollout| access::covers(&request, rollout.task_type.as_str()));
    let rollouts: Vec<Rollout> = covered.map(|record| at_present(&api, record)).collect();
    let capacity =
        1024 + rollouts.iter().map(|rollout| 1024 + rollout.waves.len() * ROOM_EACH).sum::<usize>();
    answer(StatusCode::OK, &RolloutPage { rollouts, next_cursor }, capacity)
}

/// How a rollout may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct ShowQuery {
    /// How long to wait, at most 60s
    #[param(example = "20s")]
    wait: Option<String>,
    /// What to wait for. `end`, the default: a final status. `settled`: a final status, a pause or a halt, or
    /// SETTLING, each with nothing in flight
    until: Option<String>,
}

/// Reads a rollout with its waves.
///
/// With `wait` the API answers when the rollout has reached the state that `until` names, at the latest when
/// the wait times out.
#[utoipa::path(
    get, path = "/rollouts/{id}", operation_id = "showRollout", tag = "rollouts",
    params(("id" = String, Path, description = "The identifier of the rollout"), ShowQuery),
    responses(
        (status = 200, description = "The rollout", body = Rollout),
        (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn show(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let name = name(&request)?;
    let mut query = Query::new(request.query_string());
    let wait = query.take("wait", |text| query::span(text, MAX_WAIT));
    let settled = query.take("until", |text| match text {
        "end" => Ok(false),
        "settled" => Ok(true),
        _ => Err("must be end or settled".to_owned()),
    });
    query.finish()?;
    let settled = settled.unwrap_or_default();
    let mut found = find(&api, &request, &name).await?;
    if let Some(wait) = wait.filter(|_| !has_come(&found, settled)) {
        let (look, id) = (async || find(&api, &request, &name).await, found.id);
        found = until_ended(&api, &request, wait, &api.state.rollouts, &id, look, |found| {
            has_come(found, settled)
        })
        .await?;
    }
    // The token may have been revoked during the wait.
    access::check_again(&api, &request)?;
    shown(&api, &request, found, StatusCode::OK).await
}

/// Whether a rollout has ended, or does not go on by itself.
fn has_come(rollout: &RolloutRecord, settled: bool) -> bool {
    let idle = || rollout.waves.iter().all(|wave| wave.counts.in_flight() == 0);
    match rollout.status {
        status if status.is_final() => true,
        RolloutStatus::Paused | RolloutStatus::Halted => settled && idle(),
        RolloutStatus::Settling => {
            settled && idle() && rollout.waves.iter().all(|wave| wave.counts.get(TargetState::Pending) == 0)
        }
        _ => false,
    }
}

/// The identifier in the path of a request.
fn name(request: &HttpRequest) -> Result<RolloutName, Problem> {
    let text = segment(request, 1)?;
    text.parse().map_err(|error| {
        Problem::new(ProblemCode::BadPath, format!("{} is not an identifier: {error}", quoted(&text)))
    })
}

fn unknown_rollout(name: &RolloutName) -> Problem {
    let detail = format!("rollout {} not found: no rollout has this identifier", quoted(name.as_str()));
    Problem::new(ProblemCode::UnknownRollout, detail).about(name.as_str(), None)
}

/// The rollout of an identifier, if the token is good for it.
async fn find(api: &Api, request: &HttpRequest, name: &RolloutName) -> Result<RolloutRecord, Problem> {
    let (store, wanted) = (Arc::clone(&api.state.store), name.clone());
    let found =
        api.run(async move { store.rollout(&wanted).await }).await?.ok_or_else(|| unknown_rollout(name))?;
    if !access::covers(request, found.task_type.as_str()) {
        return Err(unknown_rollout(name));
    }
    Ok(found)
}

/// What a rollout was made of.
async fn document(api: &Api, id: Uuid) -> Result<Json, Problem> {
    let store = Arc::clone(&api.state.store);
    api.run(async move { store.rollout_document(id).await })
        .await?
        .ok_or_else(|| Problem::internal("a rollout that was there"))
}

/// A rollout as it stands now: outside its maintenance windows it says when the next one opens.
fn at_present(api: &Api, record: RolloutRecord) -> Rollout {
    let starts = record.status.admits().then(|| api.now().ok()).flatten();
    let next_window = starts.and_then(|now| crate::rollouts::next_opening(&record.settings.windows, now));
    Rollout { next_window, ..Rollout::view(record) }
}

/// Answers with a rollout. A token without the scope `read` gets only its status and its counts.
async fn shown(api: &Api, request: &HttpRequest, found: RolloutRecord, status: StatusCode) -> Answer {
    warned(api, request, found, status, Vec::new()).await
}

/// The same, with what there is to warn of.
async fn warned(
    api: &Api,
    request: &HttpRequest,
    found: RolloutRecord,
    status: StatusCode,
    warnings: Vec<String>,
) -> Answer {
    let mut rollout = Rollout { warnings, ..at_present(api, found) };
    if access::blind(request).is_some() {
        (rollout.reason, rollout.waves) = (None, Vec::new());
    } else {
        rollout.document = Some(document(api, rollout.id).await?);
    }
    let length = rollout.document.as_ref().map_or(0, |document| document.get().len());
    let capacity = 2048 + length + rollout.waves.len() * ROOM_EACH;
    api.room(request, 2 * capacity).await?;
    answer(status, &rollout, capacity)
}

/// What a list of the endpoints of a rollout may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct TargetsQuery {
    /// Only these states, separated by commas
    #[param(example = "FAILED,UNREACHABLE")]
    state: Option<String>,
    /// Only those of the wave of this number
    #[param(minimum = 1)]
    wave: Option<u32>,
    /// Endpoints on a page, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// Lists the endpoints of a rollout, in the order of their turns.
#[utoipa::path(
    get, path = "/rollouts/{id}/targets", operation_id = "listRolloutTargets", tag = "rollouts",
    params(("id" = String, Path, description = "The identifier of the rollout"), TargetsQuery),
    responses(
        (status = 200, description = "A page of endpoints", body = RolloutTargetPage),
        (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn targets(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let name = name(&request)?;
    let mut query = Query::new(request.query_string());
    // `ok` is as good as `OK`.
    let states =
        |text: &str| query::words(&text.to_ascii_uppercase(), &TargetState::ALL, TargetState::as_str);
    let wanted = RolloutTargetQuery {
        states: query.take("state", states).unwrap_or_default(),
        wave: query.take("wave", wave_number),
        after: query.take("cursor", query::read_target_cursor),
        limit: query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT),
    };
    query.finish()?;
    let id = find(&api, &request, &name).await?.id;
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    api.room(&request, limit * 2 * ROOM_EACH).await?;
    let store = Arc::clone(&api.state.store);
    let found = api.run(async move { store.rollout_targets(id, &wanted).await }).await?;
    let next_cursor = found
        .last()
        .filter(|_| found.len() >= limit)
        .map(|last| query::target_cursor(last.wave, last.position));
    let capacity = 1024 + found.len() * ROOM_EACH;
    let targets = found.into_iter().map(contract::RolloutTarget::view).collect();
    answer(StatusCode::OK, &RolloutTargetPage { targets, next_cursor }, capacity)
}

/// The place of a wave by its number.
fn wave_number(text: &str) -> Result<u32, String> {
    text.parse::<u32>()
        .ok()
        .and_then(|number| number.checked_sub(1))
        .ok_or_else(|| "must be the number of a wave, from 1 on".to_owned())
}

/// What the events of a rollout may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct EventsQuery {
    /// Only events after this number
    after: Option<u32>,
    /// Events at most, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// How long to wait for an event, at most 60s
    #[param(example = "20s")]
    wait: Option<String>,
}

/// What happened to a rollout, oldest first: who asked for what, and what the rollout did by itself.
#[utoipa::path(
    get, path = "/rollouts/{id}/events", operation_id = "listRolloutEvents", tag = "rollouts",
    params(("id" = String, Path, description = "The identifier of the rollout"), EventsQuery),
    responses(
        (status = 200, description = "The events", body = RolloutEvents),
        (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn events(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let name = name(&request)?;
    let mut query = Query::new(request.query_string());
    let after = query
        .take("after", |text| text.parse::<u32>().map_err(|_| "must be the number of an event".to_owned()))
        .unwrap_or(0);
    let limit = query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT);
    let wait = query.take("wait", |text| query::span(text, MAX_WAIT));
    query.finish()?;
    let id = find(&api, &request, &name).await?.id;
    let room = usize::try_from(limit).unwrap_or(usize::MAX) * 2 * ROOM_EACH;
    api.room(&request, room).await?;
    let look = async || {
        let store = Arc::clone(&api.state.store);
        api.run(async move { store.rollout_events(id, after, limit).await }).await
    };
    let mut found = look().await?;
    if let Some(wait) = wait.filter(|_| found.is_empty()) {
        // While it waits it holds no answer, and others need the room.
        Api::leave_room(&request);
        found = until_ended(&api, &request, wait, &api.state.rollouts, &id, look, |found| !found.is_empty())
            .await?;
        access::check_again(&api, &request)?;
        api.room(&request, room).await?;
    }
    let capacity = 1024 + found.len() * ROOM_EACH;
    let events = found.into_iter().map(contract::RolloutEvent::view).collect();
    answer(StatusCode::OK, &RolloutEvents { events }, capacity)
}

/// What a list of holds may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct HoldsQuery {
    /// Only those after this endpoint of `lane`
    after: Option<String>,
    /// The lane of `after`; both or none
    lane: Option<String>,
    /// Holds at most, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists the endpoints that rollouts have in flight, by lane: no other rollout of the lane starts them
/// meanwhile.
#[utoipa::path(
    get, path = "/rollouts/holds", operation_id = "listRolloutHolds", tag = "rollouts",
    params(HoldsQuery),
    responses(
        (status = 200, description = "The holds", body = RolloutHoldPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn holds(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let lane = query.take("lane", |text| Ok(text.to_owned()));
    let endpoint = match &lane {
        Some(_) => query.need("after", "an endpoint of this lane", query::endpoint),
        None => query.take("after", |_| Err("needs `lane`, the lane of this endpoint".to_owned())),
    };
    let limit = query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT);
    query.finish()?;
    let store = Arc::clone(&api.state.store);
    let after = lane.zip(endpoint);
    let found = api.run(async move { store.rollout_holds(after, limit).await }).await?;
    let hold = |hold: crate::store::RolloutHold| contract::RolloutHold {
        lane: hold.lane,
        endpoint: hold.endpoint,
        rollout: hold.rollout,
        since: hold.since,
    };
    let capacity = 1024 + found.len() * 200;
    answer(StatusCode::OK, &RolloutHoldPage { holds: found.into_iter().map(hold).collect() }, capacity)
}

/// Frees an endpoint that a rollout has in flight, so that others of the lane may start it. For endpoints
/// that will never answer.
#[utoipa::path(
    delete, path = "/rollouts/holds/{lane}/{endpoint}", operation_id = "freeRolloutHold", tag = "rollouts",
    params(("lane" = String, Path, description = "The lane"), ("endpoint" = String, Path, description = "The endpoint")),
    responses((status = 200, description = "Whether it was held", body = FreedHold))
)]
pub async fn free_hold(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (lane, text) = (segment(&request, 2)?, segment(&request, 3)?);
    let endpoint: EndpointName = text.parse().map_err(|error| {
        Problem::new(ProblemCode::BadPath, format!("{} is not an endpoint: {error}", quoted(&text)))
    })?;
    let store = Arc::clone(&api.state.store);
    let freed = api.run(async move { store.free_rollout_hold(&lane, &endpoint).await }).await?;
    answer(StatusCode::OK, &FreedHold { freed }, 64)
}

/// The body of a command; nothing is the same as `{}`.
async fn command_body<T: serde::de::DeserializeOwned + Default>(
    api: &Api,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, Problem> {
    let body = api.body(request, payload, Limit { bytes: LONGEST_COMMAND, setting: None }).await?;
    if body.bytes.is_empty() {
        return Ok(T::default());
    }
    let read = serde_json::from_str(body::json(&body)?);
    read.map_err(|error| invalid(vec![ProblemItem::new("", json_check::in_words(&error))]))
}

/// The rollout in the path. To a token without the scope `read` those of others are unknown.
async fn own(api: &Api, request: &HttpRequest) -> Result<RolloutRecord, Problem> {
    let name = name(request)?;
    let found = find(api, request, &name).await?;
    if is_of_another(request, &found) {
        return Err(unknown_rollout(&name));
    }
    Ok(found)
}

/// Does what is asked of the rollout in the path, and answers with it.
async fn order(
    api: &Api,
    request: &HttpRequest,
    asked: Command,
    pick: RolloutPick,
    revision: Option<u32>,
) -> Answer {
    let found = match asked {
        Command::Approve | Command::Refuse => find(api, request, &name(request)?).await?,
        _ => own(api, request).await?,
    };
    order_of(api, request, found, asked, pick, revision).await
}

/// Who asks, as approvals know them.
fn asker(request: &HttpRequest) -> Option<Asker> {
    access::token_of(request).map(|token| Asker {
        name: token.name.clone(),
        approves: token.permits(Scope::Approve),
        administers: token.permits(Scope::Admin),
    })
}

async fn order_of(
    api: &Api,
    request: &HttpRequest,
    found: RolloutRecord,
    asked: Command,
    pick: RolloutPick,
    revision: Option<u32>,
) -> Answer {
    let (by, name) = (asker(request), found.identifier);
    let (ledger, id) = (api.state.ledger.clone(), found.id);
    let (approver, approves) = (by.clone(), matches!(asked, Command::Approve));
    let done = api.run(async move { ledger.command_rollout(id, asked, pick, revision, by).await }).await?;
    let changed = match done.ok_or_else(|| unknown_rollout(&name))? {
        Commanded::Done { events, .. } => {
            match events.last() {
                Some(NewEvent { kind, wave, text, .. }) => {
                    let told = json!({"event": kind, "wave": wave.map(|wave| wave + 1), "text": text});
                    deeds::tell(request, told);
                }
                None => deeds::nothing(request),
            }
            !events.is_empty()
        }
        Commanded::Refused(Refusal::WrongState(detail) | Refusal::Nothing(detail)) => {
            return Err(Problem::new(ProblemCode::WrongState, detail));
        }
        Commanded::Refused(Refusal::NotYou(detail)) => return Err(Problem::insufficient_scope(detail)),
        Commanded::Stale(now) => return Err(stale(now)),
    };
    api.state.rollouts.wake([&id]);
    let found = find(api, request, &name).await?;
    let again = approves && !changed;
    let warning = again.then(|| still_waits(&found.waves, approver.as_ref())).flatten();
    warned(api, request, found, StatusCode::OK, warning.into_iter().collect()).await
}

/// What a command asks: what to do, with which endpoints, and of which revision.
type Asked = (Command, RolloutPick, Option<u32>);

/// A path that moves a rollout: each takes a body, and answers with the rollout.
macro_rules! moves {
    ($handler:ident, $path:literal, $id:literal, $asked:ident: $body:ident => $order:expr, $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, operation_id = $id, tag = "rollouts",
            params(("id" = String, Path, description = "The identifier of the rollout")),
            request_body(content = $body, content_type = "application/json"),
            responses(
                (status = 200, description = "The rollout as it stands now", body = Rollout),
                (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
                (status = 409, description = "`wrong_state`, `stale_revision`", body = contract::Problem, content_type = "application/problem+json"),
                (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
                (status = 422, description = "`invalid_submission`", body = contract::Problem, content_type = "application/problem+json"),
            )
        )]
        pub async fn $handler(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
            let $asked: $body = command_body(&api, &request, payload).await?;
            let (command, pick, revision): Asked = $order;
            order(&api, &request, command, pick, revision).await
        }
    };
}

/// A command that is for the rollout as a whole.
const fn of_all(command: Command, revision: Option<u32>) -> Asked {
    (command, RolloutPick::Nobody, revision)
}

moves!(start, "/rollouts/{id}/start", "startRollout", asked: RolloutCommand => of_all(Command::Start, asked.revision),
    /// Starts a rollout whose document says `start_at: manual`, or that waits for its time.
);
moves!(pause, "/rollouts/{id}/pause", "pauseRollout", asked: RolloutCommand => of_all(Command::Pause, asked.revision),
    /// Pauses a rollout: what has started finishes, nothing new starts.
);
moves!(approve, "/rollouts/{id}/approve", "approveRollout", asked: RolloutCommand => of_all(Command::Approve, asked.revision),
    /// Agrees to the wave whose turn it is.
);
moves!(refuse, "/rollouts/{id}/refuse", "refuseRollout", asked: RolloutCommand => of_all(Command::Refuse, asked.revision),
    /// Does not agree to the wave whose turn it is: the rollout halts or is given up, as its document says.
);

moves!(abort, "/rollouts/{id}/abort", "abortRollout", asked: AbortRollout => of_all(Command::Abort { roll_back: asked.rollback }, asked.revision),
    /// Gives a rollout up for good: what has started finishes, nothing new starts.
    ///
    /// With `rollback` the endpoints that it has changed are rolled back then, as its document says.
);

moves!(resume, "/rollouts/{id}/resume", "resumeRollout", asked: ResumeRollout => of_all(Command::Resume(Allow { failed: asked.allow.failed, unreachable: asked.allow.unreachable }), asked.revision),
    /// Lets a paused or halted rollout go on where it was.
    ///
    /// After a halt the counts must be within the budgets again: `allow` raises those of the waves that have
    /// exceeded theirs; `retry` and `skip` lower the counts.
);

/// The endpoints that a body picks.
fn picked(asked: &PickTargets, usual: &[TargetState]) -> Result<RolloutPick, Problem> {
    let wave = match asked.wave {
        None => None,
        Some(number) => Some(
            number
                .checked_sub(1)
                .ok_or_else(|| invalid(vec![ProblemItem::new("/wave", "must be at least 1")]))?,
        ),
    };
    match (asked.endpoints.is_empty(), asked.states.is_empty() && wave.is_none()) {
        (false, true) => Ok(RolloutPick::Endpoints(asked.endpoints.clone())),
        (false, false) => {
            Err(invalid(vec![ProblemItem::new("/endpoints", "does not go with `states` and `wave`")]))
        }
        (true, true) => Err(invalid(vec![ProblemItem::new(
            "",
            "expected `endpoints`, `states` or `wave`, or for `skip` also `gate`",
        )])),
        (true, false) => {
            let states = if asked.states.is_empty() { usual.to_vec() } else { asked.states.clone() };
            Ok(RolloutPick::States(states, wave))
        }
    }
}

fn skipped(asked: &PickTargets) -> Result<Asked, Problem> {
    if !asked.gate {
        let usual =
            [TargetState::Pending, TargetState::Failed, TargetState::Unreachable, TargetState::Absent];
        return Ok((Command::Skip, picked(asked, &usual)?, asked.revision));
    }
    if !asked.endpoints.is_empty() || !asked.states.is_empty() || asked.wave.is_some() {
        return Err(invalid(vec![ProblemItem::new("/gate", "does not go with endpoints")]));
    }
    Ok(of_all(Command::SkipGate, asked.revision))
}

fn retried(asked: &PickTargets) -> Result<Asked, Problem> {
    if asked.gate {
        return Err(invalid(vec![ProblemItem::new("/gate", "is for `skip`")]));
    }
    Ok((Command::Retry, picked(asked, &[TargetState::Failed, TargetState::Unreachable])?, asked.revision))
}

moves!(skip, "/rollouts/{id}/skip", "skipRolloutTargets", asked: PickTargets => skipped(&asked)?,
    /// Leaves endpoints out that have not succeeded, or passes over the gate that the rollout waits at.
);

moves!(retry, "/rollouts/{id}/retry", "retryRolloutTargets", asked: PickTargets => retried(&asked)?,
    /// Tries endpoints again that have failed, are unreachable or away, or were left out. Endpoints whose
    /// task may still run are not touched.
);

/// Changes the document of a rollout while it goes on.
///
/// The change takes effect at once, for all waves that have not passed. `waves` is the whole list, and can be
/// changed while the rollout is CREATED, PAUSED or HALTED: waves that have begun stay, and targets that are
/// PENDING are put into the others anew. Type, payload and targets stay as they were submitted. `revision`
/// must be that of the rollout.
#[utoipa::path(
    patch, path = "/rollouts/{id}", operation_id = "editRollout", tag = "rollouts",
    params(("id" = String, Path, description = "The identifier of the rollout")),
    request_body(content = EditRollout, content_type = "application/json"),
    responses(
        (status = 200, description = "The rollout as it stands now", body = Rollout),
        (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`, `stale_revision`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn edit(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let found = own(&api, &request).await?;
    let body = api.body(&request, payload, Limit { bytes: LONGEST_COMMAND, setting: None }).await?;
    let wrong = |error: serde_json::Error| invalid(vec![ProblemItem::new("", json_check::in_words(&error))]);
    let mut changes: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(body::json(&body)?).map_err(wrong)?;
    let revision = changes.remove("revision").and_then(|value| serde_json::from_str::<u32>(value.get()).ok());
    let Some(revision) = revision else {
        return Err(invalid(vec![ProblemItem::new(
            "/revision",
            "must be the revision of the rollout that was read",
        )]));
    };
    if changes.is_empty() {
        return Err(invalid(vec![ProblemItem::new(
            "",
            "changes nothing: name a member of the document with its new value",
        )]));
    }
    if revision != found.revision {
        return Err(stale(found.revision));
    }
    let before = document(&api, found.id).await?;
    let text = rollout_document::edited(before.get(), &changes).map_err(invalid)?;
    let terms = rollout_document::parse_again(&text, &before, &api.state.config).map_err(invalid)?;
    access::check_types(&request, other_types(&terms))?;
    let document = rollout_document::kept(&text)
        .ok_or_else(|| Problem::internal("a document that was read is not JSON"))?;
    let mut terms = resolved(&api, terms).await?;
    let ends = found.created.after(terms.expires_after);
    if changes.contains_key(rollout_document::EXPIRES) && ends <= api.now()? {
        let message = format!(
            "counts from the submission, so the rollout would have ended at {ends}; to end it now, abort it"
        );
        return Err(invalid(vec![ProblemItem::new(format!("/{}", rollout_document::EXPIRES), message)]));
    }
    let anew = match changes.get(rollout_document::WAVES) {
        Some(waves) => {
            // A new document may leave out `rest`. A changed list has to name it: whoever leaves it out may mean
            // that the rollout ends there. The waves of the default come where the list is taken away.
            if let Ok(named) = serde_json::from_str::<Vec<&RawValue>>(waves.get()) {
                terms.waves.truncate(named.len());
            }
            Some(waves_anew(&api, &found, &before, &terms, changes.contains_key("budget")).await?)
        }
        None => None,
    };
    let members: Vec<String> = changes.keys().cloned().collect();
    let told = rollout_document::told(before.get(), &changes);
    let edit = edit_of(&found, terms, document, &members, told, anew).map_err(faults)?;
    let asked = Command::Edit(Arc::new(edit));
    let answered = order_of(&api, &request, found, asked, RolloutPick::Nobody, Some(revision)).await?;
    deeds::tell(&request, json!({ "set": changes }));
    Ok(answered)
}

/// The waves of a changed document, with the targets that have not begun; `before` is the document as it was.
async fn waves_anew(
    api: &Api,
    found: &RolloutRecord,
    before: &Json,
    terms: &RolloutTerms,
    budget: bool,
) -> Result<WavesAnew, Problem> {
    let mut turns = Turns::of(found);
    each_target(api, found.id, &[], turns.after(), |target| turns.take(target)).await?;
    let before = rollout_document::parse_again(before.get(), before, &api.state.config).map_err(invalid)?;
    let before = with_groups(api, before).await?;
    let members = target::members(api, policy_of(api, &terms.task_type)?).await?;
    turns.put(before.waves, terms, &members, budget).map_err(faults)
}

/// The refusal of what was decided on an older revision.
fn stale(now: u32) -> Problem {
    let detail = format!("the rollout has revision {now} by now; read it again and decide anew");
    Problem::new(ProblemCode::StaleRevision, detail)
}

/// Makes a new rollout of the same document, for endpoints of the old one that did not succeed.
#[utoipa::path(
    post, path = "/rollouts/{id}/rerun", operation_id = "rerunRollout", tag = "rollouts",
    params(("id" = String, Path, description = "The identifier of the rollout")),
    request_body(content = RerunRollout, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded", body = Rollout, headers(("Location" = String, description = "Where to read the rollout"))),
        (status = 200, description = "The same was asked before: the rollout as it stands", body = Rollout),
        (status = 404, description = "`unknown_rollout`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`nothing_failed`, `rollout_conflict`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn rerun(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    if access::blind(&request).is_some() {
        let text = "a rerun tells which endpoints did not succeed: it needs a token with the scopes `submit` and `read`";
        return Err(Problem::insufficient_scope(text));
    }
    let name = name(&request)?;
    let wrong = |message| invalid(vec![ProblemItem::new("", message)]);
    let asked: RerunRollout = api.read(&request, payload, LONGEST_RERUN, wrong).await?;
    check_identifier(&asked.identifier)?;
    let old = find(&api, &request, &name).await?;
    // What was left to a newer rollout is not taken from it by the way.
    let stays = [TargetState::Ok, TargetState::Superseded];
    let usual = TargetState::ALL.into_iter().filter(|state| !stays.contains(state));
    let state = |only: &RerunOnly| match only {
        RerunOnly::State(state) => Some(*state),
        RerunOnly::New(_) => None,
    };
    let with_new = asked.only.contains(&RerunOnly::New(NewTargets::New));
    let only: Vec<TargetState> =
        if asked.only.is_empty() { usual.collect() } else { asked.only.iter().filter_map(state).collect() };
    let mut hash = Sha256::new_with_prefix(old.id.as_bytes());
    only.iter().for_each(|state| hash.update([state.code()]));
    if with_new {
        hash.update([NEW]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    if let Some(answered) = repeated(&api, &request, &asked.identifier, digest).await? {
        return Ok(answered);
    }
    let mut endpoints = if only.is_empty() { Vec::new() } else { endpoints_of(&api, old.id, &only).await? };
    let document = document(&api, old.id).await?;
    let read = rollout_document::parse_again(document.get(), &document, &api.state.config);
    let mut terms = read.map_err(|problems| {
        let text = |item: ProblemItem| {
            ProblemItem::new(
                "",
                format!("its document is not valid any more: {} {}", item.pointer, item.message),
            )
        };
        invalid(problems.into_iter().map(text).collect())
    })?;
    access::check_types(&request, other_types(&terms))?;
    if with_new {
        endpoints.extend(new_endpoints(&api, old.id, &terms).await?);
    }
    if endpoints.is_empty() {
        let states = only.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        let detail = match (states.is_empty(), with_new) {
            (false, false) => format!("no endpoint of the rollout is {states}"),
            (false, true) => format!(
                "no endpoint of the rollout is {states}, and its targets choose no other endpoint now"
            ),
            (true, _) => {
                "the targets of the rollout choose no other endpoint now than they did then".to_owned()
            }
        };
        return Err(Problem::new(ProblemCode::NothingFailed, detail));
    }
    terms.identifier = asked.identifier;
    terms.start = Start::Now;
    // The endpoints decide: neither a part of them nor the names of the old waves.
    terms.targets.endpoints = endpoints;
    (terms.targets.selectors, terms.targets.groups) = (Vec::new(), Vec::new());
    (terms.targets.percent, terms.targets.order, terms.targets.max) = (100, Order::Seeded, None);
    terms.waves = waves_of_rerun(terms.waves).map_err(|problems| {
        let text = |fault: PlanFault| {
            ProblemItem::new("", format!("{} of its document {}", fault.pointer, fault.message))
        };
        invalid(problems.into_iter().map(text).collect())
    })?;
    terms.own_waves = false;
    let (terms, plan) = planned(&api, &request, terms).await?;
    record(&api, &request, New { terms, plan, document, digest, parent: Some(old.id) }).await
}

/// What stands for `new` in the digest of a rerun, beside the codes of states.
const NEW: u8 = u8::MAX;

/// The endpoints that the targets of a document choose now and that a rollout does not have.
async fn new_endpoints(api: &Api, id: Uuid, terms: &RolloutTerms) -> Result<Vec<EndpointName>, Problem> {
    let policy = policy_of(api, &terms.task_type)?;
    let had: HashSet<EndpointName> = endpoints_of(api, id, &[]).await?.into_iter().collect();
    let groups = target::groups(api).await?;
    let now = terms.clone().with_groups(&groups).map_err(|name| {
        invalid(vec![ProblemItem::new(
            "/only",
            format!("needs the targets of its document, whose {}", target::unknown_group(&name, &groups)),
        )])
    })?;
    let chosen = chosen(&now, &target::members(api, policy).await?);
    Ok(chosen.into_iter().filter(|name| !had.contains(name)).collect())
}

/// The endpoints of a rollout in some states, as far as they are still known.
async fn endpoints_of(api: &Api, id: Uuid, states: &[TargetState]) -> Result<Vec<EndpointName>, Problem> {
    let mut names = Vec::new();
    each_target(api, id, states, None, |target| names.push(target.endpoint)).await?;
    Ok(names)
}

/// Gives the targets of a rollout in some states, or all, in the order of their turns, from a place on.
async fn each_target(
    api: &Api,
    id: Uuid,
    states: &[TargetState],
    mut after: Option<(u32, u32)>,
    mut take: impl FnMut(RolloutTargetRecord),
) -> Result<(), Problem> {
    loop {
        let wanted = RolloutTargetQuery { states: states.to_vec(), wave: None, after, limit: 1_000 };
        let store = Arc::clone(&api.state.store);
        let page = api.run(async move { store.rollout_targets(id, &wanted).await }).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.wave, last.position));
        page.into_iter().for_each(&mut take);
    }
}

/// What a rollout waits for before a wave or after it, in words.
fn gates(terms: &WaveTerms) -> Vec<String> {
    let mut gates = Vec::new();
    gates.extend(terms.approval.as_ref().map(|approval| format!("approval ({})", approval.count)));
    if let Some(healthy) = &terms.healthy {
        gates.push(format!("healthy {}", crate::config::span::format(healthy.stays)));
    }
    if !terms.soak.is_zero() {
        gates.push(format!("soak {}", crate::config::span::format(terms.soak)));
    }
    gates.extend(terms.probe.as_ref().map(|probe| format!("probe {}", probe.task_type)));
    gates
}

impl View<RolloutRecord> for Rollout {
    fn view(record: RolloutRecord) -> Self {
        let current = current(&record.waves);
        let waves: Vec<contract::RolloutWave> = (1u32..)
            .zip(record.waves)
            .map(|(number, wave)| contract::RolloutWave {
                wave: number,
                name: wave.name,
                phase: wave.phase,
                since: wave.since,
                size: wave.size,
                window: wave.window,
                allowed_failed: wave.allowed_failed,
                allowed_unreachable: wave.allowed_unreachable,
                gates: gates(&wave.terms),
                approvals: wave.approvals.into_iter().map(|name: TokenName| name.into()).collect(),
                counts: wave.counts.into(),
            })
            .collect();
        let mut counts = contract::RolloutCounts::default();
        waves.iter().for_each(|wave| counts.add(&wave.counts));
        Self {
            id: record.id,
            identifier: record.identifier,
            task_type: record.task_type,
            lane: record.lane,
            subject: record.subject,
            status: record.status,
            reason: record.reason,
            next_window: None,
            revision: record.revision,
            created_by: record.created_by.map(Into::into),
            parent: record.parent,
            rollback: record.settings.rollback.map(|rollback| contract::RolloutRollback {
                task_type: rollback.task_type,
                on: rollback.on,
                rollout: record.undone_by,
            }),
            created: record.created,
            start_at: record.start_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
            expires_at: record.expires_at,
            allowed_failed: record.allowed_failed,
            allowed_unreachable: record.allowed_unreachable,
            wave: current.and_then(|place| u32::try_from(place + 1).ok()),
            size: waves.iter().map(|wave| wave.size).sum(),
            counts,
            waves,
            document: None,
            warnings: Vec::new(),
        }
    }
}

impl View<RolloutTargetRecord> for contract::RolloutTarget {
    fn view(target: RolloutTargetRecord) -> Self {
        Self {
            endpoint: target.endpoint,
            wave: target.wave + 1,
            state: target.state,
            since: target.since,
            round: target.round,
            task_id: target.task_id,
            errnr: target.errnr,
            note: target.note,
            domain: target.domain,
        }
    }
}

impl View<crate::store::RolloutEventRecord> for contract::RolloutEvent {
    fn view(event: crate::store::RolloutEventRecord) -> Self {
        Self {
            seq: event.seq,
            revision: event.revision,
            time: event.time,
            kind: event.kind,
            actor: event.actor.map(Into::into),
            wave: event.wave.map(|wave| wave + 1),
            endpoint: event.endpoint,
            text: event.text,
        }
    }
}
