//! The description of the interface in OpenAPI, generated from the table of routes and its handlers. A
//! snapshot of it lies in `tests/`, so that every change of the contract shows in review.

use std::sync::OnceLock;

use actix_web::http::Method;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, SchemaType};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Header, Object, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{OpenApi, PartialSchema};

use super::route::{For, Routes};
use super::{Answer, Api, openapi_numbers};
use crate::contract;
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{RequestStatus, TaskStatus};
use crate::farm;

#[derive(OpenApi)]
#[openapi(
    info(title = "tasker", description = "Hands tasks to fleets of servers and knows exactly what became of each one.", license(name = "MIT OR Apache-2.0")),
    components(schemas(contract::LiveTask, contract::LiveEndpoints, contract::LiveQueues, contract::LiveGone)),
    tags(
        (name = "tasks", description = "Submit, read, list and cancel tasks"),
        (name = "endpoints", description = "Who performs them"),
        (name = "queues", description = "Task types whose tasks are performed once, by one worker"),
        (name = "live", description = "Watch what goes on: states of thousands of endpoints in few bytes, and events as they happen"),
        (name = "requests", description = "Steps of jobs, one step after the other, the jobs of a step at the same time"),
        (name = "rollouts", description = "Changing a fleet in waves, within budgets"),
        (name = "workers", description = "For workers that reach nothing but this interface"),
        (name = "farm", description = "A render farm: what its manager (`tasker flamenco-manager`) has"),
        (name = "operation", description = "For those who look after the process"),
    )
)]
struct Description;

/// Says of every path what holds by its kind, so that no path is forgotten: who may use it, what may stand in
/// it, how it is refused.
fn give_rules(document: &mut utoipa::openapi::OpenApi, routes: Routes) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let scheme = scheme.description(Some(
        "Made by `tasker token create`. None is needed on a loopback address before there is one.",
    ));
    document
        .components
        .get_or_insert_default()
        .add_security_scheme(TOKEN, SecurityScheme::Http(scheme.build()));
    for (path, item) in &mut document.paths.paths {
        let open = routes.at(path).is_some_and(|route| route.needs(&Method::GET) == Some(For::Everybody));
        let operations = [
            (&mut item.get, None),
            (&mut item.post, Some(("POST", "`unsupported_media_type`: also without a body"))),
            (&mut item.put, Some(("PUT", "`unsupported_media_type`: a body that is not JSON"))),
            (&mut item.patch, Some(("PATCH", "`unsupported_media_type`: a body that is not JSON"))),
            (&mut item.delete, Some(("DELETE", "`unsupported_media_type`: a body that is not JSON"))),
        ];
        for (operation, form) in operations {
            let Some(operation) = operation else { continue };
            operation.parameters.iter_mut().flatten().for_each(|parameter| give_form(path, parameter));
            let reads_body = operation.request_body.is_some();
            if form.is_some_and(|(method, _)| method == "POST") {
                operation.request_body.get_or_insert_with(any_body);
            }
            // What is about the process alone asks no ledger.
            let of_ledger = operation.tags.iter().flatten().all(|tag| tag != "operation");
            let responses = &mut operation.responses.responses;
            let mut may_be = |status: &str, codes: &str| {
                responses.entry(status.to_owned()).or_insert_with(|| refusal(codes).build().into());
            };
            if reads_body {
                may_be("400", "`invalid_json`, `incomplete_body`, `bad_path`");
                may_be("408", "`body_timeout`");
                may_be("413", "`body_too_large`");
            }
            if path.contains('{') {
                may_be("400", "`bad_path`");
            }
            if let Some((_, codes)) = form {
                may_be("415", codes);
            }
            may_be("421", "`misdirected`");
            if open {
                may_be("403", "`cross_site`");
                continue;
            }
            may_be("422", "`invalid_query`");
            may_be("401", "`token_needed`, `invalid_token`");
            may_be("403", "`insufficient_scope`, `cross_site`");
            if of_ledger {
                may_be("500", "`internal`");
                let again =
                    refusal("`database_unavailable`").header("Retry-After", Header::new(u32::schema()));
                responses.entry("503".to_owned()).or_insert_with(|| again.build().into());
            } else {
                may_be("503", "`database_unavailable`: the tokens have not been read yet");
            }
            operation.security = Some(vec![
                SecurityRequirement::default(),
                SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, []),
            ]);
        }
    }
}

/// The name of the scheme.
const TOKEN: &str = "token";

/// Gives a parameter the form of what it names: the same name means the same thing on every path.
fn give_form(path: &str, parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    if matches!(parameter.name.as_str(), "since" | "until" | "hour")
        && path != "/events"
        && !path.starts_with("/rollouts")
    {
        schema.format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
    }
    schema.min_length = (parameter.name == "gone_for").then_some(1);
    schema.pattern = states(path, &parameter.name)
        .or_else(|| form(path, &parameter.parameter_in, &parameter.name).map(str::to_owned));
}

/// A span within ten years: units from the longest to the shortest, or milliseconds alone. The empty text is
/// refused by its length.
const GONE_FOR: &str = "^([12][0-9]{11}ms|([0-9]{1,3}d)?([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,7}s)?([0-9]{1,11}ms)?([0-9]{1,13}us)?)$";

/// The pattern of a parameter that takes states, separated by commas.
fn states(path: &str, name: &str) -> Option<String> {
    let of_rollouts = path.starts_with("/rollouts");
    let one = match name {
        "status" if path.starts_with("/flamenco") => {
            farm::TaskStatus::ALL.map(farm::TaskStatus::as_str).join("|")
        }
        "status" if of_rollouts => RolloutStatus::ALL.map(RolloutStatus::as_str).join("|"),
        "state" if of_rollouts => TargetState::ALL.map(TargetState::as_str).join("|"),
        "status" if path == "/requests" => RequestStatus::ALL.map(RequestStatus::as_str).join("|"),
        "status" => TaskStatus::ALL.map(TaskStatus::as_str).join("|"),
        _ => return None,
    };
    Some(format!("^({one})(,({one}))*$"))
}

/// The pattern of another parameter, where it has one.
fn form(path: &str, place: &ParameterIn, name: &str) -> Option<&'static str> {
    let in_path = matches!(place, ParameterIn::Path);
    let of_rollouts = path.starts_with("/rollouts");
    Some(match name {
        "type" => "^[A-Za-z][A-Za-z0-9_-]{0,63}$",
        "name" if path.starts_with("/schedules/") => "^[A-Za-z0-9._-]{1,64}$",
        "name" if path.starts_with("/groups/") => "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        "name" | "endpoint" | "from" => "^[A-Za-z0-9._-]{1,128}$",
        "gone_for" => GONE_FOR,
        "order" => "^(oldest|latest)$",
        "cursor" if path == "/flamenco/tasks" => r"^(c[0-9]{1,16}\.)?[0-9A-Fa-f]{24}$",
        "id" | "job" | "cursor" if path.starts_with("/flamenco") => "^[0-9A-Fa-f]{24}$",
        "id" if of_rollouts => "^[A-Za-z0-9._-]{1,128}$",
        "after" if path == "/rollouts/holds" => "^[A-Za-z0-9._-]{1,128}$",
        "id" if in_path => r"^[^\u0000-\u001f\u007f-\u009f]{1,191}$",
        "until" if of_rollouts => "^(end|settled)$",
        "cursor" if matches!(path, "/rollouts" | "/census/rollouts") => {
            "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
        }
        "cursor" if of_rollouts => r"^[0-9]{1,9}\.[0-9]{1,9}$",
        "state" => "^(ok|failed|running|missing|canceled|expired)$",
        "wait" => "^0*([0-5]?[0-9]s|60s|[01]m|[0-5]?[0-9]{1,4}ms|60000ms)$",
        "responses" => "^(all|failed|missing|none)$",
        "token" if in_path => "^[A-Za-z0-9._-]{1,191}$",
        "after" if path.ends_with("/logs") => r"^(b[0-9]{1,18}|l[0-9]{1,16}\.[A-Za-z0-9._-]{1,128})$",
        "answer" => "^[0-9A-Fa-f]{32}$",
        "cursor" if path == "/endpoints" || path.ends_with("/responses") => {
            "^e(2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]){1,128}$"
        }
        "cursor" if matches!(path, "/requests" | "/census/requests") => {
            r"^r[0-9]{1,16}\.[A-Za-z0-9._-]{1,191}$"
        }
        "cursor" => "^t[0-9A-Fa-f]{32}$",
        _ => return None,
    })
}

/// The body of a `POST` that needs none.
fn any_body() -> RefOr<RequestBody> {
    let body = RequestBodyBuilder::new().content(
        "application/json",
        Content::new(Some(Schema::Object(Object::with_type(SchemaType::AnyValue)))),
    );
    let description = "Not looked at, and may be empty. It brings the `Content-Type: application/json` that every `POST` needs";
    body.description(Some(description)).required(Some(Required::True)).build().into()
}

fn refusal(codes: &str) -> ResponseBuilder {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(codes).content("application/problem+json", problem)
}

/// The OpenAPI document of the routes, as JSON text.
pub fn document(routes: Routes) -> String {
    let mut document = Description::openapi();
    for operation in routes.iter().flat_map(|route| route.operations) {
        document.merge((operation.describe)());
    }
    give_rules(&mut document, routes);
    openapi_numbers::give_bounds(&mut document);
    let json = document.to_pretty_json().unwrap_or_default();
    json.lines().map(|line| if is_prose(line) { unwrapped(line) } else { line.into() } + "\n").collect()
}

/// Whether a line of the document is a text for people.
fn is_prose(line: &str) -> bool {
    ["\"description\": ", "\"summary\": "].iter().any(|member| line.trim_start().starts_with(member))
}

/// A JSON string with a line for each paragraph: where the comments that it comes from are wrapped says
/// nothing to its readers.
fn unwrapped(line: &str) -> String {
    line.split(r"\n\n").map(|paragraph| paragraph.replace(r"\n", " ")).collect::<Vec<_>>().join(r"\n\n")
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "operation",
    responses((status = 200, description = "The OpenAPI document", body = serde_json::Value))
)]
pub async fn show(api: web::Data<Api>) -> Answer {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| document(api.routes).into());
    Ok(HttpResponse::Ok().content_type("application/json").body(document.clone()))
}
