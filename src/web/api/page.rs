//! Which requests are for a page of the dashboard, and what a page may do.

use actix_web::dev::{RequestHead, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Where it is.
pub const ROOT: &str = "/dashboard";

/// What a page may do. Scripts and styles are files of ours, and no text ever becomes one of them.
const CONFINED: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'self'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Whether a path is one of the dashboard's.
pub fn is_under(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `/` is asked for by a browser that shows it to a person.
pub fn is_looked_for(head: &RequestHead) -> bool {
    let accepts = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("text/html"))
    };
    reads(&head.method) && head.uri.path() == "/" && head.headers.get_all(header::ACCEPT).any(accepts)
}

/// Whether a request is for a file of the dashboard, or leads there.
pub fn is_page(request: &ServiceRequest) -> bool {
    let head = request.request().head();
    reads(&head.method) && is_under(request.match_info().as_str()) || is_looked_for(head)
}

/// Whether somebody follows a link to a page, from wherever. The page that has the link learns nothing by it.
pub fn is_visit(request: &ServiceRequest) -> bool {
    let says =
        |name, word| request.headers().get(name).is_some_and(|value: &HeaderValue| value.as_bytes() == word);
    is_page(request) && says("sec-fetch-mode", b"navigate") && says("sec-fetch-dest", b"document")
}

/// Whether a method changes nothing.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Gives an answer the headers that confine a page.
pub fn confine(headers: &mut HeaderMap) {
    for (name, value) in CONFINED {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
