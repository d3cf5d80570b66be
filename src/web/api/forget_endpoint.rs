//! `DELETE /endpoints/{name}`: a server that does not come back, or a name that never was one.
//! `DELETE /endpoints`: all that are long gone.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde_json::json;

use super::problem::Problem;
use super::query::{self, Query};
use super::{Answer, Api, answer, deeds, segment};
use crate::config::span;
use crate::contract::{self, ForgottenEndpoint, ForgottenEndpoints, ProblemCode};
use crate::domain::{EndpointName, likeness};
use crate::store::EndpointForgotten;

/// Forgets an endpoint.
///
/// Tasks to come do not expect it. What it owes of those there are stays expected, until their time is over
/// or they are canceled: should it come back, it is welcomed as new and asked for that.
#[utoipa::path(
    delete, path = "/endpoints/{name}", operation_id = "forgetEndpoint", tag = "endpoints",
    params(
        ("name" = String, Path, description = "The endpoint"),
        ("force" = Option<bool>, Query, description = "`true`: even if it is there; it is back with its next sign of life"),
    ),
    responses(
        (status = 200, description = "It is forgotten", body = ForgottenEndpoint),
        (status = 404, description = "`unknown_endpoint`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`endpoint_present`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn forget_endpoint(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let text = segment(&request, 1)?;
    let mut query = Query::new(request.query_string());
    let force = query.take("force", query::truth).unwrap_or(false);
    query.finish()?;
    let Ok(name) = text.parse::<EndpointName>() else { return Err(unknown(&api, &text).await) };

    match forget(&api, &name, force).await? {
        EndpointForgotten::Unknown => Err(unknown(&api, &text).await),
        EndpointForgotten::Present => {
            let reason = format!(
                "{name} is there: stop it first, or force it with `?force=true`, and it is back with its next sign of life"
            );
            Err(Problem::new(ProblemCode::EndpointPresent, reason))
        }
        EndpointForgotten::Gone { open } => {
            tracing::info!(endpoint = %name, open, "an endpoint was forgotten");
            deeds::tell(&request, json!({"open": open, "force": force}));
            answer(StatusCode::OK, &ForgottenEndpoint { name, open }, 256)
        }
    }
}

/// Endpoints forgotten by one request at most.
const MOST: u32 = 1000;

/// The longest absence that can be asked for.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Forgets the endpoints that have been away for so long.
///
/// Endpoints that are there stay. Each other one is forgotten as by its name, at most 1000 by one request.
/// With `dry_run=true` none is: the answer says which would be.
#[utoipa::path(
    delete, path = "/endpoints", operation_id = "forgetEndpoints", tag = "endpoints",
    params(
        ("gone_for" = String, Query, description = "How long they have been away at least, such as `30d`"),
        ("dry_run" = Option<bool>, Query, description = "`true`: forget none"),
    ),
    responses(
        (status = 200, description = "They are forgotten; with `dry_run=true`, they would be", body = ForgottenEndpoints),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn forget_endpoints(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let gone_for = query.need("gone_for", "how long the endpoints have been away, such as `30d`", |text| {
        match span::parse(text) {
            Ok(gone_for) if gone_for <= LONGEST => Ok(gone_for),
            _ => Err(format!("must be {}, at most {}", span::FORM, span::format(LONGEST))),
        }
    });
    let dry_run = query.take("dry_run", query::truth).unwrap_or(false);
    let gone_for = query.finish_with(gone_for)?;
    let (store, before) = (Arc::clone(&api.state.store), api.now()?.before(gone_for));
    let mut names = api.run(async move { store.gone_since(before, MOST + 1).await }).await?;
    let more = names.len() > MOST as usize;
    names.truncate(MOST as usize);
    if dry_run {
        deeds::nothing(&request);
        return answer(StatusCode::OK, &ForgottenEndpoints { endpoints: names, open: 0, more }, 4 << 10);
    }
    let (mut endpoints, mut owed) = (Vec::with_capacity(names.len()), 0);
    for name in names {
        // One that has come back meanwhile stays.
        if let EndpointForgotten::Gone { open } = forget(&api, &name, false).await? {
            owed += open;
            endpoints.push(name);
        }
    }
    if endpoints.is_empty() {
        deeds::nothing(&request);
    } else {
        deeds::tell(
            &request,
            json!({"gone_for": span::format(gone_for), "endpoints": endpoints, "open": owed}),
        );
    }
    tracing::info!(
        endpoints = endpoints.len(),
        open = owed,
        "endpoints that were away for long were forgotten"
    );
    answer(StatusCode::OK, &ForgottenEndpoints { endpoints, open: owed, more }, 4 << 10)
}

/// Forgets an endpoint and tells those who watch the fleet.
async fn forget(api: &Api, name: &EndpointName, force: bool) -> Result<EndpointForgotten, Problem> {
    let (store, endpoint) = (Arc::clone(&api.state.store), name.clone());
    let forgotten = api.run(async move { store.forget_endpoint(&endpoint, force).await }).await?;
    if let EndpointForgotten::Gone { .. } = forgotten {
        api.state.ledger.touched().fleet().ring();
    }
    Ok(forgotten)
}

/// No endpoint has the name. What there is instead is told if the ledger can tell it.
async fn unknown(api: &Api, name: &str) -> Problem {
    let names = api.heard.names().await.unwrap_or_default();
    Problem::unknown(
        ProblemCode::UnknownEndpoint,
        name,
        likeness::unknown("endpoint", name, "known", names.iter().map(EndpointName::as_str)),
    )
}
