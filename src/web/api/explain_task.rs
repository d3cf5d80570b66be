//! `GET /{type}/{id}/explain`: why a task does not run.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use utoipa::IntoParams;

use super::named::{self, TaskName};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Answer, Api, answer, approvals};
use crate::contract::{self, Explanation, ReasonGroup};
use crate::domain::{EndpointName, ReasonCode, RunLimits, Snapshot, Summary, Task};
use crate::store::StoreError;

/// Endpoints that are read at once.
const PAGE: u32 = 2000;

/// Endpoints that are looked at, at most: as many as a submission may list.
const MOST: u32 = 50_000;

/// What an explanation may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
pub(super) struct ExplainQuery {
    /// Why the task does not run at this endpoint, which need not be known
    endpoint: Option<String>,
}

/// Says why a task does not run, or how far it is.
///
/// Without `endpoint`, the answer about a task that endpoints perform has the number of endpoints for each
/// reason. It tells what the ledger has now, which may change a moment later.
#[utoipa::path(
    get, path = "/{type}/{id}/explain", operation_id = "explainTask", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ExplainQuery,
    ),
    responses(
        (status = 200, description = "The reasons", body = Explanation),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn explain_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let endpoint = endpoint(&request)?;
    let task = named::task(&api, &request, policy, &TaskName::of(&request)?).await?;
    answer_with(&api, task, endpoint).await
}

/// The endpoint that a request asks about.
pub(super) fn endpoint(request: &HttpRequest) -> Result<Option<EndpointName>, Problem> {
    let mut query = Query::new(request.query_string());
    let endpoint = query.take("endpoint", query::endpoint);
    query.finish()?;
    Ok(endpoint)
}

/// Answers why a task that was found does not run.
pub(super) async fn answer_with(api: &Api, task: Task, endpoint: Option<EndpointName>) -> Answer {
    let (store, id, wanted) = (Arc::clone(&api.state.store), task.id, endpoint.clone());
    let read = async move {
        let Some(snapshot) = store.explain(id, wanted.as_ref()).await? else { return Ok(None) };
        let (mut summary, mut looked, mut after) = (Summary::default(), 0, None);
        // That of a task of a work queue has one response, which the snapshot has.
        let several = wanted.is_none() && snapshot.task.queued.is_none();
        while several && looked < MOST {
            let page =
                store.standings(id, &snapshot.task.task_type, after.take(), PAGE.min(MOST - looked)).await?;
            let Some(last) = page.last() else { break };
            looked += u32::try_from(page.len()).unwrap_or(u32::MAX);
            after = Some(last.endpoint.clone());
            for standing in page {
                let reasons = snapshot.reasons_at(&standing);
                summary.add(standing.endpoint, reasons);
            }
        }
        let uncounted = if several { snapshot.task.counts.expected.saturating_sub(looked) } else { 0 };
        Ok::<_, StoreError>(Some((snapshot, summary, uncounted)))
    };
    let unknown = || Problem::unknown_task(&task.task_type, task.identifier.as_str());
    let (snapshot, summary, uncounted) = api.run(read).await?.ok_or_else(unknown)?;
    let queue = api.state.config.policy(&snapshot.task.task_type).and_then(|policy| policy.queue.as_ref());
    let limits = RunLimits {
        of_type: queue.and_then(|queue| queue.max_running),
        of_key: queue.filter(|queue| queue.limit_key.is_some()).map(|queue| queue.max_per_key),
    };
    let mut reasons = match (approvals::reason(api, &snapshot.task), &endpoint, &snapshot.standing) {
        // It is not published until then, and nobody has to perform it.
        (Some(waits), ..) => vec![waits],
        (None, Some(_), Some(standing)) => snapshot.reasons_at(standing),
        _ => snapshot.reasons(limits),
    };
    for reason in reasons.iter_mut().filter(|reason| reason.code == ReasonCode::NeverHeardOf) {
        let Some(name) = &reason.evidence.endpoint else { continue };
        reason.evidence.suggestion = api.heard.nearest(name).await?;
    }
    let Snapshot { task, .. } = snapshot;
    let endpoints: Vec<_> = summary.groups().into_iter().map(ReasonGroup::from).collect();
    let explanation = Explanation {
        id: task.id,
        identifier: task.identifier,
        task_type: task.task_type,
        status: task.status,
        endpoint,
        reasons,
        endpoints,
        uncounted,
    };
    answer(StatusCode::OK, &explanation, 4096)
}
