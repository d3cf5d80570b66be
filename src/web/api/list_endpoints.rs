//! `GET /endpoints`: who is known, since when silent, and for which types.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::query::{self, Query};
use super::view::View;
use super::{Answer, Api, answer, target};
use crate::contract::{self, Endpoint, EndpointPage, ProblemCode, ProblemItem};
use crate::domain::{EndpointName, Selector, holds};
use crate::store::{EndpointRecord, SharedStore, StoreError};

/// Endpoints on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// Lists endpoints by name.
#[utoipa::path(
    get, path = "/endpoints", operation_id = "listEndpoints", tag = "endpoints",
    params(
        ("limit" = Option<u32>, Query, description = "Endpoints on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("name" = Option<String>, Query, description = "Only the endpoint of this name, if there is one"),
        ("match" = Option<String>, Query, description = "Only endpoints for which this selector holds, such as `site=berlin and not role=db`"),
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
    let selector = query.take("match", |text| {
        text.parse::<Selector>().map_err(|invalid| format!("is not a selector: {invalid}"))
    });
    let name = query.take("name", query::endpoint);
    query.finish()?;

    let selector = match selector {
        Some(selector) if !selector.groups().is_empty() => {
            let groups = target::groups(&api).await?;
            let unknown = |name| {
                let text = target::unknown_group(&name, &groups);
                Problem::invalid(ProblemCode::InvalidQuery, vec![ProblemItem::new("?match", text)])
            };
            Some(selector.with_groups(&groups).map_err(unknown)?)
        }
        selector => selector,
    };
    let store = Arc::clone(&api.state.store);
    if let Some(name) = name {
        let found = api.run(async move { store.endpoint(&name).await }).await?;
        let found = found.filter(|record| selector.as_ref().is_none_or(|selector| fits(selector, record)));
        let endpoints = found.into_iter().map(Endpoint::view).collect();
        return answer(StatusCode::OK, &EndpointPage { endpoints, next_cursor: None }, 512);
    }
    let records = api.run(async move { page(&store, selector.as_ref(), after, limit).await }).await?;
    let full = records.len() >= limit as usize;
    let next_cursor = records.last().filter(|_| full).map(|last| query::endpoint_cursor(&last.name));
    let capacity = 256 + records.len() * 256;
    let endpoints = records.into_iter().map(Endpoint::view).collect();
    answer(StatusCode::OK, &EndpointPage { endpoints, next_cursor }, capacity)
}

/// Endpoints read at once where only some of them fit.
const STRIDE: u32 = 1000;

fn fits(selector: &Selector, record: &EndpointRecord) -> bool {
    holds(selector, &record.name, &record.version, &record.labels)
}

/// The next endpoints by name for which a selector holds.
async fn page(
    store: &SharedStore,
    selector: Option<&Selector>,
    mut after: Option<EndpointName>,
    limit: u32,
) -> Result<Vec<EndpointRecord>, StoreError> {
    let Some(selector) = selector else { return store.endpoints(after.as_ref(), limit).await };
    let mut page = Vec::new();
    loop {
        let records = store.endpoints(after.as_ref(), STRIDE).await?;
        let last = records.len() < STRIDE as usize;
        after = records.last().map(|record| record.name.clone());
        page.extend(
            records.into_iter().filter(|record| fits(selector, record)).take(limit as usize - page.len()),
        );
        if last || page.len() == limit as usize {
            return Ok(page);
        }
    }
}
