//! The description of the interface in OpenAPI, generated from the handlers. A snapshot of it lies in `tests/`, so that
//! every change of the contract shows in review.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::Answer;
use super::route::{For, Route};
use super::{
    cancel_task, forget_endpoint, health, list_endpoints, list_tasks, queues, schedules, serve_worker, show_task, submit_task, take_census,
    tasks,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "tasker", description = "Hands tasks to fleets of servers and knows exactly what became of each one.", license(name = "MIT OR Apache-2.0")),
    paths(
        health::index,
        health::heartbeat,
        health::ready,
        health::metrics,
        show,
        list_endpoints::list_endpoints,
        forget_endpoint::forget_endpoint,
        submit_task::submit_task,
        list_tasks::list_tasks,
        show_task::show_task,
        cancel_task::cancel_task,
        tasks::list,
        tasks::show,
        tasks::cancel,
        take_census::take_census,
        queues::list,
        queues::pause,
        queues::resume,
        schedules::list,
        schedules::run,
        schedules::pause,
        schedules::resume,
        serve_worker::tasks,
        serve_worker::reports,
        serve_worker::presence,
    ),
    tags(
        (name = "tasks", description = "Submit, read, list and cancel tasks"),
        (name = "endpoints", description = "Who performs them"),
        (name = "queues", description = "Task types whose tasks are performed once, by one worker"),
        (name = "workers", description = "For workers that reach nothing but this interface"),
        (name = "operation", description = "For those who look after the process"),
    ),
    modifiers(&Bearer)
)]
struct Description;

/// Says of every path but the open ones that it takes a token: here, so that no path is forgotten.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        const NAME: &str = "token";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme = scheme.description(Some("Made by `tasker token create`. None is needed on a loopback address before there is one."));
        document.components.get_or_insert_default().add_security_scheme(NAME, SecurityScheme::Http(scheme.build()));
        for (path, item) in &mut document.paths.paths {
            if Route::at(path).is_some_and(|route| route.read == Some(For::Everybody)) {
                continue;
            }
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch, &mut item.head];
            for operation in operations.into_iter().flatten() {
                operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(NAME, [])]);
                let responses = &mut operation.responses.responses;
                responses.insert("401".to_owned(), refusal("`token_needed`, `invalid_token`"));
                responses.insert("403".to_owned(), refusal("`insufficient_scope`"));
            }
        }
    }
}

fn refusal(codes: &str) -> RefOr<Response> {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(codes).content("application/problem+json", problem).build().into()
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().into());

/// The OpenAPI document as JSON text.
pub fn document() -> String {
    let mut text = Description::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "operation",
    responses((status = 200, description = "The OpenAPI document", body = serde_json::Value))
)]
pub async fn show() -> Answer {
    Ok(HttpResponse::Ok().content_type("application/json").body(DOCUMENT.clone()))
}
