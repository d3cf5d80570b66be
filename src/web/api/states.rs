//! `GET /{type}/{id}/states` and `/names`, `GET /endpoints/states` and `/names`: how each of thousands of
//! endpoints stands, in four bits each, and the names behind them, which a client needs once.

use std::io::Write;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::to_json;
use super::named::{self, TaskName};
use super::problem::Problem;
use super::query::Query;
use super::{Answer, Api};
use crate::contract::{self, NameList};
use crate::domain::{EndpointName, States, generation};
use crate::store::Parts;

const GENERATION: HeaderName = HeaderName::from_static("x-generation");
const COUNT: HeaderName = HeaderName::from_static("x-count");

/// Memory for one endpoint while it is read and written.
const ROOM_EACH: usize = 128;

/// Shorter answers are not compressed.
const SHORT: usize = 4096;

/// Reads how each endpoint of a task stands.
///
/// Two states a byte, in the order of the names; `x-count` says how many, `x-generation` of which list of
/// names.
#[utoipa::path(
    get, path = "/{type}/{id}/states", operation_id = "readTaskStates", tag = "live",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
    ),
    responses(
        (status = 200, description = "The states", body = Vec<u8>, content_type = "application/octet-stream", headers(("ETag" = String), ("x-generation" = String), ("x-count" = u32))),
        (status = 304, description = "They are as `If-None-Match` says"),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn of_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (names, states) = read_task(&api, &request).await?;
    Ok(answer_states(&request, &names, &states))
}

/// Reads the names of a task's endpoints.
///
/// In the order of the states. A list never changes: another one has another `generation`.
#[utoipa::path(
    get, path = "/{type}/{id}/names", operation_id = "readTaskNames", tag = "live",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
    ),
    responses(
        (status = 200, description = "The names", body = NameList, headers(("ETag" = String), ("x-generation" = String), ("x-count" = u32))),
        (status = 304, description = "They are as `If-None-Match` says"),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn names_of_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (names, _) = read_task(&api, &request).await?;
    answer_names(&api, &request, names).await
}

/// Reads how each known endpoint stands.
///
/// Two states a byte, in the order of the names; `x-count` says how many, `x-generation` of which list of
/// names.
#[utoipa::path(
    get, path = "/endpoints/states", operation_id = "readEndpointStates", tag = "live",
    responses(
        (status = 200, description = "The states", body = Vec<u8>, content_type = "application/octet-stream", headers(("ETag" = String), ("x-generation" = String), ("x-count" = u32))),
        (status = 304, description = "They are as `If-None-Match` says"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn of_endpoints(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (names, states) = read_fleet(&api, &request).await?;
    Ok(answer_states(&request, &names, &states))
}

/// Reads the names of all known endpoints.
///
/// In the order of the states. A list never changes: another one has another `generation`.
#[utoipa::path(
    get, path = "/endpoints/names", operation_id = "readEndpointNames", tag = "live",
    responses(
        (status = 200, description = "The names", body = NameList, headers(("ETag" = String), ("x-generation" = String), ("x-count" = u32))),
        (status = 304, description = "They are as `If-None-Match` says"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn names_of_endpoints(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (names, _) = read_fleet(&api, &request).await?;
    answer_names(&api, &request, names).await
}

async fn read_task(api: &Api, request: &HttpRequest) -> Result<(Vec<EndpointName>, States), Problem> {
    let policy = named::task_type(api, request)?;
    let name = TaskName::of(request)?;
    Query::new(request.query_string()).finish()?;
    let task = named::task(api, request, policy, &name).await?;
    api.room(request, task.counts.expected as usize * ROOM_EACH).await?;
    let (store, id) = (Arc::clone(&api.state.store), task.id);
    let parts = api.run(async move {
        match store.standing(id).await? {
            Some(standing) => store.parts(&standing, Parts::All).await,
            None => Ok(Vec::new()),
        }
    });
    let parts = parts.await?;
    let states = parts.iter().map(|part| part.state.code()).collect();
    Ok((parts.into_iter().map(|part| part.endpoint).collect(), states))
}

async fn read_fleet(api: &Api, request: &HttpRequest) -> Result<(Vec<EndpointName>, States), Problem> {
    Query::new(request.query_string()).finish()?;
    let store = Arc::clone(&api.state.store);
    let fleet = api.run(async move { store.fleet().await }).await?;
    api.room(request, fleet.len() * ROOM_EACH).await?;
    let states = fleet.iter().map(|(_, state)| state.code()).collect();
    Ok((fleet.into_iter().map(|(name, _)| name).collect(), states))
}

fn answer_states(request: &HttpRequest, names: &[EndpointName], states: &States) -> HttpResponse {
    let generation = generation(names);
    let tag = format!("\"{generation}-{:016x}\"", fnv(states.as_bytes()));
    let mut answer = HttpResponse::Ok();
    answer.insert_header((GENERATION, generation)).insert_header((COUNT, states.len()));
    if is_known(request, &tag) {
        return answer.status(StatusCode::NOT_MODIFIED).insert_header((header::ETAG, tag)).finish();
    }
    answer
        .insert_header((header::ETAG, tag))
        .content_type("application/octet-stream")
        .body(states.as_bytes().to_vec())
}

async fn answer_names(api: &Api, request: &HttpRequest, names: Vec<EndpointName>) -> Answer {
    let (generation, count) = (generation(&names), names.len());
    // Weak, since it is the same for the compressed bytes.
    let tag = format!("W/\"{generation}\"");
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((GENERATION, generation.clone()))
        .insert_header((COUNT, count))
        .insert_header((header::ETAG, tag.clone()));
    answer.insert_header((header::VARY, "Accept-Encoding"));
    if is_known(request, &tag) {
        return Ok(answer.status(StatusCode::NOT_MODIFIED).finish());
    }
    let body = to_json(&NameList { generation, names }, 64 + count * 32)?;
    answer.content_type("application/json");
    if body.len() < SHORT || !takes_gzip(request) {
        return Ok(answer.body(body));
    }
    let compressed = api
        .run(
            async move { tokio::task::spawn_blocking(move || gzip(&body)).await.map_err(Problem::internal)? },
        )
        .await?;
    Ok(answer.insert_header((header::CONTENT_ENCODING, "gzip")).body(compressed))
}

/// Whether the client has what this tag names.
pub(super) fn is_known(request: &HttpRequest, tag: &str) -> bool {
    let plain = tag.trim_start_matches("W/");
    let tags = request.headers().get_all(header::IF_NONE_MATCH).filter_map(|tags| tags.to_str().ok());
    tags.flat_map(|tags| tags.split(','))
        .any(|known| matches!(known.trim().trim_start_matches("W/"), known if known == plain || known == "*"))
}

/// Whether the client takes an answer that is compressed with gzip.
pub(super) fn takes_gzip(request: &HttpRequest) -> bool {
    let accepted =
        request.headers().get_all(header::ACCEPT_ENCODING).filter_map(|codings| codings.to_str().ok());
    accepted.flat_map(|codings| codings.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality
            .trim()
            .strip_prefix("q=")
            .is_some_and(|quality| quality.trim_matches(['0', '.']).is_empty());
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(4));
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(Problem::internal)
}

/// FNV-1a: tells vectors apart, no more.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_tag_is_found_among_others() {
        for (header, known) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            let request =
                TestRequest::default().insert_header((header::IF_NONE_MATCH, header)).to_http_request();
            assert_eq!(is_known(&request, "W/\"a\""), known, "{header}");
        }
        assert!(!is_known(&TestRequest::default().to_http_request(), "\"a\""));
    }

    #[test]
    fn only_those_who_take_it_get_compressed_bytes() {
        for (header, takes) in [
            ("gzip", true),
            ("br, GZip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0", false),
            ("br", false),
        ] {
            let request =
                TestRequest::default().insert_header((header::ACCEPT_ENCODING, header)).to_http_request();
            assert_eq!(takes_gzip(&request), takes, "{header}");
        }
    }
}
