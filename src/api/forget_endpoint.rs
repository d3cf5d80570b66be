//! `DELETE /endpoints/{name}`: a server that does not come back, or a name that never was one.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::query::{self, Query};
use super::{Answer, Api, answer, segment};
use crate::contract::{self, ForgottenEndpoint, ProblemCode};
use crate::domain::{EndpointName, likeness};
use crate::store::EndpointForgotten;

/// Forgets an endpoint.
///
/// Tasks to come do not expect it. What it owes of those there are stays expected, until their time is over or they are canceled:
/// should it come back, it is welcomed as new and asked for that.
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

    let (store, endpoint) = (Arc::clone(&api.state.store), name.clone());
    match api.run(async move { store.forget_endpoint(&endpoint, force).await }).await? {
        EndpointForgotten::Unknown => Err(unknown(&api, &text).await),
        EndpointForgotten::Present => {
            let reason =
                format!("{name} is there: stop it first, or force it with `force=true`, and it is back with its next sign of life");
            Err(Problem::new(ProblemCode::EndpointPresent, reason))
        }
        EndpointForgotten::Gone { open } => {
            api.state.ledger.touched().fleet().notify_one();
            tracing::info!(endpoint = %name, open, "an endpoint was forgotten");
            answer(StatusCode::OK, &ForgottenEndpoint { name, open }, 256)
        }
    }
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
