//! The parts of a path.

use actix_web::HttpRequest;

use super::percent;
use super::problem::Problem;
use crate::contract::ProblemCode;

/// A decoded segment of the path as it was sent. The router's own decoding would turn bytes that are not
/// UTF-8 into replacement characters.
pub fn segment(request: &HttpRequest, index: usize) -> Result<String, Problem> {
    let raw = request.uri().path().split('/').nth(index + 1).unwrap_or_default();
    let text = percent::decode(raw).filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| {
        Problem::new(
            ProblemCode::BadPath,
            "the path must be percent-encoded UTF-8 without control characters",
        )
    })
}
