//! `GET /events`: what goes on now, told as it happens (server-sent events).
//!
//! A stream is an answer without an end, so the bounds of other answers are not for it. It holds one place of
//! [`super::Limits::streams`] and no memory but the text that is being sent: what comes next it takes from
//! [`crate::live`] when the client has taken that. A client that takes nothing is hung up on by the system
//! after [`super::Limits::write_timeout`], since there is something to send every few seconds.

use std::time::Duration;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::time::{Instant, timeout};

use super::outgoing::Endless;
use super::problem::Problem;
use super::query::Query;
use super::waits::Place;
use super::{Answer, Api, access};
use crate::contract::{self, ProblemCode};
use crate::live::{Crowded, Found, Listener, Watched};
use crate::telemetry::SharedMetrics;

/// A sign of life where nothing happens: it shows each side that the other one is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Things that one stream may watch.
const MOST: usize = 16;

/// How long a client is to wait before it connects again, and that the stream is open.
const BEGIN: &[u8] = b"retry: 1000\n\n";

/// Watches tasks, endpoints and queues.
///
/// The first events tell how all that is watched stands; those that follow tell what changes. After a cut,
/// `Last-Event-ID` or `since` goes on where the stream has ended, with a snapshot where that is too long ago.
#[utoipa::path(
    get, path = "/events", operation_id = "watch", tag = "live",
    params(
        ("watch" = String, Query, description = "What to watch, with commas between: `task:ID`, `endpoints`, `queues`", example = "endpoints,queues"),
        ("since" = Option<String>, Query, description = "The id of the last event that was received, of a stream that has watched the same"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same; it counts where both are given"),
    ),
    responses(
        (status = 200, description = "Events `task`, `endpoints`, `queues` and `gone`; their data are `LiveTask`, `LiveEndpoints`, `LiveQueues` and `LiveGone`", body = String, content_type = "text/event-stream"),
        (status = 404, description = "`unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
        (status = 503, description = "`overloaded`, `database_unavailable`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn watch(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let watched = query.need(
        "watch",
        "what to watch, `task:ID`, `endpoints` or `queues`, with commas between them",
        read,
    );
    let since = query.take("since", |id| Ok(id.to_owned()));
    let watched = query.finish_with(watched)?;
    if watched.iter().any(|watched| !matches!(watched, Watched::Task(_))) && !access::covers_all(&request) {
        return Err(Problem::insufficient_scope(
            "to watch endpoints or queues needs a token that is good for all task types",
        ));
    }
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);

    let place = api.waits.stream(access::token_id(&request))?;
    let mut listener = api.live.listen(watched, last.or(since).as_deref()).map_err(crowded)?;
    let found = timeout(api.state.limits.store_timeout, listener.found()).await;
    let found =
        found.map_err(|_| Problem::database_unavailable("what is watched could not be read in time"))?;
    for (watched, found) in found {
        // A token is told nothing of tasks that it does not cover, not even that they are there.
        let there = match &found {
            Found::There(task_type) => {
                task_type.as_ref().is_none_or(|task_type| access::covers(&request, task_type.as_str()))
            }
            Found::Nothing => false,
        };
        if let (false, Watched::Task(id)) = (there, watched) {
            let unknown = format!("task {id} not found: no task has this id");
            return Err(Problem::new(ProblemCode::UnknownTask, unknown).about(&id.to_string(), None));
        }
    }
    let mut answer = HttpResponse::Ok();
    answer.content_type("text/event-stream");
    // What stands between would keep events back, or change them.
    answer
        .insert_header((header::CACHE_CONTROL, "no-store, no-transform"))
        .insert_header(("x-accel-buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(answer.finish());
    }
    let open = Open::new(api.state.metrics.clone());
    let stream = Streaming {
        api,
        request,
        listener,
        checked: Instant::now(),
        begun: false,
        _place: place,
        _open: open,
    };
    let mut answer = answer.streaming(stream.events());
    answer.extensions_mut().insert(Endless);
    Ok(answer)
}

fn read(text: &str) -> Result<Vec<Watched>, String> {
    let mut all: Vec<Watched> = Vec::new();
    for name in text.split(',') {
        let watched = name.parse()?;
        if !all.contains(&watched) {
            all.push(watched);
        }
    }
    if all.len() <= MOST { Ok(all) } else { Err(format!("names {} things, the limit is {MOST}", all.len())) }
}

fn crowded(crowded: Crowded) -> Problem {
    Problem::new(ProblemCode::Overloaded, format!("{crowded}; ask again")).retry_after(5)
}

/// An open stream.
struct Streaming {
    api: web::Data<Api>,
    request: HttpRequest,
    listener: Listener,
    /// When its token was looked at last.
    checked: Instant,
    begun: bool,
    _place: Place,
    _open: Open,
}

impl Streaming {
    fn events(self) -> impl Stream<Item = actix_web::Result<Bytes>> {
        stream::unfold(self, |mut stream| async move {
            let bytes = stream.next().await?;
            Some((Ok(bytes), stream))
        })
    }

    /// The next bytes; none where the process stops, or the token has ended.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Bytes::from_static(BEGIN));
        }
        if self.checked.elapsed() >= HEARTBEAT {
            access::check_again(&self.api, &self.request).ok()?;
            self.checked = Instant::now();
        }
        tokio::select! {
            () = self.api.stop.cancelled() => None,
            events = timeout(HEARTBEAT, self.listener.next()) => Some(events.map_or(Bytes::from_static(b": alive\n\n"), Bytes::from)),
        }
    }
}

/// Counts a stream for as long as it is open.
struct Open(SharedMetrics);

impl Open {
    fn new(metrics: SharedMetrics) -> Self {
        metrics.event_streams.inc();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.event_streams.dec();
    }
}
