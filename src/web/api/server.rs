//! The server itself: its threads, its connections and what each request passes first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::auditor::Audit;
use super::backstage::Backstage;
use super::connections::{self, Connections};
use super::door::Door;
use super::guard::Hosts;
use super::guesses::Guesses;
use super::heard::Heard;
use super::outgoing::Room;
use super::probe::Probe;
use super::quotas::Quotas;
use super::refusals::Refusals;
use super::state::{Api, ApiState};
use super::waits::Waits;
use super::{access, request, routes};
use crate::keyring::Keyring;
use crate::live::Live;

/// Serves until told to stop, then finishes the requests under way within `api.stop_timeout`; waiting reads
/// are answered at once with what there is. To be called within the runtime that store and broker live in.
///
/// In a box, so that all routes are compiled once, here, and not again by whoever awaits it.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(state: ApiState, door: Door, stop: CancellationToken) -> BoxFuture<'static, io::Result<()>> {
    serving(state, door, stop).boxed()
}

async fn serving(state: ApiState, door: Door, stop: CancellationToken) -> io::Result<()> {
    let stop_timeout = state.config.api.stop_timeout;
    let limits = state.limits.clone();
    let bodies = Arc::new(Semaphore::new(limits.body_budget.min(Semaphore::MAX_PERMITS)));
    let answers = Room::new(limits.answer_budget, limits.room_timeout);
    let waits = Waits::new(&limits);
    let backstage = Backstage::here(limits.store_timeout);
    let queues = state.config.of_delivery(true).map(|policy| policy.name.clone()).collect();
    let touched = state.ledger.touched().clone();
    let live = Live::new(
        state.store.clone(),
        touched,
        state.clock.clone(),
        state.metrics.clone(),
        queues,
        stop.clone(),
    );
    let keyring = Keyring::new(state.store.clone(), door.is_local());
    let hosts = Hosts::new(door.address().port(), door.tls.is_some(), &state.config.api.hosts);
    let _refreshing = AbortOnDropHandle::new(tokio::spawn(keyring.clone().run(stop.clone())));
    let (heard, probe, refusals) =
        (Heard::new(state.store.clone(), backstage.clone()), Probe::default(), Refusals::default());
    let audit = Audit::new(state.store.clone(), state.clock.clone(), Arc::clone(&state.metrics));
    let auditing = tokio::spawn(audit.clone().run(door.address(), state.config.sha256.clone(), stop.clone()));
    let [wrong_tokens, wrong_tickets] =
        ["tokens", "invitations"].map(|secrets| Guesses::new(secrets, limits.wrong_tokens));
    let hsts = state.config.api.hsts.filter(|_| door.tls.is_some());
    let hsts = hsts.and_then(|span| HeaderValue::from_str(&format!("max-age={}", span.as_secs())).ok());
    let (stopping, routes) = (stop.clone(), routes::ROUTES);
    let api = Api {
        state,
        backstage,
        stop: stopping,
        bodies,
        answers,
        waits,
        live,
        keyring,
        hosts,
        heard,
        probe,
        audit,
        quotas: Quotas::default(),
        wrong_tokens,
        wrong_tickets,
        refusals,
        hsts,
        routes,
    };
    let api = web::Data::new(api);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let most = connections::per_thread(limits.connections, workers);
    let connections = Connections::new(most.saturating_mul(workers), limits.kept_per_address);
    // Accepted sockets have it from the listener. The system counts from the moment a client takes nothing
    // more, however it was asked for.
    set_tcp_user_timeout(
        &door.listener,
        u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX),
    )?;

    // actix enters the middleware that is wrapped last first: `observe`, then `admit`.
    let app = move || {
        App::new()
            .app_data(api.clone())
            .wrap(from_fn(access::admit))
            .wrap(from_fn(request::observe))
            .configure(routes::mount)
    };
    let server = HttpServer::new(app)
        .workers(workers)
        .max_connections(most)
        .on_connect(move |stream, data| {
            // With TLS it is a stream of another kind, and what is no TLS never gets here.
            let peer = stream.downcast_ref::<TcpStream>().and_then(|stream| stream.peer_addr().ok());
            data.insert(connections.opened(peer));
        })
        .keep_alive(limits.keep_alive)
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(Duration::from_secs(2))
        .shutdown_timeout(stop_timeout.as_secs().max(1))
        // Who has hung up waits for nothing more, and half a connection cannot be told from that.
        .h1_allow_half_closed(false)
        .disable_signals();
    let server = match door.tls {
        Some(tls) => server.listen_rustls_0_23(door.listener, tls)?,
        None => server.listen(door.listener)?,
    };
    let server = server.run();
    let handle = server.handle();
    let stopped = async {
        stop.cancelled().await;
        handle.stop(true).await;
    };
    // The server ends when it has been stopped, and only a defect ends it before.
    let mut server = std::pin::pin!(server);
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = stopped => server.await,
    };
    // It writes what is added up when it is told to stop, which here everybody has been.
    if stop.is_cancelled() {
        _ = auditing.await;
    }
    ended
}
