//! A path, the methods it takes and what a request for each needs. `routes` is the table of all.

use actix_web::Resource;
use actix_web::http::Method;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterIn};

use crate::domain::Scope;

/// A path and what it takes.
pub struct Route {
    /// As the router takes it.
    pub pattern: &'static str,
    /// What it is about.
    pub about: About,
    /// The methods of the path. At most one of them reads; of the others, the scope of the first decides who
    /// is told which methods there are.
    pub operations: &'static [Operation],
}

/// A method of a path.
pub struct Operation {
    /// `GET`, which takes `HEAD` too, or another one.
    pub method: &'static str,
    /// Whom it is for.
    pub needs: For,
    /// Adds the handler.
    pub mount: fn(Resource) -> Resource,
    /// An OpenAPI document of nothing but this operation.
    pub describe: fn() -> utoipa::openapi::OpenApi,
    /// Whether its description has parameters of the query. Its handler then refuses all others; where there
    /// are none, the check before each request refuses any.
    pub has_query: fn() -> bool,
}

/// Whether an operation has a parameter in its query.
pub fn has_query(described: &utoipa::openapi::OpenApi) -> bool {
    let operations =
        described.paths.paths.values().flat_map(|item| {
            [&item.get, &item.post, &item.put, &item.patch, &item.delete].into_iter().flatten()
        });
    let mut parameters = operations.flat_map(|operation| operation.parameters.iter().flatten());
    parameters
        .any(|parameter| matches!(parameter, RefOr::T(Parameter { parameter_in: ParameterIn::Query, .. })))
}

/// Whom a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Everybody, without a token: the probes of load balancers have none.
    Everybody,
    /// Those with a token, whatever it is good for.
    Token,
    /// Those with a token that has this scope.
    Scope(Scope),
    /// The same, and those whose token has that for its own tasks alone ([`Scope::own`]): the handler leaves
    /// out all others.
    Own(Scope),
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

impl Route {
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

    /// The operation of a method, if the path has it.
    pub fn operation(&self, method: &Method) -> Option<&'static Operation> {
        let name = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.operations.iter().find(|operation| operation.method == name)
    }

    /// Whom a method is for; none where nobody needs more than a token to be told that there is no such
    /// method.
    pub fn needs(&self, method: &Method) -> Option<For> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let mut of_kind = self.operations.iter().filter(|operation| (operation.method == "GET") == reads);
        let first = of_kind.next()?;
        let exact =
            std::iter::once(first).chain(of_kind).find(|operation| operation.method == method.as_str());
        // What everybody may do says nothing to everybody about what else there is.
        Some(match (exact, first.needs) {
            (Some(operation), _) => operation.needs,
            (None, For::Everybody) if !reads => For::Token,
            (None, needs) => needs,
        })
    }

    /// The methods it takes.
    pub fn methods(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.operations
            .iter()
            .flat_map(|operation| match operation.method {
                "GET" => &["GET", "HEAD"][..],
                _ => std::slice::from_ref(&operation.method),
            })
            .copied()
    }

    /// The header `Allow`.
    pub fn allow(&self) -> String {
        self.methods().collect::<Vec<_>>().join(", ")
    }
}

/// Every path that the interface serves.
#[derive(Clone, Copy)]
pub struct Routes(pub &'static [Route]);

impl Routes {
    /// One after the other, in the order in which the router looks at them.
    pub fn iter(self) -> impl Iterator<Item = &'static Route> {
        self.0.iter()
    }

    /// The route of a pattern.
    pub fn at(self, pattern: &str) -> Option<&'static Route> {
        self.iter().find(|route| route.pattern == pattern)
    }

    /// The route of a path, whose escapes are undone: the first that fits, as the router finds it, which
    /// reads patterns much more slowly.
    pub fn of(self, path: &str) -> Option<&'static Route> {
        self.iter().find(|route| route.fits(path))
    }
}
