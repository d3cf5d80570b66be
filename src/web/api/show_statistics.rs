//! `GET /stats`: how many tasks there were, and what became of them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use utoipa::IntoParams;

use super::query::{self, Query};
use super::tasks::covered;
use super::{Answer, Api, access, answer, unknown};
use crate::contract::{self, Statistics, StatisticsSpan};
use crate::domain::{Grain, Timestamp};

/// Spans in an answer at most: of more, the newest.
const MOST: u32 = 10_000;

/// What a client may ask for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct StatisticsQuery {
    /// Only tasks of this type
    r#type: Option<String>,
    /// The length of the spans: `minute` (kept for seven days, the default) or `hour` (kept for 400 days)
    #[param(inline, example = "hour")]
    step: Option<Grain>,
    /// Only spans that begin at or after this time (RFC 3339); without it, those of the last 24 hours for
    /// minutes and of the last 30 days for hours
    since: Option<String>,
    /// Only spans that begin before this time (RFC 3339); by default now
    until: Option<String>,
}

/// Tells how many tasks were accepted and what became of them, by the minute or by the hour.
///
/// Of all types that the token covers. The numbers are a few seconds behind, and what a process has counted
/// in the last seconds before it is killed is missing: they are for charts. A span in which nothing was is
/// left out; of more than 10,000 spans between `since` and `until` the newest are told, and `since` of the
/// answer says from when on.
#[utoipa::path(
    get, path = "/stats", operation_id = "showStatistics", tag = "tasks",
    params(StatisticsQuery),
    responses(
        (status = 200, description = "The spans", body = Statistics),
        (status = 404, description = "`unknown_task_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_statistics(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let task_type = query.take("type", |text| Ok(text.to_owned()));
    let grain = query
        .take("step", |text| query::words(text, &Grain::ALL, Grain::as_str).and_then(only))
        .unwrap_or_default();
    let (since, until) = (query.take("since", query::time), query.take("until", query::time));
    query.finish()?;

    // Nothing was before 1970, and MySQL has no times before the year 1000.
    let until = until.unwrap_or_else(|| api.state.clock.now()).max(Timestamp::from_micros(0));
    // A day of minutes, or a month of hours.
    let usual = match grain {
        Grain::Minute => 24 * 60,
        Grain::Hour => 30 * 24,
    };
    let before = |spans: u32| grain.beginning(until).before(grain.length() * spans);
    let since =
        since.map_or_else(|| before(usual), |since| since.max(before(MOST))).max(Timestamp::from_micros(0));
    let types = match task_type {
        Some(name) => match api.policy(&name).filter(|_| access::covers(&request, &name)) {
            Some(policy) => Some(vec![policy.name.clone()]),
            None => return Err(unknown::named_type(&api, &request, &name)),
        },
        None if access::covers_all(&request) => None,
        None => Some(covered(&api, &request)),
    };
    let store = Arc::clone(&api.state.store);
    let found = api.run(async move { store.throughput(grain, types.as_deref(), since, until).await }).await?;
    let capacity = 256 + found.len() * 160;
    let spans = found.into_iter().map(|(time, throughput)| StatisticsSpan { time, throughput }).collect();
    answer(StatusCode::OK, &Statistics { step: grain, since, until, spans }, capacity)
}

fn only(grains: Vec<Grain>) -> Result<Grain, String> {
    match grains[..] {
        [grain] => Ok(grain),
        _ => Err("must be one of minute, hour".to_owned()),
    }
}
