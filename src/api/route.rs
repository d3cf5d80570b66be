//! The table of routes: every path, the methods it takes, what a request for each needs, and the handler with its description.
//!
//! The router, the check of tokens (`access`), the list of links (`health::index`), the refusal of other methods and the OpenAPI document read
//! this table, so a path that is not in it is neither served nor described, and an operation without a scope does not compile.
//! `tests/it/api_matrix.rs` states for every row again who may use it, and fails where a row is missing.

use actix_web::guard::{Any, Get, Head};
use actix_web::http::Method;
use actix_web::{HttpRequest, Resource, web};
use utoipa::OpenApi;

use super::{Answer, Api, cancel_task, forget_endpoint, health, list_endpoints, list_tasks, openapi, queues, schedules};
use super::{serve_worker, show_task, submit_task, take_census, tasks, unknown};
use crate::domain::Scope;

/// A path and what it takes.
pub struct Route {
    /// As the router takes it.
    pub pattern: &'static str,
    /// What it is about.
    pub about: About,
    /// At most one that reads and one other. A client that may not use the other one is not told which methods there are.
    pub operations: &'static [Operation],
}

/// A method of a path.
pub struct Operation {
    /// `GET`, which takes `HEAD` too, or another one.
    pub method: &'static str,
    /// Whom it is for.
    needs: For,
    /// Adds the handler.
    mount: fn(Resource) -> Resource,
    /// An OpenAPI document of nothing but this operation.
    pub describe: fn() -> utoipa::openapi::OpenApi,
}

/// Whom a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Everybody, without a token: the probes of load balancers have none.
    Everybody,
    /// Those with a token that has this scope.
    Scope(Scope),
}

/// What a request is about, for tokens that are limited to some task types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing that a type has to do with.
    Nothing,
    /// The type in the path.
    TypeInPath,
    /// The type in the query.
    TypeInQuery,
    /// The type of the schedule in the path.
    ScheduleInPath,
    /// Types of all kinds.
    AllTypes,
    /// Tasks of whichever types the token covers: the handler leaves out all others.
    CoveredTypes,
    /// The worker in the path; the types are in the body, and whoever reads that asks `access::check_types`.
    Worker,
}

const READ: For = For::Scope(Scope::Read);
const SUBMIT: For = For::Scope(Scope::Submit);
const WORK: For = For::Scope(Scope::Work);
const ADMIN: For = For::Scope(Scope::Admin);

/// The actix route of a method; whatever can be read can be asked about.
macro_rules! taking {
    (GET) => {
        web::route().guard(Any(Get()).or(Head()))
    };
    (POST) => {
        web::post()
    };
    (DELETE) => {
        web::delete()
    };
}

/// An operation of a method, for whom it is, and its handler.
macro_rules! operation {
    ($method:ident, $needs:expr, $($handler:ident)::+) => {{
        #[derive(OpenApi)]
        #[openapi(paths($($handler)::+))]
        struct Described;
        Operation {
            method: stringify!($method),
            needs: $needs,
            mount: |at| at.route(taking!($method).to($($handler)::+)),
            describe: Described::openapi,
        }
    }};
}

/// Every path. A method without an operation answers 405 to everybody with a token.
pub const ROUTES: &[Route] = &[
    Route { pattern: "/", about: About::AllTypes, operations: &[operation!(GET, READ, health::index)] },
    Route { pattern: "/heartbeat", about: About::Nothing, operations: &[operation!(GET, For::Everybody, health::heartbeat)] },
    Route { pattern: "/ready", about: About::Nothing, operations: &[operation!(GET, For::Everybody, health::ready)] },
    Route { pattern: "/metrics", about: About::AllTypes, operations: &[operation!(GET, READ, health::metrics)] },
    Route { pattern: "/openapi.json", about: About::Nothing, operations: &[operation!(GET, READ, openapi::show)] },
    Route { pattern: "/census", about: About::TypeInQuery, operations: &[operation!(GET, READ, take_census::take_census)] },
    Route { pattern: "/endpoints", about: About::AllTypes, operations: &[operation!(GET, READ, list_endpoints::list_endpoints)] },
    Route {
        pattern: "/endpoints/{name}",
        about: About::AllTypes,
        operations: &[operation!(DELETE, ADMIN, forget_endpoint::forget_endpoint)],
    },
    Route { pattern: "/queues", about: About::AllTypes, operations: &[operation!(GET, READ, queues::list)] },
    Route { pattern: "/queues/{type}/pause", about: About::AllTypes, operations: &[operation!(POST, ADMIN, queues::pause)] },
    Route { pattern: "/queues/{type}/resume", about: About::AllTypes, operations: &[operation!(POST, ADMIN, queues::resume)] },
    Route { pattern: "/schedules", about: About::AllTypes, operations: &[operation!(GET, READ, schedules::list)] },
    Route { pattern: "/schedules/{name}/run", about: About::ScheduleInPath, operations: &[operation!(POST, SUBMIT, schedules::run)] },
    Route { pattern: "/schedules/{name}/pause", about: About::AllTypes, operations: &[operation!(POST, ADMIN, schedules::pause)] },
    Route { pattern: "/schedules/{name}/resume", about: About::AllTypes, operations: &[operation!(POST, ADMIN, schedules::resume)] },
    Route { pattern: "/tasks", about: About::CoveredTypes, operations: &[operation!(GET, READ, tasks::list)] },
    Route {
        pattern: "/tasks/{id}",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, tasks::show), operation!(DELETE, SUBMIT, tasks::cancel)],
    },
    Route { pattern: "/workers/{name}/tasks", about: About::Worker, operations: &[operation!(POST, WORK, serve_worker::tasks)] },
    Route { pattern: "/workers/{name}/reports", about: About::Worker, operations: &[operation!(POST, WORK, serve_worker::reports)] },
    Route { pattern: "/workers/{name}/presence", about: About::Worker, operations: &[operation!(POST, WORK, serve_worker::presence)] },
    Route {
        pattern: "/{type}",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ, list_tasks::list_tasks), operation!(POST, SUBMIT, submit_task::submit_task)],
    },
    Route {
        pattern: "/{type}/{id}",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ, show_task::show_task), operation!(DELETE, SUBMIT, cancel_task::cancel_task)],
    },
];

impl Route {
    /// The route of a pattern.
    pub fn at(pattern: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.pattern == pattern)
    }

    /// The route of a path, whose escapes are undone: the first that fits, as the router finds it, which reads patterns much more slowly.
    pub fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.fits(path))
    }

    fn fits(&self, path: &str) -> bool {
        let (mut parts, mut segments) = (self.pattern.split('/'), path.split('/'));
        loop {
            match (parts.next(), segments.next()) {
                (None, None) => return true,
                (Some(part), Some(segment)) if part == segment => {}
                (Some(part), Some(segment)) if part.starts_with('{') && !segment.is_empty() => {}
                _ => return false,
            }
        }
    }

    /// Whom a method is for; none where nobody needs more than a token to be told that there is no such method.
    pub fn needs(&self, method: &Method) -> Option<For> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        self.operations.iter().find(|operation| (operation.method == "GET") == reads).map(|operation| operation.needs)
    }

    /// The methods it takes.
    fn methods(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.operations
            .iter()
            .flat_map(|operation| match operation.method {
                "GET" => &["GET", "HEAD"][..],
                _ => std::slice::from_ref(&operation.method),
            })
            .copied()
    }

    /// The header `Allow`.
    fn allow(&self) -> String {
        self.methods().collect::<Vec<_>>().join(", ")
    }
}

/// Every method and path that the interface serves, as a pair each.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().flat_map(|route| route.methods().map(|method| (method, route.pattern)))
}

/// Gives the table to the router.
pub fn mount(app: &mut web::ServiceConfig) {
    for route in ROUTES {
        let refuse = move |api: web::Data<Api>, request: HttpRequest| async move { refuse_method(&api, &request, route) };
        let resource = route.operations.iter().fold(web::resource(route.pattern), |at, operation| (operation.mount)(at));
        app.service(resource.default_service(web::to(refuse)));
    }
    app.default_service(web::to(|request| async move { unknown::path(&request) }));
}

/// A type that is not configured has no paths, so no methods either.
fn refuse_method(api: &Api, request: &HttpRequest, route: &Route) -> Answer {
    if route.about == About::TypeInPath {
        api.task_type(request)?;
    }
    unknown::method(request, route.allow())
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;
    use proptest::prelude::*;

    use super::*;

    fn path() -> impl Strategy<Value = String> {
        let words = ROUTES.iter().flat_map(|route| route.pattern.split('/').skip(1)).collect::<Vec<_>>();
        let segment = prop_oneof![proptest::sample::select(words).prop_map(str::to_owned), "[a-z.%{} ]{0,3}", "\\PC{0,2}"];
        proptest::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    #[test]
    fn a_handler_describes_the_path_and_method_of_its_row() {
        for route in ROUTES {
            for operation in route.operations {
                let document = serde_json::to_value((operation.describe)()).expect("JSON");
                let described = document["paths"].as_object().expect("paths").iter().flat_map(|(path, methods)| {
                    let methods = methods.as_object().expect("methods").keys();
                    methods.map(|method| (method.to_uppercase(), path.clone()))
                });
                let row = (operation.method.to_owned(), route.pattern.to_owned());
                assert_eq!(described.collect::<Vec<_>>(), [row], "`#[utoipa::path]` of the handler");
            }
        }
    }

    #[test]
    fn a_path_has_one_operation_that_reads_and_one_other_at_most() {
        for route in ROUTES {
            let reading = route.operations.iter().filter(|operation| operation.method == "GET").count();
            assert!(reading <= 1 && route.operations.len() <= reading + 1 && !route.operations.is_empty(), "{}", route.pattern);
        }
    }

    proptest! {
        #[test]
        fn a_path_has_the_route_that_the_router_finds(path in path()) {
            let by_router = ROUTES.iter().find(|route| ResourceDef::new(route.pattern).is_match(&path)).map(|route| route.pattern);
            prop_assert_eq!(Route::of(&path).map(|route| route.pattern), by_router);
        }
    }
}
