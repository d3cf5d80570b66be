//! `GET /endpoints`: who is known, since when silent, and for which types.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::query::{self, Query};
use super::{Answer, Api, answer};
use crate::contract::{self, Endpoint, EndpointPage};

/// Endpoints on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// Lists endpoints by name.
#[utoipa::path(
    get, path = "/endpoints", operation_id = "listEndpoints", tag = "endpoints",
    params(
        ("limit" = Option<u32>, Query, description = "Endpoints on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of endpoints", body = EndpointPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_endpoints(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let limit = query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT);
    let after = query.take("cursor", query::read_endpoint_cursor);
    query.finish()?;

    let store = Arc::clone(&api.state.store);
    let records = api.run(async move { store.endpoints(after.as_ref(), limit).await }).await?;
    let full = records.len() >= limit as usize;
    let next_cursor = records.last().filter(|_| full).map(|last| query::endpoint_cursor(&last.name));
    let capacity = 256 + records.len() * 256;
    let endpoints = records.into_iter().map(Endpoint::from).collect();
    answer(StatusCode::OK, &EndpointPage { endpoints, next_cursor }, capacity)
}
