//! The listener of the manager.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::BytesMut;
use futures::StreamExt;
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::answers;
use super::reply::{Reply, Request};
use super::site::Site;

/// For the head of a request.
const HEAD: Duration = Duration::from_secs(15);
/// For all of a request: it may bring a long log.
const WHOLE: Duration = Duration::from_secs(600);
/// Bytes of a body at most.
const LONGEST: usize = 64 << 20;
/// Requests under way may take so long once the manager stops.
const STOP: u64 = 5;

/// Serves until told to stop.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(site: Arc<Site>, listener: TcpListener, tls: Option<ServerConfig>, stop: CancellationToken) -> io::Result<()> {
    // Where the database is called: connections that are made in a thread of the server would end with it.
    let runtime = Handle::current();
    let app = move || {
        let (site, runtime) = (site.clone(), runtime.clone());
        let answer = move |request: HttpRequest, payload: web::Payload| answer(site.clone(), runtime.clone(), request, payload);
        App::new().default_service(web::to(answer))
    };
    let server = HttpServer::new(app)
        .workers(std::thread::available_parallelism().map_or(2, usize::from))
        .client_request_timeout(HEAD)
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(STOP)
        .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    let server = server.run();
    let handle = server.handle();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = async {
            stop.cancelled().await;
            handle.stop(true).await;
        } => server.await,
    }
}

async fn answer(site: Arc<Site>, runtime: Handle, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let body = match tokio::time::timeout(WHOLE, read(payload)).await {
        Ok(Ok(body)) => body,
        Ok(Err(reply)) => return response(reply),
        Err(_) => return response(Reply::text(408, "the request took too long")),
    };
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let peer = request.peer_addr();
    let request = Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        authorization: header(header::AUTHORIZATION),
        user_agent: header(header::USER_AGENT).unwrap_or_default(),
        content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
        origin: header(header::ORIGIN),
        host: header(header::HOST).unwrap_or_default(),
        peer: peer.map(|peer| peer.ip()),
        peer_port: peer.map_or(0, |peer| peer.port()),
        body,
    };
    // Done to its end, whether or not the worker waits for it.
    let answered = runtime.spawn(answers::answer(site, request)).await;
    response(answered.unwrap_or_else(|_| Reply::text(500, "the manager has a defect; its log says more")))
}

async fn read(mut payload: web::Payload) -> Result<bytes::Bytes, Reply> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Reply::text(400, format!("the body cannot be read: {error}")))?;
        if body.len() + chunk.len() > LONGEST {
            return Err(Reply::text(413, format!("the body is longer than {LONGEST} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn response(reply: Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in reply.headers {
        response.insert_header((name, value));
    }
    response.body(reply.body)
}
