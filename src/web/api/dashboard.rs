//! Serves the files of the dashboard.
//!
//! The files hold nothing but the program that every copy of tasker has, so they need no token: whatever they
//! show, they read from the interface as everybody else does.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use super::page::{self, ROOT};
use super::problem::Problem;
use super::states::{is_known, takes_gzip};
use super::{Answer, Api, unknown};
use crate::contract::ProblemCode;
use crate::dashboard::{self, File};

/// The answer that leads there. Relative, since a proxy may have it below a path of its own.
pub fn lead() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, &ROOT[1..])).finish()
}

/// Gives its paths to the router.
pub fn mount(app: &mut web::ServiceConfig) {
    let paths = vec![ROOT.to_owned(), format!("{ROOT}/{{path}}*")];
    app.service(web::resource(paths).default_service(web::to(show)));
}

async fn show(api: web::Data<Api>, request: HttpRequest) -> Answer {
    if !page::reads(request.method()) {
        return unknown::method(&request, "GET, HEAD".to_owned());
    }
    let path = request.match_info().as_str().strip_prefix(ROOT).unwrap_or_default();
    match path.strip_prefix("/assets/") {
        Some(name) => match dashboard::asset(name) {
            Some(file) => Ok(answer(&request, file)),
            None => unknown::path(&api, &request),
        },
        None => match dashboard::page(path) {
            Some(page) => Ok(answer(&request, page)),
            None => Err(Problem::new(ProblemCode::NotFound, "nothing is at this path of the dashboard")),
        },
    }
}

fn answer(request: &HttpRequest, file: &'static File) -> HttpResponse {
    // Its name in the page has its hash: a file under the hash of another one is not that one for good.
    let forever = request.query_string().strip_prefix("v=").is_some_and(|hash| hash == file.hash());
    let caching = if forever { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = format!("\"{}\"", file.hash());
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CACHE_CONTROL, caching)).insert_header((header::VARY, "Accept-Encoding"));
    answer.insert_header((header::ETAG, tag.clone()));
    if is_known(request, &tag) {
        return answer.status(StatusCode::NOT_MODIFIED).finish();
    }
    answer.content_type(file.media());
    match file.compressed().filter(|_| takes_gzip(request)) {
        Some(compressed) => answer.insert_header((header::CONTENT_ENCODING, "gzip")).body(compressed),
        None => answer.body(file.bytes()),
    }
}
