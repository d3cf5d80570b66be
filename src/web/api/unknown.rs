//! What is answered to names and paths that nothing has: what was given, what there is, and what was likely
//! meant.

use actix_web::HttpRequest;

use super::access;
use super::problem::Problem;
use super::route::Routes;
use super::{Answer, Api};
use crate::config::TypePolicy;
use crate::contract::ProblemCode;
use crate::domain::likeness::{self, Unknown, did_you_mean, nearest, quoted};

/// No task type has the name. One path segment may also be a misspelt path, such as `/queus`.
pub fn task_type(api: &Api, request: &HttpRequest, name: &str) -> Problem {
    let types = visible(api, request, |_| true);
    let Unknown { mut text, likely } = likeness::unknown("task type", name, "configured", types);
    // A path that is right, and names the type in its query, was not misspelt.
    let path = likely.is_none().then(|| path_like(api.routes, request.path())).flatten();
    let path = path.filter(|path| path != request.path());
    text += &did_you_mean(path.as_deref());
    Problem::unknown(ProblemCode::UnknownTaskType, name, Unknown { text, likely: likely.or(path.as_deref()) })
}

/// The same of a name that is in no path.
pub fn named_type(api: &Api, request: &HttpRequest, name: &str) -> Problem {
    let types = visible(api, request, |_| true);
    Problem::unknown(
        ProblemCode::UnknownTaskType,
        name,
        likeness::unknown("task type", name, "configured", types),
    )
}

/// No work queue has the name; a task type that has none may have it.
pub fn queue(api: &Api, request: &HttpRequest, name: &str) -> Problem {
    let with_queue = |policy: &TypePolicy| policy.queue.is_some();
    let queues = visible(api, request, with_queue);
    let mut unknown = likeness::unknown("work queue", name, "configured", queues.iter().copied());
    if visible(api, request, |policy| !with_queue(policy)).contains(&name) {
        unknown.text = format!(
            "task type {} has no work queue (those that have one: {})",
            quoted(name),
            likeness::listed(&queues)
        );
    }
    Problem::unknown(ProblemCode::UnknownTaskType, name, unknown)
}

/// No schedule has the name.
pub fn schedule(api: &Api, request: &HttpRequest, name: &str) -> Problem {
    let schedules = api
        .state
        .config
        .schedules
        .iter()
        .filter(|schedule| access::covers(request, schedule.task_type.as_str()));
    let names = schedules.map(|schedule| schedule.name.as_str());
    Problem::unknown(
        ProblemCode::UnknownSchedule,
        name,
        likeness::unknown("schedule", name, "configured", names),
    )
}

/// The task types that may be told to whoever asks.
fn visible<'a>(api: &'a Api, request: &HttpRequest, wanted: impl Fn(&TypePolicy) -> bool) -> Vec<&'a str> {
    let types =
        api.state.config.task_types.iter().filter(|policy| wanted(policy)).map(|policy| policy.name.as_str());
    types.filter(|name| access::covers(request, name)).collect()
}

/// There is nothing at a path.
pub fn path(api: &Api, request: &HttpRequest) -> Answer {
    let path = request.path();
    let text = format!("there is nothing at {}", quoted(path));
    let likely = path_like(api.routes, path);
    let text = match &likely {
        Some(likely) => format!("{text}; did you mean {likely}?"),
        None => format!("{text}: /openapi.json describes every path"),
    };
    Err(Problem::new(ProblemCode::NotFound, text).about(path, likely))
}

/// The path that a misspelt one is likely to mean; what a path has of its own, such as a name, is taken as it
/// is.
fn path_like(routes: Routes, path: &str) -> Option<String> {
    let given: Vec<&str> = path.split('/').collect();
    let fill = |pattern: &str| -> Option<String> {
        let parts: Vec<&str> = pattern.split('/').collect();
        let filled =
            parts.iter().zip(&given).map(|(part, given)| if part.starts_with('{') { *given } else { *part });
        // A type's paths are all names of its own: anything is like them.
        (parts.len() == given.len() && !pattern.starts_with("/{"))
            .then(|| filled.collect::<Vec<_>>().join("/"))
    };
    let paths: Vec<String> = routes.iter().filter_map(|route| fill(route.pattern)).collect();
    nearest(path, paths.iter().map(String::as_str)).map(str::to_owned)
}

/// The path does not take the method.
pub fn method(request: &HttpRequest, allow: String) -> Answer {
    Err(Problem::method_not_allowed(request.method().as_str(), &quoted(request.path()), allow))
}
