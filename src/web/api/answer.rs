//! What a handler answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::problem::Problem;

/// An answer, or what was wrong.
pub type Answer = Result<HttpResponse, Problem>;

/// A JSON answer. `capacity` is a guess at its length that saves copies of large ones.
pub fn answer(status: StatusCode, body: &impl Serialize, capacity: usize) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::build(status).content_type("application/json").body(to_json(body, capacity)?))
}

/// The same as text, for what is sent in pieces.
pub fn to_json(body: &impl Serialize, capacity: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut bytes, body).map_err(Problem::internal)?;
    Ok(bytes)
}
