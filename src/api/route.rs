//! The table of routes: every path, the methods it takes, what a request for it needs, and the handler.
//!
//! The router, the check of tokens (`access`), the list of links (`health::index`) and the refusal of other methods read this table, so a path
//! that is not in it is not served. `tests/it/api_matrix.rs` states for every row again who may use it, and fails where a row is missing.

use actix_web::guard::{Any, Get, Head};
use actix_web::http::Method;
use actix_web::{HttpRequest, Resource, web};

use super::{Answer, Api, cancel_task, forget_endpoint, health, list_endpoints, list_tasks, openapi, queues, schedules};
use super::{serve_worker, show_task, submit_task, take_census, tasks, unknown};
use crate::domain::Scope;

/// A path and what its requests need.
pub struct Route {
    /// As the router takes it.
    pub pattern: &'static str,
    /// For `GET` and `HEAD`. None where the path cannot be read.
    pub read: Option<For>,
    /// The other method that the path takes, and for whom. Whoever may not use that is not told that another method is wrong.
    pub write: Option<(&'static str, Scope)>,
    /// What it is about.
    pub about: About,
    /// Adds the handlers.
    mount: fn(Resource) -> Resource,
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

const READ: Option<For> = Some(For::Scope(Scope::Read));

/// Every path. A method without a scope answers 405 to everybody with a token.
pub const ROUTES: &[Route] = &[
    Route { pattern: "/", read: READ, write: None, about: About::AllTypes, mount: |at| at.route(read().to(health::index)) },
    Route {
        pattern: "/heartbeat",
        read: Some(For::Everybody),
        write: None,
        about: About::Nothing,
        mount: |at| at.route(read().to(health::heartbeat)),
    },
    Route {
        pattern: "/ready",
        read: Some(For::Everybody),
        write: None,
        about: About::Nothing,
        mount: |at| at.route(read().to(health::ready)),
    },
    Route { pattern: "/metrics", read: READ, write: None, about: About::AllTypes, mount: |at| at.route(read().to(health::metrics)) },
    Route { pattern: "/openapi.json", read: READ, write: None, about: About::Nothing, mount: |at| at.route(read().to(openapi::show)) },
    Route {
        pattern: "/census",
        read: READ,
        write: None,
        about: About::TypeInQuery,
        mount: |at| at.route(read().to(take_census::take_census)),
    },
    Route {
        pattern: "/endpoints",
        read: READ,
        write: None,
        about: About::AllTypes,
        mount: |at| at.route(read().to(list_endpoints::list_endpoints)),
    },
    Route {
        pattern: "/endpoints/{name}",
        read: None,
        write: Some(("DELETE", Scope::Admin)),
        about: About::AllTypes,
        mount: |at| at.route(web::delete().to(forget_endpoint::forget_endpoint)),
    },
    Route { pattern: "/queues", read: READ, write: None, about: About::AllTypes, mount: |at| at.route(read().to(queues::list)) },
    Route {
        pattern: "/queues/{type}/pause",
        read: None,
        write: Some(("POST", Scope::Admin)),
        about: About::AllTypes,
        mount: |at| at.route(web::post().to(queues::pause)),
    },
    Route {
        pattern: "/queues/{type}/resume",
        read: None,
        write: Some(("POST", Scope::Admin)),
        about: About::AllTypes,
        mount: |at| at.route(web::post().to(queues::resume)),
    },
    Route { pattern: "/schedules", read: READ, write: None, about: About::AllTypes, mount: |at| at.route(read().to(schedules::list)) },
    Route {
        pattern: "/schedules/{name}/run",
        read: None,
        write: Some(("POST", Scope::Submit)),
        about: About::ScheduleInPath,
        mount: |at| at.route(web::post().to(schedules::run)),
    },
    Route {
        pattern: "/schedules/{name}/pause",
        read: None,
        write: Some(("POST", Scope::Admin)),
        about: About::AllTypes,
        mount: |at| at.route(web::post().to(schedules::pause)),
    },
    Route {
        pattern: "/schedules/{name}/resume",
        read: None,
        write: Some(("POST", Scope::Admin)),
        about: About::AllTypes,
        mount: |at| at.route(web::post().to(schedules::resume)),
    },
    Route { pattern: "/tasks", read: READ, write: None, about: About::CoveredTypes, mount: |at| at.route(read().to(tasks::list)) },
    Route {
        pattern: "/tasks/{id}",
        read: READ,
        write: Some(("DELETE", Scope::Submit)),
        about: About::CoveredTypes,
        mount: |at| at.route(read().to(tasks::show)).route(web::delete().to(tasks::cancel)),
    },
    Route {
        pattern: "/workers/{name}/tasks",
        read: None,
        write: Some(("POST", Scope::Work)),
        about: About::Worker,
        mount: |at| at.route(web::post().to(serve_worker::tasks)),
    },
    Route {
        pattern: "/workers/{name}/reports",
        read: None,
        write: Some(("POST", Scope::Work)),
        about: About::Worker,
        mount: |at| at.route(web::post().to(serve_worker::reports)),
    },
    Route {
        pattern: "/workers/{name}/presence",
        read: None,
        write: Some(("POST", Scope::Work)),
        about: About::Worker,
        mount: |at| at.route(web::post().to(serve_worker::presence)),
    },
    Route {
        pattern: "/{type}",
        read: READ,
        write: Some(("POST", Scope::Submit)),
        about: About::TypeInPath,
        mount: |at| at.route(read().to(list_tasks::list_tasks)).route(web::post().to(submit_task::submit_task)),
    },
    Route {
        pattern: "/{type}/{id}",
        read: READ,
        write: Some(("DELETE", Scope::Submit)),
        about: About::TypeInPath,
        mount: |at| at.route(read().to(show_task::show_task)).route(web::delete().to(cancel_task::cancel_task)),
    },
];

/// Whatever can be read can be asked about.
fn read() -> actix_web::Route {
    web::route().guard(Any(Get()).or(Head()))
}

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
        match *method {
            Method::GET | Method::HEAD => self.read,
            _ => self.write.map(|(_, scope)| For::Scope(scope)),
        }
    }

    /// The methods it takes.
    fn methods(&self) -> impl Iterator<Item = &'static str> + use<> {
        let read: &[&'static str] = if self.read.is_some() { &["GET", "HEAD"] } else { &[] };
        read.iter().copied().chain(self.write.map(|(method, _)| method))
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
        app.service((route.mount)(web::resource(route.pattern)).default_service(web::to(refuse)));
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

    proptest! {
        #[test]
        fn a_path_has_the_route_that_the_router_finds(path in path()) {
            let by_router = ROUTES.iter().find(|route| ResourceDef::new(route.pattern).is_match(&path)).map(|route| route.pattern);
            prop_assert_eq!(Route::of(&path).map(|route| route.pattern), by_router);
        }
    }
}
