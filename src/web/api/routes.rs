//! The table of routes: every path, the methods it takes, what a request for each needs, and the handler with
//! its description (`route` says what a row is).
//!
//! The router, the check of tokens (`access`), the list of links (`health::index`), the refusal of other
//! methods and the OpenAPI document read this table, so a path that is not in it is neither served nor
//! described, and an operation without a scope does not compile. Only the files of the dashboard, which are
//! no interface, have paths of their own (`dashboard`). `tests/it/api_matrix.rs` states for every row again
//! who may use it, and fails where a row is missing.

use std::sync::LazyLock;

use actix_web::guard::{Any, Get, Head};
use actix_web::{HttpRequest, web};
use utoipa::OpenApi;

use super::route::{About, For, Operation, Route, Routes, has_query};
use super::{
    Answer, Api, approvals, audit, cancel_task, cancel_tasks, enrol, events, explain_task, flamenco,
    forget_endpoint, groups, health, list_answers, list_endpoints, list_tasks, logs, named, openapi, queues,
    requests,
};
use super::{
    count_tasks, dashboard, list_owed, list_responses, list_types, requeue, rerun_task, rollouts, schedules,
    serve_worker, session, show_statistics, show_task, states, submit_task, submit_tasks, take_census, tasks,
    unknown,
};
use crate::domain::Scope;

const READ: For = For::Scope(Scope::Read);
const SUBMIT: For = For::Scope(Scope::Submit);
const READ_OWN: For = For::Own(Scope::Read);
const CANCEL: For = For::Own(Scope::Submit);
const WORK: For = For::Scope(Scope::Work);
const APPROVE: For = For::Scope(Scope::Approve);
const ADMIN: For = For::Scope(Scope::Admin);

/// The actix route of a method; whatever can be read can be asked about.
macro_rules! taking {
    (GET) => {
        web::route().guard(Any(Get()).or(Head()))
    };
    (POST) => {
        web::post()
    };
    (PUT) => {
        web::put()
    };
    (PATCH) => {
        web::patch()
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
            has_query: || {
                static HAS: LazyLock<bool> = LazyLock::new(|| has_query(&Described::openapi()));
                *HAS
            },
        }
    }};
}

/// Every path. A method without an operation answers 405 to everybody with a token.
pub const ROUTES: Routes = Routes(&[
    Route { pattern: "/", about: About::AllTypes, operations: &[operation!(GET, READ, health::index)] },
    Route {
        pattern: "/heartbeat",
        about: About::Nothing,
        operations: &[operation!(GET, For::Everybody, health::heartbeat)],
    },
    Route {
        pattern: "/ready",
        about: About::Nothing,
        operations: &[operation!(GET, For::Everybody, health::ready)],
    },
    Route {
        pattern: "/metrics",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, health::metrics)],
    },
    Route {
        pattern: "/openapi.json",
        about: About::Nothing,
        operations: &[operation!(GET, READ, openapi::show)],
    },
    Route {
        pattern: "/census",
        about: About::TypeInQuery,
        operations: &[operation!(GET, READ, take_census::take_census)],
    },
    Route {
        pattern: "/census/requests",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, take_census::take_request_census)],
    },
    Route {
        pattern: "/census/rollouts",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, take_census::take_rollout_census)],
    },
    Route { pattern: "/audit", about: About::AllTypes, operations: &[operation!(GET, ADMIN, audit::list)] },
    Route {
        pattern: "/audit/submissions",
        about: About::AllTypes,
        operations: &[operation!(GET, ADMIN, audit::submissions)],
    },
    Route {
        pattern: "/endpoints/states",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, states::of_endpoints)],
    },
    Route {
        pattern: "/endpoints/names",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, states::names_of_endpoints)],
    },
    Route {
        pattern: "/events",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, events::watch)],
    },
    Route {
        pattern: "/endpoints",
        about: About::AllTypes,
        operations: &[
            operation!(GET, READ, list_endpoints::list_endpoints),
            operation!(DELETE, ADMIN, forget_endpoint::forget_endpoints),
        ],
    },
    Route {
        pattern: "/endpoints/{name}",
        about: About::AllTypes,
        operations: &[operation!(DELETE, ADMIN, forget_endpoint::forget_endpoint)],
    },
    Route {
        pattern: "/groups",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, groups::list_groups)],
    },
    Route {
        pattern: "/groups/{name}",
        about: About::AllTypes,
        operations: &[
            operation!(GET, READ, groups::show_group),
            operation!(PUT, ADMIN, groups::write_group),
            operation!(DELETE, ADMIN, groups::delete_group),
        ],
    },
    Route {
        pattern: "/endpoints/{name}/tasks",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, list_owed::list_owed)],
    },
    Route {
        pattern: "/endpoints/{name}/enrolment",
        about: About::Nothing,
        operations: &[operation!(POST, For::Everybody, enrol::enrol)],
    },
    Route {
        pattern: "/session",
        about: About::Nothing,
        operations: &[
            operation!(GET, For::Token, session::show),
            operation!(DELETE, For::Token, session::end),
            operation!(POST, For::Everybody, session::begin),
        ],
    },
    Route { pattern: "/queues", about: About::AllTypes, operations: &[operation!(GET, READ, queues::list)] },
    Route {
        pattern: "/queues/{type}/pause",
        about: About::AllTypes,
        operations: &[operation!(POST, ADMIN, queues::pause)],
    },
    Route {
        pattern: "/queues/{type}/resume",
        about: About::AllTypes,
        operations: &[operation!(POST, ADMIN, queues::resume)],
    },
    Route {
        pattern: "/queues/{type}/requeue",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, requeue::requeue)],
    },
    Route {
        pattern: "/schedules",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, schedules::list)],
    },
    Route {
        pattern: "/schedules/{name}/run",
        about: About::ScheduleInPath,
        operations: &[operation!(POST, SUBMIT, schedules::run)],
    },
    Route {
        pattern: "/schedules/{name}/pause",
        about: About::AllTypes,
        operations: &[operation!(POST, ADMIN, schedules::pause)],
    },
    Route {
        pattern: "/schedules/{name}/resume",
        about: About::AllTypes,
        operations: &[operation!(POST, ADMIN, schedules::resume)],
    },
    Route {
        pattern: "/types",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, list_types::list_types)],
    },
    Route {
        pattern: "/tasks",
        about: About::CoveredTypes,
        operations: &[
            operation!(GET, READ, tasks::list),
            operation!(POST, SUBMIT, submit_tasks::submit_tasks),
        ],
    },
    Route {
        pattern: "/tasks/counts",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, count_tasks::count_tasks)],
    },
    Route {
        pattern: "/stats",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, show_statistics::show_statistics)],
    },
    Route {
        pattern: "/tasks/cancel",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, cancel_tasks::cancel_tasks)],
    },
    Route {
        pattern: "/tasks/{id}",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ_OWN, tasks::show), operation!(DELETE, CANCEL, tasks::cancel)],
    },
    Route {
        pattern: "/tasks/{id}/explain",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ_OWN, tasks::explain)],
    },
    Route {
        pattern: "/flamenco/jobs",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, flamenco::list_jobs)],
    },
    Route {
        pattern: "/flamenco/tasks",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, flamenco::list_tasks)],
    },
    Route {
        pattern: "/flamenco/tasks/{id}",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, flamenco::show_task)],
    },
    Route {
        pattern: "/flamenco/workers",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, flamenco::list_workers)],
    },
    Route {
        pattern: "/requests",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, requests::list), operation!(POST, SUBMIT, requests::submit)],
    },
    Route {
        pattern: "/requests/{token}",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, requests::show), operation!(DELETE, CANCEL, requests::cancel)],
    },
    Route {
        pattern: "/requests/{token}/retry",
        about: About::AllTypes,
        operations: &[operation!(POST, SUBMIT, requests::retry)],
    },
    Route {
        pattern: "/rollouts",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, rollouts::list), operation!(POST, SUBMIT, rollouts::submit)],
    },
    Route {
        pattern: "/rollouts/plan",
        about: About::CoveredTypes,
        operations: &[operation!(POST, READ, rollouts::plan)],
    },
    Route {
        pattern: "/rollouts/holds",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, rollouts::holds)],
    },
    Route {
        pattern: "/rollouts/holds/{lane}/{endpoint}",
        about: About::AllTypes,
        operations: &[operation!(DELETE, ADMIN, rollouts::free_hold)],
    },
    Route {
        pattern: "/rollouts/{id}",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, rollouts::show), operation!(PATCH, SUBMIT, rollouts::edit)],
    },
    Route {
        pattern: "/rollouts/{id}/targets",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, rollouts::targets)],
    },
    Route {
        pattern: "/rollouts/{id}/events",
        about: About::CoveredTypes,
        operations: &[operation!(GET, READ, rollouts::events)],
    },
    Route {
        pattern: "/rollouts/{id}/start",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::start)],
    },
    Route {
        pattern: "/rollouts/{id}/pause",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::pause)],
    },
    Route {
        pattern: "/rollouts/{id}/resume",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::resume)],
    },
    Route {
        pattern: "/rollouts/{id}/abort",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::abort)],
    },
    Route {
        pattern: "/rollouts/{id}/approve",
        about: About::CoveredTypes,
        operations: &[operation!(POST, APPROVE, rollouts::approve)],
    },
    Route {
        pattern: "/rollouts/{id}/refuse",
        about: About::CoveredTypes,
        operations: &[operation!(POST, APPROVE, rollouts::refuse)],
    },
    Route {
        pattern: "/rollouts/{id}/skip",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::skip)],
    },
    Route {
        pattern: "/rollouts/{id}/retry",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::retry)],
    },
    Route {
        pattern: "/rollouts/{id}/rerun",
        about: About::CoveredTypes,
        operations: &[operation!(POST, SUBMIT, rollouts::rerun)],
    },
    Route {
        pattern: "/api/poll/{token}",
        about: About::AllTypes,
        operations: &[operation!(GET, READ, requests::poll)],
    },
    Route {
        pattern: "/workers/{name}/tasks",
        about: About::Worker,
        operations: &[operation!(POST, WORK, serve_worker::tasks)],
    },
    Route {
        pattern: "/workers/{name}/reports",
        about: About::Worker,
        operations: &[operation!(POST, WORK, serve_worker::reports)],
    },
    Route {
        pattern: "/workers/{name}/presence",
        about: About::Worker,
        operations: &[operation!(POST, WORK, serve_worker::presence)],
    },
    Route {
        pattern: "/{type}",
        about: About::TypeInPath,
        operations: &[
            operation!(GET, READ, list_tasks::list_tasks),
            operation!(POST, SUBMIT, submit_task::submit_task),
        ],
    },
    Route {
        pattern: "/{type}/{id}",
        about: About::TypeInPath,
        operations: &[
            operation!(GET, READ_OWN, show_task::show_task),
            operation!(DELETE, CANCEL, cancel_task::cancel_task),
        ],
    },
    Route {
        pattern: "/{type}/{id}/states",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, states::of_task)],
    },
    Route {
        pattern: "/{type}/{id}/names",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, states::names_of_task)],
    },
    Route {
        pattern: "/{type}/{id}/explain",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, explain_task::explain_task)],
    },
    Route {
        pattern: "/{type}/{id}/answers",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, list_answers::list_answers)],
    },
    Route {
        pattern: "/{type}/{id}/responses",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, list_responses::list_responses)],
    },
    Route {
        pattern: "/{type}/{id}/logs",
        about: About::TypeInPath,
        operations: &[operation!(GET, READ_OWN, logs::read)],
    },
    Route {
        pattern: "/{type}/{id}/approvals",
        about: About::TypeInPath,
        operations: &[operation!(POST, APPROVE, approvals::approve_task)],
    },
    Route {
        pattern: "/{type}/{id}/rerun",
        about: About::TypeInPath,
        operations: &[operation!(POST, SUBMIT, rerun_task::rerun_task)],
    },
]);

/// Every method and path that the interface serves, as a pair each.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().flat_map(|route| route.methods().map(|method| (method, route.pattern)))
}

/// The OpenAPI document of every path, as JSON text.
pub fn document() -> String {
    openapi::document(ROUTES)
}

/// Gives the table to the router.
pub fn mount(app: &mut web::ServiceConfig) {
    dashboard::mount(app);
    for route in ROUTES.iter() {
        let refuse = move |api: web::Data<Api>, request: HttpRequest| async move {
            refuse_method(&api, &request, route)
        };
        let resource =
            route.operations.iter().fold(web::resource(route.pattern), |at, operation| (operation.mount)(at));
        app.service(resource.default_service(web::to(refuse)));
    }
    app.default_service(web::to(|api: web::Data<Api>, request: HttpRequest| async move {
        unknown::path(&api, &request)
    }));
}

/// A type that is not configured has no paths, so no methods either.
fn refuse_method(api: &Api, request: &HttpRequest, route: &Route) -> Answer {
    if route.about == About::TypeInPath {
        named::task_type(api, request)?;
    }
    unknown::method(request, route.allow())
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;
    use actix_web::http::Method;
    use proptest::prelude::*;

    use super::*;

    fn path() -> impl Strategy<Value = String> {
        let words = ROUTES.iter().flat_map(|route| route.pattern.split('/').skip(1)).collect::<Vec<_>>();
        let segment = prop_oneof![
            proptest::sample::select(words).prop_map(str::to_owned),
            "[a-z.%{} ]{0,3}",
            "\\PC{0,2}"
        ];
        proptest::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    #[test]
    fn a_handler_describes_the_path_and_method_of_its_row() {
        for route in ROUTES.iter() {
            for operation in route.operations {
                let document = serde_json::to_value((operation.describe)()).expect("JSON");
                let described =
                    document["paths"].as_object().expect("paths").iter().flat_map(|(path, methods)| {
                        let methods = methods.as_object().expect("methods").keys();
                        methods.map(|method| (method.to_uppercase(), path.clone()))
                    });
                let row = (operation.method.to_owned(), route.pattern.to_owned());
                assert_eq!(described.collect::<Vec<_>>(), [row], "`#[utoipa::path]` of the handler");
            }
        }
    }

    #[test]
    fn a_path_has_one_operation_of_a_method_and_tells_nobody_without_a_token_which_there_are() {
        for route in ROUTES.iter() {
            let methods: Vec<_> = route.operations.iter().map(|operation| operation.method).collect();
            let once = methods.iter().enumerate().all(|(place, method)| !methods[..place].contains(method));
            assert!(once && !methods.is_empty(), "{}", route.pattern);
            assert_ne!(route.needs(&Method::PATCH), Some(For::Everybody), "{}", route.pattern);
        }
    }

    proptest! {
        #[test]
        fn a_path_has_the_route_that_the_router_finds(path in path()) {
            let by_router = ROUTES.iter().find(|route| ResourceDef::new(route.pattern).is_match(&path)).map(|route| route.pattern);
            prop_assert_eq!(ROUTES.of(&path).map(|route| route.pattern), by_router);
        }
    }
}
